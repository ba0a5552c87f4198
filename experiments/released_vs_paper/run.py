"""Train the paper's SchNet, the released one and PaiNN on the same batches, and the steps between paper and release.

    python experiments/released_vs_paper/run.py QM9_SMALL_STORE QM9_STORE [WORK_FOLDER]

The stores are made by deepdft-convert, with their splits. Runs that are complete are not repeated, an interrupted one
is resumed. Results are written beside this file.
"""

from __future__ import annotations

import csv
import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import torch
from ase.build import molecule
from hybrid import Hybrid

from deepdft.graph.neighbors import atom_graph, probe_graph, structures_from_atoms
from deepdft.models.schnet import SchNet
from deepdft.models.schnet_released import SchNetReleased
from deepdft.plotting import learning_curves, save

HERE = Path(__file__).parent
MODELS = {"SchNet, paper": "schnet", "SchNet, released": "schnet_released", "PaiNN": "painn"}
SWITCHES = ("shifted", "open_filter", "state_gate", "late", "pair")
SETTINGS = [
    "data=qm9_demo",  # isolated molecules, split as stored
    "trainer=cpu",
    "loss=mse",
    "optimizer.lr=1e-3",
    "scheduler=warmup_cosine",
    "data.importance_fraction=0.0",
    "callbacks=default",
    "scheduler.warmup=0.0125",
    "trainer.gradient_clip_val=1.0",
    "trainer.val_check_interval=100",
    "data.validation_probes=2000",
    "callbacks.picture=null",
    "data.num_workers=0",
]
FULL_STEPS, SMALL_STEPS, SMALL_SIZE, SEEDS = 800, 800, 64, (0,)


def hybrid(**on: bool) -> list[str]:
    """Overrides for SchNet between paper and release, at the smaller size."""
    switches = {name: on.get(name, False) for name in SWITCHES}
    arguments = {"_target_": "hybrid.Hybrid", "hidden_size": SMALL_SIZE, "n_interactions": 6} | switches
    return ["~model", "+model={" + ",".join(f"{key}:{value}" for key, value in arguments.items()) + "}"]


def variants() -> dict[str, list[str]]:
    everything = dict.fromkeys(SWITCHES, True)
    named = {"paper": hybrid(), "released": hybrid(**everything)}
    named |= {f"paper + {name}": hybrid(**{name: True}) for name in SWITCHES}
    return named | {f"released - {name}": hybrid(**(everything | {name: False})) for name in SWITCHES}


def train_and_evaluate(name: str, store: Path, run: Path, overrides: list[str]) -> dict:
    """One run with its test errors; the result is kept in the run's folder."""
    result = run / "result.json"
    if not result.is_file():
        began = time.monotonic()
        environment = os.environ | {"PYTHONPATH": str(HERE)}
        deepdft = [sys.executable, "-m"]
        todo = [f"resume={run}"] if (run / "config.yaml").is_file() else [*SETTINGS, *overrides, f"hydra.run.dir={run}"]
        if not any(override.startswith("resume") for override in todo):
            todo.append(f"data.root={store}")
        subprocess.run([*deepdft, "deepdft.cli.train", *todo], check=True, env=environment)
        test = [
            f"checkpoint={run}",
            "data=qm9_demo",
            f"data.root={store}",
            f"output={run}/evaluate",
            "trusted=[hybrid]",
        ]
        subprocess.run([*deepdft, "deepdft.cli.evaluate", *test], check=True, env=environment)
        training = json.loads((run / "summary.json").read_text())
        errors = json.loads((run / "evaluate/summary.json").read_text())
        result.write_text(
            json.dumps(
                {
                    "name": name,
                    "eps_mae": errors["eps_mae"],
                    "steps": training["steps"],
                    "training_seconds": training["seconds"],
                    "all_seconds": round(time.monotonic() - began, 1),
                }
            )
        )
    return json.loads(result.read_text())


def curve(run: Path) -> tuple[list[int], list[float]]:
    with (run / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["val/eps_mae"]]
    return [int(row["step"]) + 1 for row in rows], [float(row["val/eps_mae"]) for row in rows]


def check_hybrid() -> None:
    """Its two ends are the two models; all between them have densities with derivatives."""
    sizes = {"hidden_size": 16, "n_interactions": 3}
    water = molecule("H2O")
    for switches in itertools.product((False, True), repeat=len(SWITCHES)):
        hybrid = Hybrid(**dict(zip(SWITCHES, switches, strict=True)), **sizes)
        structures = structures_from_atoms([water])
        points = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
        probes = probe_graph(structures, points, torch.zeros(100, dtype=torch.long), hybrid.probe_cutoff)
        graphs = atom_graph(structures, hybrid.cutoff), probes
        density = hybrid(*graphs)
        density.square().sum().backward()
        assert all(p.grad is not None for p in hybrid.probe_steps.parameters()), switches
        if len(set(switches)) == 1:
            other = (SchNetReleased if switches[0] else SchNet)(**sizes)
            other.load_state_dict(hybrid.state_dict())
            torch.testing.assert_close(density, other(*graphs), rtol=1e-5, atol=1e-7)


def main(small: Path, large: Path, work: Path) -> None:
    check_hybrid()
    results: dict[str, list[dict]] = {"qm9_small": [], "qm9": [], "variants": []}
    curves = {}
    for store_name, store in (("qm9_small", small), ("qm9", large)):
        for name, model in MODELS.items():
            run = work / store_name / model
            steps = [f"model={model}", f"trainer.max_steps={FULL_STEPS}"]
            results[store_name].append(train_and_evaluate(name, store, run, steps))
            curves[f"{name}, {store_name}"] = curve(run)
            report(results, curves)
    for name, overrides in variants().items():
        for seed in SEEDS:
            run = work / "variants" / f"{name.replace(' ', '_')}_{seed}"
            options = [*overrides, f"trainer.max_steps={SMALL_STEPS}", f"seed={seed}"]
            results["variants"].append(train_and_evaluate(name, small, run, options) | {"seed": seed})
            report(results, curves)


def report(results: dict[str, list[dict]], curves: dict[str, tuple[list[int], list[float]]]) -> None:
    (HERE / "results.json").write_text(json.dumps({"settings": SETTINGS, **results}, indent=2) + "\n")
    save(learning_curves(curves), HERE / "learning_curves.png")


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3] if len(sys.argv) == 4 else "runs/released_vs_paper"))
