"""The bound is the sum of its terms as the papers write them, whatever levels are asked of an image."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from torch import Tensor

from ddpm_cli import likelihood
from ddpm_cli.config import ScheduleConfig
from ddpm_cli.denoiser import Prediction
from ddpm_cli.likelihood import bound, estimate, prior, strata
from ddpm_cli.schedule import Level, Schedule
from ddpm_cli.seeds import generator
from oracles import ideal_clean

BITS = math.log(2)
SCHEDULE = Schedule(ScheduleConfig("linear"))


def pixels(count: int, seed: int = 0, size: int = 4) -> Tensor:
    """Images of the 256 values, around 0.7 with a deviation of 0.4 before they are cut: (N, 1, size, size)."""
    values = 0.7 + 0.4 * np.random.default_rng(seed).standard_normal((count, 1, size, size))
    return torch.from_numpy(np.clip(np.round((values + 1) * 127.5), 0, 255) / 127.5 - 1)


def shrinks(x_t: Tensor, *_: object) -> Prediction:
    """A poor denoiser: the noisy image, a little smaller."""
    return Prediction(0.8 * x_t)


class Knowing:
    """A denoiser that knows the clean images, batch by batch."""

    def __init__(self, images: Tensor) -> None:
        self.image = images[:1]

    def __call__(self, x_t: Tensor, *_: object) -> Prediction:
        return Prediction(self.image.expand(x_t.shape).to(x_t.dtype))


# --- the sum of terms ------------------------------------------------------------------------------------------------


def slowly(image: np.ndarray, number: int, betas: np.ndarray, variance: str, seed: int) -> tuple[float, float, float]:
    """L_T, L_0 and the sum between of one image under :func:`shrinks`, pixel by pixel and level by level, from Ho et
    al. 2020, equations 5, 7, 8 and 13."""
    T = len(betas)
    alphas = [1 - beta for beta in betas]
    abar = [math.prod(alphas[:t]) for t in range(T + 1)]

    def kl(m_q: float, v_q: float, m_p: float, v_p: float) -> float:
        return 0.5 * (math.log(v_p / v_q) + (v_q + (m_q - m_p) ** 2) / v_p - 1)

    def btilde(t: int) -> float:
        return betas[t - 1] * (1 - abar[t - 1]) / (1 - abar[t])

    end = sum(kl(math.sqrt(abar[T]) * x, 1 - abar[T], 0, 1) for x in image.ravel())
    first = between = 0.0
    for t in range(1, T + 1):
        noise = generator("bound", seed, number, "noise", t - 1).standard_normal(image.shape)
        for x, eps in zip(image.ravel(), noise.ravel(), strict=True):
            x_t = math.sqrt(abar[t]) * x + math.sqrt(1 - abar[t]) * eps
            guess = 0.8 * x_t
            if t == 1:
                v = btilde(2)
                low = -math.inf if x < -0.999 else x - 1 / 255
                high = math.inf if x > 0.999 else x + 1 / 255
                first -= math.log(norm.cdf(high, guess, math.sqrt(v)) - norm.cdf(low, guess, math.sqrt(v)))
                continue
            a = math.sqrt(abar[t - 1]) * betas[t - 1] / (1 - abar[t])
            b = math.sqrt(alphas[t - 1]) * (1 - abar[t - 1]) / (1 - abar[t])
            v = betas[t - 1] if variance == "large" else btilde(t)
            between += kl(a * x + b * x_t, btilde(t), a * guess + b * x_t, v)
    bits = BITS * image.size
    return end / bits, first / bits, between / bits


@pytest.mark.parametrize("variance", ["small", "large"])
def test_with_all_levels_it_is_the_sum_that_the_papers_write(variance: Any) -> None:
    betas = (0.1, 0.15, 0.2, 0.3, 0.5, 0.7)
    schedule = Schedule(ScheduleConfig("custom", 6, betas=betas))
    images = pixels(3)
    found = bound(shrinks, schedule, images, {}, variance, 7, count=100)
    assert [(each.first, each.last) for each in found.strata] == [(t, t) for t in range(2, 7)]
    for number, image in enumerate(images.numpy()):
        end, first, between = slowly(image, number, np.array(betas), variance, 7)
        assert found.prior[number] == pytest.approx(end, rel=1e-9)
        assert found.decoder[number] == pytest.approx(first, rel=1e-6)
        assert found.steps[number] == pytest.approx(between, rel=1e-9)
    assert found.total.value == pytest.approx(np.mean(found.prior + found.decoder + found.steps))


@pytest.mark.parametrize(("kind", "constant"), [("linear", 0.486), ("cosine", 0.432)])
def test_of_a_perfect_denoiser_only_unequal_variances_are_left(kind: Any, constant: float) -> None:
    schedule, images = Schedule(ScheduleConfig(kind)), pixels(1)
    small, large = (bound(Knowing(images), schedule, images, {}, v, 0, count=999) for v in ("small", "large"))
    assert small.steps[0] == pytest.approx(0, abs=1e-9)
    assert large.steps[0] == pytest.approx(constant, abs=5e-4)


def test_of_gaussian_data_it_is_what_the_ideal_denoiser_must_leave() -> None:
    """sum over t of (SNR_{t-1} - SNR_t) / 2 times the variance of x_0 given x_t, which is s^2 b^2 / (a^2 s^2 + b^2)."""
    images = 0.7 + 0.4 * torch.from_numpy(np.random.default_rng(1).standard_normal((200, 1, 4, 4)))

    def ideal(x_t: Tensor, level: Level[Tensor], _: object) -> Prediction:
        shape = (-1, 1, 1, 1)
        return Prediction(ideal_clean(x_t, level.signal.view(shape), level.noise.view(shape)))

    found = bound(ideal, SCHEDULE, images, {}, "small", 0)
    expected = 0.0
    for t in range(2, SCHEDULE.timesteps + 1):
        a, b = SCHEDULE.abars[t], 1 - SCHEDULE.abars[t]
        step = SCHEDULE.abars[t - 1] / (1 - SCHEDULE.abars[t - 1]) - a / b
        expected += step / 2 * 0.16 * b / (a * 0.16 + b) / BITS
    mean = estimate(found.steps)
    assert abs(mean.value - expected) < 4 * mean.error
    assert mean.error < 0.05 * expected


def test_the_end_of_the_chain_is_exact() -> None:
    """D(N(sqrt(abar) x, 1 - abar) || N(0, 1)) = (abar (x^2 - 1) - ln(1 - abar)) / 2."""
    schedule, images = Schedule(ScheduleConfig("linear", 50)), pixels(3)
    abar = schedule.abars[-1]
    expected = ((abar * (images**2 - 1) - math.log(1 - abar)) / 2).flatten(1).mean(1) / BITS
    np.testing.assert_allclose(prior(images, schedule), expected.numpy(), rtol=1e-9)


# --- few levels ------------------------------------------------------------------------------------------------------


@given(st.integers(1, 3000), st.integers(1, 200))
def test_strata_cut_the_levels_from_2_to_the_last_into_parts(timesteps: int, count: int) -> None:
    parts = strata(timesteps, count)
    assert [t for first, last in parts for t in range(first, last + 1)] == list(range(2, timesteps + 1))
    assert len(parts) <= count
    if count >= timesteps - 1:
        assert all(first == last for first, last in parts)


def test_few_levels_give_the_sum_of_all_on_average_and_know_their_error() -> None:
    images = pixels(1).expand(40, 1, 4, 4)  # of one image, so that all spread is that of levels and noise
    found = [bound(shrinks, SCHEDULE, images, {}, "small", seed, count=6).total for seed in range(25)]
    exact = bound(shrinks, SCHEDULE, images, {}, "small", 99, count=999).total
    values, errors = np.array(found).T
    assert abs(values.mean() - exact.value) < 4 * (values.std() / 5 + exact.error)
    assert errors.mean() == pytest.approx(values.std(ddof=1), rel=0.5)


def test_an_image_is_bounded_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    images = pixels(9)
    whole = bound(shrinks, SCHEDULE, images, {}, "small", 3)
    monkeypatch.setattr(likelihood, "BATCH", 7)
    part = bound(shrinks, SCHEDULE, images[:4], {}, "small", 3)
    np.testing.assert_allclose(part.steps, whole.steps[:4])
    np.testing.assert_allclose(part.decoder, whole.decoder[:4])
    other = bound(shrinks, SCHEDULE, images[:4], {}, "small", 4)
    assert np.abs(other.steps - part.steps).min() > 1e-6


def test_a_denoiser_is_told_what_is_known_and_where_it_is() -> None:
    images, label = pixels(3), torch.tensor([5, 6, 7])

    def asks(x_t: Tensor, level: Level[Tensor], condition: Any) -> Prediction:
        assert x_t.dtype == torch.float64
        assert level.t.shape == condition["label"].shape == (len(x_t),)
        assert float(level.t.min()) >= 1
        return Prediction(condition["label"].view(-1, 1, 1, 1).expand(x_t.shape).double())

    found = bound(asks, SCHEDULE, images, {"label": label}, "small", 0)
    assert found.steps[0] < found.steps[1] < found.steps[2]  # the further off, the worse


def test_progress_ends_at_all_questions() -> None:
    told: list[tuple[int, int]] = []
    bound(shrinks, SCHEDULE, pixels(5), {}, "small", 0, count=3, progress=lambda *at: told.append(at))
    assert told[-1] == (20, 20)


def test_a_chain_of_one_step_has_nothing_between() -> None:
    found = bound(shrinks, Schedule(ScheduleConfig("constant", 1, beta_start=0.5)), pixels(2), {}, "small", 0)
    assert found.strata == ()
    assert (found.steps == 0).all()
    assert (found.decoder > 0).all()
