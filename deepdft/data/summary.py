"""Summary of a conversion in a few lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from deepdft.data.store import Store

__all__ = ["left_out_line", "store_lines"]

MAX_NAMES_SHOWN = 3


def left_out_line(left_out: Mapping[str, Sequence[str]]) -> str | None:
    """One line about the files of the sources that are not structures; None if there are none."""
    parts = [f"{len(names)} {reason} ({_shown(names)})" for reason, names in left_out.items()]
    return f"left out of the source: {'; '.join(parts)}" if parts else None


def _shown(names: Sequence[str]) -> str:
    shown = [
        name if name.isprintable() else ascii(name) for name in names[:MAX_NAMES_SHOWN]
    ]  # a name may consist of any bytes
    return ", ".join(shown) + (", …" if len(names) > MAX_NAMES_SHOWN else "")


def store_lines(store: Store) -> list[str]:
    """Lines about size, grids, electrons, and what was kept or dropped."""
    points = store.shapes.prod(axis=1)
    electrons = store.n_electrons
    shards = store.index["shards"]
    size = sum(shard["bytes"] for shard in shards)
    lines = [
        f"{store.root}: {len(store)} structures in {len(shards)} shards, {size / 1e6:.1f} MB "
        f"({size / (4 * points.sum()):.2f} of one float32 a grid point)",
        f"grid points: {points.min()} to {points.max()} a structure, {points.sum()} in all",
        f"electrons on the grid: {electrons.min():.3f} to {electrons.max():.3f} a structure, "
        f"{electrons.mean():.3f} on average, {electrons.sum():.2f} in all",
        _kept_line(store),
    ]
    if rejected := store.index["rejected"]:
        lines.append(f"{len(rejected)} damaged members left out; see {store.root / 'rejected.csv'}")
    return lines


def _kept_line(store: Store) -> str:
    """Channels and per-atom arrays that the store has, and those that it dropped, in one line."""
    kept = [f"{channel}{_share(store, int(np.isfinite(store.integrals(channel)).sum()))}" for channel in store.channels]
    line = f"kept: {'channels' if len(kept) > 1 else 'channel'} {', '.join(kept)}"
    for name, count in store.index.get("atom_arrays", {}).items():
        line += f"; {name} of the atoms{_share(store, count)}"
    dropped = [f"{name}{_share(store, count)}" for name, count in store.index.get("dropped", {}).items()]
    return line + (f"; dropped: {', '.join(dropped)}" if dropped else "")


def _share(store: Store, count: int) -> str:
    """The number of structures in words, unless it is all of them."""
    return "" if count == len(store) else f" (of {count} of {len(store)})"
