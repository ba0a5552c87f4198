"""The report: one self-contained HTML page, and its tables as Markdown."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure

from deepdft import plotting
from deepdft.evaluation.runs import EvaluationRun, TrainingRun
from deepdft.evaluation.tables import (
    Comparison,
    as_markdown,
    comparison_tables,
    distinct_ensembles,
    markdown_text,
    worst_table,
)
from deepdft.files import write_text
from deepdft.measures import EPS_MAD, EPS_MAE

__all__ = ["write_report"]

TEMPLATES = Path(__file__).parent / "templates"
MAX_SERIES = 6
"""Largest number of series in one histogram; more would hide each other."""
MAX_CURVES = 12
"""Largest number of learning curves in the picture."""


@dataclass(frozen=True)
class Picture:
    """A picture on the page."""

    data: str
    """The picture as a data URI."""
    caption: str
    """Caption."""


@dataclass(frozen=True)
class Section:
    """A section of the page."""

    title: str
    """Heading."""
    table: Comparison | None = None
    """Pictures, shown first."""
    pictures: list[Picture] = field(default_factory=list)
    """Tables, shown below."""


def write_report(
    folder: Path,
    trainings: Sequence[TrainingRun],
    evaluations: Sequence[EvaluationRun],
    *,
    title: str = "Comparison of density models",
    subtitle: str = "",
    worst: int = 5,
) -> None:
    """Write report.html and report.md.

    Args:
        folder: must exist.
        trainings: runs to compare.
        evaluations: evaluations to compare.
        title: of the page.
        subtitle: below it, e.g. the command.
        worst: this many of the worst structures of each evaluation are listed.
    """
    tables = comparison_tables(trainings, evaluations)
    worst_tables = {run.name: worst_table(run, worst) for run in evaluations} if worst else {}
    sections = [Section(table.title, table) for table in tables]
    sections += _distributions(evaluations) + _curves(trainings, evaluations)
    sections += [
        Section(worst_tables[run.name].title, worst_tables[run.name], _pictures_of(run)) for run in evaluations if worst
    ]
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
    page = environment.get_template("report.html.j2").render(
        title=title,
        subtitle=subtitle,
        sections=sections,
        sources=[_source(run.name, run.folder, run.run) for run in trainings]
        + [_source(run.name, run.folder, run.summary) for run in evaluations],
    )
    heading = [f"# {markdown_text(title)}", "", markdown_text(subtitle), ""]
    text = "\n".join([*heading, *map(as_markdown, [*tables, *worst_tables.values()])])
    write_text(folder / "report.html", page)
    write_text(folder / "report.md", text)


def _distributions(evaluations: Sequence[EvaluationRun]) -> list[Section]:
    """Errors and spreads on one axis, as in the paper's Figure 3."""
    models = sorted(
        (run for run in evaluations if "eps_mae" in run.summary), key=lambda run: run.summary["eps_mae"]["mean"]
    )
    ensembles = distinct_ensembles(evaluations)
    series = {f"{plotting.plain(run.name)}, {EPS_MAE.tex}": run.values("eps_mae") for run in models}
    series |= {f"{plotting.plain(run.name)}, {EPS_MAD.tex}": run.values("eps_mad") for run in ensembles}
    if not series:
        return []
    caption = "Errors of models (ε_mae)" + (" and spread of DFT (ε_mad)" if ensembles else "")
    caption += " of the structures; dashed lines are means, triangles outliers."
    if len(series) > MAX_SERIES:
        caption += f" The {MAX_SERIES} first of {len(series)}, the models with the smallest errors before the others."
    figure = plotting.error_distributions(dict(list(series.items())[:MAX_SERIES]))
    return [Section("Distribution of errors", pictures=[Picture(_svg(figure), caption)])]


def _curves(trainings: Sequence[TrainingRun], evaluations: Sequence[EvaluationRun]) -> list[Section]:
    """Validation errors against steps, with the spread of DFT for comparison."""
    curves = {
        plotting.plain(run.name): run.curve() for run in sorted(trainings, key=lambda run: run.best) if run.curve()[0]
    }
    if not curves:
        return []
    levels = {
        f"ε_mad {plotting.plain(run.name)}": run.summary["eps_mad"]["mean"]
        for run in evaluations
        if "eps_mad" in run.summary
    }
    caption = "Validation error during training" + (", and the mean spread of DFT." if levels else ".")
    if len(curves) > MAX_CURVES:
        caption += f" The {MAX_CURVES} best of {len(curves)} runs."
    figure = plotting.learning_curves(dict(list(curves.items())[:MAX_CURVES]), levels=levels)
    return [Section("Learning curves", pictures=[Picture(_svg(figure), caption)])]


def _pictures_of(run: EvaluationRun) -> list[Picture]:
    """Slices of the densities of the worst structures, as the evaluation drew them."""
    names = ["worst.png", *(f"worst_{place}.png" for place in range(2, len(run.rows) + 1))]
    captions = {
        name: f"{row['name']}, {row['formula']}" for name, row in zip(names, run.worst(len(names)), strict=True)
    }
    if "widest" in run.summary:
        captions = {"spread.png": f"{run.summary['widest']}, where the densities differ most"} | captions
    return [
        Picture(_data_uri((run.folder / name).read_bytes(), "image/png"), caption)
        for name, caption in captions.items()
        if (run.folder / name).is_file()
    ]


def _svg(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return _data_uri(buffer.getvalue(), "image/svg+xml")


def _data_uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _source(name: str, folder: Path, content: dict[str, Any]) -> dict[str, str]:
    """The folder of a run, and its command and versions."""
    return {
        "name": name,
        "folder": str(folder),
        "commit": (content.get("git") or {}).get("commit", ""),
        "command": " ".join(content.get("command", [])),
    }
