"""Images of any size to a square: the shorter side resized, the middle of the longer one kept.

Invariant: torchvision, which costs seconds to import, is imported only when some image has another size.
"""

import math
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.errors import ResourceError

BATCH = 256  # images resized at once, and
PIXELS = 2**24  # pixels of one channel, which bound the memory

LONGEST = 16  # times the shorter side


def to_square(images: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Bilinear with antialiasing, then a centre crop.

    Args:
        images: (N, C, H, W) uint8, writable.
        size: S, pixels, 1 or more.

    Returns:
        (N, C, S, S) uint8; ``images`` itself where they have that size.

    Raises:
        ResourceError: torchvision cannot be imported.
    """
    count, channels, height, width = images.shape
    if (height, width) == (size, size):
        return images
    functional = _torchvision()
    import torch

    images = _middle(images)
    height, width = images.shape[2:]
    squares = np.empty((count, channels, size, size), np.uint8)
    # A huge image goes through channel by channel, for torchvision may turn it into float32.
    bands = 1 if height * width > PIXELS else channels
    step = at_once(math.isqrt(height * width))
    for start in range(0, count, step):
        for band in range(0, channels, bands):
            here = np.s_[start : start + step, band : band + bands]
            batch = functional.resize(torch.from_numpy(images[here]), [size], antialias=True)
            squares[here] = functional.center_crop(batch, [size, size]).numpy()
    return squares


def _middle(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Images at most :data:`LONGEST` times as long as they are wide, cut in the centre.

    Resizing an image of 1 x 1,000,000 pixels to 64 x 64,000,000, of which 64 x 64 are kept, would need gigabytes.
    """
    height, width = images.shape[2:]
    kept = LONGEST * min(height, width)
    top, left = max(0, height - kept) // 2, max(0, width - kept) // 2
    return images[:, :, top : top + kept, left : left + kept]


def at_once(side: int) -> int:
    """How many images of a side in pixels to resize at once, 1 or more."""
    return max(1, min(BATCH, PIXELS // side**2))


def _torchvision() -> Any:
    """torchvision's functions on images."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of its own image readers, which are not used here
            from torchvision.transforms.v2 import functional
    # RuntimeError: its compiled operators are absent or belong to another build of torch.
    except (ImportError, RuntimeError, OSError) as error:
        raise ResourceError(
            f"resizing images needs torchvision, which cannot be imported here: {error}",
            "Install the torchvision that belongs to the installed torch, from the same index: pip install torchvision "
            "(beside a CPU-only torch: --index-url https://download.pytorch.org/whl/cpu).",
        ) from error
    return functional
