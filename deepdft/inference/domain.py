"""What a model was trained on, small enough for its checkpoint: how unlike that an atom's surroundings are.

Invariant numbers of encoded atoms (`DensityModel.invariants`) are standardised and reduced to a few principal
components, in which the training atoms, or a few thousand that cover them, are kept. The *novelty* of an atom is its
distance to the nearest training atom of its element, in units of a limit that hardly any atom of the validation
structures exceeds. The error of a density is expected from the mean novelty of its atoms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

__all__ = ["Domain", "ExpectedError", "fit_domain"]

Array = NDArray[np.floating]

N_COMPONENTS = 16
"""Principal components; from 12 to 32 the flags of held-out and of foreign structures are the same within noise."""
MAX_BYTES = 90_000
"""Of a record, most of it the components of training atoms."""
WITHIN = 0.99
"""Share of the validation structures' atoms with a novelty below 1."""
SMALLEST = 1e-3
"""A structure of the training set itself has a novelty of zero, and no error can be expected of its logarithm."""


@dataclass(frozen=True)
class ExpectedError:
    """The ε_mae of a structure as a power of its atoms' mean novelty, from structures that were not trained on."""

    at_limit: float
    """Expected ε_mae in % where the mean novelty is 1."""
    power: float
    """Not below zero: what is less like the training set is not expected to be better."""
    n_structures: int
    """It was fitted to."""
    smallest: float = SMALLEST
    """Mean novelty of the most familiar of these structures; nothing is expected to be better than it."""

    def __call__(self, novelty: Array) -> float:
        """Expected ε_mae in % of a structure with atoms of novelty (n_atoms,)."""
        return float(self.at_limit * max(float(np.mean(novelty)), self.smallest) ** self.power)

    @classmethod
    def fit(cls, novelties: list[Array], errors: Array) -> Self:
        """Fit by least squares of the logarithms.

        Args:
            novelties: (n_atoms,) of each structure.
            errors: (n_structures,) ε_mae in %.
        """
        x = np.log([max(float(np.mean(novelty)), SMALLEST) for novelty in novelties])
        y = np.log(np.maximum(errors, 1e-6))
        deviation = x - x.mean()
        power = float(max((deviation @ y) / max(deviation @ deviation, 1e-12), 0.0)) if len(x) > 2 else 0.0
        return cls(float(np.exp(y.mean() - power * x.mean())), power, len(x), float(np.exp(x.min())))


@dataclass(frozen=True, eq=False)
class Domain:
    """What a model was trained on."""

    projection: Array
    """(n_invariants, n_components): what makes components of unit variance of a model's invariants."""
    centres: dict[int, Array]
    """Atomic number → (n_components,), what is subtracted, so that small numbers are stored."""
    references: dict[int, Array]
    """Atomic number → (n, n_components) of training atoms."""
    limit: float
    """Distance in units of components that has the novelty 1."""
    periodic: bool
    """Whether any of the training structures repeats."""
    expected: ExpectedError | None
    """None where there was nothing to calibrate it on."""

    def novelty(self, numbers: NDArray[np.integer], invariants: Array) -> NDArray[np.float64]:
        """Distances (n_atoms,) of atoms from those of the training set, 1 at the limit; infinite for new elements.

        Args:
            numbers: (n_atoms,) atomic numbers.
            invariants: (n_atoms, n_invariants) of the model.
        """
        found = np.full(len(numbers), np.inf)
        for number in set(map(int, numbers)) & self.references.keys():
            own = np.flatnonzero(numbers == number)
            components = invariants[own].astype(np.float64) @ self.projection - self.centres[number]
            found[own] = cKDTree(self.references[number]).query(components)[0] / self.limit
        return found

    def to_plain(self) -> dict[str, Any]:
        """Tensors and plain values for a checkpoint."""
        return {
            "projection": torch.from_numpy(self.projection.astype(np.float32)),
            "centres": {number: torch.from_numpy(row.astype(np.float32)) for number, row in self.centres.items()},
            "references": {
                number: torch.from_numpy(rows.astype(np.float16)) for number, rows in self.references.items()
            },
            "limit": self.limit,
            "periodic": self.periodic,
            "expected": None if self.expected is None else asdict(self.expected),
        }

    @classmethod
    def from_plain(cls, record: Mapping[str, Any]) -> Self:
        """The inverse of `to_plain`.

        Raises:
            ValueError: if the record is damaged.
        """
        try:
            expected = record["expected"]
            return cls(
                projection=record["projection"].double().numpy(),
                centres={int(number): row.double().numpy() for number, row in record["centres"].items()},
                references={int(number): rows.double().numpy() for number, rows in record["references"].items()},
                limit=float(record["limit"]),
                periodic=bool(record["periodic"]),
                expected=None if expected is None else ExpectedError(**expected),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"the trust record of the checkpoint is damaged: {error}") from error


def fit_domain(numbers: NDArray[np.integer], invariants: Array, *, periodic: bool) -> Domain:
    """The domain of training atoms, with a limit of 1 and no expected error yet.

    Args:
        numbers: (n_atoms,) atomic numbers of training atoms.
        invariants: (n_atoms, n_invariants) of the model.
        periodic: whether any of the training structures repeats.
    """
    elements = sorted(set(map(int, numbers)))
    values = invariants.astype(np.float64)
    means = {number: values[numbers == number].mean(axis=0) for number in elements}
    centred = values - np.stack([means[int(number)] for number in numbers])
    deviations = centred.std(axis=0)
    used = deviations > 1e-6 * max(float(deviations.max()), 1e-30)
    scaled = centred[:, used] / deviations[used]
    _, sizes, axes = np.linalg.svd(scaled, full_matrices=False)
    count = min(N_COMPONENTS, int((sizes > 1e-4 * max(float(sizes.max(initial=0.0)), 1e-30)).sum()))
    projection = np.zeros((values.shape[1], count))
    projection[used] = (axes[:count].T / sizes[:count] * len(values) ** 0.5) / deviations[used, None]
    centres = {number: means[number] @ projection for number in elements}
    components = centred @ projection
    n_kept = max(len(elements), (MAX_BYTES - 4 * projection.size) // (2 * max(count, 1)))
    kept = _covering(numbers, components, n_kept)
    references = {number: components[kept[numbers[kept] == number]] for number in elements}
    return Domain(projection, centres, references, limit=1.0, periodic=periodic, expected=None)


def _covering(numbers: NDArray[np.integer], components: Array, count: int) -> NDArray[np.intp]:
    """Indices of atoms that cover all: each the furthest from those of its element chosen before it."""
    if len(numbers) <= count:
        return np.arange(len(numbers))
    nearest = np.full(len(numbers), np.inf)
    chosen = []
    for _ in range(count):
        index = int(np.argmax(nearest))
        chosen.append(index)
        same = np.flatnonzero(numbers == numbers[index])
        distances = np.linalg.norm(components[same] - components[index], axis=1)
        nearest[same] = np.minimum(nearest[same], distances)
    return np.array(chosen)
