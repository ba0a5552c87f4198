"""Kinds of files of a VASP calculation by their names: its density, parts and copies of it, or a structure."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from deepdft.io.compression import split_compression
from deepdft.io.formats import base_name, format_of
from deepdft.io.formats.chgcar import is_poscar

__all__ = ["is_derived", "is_run_density", "is_structure"]

_PART_NAME = re.compile(r"(AECCAR\d|PARCHG|CHGDIFF)([._-].*|\d*)(?<!\.chgcar)", re.IGNORECASE)
_DERIVED_NAME = re.compile(
    r"CHG|CHG[._-].*(?<!\.chgcar)|CHGCAR[._-]?(sum|mag|spin|diff|up|down|dn|tot|total|core|val|ae|all|ref|bak|backup|old"
    r"|orig|save|saved|copy|prev|tmp)\d*([._-].*)?|CHGCAR~",
    re.IGNORECASE,
)


def is_structure(data: bytes, name: str) -> bool:
    """Whether x.vasp, which may be a CHGCAR by its name, is a POSCAR by its content."""
    return PurePosixPath(split_compression(name)[0]).suffix.lower() == ".vasp" and is_poscar(data)


def is_run_density(name: str) -> bool:
    """Whether a file is the CHGCAR of a calculation by its name: CHGCAR, CHGCAR_7 or x.CHGCAR, but not CHGCAR_sum."""
    base = base_name(name).lower()
    return _is_chgcar(name) and (
        base.endswith(".chgcar") or (base.startswith("chgcar") and not is_derived(name, beside_chgcar=True))
    )


def is_derived(name: str, *, beside_chgcar: bool) -> bool:
    """Whether a file holds a part, a combination or a copy of the density of a calculation, by its name.

    Args:
        name: of the file.
        beside_chgcar: whether it lies in a directory with the CHGCAR of a calculation: CHG, CHGCAR_sum, CHGCAR.bak and
            the like are derived only then, AECCAR0, AECCAR2, PARCHG and CHGDIFF always.
    """
    if format_of(name) is not None and not _is_chgcar(name):
        return False
    base = base_name(name)
    return _PART_NAME.fullmatch(base) is not None or (beside_chgcar and _DERIVED_NAME.fullmatch(base) is not None)


def _is_chgcar(name: str) -> bool:
    found = format_of(name)
    return found is not None and found.name == "chgcar"
