"""Table 1 of the paper in small: mean and largest ε_mae on generated stores, beside sums of atoms.

    python experiments/table1_small/run.py STORES

STORES holds qm9_small, qm9_large, ec and nmc with their splits, as experiments/model_comparison/README.md makes them.
The models' errors are those of that study (`results.json` there); free and fitted atoms are evaluated here. Writes
table.md.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from deepdft.data.datamodule import DensityDataModule
from deepdft.evaluation.errors import evaluate
from deepdft.models.base import DensityModel
from deepdft.models.free_atoms import FreeAtoms
from deepdft.models.superposition import Superposition

HERE = Path(__file__).parent
# with periodic boundaries: False ignored, None as stored
STORES = {"qm9_small": False, "qm9_large": False, "ec": None, "nmc": None}
MODELS = ("schnet", "painn", "orbital")
STEPS = 100  # of 2 structures × 1000 points, that atoms are fitted to


def errors(model: DensityModel, data: DensityDataModule) -> dict[str, float]:
    """Mean and largest ε_mae in % on the test structures."""
    found = [row.eps_mae for row in evaluate(model.eval(), data.store, data.split.test, pbc=data.pbc)]
    return {"mean": sum(found) / len(found), "max": max(found)}


def main(stores: Path) -> None:
    trained = json.loads((HERE.parent / "model_comparison" / "results.json").read_text())
    columns: dict[str, dict[str, dict[str, float]]] = {}
    sizes = {}
    for name, pbc in STORES.items():
        data = DensityDataModule(stores / name, pbc=pbc, num_workers=0)
        data.setup("fit")
        sizes[name] = f"{len(data.split.train)} / {len(data.split.validation)} / {len(data.split.test)}"
        columns[name] = {
            "free atoms": errors(FreeAtoms(), data),
            "fitted atoms": errors(Superposition().fit(data.first_steps(STEPS)), data),
        }
        columns[name] |= {model: trained[f"sets/{name}-{model}"]["eps_mae"] for model in MODELS}
    lines = [f"| ε_mae mean / max, % | {' | '.join(STORES)} |", "|---" * (len(STORES) + 1) + "|"]
    lines += [f"| train / validation / test | {' | '.join(sizes.values())} |"]
    for row in ("free atoms", "fitted atoms", *MODELS):
        cells = [f"{columns[name][row]['mean']:.2f} / {columns[name][row]['max']:.2f}" for name in STORES]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    (HERE / "table.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
