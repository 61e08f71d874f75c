"""Images in a NumPy archive, as ``ddpm sample`` writes them: read without ever running what a stranger wrote.

Invariant: an archive is an :class:`ImageSet` or a :class:`~ddpm_cli.errors.DataError`; nothing is allocated that the
archive does not hold.
"""

import io
import math
import os
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_cli import documents, filekinds, ranges
from ddpm_cli.data.imageset import ImageSet
from ddpm_cli.data.streams import DAMAGE, LIES, ended, fill
from ddpm_cli.errors import DataError
from ddpm_cli.printable import printable

LARGEST = 2**30  # bytes of one array: 1 GiB, a million images of MNIST
CLASSES = 10_000  # at most
HINT = (
    "Expected: 'images' (or 'arr_0'), uint8, N x H x W, N x H x W x 3 or N x 3 x H x W; and perhaps 'labels' (or "
    "'arr_1'), N integers. See ddpm sample -o FILE.npz."
)
UNNAMED = {"images": "arr_0", "labels": "arr_1"}  # how numpy.savez calls arrays that are passed without a name
IMAGES, LABELS = ("uint8",), tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))  # types
# The header of an array, in the form in which NumPy itself writes it (numpy.lib.format); a shape has decimals alone.
HEADER = re.compile(
    rb"{'descr': '(?P<dtype>[|<>=][a-zA-Z][0-9]{0,3})', 'fortran_order': (?P<columns>False|True), "
    rb"'shape': \((?P<shape>[0-9, ]{0,80})\), } *\n"
)


def read(source: Path | bytes, name: str) -> ImageSet:
    """The images of an archive; labels are kept where every image has one (-1 stands for none).

    Args:
        source: its path, or its bytes.
        name: what to call the set.

    Raises:
        DataError: missing, damaged, or without images of one or three channels.
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
            images = _array(archive, "images", IMAGES)
            labels = _array(archive, "labels", LABELS) if _called(archive, "labels") else None
    except (*DAMAGE, *LIES, LookupError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"{name} holds no images that can be read ({reason})", HINT) from error
    if min(images.shape, default=0) < 1:
        raise DataError(f"{name} holds no images, shape {images.shape}", HINT)
    images = _channels_first(images, name)
    if labels is not None and labels.shape not in (images.shape[:1], (len(images), 1)):
        raise DataError(f"{name} holds {len(images)} images and labels of shape {labels.shape}", HINT)
    if labels is None or labels.min() < 0:
        return ImageSet(name, images)
    if labels.max() >= CLASSES:
        raise DataError(f"{name} holds a label of {labels.max()}, expected 0 to {CLASSES - 1:,}", HINT)
    numbers = labels.reshape(-1).astype(np.int64)
    return ImageSet(name, images, numbers, tuple(map(str, range(int(numbers.max()) + 1))))


def _channels_first(images: NDArray[np.uint8], name: str) -> NDArray[np.uint8]:
    """Images as (N, C, H, W), C = 1 or 3, contiguous.

    Raises:
        DataError: they have another number of channels, or of axes.
    """
    if images.ndim == 3:
        return np.ascontiguousarray(images[:, None])
    if images.ndim != 4:
        raise DataError(f"{name} holds images of shape {images.shape}", HINT)
    if images.shape[-1] in (1, 3):
        return np.ascontiguousarray(np.moveaxis(images, -1, 1))
    if images.shape[1] in (1, 3):
        return np.ascontiguousarray(images)
    channels = min(images.shape[1], images.shape[-1])
    raise DataError(f"{name} holds images of {channels} channels, expected 1 (grey) or 3 (RGB)", HINT)


def _called(archive: zipfile.ZipFile, name: str) -> str | None:
    """The name that an array has in an archive; None where it is missing."""
    there = archive.namelist()
    if name == "labels" and "images.npy" in there:
        return name if "labels.npy" in there else None
    return next((each for each in (name, UNNAMED[name]) if f"{each}.npy" in there), None)


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


def _array(archive: zipfile.ZipFile, wanted: str, types: Sequence[str]) -> NDArray[Any]:
    """One array of an archive, after its header was compared with its size."""
    name = _called(archive, wanted)
    if name is None:
        others = [printable(repr(each.removesuffix(".npy"))) for each in archive.namelist()[:3]]
        raise ValueError(f"it contains {', '.join(others) or 'nothing'} and no array named {wanted!r}")
    entry = archive.getinfo(f"{name}.npy")
    if entry.file_size > LARGEST:
        raise ValueError(f"{name} has {entry.file_size:,} bytes, and {LARGEST:,} are read at most")
    with archive.open(entry) as file:
        magic, length = file.read(8), int.from_bytes(file.read(2), "little")
        found = HEADER.fullmatch(file.read(length))
        if magic != b"\x93NUMPY\x01\x00" or found is None:
            raise ValueError(f"the header of {name!r} cannot be read")
        if _named(found["dtype"]) not in types:
            expected = types[0] if len(types) == 1 else "integers"
            raise ValueError(f"{name!r} is {_named(found['dtype'])}, expected {expected}")
        dtype = np.dtype(found["dtype"].decode())
        shape = tuple(int(word) for word in found["shape"].split(b",") if word.strip())
        size = dtype.itemsize * math.prod(shape)
        if size != entry.file_size - 10 - length:
            raise ValueError(f"{name} has {entry.file_size - 10 - length} bytes, its header says {size}")
        if any(side > ranges.SIDE.most for side in shape[1:]):
            raise ValueError(f"{name!r} has the shape {shape}, expected sides of {ranges.SIDE.expected(0)}")
        flat = np.empty(math.prod(shape), dtype)
        fill(file, flat.view(np.uint8), name)
        ended(file, name)
        return flat.reshape(shape, order="F" if found["columns"] == b"True" else "C")
