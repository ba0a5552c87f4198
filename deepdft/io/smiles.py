"""Molecules from SMILES, through RDKit (extra `view`)."""

from __future__ import annotations

import ase

__all__ = ["atoms_from_smiles"]

SEED = 0x5EED
"""Seed of the conformer: the same SMILES gives the same structure."""


def atoms_from_smiles(smiles: str) -> ase.Atoms:
    """One three-dimensional conformer of a molecule, with its hydrogens.

    ETKDG coordinates, relaxed with MMFF94 where that force field knows all atoms (it lacks B and metals).

    Args:
        smiles: of one connected molecule.

    Raises:
        ModuleNotFoundError: if RDKit is not installed.
        ValueError: if it is not a SMILES, has several fragments, or no conformer is found.
    """
    try:
        from rdkit import Chem, rdBase
        from rdkit.Chem import rdDistGeom, rdForceFieldHelpers
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{smiles!r} is no file, and reading it as a SMILES needs RDKit: pip install 'deepdft-lightning[view]'"
        ) from error

    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(smiles)
    if molecule is None or molecule.GetNumAtoms() == 0:
        raise ValueError(f"{smiles!r} is neither a file nor a valid SMILES")
    n_fragments = len(Chem.GetMolFrags(molecule))
    if n_fragments > 1:
        raise ValueError(
            f"{smiles!r} has {n_fragments} fragments, and a SMILES does not place them: give a structure file"
        )
    molecule = Chem.AddHs(molecule)
    if rdDistGeom.EmbedMolecule(molecule, randomSeed=SEED) != 0:
        raise ValueError(f"{smiles!r}: no three-dimensional structure was found; give a structure file")
    if rdForceFieldHelpers.MMFFHasAllMoleculeParams(molecule):
        rdForceFieldHelpers.MMFFOptimizeMolecule(molecule, maxIters=1000)
    return ase.Atoms(
        numbers=[atom.GetAtomicNum() for atom in molecule.GetAtoms()],
        positions=molecule.GetConformer().GetPositions(),
        charges=[atom.GetFormalCharge() for atom in molecule.GetAtoms()],
    )
