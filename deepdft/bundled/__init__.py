"""Data and models that come with the package: small density stores, a model, a table of free atoms, molecules."""

from __future__ import annotations

from pathlib import Path

__all__ = ["FREE_ATOMS", "MODEL", "MODEL_DATA", "MOLECULES", "names", "path"]

_FOLDER = Path(__file__).parent
MODEL = _FOLDER / "orbital_small_molecules.ckpt"
"""Checkpoint of the orbital model for small molecules of H, C, N, O, F, P, S and Cl; see orbital_small_molecules.md."""
MODEL_DATA = "d217ff7c37203fead67ee27178bcc0fac759adb47fb837df655f281624b97eeb"
"""Fingerprint of the store that this model was trained on, which GPAW made."""
FREE_ATOMS = _FOLDER / "free_atoms.npz"
"""Table of the densities of isolated atoms; see free_atoms.md beside it."""

MOLECULES = _FOLDER / "molecules.xyz"
"""Everyday molecules by name: conformers that RDKit (ETKDG, MMFF94) makes of the SMILES beside each name."""


def names() -> list[str]:
    """Names of the bundled stores."""
    return sorted(index.parent.name for index in _FOLDER.glob("*/index.json"))


def path(name: str) -> Path:
    """Folder of a bundled store.

    Raises:
        FileNotFoundError: if there is none of that name.
    """
    folder = _FOLDER / name
    if name not in names():
        raise FileNotFoundError(f"{folder}: no such bundled data; expected one of {', '.join(names()) or 'none'}")
    return folder
