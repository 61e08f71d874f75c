"""Every plan falls strictly to level 0 and pairs each level with the next."""

import math
from itertools import pairwise
from typing import get_args

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

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


@example("log-snr", 2, ScheduleConfig("sigmoid", 2), 0.0)  # where level 1 has a log-SNR of 1e-16
@given(
    st.sampled_from(SPACINGS),
    st.integers(1, 3000),
    st.builds(ScheduleConfig, st.sampled_from(("linear", "cosine", "sigmoid", "constant")), st.integers(2, 1200)),
    st.floats(-30, 5),
)
@settings(deadline=None, max_examples=200)
def test_whatever_is_asked_for(spacing: Spacing, steps: int, config: ScheduleConfig, noisiest: float) -> None:
    schedule = Schedule(config)
    levels = plan(schedule, steps, spacing, noisiest)
    assert all(now.t > after.t and now.log_snr < after.log_snr for now, after in pairwise(levels))
    assert levels[-1] == (0, 1, 0, math.inf)
    assert 2 <= len(levels) <= steps + 1
    assert levels[0].t <= config.timesteps
    assert levels[-2].t >= 1 - 1e-9  # where there is a clean-image question


@pytest.mark.parametrize(
    ("timesteps", "steps", "expected"),
    [
        (1000, 4, [1000, 562, 250, 62, 0]),  # 1000 (1 - i/4)^2
        (1000, 1, [1000, 0]),
        (9, 3, [9, 4, 1, 0]),
        (10, 5, [10, 6, 4, 2, 0]),  # 10, 6.4, 3.6, 1.6, 0.4, 0: the last two are one
    ],
)
def test_quadratic_is_denser_at_the_clean_end(timesteps: int, steps: int, expected: list[int]) -> None:
    assert times(Schedule(ScheduleConfig("linear", timesteps)), steps, "quadratic") == expected


@pytest.mark.parametrize(
    ("timesteps", "steps", "expected"),
    [
        (1000, 4, [751, 501, 251, 1, 0]),
        (1000, 3, [667, 334, 1, 0]),
        (1000, 1, [1, 0]),
        (5, 5, [5, 4, 3, 2, 1, 0]),
        (5, 9, [5, 4, 3, 2, 1, 0]),
    ],
)
def test_leading_takes_the_first_of_every_part(timesteps: int, steps: int, expected: list[int]) -> None:
    assert times(Schedule(ScheduleConfig("linear", timesteps)), steps, "leading") == expected


@pytest.mark.parametrize("noisiest", [-math.inf, -9.0, -3.0])
def test_karras_steps_are_those_of_equation_5(noisiest: float) -> None:
    levels = plan(LINEAR, 20, "karras", noisiest)
    sigma = [float(level.noise / level.signal) for level in levels]
    ends = [max(noisiest, math.log(4.0358298e-05 / (1 - 4.0358298e-05))), math.log(0.9999 / 1e-4)]
    highest, lowest = (math.exp(-log_snr / 2) for log_snr in ends)
    # Karras et al. 2022, with rho = 7, and 0 at the end
    expected = [(highest ** (1 / 7) + i / 19 * (lowest ** (1 / 7) - highest ** (1 / 7))) ** 7 for i in range(20)]
    assert sigma == pytest.approx([*expected, 0], rel=1e-6)


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


@pytest.mark.parametrize("spacing", ["uniform", "leading", "trailing"])
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


@pytest.mark.parametrize("spacing", ["uniform", "trailing", "leading"])
@pytest.mark.parametrize("timesteps", [1, 2, 7, 100, 1000])
def test_more_steps_than_timesteps_visit_each_once_as_T_steps_do(spacing: Spacing, timesteps: int) -> None:
    schedule = Schedule(ScheduleConfig("linear", timesteps))
    for steps in (timesteps, timesteps + 1, 2 * timesteps + 1, 5 * timesteps):
        assert times(schedule, steps, spacing) == list(range(timesteps, -1, -1))
