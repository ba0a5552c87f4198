"""The work of deepdft-generate: structures → densities by DFT → a density store."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf

from deepdft.data.records import WORK_FOLDER
from deepdft.data.splits import SplitSpec, check_split, store_split
from deepdft.data.store import Store
from deepdft.data.unfinished import finished_store, unfinished
from deepdft.data.writer import Compression
from deepdft.dft.functionals import functionals
from deepdft.dft.generate import CALCULATION_LOG, Progress, generate
from deepdft.dft.generate_plan import Member, Plan, Settings, digest
from deepdft.dft.structures import members_of_recipe, read_members
from deepdft.runs.progress import progress_bar
from deepdft.runs.provenance import command_line, versions

__all__ = ["generate_store"]


def generate_store(cfg: DictConfig) -> None:
    """Calculate the densities that the config of deepdft-generate asks for, into a store.

    Raises:
        ValueError: if the config contradicts itself, or the output is something else.
    """
    recipe = (
        OmegaConf.to_container(cfg.get("recipe"), resolve=True) if cfg.get("recipe") else None
    )  # absent where no recipe is chosen
    if (cfg.structures is None) == (recipe is None):
        raise ValueError("give either structures=… (files, folders, SMILES) or recipe=…")
    output = Path(str(cfg.output)).expanduser()
    if cfg.split is not None:
        check_split(_split(cfg))  # so that a mistake in it shows now, not after hours
    settings = Settings(
        functionals(list(cfg.xc) if isinstance(cfg.xc, ListConfig) else str(cfg.xc)),
        instantiate(cfg.dft, _convert_="all"),
        Compression(str(cfg.compression), float(cfg.zfp_accuracy)),
        float(cfg.shard_size),
    )
    settings.engine.check()
    workers = instantiate(cfg.cluster, _convert_="all")
    if recipe is not None and _is_complete(cfg, output, settings.identity(_origin(recipe))):
        return
    entries = _read(cfg) if recipe is None else _make(recipe, output, settings.identity(_origin(recipe)))
    plan = Plan(settings, entries, digest(entries) if recipe is None else _origin(recipe))
    if _is_complete(cfg, output, plan.identity):
        return
    provenance = {"command": command_line(), "versions": versions()} | ({} if recipe is None else {"recipe": recipe})
    with _progress() as report:
        store = generate(plan, output, workers=workers, provenance=provenance, progress=report)
    _summarise(store)
    _keep_split(cfg, store)


def _is_complete(cfg: DictConfig, output: Path, identity: str) -> bool:
    """Whether there is nothing to calculate, which is reported; the split is stored all the same."""
    store = finished_store(output, identity)
    if store is None:
        return False
    print(f"{output}: complete already, {len(store)} structures; nothing to calculate")
    _keep_split(cfg, store)
    return True


def _split(cfg: DictConfig) -> SplitSpec:
    return OmegaConf.to_container(cfg.split) if isinstance(cfg.split, DictConfig) else str(cfg.split)  # type: ignore[return-value]


def _keep_split(cfg: DictConfig, store: Store) -> None:
    """Store the split with the data, if there is one."""
    if cfg.split is not None:
        names = store_split(store, _split(cfg))
        print("split: " + ", ".join(f"{len(part)} {name}" for name, part in names.items()))


def _read(cfg: DictConfig) -> list[Member]:
    sources = cfg.structures if isinstance(cfg.structures, str) else [str(source) for source in cfg.structures]
    return read_members(sources, frames=cfg.frames)


def _origin(recipe: Any) -> str:
    return repr(sorted(recipe.items()))


def _make(recipe: Any, output: Path, identity: str) -> list[Member]:
    """Make the structures of a recipe, which are kept in the unfinished store."""
    made = instantiate(recipe, _convert_="all")
    with unfinished(output, identity, what="generation"):
        return members_of_recipe(
            made,
            output / WORK_FOLDER,
            progress=lambda number: print(f"structure {number + 1} of {len(made)}", file=sys.stderr),
        )


@contextmanager
def _progress() -> Iterator[Callable[[Progress], None]]:
    """A progress bar on a terminal; plain lines elsewhere."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    with progress_bar("calculating", None) as advance:

        def report(status: Progress) -> None:
            if status.error:
                print(f"{status.latest}: {status.error}", file=sys.stderr)
            failed = f", {status.failed} failed" if status.failed else ""
            advance(status.cost_done, status.cost_total, note=f"{status.done}/{status.total} structures{failed}")

        yield report


class _Lines:
    """Prints a line for each structure with the time left, for log files."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.before: float | None = None

    def __call__(self, status: Progress) -> None:
        if self.before is None:
            self.before = status.cost_done
            self.started = time.monotonic()
            print(f"{status.done} of {status.total} structures are there", file=sys.stderr)
            return
        spent = time.monotonic() - self.started
        left = spent * (status.cost_total - status.cost_done) / (status.cost_done - self.before)
        outcome = f"failed: {status.error}" if status.error else "done"
        failed = f", {status.failed} failed" if status.failed else ""
        where = f"{status.done} of {status.total}{failed}; {_clock(spent)}, {_clock(left)} left"
        print(f"{status.latest}: {outcome} ({where})", file=sys.stderr, flush=True)


def _clock(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{second:02d}"


def _summarise(store: Store) -> None:
    """Summarise the store in a few lines."""
    size = sum(shard["bytes"] for shard in store.index["shards"])
    points = store.shapes.prod(axis=1)
    print(f"{store.root}: {len(store)} structures × {', '.join(store.labels)}, {size / 1e6:.1f} MB")
    print(f"grid points: {points.min()} to {points.max()} a structure; {store.index['definition']}")
    print(f"energies, iterations and seconds of each structure: {store.root / CALCULATION_LOG}")
    rejected = store.index["rejected"]
    if rejected:
        print(f"{len(rejected)} structures failed; see {store.root / 'rejected.csv'}")
