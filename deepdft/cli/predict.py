"""deepdft-predict: the density of a structure from a trained model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, ListConfig

from deepdft import bundled
from deepdft.cli.app import hydra_command, one_line_errors
from deepdft.cli.arguments import quote_structures, quote_texts
from deepdft.cli.options import refuse_other_kinds
from deepdft.memory import parse_memory

if TYPE_CHECKING:
    import ase

__all__ = ["main"]


@one_line_errors
def main() -> None:
    """Entry point of deepdft-predict."""
    arguments = [quote_structures(argument, "structure") for argument in sys.argv[1:]]
    sys.argv[1:] = quote_texts(arguments, "structure", "output", "checkpoint", "export_checkpoint")
    _run()


@hydra_command("predict")
def _run(cfg: DictConfig) -> None:
    from deepdft.checkpoint import load_checkpoint, model_name, save_checkpoint
    from deepdft.inference.predictor import Predictor, choose_device
    from deepdft.runs.predict import PredictionFiles, predict_to_files

    _check(cfg)
    structures = [] if cfg.structure is None else _structures(cfg)
    path = str(bundled.MODEL if cfg.checkpoint is None else cfg.checkpoint)
    if cfg.checkpoint is None:
        print("no checkpoint given: the bundled model, for small molecules of H, C, N, O, F, P, S and Cl (PBE)")
    checkpoint = load_checkpoint(path, device=choose_device(cfg.device), trusted=tuple(cfg.trusted))
    if cfg.export_checkpoint is not None:
        Path(cfg.export_checkpoint).parent.mkdir(parents=True, exist_ok=True)
        save_checkpoint(cfg.export_checkpoint, checkpoint)
        print(f"{cfg.export_checkpoint}: the model as a checkpoint of this package")
    if not structures:
        return
    files = PredictionFiles(
        output=Path(cfg.output).expanduser(),
        source=_source(cfg),
        model=f"{model_name(checkpoint.config)}, {Path(path).name}",
        checkpoint=path,
        n_electrons=cfg.n_electrons,
        fields=tuple(cfg.fields),
        uncertainty=cfg.uncertainty,
        picture=cfg.picture,
    )
    predictor = Predictor(
        checkpoint.model,
        pbc=checkpoint.pbc,
        info=checkpoint.info,
        allow_unknown=cfg.allow_unknown,
        memory=None if cfg.memory is None else parse_memory(cfg.memory),
    )
    predict_to_files(predictor, structures, files, spacing=cfg.spacing, shape=cfg.shape, vacuum=cfg.vacuum)


def _structures(cfg: DictConfig) -> list[ase.Atoms]:
    """Read the requested structures, and describe in a line those that were found by name."""
    from deepdft.io.structures import read_structures

    source = list(cfg.structure) if isinstance(cfg.structure, ListConfig) else str(cfg.structure)
    structures = read_structures(source, frames=cfg.frames, pbc=cfg.pbc)
    for atoms in structures:
        if "description" in atoms.info:
            print(f"structure: {atoms.info['description']}")
    return structures


def _source(cfg: DictConfig) -> str:
    return ", ".join(map(str, cfg.structure)) if isinstance(cfg.structure, ListConfig) else str(cfg.structure)


def _check(cfg: DictConfig) -> None:
    """Refuse contradictory options before anything is loaded."""
    from deepdft.inference.field_files import check_names
    from deepdft.io.formats import output_format

    if cfg.structure is None and cfg.export_checkpoint is None:
        raise ValueError("structure= is required: give a file, a name or a SMILES, and output=<x.cube|CHGCAR|x.h5>")
    if cfg.structure is not None:
        if cfg.output is None:
            raise ValueError("output= is required: give the name of a file, x.cube, CHGCAR or x.h5")
        output_format(cfg.output)
    refuse_other_kinds(cfg, numbers=["spacing", "vacuum", "n_electrons"], lists=["shape", "fields", "trusted"])
    check_names(cfg.fields)
    if cfg.memory is not None:
        parse_memory(cfg.memory)
    if cfg.n_electrons is not None and cfg.fields:
        raise ValueError("n_electrons scales the density, not fields= derived from it: predict them separately")


if __name__ == "__main__":
    main()
