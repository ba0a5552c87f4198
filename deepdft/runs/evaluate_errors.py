"""deepdft-evaluate evaluation=errors: errors of a model against the densities of a store."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import ase
from ase.data import chemical_symbols
from rich.table import Table

from deepdft.checkpoint import Checkpoint, load_checkpoint, model_name, save_checkpoint
from deepdft.data.splits import load_split
from deepdft.data.store import DensityStore, elements_of
from deepdft.errors import InputWarning
from deepdft.evaluation.ensemble import StructureSpread
from deepdft.evaluation.errors import References, StructureErrors, columns, evaluate_structure, write_csv
from deepdft.evaluation.parts import StructureRow
from deepdft.evaluation.pictures import calibration_picture, histogram, worst_pictures
from deepdft.evaluation.ranks import Ranks
from deepdft.evaluation.summary import calibrate, electron_counts_that_differ, summarise, summary_table
from deepdft.inference.encoded import EncodedStructure
from deepdft.inference.predictor import choose_device
from deepdft.measures import MEASURES, flatten
from deepdft.runs.data_checks import warn_of_free_atom_valences
from deepdft.runs.evaluation_settings import PBC, EvaluationSettings
from deepdft.runs.rows import collect

__all__ = ["ErrorEvaluation", "EvaluatedModel", "chosen_indices", "warn"]


@dataclass(frozen=True)
class EvaluatedModel:
    """A model as it is evaluated."""

    checkpoint: Checkpoint
    """The model and what came with it."""
    pbc: bool | None
    """Periodic boundaries: None as stored, True forced on, False ignored."""

    @classmethod
    def load(cls, settings: EvaluationSettings, process_group: Ranks) -> EvaluatedModel:
        """The model that `checkpoint` names, on the device of this process."""
        device = choose_device(settings.device)
        if device.type == "cuda" and process_group.world_size > 1:
            device = choose_device(f"cuda:{process_group.local_rank}")
        checkpoint = load_checkpoint(str(settings.checkpoint), device=device, trusted=tuple(settings.trusted))
        pbc = checkpoint.pbc if settings.pbc is None else settings.pbc
        if process_group.rank == 0:
            trained = "as" if pbc == checkpoint.pbc else f"{PBC[checkpoint.pbc]} when"
            print(f"periodic boundaries {PBC[pbc]} ({trained} the model was trained)")
        return cls(checkpoint, pbc)

    @property
    def fingerprint(self) -> str:
        """sha256 of the model's config and weights, whatever file they came in."""
        digest = hashlib.sha256(json.dumps(self.checkpoint.config, sort_keys=True).encode())
        for name, weight in sorted(self.checkpoint.model.state_dict().items()):
            digest.update(name.encode())
            digest.update(weight.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def encode(self, atoms: ase.Atoms) -> EncodedStructure:
        """A structure, ready for any number of query points."""
        return EncodedStructure(self.checkpoint.model, atoms, pbc=self.pbc)

    def errors_in(self, references: References, *, label: str | None) -> Callable[[int], StructureErrors]:
        """What computes the errors of a structure among references."""
        return partial(evaluate_structure, self.checkpoint.model, references, pbc=self.pbc, label=label)

    def warn(self, rows: Sequence[StructureErrors], *, subset: str) -> None:
        """Say where figures are not those of unseen structures, or of elements that the model has learned."""
        trained_on = self._trained_on()
        seen = [row.name for row in rows if row.name in trained_on]
        if seen and subset != "train":
            warn(f"the model was trained on {len(seen)} of these {len(rows)} structures, e.g. {seen[0]}")
        known = self.checkpoint.info.get("elements")
        new = [] if known is None else sorted(set(elements_of(row.formula for row in rows)) - set(known))
        if new:
            names = ", ".join(chemical_symbols[number] for number in new)
            warn(f"the model has not been trained on {names}, which these structures contain")
        other_counts = electron_counts_that_differ(rows)
        if other_counts is not None:
            warn(other_counts)

    def _trained_on(self) -> set[str]:
        """Names of the structures that the model was trained on, where its run directory says so."""
        folder = Path(str(self.checkpoint.info.get("path"))).resolve().parent
        file = folder.parent / "split.json"
        in_run = folder.name == "checkpoints" and file.is_file()
        return set(json.loads(file.read_text())["train"]) if in_run else set()

    def summary(self, settings: EvaluationSettings) -> dict[str, Any]:
        """Which model it is."""
        path = Path(str(settings.checkpoint))  # there is no such file if it is the word for free atoms
        return {
            "checkpoint": str(settings.checkpoint),
            "checkpoint_file": str(path.resolve()) if path.exists() else None,
            "checkpoint_sha256": self.fingerprint,
            "model": model_name(self.checkpoint.config),
            "step": self.checkpoint.info.get("step"),
            "pbc": self.pbc,
            "device": str(next(self.checkpoint.model.parameters()).device),
        }


def chosen_indices(settings: EvaluationSettings, store: DensityStore, subset: str) -> list[int]:
    """The structures of a subset of a store.

    Raises:
        ValueError: if there are none.
    """
    if subset == "all":
        return list(range(len(store)))
    indices = list(getattr(load_split(settings.split, store), subset))
    if not indices:
        raise ValueError(f"{store.root}: the split has no {subset} structures; expected data.split or subset=all")
    return indices


def warn(text: str) -> None:
    """Warn of what makes the figures doubtful."""
    warnings.warn(text, InputWarning, stacklevel=3)


class ErrorEvaluation:
    """Errors of a model against the densities of a store.

    Args:
        settings: with `root` given.
        process_group: this process among all.
    """

    def __init__(self, settings: EvaluationSettings, process_group: Ranks) -> None:
        self.settings = settings
        self.subset = settings.subset or "test"
        self.model = EvaluatedModel.load(settings, process_group)
        self.store = DensityStore(str(settings.root))
        self.positions = chosen_indices(settings, self.store, self.subset)[: settings.limit]
        if process_group.rank == 0:
            model = self.model.checkpoint.model
            warn_of_free_atom_valences(model, self.store, self.positions, settings.label)
        self.errors: list[StructureErrors] = []

    @property
    def title(self) -> str:
        """What is evaluated, in words."""
        subset = "" if self.subset == "all" else f"{self.subset} "
        return f"{subset}structures of {self.store.root.name}"

    def run(self, process_group: Ranks, output: Path) -> int:
        """Predict and compare; returns the number of grid points predicted."""
        identity = {
            "checkpoint": self.model.fingerprint,
            "data": self.store.fingerprint,
            "subset": self.subset,
            "label": self.settings.label,
            "pbc": self.model.pbc,
            "matmul_precision": self.settings.matmul_precision,
            "measures": [measure.name for measure in MEASURES],
        }
        row = self.model.errors_in(self.store, label=self.settings.label)
        self.errors, n_points = collect(
            StructureErrors,
            row,
            self.positions,
            measure="eps_mae",
            identity=identity,
            process_group=process_group,
            output=output,
        )
        if process_group.rank == 0:
            self.model.warn(self.errors, subset=self.subset)
        return n_points

    def rows(self) -> tuple[list[StructureErrors], list[StructureSpread]]:
        """The model's errors and the spread of each structure."""
        return self.errors, []

    def summary(self) -> dict[str, Any]:
        """The figures with where they come from."""
        return (
            summarise(self.errors)
            | {"subset": self.subset, "label": self.settings.label}
            | {"data": {"root": str(self.store.root.resolve()), "fingerprint": self.store.fingerprint}}
            | self.model.summary(self.settings)
        )

    def write(self, output: Path) -> list[str]:
        """errors.csv and the pictures; returns the names of the files."""
        write_csv(output / "errors.csv", self.errors)
        histogram(self.errors, output / "histogram.png", title=f"{len(self.errors)} {self.title}")
        model = self.model.checkpoint.model
        references = partial(self.store.density, label=self.settings.label)
        pictures = worst_pictures(
            model, references, self.errors, output, pbc=self.model.pbc, at_most=self.settings.pictures
        )
        return ["errors.csv", "histogram.png", *pictures, *self._write_calibration(output)]

    def _write_calibration(self, output: Path) -> list[str]:
        """How the spread of an ensemble tells its error; on validation structures, a checkpoint with the factor too."""
        for name in ("calibration.png", "ensemble.ckpt"):
            (output / name).unlink(missing_ok=True)  # of an earlier evaluation, which may be of another model
        calibration = calibrate(self.errors)
        if calibration is None:
            return []
        calibration_picture(self.errors, output / "calibration.png", title=f"{len(self.errors)} {self.title}")
        if self.subset != "validation":
            return ["calibration.png"]
        checkpoint = self.model.checkpoint
        config = {**checkpoint.config, "spread_scale": calibration["spread_scale"]}
        save_checkpoint(output / "ensemble.ckpt", replace(checkpoint, config=config))
        return ["calibration.png", "ensemble.ckpt"]

    def table(self, summary: dict[str, Any]) -> Table:
        """The figures for the terminal."""
        return summary_table(summary, title=self.title)

    def log(self, logger: Any, summary: dict[str, Any], output: Path) -> None:
        """The summary, the table and the pictures, to W&B."""
        logger.log_hyperparams({key: summary[key] for key in ("checkpoint", "subset", "data", "pbc", "label")})
        logger.log_metrics({f"{self.subset}/{name}": value for name, value in flatten(summary, MEASURES).items()})
        table = StructureRow.columns(self.errors) | columns(self.errors)
        logger.log_table("errors", columns=list(table), data=[list(row) for row in zip(*table.values(), strict=True)])
        logger.log_image("histogram", [str(output / "histogram.png")])
        if "calibration" in summary:
            logger.log_image("calibration", [str(output / "calibration.png")])
        logger.log_image("worst", [str(path) for path in sorted(output.glob("worst*.png"))])
