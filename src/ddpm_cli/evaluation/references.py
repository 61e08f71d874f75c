"""Real images to compare with, and which metrics can be had beside them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddpm_cli import data, features
from ddpm_cli.config import Shape
from ddpm_cli.data import ImageSet
from ddpm_cli.errors import UsageError, unknown_name
from ddpm_cli.evaluation.subjects import read
from ddpm_cli.measures import METRICS, Need
from ddpm_cli.metrics.ssim import WINDOW
from ddpm_cli.seeds import generator


@dataclass(frozen=True, eq=False)
class Reference:
    """Real images to compare with.

    Attributes:
        images: the set.
        split: which part of it, "test" or "train"; "all" for one without parts.
        seed: of the order in which its images are taken.
    """

    images: ImageSet
    split: str
    seed: int

    def pairs(self, count: int) -> tuple[ImageSet, ImageSet]:
        """Twice so many images in a random order: none meets itself, none comes twice while there are others."""
        total = len(self.images.images)
        order = generator("evaluate", self.seed, "reference").permutation(total)
        rows = np.arange(count)
        apart = count if 2 * count <= total else 1  # with half of them, a pair would come again the other way round
        return _chosen(self.images, order[rows % total]), _chosen(self.images, order[(rows + apart) % total])


def _chosen(images: ImageSet, rows: NDArray[np.int64]) -> ImageSet:
    labels = images.labels[rows] if images.labels is not None else None
    return ImageSet(images.name, images.images[rows], labels, images.classes)


def reference(
    name: str | None,
    shape: Shape,
    trained_on: str,
    seed: int,
    *,
    data_dir: Path | None,
    offline: bool,
    say: Callable[[str], None],
    progress: data.Progress,
) -> Reference:
    """The real images to compare with: those named, else the test images of the set that the model learned.

    Args:
        name: a known set, NAME:train for its training images, a folder or an NPZ archive; None: to be guessed.
        shape: of the images to judge.
        trained_on: the data set of its model; empty for images from files.
        seed: of the order.
        data_dir: where to look for the files of a known set first.
        offline: never ask the network.
        say: takes sentences for the user.
        progress: takes bytes done and in all while files are fetched.

    Raises:
        UsageError: none was named and none can be guessed; or they are of another size, or only one.
        DataError, ResourceError: as :func:`ddpm_cli.data.load`.
    """
    image_size = None
    if name is None and trained_on in data.KNOWN:
        name = trained_on
        if shape[1:] != data.KNOWN[name].shape[1:] and shape[1] == shape[2]:
            image_size = shape[1]  # it learned them at another size
    if name is None and not trained_on and shape == data.KNOWN["mnist"].shape:
        name = "mnist"
        say("comparing with mnist; another set: --reference NAME|FOLDER")
    if name is None:
        raise UsageError(
            "there are no real images to compare with",
            "Name some: --reference NAME|FOLDER, the data set the model was trained on, say.",
        )
    known, _, split = name.partition(":")
    if known in data.KNOWN:
        if split not in ("", "train", "test"):
            raise UsageError(f"--reference {name} names the part {split!r}, expected train or test")
        which: data.Split = "train" if split == "train" else "test"
        images = data.load(
            known,
            split=which,
            image_size=image_size,
            data_dir=data_dir,
            offline=offline,
            say=say,
            progress=progress,
        )
        found = Reference(images, which, seed)
    else:
        if not name.lower().endswith(".npz") and not data.is_path(name):
            raise unknown_name("data set", name, data.KNOWN)
        found = Reference(read(name, say), "all", seed)
    if found.images.shape != shape:
        judged, real = ("x".join(map(str, size)) for size in (shape, found.images.shape))
        raise UsageError(
            f"the images to judge are {judged}, and those of {found.images.name} are {real}",
            "Name others to compare with: --reference NAME|FOLDER",
        )
    if len(found.images.images) < 2:
        raise UsageError(f"{found.images.name} has only one image", "Name more to compare with: --reference FOLDER")
    return found


def choose(wanted: Sequence[str], against: Reference, say: Callable[[str], None]) -> list[str]:
    """The metrics wanted, or all that can be had beside these real images; asked before anything long begins.

    Raises:
        UsageError: a metric that was asked for cannot be had.
    """
    reasons = {name: LACKS[metric.needs](against) for name, metric in METRICS.items() if metric.needs is not None}
    lacking = {name: reason for name, reason in reasons.items() if reason}
    for name in wanted:
        if name in lacking:
            left = ",".join(other for other in METRICS if other not in lacking)
            raise UsageError(f"no {name}: {lacking[name]}", f"Ask for others: --metrics {left}" if left else "")
    for name, reason in lacking.items() if not wanted else ():
        say(f"no {name}: {reason}")
    return list(wanted) or [name for name in METRICS if name not in lacking]


def _lacks_window(against: Reference) -> str:
    _, height, width = against.images.shape
    small = min(height, width) < WINDOW
    return f"images of {height}x{width} are smaller than its window of {WINDOW}x{WINDOW}" if small else ""


def _lacks_network(against: Reference) -> str:
    name, (_, height, width) = against.images.name, against.images.shape
    if against.split == "all" or name not in features.PINNED:
        return f"there is no feature network for {name}, only for {', '.join(features.PINNED)}"
    other = against.images.shape != data.KNOWN[name].shape
    return f"the feature network of {name} does not see images of {height}x{width}" if other else ""


# Of each need, why these real images do not meet it; empty where they do.
LACKS: dict[Need, Callable[[Reference], str]] = {"window": _lacks_window, "network": _lacks_network}
