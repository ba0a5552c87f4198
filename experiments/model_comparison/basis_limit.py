"""Is the orbital model limited by its basis or by its network? Coefficients of single structures, fitted directly.

    python experiments/model_comparison/basis_limit.py STORE RUN [N_STRUCTURES]

For test structures of a store the coefficients that a trained run (deepdft-train model=orbital) predicts are optimised
further on the structure's own density, with the loss of the training but no network. What remains is the limit of the
basis (or of this optimisation). Adds to basis_limit.json beside this file.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from deepdft import Predictor, metrics
from deepdft.data.splits import load_split
from deepdft.data.store import DensityStore
from deepdft.density import DensityGrid
from deepdft.graph.batch import Structures
from deepdft.graph.neighbors import atom_graph, probe_graph
from deepdft.models.orbital import Orbital, OrbitalStates

HERE = Path(__file__).parent
STEPS, POINTS, RATE = 1500, 2000, 1e-3


def fitted(model: Orbital, structures: Structures, density: DensityGrid) -> np.ndarray:
    """The density (nx, ny, nz) of coefficients that are optimised on it."""
    with torch.no_grad():
        encoded = model.encode(atom_graph(structures, model.cutoff))
    found = encoded.coefficients
    changes = torch.zeros_like(found.transpose(1, 2), memory_format=torch.contiguous_format).requires_grad_(True)

    def states() -> OrbitalStates:
        return replace(encoded, coefficients=found + model.basis.mixed(changes))

    rng = np.random.default_rng(0)
    optimizer = torch.optim.Adam([changes], lr=RATE)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    exact, points = density.values.ravel(), density.points()
    one_structure = torch.zeros(POINTS, dtype=torch.long)
    preferred = np.sqrt(np.abs(exact).astype(np.float64))
    probability = 0.5 / len(exact) + 0.5 * preferred / preferred.sum()
    for _ in range(STEPS):
        chosen = rng.choice(len(exact), POINTS, p=probability / probability.sum())
        weights = torch.from_numpy(1 / (len(exact) * probability[chosen])).float()
        probes = probe_graph(structures, torch.from_numpy(points[chosen]), one_structure, model.probe_cutoff)
        predicted = model.decode(states(), probes)
        loss = (weights * (predicted - torch.from_numpy(exact[chosen])).abs()).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay.step()
    with torch.no_grad():
        fitted_density = model.decode_points(states(), structures, torch.from_numpy(points))
    return fitted_density.numpy().reshape(density.shape)


def main(folder: Path, run: Path, count: int) -> None:
    torch.set_num_threads(1)
    store = DensityStore(folder)
    predictor = Predictor.from_checkpoint(run)
    assert isinstance(predictor.model, Orbital)
    path = HERE / "basis_limit.json"
    rows = json.loads(path.read_text()) if path.is_file() else {}
    for position in load_split(None, store).test[:count]:
        density = store.density(position)
        encoded = predictor.encode(density.atoms)
        network = encoded.total(density.points()).reshape(density.shape)
        best = fitted(predictor.model, encoded.structures, density)
        rows[store.names[position]] = {
            "formula": store.formulas[position],
            "network": round(float(metrics.eps_mae(network, density.values)), 4),
            "coefficients fitted": round(float(metrics.eps_mae(best, density.values)), 4),
        }
        print(store.names[position], rows[store.names[position]], flush=True)
        path.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) == 4 else 3)
