"""The distance between two clouds of features, each taken for a Gaussian."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.errors import NumericsError

Floats = NDArray[np.float64]


class Moments(NamedTuple):
    """Mean (d,) and covariance (d, d) of a cloud of features, the covariance unbiased; float64."""

    mean: Floats
    covariance: Floats


def moments(features: NDArray[np.floating]) -> Moments:
    """Of features (N, d), N at least 2."""
    values = features.astype(np.float64)
    mean = values.mean(0)
    values -= mean
    return Moments(mean, values.T @ values / (len(values) - 1))


def frechet(a: Moments, b: Moments) -> float:
    """The squared Fréchet distance of two Gaussians, at least 0.

    |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a^{1/2} C_b C_a^{1/2})^{1/2})

    The root under the trace is that of a symmetric matrix, so its trace is a sum over eigenvalues, which stays real
    where covariances are singular.

    Raises:
        NumericsError: moments that are not finite.

    References:
        Dowson and Landau 1982, equation 16; as a measure of samples Heusel et al. 2017, equation 6.
    """
    if not all(np.isfinite(part).all() for part in (*a, *b)):
        raise NumericsError("features hold values that are not finite numbers", "Judge other images.")
    values, vectors = np.linalg.eigh(a.covariance)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    shared = np.sqrt(np.linalg.eigvalsh(root @ b.covariance @ root).clip(min=0)).sum()
    apart = a.mean - b.mean
    distance = apart @ apart + np.trace(a.covariance) + np.trace(b.covariance) - 2 * shared
    return max(0.0, float(distance))


def resampled(features: NDArray[np.floating], times: int, draw: np.random.Generator) -> Iterator[Moments]:
    """Moments of bootstrap samples: as many features each, drawn with replacement.

    Args:
        features: (N, d), N at least 2.
        times: how many samples.
        draw: what draws them.

    References:
        Efron 1979.
    """
    values = features.astype(np.float64)
    values -= values.mean(0)  # so that the products below do not cancel
    centre, count = features.astype(np.float64).mean(0), len(values)
    for _ in range(times):
        often = np.bincount(draw.integers(count, size=count), minlength=count).astype(np.float64)
        mean = often @ values / count
        products = (values * often[:, None]).T @ values
        yield Moments(centre + mean, (products - count * np.outer(mean, mean)) / (count - 1))
