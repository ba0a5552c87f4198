"""How long reading and writing a density takes, as ratios to ASE; medians of interleaved repeats in one run."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import ase
import numpy as np
from ase.calculators.vasp import VaspChargeDensity
from ase.io.cube import read_cube

from deepdft import DensityGrid, read_density, write_density
from deepdft.io.compression import compress


def read_ase_cube(path: Path) -> None:
    with path.open() as file:
        read_cube(file)


def write_ase_chgcar(path: Path, density: DensityGrid) -> None:
    theirs = VaspChargeDensity(None)
    theirs.atoms, theirs.chg = [density.atoms], [density.values]
    theirs.write(str(path), format="chgcar")


def vasp_number(value: float) -> str:
    """A number as VASP writes it: " 0.12345678901E+02"."""
    digits = f"{value:.10E}"
    return f" 0.{digits[0]}{digits[2:12]}E{int(digits[13:]) + 1:+03d}"


def write_with(path: Path, density: DensityGrid, number: Callable[[float], str]) -> None:
    """A CHGCAR with numbers of a given form."""
    write_density(path, density)
    head = path.read_text().split("\n", 11 + len(density.atoms))[:-1]
    words = [number(x) for x in (density.values * density.atoms.cell.volume).ravel(order="F")]
    rows = ["".join(words[k : k + 5]) for k in range(0, len(words), 5)]
    path.write_text("\n".join(head[: head.index("") + 2] + rows) + "\n")


def cases(density: DensityGrid, folder: Path) -> dict[str, Callable[[], None]]:
    """The timed cases, on files with the numbers of VASP and of other programs."""
    write_with(folder / "CHGCAR", density, vasp_number)
    # numbers without a place for their sign: lines of many lengths
    signs = np.where(np.random.default_rng(1).random(density.shape) < 0.2, -1.0, 1.0)
    signed = DensityGrid(density.values * signs, density.atoms)
    write_with(folder / "signs.CHGCAR", signed, lambda value: f" {value:.5E}")
    for suffix in (".zz", ".lz4", ".gz"):
        (folder / f"CHGCAR{suffix}").write_bytes(compress((folder / "CHGCAR").read_bytes(), suffix))
    write_density(folder / "own.CHGCAR", density)
    for name in ("x.cube", "x.h5"):
        write_density(folder / name, density)
    return {
        "read CHGCAR, ASE": lambda: VaspChargeDensity(str(folder / "CHGCAR")),
        "read CHGCAR": lambda: read_density(folder / "CHGCAR"),
        "read CHGCAR that deepdft wrote": lambda: read_density(folder / "own.CHGCAR"),
        "read CHGCAR with signs and lines of many lengths": lambda: read_density(folder / "signs.CHGCAR"),
        "the same, ASE": lambda: VaspChargeDensity(str(folder / "signs.CHGCAR")),
        "read CHGCAR.zz": lambda: read_density(folder / "CHGCAR.zz"),
        "read CHGCAR.lz4": lambda: read_density(folder / "CHGCAR.lz4"),
        "read CHGCAR.gz": lambda: read_density(folder / "CHGCAR.gz"),
        "write CHGCAR, ASE": lambda: write_ase_chgcar(folder / "out.CHGCAR", density),
        "write CHGCAR": lambda: write_density(folder / "out.CHGCAR", density),
        "read cube, ASE": lambda: read_ase_cube(folder / "x.cube"),
        "read cube": lambda: read_density(folder / "x.cube"),
        "write cube": lambda: write_density(folder / "out.cube", density),
        "read HDF5": lambda: read_density(folder / "x.h5"),
        "write HDF5": lambda: write_density(folder / "out.h5", density),
    }


def some_density(n: int) -> DensityGrid:
    rng = np.random.default_rng(0)
    atoms = ase.Atoms("C8H10", scaled_positions=rng.random((18, 3)), cell=np.eye(3) * 10, pbc=True)
    return DensityGrid(rng.lognormal(-4, 4, (n, n, n)), atoms)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=100, help="grid points along each edge")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        timed = cases(some_density(arguments.points), Path(folder))
        seconds: dict[str, list[float]] = {name: [] for name in timed}
        for _ in range(arguments.repeats):  # interleaved, so that a busy moment affects all cases
            for name, action in timed.items():
                start = time.perf_counter()
                action()
                seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    results = {
        "points": arguments.points,
        "repeats": arguments.repeats,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "numpy": np.__version__,
        "ase": ase.__version__,
        "median_seconds": {name: round(value, 4) for name, value in medians.items()},
        "times_as_fast_as_ase": {
            kind: round(medians[f"{kind}, ASE"] / medians[kind], 2)
            for kind in ("read CHGCAR", "write CHGCAR", "read cube")
        },
    }
    (Path(__file__).parent / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    for name, value in medians.items():
        print(f"{name:50s} {value * 1e3:8.1f} ms")
    print(results["times_as_fast_as_ase"])


if __name__ == "__main__":
    main()
