"""The files of a predicted structure: its density, fields derived from it, and pictures of both."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deepdft.density import Grid
from deepdft.errors import InputWarning
from deepdft.inference.assessment import Trust
from deepdft.inference.box import Box, Region
from deepdft.inference.field_files import COMPONENTS, component_path, write_fields
from deepdft.inference.output import PREDICTED
from deepdft.inference.pieces import Pieces, scaled
from deepdft.inference.predictor import Predictor
from deepdft.inference.trust import COARSE, Tally, symbols
from deepdft.inference.uncertainty import predict_with_uncertainty
from deepdft.inference.vasp_start import VaspCalculation
from deepdft.io import write_density
from deepdft.io.formats import Field, output_format, write_field
from deepdft.io.plausibility import formula_of
from deepdft.runs.predict_slabs import Helpers, joined_slabs
from deepdft.runs.progress import progress_bar

if TYPE_CHECKING:
    from deepdft.runs.prediction_pictures import Pictures

__all__ = ["PredictionFiles", "StructureFiles", "field_paths", "numbered", "std_path"]


@dataclass(frozen=True)
class PredictionFiles:
    """The files to write for each structure."""

    output: Path
    """x.cube, x.h5, CHGCAR or x.CHGCAR; files of several structures are numbered."""
    source: str
    """Where the structures were read from, for the comment in the files."""
    model: str
    """Name of the model, for comments and titles."""
    checkpoint: str
    """Where the model comes from, for the comment in the files."""
    n_electrons: float | None = None
    """Electrons that the density in the file is scaled to; None leaves it as predicted."""
    fields: Sequence[str] = field(default_factory=tuple)
    """Names of fields derived from the density, one file each."""
    uncertainty: bool = False
    """Whether to write the standard deviation of an ensemble beside the density, and to report the expected error."""
    vasp: VaspCalculation | None = None
    """The VASP calculation that is to start from the file; it decides grid, atoms, electrons and occupancies."""
    picture: bool = True
    """Whether to draw the density, and the indicators among the fields."""

    def outputs(self, count: int) -> list[Path]:
        """The files of the densities of `count` structures."""
        return [numbered(self.output, index, count) for index in range(count)]

    def comment(self, unknown: str) -> str:
        """One line about the density, with the elements that the model does not know."""
        scaled = "" if self.n_electrons is None else f", scaled to {self.n_electrons} electrons"
        guessed = f", which was not trained on {unknown}" if unknown else ""
        return f"density of {self.source} {PREDICTED} {self.checkpoint}{guessed}{scaled}"


def numbered(output: Path, index: int, count: int) -> Path:
    """The output of one of several frames: x_000.cube, x_001.cube, …; the name itself if there is one frame."""
    if count == 1:
        return output
    digits = max(3, len(str(count - 1)))
    return output.with_name(f"{output.stem}_{index:0{digits}d}{output.suffix}")


class StructureFiles:
    """The files of one structure."""

    def __init__(
        self, predictor: Predictor, box: Box, output: Path, files: PredictionFiles, helpers: Helpers | None = None
    ) -> None:
        self.predictor = predictor
        self.box = box
        self.output = output
        self.files = files
        self.helpers = helpers
        self.unknown = symbols(predictor.unknown(box.atoms))
        self.trust: Trust | None = None
        self.notes: list[str] = []

    def write(self) -> None:
        """Write all files, and print what was done."""
        lengths, steps = self.box.atoms.cell.lengths(), self.box.spacing
        print(
            f"{formula_of(self.box.atoms)}: box {_product(lengths, '.2f')} Å, {_periodic(self.box)}; grid "
            f"{_product(self.box.shape, 'd')} = {self.box.n_points} points, {_product(steps, '.3f')} Å apart"
        )
        tally = self._density()
        if self.files.picture and not isinstance(self.box, Region):
            model = f"{self.files.model}, not trained on {self.unknown}" if self.unknown else self.files.model
            with _quiet():
                self._pictures().draw_density(model, tally.electrons)
        if self.files.fields:
            self._derive()

    def _density(self) -> Tally:
        tally = self.predictor.tally(self.box)
        began = time.monotonic()
        with _quiet(), progress_bar("predicting", self.box.n_points) as advance:
            self._predict(tally, advance)
        print(f"{self.output}: {tally.count()}; {_speed(began, self.box.n_points)}")
        if self.box.spacing.max() > COARSE + 1e-6:
            apart = f"{self.box.spacing.max():.2f} Å apart"
            print(f"points {apart} miscount the electrons near nuclei; spacing=0.1 counts them right")
        self._report_trust()
        for doubt in tally.doubts(self.box.spacing.max()):
            warnings.warn(f"{self.output}: {doubt}", InputWarning, stacklevel=2)
        for note in self.notes:
            print(note)
        return tally

    def _predict(self, tally: Tally, advance: Callable[[int, int], None]) -> None:
        comment = self.files.comment(self.unknown)
        options = {"n_electrons": self.files.n_electrons, "progress": advance}
        if self.files.uncertainty:
            self._predict_with_uncertainty(tally, advance, comment)
            return
        pieces = self.predictor.pieces(self.box, order=output_format(self.output).order)
        if pieces.is_whole:  # in domains, the states of all atoms are never there together
            self.trust = self.predictor.trust(self.box.structure())
        if self.files.vasp is not None:
            predicted = self.predictor.predict_box(self.box, progress=advance)
            tally.add(predicted.values)
            completed = self.files.vasp.complete(predicted, self.files.n_electrons)
            write_density(self.output, completed, comment=comment)
            self.notes = self.files.vasp.notes(predicted, completed, self.predictor.info)
            return
        if len(pieces.slabs) > 1:
            self._predict_in_slabs(pieces, tally, advance, comment)
            return
        if len(self.predictor.model.channels) > 1:
            density = self.predictor.predict_box(self.box, **options)  # type: ignore[arg-type]
            tally.add(density.values)
            write_density(self.output, density, comment=comment)
            return
        chunks = self.predictor.predict_chunks(self.box, order=output_format(self.output).order, **options)  # type: ignore[arg-type]
        content = Field(self.box, comment=comment, atom_arrays=pieces.occupancies())
        write_field(self.output, content, _counted(chunks, tally))

    def _predict_in_slabs(
        self, pieces: Pieces, tally: Tally, advance: Callable[[int, int], None], comment: str
    ) -> None:
        """Predict slab after slab, each kept beside the output until all are there."""
        options: dict[str, Any] = {"memory": self.predictor.memory, "helpers": self.helpers, "progress": advance}
        with joined_slabs(pieces, self.output, **options) as chunks:
            values = _counted(scaled(chunks, self.box, self.files.n_electrons), tally)
            channels, occupancies = self.predictor.model.channels, pieces.occupancies()
            write_field(self.output, Field(self.box, channels, comment=comment, atom_arrays=occupancies), values)

    def _predict_with_uncertainty(self, tally: Tally, advance: Callable[[int, int], None], comment: str) -> None:
        model, structure = self.predictor.model, self.box.structure()
        grid = Grid(self.box.atoms, self.box.shape, self.box.origin)
        result = predict_with_uncertainty(model, grid, pbc=self.predictor.pbc, atoms=structure, progress=advance)
        tally.add(result.density.values)
        write_density(self.output, result.density, comment=comment)
        write_density(std_path(self.output), result.std, comment=f"standard deviation of the members, {comment}")
        self.trust = self.predictor.trust(structure, spread=result.spread)
        print(f"{std_path(self.output)}: standard deviation of the members")

    def _report_trust(self) -> None:
        """Print which error to expect, or warn of what is outside beyond new elements, which are reported before."""
        if self.trust is None:
            return
        if len(self.trust.reasons) > bool(self.unknown):
            warnings.warn(f"{self.output}: {self.trust.words}", InputWarning, stacklevel=2)
        elif not self.trust.outside:
            print(f"{self.output}: {self.trust.words}")

    def _pictures(self) -> Pictures:
        from deepdft.runs.prediction_pictures import Pictures  # which needs matplotlib, half a second

        return Pictures(self.predictor, self.box, self.output, trust=self.trust)

    def _derive(self) -> None:
        """Write fields derived from the density beside it, and draw the indicators among them."""
        names = list(self.files.fields)
        with _quiet():
            fields = self.predictor.encode_fields(self.box.structure())
        began = time.monotonic()
        with progress_bar("deriving", self.box.n_points) as advance:
            paths = write_fields(
                self.output,
                self.box,
                fields.on_grid(self.box, names, order=output_format(self.output).order),
                names,
                progress=advance,
                comment=f"from the {self.files.comment(self.unknown)}",
            )
        print(f"{', '.join(map(str, paths))}: {_speed(began, self.box.n_points)}")
        if self.files.picture and not isinstance(self.box, Region):
            self._pictures().draw_fields(fields, names)


def std_path(output: Path) -> Path:
    """The file of the standard deviation: x.cube → x_std.cube, CHGCAR → std.CHGCAR."""
    return output.with_name(f"{output.stem}_std{output.suffix}" if output.suffix else f"std.{output.name}")


def field_paths(output: Path, names: Iterable[str]) -> list[Path]:
    """The files of fields derived from the density, one for each component."""
    return [component_path(output, name, suffix) for name in names for suffix in COMPONENTS.get(name, ("",))]


def _counted(chunks: Iterable[NDArray[np.floating]], tally: Tally) -> Iterator[NDArray[np.floating]]:
    """Pass chunks of (n, n_channels) on, adding their total density to the tally."""
    for chunk in chunks:
        tally.add(chunk[:, 0])
        yield chunk


def _product(numbers: Iterable[float], form: str) -> str:
    return " × ".join(format(number, form) for number in numbers)


def _periodic(box: Grid) -> str:
    axes = "".join(axis for axis, repeats in zip("abc", box.atoms.pbc, strict=True) if repeats)
    return f"periodic along {axes}" if axes else "not periodic"


def _speed(began: float, n_points: int) -> str:
    seconds = time.monotonic() - began
    return f"{seconds:.1f} s, {n_points / max(seconds, 1e-9):.0f} points/s"


@contextmanager
def _quiet() -> Iterator[None]:
    """Ignore warnings about a structure that were already given."""
    with warnings.catch_warnings(action="ignore", category=InputWarning):
        yield
