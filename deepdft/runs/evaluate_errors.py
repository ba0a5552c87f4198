"""deepdft-evaluate evaluation=errors: errors of a model against the densities of a store."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.table import Table

from deepdft.checkpoint import save_checkpoint
from deepdft.data.store import DensityStore
from deepdft.evaluation.ensemble import StructureSpread
from deepdft.evaluation.errors import StructureErrors, columns, write_csv
from deepdft.evaluation.parts import StructureRow
from deepdft.evaluation.pictures import calibration_picture, histogram, worst_pictures
from deepdft.evaluation.ranks import Ranks
from deepdft.evaluation.summary import calibrate, summarise, summary_table
from deepdft.measures import MEASURES, flatten
from deepdft.runs.data_checks import warn_of_free_atom_valences
from deepdft.runs.evaluated_model import EvaluatedModel, chosen_indices
from deepdft.runs.evaluation_settings import EvaluationSettings

__all__ = ["ErrorEvaluation"]


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
        """Draw the error of an ensemble over its spread; for validation structures, also write a calibrated model."""
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
