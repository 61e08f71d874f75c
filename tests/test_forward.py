"""The forward process composes, and its posterior is Bayes' rule, for any pair of levels."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddpm_cli.config import ScheduleConfig
from ddpm_cli.forward import (
    as_tensors,
    beta_between,
    clean_from_eps,
    clean_from_v,
    eps_from_clean,
    posterior,
    q_sample,
    transition,
    v_from_clean,
)
from ddpm_cli.schedule import Level, Schedule
from oracles import LINEAR, M, S, evenly

SCHEDULE = Schedule(ScheduleConfig("linear"))
BETAS = [0.0, *evenly(1e-4, 0.02, 1000)]
PAIRS = st.tuples(st.integers(0, 999), st.integers(1, 1000)).filter(lambda p: p[0] < p[1])


def at(t: float) -> Level[torch.Tensor]:
    return as_tensors(SCHEDULE.level(t))


def images(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64).reshape(-1, 1, 1, 1)


def noise_share(s: int, t: int) -> float:
    """1 - abar_t / abar_s, as exactly as float64 allows."""
    return -math.expm1(math.fsum(math.log1p(-BETAS[k]) for k in range(s + 1, t + 1)))


@pytest.mark.parametrize("t", [1, 200, 1000])
def test_noised_images_have_the_mean_and_variance_of_their_level(t: int) -> None:
    draw = np.random.default_rng(t).standard_normal((2, 1_000_000, 1, 1, 1))
    x_0, eps = torch.from_numpy(M + S * draw[0]), torch.from_numpy(draw[1])
    x_t = q_sample(x_0, at(t), eps)
    variance = LINEAR[t] * S**2 + 1 - LINEAR[t]
    assert float(x_t.mean()) == pytest.approx(math.sqrt(LINEAR[t]) * M, abs=5e-3 * math.sqrt(variance))
    assert float(x_t.var()) == pytest.approx(variance, rel=7e-3)
    # Signal and noise are told apart:
    assert float((x_t * eps).mean()) == pytest.approx(math.sqrt(1 - LINEAR[t]), abs=5e-3)


def test_clean_level_leaves_the_image_alone() -> None:
    x_0 = images(0.3, -1)
    assert torch.equal(q_sample(x_0, at(0), images(7, 7)), x_0)


@pytest.mark.parametrize("t", [1, 500, 1000])
def test_a_single_step_is_the_markov_kernel(t: int) -> None:
    step = transition(images(1.0), at(t - 1), at(t))
    assert float(step.mean) == pytest.approx(math.sqrt(1 - BETAS[t]), rel=1e-12)
    assert float(step.variance) == pytest.approx(BETAS[t], rel=1e-9)


@given(st.lists(st.integers(0, 1000), min_size=3, max_size=3, unique=True).map(sorted))
def test_two_transitions_are_one_jump(times: list[int]) -> None:
    r, s, t = times
    first, second, both = (transition(images(1.0), at(a), at(b)) for a, b in ((r, s), (s, t), (r, t)))
    assert float(first.mean * second.mean) == pytest.approx(float(both.mean), rel=1e-12)
    combined = float(second.mean) ** 2 * float(first.variance) + float(second.variance)
    assert combined == pytest.approx(float(both.variance), rel=1e-12)


@pytest.mark.parametrize("t", [1, 37, 1000])
def test_a_jump_from_the_clean_image_is_q_sample(t: int) -> None:
    x_0 = images(0.8)
    jump = transition(x_0, at(0), at(t))
    assert float(jump.mean + jump.variance.sqrt() * 1.7) == pytest.approx(float(q_sample(x_0, at(t), images(1.7))))


@given(PAIRS)
def test_beta_between_is_the_variance_added(pair: tuple[int, int]) -> None:
    s, t = pair
    assert float(beta_between(at(t), at(s))) == pytest.approx(noise_share(s, t), rel=1e-11)
    assert float(transition(images(1.0), at(s), at(t)).variance) == pytest.approx(noise_share(s, t), rel=1e-11)


@given(PAIRS, st.floats(-3, 3), st.floats(-1, 1))
def test_the_posterior_is_bayes_rule(pair: tuple[int, int], x_t: float, x_0: float) -> None:
    s, t = pair
    found = posterior(images(x_t), images(x_0), at(t), at(s))
    if s == 0:
        assert float(found.mean) == x_0
        assert float(found.variance) == 0
        return
    # q(x_s | x_t, x_0) ~ q(x_t | x_s) q(x_s | x_0): precisions add, means are weighted by them.
    alpha, beta, rest = 1 - noise_share(s, t), noise_share(s, t), noise_share(0, s)
    precision = alpha / beta + 1 / rest
    mean = (math.sqrt(alpha) / beta * x_t + math.sqrt(1 - rest) / rest * x_0) / precision
    assert float(found.mean) == pytest.approx(mean, rel=1e-9, abs=1e-9)
    assert float(found.variance) == pytest.approx(1 / precision, rel=1e-9)


@pytest.mark.parametrize(("s", "t"), [(1, 2), (300, 301), (200, 600), (1, 1000)])
def test_the_posterior_agrees_with_densities_multiplied_on_a_grid(s: int, t: int) -> None:
    alpha, beta, rest = 1 - noise_share(s, t), noise_share(s, t), noise_share(0, s)
    x_0 = -0.6
    x_t = math.sqrt(1 - noise_share(0, t)) * x_0 + 0.7 * math.sqrt(noise_share(0, t))
    width = math.sqrt(rest)
    x_s = np.linspace(math.sqrt(1 - rest) * x_0 - 9 * width, math.sqrt(1 - rest) * x_0 + 9 * width, 20_001)
    log = -((x_t - math.sqrt(alpha) * x_s) ** 2) / (2 * beta) - (x_s - math.sqrt(1 - rest) * x_0) ** 2 / (2 * rest)
    density = np.exp(log - log.max())
    density /= density.sum()
    mean = float((density * x_s).sum())
    found = posterior(images(x_t), images(x_0), at(t), at(s))
    assert float(found.mean) == pytest.approx(mean, rel=1e-6)
    assert float(found.variance) == pytest.approx(float((density * (x_s - mean) ** 2).sum()), rel=1e-6)


@pytest.mark.parametrize("t", [2, 3, 500, 1000])
def test_for_neighbours_it_is_the_formula_of_the_papers(t: int) -> None:
    # Ho et al. 2020, equations 6 and 7.
    beta, abar, before = BETAS[t], LINEAR[t], LINEAR[t - 1]
    of_clean = math.sqrt(before) * beta / (1 - abar)
    of_x = math.sqrt(1 - beta) * (1 - before) / (1 - abar)
    found = posterior(images(1.0, 0.0), images(0.0, 1.0), at(t), at(t - 1))
    assert found.mean.flatten().tolist() == pytest.approx([of_x, of_clean], rel=1e-9)
    assert float(found.variance) == pytest.approx((1 - before) / (1 - abar) * beta, rel=1e-9)


def test_given_the_noise_the_posterior_mean_starts_with_one_over_root_alpha() -> None:
    # Ho et al. 2020, equation 11: (x_t - beta_t / sqrt(1 - abar_t) eps) / sqrt(alpha_t).
    t, x_t, eps = 400, 0.3, -1.2
    clean = clean_from_eps(images(x_t), images(eps), at(t))
    mean = float(posterior(images(x_t), clean, at(t), at(t - 1)).mean)
    expected = (x_t - BETAS[t] / math.sqrt(1 - LINEAR[t]) * eps) / math.sqrt(1 - BETAS[t])
    assert mean == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("t", [1, 250, 1000])
def test_eps_clean_and_v_are_three_views_of_one_thing(t: int) -> None:
    x_0, eps = images(0.3, -1, 0.9), images(-1.5, 0.2, 2)
    level, x_t = at(t), q_sample(x_0, at(t), eps)
    v = v_from_clean(x_0, eps, level)
    assert torch.allclose(v, math.sqrt(LINEAR[t]) * eps - math.sqrt(1 - LINEAR[t]) * x_0, rtol=1e-9)
    assert torch.allclose(clean_from_eps(x_t, eps, level), x_0, rtol=1e-9)
    assert torch.allclose(eps_from_clean(x_t, x_0, level), eps, rtol=1e-9)
    assert torch.allclose(clean_from_v(x_t, v, level), x_0, rtol=1e-9)


def test_a_level_an_image_is_image_by_image() -> None:
    draw = torch.Generator().manual_seed(0)
    x_0, eps = torch.randn(2, 3, 2, 4, 4, generator=draw)
    now, before = (as_tensors(SCHEDULE.level(np.array(t))) for t in ([1, 500, 1000], [0, 100, 999]))
    alone = [(at(t), at(s)) for t, s in ((1, 0), (500, 100), (1000, 999))]
    calls: list[Callable[..., torch.Tensor]] = [
        lambda x, e, t, _: q_sample(x, t, e),
        lambda x, e, t, _: v_from_clean(x, e, t),
        lambda x, e, t, _: clean_from_v(x, e, t),
        lambda x, e, t, _: clean_from_eps(x, e, t),
        lambda x, e, t, _: eps_from_clean(x, e, t),
        lambda x, e, t, s: posterior(x, e, t, s).mean,
        lambda x, e, t, s: posterior(x, e, t, s).variance.expand_as(x),
        lambda x, _, t, s: transition(x, s, t).mean,
    ]
    for call in calls:
        together = call(x_0, eps, now, before)
        one_by_one = torch.cat([call(x_0[[i]], eps[[i]], *alone[i]) for i in range(3)])
        assert together.dtype == torch.float32
        torch.testing.assert_close(together, one_by_one.float(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_scalar_level_keeps_the_dtype_of_the_image(dtype: torch.dtype) -> None:
    x = torch.ones(2, 1, 2, 2, dtype=dtype)
    assert q_sample(x, at(10), x).dtype == dtype
    assert posterior(x, x, at(10), at(3)).mean.dtype == dtype
    assert at(10).signal.dtype == torch.float64


def test_numpy_and_torch_are_the_same_formulas() -> None:
    schedule = Schedule(ScheduleConfig("cosine", 100))
    x_0, x_t = np.random.default_rng(0).normal(size=(2, 3, 1, 4, 4))
    for times in (np.array([1.0, 50.0, 100.0]), np.array(30.5)):
        now, earlier = schedule.level(times), schedule.level(times / 3)
        plain = posterior(x_t, x_0, now, earlier)
        tensor = [Level(*(torch.from_numpy(np.asarray(field)) for field in level)) for level in (now, earlier)]
        exact = posterior(torch.from_numpy(x_t), torch.from_numpy(x_0), *tensor)
        assert plain.mean == pytest.approx(exact.mean.numpy(), rel=1e-12)
        assert plain.variance == pytest.approx(exact.variance.numpy(), rel=1e-12)
        noisy = q_sample(torch.from_numpy(x_0), tensor[0], torch.from_numpy(x_t))
        assert q_sample(x_0, now, x_t) == pytest.approx(noisy.numpy(), rel=1e-12)
