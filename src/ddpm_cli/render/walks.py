"""Images on their way between noise and image: as a sheet, or as the frames of a film.

Invariant: the pixels of every image are kept. Beside x_t may stand the clean image that a model takes it for.
"""

import math
from collections.abc import Sequence

import numpy as np

from ddpm_cli.pixels import Pixels
from ddpm_cli.render.grid import BACKGROUND, HEIGHT, Layout, arranged, captioned, grid, named_rows, trajectory

GAP = 6  # pixels of a tile, between the halves of a frame
WIDE = 960  # pixels: a frame is enlarged as far as it stays within
NARROWEST = 256  # pixels: a frame is enlarged until it is at least so wide
LARGEST, LARGEST_ALONE = 4, 2  # times, of two grids and of one, if that is wide enough
PAD = 2  # pixels of the images
ABOVE = "upper rows: x_t; lower rows: predicted x_0"
BESIDE = "{}; left: x_t, right: predicted x_0"


def sheet(x: Pixels, estimates: Pixels | None, captions: Sequence[str]) -> Pixels:
    """A row an image, a column a moment; with estimates two rows an image, and a line that says which is which.

    Args:
        x: uint8 (S, N, C, H, W), S moments of N images.
        estimates: of the same shape; None: without.
        captions: S short texts.

    Returns:
        uint8 (C, H', W').
    """
    if estimates is None:
        return trajectory(x, captions)
    rows = np.stack([x, estimates], axis=2).reshape(len(x), -1, *x.shape[2:])
    return captioned(trajectory(rows, captions), ABOVE)


PLAIN = Layout()


def enlargement(frame: Pixels, largest: int = LARGEST_ALONE) -> int:
    """How many times a frame of a film, uint8 (C, H, W), is enlarged.

    Args:
        frame: the frame.
        largest: if the frame is wide enough with it.
    """
    _, height, width = frame.shape
    wanted = max(math.ceil(NARROWEST / width), min(largest, WIDE // width))
    return int(max(1, min(wanted, HEIGHT // height)))


def framed(picture: Pixels, caption: str, longest: str = "") -> Pixels:
    """A frame of a film with its caption, as wide as a film is at least; arguments as for :func:`captioned`."""
    room = max(0, NARROWEST - picture.shape[2])
    picture = np.pad(picture, ((0, 0), (0, 0), (0, room)), constant_values=BACKGROUND)
    return captioned(picture, caption, longest)


def frames(x: Pixels, estimates: Pixels | None, captions: Sequence[str], layout: Layout = PLAIN) -> list[Pixels]:
    """One picture per moment, with its caption: a grid of the images, or with estimates two grids next to each other.

    Args:
        x: uint8 (S, N, C, H, W), S moments of N images.
        estimates: of the same shape; None: without.
        captions: S short texts.
        layout: of each grid.
    """
    if estimates is None:
        scale = enlargement(grid(x[0], layout.columns, PAD, 1))
        pictures = (arranged(moment, layout, scale, PAD) for moment in x)
        longest = max(captions, key=len)
        return [framed(picture, caption, longest) for picture, caption in zip(pictures, captions, strict=True)]
    pairs = [
        tuple(grid(images, layout.columns, PAD, scale=1) for images in both) for both in zip(x, estimates, strict=True)
    ]
    channels, height, _ = pairs[0][0].shape
    gap = np.full((channels, height, GAP), BACKGROUND, np.uint8)
    scale = enlargement(np.concatenate([pairs[0][0], gap, pairs[0][1]], axis=2), LARGEST)
    longest, found = BESIDE.format(max(captions, key=len)), []
    for (left, right), caption in zip(pairs, captions, strict=True):
        both = np.concatenate([left, gap, right], axis=2).repeat(scale, axis=1).repeat(scale, axis=2)
        both = named_rows(both, layout.rows, scale * (x.shape[3] + PAD)) if layout.rows else both
        found.append(framed(both, BESIDE.format(caption), longest))
    return found
