"""What images are judged by: every metric once, with all that is told of it.

Lists, tables, pictures and messages derive from :data:`METRICS`; how a metric is computed stands below the same name in
:data:`ddpm_cli.evaluation.COMPUTED`. Invariant: no torch and no numpy, so that help can name them at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Need = Literal["window", "network"]
"""What a metric asks of real images: room for the window of SSIM, or a pinned network that knows them."""

Drawing = Literal["spread", "classes"]
"""How a metric is drawn: its ``values`` as a histogram, or its ``histogram`` over ``classes`` as bars."""


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
            exact: every digit, for programs; else in short, with how far it can be trusted.
        """
        value, real = found[self.key], found["real"][self.key]
        if value is None:
            return []
        if self.over:
            names = found[self.over]
            return [[self.name.format(n), str(a), str(b)] for n, a, b in zip(names, value, real, strict=True)]
        trust = "" if exact else self._trust(found)
        return [[self.name, self._text(value, exact) + trust, self._text(real, exact)]]

    def _text(self, value: float | None, exact: bool) -> str:
        if value is None:
            return ""
        return repr(value) if exact else f"{100 * value:.1f} %" if self.share else f"{value:.3f}"

    def _trust(self, found: Mapping[str, Any]) -> str:
        if self.interval and found[self.interval] is not None:
            low, high = ((100 if self.share else 1) * end for end in found[self.interval])
            return f" ({low:.1f} to {high:.1f})" if self.share else f" ({low:.3f} to {high:.3f})"
        error = found[self.error] if self.error else None
        return "" if error is None else f" ± {error:.3f}"


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
    drawn: Drawing | None = None
    title: str = ""
    counted: str = "images"


METRICS: dict[str, Metric] = {
    "ssim": Metric(
        name="SSIM",
        what="structural similarity with random real images, as in the report",
        better="like real images",
        headline="mean",
        figures=(
            Figure("mean", "SSIM mean", error="standard_error"),
            Figure("std", "SSIM standard deviation"),
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
            Figure("histogram", "found as {}", over="classes"),
        ),
        needs="network",
        drawn="classes",
        title="Classes found",
    ),
}


def headline(name: str) -> str:
    """The key of the figure that sums a metric up; of one that a later version may have written, ``value``."""
    return METRICS[name].headline if name in METRICS else "value"
