"""Data sets: known ones by name, folders of images by path; all become an :class:`ImageSet`.

Invariant: :func:`load` gives the same images in the same order wherever their files came from, and a second call maps
a file instead of reading anything anew.
"""

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ddpm_cli import ranges
from ddpm_cli.config import OnBadImage, Shape, check_number
from ddpm_cli.data import find, folder, npz, resize, store
from ddpm_cli.data.fetch import Progress
from ddpm_cli.data.imageset import ImageSet, LeftOut
from ddpm_cli.data.known import KNOWN, KnownSet, SourceFile, Split
from ddpm_cli.errors import DataError, unknown_name
from ddpm_cli.printable import printable

__all__ = [
    "KNOWN",
    "ImageSet",
    "KnownSet",
    "LeftOut",
    "Progress",
    "SourceFile",
    "Split",
    "has_splits",
    "is_archive",
    "is_path",
    "load",
]


def _silent(*_: object) -> None:
    pass


def load(
    name: str,
    *,
    split: Split = "train",
    data_dir: Path | None = None,
    limit: int | None = None,
    image_size: int | None = None,
    offline: bool = False,
    on_bad_image: OnBadImage = "stop",
    accept: Callable[[Shape], object] = _silent,
    say: Callable[[str], None] = _silent,
    progress: Progress = _silent,
) -> ImageSet:
    """A data set by name or path.

    A known name is that set. Anything with a path separator or a leading ``.`` or ``~``, and any existing folder, is a
    folder of images; a name that ends with ``.npz`` is an archive of them.

    Args:
        name: "mnist", "./photos", ...
        split: "train" or "test"; a folder has splits only if it holds folders with such names.
        data_dir: where to look first for the files of a known set.
        limit: how many images, 1 or more, evenly spread over the set; all where it has no more.
        image_size: side in pixels of the square that images become, 1..4096; None: their own size, or, where a
            folder holds several, a common one.
        offline: never ask the network.
        on_bad_image: what to do where an image of a folder cannot be read: `stop`, or `skip` it and go on without;
            the set tells which.
        accept: takes the shape (C, H, W) of the images before their pixels are read, and may raise.
        say: takes sentences for the user.
        progress: takes bytes done and in all, while files are fetched or images read.

    Raises:
        UsageError: an unknown name; ``limit`` or ``image_size`` out of range.
        DataError: missing or unreadable images, or files that are not what their checksums say.
        ResourceError: network down or forbidden; no torchvision where images need resizing; no room for so many.
    """
    check_number("--limit", limit, ranges.IMAGES)
    check_number("--image-size", image_size, ranges.SIDE)
    if name in KNOWN:
        channels, height, width = KNOWN[name].shape
        accept((channels, image_size or height, image_size or width))
        images = _load_known(
            KNOWN[name], split, image_size, data_dir=data_dir, offline=offline, say=say, progress=progress
        )
    elif is_archive(name):
        images = _load_archive(name, image_size, accept)
    elif is_path(name):
        found = folder.load(
            name,
            split=split,
            image_size=image_size,
            on_bad_image=on_bad_image,
            accept=accept,
            say=say,
            progress=progress,
        )
        # A folder that is called as a known set is, is not that set.
        images = replace(found, name=f"{found.name} (folder)") if found.name in KNOWN else found
    else:
        raise unknown_name("data set", name, KNOWN)

    count = len(images.images)
    if limit is None or limit == count:
        return images
    if limit > count:
        say(f"{images.name} has only {count} images: all are used")
        return images
    return images.spread(limit)


def has_splits(name: str) -> bool:
    """Whether a set has a test split beside what is trained on."""
    return name in KNOWN or bool(folder.splits(folder.place(name)))


def is_path(name: str) -> bool:
    """Whether a name means a folder or an archive rather than a known set."""
    return name not in KNOWN and (
        is_archive(name) or os.sep in name or "/" in name or name.startswith((".", "~")) or folder.is_folder(name)
    )


def is_archive(name: str) -> bool:
    """Whether a name means an archive of arrays, unless there is a folder of that name."""
    return name.lower().endswith(".npz") and not folder.is_folder(name)


def _load_archive(name: str, image_size: int | None, accept: Callable[[Shape], object]) -> ImageSet:
    """The images of an archive, which are read each time."""
    path = folder.place(name)
    found = npz.read(path, name)
    channels, height, width = found.shape
    accept((channels, image_size or height, image_size or width))
    images = found.images if image_size is None else resize.to_square(found.images, image_size)
    return replace(found, name=printable(path.name), images=images)


def _load_known(
    known: KnownSet,
    split: Split,
    image_size: int | None,
    *,
    data_dir: Path | None,
    offline: bool,
    say: Callable[[str], None],
    progress: Progress,
) -> ImageSet:
    """From the store, whose key is the hashes of the source files; they are looked for only to build it."""
    if (image_size, image_size) == known.shape[1:]:
        image_size = None

    def build(sink: store.Sink) -> store.About:
        count, (channels, height, width) = known.counts[split], known.shape
        sink.start((count, channels, image_size or height, image_size or width), known.classes)
        files = find.find(known, known.files[split], data_dir=data_dir, offline=offline, say=say, progress=progress)
        images, labels = known.read(files, split, (count, channels, height, width))
        if not 0 <= labels.min() <= labels.max() < len(known.classes):
            raise DataError(f"{files[-1]} holds labels up to {labels.max()}, expected 0 to {len(known.classes) - 1}")
        at_once = resize.at_once(image_size or height)
        for start in range(0, count, at_once):
            batch = images[start : start + at_once]
            sink.add(batch if image_size is None else resize.to_square(batch, image_size))
        return store.About(known.name, labels, known.classes)

    sources = [file.sha256 for file in known.files[split]]
    made_from = (store.FORMAT, image_size, sources, known.name, split, known.classes)  # one archive may hold many sets
    key = hashlib.sha256(repr(made_from).encode()).hexdigest()
    return store.cached(store.known_stem(known.name, split, image_size), key, build, say)
