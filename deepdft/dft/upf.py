"""What is read from pseudopotentials in the UPF format."""

from __future__ import annotations

import re
from pathlib import Path

from deepdft.nn.occupancies import WAVES

__all__ = ["n_valence", "partial_waves_of"]


def n_valence(path: Path) -> float:
    """Valence electrons of a pseudopotential in the UPF format.

    Raises:
        ValueError: if the file does not say.
    """
    text = path.read_text(errors="replace")
    found = re.search(r'z_valence\s*=\s*"\s*([^"]+)"|^\s*([\d.EeDd+-]+)\s+Z valence', text, re.MULTILINE)
    if found is None:
        raise ValueError(f"{path}: not a pseudopotential in the UPF format, it has no z_valence")
    return float((found[1] or found[2]).replace("D", "e").replace("d", "e"))


def partial_waves_of(path: Path) -> str:
    """Channels of the projectors of a pseudopotential in the UPF format, as "sspp".

    Raises:
        ValueError: if it has none, or one of another degree than s, p, d and f.
    """
    found = re.findall(r"<PP_BETA\.\d+[^>]*\bangular_momentum\s*=\s*\"\s*(\d+)", path.read_text(errors="replace"))
    if not found or any(int(degree) >= len(WAVES) for degree in found):
        raise ValueError(f"{path}: expected projectors with angular momenta 0 to 3, in UPF version 2; got {found}")
    return "".join(WAVES[int(degree)] for degree in found)
