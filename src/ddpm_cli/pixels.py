"""The two scales of an image: pixels as files have them, 0 to 255, and as models see them, -1 (black) to 1 (white).

Invariant: :func:`to_uint8` undoes :func:`from_uint8` exactly, for every pixel, in float32 and float64.
"""

import math
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.errors import NumericsError, ResourceError

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


MOST_MEMORY = 2_500_000_000  # bytes that images may take that are sampled at once: a million of 28x28
COPIES = 3  # of the pixels: collected, joined, and as a file


def check_count(count: int, shape: tuple[int, ...], more: int = 0, free: float = math.inf) -> None:
    """Refuse to sample what does not fit into memory, before anything is computed.

    Args:
        count: number of images.
        shape: of an image, (C, H, W).
        more: bytes that sampling takes in addition.
        free: bytes that are free.

    Raises:
        ResourceError: more is needed than is free, or than :data:`MOST_MEMORY`.
    """
    needed, most = COPIES * count * math.prod(shape) + more, min(free, MOST_MEMORY)
    if needed > most:
        raise ResourceError(
            f"{count:,} image{'s' if count > 1 else ''} of {'x'.join(map(str, shape))} would take "
            f"{needed / 1e9:,.1f} GB of memory, at most {most / 1e9:,.1f} GB can be used",
            "Use a smaller -n or --batch-size; --first continues where an earlier command ended.",
        )


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
