"""Fields derived from a density by automatic differentiation at the probes, for any model.

One backward pass gives the gradient, three more its derivative, the Hessian; everything else follows from these two:

    IRI  = |∇ρ| / ρ^1.1
    DORI = φ / (1 + φ) with φ = |∇|k|²|² / |k|⁶ and k = ∇ρ/ρ

∇|k|² = 2 (H k/ρ - |k|² k), so with the unit vector u = ∇ρ/|∇ρ| and nothing divided by ρ

    φ = |a|² / |∇ρ|⁴ with a = 2 (ρ H u - |∇ρ|² u),    DORI = |a|² / (|a|² + |∇ρ|⁴),

which tends to 1 at a critical point of the density.

All fields are finite everywhere. Where the density is below `DENSITY_FLOOR` (also negative), or no atom is within the
cutoff, there is nothing to indicate: IRI is `IRI_OF_EMPTY_SPACE` and DORI is 0. Without an atom within the cutoff the
derivatives are zero. Networks read distances, so their densities have a cusp at each nucleus: closer than about
0.01 Å the Hessian grows like 1/distance, up to the 10⁸ (PaiNN 10¹²) e/Å⁵ at which it is rounded off.

Derivatives are computed in float64. In float32 those of a trained SchNet are good to 1e-5, but only 1e-3 at 10⁻⁴ Å from
a nucleus and 1e-1 at 10⁻⁶ Å; float64 costs 20 % more time on a CPU.

Source of IRI and what it is in empty space: Lu & Chen, Chemistry–Methods 1, 231 (2021), and the manual of Multiwfn
("IRI_rhocut"). Source of DORI: de Silva & Corminboeuf, J. Chem. Theory Comput. 10, 3745 (2014).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import ase
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepdft import chunks
from deepdft.graph.blocks import cut_into_cubes
from deepdft.inference.encoded import EncodedStructure, check_points
from deepdft.inference.field_files import check_names
from deepdft.models.base import DensityModel
from deepdft.nn.threads import in_parallel
from deepdft.units import BOHR, BOHR3

__all__ = ["DENSITY_FLOOR", "IRI_OF_EMPTY_SPACE", "Derivatives", "EncodedFields"]

DENSITY_FLOOR = 5e-5 / BOHR3
"""e/Å³, 5·10⁻⁵ in atomic units; below it the density counts as zero (Multiwfn's choice)."""
IRI_OF_EMPTY_SPACE = 5.0 / BOHR**0.7
"""Å^-0.7 e^-0.1, 5 in atomic units (Multiwfn's choice); a tail exp(-2r/bohr) has 5.4 at the floor."""
DERIVATIVES_MEMORY = 32
"""Memory of an edge for second derivatives in float64, relative to a density in float32: PaiNN 30, SchNet 35 to 50."""


class Derivatives:
    """The density at some points and its derivatives there, computed on first use.

    Args:
        encoded: the structure.
        points: (n, 3) Å, few enough to hold the graph of their derivatives.
        dense: whether they lie close together, for a model that then can do without edges.
    """

    def __init__(self, encoded: EncodedStructure, points: NDArray[np.floating], *, dense: bool = False) -> None:
        with torch.enable_grad():
            if dense:
                self._positions = torch.from_numpy(points).to(encoded.structures.positions, copy=True).requires_grad_()
                densities = encoded.model.decode_points(encoded.states, encoded.structures, self._positions)
            else:
                probes = encoded.probes(points)
                self._positions = probes.positions.clone().requires_grad_()
                moved = replace(probes, positions=self._positions)
                densities = encoded.model.checked(encoded.model.decode(encoded.states, moved), len(points))
            # for models whose gradient does not depend on the positions
            self._density = densities[:, 0] + 0.0 * self._positions.square().sum(dim=-1)
        self.density = self._density.detach()
        """Total density (n,) in e/Å³."""
        self.empty = self.density < DENSITY_FLOOR
        """(n,) bool: whether the density is below the floor."""

    @cached_property
    def _gradient(self) -> Tensor:
        return self._derivative(self._density, create_graph=True)

    @property
    def gradient(self) -> Tensor:
        """Gradient (n, 3) in e/Å⁴."""
        return self._gradient.detach()

    @cached_property
    def hessian(self) -> Tensor:
        """Hessian (n, 3, 3) in e/Å⁵, symmetric."""
        rows = [self._derivative(self._gradient[:, axis]) for axis in range(3)]
        hessian = torch.stack(rows, dim=1)
        return 0.5 * (hessian + hessian.mT)

    def _derivative(self, values: Tensor, *, create_graph: bool = False) -> Tensor:
        """Gradient (n, 3) of values (n,), each of which depends on the position of its own point only."""
        (derivative,) = torch.autograd.grad(values.sum(), self._positions, create_graph=create_graph, retain_graph=True)
        return derivative


def _eigenvalues(at: Derivatives) -> Tensor:
    """Eigenvalues (n, 3) of the Hessian in e/Å⁵, ascending."""
    return torch.linalg.eigvalsh(at.hessian)


def _laplacian(at: Derivatives) -> Tensor:
    """Laplacian (n,) in e/Å⁵."""
    return at.hessian.diagonal(dim1=1, dim2=2).sum(dim=1)


def _iri(at: Derivatives) -> Tensor:
    """IRI (n,) in Å^-0.7 e^-0.1."""
    iri = at.gradient.norm(dim=1) / at.density.clamp(min=DENSITY_FLOOR) ** 1.1
    return torch.where(at.empty, IRI_OF_EMPTY_SPACE, iri)


def _dori(at: Derivatives) -> Tensor:
    """DORI (n,), from 0 to 1."""
    slope = at.gradient.norm(dim=1, keepdim=True)  # (n, 1)
    u = torch.where(slope > 0, at.gradient / slope, 0.0)  # (n, 3)
    bent = at.density[:, None] * torch.einsum("nij,nj->ni", at.hessian, u)  # ρ H u
    above = 4.0 * (bent - slope.square() * u).square().sum(dim=1)  # |a|²
    below = above + slope.squeeze(-1) ** 4
    critical = below == 0
    dori = torch.where(critical, 1.0, above / torch.where(critical, 1.0, below))
    return torch.where(at.empty, 0.0, dori)


@dataclass(frozen=True)
class _Field:
    compute: Callable[[Derivatives], Tensor]
    shape: tuple[int, ...] = ()
    """Shape of the field at one point."""
    empty: float = 0.0
    """Value where no atom is within the cutoff."""


_FIELDS: Mapping[str, _Field] = {
    "gradient": _Field(lambda at: at.gradient, (3,)),
    "laplacian": _Field(_laplacian),
    "hessian": _Field(_eigenvalues, (3,)),
    "iri": _Field(_iri, empty=IRI_OF_EMPTY_SPACE),
    "dori": _Field(_dori),
}


class EncodedFields:
    """A structure encoded in float64, from which fields can be computed at any number of points.

    Args:
        model: of any precision; a copy of it is used.
        atoms: the structure.
        pbc: None keeps the periodicity of `atoms`; True or False forces it along all axes.

    Raises:
        ValueError: if there are no atoms, or the structure repeats without lattice vectors.
    """

    def __init__(self, model: DensityModel, atoms: ase.Atoms, *, pbc: bool | None = None) -> None:
        self.encoded = EncodedStructure(copy.deepcopy(model).double().requires_grad_(False), atoms, pbc=pbc)
        self._device = self.encoded.structures.positions.device
        self._has_blocks = self.encoded.model.chunk_size(self._device) is not None
        self.chunk_size = chunks.CPU.points_of_fields if self._has_blocks else self.encoded.points_per_graph
        """Best number of points to request at once; bounds the memory, which grows with the number of threads."""

    def at(
        self,
        points: NDArray[np.floating],
        names: Sequence[str],
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> dict[str, NDArray[np.float64]]:
        """Fields at points; memory is bounded, apart from the result.

        Args:
            points: (n, 3) Å.
            names: which fields, of those in `deepdft.inference.field_files.UNITS`.
            progress: called with points done and points in all.

        Returns:
            Per name an array (n,); (n, 3) for "gradient" and for "hessian", its eigenvalues in ascending order.

        Raises:
            ValueError: if a name is unknown or the points are of another shape.
        """
        check_names(names)
        points = check_points(points)
        fields = {name: np.empty((len(points), *_FIELDS[name].shape)) for name in names}
        for part, close_together in self._chunks(points):
            self._fill({name: values[part] for name, values in fields.items()}, points[part], close_together)
            if progress is not None:
                progress(part.stop, len(points))
        return fields

    def _chunks(self, points: NDArray[np.floating]) -> Iterator[tuple[slice, NDArray[np.int64] | None]]:
        """Chunks of points and, if they are dense, an order in which neighbours follow one another."""
        for start in range(0, len(points), self.chunk_size):
            stop = min(start + self.chunk_size, len(points))
            if self._has_blocks:
                close_together, cubes = cut_into_cubes(
                    points[start:stop].astype(np.float64), chunks.CPU.points_differentiated
                )
                if stop - start >= chunks.CPU.points_in_dense_cube * (len(cubes) - 1):
                    yield slice(start, stop), close_together
                    continue
            size = self.encoded.points_per_graph
            yield from ((slice(first, min(first + size, stop)), None) for first in range(start, stop, size))

    def _fill(
        self,
        fields: Mapping[str, NDArray[np.float64]],
        points: NDArray[np.floating],
        close_together: NDArray[np.int64] | None,
    ) -> None:
        """Set the fields at points; only points with an atom within the cutoff have derivatives."""
        for name, values in fields.items():
            values[:] = _FIELDS[name].empty
        dense = close_together is not None
        if close_together is not None:  # a model with blocks gives no density where no atom reaches
            size, wanted = chunks.CPU.points_differentiated, close_together
        else:
            size = max(1, self.encoded.points_per_graph // DERIVATIVES_MEMORY)
            wanted = self.encoded.probes(points).edge_index[1].unique().cpu().numpy()

        def fill(piece: NDArray[np.int64]) -> None:
            derivatives = Derivatives(self.encoded, points[piece], dense=dense)
            for name, values in fields.items():
                values[piece] = _FIELDS[name].compute(derivatives).cpu().numpy()

        in_parallel(fill, [wanted[start : start + size] for start in range(0, len(wanted), size)], device=self._device)
