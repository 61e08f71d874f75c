"""Every plan falls strictly to level 0 and pairs each level with the next."""

import math
from itertools import pairwise
from typing import get_args

import numpy as np
import pytest

from ddpm_cli.config import ScheduleConfig, Spacing
from ddpm_cli.sampling import plan
from ddpm_cli.schedule import Schedule

LINEAR = Schedule(ScheduleConfig("linear"))
SPACINGS: tuple[Spacing, ...] = get_args(Spacing)


def times(schedule: Schedule, steps: int, spacing: Spacing, **options: float) -> list[float]:
    return [float(level.t) for level in plan(schedule, steps, spacing, **options)]


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize(
    "config",
    [
        ScheduleConfig("linear", 1000),
        ScheduleConfig("cosine", 37),
        ScheduleConfig("linear", 3),
        ScheduleConfig("linear", 1),
        ScheduleConfig("custom", 2, betas=(0.99999, 0.5)),  # noise from level 1 on
    ],
    ids=lambda config: f"{config.kind}-{config.timesteps}",
)
def test_every_plan_falls_strictly_and_lands_on_0(config: ScheduleConfig, spacing: Spacing) -> None:
    schedule = Schedule(config)
    for steps in range(1, 61):
        levels = plan(schedule, steps, spacing)
        assert all(now.t > after.t for now, after in pairwise(levels))
        assert all(now.log_snr < after.log_snr for now, after in pairwise(levels))
        assert levels[-1] == (0, 1, 0, math.inf)
        assert 2 <= len(levels) <= steps + 1
        assert 0 < levels[0].t <= config.timesteps


@pytest.mark.parametrize(
    ("timesteps", "steps", "expected"),
    [
        (1000, 4, [1000, 750, 500, 250, 0]),
        (1000, 1, [1000, 0]),
        (1000, 7, [1000, 857, 714, 571, 429, 286, 143, 0]),  # 1000 i/7, rounded
        (10, 3, [10, 7, 3, 0]),
    ],
)
def test_uniform_is_an_even_division_of_T_to_0_rounded(timesteps: int, steps: int, expected: list[int]) -> None:
    assert times(Schedule(ScheduleConfig("linear", timesteps)), steps, "uniform") == expected


@pytest.mark.parametrize(
    ("timesteps", "steps", "expected"),
    [
        (1000, 4, [1000, 750, 500, 250, 0]),
        (1000, 3, [1000, 667, 333, 0]),
        (1000, 1, [1000, 0]),
        (5, 5, [5, 4, 3, 2, 1, 0]),
    ],
)
def test_trailing_starts_at_T(timesteps: int, steps: int, expected: list[int]) -> None:
    assert times(Schedule(ScheduleConfig("linear", timesteps)), steps, "trailing") == expected


@pytest.mark.parametrize("spacing", ["uniform", "trailing"])
@pytest.mark.parametrize("steps", [10, 11, 60, 1000])
def test_more_steps_than_levels_visit_every_level_once(spacing: Spacing, steps: int) -> None:
    assert times(Schedule(ScheduleConfig("linear", 10)), steps, spacing) == list(range(10, -1, -1))


@pytest.mark.parametrize(("noisiest", "start"), [(-math.inf, "T"), (-9.0, -9.0), (-3.0, -3.0), (-50.0, "T")])
def test_log_snr_steps_are_even_in_log_snr(noisiest: float, start: float | str) -> None:
    levels = plan(LINEAR, 20, "log-snr", noisiest)
    assert len(levels) == 21
    found = [float(level.log_snr) for level in levels[:-1]]
    # abar_T and abar_1 of the published linear schedule
    first = math.log(4.0358298e-05 / (1 - 4.0358298e-05)) if start == "T" else start
    assert found == pytest.approx(np.linspace(float(first), math.log(0.9999 / 1e-4), 20), abs=1e-6)


def test_log_snr_may_be_finer_than_the_levels() -> None:
    assert len(plan(Schedule(ScheduleConfig("cosine", 10)), 60, "log-snr")) == 61
