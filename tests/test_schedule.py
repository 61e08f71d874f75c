"""Every schedule is its definition, at any T, and its levels are continuous, monotone and invertible."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ddpm_cli.config import BETA_RANGES, SCHEDULES, Kind, ScheduleConfig
from ddpm_cli.errors import UsageError
from ddpm_cli.schedule import Schedule
from oracles import LINEAR, cosine_betas, evenly, products, sigmoid_abar

DRAWN = [kind for kind in SCHEDULES if kind != "custom"]


def schedule(kind: Kind, timesteps: int = 1000, **options: object) -> Schedule:
    return Schedule(ScheduleConfig(kind, timesteps, **options))  # type: ignore[arg-type]


# --- definitions -----------------------------------------------------------------------------------------------------


def test_linear_has_the_published_values() -> None:
    abars = schedule("linear").abars
    assert abars[500] == pytest.approx(0.07858724288, rel=1e-9)
    assert abars[1000] == pytest.approx(4.0358298e-05, rel=1e-7)


def test_cosine_has_the_published_values_and_exactly_one_clipped_beta() -> None:
    found = schedule("cosine")
    assert found.abars[500] == pytest.approx(0.49384359044, rel=1e-10)
    assert np.flatnonzero(found.betas == 0.999).tolist() == [1000]
    assert math.sqrt(1 / found.abars[1000]) == pytest.approx(20_291, abs=1)


def test_sigmoid_is_half_way_in_the_middle() -> None:
    assert schedule("sigmoid").abars[500] == pytest.approx(0.5, abs=1e-12)


@pytest.mark.parametrize("timesteps", [2, 10, 1000])
def test_constant_is_a_power(timesteps: int) -> None:
    found = schedule("constant", timesteps, beta_start=0.3)
    assert found.abars == pytest.approx([0.7**t for t in range(timesteps + 1)], rel=1e-11)


@pytest.mark.parametrize("timesteps", [2, 10, 1000])
def test_linear_betas_are_evenly_spaced(timesteps: int) -> None:
    found = schedule("linear", timesteps, beta_start=0.01, beta_end=0.4)
    assert found.betas[1:] == pytest.approx(evenly(0.01, 0.4, timesteps), rel=1e-12)


@pytest.mark.parametrize("timesteps", [2, 10, 1000])
def test_quadratic_betas_have_evenly_spaced_roots(timesteps: int) -> None:
    found = schedule("quadratic", timesteps, beta_start=0.01, beta_end=0.4)
    roots = evenly(math.sqrt(0.01), math.sqrt(0.4), timesteps)
    assert found.betas[1:] == pytest.approx([root**2 for root in roots], rel=1e-12)


def test_scaled_linear_is_quadratic_with_the_range_of_latent_diffusion() -> None:
    same = schedule("quadratic", beta_start=0.00085, beta_end=0.012)
    np.testing.assert_array_equal(schedule("scaled-linear").betas, same.betas)


@pytest.mark.parametrize(("offset", "cap"), [(0.008, 0.999), (0.0, 0.999), (0.1, 0.5)])
@pytest.mark.parametrize("timesteps", [1, 7, 1000])
def test_cosine_is_its_definition(timesteps: int, offset: float, cap: float) -> None:
    found = schedule("cosine", timesteps, offset=offset, max_beta=cap)
    assert found.betas[1:] == pytest.approx(cosine_betas(timesteps, offset, cap), rel=1e-9, abs=1e-15)


@pytest.mark.parametrize(("start", "end", "tau"), [(-3, 3, 1), (0, 3, 0.7), (-3, 1, 1.1)])
@pytest.mark.parametrize("timesteps", [7, 1000])
def test_sigmoid_is_its_definition_up_to_the_clipped_last_beta(
    timesteps: int, start: float, end: float, tau: float
) -> None:
    found = schedule("sigmoid", timesteps, start=start, end=end, tau=tau)
    expected = [sigmoid_abar(t / timesteps, start, end, tau) for t in range(timesteps)]
    assert found.abars[:-1] == pytest.approx(expected, rel=1e-9)
    assert found.betas[-1] == 0.999  # abar would end at 0


def test_custom_betas_are_taken_as_they_are() -> None:
    found = schedule("custom", 3, betas=(0.1, 0.7, 0.2))
    assert found.betas.tolist() == [0, 0.1, 0.7, 0.2]
    assert found.abars == pytest.approx([1, 0.9, 0.27, 0.216])


@pytest.mark.parametrize("kind", BETA_RANGES)
def test_the_default_range_is_scaled_to_T_and_capped(kind: Kind) -> None:
    (first, last), at_1000 = BETA_RANGES[kind], schedule(kind).betas
    assert at_1000[[1, -1]] == pytest.approx([first, last])
    assert schedule(kind, 4000).betas[[1, -1]] == pytest.approx([first / 4, last / 4])
    assert schedule(kind, 100).betas[[1, -1]] == pytest.approx([10 * first, 10 * last])
    assert schedule(kind, 5, max_beta=0.9).betas[-1] == pytest.approx(min(200 * last, 0.9))


def test_the_ranges_are_those_of_the_papers() -> None:
    assert BETA_RANGES["linear"] == BETA_RANGES["quadratic"] == (1e-4, 0.02)
    assert BETA_RANGES["scaled-linear"] == (0.00085, 0.012)


def test_a_given_range_is_not_scaled() -> None:
    assert schedule("linear", 100, beta_start=1e-4, beta_end=0.02).abars[-1] == pytest.approx(0.36, abs=0.005)


@pytest.mark.parametrize(
    ("options", "noise"),
    [({}, True), ({"beta_start": 1e-4, "beta_end": 0.02}, False)],
)
def test_whether_the_chain_ends_as_noise(options: dict[str, float], noise: bool) -> None:
    assert schedule("linear", 100, **options).ends_as_noise is noise
    assert schedule("custom", 1, betas=(0.9989,)).ends_as_noise is False
    assert schedule("custom", 1, betas=(0.9991,)).ends_as_noise is True


@pytest.mark.parametrize("kind", DRAWN)
@given(timesteps=st.integers(1, 400) | st.sampled_from([1, 2, 1000, 4000]))
def test_any_T_gives_T_plus_1_levels_from_clean_to_noisy(kind: Kind, timesteps: int) -> None:
    found = schedule(kind, timesteps)
    assert found.timesteps == timesteps
    for values in (found.betas, found.abars, found.log_snr):
        assert values.shape == (timesteps + 1,)
        assert values.dtype == np.float64
    assert (found.betas[0], found.abars[0], found.log_snr[0]) == (0, 1, math.inf)
    assert np.all((found.betas[1:] > 0) & (found.betas[1:] < 1))
    assert found.abars == pytest.approx(products(found.betas[1:]), rel=1e-9)
    assert np.all(np.diff(found.log_snr) < 0)


@given(st.floats(-9, 9), st.floats(0.5, 9), st.floats(0.02, 10), st.integers(1, 1000))
@example(8.0, 8.0, 0.02, 8)  # abar passes exp(-800), which is no float
def test_a_sigmoid_is_refused_or_a_schedule(start: float, width: float, tau: float, timesteps: int) -> None:
    try:
        found = schedule("sigmoid", timesteps, start=start, end=start + width, tau=tau)
    except UsageError:
        return
    assert np.all((found.betas[1:] > 0) & (found.betas[1:] < 1))
    assert np.all(np.diff(found.log_snr) < 0)


@given(st.lists(st.floats(1e-6, 0.999), min_size=1, max_size=50))
def test_any_custom_betas_are_a_schedule(betas: list[float]) -> None:
    found = schedule("custom", len(betas), betas=tuple(betas))
    assert found.abars == pytest.approx(products(betas), rel=1e-9)
    assert np.all(np.diff(found.log_snr) < 0)


def test_the_clean_end_keeps_its_digits() -> None:
    beta = 1e-12
    found = schedule("custom", 1, betas=(beta,))
    assert found.level(1).noise == pytest.approx(1e-6, rel=1e-9)
    assert found.log_snr[1] == pytest.approx(math.log((1 - beta) / beta), rel=1e-12)


# --- the weight of the bound ----------------------------------------------------------------------------------------


def test_the_weight_is_that_of_a_hand_calculation() -> None:
    # abar is 0.9, 0.27, 0.216, so SNR is 9, 27/73, 27/98.
    found = schedule("custom", 3, betas=(0.1, 0.7, 0.2)).bound_weights
    assert found[2:] == pytest.approx([(9 / (27 / 73) - 1) / 2, ((27 / 73) / (27 / 98) - 1) / 2], rel=1e-12)
    assert found[2:] == pytest.approx([35 / 3, 25 / 146], rel=1e-12)


@pytest.mark.parametrize("kind", DRAWN)
@pytest.mark.parametrize("timesteps", [2, 50, 1000])
def test_the_weight_is_that_of_the_paper_with_the_variance_of_the_posterior(kind: Kind, timesteps: int) -> None:
    found = schedule(kind, timesteps)
    betas, abars = found.betas.tolist(), products(found.betas[1:])
    for t in range(2, timesteps + 1):
        variance = betas[t] * (1 - abars[t - 1]) / (1 - abars[t])
        textbook = betas[t] ** 2 / (2 * variance * (1 - betas[t]) * (1 - abars[t]))
        assert found.bound_weights[t] == pytest.approx(textbook, rel=1e-9)


@pytest.mark.parametrize("timesteps", [1, 2, 1000])
def test_the_first_two_levels_have_no_weight(timesteps: int) -> None:
    weights = schedule("cosine", timesteps).bound_weights
    assert weights.shape == (timesteps + 1,)
    assert weights.dtype == np.float64
    assert np.isnan(weights).tolist() == [True, True] + [False] * (timesteps - 1)


@given(st.lists(st.floats(1e-9, 0.999), min_size=2, max_size=50))
def test_the_weights_together_are_the_way_from_the_first_snr_to_the_last(betas: list[float]) -> None:
    found = schedule("custom", len(betas), betas=tuple(betas))
    way = sum(math.log1p(2 * weight) for weight in found.bound_weights[2:])  # each 1 + 2w is a ratio of neighbours
    assert way == pytest.approx(found.log_snr[1] - found.log_snr[-1], rel=1e-9)


def test_a_tiny_step_keeps_the_digits_of_its_weight() -> None:
    # beta / (2 alpha (1 - abar)), where 1 - abar of the level before is exactly the first beta.
    found = schedule("custom", 2, betas=(0.25, 1e-12))
    assert found.bound_weights[2] == pytest.approx(1e-12 / (2 * 0.25), rel=1e-3)
    assert schedule("custom", 2, betas=(1e-310, 0.9)).bound_weights[2] == math.inf


# --- levels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("t", [1, 2, 499, 500, 999, 1000])
def test_a_whole_level_is_its_abar(t: int) -> None:
    level = schedule("linear").level(t)
    assert level.t == t
    assert level.signal == pytest.approx(math.sqrt(LINEAR[t]), rel=1e-9)
    assert level.noise == pytest.approx(math.sqrt(1 - LINEAR[t]), rel=1e-9)
    assert level.log_snr == pytest.approx(math.log(LINEAR[t] / (1 - LINEAR[t])), rel=1e-9)


def test_level_0_is_clean() -> None:
    assert schedule("cosine").level(0) == (0, 1, 0, math.inf)


def test_levels_keep_the_shape_of_t_and_float64() -> None:
    level = schedule("linear").level([[0, 1, 2.5], [1000, 7, 0.3]])
    for field in level:
        assert field.shape == (2, 3)
        assert field.dtype == np.float64
    assert all(field.shape == () for field in schedule("linear").level(3))


@given(st.integers(1, 999), st.floats(0, 1))
def test_log_snr_is_linear_between_whole_levels(t: int, share: float) -> None:
    low, high = (math.log(LINEAR[s] / (1 - LINEAR[s])) for s in (t, t + 1))
    level = schedule("linear").level(t + share)
    assert level.log_snr == pytest.approx(low + share * (high - low), rel=1e-7, abs=1e-7)
    assert level.signal**2 / level.noise**2 == pytest.approx(math.exp(level.log_snr), rel=1e-9)
    assert level.signal**2 + level.noise**2 == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("kind", DRAWN)
def test_levels_are_continuous_and_fall_from_clean_to_noise(kind: Kind) -> None:
    found = schedule(kind, 20)
    level = found.level(np.linspace(0, 20, 20_001))
    assert np.all(np.diff(level.log_snr) < 0)
    assert np.all(np.diff(level.noise) > 0)
    assert np.all(np.diff(level.signal) < 0)
    # A jump would not shrink with the distance. At 0 the noise starts like sqrt(t).
    for t in range(1, 20):
        below, above = found.level(t - 1e-9), found.level(t + 1e-9)
        assert below.noise == pytest.approx(above.noise, abs=1e-6)
    assert found.level(1e-12).noise < 2e-6


@pytest.mark.parametrize("kind", DRAWN)
@given(share=st.floats(0, 1), timesteps=st.sampled_from([1, 3, 1000]))
def test_level_of_is_the_inverse_of_level(kind: Kind, share: float, timesteps: int) -> None:
    found = schedule(kind, timesteps)
    level = found.level(share * timesteps)
    back = found.level_of(level.log_snr)
    for found_again, field in zip(back, level, strict=True):
        assert found_again == pytest.approx(field, rel=1e-8, abs=1e-12)


def test_the_ends_have_an_inverse_too() -> None:
    found = schedule("linear")
    assert found.level_of(math.inf) == (0, 1, 0, math.inf)
    assert found.level_of(found.log_snr[-1]).t == 1000
    assert found.level_of(found.log_snr[1]).t == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("t", [-0.001, 1000.001, math.nan, math.inf, [3, -1]])
def test_there_is_no_level_outside_0_to_T(t: object) -> None:
    with pytest.raises(ValueError, match="outside"):
        schedule("linear").level(t)  # type: ignore[arg-type]


@pytest.mark.parametrize("log_snr", [-10.2, -math.inf, math.nan])
def test_there_is_no_level_noisier_than_T(log_snr: float) -> None:
    with pytest.raises(ValueError, match="below level T"):
        schedule("linear").level_of(log_snr)


# --- zero terminal SNR -----------------------------------------------------------------------------------------------


def to_zero(betas: list[float]) -> list[float]:
    """abars of Lin et al. 2023, algorithm 1, in exact fractions of what it takes: sqrt(abar)."""
    roots = [math.sqrt(abar) for abar in products(betas)]
    first, last = roots[1], roots[-1]
    return [1.0] + [((root - last) * first / (first - last)) ** 2 for root in roots[1:]]


@pytest.mark.parametrize("kind", DRAWN)
@pytest.mark.parametrize("timesteps", [2, 3, 10, 1000])
def test_the_rescaled_schedule_is_that_of_the_paper(kind: Kind, timesteps: int) -> None:
    plain = schedule(kind, timesteps)
    found = schedule(kind, timesteps, zero_terminal_snr=True)
    np.testing.assert_allclose(found.abars, to_zero(list(plain.betas[1:])), rtol=1e-9, atol=1e-15)
    assert found.abars[1] == plain.abars[1]
    assert (found.abars[-1], found.betas[-1], found.log_snr[-1]) == (0, 1, -math.inf)
    assert np.all((found.betas[1:-1] > 0) & (found.betas[1:-1] < 1))
    assert np.all(np.diff(found.log_snr) < 0)
    np.testing.assert_allclose(np.cumprod(1 - found.betas), found.abars, rtol=1e-9)
    assert found.ends_as_noise


def test_the_rescaled_linear_schedule_has_the_published_end() -> None:
    """Lin et al. 2023, table 1: Stable Diffusion's schedule ends at sqrt(abar) 0.068265, and at 0 when rescaled."""
    assert schedule("scaled-linear").level(1000).signal == pytest.approx(0.068265, abs=1e-6)
    assert schedule("scaled-linear", zero_terminal_snr=True).level(1000) == (1000, 0, 1, -math.inf)


@pytest.mark.parametrize("kind", DRAWN)
def test_levels_fall_to_nothing_without_a_jump(kind: Kind) -> None:
    found = schedule(kind, 20, zero_terminal_snr=True)
    level = found.level(np.linspace(0, 20, 20_001))
    assert np.all(np.diff(level.log_snr) < 0)
    assert np.all(np.diff(level.signal) < 0)
    assert found.level(19 + 1e-9).signal == pytest.approx(found.level(19).signal, abs=1e-6)
    # Over the last step the signal's scale falls in a straight line.
    assert found.level(19.75).signal == pytest.approx(found.level(19).signal / 4, rel=1e-9)
    for t in (0.5, 1, 7.3, 18.9, 19, 19.01, 19.999, 20):
        back = found.level_of(found.level(t).log_snr)
        for found_again, field in zip(back, found.level(t), strict=True):
            assert found_again == pytest.approx(field, rel=1e-8, abs=1e-12)


def test_a_schedule_without_signal_before_its_end_cannot_be_rescaled() -> None:
    with pytest.raises(UsageError, match="lost all signal before level T"):
        schedule("constant", beta_start=0.9, zero_terminal_snr=True)


def test_a_single_step_cannot_be_rescaled() -> None:
    with pytest.raises(UsageError, match="2 or more"):
        schedule("linear", 1, zero_terminal_snr=True)
