"""A prediction whose slabs lie in a folder beside its output, from where it continues after it was killed.

The folder `x.cube.parts` holds `plan.json`, the finished slabs and, where other processes help, the structure and the
model. It is removed when the output is written.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import ase
import numpy as np
import torch

from deepdft.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from deepdft.density import Order, collinear_moments
from deepdft.files import atomic_write, read_json, write_json
from deepdft.inference.box import Box, Region
from deepdft.inference.device import choose_device
from deepdft.inference.domains import Domain
from deepdft.inference.pieces import Pieces
from deepdft.inference.slabs import Slab, SlabFiles
from deepdft.models.base import DensityModel
from deepdft.version import version

__all__ = ["SlabJob", "begin_parts", "fingerprint", "open_job", "parts_folder"]

PLAN, MODEL, STRUCTURE = "plan.json", "model.ckpt", "structure.npz"


def parts_folder(output: Path) -> Path:
    """The folder for the parts of a prediction: x.cube → x.cube.parts."""
    return output.with_name(f"{output.name}.parts")


def fingerprint(model: DensityModel, boxes: Iterable[Box], *settings: Any) -> str:
    """A digest of all that decides what a prediction gives."""
    digest = hashlib.sha256(repr((version(), type(model).__name__, torch.get_float32_matmul_precision())).encode())
    digest.update(repr(settings).encode())
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    for box in boxes:
        digest.update(repr(box.shape).encode())
        for array in _arrays(box).values():
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def begin_parts(folder: Path, identity: str) -> dict[str, Any] | None:
    """The plan of a prediction that was begun in a folder; None, and an empty folder, if it was another one or none.

    Raises:
        ValueError: if the folder is no such folder.
    """
    if folder.exists():
        if not folder.is_dir() or (any(folder.iterdir()) and not (folder / PLAN).exists()):
            raise ValueError(f"{folder}: expected the parts of an unfinished prediction; move it away")
        if (folder / PLAN).exists():
            plan: dict[str, Any] = read_json(folder / PLAN, keys={"identity": str})
            if plan["identity"] == identity:
                return plan
            print(f"{folder}: the parts of a prediction with other settings are discarded")
        shutil.rmtree(folder)
    folder.mkdir()
    return None


class SlabJob:
    """The slabs of one structure's grid, in a folder.

    Args:
        folder: of the parts; it has a plan.
        pieces: of the grid.
    """

    def __init__(self, folder: Path, pieces: Pieces) -> None:
        self.pieces = pieces
        self.files = SlabFiles(folder, pieces.slabs, pieces.box, len(pieces.model.channels))

    @classmethod
    def begin(cls, folder: Path, identity: str, pieces: Pieces) -> Self:
        """Begin a job, or continue one with the same identity.

        Args:
            folder: for the parts.
            identity: from `fingerprint`.
            pieces: of the grid, as they would be cut now; a job that was begun keeps its domains.
        """
        plan = begin_parts(folder, identity)
        if plan is None:
            domains = [asdict(domain) for domain in pieces.domains]
            write_plan(folder, {"identity": identity, "points_in_slab": pieces.points_in_slab, "domains": domains})
        else:
            pieces.recut([_domain(entry) for entry in plan["domains"]], plan["points_in_slab"])
        return cls(folder, pieces)

    def share(self, checkpoint: Checkpoint, order: Order) -> None:
        """Put the structure and the model into the folder, for processes that help."""
        folder = self.files.folder
        save_checkpoint(folder / MODEL, checkpoint)
        with atomic_write(folder / STRUCTURE) as beside, beside.open("wb") as file:
            box = self.pieces.box
            np.savez(file, **_arrays(box), shape=box.shape, order=order)

    def predict(self, slab: Slab) -> None:
        """Predict a slab, unless it is there."""
        if not self.files.path(slab).exists():
            self.files.write(slab, self.pieces.density(slab))

    def tasks(self) -> list[list[Slab]]:
        """The missing slabs, together where they share a domain that is encoded for them."""
        missing = self.files.missing()
        if self.pieces.is_whole:
            return [[slab] for slab in missing]
        return [own for d in range(len(self.pieces.domains)) if (own := [s for s in missing if s.domain == d])]


def write_plan(folder: Path, plan: dict[str, Any]) -> None:
    """Write the plan of a folder of parts."""
    write_json(folder / PLAN, plan)


@lru_cache(maxsize=1)
def open_job(folder: Path, identity: str, device: str, trusted: Sequence[str]) -> SlabJob:
    """A job that another process has begun and shared; the last one stays open.

    Raises:
        ValueError: if the folder belongs to another job by now.
    """
    plan = read_json(folder / PLAN, keys={"identity": str, "domains": list})
    if plan["identity"] != identity:
        raise ValueError(f"{folder}: belongs to another prediction by now")
    checkpoint = load_checkpoint(folder / MODEL, device=choose_device(device), trusted=trusted)
    with np.load(folder / STRUCTURE) as stored:
        atoms = ase.Atoms(
            stored["numbers"],
            stored["positions"],
            cell=stored["cell"],
            pbc=stored["pbc"],
            magmoms=stored["moments"],
        )
        boxed = ase.Atoms(cell=stored["box"])
        box = Region(boxed, tuple(stored["shape"].tolist()), stored["origin"], repeats=False, whole=atoms)
        order: Order = "C" if str(stored["order"]) == "C" else "F"
    cut: dict[str, Any] = {
        "cut": [_domain(entry) for entry in plan["domains"]],
        "points_in_slab": plan["points_in_slab"],
    }
    return SlabJob(folder, Pieces(checkpoint.model.eval(), box, pbc=checkpoint.pbc, order=order, **cut))


def _domain(entry: dict[str, Any]) -> Domain:
    (i, j, k), (i_end, j_end, k_end) = entry["start"], entry["stop"]
    return Domain((i, j, k), (i_end, j_end, k_end), entry["n_atoms"])


def _arrays(box: Box) -> dict[str, Any]:
    """The arrays of a box by name."""
    structure = box.structure()
    return {
        "numbers": structure.numbers,
        "moments": collinear_moments(structure),
        "positions": structure.positions,
        "cell": structure.cell.array,
        "pbc": structure.pbc,
        "box": box.cell,
        "origin": box.origin,
    }
