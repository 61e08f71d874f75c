"""EMNIST: six sets in one zip of gzipped IDX files.

Invariant: images come upright. The files hold them transposed (rows for columns), for MATLAB wrote them column by
column: https://github.com/tensorflow/datasets/issues/812.

References:
    Cohen, Afshar, Tapson, van Schaik: EMNIST, an extension of MNIST to handwritten letters, arXiv:1702.05373.
"""

import gzip
import string
import zipfile
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.data import idx, streams
from ddpm_cli.errors import DataError

# The classes by label, as emnist-PART-mapping.txt in the archive lists them (paper, section II-B).
BYCLASS: Final = tuple(string.digits + string.ascii_uppercase + string.ascii_lowercase)
# Fifteen letters look alike in both cases and share the class of the upper case.
BALANCED: Final = tuple(letter for letter in BYCLASS if letter not in "cijklmopsuvwxyz")
LETTERS: Final = tuple(string.ascii_lowercase)  # upper and lower case in one class


def read(
    part: str, first: int, files: tuple[Path, ...], split: str, shape: tuple[int, int, int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """One split of one part, its two members streamed from the archive.

    Args:
        part: "balanced", "letters", ...
        first: the label that the first class has in the files: 1 in "letters", else 0.
        files: the archive.
        split: "train" or "test".
        shape: (N, 1, H, W), expected.

    Returns:
        Images (N, 1, H, W) uint8, upright; labels (N,) int64 from 0.

    Raises:
        DataError: an archive that is unreadable or holds something else.
    """
    (path,) = files
    count, _, height, width = shape
    with streams.readable(path), zipfile.ZipFile(path) as archive:
        name = f"gzip/emnist-{part}-{split}"
        images = _member(archive, f"{name}-images-idx3-ubyte.gz", (count, width, height), path)
        labels = _member(archive, f"{name}-labels-idx1-ubyte.gz", (count,), path)
    return streams.turn(images).reshape(shape), labels.astype(np.int64) - first


def _member(archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], path: Path) -> NDArray[np.uint8]:
    """A gzipped IDX file inside the archive."""
    what = f"{name} in {path}"
    try:
        member = archive.getinfo(name)
    except KeyError as error:
        raise DataError(f"there is no {what}", streams.INTACT) from error
    if member.flag_bits & 0x1:  # APPNOTE.TXT 4.4.4: encrypted
        raise DataError(f"{what} is encrypted", streams.INTACT)
    with archive.open(member) as packed, gzip.GzipFile(fileobj=packed) as unpacked:
        return idx.parse(unpacked, shape, what)
