"""deepdft-predict: the density of a structure from a trained model."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from deepdft import bundled, plotting
from deepdft.checkpoint import load_checkpoint, model_name, save_checkpoint
from deepdft.cli.app import hydra_command, one_line_errors
from deepdft.cli.arguments import quote_texts
from deepdft.cli.options import refuse_other_kinds
from deepdft.density import volume
from deepdft.inference.box import Box, make_box
from deepdft.inference.field_files import COMPONENTS, check_names, component_path, write_fields
from deepdft.inference.output import PREDICTED, refuse_foreign, refuse_too_large
from deepdft.inference.predictor import Predictor, choose_device
from deepdft.inference.writer import file_format, slice_order, write_slices
from deepdft.io import write_density
from deepdft.io.structures import read_structures

__all__ = ["main", "numbered"]

COARSE = 0.2
"""Å between grid points. On wider grids the sum over peaks at nuclei is off, by up to a tenth at 0.3 Å (water).

On this one it is right to 0.02 % for models of densities that deepdft-generate convolves (the bundled one), not for
models of sharper densities such as those of VASP.
"""
PICTURE_PIXELS = 160
"""Points along the longer side of the picture: few beside a grid's, and smooth enough when interpolated."""


@one_line_errors
def main() -> None:
    """Entry point of deepdft-predict."""
    sys.argv[1:] = quote_texts(sys.argv[1:], "structure", "output", "checkpoint", "export_checkpoint")
    _run()


@hydra_command("predict")
def _run(cfg: DictConfig) -> None:
    _check(cfg)
    path = _checkpoint(cfg)
    checkpoint = load_checkpoint(path, device=choose_device(cfg.device), trusted=tuple(cfg.trusted))
    if cfg.export_checkpoint is not None:
        Path(cfg.export_checkpoint).parent.mkdir(parents=True, exist_ok=True)
        save_checkpoint(cfg.export_checkpoint, checkpoint)
        print(f"{cfg.export_checkpoint}: the model as a checkpoint of this package")
    if cfg.structure is None:
        return
    predictor = Predictor(checkpoint.model, pbc=checkpoint.pbc, info=checkpoint.info)
    structures = read_structures(str(cfg.structure), frames=cfg.frames, pbc=cfg.pbc)
    boxes = [make_box(atoms, spacing=cfg.spacing, shape=cfg.shape, vacuum=cfg.vacuum) for atoms in structures]
    outputs = [numbered(Path(cfg.output), index, len(boxes)) for index in range(len(boxes))]
    for output in outputs:
        for file in (output, *field_paths(output, cfg.fields)):
            refuse_foreign(file)
    refuse_too_large(outputs[0], boxes)
    for box, output in zip(boxes, outputs, strict=True):
        output.parent.mkdir(parents=True, exist_ok=True)
        scaled = "" if cfg.n_electrons is None else f", scaled to {cfg.n_electrons} electrons"
        comment = f"density of {cfg.structure} {PREDICTED} {path}{scaled}"
        electrons = _predict(predictor, box, output, comment=comment, n_electrons=cfg.n_electrons)
        model = f"{model_name(checkpoint.config)}, {Path(path).name}"
        if cfg.picture:
            title = plotting.heading(box.atoms, model=model, n_electrons=electrons)
            _draw(predictor, box, beside(output, ".png"), title=title)
        if cfg.fields:
            _derive(predictor, box, output, list(cfg.fields), comment=f"from the {comment}", picture=cfg.picture)


def _checkpoint(cfg: DictConfig) -> str:
    """The model that is named, or the bundled one."""
    if cfg.checkpoint is not None:
        return str(cfg.checkpoint)
    print("no checkpoint given: the bundled model, for small molecules of H, C, N, O, F, P, S and Cl (PBE)")
    return str(bundled.MODEL)


def _check(cfg: DictConfig) -> None:
    """Refuse what makes no sense before anything is loaded."""
    if cfg.structure is None and cfg.export_checkpoint is None:
        raise ValueError("what is to be predicted? give structure=<file or SMILES> and output=<x.cube|CHGCAR|x.h5>")
    if cfg.structure is not None:
        if cfg.output is None:
            raise ValueError("where to? give output=<x.cube|CHGCAR|x.h5>")
        file_format(cfg.output)
    refuse_other_kinds(cfg, numbers=["spacing", "vacuum", "n_electrons"], lists=["shape", "fields", "trusted"])
    check_names(cfg.fields)
    if cfg.n_electrons is not None and cfg.fields:
        raise ValueError("n_electrons scales the density, not fields= derived from it: predict them apart")


def numbered(output: Path, index: int, count: int) -> Path:
    """The output of one of several frames: x_000.cube, x_001.cube, …; the name itself if it is alone."""
    if count == 1:
        return output
    digits = max(3, len(str(count - 1)))
    return output.with_name(f"{output.stem}_{index:0{digits}d}{output.suffix}")


def beside(output: Path, ending: str) -> Path:
    """x.cube → x + ending, CHGCAR → CHGCAR + ending."""
    return output.with_name(output.stem + ending)


def field_paths(output: Path, names: Iterable[str]) -> list[Path]:
    """The files of fields derived from the density, one for each component."""
    return [component_path(output, name, suffix) for name in names for suffix in COMPONENTS.get(name, ("",))]


def _predict(predictor: Predictor, box: Box, output: Path, *, comment: str, n_electrons: float | None) -> float:
    """Predict into a file, and report what was done; returns the number of electrons."""
    lengths = " × ".join(f"{length:.2f}" for length in box.atoms.cell.lengths())
    grid = " × ".join(str(n) for n in box.shape)
    spacing = " × ".join(f"{step:.3f}" for step in box.spacing)
    print(
        f"{box.atoms.get_chemical_formula()}: box {lengths} Å, {_periodic(box)}; "
        f"grid {grid} = {box.n_points} points, {spacing} Å apart"
    )
    began = time.monotonic()
    total = [0.0]
    with _progress(box.n_points) as advance:
        if len(predictor.model.channels) > 1:
            density = predictor.predict_box(box, n_electrons=n_electrons, progress=advance)
            write_density(output, density, comment=comment)
            total[0] = float(density.values.sum(dtype=np.float64))
        else:
            slices = predictor.predict_slices(box, order=slice_order(output), n_electrons=n_electrons, progress=advance)
            write_slices(output, box, _summed(slices, total), comment=comment)
    seconds = time.monotonic() - began
    electrons = total[0] * volume(box.atoms.cell.array) / box.n_points
    speed = box.n_points / max(seconds, 1e-9)
    print(f"{output}: {electrons:.4f} electrons; {seconds:.1f} s, {speed:.0f} points/s")
    if box.spacing.max() > COARSE + 1e-6:
        apart = f"{box.spacing.max():.2f} Å apart"
        print(f"points {apart} miscount the electrons near nuclei; spacing=0.1 counts them right")
    return electrons


def _periodic(box: Box) -> str:
    axes = "".join(axis for axis, repeats in zip("abc", box.atoms.pbc, strict=True) if repeats)
    return f"periodic along {axes}" if axes else "not periodic"


def _summed(slices: Iterable[NDArray[np.floating]], total: list[float]) -> Iterator[NDArray[np.floating]]:
    """The same slices; their sum is added to `total[0]`."""
    for part in slices:
        total[0] += float(part[:, 0].sum(dtype=np.float64))
        yield part


def _derive(predictor: Predictor, box: Box, output: Path, names: list[str], *, comment: str, picture: bool) -> None:
    """Write fields derived from the density beside it, and draw the indicators among them."""
    fields = predictor.encode_fields(box.structure())
    began = time.monotonic()
    with _progress(box.n_points, "deriving") as advance:
        paths = write_fields(
            output,
            box,
            lambda points: fields.at(points, names),
            names,
            slice_size=fields.slice_size,
            progress=advance,
            comment=comment,
        )
    seconds = time.monotonic() - began
    print(f"{', '.join(map(str, paths))}: {seconds:.1f} s, {box.n_points / max(seconds, 1e-9):.0f} points/s")
    drawn = [name for name in names if name in plotting.SCALES]
    if picture and drawn:
        plane = _plane(box)
        with _progress(len(plane.points()), "drawing") as advance:
            found = fields.at(plane.points(), drawn, progress=advance)
        for name in drawn:
            _picture(plane, box, found[name], name, beside(output, f"_{name}.png"))


def _draw(predictor: Predictor, box: Box, path: Path, *, title: str) -> None:
    """A picture of the density on the plane that shows the structure best."""
    plane = _plane(box)
    encoded = predictor.encode(box.structure())
    _picture(plane, box, encoded.total(plane.points()), "density", path, title=title)


def _plane(box: Box) -> plotting.Plane:
    return replace(plotting.choose_plane(box.atoms, box.origin), pixels=PICTURE_PIXELS)


def _picture(
    plane: plotting.Plane,
    box: Box,
    values: NDArray[np.floating],
    name: str,
    path: Path,
    *,
    title: str | None = None,
) -> None:
    """Draw a quantity (n,) at the plane's points."""
    values = values.reshape(plane.shape)
    scale = plotting.SCALES[name]
    plotting.save(plotting.plane_picture(plane, box.atoms, values, origin=box.origin, title=title, scale=scale), path)
    print(f"{path}: {'the density' if name == 'density' else name.upper()} on a plane through the atoms")


@contextmanager
def _progress(total: int, doing: str = "predicting") -> Iterator[Callable[[int, int], None]]:
    """A progress bar on the terminal."""
    columns = (TextColumn(doing), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total)
        yield lambda done, _: bar.update(task, completed=done)


if __name__ == "__main__":
    main()
