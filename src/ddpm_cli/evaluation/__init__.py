"""Judging a model, or any set of images, against real ones.

Invariant: a figure never goes without its protocol: what was judged, how many, how they were drawn, against which
images, by which network. Beside every figure stands what real images get.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ddpm_cli import files, library
from ddpm_cli.data import KNOWN
from ddpm_cli.errors import ResourceError
from ddpm_cli.evaluation.references import LACKS, Reference, choose, reference
from ddpm_cli.evaluation.scores import COMPUTED, Bench
from ddpm_cli.evaluation.subjects import Subject, drawn, from_files, read
from ddpm_cli.measures import METRICS
from ddpm_cli.pixels import Pixels

__all__ = [
    "COMPUTED",
    "LACKS",
    "Evaluation",
    "Reference",
    "Subject",
    "choose",
    "drawn",
    "evaluate",
    "from_files",
    "read",
    "reference",
    "remember",
    "summary",
]


@dataclass(frozen=True)
class Evaluation:
    """What was found.

    Attributes:
        metrics: name of a metric -> its figures, plain JSON values.
        protocol: how they were found, plain JSON values.
        model: id of the model judged; empty for images from files, or drawn another way than by default.
        pictures: pairs of images by the name of their metric, uint8 (2, n, C, H, W).
    """

    metrics: dict[str, Any]
    protocol: dict[str, Any]
    model: str
    pictures: Mapping[str, Pixels] = field(default_factory=dict)


def evaluate(
    subject: Subject,
    against: Reference,
    chosen: Sequence[str],
    say: Callable[[str], None],
    progress: Callable[[str, int, int], None] = lambda _what, _done, _all: None,
    begins: Callable[[str, int, int], None] = lambda _what, _done, _all: None,
) -> Evaluation:
    """The figures of some metrics, with their protocol.

    Args:
        subject: what to judge.
        against: real images of the same size.
        chosen: which metrics.
        say: takes sentences for the user.
        progress: takes what is counted, done and in all, of metrics that take long.
        begins: takes the name of each metric before it is computed, how many were, and of how many.
    """
    protocol: dict[str, Any] = {
        "number": len(subject.images),
        **subject.origin,
        "reference": against.about,
    }
    metrics, bench = {}, Bench(subject, against, say, progress)
    names = [name for name in METRICS if name in chosen]
    for done, name in enumerate(names):
        begins(METRICS[name].name, done, len(names))
        metrics[name], how = COMPUTED[name](bench)
        protocol |= how
    return Evaluation(metrics, protocol, subject.model, bench.pictures)


def remember(found: Evaluation, trained_on: str) -> None:
    """Keep the figures of a model, below its id, for ``ddpm models``; those of more images go before those of fewer.

    Those of fewer images than a metric needs are not kept: in a list, nothing would say how little they mean.

    Kept are those beside the test images of the model's own data set alone, so that they can be compared. A folder that
    cannot be written is no reason to lose an evaluation.

    Args:
        found: what was found.
        trained_on: the data set of the model.
    """
    real = found.protocol["reference"]
    if not found.model or trained_on not in KNOWN or (real["data"], real["split"]) != (trained_on, "test"):
        return
    kept = library.evaluation(found.model)
    for name, figures in found.metrics.items():
        fewer = found.protocol["number"] < kept["protocol"].get(name, {"number": 0})["number"]
        scarce = found.protocol["number"] < METRICS[name].least
        if not ((fewer or scarce) and METRICS[name].of_images):
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
