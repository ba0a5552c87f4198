"""Graphs of atoms and query points: edges within a cutoff, disjoint unions of structures."""
