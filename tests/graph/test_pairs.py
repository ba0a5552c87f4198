"""Pairs within a cutoff, whichever way they are found."""

import numpy as np
import pytest

from deepdft.chunks import CPU
from deepdft.graph import pairs
from deepdft.graph.pairs import pairs_within

CUTOFF = 1.1


@pytest.fixture(params=["distances", "trees", "trees in parts"])
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    other = "_by_trees" if "distances" in request.param else "_by_distances"
    monkeypatch.setattr(CPU, "images_without_tree", 10**9 if "distances" in request.param else -1)
    monkeypatch.setattr(CPU, "distances", -1)
    monkeypatch.setattr(pairs, other, None)  # would fail if it were called
    if "parts" in request.param:
        monkeypatch.setattr(CPU, "points_per_tree", 7)


@pytest.mark.usefixtures("_way")
class TestEachWay:
    def test_finds_all_pairs_in_order(self) -> None:
        rng = np.random.default_rng(0)
        points, others = rng.uniform(0, 4, (50, 3)), rng.uniform(0, 4, (30, 3))
        expected = np.nonzero(np.linalg.norm(points[:, None] - others, axis=-1) < CUTOFF)
        found = pairs_within(points, others, CUTOFF)
        assert len(expected[0]) > 50
        assert [index.tolist() for index in found] == [index.tolist() for index in expected]
        assert all(index.dtype == np.int64 for index in found)

    def test_leaves_out_what_is_as_far_as_the_cutoff(self) -> None:
        points = np.array([[CUTOFF, 0, 0], [np.nextafter(CUTOFF, 0), 0, 0]])
        assert [index.tolist() for index in pairs_within(points, np.zeros((1, 3)), CUTOFF)] == [[1], [0]]

    @pytest.mark.parametrize(("n", "n_others"), [(0, 5), (5, 0), (0, 0)])
    def test_finds_none_where_there_is_nothing(self, n: int, n_others: int) -> None:
        i, j = pairs_within(np.zeros((n, 3)), np.zeros((n_others, 3)), CUTOFF)
        assert len(i) == len(j) == 0
        assert i.dtype == j.dtype == np.int64


def test_many_others_are_searched_by_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "_by_distances", None)
    others = np.arange(CPU.images_without_tree + 1)[:, None] * np.ones(3)
    points = np.zeros((CPU.distances // len(others) + 1, 3))
    assert len(pairs_within(points, others, CUTOFF)[0]) == len(points)
    monkeypatch.undo()
    monkeypatch.setattr(pairs, "_by_trees", None)
    assert len(pairs_within(points[:1], others, CUTOFF)[0]) == 1
