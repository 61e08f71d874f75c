"""Images as ``ddpm`` shows and stores them: from the model's floats to pixels, from pixels to the bytes of a file.

Invariant: the same pixels and text give the same bytes, on any day and any machine with the same libraries.
"""

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.errors import NumericsError

if TYPE_CHECKING:
    from PIL import Image

Pixels = NDArray[np.uint8]  # channels first: 1 is grey, 3 is red, green, blue


def to_uint8(x: NDArray[np.floating[Any]]) -> Pixels:
    """Pixels of model images: round((x + 1) 255/2), with x clipped to [-1, 1]; undoes ``pixel / 127.5 - 1`` exactly.

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


def to_pillow(picture: Pixels) -> "Image.Image":
    """A Pillow image of one picture, (1, H, W) as greyscale, (3, H, W) as RGB."""
    from PIL import Image

    return Image.fromarray(picture[0] if len(picture) == 1 else np.ascontiguousarray(np.moveaxis(picture, 0, -1)))


def from_pillow(image: "Image.Image") -> Pixels:
    """The pixels of a greyscale or RGB Pillow image, (1, H, W) or (3, H, W); undoes :func:`to_pillow`."""
    pixels = np.asarray(image, dtype=np.uint8)
    return pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)


def png(picture: Pixels, text: Mapping[str, str] | None = None) -> bytes:
    """A PNG file of one picture.

    Args:
        picture: uint8 (C, H, W), C = 1 or 3.
        text: where the picture comes from, written in this order as text chunks: ``tEXt``, or ``iTXt`` where a value
            does not fit Latin-1. Keys are 1 to 79 Latin-1 characters.
    """
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    for key, value in (text or {}).items():
        info.add_text(key, value)
    buffer = io.BytesIO()
    to_pillow(picture).save(buffer, "png", pnginfo=info)
    return buffer.getvalue()


def npz(images: Pixels, labels: NDArray[np.integer[Any]] | None = None) -> bytes:
    """A compressed NumPy archive, readable with ``allow_pickle=False``.

    Args:
        images: uint8 (N, C, H, W), C = 1 or 3; stored as ``images``, N x H x W or N x H x W x 3.
        labels: (N,) class numbers, stored as ``labels``, int64; None stores -1 for each, "no label".
    """
    pixels = images[:, 0] if images.shape[1] == 1 else np.moveaxis(images, 1, -1)
    numbers = np.full(len(images), -1) if labels is None else labels
    buffer = io.BytesIO()
    np.savez_compressed(buffer, images=np.ascontiguousarray(pixels), labels=np.asarray(numbers, np.int64))
    return buffer.getvalue()
