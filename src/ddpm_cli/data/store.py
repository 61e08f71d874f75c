"""A set that was read once is one file of uint8, and reading it again is mapping it.

The file is safetensors: ``labels`` (N,) I64 where there are some, ``images`` (N, C, H, W) U8, and in the metadata,
as JSON, format, name, classes and key. The key says what the set was made from. Invariant: a store is used only if its
header is byte for byte the one that :func:`write` gives such a set; any other is made anew.
"""

import json
import math
import os
import re
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ddpm_cli import paths
from ddpm_cli.data.imageset import ImageSet
from ddpm_cli.errors import ResourceError
from ddpm_cli.files import replacing

FORMAT = 1  # goes up when the layout here, or what a reader makes of the same source, changes


def cached(stem: str, key: str, build: Callable[[], ImageSet], say: Callable[[str], None]) -> ImageSet:
    """The set kept under ``stem`` if it has this ``key``; else built, and kept where that can be written."""
    path = folder() / f"{stem}.safetensors"
    found = read(path, key)
    if found is not None:
        return found
    built = build()
    try:
        write(path, built, key)
    except ResourceError as error:
        say(f"{error.message}: {built.name} will be read anew each time")
        return built
    return read(path, key) or built  # mapped, so that the memory it was built in is free again


def folder() -> Path:
    """Where stores are kept."""
    return paths.cache() / "datasets"


def known_stem(name: str, split: str, image_size: int | None) -> str:
    """What the store of a known set is called: ``mnist-train``, or resized ``mnist-train-16``."""
    return f"{name}-{split}" + (f"-{image_size}" if image_size else "")


def of_known(name: str) -> tuple[Path, ...]:
    """The stores there are of a known set: of each split and size."""
    stem = re.compile(known_stem(re.escape(name), "(train|test)", None) + r"(-\d+)?\.safetensors")
    try:
        return tuple(sorted(path for path in folder().iterdir() if stem.fullmatch(path.name)))
    except OSError:
        return ()


def write(path: Path, images: ImageSet, key: str) -> None:
    """Writes a store, whole or not at all; parents are created.

    Raises:
        ResourceError: it cannot be written.
    """
    header = _header(images.name, images.classes, key, images.images.shape, images.labels is not None)
    with replacing(path) as file:
        file.write(struct.pack("<Q", len(header)) + header)
        if images.labels is not None:
            file.write(images.labels.astype("<i8").data)
        file.write(np.ascontiguousarray(images.images).data)


def read(path: Path, key: str) -> ImageSet | None:
    """The set of a store, its arrays mapped copy-on-write; None where there is no sound store with this key.

    Copy-on-write maps count as writable, which ``torch.from_numpy`` asks for, and nothing written reaches the file.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            (length,) = struct.unpack("<Q", file.read(8))
            header = file.read(min(length, size))
        tensors = json.loads(header)
        about = json.loads(tensors["__metadata__"]["ddpm"])
        shape, labelled = tuple(tensors["images"]["shape"]), "labels" in tensors
        start, labels_end = 8 + length, 8 + length + 8 * shape[0] * labelled
        if (
            header != _header(about["name"], about["classes"], key, shape, labelled)
            or len(shape) != 4
            or min(shape) < 1
            or size != labels_end + math.prod(shape)
        ):
            return None
        images = np.asarray(np.memmap(path, np.uint8, "c", labels_end, shape))
        labels = np.asarray(np.memmap(path, "<i8", "c", start, shape[:1])) if labelled else None
        if labels is not None and not 0 <= labels.min() <= labels.max() < len(about["classes"]):
            return None
        return ImageSet(about["name"], images, labels, tuple(about["classes"]))
    except (OSError, ValueError, KeyError, TypeError, IndexError, OverflowError, RecursionError, struct.error):
        return None


def _header(name: str, classes: tuple[str, ...] | list[str], key: str, shape: tuple[int, ...], labelled: bool) -> bytes:
    """The header of a store. Labels come first and the length is padded to 8, which aligns their int64."""
    labels = 8 * shape[0] * labelled  # bytes
    about = {"format": FORMAT, "name": name, "classes": list(classes), "key": key}
    header: dict[str, dict[str, object]] = {"__metadata__": {"ddpm": json.dumps(about)}}
    if labelled:
        header["labels"] = {"dtype": "I64", "shape": shape[:1], "data_offsets": [0, labels]}
    header["images"] = {"dtype": "U8", "shape": shape, "data_offsets": [labels, labels + math.prod(shape)]}
    content = json.dumps(header).encode()
    return content + b" " * (-len(content) % 8)
