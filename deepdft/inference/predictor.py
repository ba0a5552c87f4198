"""`Predictor`: the density of a new structure from a trained model."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import ase
import numpy as np
import torch
from numpy.typing import NDArray

from deepdft.checkpoint import load_checkpoint
from deepdft.density import DensityGrid, Order
from deepdft.errors import InputWarning
from deepdft.inference.assessment import Trust, assess
from deepdft.inference.box import MARGIN, Box, Region, make_box, room
from deepdft.inference.device import choose_device
from deepdft.inference.domains import Domain
from deepdft.inference.encoded import EncodedStructure, check_points
from deepdft.inference.field_files import check_names
from deepdft.inference.pieces import Pieces, density_in_domains, domains_if_needed, joined, scaled
from deepdft.inference.structure_fields import StructureFields
from deepdft.inference.trust import Tally, expected_electrons, symbols, unknown_elements
from deepdft.io.plausibility import check_structure, formula_of
from deepdft.io.structures import total_charge
from deepdft.models.base import DensityModel
from deepdft.nn.atom_embedding import needs_moments

__all__ = ["Predictor", "Progress", "choose_device"]

Progress = Callable[[int, int], None]
"""Called with the number of points done and of all points."""


class Predictor:
    """Predicts densities with a trained model.

    Args:
        model: in evaluation mode; its device and precision are used.
        pbc: periodic boundaries the model was trained with: None as the structure has them, True forced
            on, False ignored.
        info: what is known of the model: "elements", the atomic numbers it was trained on, and "valences", the
            electrons by atomic number that its densities have.
        allow_unknown: whether to predict structures with elements that the model was not trained on; they are
            refused otherwise.
        memory: bytes that this process may have, or its GPU: larger structures are encoded in overlapping domains,
            with the same densities to rounding; None is half of what is free.
    """

    def __init__(
        self,
        model: DensityModel,
        *,
        pbc: bool | None = None,
        info: Mapping[str, Any] | None = None,
        allow_unknown: bool = False,
        memory: int | None = None,
    ) -> None:
        self.model = model.eval()
        self.memory = memory
        self.pbc = pbc
        self.info = dict(info or {})
        self.allow_unknown = allow_unknown

    @classmethod
    def from_checkpoint(
        cls,
        path: str | os.PathLike[str],
        device: torch.device | str = "cpu",
        trusted: Sequence[str] = (),
        *,
        allow_unknown: bool = False,
        memory: int | None = None,
    ) -> Self:
        """Load a checkpoint file, a run directory or a released DeepDFT folder.

        Args:
            path: file or folder.
            device: "cpu", "cuda", "cuda:N" or "auto".
            trusted: packages outside deepdft whose model classes may be built.
            allow_unknown: whether to predict elements that the model was not trained on.
            memory: bytes that this process may have, or its GPU; None is half of what is free.

        Raises:
            FileNotFoundError: if there is no checkpoint.
            ValueError: if it is damaged, names a model class that is not trusted, or there is no such device.
        """
        where = choose_device(device) if isinstance(device, str) else device
        checkpoint = load_checkpoint(path, device=where, trusted=trusted)
        options: dict[str, Any] = {"allow_unknown": allow_unknown, "memory": memory}
        return cls(checkpoint.model, pbc=checkpoint.pbc, info=checkpoint.info, **options)

    def encode(self, atoms: ase.Atoms) -> EncodedStructure:
        """The structure with its atoms encoded, to query at many sets of points.

        Raises:
            ValueError: if there are no atoms, or the structure repeats without lattice vectors.
        """
        self.check(atoms)
        return EncodedStructure(self.model, atoms, pbc=self.pbc)

    def predict(
        self,
        atoms: ase.Atoms,
        *,
        spacing: float | None = None,
        shape: Sequence[int] | None = None,
        vacuum: float | None = None,
        n_electrons: float | None = None,
        progress: Progress | None = None,
    ) -> DensityGrid:
        """Density on a regular grid: in the structure's cell, or in a box with vacuum round a molecule.

        Args:
            atoms: the structure.
            spacing: Å, largest distance between grid points; None is 0.1 without a shape.
            shape: (nx, ny, nz) points, instead of a spacing.
            vacuum: Å on each side of a molecule; None keeps a cell that fits, else is 4.
            n_electrons: what the density is scaled to hold on the grid; None leaves it as predicted.
            progress: called with points done and points in all.

        Returns:
            The density; atoms keep their positions, `origin` says where the grid begins. `atom_arrays` has the PAW
            occupancies of a model that predicts them. `info` has "trust", how far
            to trust it in words, "expected_eps_mae" in % where an error can be expected, "not_trained_on", elements
            that the model does not know, and "doubts", such as missing electrons, where there are any.

        Raises:
            ValueError: if the grid or the structure makes no sense.
        """
        box = make_box(atoms, spacing=spacing, shape=shape, vacuum=vacuum)
        return self.predict_box(box, n_electrons=n_electrons, progress=progress)

    def predict_box(
        self, box: Box, *, n_electrons: float | None = None, progress: Progress | None = None
    ) -> DensityGrid:
        """Density on the grid of a box, with all channels of the model; the other arguments are those of `predict`."""
        values = np.empty((box.n_points, len(self.model.channels)), dtype=np.float32)
        done = 0
        self.check(box.structure())
        pieces = self.pieces(box)
        with joined(pieces, "C", progress) as chunks:
            for part in scaled(chunks, box, n_electrons):
                values[done : done + len(part)] = part
                done += len(part)
        total, *others = (np.ascontiguousarray(column).reshape(box.shape) for column in values.T)
        channels = dict(zip(self.model.channels[1:], others, strict=True))
        density = DensityGrid(total, box.atoms, box.origin, channels, atom_arrays=pieces.occupancies())
        tally = self.tally(box)
        tally.add(total)
        info = {
            "not_trained_on": symbols(self.unknown(box.atoms)),
            "doubts": "; ".join(tally.doubts(box.spacing.max())),
        }
        if pieces.is_whole:  # a structure in domains has no states of all its atoms
            whole = pieces.encoded(0)
            info |= assess(self.model, box.structure(), self.info, pbc=self.pbc, encoded=whole).as_text()
        if info["doubts"]:
            warnings.warn(f"{formula_of(box.atoms)}: {info['doubts']}", InputWarning, stacklevel=3)
        return replace(density, info={name: text for name, text in info.items() if text})

    def trust(self, atoms: ase.Atoms, *, spread: float | None = None) -> Trust:
        """How far the prediction of a structure can be trusted, per atom and overall, without predicting it.

        Elements that the model was not trained on are reported, not refused.

        Args:
            atoms: the structure.
            spread: of the members of an ensemble in %, where it is known; None estimates it at some points.

        Raises:
            ValueError: if the structure cannot exist.
        """
        check_structure(atoms)
        return assess(self.model, atoms, self.info, pbc=self.pbc, spread=spread)

    def tally(self, box: Box) -> Tally:
        """Tally of the electrons on the grid of a box, compared with the number that its atoms should have."""
        expected = None if isinstance(box, Region) else expected_electrons(box.atoms.numbers, self.info)
        return Tally(box.voxel_volume, expected)

    def unknown(self, atoms: ase.Atoms) -> list[int]:
        """Atomic numbers in a structure that the model was not trained on."""
        return unknown_elements(atoms.numbers, self.info)

    def predict_chunks(
        self, box: Box, *, order: Order = "C", n_electrons: float | None = None, progress: Progress | None = None
    ) -> Iterator[NDArray[np.floating]]:
        """Density (n, n_channels) in e/Å³ of a box chunk after chunk, so that grids of any size fit into memory.

        Args:
            box: a structure with its grid, from `make_box`.
            order: "C" for z fastest (as a cube), "F" for x fastest (as a CHGCAR).
            n_electrons: what the total is scaled to hold on the grid, and all channels with it; the grid is predicted
                twice then: to count, and to scale; None leaves it as predicted.
            progress: called with points done and points in all, from zero again for the second time.

        Raises:
            ValueError: if `n_electrons` is not above zero, or the predicted density holds no electrons to scale.
        """
        self.check(box.structure())
        with joined(self.pieces(box, order=order), order, progress) as chunks:
            yield from scaled(chunks, box, n_electrons)

    def pieces(self, box: Box, *, order: Order = "C", cut: Sequence[Domain] | None = None) -> Pieces:
        """The grid of a box in slabs, which can be predicted one by one; see `deepdft.inference.pieces`.

        Args:
            box: a structure with its grid, from `make_box`.
            order: in which the slabs will be joined.
            cut: domains that were found before; None finds them.
        """
        return Pieces(self.model, box, memory=self.memory, pbc=self.pbc, order=order, cut=cut)

    def predict_points(self, atoms: ase.Atoms, points: NDArray[np.floating]) -> NDArray[np.floating]:
        """Density (n,) in e/Å³ at points (n, 3) in Å; (n, n_channels) of a model with several channels.

        Raises:
            ValueError: if the points are of another shape, or the structure makes no sense.
        """
        self.check(atoms)
        domains = domains_if_needed(self.model, atoms, self.memory, pbc=self.pbc)
        if domains is None:
            density = EncodedStructure(self.model, atoms, pbc=self.pbc).density(points)
        else:
            density = density_in_domains(self.model, domains, check_points(points))
        return density[:, 0] if len(self.model.channels) == 1 else density

    def encode_fields(self, atoms: ase.Atoms) -> StructureFields:
        """The structure, encoded at once where the memory is enough, to compute fields derived from the density.

        Raises:
            ValueError: if there are no atoms, or the structure repeats without lattice vectors.
        """
        self.check(atoms)
        return StructureFields(self.model, atoms, memory=self.memory, pbc=self.pbc)

    def fields_at_points(
        self, atoms: ase.Atoms, names: Sequence[str], points: NDArray[np.floating]
    ) -> dict[str, NDArray[np.float64]]:
        """Fields derived from the density at points, computed in float64; see `deepdft.inference.fields`.

        Args:
            atoms: the structure.
            names: of "gradient" (e/Å⁴), "hessian", its eigenvalues in ascending order, and "laplacian" (e/Å⁵),
                "iri" (Å^-0.7 e^-0.1) and "dori".
            points: (n, 3) Å.

        Returns:
            Per name an array (n,); (n, 3) for "gradient" and "hessian".

        Raises:
            ValueError: if a name is unknown, the points are of another shape, or the structure makes no sense.
        """
        check_names(names)
        return self.encode_fields(atoms).at(points, names)

    def fields(
        self,
        atoms: ase.Atoms,
        names: Sequence[str],
        *,
        spacing: float | None = None,
        shape: Sequence[int] | None = None,
        vacuum: float | None = None,
        progress: Progress | None = None,
    ) -> tuple[dict[str, NDArray[np.float64]], Box]:
        """Fields on the grid that `predict` makes with the same arguments.

        Returns:
            Per name an array (nx, ny, nz), or (nx, ny, nz, 3) for "gradient" and "hessian", and the box they are
            in. `deepdft.inference.field_files.write_fields` writes fields of any size to files.

        Raises:
            ValueError: if a name is unknown, or the grid or the structure makes no sense.
        """
        check_names(names)
        box = make_box(atoms, spacing=spacing, shape=shape, vacuum=vacuum)
        fields: dict[str, NDArray[np.float64]] = {}
        done = 0
        for slab, found in self.encode_fields(box.structure()).on_grid(box, names):
            place = tuple(map(slice, slab.start, slab.stop))
            for name, values in found.items():
                whole = fields.setdefault(name, np.empty((*box.shape, *values.shape[1:])))
                whole[place] = values.reshape(*slab.shape, *values.shape[1:])
            done += slab.n_points
            if progress is not None:
                progress(done, box.n_points)
        return fields, box

    def check(self, atoms: ase.Atoms) -> None:
        """Refuse what the model cannot predict, and warn of what it has not been trained for.

        Raises:
            ValueError: if the structure cannot exist, or has elements that the model was not trained on and
                `allow_unknown` is off.
        """
        check_structure(atoms)
        formula = formula_of(atoms)
        if new := self.unknown(atoms):
            text = f"{formula}: the model has not been trained on {symbols(new)}"
            hint = "checkpoint=free_atoms, the sum of isolated atoms, knows 83 elements"
            if not self.allow_unknown:
                raise ValueError(
                    f"{text}, but on {symbols(sorted(self.info['elements']))}; {hint}; allow_unknown=true predicts it "
                    "all the same"
                )
            warnings.warn(f"{text}: densities there are guesses; {hint}", InputWarning, stacklevel=3)
        if charge := total_charge(atoms):
            warnings.warn(
                f"{formula} has the charge {charge:+d}, which models ignore: they have learned neutral structures",
                InputWarning,
                stacklevel=3,
            )
        if needs_moments(self.model) and not atoms.get_initial_magnetic_moments().any():
            warnings.warn(
                f"{formula} has no initial magnetic moments, which choose the state that this model predicts: "
                "it is predicted with zero moments; give them in an extended XYZ file, or in ASE by "
                "atoms.set_initial_magnetic_moments",
                InputWarning,
                stacklevel=3,
            )
        if self.pbc is False and atoms.pbc.any() and atoms.cell.rank == 3 and room(atoms)[atoms.pbc].min() < MARGIN:
            warnings.warn(
                f"the model was trained with periodic boundaries ignored: {formula} is treated as a molecule, and its "
                "density is wrong near the faces of the cell, for lack of the atoms beyond",
                InputWarning,
                stacklevel=3,
            )
