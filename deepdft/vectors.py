"""Products of many vectors with one small matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["rows_times"]


def rows_times(vectors: NDArray[Any], matrix: NDArray[np.floating]) -> NDArray[np.float64]:
    """vectors @ matrix, on one thread.

    A BLAS library shares out even this, and its threads then wait for a tenth of a second in a loop, on the cores that
    the model needs next.

    Args:
        vectors: (n, 3).
        matrix: (3, 3).
    """
    return np.einsum("ni,ij->nj", vectors, np.asarray(matrix, dtype=np.float64))
