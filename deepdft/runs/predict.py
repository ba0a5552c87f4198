"""Predictions of structures into files, by this process or by many."""

from __future__ import annotations

import contextlib
import io
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import ase

from deepdft.checkpoint import save_checkpoint
from deepdft.errors import InputWarning
from deepdft.files import exclusive_lock, read_json, write_json
from deepdft.inference.box import Box, make_box, make_region
from deepdft.inference.output import refuse_foreign, refuse_too_large
from deepdft.inference.predictor import Predictor
from deepdft.inference.slab_job import MODEL, PLAN, begin_parts, fingerprint, parts_folder, write_plan
from deepdft.inference.uncertainty import refuse_single_model
from deepdft.runs.predict_slabs import Helpers
from deepdft.runs.prediction_files import PredictionFiles, StructureFiles, field_paths, numbered, std_path

__all__ = ["PredictionFiles", "numbered", "predict_to_files"]


def predict_to_files(
    predictor: Predictor,
    structures: Sequence[ase.Atoms],
    files: PredictionFiles,
    *,
    spacing: float | None = None,
    shape: Sequence[int] | None = None,
    vacuum: float | None = None,
    region: Sequence[Sequence[float]] | None = None,
    helpers: Helpers | None = None,
) -> None:
    """Predict structures into files, and print a few lines about each.

    Nothing is begun before all structures, grids and files are known to be possible. While files are written, another
    process that would write the same ones is refused. What is done stays in a folder beside the output (x.cube.parts)
    until all is done: slabs of a large grid, or a note for each of several structures. A prediction that was killed
    continues from there.

    Args:
        predictor: the model.
        structures: with the atoms to predict.
        files: what to write.
        spacing: Å, largest distance between grid points; None is 0.1 without a shape.
        shape: (nx, ny, nz) points, instead of a spacing.
        vacuum: Å on each side of a molecule.
        region: ((x_min, x_max), (y_min, y_max), (z_min, z_max)) Å, a box or plane to predict instead of the whole cell.
        helpers: processes that predict slabs of one structure, or a structure each; None predicts here.

    Raises:
        ChildProcessError: if workers were lost again and again.
        ValueError: if a structure or its grid makes no sense, a file is no prediction and would be written over,
            there is no room, or another process writes the same files.
    """
    if files.uncertainty:
        if files.n_electrons is not None:
            raise ValueError("n_electrons scales the density, not its uncertainty: leave one of them out")
        refuse_single_model(predictor.model)
    if files.vasp is not None:
        structures, shape = [files.vasp.check(atoms) for atoms in structures], files.vasp.shape
    boxes: list[Box] = []
    for atoms in structures:
        if region is None:
            boxes.append(make_box(atoms, spacing=spacing, shape=shape, vacuum=vacuum))
        else:
            boxes.append(make_region(atoms, region, spacing=spacing, shape=shape))
    for box in boxes:
        predictor.check(box.structure())
    outputs = files.outputs(len(boxes))
    for output in outputs:
        beside = [std_path(output)] if files.uncertainty else []
        for file in (output, *beside, *field_paths(output, files.fields)):
            refuse_foreign(file)
    refuse_too_large(outputs[0], boxes)
    files.output.parent.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(files.output, "prediction"):
        if len(boxes) == 1:
            StructureFiles(predictor, boxes[0], outputs[0], files, helpers).write()
        else:
            _Several(predictor, boxes, outputs, files, helpers).write()


class _Several:
    """Several structures, each with a note in the folder of parts when its files are there."""

    def __init__(
        self,
        predictor: Predictor,
        boxes: Sequence[Box],
        outputs: Sequence[Path],
        files: PredictionFiles,
        helpers: Helpers | None,
    ) -> None:
        self.predictor, self.boxes, self.outputs, self.files, self.helpers = predictor, boxes, outputs, files, helpers
        self.folder = parts_folder(files.output.absolute())
        self.identity = fingerprint(predictor.model, boxes, predictor.pbc, predictor.memory, files)

    def write(self) -> None:
        """Predict those without a note, and remove the folder when all are there."""
        if begin_parts(self.folder, self.identity) is None:
            write_plan(self.folder, {"identity": self.identity})
        missing = [index for index in range(len(self.boxes)) if not self._is_done(index)]
        if len(missing) < len(self.boxes):
            print(f"{self.folder}: {len(self.boxes) - len(missing)} of {len(self.boxes)} structures were there")
        if self.helpers is None:
            for index in missing:
                StructureFiles(self.predictor, self.boxes[index], self.outputs[index], self.files).write()
                write_json(_note(self.folder, index), {})
        elif missing:
            self._share(self.helpers, missing)
        shutil.rmtree(self.folder)

    def _is_done(self, index: int) -> bool:
        return _note(self.folder, index).exists() and self.outputs[index].exists()

    def _share(self, helpers: Helpers, missing: Sequence[int]) -> None:
        """Let other processes predict a structure each.

        Raises:
            ChildProcessError: if workers were lost again and again.
        """
        save_checkpoint(self.folder / MODEL, helpers.checkpoint)
        files = replace(self.files, output=self.files.output.absolute())
        tasks = [
            _StructureTask(
                self.folder,
                self.identity,
                index,
                self.boxes[index],
                self.outputs[index].absolute(),
                files,
                (helpers.device, helpers.trusted, self.predictor.memory),
            )
            for index in missing
        ]
        for task, outcome in helpers.workers(tasks):
            if isinstance(outcome, Exception):
                raise ChildProcessError(f"{task.output}: missing: {outcome}; the same command continues")
            text, warned = outcome
            print(text, end="")
            for message in warned:
                warnings.warn(message, InputWarning, stacklevel=2)


def _note(folder: Path, index: int) -> Path:
    return folder / f"{index:06d}.json"


@dataclass(frozen=True, eq=False)
class _StructureTask:
    """One of several structures, for any process that sees the folder of parts."""

    folder: Path
    identity: str
    index: int
    box: Box
    output: Path
    files: PredictionFiles
    settings: tuple[str, tuple[str, ...], int | None]

    def __call__(self) -> tuple[str, list[str]]:
        """Write its files, and return what there is to print, and to warn of."""
        predictor = _opened(self.folder, self.identity, *self.settings)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", InputWarning)
            StructureFiles(predictor, self.box, self.output, self.files).write()
        write_json(_note(self.folder, self.index), {})
        return printed.getvalue(), [str(one.message) for one in caught if one.category is InputWarning]


@lru_cache(maxsize=1)
def _opened(folder: Path, identity: str, device: str, trusted: tuple[str, ...], memory: int | None) -> Predictor:
    """The model that another process has put into a folder; elements were checked there."""
    if read_json(folder / PLAN, keys={"identity": str})["identity"] != identity:
        raise ValueError(f"{folder}: belongs to another prediction by now")
    options: dict[str, Any] = {"allow_unknown": True, "memory": memory}
    return Predictor.from_checkpoint(folder / MODEL, device, trusted, **options)
