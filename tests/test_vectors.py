"""Products of vectors with one matrix are those of numpy, however many there are."""

import numpy as np
import pytest

from deepdft.chunks import CPU
from deepdft.vectors import matmul_single_threaded


@pytest.mark.parametrize("n", [0, 1, CPU.matrix_rows, 2 * CPU.matrix_rows, 2 * CPU.matrix_rows + 3])
def test_every_row_is_multiplied(n: int) -> None:
    rng = np.random.default_rng(n)
    vectors, matrix = rng.normal(size=(n, 3)), rng.normal(size=(3, 3))
    np.testing.assert_allclose(matmul_single_threaded(vectors, matrix), vectors @ matrix, rtol=0, atol=1e-14)
