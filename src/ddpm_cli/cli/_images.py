"""Which images a command is to work on: from a file, an archive, stdin, or a data set."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ddpm_cli import ranges
from ddpm_cli.cli import _options as o
from ddpm_cli.cli._output import Output
from ddpm_cli.config import OnBadImage, Shape
from ddpm_cli.errors import DataError, UsageError

if TYPE_CHECKING:
    from ddpm_cli.data.pictures import Fit, Pictures
    from ddpm_cli.library import TrainingData
    from ddpm_cli.pixels import Pixels


@dataclass(frozen=True)
class Source:
    """Which images are meant, and where to tell of them.

    Attributes:
        image: a file, or - for stdin; None: of a data set.
        dataset: its name; None: the data that a model was trained on.
        index: which of its images, or of an archive's, with commas; None: the first of a data set, all of an archive.
        image_size: side to bring them to; None: their own, or what the caller needs.
        data_dir: where to look for the set first.
        offline: whether the network is forbidden.
        on_bad_image: whether an image of a folder that cannot be read is an error or is skipped.
        out: where to tell.
        command: to type, for hints: "ddpm noise".
    """

    image: str | None
    dataset: str | None
    index: str | None
    image_size: int | None
    data_dir: Path | None
    offline: bool
    on_bad_image: OnBadImage
    out: Output
    command: str

    def read(self, fit: "Fit") -> "Pictures":
        """The images, each at the size that ``fit`` gives it."""
        from ddpm_cli.data import pictures

        numbers = None if self.index is None else [whole(word, "--index") for word in self.index.split(",")]
        if self.image == "-":
            content = o.from_stdin("an image", f"cat photo.jpg | {self.command} -")
            return pictures.from_bytes(content, fit, numbers)
        if self.image is not None:
            return pictures.from_file(self.image, fit, numbers)
        assert self.dataset is not None
        with self.out.progress("reading", "MB", scale=1e-6) as live:
            return pictures.from_set(
                self.dataset,
                numbers or [0],
                fit,
                data_dir=self.data_dir,
                image_size=self.image_size,
                offline=self.offline,
                on_bad_image=self.on_bad_image,
                say=self.out.note,
                progress=live,
            )

    def read_for(self, shape: Shape, trained_on: "TrainingData", crop: bool = True) -> "Pictures":
        """The images in the shape of a model; those of its own data, and of any folder, at the size of training.

        Args:
            shape: of the model.
            trained_on: its data, which are read if no other images are named.
            crop: whether known sets of another shape are made to fit, as files and folders are.
        """
        from ddpm_cli import data

        source = self
        if self.image is None:
            name = self.dataset or trained_on.located("--dataset")
            folder = data.is_path(name)
            size = shape[1] if shape[1] == shape[2] and (folder or name == trained_on.source) else None
            source, crop = replace(self, dataset=name, image_size=size), crop or folder
        return source.read(_to_shape(shape, crop or self.image is not None))


def refuse_two_sources(context: typer.Context, image: str | None) -> None:
    """Refuse a file and a data set at once; an archive has images to choose from, too.

    Raises:
        UsageError: both are typed.
    """
    many = image is not None and (image == "-" or image.lower().endswith(".npz"))
    for name in ("dataset", "data_dir") if many else ("dataset", "index", "data_dir"):
        if image is not None and o.is_typed(context, name):
            option = "--" + name.replace("_", "-")
            raise UsageError(f"IMAGE and {option} contradict each other", "Give one of them.")


def whole(word: str, what: str) -> int:
    """The number of an image or a pixel, one of several in an option.

    Args:
        word: as typed.
        what: the option.

    Raises:
        UsageError: it is not a whole number, or out of range.
    """
    try:
        return int(ranges.INDEX.read(word))
    except ValueError as error:
        raise UsageError(f"{what} {error}") from None


def _to_shape(shape: Shape, crop: bool) -> "Fit":
    """How images get the shape of a model: cropped and in grey where needed, or else only grey repeated as color.

    Raises:
        DataError: an image does not fit.
    """
    from ddpm_cli.render.grid import grayscale, squared

    channels, height, width = shape

    def fit(pixels: "Pixels") -> "Pixels":
        if crop and height == width:
            pixels = squared(pixels, height)
        if crop and len(pixels) > 1 == channels:
            pixels = grayscale(pixels)
        if len(pixels) == 1 < channels:
            pixels = pixels.repeat(channels, axis=0)
        if pixels.shape != shape:
            raise DataError(
                f"the image is {_by(pixels.shape)}, and the model knows {_by(shape)}", "Give another image, or --model."
            )
        return pixels

    return fit


def _by(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
