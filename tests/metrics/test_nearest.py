"""The nearest neighbour is the nearest, and a copy is known by the second."""

import numpy as np
import pytest

from ddpm_cli.metrics import nearest
from ddpm_cli.metrics.nearest import blocks, neighbours

DRAW = np.random.default_rng(0)


def test_the_nearest_is_found_pixel_by_pixel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "ROWS", 4)
    images, others = (DRAW.integers(0, 256, (n, 1, 5, 5), dtype=np.uint8) for n in (10, 30))
    found = neighbours(images, others)
    for i, image in enumerate(images):
        apart = [np.sqrt(np.mean((image.astype(float) - other) ** 2)) for other in others]
        assert found.which[i] == np.argmin(apart)
        assert found.distance[i] == pytest.approx(min(apart))
        first, second = sorted(apart)[:2]
        assert found.copied[i] == (first < second / 3)


def test_copies_are_known_even_with_a_little_noise() -> None:
    others = DRAW.integers(0, 256, (50, 1, 8, 8), dtype=np.uint8)
    noisy = (others[:20].astype(int) + DRAW.integers(-3, 4, others[:20].shape)).clip(0, 255).astype(np.uint8)
    found = neighbours(np.concatenate([others[:20], noisy]), others)
    assert found.copied.all()
    assert (found.which == np.tile(np.arange(20), 2)).all()
    assert (found.distance[:20] == 0).all()
    assert not neighbours(DRAW.integers(0, 256, (20, 1, 8, 8), dtype=np.uint8), others).copied.any()


def test_an_exact_copy_of_an_image_that_is_there_twice_is_one() -> None:
    others = DRAW.integers(0, 256, (30, 1, 8, 8), dtype=np.uint8)
    found = neighbours(others[:10], np.concatenate([others, others]))
    assert found.copied.all()
    assert (found.distance == 0).all()


def test_blocks_are_squared_distances(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exactly, also where float32 could not add the squares: 255^2 * 3000 is 11 times 2^24."""
    monkeypatch.setattr(nearest, "ROWS", 3)
    monkeypatch.setattr(nearest, "CELLS", 6500)  # two images
    a, b = (DRAW.integers(0, 256, (n, 3000), dtype=np.uint8) for n in (8, 5))
    a[0], b[:2] = 255, [[0], [1]]
    found = np.concatenate([squares for _, squares in blocks(a, b)])
    assert (found == ((a.astype(np.int64)[:, None] - b) ** 2).sum(2)).all()


def test_the_nearest_is_found_among_many_that_are_hardly_farther() -> None:
    """Squared distances of 3e8 that differ by 1 to 1,500; float32 has steps of 32 there."""
    image = DRAW.integers(0, 256, (1, 3, 64, 64), dtype=np.uint8)
    image[:, 0, 0, 0] = 128
    others = np.repeat(255 - image, 40, 0)
    for _ in range(10):
        farther = DRAW.permutation(40)
        others[:, 0, 0, 0] = 128 + farther
        assert neighbours(image, others).which[0] == farther.argmin()
