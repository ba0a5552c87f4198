"""Layered Li(Ni,Mn,Co)O2 with random occupations and lithium vacancies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import ase
import numpy as np
from numpy.typing import NDArray

__all__ = ["LayeredOxides", "layered_oxide"]

LATTICE = {"Ni": (2.878, 14.19, 0.2585), "Co": (2.816, 14.05, 0.2605), "Mn": (2.86, 14.25, 0.2585)}
"""Hexagonal a and c in Å and height z of oxygen in c, of LiMO2 in R-3m with M at (0, 0, 0), Li at (0, 0, ½), O at
(0, 0, ±z): M-O is 1.97, 1.92 and 1.97 Å. Measured for Ni and Co; for Mn typical of mixed oxides rich in it."""


MOMENTS = {"Ni": 1.0, "Co": 0.6, "Mn": 4.0}
"""μ_B to start from; the calculation finds the moments of the oxidation states that result."""
MAGNETIC_ORDERS = ("ferromagnetic", "stripes", "random")


class LayeredOxides:
    """Layered oxides Li_{1-x}MO2 with metals drawn for each site, and lithium left out at random.

    Args:
        count: of structures.
        repeat: cells along the two edges in the plane and along the stack; 2 × 2 × 1 holds four formula units.
        metals: weights of the metals in the draw; all kinds of occupations come about, also of one metal alone.
        max_vacancies: largest share of lithium that is left out; the number is drawn evenly from zero.
        rattle: standard deviation of random displacements in Å.
        magnetic_order: of the initial moments: ferromagnetic, stripes (rows along the first edge alternate), random (a
            sign for each metal), or None for no moments.
        moments: size of the initial moments in μ_B by metal.
        seed: of the draws; structure `i` depends on the seed and `i` alone.
        first: number of the first one, for a store that continues another.

    Raises:
        ValueError: if a setting is out of range.
    """

    def __init__(
        self,
        *,
        count: int,
        repeat: Sequence[int] = (2, 2, 1),
        metals: Mapping[str, float] | None = None,
        max_vacancies: float = 0.5,
        rattle: float = 0.04,
        magnetic_order: str | None = None,
        moments: Mapping[str, float] | None = None,
        seed: int = 0,
        first: int = 0,
    ) -> None:
        metals = {"Ni": 1.0, "Mn": 1.0, "Co": 1.0} if metals is None else metals
        unknown = sorted(set(metals) - set(LATTICE))
        if unknown or not metals or min(metals.values()) < 0 or sum(metals.values()) <= 0:
            raise ValueError(f"recipe.metals={dict(metals)}: expected weights of some of {', '.join(LATTICE)}")
        if len(repeat) != 3 or min(repeat) < 1:
            raise ValueError(f"recipe.repeat={list(repeat)}: expected three numbers of 1 or more")
        if not 0 <= max_vacancies <= 1:
            raise ValueError(f"recipe.max_vacancies={max_vacancies}: a share of the lithium, 0 to 1")
        if first < 0:
            raise ValueError(f"recipe.first={first}: a number of a structure, 0 or more")
        if magnetic_order not in (None, *MAGNETIC_ORDERS):
            raise ValueError(f"recipe.magnetic_order={magnetic_order}: expected null or {', '.join(MAGNETIC_ORDERS)}")
        self.magnetic_order = magnetic_order
        self.moments = MOMENTS if moments is None else dict(moments)
        self.count = count
        self.repeat = tuple(repeat)
        self.metals = dict(metals)
        self.max_vacancies = max_vacancies
        self.rattle = rattle
        self.seed = seed
        self.first = first

    def __len__(self) -> int:
        """Number of structures."""
        return self.count

    def make(self, number: int) -> tuple[str, ase.Atoms]:
        """Name and atoms of structure `number`, counted from `first`."""
        number += self.first
        rng = np.random.default_rng([self.seed, number])
        n_sites = int(np.prod(self.repeat))
        weights = np.array(list(self.metals.values())) / sum(self.metals.values())
        drawn = rng.choice(list(self.metals), size=n_sites, p=weights).tolist()
        vacancies = int(rng.integers(int(self.max_vacancies * n_sites) + 1))
        atoms = layered_oxide(drawn, self.repeat)
        if self.magnetic_order is not None:
            atoms.set_initial_magnetic_moments(self._moments(atoms, number))
        lithium = np.flatnonzero(atoms.symbols == "Li")
        del atoms[rng.choice(lithium, size=vacancies, replace=False)]
        atoms.positions += rng.normal(scale=self.rattle, size=atoms.positions.shape)
        composition = atoms.get_chemical_formula()
        return f"nmc-{number:05d}-{composition}", atoms

    def _moments(self, atoms: ase.Atoms, number: int) -> NDArray[np.float64]:
        """Initial moments (n_atoms,) in μ_B, before atoms are displaced; drawing signs does not affect other draws."""
        sizes = np.array([self.moments.get(symbol, 0.0) for symbol in atoms.symbols])
        if self.magnetic_order == "ferromagnetic":
            return sizes
        if self.magnetic_order == "stripes":
            rows = np.round(atoms.get_scaled_positions()[:, 1] * self.repeat[1]).astype(int)
            return np.where(rows % 2 == 0, sizes, -sizes)
        return sizes * np.random.default_rng([self.seed, number, 1]).choice([-1.0, 1.0], size=len(atoms))


def layered_oxide(metals: Sequence[str], repeat: Sequence[int]) -> ase.Atoms:
    """LiMO2 of the α-NaFeO2 type in a cell with angles of 73°, 90° and 120°.

    Two edges lie in the hexagonal plane; the third leads to the next layer, one third of the hexagonal axis up.

    Args:
        metals: of the metal sites, as many as cells.
        repeat: cells along the three edges.

    Returns:
        Atoms sorted by element.
    """
    if len(metals) != np.prod(repeat):
        raise ValueError(f"{len(metals)} metals for {np.prod(repeat)} sites")
    a, c, z = np.mean([LATTICE[metal] for metal in metals], axis=0)  # Vegard's rule
    plane = np.array([[a, 0, 0], [-a / 2, a * np.sqrt(3) / 2, 0]])
    next_layer = (2 * plane[0] + plane[1]) / 3 + [0, 0, c / 3]
    sites = [[0, 0, height * c] for height in (0, 0.5, z, -z)]
    atoms = ase.Atoms(["X", "Li", "O", "O"], positions=sites, cell=[*plane, next_layer], pbc=True).repeat(tuple(repeat))
    symbols = np.array(atoms.get_chemical_symbols(), dtype=object)
    symbols[symbols == "X"] = list(metals)
    atoms.set_chemical_symbols(symbols.tolist())
    atoms.wrap()
    return atoms[np.argsort(atoms.numbers, kind="stable")]
