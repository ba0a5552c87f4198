"""Training and evaluation as a library (`deepdft.train`, `deepdft.evaluate`), and their run directories."""
