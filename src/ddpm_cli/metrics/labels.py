"""Whether images are what they were asked to be, by the word of a classifier."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

NORMAL = 1.959964  # standard deviations: 95 % of a normal distribution lie within them


class Labels(NamedTuple):
    """What a classifier says of N images.

    Attributes:
        accuracy: share of the images found to be of the class they were asked to be; None: nothing was asked.
        interval: where the true share lies with 95 % confidence (Wilson 1927); None likewise.
        confidence: mean over the images of the probability of the class found.
        histogram: how many images were found in each class, (K,).
        entropy: of that histogram, in bits; log2 K where all classes are found equally often, less where some are
            missing.
        wrong: how many images asked to be of each class were found in another, (K,); None likewise.
    """

    accuracy: float | None
    interval: tuple[float, float] | None
    confidence: float
    histogram: list[int]
    entropy: float
    wrong: list[int] | None


def judge_labels(probabilities: NDArray[np.float32], asked: NDArray[np.int64] | None) -> Labels:
    """Compare the classes found with those asked for.

    Args:
        probabilities: (N, K) of each class, N at least 1.
        asked: (N,) class numbers, or None.
    """
    classes = probabilities.shape[1]
    found = probabilities.argmax(1)
    confidence = float(probabilities.max(1).mean(dtype=np.float64))
    histogram = np.bincount(found, minlength=classes).tolist()
    shares = [count / len(found) for count in histogram if count]
    entropy = sum(share * math.log2(1 / share) for share in shares)
    if asked is None:
        return Labels(None, None, confidence, histogram, entropy, None)
    right = int((found == asked).sum())
    wrong = np.bincount(asked[found != asked], minlength=classes).tolist()
    return Labels(right / len(found), wilson(right, len(found)), confidence, histogram, entropy, wrong)


def wilson(hits: int, count: int, z: float = NORMAL) -> tuple[float, float]:
    """The interval in which a share lies, of which `hits` of `count` were seen; honest near 0 and 1 too.

    (p + z^2/2n -+ z sqrt(p (1 - p)/n + z^2/4n^2)) / (1 + z^2/n)

    Args:
        hits: 0..count.
        count: at least 1.
        z: standard deviations; 1.96 is 95 %.

    References:
        Wilson 1927, Probable inference, the law of succession, and statistical inference.
    """
    p, square = hits / count, z * z / count
    middle, half = p + square / 2, z * math.sqrt(p * (1 - p) / count + square / (4 * count))
    return max(0.0, (middle - half) / (1 + square)), min(1.0, (middle + half) / (1 + square))
