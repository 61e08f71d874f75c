"""Images in a NumPy archive, as ``ddpm sample`` writes them: read without ever running what a stranger wrote.

Invariant: an archive is an :class:`ImageSet` or a :class:`~ddpm_cli.errors.DataError`; nothing is allocated that the
archive does not hold.
"""

import io
import math
import os
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_cli import documents, filekinds, ranges
from ddpm_cli.data.imageset import ImageSet
from ddpm_cli.data.streams import DAMAGE, LIES, ended, fill
from ddpm_cli.errors import DataError

LARGEST = 2**30  # bytes of one array: 1 GiB, a million images of MNIST
CLASSES = 10_000  # at most
HINT = "Expected: images, uint8 N x H x W or N x H x W x 3, and perhaps labels, int64, N; ddpm sample -o FILE.npz."
# The header of an array, in the form in which NumPy itself writes it (numpy.lib.format); a shape has decimals alone.
HEADER = re.compile(
    rb"{'descr': '(?P<dtype>[|<>][a-zA-Z][0-9]{0,3})', 'fortran_order': (?P<columns>False|True), "
    rb"'shape': \((?P<shape>[0-9, ]{0,80})\), } *\n"
)


def read(source: Path | bytes, name: str) -> ImageSet:
    """The images of an archive; labels are kept where every image has one (-1 stands for none).

    Args:
        source: its path, or its bytes.
        name: what to call the set.

    Raises:
        DataError: missing, damaged, or without images.
    """
    if isinstance(source, Path) and not os.path.exists(source):  # noqa: PTH110  # unlike pathlib's, never an error
        raise DataError(f"there is no file {name}", HINT)
    try:
        if isinstance(source, Path):
            documents.size_of(source)  # of a pipe or a device there is none, and it would be read to its end
        kind = filekinds.kind_of(_head(source))
        if kind and kind not in (filekinds.NPZ, filekinds.ZIP):
            raise DataError(f"{name} is {kind}{'' if kind == 'empty' else ', not an .npz archive'}", HINT)
        with zipfile.ZipFile(io.BytesIO(source) if isinstance(source, bytes) else source) as archive:
            images = _array(archive, "images", b"|u1")
            labels = _array(archive, "labels", b"<i8", b"<i4") if "labels.npy" in archive.namelist() else None
    except (*DAMAGE, *LIES, LookupError) as error:
        reason = " ".join(str(error).split())[:80] or type(error).__name__
        raise DataError(f"{name} holds no images that can be read ({reason})", HINT) from error
    if images.ndim == 4 and images.shape[-1] in (1, 3):
        images = np.ascontiguousarray(np.moveaxis(images, -1, 1))
    elif images.ndim == 3:
        images = images[:, None]
    else:
        raise DataError(f"{name} holds images of shape {images.shape}", HINT)
    if min(images.shape) < 1:
        raise DataError(f"{name} holds no images, shape {images.shape}", HINT)
    if labels is not None and labels.shape != images.shape[:1]:
        raise DataError(f"{name} holds {len(images)} images and labels of shape {labels.shape}", HINT)
    if labels is None or labels.min() < 0:
        return ImageSet(name, images)
    if labels.max() >= CLASSES:
        raise DataError(f"{name} holds a label of {labels.max()}, expected 0 to {CLASSES - 1:,}", HINT)
    return ImageSet(name, images, labels.astype(np.int64), tuple(map(str, range(int(labels.max()) + 1))))


def _named(code: bytes) -> str:
    """The name of a type of NumPy, such as uint8; of one that it does not have, the code."""
    try:
        return np.dtype(code.decode()).name
    except (TypeError, ValueError):
        return code.decode()


def _head(source: Path | bytes) -> bytes:
    """The first bytes of an archive."""
    if isinstance(source, bytes):
        return source[: filekinds.HEAD]
    with source.open("rb") as file:
        return file.read(filekinds.HEAD)


def _array(archive: zipfile.ZipFile, name: str, *kinds: bytes) -> NDArray[Any]:
    """One array of an archive, after its header was compared with its size."""
    if f"{name}.npy" not in archive.namelist():
        others = [repr(each.removesuffix(".npy")) for each in archive.namelist()[:3]]
        raise ValueError(f"it contains {', '.join(others) or 'nothing'} and no array named {name!r}")
    entry = archive.getinfo(f"{name}.npy")
    if entry.file_size > LARGEST:
        raise ValueError(f"{name} has {entry.file_size:,} bytes, and {LARGEST:,} are read at most")
    with archive.open(entry) as file:
        magic, length = file.read(8), int.from_bytes(file.read(2), "little")
        found = HEADER.fullmatch(file.read(length))
        if magic != b"\x93NUMPY\x01\x00" or found is None:
            raise ValueError(f"the header of {name!r} cannot be read")
        if found["dtype"] not in kinds:
            raise ValueError(f"{name!r} is {_named(found['dtype'])}, expected {' or '.join(map(_named, kinds))}")
        if found["columns"] == b"True":
            raise ValueError(f"{name!r} is in Fortran order, expected C order")
        dtype = np.dtype(found["dtype"].decode())
        shape = tuple(int(word) for word in found["shape"].split(b",") if word.strip())
        size = dtype.itemsize * math.prod(shape)
        if size != entry.file_size - 10 - length:
            raise ValueError(f"{name} has {entry.file_size - 10 - length} bytes, its header says {size}")
        if any(side > ranges.SIDE.most for side in shape[1:]):
            raise ValueError(f"{name!r} has the shape {shape}, expected sides of {ranges.SIDE.expected(0)}")
        array = np.empty(shape, dtype)
        fill(file, array.reshape(-1).view(np.uint8), name)
        ended(file, name)
        return array
