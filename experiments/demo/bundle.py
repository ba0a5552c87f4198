"""Make the bundled store `qm9_demo` from a tar of small QM9 molecules.

    python experiments/demo/bundle.py qm9_small.tar [folder]

The molecules are listed here by hand: at most 14 atoms and grids of at most 118 000 points, C, H, N and O in the
functional groups of the first hundred QM9 molecules; left out are those where a grid point lies so close to a nucleus
that the electron count on the grid is more than 0.7 % off. The held-out ones are of kinds that the training set knows.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tarfile
import tempfile
from pathlib import Path

import numpy as np

from deepdft import metrics
from deepdft.cli.provenance import write_json
from deepdft.data.convert import convert
from deepdft.data.plan import make_plan
from deepdft.data.splits import SPLIT_FILE
from deepdft.data.store import DensityStore
from deepdft.data.store_writer import Compression
from deepdft.io import members

ACCURACY = 1e-4  # e/Å³
FOLDER = Path(__file__).parents[2] / "deepdft" / "bundled" / "qm9_demo"

TRAIN = {
    1: "C", 2: "N", 3: "O", 5: "C#N", 6: "C=O", 8: "CO", 11: "CC=O", 12: "NC=O", 13: "CCC", 14: "CCO", 15: "COC",
    16: "C1CC1", 17: "C1CO1", 18: "CC(C)=O", 19: "CC(N)=O", 20: "NC(N)=O", 22: "CC(C)O", 29: "CC#CC", 31: "CCC#N",
    32: "NCC#N", 37: "COC=O", 39: "CCCC", 41: "CCOC", 42: "OCCO", 45: "CN1CC1", 47: "C1CCC1", 48: "C1COC1",
    49: "CC(C)=NO", 50: "pyrrole", 52: "furan", 53: "oxazole", 73: "CCC(N)=O",
}  # fmt: skip
VALIDATION = {35: "CCC=O", 36: "CNC=O", 43: "CC1CC1"}
TEST = {40: "CCCO", 51: "imidazole", 72: "CCC(C)=O", 74: "CNC(C)=O", 77: "COC(C)=O"}
SPLIT = {"train": TRAIN, "validation": VALIDATION, "test": TEST}

ABOUT = {
    "sources": ["qm9_small.tar"],
    "files": [{"file": "qm9_small.tar", "chosen": "40 of its members, listed in experiments/demo/bundle.py"}],
    "method": "GPAW 26.7, PBE, plane waves PW(400), PAW, all-electron valence density, 3.5 Å vacuum",
    "citation": "QM9 geometries: Ramakrishnan et al., Sci. Data 1, 140022 (2014), doi:10.1038/sdata.2014.22",
    "command": ["python", "experiments/demo/bundle.py", "qm9_small.tar"],
}


def name(number: int) -> str:
    return f"{number:06d}_PE"


def subset(tar: Path, chosen: set[str], target: Path) -> None:
    """A tar with some members of another, in its order, as they are."""
    with tarfile.open(tar) as source, tarfile.open(target, "w") as small:
        for member in source:
            if member.name.split(".")[0] in chosen:
                small.addfile(member, source.extractfile(member))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tar", type=Path)
    parser.add_argument("folder", type=Path, nargs="?", default=FOLDER)
    arguments = parser.parse_args()
    split = {part: [name(number) for number in numbers] for part, numbers in SPLIT.items()}
    chosen = {one for names in split.values() for one in names}
    for old in [*arguments.folder.glob("shard-*.h5"), *arguments.folder.glob("*.json")]:
        old.unlink()
    with tempfile.TemporaryDirectory() as scratch:
        small = Path(scratch) / arguments.tar.name
        subset(arguments.tar, chosen, small)
        made = Path(scratch) / "store"
        plan = make_plan([small], compression=Compression("zfp", ACCURACY))
        store = convert(plan, made, workers=2, provenance=ABOUT)
        assert set(store.names) == chosen, f"missing: {sorted(chosen - set(store.names))}"
        arguments.folder.mkdir(parents=True, exist_ok=True)
        for file in made.iterdir():
            shutil.copy(file, arguments.folder)
        write_json(arguments.folder / SPLIT_FILE, split)
        report(DensityStore(arguments.folder), small)


def report(store: DensityStore, tar: Path) -> None:
    """Size, and what the compression changed."""
    errors, worst = [], 0.0
    for member in members(tar):
        reference = member.read().values
        stored = store.values(store.index_of(member.name.split(".")[0]))
        errors.append(metrics.eps_mae(stored, reference))
        worst = max(worst, float(np.abs(stored - reference).max()))
    size = sum(file.stat().st_size for file in store.root.iterdir())
    raw = 4 * int(store.shapes.prod(axis=1).sum())
    result = {"structures": len(store), "bytes": size, "of_float32": round(size / raw, 3)} | {
        "eps_of_compression_percent": {"mean": round(float(np.mean(errors)), 5), "max": round(max(errors), 5)},
        "max_error_e_per_A3": float(f"{worst:.2g}"),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
