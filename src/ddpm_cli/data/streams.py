"""Reading what others packed: exactly so many bytes, and every failure said in one way.

Invariant: no more is allocated or decompressed than the caller expects, whatever a file announces; and a file that
cannot be read is a :class:`~ddpm_cli.errors.DataError` that names it, never another exception.
"""

import contextlib
import lzma
import math
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.errors import DataError

INTACT = "Replace it by an intact copy."
# What gzip, tarfile and zipfile raise on damaged files (RuntimeError: encrypted ones), and what comes from offsets and
# lengths that lie.
DAMAGE = (OSError, EOFError, zlib.error, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile, RuntimeError)
LIES = (ValueError, struct.error, OverflowError)

BLOCK = 4096  # images turned at once


class Stream(Protocol):
    """What is read from: a file, a member of an archive, or either through gzip."""

    def read(self, size: int = ..., /) -> bytes: ...


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong while ``path`` is read into a :class:`~ddpm_cli.errors.DataError`."""
    try:
        yield
    except (*DAMAGE, *LIES) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
        raise DataError(f"cannot read {path}: {reason}", INTACT) from error


def fill(stream: Stream, array: NDArray[np.uint8], what: str) -> None:
    """Read exactly the bytes of an array into it.

    Args:
        stream: where they come from.
        array: contiguous uint8 of any shape.
        what: is read, for the message.

    Raises:
        DataError: the stream ends before.
    """
    flat, done = array.reshape(-1), 0
    while done < flat.size:
        chunk = stream.read(min(flat.size - done, 1 << 20))
        if not chunk:
            raise DataError(f"{what} ends after {done:,} of {flat.size:,} bytes", INTACT)
        flat[done : done + len(chunk)] = np.frombuffer(chunk, np.uint8)
        done += len(chunk)


def ended(stream: Stream, what: str) -> None:
    """Check that a stream holds no more; reading its end also makes gzip and zip compare their checksums.

    Raises:
        DataError: it does.
    """
    if stream.read(1):
        raise DataError(f"{what} is longer than it should be", INTACT)


def turn(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Images that were stored column by column, as MATLAB does: (N, ..., W, H) -> (N, ..., H, W).

    In place where they are square, a block at a time, so that the memory for a second copy is not needed.
    """
    *_, width, height = images.shape
    turned = images if height == width else np.empty((*images.shape[:-2], height, width), np.uint8)
    for start in range(0, len(images), BLOCK):
        turned[start : start + BLOCK] = images[start : start + BLOCK].swapaxes(-1, -2).copy()
    return turned


def elements(shape: tuple[int, ...]) -> str:
    """A shape for a message: "6", "2 x 3 = 6"."""
    product = f" = {math.prod(shape)}" if len(shape) > 1 else ""
    return " x ".join(map(str, shape)) + product


class Bounded:
    """A stream that refuses to give more than ``limit`` bytes: what bounds a decompression bomb.

    Raises:
        DataError: by ``read``, beyond the limit.
    """

    def __init__(self, stream: Stream, limit: int, what: str) -> None:
        self.stream, self.left, self.limit, self.what = stream, limit, limit, what

    def read(self, size: int = 1 << 16, /) -> bytes:
        """At most ``size`` bytes."""
        chunk = self.stream.read(min(size, self.left + 1))
        self.left -= len(chunk)
        if self.left < 0:
            raise DataError(f"{self.what} unpacks to more than {self.limit:,} bytes", INTACT)
        return chunk
