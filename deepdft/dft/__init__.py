"""Densities of one's own from density functional theory: structures, GPAW, and jobs that run many of them."""
