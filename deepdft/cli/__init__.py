"""Command line entry points, thin over Hydra."""
