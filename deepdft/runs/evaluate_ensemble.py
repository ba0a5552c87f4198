"""deepdft-evaluate evaluation=xc_ensemble: the spread of densities over functionals, beside a model's errors."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from rich.table import Table

from deepdft.data.store import DensityStore
from deepdft.evaluation.ensemble import StructureSpread, reference_label, structure_spread, write_csv
from deepdft.evaluation.ensemble_sources import Ensemble, FileEnsemble, StoreEnsemble, open_densities
from deepdft.evaluation.errors import StructureErrors
from deepdft.evaluation.pictures import remove_worst_pictures, spread_histogram, spread_picture, worst_pictures
from deepdft.evaluation.ranks import Ranks
from deepdft.evaluation.summary import share_below, summarise, summarise_spread, summary_table
from deepdft.measures import EPS_MAD, MEASURES, flatten
from deepdft.runs.evaluated_model import EvaluatedModel, chosen_indices, warn
from deepdft.runs.evaluation_settings import EvaluationSettings
from deepdft.runs.rows import collect

__all__ = ["EnsembleEvaluation"]

SAME_ELECTRONS = 0.005
"""Largest relative difference between the electron counts of densities of one kind."""


class EnsembleEvaluation:
    """The spread of K densities of each structure and, with a checkpoint, the model's errors for the same structures.

    Args:
        settings: with `root` or `densities` given.
        process_group: this process among all.
    """

    def __init__(self, settings: EvaluationSettings, process_group: Ranks) -> None:
        self.settings = settings
        self.subset = settings.subset or "all"
        self.ensemble = _ensemble(settings)
        self.reference = reference_label(self.ensemble.labels, settings.reference)
        self.indices = _indices(settings, self.ensemble, self.reference, self.subset)[: settings.limit]
        self.model = EvaluatedModel.load(settings, process_group) if settings.checkpoint is not None else None
        self.spreads: list[StructureSpread] = []
        self.errors: list[StructureErrors] | None = None
        if process_group.rank == 0 and self.ensemble.incomplete:
            warn(
                f"{len(self.ensemble.incomplete)} structures lack some of the densities and are left out, "
                f"e.g. {self.ensemble.incomplete[0]}"
            )

    @property
    def title(self) -> str:
        """Title of the figures: which structures are evaluated, with how many densities each."""
        subset = "" if self.subset == "all" else f"{self.subset} "
        of = "" if self.settings.densities is not None else f" of {Path(str(self.settings.root)).name}"
        return f"{subset}structures{of}, {len(self.ensemble.labels)} densities each"

    def run(self, process_group: Ranks, output: Path) -> int:
        """Measure the spread, then predict; returns the number of grid points processed."""
        identity: dict[str, Any] = {"data": self.ensemble.fingerprint, "reference": self.reference}
        self.spreads, n_points = collect(
            StructureSpread,
            self._spread,
            self.indices,
            measure="eps_mad",
            identity=identity,
            process_group=process_group,
            output=output,
        )
        if self.model is not None:
            self.errors, n_predicted = self.model.errors(
                self.ensemble,
                self.indices,
                label=self.reference,
                subset=self.subset,
                identity=identity,
                process_group=process_group,
                output=output,
            )
            n_points += n_predicted
        if process_group.rank == 0:
            _warn_of_electrons(self.spreads)
        return n_points

    def _spread(self, index: int) -> StructureSpread:
        return structure_spread(self.ensemble.structure(index), self.reference, index=index)

    def rows(self) -> tuple[list[StructureErrors], list[StructureSpread]]:
        """The model's errors and the spread of each structure."""
        return self.errors or [], self.spreads

    def summary(self) -> dict[str, Any]:
        """The content of summary.json: the figures and their provenance."""
        data: dict[str, Any] = {"fingerprint": self.ensemble.fingerprint}
        if self.settings.densities is None:
            data["root"] = str(Path(str(self.settings.root)).resolve())
        else:
            data["densities"] = list(self.settings.densities)
        summary: dict[str, Any] = {"subset": self.subset, "data": data, "incomplete": self.ensemble.incomplete}
        if self.model is not None and self.errors is not None:
            summary |= {"share_below_spread": share_below(self.errors, self.spreads)}
            summary |= summarise(self.errors) | self.model.summary()
        return summarise_spread(self.spreads, reference=self.reference) | summary

    def write(self, output: Path) -> list[str]:
        """Write errors.csv and the pictures; returns the names of the files."""
        write_csv(output / "errors.csv", self.spreads, self.errors)
        title = f"{len(self.spreads)} {self.title}"
        spread_histogram(self.spreads, self.errors, output / "histogram.png", title=title)
        self._draw_widest(output / "spread.png")
        written = ["errors.csv", "histogram.png", "spread.png"]
        if self.model is None or self.errors is None:
            remove_worst_pictures(output)
        else:
            model = self.model.checkpoint.model
            references = partial(self.ensemble.density, label=self.reference)
            written += worst_pictures(
                model, references, self.errors, output, pbc=self.model.pbc, at_most=self.settings.pictures
            )
        return written

    def _draw_widest(self, path: Path) -> None:
        """Draw where the densities of the structure with the widest spread differ, and the model's error there."""
        widest = max(self.spreads, key=lambda row: row.eps_mad)
        reference = self.ensemble.density(widest.index, label=self.reference)
        predict = None if self.model is None else self.model.encode(reference.atoms).total
        spread_picture(self.ensemble.structure(widest.index), reference, widest, path, predict=predict)

    def table(self, summary: dict[str, Any]) -> Table:
        """The table that the terminal shows."""
        return summary_table(summary, title=self.title)

    def log(self, logger: Any, summary: dict[str, Any], output: Path) -> None:
        """Log the summary and the pictures."""
        logger.log_hyperparams({key: summary[key] for key in ("functionals", "reference", "subset", "data")})
        logger.log_metrics(
            {f"ensemble/{name}": value for name, value in flatten(summary, (EPS_MAD, *MEASURES)).items()}
            | {f"ensemble/{name}": summary[name] for name in ("share_below_spread",) if name in summary}
        )
        for name in ("histogram", "spread"):
            logger.log_image(name, [str(output / f"{name}.png")])


def _ensemble(settings: EvaluationSettings) -> Ensemble:
    """Open the ensemble: the files of `densities`, or else the store `root` with its several labels."""
    if settings.densities is None:
        return StoreEnsemble.of_store(DensityStore(str(settings.root)))
    return open_densities(list(settings.densities))


def _indices(settings: EvaluationSettings, ensemble: Ensemble, reference: str, subset: str) -> list[int]:
    """Indices of the structures in a subset of an ensemble; the split is that of the reference's store."""
    if subset == "all":
        return list(range(len(ensemble.names)))
    if isinstance(ensemble, FileEnsemble):
        raise ValueError(f"subset={subset}: files have no split; subset=all, or stores made by deepdft-convert split=")
    store, _ = ensemble.sources[reference]
    wanted = {store.names[i] for i in chosen_indices(settings, store, subset)}
    indices = [i for i, name in enumerate(ensemble.names) if name in wanted]
    if not indices:
        raise ValueError(f"subset={subset}: none of its {len(wanted)} structures has all of the densities")
    return indices


def _warn_of_electrons(spreads: list[StructureSpread]) -> None:
    """Warn of structures whose densities differ in their electron counts, which are then of different kinds."""
    odd = [row for row in spreads if row.electron_spread > SAME_ELECTRONS * abs(row.n_electrons)]
    if odd:
        worst = max(odd, key=lambda row: row.electron_spread / abs(row.n_electrons))
        warn(
            f"the electron counts of the densities of {len(odd)} structures differ by more than "
            f"{100 * SAME_ELECTRONS:g} %, e.g. {worst.name} by {worst.electron_spread:.3g} of {worst.n_electrons:.4g}: "
            "check that they are of one kind (valence or all-electron, one set of potentials)"
        )
