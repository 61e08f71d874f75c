"""The IDX format of MNIST and its kin: http://yann.lecun.com/exdb/mnist/.

Four bytes 0, 0, element type, number of axes; one big-endian uint32 an axis; the elements, last axis fastest.
Invariant: the length is exactly what the header says, or it is a :class:`~ddpm_cli.errors.DataError`.
"""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.errors import DataError

UINT8 = 0x08  # the element type of every set read here
GZIP = b"\x1f\x8b"  # the first bytes of any gzip file (RFC 1952, section 2.3.1)


def read(path: Path, axes: int) -> NDArray[np.uint8]:
    """An IDX file, plain or gzipped (its first bytes say which), as a writable uint8 array.

    Args:
        path: the file.
        axes: how many axes it must have.

    Raises:
        DataError: unreadable, truncated, too long, or of another type or number of axes.
    """
    try:
        content = path.read_bytes()
        if content.startswith(GZIP):
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot read {path}: {error}", "Replace it by an intact copy.") from error

    start = 4 + 4 * axes
    if content[:4] != bytes((0, 0, UINT8, axes)) or len(content) < start:
        raise DataError(
            f"{path} is no IDX file of bytes with {axes} axes: it starts with {content[:4].hex(' ') or 'nothing'}",
            "Replace it by an intact copy.",
        )
    shape = struct.unpack(f">{axes}I", content[4:start])
    if len(content) - start != math.prod(shape):
        size = " x ".join(map(str, shape))
        raise DataError(
            f"{path} holds {len(content) - start} elements, its header says {size} = {math.prod(shape)}",
            "Replace it by an intact copy.",
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()


def read_pair(files: tuple[Path, ...]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """A file of images (N, H, W) and one of labels (N,), as (N, 1, H, W) uint8 and (N,) int64.

    Raises:
        DataError: as :func:`read`; or the two differ in length.
    """
    images_file, labels_file = files
    images, labels = read(images_file, 3), read(labels_file, 1)
    if len(images) != len(labels):
        raise DataError(f"{images_file} holds {len(images)} images, {labels_file} {len(labels)} labels")
    return images[:, np.newaxis], labels.astype(np.int64)
