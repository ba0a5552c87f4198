"""What the page can be asked for, apart from how it is asked over HTTP."""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

import deepdft
from deepdft.inference.predictor import Predictor
from deepdft.io.names import known_names, structure_by_name
from deepdft.plotting.formulas import formula
from deepdft.viewer.limits import Limits
from deepdft.viewer.prediction import FIELDS, Prediction
from deepdft.viewer.reading import Reader
from deepdft.viewer.sources import Source, from_text
from deepdft.viewer.tasks import compare, predict, show_file
from deepdft.viewer.work import BusyError, Job, Jobs

__all__ = ["MissingError", "Service", "UnfinishedError"]

MOLECULES = ("water", "ethanol", "benzene", "caffeine", "acetic acid", "thiophene", "aspirin", "glucose")
CRYSTALS = ("salt", "diamond", "silicon", "copper")
"""Names that the page offers first; crystals only of models that know salt, and so more than organic molecules."""


class MissingError(LookupError):
    """What was asked for is not there, or not any more."""


class UnfinishedError(RuntimeError):
    """A density was asked for that is not there yet, or never will be."""


class Service:
    """A model with a queue of predictions, and what visitors uploaded.

    Args:
        predictor: the model.
        model_name: what the page calls it.
        limits: bounds on requests.
    """

    def __init__(self, predictor: Predictor, model_name: str, limits: Limits) -> None:
        self.predictor, self.model_name, self.limits = predictor, model_name, limits
        self.jobs: Jobs[Prediction] = Jobs(
            max_waiting=limits.max_waiting,
            max_kept=limits.max_kept,
            max_kept_bytes=limits.max_kept_bytes,
            max_seconds=limits.max_seconds,
        )
        self.reader = Reader(limits)
        self.receiving = asyncio.Semaphore(limits.max_receiving)
        self._reading = threading.Semaphore(limits.max_reading)
        self._uploads: OrderedDict[str, Source] = OrderedDict()
        self._lock = threading.Lock()

    def close(self) -> None:
        """End what is under way."""
        self.jobs.close()
        self.reader.close()

    def info(self) -> dict[str, Any]:
        """Version, model, fields, bounds, and the names of the list."""
        known = self._elements()
        return {
            "version": deepdft.__version__,
            "model": self.model_name,
            "elements": None if known is None else sorted(known),
            "examples": [name for name in known_names() if self._knows(name)],
            "gallery": self._gallery(),
            "fields": FIELDS,
            "limits": vars(self.limits),
        }

    def upload(self, name: str, content: bytes) -> dict[str, Any]:
        """Read and keep a file; returns its id and what is in it.

        Raises:
            ValueError: if it cannot be read, or is too large.
        """
        with self._waiting():
            source = self.reader.upload(name, content)
        return {
            "id": self.keep(source),
            "label": source.label,
            "formula": formula(source.atoms),
            "n_atoms": len(source.atoms),
            "has_density": source.reference is not None,
        }

    def keep(self, source: Source) -> str:
        """Keep an upload and drop the oldest; returns its id."""
        identifier = secrets.token_urlsafe(9)
        with self._lock:
            self._uploads[identifier] = source
            while len(self._uploads) > 1 and (
                len(self._uploads) > self.limits.max_uploads
                or sum(kept.n_bytes for kept in self._uploads.values()) > self.limits.max_uploads_bytes
            ):
                self._uploads.popitem(last=False)
        return identifier

    def start(
        self, *, structure: str | None, upload: str | None, spacing: float, fields: Iterable[str]
    ) -> Job[Prediction]:
        """Put a prediction into the queue; of a density that the model cannot predict, the density itself.

        Raises:
            ValueError: if there is no such structure, or it is nothing for the model.
            MissingError: if the upload is not kept any more.
            BusyError: if the queue is full.
        """
        low, high = self.limits.min_spacing, self.limits.max_spacing
        if not low <= spacing <= high:
            raise ValueError(f"spacing: expected {low} to {high} Å")
        source = self._from_text(structure or "") if upload is None else self._uploaded(upload)
        known = self._elements()
        new = set() if known is None else set(source.atoms.get_chemical_symbols()) - known
        if new:
            reason = (
                f"{source.label}: the model was not trained on {', '.join(sorted(new))}; it knows "
                f"{', '.join(sorted(known or []))}"
            )
            if source.reference is None:
                raise ValueError(f"{reason}. deepdft-view checkpoint=free_atoms shows free atoms side by side")
            return self.jobs.submit(show_file(self.predictor, source, f"{reason}. This is the density of the file"))
        task = predict(self.predictor, source, spacing=spacing, fields=list(fields), limits=self.limits)
        return self.jobs.submit(task)

    def compare(self, first: str, second: str) -> Job[Prediction]:
        """Put the comparison of two predictions into the queue.

        Raises:
            ValueError: if one is no prediction.
            MissingError: if one is not kept any more.
            UnfinishedError: if one is not done.
            BusyError: if the queue is full.
        """
        both = self.prediction(first), self.prediction(second)
        if not all(one.is_prediction for one in both):
            raise ValueError("only predictions are compared, and one of these is the density of a file")
        return self.jobs.submit(compare(*both, self.limits))

    def job(self, identifier: str) -> Job[Prediction]:
        """A prediction in the queue, under way or finished.

        Raises:
            MissingError: if there is none.
        """
        try:
            return self.jobs.get(identifier)
        except KeyError:
            raise MissingError("there is no such prediction any more: ask for it again") from None

    def prediction(self, identifier: str) -> Prediction:
        """A finished prediction.

        Raises:
            MissingError: if there is none.
            UnfinishedError: if it is not finished, or has failed.
        """
        job = self.job(identifier)
        if job.result is None:
            raise UnfinishedError(f"the prediction is {job.state}" + (f": {job.error}" if job.error else ""))
        return job.result

    def values(self, identifier: str, field: str) -> tuple[Prediction, NDArray[np.floating]]:
        """A finished prediction and the values (nx, ny, nz) of one of its fields.

        Raises:
            MissingError: if there is no such prediction, or it has no such field.
            UnfinishedError: if it is not finished, or has failed.
        """
        prediction = self.prediction(identifier)
        try:
            return prediction, prediction.values(field)
        except KeyError:
            raise MissingError(f"the prediction has no field {field}") from None

    def _from_text(self, text: str) -> Source:
        atoms = structure_by_name(text)
        if atoms is not None:  # names need no reader of SMILES
            return from_text(text, self.limits)
        with self._waiting():
            return self.reader.text(text)

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        """A place among those who wait for the reader."""
        if not self._reading.acquire(blocking=False):
            raise BusyError("too many files are being read; try again in a moment")
        try:
            yield
        finally:
            self._reading.release()

    def _uploaded(self, identifier: str) -> Source:
        try:
            return self._uploads[identifier]
        except KeyError:
            raise MissingError("the upload is not kept any more: upload it again") from None

    def _gallery(self) -> list[dict[str, str]]:
        """Names and formulas that the page offers first, of those that the model knows."""
        found = []
        for name in (*MOLECULES, *(CRYSTALS if self._knows(CRYSTALS[0]) else ())):
            atoms = structure_by_name(name)
            if atoms is not None and self._knows(name):
                found.append({"name": name, "formula": formula(atoms)})
        return found

    def _knows(self, name: str) -> bool:
        """Whether the model was trained on the elements of a structure that has a name, and it is not too large."""
        atoms, known = structure_by_name(name), self._elements()
        assert atoms is not None
        return len(atoms) <= self.limits.max_atoms and (known is None or set(atoms.get_chemical_symbols()) <= known)

    def _elements(self) -> set[str] | None:
        numbers = self.predictor.info.get("elements")
        return None if numbers is None else {chemical_symbols[int(number)] for number in numbers}
