"""Pictures of a predicted structure: its density, and the indicators derived from it, on a plane through the atoms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepdft import plotting
from deepdft.inference.assessment import Trust
from deepdft.inference.box import Box
from deepdft.inference.predictor import Predictor
from deepdft.inference.structure_fields import StructureFields
from deepdft.runs.progress import progress_bar

__all__ = ["Pictures"]

NAMES = {"difference": "spin density"}
"""Names of channels in pictures."""
PIXELS = 160
"""Points along the longer side of the picture: few compared with a grid, and smooth when interpolated."""


class Pictures:
    """Pictures beside the file of a density: x.cube → x.png, x_difference.png of a spin density, x_iri.png, x_dori.png.

    Args:
        predictor: of the density.
        box: the structure with its grid.
        output: the file of the density.
        trust: how far to trust the prediction; None where it was not assessed.
    """

    def __init__(self, predictor: Predictor, box: Box, output: Path, *, trust: Trust | None) -> None:
        self.predictor, self.box, self.output, self.trust = predictor, box, output, trust
        self.plane = replace(plotting.choose_plane(box.atoms, box.origin), pixels=PIXELS)

    def draw_density(self, model: str, electrons: float) -> None:
        """Draw the total density, and other channels such as the spin density in colours for both signs.

        Args:
            model: its name, for the title.
            electrons: in the density, for the title.
        """
        values = self.predictor.predict_points(self.box.structure(), self.plane.points())
        title = plotting.heading(self.box.atoms, model=model, n_electrons=electrons)
        title += f"\n{self.trust.heading}" if self.trust is not None and self.trust.heading else ""
        total, *others = values.reshape(len(values), -1).T
        self._draw(total, "density", ".png", plotting.SCALES["density"], title=title)
        for channel, column in zip(self.predictor.model.channels[1:], others, strict=True):
            name = NAMES.get(channel, channel)
            self._draw(column, name, f"_{channel}.png", plotting.diverging(f"{name} (e/Å³)", column), title=title)

    def draw_fields(self, fields: StructureFields, names: Sequence[str]) -> None:
        """Draw those of some fields that have a colour scale."""
        drawn = [name for name in names if name in plotting.SCALES]
        if not drawn:
            return
        with progress_bar("drawing", len(self.plane.points())) as advance:
            found = fields.at(self.plane.points(), drawn, progress=advance)
        for name in drawn:
            self._draw(found[name], name.upper(), f"_{name}.png", plotting.SCALES[name])

    def _draw(
        self,
        values: NDArray[np.floating],
        name: str,
        ending: str,
        scale: plotting.Scale,
        title: str | None = None,
    ) -> None:
        """Draw a quantity (n,) at the plane's points into a file beside the output: x.cube → x + ending."""
        path = self.output.with_name(self.output.stem + ending)
        picture = plotting.plane_picture(
            self.plane,
            self.box.atoms,
            values.reshape(self.plane.shape),
            origin=self.box.origin,
            title=title,
            scale=scale,
            unknown=self.predictor.unknown(self.box.atoms),
            unlike=() if self.trust is None else self.trust.unlike,
        )
        plotting.save(picture, path)
        shown = name if name.isupper() else f"the {name}"
        print(f"{path}: {shown} on a plane through the atoms")
