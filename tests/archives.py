"""The files of known sets as their makers publish them, in small: written by hand from the formats' definitions."""

import gzip
import hashlib
import io
import struct
import tarfile
import zipfile
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ddpm_cli.data.known import KNOWN, KnownSet, SourceFile


def idx(array: np.ndarray) -> bytes:
    """The IDX format by its definition."""
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def cifar_rows(images: np.ndarray, *labels: list[int]) -> bytes:
    """Rows of CIFAR's binary version: label bytes, then red, green and blue, each row by row."""
    rows = bytearray()
    for number, image in enumerate(images):
        rows += bytes(column[number] for column in labels)
        for plane in image:
            for line in plane:
                rows += bytes(int(pixel) for pixel in line)
    return bytes(rows)


def tar_gz(members: Mapping[str, bytes | tarfile.TarInfo]) -> bytes:
    """A gzipped tar; a TarInfo goes in as it is, without content."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
                continue
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def emnist_zip(parts: Mapping[str, tuple[np.ndarray, list[int]]]) -> bytes:
    """EMNIST's archive, of "balanced-train" and so on with upright images (N, H, W) and labels as in the files."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for part, (images, labels) in parts.items():
            count, height, width = images.shape
            # Column by column, as MATLAB writes a matrix.
            pixels = bytes(int(image[y, x]) for image in images for x in range(width) for y in range(height))
            content = bytes((0, 0, 8, 3)) + struct.pack(">3I", count, width, height) + pixels
            archive.writestr(f"gzip/emnist-{part}-images-idx3-ubyte.gz", gzip.compress(content))
            archive.writestr(f"gzip/emnist-{part}-labels-idx1-ubyte.gz", gzip.compress(idx(np.array(labels, np.uint8))))
    return out.getvalue()


def svhn_mat(images: np.ndarray, digits: list[int], compressed: bool = True, **changes: object) -> bytes:
    """A MATLAB file with X (H, W, 3, N) and y (N, 1), where 10 stands for the digit 0."""
    from scipy.io import savemat

    x = np.empty((*images.shape[2:], images.shape[1], len(images)), np.uint8)
    for number, image in enumerate(images):
        for channel, plane in enumerate(image):
            x[:, :, channel, number] = plane
    y = np.array([[digit or 10] for digit in digits], np.uint8)
    out = io.BytesIO()
    savemat(out, {"X": x, "y": y, **changes}, do_compression=compressed)
    return out.getvalue()


def small(
    name: str, contents: Mapping[str, bytes], train: int, test: int, *mirrors: str, **changes: object
) -> KnownSet:
    """The known set of this name as if its files were these and held so many images."""
    known = KNOWN[name]

    def source(file: SourceFile) -> SourceFile:
        content = contents[file.name]
        return SourceFile(file.name, len(content), hashlib.sha256(content).hexdigest())

    return replace(
        known,
        counts={"train": train, "test": test},
        files={split: tuple(map(source, files)) for split, files in known.files.items()},
        mirrors=mirrors or ("http://127.0.0.1:9/",),  # the discard port: nobody listens
        system=None,
        **changes,
    )
