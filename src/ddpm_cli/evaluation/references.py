"""Real images to compare with, and which metrics can be had beside them."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_cli import data, features, inception, paths
from ddpm_cli.config import OnBadImage, Shape
from ddpm_cli.data import ImageSet
from ddpm_cli.errors import DdpmError, UsageError, unknown_name
from ddpm_cli.evaluation.subjects import read
from ddpm_cli.features import FeatureNetwork
from ddpm_cli.inception import Inception
from ddpm_cli.library import TrainingData
from ddpm_cli.measures import METRICS, Need
from ddpm_cli.metrics.ssim import WINDOW
from ddpm_cli.render.grid import grayscale
from ddpm_cli.seeds import generator

EMPTY: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, eq=False)
class Reference:
    """Real images to compare with.

    Attributes:
        images: the set.
        split: which part of it, "test" or "train"; "all" for one without parts.
        seed: of the order in which its images are taken.
        load_other: reads the other part of a set that has two, if it is at hand; None for one without parts.
        offline: never ask the network, for weights either.
        say: takes sentences for the user.
    """

    images: ImageSet
    split: str
    seed: int
    load_other: Callable[[], ImageSet] | None = None
    offline: bool = False
    say: Callable[[str], None] = lambda _: None

    @property
    def about(self) -> dict[str, Any]:
        """What a protocol tells of it."""
        found = self.images
        about = {"data": found.name, "split": self.split, "images": len(found.images), "sha256": found.fingerprint()}
        return {**about, "seed": self.seed}

    @cached_property
    def network(self) -> FeatureNetwork | Inception:
        """What sees features in images like these: the pinned network that knows them, or Inception in colour.

        Raises:
            ResourceError: as :func:`ddpm_cli.inception.load`.
            ModelError, UsageError: as :func:`ddpm_cli.features.load`.
        """
        if self.images.shape[0] == 3:
            return inception.load(self.offline, self.say)
        return features.load(self.images.name)

    @cached_property
    def other(self) -> ImageSet | None:
        """The other part of the set: its training images, where the reference is of its test images; None where it is
        not at hand, which is no reason to judge nothing."""
        if self.load_other is not None:
            with contextlib.suppress(DdpmError):
                other = self.load_other()
                return other if other.shape == self.images.shape else None
        return None

    @property
    def training(self) -> ImageSet:
        """The training images of the set; of one without parts all of its images.

        Raises:
            ValueError: they are not at hand.
        """
        if self.split != "test":
            return self.images
        if self.other is None:
            raise ValueError("there are no training images")
        return self.other

    def apart(self, count: int) -> ImageSet | None:
        """Real images that are not among the reference's, so many or as there are, in a random order; None: none are
        known."""
        if self.other is None:
            return None
        order = generator("evaluate", self.seed, "apart").permutation(len(self.other.images))
        return _chosen(self.other, order[:count])

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
    trained_on: TrainingData,
    seed: int,
    *,
    data_dir: Path | None,
    offline: bool,
    on_bad_image: OnBadImage | None = None,
    say: Callable[[str], None],
    progress: data.Progress,
) -> Reference:
    """The real images to compare with: those named, else the test images of the data that the model was trained on.

    A folder is brought to the size and the channels of the images to evaluate.

    Args:
        name: a known set, NAME:train for its training images, a folder or an NPZ archive; None: to be guessed.
        shape: of the images to judge.
        trained_on: the data of its model; unknown for images from files.
        seed: of the order.
        data_dir: where to look for the files of a known set first.
        offline: never ask the network.
        on_bad_image: whether an image of a folder that cannot be read is an error or is skipped; None: as in training
            for the folder that the model was trained on, else an error.
        say: takes sentences for the user.
        progress: takes bytes done and in all while files are fetched.

    Raises:
        UsageError: none was named and none can be guessed; or they are of another size, or only one.
        DataError, ResourceError: as :func:`ddpm_cli.data.load`.
    """
    image_size = None
    if name is None and trained_on.name:
        name = trained_on.located("--reference")
    if name is None and shape == data.KNOWN["mnist"].shape:
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
        if trained_on.name == known and shape[1:] != data.KNOWN[known].shape[1:] and shape[1] == shape[2]:
            image_size = shape[1]  # the model learned them at another size
        which: data.Split = "train" if split == "train" else "test"
        load = partial(data.load, known, image_size=image_size, data_dir=data_dir, progress=progress)
        # The other part only stands beside: it is not worth a download that nobody asked for.
        rest = partial(load, split="test" if which == "train" else "train", offline=True, say=lambda _: None)
        found = Reference(load(split=which, offline=offline, say=say), which, seed, rest, offline, say)
    else:
        if not data.is_path(name):
            raise unknown_name("data set", name, data.KNOWN)
        size = shape[1] if shape[1] == shape[2] else None
        if on_bad_image is None and trained_on.is_at(paths.absolute(name)):
            on_bad_image = trained_on.on_bad_image
        images, part = read(name, say, size, on_bad_image or "stop")
        found = Reference(_in_channels(images, shape[0]), part, seed, offline=offline, say=say)
        if part == "test":
            learned = partial(
                data.load, str(paths.absolute(name)), image_size=size, on_bad_image=on_bad_image or "stop"
            )
            found = replace(found, load_other=lambda: _in_channels(learned(), shape[0]))
    if found.images.shape != shape:
        judged, real = ("x".join(map(str, size)) for size in (shape, found.images.shape))
        raise UsageError(
            f"the images to judge are {judged}, and those of {found.images.name} are {real}",
            "Name others to compare with: --reference NAME|FOLDER",
        )
    if len(found.images.images) < 2:
        raise UsageError(f"{found.images.name} has only one image", "Name more to compare with: --reference FOLDER")
    return found


def _in_channels(found: ImageSet, channels: int) -> ImageSet:
    """Images in grey or color as asked: grey repeated over three channels, color as its luminance."""
    if found.shape[0] == channels:
        return found
    if channels == 3:
        return replace(found, images=found.images.repeat(3, axis=1))
    return replace(found, images=np.stack([grayscale(image) for image in found.images]))


def choose(
    wanted: Sequence[str], against: Reference, number: int, say: Callable[[str], None], lacks: Mapping[str, str] = EMPTY
) -> list[str]:
    """The metrics to compute; asked before anything long begins, and what they need of networks is there then.

    Args:
        wanted: those asked for; ``all``: all that can be had; empty: of these, those that so many images suffice for,
            and that need no more than the images.
        against: real images.
        number: how many images are judged.
        say: takes sentences for the user.
        lacks: why other metrics cannot be had, for reasons that are not the reference's.

    Raises:
        UsageError: a metric that was asked for cannot be had.
        ResourceError, ModelError: as :attr:`Reference.network`.
    """
    there = min(number, len(against.images.images))
    lacking = {}
    for name, metric in METRICS.items():
        few = f"it needs {metric.fewest} images, judged and real" if metric.fewest > there else ""
        needs = LACKS[metric.needs](against) if metric.needs is not None else ""
        if reason := needs or lacks.get(name) or few:
            lacking[name] = reason
    left = [name for name in METRICS if name not in lacking]
    every = list(wanted) == ["all"]
    if wanted and not every:
        for name in wanted:
            if name in lacking:
                raise UsageError(
                    f"no {name}: {lacking[name]}", f"Ask for others: --metrics {','.join(left)}" if left else ""
                )
        chosen = [name for name in METRICS if name in wanted]
    else:
        chosen = left if every else [name for name in left if METRICS[name].least <= number and METRICS[name].unasked]
        told = [name for name in lacking if every or (METRICS[name].least <= number and METRICS[name].unasked)]
        for reason in dict.fromkeys(lacking[name] for name in told):
            say(f"no {', '.join(name for name in told if lacking[name] == reason)}: {reason}")
    scarce = [name for name in chosen if there < METRICS[name].least]
    if scarce:
        least = max(METRICS[name].least for name in scarce)
        few, advice = ("images", " (-n)") if number == there else (f"real images of {against.images.name}", "")
        say(f"warning: {there:,} {few} are few for {', '.join(scarce)}: take {least:,} or more{advice}")
    if any(METRICS[name].needs == "network" for name in chosen):
        _ = against.network  # a download that fails shall not fail after hours of drawing
    return chosen


def _lacks_window(against: Reference) -> str:
    _, height, width = against.images.shape
    small = min(height, width) < WINDOW
    return f"images of {height}x{width} are smaller than its window of {WINDOW}x{WINDOW}" if small else ""


def _lacks_classifier(against: Reference) -> str:
    if against.split == "all":  # an archive may be called as a known set is
        return f"there is no feature network for {against.images.name}, only for {', '.join(features.PINNED)}"
    return features.lacking(against.images)


def _lacks_network(against: Reference) -> str:
    if against.images.shape[0] == 3:
        return inception.lacking(against.offline)
    return _lacks_classifier(against)


def _lacks_training(against: Reference) -> str:
    if against.split == "test" and against.other is None:
        return f"the training images are not at hand: ddpm data fetch {against.images.name}"
    return ""


# Of each need, why these real images do not meet it; empty where they do.
LACKS: dict[Need, Callable[[Reference], str]] = {
    "window": _lacks_window,
    "network": _lacks_network,
    "classifier": _lacks_classifier,
    "training": _lacks_training,
}
