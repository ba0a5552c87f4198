"""Self-consistency from different starting densities in Quantum ESPRESSO: iterations and CPU time of each."""

from __future__ import annotations

import re
import resource
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ase
from ase.units import Hartree

from deepdft.dft.calculation import CalculationError
from deepdft.dft.functionals import Functional
from deepdft.dft.qe_occupations import PAW_FILE
from deepdft.dft.qe_save import Save
from deepdft.dft.quantum_espresso import QuantumEspresso, run_pw
from deepdft.dft.starts import prepare, set_values, write_prediction
from deepdft.inference.predictor import Predictor

__all__ = ["MAX_ENERGY_DIFFERENCE", "STARTS", "StartRun", "compare_starts"]

STARTS = {
    "default": "pw.x's own start: a superposition of its atoms",
    "atoms": "the same superposition, read from a file as a prediction is",
    "model_density": "the predicted density, with the PAW occupations of atoms",
    "model": "the predicted density, with the PAW occupations of a model that has learned them, else of atoms",
    "exact_density": "the self-consistent density, with the PAW occupations of atoms",
    "exact": "the self-consistent density and PAW occupations",
}
"""Names of the starts and what they are."""
MAX_ENERGY_DIFFERENCE = 1e-6
"""eV, between the final energies of the starts of a structure that count as the same state."""


@dataclass(frozen=True)
class StartRun:
    """A calculation from one starting density."""

    start: str
    """Which of `STARTS`."""
    accuracies: list[float]
    """Ry, estimated error of the energy after each iteration."""
    clock: list[float]
    """Seconds by pw.x's clock from its beginning to the end of each iteration."""
    scf_seconds: float
    """CPU seconds of pw.x."""
    preparation_seconds: float
    """CPU seconds spent before: on pw.x's run without iterations, and on the prediction."""
    energy: float
    """eV, in the end."""
    n_electrons: float = 0.0
    """Valence electrons."""

    def iterations(self, threshold: float) -> int | None:
        """Iterations until the estimated error is below a threshold in Ry; None if it never is."""
        return next((i for i, accuracy in enumerate(self.accuracies, start=1) if accuracy < threshold), None)

    def cpu_seconds(self, threshold: float) -> float | None:
        """CPU seconds with the preparation until a threshold in Ry, shared out by pw.x's clock; None if not reached."""
        reached = self.iterations(threshold)
        if reached is None:
            return None
        return self.preparation_seconds + self.scf_seconds * self.clock[reached - 1] / self.clock[-1]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def compare_starts(
    atoms: ase.Atoms,
    functional: Functional,
    engine: QuantumEspresso,
    predictor: Predictor,
    starts: Sequence[str] = tuple(STARTS),
) -> list[StartRun]:
    """Run one structure to self-consistency from each starting density, with the same settings for all.

    The wave functions are removed before each run, so that all begin with those of random atomic orbitals.

    Args:
        atoms: framed by the engine.
        functional: exchange and correlation.
        engine: its `convergence` in Ry is where every run ends.
        predictor: of the density for the start "model".
        starts: names of `STARTS`; "default" runs first whatever their order, and gives the exact density.

    Raises:
        CalculationError: if a calculation does not converge.
    """
    wanted = [name for name in STARTS if name in starts or name == "default"]
    with tempfile.TemporaryDirectory() as folder:
        comparison = _Comparison(Path(folder), engine.input(atoms, functional), engine.command, predictor)
        return [comparison.run(name) for name in wanted]


class _Comparison:
    """The calculations of one structure, in folders of their own below a temporary one."""

    def __init__(self, folder: Path, text: str, command: str, predictor: Predictor) -> None:
        self.folder = folder
        self.text = text
        self.command = command
        self.predictor = predictor
        self.input = folder / "scf.in"
        self.input.write_text(text)

    def run(self, start: str) -> StartRun:
        """Prepare one start and run it."""
        folder = self.folder / start
        folder.mkdir()
        path = folder / "scf.in"
        before = _cpu_seconds()
        path.write_text(self.text if start == "default" else self._prepare(start, folder))
        prepared = _cpu_seconds()
        printed = run_pw(path, self.command)
        ended = _cpu_seconds()
        result = Save(folder / "pwscf.save")
        if not result.is_converged:
            raise CalculationError(f"not converged from start={start}")
        accuracies, clock = _iterations(printed)
        return StartRun(
            start,
            accuracies,
            clock,
            scf_seconds=ended - prepared,
            preparation_seconds=0.0 if start.startswith("exact") else prepared - before,  # a limit, not a method
            energy=result.energy * Hartree,
            n_electrons=result.n_electrons,
        )

    def _prepare(self, start: str, folder: Path) -> str:
        """Put the starting density into a `.save`; returns the input that begins with it."""
        save, settings, pseudo_dir = prepare(self.input, folder, command=self.command)
        if start.startswith("model"):
            write_prediction(save, self.predictor, pseudo_dir, with_occupations=start == "model")
        elif start.startswith("exact"):
            self._copy_result(save, with_occupations=start == "exact")
        else:
            save.write_density(save.density())  # without wave functions
        return set_values(self.text, settings | {"startingpot": "file"})

    def _copy_result(self, save: Save, *, with_occupations: bool) -> None:
        """Put the density of the default start's end into a `.save`."""
        found = Save(self.folder / "default" / "pwscf.save")
        save.write_density(found.density())
        occupations = found.folder / PAW_FILE
        if with_occupations and occupations.exists():
            shutil.copy(occupations, save.folder / PAW_FILE)


def _iterations(printed: str) -> tuple[list[float], list[float]]:
    """Estimated error in Ry and seconds on pw.x's clock at the end of each iteration."""
    blocks = printed.split("iteration #")[1:]
    accuracies = [re.findall(r"estimated scf accuracy\s+<\s*(\S+)", block)[-1] for block in blocks]
    clock = [re.findall(r"total cpu time spent up to now is\s+(\S+) secs", block)[-1] for block in blocks]
    return [float(word) for word in accuracies], [float(word) for word in clock]


def _cpu_seconds() -> float:
    """CPU seconds of this process and of those that it has waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime
