"""Curves as pictures: noise schedules, and the loss of a run.

Invariant: no window, no global figure, nothing written (but matplotlib's font cache, below ``ddpm``'s own), and the
same numbers give the same bytes, whatever the user's matplotlib settings; names are shown as they are, by
:func:`literal`. Matplotlib is imported on first use.
"""

import atexit
import contextlib
import functools
import io
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from ddpm_cli import paths
from ddpm_cli.config import PlotFormat
from ddpm_cli.pixels import Pixels
from ddpm_cli.printable import printable
from ddpm_cli.schedule import Schedule

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

# Okabe and Ito's palette, told apart with any colour vision; yellow is left out, too faint for a line on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHED = (0, (4, 1.6))
LARGEST = 1e200  # beyond it matplotlib's logarithmic axis overflows
FAINT, TEXT = "#C9D0D8", "#30363D"
WIDEST = 90  # characters of a title; a longer one would leave no room for the curve
FONT = "DejaVu Sans"  # comes with matplotlib, so the same everywhere
_STYLE: dict[Any, Any] = {
    "agg.path.chunksize": 10_000,  # long noisy curves overflow Agg's cell block otherwise
    "svg.hashsalt": "ddpm",  # else the ids in an SVG are random
    "pdf.fonttype": 42,  # TrueType: text can be selected and edited
    "font.size": 10,
    "mathtext.fontset": "dejavusans",
    "axes.titlesize": 11,
    "axes.titleweight": "semibold",
    "axes.titlelocation": "left",
    "axes.titlepad": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.edgecolor": "#8B949E",
    "axes.labelcolor": TEXT,
    "axes.titlecolor": TEXT,
    "text.color": TEXT,
    "xtick.color": TEXT,
    "ytick.color": TEXT,
    "grid.color": "#E6E9ED",
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.9,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.handlelength": 1.8,
    "savefig.dpi": 150,
}


class Curve(NamedTuple):
    """A noise schedule to draw; all arrays are float64 (T + 1,), index 0 is the clean end."""

    name: str
    t: Array  # levels 0..T
    betas: Array  # variance of the noise added at each step; the entry at 0 is not drawn
    abars: Array  # share of the signal's power that is left, 1 at level 0
    log_snr: Array  # ln(abar / (1 - abar)); infinite values are not drawn
    weights: Array  # of the squared error of eps in the bound; NaN at levels 0 and 1, which have none


def curve(schedule: Schedule, name: str) -> Curve:
    """A schedule to draw under a name."""
    t = np.arange(schedule.timesteps + 1, dtype=np.float64)
    return Curve(name, t, schedule.betas, schedule.abars, schedule.log_snr, schedule.bound_weights)


def schedule_figure(curves: Sequence[Curve], file_format: PlotFormat = "png") -> bytes:
    """Four panels: beta, abar, the scales of signal and noise, log-SNR; a colour per schedule.

    Schedules of unequal length share the axis t / T. Beta has a logarithmic axis where a few steps dwarf the others, as
    in the cosine schedule.

    Args:
        curves: at least one.
        file_format: ``png`` (1350 x 960 pixels), ``svg`` or ``pdf``.
    """
    with styled((9.0, 6.4), file_format) as (figure, buffer):
        (beta, abar), (scale, snr) = figure.subplots(2, 2, sharex=True)
        _draw(curves, beta=beta, abar=abar, scale=scale, snr=snr)
        for axes in (scale, snr):
            axes.set_xlabel(f"level ${level_axis(curves)[0]}$")
        figure.legend(*abar.get_legend_handles_labels(), loc="outside upper left", ncols=4, fontsize=11)
    return buffer.getvalue()


def comparison_figure(
    curves: Sequence[Curve],
    facts: Sequence[Sequence[str]],
    strip: Pixels,
    shares: Sequence[float] | Array,
    file_format: PlotFormat = "png",
) -> bytes:
    """Schedules beside each other: five panels, a table that is also the key, and an image on its way under each.

    Args:
        curves: K, at least one; a colour each.
        facts: for each abar_T, largest beta, level of half noise, share of levels with |log-SNR| of at most 5, as text.
        strip: (K, S, C, H, W) uint8, one image at S levels under each schedule.
        shares: where those levels are, S shares of T, 0..1.
        file_format: ``png`` (1650 pixels wide, higher the more curves), ``svg`` or ``pdf``.
    """
    width, panels, tile = 11.0, 6.0, 1.16  # inches
    below = 0.75 + tile * len(curves)
    with styled((width, panels + below), file_format) as (figure, buffer):
        above, strips = cast("NDArray[Any]", figure.subfigures(2, 1, height_ratios=[panels, below]))
        (beta, abar, snr), (weight, scale, key) = cast("NDArray[Any]", above.subplots(2, 3))
        _draw(curves, beta=beta, abar=abar, scale=scale, snr=snr, weight=weight)
        name, _ = level_axis(curves)
        for axes in (beta, abar, snr, weight, scale):
            axes.set_xlabel(f"level ${name}$")
        _draw_key(key, curves, facts)
        captions = [f"{share * curves[0].t[-1]:.10g}" if name == "t" else f"{share:.0%}" for share in shares]
        _draw_strip(strips.subplots(), curves, strip, captions)
    return buffer.getvalue()


def _draw(
    curves: Sequence[Curve], *, beta: "Axes", abar: "Axes", scale: "Axes", snr: "Axes", weight: "Axes | None" = None
) -> None:
    """Draw every curve into every panel."""
    from matplotlib.lines import Line2D

    _, xs = level_axis(curves)
    for k, (curve, x) in enumerate(zip(curves, xs, strict=True)):
        colour = COLOURS[k % len(COLOURS)]
        _line(beta, x[1:], curve.betas[1:], colour)
        abar.plot(x, curve.abars, color=colour, label=curve.name)
        scale.plot(x, np.sqrt(curve.abars), color=colour)
        scale.plot(x, np.sqrt(1 - curve.abars), color=colour, linestyle=DASHED)
        seen = np.isfinite(curve.log_snr)
        _line(snr, x[seen], curve.log_snr[seen], colour)
        if weight is not None:
            weighed = curve.weights < LARGEST  # not NaN, for one
            _line(weight, x[weighed], curve.weights[weighed], colour)
    if wants_log(curves):
        beta.set_yscale("log")
    else:
        beta.set_ylim(bottom=0)
    abar.set_ylim(-0.03, 1.03)
    scale.set_ylim(-0.03, 1.03)
    snr.axhline(0, color="#8B949E", linewidth=0.9, zorder=1)
    beta.set(title="Noise added at each step", ylabel=r"variance $\beta_t$")
    abar.set(title="Signal left", ylabel=r"share of power $\bar\alpha_t$")
    scale.set(title="Mixture", ylabel="standard deviation")
    snr.set(title="Signal-to-noise ratio", ylabel=r"log-SNR  $\ln\,\bar\alpha_t/(1-\bar\alpha_t)$")
    if weight is not None:
        weight.set_yscale("log")
        weight.set(title="Weight in the bound", ylabel=r"of $\|\epsilon-\epsilon_\theta\|^2$")
    for axes in filter(None, (beta, abar, scale, snr, weight)):
        axes.set_xlim(-0.015 * xs[0][-1], 1.015 * xs[0][-1])
    handles = [Line2D([], [], color=TEXT), Line2D([], [], color=TEXT, linestyle=DASHED)]
    names = (
        [r"signal $\sqrt{\bar\alpha_t}$", r"noise $\sqrt{1-\bar\alpha_t}$"] if weight is None else ["signal", "noise"]
    )
    # Above the panel, beside its title: clear of any curve.
    scale.legend(handles, names, loc="lower right", bbox_to_anchor=(1.02, 0.98), ncols=2)


def _line(axes: "Axes", x: Array, y: Array, colour: str) -> None:
    axes.plot(x, y, color=colour, marker="." if len(x) == 1 else "")  # a line through one point cannot be seen


def _draw_key(axes: "Axes", curves: Sequence[Curve], facts: Sequence[Sequence[str]]) -> None:
    """Which colour is which schedule, with its facts, as a table in an empty panel."""
    axes.set_axis_off()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    columns = (0.34, 0.52, 0.76, 1.0)
    heads = ("\n" + r"$\bar\alpha_T$", "max\n" + r"$\beta_t$", "half noise\nat $t$", "log-SNR\nwithin ±5")
    cells = [axes.text(x, 0.95, head, ha="right", fontsize=8.5) for x, head in zip(columns, heads, strict=True)]
    for k, (curve, row) in enumerate(zip(curves, facts, strict=True)):
        y, colour = 0.86 - 0.14 * k, COLOURS[k % len(COLOURS)]
        name = curve.name.replace(", ", "\n")
        cells.append(
            axes.text(-0.26, y, name, color=colour, va="center", fontsize=9, fontweight="semibold", linespacing=1)
        )
        cells += [
            axes.text(x, y, fact, ha="right", va="center", fontsize=9) for x, fact in zip(columns, row, strict=True)
        ]
    for cell in cells:
        cell.set_in_layout(False)  # the table reaches into the margin that the other panels' labels need


def _draw_strip(axes: "Axes", curves: Sequence[Curve], strip: Pixels, captions: Sequence[str]) -> None:
    """One image at growing noise, a row a schedule."""
    rows, columns, channels, height, width = strip.shape
    gap = max(1, round(0.07 * width))
    canvas = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, channels), 255, np.uint8)
    for row, column in np.ndindex(rows, columns):
        top, left = row * (height + gap), column * (width + gap)
        canvas[top : top + height, left : left + width] = np.moveaxis(strip[row, column], 0, -1)
    axes.imshow(canvas if channels == 3 else canvas.repeat(3, axis=2), interpolation="none", aspect="equal")
    axes.set_xticks([k * (width + gap) + (width - 1) / 2 for k in range(columns)], captions)
    axes.set_yticks([k * (height + gap) + (height - 1) / 2 for k in range(rows)], [curve.name for curve in curves])
    for label, k in zip(axes.get_yticklabels(), range(rows), strict=True):
        label.set(color=COLOURS[k % len(COLOURS)], fontweight="semibold")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.grid(False)
    axes.set_title(r"An image on its way, $x_t$, with the same noise under each")
    axes.set_xlabel(f"level ${level_axis(curves)[0]}$")


def loss_curve(
    steps: Sequence[int] | NDArray[Any],
    loss: Sequence[float] | NDArray[Any],
    *,
    learning_rate: Sequence[float] | NDArray[Any] | None = None,
    validation: tuple[Sequence[int], Sequence[float]] | None = None,
    steps_per_epoch: float | None = None,
    title: str = "",
    name: str = "loss",
) -> bytes:
    """The loss of a run over its steps, as a PNG: each value faint, their centered mean strong.

    The loss axis is logarithmic if the largest value is more than five times the smallest. Values that are not finite
    are left out.

    Args:
        steps: (K,) optimiser steps, increasing.
        loss: (K,) loss at those steps.
        learning_rate: (K,) drawn in a slim second panel if given.
        validation: steps and losses on held-out data, drawn as points.
        steps_per_epoch: adds an axis in epochs on top.
        title: lines above, of which as much is shown as fits; may be empty.
        name: of the loss.
    """
    x, y = np.asarray(steps, np.float64), np.asarray(loss, np.float64)
    seen = np.isfinite(y)
    heights = [3.6, 1] if learning_rate is not None else [1]
    with styled((8.0, 5.2 if learning_rate is not None else 4.4), "png") as (figure, buffer):
        from matplotlib.ticker import LogLocator

        panels = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
        main: Axes = panels[0]
        dot = "." if seen.sum() == 1 else ""  # a line through one point cannot be seen
        main.plot(x[seen], y[seen], color=FAINT, linewidth=0.8, marker=dot, label="training")
        main.plot(x[seen], _centered_mean(y[seen]), color=COLOURS[0], linewidth=2.2, label="training, mean")
        if validation is not None:
            main.plot(*validation, color=COLOURS[1], marker="o", markersize=4.5, linewidth=1.2, label="validation")
        positive = y[seen & (y > 0)]
        if len(positive) == seen.sum() > 0 and positive.max() > 5 * positive.min():
            main.set_yscale("log")
            main.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            main.yaxis.set_major_formatter("{x:g}")
            main.yaxis.set_minor_formatter("")
        main.set(title=literal_lines(title), ylabel=name)
        figure.legend(loc="outside upper right", ncols=3)
        if learning_rate is not None:
            panels[1].plot(x, np.asarray(learning_rate, np.float64), color=COLOURS[2])
            panels[1].set(ylabel="learning\nrate", ylim=(0, None))
            panels[1].ticklabel_format(axis="y", style="sci", scilimits=(0, 0), useMathText=True)
        panels[-1].set_xlabel("step")
        main.margins(x=0.015)
        if steps_per_epoch:
            rate = steps_per_epoch
            both_ways = (lambda step: np.asarray(step, float) / rate, lambda epoch: np.asarray(epoch, float) * rate)
            top = main.secondary_xaxis("top", functions=both_ways)
            top.set_xlabel("epoch")
    return buffer.getvalue()


def legend_above(axes: "Axes", columns: int) -> None:
    """Put the legend of a panel between the panel and its title, where it covers no data."""
    legend = axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 0.98), ncols=columns)
    rows = -(-len(legend.get_texts()) // columns)
    axes.set_title(axes.get_title("left"), pad=8 + 15 * rows)


def level_axis(curves: Sequence[Curve]) -> tuple[str, list[Array]]:
    """Name and values (per curve) of the horizontal axis: ``t``, or ``t/T`` if the schedules differ in length."""
    if len({len(curve.t) for curve in curves}) == 1:
        return "t", [curve.t for curve in curves]
    return "t/T", [curve.t / curve.t[-1] for curve in curves]


def wants_log(curves: Sequence[Curve]) -> bool:
    """Whether the largest beta dwarfs the typical one of some schedule: on a linear axis the others would lie at 0."""
    typical = min(float(np.median(curve.betas[1:])) for curve in curves)
    return max(float(curve.betas.max()) for curve in curves) > 10 * typical > 0


def _centered_mean(values: Array) -> Array:
    """Mean of as many values before as after each, so that a falling curve is not drawn above itself.

    (K,) -> (K,); value k is averaged with h neighbors on both sides, h at most K/50 or 5, whichever is more, and no
    more than there are on either side: the span grows from the start, and shrinks again at the end.
    """
    count = len(values)
    k = np.arange(count)
    half = np.minimum(np.minimum(k, count - 1 - k), max(5, count // 50))
    sums = np.concatenate([[0.0], np.cumsum(values)])
    means: Array = (sums[k + half + 1] - sums[k - half]) / (2 * half + 1)
    return means


@contextlib.contextmanager
def styled(inches: tuple[float, float], file_format: str) -> Iterator[tuple["Figure", io.BytesIO]]:
    """An empty figure in the house style; when the block ends, its file is in the buffer."""
    _import_matplotlib()
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # "building the font cache" is no news to the user
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # not the matplotlibrc of the user or of the current folder
        matplotlib.rcParams.update({**_STYLE, "font.family": _families()})
        figure, buffer = Figure(inches, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08)), io.BytesIO()
        FigureCanvasAgg(figure)
        yield figure, buffer
        # Neither the time nor the version of matplotlib: the same numbers give the same bytes.
        if file_format == "svg":
            figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
        elif file_format == "pdf":
            figure.savefig(buffer, format="pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None})
        else:
            full = io.BytesIO()
            figure.savefig(full, format="png", metadata={"Software": None})
            _save_small(full, buffer)


def _save_small(picture: io.BytesIO, buffer: io.BytesIO) -> None:
    """A PNG in 256 colours of its own: a third of the bytes, and no difference to be seen in lines on white."""
    from PIL import Image

    with Image.open(picture) as image:
        indexed = image.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    indexed.save(buffer, "png", optimize=True)


def literal(text: str) -> str:
    """Foreign text (a title, the name of a class) as matplotlib is to draw it: not as a formula, and without characters
    that no installed font has, which are escaped."""
    fonts = [_characters(family) for family in _families()]
    shown = "".join(c if any(ord(c) in font for font in fonts) else ascii(c)[1:-1] for c in printable(text))
    return shown.replace("$", r"\$")


def literal_lines(title: str) -> str:
    """A title of one or more lines as matplotlib is to draw it, of which as much is shown as fits."""
    return "\n".join(literal(line)[:WIDEST] for line in title.split("\n"))


# Fonts with Chinese, Japanese and Korean characters: of Linux distributions, macOS, Windows.
EASTERN = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans SC",
    "Noto Sans JP",
    "Source Han Sans SC",
    "WenQuanYi Zen Hei",
    "WenQuanYi Micro Hei",
    "Droid Sans Fallback",
    "PingFang SC",
    "Hiragino Sans",
    "Arial Unicode MS",
    "Microsoft YaHei",
    "Yu Gothic",
    "Malgun Gothic",
)


@functools.cache
def _families() -> list[str]:
    """The font that comes with matplotlib, then those of :data:`EASTERN` that are installed."""
    _import_matplotlib()
    from matplotlib.font_manager import fontManager

    installed = {font.name for font in fontManager.ttflist}
    return [FONT, *(name for name in EASTERN if name in installed)]


@functools.cache
def _characters(family: str) -> frozenset[int]:
    """The code points that a font has."""
    from matplotlib import font_manager

    return frozenset(font_manager.get_font(font_manager.findfont(family)).get_charmap())


def _import_matplotlib() -> None:
    """Import matplotlib for the first time: without the settings of the user, and with a font cache that it can write.

    It would read a backend from ``MPLBACKEND``, which Jupyter exports, and settings from ``matplotlibrc`` in the
    current folder; it would wait for one that is a pipe.
    """
    if "matplotlib" in sys.modules:
        return
    os.environ |= {"MPLBACKEND": "agg", "MATPLOTLIBRC": os.devnull, "MPLCONFIGDIR": str(_cache_folder())}
    with contextlib.chdir(paths.shipped()) if os.path.lexists("matplotlibrc") else contextlib.nullcontext():
        import matplotlib  # noqa: F401  # for its settings


def _cache_folder() -> Path:
    """A folder for matplotlib's font cache: the user's own ``MPLCONFIGDIR``, else one below ours.

    Where neither can be written, one for this process alone: left to itself, matplotlib would warn.
    """
    own = os.environ.get("MPLCONFIGDIR")
    for folder in (*([Path(own).absolute()] if own else []), paths.cache() / "matplotlib"):
        with contextlib.suppress(OSError, ValueError):
            folder.mkdir(parents=True, exist_ok=True)
            if os.access(folder, os.W_OK | os.X_OK):
                return folder
    folder = Path(tempfile.mkdtemp(prefix="ddpm-matplotlib-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
