"""The proof of exact resume finds what it should: that all is well, and every way in which it is not."""

import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from ddpm_cli import checkpoint, config, networks, rehearsal, runs
from ddpm_cli.checkpoint import Info
from ddpm_cli.config import RECIPES, ScheduleConfig, UNetConfig
from ddpm_cli.diagnosis import Finding
from ddpm_cli.rehearsal import Case, End
from ddpm_cli.training import TrainState

CPU = torch.device("cpu")
STOPPED = Case("float32", "default", 1, killed=False)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One thread, fewer and smaller steps, and temporary folders where the test can see them."""
    small = partial(UNetConfig, widths=(8,), blocks=1, attention=(), heads=1)
    monkeypatch.setitem(config.PRESETS, "tiny", (small, ""))
    monkeypatch.setattr(networks, "count_flops", lambda _: 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    monkeypatch.setattr(rehearsal, "STEPS", 24)
    monkeypatch.setattr(rehearsal, "STOPS", (10, 18))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def choose(*cases: Case) -> None:
        monkeypatch.setattr(rehearsal, "cases", lambda _: iter(cases))

    return choose


def files_below(place: Path) -> list[Path]:
    return [path for path in place.rglob("*") if path.is_file()]


# --- what is tried ---


def test_a_cpu_is_tried_in_both_its_precisions_with_both_optimizers_whole_and_in_parts() -> None:
    cases = list(rehearsal.cases(CPU))
    assert {case.precision for case in cases} == {"float32", "bf16"}
    for precision in ("float32", "bf16"):
        these = [case for case in cases if case.precision == precision]
        assert {RECIPES[case.recipe][0].optimizer for case in these} == {"adamw", "adam"}
        assert {case.accumulate > 1 for case in these} == {True, False}
    assert len({case.name for case in cases}) == len(cases)
    assert cases[0].killed


def test_a_device_that_cannot_compute_in_a_precision_is_not_asked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    def ones(*size: int, dtype: torch.dtype, **_: Any) -> torch.Tensor:
        if dtype == torch.bfloat16:
            raise TypeError("BFloat16 is not supported on MPS")
        return torch.zeros(size, dtype=dtype) + 1

    monkeypatch.setattr(torch, "ones", ones)
    assert {case.precision for case in rehearsal.cases(CPU)} == {"float32"}


# --- what is found ---


@pytest.mark.parametrize("precision", ["float32", pytest.param("bf16", marks=pytest.mark.slow)])
def test_runs_that_were_stopped_end_in_the_same_bytes(only: Callable[..., None], precision: Any) -> None:
    only(Case(precision, "report", 2, killed=False))
    (finding,) = rehearsal.rehearse("cpu")
    assert finding.name == f"{precision} Adam in 2 parts"
    assert finding.state == "ok", finding
    assert finding.found.startswith("sha256 ")
    assert "of 24" in finding.found


def forget_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    take = TrainState.take

    def forget(self: TrainState, tensors: dict[str, torch.Tensor]) -> None:
        take(self, {name: value * (0 if ".exp_avg." in name else 1) for name, value in tensors.items()})

    monkeypatch.setattr(TrainState, "take", forget)


def repeat_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    take = runs.Run._take

    def repeat(self: runs.Run, position: Any) -> None:
        take(self, replace(position, step=position.step - 1))

    monkeypatch.setattr(runs.Run, "_take", repeat)


def lose_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    cut = rehearsal.records.cut

    def lose(path: Path, step: int) -> Any:
        return cut(path, step - 1)

    monkeypatch.setattr(rehearsal.records, "cut", lose)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (forget_moments, ["sha256", "expected", "apart"]),
        pytest.param(repeat_a_step, ["sha256"], marks=pytest.mark.slow),
        (lose_a_line, ["metrics.jsonl"]),
    ],
)
def test_whatever_does_not_come_back_is_a_problem(
    only: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    fault: Callable[[pytest.MonkeyPatch], None],
    words: list[str],
) -> None:
    only(STOPPED)
    monkeypatch.setattr(rehearsal, "STOPS", (20,))  # the step after it has a line
    fault(monkeypatch)
    (finding,) = rehearsal.rehearse("cpu")
    assert finding.state == "problem"
    assert all(word in finding.found for word in words), finding.found
    assert "ddpm doctor --verify-resume --json" in finding.advice


def test_a_case_that_fails_does_not_keep_the_others_from_being_tried(
    only: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise OSError("no more processes")

    monkeypatch.setattr(rehearsal, "_kill", fail)
    only(STOPPED._replace(killed=True), STOPPED)
    first, second = rehearsal.rehearse("cpu")
    assert (first.state, second.state) == ("problem", "ok")
    assert "no more processes" in first.found


@pytest.mark.slow
def test_a_process_that_ends_by_itself_is_a_problem_in_its_own_words(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()  # which holds no run
    with pytest.raises(rehearsal.ResourceError, match=r"ended by itself with code \d: "):
        rehearsal._kill(tmp_path / "run", CPU)


@pytest.mark.parametrize(("killed", "words"), [(None, "within 30 seconds"), (24, "too soon")])
def test_a_run_that_could_not_be_killed_proves_nothing_and_is_no_problem(
    only: Callable[..., None], monkeypatch: pytest.MonkeyPatch, killed: int | None, words: str
) -> None:
    monkeypatch.setattr(rehearsal, "_kill", lambda *_: killed)
    only(STOPPED._replace(killed=True))
    (finding,) = rehearsal.rehearse("cpu")
    assert finding.state == "warning"
    assert words in finding.found


def test_when_time_is_up_no_other_case_begins(only: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "LIMIT", -1)
    only(STOPPED, STOPPED)
    assert [(finding.state, "not tried" in finding.found) for finding in rehearsal.rehearse("cpu")] == [
        ("warning", True)
    ] * 2


# --- what is left behind ---


@pytest.mark.parametrize("wrong", [None, KeyboardInterrupt])
def test_nothing_is_left_behind(
    only: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wrong: type[BaseException] | None
) -> None:
    only(STOPPED)
    seen: list[str] = []

    def look(_case: Case, place: Path, _device: torch.device) -> Any:
        seen.extend([os.environ["DDPM_HOME"], str(place)])
        assert len(files_below(tmp_path / "temporary")) == rehearsal.IMAGES
        if wrong:
            raise wrong
        yield Finding("x", "ok", "")

    monkeypatch.setattr(rehearsal, "_try", look)
    home = os.environ["DDPM_HOME"]
    if wrong:
        with pytest.raises(wrong):
            list(rehearsal.rehearse("cpu"))
    else:
        list(rehearsal.rehearse("cpu"))
    assert all(path.startswith(str(tmp_path / "temporary")) for path in seen)
    assert os.environ["DDPM_HOME"] == home
    assert files_below(tmp_path) == []


# --- devices that may add up in any order ---


@pytest.fixture
def end(tmp_path: Path) -> Callable[..., End]:
    """The end of a run whose weights are off by so much of the largest one."""
    network = config.network_for("tiny", (1, 4, 4), 0)
    weights = {name: torch.zeros(value.shape) for name, value in networks.build(network).state_dict().items()}
    first = min(weights)

    def make(off: float, steps: tuple[int, ...] = (10, 20)) -> End:
        path = tmp_path / f"{off}.safetensors"
        tensors = {f"raw.{name}": torch.full_like(value, 2.0) for name, value in weights.items()}
        tensors[f"raw.{first}"].reshape(-1)[0] -= 2 * off
        info = checkpoint.save(path, tensors, Info(network, ScheduleConfig(), "v"))
        return End(20, info.id, [{"step": step, "loss": off} for step in steps], path)

    return make


@pytest.mark.parametrize(
    ("off", "usual", "state"),
    [
        (5e-7, 0.0, "warning"),
        (1e-3, 0.0, "problem"),
        (1e-3, 5e-4, "warning"),
        (1e-3, 2e-5, "problem"),
    ],
)
def test_a_gpu_is_held_to_what_it_does_without_a_stop(
    end: Callable[..., End], off: float, usual: float, state: str
) -> None:
    assert rehearsal.distance(end(0.0).model, end(off).model) == pytest.approx(off, rel=0.1)
    finding = rehearsal._judge("x", "after a stop", end(0.0), end(off), end(usual))
    assert finding.state == state, finding


def test_a_line_that_is_missing_is_a_problem_on_any_device(end: Callable[..., End]) -> None:
    finding = rehearsal._judge("x", "after a stop", end(0.0), end(0.0, (10,)), end(0.0))
    assert finding.state == "problem"
    assert "line 2 of metrics.jsonl null" in finding.found


# --- as users run it ---


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_all_of_it_on_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With a real process, really killed, and time enough where others are at work."""
    monkeypatch.undo()
    monkeypatch.setenv("DDPM_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(rehearsal, "LIMIT", 800)
    monkeypatch.setattr(rehearsal, "PATIENCE", 100)
    findings = list(rehearsal.rehearse("cpu"))
    assert [finding.state for finding in findings] == ["ok"] * 4, json.dumps(findings)
    assert "a kill and going on from step 17" in findings[0].found
