"""Structures that cannot exist are refused, unlikely ones warned of, and real ones pass without a word."""

import warnings

import ase
import numpy as np
import pytest
from ase.build import bulk, fcc111, molecule
from ase.collections import g2
from ase.data import chemical_symbols, reference_states

from deepdft.errors import InputWarning
from deepdft.io.plausibility import check_structure


def water(**changes):
    atoms = molecule("H2O")
    for name, value in changes.items():
        setattr(atoms, name, value)
    return atoms


def squeezed(atoms: ase.Atoms, factor: float) -> ase.Atoms:
    atoms.set_cell(factor * atoms.cell.array)
    atoms.positions *= factor
    return atoms


@pytest.mark.parametrize("name", g2.names)
def test_all_molecules_of_g2_pass(name):
    with warnings.catch_warnings(action="error"):
        check_structure(molecule(name))


def test_elementary_crystals_pass():
    known = zip(chemical_symbols, reference_states, strict=False)
    names = [symbol for symbol, state in known if state and state["symmetry"] in ("fcc", "bcc", "diamond")]
    assert len(names) > 30
    for symbol in names:
        with warnings.catch_warnings(action="error"):
            check_structure(bulk(symbol))


def test_slabs_and_metal_dimers_pass():
    with warnings.catch_warnings(action="error"):
        check_structure(fcc111("Cu", (1, 1, 3)))
        check_structure(ase.Atoms("Cr2", [[0, 0, 0], [0, 0, 1.68]]))
        check_structure(ase.Atoms("H2", [[0, 0, 0], [0, 0, 0.6]]))


CASES = {
    "no atoms": (ase.Atoms(), "at least one atom"),
    "numbers": (ase.Atoms([200, -1], np.eye(3)[:2] * 3), r"atomic numbers -1, 200: expected 1 to 118"),
    "ghost": (ase.Atoms("OX", np.eye(3)[:2] * 3), r"atom 1 of OX is not an element"),
    "nan": (water(positions=np.full((3, 3), np.nan)), "not finite"),
    "huge": (water(positions=molecule("H2O").positions + 1e12), r"a coordinate is 1e\+12 Å"),
    "nan cell": (water(cell=np.full((3, 3), np.nan)), "lattice vectors are not finite"),
    "no cell": (water(pbc=True), "periodic along abc but its cell has no such lattice vectors"),
    "thin": (water(cell=[5, 5, 1e-8], pbc=True), "1e-08 Å thick along c"),
    "placeholder": (water(cell=[1, 1, 1], pbc=True), "0.333 Å³ for each atom"),
    "one place": (ase.Atoms("H2", np.zeros((2, 3))), r"atom 0 \(H\) and atom 1 \(H\) are 0 Å apart"),
    "0.05 Å": (ase.Atoms("HO", [[0, 0, 0], [0, 0, 0.05]]), "are 0.05 Å apart"),
    "half size": (squeezed(molecule("C60"), 0.5), "and 89 more pairs are as close"),
    "half size crystal": (squeezed(bulk("Cu", cubic=True), 0.5), "unphysical|Å³|are 1.28 Å apart"),
    "own image": (ase.Atoms("Na", cell=[1.2, 6, 6], pbc=True), "atom 0 .Na. and its own periodic image are 1.2 Å"),
    "across the cell": (ase.Atoms("CO", [[0.1, 0, 0], [7.9, 0, 0]], cell=[8, 8, 8], pbc=True), "are 0.2 Å apart"),
    "cells away": (ase.Atoms("CO", [[0.1, 0, 0], [807.9, 0, 0]], cell=[8, 8, 8], pbc=True), "are 0.2 Å apart"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_cannot_exist_is_refused(name):
    atoms, message = CASES[name]
    with pytest.raises(ValueError, match=message):
        check_structure(atoms)


def test_what_is_unlikely_is_warned_of():
    with pytest.warns(InputWarning, match=r"N2: atom . \(N\) and atom . \(N\) are 0\.8 Å apart, 0\.56 of the sum"):
        check_structure(ase.Atoms("N2", [[0, 0, 0], [0, 0, 0.8]]))


def test_contacts_are_those_of_brute_force():
    rng = np.random.default_rng(0)
    for _ in range(20):
        atoms = ase.Atoms(
            "CON2SiH3", rng.uniform(-5, 20, (8, 3)), cell=rng.uniform(-1, 1, (3, 3)) + 5 * np.eye(3), pbc=True
        )
        wrapped = atoms.copy()
        wrapped.wrap()
        distances = wrapped.repeat(3).get_all_distances()[8 * 13 : 8 * 14]
        radii = np.array([0.76, 0.66, 0.71, 0.71, 1.11, 0.31, 0.31, 0.31])
        ratios = distances / (radii[:, None] + np.tile(radii, 27)[None])
        lowest = ratios[ratios > 1e-9].min()
        with warnings.catch_warnings(record=True) as reported:
            warnings.simplefilter("always")
            if lowest < 0.5:
                with pytest.raises(ValueError, match=f"{lowest:.2f} of the sum"):
                    check_structure(atoms)
            else:
                check_structure(atoms)
        assert bool(reported) == (0.5 <= lowest < 0.6)
