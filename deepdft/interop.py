"""Densities as objects of other libraries: pymatgen's Chgcar and xarray's Dataset, which are extras."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import ase
import numpy as np
from numpy.typing import NDArray

from deepdft.density import DensityGrid, occupancies_of, volume
from deepdft.errors import InputWarning

if TYPE_CHECKING:
    import xarray
    from pymatgen.io.vasp.outputs import Chgcar

__all__ = ["from_pymatgen", "from_volumetric", "to_pymatgen", "to_xarray"]

CHANNELS = {
    "total": "total",
    "difference": "diff",
    "magnetization_x": "diff_x",
    "magnetization_y": "diff_y",
    "magnetization_z": "diff_z",
}
"""Names of the channels here and in pymatgen."""
_OCCUPANCIES = {"total": occupancies_of("total"), "diff": occupancies_of("difference")}
"""pymatgen's name of a channel → the array of `DensityGrid.atom_arrays` with its PAW occupancies."""


def to_pymatgen(density: DensityGrid) -> Chgcar:
    """A density as a pymatgen Chgcar, with its spin channels and PAW occupancies.

    Args:
        density: periodic along all three axes, with its origin at zero.

    Raises:
        ModuleNotFoundError: if pymatgen is not installed.
        ValueError: if the density is shifted, or has a channel that a CHGCAR does not hold.
    """
    try:
        from pymatgen.core import Lattice, Structure
        from pymatgen.io.vasp.inputs import Poscar
        from pymatgen.io.vasp.outputs import Chgcar
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("pymatgen is not installed: pip install 'deepdft-lightning[pymatgen]'") from error
    if np.abs(density.origin).max() > 1e-9:
        raise ValueError(f"the grid begins at {density.origin} Å, that of a Chgcar at zero: move the atoms by it first")
    if unknown := [name for name in density.channels if name not in CHANNELS]:
        raise ValueError(f"a Chgcar holds the channels {', '.join(CHANNELS)}, got {', '.join(unknown)}")
    atoms = density.atoms
    structure = Structure(
        Lattice(atoms.cell.array), atoms.get_chemical_symbols(), atoms.get_scaled_positions(wrap=False)
    )
    box = volume(atoms.cell.array)
    data = {CHANNELS[name]: density.channel(name).astype(np.float64) * box for name in density.channel_names}
    occupancies = {
        theirs: {i: row[~np.isnan(row)] for i, row in enumerate(density.atom_arrays[ours], 1) if not np.isnan(row[0])}
        for theirs, ours in _OCCUPANCIES.items()
        if ours in density.atom_arrays
    }
    comment = density.info.get("comment") or atoms.get_chemical_formula()
    return Chgcar(Poscar(structure, comment=comment), data, data_aug=occupancies)


def from_pymatgen(chgcar: Chgcar) -> DensityGrid:
    """A pymatgen Chgcar as a density, with its spin channels and PAW occupancies.

    Args:
        chgcar: of `Chgcar.from_file`, of the Materials Project (`MPRester.get_charge_density_from_material_id`), or
            another volumetric object of the same kind.

    Raises:
        ValueError: if a site is disordered, or an array is no grid.
    """
    structure = chgcar.structure
    if not structure.is_ordered:
        raise ValueError(f"{structure.formula}: sites with partial occupancies are no structure; choose one")
    atoms = ase.Atoms(
        [site.specie.symbol for site in structure],
        scaled_positions=structure.frac_coords,
        cell=structure.lattice.matrix,
        pbc=True,
    )
    return from_volumetric(atoms, chgcar)


def from_volumetric(atoms: ase.Atoms, chgcar: Any) -> DensityGrid:
    """A density from its atoms and an object with `data` and `data_aug` as pymatgen's Chgcar has them.

    Raises:
        ValueError: if an array is no grid.
    """
    box = volume(atoms.cell.array)
    noncollinear = "diff_x" in chgcar.data  # whose "diff" pymatgen has made up
    channels: dict[str, NDArray[np.floating]] = {
        ours: np.ascontiguousarray(chgcar.data[theirs], dtype=np.float64) / box
        for ours, theirs in CHANNELS.items()
        if theirs in chgcar.data and not (noncollinear and theirs == "diff")
    }
    arrays: dict[str, NDArray[np.floating]] = {
        ours: rows
        for theirs, ours in _OCCUPANCIES.items()
        if not noncollinear and (rows := _occupancies((chgcar.data_aug or {}).get(theirs), len(atoms))) is not None
    }
    return DensityGrid(channels.pop("total"), atoms, channels=channels, atom_arrays=arrays)


def _occupancies(sets: Mapping[int, Any] | Iterable[str] | None, n_atoms: int) -> NDArray[np.float64] | None:
    """Rows of numbers (n_atoms, n_max) padded with NaN, from pymatgen's arrays by atom, or lines of older versions."""
    if not sets:
        return None
    if not isinstance(sets, Mapping):
        pieces = re.split(r"augmentation occupancies\s*(\d+)\s+\d+\s", "".join(sets))[1:]
        try:
            sets = {
                int(atom): np.array(text.split(), dtype=float) for atom, text in zip(*[iter(pieces)] * 2, strict=True)
            }
        except ValueError:
            sets = {}
    if set(sets) != set(range(1, n_atoms + 1)):
        warnings.warn("augmentation occupancies are not those of all atoms: left out", InputWarning, stacklevel=3)
        return None
    rows = np.full((n_atoms, max(len(row) for row in sets.values())), np.nan)
    for atom, row in sets.items():
        rows[atom - 1, : len(row)] = row
    return rows


def to_xarray(density: DensityGrid) -> xarray.Dataset:
    """A density as an xarray Dataset: a variable for each channel over the dimensions a, b and c.

    Coordinates are fractional along the edges of the box, `x`, `y` and `z` positions in Å; attributes hold the
    unit, the cell, the atoms and the periodicity as plain numbers, so that `to_netcdf` and `to_zarr` keep them.

    Raises:
        ModuleNotFoundError: if xarray is not installed.
    """
    try:
        import xarray
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("xarray is not installed: pip install 'deepdft-lightning[xarray]'") from error
    edges = ("a", "b", "c")
    points = density.points().reshape(*density.shape, 3)
    fractional = {edge: np.arange(n) / n for edge, n in zip(edges, density.shape, strict=True)}
    positions = {axis: (edges, points[..., i], {"units": "Å"}) for i, axis in enumerate("xyz")}
    atoms = density.atoms
    return xarray.Dataset(
        {name: (edges, density.channel(name), {"units": "e/Å³"}) for name in density.channel_names},
        coords=fractional | positions,
        attrs={
            "cell": atoms.cell.array.ravel().tolist(),
            "numbers": atoms.numbers.tolist(),
            "positions": atoms.positions.ravel().tolist(),
            "pbc": [int(repeats) for repeats in atoms.pbc],
            "origin": density.origin.tolist(),
        },
    )
