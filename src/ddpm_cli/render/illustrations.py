"""Pictures that explain: a density on its way to noise and back, and the true posterior beside the model's.

Invariant: as in :mod:`ddpm_cli.render.plots`, whose style they share: no window, no global figure, nothing written, and
the same numbers give the same bytes. Matplotlib is imported on first use.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ddpm_cli.noising import Flow, Jump, Moment
from ddpm_cli.pixels import Pixels, to_uint8
from ddpm_cli.render.plots import COLOURS, DASHED, FAINT, TEXT, Array, literal, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# --- one dimension --------------------------------------------------------------------------------------------------


def density_figure(flow: Flow, title: str) -> bytes:
    """Two rows, from level 0 at the left to T at the right, as a PNG of 1500 x 1080 pixels.

    Above, the exact p_t with paths of the chain in front, between p_0 and p_T. Below, the way back with the exact
    score: what density the samples have, between what they end as, beside p_0, and what they start as, beside N(0, 1).

    Args:
        flow: the numbers.
        title: which schedule it is.
    """
    x = flow.x
    normal = np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
    width = x[1] - x[0]
    edges = np.append(x - width / 2, x[-1] + width / 2)
    with styled((10.0, 7.2), "png") as (figure, buffer):
        (clean, way, noise), (ends, back, start) = figure.subplots(
            2, 3, sharey=True, gridspec_kw={"width_ratios": (1, 4.6, 1)}
        )
        figure.suptitle(title, x=0.012, ha="left", fontsize=12, fontweight="semibold", color=TEXT)
        _heat(way, flow, flow.exact, flow.there)
        _heat(back, flow, flow.found, flow.back)
        way.set_title(r"Noising: the density $p_t(x)$, and paths of the chain $\rightarrow$")
        back.set_title(rf"$\leftarrow$ Denoising with the exact score: {len(flow.ends):,} samples", loc="right")
        for axes, samples in ((ends, flow.ends), (start, flow.start)):
            axes.hist(samples, edges[::2], density=True, orientation="horizontal", color=COLOURS[0], alpha=0.35)
        for axes, values, style, name in (
            (clean, flow.exact[0], "-", "$p_0$"),
            (noise, flow.exact[-1], "-", "$p_T$"),
            (noise, normal, DASHED, "N(0, 1)"),
            (ends, flow.exact[0], "-", "$p_0$"),
            (start, normal, DASHED, "N(0, 1)"),
        ):
            axes.plot(values, x, color=COLOURS[1] if style == DASHED else COLOURS[0], linestyle=style, label=name)
        for axes, name in ((clean, "data"), (noise, "noise"), (ends, "where they end"), (start, "where they start")):
            axes.set(xlabel=name, xticks=[], xlim=(0, None))
            axes.grid(False)
            axes.legend(loc="lower center", fontsize=8.5, handlelength=1.4, borderpad=0.1)
        for axes in (clean, ends):
            axes.invert_xaxis()  # both sides rise away from the middle
            axes.spines[["left", "right"]].set_visible(False)
            axes.set_ylabel("$x$")
        back.set_xlabel("level $t$")
        clean.set_ylim(edges[0], edges[-1])
    return buffer.getvalue()


def _heat(axes: "Axes", flow: Flow, density: Array, paths: Array) -> None:
    """A density over time, dark where it is high, with paths in front."""
    from matplotlib.colors import PowerNorm

    width = flow.x[1] - flow.x[0]
    # Below a square root the wide low bumps at the noisy end are seen beside the narrow high ones of the data.
    norm = PowerNorm(0.5, 0, float(flow.exact.max()))
    half = float(flow.times[-1]) / (2 * (len(flow.times) - 1))  # of a column, so that each is centred on its level
    extent = (-half, float(flow.times[-1]) + half, flow.x[0] - width / 2, flow.x[-1] + width / 2)
    axes.imshow(density.T, cmap="Blues", norm=norm, origin="lower", extent=extent, aspect="auto")
    axes.plot(flow.times, paths.T, color=COLOURS[1], linewidth=0.8, alpha=0.75)
    axes.grid(False)
    axes.set_xlim(0, flow.times[-1])


# --- the true posterior beside the model's ---------------------------------------------------------------------------


ROWS = ("one step", "half the way at once")
LONGEST = 12  # characters of the name of a model in the title, which the legend is next to
CAPTION = (
    "The true posterior $q$ knows $x_0$. The model's $p_\\theta$ puts its own estimate $\\hat x_0$ in its place: the "
    "same variance, another mean.\n"
    "In one step that hardly shifts the mean, so many small steps go right. Half the way at once, the error of "
    "$\\hat x_0$ shows."
)


def posterior_figure(
    x_0: Array, moments: Sequence[Moment], pixel: tuple[int, int], source: str, model: str = ""
) -> bytes:
    """The true posterior q(x_s | x_t, x_0) beside p_theta(x_s | x_t), for one pixel, as a PNG.

    A column per level t, with the noisy image and the model's estimate on top; a row for s = t - 1 and one for half the
    way at once.

    Args:
        x_0: the clean image, (C, H, W) in [-1, 1].
        moments: at least one.
        pixel: row and column of the pixel.
        source: which image and which model it is, a sentence.
        model: its name, for the title, which shows as much of it as fits; may be empty.
    """
    with styled((max(9.2, 2.2 + 2.9 * len(moments)), 8.2), "png") as (figure, buffer):
        short = model if len(model) <= LONGEST else f"{model[: LONGEST - 3]}..."
        what = f"Model {short}" if short else "One pixel"
        title = f"{what}: row {pixel[0]}, column {pixel[1]}"
        figure.suptitle(literal(title), x=0.012, ha="left", fontsize=11, fontweight="semibold", color=TEXT)
        figure.supxlabel(f"{CAPTION}\n{literal(source)}", x=0.012, ha="left", fontsize=10, color=TEXT)
        grid = figure.subplots(
            3,
            len(moments) + 1,
            squeeze=False,
            gridspec_kw={"width_ratios": (0.62, *[1] * len(moments)), "height_ratios": (0.8, 1, 1)},
        )
        _images(grid[0, 0], [x_0], ["$x_0$"], pixel)
        for row, name in enumerate(ROWS, 1):
            grid[row, 0].axis("off")
            grid[row, 0].text(1, 0.55, name, ha="right", fontweight="semibold", transform=grid[row, 0].transAxes)
        for column, moment in enumerate(moments, 1):
            _images(grid[0, column], [moment.x_t, moment.clean], ["$x_t$", r"$\hat x_0$"], pixel)
            grid[0, column].set_title(f"$t$ = {moment.t:g}", pad=20)
            for row, jump in enumerate(moment.jumps, 1):
                _bells(grid[row, column], jump, float(x_0[(0, *pixel)]), moment, pixel)
        for row in (1, 2):
            grid[row, 1].set_ylabel("density")
        handles, names = grid[1, 1].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper right", ncols=4, fontsize=10)
    return buffer.getvalue()


def _images(axes: "Axes", images: Sequence[Array], names: Sequence[str], pixel: tuple[int, int]) -> None:
    """Images side by side with their names above, the pixel framed in each."""
    from matplotlib.patches import Rectangle

    _, height, width = images[0].shape
    gap = max(1, width // 14)
    for number, (image, name) in enumerate(zip(images, names, strict=True)):
        left = number * (width + gap)
        axes.imshow(_seen(image), extent=(left, left + width, height, 0), interpolation="nearest")
        axes.text(left + width / 2, -0.03 * height, name, ha="center", va="bottom")
        row, column = pixel
        frame = Rectangle((left + column, row), 1, 1, fill=False, edgecolor=COLOURS[1], linewidth=1.6)
        axes.add_patch(frame)
    axes.set(xlim=(0, len(images) * (width + gap) - gap), ylim=(height, 0))
    axes.axis("off")


def _seen(image: Array) -> Pixels:
    """(H, W, 3) uint8: what is outside [-1, 1] is clipped."""
    pixels = np.moveaxis(to_uint8(image), 0, -1)
    return pixels.repeat(3, axis=-1) if pixels.shape[-1] == 1 else pixels


def _bells(axes: "Axes", jump: Jump, x_0: float, moment: Moment, pixel: tuple[int, int]) -> None:
    """The two Gaussians, and where x_0 and its estimate are, as far as they lie near."""
    sigma = jump.variance**0.5
    low, high = min(jump.true, jump.model) - 4 * sigma, max(jump.true, jump.model) + 4 * sigma
    x = np.linspace(low, high, 400)
    for mean, colour, style, name in (
        (jump.true, COLOURS[0], "-", r"true  $q(x_s \mid x_t, x_0)$"),
        (jump.model, COLOURS[1], DASHED, r"model  $p_\theta(x_s \mid x_t)$"),
    ):
        bell = np.exp(-((x - mean) ** 2) / (2 * jump.variance)) / (sigma * np.sqrt(2 * np.pi))
        axes.plot(x, bell, color=colour, linestyle=style, label=name)
        axes.fill_between(x, bell, color=colour, alpha=0.10, linewidth=0)
    peak = 1 / (sigma * np.sqrt(2 * np.pi))
    for place, colour, mark, size, name in (  # the first is larger, to be seen behind the second
        (x_0, COLOURS[0], "o", 9, "$x_0$"),
        (float(moment.clean[(0, *pixel)]), COLOURS[1], "D", 5, r"$\hat x_0$"),
    ):
        near = min(max(place, low), high)
        outside = "<" if place < low else ">" if place > high else mark
        axes.plot([near], [0], outside, color=colour, markersize=size, clip_on=False, zorder=5)
        axes.plot([], [], mark, color=colour, markersize=size, label=name)
    apart = abs(jump.true - jump.model) / sigma
    axes.set(xlim=(low, high), ylim=(0, 1.4 * peak), xlabel=f"$x_s$ at $s$ = {jump.s:g}")
    note = f"means {apart:.2g}" + r" $\sigma$ apart" + f"\nKL {jump.kl:.2g} nats"
    axes.text(0.5, 0.97, note, ha="center", va="top", fontsize=9, transform=axes.transAxes)
    axes.tick_params(labelsize=8.5)
    axes.set_yticks([])
    axes.grid(axis="y", visible=False)
    axes.axvline(jump.true, color=FAINT, linewidth=0.9, zorder=0)
