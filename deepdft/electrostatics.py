"""Dipole moments and Coulomb energies of charge densities on grids."""

from __future__ import annotations

import math
from collections.abc import Callable

import ase
import numpy as np
import torch
from ase.units import Bohr, Hartree
from numpy.typing import ArrayLike, NDArray
from scipy.fft import next_fast_len
from torch import Tensor

from deepdft import chunks
from deepdft.density import volume

__all__ = ["dipole_moment", "hartree_energy", "is_isolated"]

VACUUM = 5.0
"""Å: a structure is a molecule if its cell has a gap without atoms at least this wide along every axis."""
COULOMB = Hartree * Bohr
"""e²/(4πε₀) in eV Å."""
Kernel = Callable[[Tensor], Tensor]
"""From indices j of wave vectors along the second axis to Fourier components in Å²."""
SMOOTHNESS = 0.39
"""α times the spacing of grid points: erf(αr)/r has no Fourier components beyond the grid's, to 1e-7."""


def is_isolated(atoms: ase.Atoms) -> bool:
    """Whether a structure is a molecule: not periodic, or in a periodic box with vacuum on all sides."""
    gaps = _gaps(atoms)
    return all(not periodic or width >= VACUUM for periodic, (_, width) in zip(atoms.pbc, gaps, strict=True))


def dipole_moment(density: NDArray[np.floating], atoms: ase.Atoms, origin: ArrayLike = (0.0, 0.0, 0.0)) -> NDArray:
    """Dipole moment (3,) in e Å of an electron density, -∫(r - R)ρ(r), about the centre R of nuclear charge.

    The dipole moment of a difference of two densities is the difference of their dipole moments. The choice of R
    matters only where the density has a net charge.

    Args:
        density: (nx, ny, nz) e/Å³ on the grid that spans the cell of `atoms`.
        atoms: a molecule; one that a periodic boundary cuts is put together.
        origin: (3,) Å, position of the grid point [0, 0, 0].

    Source: Jackson, Classical Electrodynamics, 3rd ed., Eq. 4.8.
    """
    cell = atoms.cell.array
    fractional = np.linalg.solve(cell.T, (atoms.positions - np.asarray(origin)).T)  # (3, n_atoms)
    voxel = volume(cell) / density.size
    dipole = np.zeros(3)
    for axis, (cut, _) in enumerate(_gaps(atoms, origin)):
        others = tuple(other for other in range(3) if other != axis)
        profile = density.sum(axis=others, dtype=np.float64)
        points, centre = np.arange(len(profile)) / len(profile), fractional[axis]
        if cut is not None:
            points, centre = (points - cut) % 1.0, (centre - cut) % 1.0
        points = points - np.average(centre, weights=atoms.numbers.clip(1))
        dipole -= voxel * (profile @ points) * cell[axis]
    return dipole


@torch.no_grad()
def hartree_energy(
    density: NDArray[np.floating],
    atoms: ase.Atoms,
    origin: ArrayLike = (0.0, 0.0, 0.0),
    *,
    device: torch.device | str = "cpu",
) -> float:
    """Coulomb energy ½∬ρ(r)ρ(r′)/|r - r′| of a charge density with itself, in eV.

    Molecules have open boundaries: the box is padded with as much vacuum, and the potential is the sum of a
    long-ranged part erf(αr)/r, summed over grid points, and a short-ranged one, exact in Fourier space. Structures that
    are periodic along any axis have the energy per cell in a compensating uniform background: G = 0 is left out.

    Args:
        density: (nx, ny, nz) e/Å³ on the grid that spans the cell of `atoms`.
        atoms: says which axes are periodic; a molecule that a periodic boundary cuts is put together.
        origin: (3,) Å, position of the grid point [0, 0, 0].
        device: where the Fourier transform is computed, in single precision if the density is.

    Source: Martyna & Tuckerman, J. Chem. Phys. 110, 2810 (1999), Eqs. 11 and 12, with the padding of Hockney &
    Eastwood, Computer Simulation Using Particles (1988), Sec. 6-5-4.
    """
    rho = torch.as_tensor(np.ascontiguousarray(density), device=device)
    steps = atoms.cell.array / np.array(rho.shape)[:, None]  # (3, 3) Å, from one grid point to the next
    shape, isolated = tuple(rho.shape), is_isolated(atoms)
    if isolated:
        cuts = [cut or 0.0 for cut, _ in _gaps(atoms, origin)]
        rho = torch.roll(rho, [-round(cut * n) for cut, n in zip(cuts, shape, strict=True)], dims=(0, 1, 2))
        shape = tuple(2 * next_fast_len(n) for n in shape)
    padded = steps * np.array(shape)[:, None]
    kernel = _open_kernel(steps, shape, rho) if isolated else _periodic_kernel(padded, shape, rho)
    waves = torch.fft.rfft(rho, n=shape[2], dim=2)  # one axis after the other: most of the padding is added late
    waves[:, :, 1 : (shape[2] + 1) // 2] *= math.sqrt(2)  # counts for -G too
    waves = torch.fft.fft(waves, n=shape[1], dim=1)
    total = torch.zeros((), dtype=torch.float64, device=rho.device)
    per_chunk = max(1, chunks.on(rho.device.type).wave_vectors // (shape[0] * waves.shape[2]))
    for planes in torch.arange(shape[1], device=rho.device).split(per_chunk):
        part = torch.fft.fft(waves[:, planes], n=shape[0], dim=0)
        total += ((part.real.square() + part.imag.square()) * kernel(planes)).sum()
    return 0.5 * COULOMB * float(total) * volume(steps) ** 2 / volume(padded)


def _periodic_kernel(cell: NDArray[np.float64], shape: tuple[int, ...], like: Tensor) -> Kernel:
    """4π/G² in Å² for the half of the wave vectors that `rfftn` keeps; zero for G = 0."""
    x, y, z = _frequencies(shape, like)

    def kernel(planes: Tensor) -> Tensor:
        squared = _squared_wave_vectors(cell, [x, y[planes], z])
        return torch.where(squared == 0.0, 0.0, 4 * math.pi / squared)

    return kernel


def _open_kernel(steps: NDArray[np.float64], shape: tuple[int, ...], like: Tensor) -> Kernel:
    """Fourier transform in Å² of 1/r between the points of a grid, in a box twice as long as the grid."""
    alpha = SMOOTHNESS / float(np.linalg.norm(steps, axis=1).max())
    cell = steps * np.array(shape)[:, None]
    gram = steps @ steps.T
    orthogonal = np.abs(gram - np.diag(np.diag(gram))).max() < 1e-9 * gram.max()
    if orthogonal:  # an even function of each coordinate: an eighth is enough
        offsets = [torch.arange(n // 2 + 1, dtype=like.dtype, device=like.device) for n in shape]
        frequencies = offsets
    else:
        offsets = [_offsets(n, like) for n in shape]
        frequencies = _frequencies(shape, like)
    long_range = _erf_over_r(steps, offsets, alpha)
    if orthogonal:
        for n in shape:  # each product transforms the first axis and makes it the last
            long_range = torch.tensordot(long_range, _cosines(n, like), dims=([0], [0]))
    else:
        long_range = torch.fft.rfftn(long_range).real
    squared = _squared_wave_vectors(cell, frequencies)
    squared[0, 0, 0] = 1.0
    short_range = -4 * math.pi * torch.expm1(-squared / (4 * alpha**2)) / squared
    short_range[0, 0, 0] = math.pi / alpha**2
    kernel = short_range + volume(steps) * long_range
    if not orthogonal:
        return lambda planes: kernel[:, planes]
    x, y = (_offsets(n, like).abs().long() for n in shape[:2])
    return lambda planes: kernel[x[:, None], y[planes]]


def _cosines(n: int, like: Tensor) -> Tensor:
    """(n/2 + 1, n/2 + 1): multiplied by one half of an even periodic function, gives one half of its transform."""
    half = torch.arange(n // 2 + 1, device=like.device)
    cosines = 2 * torch.cos(2 * math.pi / n * (half[:, None] * half % n).double())
    cosines[[0, -1]] /= 2
    return cosines.to(like.dtype)


def _erf_over_r(steps: NDArray[np.float64], offsets: list[Tensor], alpha: float) -> Tensor:
    """erf(αr)/r in 1/Å at the offsets between grid points."""
    distance = _squared_norm(steps, offsets).sqrt_()
    distance[0, 0, 0] = 1.0
    kernel = torch.erf(alpha * distance).div_(distance)
    kernel[0, 0, 0] = 2 * alpha / math.sqrt(math.pi)
    return kernel


def _squared_wave_vectors(cell: NDArray[np.float64], frequencies: list[Tensor]) -> Tensor:
    """|G|² in 1/Å² of a box for integer frequencies along its axes."""
    return _squared_norm(2 * math.pi * np.linalg.inv(cell).T, frequencies)


def _squared_norm(vectors: NDArray[np.floating], counts: list[Tensor]) -> Tensor:
    """|i a + j b + k c|² for all integers (i, j, k) of three lists; a, b and c are the rows of `vectors`."""
    gram = vectors @ vectors.T
    i, j, k = counts[0][:, None, None], counts[1][None, :, None], counts[2][None, None, :]
    squared = (gram[0, 0] * i**2 + gram[1, 1] * j**2 + 2 * gram[0, 1] * i * j) + gram[2, 2] * k**2
    if gram[0, 2] or gram[1, 2]:
        squared += (2 * gram[0, 2] * i + 2 * gram[1, 2] * j) * k
    return squared


def _offsets(n: int, like: Tensor) -> Tensor:
    """0, 1, …, -2, -1: the n offsets between points of a box with n points."""
    return torch.fft.fftfreq(n, 1 / n, dtype=like.dtype, device=like.device)


def _frequencies(shape: tuple[int, ...], like: Tensor) -> list[Tensor]:
    """Frequencies along each axis that `rfftn` keeps."""
    last = torch.arange(shape[2] // 2 + 1, dtype=like.dtype, device=like.device)
    return [_offsets(shape[0], like), _offsets(shape[1], like), last]


def _gaps(atoms: ase.Atoms, origin: ArrayLike = (0.0, 0.0, 0.0)) -> list[tuple[float | None, float]]:
    """The widest gap between atoms along each axis: its middle, a fraction of the axis from `origin`, and width in Å.

    The middle is None along axes that are not periodic.
    """
    if not atoms.pbc.any() or len(atoms) == 0:
        return [(None, math.inf)] * 3
    cell = atoms.cell.complete().array
    heights = volume(cell) / np.linalg.norm(np.cross(np.roll(cell, -1, axis=0), np.roll(cell, -2, axis=0)), axis=1)
    fractional = np.linalg.solve(cell.T, (atoms.positions - np.asarray(origin)).T) % 1.0  # (3, n_atoms)
    gaps: list[tuple[float | None, float]] = []
    for axis in range(3):
        if not atoms.pbc[axis]:
            gaps.append((None, math.inf))
            continue
        ends = np.sort(fractional[axis])
        widths = np.diff(ends, append=ends[0] + 1.0)
        widest = int(np.argmax(widths))
        gaps.append((float(ends[widest] + widths[widest] / 2) % 1.0, float(widths[widest] * heights[axis])))
    return gaps
