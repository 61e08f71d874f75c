"""What an evaluation found, as a picture: how values are spread, and how many images each class got.

Invariant: what was judged and what real images get stand side by side, on one scale.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ddpm_cli.measures import METRICS, Drawing, Metric
from ddpm_cli.render.plots import COLOURS, DASHED, TEXT, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GENERATED, REAL = COLOURS[0], COLOURS[1]


def scores_figure(metrics: Mapping[str, Any], title: str, file_format: Literal["png", "svg"] = "png") -> bytes:
    """A panel for each metric that has something to draw.

    Args:
        metrics: the figures of an evaluation, by metric.
        title: what was judged, in a line.
        file_format: ``png`` or ``svg``.
    """
    panels = [(METRICS[name], found) for name, found in metrics.items() if METRICS[name].drawn is not None]
    with styled((max(6.4, 5.2 * len(panels)), 4.4), file_format) as (figure, buffer):
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for panel, (metric, found) in zip(axes, panels, strict=True):
            if metric.drawn is not None:
                DRAWN[metric.drawn](panel, metric, found)
        figure.suptitle(title, x=0.02, ha="left", fontsize=10, color=TEXT)
    return buffer.getvalue()


def _spread(axes: "Axes", metric: Metric, found: Mapping[str, Any]) -> None:
    """How the values of single images or pairs are spread."""
    values, real = np.array(found["values"]), np.array(found["real"]["values"])
    low, high = min(values.min(), real.min()), max(values.max(), real.max())
    bins = np.linspace(low, max(high, low + 1e-6), 25)
    # One filled, one a line: both can be seen where they overlap.
    axes.hist(values, bins.tolist(), color=GENERATED, alpha=0.55, label=f"judged with real: mean {values.mean():.3f}")
    told = f"real with real: mean {real.mean():.3f}"
    axes.hist(real, bins.tolist(), color=REAL, histtype="step", linewidth=1.6, label=told)
    for each, colour in ((values, GENERATED), (real, REAL)):
        axes.axvline(each.mean(), color=colour, linewidth=1.4, linestyle=DASHED)
    axes.set(title=metric.title, xlabel=metric.name, ylabel=metric.counted)
    axes.set_ylim(0, 1.22 * axes.get_ylim()[1])  # room for the key
    axes.legend(loc="upper right")


def _classes(axes: "Axes", metric: Metric, found: Mapping[str, Any]) -> None:
    """How many images each class got."""
    classes: Sequence[str] = found["classes"]
    places = np.arange(len(classes))
    for shift, each, colour, name in ((-0.2, found, GENERATED, "judged"), (0.2, found["real"], REAL, "real")):
        right = each[metric.headline]
        share = "" if right is None else f": {100 * right:.1f} % as asked"
        axes.bar(places + shift, each["histogram"], 0.4, color=colour, alpha=0.75, label=f"{name}{share}")
    long = max(map(len, classes)) > 3
    axes.set_xticks(places, classes, rotation=40 if long else 0, ha="right" if long else "center")
    axes.set(title=metric.title, ylabel=metric.counted)
    axes.set_ylim(0, 1.22 * axes.get_ylim()[1])
    axes.grid(axis="x", visible=False)
    axes.legend(loc="upper right", ncols=2)


DRAWN: dict[Drawing, Callable[["Axes", Metric, Mapping[str, Any]], None]] = {"spread": _spread, "classes": _classes}
