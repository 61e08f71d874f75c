"""Images on their way to noise, as strips, films, arrays and single pictures.

Invariant: what is shown is the last of the results; where there is another, the first, it stands beside to compare.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from ddpm_cli import data
from ddpm_cli.forward import q_sample
from ddpm_cli.noising import Noised
from ddpm_cli.pixels import Pixels, from_uint8, to_uint8
from ddpm_cli.render.animation import FILMS, Film
from ddpm_cli.render.grid import annotated, captioned, enlarged, grid, trajectory
from ddpm_cli.render.images import channels_last, npz
from ddpm_cli.render.walks import NARROWEST, enlargement, framed
from ddpm_cli.schedule import Floats, Schedule
from ddpm_cli.seeds import generator

TINY = 8  # pixels: below, images are brought up to that before a strip enlarges them
ROOM = 300  # pixels: a narrower strip has no heading
HEADINGS = ("right: x <- sqrt(1 - beta) x + sqrt(beta) eps", "naive: x <- x + sqrt(beta) eps")
DIGIT = 35  # of MNIST's test images: a 2 with a loop, whose thin and round parts are lost at different levels
# Milliseconds: of a film, and of one of its frames at least and at most. Few levels are looked at, many flow.
FILM, SMOOTH, SLOW = 4000, 60, 500


def strip(results: Sequence[Noised], captions: Sequence[str], heading: str = "") -> Pixels:
    """Levels side by side; of one level, the image itself; of two processes, rows to compare.

    Args:
        results: of one process, or of the right one and the naive one.
        captions: of the levels.
        heading: a line above several levels; may be empty.

    Returns:
        uint8 (C, H, W).
    """
    pixels = _pixels(results[-1])
    if len(results) > 1:
        pairs = zip(_pixels(results[0]), pixels, strict=True)
        rows = np.stack([np.stack([a, b], axis=1).reshape(-1, *a.shape[1:]) for a, b in pairs])
        notes = [
            [f"mean {round(x.mean(), 2) + 0.0:.2f}\nvariance {x.var():.2f}" for x in result.x[:, k].astype(float)]
            for k in range(len(pixels[0]))
            for result in results
        ]
        picture = annotated(enlarged(rows, TINY), captions, HEADINGS * len(pixels[0]), notes)
    elif len(pixels) > 1:
        picture = trajectory(enlarged(np.stack(pixels), TINY), captions)
    else:
        return enlarged(pixels[0])[0] if len(pixels[0]) == 1 else grid(pixels[0])
    return captioned(picture, heading) if heading and picture.shape[2] >= ROOM else picture


def film(results: Sequence[Noised], captions: Sequence[str], kind: Film = "gif") -> bytes:
    """The levels in time, an animated GIF or PNG; arguments as for :func:`strip`."""
    frames = [_frame([result.only(k) for result in results], caption) for k, caption in enumerate(captions)]
    width = max(picture.shape[2] for picture in frames)
    even = [np.pad(p, ((0, 0), (0, 0), (0, width - p.shape[2])), mode="edge") for p in frames]
    return FILMS[kind](even, milliseconds=max(SMOOTH, min(SLOW, FILM // len(even))))


def _frame(results: Sequence[Noised], caption: str) -> Pixels:
    """One level."""
    if len(results) > 1:
        return strip(results, [caption])
    (pixels,) = _pixels(results[0])
    picture = grid(enlarged(pixels), scale=1) if len(pixels) == 1 else grid(pixels)
    if picture.shape[2] < NARROWEST:
        picture = grid(pixels, scale=enlargement(grid(pixels, scale=1)))
    return framed(picture, caption)


def archive(noised: Noised, numbers: Sequence[int], labels: Sequence[int] | None) -> bytes:
    """Arrays, level after level of image after image: n = images x levels.

    images: uint8 n x h x w [x 3], clipped; x: float32 of the same shape, in [-1, 1] and beyond; levels: float64 (n,);
    index: int64 (n,); labels: int64 (n,), -1 where there are none.

    Args:
        noised: the images.
        numbers: which images of their set they are.
        labels: a class for each, or None.
    """
    levels, images, *shape = noised.x.shape
    pixels = np.stack(_pixels(noised))
    return npz(
        pixels.swapaxes(0, 1).reshape(-1, *shape),
        None if labels is None else np.repeat(np.array(labels), levels),
        x=channels_last(noised.x.swapaxes(0, 1).reshape(-1, *shape)),
        levels=np.tile(noised.levels.t, images),
        index=np.repeat(np.array(numbers, np.int64), levels),
    )


def compared(schedules: Sequence[Schedule], shares: Floats) -> Pixels:
    """A digit at some shares of T, (S,), under each of K schedules, with one noise for all: (K, S, 1, 28, 28)."""
    x_0 = from_uint8(data.load("mnist", split="test").images[DIGIT : DIGIT + 1])
    eps = generator("schedule compare").standard_normal(x_0.shape)
    return to_uint8(np.stack([q_sample(x_0, each.level(shares * each.timesteps), eps) for each in schedules]))


def singly(noised: Noised) -> Iterator[tuple[int, int, Pixels]]:
    """Number of the image, number of the level and picture of each, level after level of image after image."""
    pixels = _pixels(noised)
    return ((n, k, level[n]) for n in range(noised.x.shape[1]) for k, level in enumerate(pixels))


def _pixels(noised: Noised) -> list[Pixels]:
    """A level at a time: photographs are large."""
    return [to_uint8(x) for x in noised.x]
