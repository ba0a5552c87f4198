"""Which structures the stores of this study hold, in batches: `python sets.py SET BATCH` prints the overrides of one.

QM9 molecules whose number is ≡ 7 (mod 10) are held out for good: no training set has one. Left out of all sets are the
first 103 molecules and the numbers in `used_elsewhere.txt`, which other studies train on or test with.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from deepdft.dft.structures_qm9 import Qm9Molecules

N_QM9 = 133885  # numbers; 3054 of them are not in the package qm9pack
SEED = 20261201
BATCH = {"qm9_train": 20, "qm9_held_out": 20, "ec": 8, "nmc": 16}
"""Structures in one store of each set; `deepdft-convert` joins stores."""


def qm9_numbers(held_out: bool) -> list[int]:
    """Numbers of QM9 in the order in which they are calculated."""
    used = {int(number) for number in Path(__file__).with_name("used_elsewhere.txt").read_text().split()}
    order = np.random.default_rng(SEED).permutation(np.arange(104, N_QM9 + 1)).tolist()
    return [number for number in order if (number % 10 == 7) == held_out and number not in used]


def in_package() -> set[int]:
    """Numbers of the molecules in qm9pack, which leaves out those whose geometries are in doubt."""
    molecules = Qm9Molecules(seed=None, count=1).molecules
    return {int(name) for name, _ in molecules}


def overrides(name: str, batch: int) -> list[str]:
    """Overrides of `deepdft-generate` for one batch of a set."""
    count = BATCH[name]
    if name.startswith("qm9"):
        numbers = qm9_numbers(name == "qm9_held_out")[batch * count : (batch + 1) * count]
        known = in_package()
        numbers = [number for number in numbers if number in known]
        return ["recipe=qm9", f"recipe.numbers={sorted(numbers)}".replace(" ", "")]
    recipe = {"ec": "ethylene_carbonate", "nmc": "nmc"}[name]
    made = [f"recipe={recipe}", f"recipe.count={count}", f"recipe.first={batch * count}", f"recipe.seed={SEED}"]
    return [*made, "dft=gpaw_periodic"]


if __name__ == "__main__":
    print("\n".join(overrides(sys.argv[1], int(sys.argv[2]))))
