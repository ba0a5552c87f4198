"""`index.json` of a density store: its content, written last, so that a folder without it is not yet a store.

Format version 2 has the channels of the densities, their kind, and a checksum over everything that decides which
numbers belong to which structure. Version 1 is read as the channel "total" alone; it has no checksum of its own.
"""

from __future__ import annotations

import datetime
import json
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from deepdft.data.kind import DensityKind
from deepdft.data.records import WORK_FOLDER, ShardRecord, all_rejected
from deepdft.density import TOTAL
from deepdft.files import read_json, write_text
from deepdft.version import version

__all__ = ["FORMAT", "FORMAT_VERSION", "INDEX", "checksum", "read_index", "write_index"]

FORMAT = "deepdft-density-store"
FORMAT_VERSION = 2
READABLE = (1, 2)
INDEX = "index.json"
CHECKED = ("labels", "channels", "rejected", "shards", "structures")
"""Entries covered by the checksum; the others are provenance, which may be edited by hand."""


def write_index(
    folder: Path,
    records: Sequence[ShardRecord],
    *,
    labels: Sequence[str],
    compression: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> None:
    """Write index.json: from now on the folder is a store.

    Args:
        folder: where the shards are.
        records: of all shards, in order.
        labels: the densities of each structure.
        compression: of the densities, e.g. {"name": "none"}.
        provenance: further entries, e.g. sources, the command, and the "kind" of the densities.

    Raises:
        ValueError: if there is no structure, or two have the same name.
    """
    names = [name for record in records for name in record.name]
    if not names:
        raise ValueError(f"{folder}: there is no structure to make a store of")
    if len(set(names)) < len(names):
        twice = [name for name, count in Counter(names).items() if count > 1][:5]
        raise ValueError(f"{folder}: several structures are named {', '.join(twice)}")
    channels = _channels(records)
    content: dict[str, Any] = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "created_by": f"deepdft {version()}",
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **provenance,
        "quantity": "electron density in e/Å³, at origin + i/nx a + j/ny b + k/nz c, C order (z fastest)",
        "dtype": "float32",
        "compression": dict(compression),
        "labels": list(labels),
        "channels": channels,
        "atom_arrays": dict(_total(record.atom_arrays for record in records)),
        "dropped": dict(_total(record.dropped for record in records)),
        "rejected": [asdict(member) for member in all_rejected(records)],
        "shards": [
            {
                "file": r.file,
                "sha256": r.sha256,
                "bytes": r.bytes,
                "table_crc32": r.table_crc32,
                "n_structures": len(r.name),
            }
            for r in records
            if r.file
        ],
        "structures": {
            "name": names,
            "formula": [formula for record in records for formula in record.formula],
            "n_atoms": [count for record in records for count in record.n_atoms],
            "shape": [shape for record in records for shape in record.shape],
            "integrals": {
                label: {channel: _integrals(records, label, channel) for channel in channels} for label in labels
            },
        },
    }
    content["crc32"] = checksum(content)
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in content.items())
    write_text(folder / INDEX, f"{{\n{lines}\n}}\n")


def _channels(records: Sequence[ShardRecord]) -> list[str]:
    """All channels that occur in any structure, "total" first."""
    found = {channel for record in records for columns in record.integrals.values() for channel in columns}
    return [TOTAL, *sorted(found - {TOTAL})]


def _integrals(records: Sequence[ShardRecord], label: str, channel: str) -> list[float | None]:
    column: list[float | None] = []
    for record in records:
        known = record.integrals[label].get(channel, [None] * len(record.name)) if record.name else []
        column += [None if value is None else round(value, 6) for value in known]
    return column


def _total(counts: Any) -> Counter[str]:
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return total


def checksum(content: Mapping[str, Any]) -> int:
    """CRC-32 of those entries of an index that are data."""
    text = json.dumps([content.get(key) for key in CHECKED], separators=(",", ":"), sort_keys=True)
    return zlib.crc32(text.encode())


def read_index(path: Path) -> dict[str, Any]:
    """Read and check index.json; an index of version 1 is returned in the form of version 2.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is damaged, of another format, or of a version that this deepdft does not read.
    """
    if not path.is_file():
        what = "an unfinished conversion" if (path.parent / WORK_FOLDER).is_dir() else "no density store"
        raise FileNotFoundError(
            f"{path.parent}: {what} (no {INDEX}); make one with "
            f"deepdft-convert source=<tar|txt|folder|file> output={path.parent}"
        )
    index = read_json(path)
    if index.get("format") != FORMAT or type(index.get("format_version")) is not int:
        raise ValueError(f"{path}: not the index of a density store; expected one made by deepdft-convert")
    version = index["format_version"]
    if version not in READABLE:
        raise ValueError(
            f"{path}: version {version}, but this deepdft reads versions {' and '.join(map(str, READABLE))} of "
            f"{FORMAT!r}; convert the data again, or use the deepdft that wrote it"
        )
    try:
        if version == 1:
            _upgrade(index)
        elif index["crc32"] != checksum(index):
            raise ValueError("the checksum differs")
        _check(index)
    except KeyError as error:
        raise ValueError(f"{path}: damaged: no entry {error}; copy the store or convert the data again") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: damaged: {error}; copy the store or convert the data again") from error
    return index


def _upgrade(index: dict[str, Any]) -> None:
    """Convert the content of version 1 into that of version 2."""
    index["channels"] = [TOTAL]
    index["structures"]["integrals"] = {
        label: {TOTAL: counts} for label, counts in index["structures"].pop("n_electrons").items()
    }
    for member in index["rejected"]:
        member["index"] = member.pop("position")


def _check(index: dict[str, Any]) -> None:
    """Refuse an index whose entries have wrong types or lengths."""
    labels, channels, columns = index["labels"], index["channels"], index["structures"]
    _expect(_are(labels, str) and bool(labels) and len(set(labels)) == len(labels), "labels are different names")
    _expect(_are(channels, str) and channels[:1] == [TOTAL], 'channels are names, "total" first')
    _expect(isinstance(index["compression"], dict), "compression is an object")
    DensityKind.of_index(index)
    names = columns["name"]
    _expect(_are(names, str) and bool(names) and len(set(names)) == len(names), "structures have different names")
    n = len(names)
    _expect(_are(columns["formula"], str, n), f"there are {n} formulas")
    _expect(_are(columns["n_atoms"], int, n) and min(columns["n_atoms"]) >= 0, f"there are {n} numbers of atoms")
    shapes = columns["shape"]
    _expect(_are(shapes, list, n) and all(_are(shape, int, 3) and min(shape) > 0 for shape in shapes), "shapes")
    integrals = columns["integrals"]
    _expect(set(integrals) == set(labels), "integrals are those of the labels")
    for own in integrals.values():
        _expect(set(own) == set(channels), "integrals are those of the channels")
        _expect(all(_are(column, (int, float, type(None)), n) for column in own.values()), f"there are {n} integrals")
        _expect(None not in own[TOTAL], "every structure has a total density")
    _check_shards(index["shards"], n)
    for member in index["rejected"]:
        _expect(type(member["index"]) is int and _are([member["name"], member["reason"]], str), "rejected members")


def _check_shards(shards: Any, n: int) -> None:
    _expect(_are(shards, dict), "shards are objects")
    for shard in shards:
        file = shard["file"]
        inside = isinstance(file, str) and Path(file).name == file and file not in ("", ".", "..")
        _expect(inside, f"a shard is a file in the folder of the store, got {file!r}")
        _expect(_are([shard["bytes"], shard["n_structures"]], int) and isinstance(shard["sha256"], str), "shards")
    held = sum(shard["n_structures"] for shard in shards)
    _expect(held == n, f"there are {n} names but the shards hold {held} structures")
    _expect(all(shard["n_structures"] > 0 for shard in shards), "no shard is empty")


def _are(values: Any, kind: type | tuple[type, ...], count: int | None = None) -> bool:
    """Whether something is a list of `count` values of exactly this type."""
    kinds = set(kind) if isinstance(kind, tuple) else {kind}
    return isinstance(values, list) and set(map(type, values)) <= kinds and count in (None, len(values))


def _expect(is_so: bool, what: str) -> None:
    if not is_so:
        raise ValueError(f"expected that {what}")
