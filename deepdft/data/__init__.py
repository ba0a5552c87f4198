"""Data: the density store, conversion into it, splits, sampling, and the LightningDataModule."""
