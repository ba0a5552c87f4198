"""Prediction of densities with trained models."""
