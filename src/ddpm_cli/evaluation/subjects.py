"""Images to judge: drawn from a model, or read from files."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ddpm_cli import data, drawing, library, paths
from ddpm_cli.config import OnBadImage
from ddpm_cli.data import ImageSet, npz
from ddpm_cli.errors import DataError
from ddpm_cli.pixels import Pixels
from ddpm_cli.provenance import provenance
from ddpm_cli.sampling import DiffusionModel

Part = Literal["train", "test", "all"]
"""Which images of a data set: those of a split, or all of one without splits."""


@dataclass(frozen=True, eq=False)
class Subject:
    """Images to judge.

    Attributes:
        images: uint8 (N, C, H, W).
        asked: the class each was asked to be, (N,), or None.
        classes: names of these classes.
        origin: where the images come from, as it enters the protocol.
        model: id of the model that drew them the way it does by default; empty for any others.
        in_float32: loads the model that drew them anew, for its likelihood; None for images from files.
    """

    images: Pixels
    asked: NDArray[np.int64] | None
    classes: tuple[str, ...]
    origin: Mapping[str, Any]
    model: str = ""
    in_float32: Callable[[], DiffusionModel] | None = None


def drawn(
    ready: drawing.Ready,
    number: int,
    seed: int,
    progress: Callable[[int, int], None],
    in_float32: Callable[[], DiffusionModel] | None = None,
) -> Subject:
    """Images 0..number-1 of a seed, with classes drawn from the seed where the model has some.

    Args:
        ready: the model, and how it is drawn from.
        number: how many; 0 where the model alone is judged.
        seed: the seed.
        progress: takes steps done and in all, of all images.
        in_float32: loads the model anew, in float32.
    """
    model, images = ready.model, range(number)
    pixels: Pixels = np.empty((0, *model.shape), np.uint8)
    asked = None
    if number:
        result = drawing.draw(model, seed, images, progress=progress)
        pixels, asked = result.images, None if result.labels is None else np.array(result.labels, np.int64)
    about = provenance(ready, seed, images)
    usual = ready.weights == ready.info.weights[0] and ready.guide is None
    as_it_comes = usual and model.draws_as(ready.info.sampler)
    return Subject(
        pixels,
        asked,
        model.classes,
        {**about, "evaluations": model.evaluations},
        ready.info.id if as_it_comes else "",
        in_float32,
    )


def from_files(
    source: str | bytes, number: int | None, say: Callable[[str], None], on_bad_image: OnBadImage = "stop"
) -> Subject:
    """Images of a folder or an NPZ archive; where fewer are wanted, evenly spread over them.

    Args:
        source: path of a folder or an archive, or the bytes of an archive.
        number: how many; None: all.
        say: takes sentences for the user.
        on_bad_image: whether an image of a folder that cannot be read is an error or is skipped.

    Raises:
        DataError: missing, unreadable, or no images.
    """
    found, split = read(source, say, on_bad_image=on_bad_image)
    count = len(found.images) if number is None else number
    if count > len(found.images):
        say(f"there are only {len(found.images):,} images: all are judged")
    # The first would all be of one class in a folder, which is sorted by class.
    chosen = found if count >= len(found.images) else found.spread(count)
    name = "standard input" if isinstance(source, bytes) else str(paths.absolute(source))
    origin = {"images": name, "split": split, "sha256": chosen.fingerprint()}
    return Subject(chosen.images, chosen.labels, chosen.classes, origin)


def read(
    source: str | bytes,
    say: Callable[[str], None],
    image_size: int | None = None,
    on_bad_image: OnBadImage = "stop",
) -> tuple[ImageSet, Part]:
    """A folder of images, brought to a size if there is one, or an NPZ archive, by its path or its bytes.

    Returns:
        The images; and which part of the data they are: of a folder with splits, the test images.

    Raises:
        DataError: missing, unreadable, or no images.
    """
    if isinstance(source, bytes):
        return npz.read(source, "standard input"), "all"
    folder = paths.absolute(source)  # in full: a folder may be called as a known set is
    if not data.is_archive(source) and not library.is_folder(folder):
        raise DataError(f"there is no folder or .npz file {source}", "Name one, or a model: ddpm models list")
    load = partial(data.load, str(folder), image_size=image_size, on_bad_image=on_bad_image, say=say)
    return (load(split="test"), "test") if data.has_splits(str(folder)) else (load(), "all")
