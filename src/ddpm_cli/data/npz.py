"""Images in a NumPy archive, as ``ddpm sample`` writes them: read without ever running what a stranger wrote.

Invariant: an archive is an :class:`ImageSet` or a :class:`~ddpm_cli.errors.DataError`; nothing is allocated that the
archive does not hold.
"""

import io
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.data.imageset import ImageSet
from ddpm_cli.errors import DataError

LARGEST = 2**33  # bytes of one array: 8 GiB, ten million images of MNIST
HINT = "Expected: images, uint8 N x H x W or N x H x W x 3, and perhaps labels, int64, N; ddpm sample -o FILE.npz."


def read(source: Path | bytes, name: str) -> ImageSet:
    """The images of an archive; labels are kept where every image has one (-1 stands for none).

    Args:
        source: its path, or its bytes.
        name: what to call the set.

    Raises:
        DataError: missing, damaged, or without images.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(source) if isinstance(source, bytes) else source) as archive:
            names = archive.namelist()
            images = _array(archive, "images", (np.uint8,))
            labels = _array(archive, "labels", (np.int64, np.int32)) if "labels.npy" in names else None
    except FileNotFoundError as error:
        raise DataError(f"there is no file {name}", HINT) from error
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise DataError(
            f"{name} holds no images that can be read ({' '.join(str(error).split())[:80]})", HINT
        ) from error
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
    return ImageSet(name, images, labels.astype(np.int64), tuple(map(str, range(int(labels.max()) + 1))))


def _array(archive: zipfile.ZipFile, name: str, kinds: tuple[type[Any], ...]) -> NDArray[Any]:
    """One array of an archive, after its header was compared with its size."""
    entry = archive.getinfo(f"{name}.npy")
    if entry.file_size > LARGEST:
        raise ValueError(f"{name} has {entry.file_size} bytes")
    with archive.open(entry) as file:
        version = np.lib.format.read_magic(file)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, fortran, dtype = read_header[version](file)
        if dtype not in kinds or fortran:
            raise ValueError(f"{name} is {dtype}")
        size = dtype.itemsize * int(np.prod(shape, dtype=object))
        if size != entry.file_size - file.tell():
            raise ValueError(f"{name} has {entry.file_size - file.tell()} bytes, its header says {size}")
        return np.frombuffer(bytearray(file.read()), dtype).reshape(shape)  # writable, as torch wants it
