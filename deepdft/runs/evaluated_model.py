"""The model of an evaluation, and the structures that it is evaluated on."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ase
from ase.data import chemical_symbols

from deepdft.checkpoint import Checkpoint, load_checkpoint, model_name
from deepdft.data.splits import load_split
from deepdft.data.store import DensityStore, elements_of
from deepdft.errors import InputWarning
from deepdft.evaluation.errors import References, StructureErrors, evaluate_structure
from deepdft.evaluation.ranks import Ranks
from deepdft.evaluation.summary import electron_counts_that_differ
from deepdft.inference.encoded import EncodedStructure
from deepdft.inference.predictor import choose_device
from deepdft.measures import MEASURES
from deepdft.runs.evaluation_settings import PBC, EvaluationSettings
from deepdft.runs.rows import collect

__all__ = ["EvaluatedModel", "chosen_indices", "warn"]


@dataclass(frozen=True)
class EvaluatedModel:
    """A model with the settings that it is evaluated with."""

    checkpoint: Checkpoint
    """The model and what its file says of it."""
    settings: EvaluationSettings
    """Settings of the evaluation."""
    pbc: bool | None
    """Periodic boundaries: None as stored, True forced on, False ignored."""

    @classmethod
    def load(cls, settings: EvaluationSettings, process_group: Ranks) -> EvaluatedModel:
        """Load the model that `settings.checkpoint` names onto the device of this process."""
        device = choose_device(settings.device)
        if device.type == "cuda" and process_group.world_size > 1:
            device = choose_device(f"cuda:{process_group.local_rank}")
        checkpoint = load_checkpoint(str(settings.checkpoint), device=device, trusted=tuple(settings.trusted))
        pbc = checkpoint.pbc if settings.pbc is None else settings.pbc
        if process_group.rank == 0:
            trained = "as" if pbc == checkpoint.pbc else f"{PBC[checkpoint.pbc]} when"
            print(f"periodic boundaries {PBC[pbc]} ({trained} the model was trained)")
        return cls(checkpoint, settings, pbc)

    @property
    def fingerprint(self) -> str:
        """sha256 of the model's config and weights, whatever file they came in."""
        digest = hashlib.sha256(json.dumps(self.checkpoint.config, sort_keys=True).encode())
        for name, weight in sorted(self.checkpoint.model.state_dict().items()):
            digest.update(name.encode())
            digest.update(weight.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def encode(self, atoms: ase.Atoms) -> EncodedStructure:
        """Encode a structure for any number of query points."""
        return EncodedStructure(self.checkpoint.model, atoms, pbc=self.pbc)

    def errors(
        self,
        references: References,
        indices: Sequence[int],
        *,
        label: str | None,
        subset: str,
        identity: Mapping[str, Any],
        process_group: Ranks,
        output: Path,
        run: Callable[[Sequence[int]], Iterable[StructureErrors]] | None = None,
    ) -> tuple[list[StructureErrors], int]:
        """Errors of the model, which the processes compute together, and warnings of what makes them doubtful.

        Args:
            references: the structures with their densities.
            indices: of the structures among them.
            label: which density of an ensemble store; None for its first.
            subset: which part of the split the structures are.
            identity: of the references, so that an interrupted evaluation resumes only with the same ones.
            process_group: this process among all.
            output: folder of the evaluation.
            run: computes the errors of several structures elsewhere; None computes them here.

        Returns:
            Errors of each structure, and the number of grid points predicted by this call.
        """
        model, info = self.checkpoint.model, self.checkpoint.info
        errors, n_points = collect(
            StructureErrors,
            partial(evaluate_structure, model, references, pbc=self.pbc, label=label, info=info),
            indices,
            measure="eps_mae",
            identity={
                **identity,
                "checkpoint": self.fingerprint,
                "pbc": self.pbc,
                "matmul_precision": self.settings.matmul_precision,
                "measures": [measure.name for measure in MEASURES],
            },
            process_group=process_group,
            output=output,
            run=run,
        )
        if process_group.rank == 0:
            self._warn(errors, subset)
        return errors, n_points

    def _warn(self, rows: Sequence[StructureErrors], subset: str) -> None:
        """Warn of structures that the model was trained on, of new elements, and of other electron counts."""
        trained_on = self._trained_on()
        seen = [row.name for row in rows if row.name in trained_on]
        if seen and subset != "train":
            warn(f"the model was trained on {len(seen)} of these {len(rows)} structures, e.g. {seen[0]}")
        known = self.checkpoint.info.get("elements")
        new = [] if known is None else sorted(set(elements_of(row.formula for row in rows)) - set(known))
        if new:
            names = ", ".join(chemical_symbols[number] for number in new)
            warn(f"the model has not been trained on {names}, which these structures contain")
        other_counts = electron_counts_that_differ(rows)
        if other_counts is not None:
            warn(other_counts)

    def _trained_on(self) -> set[str]:
        """Names of the structures that the model was trained on; empty if no run directory tells."""
        folder = Path(str(self.checkpoint.info.get("path"))).resolve().parent
        file = folder.parent / "split.json"
        in_run = folder.name == "checkpoints" and file.is_file()
        return set(json.loads(file.read_text())["train"]) if in_run else set()

    def summary(self) -> dict[str, Any]:
        """Entries of summary.json that identify the model."""
        path = Path(str(self.settings.checkpoint))  # no such file if it is the word `free_atoms` or `bundled`
        return {
            "checkpoint": str(self.settings.checkpoint),
            "checkpoint_file": str(path.resolve()) if path.exists() else None,
            "checkpoint_sha256": self.fingerprint,
            "model": model_name(self.checkpoint.config),
            "step": self.checkpoint.info.get("step"),
            "pbc": self.pbc,
            "device": str(next(self.checkpoint.model.parameters()).device),
        }


def chosen_indices(settings: EvaluationSettings, store: DensityStore, subset: str) -> list[int]:
    """Indices of the structures in a subset of a store.

    Raises:
        ValueError: if it is empty.
    """
    if subset == "all":
        return list(range(len(store)))
    indices = list(getattr(load_split(settings.split, store), subset))
    if not indices:
        raise ValueError(f"{store.root}: the split has no {subset} structures; expected data.split or subset=all")
    return indices


def warn(text: str) -> None:
    """Warn of input that makes the figures doubtful."""
    warnings.warn(text, InputWarning, stacklevel=3)
