"""PAW occupations of Quantum ESPRESSO's pw.x, in the order that models learn.

`paw.txt` in a `.save` holds Σ_n f_n <ψ_n|p_i><p_j|ψ_n> of each atom for pairs of projectors i ≤ j, twice where i ≠ j.
Projectors of a channel l come in the order m = 0, cos φ, sin φ, cos 2φ, …, with the sign (-1)^m. The density depends on
those parts of a pair of channels that are even under inversion: |l_i - l_j|, |l_i - l_j| + 2, …, l_i + l_j, as in
`deepdft.nn.occupancies`. The other parts are left out, and zero where occupations are written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import combinations_with_replacement
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from deepdft.files import write_text
from deepdft.nn.occupancies import WAVES, n_occupancies
from deepdft.nn.spherical import solid_harmonics

__all__ = ["PAW_FILE", "read_occupations", "write_occupations"]

PAW_FILE = "paw.txt"
"""Name of the file in a `.save`; pseudopotentials that are not PAW have none."""
Array = NDArray[np.float64]


def read_occupations(path: Path, waves: Sequence[str]) -> Array:
    """Occupancies (n_atoms, width) of the total density, NaN beyond those of an element.

    Args:
        path: paw.txt of a calculation without spin.
        waves: partial waves of each atom.

    Raises:
        ValueError: if the file has another number of values.
    """
    values = np.array(path.read_text().split(), dtype=np.float64)
    size = max(map(_n_projectors, waves))
    if values.size != len(waves) * size * (size + 1) // 2:
        raise ValueError(
            f"{path}: {values.size} values, expected {size * (size + 1) // 2} for each of {len(waves)} atoms"
        )
    rows = np.full((len(waves), max(map(n_occupancies, waves))), np.nan)
    for row, own, of_atom in zip(rows, values.reshape(len(waves), -1), waves, strict=True):
        matrix = _matrix(own, _n_projectors(of_atom))
        parts = [np.einsum("kij,ij->k", couplings, matrix[at]) for at, couplings in _blocks(of_atom)]
        row[: n_occupancies(of_atom)] = np.concatenate(parts)
    return rows


def write_occupations(path: Path, rows: NDArray[np.floating], waves: Sequence[str]) -> None:
    """Write a paw.txt; the inverse of `read_occupations`.

    Raises:
        ValueError: if an atom has another number of occupancies than its partial waves.
    """
    size = max(map(_n_projectors, waves))
    values = np.zeros((len(waves), size * (size + 1) // 2))
    for own, row, of_atom in zip(values, rows, waves, strict=True):
        known = row[np.isfinite(row)]
        if len(known) != n_occupancies(of_atom):
            raise ValueError(f"{len(known)} occupancies of an atom with the partial waves {of_atom}")
        n = _n_projectors(of_atom)
        matrix, first = np.zeros((n, n)), 0
        for at, couplings in _blocks(of_atom):
            block = np.einsum("k,kij->ij", known[first : first + len(couplings)], couplings)
            matrix[at] = block
            first += len(couplings)
        upper = np.triu_indices(n)
        own[: len(upper[0])] = np.where(upper[0] == upper[1], 1.0, 2.0) * matrix[upper]
    write_text(path, " ".join(f"{value:.16E}" for value in values.ravel()) + "\n")


def _n_projectors(waves: str) -> int:
    return sum(2 * WAVES.index(wave) + 1 for wave in waves)


def _matrix(values: Array, n: int) -> Array:
    """The symmetric matrix (n, n) of values for pairs i ≤ j."""
    matrix = np.zeros((n, n))
    upper = np.triu_indices(n)
    matrix[upper] = values[: len(upper[0])] / 2
    return matrix + matrix.T


def _blocks(waves: str) -> Iterator[tuple[tuple[slice, slice], Array]]:
    """Where each pair of channels i ≤ j is in the matrix, and its couplings (n_occupancies, 2l_i + 1, 2l_j + 1)."""
    degrees = [WAVES.index(wave) for wave in waves]
    first = np.cumsum([0, *(2 * degree + 1 for degree in degrees)])
    for i, j in combinations_with_replacement(range(len(waves)), 2):
        yield (slice(first[i], first[i + 1]), slice(first[j], first[j + 1])), _couplings(degrees[i], degrees[j])


@cache
def _couplings(l_i: int, l_j: int) -> Array:
    """C_LM,mm' ∝ ∫ Y_LM Y_l_i,m Y_l_j,m' for L = |l_i - l_j|, …, l_i + l_j in steps of two: orthonormal over m, m'.

    The harmonics of projectors are in the order and with the signs of pw.x, Y_LM in ours.
    """
    z, weights = np.polynomial.legendre.leggauss(l_i + l_j + 1)
    angles = 2 * np.pi * np.arange(2 * (l_i + l_j) + 1) / (2 * (l_i + l_j) + 1)
    across = np.sqrt(1 - z**2)[:, None]
    directions = np.stack([across * np.cos(angles), across * np.sin(angles), z[:, None] + 0 * angles], axis=-1)
    shares = np.repeat(weights, len(angles))
    left, right = (_projector_harmonics(degree, directions.reshape(-1, 3)) for degree in (l_i, l_j))
    parts = []
    for degree in range(abs(l_i - l_j), l_i + l_j + 1, 2):
        whole = _harmonics(degree, directions.reshape(-1, 3))
        integrals = np.einsum("p,pk,pi,pj->kij", shares, whole, left, right)
        parts.append(integrals / np.linalg.norm(integrals[0]))
    return np.concatenate(parts)


def _harmonics(degree: int, directions: Array) -> Array:
    """Y_lm (n, 2l + 1) for m = -l…l."""
    return solid_harmonics(torch.from_numpy(directions), degree).numpy()[:, degree**2 :]


def _projector_harmonics(degree: int, directions: Array) -> Array:
    """The same in the order of pw.x: m = 0, then cos mφ and sin mφ with the sign (-1)^m."""
    columns = [degree]
    signs = [1.0]
    for m in range(1, degree + 1):
        columns += [degree + m, degree - m]
        signs += [(-1.0) ** m] * 2
    return _harmonics(degree, directions)[:, columns] * signs
