"""What an evaluation found, as a picture: how values are spread, and how many images each class got.

Invariant: what was judged and what real images get stand side by side, on one scale.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from ddpm_cli.config import PlotFormat
from ddpm_cli.measures import METRICS, Drawing, Metric
from ddpm_cli.pixels import Pixels
from ddpm_cli.render.plots import COLOURS, DASHED, TEXT, legend_above, literal, literal_lines, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GENERATED, REAL = COLOURS[0], COLOURS[1]


def scores_figure(
    metrics: Mapping[str, Any],
    title: str,
    file_format: PlotFormat = "png",
    pictures: Mapping[str, Pixels] = MappingProxyType({}),
) -> bytes:
    """A panel for each metric that has something to draw.

    Args:
        metrics: the figures of an evaluation, by metric.
        title: what was evaluated, in lines.
        file_format: ``png``, ``svg`` or ``pdf``.
        pictures: pairs of images by the name of their metric, uint8 (2, n, C, H, W).
    """
    panels = [
        (METRICS[name], {**found, "pairs": pictures.get(name)})
        for name, found in metrics.items()
        if METRICS[name].drawn is not None
    ]
    with styled((max(6.4, 5.2 * len(panels)), 4.4), file_format) as (figure, buffer):
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for panel, (metric, found) in zip(axes, panels, strict=True):
            if metric.drawn is not None:
                DRAWN[metric.drawn](panel, metric, found)
        figure.suptitle(literal_lines(title), x=0.02, ha="left", fontsize=10, color=TEXT)
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
    legend_above(axes, columns=1)


def _classes(axes: "Axes", metric: Metric, found: Mapping[str, Any]) -> None:
    """How many images each class got."""
    classes: Sequence[str] = found["classes"]
    places = np.arange(len(classes))
    for shift, each, colour, name in ((-0.2, found, GENERATED, "judged"), (0.2, found["real"], REAL, "real")):
        right = each[metric.headline]
        share = "" if right is None else f": {100 * right:.1f} % as asked"
        axes.bar(places + shift, each["histogram"], 0.4, color=colour, alpha=0.75, label=f"{name}{share}")
    long = max(map(len, classes)) > 3
    axes.set_xticks(places, [*map(literal, classes)], rotation=40 if long else 0, ha="right" if long else "center")
    axes.set(title=metric.title, ylabel=metric.counted)
    axes.grid(axis="x", visible=False)
    legend_above(axes, columns=1)


def _pairs(axes: "Axes", metric: Metric, found: Mapping[str, Any]) -> None:
    """Each image with its partner beneath it, from the closest pair on."""
    axes.set(title=metric.title)
    axes.axis("off")
    if found["pairs"] is None:
        return
    count = found["pairs"].shape[1]
    half = -(-count // 2)  # two rows of pairs fill the panel better than one
    rows = [pairs for start in (0, half) for pairs in found["pairs"][:, start : start + half]]
    blank = np.full_like(rows[0][:1], 255)
    strips = [np.concatenate([*row, *[blank[0]] * (half - len(row))], axis=2) for row in rows]
    gap = np.full_like(strips[0][:, :2], 255)
    sheet = np.concatenate([strips[0], strips[1], gap, strips[2], strips[3]], axis=1).transpose(1, 2, 0)
    axes.imshow(sheet.repeat(3, 2) if sheet.shape[2] == 1 else sheet, interpolation="nearest")
    share = "none is a copy" if not found["copied"] else f"{100 * found['copied']:.1f} % are copies"
    axes.text(
        0, -0.04, f"the {count} closest of all; {share}", transform=axes.transAxes, va="top", fontsize=9, color=TEXT
    )


def _terms(axes: "Axes", metric: Metric, found: Mapping[str, Any]) -> None:
    """One term a level, on a scale of powers: they fall over many orders of magnitude."""
    levels = found["levels"]
    places = [(each["first"] + each["last"]) / 2 for each in levels]
    terms = [each["term"] for each in levels]
    axes.plot(places, terms, "o-", markersize=3.5, color=GENERATED, label=r"$L_{t-1}$, a level")
    axes.plot([1], [found["decoder"]], "D", color=REAL, label="$L_0$")
    axes.axhline(found["prior"], color=COLOURS[2], linestyle=DASHED, linewidth=1.4, label="$L_T$")
    axes.set(title=metric.title, xlabel="level t", ylabel="bits per dimension", xscale="log", yscale="log")
    legend_above(axes, columns=3)


def sweep_figure(
    trials: Sequence[Mapping[str, Any]],
    front: Sequence[Mapping[str, Any]],
    real: float | None,
    title: str,
    file_format: PlotFormat = "png",
) -> bytes:
    """Quality against network evaluations: all that finished, and the line of those that nobody beats in both.

    Args:
        trials: what a sweep found, as :func:`ddpm_cli.evaluation.sweep.document` tells it.
        front: those on the line.
        real: Fréchet distance of as many real images; None: not known.
        title: what was tried.
        file_format: ``png``, ``svg`` or ``pdf``.
    """
    finished = [each for each in trials if each["finished"] and math.isfinite(each["frechet"]["value"])]
    methods = sorted({each["sampler"] for each in finished})
    with styled((7.2, 4.6), file_format) as (figure, buffer):
        axes = figure.subplots()
        places, values = ([each["evaluations"] for each in front], [each["frechet"]["value"] for each in front])
        axes.plot(places, values, color=TEXT, linewidth=1.2, alpha=0.5, label="best of all")
        for number, method in enumerate(methods):
            mine = [each for each in finished if each["sampler"] == method]
            middle = [each["frechet"]["value"] for each in mine]
            reach = [
                [value - each["frechet"]["interval"][0] for value, each in zip(middle, mine, strict=True)],
                [each["frechet"]["interval"][1] - value for value, each in zip(middle, mine, strict=True)],
            ]
            # A little apart, so that equal evaluations do not hide one another.
            shift = 1 + 0.02 * (number - (len(methods) - 1) / 2)
            axes.errorbar(
                [shift * each["evaluations"] for each in mine],
                middle,
                reach,
                fmt="osD^vP*X<"[number % 9],
                color=COLOURS[number % len(COLOURS)],
                capsize=3,
                label=method,
            )
        if real is not None:
            axes.axhline(real, color=TEXT, linestyle=DASHED, linewidth=1.4, label="real images")
        spent = sorted({each["evaluations"] for each in finished})
        # Where two are too near to be written side by side, the larger one is.
        ticks = [here for here, after in pairwise([*spent, math.inf]) if after > 1.15 * here]
        highest = max((each["frechet"]["value"] for each in finished), default=1.0)
        top = min(1.8 * highest, 1.1 * max((each["frechet"]["interval"][1] for each in finished), default=1.0))
        axes.set(xlabel="network evaluations an image", ylabel="Fréchet distance", xscale="log", ylim=(0, top))
        axes.set_xticks(ticks, map(str, ticks))
        axes.minorticks_off()
        axes.margins(x=0.1)
        images = max(each["images"] for each in trials)
        axes.set_title(f"Methods of sampling, {literal(title)}, {images:,} images", fontsize=10)
        figure.legend(loc="outside right upper")  # beside: intervals are as high as the axes
    return buffer.getvalue()


DRAWN: dict[Drawing, Callable[["Axes", Metric, Mapping[str, Any]], None]] = {
    "spread": _spread,
    "classes": _classes,
    "pairs": _pairs,
    "terms": _terms,
}
