"""Figures: densities on a plane, reference against prediction, errors, learning curves.

Every function returns a `matplotlib.figure.Figure`; `save` writes it. Colour maps are perceptually uniform
and safe for colour-blind readers.
"""

from deepdft.plotting.calibration import calibration
from deepdft.plotting.density import compare, compare_predicted, comparison, heading, panels, plane_picture, slices
from deepdft.plotting.errors import error_distributions, error_histogram, outlier_indices
from deepdft.plotting.figure import plain, save
from deepdft.plotting.formulas import formula, formula_tex
from deepdft.plotting.learning import learning_curves
from deepdft.plotting.planes import Plane, PlaneStencil, choose_plane, plane_values
from deepdft.plotting.scales import SCALES, Scale, diverging

__all__ = [
    "SCALES",
    "Plane",
    "PlaneStencil",
    "Scale",
    "calibration",
    "choose_plane",
    "compare",
    "compare_predicted",
    "comparison",
    "diverging",
    "error_distributions",
    "error_histogram",
    "formula",
    "formula_tex",
    "heading",
    "learning_curves",
    "outlier_indices",
    "panels",
    "plain",
    "plane_picture",
    "plane_values",
    "save",
    "slices",
]
