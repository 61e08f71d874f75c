"""Images to look at: one from a file or a pipe, or some of a set, each brought to a size of the caller's choice."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ddpm_cli import data, paths
from ddpm_cli.config import OnBadImage
from ddpm_cli.data import npz
from ddpm_cli.data.fetch import Progress
from ddpm_cli.data.imagefile import read_image
from ddpm_cli.data.imageset import ImageSet
from ddpm_cli.errors import PERMISSIONS, DataError, UsageError
from ddpm_cli.labels import names_of
from ddpm_cli.pixels import Pixels

Fit = Callable[[Pixels], Pixels]
"""Brings an image (C, H, W) to its size."""


class Pictures(NamedTuple):
    """Images, and where they come from.

    Attributes:
        pixels: uint8 (N, C, H, W).
        numbers: which images of the data set; of a file, 0.
        labels: of each; None where there are none.
        classes: names of all labels.
        name: of the first, for people.
        source: the same for programs, plain JSON values and paths.
    """

    pixels: Pixels
    numbers: list[int]
    labels: list[int] | None
    classes: tuple[str, ...]
    name: str
    source: dict[str, Any]

    def known_to(self, classes: tuple[str, ...]) -> list[int | None]:
        """The class of each for a model of these classes; None: not known. The numbers in an archive say nothing, for
        nobody knows whose they are."""
        if self.labels is None or self.source["dataset"] is None or not classes or self.classes != classes:
            return [None] * len(self.pixels)
        return list(self.labels)


def from_file(name: str, fit: Fit, numbers: Sequence[int] | None = None) -> Pictures:
    """The image in a file, or images of an .npz archive.

    Args:
        name: its path.
        fit: takes each image.
        numbers: which images of an archive, from 0; None: all.

    Raises:
        DataError: it cannot be read.
        UsageError: a number that it does not have.
    """
    path = paths.absolute(name) if name.startswith("~") else Path(name)
    # A pipe, of <(...) say, can be read once and not sought in.
    content = _piped(path) if _is_pipe(path) else path
    source = {"image": path, "dataset": None}
    if path.suffix.lower() == ".npz" or _is_archive(content):
        return _of_archive(content, path.name, fit, numbers, source)
    return Pictures(fit(read_image(content, _advice(name)))[None], [0], None, (), path.name, source)


def from_bytes(content: bytes, fit: Fit, numbers: Sequence[int] | None = None) -> Pictures:
    """The image that came from stdin, or images of an archive that did; arguments as for :func:`from_file`.

    Raises:
        DataError: it cannot be read.
        UsageError: a number that it does not have.
    """
    if _is_archive(content):
        return _of_archive(content, "stdin", fit, numbers, {"image": "-", "dataset": None})
    pixels = fit(read_image(content, KINDS))
    return Pictures(pixels[None], [0], None, (), "from stdin", {"image": "-", "dataset": None})


def _is_archive(content: Path | bytes) -> bool:
    """Whether bytes begin as every zip, and so every .npz, does."""
    return isinstance(content, bytes) and content[:2] == b"PK"


def _of_archive(
    content: Path | bytes, name: str, fit: Fit, numbers: Sequence[int] | None, source: dict[str, Any]
) -> Pictures:
    """Images of an archive."""
    found = npz.read(content, name)
    wanted = range(len(found.images)) if numbers is None else numbers
    pixels, labels = _some(found, wanted, fit)
    source = {**source, "index": list(wanted)}
    return Pictures(pixels, list(wanted), labels, found.classes, f"image {wanted[0]} of {name}", source)


def from_set(
    name: str,
    numbers: Sequence[int],
    fit: Fit,
    *,
    data_dir: Path | None,
    image_size: int | None,
    offline: bool,
    on_bad_image: OnBadImage,
    say: Callable[[str], None],
    progress: Progress,
) -> Pictures:
    """Some images of a data set; arguments as for :func:`ddpm_cli.data.load`.

    Args:
        numbers: which, from 0.
        fit: takes each.

    Raises:
        UsageError: an unknown set, or a number that it does not have.
        DataError: missing or unreadable images.
    """
    found = data.load(
        name,
        data_dir=data_dir,
        image_size=image_size,
        offline=offline,
        on_bad_image=on_bad_image,
        say=say,
        progress=progress,
    )
    pixels, labels = _some(found, numbers, fit)
    source: dict[str, Any] = {"image": None, "dataset": found.name, "index": list(numbers)}
    source |= {"labels": labels, "label_names": names_of(labels, found.classes)}
    return Pictures(pixels, list(numbers), labels, found.classes, f"image {numbers[0]} of {found.name}", source)


def _some(found: ImageSet, numbers: Sequence[int], fit: Fit) -> tuple[Pixels, list[int] | None]:
    """Some images of a set, each at its size, and their labels.

    Raises:
        UsageError: a number that it does not have.
    """
    for number in numbers:
        if number >= len(found.images):
            raise UsageError(
                f"index {number} is out of range, expected 0 to {len(found.images) - 1} in {found.name}",
                "Counting starts at 0.",
            )
    labels = None if found.labels is None else [int(found.labels[number]) for number in numbers]
    return np.stack([fit(found.images[number]) for number in numbers]), labels


def _is_pipe(path: Path) -> bool:
    try:
        return path.is_fifo()
    except OSError:  # a name too long, say
        return False


def _piped(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", PERMISSIONS) from error


KINDS = "PNG, JPEG, GIF, BMP, WebP, TIFF and PPM can be read."


def _advice(name: str) -> str:
    """What to do about an image that cannot be read."""
    if name in data.KNOWN or os.path.isdir(name):  # noqa: PTH112  # unlike pathlib's, never an error
        return f"Images of a data set: --dataset {name}"
    return KINDS if os.path.exists(name) else "Check its path; without one, an image of a data set is taken."  # noqa: PTH110
