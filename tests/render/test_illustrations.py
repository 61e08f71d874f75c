"""Illustrations show the numbers they are given, in the house style, without a window and without pyplot."""

import io
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from scipy import integrate, stats

from ddpm_cli.noising import Flow, Jump, Moment
from ddpm_cli.render.illustrations import density_figure, posterior_figure

X = np.linspace(-3.5, 3.5, 100)
BLUE = np.array([0x00, 0x72, 0xB2])


def pixels(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        assert not image.text  # type: ignore[attr-defined]  # neither a date nor a version
        return np.asarray(image.convert("RGB"), dtype=int)


def flow(levels: int = 30) -> Flow:
    """All of the density around one place above 0, at all times."""
    side = 1.5
    bump = stats.norm.pdf(X, side, 0.2)
    draws = np.random.default_rng(0).normal(side, 0.2, 500)
    paths = np.full((3, levels), side)
    times = np.linspace(0, 100, levels)
    return Flow(X, times, np.tile(bump, (levels, 1)), paths, np.tile(bump, (levels, 1)), paths, draws, draws)


def image(seed: int, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1.5, 1.5, (channels, 8, 6))


def moments(count: int, channels: int = 1) -> list[Moment]:
    return [
        Moment(
            10.0 * t, image(t, channels), image(9, channels), (Jump(t - 1, 0.1, 0.12, 0.01), Jump(t / 2, 0.1, 0.9, 0.2))
        )
        for t in range(2, count + 2)
    ]


# --- the density ----------------------------------------------------------------------------------------------------


def test_the_density_has_its_size_and_the_same_bytes_each_time() -> None:
    png = density_figure(flow(), "Schedule cosine, T = 100")
    assert pixels(png).shape == (1080, 1500, 3)
    assert png == density_figure(flow(), "Schedule cosine, T = 100")


def test_x_grows_upwards_in_both_rows() -> None:
    dark = 255 - pixels(density_figure(flow(), ""))[:, 400:1100].mean(axis=(1, 2))
    for row in (dark[100:490], dark[600:990]):  # between title and axis
        assert row[: len(row) // 2].mean() > 1.5 * row[len(row) // 2 :].mean()


def test_time_runs_from_left_to_right() -> None:
    fading = flow()
    fading = fading._replace(exact=fading.exact * np.linspace(1, 0, 30)[:, None], there=np.full((1, 30), np.nan))
    picture = 255 - pixels(density_figure(fading, ""))[100:490].mean(axis=(0, 2))
    assert picture[400:500].mean() > 1.5 * picture[1000:1100].mean()


def test_a_single_step_has_a_picture() -> None:
    assert pixels(density_figure(flow(levels=2), "T = 1")).shape == (1080, 1500, 3)


# --- the posterior --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("true", "model", "variance"), [(0.0, 0.3, 0.04), (-1.2, -1.0, 0.5), (0.2, 0.2, 0.1)])
def test_kl_is_the_integral(true: float, model: float, variance: float) -> None:
    q, p = (stats.norm(mean, math.sqrt(variance)) for mean in (true, model))
    expected, _ = integrate.quad(lambda x: q.pdf(x) * (q.logpdf(x) - p.logpdf(x)), true - 8, true + 8, points=[true])
    assert Jump(5, true, model, variance).kl == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize(("count", "channels"), [(1, 3), (3, 1)])
def test_a_column_a_level(count: int, channels: int) -> None:
    png = posterior_figure(image(9, channels), moments(count, channels), (3, 2), "The image is 0 of mnist.")
    assert pixels(png).shape == (1230, round(150 * max(9.2, 2.2 + 2.9 * count)), 3)


def test_the_pixel_looked_at_is_framed() -> None:
    blank = np.full((1, 8, 8), -1.0)
    at = [Moment(5.0, blank, blank, (Jump(4, 0, 0, 1), Jump(2, 0, 0, 1)))]
    orange = []
    for pixel in ((1, 1), (6, 5)):
        picture = pixels(posterior_figure(blank, at, pixel, ""))[:400, :330]  # where x_0 is
        rows, columns = np.nonzero(np.abs(picture - [0xD5, 0x5E, 0x00]).sum(-1) < 30)
        black_rows, black_columns = np.nonzero(picture.sum(-1) < 30)
        side = black_rows.max() - black_rows.min()
        orange.append(((rows.mean() - black_rows.min()) / side * 8, (columns.mean() - black_columns.min()) / side * 8))
    assert orange[0] == pytest.approx((1.5, 1.5), abs=0.2)
    assert orange[1] == pytest.approx((6.5, 5.5), abs=0.2)


def test_where_the_means_agree_the_curves_do() -> None:
    def blue(model: float) -> int:
        at = [Moment(5.0, image(1), image(1), (Jump(4, 0.1, model, 0.01), Jump(2, 0.1, model, 0.01)))]
        picture = pixels(posterior_figure(image(9), at, (3, 2), ""))[400:1050]
        return int((np.abs(picture - BLUE).sum(-1) < 30).sum())

    assert blue(0.1) < 0.7 * blue(0.4)  # dashes of the other lie on it


def test_a_name_may_hold_anything() -> None:
    assert posterior_figure(image(9), moments(1), (3, 2), "The image is a$b$_{c}^\\d 写真.png.")


# --- imports --------------------------------------------------------------------------------------------------------


def test_importing_is_light_and_drawing_needs_neither_pyplot_nor_torch() -> None:
    code = """
import sys, numpy as np
from ddpm_cli.noising import Flow
from ddpm_cli.render import illustrations
print([name for name in ("matplotlib", "PIL", "torch") if name in sys.modules])
x = np.linspace(-1, 1, 10)
illustrations.density_figure(Flow(x, x + 1, *[np.ones((10, 10))] * 4, x, x), "")
print([name for name in ("matplotlib.pyplot", "torch") if name in sys.modules])
"""
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n[]\n"
