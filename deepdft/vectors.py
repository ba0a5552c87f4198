"""Products of many vectors with one small matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepdft import chunks

__all__ = ["matmul_single_threaded"]


def matmul_single_threaded(vectors: NDArray[Any], matrix: NDArray[np.floating]) -> NDArray[np.float64]:
    """`vectors @ matrix`, computed on one thread.

    With many rows a BLAS library spreads even this product over all threads, which then spin for a tenth of a second
    on the cores that the model needs next.

    Args:
        vectors: (n, 3).
        matrix: (3, 3).
    """
    result = np.empty((len(vectors), matrix.shape[1]))
    for start in range(0, len(vectors), chunks.CPU.matrix_rows):
        rows = slice(start, start + chunks.CPU.matrix_rows)
        np.matmul(vectors[rows], matrix, out=result[rows])
    return result
