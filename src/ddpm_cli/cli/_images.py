"""Which images a command is to work on: from a file, an archive, stdin, or a data set."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ddpm_cli.cli import _options as o
from ddpm_cli.cli._output import Output
from ddpm_cli.config import Shape
from ddpm_cli.errors import DataError, UsageError

if TYPE_CHECKING:
    from ddpm_cli.data.pictures import Fit, Pictures
    from ddpm_cli.pixels import Pixels


@dataclass(frozen=True)
class Source:
    """Which images are meant, and where to tell of them.

    Attributes:
        image: a file, or - for stdin; None: of a data set.
        dataset: its name.
        index: which of its images, or of an archive's, with commas; None: the first of a data set, all of an archive.
        image_size: side to bring them to; None: their own, or what the caller needs.
        data_dir: where to look for the set first.
        offline: whether the network is forbidden.
        out: where to tell.
        command: to type, for hints: "ddpm noise".
    """

    image: str | None
    dataset: str
    index: str | None
    image_size: int | None
    data_dir: Path | None
    offline: bool
    out: Output
    command: str

    def read(self, fit: "Fit") -> "Pictures":
        """The images, each at the size that ``fit`` gives it."""
        from ddpm_cli.data import pictures

        numbers = None if self.index is None else [whole(word, "index") for word in self.index.split(",")]
        if self.image == "-":
            content = o.from_stdin("an image", f"cat photo.jpg | {self.command} -")
            return pictures.from_bytes(content, fit, numbers)
        if self.image is not None:
            return pictures.from_file(self.image, fit, numbers)
        with self.out.progress("reading", "MB", scale=1e-6) as live:
            return pictures.from_set(
                self.dataset,
                numbers or [0],
                fit,
                data_dir=self.data_dir,
                image_size=self.image_size,
                offline=self.offline,
                say=self.out.note,
                progress=live,
            )


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
    """A whole number of at least 0 that somebody typed.

    Raises:
        UsageError: it is none.
    """
    if not word.strip().isdecimal():
        raise UsageError(f"{what} is {word!r}, expected a whole number of at least 0")
    return int(word)


def to_shape(shape: Shape, crop: bool) -> "Fit":
    """How images get the shape that a model knows: a file is made to fit, in its grey too, a data set must.

    Raises:
        DataError: an image does not fit.
    """
    from ddpm_cli.render.grid import squared
    from ddpm_cli.render.images import from_pillow, to_pillow

    channels, height, width = shape

    def fit(pixels: "Pixels") -> "Pixels":
        if crop and height == width:
            pixels = squared(pixels, height)
        if crop and len(pixels) > 1 == channels:
            pixels = from_pillow(to_pillow(pixels).convert("L"))
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
