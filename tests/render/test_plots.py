"""The curves are the given ones, the files are what they say, and matplotlib keeps to its place."""

import base64
import io
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from ddpm_cli.printable import printable
from ddpm_cli.render.plots import Curve, comparison_figure, level_axis, literal, loss_curve, schedule_figure, wants_log
from ddpm_cli.render.terminal import marker_of, schedule_text


@pytest.fixture(autouse=True)
def _home(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("DDPM_HOME", str(tmp_path_factory.getbasetemp() / "ddpm"))


def curve(name: str, betas: np.ndarray) -> Curve:
    betas = np.concatenate([[0.0], betas])
    abars = np.cumprod(1 - betas)
    weights = np.full(len(betas), np.nan)
    weights[2:] = betas[2:] / (2 * (1 - betas[2:]) * (1 - abars[1:-1]))
    with np.errstate(divide="ignore"):
        log_snr = np.log(abars) - np.log1p(-abars)
    return Curve(name, np.arange(len(betas), dtype=float), betas, abars, log_snr, weights)


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


@pytest.mark.parametrize("file_format", ["png", "svg", "pdf"])
def test_same_numbers_same_bytes_whatever_the_user_set(file_format: str) -> None:
    import matplotlib as mpl

    before = schedule_figure([LINEAR], file_format)
    with mpl.rc_context({"lines.linewidth": 9, "font.size": 20, "svg.hashsalt": "other"}):
        assert schedule_figure([LINEAR], file_format) == before
        assert mpl.rcParams["lines.linewidth"] == 9  # and the user's settings are back


# Several schedules beside each other

SHARES = (0, 0.25, 1)
FACTS = [["4e-05", "0.02", "259", "68%"], ["1e-3", "0.999", "987", "91%"], ["0.0023", "0.03", "-", "77%"]]


def strip_of(curves: list[Curve], channels: int = 1) -> np.ndarray:
    """Noise of every grey, different in every tile."""
    shape = (len(curves), len(SHARES), channels, 8, 10)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def compared(curves: list[Curve], file_format: str = "png", channels: int = 1) -> bytes:
    facts = FACTS[: len(curves)]
    return comparison_figure(curves, facts, strip_of(curves, channels), SHARES, file_format)  # type: ignore[arg-type]


ONE_STEP = curve("T = 1", np.array([0.5]))
# A weight beyond what an axis can hold, as after a first beta of 1e-308.
TWO_STEPS = curve("T = 2", np.array([1e-9, 0.99]))._replace(weights=np.array([np.nan, np.nan, 5e307]))


@pytest.mark.parametrize("curves", [[LINEAR, STEEP, SHORT], [TWO_STEPS, ONE_STEP]])
def test_a_comparison_is_higher_by_a_strip_a_schedule(curves: list[Curve]) -> None:
    image = opened(compared(curves))
    assert image.size == (1650, round(150 * (6 + 0.75)) + 174 * len(curves))
    assert not getattr(image, "text", {})


def test_a_comparison_is_deterministic() -> None:
    assert compared([SHORT]) == compared([SHORT])


def written_in(svg: bytes) -> list[str]:
    """The texts of an SVG; matplotlib tells each in a comment beside its outlines."""
    return [text.strip() for text in re.findall(r"<!-- (.*?) -->", svg.decode(), re.DOTALL)]


def strip_in(svg: bytes) -> np.ndarray:
    """The one image inside an SVG, (H, W, 3)."""
    (encoded,) = re.findall(rb'xlink:href="data:image/png;base64,\s*([^"]+)"', svg)
    return np.asarray(opened(base64.b64decode(encoded)).convert("RGB"))


def test_a_comparison_holds_every_tile_pixel_by_pixel() -> None:
    curves = [LINEAR, STEEP]
    found, strip = strip_in(compared(curves, "svg", channels=3)), strip_of(curves, channels=3)
    assert found.shape == (2 * 8 + 1, 3 * 10 + 2, 3)  # a pixel between two tiles
    for row, column in np.ndindex(2, 3):
        tile = found[9 * row : 9 * row + 8, 11 * column : 11 * column + 10]
        np.testing.assert_array_equal(tile, np.moveaxis(strip[row, column], 0, -1))


def test_a_comparison_names_schedules_facts_and_levels() -> None:
    texts = written_in(compared([LINEAR, STEEP], "svg"))
    for text in (*FACTS[0], *FACTS[1], "250"):
        assert text in texts
    assert texts.count("linear") == texts.count("steep") == 2  # in the key, and beside its strip
    assert "0%" not in texts
    apart = written_in(compared([LINEAR, SHORT], "svg"))  # of unequal length
    assert {"0%", "25%", "100%"} <= set(apart)


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


@pytest.mark.parametrize("length", [1, 2, 7, 100, 1000])
def test_the_mean_of_the_losses_does_not_lag(length: int) -> None:
    """A straight line is its own centered mean; a mean of the values before it lies above a falling one."""
    from ddpm_cli.render.plots import _centered_mean

    line = np.linspace(5, 1, length)
    np.testing.assert_allclose(_centered_mean(line), line, rtol=1e-12)


def test_the_mean_of_the_losses_is_smoother_than_they_are() -> None:
    from ddpm_cli.render.plots import _centered_mean

    values = np.random.default_rng(0).standard_normal(2000)
    smooth = _centered_mean(values)
    assert smooth[100:-100].std() < 0.15  # of 81 values each: 1/9
    np.testing.assert_allclose(smooth[1000], values[960:1041].mean(), rtol=1e-9)


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
    top = next(line for line in lines if line.startswith("  1┤"))
    bottom = next(line for line in lines if line.startswith("  0┤"))
    # abar is 1 at the clean end only, and below 0.06 from level 540 on.
    assert top[4] != " "
    assert top[20:79].strip(" │") == ""
    assert bottom[4:35].strip() == ""
    assert bottom[60:78].count(" ") == 0


def test_text_labels_the_decades_of_a_steep_beta() -> None:
    assert "1e-4" in schedule_text([STEEP], colour=False)
    assert "1e-4" not in schedule_text([LINEAR], colour=False)
    low = schedule_text([STEEP], height=16, colour=False, weights=True, key=False)
    assert re.findall(r"^ *(1e-?\d)┤", low, re.MULTILINE) == ["1e0", "1e-2", "1e-4", "1e-6"]


def test_text_draws_the_weight_beside_abar() -> None:
    # From 0.6 at t = 2 the weight of linear falls below 0.006 and rises to 0.01: a dish between 1e-3 and 1.
    lines = schedule_text([LINEAR], height=25, colour=False, weights=True).split("\n")
    assert "abar: signal left at level t" in lines[1]
    assert "weight in the bound" in lines[1]
    dish = dict(found.groups() for line in lines[:13] if (found := re.search(r"│ *(1e-?\d)┤(.*)│$", line)))
    assert set(dish) == {"1e0", "1e-1", "1e-2", "1e-3"}
    drawn = {power: [k for k, letter in enumerate(row) if letter != " "] for power, row in dish.items()}
    assert drawn["1e-3"] == []
    assert drawn["1e-1"]
    assert max(drawn["1e-1"]) < 3  # at the clean end alone
    assert max(drawn["1e-2"]) > 30  # and at the other end


def test_text_without_a_key_has_no_line_for_it() -> None:
    curves = [LINEAR, STEEP]
    with_key = schedule_text(curves, height=24, colour=False).split("\n")
    without = schedule_text(curves, height=23, colour=False, key=False).split("\n")
    assert with_key[1:] == without
    assert [f"{marker_of(k)} {each.name}" in with_key[0] for k, each in enumerate(curves)] == [True, True]


def test_seven_schedules_have_seven_markers_and_a_key_as_wide_as_the_screen() -> None:
    assert len({marker_of(k) for k in range(7)}) == 7
    curves = [curve(f"schedule number {k}", np.full(9, 0.1 * (k + 1))) for k in range(7)]
    lines = schedule_text(curves, width=60, height=30, colour=False).split("\n")
    assert len(lines) == 30
    assert max(map(len, lines)) == 60
    assert all(any(each.name in line for line in lines[:4]) for each in curves)


@pytest.mark.parametrize("height", [16, 18, 23, 40])
@pytest.mark.parametrize("curves", [[LINEAR], [STEEP, SHORT], [LINEAR, STEEP], [TWO_STEPS]])
def test_numbers_beside_a_panel_are_round_and_evenly_spaced(curves: list[Curve], height: int) -> None:
    lines = schedule_text(curves, height=height, colour=False, weights=True, key=False).split("\n")
    half = height // 2
    for rows in (lines[:half], lines[half:]):
        for pattern in (r"^ *(-?[\d.e-]+)┤", r"[│┤].*│ *(-?[\d.e-]+)┤"):
            labels = [found[1] for line in rows if (found := re.search(pattern, line))]
            assert len(labels) >= 2, "\n".join(rows)
            assert max(map(len, labels)) <= 6
            decades = all(label.startswith("1e") for label in labels)
            steps = -np.diff([float(label.removeprefix("1e") if decades else label) for label in labels])
            np.testing.assert_allclose(steps, steps[0], rtol=1e-9)
            assert steps[0] > 0
            assert decades or f"{steps[0]:.0e}"[0] in "125"


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


CURVE = "from ddpm_cli.render.plots import loss_curve; import sys; sys.stdout.buffer.write(loss_curve([1, 2], [1, 2]))"


def curve_bytes(folder: Path, **environment: str) -> bytes:
    """A loss curve as a new interpreter draws it with a folder as its current one."""
    kept = {key: value for key, value in os.environ.items() if key not in ("MPLCONFIGDIR", "MATPLOTLIBRC")}
    kept |= {"DDPM_HOME": str(folder / "ddpm"), "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environment}
    command = [sys.executable, "-W", "error", "-c", CURVE]
    done = subprocess.run(command, env=kept, cwd=folder, capture_output=True, check=True, timeout=60)
    assert done.stderr == b""
    return done.stdout


@pytest.mark.parametrize("backend", ["module://matplotlib_inline.backend_inline", "nonsense", "TkAgg"])
def test_the_users_backend_is_not_read(tmp_path: Path, backend: str) -> None:
    assert curve_bytes(tmp_path, MPLBACKEND=backend) == loss_curve([1, 2], [1, 2])


def test_settings_in_the_current_folder_are_not_read_and_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text("lines.linewidth: 9\nnonsense: 3\naxes.facecolor: red\n")
    assert curve_bytes(tmp_path) == loss_curve([1, 2], [1, 2])
    (tmp_path / "matplotlibrc").unlink()
    os.mkfifo(tmp_path / "matplotlibrc")
    assert curve_bytes(tmp_path) == loss_curve([1, 2], [1, 2])
    (tmp_path / "own").mkdir()
    os.mkfifo(tmp_path / "own" / "matplotlibrc")
    assert curve_bytes(tmp_path, MPLCONFIGDIR="own") == loss_curve([1, 2], [1, 2])
    assert curve_bytes(tmp_path, MATPLOTLIBRC="own") == loss_curve([1, 2], [1, 2])


@pytest.mark.parametrize("folder", ["a file", "a file/below", "", "x" * 300, "/proc/nowhere"])
def test_a_folder_of_matplotlib_that_cannot_be_written_is_replaced_silently(tmp_path: Path, folder: str) -> None:
    (tmp_path / "a file").touch()
    assert curve_bytes(tmp_path, MPLCONFIGDIR=folder) == loss_curve([1, 2], [1, 2])
    assert (tmp_path / "ddpm" / "cache" / "matplotlib").is_dir()


HOSTILE = [
    r"a$\frac$b",
    "$",
    "$$",
    r"\$x\$",
    "$x^{2$",
    "{}%s",
    "\x1b[31m\n\u202e",
    "\udcff",
    "\U0001f98a",
    "_hidden",
    "~" * 300,
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_no_formula_and_loses_no_plot(name: str) -> None:
    loss_curve([1, 2], [1, 2], title=name)  # warnings are errors here
    drawn = texts(literal(name))
    assert drawn == [printable(name).replace("\U0001f98a", "\\U0001f98a")]


def texts(text: str) -> list[str]:
    """What matplotlib draws of a text, formulas left out."""
    from matplotlib.text import Text

    shown, is_formula = Text(0, 0, text)._preprocess_math(text)  # type: ignore[attr-defined]
    return [] if is_formula else [shown]


def test_letters_that_no_font_has_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    from ddpm_cli.render import plots

    monkeypatch.setattr(plots, "_families", lambda: ["DejaVu Sans"])  # as where no Chinese font is installed
    assert literal("Größe Ωя 猫") == "Größe Ωя \\u732b"
    loss_curve([1, 2], [1, 2], title="猫 犬")
    monkeypatch.setattr(plots, "_families", lambda: ["DejaVu Sans", "Other"])
    monkeypatch.setattr(plots, "_characters", lambda family: frozenset({ord("猫")} if family == "Other" else {}))
    assert literal("猫") == "猫"
