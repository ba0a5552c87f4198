"""Damage many files: `python tests/fuzz/run.py --mutants 10000 --seed 1`, of each kind so many.

Ends with a table of outcomes, and status 1 where a file was read silently wrong, or an error had no name of the file.
"""

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from harness import Outcome, run
from targets import TARGETS

ALLOWED = {"refused", "as the oracle reads it"}


def part(number: int, n_mutants: int, seed: int) -> Outcome:
    return run(TARGETS[number], n_mutants, seed)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutants", type=int, default=7000, help="damaged files of each kind")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", default="", help="kinds whose name contains this")
    options = parser.parse_args()
    step = 500
    jobs = [
        (number, min(step, options.mutants - first), options.seed * 10_000 + first)
        for number, target in enumerate(TARGETS)
        if options.only in target.name
        for first in range(0, options.mutants, step)
    ]
    totals: dict[str, Outcome] = {}
    with ProcessPoolExecutor(options.workers) as pool:
        for (number, *_), found in zip(jobs, pool.map(part, *zip(*jobs, strict=True)), strict=True):
            total = totals.setdefault(TARGETS[number].name, Outcome())
            total.counts.update(found.counts)
            total.failures += found.failures
    wrong = 0
    for name, total in totals.items():
        print(f"{name:40s} " + ", ".join(f"{count} {kind}" for kind, count in total.counts.most_common()))
        for failure in total.failures[:5]:
            print("    " + failure)
        wrong += sum(count for kind, count in total.counts.items() if kind not in ALLOWED)
    read = sum(sum(total.counts.values()) for total in totals.values())
    print(f"{read} damaged files, {wrong} read wrong or refused badly")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
