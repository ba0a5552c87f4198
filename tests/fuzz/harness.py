"""Damages files and checks how readers respond.

A target is a kind of file: it makes valid ones, reads them with deepdft, and tells what a damaged one truly says by an
oracle that is not the code under test. Of each damaged file a reader must either say in one line what is wrong, naming
the file, or return what the oracle finds. Damage depends on the seed and the number of the mutant only.
"""

from __future__ import annotations

import random
import shutil
import tempfile
import traceback
import warnings
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

Content = dict[str, Any]
"""What was read: arrays and texts by name."""


class Target(ABC):
    """A kind of file."""

    name: str
    text = False
    """Whether damage is done to words and lines too."""

    @abstractmethod
    def make(self, folder: Path) -> list[Path]:
        """Write valid files; returns those that are damaged, one at a time."""

    @abstractmethod
    def read(self, folder: Path) -> Content:
        """Read the files with deepdft."""

    def oracle(self, damaged: Path, original: Content) -> Content | None:
        """What a damaged file says; None if it says nothing. Files with checksums say the original or nothing."""
        return original


@dataclass
class Outcome:
    """Counts of what readers made of damaged files, and the first examples of what must not be."""

    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def note(self, kind: str, example: str = "") -> None:
        """Count an outcome; keep the example of a failure."""
        self.counts[kind] += 1
        if example and len(self.failures) < 20:
            self.failures.append(example)


def same(one: Any, other: Any) -> bool:
    """Whether two contents agree to the last printed digit."""
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, np.ndarray):
        close = np.shape(one) == np.shape(other) and np.allclose(one, other, rtol=1e-9, atol=1e-12, equal_nan=True)
        return bool(close)
    return bool(one == other)


CHARACTERS = b"0123456789+-.EeDd *\t\n\r,nafi\x00\xff"
WORDS = b"nan inf 1e400 -1 0 99999999999 1.0D+01 0.1-100 ******** [[[[ null {} true".split()


def damage(data: bytes, rng: random.Random, *, text: bool) -> bytes:
    """A damaged copy."""
    kinds = ["flip", "set", "delete", "insert", "truncate", "repeat", "swap", "zeros"]
    if text:
        kinds += ["character", "character", "word", "word", "delete line", "repeat line", "join", "split"]
    data_out = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        _damage_once(data_out, rng, rng.choice(kinds))
    return bytes(data_out)


def _damage_once(data: bytearray, rng: random.Random, kind: str) -> None:
    if not data:
        return
    at = rng.randrange(len(data))
    length = min(rng.choice([1, 1, 2, 3, 8, 18, 64, 512]), len(data) - at)
    part = bytes(data[at : at + length])
    changes = {  # what is replaced, and by what
        "flip": (1, lambda: bytes([data[at] ^ 1 << rng.randrange(8)])),
        "set": (1, lambda: bytes([rng.randrange(256)])),
        "delete": (length, lambda: b""),
        "insert": (0, lambda: bytes(rng.randrange(256) for _ in range(length))),
        "truncate": (len(data) - at, lambda: b""),
        "repeat": (0, lambda: part),
        "swap": (2 * length, lambda: bytes(data[at + length : at + 2 * length]) + part),
        "zeros": (length, lambda: bytes(length)),
        "character": (1, lambda: bytes([rng.choice(CHARACTERS)])),
    }
    if kind in changes:
        n_replaced, new = changes[kind]
        data[at : at + n_replaced] = new()
    else:
        _damage_words(data, rng, kind)


def _damage_words(data: bytearray, rng: random.Random, kind: str) -> None:
    separator = b"\n" if "line" in kind else b" "
    parts = bytes(data).split(separator)
    at = rng.randrange(len(parts))
    if kind in ("delete line", "join"):
        if kind == "join" and at + 1 < len(parts):
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        else:
            del parts[at]
    elif kind == "repeat line":
        parts.insert(at, parts[at])
    elif kind == "split":
        middle = len(parts[at]) // 2
        parts[at : at + 1] = [parts[at][:middle], parts[at][middle:]]
    else:
        parts[at] = rng.choice(WORDS)
    data[:] = separator.join(parts)


def mutants(files: list[Path], seed: int, n_mutants: int, *, text: bool) -> Iterator[tuple[int, Path, bytes]]:
    """The number of each mutant, the file that is damaged, and its damaged content."""
    originals = {path: path.read_bytes() for path in files}
    for number in range(n_mutants):
        rng = random.Random(f"{seed}-{number}")
        path = rng.choice(files)
        damaged = damage(originals[path], rng, text=text)
        if damaged != originals[path]:
            yield number, path, damaged


def run(target: Target, n_mutants: int, seed: int = 0) -> Outcome:
    """Read damaged files of a target.

    Outcomes: "refused" in one line that names the file; "as the oracle reads it"; and what must not be: "silently
    wrong", "traceback" (another error than ValueError or OSError), "without the file's name", "several lines".
    """
    outcome = Outcome()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        root = Path(folder)
        files = target.make(root / "valid")
        original = target.read(root / "valid")
        work = root / "work"
        shutil.copytree(root / "valid", work)
        for number, path, damaged in mutants(files, seed, n_mutants, text=target.text):
            place = work / path.relative_to(root / "valid")
            place.write_bytes(damaged)
            _read_one(target, work, place, original, outcome, f"{target.name}, seed {seed}, mutant {number}")
            shutil.copyfile(path, place)
    return outcome


def _read_one(target: Target, folder: Path, place: Path, original: Content, outcome: Outcome, label: str) -> None:
    try:
        found = target.read(folder)
    except (ValueError, OSError) as error:
        reported = str(error)
        if place.name not in reported and str(folder) not in reported:
            outcome.note("without the file's name", f"{label}: {reported!r}")
        elif "\n" in reported.strip():
            outcome.note("several lines", f"{label}: {reported!r}")
        else:
            outcome.note("refused")
        return
    except Exception:
        outcome.note("traceback", f"{label}: {traceback.format_exc().splitlines()[-1]}")
        return
    expected = target.oracle(place, original)
    if same(found, original) or (expected is not None and same(found, expected)):
        outcome.note("as the oracle reads it")
    else:
        outcome.note("silently wrong", f"{label}: read as {_brief(found)}, the oracle has {_brief(expected)}")


def _brief(content: Content | None) -> str:
    return repr(content)[:300].replace("\n", " ")
