"""Start a calculation of Quantum ESPRESSO from a predicted density."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deepdft.density import OCCUPANCIES
from deepdft.dft.qe_occupations import PAW_FILE, write_occupations
from deepdft.dft.qe_save import Save
from deepdft.dft.quantum_espresso import CODE, fortran, run_pw
from deepdft.dft.upf import partial_waves_of
from deepdft.files import write_text
from deepdft.inference.predictor import Predictor
from deepdft.models.free_atoms import FreeAtoms

__all__ = ["Start", "prepare", "set_values", "start_quantum_espresso", "write_prediction"]

Settings = dict[str, str | int | bool]
"""Settings of pw.x by name, whatever their namelist."""

NAMELISTS = {
    "calculation": "control",
    "outdir": "control",
    "pseudo_dir": "control",
    "startingpot": "electrons",
    "startingwfc": "electrons",
    "electron_maxstep": "electrons",
    "scf_must_converge": "electrons",
}
"""Namelists of pw.x's settings that are changed here."""


@dataclass(frozen=True)
class Start:
    """A calculation that is ready to start from a predicted density."""

    input: Path
    """The input of pw.x to run."""
    changed: list[str]
    """Lines of the input that were changed."""
    how: str
    """How the density was made from the prediction."""
    n_electrons: float
    """Electrons in the density."""
    scaled_by: float
    """Factor that scaled the prediction to these electrons; 1 where a difference was added."""


def start_quantum_espresso(path: Path, predictor: Predictor, output: Path, *, command: str = "pw.x") -> Start:
    """Write a predicted density to where pw.x reads it.

    pw.x runs once without a step of self-consistency, for its grid, its atoms' density and their PAW occupations. A
    prediction of the same kind (the same pseudopotentials) is written as it is, with PAW occupations if the model has
    learned them. One of another kind changes the density of pw.x's atoms: by ρ - ρ_free atoms for ultrasoft and PAW, by
    the ratio ρ / ρ_free atoms for norm-conserving pseudopotentials, where the difference would become negative.

    Args:
        path: input of pw.x, of a self-consistent calculation.
        predictor: of the density.
        output: folder for the calculation; made if it does not exist.
        command: the program.

    Raises:
        FileNotFoundError: if there is no such input or program.
        ValueError: if pw.x does not accept the input, or the model does not know an element.
    """
    target = output / path.name
    if target.exists():
        raise ValueError(
            f"output={output}: it has a {path.name} already, which would be overwritten; give another folder"
        )
    save, settings, folder = prepare(path, output, command=command)
    how, scaled_by, n_electrons = write_prediction(save, predictor, folder)
    final = settings | {"startingpot": "file"}
    write_text(target, set_values(path.read_text(), final))
    changed = [f"{key} = {fortran(value)}" for key, value in final.items()]
    return Start(target, changed, how, n_electrons, scaled_by)


def prepare(path: Path, output: Path, *, command: str = "pw.x") -> tuple[Save, Settings, Path]:
    """Run pw.x without a step of self-consistency, for a `.save` with the density of its own atoms.

    Args:
        path: input of pw.x.
        output: folder for the `.save`; made if it does not exist.
        command: the program.

    Returns:
        The `.save`, settings with which the input runs in `output`, and the folder of the pseudopotentials.

    Raises:
        CalculationError: if pw.x does not accept the input.
    """
    text = path.read_text()
    own = _value(text, "pseudo_dir")
    settings: Settings = {"outdir": "."}
    if own is not None:
        settings["pseudo_dir"] = str((path.parent / own).absolute())
    output.mkdir(parents=True, exist_ok=True)
    no_steps: Settings = {"calculation": "scf", "electron_maxstep": 0, "scf_must_converge": False}
    write_text(output / "prepare.in", set_values(text, settings | no_steps | {"startingpot": "atomic"}))
    run_pw(output / "prepare.in", command)
    usual = os.environ.get("ESPRESSO_PSEUDO", str(Path.home() / "espresso" / "pseudo"))  # as pw.x has it
    prefix = _value(text, "prefix") or "pwscf"
    return Save(output / f"{prefix}.save"), settings, Path(str(settings.get("pseudo_dir", usual)))


def write_prediction(
    save: Save, predictor: Predictor, pseudo_dir: Path, *, with_occupations: bool = True
) -> tuple[str, float, float]:
    """Replace the density of atoms in a `.save` by one made from a prediction, as `start_quantum_espresso` says.

    Args:
        save: from `prepare`.
        predictor: of the density.
        pseudo_dir: folder of the pseudopotentials.
        with_occupations: whether PAW occupations are written too, if the model predicts those of these
            pseudopotentials.

    Returns:
        How the density was made, the factor that gave it the right number of electrons, and that number.
    """
    same_kind = _same_kind(save, predictor, pseudo_dir)
    atoms, shape = save.atoms(), save.shape
    atoms_density = save.density()
    predicted = predictor.predict(atoms, shape=shape)
    values = np.asarray(predicted.values, dtype=np.float64)[None]
    coefficients = atoms_density.coefficients.copy()
    zero = np.flatnonzero(~atoms_density.miller.any(axis=1))[0]
    electrons = coefficients[0, zero].real  # e/bohr³, on average
    if same_kind:
        how, scaled_by = "the model predicts densities of these pseudopotentials: written as predicted", 1.0
        coefficients[0] = atoms_density.like(values)[0]
    else:
        free = np.asarray(Predictor(FreeAtoms()).predict(atoms, shape=shape).values, dtype=np.float64)[None]
        if save.is_norm_conserving:
            how = "atoms of pw.x × predicted density / free atoms"
            engine = np.maximum(atoms_density.on_grid(shape)[:1], 0.0)
            ratio = np.where(free > 1e-6, np.maximum(values, 0.0) / np.maximum(free, 1e-6), 1.0)
            coefficients[0] = atoms_density.like(engine * ratio)[0]
        else:
            how = "atoms of pw.x + predicted density - free atoms"
            difference = atoms_density.like(values - free)[0]
            difference[zero] = 0.0
            coefficients[0] += difference
    scaled_by = float(electrons / coefficients[0, zero].real)
    coefficients[0] *= scaled_by
    if len(coefficients) == 2 and "difference" in predicted.channels and same_kind:
        coefficients[1] = atoms_density.like(np.asarray(predicted.channel("difference"), dtype=np.float64)[None])[0]
        how += ", and its spin"
    save.write_density(atoms_density.with_coefficients(coefficients))
    if same_kind and (save.folder / PAW_FILE).exists():
        if with_occupations and OCCUPANCIES in predicted.atom_arrays and len(coefficients) == 1:
            waves = [partial_waves_of(pseudo_dir / name) for name in save.files_of_atoms]
            write_occupations(save.folder / PAW_FILE, predicted.atom_arrays[OCCUPANCIES], waves)
            how += ", and its PAW occupations"
        else:
            how += "; PAW occupations are those of atoms"
    return how, scaled_by, float(electrons * abs(np.linalg.det(2 * np.pi * np.linalg.inv(atoms_density.reciprocal))))


def _same_kind(save: Save, predictor: Predictor, pseudo_dir: Path) -> bool:
    """Whether the model predicts pseudo-densities for the pseudopotentials of a calculation."""
    kind = predictor.info.get("kind") or {}
    if not isinstance(kind, dict) or kind.get("code") != CODE:
        return False
    used = save.kind_of(pseudo_dir)
    return all(kind.get("pseudopotentials", {}).get(element) == text for element, text in used.items())


def _value(text: str, key: str) -> str | None:
    """The value of a setting in an input, without quotes."""
    found = re.search(rf"(?mi)^[^!\n]*?\b{key}\s*=\s*['\"]?([^'\",!\n]*)", text)
    return found[1].strip() if found else None


def set_values(text: str, values: Settings) -> str:
    """An input of pw.x with some settings changed, each on a line of its own.

    Raises:
        ValueError: if it lacks the namelist of a setting.
    """
    for key, value in values.items():
        text = re.sub(rf"(?i)(?<![\w%]){key}\s*=\s*('[^']*'|\"[^\"]*\"|[^\s,!/]+)[ \t]*,?[ \t]*", "", text)
        start = re.search(rf"(?mi)^\s*&{NAMELISTS[key]}\b", text)
        if start is None:
            raise ValueError(f"the input has no namelist &{NAMELISTS[key].upper()}: expected an input of pw.x")
        text = f"{text[: start.end()]}\n  {key} = {fortran(value)}\n{text[start.end() :]}"
    return "\n".join(line for line in text.splitlines() if line.strip()) + "\n"
