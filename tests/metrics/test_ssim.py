"""Structural similarity is that of its paper, window by window."""

import numpy as np
import pytest
from numpy.typing import NDArray

from ddpm_cli.errors import UsageError
from ddpm_cli.metrics import ssim

RNG = np.random.default_rng(0)


def slow(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Wang et al. 2004, equation 13, over every 7 x 7 window of one grey image, in plain loops."""
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    found = []
    for top in range(a.shape[0] - 6):
        for left in range(a.shape[1] - 6):
            x, y = (image[top : top + 7, left : left + 7].astype(np.float64) for image in (a, b))
            covariance = ((x - x.mean()) * (y - y.mean())).sum() / 48
            means = (2 * x.mean() * y.mean() + c1) / (x.mean() ** 2 + y.mean() ** 2 + c1)
            found.append(means * (2 * covariance + c2) / (x.var(ddof=1) + y.var(ddof=1) + c2))
    return float(np.mean(found))


def noise(*shape: int) -> NDArray[np.uint8]:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("size", [(7, 7), (28, 28), (9, 13)])
def test_it_is_the_slow_one(size: tuple[int, int]) -> None:
    a = noise(3, 1, *size)
    b = np.clip(a.astype(int) + RNG.integers(-60, 60, a.shape), 0, 255).astype(np.uint8)
    assert ssim(a, b) == pytest.approx([slow(x[0], y[0]) for x, y in zip(a, b, strict=True)], abs=1e-12)


def test_colours_are_averaged() -> None:
    a, b = noise(2, 3, 12, 12), noise(2, 3, 12, 12)
    expected = [np.mean([slow(x[c], y[c]) for c in range(3)]) for x, y in zip(a, b, strict=True)]
    assert ssim(a, b) == pytest.approx(expected, abs=1e-12)


def test_equal_images_have_one_and_flat_ones_only_their_means() -> None:
    a = noise(2, 1, 28, 28)
    assert ssim(a, a) == pytest.approx([1, 1], abs=1e-12)
    dark, light = np.full((1, 1, 8, 8), 50, np.uint8), np.full((1, 1, 8, 8), 200, np.uint8)
    c1 = (0.01 * 255) ** 2
    assert ssim(dark, light) == pytest.approx([(2 * 50 * 200 + c1) / (50**2 + 200**2 + c1)], abs=1e-12)


def test_images_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(UsageError, match=r"1x8x8.*1x9x9"):
        ssim(noise(1, 1, 8, 8), noise(1, 1, 9, 9))
    with pytest.raises(UsageError, match="7 pixels"):
        ssim(noise(1, 1, 6, 8), noise(1, 1, 6, 8))
