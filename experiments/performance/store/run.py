"""Which layout of the density store is fast to read? See README.md.

python experiments/performance/store/run.py qm9_small.tar qm9.tar [--output results.json]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from deepdft import metrics
from deepdft.data.convert import run_plan
from deepdft.data.convert_plan import make_plan
from deepdft.data.store import DensityStore
from deepdft.data.writer import Compression

LAYOUTS = {
    "none": Compression("none"),
    "bitshuffle": Compression("bitshuffle"),
    "zfp 1e-5": Compression("zfp", 1e-5),
    "zfp 1e-4": Compression("zfp", 1e-4),
}
N_POINTS = 1000
ROUNDS = 5  # over all structures


def drop_from_page_cache(root: Path) -> None:
    """The next reading comes from the disk; pages that any open store has mapped would stay."""
    for shard in root.glob("shard-*.h5"):
        with shard.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def milliseconds(action: Callable[[int], object], order: np.ndarray) -> float:
    """Median time of an action over structures."""
    times = []
    for i in order:
        began = time.perf_counter()
        action(int(i))
        times.append(time.perf_counter() - began)
    return round(1e3 * float(np.median(times)), 3)


def from_disk(root: Path, action: Callable[[DensityStore, int], object], name: str) -> dict[str, float]:
    """Mean time of an action on each structure once, and what was read for it.

    The mean, as the kernel reads ahead: a few structures wait for the others too. The read volume shows that it was
    the disk.
    """
    drop_from_page_cache(root)
    store = DensityStore(root)
    order = np.random.default_rng(1).permutation(len(store))
    blocks = resource.getrusage(resource.RUSAGE_SELF).ru_inblock
    began = time.perf_counter()
    for i in order:
        action(store, int(i))
    seconds = time.perf_counter() - began
    read = 512 * (resource.getrusage(resource.RUSAGE_SELF).ru_inblock - blocks)
    return {
        f"{name}_from_disk_mean_ms": round(1e3 * seconds / len(store), 3),
        f"{name}_from_disk_MB": round(read / 1e6, 1),
    }


def measure(root: Path, reference_root: Path) -> dict[str, float]:
    result, draws = measure_warm(DensityStore(root), DensityStore(reference_root))  # both are closed again here
    result |= from_disk(root, lambda store, i: store.sample(i, draws[i]), "points")
    return result | from_disk(root, DensityStore.values, "grid")


def measure_warm(store: DensityStore, reference: DensityStore) -> tuple[dict[str, float], list[np.ndarray]]:
    rng = np.random.default_rng(0)
    points = store.shapes.prod(axis=1)
    order = np.concatenate([rng.permutation(len(store)) for _ in range(ROUNDS)])
    draws = [rng.integers(n, size=N_POINTS) for n in points]
    result = {
        "size": round(sum(shard["bytes"] for shard in store.index["shards"]) / (4 * int(points.sum())), 3),
        "eps_percent": round(
            float(np.mean([metrics.eps_mae(store.values(i), reference.values(i)) for i in range(len(store))])), 5
        ),
        "points_ms": milliseconds(lambda i: store.sample(i, draws[i]), order),
        "grid_ms": milliseconds(store.values, order),
    }
    return result, draws


def hdf5_picks(reference: DensityStore) -> dict[str, float]:
    """What the store does not do: let HDF5 pick single points out of the contiguous dataset."""
    path = next(reference.root.glob("shard-*.h5"))
    rng = np.random.default_rng(0)
    with h5py.File(path) as file:
        data, n = file["density"]["PBE"], int(file["offsets"][1])
        indices = [np.unique(rng.integers(n, size=N_POINTS)) for _ in range(20)]
        return {
            "points_by_h5py_list_ms": milliseconds(lambda i: data[indices[i]], np.arange(20)),
            "points_of_a_slice_ms": milliseconds(lambda i: data[:n][indices[i]], np.arange(20)),
        }


def one_dimensional(reference: DensityStore, folder: Path) -> dict[str, dict[str, float]]:
    """What the store does not do: compress concatenated grids without their three dimensions, in chunks of 1 MiB."""
    values = np.concatenate([reference.values(i).ravel() for i in range(len(reference))])
    path = folder / "one_dimensional.h5"
    result = {}
    for accuracy in (1e-5, 3e-5, 1e-4):
        with h5py.File(path, "w") as file:
            file.create_dataset("values", data=values, chunks=(2**18,), **Compression("zfp", accuracy).filter())
        with h5py.File(path) as file:
            error = metrics.eps_mae(file["values"][()], values)
        result[f"zfp {accuracy:.0e}"] = {
            "size": round(path.stat().st_size / values.nbytes, 3),
            "pooled_eps_percent": round(error, 5),
        }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tars", type=Path, nargs="+")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("results.json"))
    arguments = parser.parse_args()
    results: dict[str, object] = {"machine": f"{platform.machine()}, {os.cpu_count()} cores"}
    for tar in arguments.tars:
        with tempfile.TemporaryDirectory(dir=".") as scratch:
            stores: dict[str, DensityStore] = {}
            rows: dict[str, dict[str, float]] = {}
            for name, compression in LAYOUTS.items():
                root = Path(scratch) / name.replace(" ", "_")
                began = time.perf_counter()
                stores[name] = run_plan(make_plan([tar], compression=compression), root)
                seconds = time.perf_counter() - began
                rows[name] = {"convert_s": round(seconds, 2)} | measure(root, stores["none"].root)
                print(tar.name, name, rows[name], flush=True)
            rows["none"] |= hdf5_picks(stores["none"])
            results[tar.name] = {
                "mean_points": int(stores["none"].shapes.prod(axis=1).mean()),
                **rows,
                "one-dimensional": one_dimensional(stores["none"], Path(scratch)),
            }
    arguments.output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
