"""How far a prediction can be trusted, in numbers per atom, an expected error, and words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ase
import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from deepdft.inference.box import MARGIN, make_box, room
from deepdft.inference.domain import Domain
from deepdft.inference.encoded import EncodedStructure
from deepdft.inference.trust import unknown_elements
from deepdft.measures import EPS_MAD, absolute_deviations
from deepdft.models.base import DensityModel

__all__ = ["TRUST", "Trust", "assess", "repeats"]

TRUST = "trust"
"""Entry of a checkpoint's info with its `Domain`."""
MAX_NAMED = 5
"""Atoms that are named in words; the others are counted."""
SPREAD_SPACING, SPREAD_POINTS = 0.25, 4000
"""Largest spacing (Å) and largest number of points of the grid on which the spread of an ensemble is estimated."""


@dataclass(frozen=True, eq=False)
class Trust:
    """How far the prediction of a structure can be trusted."""

    novelty: NDArray[np.float64] | None
    """(n_atoms,) how unlike those of the training set an atom's surroundings are: above 1 they are outside, infinite
    for an element that the model was not trained on; None where the checkpoint has no trust record."""
    expected_eps_mae: float | None
    """Expected ε_mae in %; None where none can be expected: outside, or without a calibration."""
    reasons: tuple[str, ...] = ()
    """What is outside, a clause each: "atom 7 (S): surroundings unlike any the model was trained on"."""
    spread: float | None = None
    """Integrated spread of an ensemble's members in %, the measure of ε_mad; None for a single model."""
    missing: str = ""
    """Why there is no expected error although no atom is known to be outside."""

    @property
    def outside(self) -> bool:
        """Whether the structure, or an atom of it, is outside what the model was trained on."""
        return bool(self.reasons)

    @property
    def words(self) -> str:
        """One line of text."""
        if self.outside:
            return f"no error can be expected, outside what the model was trained on: {'; '.join(self.reasons)}"
        spread = "" if self.spread is None else f" (spread of the ensemble {self.spread:.2g} %)"
        if self.expected_eps_mae is None:
            return f"no estimate: {self.missing}{spread}"
        return f"expected ε_mae {self.expected_eps_mae:.2g} %{spread}"

    @property
    def heading(self) -> str:
        """A few words for the title of a picture; empty where there is no estimate."""
        if self.outside:
            return "outside what the model was trained on"
        return self.words if self.expected_eps_mae is not None or self.spread is not None else ""

    @property
    def unlike(self) -> list[int]:
        """Indices of the atoms whose surroundings are unlike any of the training set."""
        return [] if self.novelty is None else np.flatnonzero(self.novelty > 1.0).tolist()

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: "novelty" is a list of numbers, with null for infinite ones, or null altogether."""
        atoms = None if self.novelty is None else [float(x) if np.isfinite(x) else None for x in self.novelty.round(3)]
        return {
            "expected_eps_mae": self.expected_eps_mae,
            "outside": self.outside,
            "reasons": list(self.reasons),
            "words": self.words,
            "spread": self.spread,
            "novelty": atoms,
        }

    def as_text(self) -> dict[str, str]:
        """Entries of `DensityGrid.info`: "trust" in words, and "expected_eps_mae" in % where there is one."""
        expected = {} if self.expected_eps_mae is None else {"expected_eps_mae": f"{self.expected_eps_mae:.3g}"}
        return {"trust": self.words} | expected


def repeats(atoms: ase.Atoms, pbc: bool | None) -> bool:
    """Whether the model sees atoms across the faces of their cell.

    Args:
        atoms: the structure.
        pbc: of the model: None as the structure has it, True forced on, False ignored.
    """
    axes = np.full(3, pbc) if pbc is not None else atoms.pbc
    return bool(axes.any() and atoms.cell.rank == 3 and room(atoms)[axes].min() < MARGIN)


def assess(
    model: DensityModel,
    atoms: ase.Atoms,
    info: Mapping[str, Any],
    *,
    pbc: bool | None = None,
    encoded: EncodedStructure | None = None,
    spread: float | None = None,
) -> Trust:
    """How far the prediction of a structure can be trusted.

    Args:
        model: in evaluation mode.
        atoms: the structure.
        info: of the model's checkpoint: "trust" is a plain `Domain`, "elements" the atomic numbers of its training set.
        pbc: None as the structure has it, True forced on, False ignored.
        encoded: the structure, where it has been encoded.
        spread: of the members in %, where it is known; of an ensemble, it is estimated at some points otherwise.

    Raises:
        ValueError: if the trust record is damaged.
    """
    record = info.get(TRUST)
    domain = None if record is None else Domain.from_plain(record)
    reasons = _new_elements(atoms, info)
    novelty = None
    if domain is not None:
        encoded = EncodedStructure(model, atoms, pbc=pbc) if encoded is None else encoded
        invariants = encoded.invariants()
        if invariants is not None:
            novelty = domain.novelty(atoms.numbers, invariants)
            reasons += _unlike(atoms, novelty)
        if not domain.periodic and repeats(atoms, None):
            reasons.insert(0, "a periodic structure, and the model was trained on molecules only")
    if len(model.members) > 1 and spread is None and not reasons:
        spread = sampled_spread(model, atoms, pbc=pbc)
    expected, missing = _expected(model, domain, novelty, spread)
    return Trust(novelty, None if reasons else expected, tuple(reasons), spread, missing)


def _expected(
    model: DensityModel, domain: Domain | None, novelty: NDArray[np.float64] | None, spread: float | None
) -> tuple[float | None, str]:
    """Expected ε_mae in %, of an ensemble from its spread, else from novelty; or why there is none."""
    if model.spread_scale is not None and spread is not None:
        return model.spread_scale * spread, ""
    if spread is not None:
        return None, "the ensemble is not calibrated; deepdft-evaluate checkpoint=[…] subset=validation does it"
    if domain is None:
        return None, "the checkpoint has no trust record"
    if novelty is None or domain.expected is None or not np.isfinite(novelty).all():
        return None, "the model was not calibrated on validation structures"
    return domain.expected(novelty), ""


def _new_elements(atoms: ase.Atoms, info: Mapping[str, Any]) -> list[str]:
    new = np.flatnonzero(np.isin(atoms.numbers, unknown_elements(atoms.numbers, info)))
    what = "an element" if len(set(atoms.numbers[new])) == 1 else "elements"
    return [f"{_named(atoms, new)}: {what} the model was not trained on"] if len(new) else []


def _unlike(atoms: ase.Atoms, novelty: NDArray[np.float64]) -> list[str]:
    """A clause about the atoms with a finite novelty above 1, the most unlike first."""
    order = np.argsort(-novelty, kind="stable")
    unlike = order[(novelty[order] > 1.0) & np.isfinite(novelty[order])]
    return [f"{_named(atoms, unlike)}: surroundings unlike any the model was trained on"] if len(unlike) else []


def _named(atoms: ase.Atoms, indices: NDArray[np.integer]) -> str:
    """Atoms counted from 1 as in the structure: "atom 7 (S)", "atoms 7 (S), 2 (C) and 3 more"."""
    names = [f"{index + 1} ({chemical_symbols[atoms.numbers[index]]})" for index in indices[:MAX_NAMED]]
    more = f" and {len(indices) - len(names)} more" if len(indices) > len(names) else ""
    return f"{'atom' if len(indices) == 1 else 'atoms'} {', '.join(names)}{more}"


def sampled_spread(model: DensityModel, atoms: ase.Atoms, *, pbc: bool | None = None) -> float:
    """The integrated spread of an ensemble in %, estimated at some thousand points of a coarse grid."""
    box = make_box(atoms, spacing=SPREAD_SPACING)
    points = box.points(np.unique(np.random.default_rng(0).integers(box.n_points, size=SPREAD_POINTS)))
    encoded = [EncodedStructure(member, box.structure(), pbc=pbc) for member in model.members]
    densities = np.stack([one.total(points) for one in encoded]).astype(np.float64)
    deviation = absolute_deviations(densities).mean(axis=0).sum()
    return float(EPS_MAD.value(deviation, np.abs(densities.mean(axis=0)).sum()))
