"""A density as a sum of isolated atoms: a baseline that needs no training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from ase.data import chemical_symbols
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from torch import Tensor, nn

from deepdft import bundled
from deepdft.graph.batch import AtomGraph, ProbeGraph
from deepdft.models.base import N_ELEMENTS, DensityModel
from deepdft.nn.radial import safe_norm
from deepdft.nn.scatter import sum_over_neighbours

__all__ = ["FreeAtoms"]

FADE = 1.5
"""Å before the cutoff over which the densities of atoms fade to zero."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class _Atoms:
    """The states of atoms that do not interact."""

    positions: Tensor
    rows: Tensor
    """(n_atoms,) int64, the row of each atom's element in the table."""


class FreeAtoms(DensityModel):
    """ρ(r) = Σ_a n_Z(a)(|r - r_a|), n_Z the spherical valence density of the isolated atom without spin (GPAW, PBE).

    The densities are convolved with a Gaussian of 0.1 Å, as those of `deepdft-generate`, and read from a table
    (deepdft/bundled/free_atoms.md) by splines in x with r = scale · sinh(x). They fade to zero at the cutoff; what
    is cut off there is put back by a factor 1 + c r², so that each atom has all its electrons.

    Args:
        cutoff: Å, where the densities end; at most the 10 Å of the table.

    Raises:
        ValueError: if the cutoff is beyond the table.
    """

    row_of: Tensor

    def __init__(self, *, cutoff: float = 6.0) -> None:
        super().__init__(cutoff=cutoff)
        self.receptive_field = self.probe_cutoff
        with np.load(bundled.FREE_ATOMS) as stored:
            numbers, n_valence, radii = stored["numbers"], stored["n_valence"], stored["radii"]
            density, self.scale = stored["density"].astype(np.float64), float(stored["scale"])
        if cutoff > radii[-1]:
            raise ValueError(f"cutoff={cutoff} Å: the table of free atoms ends at {radii[-1]:g} Å")
        x = np.arcsinh(radii / self.scale)
        self.step = float(x[-1] / (len(x) - 1))
        density *= _with_all_electrons(x, self.scale, density, n_valence, self.cutoff)
        curvature = _spline(x, density).derivative(2)(x).T * self.step**2 / 6
        # a parameter, though it is never trained, so that checkpoints do not depend on the table of the package
        table = torch.from_numpy(np.stack([density, curvature], axis=-1)).to(torch.get_default_dtype())
        self.table = nn.Parameter(table.flatten(0, 1), requires_grad=False)
        self.n_knots = len(x)
        row_of = torch.full((N_ELEMENTS,), -1)
        row_of[torch.from_numpy(numbers).long()] = torch.arange(len(numbers))
        self.register_buffer("row_of", row_of, persistent=False)

    def encode(self, atoms: AtomGraph) -> _Atoms:
        """Look up the row of each atom's element.

        Raises:
            ValueError: if there is no free atom of an element.
        """
        rows = self.row_of[atoms.numbers]
        if (rows < 0).any():
            symbols = ", ".join(chemical_symbols[number] for number in atoms.numbers[rows < 0].unique().tolist())
            raise ValueError(
                f"no free atom of {symbols}: GPAW has no PAW set of it; leave it out, or use another model"
            )
        return _Atoms(atoms.positions, rows)

    def decode(self, states: _Atoms, probes: ProbeGraph) -> Tensor:
        """Sum the densities of the atoms around each probe: (n_probes, 1) e/Å³, the total alone."""
        sender, receiver = probes.edge_index
        distances = safe_norm(probes.edge_vectors(states.positions))
        densities = self._density(states.rows.index_select(0, sender), distances)  # (n_edges,)
        return sum_over_neighbours(densities, receiver, probes.n_probes)[:, None]

    def _density(self, rows: Tensor, distances: Tensor) -> Tensor:
        """Density (n,) of atoms of rows (n,) at distances (n,) in Å below the cutoff."""
        x = torch.asinh(distances / self.scale) / self.step
        knot = x.detach().long().clamp(max=self.n_knots - 2)
        (left, bend_left), (right, bend_right) = (
            self.table.index_select(0, rows * self.n_knots + k).unbind(dim=1) for k in (knot, knot + 1)
        )
        b = x - knot
        a = 1.0 - b
        density = a * left + b * right + (a**3 - a) * bend_left + (b**3 - b) * bend_right
        return density * _fade((self.cutoff - distances) / FADE)


def _fade(t: Tensor) -> Tensor:
    """From 0 at t ≤ 0 to 1 at t ≥ 1, twice differentiable."""
    t = t.clamp(0.0, 1.0)
    return t**3 * (10.0 - 15.0 * t + 6.0 * t**2)


def _spline(x: Array, density: Array) -> CubicSpline:
    """Splines through densities (n_elements, n_knots); even at the nucleus, where x is proportional to the distance."""
    return CubicSpline(x, density.T, bc_type=("clamped", "natural"))


def _with_all_electrons(x: Array, scale: float, density: Array, n_valence: NDArray[np.int16], cutoff: float) -> Array:
    """Factors 1 + c r² (n_elements, n_knots) that make the fading densities integrate to the valence electrons."""
    fine, step = np.linspace(0.0, np.arcsinh(cutoff / scale), 4001, retstep=True)
    r = scale * np.sinh(fine)
    weights = 4 * np.pi * r**2 * scale * np.cosh(fine) * step  # trapezoidal rule; zero at both ends
    faded = _spline(x, density)(fine) * _fade(torch.from_numpy((cutoff - r) / FADE)).numpy()[:, None]
    missing, second_moment = n_valence - weights @ faded, (weights * r**2) @ faded
    radii: Array = scale * np.sinh(x)
    return 1.0 + np.outer(missing / second_moment, radii**2)
