"""``ddpm schedule``: every kind as table, CSV, JSON and picture, and back. Expected values are closed forms."""

import base64
import io
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

KINDS = ["constant", "linear", "quadratic", "scaled-linear", "cosine", "sigmoid"]


def cosine(t: float, T: int = 1000, s: float = 0.008) -> float:
    return math.cos((t / T + s) / (1 + s) * math.pi / 2) ** 2


def test_list_tells_every_kind_and_its_range(ddpm: Any) -> None:
    lines = ddpm("schedule", "list").done().out.splitlines()
    table = {line.split("\t")[0]: line.split("\t") for line in lines[1:]}
    assert set(table) == {*KINDS, "custom"}
    assert table["linear"][1] == "0.0001 to 0.02"
    assert table["scaled-linear"][1] == "0.00085 to 0.012"
    assert all(len(row) == 3 and row[2] for row in table.values())


def test_list_as_json(ddpm: Any) -> None:
    schedules = {entry["kind"]: entry for entry in ddpm("schedule", "list", "--json").done().json["schedules"]}
    assert set(schedules) == {*KINDS, "custom"}
    assert schedules["linear"]["beta_range"] == [1e-4, 0.02]
    assert schedules["cosine"]["beta_range"] is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("T", [1, 2, 50, 1000])
def test_json_has_T_betas_and_T_plus_one_abars_that_start_at_1(ddpm: Any, kind: str, T: int) -> None:
    document = ddpm("schedule", "show", "--kind", kind, "--timesteps", T, "--json").done().json
    assert document["status"] == "done"
    assert (document["kind"], document["timesteps"]) == (kind, T)
    assert len(document["betas"]) == T
    assert len(document["abars"]) == T + 1
    assert document["abars"][0] == 1
    assert all(0 < beta < 1 for beta in document["betas"])
    product = np.cumprod(1 - np.array(document["betas"]))
    np.testing.assert_allclose(document["abars"][1:], product, rtol=1e-9)


def test_numbers_that_are_not_finite_are_null(ddpm: Any) -> None:
    document = ddpm("schedule", "show", "--json").done().json
    assert document["log_snr"][0] is None  # of level 0, which has no noise: infinity
    assert document["log_snr"][500] == pytest.approx(math.log(0.49384359044 / (1 - 0.49384359044)))


def betas(ddpm: Any, *options: object) -> list[float]:
    found: list[float] = ddpm("schedule", "show", "--json", *options).done().json["betas"]
    return found


def abars(ddpm: Any, *options: object) -> list[float]:
    found: list[float] = ddpm("schedule", "show", "--json", *options).done().json["abars"]
    return found


def test_constant_is_one_beta(ddpm: Any) -> None:
    found = abars(ddpm, "--kind", "constant", "--beta-start", 0.03, "--timesteps", 200)
    np.testing.assert_allclose(found, 0.97 ** np.arange(201), rtol=1e-12)


def test_linear_is_that_of_the_paper(ddpm: Any) -> None:
    np.testing.assert_allclose(betas(ddpm, "--kind", "linear"), np.linspace(1e-4, 0.02, 1000), rtol=1e-12)
    found = abars(ddpm, "--kind", "linear")
    assert found[500] == pytest.approx(0.07858724288, rel=1e-9)
    assert found[1000] == pytest.approx(4.0358298e-05, rel=1e-7)


def test_quadratic_has_evenly_spaced_square_roots(ddpm: Any) -> None:
    roots = np.sqrt(betas(ddpm, "--kind", "quadratic"))
    np.testing.assert_allclose(roots, np.linspace(0.01, math.sqrt(0.02), 1000), rtol=1e-12)


def test_scaled_linear_is_quadratic_from_other_ends(ddpm: Any) -> None:
    ends = ["--beta-start", 0.00085, "--beta-end", 0.012]
    assert betas(ddpm, "--kind", "scaled-linear") == betas(ddpm, "--kind", "quadratic", *ends)


def test_cosine_is_that_of_the_paper(ddpm: Any) -> None:
    found = betas(ddpm, "--kind", "cosine")
    np.testing.assert_allclose(found, [min(1 - cosine(t) / cosine(t - 1), 0.999) for t in range(1, 1001)], rtol=1e-9)
    assert found.count(0.999) == 1
    assert abars(ddpm)[500] == pytest.approx(0.49384359044, rel=1e-9)  # the default kind


def test_cosine_takes_its_offset_and_its_largest_beta(ddpm: Any) -> None:
    found = betas(ddpm, "--offset", 0.1, "--max-beta", 0.5, "--timesteps", 40)
    expected = [min(1 - cosine(t, 40, 0.1) / cosine(t - 1, 40, 0.1), 0.5) for t in range(1, 41)]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_sigmoid_is_half_way_in_the_middle(ddpm: Any) -> None:
    found = abars(ddpm, "--kind", "sigmoid")
    assert found[500] == pytest.approx(0.5, abs=1e-9)
    assert abars(ddpm, "--kind", "sigmoid", "--start", -1)[500] < 0.5
    assert abars(ddpm, "--kind", "sigmoid", "--tau", 0.3)[250] > found[250]


def test_default_ranges_are_scaled_so_that_every_chain_ends_as_noisy(ddpm: Any) -> None:
    found = betas(ddpm, "--kind", "linear", "--timesteps", 100)
    assert (found[0], found[-1]) == (pytest.approx(1e-3), pytest.approx(0.2))
    given = betas(ddpm, "--kind", "linear", "--timesteps", 100, "--beta-start", 1e-4, "--beta-end", 0.02)
    assert (given[0], given[-1]) == (1e-4, 0.02)


@pytest.mark.parametrize("plot_or_show", ["plot", "show"])
def test_a_chain_that_does_not_end_as_noise_is_warned_of(ddpm: Any, plot_or_show: str) -> None:
    result = ddpm("schedule", plot_or_show, "--kind", "linear", "--beta-end", 0.001).done()
    assert "warning" in result.err
    assert "abar_T" in result.err
    assert "abar_T" not in result.out
    for kind in ("linear", "cosine"):
        assert ddpm("schedule", plot_or_show, "--kind", kind).done().err == ""


def test_a_warning_of_the_schedule_is_not_in_the_document(ddpm: Any) -> None:
    result = ddpm("schedule", "show", "--kind", "linear", "--beta-end", 0.001, "--json").done()
    assert result.json["status"] == "done"
    assert "warning" in result.err


def test_the_table_off_a_terminal_is_whole_and_tab_separated(ddpm: Any) -> None:
    head, *rows = [line.split("\t") for line in ddpm("schedule", "show", "--kind", "linear").done().out.splitlines()]
    assert head == ["t", "beta", "abar", "signal", "noise", "log_snr"]
    assert [row[0] for row in rows] == [str(t) for t in range(1001)]
    t, beta, abar, signal, noise, log_snr = map(float, rows[500])
    assert (t, beta) == (500, pytest.approx(1e-4 + 499 / 999 * 0.0199))
    assert abar == pytest.approx(0.07858724288, rel=1e-9)
    assert (signal, noise) == (pytest.approx(math.sqrt(abar)), pytest.approx(math.sqrt(1 - abar)))
    assert log_snr == pytest.approx(math.log(abar / (1 - abar)))


@pytest.mark.parametrize("name", ["table.csv", "table.json"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_show_wrote_it_reads_again_exactly(ddpm: Any, cwd: Path, kind: str, name: str) -> None:
    original = ["--kind", kind, "--timesteps", 60]
    result = ddpm("schedule", "show", *original, "-o", name).done()
    assert result.out == f"{name}\n"
    assert [path.name for path in cwd.iterdir()] == [name]
    again = ddpm("schedule", "show", "--from-file", name, "--json").done().json
    assert again["betas"] == betas(ddpm, *original)
    assert again["timesteps"] == 60
    assert again["kind"] == "custom"


@pytest.mark.parametrize("options", [[], ["--json"], ["-o", "-"]], ids=["table", "json", "csv"])
def test_what_show_printed_it_reads_from_stdin(ddpm: Any, monkeypatch: pytest.MonkeyPatch, options: list[str]) -> None:
    original = ["--kind", "sigmoid", "--timesteps", 30]
    printed = ddpm("schedule", "show", *original, *options).done().out
    monkeypatch.setattr("sys.stdin", io.StringIO(printed))
    assert betas(ddpm, "--from-file", "-") == betas(ddpm, *original)


def test_one_number_a_line_is_a_schedule(ddpm: Any, cwd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cwd / "betas.txt").write_text("0.1\n0.2\n\n0.3\n")
    assert betas(ddpm, "--from-file", "betas.txt") == [0.1, 0.2, 0.3]
    (cwd / "spreadsheet.csv").write_bytes(b"\xef\xbb\xbfbeta\r\n0.1\r\n0.2\r\n")
    assert betas(ddpm, "--from-file", "spreadsheet.csv") == [0.1, 0.2]
    monkeypatch.setattr("sys.stdin", io.StringIO("0.1\n0.2"))
    assert abars(ddpm, "--from-file", "-") == pytest.approx([1, 0.9, 0.72])


def test_json_of_betas_alone_is_a_schedule(ddpm: Any, cwd: Path) -> None:
    (cwd / "list.json").write_text("[0.25, 0.5]")
    (cwd / "object.json").write_text(json.dumps({"betas": [0.25, 0.5]}))
    assert abars(ddpm, "--from-file", "list.json") == abars(ddpm, "--from-file", "object.json") == [1, 0.75, 0.375]


def test_a_file_in_json_mode_is_told_by_its_absolute_path(ddpm: Any, cwd: Path) -> None:
    document = ddpm("schedule", "show", "-o", "a/table.csv", "--json").done().json
    assert document["output"] == str(cwd / "a" / "table.csv")
    assert len((cwd / "a" / "table.csv").read_text().splitlines()) == 1002


@pytest.mark.parametrize("kind", KINDS)
def test_plot_prints_plain_text(ddpm: Any, kind: str) -> None:
    out = ddpm("schedule", "plot", "--kind", kind).done().out
    assert "abar" in out
    assert kind in out
    assert "\x1b" not in out
    assert len(out.splitlines()) > 10


@pytest.mark.parametrize(
    ("name", "beginning"),
    [
        ("plot.png", b"\x89PNG\r\n\x1a\n"),
        ("plot.svg", b"<?xml"),
        ("plot.pdf", b"%PDF"),
        ("plot.csv", b"t,beta,abar"),
        ("plot.json", b"{"),
    ],
)
def test_plot_writes_the_format_that_the_suffix_names(ddpm: Any, cwd: Path, name: str, beginning: bytes) -> None:
    result = ddpm("schedule", "plot", "--timesteps", 50, "-o", name).done()
    assert result.out == f"{name}\n"
    assert (cwd / name).read_bytes().startswith(beginning)


def test_plot_from_a_file(ddpm: Any, cwd: Path) -> None:
    (cwd / "betas.txt").write_text("0.9\n0.9\n0.9\n0.9\n")
    assert "custom, T = 4" in ddpm("schedule", "plot", "--from-file", "betas.txt").done().out


def test_plot_sends_a_picture_down_a_pipe(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    from ddpm_cli.cli import main

    assert main(["schedule", "plot", "-o", "-"]) == 0
    captured = capsysbinary.readouterr()
    assert captured.out.startswith(b"\x89PNG\r\n\x1a\n")
    assert captured.err == b""


@pytest.mark.parametrize("plot_or_show", ["plot", "show", "compare"])
@pytest.mark.parametrize("name", ["table.xlsx", "table"])
def test_an_unknown_suffix_is_2(ddpm: Any, cwd: Path, plot_or_show: str, name: str) -> None:
    ddpm("schedule", plot_or_show, "-o", name).refused(2, name, ".csv")
    assert list(cwd.iterdir()) == []


@pytest.mark.parametrize("plot_or_show", ["plot", "show", "compare"])
def test_a_pipe_and_json_contradict_each_other(ddpm: Any, plot_or_show: str) -> None:
    ddpm("schedule", plot_or_show, "-o", "-", "--json").refused(2, "--json")


@pytest.mark.parametrize("plot_or_show", ["plot", "show", "compare"])
def test_an_unknown_kind_is_2_and_the_nearest_is_named(ddpm: Any, plot_or_show: str) -> None:
    ddpm("schedule", plot_or_show, "--kind", "cosin").refused(2, "cosin", "Did you mean cosine?")


def test_schedule_alone_prints_help(ddpm: Any) -> None:
    out = ddpm("schedule").done().out
    assert out == ddpm("schedule", "--help").done().out
    for name in ("list", "show", "plot", "compare"):
        assert f"ddpm schedule {name}" in out or f"\n  {name} " in out


@pytest.mark.parametrize("command", ["show", "plot", "compare"])
def test_whatever_describes_a_schedule_is_an_option(ddpm: Any, command: str) -> None:
    page = ddpm("schedule", command, "--help").done().out
    for name in (
        "kind",
        "timesteps",
        "beta-start",
        "beta-end",
        "max-beta",
        "offset",
        "start",
        "end",
        "tau",
        "from-file",
    ):
        assert len(re.findall(rf"^  --{name} ", page, re.MULTILINE)) == 1, name


@pytest.mark.parametrize("command", ["show", "plot", "compare"])
def test_an_option_of_another_kind_is_refused_rather_than_ignored(ddpm: Any, command: str) -> None:
    ddpm("schedule", command, "--kind", "linear", "--offset", 0.1).refused(2, "--offset", "cosine", "linear")
    ddpm("schedule", command, "--kind", "cosine", "--tau", 2).refused(2, "--tau", "sigmoid", "cosine")


# --- compare --------------------------------------------------------------------------------------------------------


def compare(ddpm: Any, *options: object) -> dict[str, dict[str, Any]]:
    """The schedules of ``ddpm schedule compare --json``, by kind."""
    document = ddpm("schedule", "compare", "--json", *options).done().json
    return {each["kind"]: each for each in document["schedules"]}


def table(text: str) -> list[dict[str, str]]:
    head, *rows = [line.split("\t") for line in text.splitlines()]
    return [dict(zip(head, row, strict=True)) for row in rows]


@pytest.mark.parametrize(
    ("named", "kinds"),
    [
        ([], ["linear", "cosine", "sigmoid"]),
        (["sigmoid", "constant"], ["sigmoid", "constant"]),
        (["--kind", "sigmoid", "--kind", "constant"], ["sigmoid", "constant"]),
        (["--kind", "sigmoid, constant"], ["sigmoid", "constant"]),
        (["sigmoid,constant"], ["sigmoid", "constant"]),
        (["sigmoid", "--kind", "constant,sigmoid", "sigmoid"], ["sigmoid", "constant"]),
        (KINDS, KINDS),
    ],
    ids=str,
)
def test_each_kind_is_compared_once_however_it_is_named(ddpm: Any, named: list[str], kinds: list[str]) -> None:
    assert list(compare(ddpm, *named, "--timesteps", 20)) == kinds


def test_compare_tells_of_each_what_show_tells(ddpm: Any) -> None:
    found = compare(ddpm, "linear", "cosine", "--timesteps", 60)
    for kind, values in found.items():
        shown = ddpm("schedule", "show", "--kind", kind, "--timesteps", 60, "--json").done().json
        for key in ("kind", "timesteps", "betas", "abars", "log_snr"):
            assert values[key] == shown[key]


def test_compare_tells_the_weight_of_the_bound(ddpm: Any) -> None:
    linear = compare(ddpm, "linear")["linear"]
    assert linear["weights"][:2] == [None, None]
    assert len(linear["weights"]) == 1001
    for t in (2, 500, 1000):  # beta / (2 alpha (1 - abar of the level before)): Ho et al. 2020, with sigma^2 = btilde
        beta = 1e-4 + (t - 1) / 999 * 0.0199
        before = np.prod([1 - (1e-4 + s / 999 * 0.0199) for s in range(t - 1)])
        assert linear["weights"][t] == pytest.approx(beta / (2 * (1 - beta) * (1 - before)), rel=1e-9)


def test_compare_sums_a_schedule_up(ddpm: Any) -> None:
    found = compare(ddpm, "constant", "linear", "sigmoid", "--beta-start", 0.01)["constant"]
    assert found["abar_T"] == pytest.approx(0.99**1000)
    assert found["max_beta"] == 0.01
    half = math.log(0.5) / math.log(0.99)  # between 68 and 69, where log-SNR is interpolated
    assert found["half_noise"] == pytest.approx(half, abs=1e-3)
    # |log-SNR| <= 5 is sigmoid(-5) <= abar <= sigmoid(5).
    first, last = (math.log(1 / (1 + math.exp(x))) / math.log(0.99) for x in (-5, 5))
    assert found["working_share"] == pytest.approx((math.floor(last) - math.ceil(first) + 1) / 1000)


def test_a_schedule_that_never_is_half_noise_says_so(ddpm: Any) -> None:
    assert compare(ddpm, "constant", "--timesteps", 3, "--beta-start", 0.01)["constant"]["half_noise"] is None
    exactly = compare(ddpm, "constant", "--timesteps", 1, "--beta-start", 0.5)["constant"]
    assert exactly["half_noise"] == pytest.approx(1)


def test_compare_prints_a_row_for_each_kind_and_level(ddpm: Any) -> None:
    rows = table(ddpm("schedule", "compare", "linear", "cosine").done().out)
    levels = [0, 50, 100, 250, 500, 750, 900, 1000]
    assert [(row["kind"], int(row["t"])) for row in rows] == [(k, t) for k in ("linear", "cosine") for t in levels]
    assert list(rows[0]) == ["kind", "t", "beta", "abar", "signal", "noise", "log_snr", "weight"]
    document = compare(ddpm, "linear", "cosine")
    for row in rows:
        values = document[row["kind"]]
        t = int(row["t"])
        assert float(row["abar"]) == values["abars"][t]
        assert float(row["signal"]) == pytest.approx(math.sqrt(values["abars"][t]))
        assert t == 0 or float(row["weight"]) == values["weights"][t]
        assert t == 0 or float(row["beta"]) == values["betas"][t - 1]
        assert values["at"] == levels
    assert rows[0]["weight"] == "nan"
    assert rows[0]["log_snr"] == "inf"


@pytest.mark.parametrize(("T", "levels"), [(1, [0, 1]), (4, [0, 1, 2, 3, 4]), (20, [0, 1, 2, 5, 10, 15, 18, 20])])
def test_a_short_schedule_has_fewer_levels_to_compare(ddpm: Any, T: int, levels: list[int]) -> None:
    assert compare(ddpm, "sigmoid", "--timesteps", T)["sigmoid"]["at"] == levels


def test_compare_writes_every_level_into_a_csv_and_the_document_into_a_json(ddpm: Any, cwd: Path) -> None:
    names = ["linear", "sigmoid", "--timesteps", 30]
    assert ddpm("schedule", "compare", *names, "-o", "a/table.csv").done().out == "a/table.csv\n"
    head, *rows = (cwd / "a/table.csv").read_text().splitlines()
    assert head == "kind,t,beta,abar,signal,noise,log_snr,weight"
    assert [row.split(",")[:2] for row in rows] == [[k, str(t)] for k in ("linear", "sigmoid") for t in range(31)]
    assert rows[1].endswith(",nan")
    document = ddpm("schedule", "compare", *names, "-o", "table.json", "--json").done().json
    assert document["output"] == str(cwd / "table.json")
    assert (document["kinds"], document["timesteps"]) == (["linear", "sigmoid"], 30)
    printed = ddpm("schedule", "compare", *names, "--json").done().json
    assert json.loads((cwd / "table.json").read_text()) == {k: printed[k] for k in ("timesteps", "schedules")}


def test_a_beta_range_is_for_the_kinds_that_have_one(ddpm: Any) -> None:
    found = compare(ddpm, "linear", "cosine", "constant", "--beta-start", 0.001, "--beta-end", 0.03, "--offset", 0.1)
    assert (found["linear"]["betas"][0], found["linear"]["betas"][-1]) == (0.001, pytest.approx(0.03))
    assert set(found["constant"]["betas"]) == {0.001}
    assert found["cosine"]["betas"] == betas(ddpm, "--kind", "cosine", "--offset", 0.1)
    ddpm("schedule", "compare", "cosine", "sigmoid", "--beta-end", 0.03).refused(2, "beta-end", "cosine")
    ddpm("schedule", "compare", "constant", "--beta-end", 0.03).refused(2, "beta-end", "constant")


def test_your_own_schedule_is_one_more(ddpm: Any, cwd: Path) -> None:
    (cwd / "betas.txt").write_text("0.1\n0.5\n0.9\n0.9\n")
    own = ["--from-file", "betas.txt"]
    found = compare(ddpm, *own)
    assert list(found) == ["linear", "cosine", "sigmoid", "custom"]
    assert found["custom"]["betas"] == [0.1, 0.5, 0.9, 0.9]
    assert {each["timesteps"] for each in found.values()} == {4}  # that of the file, where nothing else is said
    assert list(compare(ddpm, "custom", "linear", *own)) == ["custom", "linear"]
    assert list(compare(ddpm, "custom", *own)) == ["custom"]

    apart = ddpm("schedule", "compare", "linear", *own, "--timesteps", 7, "--json").done().json
    assert [each["timesteps"] for each in apart["schedules"]] == [7, 4]
    assert apart["timesteps"] is None
    assert ddpm("schedule", "compare", "linear", *own, "--json").done().json["timesteps"] == 4


def test_what_contradicts_a_file_or_lacks_one_is_2(ddpm: Any, cwd: Path) -> None:
    (cwd / "betas.txt").write_text("0.1\n0.5\n")
    ddpm("schedule", "compare", "linear", "custom").refused(2, "--from-file")
    ddpm("schedule", "compare", "custom", "--timesteps", 2).refused(2, "needs betas", "--from-file")
    alone = ["schedule", "compare", "custom", "--from-file", "betas.txt"]
    ddpm(*alone, "--timesteps", 2).refused(2, "--timesteps", "--from-file")
    ddpm(*alone, "--beta-end", 0.3).refused(2, "--beta-end", "--from-file")
    ddpm("schedule", "compare", "--from-file", "nowhere.txt").refused(3, "nowhere.txt")


@pytest.mark.parametrize("named", [["linear", "cosin"], ["--kind", "linear,cosin"], [""], ["linear,"]], ids=str)
def test_a_kind_that_is_none_is_2(ddpm: Any, named: list[str]) -> None:
    result = ddpm("schedule", "compare", *named)
    result.refused(2, "unknown schedule", "Known: constant, cosine")
    assert ("Did you mean cosine?" in result.err) == ("cosin" in named[-1])


def test_compare_warns_of_each_that_does_not_end_as_noise(ddpm: Any) -> None:
    result = ddpm("schedule", "compare", "linear", "cosine", "scaled-linear", "--beta-end", 0.001).done()
    assert [line.split(" is ")[0] for line in result.err.splitlines()] == [
        "linear: warning: abar_T",
        "scaled-linear: warning: abar_T",
    ]
    assert ddpm("schedule", "compare", "scaled-linear", "-q").done().err == ""


def test_kinds_that_are_typed_beat_those_of_a_settings_file(ddpm: Any, cwd: Path) -> None:
    (cwd / "mine.toml").write_text('[schedule.compare]\nkind = ["constant", "linear"]\ntimesteps = 9\n')
    mine = ["--config", "mine.toml"]
    assert list(compare(ddpm, *mine)) == ["constant", "linear"]
    assert list(compare(ddpm, "cosine", *mine)) == ["cosine"]
    assert list(compare(ddpm, "--kind", "sigmoid", *mine)) == ["sigmoid"]
    assert compare(ddpm, "cosine", *mine)["cosine"]["timesteps"] == 9


def strip_in(svg: bytes, rows: int) -> np.ndarray:
    """The tiles of the strip in a picture: (rows, 8, 28, 28)."""
    from PIL import Image

    (encoded,) = re.findall(rb'xlink:href="data:image/png;base64,\s*([^"]+)"', svg)
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as image:
        canvas = np.asarray(image.convert("L"))
    assert canvas.shape == (30 * rows - 2, 30 * 8 - 2)
    return np.array([[canvas[30 * r : 30 * r + 28, 30 * c : 30 * c + 28] for c in range(8)] for r in range(rows)])


def test_the_picture_shows_one_image_under_one_noise(ddpm: Any, cwd: Path) -> None:
    from ddpm_cli import data

    names = ["linear", "cosine", "--timesteps", 100]
    ddpm("schedule", "compare", *names, "-o", "a.svg").done()
    strip = strip_in((cwd / "a.svg").read_bytes(), 2)
    found = compare(ddpm, *names)
    x_0 = strip[0, 0] / 127.5 - 1
    np.testing.assert_array_equal(strip[1, 0], strip[0, 0])
    assert np.any(np.all(data.load("mnist", split="test").images[:, 0] == strip[0, 0], axis=(1, 2)))

    # Solving x_t = sqrt(abar) x_0 + sqrt(1 - abar) eps for eps gives the same in every tile, where nothing was clipped.
    noise = {}
    for row, kind in enumerate(("linear", "cosine")):
        for column, t in enumerate((0, 5, 10, 25, 50, 75, 90, 100)):
            if t:
                abar, x_t = found[kind]["abars"][t], strip[row, column] / 127.5 - 1
                eps = (x_t - math.sqrt(abar) * x_0) / math.sqrt(1 - abar)
                noise[kind, t] = np.where(np.abs(x_t) < 1, eps, np.nan)
    last = noise["linear", 100]
    inside = np.isfinite(last)
    assert 0.5 < inside.mean() < 0.8  # two thirds of a standard normal lie within 1
    for (kind, t), eps in noise.items():
        both = inside & np.isfinite(eps)
        assert both.sum() > 50
        rounding = (1 / math.sqrt(1 - found[kind]["abars"][t]) + 1) / 255  # half a grey, in both tiles
        np.testing.assert_allclose(eps[both], last[both], rtol=0, atol=1.01 * rounding)


def test_compare_draws_the_same_picture_each_time(ddpm: Any, cwd: Path) -> None:
    for name in ("a.svg", "b.SVG", "a.pdf", "b.PDF"):
        assert ddpm("schedule", "compare", "sigmoid", "--timesteps", 50, "-o", name).done().out == f"{name}\n"
    assert (cwd / "a.svg").read_bytes().startswith(b"<?xml")
    assert (cwd / "a.svg").read_bytes() == (cwd / "b.SVG").read_bytes()
    assert (cwd / "a.pdf").read_bytes() == (cwd / "b.PDF").read_bytes()


def test_compare_sends_a_picture_down_a_pipe(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    from ddpm_cli.cli import main

    assert main(["schedule", "compare", "cosine", "--timesteps", "9", "-o", "-"]) == 0
    assert capsysbinary.readouterr().out.startswith(b"\x89PNG\r\n\x1a\n")


@pytest.mark.parametrize("kinds", [["linear", "cosine", "sigmoid"], ["constant"]])
@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
def test_a_comparison_fits_on_a_terminal(
    ddpm: Any, monkeypatch: pytest.MonkeyPatch, kinds: list[str], size: tuple[int, int]
) -> None:
    monkeypatch.setenv("COLUMNS", str(size[0]))
    monkeypatch.setenv("LINES", str(size[1]))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    shown = ddpm("schedule", "compare", *kinds).done().out
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", shown)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines()  # Rich's bold
    assert size[1] - 4 <= len(lines) < size[1]  # the prompt wants a line too
    assert max(map(len, lines)) <= size[0]
    for title in ("abar: signal left", "weight in the bound", "beta: noise of a step", "log-SNR: ln"):
        assert sum(title in line for line in lines) == 1
    rows = [line.split() for line in lines if line.split()[1:2] and line.split()[1] in kinds]
    assert [row[1] for row in rows] == kinds
    marks = {row[0] for row in rows}
    assert len(marks) == len(kinds)
    if "linear" in kinds:
        assert rows[0][2:] == ["1000", "4e-05", "0.02", "259", "68%"]
        assert sum("xxx" in line for line in lines) >= 4  # the mark of the third is in the drawings too


@pytest.mark.parametrize("options", [[], ["--json"], ["-o", "compare.svg"]], ids=str)
def test_compare_loads_no_torch_and_no_pyplot(cwd: Path, options: list[str]) -> None:
    code = (
        "import sys; from ddpm_cli.cli import main; code = main(sys.argv[1:]);"
        "print(*{'torch', 'torchvision', 'matplotlib.pyplot', 'matplotlib'} & set(sys.modules), file=sys.stderr);"
        "sys.exit(code)"
    )
    command = [sys.executable, "-c", code, "schedule", "compare", "--quiet", "--timesteps", "20", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr.split() == (["matplotlib"] if "-o" in options else [])
    assert list(cwd.iterdir()) == ([cwd / "compare.svg"] if "-o" in options else [])


@pytest.mark.parametrize(
    "options",
    [
        ["--kind", "linear", "--beta-start", 1e-4, "--beta-end", 0.02],
        ["--kind", "constant", "--beta-start", 0.01],
    ],
    ids=str,
)
def test_a_cap_does_not_apply_to_betas_that_are_given(ddpm: Any, options: list[Any]) -> None:
    ddpm("schedule", "show", *options, "--max-beta", 0.001).refused(2, "--max-beta")


def test_betas_that_are_scaled_are_named(ddpm: Any) -> None:
    said = ddpm("schedule", "show", "--kind", "constant", "--timesteps", 100, "--json").done().err
    assert "betas are 0.1:" in said
    assert "scaled" not in ddpm("schedule", "show", "--kind", "cosine", "--timesteps", 100, "--json").done().err
