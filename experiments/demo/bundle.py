"""Make the bundled stores with deepdft-generate: `qm9_demo`, and `qm9_demo_xc` with eight functionals.

    python experiments/demo/bundle.py [WORK_FOLDER]

Needs `make gpaw` and the package qm9pack; 15 minutes on one core. What is done in WORK_FOLDER (runs/bundle) is not done
again. The molecules are listed here by their numbers in QM9: at most 14 atoms of C, H, N and O in the functional groups
of the first hundred; the held-out ones are of kinds that the training set knows.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from deepdft import bundled
from deepdft.data.splits import SPLIT_FILE
from deepdft.data.store import DensityStore
from deepdft.runs.provenance import write_json

TRAIN = {
    1: "C", 2: "N", 3: "O", 5: "C#N", 6: "C=O", 8: "CO", 11: "CC=O", 12: "NC=O", 13: "CCC", 14: "CCO", 15: "COC",
    16: "C1CC1", 17: "C1CO1", 18: "CC(C)=O", 19: "CC(N)=O", 20: "NC(N)=O", 22: "CC(C)O", 29: "CC#CC", 31: "CCC#N",
    32: "NCC#N", 37: "COC=O", 39: "CCCC", 41: "CCOC", 42: "OCCO", 45: "CN1CC1", 47: "C1CCC1", 48: "C1COC1",
    49: "CC(C)=NO", 50: "pyrrole", 52: "furan", 53: "oxazole", 73: "CCC(N)=O",
}  # fmt: skip
VALIDATION = {35: "CCC=O", 36: "CNC=O", 43: "CC1CC1"}
TEST = {40: "CCCO", 51: "imidazole", 72: "CCC(C)=O", 74: "CNC(C)=O", 77: "COC(C)=O"}
SPLIT = {"train": TRAIN, "validation": VALIDATION, "test": TEST}
SPREAD = [40, 51, 77]  # of the test molecules, with all eight functionals

ACCURACY = 1e-4  # e/Å³, of the compression


def name(number: int) -> str:
    """Name of a molecule of the recipe."""
    return f"{number:06d}"


def generate(numbers: list[int], store: Path, *settings: str) -> DensityStore:
    """Calculate the densities of some molecules of QM9."""
    overrides = [
        "recipe=qm9",
        f"recipe.numbers={numbers}".replace(" ", ""),
        "compression=zfp",
        f"zfp_accuracy={ACCURACY}",
        f"output={store}",
    ]
    subprocess.run([sys.executable, "-m", "deepdft.cli.generate", *overrides, *settings], check=True)
    return DensityStore(store)


def install(store: DensityStore, parts: dict[str, list[int]]) -> None:
    """Replace the bundled store by a finished one, with its split; the README stays."""
    folder = Path(bundled.__file__).parent / store.root.name
    folder.mkdir(exist_ok=True)
    for old in [*folder.glob("shard-*.h5"), *folder.glob("*.json*")]:
        old.unlink()
    for file in store.root.iterdir():
        shutil.copy(file, folder)
    write_json(folder / SPLIT_FILE, {part: [name(number) for number in numbers] for part, numbers in parts.items()})
    size = sum(file.stat().st_size for file in folder.iterdir())
    raw = 4 * len(store.labels) * int(store.shapes.prod(axis=1).sum())
    print(json.dumps({"store": folder.name, "structures": len(store), "bytes": size, "of_float32": size / raw}))


def main(work: Path) -> None:
    split = {part: list(numbers) for part, numbers in SPLIT.items()}
    everything = sorted(number for numbers in split.values() for number in numbers)
    install(generate(everything, work / "qm9_demo"), split)
    install(generate(SPREAD, work / "qm9_demo_xc", "xc=all"), {"train": [], "validation": [], "test": SPREAD})


if __name__ == "__main__":
    if len(sys.argv) > 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1] if len(sys.argv) == 2 else "runs/bundle"))
