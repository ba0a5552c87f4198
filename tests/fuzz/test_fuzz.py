"""A few hundred damaged files of each kind; `make fuzz` reads more than a hundred thousand."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from harness import Target, damage, run
from targets import TARGETS


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_damaged_files_are_refused_by_name_or_read_as_they_are(target):
    outcome = run(target, 150)
    assert outcome.failures == []
    assert outcome.counts["refused"] > 0


class Careless(Target):
    """A reader that takes the first number of a file, whatever follows."""

    name = "careless"
    text = True

    def make(self, folder):
        folder.mkdir()
        (folder / "x").write_text("1.25 2\n")
        return [folder / "x"]

    def read(self, folder):
        return {"first": float((folder / "x").read_text(errors="replace").split()[0])}

    def oracle(self, damaged, original):
        return None


def test_the_harness_notices_readers_that_are_wrong_silent_or_rude():
    outcome = run(Careless(), 300)
    assert outcome.counts["silently wrong"] > 0
    assert outcome.counts["without the file's name"] > 0
    assert outcome.failures


def test_damage_depends_on_the_seed_alone():
    import random

    data = bytes(range(256))
    assert damage(data, random.Random("1-2"), text=True) == damage(data, random.Random("1-2"), text=True)
