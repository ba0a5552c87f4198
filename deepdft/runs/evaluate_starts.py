"""deepdft-evaluate evaluation=scf_start: what self-consistency costs from a predicted density and from others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from rich.table import Table

from deepdft.data.store import DensityStore
from deepdft.dft.functionals import functionals
from deepdft.dft.quantum_espresso import QuantumEspresso
from deepdft.dft.start_comparison import STARTS, compare_starts
from deepdft.evaluation.ensemble import StructureSpread
from deepdft.evaluation.errors import StructureErrors
from deepdft.evaluation.ranks import Ranks
from deepdft.evaluation.starts import StructureStarts, starts_picture, starts_table, summarise_starts, write_starts
from deepdft.inference.predictor import Predictor
from deepdft.io.plausibility import formula_of
from deepdft.runs.evaluated_model import EvaluatedModel, chosen_indices
from deepdft.runs.evaluation_settings import EvaluationSettings
from deepdft.runs.rows import collect

__all__ = ["StartEvaluation"]


class StartEvaluation:
    """Calculations of a store's structures from several starting densities.

    Args:
        settings: with `root` and `dft` given.
        process_group: this process among all.

    Raises:
        ValueError: if the engine is not Quantum ESPRESSO, or does not converge far enough for the thresholds.
    """

    def __init__(self, settings: EvaluationSettings, process_group: Ranks) -> None:
        self.settings = settings
        self.subset = settings.subset or "test"
        self.thresholds = sorted(map(float, settings.thresholds), reverse=True)
        engine = instantiate(dict(settings.dft or {}), _convert_="all")
        if not isinstance(engine, QuantumEspresso):
            raise ValueError("evaluation=scf_start needs the settings of the calculations: give dft=qe")
        if engine.convergence > min(self.thresholds):
            raise ValueError(f"dft.convergence={engine.convergence:g}: expected the smallest of thresholds= or less")
        engine.check()
        self.engine = engine
        self.functional = functionals("PBE")[0]
        self.model = EvaluatedModel.load(settings, process_group)
        self.store = DensityStore(str(settings.root))
        self.indices = chosen_indices(settings, self.store, self.subset)[: settings.limit]
        self.starts: list[StructureStarts] = []

    @property
    def title(self) -> str:
        """Title of the figures: which structures are calculated."""
        subset = "" if self.subset == "all" else f"{self.subset} "
        return f"{subset}structures of {self.store.root.name}, pw.x"

    def run(self, process_group: Ranks, output: Path) -> int:
        """Calculate; returns the number of grid points of all structures."""
        identity = {
            "checkpoint": self.model.fingerprint,
            "data": self.store.fingerprint,
            "starts": list(self.settings.starts),
            "engine": self.engine.describe()["parameters"],
        }
        self.starts, n_points = collect(
            StructureStarts,
            self._row,
            self.indices,
            measure="saved",
            identity=identity,
            process_group=process_group,
            output=output,
        )
        return n_points

    def _row(self, index: int) -> StructureStarts:
        atoms = self.engine.frame(self.store.density(index).atoms)
        checkpoint = self.model.checkpoint
        predictor = Predictor(checkpoint.model, pbc=self.model.pbc, info=checkpoint.info)
        runs = compare_starts(atoms, self.functional, self.engine, predictor, self.settings.starts)
        nx, ny, nz = self.engine.shape(atoms)
        return StructureStarts(
            index=index,
            name=self.store.names[index],
            formula=formula_of(atoms),
            n_atoms=len(atoms),
            n_points=nx * ny * nz,
            n_electrons=runs[0].n_electrons,
            runs=[run.as_dict() for run in runs],
        )

    def rows(self) -> tuple[list[StructureErrors], list[StructureSpread]]:
        """Nothing: no densities are compared."""
        return [], []

    def summary(self) -> dict[str, Any]:
        """The content of summary.json: medians, paired savings, and the settings that all starts share."""
        return (
            summarise_starts(self.starts, self.thresholds)
            | {"meaning": {name: STARTS[name] for name in self.starts[0].by_start()}}
            | {"thresholds": self.thresholds, "subset": self.subset, "engine": self.engine.describe()["parameters"]}
            | {"engine_versions": self.engine.versions()}
            | {"data": {"root": str(self.store.root.resolve()), "fingerprint": self.store.fingerprint}}
            | self.model.summary()
        )

    def write(self, output: Path) -> list[str]:
        """starts.csv and starts.png; returns the names of the files."""
        write_starts(output / "starts.csv", self.starts, self.thresholds)
        title = f"{len(self.starts)} {self.title}"
        starts_picture(self.starts, self.thresholds, output / "starts.png", title=title)
        return ["starts.csv", "starts.png"]

    def table(self, summary: dict[str, Any]) -> Table:
        """The table that the terminal shows."""
        return starts_table(summary, title=self.title)

    def log(self, logger: Any, summary: dict[str, Any], output: Path) -> None:
        """Log medians and the picture."""
        medians = {
            f"starts/{name}/{quantity}_{threshold}": entry["median"]
            for name, by_threshold in summary["starts"].items()
            for threshold, entries in by_threshold.items()
            for quantity, entry in entries.items()
        }
        logger.log_metrics(medians)
        logger.log_image("starts", [str(output / "starts.png")])
