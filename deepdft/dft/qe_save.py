"""The `.save` folder of Quantum ESPRESSO's pw.x: reads its structure, and reads and writes its density.

`charge-density.dat` holds Fortran records: (gamma_only, n, n_spin), the reciprocal vectors, Miller indices, and
coefficients ρ(G) in e/bohr³ of the total and, with spin, of the difference. Real densities at the Γ point have half of
the G. A pw.x that was built with HDF5 has the same in `charge-density.hdf5`.
"""

from __future__ import annotations

import hashlib
import io
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import ase
import h5py
import numpy as np
from ase.units import Bohr
from numpy.typing import NDArray

from deepdft.files import atomic_write
from deepdft.io.hdf5_heaps import check_heaps

__all__ = ["PlaneWaves", "Save"]

DENSITY_FILES = "charge-density.dat", "charge-density.hdf5"
"""The file of the density, without and with HDF5; a folder has one of them."""
HDF5_COEFFICIENTS = "rhotot_g", "rhodiff_g"
"""Names of the coefficients of the total and of the difference, real and imaginary parts in turn."""


@dataclass(frozen=True, eq=False)
class PlaneWaves:
    """A density as a Fourier series, the form in which pw.x stores it.

    Raises:
        ValueError: if shapes do not fit together.
    """

    reciprocal: NDArray[np.float64]
    """(3, 3) 1/bohr, reciprocal vectors as rows, including the factor 2π."""
    miller: NDArray[np.int32]
    """(n, 3) Miller indices."""
    coefficients: NDArray[np.complex128]
    """(n_channels, n) e/bohr³: total and, with spin, spin up minus spin down."""
    half: bool
    """Whether only one of G and -G is listed."""

    def __post_init__(self) -> None:
        if self.miller.shape != (self.coefficients.shape[-1], 3) or self.coefficients.ndim != 2:
            raise ValueError(f"coefficients {self.coefficients.shape} do not fit {len(self.miller)} Miller indices")

    @classmethod
    def read(cls, path: Path) -> PlaneWaves:
        """Read charge-density.dat or charge-density.hdf5.

        Raises:
            FileNotFoundError: if there is none.
            ValueError: if it is damaged, or of another kind, such as noncollinear.
        """
        if path.suffix == ".hdf5":
            return cls._read_hdf5(path)
        data = path.read_bytes()
        records: list[bytes] = []
        start = 0
        while start < len(data):
            size = int.from_bytes(data[start : start + 4], "little")
            end = start + 4 + size
            if data[start : start + 4] != data[end : end + 4]:
                raise ValueError(f"{path}: damaged, record {len(records) + 1} is not a Fortran record")
            records.append(data[start + 4 : end])
            start = end + 4
        try:
            half, n, n_spin = np.frombuffer(records[0], "<i4")
            reciprocal = np.frombuffer(records[1], "<f8").reshape(3, 3)
            miller = np.frombuffer(records[2], "<i4").reshape(n, 3)
            coefficients = np.stack([np.frombuffer(record, "<c16") for record in records[3:]])
            if n_spin not in (1, 2) or coefficients.shape != (n_spin, n):
                raise ValueError(f"{n_spin} spin components of {n} coefficients, got {coefficients.shape}")
        except (ValueError, IndexError) as error:
            raise ValueError(f"{path}: not a density of pw.x with one or two spins: {error}") from error
        return cls(reciprocal, miller, coefficients, bool(half))

    @classmethod
    def _read_hdf5(cls, path: Path) -> PlaneWaves:
        data = path.read_bytes()
        try:
            check_heaps(data)
            with h5py.File(io.BytesIO(data), "r") as file:
                half = file.attrs["gamma_only"]
                n, n_spin = int(file.attrs["ngm_g"]), int(file.attrs["nspin"])
                indices = file["MillerIndices"]
                reciprocal = np.array([indices.attrs[f"bg{i}"] for i in (1, 2, 3)], dtype=np.float64)
                miller = indices[()].astype(np.int32)
                rows = [file[name][()].astype("<f8").view("<c16") for name in HDF5_COEFFICIENTS[:n_spin]]
            if n_spin not in (1, 2) or miller.shape != (n, 3) or any(row.shape != (n,) for row in rows):
                raise ValueError(f"{n_spin} spin components of {n} coefficients, got {[row.shape for row in rows]}")
        except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
            raise ValueError(f"{path}: not a density of pw.x with one or two spins: {error}") from error
        text = half.decode() if isinstance(half, bytes) else str(half)
        return cls(reciprocal, miller, np.stack(rows), text.strip().upper() == ".TRUE.")

    def write(self, path: Path) -> None:
        """Write charge-density.dat, or the coefficients in a charge-density.hdf5 that pw.x has written.

        Raises:
            ValueError: if there is no such charge-density.hdf5, or one with other plane waves or spins.
        """
        if path.suffix == ".hdf5":
            self._write_hdf5(path)
            return
        header = np.array([self.half, len(self.miller), len(self.coefficients)], "<i4")
        arrays = [header, self.reciprocal.astype("<f8"), self.miller.astype("<i4"), *self.coefficients.astype("<c16")]
        with atomic_write(path) as beside, beside.open("wb") as file:
            for array in arrays:
                mark = np.array(array.nbytes, "<i4").tobytes()
                file.write(mark + np.ascontiguousarray(array).tobytes() + mark)

    def _write_hdf5(self, path: Path) -> None:
        """Replace the coefficients; everything else stays as pw.x has written it."""
        there = PlaneWaves.read(path)
        if not np.array_equal(there.miller, self.miller) or len(there.coefficients) != len(self.coefficients):
            raise ValueError(f"{path}: has other plane waves, or another number of spins, than the density to write")
        with atomic_write(path) as beside:
            shutil.copyfile(path, beside)
            with h5py.File(beside, "r+") as file:
                for name, row in zip(HDF5_COEFFICIENTS, self.coefficients, strict=False):
                    file[name][...] = np.ascontiguousarray(row).view(np.float64)

    @property
    def smallest_shape(self) -> tuple[int, int, int]:
        """Shape of the coarsest grid that holds the density without aliasing."""
        nx, ny, nz = 2 * np.abs(self.miller).max(axis=0) + 1
        return int(nx), int(ny), int(nz)

    def on_grid(self, shape: tuple[int, int, int]) -> NDArray[np.float64]:
        """Values (n_channels, nx, ny, nz) in e/Å³ of the series at the points of a grid.

        A grid coarser than `smallest_shape` gets the values at its own points, not a smoothed density.
        """
        step = [-(-least // count) for least, count in zip(self.smallest_shape, shape, strict=True)]
        fine = tuple(int(count * times) for count, times in zip(shape, step, strict=True))
        grids = []
        for row in self.coefficients:
            spectrum = np.zeros(fine, dtype=np.complex128)
            spectrum[tuple((self.miller % fine).T)] = row
            if self.half:
                spectrum[tuple((-self.miller % fine).T)] = row.conj()
            values = np.fft.ifftn(spectrum, norm="forward").real / Bohr**3
            grids.append(values[:: step[0], :: step[1], :: step[2]])
        return np.stack(grids)

    def like(self, values: NDArray[np.floating]) -> NDArray[np.complex128]:
        """Fourier coefficients (n_channels, n), at the same G, of values (n_channels, nx, ny, nz) in e/Å³.

        Raises:
            ValueError: if the grid is too coarse to have them all.
        """
        shape = values.shape[1:]
        if any(count < least for count, least in zip(shape, self.smallest_shape, strict=True)):
            raise ValueError(f"a grid of {shape} points is too coarse for a density with {self.smallest_shape}")
        spectrum = np.fft.fftn(values, axes=(1, 2, 3), norm="forward") * Bohr**3
        return np.asarray(spectrum[(slice(None), *(self.miller % shape).T)])

    def with_coefficients(self, coefficients: NDArray[np.complex128]) -> PlaneWaves:
        """A density with the same plane waves and other coefficients."""
        return replace(self, coefficients=coefficients)


class Save:
    """A `.save` folder of pw.x.

    Args:
        folder: `outdir/prefix.save`.

    Raises:
        FileNotFoundError: if it has no data-file-schema.xml.
        ValueError: if that is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = folder / "data-file-schema.xml"
        try:
            root = ElementTree.parse(path).getroot()
        except ElementTree.ParseError as error:
            raise ValueError(f"{path}: damaged, not XML: {error}") from error
        output = root.find("output")
        if output is None:
            raise ValueError(f"{path}: no output of a calculation in it")
        self._output = output

    def _find(self, path: str) -> Any:
        found = self._output.find(path)
        if found is None:
            raise ValueError(f"{self.folder / 'data-file-schema.xml'}: damaged, it has no {path}")
        return found

    @property
    def files(self) -> dict[str, str]:
        """Names of the pseudopotentials by species."""
        species = self._find("atomic_species").findall("species")
        return {entry.attrib["name"]: str(entry.findtext("pseudo_file")).strip() for entry in species}

    def atoms(self) -> ase.Atoms:
        """The structure, periodic; a species such as Fe1 is its element."""
        structure = self._find("atomic_structure")
        cell = [[float(x) for x in structure.findtext(f"cell/a{i}").split()] for i in (1, 2, 3)]
        rows = structure.findall("atomic_positions/atom")
        symbols = [element_of(row.attrib["name"]) for row in rows]
        positions = [[float(x) for x in row.text.split()] for row in rows]
        return ase.Atoms(symbols, np.array(positions) * Bohr, cell=np.array(cell) * Bohr, pbc=True)

    @property
    def files_of_atoms(self) -> list[str]:
        """Name of the pseudopotential of each atom."""
        rows = self._find("atomic_structure").findall("atomic_positions/atom")
        return [self.files[row.attrib["name"]] for row in rows]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of pw.x's own grid for densities."""
        attributes = self._find("basis_set/fft_grid").attrib
        return int(attributes["nr1"]), int(attributes["nr2"]), int(attributes["nr3"])

    @property
    def n_electrons(self) -> float:
        """Number of valence electrons."""
        return float(self._find("band_structure/nelec").text)

    @property
    def is_norm_conserving(self) -> bool:
        """Whether no pseudopotential is ultrasoft or PAW."""
        info = self._find("algorithmic_info")
        return not any(str(info.findtext(name)).strip() == "true" for name in ("uspp", "paw"))

    @property
    def energy(self) -> float:
        """Total energy in Hartree."""
        return float(self._find("total_energy/etot").text)

    @property
    def iterations(self) -> int:
        """Self-consistency steps."""
        return int(self._find("convergence_info/scf_conv/n_scf_steps").text)

    @property
    def is_converged(self) -> bool:
        """Whether the calculation reached self-consistency."""
        return str(self._find("convergence_info/scf_conv/convergence_achieved").text).strip() == "true"

    @property
    def magnetic_moment(self) -> float:
        """Total moment of the cell in μ_B."""
        return float(self._find("magnetization/total").text)

    def density(self) -> PlaneWaves:
        """The density in the folder."""
        return PlaneWaves.read(self._density_file)

    @property
    def _density_file(self) -> Path:
        paths = [self.folder / name for name in DENSITY_FILES]
        return next((path for path in paths if path.exists()), paths[0])

    def write_density(self, density: PlaneWaves) -> None:
        """Replace the density, and remove the wave functions, which no longer belong to it."""
        density.write(self._density_file)
        for path in self.folder.glob("wfc*"):
            path.unlink()

    def kind_of(self, pseudo_dir: Path) -> dict[str, str]:
        """Name and md5 of the pseudopotential of each element."""
        return {element_of(species): identify(pseudo_dir / name) for species, name in self.files.items()}


def element_of(species: str) -> str:
    """The element of a species: Fe of Fe1, Fe_up or fe2."""
    letters = ""
    for letter in species[:2]:
        if not letter.isalpha():
            break
        letters += letter
    for symbol in (letters.capitalize(), letters[:1].upper()):
        if symbol in ase.data.atomic_numbers:
            return symbol
    raise ValueError(f"species {species!r} does not begin with the symbol of an element")


def identify(path: Path) -> str:
    """Name and md5 of a pseudopotential.

    Raises:
        FileNotFoundError: if there is no such file.
    """
    return f"{path.name} {hashlib.md5(path.read_bytes()).hexdigest()}"
