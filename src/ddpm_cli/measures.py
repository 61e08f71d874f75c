"""What images are judged by: every metric once, with all that is told of it.

Lists, tables, pictures and messages derive from :data:`METRICS`; how a metric is computed stands below the same name in
:data:`ddpm_cli.evaluation.COMPUTED`. Invariant: no torch and no numpy, so that help can name them at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Need = Literal["window", "network", "classifier", "training"]
"""What a metric asks of real images: room for the window of SSIM, a network that sees features in them, one that knows
their classes too, or the training images of their set."""

Drawing = Literal["spread", "classes", "pairs", "terms"]
"""How a metric is drawn: its ``values`` as a histogram, its ``histogram`` over ``classes`` as bars, as the pairs of
images that an evaluation found, or its ``levels`` as a curve over t."""

MANY = 2000  # images from which on distances of sets tell more than the luck of the draw


@dataclass(frozen=True)
class Figure:
    """A number of a metric, which is a row of the table.

    Attributes:
        key: where it stands among the metric's figures, and among those of real images.
        name: for people; where there are many, with {} for the name of each.
        share: whether it is a share of 1, shown in percent.
        error: key of its standard error; empty: it has none.
        interval: key of the ends between which it lies with 95 % confidence; empty: it has none.
        over: key of the names that it is a list over, a row each; empty: it is one number.
    """

    key: str
    name: str
    share: bool = False
    error: str = ""
    interval: str = ""
    over: str = ""

    def rows(self, found: Mapping[str, Any], exact: bool) -> list[list[str]]:
        """Name, value, and that of real images, as text; none where there is no value.

        Args:
            found: the metric's figures.
            exact: six digits, for programs, with its standard error and the ends of its interval in three more
                columns, empty where it has none; else in short, with how far it can be trusted.
        """
        value, real = found[self.key], found["real"][self.key]
        if value is None:
            return []
        if self.over:
            more = [""] * 3 if exact else []
            each = zip(found[self.over], value, real, strict=True)
            return [[self.name.format(name), str(one), str(other), *more] for name, one, other in each]
        if not exact:
            return [[self.name, self._text(value, exact) + self._trust(found), self._text(real, exact)]]
        error = found[self.error] if self.error else None
        trust = (error, *((found[self.interval] if self.interval else None) or (None, None)))
        return [[self.name, *(self._text(each, exact) for each in (value, real, *trust))]]

    def _text(self, value: float | None, exact: bool) -> str:
        if value is None:
            return ""
        return f"{value:.6g}" if exact else f"{100 * value:.1f} %" if self.share else _short(value)

    def _trust(self, found: Mapping[str, Any]) -> str:
        if self.interval and found[self.interval] is not None:
            low, high = ((100 if self.share else 1) * end for end in found[self.interval])
            return f" ({low:.1f} to {high:.1f})" if self.share else f" ({_short(low)} to {_short(high)})"
        error = found[self.error] if self.error else None
        return "" if error is None else f" ± {_short(error)}"


def _short(value: float) -> str:
    """Three digits after the point, and as many more as a small number needs to show two of its own."""
    return f"{value:.3f}" if value == 0 or abs(value) >= 0.01 else f"{value:.2g}"


@dataclass(frozen=True)
class Metric:
    """A way to judge images.

    Attributes:
        name: for people.
        what: it is, in a line.
        better: which values are: higher ones, lower ones, or those nearest to what real images get.
        headline: key of the figure that sums it up.
        figures: rows of the table.
        needs: of the real images; None: nothing.
        least: images from which on it is computed unasked; asked for, it is with fewer too, and warns.
        unasked: whether it ever is.
        of_images: whether it looks at images that a model draws, or else at the model alone.
        fewest: images, judged and real, without which it has no value.
        drawn: how; None: not at all.
        title: of its picture.
        counted: what its picture counts.
    """

    name: str
    what: str
    better: Literal["higher", "lower", "like real images"]
    headline: str
    figures: tuple[Figure, ...]
    needs: Need | None = None
    least: int = 1
    unasked: bool = True
    of_images: bool = True
    fewest: int = 1
    drawn: Drawing | None = None
    title: str = ""
    counted: str = "images"


# What others call them.
OTHER_NAMES = {
    "fid": "frechet",
    "fd": "frechet",
    "kid": "kernel",
    "mmd": "kernel",
    "precision": "overlap",
    "recall": "overlap",
    "coverage": "overlap",
    "accuracy": "labels",
    "entropy": "labels",
    "memorisation": "neighbours",
    "memorization": "neighbours",
    "bpd": "nll",
    "likelihood": "nll",
    "elbo": "nll",
}

METRICS: dict[str, Metric] = {
    "ssim": Metric(
        name="SSIM",
        what="structural similarity with random real images, as in the report",
        better="like real images",
        headline="mean",
        figures=(
            Figure("mean", "SSIM mean", error="standard_error"),
            Figure("std", "SSIM standard deviation"),
            Figure("nearest", "SSIM with the nearest real"),
        ),
        needs="window",
        drawn="spread",
        title="Structural similarity of random pairs",
        counted="pairs",
    ),
    "labels": Metric(
        name="labels",
        what="the classes that a pinned classifier finds: accuracy, confidence, histogram",
        better="higher",
        headline="accuracy",
        figures=(
            Figure("accuracy", "label accuracy", share=True, interval="interval"),
            Figure("confidence", "confidence", share=True),
            Figure("entropy", "entropy of the classes, bits"),
            Figure("histogram", "found as {}", over="classes"),
        ),
        needs="classifier",
        drawn="classes",
        title="Classes found",
    ),
    "background": Metric(
        name="background",
        what="share of pixels that are background",
        better="like real images",
        headline="share",
        figures=(Figure("share", "background", share=True, interval="interval"),),
    ),
    "frechet": Metric(
        name="Fréchet",
        what="Fréchet distance of features: quality and diversity in one; beside it that of as many real images",
        better="lower",
        headline="value",
        figures=(Figure("value", "Fréchet distance", interval="interval"),),
        needs="network",
        least=MANY,
        fewest=2,
    ),
    "kernel": Metric(
        name="kernel",
        what="kernel distance of features: as the Fréchet distance, unbiased for any number",
        better="lower",
        headline="value",
        figures=(Figure("value", "kernel distance", error="error"),),
        needs="network",
        least=MANY,
        fewest=3,
    ),
    "overlap": Metric(
        name="overlap",
        what="precision, recall and coverage of features: whether all look real, and all that is real is there",
        better="higher",
        headline="coverage",
        figures=(
            Figure("precision", "precision", share=True),
            Figure("recall", "recall", share=True),
            Figure("coverage", "coverage", share=True),
        ),
        needs="network",
        least=MANY,
        fewest=6,
    ),
    "neighbours": Metric(
        name="neighbours",
        what="nearest training images, pixel by pixel: whether samples are copies of them",
        better="like real images",
        headline="copied",
        figures=(
            Figure("copied", "copies of training images", share=True, interval="interval"),
            Figure("distance", "distance to the nearest, grey levels"),
        ),
        needs="training",
        least=MANY,
        drawn="pairs",
        title="Judged, and the nearest training image",
    ),
    "nll": Metric(
        name="bits per dimension",
        what="the variational bound on the negative log-likelihood of real images, term by term; of models alone",
        better="lower",
        headline="total",
        figures=(
            Figure("total", "bits per dimension, at most", error="error"),
            Figure("prior", "of these L_T"),
            Figure("steps", "of these the sum of L_1 to L_T-1"),
            Figure("decoder", "of these L_0"),
        ),
        unasked=False,
        of_images=False,
        drawn="terms",
        title="Terms of the bound",
    ),
}


def headline(name: str) -> str:
    """The key of the figure that sums a metric up; of one that a later version may have written, ``value``."""
    return METRICS[name].headline if name in METRICS else "value"
