"""Which partial waves the PAW occupancies of a store belong to: their number and their averages tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations, product

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from deepdft.data.store import Store
from deepdft.nn.occupancies import WAVES, degrees_of_pairs, n_occupancies

__all__ = ["check_partial_waves", "partial_waves"]

MAX_STRUCTURES = 50
"""Structures whose occupancies are looked at."""
MAX_OF_DEGREE = (3, 3, 3, 2)
"""Largest number of channels of s, p, d and f waves; PAW sets have about two of each."""


def partial_waves(store: Store, indices: Sequence[int], label: str | None = None) -> dict[str, str]:
    """Channels of partial waves of each element, as {"H": "ssp", "O": "sspp"}.

    Channels of one degree stand together, as in VASP's POTCAR. The order of degrees, and the number of channels of each
    where it is ambiguous, is the one for which occupancies of degrees L above 0, which rotate, average to the least.

    Args:
        store: with occupancies.
        indices: of structures.
        label: which density of an ensemble store; None is its first.

    Raises:
        ValueError: if the structures have no occupancies, or those of an element have a number that no channels have.
    """
    rows = occupancies_by_element(store, indices[:MAX_STRUCTURES], label)
    return {chemical_symbols[number]: _likeliest(chemical_symbols[number], own) for number, own in sorted(rows.items())}


def check_partial_waves(
    given: Mapping[str, str], store: Store, indices: Sequence[int], label: str | None = None
) -> None:
    """Check that each element of some structures has as many occupancies as its partial waves say.

    Args:
        given: symbol of an element → channels of its partial waves.
        store: with occupancies.
        indices: of structures.
        label: which density of an ensemble store; None is its first.

    Raises:
        ValueError: naming the first element that has not.
    """
    for number, rows in occupancies_by_element(store, indices[:MAX_STRUCTURES], label).items():
        symbol = chemical_symbols[number]
        if symbol not in given:
            raise ValueError(f"model.occupancies has no partial waves of {symbol}, which {store.root} contains")
        if rows.shape[1] != n_occupancies(given[symbol]):
            raise ValueError(
                f"model.occupancies: {symbol} with the partial waves {given[symbol]} has "
                f"{n_occupancies(given[symbol])} occupancies, and those in {store.root} are {rows.shape[1]}"
            )


def occupancies_by_element(
    store: Store, indices: Sequence[int], label: str | None = None
) -> dict[int, NDArray[np.float64]]:
    """Occupancies (n_atoms, n) of the total density of all atoms of each element.

    Raises:
        ValueError: if a structure has none, or an element has different numbers of them.
    """
    found: dict[int, list[NDArray[np.float64]]] = {}
    for i in indices:
        numbers = store.atoms(i).numbers
        for number, row in zip(numbers.tolist(), store.occupancies(i, label)[:, 0], strict=True):
            found.setdefault(number, []).append(row[np.isfinite(row)])
    for number, rows in found.items():
        if len(lengths := {len(row) for row in rows}) > 1:
            raise ValueError(
                f"{store.root}: {chemical_symbols[number]} has {' and '.join(map(str, sorted(lengths)))} PAW "
                "occupancies: the structures were calculated with different POTCARs"
            )
    return {number: np.array(rows) for number, rows in found.items()}


def _likeliest(symbol: str, occupancies: NDArray[np.float64]) -> str:
    """The partial waves of an element with occupancies (n_atoms, n)."""
    squares = occupancies.mean(axis=0) ** 2
    candidates = _candidates(len(squares))
    if not candidates:
        raise ValueError(
            f"{symbol} has {len(squares)} PAW occupancies, which up to three channels of each degree do not have; "
            f"give its partial waves, as model.occupancies={{{symbol}: sspp}}"
        )
    return min(candidates, key=lambda waves: (squares[_rotating(waves)].sum(), [*map(WAVES.index, waves)]))


def _candidates(n: int) -> list[str]:
    """Partial waves with n occupancies."""
    found = []
    for counts in product(*(range(largest + 1) for largest in MAX_OF_DEGREE)):
        groups = [WAVES[degree] * count for degree, count in enumerate(counts) if count]
        if groups and n_occupancies("".join(groups)) == n:
            found += ["".join(order) for order in permutations(groups)]
    return found


def _rotating(waves: str) -> NDArray[np.bool_]:
    """Which occupancies rotate: those of degrees above 0."""
    return np.concatenate([np.full(2 * degree + 1, degree > 0) for degree in degrees_of_pairs(waves)])
