"""Colours, limits and contour lines of quantities on a plane."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.colors import LogNorm, Normalize
from numpy.typing import NDArray

from deepdft.units import BOHR

__all__ = ["DENSITY", "SCALES", "Scale", "diverging"]


@dataclass(frozen=True)
class Scale:
    """Colours for a quantity."""

    label: str
    """Quantity and unit."""
    limits: tuple[float, float]
    """Values at the ends of the colours."""
    contours: tuple[float, ...]
    """Values with a contour line."""
    colours: str = "viridis"
    """Colour map."""
    line: str = "white"
    """Colour of the contour lines."""
    logarithmic: bool = False
    extend: str = "both"
    """Ends at which values may lie beyond the limits: "both", "max" or "neither"."""

    def norm(self) -> Normalize:
        """Map values to colours."""
        return LogNorm(*self.limits) if self.logarithmic else Normalize(*self.limits)


DENSITY = Scale(
    "density (e/Å³)",
    # from the tail of a molecule to its bonds and lone pairs; nuclei of heavier atoms saturate
    limits=(1e-3, 3.0),
    contours=(0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0),  # two lines per decade
    logarithmic=True,
)

_ATOMIC_UNIT_OF_IRI = 1 / BOHR**0.7
"""One atomic unit of IRI in Å^-0.7 e^-0.1."""


def diverging(label: str, values: NDArray[np.floating]) -> Scale:
    """Colours for a quantity of both signs, white at zero; the strongest half per cent of the values saturates.

    Args:
        label: quantity and unit.
        values: any shape, NaN where there are none.
    """
    limit = max(float(np.nanquantile(np.abs(values), 0.995)), 1e-6)
    return Scale(label, (-limit, limit), (), colours="RdBu_r")


SCALES = {
    "density": DENSITY,
    # interactions are drawn as surfaces of 1 in atomic units (Lu & Chen 2021); beyond 3 there are none
    "iri": Scale(
        "IRI (Å$^{-0.7}$ e$^{-0.1}$)",
        limits=(0.0, 3.0 * _ATOMIC_UNIT_OF_IRI),
        contours=(1.0 * _ATOMIC_UNIT_OF_IRI,),
        colours="viridis_r",
        line="black",
        extend="max",
    ),
    # regions where densities overlap are drawn as surfaces of 0.9 to 0.95 (de Silva & Corminboeuf 2014)
    "dori": Scale("DORI", limits=(0.0, 1.0), contours=(0.9,), colours="magma", extend="neither"),
}
"""Field → its scale."""
