"""How much of an image is background."""

import numpy as np
from numpy.typing import NDArray

NEAR = 12  # grey levels from the background's own: a twentieth of the range, which no eye tells from it


def background_of(images: NDArray[np.uint8]) -> int:
    """The most frequent value of all pixels, 0..255."""
    counts = np.zeros(256, np.int64)
    for image in images:
        counts += np.bincount(image.reshape(-1), minlength=256)
    return int(counts.argmax())


def background_share(images: NDArray[np.uint8], value: int) -> NDArray[np.float64]:
    """The share of each image's pixels that lie within 12 grey levels of a value, (N,) float64.

    Args:
        images: uint8 (N, C, H, W).
        value: of the background.
    """
    low, high = max(0, value - NEAR), min(255, value + NEAR)
    flat = images.reshape(len(images), -1)
    share: NDArray[np.float64] = ((flat >= low) & (flat <= high)).mean(1)
    return share
