"""Images of any size to a square: the shorter side resized, the middle of the longer one kept.

Invariant: torchvision, which costs seconds to import, is imported only when some image has another size.
"""

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.errors import ResourceError

BATCH = 256  # images resized at once, which bounds the memory


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

    squares = np.empty((count, channels, size, size), np.uint8)
    for start in range(0, count, BATCH):
        batch = torch.from_numpy(images[start : start + BATCH])
        batch = functional.resize(batch, [size], antialias=True)
        squares[start : start + BATCH] = functional.center_crop(batch, [size, size]).numpy()
    return squares


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
