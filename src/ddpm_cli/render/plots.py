"""Curves as pictures: noise schedules, and the loss of a run.

Invariant: no window, no global figure, nothing written (but matplotlib's font cache, below ``ddpm``'s own), and the
same numbers give the same bytes, whatever the user's matplotlib settings. Matplotlib is imported on first use.
"""

import atexit
import contextlib
import io
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ddpm_cli import paths

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

# Okabe and Ito's palette, told apart with any colour vision; yellow is left out, too faint for a line on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHED = (0, (4, 1.6))
FAINT, TEXT = "#C9D0D8", "#30363D"
_STYLE: dict[Any, Any] = {
    "agg.path.chunksize": 10_000,  # long noisy curves overflow Agg's cell block otherwise
    "svg.hashsalt": "ddpm",  # else the ids in an SVG are random
    "font.family": "DejaVu Sans",  # comes with matplotlib, so the same everywhere
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


def schedule_figure(curves: Sequence[Curve], file_format: Literal["png", "svg"] = "png") -> bytes:
    """Four panels: beta, abar, the scales of signal and noise, log-SNR; a colour per schedule.

    Schedules of unequal length share the axis t / T. Beta has a logarithmic axis where a few steps dwarf the others, as
    in the cosine schedule.

    Args:
        curves: at least one.
        file_format: ``png`` (1350 x 960 pixels) or ``svg``.
    """
    with styled((9.0, 6.4), file_format) as (figure, buffer):
        from matplotlib.lines import Line2D

        (beta, abar), (scale, snr) = figure.subplots(2, 2, sharex=True)
        x_label, xs = level_axis(curves)
        for k, (curve, x) in enumerate(zip(curves, xs, strict=True)):
            colour = COLOURS[k % len(COLOURS)]
            beta.plot(x[1:], curve.betas[1:], color=colour)
            abar.plot(x, curve.abars, color=colour, label=curve.name)
            scale.plot(x, np.sqrt(curve.abars), color=colour)
            scale.plot(x, np.sqrt(1 - curve.abars), color=colour, linestyle=DASHED)
            seen = np.isfinite(curve.log_snr)
            snr.plot(x[seen], curve.log_snr[seen], color=colour)
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
        for axes in (scale, snr):
            axes.set_xlabel(f"level ${x_label}$")
            axes.margins(x=0.015)
        handles = [Line2D([], [], color=TEXT), Line2D([], [], color=TEXT, linestyle=DASHED)]
        names = [r"signal $\sqrt{\bar\alpha_t}$", r"noise $\sqrt{1-\bar\alpha_t}$"]
        # Above the panel, beside its title: clear of any curve.
        scale.legend(handles, names, loc="lower right", bbox_to_anchor=(1.02, 0.98), ncols=2)
        figure.legend(loc="outside upper left", ncols=4, fontsize=11)
    return buffer.getvalue()


def loss_curve(
    steps: Sequence[int] | NDArray[Any],
    loss: Sequence[float] | NDArray[Any],
    *,
    learning_rate: Sequence[float] | NDArray[Any] | None = None,
    validation: tuple[Sequence[int], Sequence[float]] | None = None,
    steps_per_epoch: float | None = None,
    title: str = "",
) -> bytes:
    """The loss of a run over its steps, as a PNG: each value faint, their running mean strong.

    The loss axis is logarithmic if the largest value is more than five times the smallest. Values that are not finite
    are left out.

    Args:
        steps: (K,) optimiser steps, increasing.
        loss: (K,) loss at those steps.
        learning_rate: (K,) drawn in a slim second panel if given.
        validation: steps and losses on held-out data, drawn as points.
        steps_per_epoch: adds an axis in epochs on top.
        title: a line above; may be empty.
    """
    x, y = np.asarray(steps, np.float64), np.asarray(loss, np.float64)
    seen = np.isfinite(y)
    heights = [3.6, 1] if learning_rate is not None else [1]
    with styled((8.0, 5.2 if learning_rate is not None else 4.4), "png") as (figure, buffer):
        from matplotlib.ticker import LogLocator

        panels = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
        main: Axes = panels[0]
        dot = "." if seen.sum() == 1 else ""  # a line through one point cannot be seen
        main.plot(x[seen], y[seen], color=FAINT, linewidth=0.8, marker=dot, label="as logged")
        main.plot(x[seen], _running_mean(y[seen]), color=COLOURS[0], linewidth=2.2, label="running mean")
        if validation is not None:
            main.plot(*validation, color=COLOURS[1], marker="o", markersize=4.5, linewidth=1.2, label="validation")
        positive = y[seen & (y > 0)]
        if len(positive) == seen.sum() > 0 and positive.max() > 5 * positive.min():
            main.set_yscale("log")
            main.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            main.yaxis.set_major_formatter("{x:g}")
            main.yaxis.set_minor_formatter("")
        main.set(title=title, ylabel="loss")
        main.legend(loc="upper right", frameon=True, framealpha=0.85, edgecolor="none")
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


def level_axis(curves: Sequence[Curve]) -> tuple[str, list[Array]]:
    """Name and values (per curve) of the horizontal axis: ``t``, or ``t/T`` if the schedules differ in length."""
    if len({len(curve.t) for curve in curves}) == 1:
        return "t", [curve.t for curve in curves]
    return "t/T", [curve.t / curve.t[-1] for curve in curves]


def wants_log(curves: Sequence[Curve]) -> bool:
    """Whether the largest beta dwarfs the typical one of some schedule: on a linear axis the others would lie at 0."""
    typical = min(float(np.median(curve.betas[1:])) for curve in curves)
    return max(float(curve.betas.max()) for curve in curves) > 10 * typical > 0


def _running_mean(values: Array) -> Array:
    """Exponential mean whose span grows with the run, so that it neither lags at the start nor trembles at the end.

    (K,) -> (K,); value k is averaged over a span of 1 + k/10, at most K/50 or 10, whichever is more.
    """
    means, mean = np.empty_like(values), 0.0
    for k, value in enumerate(values):
        mean += (value - mean) / min(1 + k / 10, max(10.0, len(values) / 50))
        means[k] = mean
    return means


@contextlib.contextmanager
def styled(inches: tuple[float, float], file_format: str) -> Iterator[tuple["Figure", io.BytesIO]]:
    """An empty figure in the house style; when the block ends, its file is in the buffer."""
    _keep_to_own_folder()
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # "building the font cache" is no news to the user
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # not the matplotlibrc of the user or of the current folder
        matplotlib.rcParams.update(_STYLE)
        figure, buffer = Figure(inches, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08)), io.BytesIO()
        FigureCanvasAgg(figure)
        yield figure, buffer
        # Neither the time nor the version of matplotlib: the same numbers give the same bytes.
        nothing = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}[file_format]
        figure.savefig(buffer, format=file_format, metadata=nothing)


def _keep_to_own_folder() -> None:
    """Before matplotlib's first import, send its font cache below ours; a user's own ``MPLCONFIGDIR`` wins.

    Where ours cannot be written, a folder for this process alone: left to itself, matplotlib would warn.
    """
    if "MPLCONFIGDIR" in os.environ or "matplotlib" in sys.modules:
        return
    folder = paths.cache() / "matplotlib"
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        folder = Path(tempfile.mkdtemp(prefix="ddpm-matplotlib-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["MPLCONFIGDIR"] = str(folder)
