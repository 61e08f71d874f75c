"""The distance between two clouds of features, without taking them for anything."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
ROWS = 1000  # of a kernel matrix at once: 80 MB for 10,000 columns


class KernelDistance(NamedTuple):
    """The squared maximum mean discrepancy, which may be below 0, and its standard error."""

    value: float
    error: float


def kernel_distance(a: NDArray[np.floating], b: NDArray[np.floating]) -> KernelDistance:
    """The unbiased squared maximum mean discrepancy of two sets of features with the kernel k(x, y) = (x.y/d + 1)^3.

    mean_{i != j} k(a_i, a_j) + mean_{i != j} k(b_i, b_j) - 2 mean_{i, j} k(a_i, b_j)

    Over all pairs, not over subsets. The standard error is the jackknife's, over both sets: leaving out one feature
    changes row sums only, so it costs nothing more.

    Args:
        a: (N, d), N at least 3.
        b: (M, d), M at least 3.

    References:
        Gretton et al. 2012, lemma 6; Binkowski et al. 2018, section 4; Efron and Stein 1981 for the jackknife.
    """
    x, y = a.astype(np.float64), b.astype(np.float64)
    within_a, within_b = _sums(x, x) - _own(x), _sums(y, y) - _own(y)
    across_a, across_b = _sums(x, y), _sums(y, x)
    n, m = len(a), len(b)
    inside_a, inside_b, between = within_a.sum(), within_b.sum(), across_a.sum()
    value = inside_a / (n * (n - 1)) + inside_b / (m * (m - 1)) - 2 * between / (n * m)
    without_a = (inside_a - 2 * within_a) / ((n - 1) * (n - 2)) + inside_b / (m * (m - 1))
    without_a -= 2 * (between - across_a) / ((n - 1) * m)
    without_b = inside_a / (n * (n - 1)) + (inside_b - 2 * within_b) / ((m - 1) * (m - 2))
    without_b -= 2 * (between - across_b) / (n * (m - 1))
    variance = sum((len(left) - 1) * left.var() for left in (without_a, without_b))
    return KernelDistance(float(value), float(variance**0.5))


def _sums(x: Floats, y: Floats) -> Floats:
    """sum_j k(x_i, y_j), (N,)."""
    parts = (x[start : start + ROWS] for start in range(0, len(x), ROWS))
    return np.concatenate([((part @ y.T / x.shape[1] + 1) ** 3).sum(1) for part in parts])


def _own(x: Floats) -> Floats:
    """k(x_i, x_i), (N,)."""
    own: Floats = ((x * x).sum(1) / x.shape[1] + 1) ** 3
    return own
