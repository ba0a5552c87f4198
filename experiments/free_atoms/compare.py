"""Errors of free atoms and of atoms fitted to the training structures, on the test structures of any store.

python experiments/free_atoms/compare.py STORE [pbc=false] [limit=N]
"""

import sys

import numpy as np

from deepdft.data.datamodule import DensityDataModule
from deepdft.evaluation.errors import evaluate
from deepdft.models.base import DensityModel
from deepdft.models.free_atoms import FreeAtoms
from deepdft.models.superposition import Superposition

STEPS = 100  # steps of 2 structures × 1000 points to which the atoms are fitted


def row(name: str, model: DensityModel, data: DensityDataModule, limit: int | None) -> str:
    """A line of the table."""
    errors = list(evaluate(model.eval(), data.store, data.split.test[:limit], pbc=data.pbc))
    eps = np.array([error.eps_mae for error in errors])
    electrons = np.mean([error["electron_error"] / error.n_electrons for error in errors])
    return (
        f"| {name} | {model.cutoff:g} | {eps.mean():.2f} | {np.median(eps):.2f} | {eps.max():.2f} | "
        f"{100 * electrons:+.2f} | {len(errors)} |"
    )


def main() -> None:
    """Print a Markdown table."""
    settings = dict(argument.split("=") for argument in sys.argv[2:])
    limit = int(settings["limit"]) if "limit" in settings else None
    pbc = {"false": False, "true": True}.get(settings.get("pbc", ""))  # otherwise as stored
    data = DensityDataModule(sys.argv[1], pbc=pbc, num_workers=0)
    data.setup("fit")
    print("| atoms | cutoff, Å | ε_mae mean, % | median | max | electrons, % | structures |")
    print("|---|---|---|---|---|---|---|")
    print(row("free", FreeAtoms(), data, limit))
    print(row("free, at the models' cutoff", FreeAtoms(cutoff=4.0), data, limit))
    print(row("fitted", Superposition().fit(data.first_steps(STEPS)), data, limit))


if __name__ == "__main__":
    main()
