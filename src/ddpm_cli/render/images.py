"""Images as ``ddpm`` stores them: from pixels to the bytes of a file.

Invariant: the same pixels and text give the same bytes, on any day and any machine with the same libraries.
"""

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.pixels import Pixels

if TYPE_CHECKING:
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

Number = TypeVar("Number", bound=np.generic)


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
    buffer = io.BytesIO()
    to_pillow(picture).save(buffer, "png", pnginfo=png_text(text or {}))
    return buffer.getvalue()


def png_text(text: Mapping[str, str]) -> "PngInfo":
    """Text chunks as Pillow writes them, in their order."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    for key, value in text.items():
        info.add_text(key, value)
    return info


def npz(images: Pixels, labels: NDArray[np.integer[Any]] | None = None, **beside: NDArray[Any]) -> bytes:
    """A compressed NumPy archive, readable with ``allow_pickle=False``.

    Args:
        images: uint8 (N, C, H, W), C = 1 or 3; stored as ``images``, N x H x W or N x H x W x 3.
        labels: (N,) class numbers, stored as ``labels``, int64; None stores -1 for each, "no label".
        beside: what else to store, by name.
    """
    numbers = np.full(len(images), -1) if labels is None else labels
    arrays: dict[str, Any] = {"images": channels_last(images), "labels": np.asarray(numbers, np.int64), **beside}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def channels_last(images: NDArray[Number]) -> NDArray[Number]:
    """(N, C, H, W) as archives have it: N x H x W of one channel, else N x H x W x C."""
    return np.ascontiguousarray(images[:, 0] if images.shape[1] == 1 else np.moveaxis(images, 1, -1))
