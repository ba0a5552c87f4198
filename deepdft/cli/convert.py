"""deepdft-convert: density files → a density store."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from deepdft.cli.app import hydra_command, one_line_errors
from deepdft.cli.arguments import quote_texts

__all__ = ["main"]


@one_line_errors
def main() -> None:
    """Entry point of deepdft-convert."""
    sys.argv[1:] = quote_texts(sys.argv[1:], "output", "verify", lists=["source"])
    _run()


@hydra_command("convert", interrupted="the same command; finished shards are kept")
def _run(cfg: DictConfig) -> None:
    from deepdft.data.convert import check_settings, run_plan
    from deepdft.data.convert_plan import make_plan
    from deepdft.data.electrons import warn_of_implausible_electron_counts
    from deepdft.data.splits import store_split
    from deepdft.data.summary import left_out_line, store_lines
    from deepdft.data.unfinished import finished_store
    from deepdft.data.writer import Compression
    from deepdft.runs.helpers import workers_of
    from deepdft.runs.progress import progress_bar
    from deepdft.runs.provenance import command_line, versions

    if cfg.verify is not None:
        _verify(Path(str(cfg.verify)).expanduser())
        return
    sources = list(cfg.source) if isinstance(cfg.source, ListConfig) else [cfg.source]
    output = Path(str(cfg.output)).expanduser()
    split = _plain(cfg.split)
    check_settings(on_error=str(cfg.on_error), split=split)
    plan = make_plan(
        [Path(str(source)).expanduser() for source in sources],
        label=str(cfg.label),
        compression=Compression(str(cfg.compression), float(cfg.zfp_accuracy)),
        shard_size=float(cfg.shard_size),
        pbc=cfg.pbc,
        channels=_plain(cfg.channels),
        kind=_plain(cfg.kind),
    )
    if line := left_out_line(plan.left_out):
        print(line)
    if (store := finished_store(output, plan.identity)) is not None:
        print(f"{output}: complete already, {len(store)} structures; nothing to convert")
    else:
        workers = int(cfg.workers) if cfg.workers is not None else os.cpu_count() or 1
        cluster = workers_of(cfg)
        provenance = {"command": command_line(), "versions": versions()}
        with progress_bar("converting", plan.n_members, unit="structures") as progress:
            store = run_plan(
                plan,
                output,
                workers=workers,
                cluster=cluster,
                skip_damaged=cfg.on_error == "skip",
                provenance=provenance,
                progress=progress,
            )
        print(*store_lines(store), sep="\n")
        warn_of_implausible_electron_counts(store)
    if split is not None:
        names = store_split(store, split)
        print("split: " + ", ".join(f"{len(part)} {name}" for name, part in names.items()))


def _plain(value: Any) -> Any:
    """Convert lists and mappings to plain Python ones."""
    return OmegaConf.to_container(value, resolve=True) if isinstance(value, DictConfig | ListConfig) else value


def _verify(root: Path) -> None:
    from deepdft.data.store import Store

    store = Store(root)
    store.verify()
    checked = "every structure" if store.index["format_version"] > 1 else "every shard"
    print(f"{root}: {len(store)} structures, {checked} agrees with its checksum")


if __name__ == "__main__":
    main()
