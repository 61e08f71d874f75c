"""Where two clouds of features overlap: how many of the one lie among the other, by balls around each feature.

The ball of a feature reaches to its k-th nearest neighbour in its own set; together the balls stand for the set's
manifold.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

ROWS = 250  # compared with all rows of the other set at once
NEAREST = 3  # k of precision and recall: Kynkäänniemi et al. 2019, section 3.2
WIDER = 5  # k of coverage: Naeem et al. 2020, section 4


class Overlap(NamedTuple):
    """Shares, each in [0, 1].

    Attributes:
        precision: of the judged features that lie in a ball of a real one: whether images look real.
        recall: of the real features that lie in a ball of a judged one: whether all of the real is there.
        coverage: of the balls of real features that hold a judged one: the same, not fooled by outliers.
    """

    precision: float
    recall: float
    coverage: float


def overlap(judged: NDArray[np.generic], real: NDArray[np.generic]) -> Overlap:
    """Precision, recall and coverage.

    Args:
        judged: features (N, d), N above 5.
        real: features (M, d), M above 5; the same number, for figures that can be compared.

    References:
        Kynkäänniemi et al. 2019, equations 1 and 2; Naeem et al. 2020, equation 9.
    """
    (near_real, wide_real), (near_judged, _) = _radii(real), _radii(judged)
    precise = np.zeros(len(judged), bool)
    recalled, covered = np.zeros((2, len(real)), bool)
    for rows, distances in _blocks(judged, real):
        precise[rows] = (distances <= near_real).any(1)
        recalled |= (distances <= near_judged[rows, None]).any(0)
        covered |= (distances <= wide_real).any(0)
    return Overlap(float(precise.mean()), float(recalled.mean()), float(covered.mean()))


def _radii(features: NDArray[np.generic]) -> NDArray[np.float64]:
    """Return the distances of each feature from its NEAREST-th and its WIDER-th neighbor, (2, N)."""
    ranks = (NEAREST, WIDER)  # rank 0 is the feature itself
    return np.concatenate(
        [np.partition(distances, ranks, axis=1)[:, ranks] for _, distances in _blocks(features, features)]
    ).T


def _blocks(a: NDArray[np.generic], b: NDArray[np.generic]) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Yield a slice of rows of a, (N, d), and their distances from all rows of b, (M, d), as (rows, M).

    cdist sums squared differences. A matrix product is faster for large d, but |x|^2 + |y|^2 - 2 x.y rounds: equal
    rows do not have distance 0 then, and the figures depend on the number of threads.
    """
    for start in range(0, len(a), ROWS):
        rows = slice(start, min(start + ROWS, len(a)))
        yield rows, cdist(a[rows], b)
