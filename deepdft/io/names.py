"""Structures by name: everyday molecules, ASE's g2 set, and crystals of ASE's `bulk`."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from functools import cache, partial

import ase
import ase.io
from ase.build import bulk, molecule
from ase.build.molecule import extra
from ase.collections import g2
from ase.data import atomic_numbers, reference_states

from deepdft import bundled

__all__ = ["known_names", "similar_names", "structure_by_name"]

COMMON = {
    "water": "H2O",
    "ammonia": "NH3",
    "methane": "CH4",
    "ethane": "C2H6",
    "ethylene": "C2H4",
    "acetylene": "C2H2",
    "methanol": "CH3OH",
    "ethanol": "CH3CH2OH",
    "formaldehyde": "H2CO",
    "formic acid": "HCOOH",
    "acetic acid": "CH3COOH",
    "acetaldehyde": "CH3CHO",
    "acetamide": "CH3CONH2",
    "benzene": "C6H6",
    "pyridine": "C5H5N",
    "furan": "C4H4O",
    "thiophene": "C4H4S",
    "pyrrole": "C4H4NH",
    "cyclopropane": "C3H6_D3h",
    "hydrogen": "H2",
    "nitrogen": "N2",
    "oxygen": "O2",
    "carbon dioxide": "CO2",
    "carbon monoxide": "CO",
    "hydrogen cyanide": "HCN",
    "hydrogen peroxide": "H2O2",
    "fullerene": "C60",
}
"""Names in ASE's g2 set and its supplement."""

COMPOUNDS = {
    "NaCl": ("rocksalt", 5.64, None),
    "KCl": ("rocksalt", 6.29, None),
    "LiF": ("rocksalt", 4.03, None),
    "LiCl": ("rocksalt", 5.13, None),
    "LiH": ("rocksalt", 4.08, None),
    "NaF": ("rocksalt", 4.62, None),
    "MgO": ("rocksalt", 4.21, None),
    "CaO": ("rocksalt", 4.81, None),
    "NiO": ("rocksalt", 4.17, None),
    "MnO": ("rocksalt", 4.44, None),
    "CsCl": ("cesiumchloride", 4.12, None),
    "GaAs": ("zincblende", 5.65, None),
    "InP": ("zincblende", 5.87, None),
    "SiC": ("zincblende", 4.36, None),
    "ZnS": ("zincblende", 5.41, None),
    "ZnO": ("wurtzite", 3.25, 5.21),
    "GaN": ("wurtzite", 3.19, 5.19),
    "CaF2": ("fluorite", 5.46, None),
    "ZrO2": ("fluorite", 5.09, None),
}
"""Crystals: ASE's name of the structure, lattice constants a and c in Å at room temperature (CRC Handbook)."""

CRYSTALS = {
    "salt": "NaCl",
    "rock salt": "NaCl",
    "table salt": "NaCl",
    "diamond": "C",
    "silicon": "Si",
    "germanium": "Ge",
    "copper": "Cu",
    "silver": "Ag",
    "gold": "Au",
    "platinum": "Pt",
    "aluminium": "Al",
    "iron": "Fe",
    "nickel": "Ni",
    "sodium": "Na",
    "lithium": "Li",
    "magnesium": "Mg",
}
"""Names of crystals."""

CUBIC = {"rocksalt", "zincblende", "fluorite", "fcc", "bcc", "diamond"}
"""Structures for which the conventional cubic cell is used."""
OF_SMILES = {"B", "C", "N", "O", "F", "P", "S", "I"}
"""Elements whose symbol alone is a SMILES, such as C for methane."""


def structure_by_name(name: str) -> ase.Atoms | None:
    """The structure that a name or formula stands for; None if it is not known.

    `atoms.info["description"]` says in words what it is. A formula that is also a SMILES is left to be one.
    """
    make = _known().get(" ".join(name.split()).lower()) or _by_formula(name.strip())
    return make() if make is not None else None


def known_names() -> list[str]:
    """Known names of structures in alphabetical order, not counting formulas of ASE's g2 set and crystals."""
    return sorted(_known())


def similar_names(name: str) -> str:
    """Advice about an unknown name: the closest known ones, or some examples."""
    names = sorted(_known())
    close = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.7)
    if close:
        return f"the name {close[0]!r} is known"
    return f"names are known of some structures, such as {', '.join(('water', 'caffeine', 'benzene', 'NaCl', 'Cu'))}"


@cache
def _known() -> dict[str, Callable[[], ase.Atoms]]:
    """Name in lower case → function that makes the structure."""
    known: dict[str, Callable[[], ase.Atoms]] = {}
    for atoms in ase.io.read(bundled.MOLECULES, index=":"):
        name = str(atoms.info["name"])
        known[name] = partial(_described, atoms, f"the molecule {name}")
    known |= {name: partial(_molecule, formula) for name, formula in COMMON.items()}
    known |= {name: partial(_crystal, formula) for name, formula in CRYSTALS.items()}
    return known


def _by_formula(formula: str) -> Callable[[], ase.Atoms] | None:
    if formula in COMPOUNDS or (formula not in OF_SMILES and _elementary(formula) in ("fcc", "bcc", "hcp", "diamond")):
        return partial(_crystal, formula)
    if (formula in g2.names or formula in extra) and not _may_be_smiles(formula):
        return partial(_molecule, formula)
    return None


def _elementary(symbol: str) -> str:
    """ASE's name of the crystal structure of an element; empty if it has none."""
    number = atomic_numbers.get(symbol, len(reference_states))
    state = reference_states[number] if number < len(reference_states) else None
    return str(state["symmetry"]) if state is not None else ""


def _may_be_smiles(formula: str) -> bool:
    """Whether a formula consists of letters that occur in SMILES, such as CO, which is methanol as a SMILES."""
    rest = formula.replace("Cl", "").replace("Br", "")
    return set(rest) <= OF_SMILES


def _molecule(formula: str) -> ase.Atoms:
    return _described(molecule(formula), f"the molecule {formula} of ASE's g2 set")


def _crystal(formula: str) -> ase.Atoms:
    if formula in COMPOUNDS:
        structure, a, c = COMPOUNDS[formula]
        atoms = bulk(formula, structure, a=a, c=c, cubic=structure in CUBIC)
    else:
        structure = _elementary(formula)
        atoms = bulk(formula, cubic=structure in CUBIC)
    lengths = atoms.cell.lengths()
    is_cubic = structure in {*CUBIC, "cesiumchloride"}
    constants = f"a = {lengths[0]:.4g} Å" if is_cubic else f"a = {lengths[0]:.4g} Å, c = {lengths[2]:.4g} Å"
    return _described(atoms, f"the crystal {formula} ({structure}, {constants}; {len(atoms)} atoms, by ASE's bulk)")


def _described(atoms: ase.Atoms, description: str) -> ase.Atoms:
    """A copy with a description in `info`."""
    atoms = atoms.copy()
    atoms.info = {"description": description}
    return atoms
