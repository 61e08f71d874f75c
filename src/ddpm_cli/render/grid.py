"""Many images as one picture: a grid of samples, or their way from noise to image, a row each.

Invariant: every tile keeps its pixels exactly; it is only enlarged by a whole number, so that small images can be seen.
"""

import math
from collections.abc import Sequence

import numpy as np

from ddpm_cli.render.images import Pixels, from_pillow, to_pillow

BACKGROUND = 40  # dark enough not to glare between black digits, light enough to part them
INK = 235  # captions on that background
WIDTH = 1000  # pixels: a picture is enlarged as far as it stays within
LARGEST = 8  # times: beyond, a single digit is all blocks


def columns_for(count: int) -> int:
    """Columns of a near-square grid: without holes if that is at most three times as wide as high, else ceil(sqrt)."""
    square = math.ceil(math.sqrt(count))
    return next((c for c in range(square, count + 1) if count % c == 0 and c * c <= 3 * count), square)


def grid(images: Pixels, columns: int | None = None, pad: int = 2, scale: int | None = None) -> Pixels:
    """One picture of all images, row by row, with an even border around and between them.

    Tile (row r, column c) starts at (scale (pad + r (H + pad)), scale (pad + c (W + pad))).

    Args:
        images: uint8 (N, C, H, W), N at least 1.
        columns: at least 1; None for a near-square grid (:func:`columns_for`).
        pad: width of the border in pixels of the images.
        scale: whole-number enlargement (nearest neighbour); None for the largest up to :data:`LARGEST` that keeps
            the picture within :data:`WIDTH` pixels, at least 1.

    Returns:
        uint8 (C, scale (pad + rows (H + pad)), scale (pad + columns (W + pad))); places without an image are border.
    """
    count, channels, height, width = images.shape
    columns = columns or columns_for(count)
    rows = math.ceil(count / columns)
    picture = np.full((channels, pad + rows * (height + pad), pad + columns * (width + pad)), BACKGROUND, np.uint8)
    for k, image in enumerate(images):
        top, left = pad + k // columns * (height + pad), pad + k % columns * (width + pad)
        picture[:, top : top + height, left : left + width] = image
    scale = scale or min(LARGEST, max(1, WIDTH // picture.shape[2]))
    return picture.repeat(scale, axis=1).repeat(scale, axis=2)


def trajectory(snapshots: Pixels, captions: Sequence[str], pad: int = 2) -> Pixels:
    """Images on their way: a row each, a column per moment, the moment written above its column.

    Serves the way from noise to image (captions such as ``t = 900``) and from image to noise (``25 %``) alike. Where
    captions are too wide for their columns, only every second, third, ... is written.

    Args:
        snapshots: uint8 (S, N, C, H, W): S moments of N images.
        captions: S short texts.
        pad: width of the border in pixels of the images.

    Returns:
        uint8 (C, H', W').
    """
    from PIL import Image, ImageDraw, ImageFont

    moments, channels, height, width = snapshots.shape[0], *snapshots.shape[2:]
    tiles = to_pillow(grid(snapshots.swapaxes(0, 1).reshape(-1, channels, height, width), columns=moments, pad=pad))
    scale = tiles.width // (pad + moments * (width + pad))
    pitch = scale * (width + pad)  # from column to column
    size = min(20, max(11, pitch // 5))
    head = round(1.8 * size)
    font = ImageFont.load_default(size)
    widths = [font.getlength(caption) for caption in captions]
    every = math.ceil(1.15 * max(widths) / pitch)
    picture = Image.new(tiles.mode, (tiles.width, head + tiles.height), (BACKGROUND,) * channels)
    picture.paste(tiles, (0, head))
    draw = ImageDraw.Draw(picture)
    for k in range(0, moments, every):
        middle = scale * (pad + width / 2) + k * pitch
        middle = min(max(middle, widths[k] / 2 + 2), tiles.width - widths[k] / 2 - 2)  # the outermost may be wide
        draw.text((middle, 0.62 * head), captions[k], fill=(INK,) * channels, font=font, anchor="mm")
    return from_pillow(picture)
