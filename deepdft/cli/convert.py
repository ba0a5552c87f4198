"""deepdft-convert: density files → a density store."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from omegaconf import DictConfig, ListConfig
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from deepdft.cli.app import hydra_command, one_line_errors
from deepdft.cli.arguments import quote_texts
from deepdft.data.convert import convert, store_split
from deepdft.data.convert_plan import LeftOut, Plan, make_plan
from deepdft.data.electrons import MAX_ELECTRONS_PER_PROTON, implausible_electron_counts, nuclear_charge
from deepdft.data.splits import read_split_file
from deepdft.data.store import DensityStore
from deepdft.data.unfinished import is_complete
from deepdft.data.writer import Compression
from deepdft.runs.provenance import command_line, versions

__all__ = ["main"]

ON_ERROR = ("stop", "skip")
FEW = 3
"""So many names are said where there are many."""


@one_line_errors
def main() -> None:
    """Entry point of deepdft-convert."""
    sys.argv[1:] = quote_texts(sys.argv[1:], "output", lists=["source"])
    _run()


@hydra_command("convert", interrupted="the same command; finished shards are kept")
def _run(cfg: DictConfig) -> None:
    sources = list(cfg.source) if isinstance(cfg.source, ListConfig) else [cfg.source]
    output = Path(cfg.output)
    if cfg.on_error not in ON_ERROR:
        raise ValueError(f"on_error={cfg.on_error}: expected {' or '.join(ON_ERROR)}")
    if not (cfg.pbc is None or isinstance(cfg.pbc, bool)):
        raise ValueError(f"pbc={cfg.pbc}: expected true (repeats), false (a molecule) or null (as the file has it)")
    if cfg.split is not None:
        read_split_file(Path(cfg.split))  # a mistake in it shows now, not after hours
    plan = make_plan(
        [str(source) for source in sources],
        label=str(cfg.label),
        compression=Compression(str(cfg.compression), float(cfg.zfp_accuracy)),
        shard_size=float(cfg.shard_size),
        pbc=cfg.pbc,
    )
    before = is_complete(output, plan.identity)
    _say_left_out(plan.left_out)
    with _progress(plan) as advance:
        store = convert(
            plan,
            output,
            workers=int(cfg.workers) if cfg.workers is not None else os.cpu_count() or 1,
            skip_damaged=cfg.on_error == "skip",
            provenance={"command": command_line(), "versions": versions()},
            progress=advance,
        )
    names = store_split(store, Path(cfg.split)) if cfg.split is not None else None
    if before:
        print(f"{output}: complete already, {len(store)} structures; nothing to convert")
    else:
        _summarise(store)
    if names is not None:
        print("split: " + ", ".join(f"{len(part)} {name}" for name, part in names.items()))


def _say_left_out(left_out: LeftOut) -> None:
    """Which files of the sources are not converted, in one line, if there are any."""
    kinds = (
        ("beside a CHGCAR", left_out.beside_chgcar),
        ("that are no CHGCAR or cube by name", left_out.others),
    )
    said = [f"{len(names)} {what} ({_few(names)})" for what, names in kinds if names]
    if said:
        print(f"left out of the source: {'; '.join(said)}")


def _few(names: Sequence[str]) -> str:
    shown = [name if name.isprintable() else ascii(name) for name in names[:FEW]]  # any bytes can be a file's name
    return ", ".join(shown) + (", …" if len(names) > FEW else "")


@contextmanager
def _progress(plan: Plan) -> Iterator[Callable[[int], None]]:
    """A progress bar on the terminal."""
    columns = (
        TextColumn("converting"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=plan.n_members)
        yield lambda done: bar.update(task, completed=done)


def _summarise(store: DensityStore) -> None:
    """What was made, in a few lines."""
    points = store.shapes.prod(axis=1)
    electrons = store.n_electrons
    shards = store.index["shards"]
    size = sum(shard["bytes"] for shard in shards)
    print(
        f"{store.root}: {len(store)} structures in {len(shards)} shards, {size / 1e6:.1f} MB "
        f"({size / (4 * points.sum()):.2f} of float32)"
    )
    print(f"grid points: {points.min()} to {points.max()} a structure, {points.sum()} in all")
    print(
        f"electrons on the grid: {electrons.min():.3f} to {electrons.max():.3f} a structure, "
        f"{electrons.mean():.3f} on average, {electrons.sum():.2f} in all"
    )
    rejected = store.index["rejected"]
    if rejected:
        print(f"{len(rejected)} damaged members left out; see {store.root / 'rejected.csv'}")
    _warn_of_implausible_counts(store)


def _warn_of_implausible_counts(store: DensityStore) -> None:
    """Say in one line which densities cannot be those of their atoms, if there are any."""
    positions = implausible_electron_counts(store)
    if not positions.size:
        return
    found = [
        f"{store.names[i]} ({store.n_electrons[i]:.2f} of {nuclear_charge(store.formulas[i])})" for i in positions[:FEW]
    ]
    more = ", …" if positions.size > FEW else ""
    print(
        f"warning: {positions.size} of {len(store)} densities have no electrons, or more than "
        f"{MAX_ELECTRONS_PER_PROTON:g} × the sum of atomic numbers: {', '.join(found)}{more}; they are in the "
        "store, but their units may be wrong (a cube is in e/bohr³, a CHGCAR in e times the volume of the cell)",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
