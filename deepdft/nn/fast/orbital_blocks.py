"""Compiled loops of `nn.orbitals` over the points of a block, in single precision: one pass instead of torch's ten."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deepdft.compiled import compiled
from deepdft.nn.fast.elementary import radial_function, smooth_end

__all__ = ["add_harmonics_times_sums", "radial_functions"]

Floats = NDArray[np.float32]


@compiled
def radial_functions(reach: np.float32, positions: Floats, points: Floats, exponents: Floats, values: Floats) -> None:
    """Radial functions exp(-α r²) (1 - r²/reach²)³, zero beyond the reach.

    Args:
        reach: Å.
        positions: (n_atoms, 3) Å.
        points: (3, n_points) Å.
        exponents: (n_radial,), α in Å⁻².
        values: (n_atoms, n_radial, n_points), which are filled.
    """
    n_points = points.shape[1]
    squared, end = np.empty(n_points, np.float32), np.empty(n_points, np.float32)
    for a in range(len(positions)):
        for p in range(n_points):
            x, y, z = points[0, p] - positions[a, 0], points[1, p] - positions[a, 1], points[2, p] - positions[a, 2]
            squared[p] = x * x + y * y + z * z
        for p in range(n_points):
            end[p] = smooth_end(squared[p], reach)
        for n in range(len(exponents)):
            for p in range(n_points):
                values[a, n, p] = radial_function(exponents[n], squared[p], end[p])


@compiled
def add_harmonics_times_sums(sums: Floats, harmonics: Floats, total: Floats) -> None:
    """Add Σ_j sums_jkp harmonics_jp to total_kp.

    Args:
        sums: (n_functions, n_orbitals, n_points).
        harmonics: (n_functions, n_points).
        total: (n_orbitals, n_points).
    """
    for k in range(len(total)):
        for j in range(len(sums)):
            for p in range(total.shape[1]):
                total[k, p] += sums[j, k, p] * harmonics[j, p]
