"""Densities of isolated atoms, spherical and without spin, from GPAW's PAW sets.

A PAW set holds the orbitals of the free atom that it was made from, out to where they have vanished, with their
occupations: n(r) = Σ_j f_j φ_j(r)² / 4π is the density of its valence electrons.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from ase.data import chemical_symbols
from ase.units import Bohr
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline, make_interp_spline

from deepdft.dft.smoothing import RadialSmoother

__all__ = ["FreeAtom", "elements", "free_atom"]

FURTHEST = 20.0
"""Å, beyond which all atoms have vanished (at 12 Å the widest, Cs, still has 3e-6 electrons)."""
N_RADII = 6000
"""Number of radii; densities on them integrate to the valence electrons within 3e-9 for every element."""
ORDER = 7
"""Of the splines through GPAW's grid, which is coarse for decaying orbitals outside the atom."""


@dataclass(frozen=True)
class FreeAtom:
    """The valence density of an isolated atom."""

    n_valence: int
    """Electrons outside the frozen core of the PAW set."""
    radii: NDArray[np.float64]
    """(n,) Å, denser towards the nucleus."""
    weights: NDArray[np.float64]
    """(n,) Å³, weights r² dr."""
    density: NDArray[np.float64]
    """(n,) e/Å³ at the radii, not convolved."""

    @property
    def n_electrons(self) -> float:
        """Number of electrons, 4π ∫ n r² dr."""
        return 4 * np.pi * float(self.density @ self.weights)

    def smoothed(self, sigma: float) -> CubicSpline:
        """The density in e/Å³ over the distance in Å, convolved with a Gaussian of standard deviation `sigma` in Å."""
        spline = _smoother(sigma)(self.density[None])
        return CubicSpline(spline.x, spline(spline.x)[:, 0], bc_type=("clamped", "not-a-knot"))


def elements(functional: str = "PBE") -> list[int]:
    """Atomic numbers of the elements for which GPAW has a default PAW set."""
    from gpaw.setup_data import search_for_file

    found = []
    for number, symbol in enumerate(chemical_symbols[1:], start=1):
        try:
            search_for_file(f"{symbol}.{functional}")
        except FileNotFoundError:
            continue
        found.append(number)
    return found


def free_atom(symbol: str, functional: str = "PBE") -> FreeAtom:
    """The atom from which GPAW's default PAW set of an element was made.

    Args:
        symbol: of the element.
        functional: as in the names of PAW sets.

    Raises:
        FileNotFoundError: if GPAW has no such set.
    """
    from gpaw.setup_data import SetupData

    data = SetupData(symbol, functional)
    radii, weights = _radii()
    places = data.rgd.r2g(radii / Bohr)  # between the points of GPAW's grid
    inside = places <= data.rgd.N - 1
    density = np.zeros_like(radii)
    for occupation, orbital in zip(data.f_j, data.phi_jg, strict=True):
        if occupation > 0:
            spline = make_interp_spline(np.arange(data.rgd.N), orbital, k=ORDER)
            density[inside] += occupation * spline(places[inside]) ** 2 / (4 * np.pi)
    return FreeAtom(round(float(data.Nv)), radii, weights, density / Bohr**3)


def _radii() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Radii r = t² and weights r² dr, with t equally spaced (the trapezoidal rule)."""
    t, step = np.linspace(0.0, np.sqrt(FURTHEST), N_RADII, retstep=True)
    return t**2, 2 * t**5 * step


@cache
def _smoother(sigma: float) -> RadialSmoother:
    return RadialSmoother(*_radii(), sigma)
