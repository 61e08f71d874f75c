"""The nearest of one set for each of another."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

ROWS = 250  # compared with everything at once
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
    for rows, about in blocks(flat, around, np.float32):
        two = np.argpartition(about, 1, axis=1)[:, :2]
        # Float32 finds the candidates; whole numbers tell how far they are.
        apart = flat[rows, None].astype(np.int64) - around[two]
        exact = (apart * apart).sum(2)
        order = exact.argsort(1, kind="stable")
        which[rows] = np.take_along_axis(two, order[:, :1], 1)[:, 0]
        squares[rows] = np.take_along_axis(exact, order, 1)
        progress(rows.stop, len(flat))
    distance = np.sqrt(squares / flat.shape[1])
    return Neighbours(which, distance[:, 0], distance[:, 0] <= COPY * distance[:, 1])


def blocks(
    a: NDArray[np.generic], b: NDArray[np.generic], dtype: type[np.floating] = np.float64
) -> Iterator[tuple[slice, NDArray[np.floating]]]:
    """Squared distances |a_i - b_j|^2 in blocks of rows, (rows, M), with the rows they are; at least 0.

    Args:
        a: (N, d).
        b: (M, d).
        dtype: to compute in.
    """
    y = b.astype(dtype)
    lengths = (y * y).sum(1)
    for start in range(0, len(a), ROWS):
        rows = slice(start, min(start + ROWS, len(a)))
        x = a[rows].astype(dtype)
        squares = lengths - 2 * (x @ y.T)
        squares += (x * x).sum(1)[:, None]
        yield rows, squares.clip(min=0, out=squares)
