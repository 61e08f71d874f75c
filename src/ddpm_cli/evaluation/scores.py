"""How each metric is computed, and what several of them need."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ddpm_cli import features
from ddpm_cli.config import Variance
from ddpm_cli.data import ImageSet
from ddpm_cli.denoiser import Clip
from ddpm_cli.evaluation.references import Reference
from ddpm_cli.evaluation.subjects import Subject
from ddpm_cli.features import FeatureNetwork, Seen
from ddpm_cli.likelihood import bound
from ddpm_cli.metrics import (
    Neighbours,
    background_of,
    background_share,
    frechet,
    judge_labels,
    kernel_distance,
    moments,
    neighbours,
    overlap,
    resampled,
    ssim,
)
from ddpm_cli.metrics.frechet import Moments
from ddpm_cli.metrics.labels import NORMAL, wilson
from ddpm_cli.metrics.manifold import NEAREST, WIDER
from ddpm_cli.metrics.ssim import RANGE, WINDOW
from ddpm_cli.pixels import Pixels, from_uint8
from ddpm_cli.seeds import generator

BOOTSTRAPS = 200  # samples of a bootstrap
BOUNDED = 256  # real images whose likelihood is bounded
SHOWN = 8  # pairs of neighbours in the picture


@dataclass(frozen=True, eq=False)
class Bench:
    """What metrics work on. What several of them need is made once, when the first asks.

    Attributes:
        subject: what to judge.
        against: real images of the same size.
        say: takes sentences for the user.
        progress: takes what is counted, done and in all, of metrics that take long.
        pictures: takes pairs of images by the name of their metric, uint8 (2, n, C, H, W).
    """

    subject: Subject
    against: Reference
    say: Callable[[str], None]
    progress: Callable[[str, int, int], None]
    pictures: dict[str, Pixels] = field(default_factory=dict)

    @property
    def number(self) -> int:
        return len(self.subject.images)

    @cached_property
    def pairs(self) -> tuple[ImageSet, ImageSet]:
        """Twice as many real images as there are to judge; see :meth:`Reference.pairs`."""
        return self.against.pairs(self.number)

    @cached_property
    def apart(self) -> ImageSet | None:
        """As many real images as there are to judge, none of them of the reference; None: there are none."""
        return self.against.apart(self.number)

    @cached_property
    def classifier(self) -> FeatureNetwork:
        return features.load(self.against.images.name)

    @cached_property
    def judged(self) -> Seen:
        return self.against.network.see(self.subject.images)

    @cached_property
    def real(self) -> Seen:
        """What is seen in the whole reference."""
        return features.see_whole(self.against.network, self.against.images)

    @cached_property
    def paired(self) -> Seen:
        """What is seen in as many real images as there are to judge, the first of the pairs."""
        return self.against.network.see(self.pairs[0].images)

    @cached_property
    def floor(self) -> NDArray[np.float32] | None:
        """Features of :attr:`apart`: what real images get, of the same number."""
        return None if self.apart is None else self.against.network.see(self.apart.images).features

    def nearest(self, images: Pixels, others: Pixels) -> Neighbours:
        """Of the others, for each image."""
        return neighbours(images, others, partial(self.progress, "neighbours"))

    def about_features(self) -> dict[str, Any]:
        """What the protocol tells of figures that are made of features."""
        floor = None
        if self.apart is not None:
            split = "train" if self.against.split == "test" else "test"
            floor = {"data": self.apart.name, "split": split, "images": len(self.apart.images)}
        network = self.against.network
        return {"features": {"data": network.data, "id": network.id}, "floor": floor}


Scored = tuple[dict[str, Any], dict[str, Any]]
"""The figures of a metric, and what its protocol tells of it; plain JSON values."""


def _ssim(bench: Bench) -> Scored:
    """Each image with a random real one, and as many random pairs of real ones."""
    real, others = bench.pairs
    judged, usual = ssim(bench.subject.images, real.images), ssim(real.images, others.images)
    how = {"window": WINDOW, "data_range": RANGE, "pairs": "random"}
    apart = None if bench.apart is None else _nearest(bench, bench.apart.images)
    found = {**_spread(judged), "nearest": _nearest(bench, bench.subject.images)}
    return {**found, "real": {**_spread(usual), "nearest": apart}}, {"ssim": how}


def _nearest(bench: Bench, images: Pixels) -> float:
    """Mean similarity of images with the real one that is nearest to each, pixel by pixel."""
    real = bench.against.images.images
    return float(ssim(images, real[bench.nearest(images, real).which]).mean())


def _labels(bench: Bench) -> Scored:
    """The classes that the network finds, beside those asked for."""
    subject, network = bench.subject, bench.classifier
    asked = _asked(subject, network.classes)
    if asked is None and subject.asked is not None:
        bench.say(f"the classes {', '.join(subject.classes[:3])}... are not those of {network.data}: no accuracy")
    real, _ = bench.pairs
    found = {
        "classes": list(network.classes),
        **judge_labels(bench.judged.probabilities, asked)._asdict(),
        "real": judge_labels(bench.paired.probabilities, real.labels)._asdict(),
    }
    return found, {"features": {"data": network.data, "id": network.id}}


def _background(bench: Bench) -> Scored:
    """The share of background, beside that of the whole reference."""
    real = bench.against.images.images
    value = background_of(real)
    judged, usual = (_share(background_share(each, value)) for each in (bench.subject.images, real))
    return {**judged, "value": value, "real": usual}, {}


def _share(values: NDArray[np.float64]) -> dict[str, Any]:
    """A mean share, with the ends between which the mean of such images lies with 95 % confidence; of one, without."""
    mean = float(values.mean())
    if len(values) == 1:
        return {"share": mean, "interval": None}
    reach = NORMAL * float(values.std(ddof=1)) / len(values) ** 0.5
    return {"share": mean, "interval": [max(0.0, mean - reach), min(1.0, mean + reach)]}


def _frechet(bench: Bench) -> Scored:
    """The distance to the whole reference, with its bootstrap."""
    real = moments(bench.real.features)
    floor = None if bench.floor is None else frechet(moments(bench.floor), real)
    found = {**distance(bench.judged.features, real, bench.against.seed)._asdict(), "real": {"value": floor}}
    return found, {**bench.about_features(), "bootstraps": BOOTSTRAPS}


class Distance(NamedTuple):
    """A Fréchet distance.

    Attributes:
        value: at least 0.
        error: standard deviation of its bootstrap.
        interval: ends between which the distance lies that so many images have on average, with 95 % confidence, beside
            this reference; wider than need be where the distance is near that of real images.
    """

    value: float
    error: float
    interval: list[float]


def distance(judged: NDArray[np.float32], real: Moments, seed: int) -> Distance:
    """How far images are from real ones, by what is seen in them.

    Args:
        judged: features, (N, d).
        real: of the real ones.
        seed: of the bootstrap.
    """
    value = frechet(moments(judged), real)
    draw = generator("evaluate", seed, "bootstrap")
    error = float(np.std([frechet(each, real) for each in resampled(judged, BOOTSTRAPS, draw)], ddof=1))
    return Distance(value, error, [max(0.0, value - NORMAL * error), value + NORMAL * error])


def _kernel(bench: Bench) -> Scored:
    real = bench.real.features
    floor = None if bench.floor is None else kernel_distance(bench.floor, real)._asdict()
    found = kernel_distance(bench.judged.features, real)._asdict()
    return {**found, "real": floor or {"value": None, "error": None}}, bench.about_features()


def _overlap(bench: Bench) -> Scored:
    """Beside as many real images, since the figures depend on the numbers: of the larger set, as many as of the other.

    No real image may stand there twice, or its nearest neighbour would be itself.
    """
    count = min(bench.number, len(bench.against.images.images))
    real, floor = bench.paired.features[:count], None
    if bench.floor is not None:
        same = min(count, len(bench.floor))
        floor = overlap(bench.floor[:same], real[:same])._asdict()
    found = overlap(bench.judged.features[:count], real)._asdict()
    how = {"images": count, "nearest": [NEAREST, WIDER]}
    return {**found, "real": floor or dict.fromkeys(found)}, {**bench.about_features(), "overlap": how}


def _neighbours(bench: Bench) -> Scored:
    """The nearest training images of those judged; and of real ones that are no training images."""
    images, training = bench.subject.images, bench.against.training
    found = bench.nearest(images, training.images)
    usual = None
    held = bench.apart if bench.against.split == "train" else bench.pairs[0]
    if bench.against.other is not None and held is not None:
        usual = bench.nearest(held.images, training.images)
    closest = np.argsort(found.distance, kind="stable")[:SHOWN]
    bench.pictures["neighbours"] = np.stack([images[closest], training.images[found.which[closest]]])
    nothing = {"copied": None, "distance": None, "interval": None}
    split = "all" if bench.against.split == "all" else "train"
    how = {"training": training.name, "split": split, "images": len(training.images)}
    how |= {"sha256": training.fingerprint(), "copy": "nearest < second nearest / 3"}
    return {**_copied(found), "real": _copied(usual) if usual else nothing}, {"neighbours": how}


def _copied(found: Neighbours) -> dict[str, Any]:
    hits, count = int(found.copied.sum()), len(found.copied)
    return {
        "copied": hits / count,
        "interval": list(wilson(hits, count)),
        "distance": float(np.median(found.distance)),
        "closest": float(found.distance.min()),
    }


def _nll(bench: Bench) -> Scored:
    """Of some images of the reference, not of those judged: how well the model that drew these knows real ones."""
    if bench.subject.in_float32 is None:
        raise ValueError("images from files have no likelihood")
    model = bench.subject.in_float32()
    real, _ = bench.against.pairs(min(BOUNDED, len(bench.against.images.images)))
    labelled = bool(model.classes) and real.labels is not None and real.classes == model.classes
    condition: dict[str, torch.Tensor] = {}
    if labelled and real.labels is not None:
        condition["label"] = torch.from_numpy(real.labels)
    elif model.classes:
        condition["label"] = torch.full((len(real.images),), len(model.classes))  # "no label"
    variance: Variance = "learned" if model.denoiser.learned_variance else "small"
    found = bound(
        Clip(model.denoiser) if model.sampler.clip else model.denoiser,
        model.schedule,
        from_uint8(torch.from_numpy(real.images).double()),
        condition,
        variance,
        bench.against.seed,
        device=model.device,
        progress=partial(bench.progress, "likelihood"),
    )
    levels = [
        {"first": each.first, "last": each.last, "term": each.term.value, "error": _known(each.term.error)}
        for each in found.strata
    ]
    terms = {"prior": found.prior, "steps": found.steps, "decoder": found.decoder}
    figures = {"total": found.total.value, "error": _known(found.total.error), "levels": levels}
    figures |= {name: float(values.mean()) for name, values in terms.items()}
    how = {
        "images": len(real.images),
        "levels_an_image": len(levels) + 1,
        "variance": variance,
        "clip": model.sampler.clip,
        "dequantisation": "none: whole pixel values",
        "conditional": labelled,
        "precision": "float32",
        "seed": bench.against.seed,
    }
    return {**figures, "real": dict.fromkeys(("total", *terms))}, {"nll": how}


def _known(error: float) -> float | None:
    """For JSON, which has no NaN."""
    return error if math.isfinite(error) else None


# How each of METRICS is computed.
COMPUTED: dict[str, Callable[[Bench], Scored]] = {
    "ssim": _ssim,
    "labels": _labels,
    "background": _background,
    "frechet": _frechet,
    "kernel": _kernel,
    "overlap": _overlap,
    "neighbours": _neighbours,
    "nll": _nll,
}


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
