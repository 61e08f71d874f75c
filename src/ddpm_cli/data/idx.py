"""The IDX format of MNIST and its kin: http://yann.lecun.com/exdb/mnist/.

Four bytes 0, 0, element type, number of axes; one big-endian uint32 an axis; the elements, last axis fastest.
Invariant: header and length are exactly what is expected, or it is a :class:`~ddpm_cli.errors.DataError`; so a file
that announces or unpacks to more costs no memory.
"""

import gzip
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.data import streams
from ddpm_cli.errors import DataError

UINT8 = 0x08  # the element type of every set read here
GZIP = b"\x1f\x8b"  # the first bytes of any gzip file (RFC 1952, section 2.3.1)


def read(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """An IDX file, plain or gzipped (its first bytes say which).

    Args:
        path: the file.
        shape: what it must hold, one length an axis.

    Returns:
        Writable uint8 of that shape.

    Raises:
        DataError: unreadable, truncated, too long, or of another type or shape.
    """
    with streams.readable(path), path.open("rb") as file:
        packed = file.read(len(GZIP)) == GZIP
        file.seek(0)
        if not packed:
            return parse(file, shape, str(path))
        with gzip.GzipFile(fileobj=file) as unpacked:
            return parse(unpacked, shape, str(path))


def parse(stream: streams.Stream, shape: tuple[int, ...], what: str) -> NDArray[np.uint8]:
    """The array of a stream that holds an IDX file and nothing else; ``what`` names it in messages.

    Raises:
        DataError: it holds something else.
    """
    start = 4 + 4 * len(shape)
    header = stream.read(start)
    if header[:4] != bytes((0, 0, UINT8, len(shape))) or len(header) < start:
        raise DataError(
            f"{what} is no IDX file of bytes with {len(shape)} axes: it starts with {header[:4].hex(' ') or 'nothing'}",
            streams.INTACT,
        )
    announced = struct.unpack(f">{len(shape)}I", header[4:])
    if announced != shape:
        raise DataError(
            f"{what} announces {streams.elements(announced)} elements, expected {streams.elements(shape)}",
            streams.INTACT,
        )
    array = np.empty(shape, np.uint8)
    streams.fill(stream, array, what)
    streams.ended(stream, what)
    return array


def read_pair(
    files: tuple[Path, ...], _split: str, shape: tuple[int, int, int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """A file of images and one of labels, where each split has files of its own.

    Args:
        files: of the images (N, H, W), of the labels (N,).
        shape: (N, 1, H, W), expected of the images.

    Returns:
        Images (N, 1, H, W) uint8, labels (N,) int64.

    Raises:
        DataError: as :func:`read`.
    """
    images, labels = files
    count, _, height, width = shape
    return read(images, (count, height, width)).reshape(shape), read(labels, (count,)).astype(np.int64)
