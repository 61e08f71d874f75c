"""The two scales of an image: pixels as files have them, 0 to 255, and as models see them, -1 (black) to 1 (white).

Invariant: :func:`to_uint8` undoes :func:`from_uint8` exactly, for every pixel, in float32 and float64.
"""

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.errors import NumericsError

if TYPE_CHECKING:
    from torch import Tensor

Pixels = NDArray[np.uint8]  # channels first: 1 is grey, 3 is red, green, blue
Numbers = TypeVar("Numbers", "NDArray[Any]", "Tensor")


def from_uint8(pixels: Numbers) -> Numbers:
    """pixel / 127.5 - 1.

    Args:
        pixels: uint8, any shape; an array or a tensor.

    Returns:
        The same shape, in [-1, 1]: float64 of an array, float32 of a tensor.
    """
    return pixels / 127.5 - 1


def to_uint8(x: NDArray[np.floating[Any]]) -> Pixels:
    """round((x + 1) 255/2), with x clipped to [-1, 1].

    Args:
        x: (..., C, H, W) in [-1, 1]; what lies outside is clipped.

    Returns:
        The same shape, uint8 in 0..255.

    Raises:
        NumericsError: a value is NaN or infinite.
    """
    if not np.isfinite(x).all():
        raise NumericsError("the images hold values that are not finite", "try --precision float32, or other weights")
    pixels: Pixels = np.rint((np.clip(x, -1, 1).astype(np.float32) + 1) * 127.5).astype(np.uint8)
    return pixels
