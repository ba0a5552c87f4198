"""Predictions of an ensemble with what its members say of their error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import ase
import numpy as np
import torch
from numpy.typing import NDArray

from deepdft.density import DensityGrid, Grid
from deepdft.inference.encoded import EncodedStructure
from deepdft.measures import EPS_MAD, absolute_deviations
from deepdft.models.base import DensityModel
from deepdft.nn.occupancies import Occupancies

__all__ = ["Members", "UncertainDensity", "predict_with_uncertainty", "refuse_single_model"]


class Members:
    """A structure encoded by each member of a model; a model that is no ensemble is its only member.

    Args:
        model: in evaluation mode.
        grid: the structure and the points where densities are wanted.
        pbc: None as the structure has it, True forced on, False ignored.
        atoms: the structure, where its cell is another than the box of the grid.
    """

    def __init__(
        self, model: DensityModel, grid: Grid, *, pbc: bool | None = None, atoms: ase.Atoms | None = None
    ) -> None:
        self.model, self.grid = model, grid
        structure = grid.atoms if atoms is None else atoms
        self.encoded = [EncodedStructure(member, structure, pbc=pbc) for member in model.members]

    def chunks(self) -> list[slice]:
        """All points of the grid, in chunks that none of the members finds too large."""
        return max(([*encoded.chunks(self.grid.n_points)] for encoded in self.encoded), key=len)

    @torch.no_grad()
    def occupancies(self) -> Occupancies | None:
        """Mean PAW occupancies; None if the model predicts none."""
        states = [encoded.states for encoded in self.encoded]
        return self.model.occupancies(states if len(self.model.members) > 1 else states[0])

    def densities(self, chunk: slice) -> NDArray[np.floating]:
        """Densities (n_members, n_points, n_channels) in e/Å³ at points of the grid, counted with z fastest."""
        return np.stack([encoded.density_on_grid(self.grid, chunk) for encoded in self.encoded])


@dataclass(frozen=True)
class UncertainDensity:
    """The prediction of an ensemble on a grid."""

    density: DensityGrid
    """Mean of the members."""
    std: DensityGrid
    """Standard deviation of the members' total densities at each point, e/Å³, with n - 1 in the denominator."""
    spread: float
    """∫(1/K) Σ_k |ρ_k - ρ_median| / ∫|ρ| of the total density in %: the measure of `eps_mad`."""
    expected_eps_mae: float | None
    """Expected ε_mae in %; None for an ensemble that was not calibrated."""


def refuse_single_model(model: DensityModel) -> None:
    """Refuse a model that is no ensemble.

    Raises:
        ValueError: if it is none.
    """
    if len(model.members) < 2:
        raise ValueError(
            f"{type(model).__name__} is no ensemble, which uncertainty needs; give several checkpoints: "
            "checkpoint=[a.ckpt,b.ckpt,c.ckpt]"
        )


def predict_with_uncertainty(
    model: DensityModel,
    grid: Grid,
    *,
    pbc: bool | None = None,
    atoms: ase.Atoms | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> UncertainDensity:
    """Predict a density on a grid with the members of an ensemble.

    Args:
        model: an ensemble, in evaluation mode.
        grid: the structure with its grid.
        pbc: None as the structure has it, True forced on, False ignored.
        atoms: the structure, where its cell is another than the box of the grid.
        progress: called with points done and points in all.

    Raises:
        ValueError: if the model is no ensemble.
    """
    refuse_single_model(model)
    members = Members(model, grid, pbc=pbc, atoms=atoms)
    mean = np.empty((grid.n_points, len(model.channels)), dtype=np.float32)
    std = np.empty(grid.n_points, dtype=np.float32)
    deviation = 0.0
    for chunk in members.chunks():
        densities = members.densities(chunk).astype(np.float64)
        mean[chunk] = densities.mean(axis=0)
        std[chunk] = densities[:, :, 0].std(axis=0, ddof=1)
        deviation += float(absolute_deviations(densities[:, :, 0]).mean(axis=0).sum())
        if progress is not None:
            progress(chunk.stop, grid.n_points)
    total, *others = (np.ascontiguousarray(column).reshape(grid.shape) for column in mean.T)
    density = DensityGrid(total, grid.atoms, grid.origin, dict(zip(model.channels[1:], others, strict=True)))
    spread = float(EPS_MAD.value(deviation, np.abs(total).sum(dtype=np.float64)))
    scale = model.spread_scale
    return UncertainDensity(
        density=density,
        std=DensityGrid(std.reshape(grid.shape), grid.atoms, grid.origin),
        spread=spread,
        expected_eps_mae=None if scale is None else scale * spread,
    )
