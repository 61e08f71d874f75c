"""Compiling is tried out where a run may be long, chosen where it saves time, and measured once."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ddpm_cli import machine, paths
from ddpm_cli.config import ScheduleConfig, TrainConfig, UNetConfig
from ddpm_cli.denoiser import Denoiser
from ddpm_cli.networks import build
from ddpm_cli.schedule import Schedule
from ddpm_cli.training import Batches, Length, TrainState, compiling, pays, seconds_a_step
from ddpm_cli.training.compiling import Trial

CONFIG = TrainConfig(batch_size=4)
NETWORK = UNetConfig((1, 8, 8), widths=(8,), blocks=1, attention=(), heads=2)
BATCHES = Batches(
    torch.zeros(8, 1, 8, 8, dtype=torch.uint8), None, 0, Schedule(ScheduleConfig()), CONFIG, torch.device("cpu")
)
HOUR = Length(None, 60, 10**9)
FASTER, SLOWER = Trial(eager=0.5, compiled=0.4, compiling=60), Trial(eager=0.5, compiled=0.6, compiling=60)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DDPM_HOME", str(tmp_path))


def fresh() -> TrainState:
    return TrainState.fresh(Denoiser(build(NETWORK), "v", "level"), CONFIG, None)


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> Callable[[Trial], list[int]]:
    """Makes trials show what a test wants; returns a list that grows with each."""

    def show(trial: Trial) -> list[int]:
        made: list[int] = []

        def try_out(*_: object) -> Trial:
            made.append(1)
            return trial

        monkeypatch.setattr(compiling, "try_out", try_out)
        return made

    monkeypatch.setattr(machine, "compiling_obstacle", lambda _: "")
    return show


def ask(length: Length, recipe: str = "") -> tuple[bool, list[str]]:
    said: list[str] = []
    return pays(fresh, BATCHES, CONFIG, length, recipe, said.append), said


def test_what_is_saved_is_the_difference_of_all_steps_less_the_wait() -> None:
    assert FASTER.saved(1000) == pytest.approx(0.1 * 1000 - 60)
    assert FASTER.saved(100) == pytest.approx(10 - 60)
    assert SLOWER.saved(1000) == pytest.approx(-160)


@pytest.mark.parametrize(
    "length",
    [
        Length(None, 10, 10**9),
        Length(499, None, 10**18),  # long steps, but few
        # 3 x 0.2 GFLOP x batch of 4 x 400,000 steps: 16 minutes at 10^12 a second, which no CPU reaches
        Length(400_000, None, 2 * 10**8),
    ],
)
def test_a_short_run_is_not_compiled_and_costs_no_trial(length: Length, tried: Callable[[Trial], list[int]]) -> None:
    made = tried(FASTER)
    assert ask(length) == (False, ["not compiling: the run is too short for it to pay"])
    assert not made


@pytest.mark.parametrize(
    ("trial", "length", "expected"),
    [
        (FASTER, HOUR, True),  # 7,200 steps save 720 s and cost 60
        (SLOWER, HOUR, False),
        (Trial(0.5, 0.49, 80), HOUR, False),  # 72 s for 80
        (Trial(0.5, 0.49, 70), HOUR, True),
        (FASTER, Length(600, None, 10**12), False),  # 60 s for 60
        (FASTER, Length(700, None, 10**12), True),
    ],
)
def test_a_long_run_is_compiled_where_that_saves_time(
    trial: Trial, length: Length, expected: bool, tried: Callable[[Trial], list[int]]
) -> None:
    tried(trial)
    found, said = ask(length)
    assert found == expected
    assert said[-1].startswith("compiling pays: " if expected else "not compiling: it does not pay here (")
    assert f"{trial.compiled:.3g} s a step instead of {trial.eager:.3g} s" in said[-1]


def test_the_trial_is_made_once_for_each_network_and_batch(tried: Callable[[Trial], list[int]]) -> None:
    made = tried(FASTER)
    assert ask(HOUR)[0]
    assert ask(HOUR)[0]
    assert len(made) == 1
    ask(HOUR, "another network")
    assert len(made) == 2


@pytest.mark.parametrize("content", [b"", b"[]", b'{"a": 3}'])
def test_a_damaged_memory_is_measured_anew(content: bytes, tried: Callable[[Trial], list[int]]) -> None:
    made = tried(FASTER)
    paths.cache().mkdir(parents=True)
    (paths.cache() / "compiling.json").write_bytes(content)
    assert ask(HOUR)[0]
    assert len(made) == 1


def test_without_a_compiler_nothing_is_tried(
    monkeypatch: pytest.MonkeyPatch, tried: Callable[[Trial], list[int]]
) -> None:
    made = tried(FASTER)
    monkeypatch.setattr(machine, "compiling_obstacle", lambda _: "no C++ compiler was found")
    assert ask(HOUR)[0]  # it would be wanted: whoever compiles warns
    assert not made


def test_a_trial_times_steps_and_the_wait_for_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(compiling.time, "perf_counter", lambda: clock[0])

    class Slow(torch.nn.Module):
        """Takes 3 s a call, and once compiled 2 s after a first call of 50 s."""

        def __init__(self) -> None:
            super().__init__()
            self.weight, self.left = torch.nn.Parameter(torch.zeros(())), [3.0]

        def forward(self, x: torch.Tensor, *_: object) -> torch.Tensor:
            clock[0] += self.left[0] if len(self.left) == 1 else self.left.pop(0)
            return x * self.weight

    network = Slow()
    monkeypatch.setattr(machine, "compile_network", lambda network: setattr(network, "left", [50.0, 2.0]))
    found = compiling.try_out(lambda: TrainState.fresh(Denoiser(network, "v", "level"), CONFIG, None), BATCHES, CONFIG)
    assert found == Trial(eager=3, compiled=2, compiling=48)


def test_the_seconds_of_a_step_are_those_of_real_steps() -> None:
    state = fresh()
    assert 1e-4 < seconds_a_step(state, BATCHES, CONFIG) < 10
    assert int(state.optimizer.state[next(state.denoiser.parameters())]["step"]) == compiling.STEPS
