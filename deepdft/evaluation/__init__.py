"""Evaluation of models and of ensembles of densities."""
