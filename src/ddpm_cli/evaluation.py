"""Judging a model, or any set of images, against real ones.

Invariant: a figure never goes without its protocol: what was judged, how many, how they were drawn, against which
images, by which network. Beside every figure stands what real images get.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_cli import data, drawing, features, files, library, paths
from ddpm_cli.config import Shape
from ddpm_cli.data import ImageSet, npz
from ddpm_cli.errors import DataError, ResourceError, UsageError, unknown_name
from ddpm_cli.features import FeatureNetwork, Seen
from ddpm_cli.measures import METRICS, Need
from ddpm_cli.metrics import judge_labels, ssim
from ddpm_cli.metrics.ssim import RANGE, WINDOW
from ddpm_cli.pixels import Pixels
from ddpm_cli.seeds import generator


@dataclass(frozen=True, eq=False)
class Subject:
    """Images to judge.

    Attributes:
        images: uint8 (N, C, H, W).
        asked: the class each was asked to be, (N,), or None.
        classes: names of these classes.
        origin: where the images come from, as it enters the protocol.
        model: id of the model that drew them the way it does by default; empty for any others.
    """

    images: Pixels
    asked: NDArray[np.int64] | None
    classes: tuple[str, ...]
    origin: Mapping[str, Any]
    model: str = ""


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


@dataclass(frozen=True)
class Evaluation:
    """What was found.

    Attributes:
        metrics: name of a metric -> its figures, plain JSON values.
        protocol: how they were found, plain JSON values.
        model: id of the model judged; empty for images from files, or drawn another way than by default.
    """

    metrics: dict[str, Any]
    protocol: dict[str, Any]
    model: str


# --- what is judged, and against what -------------------------------------------------------------------------------


def drawn(ready: drawing.Ready, number: int, seed: int, progress: Callable[[int, int], None]) -> Subject:
    """Images 0..number-1 of a seed, with classes drawn from the seed where the model has some.

    Args:
        ready: the model, and how it is drawn from.
        number: how many.
        seed: the seed.
        progress: takes steps done and in all, of all images.
    """
    model, images = ready.model, range(number)
    result = drawing.draw(model, seed, images, progress=progress)
    about = drawing.provenance(ready, seed, images)
    asked = None if result.labels is None else np.array(result.labels, np.int64)
    as_it_comes = model.draws_as(ready.info.sampler) and ready.weights == ready.info.weights[0]
    return Subject(
        result.images,
        asked,
        model.classes,
        {**about, "evaluations": model.evaluations},
        ready.info.id if as_it_comes else "",
    )


def from_files(source: str | bytes, number: int | None, say: Callable[[str], None]) -> Subject:
    """Images of a folder or an NPZ archive; where fewer are wanted, evenly spread over them.

    Args:
        source: path of a folder or an archive, or the bytes of an archive.
        number: how many; None: all.
        say: takes sentences for the user.

    Raises:
        DataError: missing, unreadable, or no images.
    """
    found = read(source, say)
    count = len(found.images) if number is None else number
    if count > len(found.images):
        say(f"there are only {len(found.images):,} images: all are judged")
    # The first would all be of one class in a folder, which is sorted by class.
    chosen = found if count >= len(found.images) else found.spread(count)
    name = "standard input" if isinstance(source, bytes) else str(paths.absolute(source))
    return Subject(chosen.images, chosen.labels, chosen.classes, {"images": name})


def read(source: str | bytes, say: Callable[[str], None]) -> ImageSet:
    """A folder of images or an NPZ archive, by its path or its bytes.

    Raises:
        DataError: missing, unreadable, or no images.
    """
    if isinstance(source, bytes):
        return npz.read(source, "standard input")
    if source.lower().endswith(".npz"):
        return npz.read(paths.absolute(source), source)
    folder = paths.absolute(source)  # in full: a folder may be called as a known set is
    if not library.is_folder(folder):
        raise DataError(f"there is no folder or .npz file {source}", "Name one, or a model: ddpm models list")
    return data.load(str(folder), say=say)


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


# --- judging --------------------------------------------------------------------------------------------------------


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


def evaluate(subject: Subject, against: Reference, chosen: Sequence[str], say: Callable[[str], None]) -> Evaluation:
    """The figures of some metrics, with their protocol.

    Args:
        subject: what to judge.
        against: real images of the same size.
        chosen: which metrics.
        say: takes sentences for the user.
    """
    protocol: dict[str, Any] = {
        "number": len(subject.images),
        **subject.origin,
        "reference": {
            "data": against.images.name,
            "split": against.split,
            "images": len(against.images.images),
            "seed": against.seed,
        },
    }
    metrics, bench = {}, Bench(subject, against, say)
    for name in METRICS:
        if name in chosen:
            metrics[name], how = COMPUTED[name](bench)
            protocol |= how
    return Evaluation(metrics, protocol, subject.model)


@dataclass(frozen=True, eq=False)
class Bench:
    """What metrics work on. What several of them need is made once, when the first asks.

    Attributes:
        subject: what to judge.
        against: real images of the same size.
        say: takes sentences for the user.
    """

    subject: Subject
    against: Reference
    say: Callable[[str], None]

    @cached_property
    def pairs(self) -> tuple[ImageSet, ImageSet]:
        """Twice as many real images as there are to judge; see :meth:`Reference.pairs`."""
        return self.against.pairs(len(self.subject.images))

    @cached_property
    def network(self) -> FeatureNetwork:
        """The pinned network that knows the real images."""
        return features.load(self.against.images.name)

    @cached_property
    def seen(self) -> tuple[Seen, Seen]:
        """What the network sees in the images to judge, and in as many real ones, the first of the pairs."""
        return self.network.see(self.subject.images), self.network.see(self.pairs[0].images)


Scored = tuple[dict[str, Any], dict[str, Any]]
"""The figures of a metric, and what its protocol tells of it; plain JSON values."""


def _ssim(bench: Bench) -> Scored:
    """Each image with a random real one, and as many random pairs of real ones."""
    real, others = bench.pairs
    judged, usual = ssim(bench.subject.images, real.images), ssim(real.images, others.images)
    how = {"window": WINDOW, "data_range": RANGE, "pairs": "random"}
    return {**_spread(judged), "real": _spread(usual)}, {"ssim": how}


def _labels(bench: Bench) -> Scored:
    """The classes that the network finds, beside those asked for."""
    subject, network = bench.subject, bench.network
    asked = _asked(subject, network.classes)
    if asked is None and subject.asked is not None:
        bench.say(f"the classes {', '.join(subject.classes[:3])}... are not those of {network.data}: no accuracy")
    judged, usual = bench.seen
    found = {
        "classes": list(network.classes),
        **judge_labels(judged.probabilities, asked)._asdict(),
        "real": judge_labels(usual.probabilities, bench.pairs[0].labels)._asdict(),
    }
    return found, {"features": {"data": network.data, "id": network.id}}


# How each of METRICS is computed.
COMPUTED: dict[str, Callable[[Bench], Scored]] = {"ssim": _ssim, "labels": _labels}


def _spread(values: NDArray[np.float64]) -> dict[str, Any]:
    """Mean, standard deviation, the standard error of the mean, and the values themselves."""
    std = float(values.std(ddof=1)) if len(values) > 1 else None
    return {
        "mean": float(values.mean()),
        "std": std,
        "standard_error": None if std is None else std / len(values) ** 0.5,
        "values": values.round(6).tolist(),
    }


def _asked(subject: Subject, classes: tuple[str, ...]) -> NDArray[np.int64] | None:
    """The classes asked for, as numbers of the network's classes; by name, or by number where they have no names."""
    if subject.asked is None:
        return None
    if all(name in classes for name in subject.classes):
        return np.array([classes.index(name) for name in subject.classes])[subject.asked]
    numbers = subject.classes == tuple(map(str, range(len(subject.classes))))
    return subject.asked if numbers and len(subject.classes) <= len(classes) else None


# --- what is kept ---------------------------------------------------------------------------------------------------


def remember(found: Evaluation, trained_on: str) -> None:
    """Keep the figures of a model, below its id, for ``ddpm models``; those of more images go before those of fewer.

    Kept are those beside the test images of the model's own data set alone, so that they can be compared. A folder that
    cannot be written is no reason to lose an evaluation.

    Args:
        found: what was found.
        trained_on: the data set of the model.
    """
    real = found.protocol["reference"]
    if not found.model or (real["data"], real["split"]) != (trained_on, "test"):
        return
    kept = library.evaluation(found.model)
    for name, figures in found.metrics.items():
        if found.protocol["number"] >= kept["protocol"].get(name, {"number": 0})["number"]:
            kept["metrics"][name] = summary(figures)
            kept["protocol"][name] = found.protocol
    try:
        files.write_bytes(library.evaluation_file(found.model), (json.dumps(kept, allow_nan=False) + "\n").encode())
    except (ResourceError, ValueError):
        return


def summary(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Figures without the value of every single image."""
    return {
        key: summary(value) if isinstance(value, Mapping) else value
        for key, value in figures.items()
        if key != "values"
    }
