"""deepdft-evaluate evaluation=errors: errors of a model against the densities of a store."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.table import Table

from deepdft.checkpoint import Checkpoint, save_checkpoint
from deepdft.data.splits import load_split
from deepdft.data.store import DensityStore
from deepdft.evaluation.ensemble import StructureSpread
from deepdft.evaluation.errors import StructureErrors, columns, write_csv
from deepdft.evaluation.parts import StructureRow
from deepdft.evaluation.pictures import calibration_picture, histogram, worst_pictures
from deepdft.evaluation.ranks import Ranks
from deepdft.evaluation.summary import calibrate, summarise, summary_table
from deepdft.evaluation.trust_record import covering_indices, trust_record
from deepdft.inference.assessment import TRUST
from deepdft.measures import MEASURES, flatten
from deepdft.runs.data_checks import warn_of_free_atom_valences
from deepdft.runs.evaluate_on_cluster import errors_on_cluster
from deepdft.runs.evaluated_model import EvaluatedModel, chosen_indices
from deepdft.runs.evaluation_settings import EvaluationSettings

__all__ = ["ErrorEvaluation"]

CALIBRATED = "calibrated.ckpt"
"""The evaluated model, calibrated on the validation structures."""


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
        self.indices = chosen_indices(settings, self.store, self.subset)[: settings.limit]
        if process_group.rank == 0:
            model = self.model.checkpoint.model
            warn_of_free_atom_valences(model, self.store, self.indices, settings.label)
        self.errors: list[StructureErrors] = []

    @property
    def title(self) -> str:
        """Title of the figures: which structures are evaluated."""
        subset = "" if self.subset == "all" else f"{self.subset} "
        return f"{subset}structures of {self.store.root.name}"

    def run(self, process_group: Ranks, output: Path) -> int:
        """Predict and compare; returns the number of grid points predicted."""
        label = self.settings.label
        self.errors, n_points = self.model.errors(
            self.store,
            self.indices,
            label=label,
            subset=self.subset,
            identity={"data": self.store.fingerprint, "subset": self.subset, "label": label},
            process_group=process_group,
            output=output,
            run=None
            if (cluster := self.settings.cluster) is None
            else partial(errors_on_cluster, self.settings, cluster),
        )
        return n_points

    def rows(self) -> tuple[list[StructureErrors], list[StructureSpread]]:
        """The model's errors and the spread of each structure."""
        return self.errors, []

    def summary(self) -> dict[str, Any]:
        """The content of summary.json: the figures and their provenance."""
        return (
            summarise(self.errors)
            | {"subset": self.subset, "label": self.settings.label}
            | {"data": {"root": str(self.store.root.resolve()), "fingerprint": self.store.fingerprint}}
            | self.model.summary()
        )

    def write(self, output: Path) -> list[str]:
        """Write errors.csv and the pictures; returns the names of the files."""
        write_csv(output / "errors.csv", self.errors)
        histogram(self.errors, output / "histogram.png", title=f"{len(self.errors)} {self.title}")
        model = self.model.checkpoint.model
        references = partial(self.store.density, label=self.settings.label)
        pictures = worst_pictures(
            model, references, self.errors, output, pbc=self.model.pbc, at_most=self.settings.pictures
        )
        return ["errors.csv", "histogram.png", *pictures, *self._write_calibration(output)]

    def _write_calibration(self, output: Path) -> list[str]:
        """Draw true over expected errors; for validation structures, also write a calibrated model."""
        for name in ("calibration.png", CALIBRATED):
            (output / name).unlink(missing_ok=True)  # of an earlier evaluation, which may be of another model
        title = f"{len(self.errors)} {self.title}"
        files = ["calibration.png"] if calibration_picture(self.errors, output / "calibration.png", title=title) else []
        checkpoint = self._calibrated() if self.subset == "validation" else None
        if checkpoint is not None:
            save_checkpoint(output / CALIBRATED, checkpoint)
            files.append(CALIBRATED)
        return files

    def _calibrated(self) -> Checkpoint | None:
        """The checkpoint with a trust record and, of an ensemble, a factor of its spread; None where neither can be."""
        checkpoint, pbc = self.model.checkpoint, self.model.pbc
        calibration = calibrate(self.errors)
        scale = None if calibration is None else calibration["spread_scale"]
        config = checkpoint.config if scale is None else {**checkpoint.config, "spread_scale": scale}
        indices = load_split(self.settings.split, self.store).train
        training = [self.store.atoms(index) for index in covering_indices(self.store, indices)]
        validation = [(self.store.atoms(row.index), row.eps_mae) for row in self.errors]
        record = trust_record(checkpoint.model, training, validation, pbc=pbc) if training else None
        if record is None and scale is None:
            return None
        info = checkpoint.info if record is None else {**checkpoint.info, TRUST: record}
        return replace(checkpoint, config=config, info=info)

    def table(self, summary: dict[str, Any]) -> Table:
        """The table that the terminal shows."""
        return summary_table(summary, title=self.title)

    def log(self, logger: Any, summary: dict[str, Any], output: Path) -> None:
        """Log the summary, the table and the pictures."""
        logger.log_hyperparams({key: summary[key] for key in ("checkpoint", "subset", "data", "pbc", "label")})
        logger.log_metrics({f"{self.subset}/{name}": value for name, value in flatten(summary, MEASURES).items()})
        table = StructureRow.columns(self.errors) | columns(self.errors)
        logger.log_table("errors", columns=list(table), data=[list(row) for row in zip(*table.values(), strict=True)])
        logger.log_image("histogram", [str(output / "histogram.png")])
        if "calibration" in summary:
            logger.log_image("calibration", [str(output / "calibration.png")])
        logger.log_image("worst", [str(path) for path in sorted(output.glob("worst*.png"))])
