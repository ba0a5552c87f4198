"""Exchange–correlation functionals: their labels, the tags of VASP, and their names in libxc and GPAW."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["FUNCTIONALS", "PAPER", "Functional", "functionals"]


@dataclass(frozen=True)
class Functional:
    """An exchange–correlation functional."""

    label: str
    """Label of its densities in a store."""
    tag: str
    """VASP's GGA tag, as in the paper."""
    kernel: str
    """Name in GPAW, or names in libxc."""
    setups: str
    """Functional for which the PAW sets were made."""


FUNCTIONALS = {
    functional.label: functional
    for functional in (
        Functional("PBE", "PE", "PBE", "PBE"),
        Functional("RPBE", "RP", "RPBE", "RPBE"),
        Functional("revPBE", "RE", "revPBE", "revPBE"),
        Functional("PW91", "91", "GGA_X_PW91+GGA_C_PW91", "PBE"),
        Functional("PBEsol", "PS", "GGA_X_PBE_SOL+GGA_C_PBE_SOL", "PBE"),
        Functional("BEEF", "BF", "GGA_XC_BEEFVDW", "PBE"),  # without the non-local correlation
        Functional("CA", "CA", "LDA_X+LDA_C_PZ_MOD", "LDA"),
        Functional("PZ", "PZ", "LDA_X+LDA_C_PZ", "LDA"),
    )
}
"""Label → functional."""

PAPER = ("PBE", "RPBE", "revPBE", "PW91", "PBEsol", "BEEF", "CA", "PZ")
"""Labels of the paper's eight functionals, whose spread is ε_mad; PBE, the reference, comes first."""


def functionals(names: str | int | Sequence[str | int]) -> list[Functional]:
    """Look functionals up.

    Args:
        names: labels or tags (91 is one) in any case, or "all" for the eight of the paper.

    Raises:
        ValueError: if a name is unknown or comes twice.
    """
    if isinstance(names, str | int):
        names = list(PAPER) if str(names).lower() == "all" else [names]
    known = {key.lower(): f for f in FUNCTIONALS.values() for key in (f.label, f.tag)}
    unknown = [name for name in names if str(name).lower() not in known]
    if unknown or not names:
        listed = ", ".join(f"{f.label} ({f.tag})" for f in FUNCTIONALS.values())
        raise ValueError(f"xc={','.join(map(str, unknown))}: expected all, or some of {listed}")
    found = [known[str(name).lower()] for name in names]
    if len(set(found)) < len(found):
        raise ValueError(f"xc={','.join(map(str, names))}: a functional comes twice")
    return found
