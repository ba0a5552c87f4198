"""Settings of an evaluation, checked before anything is loaded, and the data that a run brings with it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deepdft import bundled
from deepdft.checkpoint import BUNDLED, FREE_ATOMS
from deepdft.clusters import Workers
from deepdft.data.store import DensityStore
from deepdft.dft.start_comparison import STARTS
from deepdft.runs.directory import run_directory_of
from deepdft.runs.resume import stored_config

__all__ = ["PBC", "EvaluationSettings", "with_data"]

SUBSETS = ("train", "validation", "test", "all")
PBC = {None: "as stored", True: "forced on", False: "ignored"}


@dataclass(frozen=True)
class EvaluationSettings:
    """The settings of an evaluation: a model, data, and how they are compared.

    Raises:
        ValueError: if a value is none of those that are expected.
    """

    evaluation: str = "errors"
    """errors of a model against the store's densities | xc_ensemble: spread of several densities of each structure |
    scf_start: iterations of calculations that start from predictions"""
    checkpoint: str | None = None
    """Checkpoint file, run directory, released model folder, `bundled` or `free_atoms`."""
    root: str | None = None
    """Folder of the store; None for the data of the evaluated run."""
    split: str | Mapping[str, int] | None = None
    """Split file or numbers to draw; None for the split of the run, or that stored with the data."""
    label: str | None = None
    """Which density of a store with several; None for its first."""
    densities: Sequence[str] | None = None
    """For xc_ensemble: LABEL=SOURCE of each density; None for the labels of the store."""
    reference: str | None = None
    """For xc_ensemble: label of the density that the others are compared with; None for PBE."""
    dft: Mapping[str, Any] | None = None
    """For scf_start: the engine's settings, of the group dft."""
    starts: Sequence[str] = ("default", "atoms", "model", "exact")
    """For scf_start: starting densities, of `deepdft.dft.start_comparison.STARTS`."""
    thresholds: Sequence[float] = (1e-6, 1e-8)
    """For scf_start: Ry, estimated errors of the energy until which iterations are counted."""
    subset: str | None = None
    """train, validation, test or all; None for test (errors) or all (xc_ensemble)."""
    pbc: bool | None = None
    """Periodic boundaries: None as the model was trained, True forced on, False ignored."""
    limit: int | None = None
    """Only the first structures of the subset."""
    pictures: int = 3
    """Number of structures with the largest errors that are drawn."""
    device: str = "auto"
    """cpu, cuda, cuda:N or auto."""
    matmul_precision: str = "highest"
    """Rounding of float32 matrix products: highest, high or medium."""
    trusted: Sequence[str] = ()
    """Packages outside deepdft whose model classes a checkpoint may name."""
    cluster: Workers | None = None
    """Predicts the structures of evaluation=errors in other processes; None predicts them here."""

    def __post_init__(self) -> None:
        for name, least in (("limit", 1), ("pictures", 0)):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < least):
                raise ValueError(f"{name}={value}: expected a whole number, at least {least}")
        for name in ("trusted", "densities", "starts", "thresholds"):
            if isinstance(value := getattr(self, name), str | float | int):
                example = "[PBE=a/CHGCAR,RPBE=b/CHGCAR]" if name == "densities" else f"[{value}]"
                raise ValueError(f"{name}={value}: expected a list, as {name}={example}")
        if unknown := [start for start in self.starts if start not in STARTS]:
            raise ValueError(f"starts: {', '.join(map(str, unknown))}: expected some of {', '.join(STARTS)}")
        if not self.starts:
            raise ValueError(f"starts=[]: expected some of {', '.join(STARTS)}")
        if self.subset not in (None, *SUBSETS):
            raise ValueError(f"subset={self.subset}: expected one of {', '.join(SUBSETS)}")
        if self.pbc not in PBC or (isinstance(self.pbc, int) and not isinstance(self.pbc, bool)):
            raise ValueError(f"pbc={self.pbc}: expected null (as the model was trained), true or false")
        self._check_kind()

    def _check_kind(self) -> None:
        """Refuse settings of the other kind of evaluation."""
        if self.evaluation == "xc_ensemble" and self.label is not None:
            raise ValueError(
                f"data.label={self.label}: an ensemble takes all labels; reference= chooses the one to compare with"
            )
        if self.evaluation == "errors" and self.densities is not None:
            raise ValueError(
                "densities= belongs to evaluation=xc_ensemble; for the errors of a model make a store of the files "
                "first: deepdft-convert source=FILES output=STORE, then data.root=STORE subset=all"
            )
        if self.evaluation == "scf_start" and self.dft is None:
            raise ValueError("evaluation=scf_start needs the settings of the calculations: give dft=qe")
        if self.evaluation != "scf_start" and self.dft is not None:
            raise ValueError("dft= belongs to evaluation=scf_start")
        if self.evaluation != "xc_ensemble" and self.checkpoint is None:
            raise ValueError(
                "checkpoint= is required: give a checkpoint file, a run directory or a released model folder"
            )


def with_data(settings: EvaluationSettings) -> tuple[EvaluationSettings, str | None]:
    """Complete the settings with the data, and the split, of the evaluated run if none are given.

    Returns:
        The settings, and a sentence about data that the user has not named.

    Raises:
        FileNotFoundError: if the data of the run are no longer there.
        ValueError: if no data are given and the checkpoint brings none.
    """
    if settings.densities is not None:
        return settings, None
    run = None if settings.checkpoint is None else run_directory_of(Path(settings.checkpoint))
    if settings.root is None:
        root, whose = _own_root(settings, run)
        settings = replace(settings, root=str(root))
        message = f"data: {root}, {whose}"
    else:
        message = None
    if run is None:
        return settings, message
    return _with_own_split(settings, run, message)


def _own_root(settings: EvaluationSettings, run: Path | None) -> tuple[Path, str]:
    """The store that a checkpoint brings with it, and a description of it."""
    if run is not None:
        root = Path(_data_of(run)["root"])
        if not root.exists() and root.name in bundled.names():
            root = bundled.path(root.name)  # of another installation
        if not root.exists():
            raise FileNotFoundError(f"{run}: its data, {root}, are not there; give data.root=STORE")
        return root, "the data of this run"
    if settings.checkpoint in (BUNDLED, FREE_ATOMS) and settings.evaluation == "errors":
        return bundled.path("qm9_demo"), "the bundled molecules; data.root=STORE evaluates on others"
    what = "a checkpoint outside a run directory" if settings.checkpoint else f"evaluation={settings.evaluation}"
    raise ValueError(f"data.root= is required with {what}: give a store made by deepdft-convert")


def _with_own_split(
    settings: EvaluationSettings, run: Path, message: str | None
) -> tuple[EvaluationSettings, str | None]:
    """Add the split and the label that a run was trained with, if it was trained on the evaluated data."""
    data, split = _data_of(run), run / "split.json"
    same = data.get("fingerprint") == DensityStore(str(settings.root)).fingerprint
    if not same:
        if message is not None:
            message += f", which have changed since: the split is that of the store, not {split}"
        return settings, message
    if settings.split is None and split.is_file():
        settings = replace(settings, split=str(split))
        message = None if message is None else f"{message}, with its split"
    if settings.label is None and settings.evaluation == "errors":
        settings = replace(settings, label=data.get("label"))
    return settings, message


def _data_of(run: Path) -> dict[str, Any]:
    """Root, fingerprint and label of the data that a run was trained on."""
    config = stored_config(run) or {}
    data = {"root": "", "label": None} | dict(config.get("data", {}))
    file = run / "run.json"
    return data | (json.loads(file.read_text())["data"] if file.is_file() else {})
