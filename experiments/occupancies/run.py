"""PAW occupancies of liquid water learned beside its density. Writes results.json and the pictures of this folder.

python experiments/occupancies/run.py FOLDER [--steps 1500] (some 25 minutes on one core)

FOLDER holds water_0.npz … water_7.npz, eight cells of 16 H2O calculated with VASP, from the examples of EAC-Net (MIT
licence); the density is known at 5000 points of each.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from deepdft.data.datamodule import Sample, collate
from deepdft.graph.batch import Batch
from deepdft.models.base import DensityModel
from deepdft.models.orbital import Orbital
from deepdft.models.painn import PaiNN
from deepdft.models.with_occupancies import WithOccupancies
from deepdft.nn.occupancies import degrees_of_pairs
from deepdft.training.module import DensityModule
from deepdft.training.schedules import warmup_cosine

HERE = Path(__file__).parent
N_CELLS = 8
POINTS = 1000  # per step
WAVES = {"O": "sspp", "H": "ssp"}
NUMBERS = {"O": 8, "H": 1}
WRONG = {
    "p before s": ({"O": "ppss", "H": "pss"}, False),
    "x, y, z in place of y, z, x": (WAVES, True),
}
MODELS: dict[str, Callable[[], DensityModel]] = {"orbital": Orbital, "painn": PaiNN}
LEARNING_RATE = {"orbital": 3e-3, "painn": 1e-3}
Array = NDArray[np.float64]


class Cells(Dataset[Sample]):
    """Steps of a training: one cell in turn with random points."""

    def __init__(self, cells: list[Sample], n_steps: int) -> None:
        self.cells, self.n_steps = cells, n_steps

    def __len__(self) -> int:
        """Number of steps."""
        return self.n_steps

    def __getitem__(self, step: int) -> Sample:
        """The cell of a step, with its points."""
        cell = self.cells[step % len(self.cells)]
        chosen = np.random.default_rng([0, step]).integers(len(cell["points"]), size=POINTS)
        return cell | {key: cell[key][chosen] for key in ("points", "targets")}


def read(folder: Path) -> list[Sample]:
    """The eight cells, with 48 atoms and 5000 points each."""
    cells = []
    for i in range(N_CELLS):
        with np.load(folder / f"water_{i}.npz") as file:
            rows = file["occupancies"].astype(np.float64)
            for row, count in zip(rows, file["n_occupancies"], strict=True):
                row[count:] = np.nan
            cells.append(
                {key: file[key] for key in ("numbers", "positions", "cell", "points")}
                | {"pbc": np.ones(3, dtype=bool), "targets": file["density"][:, None], "occupancies": rows[:, None]}
            )
    return cells


def reordered(cell: Sample, waves: Mapping[str, str]) -> Sample:
    """The cell with the components of degree 1 in another order: what a wrong reading of the file would be."""
    rows = cell["occupancies"].copy()
    for symbol, number in NUMBERS.items():
        first = 0
        for degree in degrees_of_pairs(waves[symbol]):
            if degree == 1:
                own = np.ix_(cell["numbers"] == number, [0], [first, first + 1, first + 2])
                rows[own] = rows[own][:, :, [1, 2, 0]]
            first += 2 * degree + 1
    return cell | {"occupancies": rows}


def trained(
    name: str, cells: list[Sample], n_steps: int, *, waves: Mapping[str, str] | None = WAVES
) -> tuple[DensityModel, float]:
    """A model trained on some cells, with occupancies if there are partial waves, and the CPU seconds that it took."""
    torch.manual_seed(0)
    model = MODELS[name]() if waves is None else WithOccupancies(MODELS[name](), waves)
    model.prepare([collate([cell]) for cell in cells])
    module = DensityModule(
        model,
        model_config={},
        optimizer=partial(torch.optim.Adam, lr=LEARNING_RATE[name]),
        scheduler=partial(warmup_cosine, total=n_steps, warmup=0.05, final=0.0),
        loss="l1",
    )
    began = time.process_time()
    trainer = pl.Trainer(
        max_steps=n_steps,
        accelerator="cpu",
        gradient_clip_val=1.0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(Cells(cells, n_steps), batch_size=1, collate_fn=collate))
    return model.eval(), time.process_time() - began


@torch.no_grad()
def predicted(model: DensityModel, batch: Batch) -> tuple[Array, Array | None]:
    """Density (n_points,) and occupancies (n_atoms, width) of a cell."""
    module = DensityModule(model, model_config={}, optimizer=torch.optim.Adam, scheduler=lambda _: None)  # type: ignore[arg-type,return-value]
    density, occupancies = module(batch)
    return density[:, 0].double().numpy(), None if occupancies is None else occupancies.values[:, 0].double().numpy()


def errors(found: Array, exact: Array) -> float:
    """Root mean square error in % of the deviations of each number from its mean over the atoms."""
    return float(100 * (np.square(found - exact).sum() / np.square(exact - exact.mean(axis=0)).sum()) ** 0.5)


def measured(model: DensityModel, cell: Sample, waves: Mapping[str, str]) -> dict[str, Any]:
    """Errors of a cell that the model was not trained on, for each element and each degree."""
    density, occupancies = predicted(model, collate([cell]))
    exact = cell["targets"][:, 0]
    found: dict[str, Any] = {"eps_mae": float(100 * np.abs(density - exact).sum() / np.abs(exact).sum())}
    if occupancies is None:
        return found
    for symbol, number in NUMBERS.items():
        own = cell["numbers"] == number
        degrees = np.concatenate([np.full(2 * degree + 1, degree) for degree in degrees_of_pairs(waves[symbol])])
        a, b = occupancies[own, : len(degrees)], cell["occupancies"][own, 0, : len(degrees)]
        found[symbol] = errors(a, b)
        found[f"{symbol} by degree"] = {
            str(degree): errors(a[:, degrees == degree], b[:, degrees == degree]) for degree in sorted(set(degrees))
        }
    return found


def scatter(pairs: Mapping[str, tuple[Array, Array]], path: Path) -> None:
    """Predicted over exact occupancies of each element, in units of the largest."""
    figure = Figure(figsize=(7.2, 3.7), layout="constrained")
    for axes, (symbol, (found, exact)) in zip(figure.subplots(1, len(pairs)), pairs.items(), strict=True):
        degrees = np.concatenate([np.full(2 * degree + 1, degree) for degree in degrees_of_pairs(WAVES[symbol])])
        low, high = exact.min() - 0.1, exact.max() + 0.1
        axes.plot([low, high], [low, high], color="0.7", linewidth=0.8, zorder=0)
        for degree, colour in zip((0, 1, 2), ("#1b6ca8", "#d1495b", "#66a182"), strict=True):
            own = degrees == degree
            axes.plot(exact[:, own].ravel(), found[:, own].ravel(), ".", ms=3, color=colour, label=f"degree {degree}")
        axes.set(xlabel="VASP", ylabel="predicted", xlim=(low, high), ylim=(low, high), aspect="equal")
        axes.set_title(f"{symbol}: {found.shape[0]} atoms, {found.shape[1]} occupancies each", fontsize=9)
    axes.legend(frameon=False, fontsize=8, markerscale=2)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Run what results.json does not have yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=1500)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cells, n_steps = read(arguments.folder), arguments.steps
    file = HERE / "results.json"
    results: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    pairs: dict[str, list[tuple[Array, Array]]] = {symbol: [] for symbol in NUMBERS}

    def train_on_others(name: str, test: int, waves: Mapping[str, str] | None, order: bool) -> DensityModel | None:
        kind = "density alone" if waves is None else next((k for k, v in WRONG.items() if v == (waves, order)), "")
        key = ", ".join(filter(None, (name, f"cell {test}", kind)))
        if key in results:
            return None
        used = [reordered(cell, WAVES) if order else cell for cell in cells]
        model, seconds = trained(name, used[:test] + used[test + 1 :], n_steps, waves=waves)
        results[key] = {"cpu_seconds": round(seconds)} | measured(model, used[test], waves or WAVES)
        file.write_text(json.dumps(results, indent=1) + "\n")
        print(key, json.dumps(results[key]), flush=True)
        return model

    for test in range(N_CELLS):
        model = train_on_others("orbital", test, WAVES, False)
        if model is not None:
            _, occupancies = predicted(model, collate([cells[test]]))
            for symbol, number in NUMBERS.items():
                own, width = cells[test]["numbers"] == number, sum(2 * d + 1 for d in degrees_of_pairs(WAVES[symbol]))
                assert occupancies is not None
                pairs[symbol].append((occupancies[own, :width], cells[test]["occupancies"][own, 0, :width]))
    for test in range(2):
        train_on_others("orbital", test, None, False)
        train_on_others("painn", test, WAVES, False)
    for waves, order in WRONG.values():
        train_on_others("orbital", 0, waves, order)
    if pairs["O"]:
        joined = {
            symbol: (np.concatenate([a for a, _ in own]), np.concatenate([b for _, b in own]))
            for symbol, own in pairs.items()
        }
        scatter(joined, HERE / "occupancies.png")


if __name__ == "__main__":
    main()
