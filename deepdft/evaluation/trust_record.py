"""The trust record of a checkpoint, made from a store: which atoms a model was trained on, and what error to expect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import ase
import numpy as np
from numpy.typing import NDArray

from deepdft.data.sampling import validation_points
from deepdft.data.store import Store, elements_of
from deepdft.density import grid_points
from deepdft.inference.assessment import repeats
from deepdft.inference.domain import WITHIN, Domain, ExpectedError, fit_domain
from deepdft.inference.encoded import EncodedStructure
from deepdft.metrics import eps_mae
from deepdft.models.base import DensityModel

__all__ = ["covering_indices", "sampled_errors", "trust_record"]

N_TRAINING, N_VALIDATION = 1200, 200
"""Largest number of structures, evenly spread over the set, from which a record is made."""
N_POINTS = 4000
"""Grid points per validation structure; the error at these is within a few per cent of that of the whole grid."""
SMALLEST_LIMIT = 0.05
"""Smallest limit in units of components, where the validation structures are in the training set."""


def trust_record(
    model: DensityModel,
    training: Sequence[ase.Atoms],
    validation: Sequence[tuple[ase.Atoms, float]],
    *,
    pbc: bool | None,
) -> dict[str, Any] | None:
    """Record for the entry "trust" of a checkpoint's info; None if no `invariants` of the model tell atoms apart.

    Args:
        model: in evaluation mode.
        training: structures it was trained on, with all of their elements.
        validation: structures it was not trained on, with their ε_mae in %.
        pbc: of the model: None as the structures have it, True forced on, False ignored.

    Raises:
        ValueError: if there are no validation structures.
    """
    if not validation:
        raise ValueError("the trust record of a model is calibrated on validation structures, and there are none")
    found = [_invariants(model, atoms, pbc) for atoms in training]
    if any(invariants is None for invariants in found):
        return None
    domain = fit_domain(
        np.concatenate([atoms.numbers for atoms in training]),
        np.concatenate([invariants for invariants in found if invariants is not None]),
        periodic=any(repeats(atoms, pbc) for atoms in training),
    )
    if domain.projection.shape[1] == 0:  # one round of messages to probes: its invariants tell elements apart, no more
        return None
    domain = Domain.from_plain(domain.to_plain())  # with the precision with which it is stored
    novelties, errors = [], []
    for atoms, error in validation:
        invariants = _invariants(model, atoms, pbc)
        assert invariants is not None
        novelty = domain.novelty(atoms.numbers, invariants)
        if np.isfinite(novelty).all() and error > 0:
            novelties.append(novelty)
            errors.append(error)
    if not novelties:
        return domain.to_plain()
    limit = max(float(np.quantile(np.concatenate(novelties), WITHIN, method="higher")), SMALLEST_LIMIT)
    expected = ExpectedError.fit([novelty / limit for novelty in novelties], np.array(errors))
    return replace(domain, limit=limit, expected=expected).to_plain()


def _invariants(model: DensityModel, atoms: ase.Atoms, pbc: bool | None) -> NDArray[np.floating] | None:
    return EncodedStructure(model, atoms, pbc=pbc).invariants()


def covering_indices(store: Store, indices: Sequence[int], count: int = N_TRAINING) -> list[int]:
    """Some of the structures of a store, so many at most of each element that all elements are there.

    Args:
        store: the densities.
        indices: which structures to choose from.
        count: of structures altogether, about.
    """
    by_element: dict[int, list[int]] = {}
    for index in indices:
        for number in elements_of([store.formulas[index]]):
            by_element.setdefault(number, []).append(index)
    share = max(1, count // max(len(by_element), 1))
    return sorted({index for those in by_element.values() for index in evenly_spread(those, share)})


def evenly_spread(indices: Sequence[int], count: int) -> list[int]:
    """At most `count` of some indices, evenly spread."""
    chosen = np.linspace(0, len(indices) - 1, min(count, len(indices))).round().astype(int)
    return [indices[i] for i in chosen]


def sampled_errors(
    model: DensityModel,
    store: Store,
    indices: Sequence[int],
    *,
    pbc: bool | None = None,
    label: str | None = None,
) -> Mapping[int, float]:
    """ε_mae in % of the total density of structures of a store, at some thousand grid points of each.

    Args:
        model: in evaluation mode.
        store: the references.
        indices: which structures; at most 200 of them, evenly spread, are looked at.
        pbc: None as the structures have it, True forced on, False ignored.
        label: which density of an ensemble store; None for its first.
    """
    errors = {}
    for index in evenly_spread(indices, N_VALIDATION):
        atoms, shape = store.atoms(index), store.shape(index)
        flat = validation_points(index, int(np.prod(shape)), N_POINTS)
        points = grid_points(atoms.cell.array, shape, store.origin(index), flat)
        reference = store.sample(index, flat, label)[:, 0]
        if reference.any():
            errors[index] = eps_mae(EncodedStructure(model, atoms, pbc=pbc).total(points), reference)
    return errors
