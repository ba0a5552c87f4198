"""Training and evaluation as a library: what `deepdft.train` and `deepdft.evaluate` are, and their run directories."""
