"""Models: one file each, all behind the interface of `deepdft.models.base`."""
