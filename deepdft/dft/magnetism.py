"""Magnetic moments of atoms: those that a calculation starts from, and the state that it ends in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import ase
import numpy as np
from numpy.typing import NDArray

from deepdft.density import INITIAL_MOMENTS

__all__ = ["initial_moments", "magnetic_state", "moment_arrays"]

SMALLEST_MOMENT = 0.1
"""μ_B; an atom with less, in its augmentation sphere, does not count in the magnetic state."""


def initial_moments(atoms: ase.Atoms, by_element: Mapping[str, float]) -> list[float]:
    """Moments of the atoms in μ_B to start from: the structure's own if it has any, else those of the elements.

    They decide which state is found: without any it is the state without moments, and H₂ that starts from 1 μ_B on each
    atom stays a triplet.
    """
    if atoms.get_initial_magnetic_moments().any():
        return [float(moment) for moment in atoms.get_initial_magnetic_moments()]
    return [float(by_element.get(symbol, 0.0)) for symbol in atoms.symbols]


def moment_arrays(moments: Sequence[float]) -> dict[str, NDArray[np.floating]]:
    """Initial moments of the atoms in μ_B as `DensityGrid.atom_arrays` holds them."""
    return {INITIAL_MOMENTS: np.asarray(moments, dtype=np.float64)[:, None]}


def magnetic_state(moments: NDArray[np.floating]) -> str:
    """The state that moments (n_atoms,) in μ_B belong to: none, ferromagnetic, antiferromagnetic or ferrimagnetic."""
    moments = np.asarray(moments)
    large = moments[np.abs(moments) > SMALLEST_MOMENT]
    if large.size == 0:
        return "none"
    if (large > 0).all() or (large < 0).all():
        return "ferromagnetic"
    return "antiferromagnetic" if abs(large.sum()) < 0.05 * np.abs(large).sum() else "ferrimagnetic"
