"""The Fréchet distance is that of Gaussians, whatever way it is computed."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from ddpm_cli.errors import NumericsError
from ddpm_cli.metrics.frechet import Moments, frechet, moments, resampled

DRAW = np.random.default_rng(0)


def cloud(count: int, size: int = 6, shift: float = 0.0) -> np.ndarray:
    mix = np.random.default_rng(size).standard_normal((size, size))
    return (DRAW.standard_normal((count, size)) @ mix + shift).astype(np.float32)


def by_roots(a: Moments, b: Moments) -> float:
    """As it is written, with scipy's root of the product, which need not be symmetric."""
    root = sqrtm(a.covariance @ b.covariance)
    apart = a.mean - b.mean
    return float(apart @ apart + np.trace(a.covariance + b.covariance - 2 * np.real(root)))


@pytest.mark.parametrize("size", [1, 2, 6, 64])
def test_it_is_the_formula_with_the_root_of_scipy(size: int) -> None:
    a, b = moments(cloud(400, size)), moments(1.3 * cloud(300, size, 0.4))
    assert frechet(a, b) == pytest.approx(by_roots(a, b), rel=1e-6)
    assert frechet(b, a) == pytest.approx(frechet(a, b), rel=1e-9)


def test_of_diagonal_gaussians_it_is_a_sum_over_axes() -> None:
    """|m_a - m_b|^2 + sum (s_a - s_b)^2, in closed form."""
    a = Moments(np.array([1.0, 2.0, 3.0]), np.diag([1.0, 4.0, 9.0]))
    b = Moments(np.array([1.0, 0.0, 3.5]), np.diag([4.0, 4.0, 0.25]))
    assert frechet(a, b) == pytest.approx((0 + 4 + 0.25) + (1 + 0 + 6.25))


def test_equal_clouds_have_none_and_singular_ones_a_real_one() -> None:
    flat = np.repeat(cloud(50, 1), 5, axis=1)
    assert frechet(moments(flat), moments(flat)) == pytest.approx(0, abs=1e-6)
    still, other = moments(np.ones((10, 5))), moments(flat)
    expected = float(np.sum((1 - other.mean) ** 2) + np.trace(other.covariance))  # nothing is shared with a point
    assert frechet(still, other) == pytest.approx(expected)


def test_moments_are_those_of_numpy() -> None:
    features = cloud(100) + 1000  # far from 0, where sums of squares would cancel
    found = moments(features)
    np.testing.assert_allclose(found.mean, features.astype(np.float64).mean(0))
    np.testing.assert_allclose(found.covariance, np.cov(features.astype(np.float64), rowvar=False), rtol=1e-9)


def test_a_bootstrap_sample_has_the_moments_of_its_rows() -> None:
    features = cloud(40) + 100
    for found, draw in zip(
        resampled(features, 3, np.random.default_rng(5)), [np.random.default_rng(5)] * 3, strict=True
    ):
        rows = features[draw.integers(40, size=40)].astype(np.float64)
        np.testing.assert_allclose(found.mean, rows.mean(0), rtol=1e-9)
        np.testing.assert_allclose(found.covariance, np.cov(rows, rowvar=False), rtol=1e-7, atol=1e-9)


def test_features_that_are_no_numbers_are_refused_and_not_perfect() -> None:
    broken = cloud(50)
    broken[3, 2] = np.nan
    for pair in ((broken, cloud(50)), (cloud(50), broken)):
        with pytest.raises(NumericsError, match="not finite"):
            frechet(*map(moments, pair))


def test_the_bootstrap_knows_how_far_other_samples_would_lie() -> None:
    """The standard deviation over its samples is that over fresh clouds."""
    real = moments(cloud(5000, shift=1.0))
    fresh = [frechet(moments(cloud(500)), real) for _ in range(200)]
    again = [frechet(each, real) for each in resampled(cloud(500), 200, np.random.default_rng(1))]
    assert np.std(again) == pytest.approx(np.std(fresh), rel=0.3)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of scipy, for what it asks of it
@pytest.mark.parametrize("size", [6, 64])
def test_it_is_that_of_pytorch_fid(size: int) -> None:
    """A well-kept library on equal features; it needs no weights for this."""
    peer = pytest.importorskip("pytorch_fid.fid_score")
    a, b = moments(cloud(400, size)), moments(1.3 * cloud(300, size, 0.4))
    theirs = peer.calculate_frechet_distance(a.mean, a.covariance, b.mean, b.covariance)
    assert frechet(a, b) == pytest.approx(theirs, rel=1e-6)
