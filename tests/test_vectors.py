"""Products of vectors with one matrix are those of numpy, however many there are."""

import numpy as np
import pytest

from deepdft.vectors import MAX_ROWS_PER_PRODUCT, matmul_single_threaded


@pytest.mark.parametrize("n", [0, 1, MAX_ROWS_PER_PRODUCT, 2 * MAX_ROWS_PER_PRODUCT, 2 * MAX_ROWS_PER_PRODUCT + 3])
def test_every_row_is_multiplied(n: int) -> None:
    rng = np.random.default_rng(n)
    vectors, matrix = rng.normal(size=(n, 3)), rng.normal(size=(3, 3))
    np.testing.assert_allclose(matmul_single_threaded(vectors, matrix), vectors @ matrix, rtol=0, atol=1e-14)
