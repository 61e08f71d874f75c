"""How each metric is computed, and what several of them need."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_cli import features
from ddpm_cli.data import ImageSet
from ddpm_cli.evaluation.references import Reference
from ddpm_cli.evaluation.subjects import Subject
from ddpm_cli.features import FeatureNetwork, Seen
from ddpm_cli.metrics import judge_labels, ssim
from ddpm_cli.metrics.ssim import RANGE, WINDOW


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
