"""The one error of the readers and writers."""

__all__ = ["DensityFormatError"]


class DensityFormatError(ValueError):
    """A file is not the density it should be; the message names the file (and the member of an archive)."""
