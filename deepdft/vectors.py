"""Products of many vectors with one small matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["rows_times"]

ROWS_AT_A_TIME = 8192
"""Few enough for OpenBLAS to multiply them on one thread (measured: up to some thirty thousand)."""


def rows_times(vectors: NDArray[Any], matrix: NDArray[np.floating]) -> NDArray[np.float64]:
    """vectors @ matrix, on one thread.

    A BLAS library shares out even this where there are many rows, and its threads then wait for a tenth of a second in
    a loop, on the cores that the model needs next.

    Args:
        vectors: (n, 3).
        matrix: (3, 3).
    """
    result = np.empty((len(vectors), matrix.shape[1]))
    for start in range(0, len(vectors), ROWS_AT_A_TIME):
        part = slice(start, start + ROWS_AT_A_TIME)
        np.matmul(vectors[part], matrix, out=result[part])
    return result
