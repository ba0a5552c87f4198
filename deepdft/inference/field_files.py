"""Fields derived from a density, taken in one pass over a grid and written to one file per component."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepdft.inference.box import Box
from deepdft.inference.slabs import Slab
from deepdft.io.formats import Field, output_format, write_field

__all__ = ["COMPONENTS", "UNITS", "check_names", "component_path", "write_fields"]

Parts = Iterable[tuple[Slab, Mapping[str, NDArray[np.floating]]]]
"""Slabs of a grid with their fields, z fastest: name → (n,) or (n, components)."""
POINTS_WRITTEN = 1_000_000
"""Points of a grid that are read from the temporary file at a time."""

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
    parts: Parts,
    names: Sequence[str],
    *,
    progress: Callable[[int, int], None] | None = None,
    comment: str = "deepdft",
) -> list[Path]:
    """Take fields on a grid slab by slab, and write each component in the format of `output`'s name.

    All fields come from one pass. Their values wait in a temporary file beside the output until their own file
    is written, so memory is bounded by the slabs.

    Args:
        output: of the density; the fields' files lie beside it.
        box: structure and grid.
        parts: every slab of the grid once, in any order, with its fields.
        names: which fields.
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
        shape = box.shape if order == "C" else box.shape[::-1]
        grids = [row.reshape(shape) if order == "C" else row.reshape(shape).T for row in values]
        done = 0
        for slab, found in parts:
            rows = [np.asarray(found[name]).reshape(slab.n_points, -1) for name in names]
            for grid, column in zip(grids, np.concatenate(rows, axis=1).T, strict=True):
                grid[tuple(map(slice, slab.start, slab.stop))] = column.reshape(slab.shape)
            done += slab.n_points
            if progress is not None:
                progress(done, box.n_points)
        paths = []
        for row, (name, suffix) in zip(values, columns, strict=True):
            path = component_path(output, name, suffix)
            chunks = (row[start : start + POINTS_WRITTEN] for start in range(0, box.n_points, POINTS_WRITTEN))
            label = f"{name} {suffix}".strip()
            write_field(path, Field(box, name=label, unit=UNITS[name], comment=comment), chunks)
            paths.append(path)
    return paths
