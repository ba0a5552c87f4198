"""Bounds on what a visitor of the page can ask for; a request beyond one is refused with the bound in the message."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True)
class Limits:
    """Limits on one request, and on all of them together."""

    max_upload_bytes: int = 64 * 2**20
    """Largest size of an uploaded file."""
    max_atoms: int = 1000
    """Largest number of atoms of a structure."""
    max_points: int = 6_000_000
    """Largest number of points of a grid."""
    min_spacing: float = 0.08
    """Smallest distance between grid points, Å."""
    max_spacing: float = 0.5
    """Largest distance between grid points, Å."""
    max_waiting: int = 64
    """Predictions that may wait in the queue; one is computed at a time."""
    max_kept: int = 24
    """Finished predictions that are kept; the oldest are dropped first."""
    max_kept_bytes: int = 512 * 2**20
    """Memory of all kept densities together."""
    max_uploads: int = 32
    """Uploaded structures that are kept; the oldest are dropped first."""
    max_uploads_bytes: int = 256 * 2**20
    """Memory of all kept uploads together."""
    max_receiving: int = 4
    """Uploads that are received at the same time; others wait."""
    max_reading: int = 32
    """Files and SMILES that may wait to be read; one is read at a time."""
    max_reading_seconds: float = 30.0
    """Time after which reading a file or a SMILES is ended."""
    max_reading_bytes: int = 2 * 2**30
    """Memory of the process that reads."""
    max_seconds: float = 300.0
    """Time after which a prediction is ended."""
