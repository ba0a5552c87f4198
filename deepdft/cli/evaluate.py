"""deepdft-evaluate: errors of a model over the full grids of a density store."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from deepdft.checkpoint import Checkpoint, load_checkpoint
from deepdft.cli.app import hydra_command
from deepdft.cli.provenance import command_line, git_state, versions, write_json
from deepdft.data.splits import load_split
from deepdft.data.store import DensityStore
from deepdft.evaluation.errors import COLUMNS, StructureErrors, evaluate, write_csv
from deepdft.evaluation.parts import begin_part, read_part
from deepdft.evaluation.ranks import Ranks, ranks
from deepdft.evaluation.report import histogram, summarise, summary_table, worst_picture
from deepdft.inference.predictor import choose_device

__all__ = ["main"]

SUBSETS = ("train", "validation", "test", "all")
PBC = {None: "as stored", True: "forced on", False: "ignored"}
PART = "errors.{}.part"
"""What each process has done so far; an interrupted evaluation goes on from these files."""


@hydra_command("evaluate", interrupted="give the same command with output=<the folder it wrote into>")
def main(cfg: DictConfig) -> None:
    """Entry point of deepdft-evaluate."""
    _check(cfg)
    with ranks() as me, _wandb(cfg, me) as logger:
        task = _task(cfg, me)
        output = Path(cfg.run_dir)
        output.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        rows, n_points = _rows(task, me, output)
        if me.rank == 0:
            seconds = time.monotonic() - began
            summary = _summary(cfg, task, rows, me) | {
                "seconds": round(seconds, 3),
                "points_per_second": round(n_points / seconds, 1),
            }
            _write(task, rows, summary, output)
            if logger is not None:
                _log(logger, rows, summary, output)
            Console().print(summary_table(summary, title=task.title))
            print(f"errors.csv, summary.json, histogram.png and worst.png are in {output}")


@dataclass(frozen=True)
class _Task:
    """What is evaluated."""

    checkpoint: Checkpoint
    store: DensityStore
    positions: list[int]
    pbc: bool | None
    label: str | None
    title: str
    identity: dict[str, Any]
    """Two evaluations with the same identity have the same errors for the same structure."""


def _check(cfg: DictConfig) -> None:
    """Refuse what makes no sense before anything is loaded."""
    if cfg.evaluation != "errors":
        raise ValueError(f"evaluation={cfg.evaluation}: there is no such evaluation; expected errors")
    if cfg.checkpoint is None:
        raise ValueError("which model? give checkpoint=<checkpoint file, run directory or released model folder>")
    if cfg.subset not in SUBSETS:
        raise ValueError(f"subset={cfg.subset}: expected one of {', '.join(SUBSETS)}")
    if cfg.limit is not None and cfg.limit < 1:
        raise ValueError(f"limit={cfg.limit}: a number of structures, at least 1, or null")
    if cfg.pbc not in PBC:
        raise ValueError(f"pbc={cfg.pbc}: expected null (as the model was trained), true or false")
    if any(override.lstrip("+").startswith("data.pbc=") for override in HydraConfig.get().overrides.task):
        raise ValueError(
            "data.pbc is a setting of training; a model is evaluated with the periodic boundaries it was trained with, "
            "unless pbc=true or pbc=false is given"
        )
    if cfg.output is None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("several processes need one folder: give output=<folder>")


def _task(cfg: DictConfig, me: Ranks) -> _Task:
    """Load the checkpoint and the store."""
    device = choose_device(cfg.device)
    if device.type == "cuda" and me.world_size > 1:
        device = choose_device(f"cuda:{me.local_rank}")
    checkpoint = load_checkpoint(cfg.checkpoint, device=device, trusted=tuple(cfg.trusted))
    store = DensityStore(Path(cfg.data.root))
    if cfg.subset == "all":
        positions = list(range(len(store)))
    else:
        positions = list(getattr(load_split(_plain(cfg.data.split), store), cfg.subset))
    positions = positions[: cfg.limit]
    if not positions:
        raise ValueError(
            f"{cfg.data.root}: the split has no {cfg.subset} structures; expected data.split or subset=all"
        )
    pbc = checkpoint.pbc if cfg.pbc is None else cfg.pbc
    if me.rank == 0:
        trained = "as" if pbc == checkpoint.pbc else f"{PBC[checkpoint.pbc]} when"
        print(f"periodic boundaries {PBC[pbc]} ({trained} the model was trained)")
    return _Task(
        checkpoint=checkpoint,
        store=store,
        positions=positions,
        pbc=pbc,
        label=cfg.data.label,
        title=f"{'' if cfg.subset == 'all' else cfg.subset + ' '}structures of {Path(cfg.data.root).name}",
        identity={
            "checkpoint": _fingerprint(checkpoint),
            "data": store.fingerprint,
            "subset": cfg.subset,
            "label": cfg.data.label,
            "pbc": pbc,
        },
    )


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _fingerprint(checkpoint: Checkpoint) -> str:
    """sha256 of the model's config and weights, whatever file they came in."""
    digest = hashlib.sha256(json.dumps(checkpoint.config, sort_keys=True).encode())
    for name, weight in sorted(checkpoint.model.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _rows(task: _Task, me: Ranks, output: Path) -> tuple[list[StructureErrors], int]:
    """Errors of all structures in the order of the subset, and the number of grid points predicted now."""
    parts = sorted(output.glob(PART.format("*")))
    done = {row.position: row for part in parts for row in read_part(part, task.identity, StructureErrors)}
    done = me.from_first({position: done[position] for position in task.positions if position in done})
    todo = [position for position in task.positions if position not in done]
    if done and me.rank == 0:
        print(f"going on: {len(done)} of {len(task.positions)} structures are done")
    part = output / PART.format(me.rank)
    begin_part(part, task.identity)
    with _progress(len(me.share(todo)), quiet=me.rank > 0) as advance:
        new = list(
            evaluate(
                task.checkpoint.model,
                task.store,
                me.share(todo),
                pbc=task.pbc,
                label=task.label,
                part=part,
                progress=advance,
            )
        )
    new = me.gather(new)
    by_position = done | {row.position: row for row in new}
    return [by_position[position] for position in task.positions], sum(row.n_points for row in new)


@contextmanager
def _progress(total: int, *, quiet: bool) -> Iterator[Any]:
    """A progress bar on the terminal with the mean ε_mae so far."""
    columns = (
        TextColumn("evaluating"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    errors: list[float] = []
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task("", total=total)

        def advance(row: StructureErrors) -> None:
            errors.append(row.eps_mae)
            bar.update(task, advance=1, description=f"mean ε_mae {sum(errors) / len(errors):.3f} %")

        yield advance


def _summary(cfg: DictConfig, task: _Task, rows: Sequence[StructureErrors], me: Ranks) -> dict[str, Any]:
    """The figures with where they come from."""
    return summarise(rows) | {
        "subset": cfg.subset,
        "checkpoint": str(cfg.checkpoint),
        "checkpoint_sha256": task.identity["checkpoint"],
        "step": task.checkpoint.info.get("step"),
        "data": {"root": str(Path(cfg.data.root).resolve()), "fingerprint": task.store.fingerprint},
        "pbc": task.pbc,
        "label": task.label,
        "device": str(next(task.checkpoint.model.parameters()).device),
        "processes": me.world_size,
        "command": command_line(),
        "git": git_state(),
        "versions": versions(),
    }


def _write(task: _Task, rows: Sequence[StructureErrors], summary: dict[str, Any], output: Path) -> None:
    """errors.csv, summary.json and the pictures; then the parts are no longer needed."""
    write_csv(output / "errors.csv", rows)
    write_json(output / "summary.json", summary)
    histogram(rows, output / "histogram.png", title=f"{len(rows)} {task.title}")
    worst = max(rows, key=lambda row: row.eps_mae)
    reference = task.store.density(worst.position, label=task.label)
    worst_picture(task.checkpoint.model, reference, worst, output / "worst.png", pbc=task.pbc)
    for part in output.glob(PART.format("*")):
        part.unlink()


@contextmanager
def _wandb(cfg: DictConfig, me: Ranks) -> Iterator[Any]:
    """The W&B logger on the first process where it is on; the run ends with an exit code whatever happens."""
    loggers = cfg.get("logger") or {}  # logger=null leaves the group out
    if loggers.get("wandb") is None or me.rank > 0:
        yield None
        return
    logger = instantiate(loggers["wandb"], job_type="evaluate")
    exit_code = 1
    try:
        yield logger
        exit_code = 0
    finally:
        logger.experiment.finish(exit_code=exit_code)


def _log(logger: Any, rows: Sequence[StructureErrors], summary: dict[str, Any], output: Path) -> None:
    """The summary, the table and the pictures."""
    logger.log_hyperparams({key: summary[key] for key in ("checkpoint", "subset", "data", "pbc", "label")})
    logger.log_metrics(
        {f"{summary['subset']}/eps_mae_{name}": value for name, value in summary["eps_mae"].items()}
        | {f"{summary['subset']}/{name}": summary[name] for name in ("mae", "rmse")}
    )
    logger.log_table("errors", columns=list(COLUMNS), data=[[getattr(row, name) for name in COLUMNS] for row in rows])
    logger.log_image("histogram", [str(output / "histogram.png")])
    logger.log_image("worst", [str(output / "worst.png")])


if __name__ == "__main__":
    main()
