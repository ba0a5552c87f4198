"""deepdft-predict: the density of a structure from a trained model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from deepdft import bundled
from deepdft.cli.app import hydra_command, one_line_errors
from deepdft.cli.arguments import quote_structures, quote_texts
from deepdft.cli.options import refuse_other_kinds
from deepdft.memory import parse_memory

if TYPE_CHECKING:
    import ase

    from deepdft.checkpoint import Checkpoint
    from deepdft.inference.predictor import Predictor
    from deepdft.inference.vasp_start import VaspCalculation
    from deepdft.runs.predict_slabs import Helpers

__all__ = ["main"]


@one_line_errors
def main() -> None:
    """Entry point of deepdft-predict."""
    arguments = [quote_structures(argument, "structure") for argument in sys.argv[1:]]
    texts = ("structure", "output", "checkpoint", "export_checkpoint", "points", "template", "grid_like")
    sys.argv[1:] = quote_texts(arguments, *texts)
    _run()


@hydra_command("predict")
def _run(cfg: DictConfig) -> None:
    from deepdft.checkpoint import load_checkpoint, model_name, save_checkpoint
    from deepdft.inference.device import choose_device
    from deepdft.inference.predictor import Predictor
    from deepdft.runs.predict import PredictionFiles, predict_to_files

    _check(cfg)
    vasp = _vasp(cfg)
    structures = [] if cfg.structure is None else _structures(cfg)
    if vasp is not None and vasp.template is not None:
        if len(structures) > 1:
            raise ValueError(f"template={cfg.template} belongs to one structure, got {len(structures)}")
        structures = structures or [vasp.template.atoms]
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
        vasp=vasp,
        picture=cfg.picture,
    )
    predictor = Predictor(
        checkpoint.model,
        pbc=checkpoint.pbc,
        info=checkpoint.info,
        allow_unknown=cfg.allow_unknown,
        memory=None if cfg.memory is None else parse_memory(cfg.memory),
    )
    grid: dict[str, Any] = {"spacing": cfg.spacing, "shape": cfg.shape}
    if cfg.points is not None or cfg.above is not None:
        _predict_points(cfg, predictor, structures, files.output, grid)
        return
    helpers = _helpers(cfg, checkpoint)
    grid |= {"vacuum": cfg.vacuum, "region": None if cfg.region is None else OmegaConf.to_container(cfg.region)}
    predict_to_files(predictor, structures, files, **grid, helpers=helpers)


def _predict_points(
    cfg: DictConfig, predictor: Predictor, structures: list[ase.Atoms], output: Path, grid: dict[str, Any]
) -> None:
    """Densities at a list of points instead of on a whole grid."""
    from deepdft.inference.box import make_box, make_region
    from deepdft.runs.predict_points import points_above_to_file, points_to_file

    names = {"source": _source(cfg), "checkpoint": str(cfg.checkpoint or "the bundled model")}
    if cfg.points is not None:
        points_to_file(predictor, structures, Path(cfg.points).expanduser(), output, **names)
        return
    if cfg.region is None:
        boxes = [make_box(atoms, vacuum=cfg.vacuum, **grid) for atoms in structures]
    else:
        boxes = [make_region(atoms, OmegaConf.to_container(cfg.region), **grid) for atoms in structures]  # type: ignore[arg-type]
    points_above_to_file(predictor, boxes, float(cfg.above), output, **names)


def _helpers(cfg: DictConfig, checkpoint: Checkpoint) -> Helpers | None:
    """Other processes that predict, where they are asked for."""
    from deepdft.clusters import Local
    from deepdft.runs.helpers import workers_of
    from deepdft.runs.predict_slabs import Helpers

    workers = workers_of(cfg)
    if workers is None and cfg.workers is not None and cfg.workers != 1:
        workers = Local(workers=cfg.workers)
    if workers is None:
        return None
    return Helpers(workers, checkpoint, str(cfg.device), tuple(cfg.trusted))


def _structures(cfg: DictConfig) -> list[ase.Atoms]:
    """Read the requested structures, and describe in a line those that were found by name."""
    from deepdft.io.structures import read_structures

    source = list(cfg.structure) if isinstance(cfg.structure, ListConfig) else str(cfg.structure)
    structures = read_structures(source, frames=cfg.frames, pbc=cfg.pbc)
    for atoms in structures:
        if "description" in atoms.info:
            print(f"structure: {atoms.info['description']}")
    return structures


def _vasp(cfg: DictConfig) -> VaspCalculation | None:
    """The VASP calculation that is to start from the prediction."""
    from deepdft.inference.vasp_start import read_grid, read_template

    if cfg.template is not None:
        return read_template(Path(str(cfg.template)).expanduser())
    return None if cfg.grid_like is None else read_grid(Path(str(cfg.grid_like)).expanduser())


def _source(cfg: DictConfig) -> str:
    if cfg.structure is None:
        return str(cfg.template)
    return ", ".join(map(str, cfg.structure)) if isinstance(cfg.structure, ListConfig) else str(cfg.structure)


def _check(cfg: DictConfig) -> None:
    """Refuse contradictory options before anything is loaded."""
    from deepdft.inference.field_files import check_names
    from deepdft.io.formats import output_format

    if cfg.structure is None and cfg.export_checkpoint is None and cfg.template is None:
        raise ValueError("structure= is required: give a file, a name or a SMILES, and output=<x.cube|CHGCAR|x.h5>")
    if cfg.structure is not None or cfg.template is not None:
        if cfg.output is None:
            raise ValueError("output= is required: give the name of a file, x.cube, CHGCAR or x.h5")
        if cfg.points is not None or cfg.above is not None:
            _check_points(cfg)
        elif output_format(cfg.output).name != "chgcar" and cfg.template is not None:
            raise ValueError(f"template={cfg.template} is for files that VASP reads: expected output=CHGCAR")
    _check_vasp(cfg)
    numbers = ["spacing", "vacuum", "n_electrons", "above", "workers"]
    refuse_other_kinds(cfg, numbers=numbers, lists=["shape", "fields", "trusted", "region"])
    check_names(cfg.fields)
    if cfg.memory is not None:
        parse_memory(cfg.memory)
    if cfg.region is not None and (cfg.vacuum is not None or cfg.n_electrons is not None):
        raise ValueError("region= is a part of a structure: leave vacuum= and n_electrons= out")
    if cfg.n_electrons is not None and cfg.fields:
        raise ValueError("n_electrons scales the density, not fields= derived from it: predict them separately")


def _check_vasp(cfg: DictConfig) -> None:
    """Refuse more than one description of the grid, and what does not go with one of VASP's."""
    grids = ("template", "grid_like", "shape", "spacing", "region", "points", "above")
    given = [key for key in grids if cfg[key] is not None]
    if cfg.template is None and cfg.grid_like is None:
        return
    if len(given) > 1:
        raise ValueError(f"{' and '.join(f'{key}=' for key in given)} each say what the grid is: give one of them")
    if cfg.uncertainty:
        raise ValueError(f"uncertainty=true writes no file that VASP starts from: leave {given[0]}= out")
    if cfg.vacuum is not None:
        raise ValueError(f"vacuum={cfg.vacuum}: the cell is that of the structure with {given[0]}=")


def _check_points(cfg: DictConfig) -> None:
    """Refuse what does not go together with densities at points."""
    from deepdft.inference.sparse import check_points_output

    check_points_output(Path(cfg.output))
    of_grids = ("spacing", "shape", "vacuum", "region", "above")
    if cfg.points is not None and any(cfg[key] is not None for key in of_grids):
        raise ValueError("points= says where: leave spacing=, shape=, vacuum=, region= and above= out")
    if cfg.fields or cfg.uncertainty or cfg.n_electrons is not None or cfg.workers not in (None, 1):
        left_out = "fields, uncertainty, n_electrons and workers"
        raise ValueError(f"points= and above= give the density alone, in this process: leave {left_out} out")


if __name__ == "__main__":
    main()
