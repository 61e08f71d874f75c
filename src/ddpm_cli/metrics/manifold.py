"""Where two clouds of features overlap: how many of the one lie among the other, by balls around each feature.

The ball of a feature reaches to its k-th nearest neighbour in its own set; together the balls stand for the set's
manifold.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.metrics.nearest import blocks

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


def overlap(judged: NDArray[np.floating], real: NDArray[np.floating]) -> Overlap:
    """Precision, recall and coverage.

    Args:
        judged: features (N, d), N above 5.
        real: features (M, d), M above 5; the same number, for figures that can be compared.

    References:
        Kynkäänniemi et al. 2019, equations 1 and 2; Naeem et al. 2020, equation 9.
    """
    (near_real, wide_real), (near_judged, _) = _radii(real), _radii(judged)
    precise, recalled = np.zeros(len(judged), bool), np.zeros(len(real), bool)
    nearest = np.full(len(real), np.inf)
    for rows, squares in blocks(judged, real):
        precise[rows] = (squares <= near_real).any(1)
        recalled |= (squares <= near_judged[rows, None]).any(0)
        nearest = np.minimum(nearest, squares.min(0))
    return Overlap(float(precise.mean()), float(recalled.mean()), float((nearest <= wide_real).mean()))


def _radii(features: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Squared distances of each feature from its NEAREST-th and its WIDER-th neighbour, itself not counted; (N,)."""
    found = []
    for rows, squares in blocks(features, features):
        squares[np.arange(len(squares)), np.arange(rows.start, rows.stop)] = -1  # itself comes first, whatever rounding
        found.append(np.partition(squares, (NEAREST, WIDER), axis=1)[:, [NEAREST, WIDER]])
    near, wide = np.concatenate(found).T
    return near, wide
