"""Units: everything inside deepdft is in Å, eV and e/Å³; conversions live in `deepdft.io` and use these constants."""

from ase.units import Bohr, Debye

__all__ = ["BOHR", "BOHR3", "DEBYE"]

BOHR = Bohr
"""Å per bohr radius (CODATA 2014, as ASE reads and writes its files)."""
BOHR3 = BOHR**3
"""Å³ per cubic bohr: a density of 1 e/bohr³ is 1 / BOHR3 e/Å³."""
DEBYE = Debye
"""e Å per debye."""
