"""``ddpm schedule``: every kind as table, CSV, JSON and picture, and back. Expected values are closed forms."""

import io
import json
import math
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
    [("plot.png", b"\x89PNG\r\n\x1a\n"), ("plot.svg", b"<?xml"), ("plot.csv", b"t,beta,abar"), ("plot.json", b"{")],
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


@pytest.mark.parametrize("plot_or_show", ["plot", "show"])
@pytest.mark.parametrize("name", ["table.xlsx", "table"])
def test_an_unknown_suffix_is_2(ddpm: Any, cwd: Path, plot_or_show: str, name: str) -> None:
    ddpm("schedule", plot_or_show, "-o", name).refused(2, name, ".csv")
    assert list(cwd.iterdir()) == []


@pytest.mark.parametrize("plot_or_show", ["plot", "show"])
def test_a_pipe_and_json_contradict_each_other(ddpm: Any, plot_or_show: str) -> None:
    ddpm("schedule", plot_or_show, "-o", "-", "--json").refused(2, "--json")


@pytest.mark.parametrize("plot_or_show", ["plot", "show"])
def test_an_unknown_kind_is_2_and_the_nearest_is_named(ddpm: Any, plot_or_show: str) -> None:
    ddpm("schedule", plot_or_show, "--kind", "cosin").refused(2, "cosin", "Did you mean cosine?")


def test_schedule_alone_prints_help(ddpm: Any) -> None:
    out = ddpm("schedule").done().out
    assert out == ddpm("schedule", "--help").done().out
    for name in ("list", "show", "plot"):
        assert f"ddpm schedule {name}" in out or f"\n  {name} " in out
