"""Divergence and likelihood of Gaussians are what integrals say they are, in every tail and in float32."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_ndtr
from torch import Tensor

from ddpm_cli.gaussians import discretised_log_likelihood, kl

PIXELS = torch.arange(256, dtype=torch.float64) / 127.5 - 1
HALF = 1 / 255


def numbers(*values: float, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor(values, dtype=dtype)


# --- divergence ------------------------------------------------------------------------------------------------------


def integrated(q: tuple[float, float], p: tuple[float, float]) -> float:
    """The divergence as an integral over a fine grid."""
    (mean, variance), (other, width) = q, p
    x = np.linspace(mean - 12 * math.sqrt(variance), mean + 12 * math.sqrt(variance), 100_001)
    log_q = -((x - mean) ** 2) / (2 * variance) - math.log(2 * math.pi * variance) / 2
    log_p = -((x - other) ** 2) / (2 * width) - math.log(2 * math.pi * width) / 2
    return float(np.sum(np.exp(log_q) * (log_q - log_p)) * (x[1] - x[0]))


@pytest.mark.parametrize("q", [(0.0, 1.0), (0.3, 0.01), (-2.0, 4.0)])
@pytest.mark.parametrize("p", [(0.0, 1.0), (0.4, 0.02), (1.0, 9.0)])
def test_the_divergence_is_its_integral(q: tuple[float, float], p: tuple[float, float]) -> None:
    found = kl((numbers(q[0]), numbers(q[1])), (numbers(p[0]), numbers(p[1])))
    assert float(found) == pytest.approx(integrated(q, p), rel=1e-8, abs=1e-9)


def test_it_is_elementwise_and_broadcasts_as_that_of_torch() -> None:
    draw = torch.Generator().manual_seed(0)
    means = torch.randn(2, 3, 1, 4, 4, generator=draw)
    variances = torch.rand(2, 3, 1, 1, 1, generator=draw) + 0.1
    deviations = variances.sqrt().expand_as(means)
    theirs = [torch.distributions.Normal(m, s, validate_args=False) for m, s in zip(means, deviations, strict=True)]
    expected = torch.distributions.kl_divergence(*theirs)
    torch.testing.assert_close(kl((means[0], variances[0]), (means[1], variances[1])), expected)


@pytest.mark.parametrize("variance", [1e-8, 1.0, 1e4])
def test_of_equal_variances_it_is_the_squared_distance_alone(variance: float) -> None:
    v = numbers(variance, dtype=torch.float32)
    mean, other = numbers(0.5, dtype=torch.float32), numbers(0.25, dtype=torch.float32)
    assert float(kl((mean, v), (mean, v))) == 0
    assert float(kl((mean, v), (other, v))) == pytest.approx(0.25**2 / (2 * variance), rel=1e-6)


@pytest.mark.parametrize("change", [1e-2, -1e-2, 7e-4, -3e-4])
def test_of_nearly_equal_variances_float32_keeps_its_digits(change: float) -> None:
    mean, variance, other = torch.zeros(1), torch.tensor([0.37 * (1 + change)]), torch.tensor([0.37])
    found = kl((mean, variance), (mean, other))
    change = float(variance) / float(other) - 1  # as rounded
    # (r - 1 - ln r) / 2 = change^2 / 4 - change^3 / 6 + ..., of which a plain difference would keep no digit.
    assert float(found) == pytest.approx(change**2 / 4 - change**3 / 6 + change**4 / 8, rel=2e-3)


# --- the likelihood of a pixel ---------------------------------------------------------------------------------------


def exact(x: float, mean: float, deviation: float) -> float:
    """ln of the bin's share in float64: from scipy's tails, taken on the side where they are small."""
    low, high = (x - HALF - mean) / deviation, (x + HALF - mean) / deviation
    if x < -0.999:
        return float(log_ndtr(high))
    if x > 0.999:
        return float(log_ndtr(-low))
    if low + high > 0:
        low, high = -high, -low
    far, near = log_ndtr(low), log_ndtr(high)
    return float(near + np.log(-np.expm1(far - near)))


def likelihood(x: float, mean: float, deviation: float, dtype: torch.dtype = torch.float64) -> float:
    moments = numbers(mean, dtype=dtype), numbers(deviation**2, dtype=dtype)
    return float(discretised_log_likelihood(numbers(x, dtype=dtype), moments))


@pytest.mark.parametrize(("reach", "share"), [(1, 0.6826894921), (2, 0.9544997361), (3, 0.9973002039)])
def test_a_bin_reaching_k_deviations_both_ways_has_the_share_of_the_68_95_99_7_rule(reach: int, share: float) -> None:
    x = float(PIXELS[100])
    assert math.exp(likelihood(x, x, HALF / reach)) == pytest.approx(share, rel=1e-9)
    # The lowest and the highest are open on one side.
    for end in (-1.0, 1.0):
        assert math.exp(likelihood(end, end, HALF / reach)) == pytest.approx((1 + share) / 2, rel=1e-9)


@pytest.mark.parametrize(("pixel", "mean", "deviation"), [(10, -0.9, 0.05), (128, 0.3, 0.1), (200, 0.6, 0.004)])
def test_it_is_the_integral_of_the_density_over_the_bin(pixel: int, mean: float, deviation: float) -> None:
    x = float(PIXELS[pixel])
    u = x + HALF * (np.arange(20_000) + 0.5) / 10_000 - HALF
    density = np.exp(-((u - mean) ** 2) / (2 * deviation**2)) / (deviation * math.sqrt(2 * math.pi))
    assert math.exp(likelihood(x, mean, deviation)) == pytest.approx(float(density.mean()) * 2 * HALF, rel=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@settings(deadline=None)
@given(mean=st.floats(-3, 3), log_deviation=st.floats(-12, 4))
def test_the_256_bins_sum_to_1_for_any_mean_and_variance(dtype: torch.dtype, mean: float, log_deviation: float) -> None:
    moments = numbers(mean, dtype=dtype), numbers(math.exp(2 * log_deviation), dtype=dtype)
    total = discretised_log_likelihood(PIXELS.to(dtype), moments).double().exp().sum()
    # In float32 a very thin Gaussian sees the rounded edges of two neighbouring bins overlap or leave a gap.
    thin = 2e-7 / math.exp(log_deviation) if dtype == torch.float32 else 0
    assert float(total) == pytest.approx(1, abs=2e-5 + thin)


TAILS = pytest.mark.parametrize(
    ("x", "mean", "deviation"),
    [
        *((x, mean, d) for x in (-1.0, 7 / 255, 1.0) for mean in (-1.5, 0.0, 1.2) for d in (5e-3, 0.05, 1.0)),
        *((x, mean, 5e-3) for x in (-1.0, -7 / 255, 1.0) for mean in (-30.0, 500.0)),  # up to 100,000 deviations away
        (7 / 255, 7 / 255, 1e-4),  # 39 deviations to either edge
    ],
)


@TAILS
def test_float32_is_right_in_every_tail(x: float, mean: float, deviation: float) -> None:
    found = likelihood(x, mean, deviation, torch.float32)
    assert found == pytest.approx(exact(x, mean, deviation), rel=1e-5, abs=2e-5)
    assert found <= 0


@TAILS
def test_so_are_its_gradients(x: float, mean: float, deviation: float) -> None:
    moments = [torch.tensor(value, requires_grad=True) for value in (mean, deviation**2)]
    discretised_log_likelihood(torch.tensor(x), (moments[0], moments[1])).backward()

    def slope(f: Callable[[float], float], at: float, step: float) -> float:
        return (f(at + step) - f(at - step)) / (2 * step)

    by_mean = slope(lambda m: exact(x, m, deviation), mean, 1e-4 * deviation)
    by_variance = slope(lambda v: exact(x, mean, math.sqrt(v)), deviation**2, 1e-4 * deviation**2)
    for found, expected, scale in zip(moments, (by_mean, by_variance), (deviation, deviation**2), strict=True):
        assert found.grad is not None
        assert float(found.grad) == pytest.approx(expected, rel=1e-3, abs=1e-3 / scale)


def test_the_gradient_of_a_whole_batch_is_finite_wherever_the_means_are() -> None:
    mean = torch.linspace(-100, 100, 256, requires_grad=True)
    variance = torch.logspace(-9, 2, 12).reshape(-1, 1, 1).requires_grad_()
    total = discretised_log_likelihood(PIXELS.float().reshape(-1, 1), (mean, variance))
    assert bool(torch.isfinite(total).all())
    total.sum().backward()
    for moment in (mean, variance):
        assert moment.grad is not None
        assert bool(torch.isfinite(moment.grad).all())
        assert bool((moment.grad != 0).any())
