"""The nearest of one set for each of another."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

ROWS = 250  # compared with all rows of the other set at once
CELLS = 2**20  # pixels that are converted at once: 4 MB
EXACT_COLUMNS = 1024  # 1024 * 128^2 = 2^24: up to here float32 adds products of -128..127 without rounding
COPY = 1 / 3  # a nearest neighbour so much nearer than the second is a copy: Yoon et al. 2023, section 3.1


class Neighbours(NamedTuple):
    """Of each of N images.

    Attributes:
        which: of the others is its nearest, (N,).
        distance: how far that is, (N,) float64: the root of the mean squared difference of pixels, 0..255.
        copied: whether it is so much nearer than the second nearest that the image counts as its copy, (N,) bool.
    """

    which: NDArray[np.int64]
    distance: NDArray[np.float64]
    copied: NDArray[np.bool_]


def neighbours(
    images: NDArray[np.uint8],
    others: NDArray[np.uint8],
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Neighbours:
    """The nearest of other images for each image, pixel by pixel.

    An image counts as copied where d_1 <= d_2 / 3, with the distances of its two nearest: so does an exact copy of an
    image that is there twice.

    Args:
        images: uint8 (N, ...).
        others: uint8 (M, ...) of the same size, M at least 2.
        progress: takes images done and in all.

    References:
        Yoon, Choi, Kwon and Ryu 2023, Diffusion probabilistic models generalize when they fail to memorize.
    """
    flat, around = images.reshape(len(images), -1), others.reshape(len(others), -1)
    which = np.empty(len(flat), np.int64)
    squares = np.empty((len(flat), 2))
    for rows, found in blocks(flat, around):
        lines = np.arange(len(found))
        first = found.argmin(1)
        which[rows], squares[rows, 0] = first, found[lines, first]
        found[lines, first] = np.inf
        squares[rows, 1] = found.min(1)
        progress(rows.stop, len(flat))
    distance = np.sqrt(squares / flat.shape[1])
    return Neighbours(which, distance[:, 0], distance[:, 0] <= COPY * distance[:, 1])


def blocks(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Yield a slice of rows of a and their squared distances from all rows of b, (rows, M).

    They are exact, and so independent of the number of threads: see EXACT_COLUMNS.

    Args:
        a: (N, d).
        b: (M, d).
    """
    columns = list(_slices(a.shape[1], EXACT_COLUMNS))
    parts = list(_slices(len(b), max(1, CELLS // a.shape[1])))
    other = np.concatenate([_squared_lengths(_centered(b[part])) for part in parts])
    for rows in _slices(len(a), ROWS):
        x = _centered(a[rows])
        squares = _squared_lengths(x)[:, None] + other
        for part in parts:
            y = _centered(b[part])
            for some in columns:
                squares[:, part] -= 2 * (x[:, some] @ y[:, some].T)
        yield rows, squares


def _centered(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    return pixels.astype(np.float32) - 128


def _squared_lengths(x: NDArray[np.float32]) -> NDArray[np.float64]:
    squared: NDArray[np.float64] = np.square(x, dtype=np.float64).sum(1)
    return squared


def _slices(length: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, length)) for start in range(0, length, step))
