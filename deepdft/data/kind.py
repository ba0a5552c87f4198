"""`DensityKind`: the kind of a density, so that different kinds are neither joined nor compared by accident."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["DensityKind"]


@dataclass(frozen=True)
class DensityKind:
    """The kind of the densities of a store: in words, and by everything that decides their values.

    Raises:
        ValueError: if an entry has the wrong type.
    """

    description: str = ""
    """Description, e.g. "all-electron valence density, convolved with a Gaussian of σ = 0.1 Å"; empty if unknown."""
    code: str | None = None
    """Program that computed it, e.g. "VASP"."""
    pseudopotentials: dict[str, str] = field(default_factory=dict)
    """Pseudopotential or PAW data set by element, each with its md5 or version; empty if unknown."""
    smoothing: float | None = None
    """Å, standard deviation of the Gaussian that the density was convolved with; None if it was not."""

    def __post_init__(self) -> None:
        pseudopotentials = self.pseudopotentials
        is_right = (
            isinstance(self.description, str)
            and isinstance(self.code, str | None)
            and isinstance(pseudopotentials, dict)
            and all(isinstance(text, str) for pair in pseudopotentials.items() for text in pair)
            and isinstance(self.smoothing, float | int | None)
        )
        if not is_right:
            raise ValueError(
                f"kind {asdict(self)}: expected a description (text), code (text), pseudopotentials (text by element) "
                "and smoothing (Å)"
            )

    @classmethod
    def of(cls, given: str | Mapping[str, Any] | DensityKind | None) -> DensityKind:
        """Make a kind from text or from the entries of a mapping; None gives an unknown kind.

        Raises:
            ValueError: if the mapping has other entries.
        """
        if isinstance(given, DensityKind):
            return given
        if given is None or isinstance(given, str):
            return cls(given or "")
        try:
            return cls(**given)
        except TypeError as error:
            raise ValueError(
                f"kind {dict(given)}: expected the entries description, code, pseudopotentials and smoothing"
            ) from error

    @classmethod
    def of_index(cls, index: Mapping[str, Any]) -> DensityKind:
        """The kind that an index.json records; version 1 has a "definition" where the store was generated."""
        if "kind" in index:
            return cls.of(index["kind"])
        return cls(str(index.get("definition", "")))

    def as_dict(self) -> dict[str, Any]:
        """The known entries, for JSON."""
        return {key: value for key, value in asdict(self).items() if value not in (None, {}, "")}

    def conflicts_with(self, other: DensityKind) -> bool:
        """Whether any entry that both know differs."""
        own, others = self.as_dict(), other.as_dict()
        mine, theirs = own.pop("pseudopotentials", {}), others.pop("pseudopotentials", {})
        return any(own[key] != others[key] for key in own.keys() & others) or any(
            mine[symbol] != theirs[symbol] for symbol in mine.keys() & theirs
        )

    def __bool__(self) -> bool:
        """Whether any entry is known."""
        return bool(self.as_dict())
