"""Training: the LightningModule and its callbacks."""
