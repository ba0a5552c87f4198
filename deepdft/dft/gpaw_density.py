"""The valence density of a finished calculation of GPAW.

That of all valence electrons with the partial waves' true shape inside the atoms (frozen core left out), convolved
with a narrow Gaussian (`deepdft.dft.smoothing`): smooth part and atomic parts apart, so that the integral is the
number of valence electrons, for 3d shells too.
"""

from __future__ import annotations

from typing import Any

import ase
import numpy as np
from ase.units import Bohr
from numpy.typing import NDArray

from deepdft.dft.smoothing import RadialSmoother, add_around, smooth_periodic

__all__ = ["valence_densities"]


def valence_densities(
    dft: Any, atoms: ase.Atoms, smoothing: float, shape: tuple[int, int, int]
) -> list[NDArray[np.float64]]:
    """The valence density of a finished calculation, and the difference of its spins, convolved with a Gaussian.

    ρ = Σ_n f_n |ψ̃_n|² + Σ_atoms Σ_ij D_ij (φ_i φ_j - φ̃_i φ̃_j); the squares on a grid that holds them without
    aliasing, of which the wanted grid is a part, the atomic sums as radial functions. Nothing is cut off or
    interpolated, so the density rings nowhere: far from the atoms it is positive and small.

    Args:
        dft: GPAW's `calculator.dft`.
        atoms: its structure.
        smoothing: standard deviation of the Gaussian in Å.
        shape: of the grid.

    Returns:
        The total density (nx, ny, nz) in e/Å³; of a spin-polarised calculation also spin up minus spin down.
    """
    cell = atoms.cell.array
    step = _refinement(dft, shape)
    squares = dft.density.nt_sR.desc.new(size=np.multiply(shape, step)).zeros(dft.density.ndensities)
    matrices = dft.density.D_asii.new()
    matrices.data[:] = 0.0
    dft.ibzwfs.add_to_density(squares, matrices)
    # of the spins in each channel
    signs: list[tuple[float, ...]] = [(1.0,)] if len(squares.data) == 1 else [(1.0, 1.0), (1.0, -1.0)]
    channels = []
    for sign in signs:
        smooth = smooth_periodic(np.tensordot(sign, squares.data, axes=1) / Bohr**3, cell, smoothing)
        channels.append(np.ascontiguousarray(smooth[:: step[0], :: step[1], :: step[2]]))
    smoothers: dict[Any, RadialSmoother] = {}
    for index, occupations in matrices.items():
        setup = dft.setups[index]
        if setup not in smoothers:
            radii, weights = _radial_grid(setup)
            smoothers[setup] = RadialSmoother(radii * Bohr, weights * Bohr**3, smoothing)
        smoother = smoothers[setup]
        for sign, values in zip(signs, channels, strict=True):
            matrix = np.tensordot(sign, occupations.real, axes=1)
            radial = smoother(_atomic_part(setup, matrix) / Bohr**3)
            add_around(values, cell, atoms.positions[index], radial, smoother.cutoff, _harmonics)
    return channels


def _refinement(dft: Any, shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """How many times finer than a grid, along each edge, another must be to hold squares of the wave functions."""
    waves = np.max([np.ptp(wfs.psit_nX.desc.indices_cG, axis=1) for wfs in dft.ibzwfs], axis=0)
    if dft.ibzwfs.dtype == float:
        waves[2] *= 2  # of real wave functions GPAW keeps half
    nx, ny, nz = (-(-(2 * wave + 1) // count) for wave, count in zip(waves, shape, strict=True))
    return int(nx), int(ny), int(nz)


def _radial_grid(setup: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Radii in bohr and weights r² dr of an atom's partial waves, as far as they may differ from the smooth ones."""
    end = setup.rgd.ceil(2 * max(setup.rcut_j))
    radii = setup.rgd.r_g[:end]
    return radii, radii**2 * setup.rgd.dr_g[:end]


def _atomic_part(setup: Any, occupations: NDArray[np.float64]) -> NDArray[np.float64]:
    """Radial parts ((2 l_max + 1)², n) of Σ_ij D_ij (φ_i φ_j - φ̃_i φ̃_j), in 1/bohr³."""
    from gpaw.sphere.gaunt import gaunt

    highest = max(setup.l_j)
    products = gaunt(highest)  # (L1, L2, L): Y_L1 Y_L2 = Σ_L G Y_L
    end = len(_radial_grid(setup)[0])
    waves = [(phi[:end], smooth[:end]) for phi, smooth in zip(setup.data.phi_jg, setup.data.phit_jg, strict=False)]
    starts = np.concatenate([[0], np.cumsum([2 * order + 1 for order in setup.l_j])])
    total = np.zeros(((2 * highest + 1) ** 2, end))
    for j1, l1 in enumerate(setup.l_j):
        for j2, l2 in enumerate(setup.l_j):
            block = occupations[starts[j1] : starts[j1 + 1], starts[j2] : starts[j2 + 1]]
            angular = np.einsum("mn,mnL->L", block, products[l1**2 : (l1 + 1) ** 2, l2**2 : (l2 + 1) ** 2])
            difference = waves[j1][0] * waves[j2][0] - waves[j1][1] * waves[j2][1]
            total += np.outer(angular[: len(total)], difference)
    return total


def _harmonics(directions: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """GPAW's real spherical harmonics (p, count) of unit vectors (p, 3)."""
    from gpaw.sphere.spherical_harmonics import Y

    return np.stack([np.broadcast_to(Y(index, *directions.T), len(directions)) for index in range(count)], axis=-1)
