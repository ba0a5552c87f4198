"""Chemical formulas for titles."""

from __future__ import annotations

import ase
from ase.formula import Formula

from deepdft.electrostatics import is_isolated

__all__ = ["NONMETALS", "formula", "formula_tex"]

NONMETALS = (
    *("Rn", "Xe", "Kr", "Ar", "Ne", "He", "B", "Si", "C", "Sb", "As", "P", "N", "H"),
    *("Te", "Se", "S", "At", "I", "Br", "Cl", "O", "F"),
)
"""Order of the elements after the metals in formulas of inorganic compounds."""


def formula(atoms: ase.Atoms) -> str:
    """The formula of a structure: in Hill order with carbon (C2H6O), else metals first (NaCl, NH3, SiO2).

    Formulas of crystals are reduced to one unit, those of molecules are not.

    Source: IUPAC, Nomenclature of Inorganic Chemistry (2005), IR-4.4.2 and Table VI.
    """
    return "".join(f"{symbol}{count if count > 1 else ''}" for symbol, count in _counts(atoms).items())


def formula_tex(atoms: ase.Atoms) -> str:
    """The formula of a structure with subscripts, as matplotlib draws them."""
    counts = _counts(atoms)
    return "".join(f"{symbol}$_{{{count}}}$" if count > 1 else symbol for symbol, count in counts.items())


def _counts(atoms: ase.Atoms) -> dict[str, int]:
    """Symbols in the order of the formula, with their numbers."""
    found = Formula(atoms.get_chemical_formula())
    if not is_isolated(atoms):
        found = found.reduce()[0]
    counts: dict[str, int] = found.count()
    if "C" in counts and "H" in counts:
        first = [symbol for symbol in ("C", "H") if symbol in counts]
        order = first + sorted(set(counts) - set(first))
    else:
        metals = sorted(set(counts) - set(NONMETALS))
        order = metals + [symbol for symbol in NONMETALS if symbol in counts]
    return {symbol: counts[symbol] for symbol in order}
