"""Structural similarity of pairs of images."""

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.errors import UsageError

WINDOW = 7  # pixels, a side of the square in which means and variances are taken
RANGE = 255  # between the darkest and the brightest pixel there can be


def ssim(images: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The structural similarity of each image with the other of the same number: 1 for equal images, about 0 for noise.

    Averaged over all windows that lie inside the image; colours are averaged. Unbiased variances and covariances.

    Args:
        images: uint8 (N, C, H, W), sides of at least 7 pixels.
        others: uint8 of the same shape.

    Returns:
        (N,) float64 in [-1, 1].

    Raises:
        UsageError: the two differ in shape, or are too small for the window.

    References:
        Wang, Bovik, Sheikh and Simoncelli 2004, equation 13, as in scikit-image with its defaults.
    """
    from skimage.metrics import structural_similarity

    if images.shape != others.shape:
        raise UsageError(
            f"the images are {_size(images)}, those to compare with {_size(others)}", "Both must be of one size."
        )
    if min(images.shape[2:]) < WINDOW:
        raise UsageError(f"the images are {_size(images)}, and SSIM wants {WINDOW} pixels a side at least")
    return np.array(
        [
            structural_similarity(a, b, win_size=WINDOW, data_range=RANGE, channel_axis=0)
            for a, b in zip(images, others, strict=True)
        ],
        np.float64,
    )


def _size(images: NDArray[np.uint8]) -> str:
    return "x".join(map(str, images.shape[1:]))
