"""A set that was read once is one file of uint8, and reading it again is mapping it.

The file is safetensors: ``images`` (N, C, H, W) U8, ``labels`` (N,) I64 where there are some, ``left_out`` U8, the JSON
of what could not be read, where there is such; in the metadata, as JSON, format, name, classes, key and source. The key
says what the set was made from, the source where that is. Images are written as they are read, so that a set of any
size needs no memory. Invariant: a store is used only if its header is the one that :func:`write` gives such a set; any
other is made anew.
"""

import json
import math
import mmap
import os
import platform
import re
import shutil
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ddpm_cli import paths
from ddpm_cli.data.imageset import ImageSet, LeftOut
from ddpm_cli.errors import ResourceError
from ddpm_cli.files import replacing, reported

FORMAT = 2  # goes up when the layout here, or what a reader makes of the same source, changes
IN_MEMORY = 2**30  # bytes: a set that cannot be kept on disk is read into memory up to this size
STALE = 86_400.0  # seconds without a write after which the temporary file of a killed process counts as forgotten
ROOM = 10**15  # bytes that the list of what was left out cannot exceed: its length has at most so many digits
FOLDER = re.compile(r"folder-[0-9a-f]{16}(-\d+)?\.safetensors")
# Linux counts a private map that may be written to as memory it might have to find, and refuses one larger than the
# machine has; this flag says that it never will be (mmap(2)). Python knows it by name from 3.13.
_COMMON = ("x86_64", "aarch64", "arm64", "riscv64", "s390x", "i686", "armv7l")
_UNRESERVED = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" and platform.machine() in _COMMON else 0)


class About(NamedTuple):
    """What is known of a set once its images are read.

    Attributes:
        name: of the set.
        labels: (N,) int64, or None.
        classes: the name of each label.
        left_out: what could not be read.
        source: the folder it was made from, printable; empty for known sets.
    """

    name: str
    labels: NDArray[np.int64] | None = None
    classes: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    source: str = ""


class Sink(Protocol):
    """Where the images of a set go, one after the other."""

    def start(self, shape: tuple[int, int, int, int], classes: tuple[str, ...]) -> None:
        """Begin, or begin anew.

        Args:
            shape: (N, C, H, W); N is how many images come at most.
            classes: those there are at most.

        Raises:
            ResourceError: there is no room for so many.
        """

    def add(self, images: NDArray[np.uint8]) -> None:
        """Take (n, C, H, W) images."""


Build = Callable[[Sink], About]
"""Reads a set into a sink."""


def cached(stem: str, key: str, build: Build, say: Callable[[str], None]) -> ImageSet:
    """The set kept under ``stem`` if it has this ``key``; else built, and kept where that can be written.

    Raises:
        ResourceError: it cannot be kept, and is too large to be held in memory.
    """
    path = folder() / f"{stem}.safetensors"
    found = read(path, key)
    if found is not None:
        return found
    _sweep(path.parent)
    try:
        write(path, key, build)
    except NoRoom as error:
        memory = _Memory(error)
        about = build(memory)
        say(f"{error.message}: {about.name} will be read anew each time")
        return memory.images(about)
    found = read(path, key)
    if found is None:
        raise ResourceError(f"{path} does not read back as it was written", "Set DDPM_HOME to another disk.")
    return found


def folder() -> Path:
    """Where stores are kept."""
    return paths.cache() / "datasets"


def known_stem(name: str, split: str, image_size: int | None) -> str:
    """What the store of a known set is called: ``mnist-train``, or resized ``mnist-train-16``."""
    return f"{name}-{split}" + (f"-{image_size}" if image_size else "")


def of_known(name: str) -> tuple[Path, ...]:
    """The stores there are of a known set: of each split and size."""
    return _matching(re.compile(known_stem(re.escape(name), "(train|test)", None) + r"(-\d+)?\.safetensors"))


def of_folders() -> tuple[Path, ...]:
    """The stores there are of folders of images."""
    return _matching(FOLDER)


def _matching(name: re.Pattern[str]) -> tuple[Path, ...]:
    try:
        return tuple(sorted(path for path in folder().iterdir() if name.fullmatch(path.name)))
    except OSError:
        return ()


def _sweep(place: Path) -> None:
    """Remove the temporary files that killed processes left; they may be as large as a set."""
    try:
        for path in place.glob(".*.tmp"):
            if time.time() - path.stat().st_mtime > STALE:
                path.unlink()
    except OSError:
        pass  # somebody else was quicker, or may more than we


# --- writing --------------------------------------------------------------------------------------------------------


class NoRoom(ResourceError):
    """A store cannot be written, whatever the reason."""


def write(path: Path, key: str, build: Build) -> None:
    """Writes what ``build`` reads as a store, whole or not at all; parents are created.

    Raises:
        NoRoom: it cannot be written.
        DdpmError: what ``build`` raises.
    """
    failure: BaseException | None = None
    try:
        with replacing(path) as file:
            sink = _File(file, path)
            try:
                about = build(sink)
            except BaseException as error:
                failure = error
                raise
            sink.finish(about, key)
    except ResourceError as error:
        if failure is not None and not isinstance(failure, NoRoom):
            raise failure from None  # the source's, not ours
        raise NoRoom(error.message, error.hint) from error


class _File:
    """A sink that is a file: room for the header, then the images as they come."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self.file, self.path = file, path
        self.shape, self.start_at, self.count = (0, 0, 0, 0), 0, 0

    def start(self, shape: tuple[int, int, int, int], classes: tuple[str, ...]) -> None:
        self.shape, self.count = shape, 0
        room = _header(About("", None, classes), "", shape, bool(classes), ROOM)
        # Name, key and source, which come later, are short: a path has 4,096 bytes, and JSON six characters for each.
        self.start_at = 8 + _padded(len(room) + 65_536)
        needed = math.prod(shape) + 8 * shape[0] + self.start_at
        with _no_room(self.path):
            free = shutil.disk_usage(self.path.parent).free
            self.file.seek(self.start_at)
            self.file.truncate()
        if needed > free:
            raise NoRoom(
                f"the images need {_size(needed)} on disk in {self.path.parent}, found {_size(free)}",
                "Free some space, set DDPM_HOME to a larger disk, or take a smaller --image-size.",
            )

    def add(self, images: NDArray[np.uint8]) -> None:
        assert images.shape[1:] == self.shape[1:]
        self._write(np.ascontiguousarray(images).data)
        self.count += len(images)

    def finish(self, about: About, key: str) -> None:
        """Write what comes after the images, then the header before them."""
        if about.labels is not None:
            self._write(about.labels.astype("<i8").data)
        left_out = _listed(about)
        self._write(left_out)
        shape = (self.count, *self.shape[1:])
        header = _header(about, key, shape, about.labels is not None, len(left_out))
        header = header.ljust(self.start_at - 8)
        assert len(header) == self.start_at - 8
        with _no_room(self.path):
            self.file.seek(0)
        self._write(struct.pack("<Q", len(header)) + header)

    def _write(self, data: bytes | memoryview) -> None:
        with _no_room(self.path):
            self.file.write(data)


@contextmanager
def _no_room(path: Path) -> Iterator[None]:
    """Turn what the system says about writing a store into :class:`NoRoom`."""
    try:
        with reported(path):
            yield
    except ResourceError as error:
        raise NoRoom(error.message, error.hint) from error


class _Memory:
    """A sink in memory, for what cannot be kept.

    Args:
        reason: why it cannot, which is raised where it is too large for memory too.
    """

    def __init__(self, reason: ResourceError) -> None:
        self.reason, self.count = reason, 0
        self.array = np.empty((0, 0, 0, 0), np.uint8)

    def start(self, shape: tuple[int, int, int, int], classes: tuple[str, ...]) -> None:  # noqa: ARG002
        if math.prod(shape) > IN_MEMORY:
            raise self.reason
        self.array, self.count = np.empty(shape, np.uint8), 0

    def add(self, images: NDArray[np.uint8]) -> None:
        self.array[self.count : self.count + len(images)] = images
        self.count += len(images)

    def images(self, about: About) -> ImageSet:
        """The set."""
        return ImageSet(about.name, self.array[: self.count], about.labels, about.classes, about.left_out)


def _size(count: int) -> str:
    """Bytes for a message."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


# --- reading --------------------------------------------------------------------------------------------------------


def read(path: Path, key: str) -> ImageSet | None:
    """The set of a store, its images mapped copy-on-write; None where there is no sound store with this key.

    Copy-on-write maps count as writable, which ``torch.from_numpy`` asks for, and nothing written reaches the file.
    """
    try:
        with path.open("rb") as file:
            about, found_key, shape, start = _about(file)
            if key != found_key:
                return None
            content = _map(file)
            images = np.frombuffer(content, np.uint8, math.prod(shape), start).reshape(shape)
            return ImageSet(about.name, images, about.labels, about.classes, about.left_out)
    except _UNSOUND:
        return None


def describe(path: Path) -> tuple[str, tuple[int, int, int, int]] | None:
    """Source and shape (N, C, H, W) of a store; None where it is not sound."""
    try:
        with path.open("rb") as file:
            about, _, shape, _ = _about(file)
            return about.source, shape
    except _UNSOUND:
        return None


_UNSOUND = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    IndexError,
    OverflowError,
    RecursionError,
    struct.error,
)


def _about(file: BinaryIO) -> tuple[About, str, tuple[int, int, int, int], int]:
    """What a store holds beside its images, its key, their shape, and where they begin.

    Raises:
        _UNSOUND: it is no sound store.
    """
    size = os.fstat(file.fileno()).st_size
    (length,) = struct.unpack("<Q", file.read(8))
    header = file.read(min(length, size))
    tensors = json.loads(header)
    values = json.loads(tensors["__metadata__"]["ddpm"])
    count, channels, height, width = shape = tuple(tensors["images"]["shape"])
    labelled, listed = "labels" in tensors, tensors.get("left_out", {"shape": [0]})["shape"][0]
    about = About(values["name"], None, tuple(values["classes"]), (), values["source"])
    start, pixels = 8 + length, math.prod(shape)
    sound = (
        header.rstrip(b" ") == _header(about, values["key"], shape, labelled, listed)
        and length % 8 == 0
        and min(count, channels, height, width) >= 1
        and listed >= 0
        and size == start + pixels + 8 * count * labelled + listed
    )
    if not sound:
        raise ValueError
    file.seek(start + pixels)
    labels = np.frombuffer(file.read(8 * count), "<i8").astype(np.int64) if labelled else None
    if labels is not None and not 0 <= labels.min() <= labels.max() < len(about.classes):
        raise ValueError
    left_out = tuple(LeftOut(*map(_text, pair)) for pair in json.loads(file.read(listed))) if listed else ()
    return about._replace(labels=labels, left_out=left_out), values["key"], shape, start


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _map(file: BinaryIO) -> mmap.mmap:
    """A whole file, copy-on-write."""
    if not hasattr(mmap, "MAP_PRIVATE"):  # Windows
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    return mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE | _UNRESERVED, prot=mmap.PROT_READ | mmap.PROT_WRITE)


def _listed(about: About) -> bytes:
    """What was left out, as JSON; nothing where it is nothing."""
    return json.dumps([list(pair) for pair in about.left_out]).encode() if about.left_out else b""


def _header(about: About, key: str, shape: tuple[int, ...], labelled: bool, listed: int) -> bytes:
    """The header of a store, to be padded by spaces. The images come first, for they are written before all else."""
    values = {
        "format": FORMAT,
        "name": about.name,
        "classes": list(about.classes),
        "key": key,
        "source": about.source,
    }
    header: dict[str, dict[str, object]] = {"__metadata__": {"ddpm": json.dumps(values)}}
    end = 0
    for name, dtype, extent, size in (
        ("images", "U8", shape, math.prod(shape)),
        ("labels", "I64", shape[:1], 8 * shape[0] * labelled),
        ("left_out", "U8", (listed,), listed),
    ):
        if size:
            header[name] = {"dtype": dtype, "shape": extent, "data_offsets": [end, end + size]}
            end += size
    return json.dumps(header).encode()


def _padded(length: int) -> int:
    """The next multiple of 8."""
    return length + -length % 8
