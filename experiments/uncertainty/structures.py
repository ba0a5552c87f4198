"""The structures of this study: those of the bundled model's split, and others that are unlike all of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import ase
import numpy as np
from ase.build import bulk, molecule
from ase.neighborlist import natural_cutoffs, neighbor_list
from ase.spacegroup import crystal

from deepdft.dft.structures_qm9 import Qm9Molecules
from deepdft.io.smiles import atoms_from_smiles

COMPARISON = Path(__file__).parents[1] / "model_comparison"
NEW_ELEMENTS = {
    "bromomethane": "CBr", "methylsilane": "C[SiH3]", "methylborane": "CB", "silanol": "O[SiH3]",
    "methaneselenol": "C[SeH]",
}  # fmt: skip
NEW_MOTIFS = {
    "tetrahedrane": "C12C3C1C23", "sulfur-tetrafluoride": "FS(F)(F)F", "disulfur-monoxide": "S=S=O",
    "propellane": "C1C23CC12C3", "thionitrous-nitride": "N#N=S",
}  # fmt: skip
STRETCHED = [  # SMILES, bond, lengths in Å
    ("ethane", "CC", "CC", (1.8, 2.2)), ("methanol", "CO", "CO", (1.7, 2.1)), ("methanethiol", "CS", "CS", (2.3,)),
    ("acetone", "CC(C)=O", "CO", (1.5,)), ("fluoromethane", "CF", "CF", (1.8,)),
]  # fmt: skip
SEED = 77
N_RANDOM = 300


def of_bundled(part: str) -> dict[str, ase.Atoms]:
    """Structures of a part of the bundled model's split by name: from qm9pack, and made from SMILES by RDKit."""
    names = json.loads((COMPARISON / "splits/bundled.json").read_text())[part]
    smiles = listed_smiles()
    molecules = Qm9Molecules(numbers=[int(name) for name in names if name.isdigit()])
    qm9 = dict(molecules.make(i) for i in range(len(molecules)))
    return {name: qm9[name] if name in qm9 else atoms_from_smiles(smiles[name]) for name in names}


def listed_smiles() -> dict[str, str]:
    """Name → SMILES of the lists that the bundled model was trained on and tested with."""
    found = {}
    for name in ("heteroatoms.smi", "fragments.smi"):
        lines = [line for line in (COMPARISON / name).read_text().splitlines() if line and not line.startswith("#")]
        found |= {line.split(None, 1)[1].strip(): line.split(None, 1)[0] for line in lines}
    return found


def random_qm9() -> dict[str, ase.Atoms]:
    """Random molecules of QM9 that the bundled model was not trained on."""
    split = json.loads((COMPARISON / "splits/bundled.json").read_text())
    molecules = Qm9Molecules(seed=SEED, count=N_RANDOM)
    return {
        name: atoms
        for name, atoms in (molecules.make(i) for i in range(len(molecules)))
        if name not in split["train"] and name not in split["validation"]
    }


def stretched_qm9() -> dict[str, ase.Atoms]:
    """The random molecules with one bond, which is in no ring and not to hydrogen, made longer by 30 to 60 %."""
    found = {}
    rng = np.random.default_rng(SEED)
    for name, atoms in random_qm9().items():
        bonds = [(i, j, side) for i, j, side in _bonds_between_parts(atoms) if 1 not in atoms.numbers[[i, j]]]
        if bonds:
            i, j, side = bonds[rng.integers(len(bonds))]
            found[name] = _with_length(atoms, i, j, side, atoms.get_distance(i, j) * rng.uniform(1.3, 1.6))
    return found


def foreign() -> dict[str, ase.Atoms]:
    """Molecules with elements and motifs that the bundled model never saw, and molecules with a stretched bond."""
    found = {f"element-{name}": atoms_from_smiles(smiles) for name, smiles in NEW_ELEMENTS.items()}
    found |= {f"motif-{name}": molecule(name) for name in ("P2", "ClF3")}
    found |= {f"motif-{name}": atoms_from_smiles(smiles) for name, smiles in NEW_MOTIFS.items()}
    water = molecule("H2O")
    found |= {f"stretched-water-{length}": _with_length(water, 0, 1, [1], length) for length in (1.2, 1.5)}
    for name, smiles, pair, lengths in STRETCHED:
        atoms = atoms_from_smiles(smiles)
        bonds = list(_bonds_between_parts(atoms))
        i, j, side = next(bond for bond in bonds if [atoms.symbols[k] for k in bond[:2]] == list(pair))
        found |= {f"stretched-{name}-{length}": _with_length(atoms, i, j, side, length) for length in lengths}
    return found


def crystals() -> dict[str, ase.Atoms]:
    """Diamond, rock salt and dry ice."""
    dry_ice = crystal("CO", [(0, 0, 0), (0.1185, 0.1185, 0.1185)], spacegroup=205, cellpar=[5.624] * 3 + [90] * 3)
    return {"diamond": bulk("C", a=3.567), "rock-salt": bulk("NaCl", "rocksalt", a=5.64), "dry-ice": dry_ice}


def _bonds_between_parts(atoms: ase.Atoms) -> Iterator[tuple[int, int, list[int]]]:
    """Bonds i–j that are in no ring, with the atoms on the side of j."""
    first, second = neighbor_list("ij", atoms, natural_cutoffs(atoms, mult=1.1))
    for i, j in zip(first.tolist(), second.tolist(), strict=True):
        side, pending = {j}, [j]
        while pending:
            atom = pending.pop()
            new = set(second[first == atom].tolist()) - side - ({i} if atom == j else set())
            side |= new
            pending += new
        if i not in side:
            yield i, j, sorted(side)


def _with_length(atoms: ase.Atoms, i: int, j: int, side: list[int], length: float) -> ase.Atoms:
    """The same with the atoms on the side of j moved along the bond i–j until it is so long, Å."""
    changed = atoms.copy()
    vector = atoms.positions[j] - atoms.positions[i]
    changed.positions[side] += (length / np.linalg.norm(vector) - 1.0) * vector
    return changed
