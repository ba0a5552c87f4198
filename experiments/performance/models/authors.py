"""The authors' own code beside ours, with the same weights, on the same molecules.

    git clone https://github.com/peterbjorgensen/DeepDFT
    python experiments/performance/models/authors.py DeepDFT --store QM9_STORE [--repeats 5] [--threads 1]

Models and graphs are theirs; asap3, which is not needed for molecules, is replaced by the ASE neighbour list that they
fall back to, built before the clock starts. Timed are a training step (forward, backward, Adam) of 2 × 1000 probes and
the prediction of whole planes, 5000 points at a time with atoms encoded once. Writes authors.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import types
from pathlib import Path

import cases
import numpy as np
import torch
from run import check, medians

from deepdft import Predictor
from deepdft.data.datamodule import DensityDataModule
from deepdft.data.store import DensityStore
from deepdft.density import DensityGrid

SLICE = 5000
SIZES = {"schnet_released": 6, "painn": 3}  # model → interactions; 128 channels, 4 Å


class Theirs:
    """Their modules, and molecules as their models want them."""

    def __init__(self, checkout: Path) -> None:
        sys.path.insert(0, str(checkout))
        setattr(np, "int", int)  # noqa: B010  of numpy 1, which their dataset.py was written for
        sys.modules["asap3"] = types.ModuleType("asap3")
        import dataset
        import densitymodel

        sys.modules["asap3"].FullNeighborList = dataset.AseNeigborListWrapper
        self.dataset, self.densitymodel = dataset, densitymodel

    def model(self, name: str, weights: Path) -> torch.nn.Module:
        """Their model with random weights, which are saved with its arguments as a released folder."""
        torch.manual_seed(0)
        classes = {"painn": self.densitymodel.PainnDensityModel, "schnet_released": self.densitymodel.DensityModel}
        model = classes[name](SIZES[name], 128, 4.0)
        arguments = {"cutoff": 4.0, "num_interactions": SIZES[name], "node_size": 128, "ignore_pbc": True}
        (weights / "arguments.json").write_text(json.dumps(arguments | {"use_painn_model": name == "painn"}))
        torch.save({"model": model.state_dict()}, weights / "best_model.pth")
        return model

    def sample(self, density: DensityGrid) -> dict:
        atoms = density.atoms.copy()
        atoms.pbc = False
        grid = density.points().reshape(*density.shape, 3)
        return self.dataset.atoms_and_probe_sample_to_graph_dict(density.values, atoms, grid, 4.0, 1000)

    def batch(self, densities: list[DensityGrid]) -> dict:
        return self.dataset.collate_list_of_dicts([self.sample(density) for density in densities])

    def slices(self, density: DensityGrid, points: np.ndarray) -> tuple[dict, list[dict]]:
        """The atoms, and slices of points with their edges."""
        atoms = density.atoms.copy()
        atoms.pbc = False
        found = []
        for start in range(0, len(points), SLICE):
            part = points[start : start + SLICE]
            edges, shifts = self.dataset.probes_to_graph(atoms, part, 4.0)
            found.append(
                {
                    "probe_edges": torch.tensor(np.concatenate(edges)),
                    "probe_edges_displacement": torch.tensor(np.concatenate(shifts), dtype=torch.float32),
                    "probe_xyz": torch.tensor(part, dtype=torch.float32),
                }
            )
            found[-1]["num_probes"] = torch.tensor(len(part))
            found[-1]["num_probe_edges"] = torch.tensor(len(found[-1]["probe_edges"]))
        collated = [self.dataset.collate_list_of_dicts([part]) for part in found]
        return self.dataset.collate_list_of_dicts([self.dataset.atoms_to_graph_dict(atoms, 4.0)]), collated


def their_step(model: torch.nn.Module, batches: itertools.cycle) -> cases.Case:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-5)

    def step() -> None:
        batch = next(batches)
        loss = torch.nn.functional.mse_loss(model(batch), batch["probe_target"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def their_prediction(model: torch.nn.Module, atoms: dict, slices: list[dict]) -> cases.Case:
    @torch.no_grad()
    def predict() -> torch.Tensor:
        states = model.atom_model(atoms)
        states = states if isinstance(states, tuple) else (states,)
        return torch.cat([model.probe_model(atoms | part, *states)[0] for part in slices])

    return predict


def main(options: argparse.Namespace) -> None:
    torch.set_num_threads(options.threads)
    theirs = Theirs(options.checkout)
    store = DensityStore(options.store)
    data = DensityDataModule(store.root, pbc=False, num_workers=0)
    data.setup()
    density = cases.largest(store)
    points = cases.sample_of_planes(density)
    pairs = [[store.density(data.split.train[2 * n + k]) for k in (0, 1)] for n in range(6)]
    their_batches = [theirs.batch(pair) for pair in pairs]
    our_batches = [(batch, None, None) for batch in itertools.islice(data.train_dataloader(), 6)]
    atoms, slices = theirs.slices(density, points)
    timed, errors = {}, {}
    for name in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            model = theirs.model(name, Path(folder))
            ours = Predictor.from_checkpoint(folder, device="cpu").model
        predictions = their_prediction(model, atoms, slices), cases.prediction(ours, density, points)
        errors[name] = check(*(predict() for predict in predictions), name)
        ours.train().requires_grad_(True)
        timed[f"{name}, step"] = their_step(model, itertools.cycle(their_batches))
        timed[f"{name}, step: ours"] = cases.train_step(ours, itertools.cycle(our_batches))
        timed[f"{name}, prediction"], timed[f"{name}, prediction: ours"] = predictions
    schnet = cases.MODELS["schnet"]()
    timed["schnet, step: ours"] = cases.train_step(schnet, itertools.cycle(our_batches))
    timed["schnet, prediction: ours"] = cases.prediction(schnet, density, points)
    seconds = medians(timed, options.repeats, options.clock)
    yardstick = {"schnet": "schnet_released"}
    ratios = {
        f"{name}, {what}": round(seconds[f"{yardstick.get(name, name)}, {what}"] / seconds[f"{name}, {what}: ours"], 2)
        for name in ("schnet", "schnet_released", "painn")
        for what in ("step", "prediction")
    }
    results = {
        "threads": options.threads,
        "clock": options.clock,
        "points predicted": len(points),
        "seconds": {name: round(value, 4) for name, value in seconds.items()},
        "largest difference, of the largest density": errors,
        "times as fast as the authors' code": ratios,
    }
    path = Path(__file__).with_name("authors.json")
    known = json.loads(path.read_text()) if path.is_file() else {}
    known[f"{options.threads} threads"] = results
    path.write_text(json.dumps(known, indent=2) + "\n")
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    main(parser.parse_args())
