"""IRI and DORI of the water dimer and of imidazole, from a superposition of atoms and from a network.

    python experiments/fields/run.py CHECKPOINT [WORK_FOLDER]

Fits the superposition to the bundled molecules, predicts the dimer of S22 with it and with the checkpoint (a SchNet,
see the README), and imidazole, a held-out molecule, with the checkpoint; the pictures go beside this file.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

from ase.collections import s22
from PIL import Image

from deepdft import bundled
from deepdft.checkpoint import Checkpoint, save_checkpoint
from deepdft.data.datamodule import DensityDataModule
from deepdft.models.superposition import Superposition

HERE = Path(__file__).parent


def write_structures(data: DensityDataModule, work: Path) -> None:
    dimer = s22["Water_dimer"]
    dimer.pbc = False
    dimer.write(work / "water_dimer.xyz", plain=True)
    (imidazole,) = (index for index in data.split.test if data.store.formulas[index] == "C3H4N2")
    data.store.atoms(imidazole).write(work / "imidazole.xyz", plain=True)


def fit_superposition(data: DensityDataModule, path: Path) -> None:
    steps = len(data.split.train) // data.structures_per_step
    model = Superposition().fit(itertools.islice(data.train_dataloader(), steps))
    config = {"_target_": "deepdft.models.superposition.Superposition"}
    save_checkpoint(path, Checkpoint(model, config, pbc=False))


def predict(checkpoint: str | Path, structure: str, model: str, work: Path) -> None:
    name = f"{structure}_{model}"
    overrides = [f"checkpoint={checkpoint}", f"structure={work}/{structure}.xyz", f"output={work}/{name}.cube"]
    command = [sys.executable, "-m", "deepdft.cli.predict", *overrides, "spacing=0.3", "fields=[iri,dori]"]
    subprocess.run(command, check=True)
    for field in ("iri", "dori"):
        with Image.open(work / f"{name}_{field}.png") as picture:  # 128 colours: a third of the bytes
            picture.convert("RGB").quantize(128).save(HERE / f"{name}_{field}.png", optimize=True)


def main(checkpoint: str, work: Path) -> None:
    work.mkdir(parents=True, exist_ok=True)
    data = DensityDataModule(bundled.path("qm9_demo"), pbc=False, probes_per_structure=5000, num_workers=0)
    data.setup()
    write_structures(data, work)
    fit_superposition(data, work / "superposition.ckpt")
    predict(work / "superposition.ckpt", "water_dimer", "superposition", work)
    predict(checkpoint, "water_dimer", "schnet", work)
    predict(checkpoint, "imidazole", "schnet", work)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(sys.argv[1], Path(sys.argv[2] if len(sys.argv) == 3 else "runs/fields"))
