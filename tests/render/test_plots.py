"""The curves are the given ones, the files are what they say, and matplotlib keeps to its place."""

import io
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from ddpm_cli.render.plots import Curve, level_axis, loss_curve, schedule_figure, wants_log
from ddpm_cli.render.terminal import schedule_text


@pytest.fixture(autouse=True)
def _home(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("DDPM_HOME", str(tmp_path_factory.getbasetemp() / "ddpm"))


def curve(name: str, betas: np.ndarray) -> Curve:
    betas = np.concatenate([[0.0], betas])
    abars = np.cumprod(1 - betas)
    with np.errstate(divide="ignore"):
        return Curve(name, np.arange(len(betas), dtype=float), betas, abars, np.log(abars) - np.log1p(-abars))


LINEAR = curve("linear", np.linspace(1e-4, 0.02, 1000))
STEEP = curve("steep", np.geomspace(1e-5, 0.999, 1000))
SHORT = curve("short", np.full(200, 0.03))


def opened(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return image


def test_one_axis_for_equal_lengths_a_common_one_otherwise() -> None:
    assert level_axis([LINEAR, STEEP])[0] == "t"
    name, (long, short) = level_axis([LINEAR, SHORT])
    assert name == "t/T"
    assert (long[500], short[100], long[-1], short[-1]) == (0.5, 0.5, 1.0, 1.0)


def test_beta_is_logarithmic_only_where_some_dwarf_the_rest() -> None:
    assert not wants_log([LINEAR])
    assert not wants_log([SHORT])
    assert wants_log([STEEP])
    assert wants_log([LINEAR, STEEP])


@pytest.mark.parametrize("curves", [[LINEAR], [LINEAR, STEEP], [STEEP, SHORT], [curve("T = 1", np.array([0.5]))]])
def test_schedule_png(curves: list[Curve]) -> None:
    image = opened(schedule_figure(curves))
    assert image.size == (1350, 960)
    assert not getattr(image, "text", {})  # neither date nor version


def test_schedule_svg_is_xml_without_a_date() -> None:
    data = schedule_figure([LINEAR, STEEP], "svg")
    assert ElementTree.fromstring(data).tag == "{http://www.w3.org/2000/svg}svg"
    assert b"date" not in data.lower()


def test_schedule_with_a_last_level_of_pure_noise() -> None:
    zero = STEEP._replace(
        abars=np.append(STEEP.abars[:-1], 0.0),
        betas=np.append(STEEP.betas[:-1], 1.0),
        log_snr=np.append(STEEP.log_snr[:-1], -np.inf),
    )
    assert opened(schedule_figure([zero])).size == (1350, 960)
    assert schedule_text([zero], colour=False)


@pytest.mark.parametrize("file_format", ["png", "svg"])
def test_same_numbers_same_bytes_whatever_the_user_set(file_format: str) -> None:
    import matplotlib as mpl

    before = schedule_figure([LINEAR], file_format)
    with mpl.rc_context({"lines.linewidth": 9, "font.size": 20, "svg.hashsalt": "other"}):
        assert schedule_figure([LINEAR], file_format) == before
        assert mpl.rcParams["lines.linewidth"] == 9  # and the user's settings are back


@pytest.mark.parametrize("length", [0, 1, 2, 500])
def test_loss_curve_of_any_length(length: int) -> None:
    steps = np.arange(length)
    assert opened(loss_curve(steps, 1 / (1.0 + steps), learning_rate=np.full(length, 1e-3))).size == (1200, 780)


def test_loss_curve_leaves_out_what_is_not_finite() -> None:
    loss = np.array([1.0, np.nan, 0.5, np.inf, 0.25, 0.2])
    with_holes = loss_curve(np.arange(6), loss)
    assert with_holes == loss_curve(np.array([0, 2, 4, 5]), loss[[0, 2, 4, 5]])


def test_loss_curve_with_everything_is_deterministic() -> None:
    def draw() -> bytes:
        loss = np.random.default_rng(0).uniform(0.03, 0.3, 1000)
        rate = np.linspace(0, 2e-4, 1000)
        held_out = ([500, 1000], [0.1, 0.05])
        steps = range(1, 1001)
        return loss_curve(steps, loss, learning_rate=rate, validation=held_out, steps_per_epoch=469, title="mnist")

    assert draw() == draw()


def test_running_mean_of_a_constant_is_the_constant_and_of_a_step_ends_near_it() -> None:
    from ddpm_cli.render.plots import _running_mean

    np.testing.assert_allclose(_running_mean(np.full(100, 0.3)), 0.3, rtol=1e-12)
    # After 900 values with a span of 20, (1 - 1/20)^900 = 9e-21 of the old level is left.
    assert _running_mean(np.repeat([5.0, 1.0], [100, 900]))[-1] == pytest.approx(1.0)


# Text


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (60, 18)])
@pytest.mark.parametrize("curves", [[LINEAR], [LINEAR, STEEP, SHORT]])
def test_text_has_the_size_asked_for_and_no_colour(curves: list[Curve], width: int, height: int) -> None:
    lines = schedule_text(curves, width=width, height=height, colour=False).split("\n")
    assert len(lines) == height
    assert max(len(line) for line in lines) == width
    assert "\x1b" not in "".join(lines)
    assert all(each.name in lines[0] for each in curves)


def test_text_in_colour_is_the_same_drawing() -> None:
    import plotext

    coloured = schedule_text([LINEAR, STEEP])
    assert "\x1b[" in coloured
    plain = schedule_text([LINEAR, STEEP], colour=False)
    strip = [line.rstrip() for line in plotext.uncolorize(coloured).split("\n")]
    assert strip == [line.rstrip() for line in plain.split("\n")]


def test_text_draws_abar_from_top_left_to_bottom_right() -> None:
    lines = schedule_text([LINEAR], colour=False).split("\n")
    top = next(line for line in lines if line.startswith("1.00"))
    bottom = next(line for line in lines if line.startswith("0.00"))
    # abar is 1 at the clean end only, and below 0.06 from level 540 on.
    assert top[5] != " "
    assert top[20:79].strip(" │") == ""
    assert bottom[5:35].strip() == ""
    assert bottom[60:78].count(" ") == 0


def test_text_labels_the_decades_of_a_steep_beta() -> None:
    assert "1e-4" in schedule_text([STEEP], colour=False)
    assert "1e-4" not in schedule_text([LINEAR], colour=False)


def test_text_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    schedule_text([SHORT])
    schedule_text([curve("T = 1", np.array([0.5]))])
    assert capfd.readouterr() == ("", "")


# Imports and matplotlib's own files, in fresh interpreters


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if key not in ("MPLCONFIGDIR", "MATPLOTLIBRC")}
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, env=kept | environment, capture_output=True, text=True, check=True)


def test_importing_render_imports_nothing_heavy() -> None:
    code = """
import sys
import ddpm_cli.files
from ddpm_cli.render import animation, grid, images, plots, terminal
print([name for name in ("matplotlib", "plotext", "PIL", "torch") if name in sys.modules])
"""
    assert python(code).stdout == "[]\n"


def test_matplotlib_without_pyplot_writes_below_our_cache_only(tmp_path: Path) -> None:
    code = "import sys; from ddpm_cli.render.plots import loss_curve; loss_curve([1, 2], [1, 2])"
    home = tmp_path / "home"
    home.mkdir()
    done = python(
        code + "; assert 'matplotlib.pyplot' not in sys.modules",
        DDPM_HOME=str(tmp_path / "ddpm"),
        HOME=str(home),
        XDG_CONFIG_HOME=str(home / "config"),
        XDG_CACHE_HOME=str(home / "cache"),
    )
    assert (done.stdout, done.stderr) == ("", "")
    assert list(home.iterdir()) == []
    assert [path.name for path in (tmp_path / "ddpm").iterdir()] == ["cache"]
    assert [path.name for path in (tmp_path / "ddpm" / "cache").iterdir()] == ["matplotlib"]


def test_matplotlib_is_silent_where_our_cache_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "ddpm").write_bytes(b"a file where the folder should be")
    (tmp_path / "temporary").mkdir()
    code = "from ddpm_cli.render.plots import loss_curve; loss_curve([1, 2], [1, 2])"
    done = python(code, DDPM_HOME=str(tmp_path / "ddpm"), TMPDIR=str(tmp_path / "temporary"))
    assert (done.stdout, done.stderr) == ("", "")
    assert list((tmp_path / "temporary").iterdir()) == []  # removed at exit


def test_the_users_own_matplotlib_folder_wins(tmp_path: Path) -> None:
    code = "from ddpm_cli.render.plots import loss_curve; loss_curve([1, 2], [1, 2])"
    python(code, DDPM_HOME=str(tmp_path / "ddpm"), MPLCONFIGDIR=str(tmp_path / "own"))
    assert (tmp_path / "own").is_dir()
    assert not (tmp_path / "ddpm").exists()
