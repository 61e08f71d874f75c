"""Images on their way between noise and image: as a sheet, or as the frames of a film.

Invariant: the pixels of every image are kept. Beside x_t may stand the clean image that a model takes it for.
"""

from collections.abc import Sequence

import numpy as np

from ddpm_cli.pixels import Pixels
from ddpm_cli.render.grid import BACKGROUND, captioned, grid, trajectory

GAP = 6  # pixels of a tile, between the halves of a frame
WIDE = 960  # pixels: a frame is enlarged as far as it stays within
LARGEST = 4  # times
ABOVE = "upper rows: x_t; lower rows: the clean image it is taken for"
BESIDE = "{}; left: x_t, right: the clean image it is taken for"


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


def frames(x: Pixels, estimates: Pixels | None, captions: Sequence[str]) -> list[Pixels]:
    """A picture a moment: a grid of the images, or with estimates two grids and a line that says which is which.

    Args:
        x: uint8 (S, N, C, H, W), S moments of N images.
        estimates: of the same shape; None: without.
        captions: S short texts.
    """
    if estimates is None:
        return [grid(moment, scale=2) for moment in x]
    pairs = [(grid(one, scale=1), grid(other, scale=1)) for one, other in zip(x, estimates, strict=True)]
    channels, height, width = pairs[0][0].shape
    gap = np.full((channels, height, GAP), BACKGROUND, np.uint8)
    scale = min(LARGEST, max(1, WIDE // (2 * width + GAP)))
    longest, found = BESIDE.format(max(captions, key=len)), []
    for (left, right), caption in zip(pairs, captions, strict=True):
        both = np.concatenate([left, gap, right], axis=2).repeat(scale, axis=1).repeat(scale, axis=2)
        found.append(captioned(both, BESIDE.format(caption), longest))
    return found
