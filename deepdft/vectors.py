"""Products of many vectors with one small matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["matmul_single_threaded"]

MAX_ROWS_PER_PRODUCT = 8192
"""Few enough rows for OpenBLAS to multiply them on one thread (measured: up to about thirty thousand)."""


def matmul_single_threaded(vectors: NDArray[Any], matrix: NDArray[np.floating]) -> NDArray[np.float64]:
    """`vectors @ matrix`, computed on one thread.

    With many rows a BLAS library spreads even this product over all threads, which then spin for a tenth of a second
    on the cores that the model needs next.

    Args:
        vectors: (n, 3).
        matrix: (3, 3).
    """
    result = np.empty((len(vectors), matrix.shape[1]))
    for start in range(0, len(vectors), MAX_ROWS_PER_PRODUCT):
        rows = slice(start, start + MAX_ROWS_PER_PRODUCT)
        np.matmul(vectors[rows], matrix, out=result[rows])
    return result
