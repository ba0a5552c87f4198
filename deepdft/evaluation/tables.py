"""Tables that compare training runs and evaluations, for the page and for Markdown."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from deepdft.evaluation.runs import STATISTICS, EvaluationRun, TrainingRun
from deepdft.measures import EPS_MAD, EPS_MAE, MEASURES, Measure

__all__ = [
    "Comparison",
    "as_markdown",
    "comparison_tables",
    "distinct_ensembles",
    "markdown_text",
    "shares_below",
    "worst_table",
]

NOTHING = "–"
SIGNED = {measure.name for measure in MEASURES if measure.name.endswith(("electron_error", "moment_error"))}


@dataclass(frozen=True)
class Comparison:
    """A table of text."""

    title: str
    """Title: what is compared."""
    columns: list[str]
    """Headings."""
    rows: list[list[str]]
    """Cells: rows with one cell per column."""
    note: str = ""
    """Explanation of the columns."""
    best: frozenset[tuple[int, int]] = frozenset()
    """Row and column of the highlighted cells."""

    def is_text(self, column: int) -> bool:
        """Whether a column holds words rather than numbers."""
        return not all(_is_number(row[column]) for row in self.rows)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return cell == NOTHING
    return True


def comparison_tables(trainings: Sequence[TrainingRun], evaluations: Sequence[EvaluationRun]) -> list[Comparison]:
    """Errors, spreads, training runs, and the settings in which the runs differ; tables without rows are left out."""
    tables = [
        _errors([run for run in evaluations if "eps_mae" in run.summary], trainings),
        _other_measures(evaluations),
        _spreads(distinct_ensembles(evaluations)),
        _below(evaluations),
        _trainings(trainings),
        _settings(trainings),
    ]
    return [table for table in tables if table.rows]


def _errors(evaluations: Sequence[EvaluationRun], trainings: Sequence[TrainingRun]) -> Comparison:
    """Table like the paper's Table 1: data sets with their splits, and errors of the models on them."""
    ordered = sorted(evaluations, key=lambda run: (run.data, run.summary["eps_mae"]["mean"]))
    rows, best = [], set()
    for index, run in enumerate(ordered):
        split = next((training.split for training in trainings if run.is_of(training)), {})
        counts = [str(split.get(part, NOTHING)) for part in ("train", "validation")]
        errors = [_percent(run.summary["eps_mae"][name]) for name in STATISTICS]
        rows.append([run.data, run.name, _model(run), *counts, str(run.summary["n_structures"]), *errors])
        among = [other.summary["eps_mae"] for other in ordered if other.data == run.data]
        for column, name in enumerate(STATISTICS, start=6):
            if len(among) > 1 and run.summary["eps_mae"][name] == min(errors[name] for errors in among):
                best.add((index, column))
    return Comparison(
        "Errors of models: ε_mae in %",
        ["data set", "evaluation", "model", "train", "validation", "evaluated", *STATISTICS],
        rows,
        f"ε_mae = {EPS_MAE.meaning} in %, over the full grid of each structure; mean, median, 99th percentile and "
        "maximum over structures; pooled is the sum of the numerators over that of the denominators.",
        frozenset(best),
    )


def _other_measures(evaluations: Sequence[EvaluationRun]) -> Comparison:
    """Table of the measures beside ε_mae that any evaluation has."""
    measures = [m for m in MEASURES if m != EPS_MAE and any(_headline(run, m) != NOTHING for run in evaluations)]
    rows = [[run.data, run.name, *(_headline(run, m) for m in measures)] for run in evaluations if run.has(EPS_MAE)]
    return Comparison(
        "Other measures of the errors",
        ["data set", "evaluation", *(f"{m.label} ({m.unit})" for m in measures)],
        sorted(rows) if measures else [],
        "Means over structures (of magnitudes, where errors have a sign); MAE and RMSE over all grid points. "
        + " ".join(f"{m.label}: {m.meaning}." for m in measures),
    )


def _headline(run: EvaluationRun, measure: Measure) -> str:
    """The headline number of a measure."""
    reduced = run.summary.get(measure.name)
    if isinstance(reduced, Mapping):
        reduced = reduced.get("mean_absolute", reduced.get("mean"))
    return f"{reduced:.3g}" if isinstance(reduced, int | float) and math.isfinite(reduced) else NOTHING


def _spreads(evaluations: Sequence[EvaluationRun]) -> Comparison:
    rows = [
        [
            run.data,
            run.name,
            ", ".join(run.summary["functionals"]),
            run.summary["reference"],
            str(run.summary["n_structures"]),
            *(_percent(run.summary["eps_mad"][name]) for name in STATISTICS),
        ]
        for run in evaluations
    ]
    return Comparison(
        "Spread of DFT: ε_mad in %",
        ["data set", "evaluation", "densities", "reference", "structures", *STATISTICS],
        rows,
        f"ε_mad = {EPS_MAD.meaning} in %, with the median taken point by point.",
    )


def shares_below(evaluations: Sequence[EvaluationRun]) -> list[tuple[EvaluationRun, EvaluationRun, int, float]]:
    """Models against ensembles: error, spread, structures in both, share of these with an error below the spread.

    Structures are the same where name and formula are.
    """
    found = []
    for ensemble in distinct_ensembles(evaluations):
        spread = {(row["name"], row["formula"]): float(row["eps_mad"]) for row in ensemble.rows if "eps_mad" in row}
        for model in evaluations:
            errors = {(row["name"], row["formula"]): float(row["eps_mae"]) for row in model.rows if "eps_mae" in row}
            common = [structure for structure in errors if structure in spread]
            if common:
                below = sum(errors[structure] < spread[structure] for structure in common)
                found.append((model, ensemble, len(common), below / len(common)))
    return found


def distinct_ensembles(evaluations: Sequence[EvaluationRun]) -> list[EvaluationRun]:
    """Evaluations of a spread, one for each ensemble and reference; several models repeat the same one."""
    first: dict[Any, EvaluationRun] = {}
    for run in evaluations:
        if "eps_mad" in run.summary:
            data = run.summary["data"]["fingerprint"], run.summary["reference"], *run.values("eps_mad")
            first.setdefault(data, run)
    return list(first.values())


def _below(evaluations: Sequence[EvaluationRun]) -> Comparison:
    rows = [
        [model.name, _model(model), ensemble.name, str(count), f"{100 * share:.1f}"]
        for model, ensemble, count, share in shares_below(evaluations)
    ]
    return Comparison(
        "Models beside the spread of DFT",
        ["evaluation", "model", "ensemble", "structures in both", "ε_mae below ε_mad (%)"],
        rows,
        "Below the spread of functionals, a model's error is smaller than what DFT itself leaves open.",
    )


def _trainings(trainings: Sequence[TrainingRun]) -> Comparison:
    rows = [
        [
            run.name,
            run.model,
            str(run.run.get("n_parameters", NOTHING)),
            *(str(run.split.get(part, NOTHING)) for part in ("train", "validation")),
            str(run.steps),
            _percent(run.best),
            str(timedelta(seconds=round(run.summary["seconds"]))) if "seconds" in run.summary else "not finished",
        ]
        for run in sorted(trainings, key=lambda run: run.best if math.isfinite(run.best) else math.inf)
    ]
    return Comparison(
        "Training runs",
        ["run", "model", "parameters", "train", "validation", "steps", "best ε_mae in validation (%)", "time"],
        rows,
        "In validation ε_mae is over some grid points of each structure, the same at every validation.",
    )


def _settings(trainings: Sequence[TrainingRun]) -> Comparison:
    changed = _differences({run.name: run.config for run in trainings})
    rows = [[key, *values.values()] for key, values in changed.items()]
    return Comparison("Settings that differ", ["setting", *(run.name for run in trainings)], rows)


def worst_table(run: EvaluationRun, count: int) -> Comparison:
    """The structures with the largest errors of an evaluation, or the widest spreads if there is no model."""
    rows = run.worst(count)
    measures = [m for m in (EPS_MAE, EPS_MAD, *MEASURES[1:]) if any(row.get(m.name) for row in rows)]
    headings = {"name": "name", "formula": "formula", "n_electrons": "electrons"}
    shown = [column for column in headings if rows and column in rows[0]] + [m.name for m in measures]
    headings |= {m.name: f"{m.label} ({m.unit})" for m in measures}
    texts = [[_cell(column, row.get(column)) for column in shown] for row in rows]
    what = "largest errors" if run.has(EPS_MAE) else "widest spreads"
    return Comparison(f"{run.name}: {what}", [headings[column] for column in shown], texts)


def as_markdown(table: Comparison) -> str:
    """A table in Markdown under its title; highlighted cells are bold."""

    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(cells) + " |"

    rows = [
        line(f"**{escaped}**" if (i, j) in table.best else escaped for j, escaped in enumerate(map(markdown_text, row)))
        for i, row in enumerate(table.rows)
    ]
    note = ["", markdown_text(table.note)] if table.note else []
    headings = line(map(markdown_text, table.columns))
    return "\n".join(
        [f"## {markdown_text(table.title)}", "", headings, line("---" for _ in table.columns), *rows, *note, ""]
    )


def markdown_text(text: str) -> str:
    """Text that Markdown, and HTML within it, shows literally: on one line, without markup."""
    one_line = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in " ".join(text.split()))
    without_html = one_line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*|~\[\]]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", without_html)


def _model(run: EvaluationRun) -> str:
    return str(run.summary.get("model", NOTHING))


def _percent(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else NOTHING


def _cell(column: str, text: str | None) -> str:
    """A cell of errors.csv for readers."""
    if column in ("name", "formula"):
        return text or ""
    if not text:
        return NOTHING
    if column in SIGNED:
        return f"{float(text):+.3f}"
    return f"{float(text):.3f}" if abs(float(text)) >= 0.001 else f"{float(text):.1e}"


def _differences(configs: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """Settings that differ between runs: key → run → value.

    Paths below a run's own directory are the same setting in all, and are left out.

    Args:
        configs: run → config.
    """
    flat = {name: dict(_leaves(config)) for name, config in configs.items()}
    keys = sorted({key for leaves in flat.values() for key in leaves})
    found = {key: {name: leaves.get(key, "–") for name, leaves in flat.items()} for key in keys}
    return {key: values for key, values in found.items() if len(set(values.values())) > 1}


def _leaves(config: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Dotted keys and values as text, without the run's own directory."""
    own = str(config.get("run_dir") or "\0")
    stack: list[tuple[str, Any]] = [("", {key: value for key, value in config.items() if key != "run_dir"})]
    while stack:
        prefix, value = stack.pop(0)
        if isinstance(value, Mapping) and value:
            stack[:0] = [(f"{prefix}.{key}".lstrip("."), item) for key, item in value.items()]
        else:
            yield prefix, str(value).replace(own, "RUN")
