"""Curves as text, for a terminal. Invariant: the size is the one asked for, and colour is never the only difference."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ddpm_cli.render.plots import Array, Curve, level_axis, wants_log

# plotext's name of a marker and how it looks in the key, one a schedule, the finest first; seven, as there are kinds.
MARKERS = (("braille", "⠶"), ("•", "•"), ("x", "x"), ("o", "o"), ("+", "+"), ("*", "*"), ("#", "#"))

FRAME = 4  # lines of a panel that are no curve: title, frame above and below, numbers


def schedule_text(
    curves: Sequence[Curve],
    *,
    width: int = 80,
    height: int = 24,
    colour: bool = True,
    weights: bool = False,
    key: bool = True,
) -> str:
    """The curves of abar (at the top), beta and log-SNR (side by side below), for one or several schedules.

    Args:
        curves: at least one.
        width: characters a line, at least 60.
        height: lines, at least 18; without the key 16.
        colour: False for plain text without escape sequences.
        weights: whether the weight of the bound stands beside abar.
        key: whether it begins with which marker is which schedule; else :func:`marker_of` tells.

    Returns:
        ``height`` lines of at most ``width`` characters, without a final line break.
    """
    import plotext

    plotext.terminal.limit(False, False)  # the size asked for, whatever the terminal has
    figure = plotext.figure
    figure.clear()
    first = _key(curves, width) if key else []
    height -= len(first)
    upper = height // 2 if weights else (height + 1) // 2 + 1  # a panel alone is worth a line more
    figure.plot_size(width, height)
    figure.subplots(2, 1)
    top, below = figure.subplot(1, 1), figure.subplot(2, 1)
    top.plot_size(width, upper)
    if weights:
        top.subplots(1, 2)
    below.subplots(1, 2)

    name, xs = level_axis(curves)
    later = [x[1:] for x in xs]  # level 0 has no beta and no finite log-SNR
    abar = top.subplot(1, 1) if weights else top
    _panel(abar, f"abar: signal left at level {name}", xs, [curve.abars for curve in curves])
    _scale(abar, 0, 1, upper - FRAME)
    if weights:
        _decades(top.subplot(1, 2), "weight in the bound", later, [curve.weights[1:] for curve in curves], upper)
    beta = below.subplot(1, 1)
    betas = [curve.betas[1:] for curve in curves]
    if wants_log(curves):
        _decades(beta, "beta: noise of a step", later, betas, height - upper)
    else:
        _panel(beta, "beta: noise of a step", later, betas)
        _scale(beta, 0, float(max(b.max() for b in betas)), height - upper - FRAME)
    snr = below.subplot(1, 2)
    ratios = [curve.log_snr[1:] for curve in curves]
    _panel(snr, "log-SNR: ln(abar / (1 - abar))", later, ratios)
    finite = np.concatenate([ratio[np.isfinite(ratio)] for ratio in ratios])
    _scale(snr, float(finite.min()), float(finite.max()), height - upper - FRAME)
    plot: str = figure.build().string(colorless=not colour)
    figure.clear()
    return "\n".join([*first, plot.rstrip()])


def marker_of(k: int) -> str:
    """How the curve of schedule k looks."""
    return MARKERS[k % len(MARKERS)][1]


def _key(curves: Sequence[Curve], width: int) -> list[str]:
    """Which marker is which schedule, on as few centred lines as hold it."""
    lines: list[str] = []
    for k, curve in enumerate(curves):
        entry = f"{marker_of(k)} {curve.name}"
        if lines and len(lines[-1]) + 3 + len(entry) <= width:
            lines[-1] += f"   {entry}"
        else:
            lines.append(entry)
    return [line.center(width).rstrip() for line in lines]


def _decades(axes: Any, title: str, xs: Sequence[Array], ys: Sequence[Array], lines: int) -> None:
    """A panel so many lines high with a logarithmic axis over whole powers of ten; what is not finite is not drawn."""
    logs = [np.log10(y) for y in ys]
    _panel(axes, title, xs, logs)
    seen = np.concatenate([log[np.isfinite(log)] for log in logs])
    if len(seen) == 0:  # a schedule of one step has no weight
        axes.ruler(1, 0).ticks([], [])
        return
    low, high = math.floor(seen.min()), max(math.ceil(seen.max()), math.floor(seen.min()) + 1)
    step = math.ceil((high - low) / (lines - FRAME - 1))
    low -= (low - high) % step
    powers = range(low, high + 1, step)
    axes.ruler(1, 0).lim(low, high)
    axes.ruler(1, 0).ticks(list(powers), [f"1e{power}" for power in powers])


def _scale(axes: Any, low: float, high: float, rows: int) -> None:
    """An axis from low to high with round numbers beside it, no more than its rows have room for."""
    if low == high:
        return
    axes.ruler(1, 0).lim(low, high)
    least = (high - low) / min(rows - 1, 5)
    ten = 10.0 ** math.floor(math.log10(least))
    step = next(digit * ten for digit in (1, 2, 5, 10) if digit * ten >= 0.999 * least)
    ticks = [step * k for k in range(math.ceil(low / step), math.floor(high / step + 1e-9) + 1)]
    axes.ruler(1, 0).ticks(ticks, [f"{tick:.4g}" for tick in ticks])


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
