"""Densities by density functional theory: structures, GPAW, Quantum ESPRESSO, and clusters for many calculations."""
