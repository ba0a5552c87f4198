"""Products of vectors with one matrix are those of numpy, however many there are."""

import numpy as np
import pytest

from deepdft.vectors import ROWS_AT_A_TIME, rows_times


@pytest.mark.parametrize("n", [0, 1, ROWS_AT_A_TIME, 2 * ROWS_AT_A_TIME, 2 * ROWS_AT_A_TIME + 3])
def test_every_row_is_multiplied(n: int) -> None:
    rng = np.random.default_rng(n)
    vectors, matrix = rng.normal(size=(n, 3)), rng.normal(size=(3, 3))
    np.testing.assert_allclose(rows_times(vectors, matrix), vectors @ matrix, rtol=0, atol=1e-14)
