"""The machine is asked once, and what it lacks is said before anything starts."""

import os
from pathlib import Path

import pytest
import torch

from ddpm_cli import machine, paths
from ddpm_cli.errors import ResourceError, UsageError

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DDPM_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def devices(monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize("wanted", ["cuda", "mps"])
def test_a_device_that_is_absent_is_a_missing_resource(monkeypatch: pytest.MonkeyPatch, wanted: str) -> None:
    devices(monkeypatch, cuda=False, mps=False)
    with pytest.raises(ResourceError, match=f"no {wanted} device") as caught:
        machine.choose_device(wanted)
    assert caught.value.exit_code == 6
    assert "--device cpu" in caught.value.hint


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(True, True, "cuda:0"), (True, False, "cuda:0"), (False, True, "mps"), (False, False, "cpu")],
)
def test_auto_is_the_first_cuda_device_then_mps_then_the_cpu(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, expected: str
) -> None:
    devices(monkeypatch, cuda, mps)
    assert str(machine.choose_device("auto")) == expected
    assert str(machine.choose_device("cpu")) == "cpu"


def test_half_precision_on_a_cpu_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="fp16"):
        machine.choose_precision("fp16", CPU)


@pytest.mark.parametrize(("wanted", "dtype"), [("float32", torch.float32), ("bf16", torch.bfloat16)])
def test_a_precision_asked_for_is_the_one_used(wanted: str, dtype: torch.dtype) -> None:
    assert machine.choose_precision(wanted, CPU) == dtype


@pytest.mark.parametrize(("seconds", "dtype"), [(0.5, torch.bfloat16), (0.9, torch.float32), (2.0, torch.float32)])
def test_auto_on_a_cpu_is_bf16_only_where_it_is_clearly_faster(
    monkeypatch: pytest.MonkeyPatch, seconds: float, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(machine, "_matrix_seconds", lambda of: seconds if of == torch.bfloat16 else 1.0)
    assert machine.choose_precision("auto", CPU) == dtype


def test_the_measurement_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first = machine.choose_precision("auto", CPU)
    assert first in (torch.bfloat16, torch.float32)

    def again(_: torch.dtype) -> float:
        raise AssertionError("measured twice")

    monkeypatch.setattr(machine, "_matrix_seconds", again)
    assert machine.choose_precision("auto", CPU) == first


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"3", b"\xff", b'{"x": "y"}'])
def test_a_damaged_cache_is_measured_anew(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    paths.cache().mkdir(parents=True)
    (paths.cache() / "bf16.json").write_bytes(content)
    monkeypatch.setattr(machine, "_matrix_seconds", lambda of: 0.1 if of == torch.bfloat16 else 1.0)
    assert machine.bf16_is_fast()


def test_a_cache_that_cannot_be_written_is_no_reason_to_stop(home: Path) -> None:
    home.write_bytes(b"a file where the folder should be")
    assert machine.bf16_is_fast() in (True, False)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinity on this system")
def test_threads_are_no_more_than_theprocessors_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    try:
        for allowed in ({3}, {0, 5}):
            torch.set_num_threads(4)
            monkeypatch.setattr(os, "sched_getaffinity", lambda _, allowed=allowed: allowed)
            assert machine.use_available_threads() == torch.get_num_threads() == len(allowed)
        torch.set_num_threads(1)  # fewer than allowed: torch or the user had a reason
        assert machine.use_available_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_threads_are_what_the_user_said_where_the_user_said_something(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")  # torch read it when it was imported: nothing is left to do
    before = torch.get_num_threads()
    assert machine.use_available_threads() == torch.get_num_threads() == before
