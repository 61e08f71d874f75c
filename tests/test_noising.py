"""The forward process step by step is the one in a jump, the naive one is not, and one dimension is exact."""

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy import integrate, stats

from ddpm_cli import noising
from ddpm_cli.config import ScheduleConfig
from ddpm_cli.errors import UsageError
from ddpm_cli.noising import EXAMPLE, Mark, Mixture, noise_of
from ddpm_cli.schedule import Level, Schedule
from oracles import LINEAR, M, S, evenly, products

LINEAR_SCHEDULE = Schedule(ScheduleConfig("linear"))
T = 12
BETAS = evenly(0.05, 0.6, T)
ABARS = products(BETAS)
SHORT = Schedule(ScheduleConfig("linear", T, beta_start=0.05, beta_end=0.6))
LAWS = {
    "gaussian": stats.norm(),
    "uniform": stats.uniform(-math.sqrt(3), 2 * math.sqrt(3)),
    "laplace": stats.laplace(scale=math.sqrt(0.5)),
    "gamma": stats.gamma(4, loc=-2, scale=0.5),
}


# --- noise ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", LAWS)
def test_every_kind_of_noise_follows_its_law_of_mean_0_and_variance_1(kind) -> None:
    law = LAWS[kind]
    assert law.mean() == pytest.approx(0, abs=1e-12)
    assert law.var() == pytest.approx(1)
    draw = noise_of(kind, 0, 0, (40_000,))(0)
    assert stats.kstest(draw, law.cdf).pvalue > 1e-3
    assert draw.mean() == pytest.approx(0, abs=0.02)
    assert draw.var() == pytest.approx(1, abs=0.05)
    assert stats.skew(draw) == pytest.approx(float(law.stats("s")), abs=0.1)
    for other in LAWS.keys() - {kind}:
        assert stats.kstest(draw, LAWS[other].cdf).pvalue < 1e-6


def test_noise_belongs_to_its_seed_its_image_and_its_step() -> None:
    draws = {
        key: noise_of("gaussian", key[0], key[1], (4, 4))(key[2]).tobytes()
        for key in [(s, i, t) for s in range(3) for i in range(3) for t in range(3)]
    }
    assert len(set(draws.values())) == 27
    assert noise_of("gaussian", 1, 2, (4, 4))(0).tobytes() == draws[1, 2, 0]


# --- levels as people write them ------------------------------------------------------------------------------------


def test_levels_and_percentages_stay_in_the_order_asked_for() -> None:
    assert noising.marks("500, 25%,0.5,25 %", 1000) == [
        Mark(500, "t = 500"),
        Mark(250, "25 %"),
        Mark(0.5, "t = 0.5"),
        Mark(250, "25 %"),
    ]


@pytest.mark.parametrize(
    ("text", "timesteps", "t"),
    [("0%", 1000, 0), ("100%", 1000, 1000), ("33.3%", 1000, 333), ("12.5%", 20, 3), ("0.01%", 1000, 1), ("1%", 10, 1)],
)
def test_a_percentage_is_the_nearest_whole_level_and_never_clean_above_zero(text, timesteps, t) -> None:
    assert noising.marks(text, timesteps)[0].t == t


def test_a_bare_zero_among_percentages_is_one_of_them() -> None:
    assert [mark.caption for mark in noising.marks("0,5%", 1000)] == ["0 %", "5 %"]
    assert [mark.caption for mark in noising.marks("0,5", 1000)] == ["t = 0", "t = 5"]
    assert noising.marks("1000000", 1_000_000)[0].caption == "t = 1000000"


@pytest.mark.parametrize("text", ["", "0,,5", "half", "5%%", "-1", "1000.5", "101%", "-1%", "nan", "inf", "nan%"])
def test_what_is_no_level_is_refused(text) -> None:
    with pytest.raises(UsageError):
        noising.marks(text, 1000)


def test_an_animation_visits_whole_levels_evenly() -> None:
    assert noising.evenly(1000, 4) == [0, 250, 500, 750, 1000]
    assert noising.evenly(3, 60) == [0, 1, 2, 3]
    steps = np.diff(noising.evenly(1000, 60))
    assert set(steps) == {16, 17}


# --- the processes --------------------------------------------------------------------------------------------------


def unit(step: int) -> np.ndarray:
    """Noise that is 1 in one place, another each step: a linear process shows how much of each draw it holds."""
    return np.eye(T + 1)[step]


def test_the_chain_holds_as_much_image_and_noise_as_the_closed_form_at_every_level() -> None:
    # x_t is linear in x_0 and in each draw. With Gaussian draws, equal sums of squares are equal distributions.
    clean = list(noising.chain(np.ones(1), SHORT, lambda _: np.zeros(1)))
    noisy = list(noising.chain(np.zeros(T + 1), SHORT, unit))
    assert len(clean) == len(noisy) == T + 1
    for t in range(T + 1):
        assert float(clean[t][0]) == pytest.approx(math.sqrt(ABARS[t]), rel=1e-12)
        assert float(np.square(noisy[t]).sum()) == pytest.approx(1 - ABARS[t], rel=1e-9, abs=1e-15)
        # The newest draw enters with sqrt(beta_t), an older one has faded since.
        for s in range(1, t + 1):
            share = BETAS[s - 1] * ABARS[t] / ABARS[s]
            assert noisy[t][s] ** 2 == pytest.approx(share, rel=1e-9)


def test_gaussian_chain_and_closed_form_agree_in_distribution() -> None:
    x_0 = np.full(40_000, 0.6)
    walk = list(noising.chain(x_0, SHORT, noise_of("gaussian", 3, 0, x_0.shape)))
    times = list(range(1, T + 1))
    jumps = list(noising.closed_form(x_0, SHORT, times, noise_of("gaussian", 4, 0, x_0.shape)))
    for t in times:
        law = stats.norm(math.sqrt(ABARS[t]) * 0.6, math.sqrt(1 - ABARS[t]))
        assert stats.kstest(walk[t], law.cdf).pvalue > 1e-3
        assert stats.kstest(jumps[t - 1], law.cdf).pvalue > 1e-3
    # But not level by level: the jumps share one noise, the chain forgets.
    assert np.corrcoef(jumps[0], jumps[-1])[0, 1] == pytest.approx(1)
    faded = math.sqrt(ABARS[T] / ABARS[1] * (1 - ABARS[1]) / (1 - ABARS[T]))
    assert np.corrcoef(walk[1], walk[T])[0, 1] == pytest.approx(faded, abs=0.02)


@pytest.mark.parametrize("kind", ["uniform", "laplace", "gamma"])
def test_other_noise_agrees_in_two_moments_only(kind) -> None:
    x_0 = np.zeros(100_000)
    *_, walked = noising.chain(x_0, SHORT, noise_of(kind, 0, 0, x_0.shape))
    (jumped,) = noising.closed_form(x_0, SHORT, [T], noise_of(kind, 1, 0, x_0.shape))
    for x in (walked, jumped):
        assert x.mean() == pytest.approx(0, abs=0.02)
        assert x.var() == pytest.approx(1 - ABARS[T], abs=0.04)
    assert stats.ks_2samp(walked, jumped).pvalue < 1e-6
    assert stats.kstest(jumped / math.sqrt(1 - ABARS[T]), LAWS[kind].cdf).pvalue > 1e-3


def test_the_closed_form_is_one_image_under_one_noise() -> None:
    x_0 = np.array([0.3, -1, 0.9])
    first, second = noising.closed_form(x_0, LINEAR_SCHEDULE, [500, 1000], lambda _: np.array([1.0, 2.0, -1.0]))
    for x, abar in ((first, LINEAR[500]), (second, LINEAR[1000])):
        np.testing.assert_allclose(x, math.sqrt(abar) * x_0 + math.sqrt(1 - abar) * np.array([1, 2, -1]), rtol=1e-9)


def test_the_naive_process_keeps_its_mean_and_gains_beta_a_step() -> None:
    held = list(noising.naive(np.ones(1), SHORT, lambda _: np.zeros(1)))
    noisy = list(noising.naive(np.zeros(T + 1), SHORT, unit))
    assert [float(x[0]) for x in held] == [1.0] * (T + 1)
    for t in range(T + 1):
        assert float(np.square(noisy[t]).sum()) == pytest.approx(sum(BETAS[:t]), rel=1e-12)


# --- images ---------------------------------------------------------------------------------------------------------

IMAGES = np.random.default_rng(5).integers(0, 256, (3, 1, 40, 40)).astype(np.uint8) // 2
ASKED = {"noise": "gaussian", "seed": 7}


@pytest.mark.parametrize("process", ["closed-form", "markov", "naive"])
def test_measured_moments_are_those_expected(process) -> None:
    found = noising.noised(IMAGES, [0, 1, 2], SHORT, [0, 4, 12], process=process, **ASKED)
    x_0 = IMAGES.astype(float) / 127.5 - 1
    for k, t in enumerate([0, 4, 12]):
        mean, variance = math.sqrt(ABARS[t]) * x_0.mean(), ABARS[t] * x_0.var() + 1 - ABARS[t]
        if process == "naive":
            mean, variance = x_0.mean(), x_0.var() + sum(BETAS[:t])
        assert found.expected_mean[k] == pytest.approx(mean)
        assert found.expected_variance[k] == pytest.approx(variance)
        assert found.mean[k] == pytest.approx(found.x[k].mean(dtype=float), abs=1e-6)
        assert found.variance[k] == pytest.approx(found.x[k].var(dtype=float), rel=1e-5)
        # 4800 pixels: five standard errors
        assert found.mean[k] == pytest.approx(mean, abs=5 * math.sqrt(variance / 4800) + 1e-9)
        assert found.variance[k] == pytest.approx(variance, rel=5 * math.sqrt(2 / 4800) if t else 1e-9)
    np.testing.assert_allclose(found.x[0], x_0, atol=1e-6)
    assert found.x.shape == (3, 3, 1, 40, 40)
    assert found.levels.signal == pytest.approx(np.sqrt([1, ABARS[4], ABARS[12]]))


@pytest.mark.parametrize("process", ["closed-form", "markov", "naive"])
def test_an_image_does_not_depend_on_its_company_nor_on_the_levels_asked_for(process) -> None:
    together = noising.noised(IMAGES, [4, 0, 9], SHORT, [12, 3, 3, 0], process=process, **ASKED)
    alone = noising.noised(IMAGES[2:], [9], SHORT, [3], process=process, **ASKED)
    np.testing.assert_array_equal(together.x[1, 2], alone.x[0, 0])
    np.testing.assert_array_equal(together.x[1], together.x[2])
    other = noising.noised(IMAGES[2:], [8], SHORT, [3], process=process, **ASKED)
    assert np.abs(other.x - alone.x).mean() > 0.1


def test_right_and_naive_are_compared_under_the_same_draws() -> None:
    right, naive = (
        noising.noised(IMAGES, [0, 1, 2], SHORT, [1], process=process, **ASKED) for process in ("markov", "naive")
    )
    x_0 = IMAGES / 127.5 - 1
    np.testing.assert_allclose(naive.x[0] - x_0, right.x[0] - math.sqrt(1 - BETAS[0]) * x_0, atol=1e-6)


def test_between_two_levels_there_is_a_closed_form_but_no_step() -> None:
    level = SHORT.level(2.5)
    found = noising.noised(IMAGES, [0, 1, 2], SHORT, [2.5], process="closed-form", **ASKED)
    assert found.levels.noise[0] == pytest.approx(level.noise)
    for process in ("markov", "naive"):
        with pytest.raises(UsageError, match=r"never is at level 2\.5"):
            noising.noised(IMAGES, [0, 1, 2], SHORT, [2, 2.5], process=process, **ASKED)


def test_progress_goes_from_the_first_step_to_the_last() -> None:
    seen = []
    noising.noised(
        IMAGES, [0, 1, 2], SHORT, [5], process="markov", progress=lambda *report: seen.append(report), **ASKED
    )
    assert seen[-1] == (15, 15)
    assert seen == sorted(seen)


# --- one dimension --------------------------------------------------------------------------------------------------

GRID = np.linspace(-12, 12, 24_001)
TIMES = [0.0, 1.0, 120.0, 500.0, 1000.0]


def data_density(y: np.ndarray) -> np.ndarray:
    """p_0 of the example, written out."""
    return 0.35 * stats.norm.pdf(y, -1.3, 0.15) + 0.65 * stats.norm.pdf(y, 0.8, 0.3)


@pytest.mark.parametrize("t", TIMES)
def test_the_noisy_density_is_the_data_convolved_with_the_kernel(t) -> None:
    density = EXAMPLE.at(LINEAR_SCHEDULE.level(t)).density(GRID)
    assert integrate.trapezoid(density, GRID) == pytest.approx(1, abs=1e-9)
    a, b = math.sqrt(LINEAR[int(t)]), math.sqrt(1 - LINEAR[int(t)])
    y = np.linspace(-4, 4, 40_001)
    for x in (-2.0, -1.1, 0.2, 0.9, 3.0):
        if t == 0:
            expected = float(data_density(np.array(x)))
        else:
            expected = float(integrate.trapezoid(data_density(y) * stats.norm.pdf(x, a * y, b), y))
        found = float(EXAMPLE.at(LINEAR_SCHEDULE.level(t)).density(np.array(x)))
        assert found == pytest.approx(expected, rel=1e-6)


def test_mean_and_variance_are_the_integrals() -> None:
    mean = integrate.trapezoid(GRID * data_density(GRID), GRID)
    assert EXAMPLE.mean == pytest.approx(mean)
    assert EXAMPLE.variance == pytest.approx(integrate.trapezoid((GRID - mean) ** 2 * data_density(GRID), GRID))


@pytest.mark.parametrize("t", TIMES)
def test_the_score_is_the_slope_of_the_log_density(t) -> None:
    there = EXAMPLE.at(LINEAR_SCHEDULE.level(t))
    x, h = np.linspace(-2.5, 2.5, 51), 1e-5
    slope = (np.log(there.density(x + h)) - np.log(there.density(x - h))) / (2 * h)
    np.testing.assert_allclose(there.score(x), slope, rtol=1e-5, atol=1e-5)


def test_far_out_where_densities_underflow_the_score_is_that_of_the_nearest_component() -> None:
    assert EXAMPLE.density(np.array(60.0)) == 0
    # Of the wider component, whose density falls more slowly.
    assert float(EXAMPLE.score(np.array(60.0))) == pytest.approx((0.8 - 60) / 0.3**2)
    assert float(EXAMPLE.score(np.array(-60.0))) == pytest.approx((0.8 + 60) / 0.3**2)


@pytest.mark.parametrize("t", TIMES[1:])
def test_the_ideal_denoiser_is_the_posterior_mean_and_tweedies_formula(t) -> None:
    level = LINEAR_SCHEDULE.level(t)
    a, b = math.sqrt(LINEAR[int(t)]), math.sqrt(1 - LINEAR[int(t)])
    y = np.linspace(-4, 4, 200_001)
    for x in (-1.5, -0.2, 0.4, 1.6):
        weight = data_density(y) * stats.norm.pdf(x, a * y, b)
        mean = integrate.trapezoid(y * weight, y) / integrate.trapezoid(weight, y)
        found = float(EXAMPLE.clean(np.array(x), level))
        assert found == pytest.approx(float(mean), rel=1e-5, abs=1e-6)
        score = float(EXAMPLE.at(level).score(np.array(x)))
        assert found == pytest.approx((x + b**2 * score) / a, rel=1e-7, abs=1e-7)


def test_at_the_clean_level_there_is_nothing_to_denoise() -> None:
    x = np.array([-1.2, 0.5])
    np.testing.assert_allclose(EXAMPLE.clean(x, LINEAR_SCHEDULE.level(0)), x, rtol=1e-12)


def test_samples_follow_the_mixture() -> None:
    draw = EXAMPLE.sample(np.random.default_rng(0), 20_000)

    def cdf(x: np.ndarray) -> np.ndarray:
        return 0.35 * stats.norm.cdf(x, -1.3, 0.15) + 0.65 * stats.norm.cdf(x, 0.8, 0.3)

    assert stats.kstest(draw, cdf).pvalue > 1e-3


def falling(schedule: Schedule, steps: int) -> list[Level]:
    return [schedule.level(t) for t in np.unique(np.round(np.linspace(schedule.timesteps, 0, steps + 1)))[::-1]]


@pytest.mark.parametrize(("steps", "std"), [(50, 0.3482), (100, 0.3700), (1000, 0.3962)])
def test_ancestral_steps_with_the_exact_score_of_gaussian_data_have_the_spread_known_for_them(steps, std) -> None:
    # Gaussian data N(0.7, 0.4^2): the walk is linear in x_T and in each draw, so a walker an input shows its share.
    levels = falling(LINEAR_SCHEDULE, steps)
    start, each = np.eye(steps + 1)[0], np.eye(steps + 1)
    *_, moved = noising.back(start, levels, Mixture((1.0,), (M,), (S,)), lambda step: each[step])
    *_, still = noising.back(np.zeros(1), levels, Mixture((1.0,), (M,), (S,)), lambda _: np.zeros(1))
    assert math.sqrt(float(np.square(moved - still).sum())) == pytest.approx(std, abs=5e-5)


def test_there_and_back_is_where_it_began() -> None:
    schedule = Schedule(ScheduleConfig("cosine", 300))
    random = np.random.default_rng(1)
    levels = falling(schedule, 300)
    start = EXAMPLE.sample(random, 6000)
    *_, noise = noising.forth(start, levels[::-1], lambda _: random.standard_normal(6000))
    assert stats.kstest(noise, stats.norm().cdf).pvalue > 1e-3
    *_, ends = noising.back(random.standard_normal(6000), levels, EXAMPLE, lambda _: random.standard_normal(6000))
    low, high = ends[ends < -0.3], ends[ends >= -0.3]
    assert len(low) / len(ends) == pytest.approx(0.35, abs=0.025)
    assert low.mean() == pytest.approx(-1.3, abs=0.02)
    assert high.mean() == pytest.approx(0.8, abs=0.03)
    assert low.std() == pytest.approx(0.15, rel=0.12)
    assert high.std() == pytest.approx(0.3, rel=0.08)


def test_few_steps_fail_where_the_reverse_is_no_gaussian() -> None:
    schedule = Schedule(ScheduleConfig("cosine", 10))
    random = np.random.default_rng(1)
    *_, ends = noising.back(
        random.standard_normal(6000), falling(schedule, 10), EXAMPLE, lambda _: random.standard_normal(6000)
    )
    assert ends[ends < -0.3].std() < 0.135  # of 0.15; its standard error is 0.003


def test_the_picture_gets_what_was_computed() -> None:
    schedule = Schedule(ScheduleConfig("cosine", 40))
    flow = noising.flow(schedule, 3)
    assert list(flow.times) == list(range(41))
    assert flow.exact.shape == flow.found.shape == (41, len(flow.x))
    np.testing.assert_allclose(flow.exact[0], data_density(flow.x), rtol=1e-9)
    np.testing.assert_allclose(flow.exact[40], stats.norm.pdf(flow.x), atol=0.01)
    assert flow.there.shape == flow.back.shape == (noising.PATHS, 41)
    # Time runs from data to noise in both: the counted samples resemble the exact density at either end.
    # Counting 10,000 in bins of 0.04 errs by 0.01 on average.
    assert np.abs(flow.found[40] - flow.exact[40]).mean() < 0.02
    assert np.abs(flow.found[0] - flow.exact[0]).mean() < 0.05
    np.testing.assert_array_equal(flow.back[:, 0], flow.ends[: noising.PATHS])
    np.testing.assert_array_equal(flow.back[:, 40], flow.start[: noising.PATHS])
    assert flow.found.sum(1) * np.diff(flow.x)[0] == pytest.approx(np.ones(41), abs=0.01)
    np.testing.assert_array_equal(noising.flow(schedule, 3).ends, flow.ends)
    assert not np.array_equal(noising.flow(schedule, 4).ends, flow.ends)


def test_a_long_chain_is_visited_at_some_levels_and_a_single_step_at_both() -> None:
    assert len(noising.flow(Schedule(ScheduleConfig("cosine", 1)), 0).times) == 2
    times = noising.evenly(50_000, noising.VISITED)
    assert (times[0], times[-1], len(times)) == (0, 50_000, noising.VISITED + 1)


# --- the posterior --------------------------------------------------------------------------------------------------


def test_a_model_that_knows_the_image_has_the_true_posterior_and_its_error_shifts_the_mean() -> None:
    x_0, eps = np.random.default_rng(0).uniform(-1, 1, (2, 1, 4, 4))
    for error in (0.0, 0.2):
        (moment,) = noising.moments(x_0, LINEAR_SCHEDULE, [400.0], eps, lambda *_, e=error: x_0 + e, (1, 2))
        x_t = math.sqrt(LINEAR[400]) * x_0[0, 1, 2] + math.sqrt(1 - LINEAR[400]) * eps[0, 1, 2]
        assert float(moment.x_t[0, 1, 2]) == pytest.approx(x_t)
        assert [jump.s for jump in moment.jumps] == [399, 200]
        for jump in moment.jumps:
            s = int(jump.s)
            beta = 1 - LINEAR[400] / LINEAR[s]
            of_clean = math.sqrt(LINEAR[s]) * beta / (1 - LINEAR[400])
            of_x = math.sqrt(LINEAR[400] / LINEAR[s]) * (1 - LINEAR[s]) / (1 - LINEAR[400])
            assert jump.true == pytest.approx(of_clean * x_0[0, 1, 2] + of_x * x_t)
            assert jump.model - jump.true == pytest.approx(of_clean * error, abs=1e-12)
            assert jump.variance == pytest.approx(beta * (1 - LINEAR[s]) / (1 - LINEAR[400]), rel=1e-8)


def test_the_model_is_asked_once_a_level_about_the_noisy_image() -> None:
    asked = []
    x_0, eps = np.random.default_rng(0).uniform(-1, 1, (2, 3, 4, 4))
    found = noising.moments(
        x_0, LINEAR_SCHEDULE, [10.0, 800.0], eps, lambda x_t, level: asked.append((float(level.t), x_t)) or x_t, (0, 0)
    )
    assert [t for t, _ in asked] == [10, 800] == [moment.t for moment in found]
    for (_, x_t), moment in zip(asked, found, strict=True):
        np.testing.assert_array_equal(x_t, moment.x_t)
    # One noise at all levels:
    noises = [(m.x_t - math.sqrt(LINEAR[int(m.t)]) * x_0) / math.sqrt(1 - LINEAR[int(m.t)]) for m in found]
    for one, other in pairwise(noises):
        np.testing.assert_allclose(one, other, rtol=1e-7)
