"""Curves as text, for a terminal. Invariant: the size is the one asked for, and colour is never the only difference."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ddpm_cli.render.plots import Array, Curve, level_axis, wants_log

# plotext's name of a marker and how it looks in the key, one per schedule, the finest first; the sixth starts again.
MARKERS = (("braille", "⠶"), ("•", "•"), ("x", "x"), ("o", "o"), ("+", "+"))


def schedule_text(curves: Sequence[Curve], *, width: int = 80, height: int = 24, colour: bool = True) -> str:
    """The curves of abar (across the top), beta and log-SNR (side by side below), for one or several schedules.

    Args:
        curves: at least one.
        width: characters a line, at least 60.
        height: lines, at least 18.
        colour: False for plain text without escape sequences.

    Returns:
        ``height`` lines of at most ``width`` characters, the key first, without a final line break.
    """
    import plotext

    plotext.terminal.limit(False, False)  # the size asked for, whatever the terminal has
    figure = plotext.figure
    figure.clear()
    figure.plot_size(width, height - 1)
    figure.subplots(2, 1)
    top, below = figure.subplot(1, 1), figure.subplot(2, 1)
    top.plot_size(width, height // 2 + 1)
    below.subplots(1, 2)

    name, xs = level_axis(curves)
    later = [x[1:] for x in xs]  # level 0 has no beta and no finite log-SNR
    _panel(top, f"abar: signal left at level {name}", xs, [curve.abars for curve in curves])
    top.ruler(1, 0).lim(0, 1)
    beta = below.subplot(1, 1)
    betas = [curve.betas[1:] for curve in curves]
    if wants_log(curves):
        powers = range(math.floor(np.log10(min(b.min() for b in betas))), 1)
        _panel(beta, "beta: noise of a step", later, [np.log10(b) for b in betas])
        beta.ruler(1, 0).lim(powers[0], 0)
        beta.ruler(1, 0).ticks(list(powers), [f"1e{power}" for power in powers])
    else:
        _panel(beta, "beta: noise of a step", later, betas)
        beta.ruler(1, 0).lim(0, float(max(b.max() for b in betas)))
    _panel(below.subplot(1, 2), "log-SNR: ln(abar / (1 - abar))", later, [curve.log_snr[1:] for curve in curves])
    plot: str = figure.build().string(colorless=not colour)
    figure.clear()
    key = "   ".join(f"{MARKERS[k % len(MARKERS)][1]} {curve.name}" for k, curve in enumerate(curves))
    return f"{key.center(width).rstrip()}\n{plot.rstrip()}"


def _panel(axes: Any, title: str, xs: Sequence[Array], ys: Sequence[Array]) -> None:
    """Draw one line per schedule, over an axis from 0 to the last level."""
    axes.theme("simple")
    axes.canvas("default")  # the terminal's own background
    axes.title(title)
    for k, (x, y) in enumerate(zip(xs, ys, strict=True)):
        seen = np.isfinite(y)
        axes.draw(axes.signal(x[seen].tolist(), y[seen].tolist(), marker=MARKERS[k % len(MARKERS)][0]).lines())
    ticks = np.linspace(0, xs[0][-1], 5).tolist()
    axes.ruler(0, 0).ticks(ticks, [f"{tick:g}" for tick in ticks])
