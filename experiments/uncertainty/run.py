"""Does the bundled model know how wrong it is, and what it does not know?

    python experiments/uncertainty/run.py WORK generate    # reference densities by GPAW: 20 minutes on two cores
    python experiments/uncertainty/run.py WORK bundle      # calibrate the bundled checkpoint, in place
    python experiments/uncertainty/run.py WORK measure     # results.json and the pictures beside this file

WORK holds the stores. `generate` needs `make gpaw` and the package qm9pack, the others qm9pack and RDKit.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import ase
import numpy as np
from ase.io import write
from matplotlib.figure import Figure
from scipy.stats import spearmanr
from structures import COMPARISON, crystals, foreign, listed_smiles, of_bundled, random_qm9, stretched_qm9

from deepdft import Predictor, bundled, plotting
from deepdft.checkpoint import add_info, load_checkpoint
from deepdft.data.store import Store
from deepdft.errors import InputWarning
from deepdft.evaluation.errors import evaluate
from deepdft.evaluation.trust_record import trust_record
from deepdft.inference.assessment import TRUST, Trust

HERE = Path(__file__).parent
BUNDLED_SPLIT = json.loads((COMPARISON / "splits/bundled.json").read_text())
GROUPS = {
    "random QM9, mostly nine heavy atoms": "qm9_large",
    "the first 103 of QM9": "qm9_small",
    "other molecules of the test set": "others",
    "new motifs": "motif",
    "stretched bonds": "stretched",
    "new elements": "element",
    "crystals": "crystals",
}


def generate(work: Path) -> None:
    """Reference densities of validation, test and foreign structures; what is there already is kept."""
    smiles = listed_smiles()
    for part in ("validation", "test"):
        names = BUNDLED_SPLIT[part]
        numbers = [int(name) for name in names if name.isdigit()]
        _generate("recipe=qm9", f"recipe.numbers={numbers}".replace(" ", ""), output=work / part / "qm9")
        listed = work / f"{part}.smi"
        listed.write_text("".join(f"{smiles[name]} {name}\n" for name in names if not name.isdigit()))
        _generate(f"structures={listed}", output=work / part / "listed")
    for name, structures, dft in (("foreign", foreign(), "gpaw_molecule"), ("crystals", crystals(), "gpaw_periodic")):
        folder = work / f"{name}_structures"
        folder.mkdir(exist_ok=True)
        for label, atoms in structures.items():
            write(folder / f"{label}.xyz", ase.Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc))
        _generate(f"structures={folder}", f"dft={dft}", output=work / name / "made")


def _generate(*overrides: str, output: Path) -> None:
    settings = ["cluster=none", "compression=zfp", f"output={output}"]
    subprocess.run([sys.executable, "-m", "deepdft.cli.generate", *overrides, *settings], check=True)


@dataclass(frozen=True)
class Row:
    """A structure with its true error and what is said of it."""

    name: str
    group: str
    eps_mae: float
    trust: Trust


def stores(folder: Path) -> Iterator[Store]:
    """All stores below a folder."""
    for index in sorted(folder.glob("*/index.json")):
        yield Store(index.parent)


def bundle(work: Path) -> None:
    """Calibrate the bundled model on its validation structures, and store the record in its file."""
    model = load_checkpoint(bundled.MODEL).model
    validation = [
        (store.atoms(row.index), row.eps_mae)
        for store in stores(work / "validation")
        for row in evaluate(model, store, range(len(store)), pbc=False)
    ]
    record = trust_record(model, list(of_bundled("train").values()), validation, pbc=False)
    assert record is not None
    add_info(bundled.MODEL, {TRUST: record})
    size = sum(rows.numel() * rows.element_size() for rows in (record["projection"], *record["references"].values()))
    print(json.dumps({"validation": len(validation), **record["expected"], "limit": record["limit"], "bytes": size}))


def group_of(name: str, folder: str) -> str:
    """Which of the groups a structure belongs to."""
    if folder != "test":
        return "crystals" if folder == "crystals" else name.split("-", maxsplit=1)[0]
    return "others" if not name.isdigit() else "qm9_small" if int(name) <= 103 else "qm9_large"


def rows(work: Path, predictor: Predictor) -> list[Row]:
    """True errors of all structures that were not trained on, and what the model says of them."""
    found = []
    for folder in ("test", "foreign", "crystals"):
        for store in stores(work / folder):
            for row in evaluate(predictor.model, store, range(len(store)), pbc=False):
                trust = predictor.trust(store.atoms(row.index))
                found.append(Row(row.name, group_of(row.name, folder), row.eps_mae, trust))
    return found


def statistics(members: Sequence[Row]) -> dict[str, float | int | None]:
    """Figures of a group of structures."""
    with_number = [row for row in members if row.trust.expected_eps_mae is not None]
    errors = np.array([row.eps_mae for row in with_number])
    expected = np.array([row.trust.expected_eps_mae for row in with_number], dtype=np.float64)
    factors = np.exp(np.abs(np.log(errors / expected)))
    return {
        "structures": len(members),
        "flagged": sum(row.trust.outside for row in members),
        "eps_mae_median": float(np.median([row.eps_mae for row in members])),
        "eps_mae_max": max(row.eps_mae for row in members),
        "with_number": len(with_number),
        "factor_median": float(np.median(factors)) if len(factors) else None,
        "within_factor_2": float((factors <= 2).mean()) if len(factors) else None,
        "rank_correlation": float(spearmanr(errors, expected).statistic) if len(factors) > 4 else None,
    }


def novelties(predictor: Predictor, structures: Mapping[str, ase.Atoms]) -> np.ndarray:
    """The largest novelty of an atom in each structure."""
    return np.array([float(np.max(predictor.trust(atoms).novelty)) for atoms in structures.values()])


def roc(inside: np.ndarray, outside: Mapping[str, np.ndarray]) -> tuple[Figure, dict[str, dict[str, float]]]:
    """Share of foreign structures that are flagged against that of the others, for all limits of novelty."""
    figure = Figure(figsize=(4.8, 4.4), layout="constrained")
    axes = figure.subplots()
    areas = {}
    for (label, scores), style in zip(outside.items(), ("-", "--", ":"), strict=False):
        limits = np.unique(np.concatenate([inside, scores, [np.inf]]))[::-1]
        false = [(inside >= limit).mean() for limit in limits]
        true = [(scores >= limit).mean() for limit in limits]
        area = float(np.mean([(score > inside).mean() + 0.5 * (score == inside).mean() for score in scores]))
        areas[label] = {"structures": len(scores), "area": area, "flagged": float((scores > 1).mean())}
        axes.step([0, *false], [0, *true], style, where="post", label=f"{label} ({len(scores)}): area {area:.3f}")
        axes.plot((inside > 1).mean(), (scores > 1).mean(), "o", color="black", markersize=4)
    axes.set(xlabel=f"share of {len(inside)} random QM9 molecules that are flagged", ylabel="share of these flagged")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), title="Points: the limit of the checkpoint")
    axes.legend(frameon=False, loc="lower right", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, areas


def measure(work: Path) -> None:
    """results.json, calibration.png and roc.png."""
    predictor = Predictor.from_checkpoint(bundled.MODEL, allow_unknown=True)
    found = rows(work, predictor)
    groups = {label: statistics([row for row in found if row.group == group]) for label, group in GROUPS.items()}
    test = [row for row in found if row.group in ("qm9_large", "qm9_small", "others")]
    numbered = [row for row in found if row.trust.expected_eps_mae is not None]
    figure = plotting.calibration(
        [row.trust.expected_eps_mae for row in numbered],
        [row.eps_mae for row in numbered],
        [row.name for row in numbered],
        title=f"bundled model, {len(numbered)} of {len(found)} structures not flagged",
        named=4,
    )
    plotting.save(figure, HERE / "calibration.png")
    inside = novelties(predictor, random_qm9())
    motifs = {name: atoms for name, atoms in foreign().items() if name.startswith("motif")}
    known = {name: atoms for name, atoms in crystals().items() if name != "rock-salt"}
    outside = {
        "one bond stretched by 30 to 60 %": novelties(predictor, stretched_qm9()),
        "new motifs": novelties(predictor, motifs),
        "crystals of known elements": novelties(predictor, known),
    }
    figure, areas = roc(inside, outside)
    plotting.save(figure, HERE / "roc.png")
    results = {
        "groups": groups,
        "all of the test set": statistics(test),
        "random QM9": {"structures": len(inside), "flagged": float((inside > 1).mean())},
        "foreign": areas,
        "structures": [
            {
                "name": row.name,
                "group": row.group,
                "eps_mae": round(row.eps_mae, 3),
                "largest_novelty": None if np.isinf(top := float(np.max(row.trust.novelty))) else round(top, 2),
                "words": row.trust.words,
            }
            for row in sorted(found, key=lambda row: row.eps_mae)
        ],
    }
    (HERE / "results.json").write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    for label, figures in {**groups, "all of the test set": results["all of the test set"]}.items():
        print(label, json.dumps(figures))
    print(json.dumps({"random QM9": results["random QM9"], **areas}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("part", choices=("generate", "bundle", "measure"))
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore", InputWarning)  # new elements, crystals without periodic boundaries
    {"generate": generate, "bundle": bundle, "measure": measure}[options.part](options.work.resolve())


if __name__ == "__main__":
    main()
