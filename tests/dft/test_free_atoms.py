"""The bundled free atoms are those of GPAW's PAW sets, and of its own calculation of a closed-shell atom."""

import ase
import numpy as np
import pytest
from ase.data import chemical_symbols

from deepdft import bundled
from deepdft.dft.free_atoms import elements, free_atom
from deepdft.dft.functionals import FUNCTIONALS
from deepdft.dft.gpaw import GpawMolecule
from deepdft.inference.encoded import EncodedStructure
from deepdft.models.free_atoms import FreeAtoms

pytest.importorskip("gpaw", reason="GPAW is not installed: make gpaw")
TABLE = np.load(bundled.FREE_ATOMS)


def test_the_table_covers_all_elements_that_gpaw_has() -> None:
    assert TABLE["numbers"].tolist() == elements()


@pytest.mark.parametrize("number", TABLE["numbers"].tolist())
def test_the_table_is_made_from_the_paw_sets(number: int) -> None:
    atom = free_atom(chemical_symbols[number])
    row = TABLE["numbers"].tolist().index(number)
    assert atom.n_valence == TABLE["n_valence"][row]
    assert atom.n_electrons == pytest.approx(atom.n_valence, abs=1e-6)
    smooth = atom.smoothed(float(TABLE["smoothing"]))
    assert TABLE["density"][row] == pytest.approx(smooth(TABLE["radii"]), rel=1e-5, abs=1e-9)


def test_a_missing_set_is_named() -> None:
    with pytest.raises(FileNotFoundError, match=r"Tc\.PBE"):
        free_atom("Tc")


@pytest.mark.parametrize(("symbol", "largest_error"), [("He", 0.1), ("Ne", 0.1)])
def test_a_calculation_of_a_closed_shell_atom_finds_the_free_atom(symbol: str, largest_error: float) -> None:
    dft = GpawMolecule(
        cutoff=600,
        spacing=0.2,
        smoothing=0.1,
        smearing=0.01,
        convergence={"density": 1e-5},
        max_iterations=100,
        vacuum=3.5,
    )
    framed = dft.frame(ase.Atoms(symbol, [[0.03, 0.05, 0.0]]))
    found = dft.calculate(framed, FUNCTIONALS["PBE"]).density
    free = EncodedStructure(FreeAtoms(), framed).total(found.points())
    off = np.abs(free - found.values.reshape(-1)).sum() / found.values.sum()
    assert 100 * off < largest_error, f"ε_mae {100 * off:.3f} %"
