"""Fields derived from a density, computed in one pass over a grid and written to one file per component."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepdft.inference.box import Box
from deepdft.io.formats import Field, output_format, write_field

__all__ = ["COMPONENTS", "UNITS", "check_names", "component_path", "write_fields"]

Evaluate = Callable[[NDArray[np.float64]], Mapping[str, NDArray[np.floating]]]
"""Computes fields at points (n, 3) in Å: name → (n,) or (n, components)."""

UNITS = {"gradient": "e/Å⁴", "laplacian": "e/Å⁵", "hessian": "e/Å⁵", "iri": "Å^-0.7 e^-0.1", "dori": "1"}
"""Unit of each field; IRI is |∇ρ|/ρ^1.1, DORI has no unit."""
COMPONENTS = {"gradient": ("x", "y", "z"), "hessian": ("1", "2", "3")}
"""Suffixes of the components of a field: Cartesian axes, or eigenvalues of the Hessian in ascending order."""


def check_names(names: Iterable[str]) -> None:
    """Refuse unknown fields.

    Raises:
        ValueError: if a name is unknown.
    """
    unknown = [name for name in names if name not in UNITS]
    if unknown:
        raise ValueError(f"fields={unknown}: expected some of {', '.join(UNITS)}")


def component_path(output: Path, name: str, component: str = "") -> Path:
    """Name of the file of a field: x.cube → x_iri.cube, x_gradient_x.cube; CHGCAR → CHGCAR_iri."""
    ending = f"_{name}_{component}" if component else f"_{name}"
    return output.with_name(f"{output.stem}{ending}{output.suffix}")


def write_fields(
    output: Path,
    box: Box,
    evaluate: Evaluate,
    names: Sequence[str],
    *,
    chunk_size: int,
    progress: Callable[[int, int], None] | None = None,
    comment: str = "deepdft",
) -> list[Path]:
    """Compute fields on a grid chunk by chunk, and write each component in the format of `output`'s name.

    All fields come from one pass. Their values wait in a temporary file beside the output until their own file
    is written, so memory is bounded by the chunk size.

    Args:
        output: of the density; the fields' files lie beside it.
        box: structure and grid.
        evaluate: gives the fields at points.
        names: which fields.
        chunk_size: points at a time.
        progress: called with points done and points in all.
        comment: one line of text for the files.

    Returns:
        The files.

    Raises:
        ValueError: if a name is unknown.
    """
    check_names(names)
    columns = [(name, suffix) for name in names for suffix in COMPONENTS.get(name, ("",))]
    order = output_format(output).order
    with tempfile.TemporaryFile(dir=output.parent) as spool:
        values = np.memmap(spool, dtype=np.float32, mode="w+", shape=(len(columns), box.n_points))
        for start in range(0, box.n_points, chunk_size):
            part = slice(start, min(start + chunk_size, box.n_points))
            found = evaluate(box.points(part, order=order))
            rows = [np.asarray(found[name]).reshape(part.stop - start, -1) for name in names]
            values[:, part] = np.concatenate(rows, axis=1).T
            if progress is not None:
                progress(part.stop, box.n_points)
        paths = []
        for row, (name, suffix) in zip(values, columns, strict=True):
            path = component_path(output, name, suffix)
            chunks = (row[start : start + chunk_size] for start in range(0, box.n_points, chunk_size))
            label = f"{name} {suffix}".strip()
            write_field(path, Field(box, name=label, unit=UNITS[name], comment=comment), chunks)
            paths.append(path)
    return paths
