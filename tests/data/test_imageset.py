"""What every data set can tell of itself."""

import tracemalloc

import numpy as np
import pytest

from ddpm_cli.data import ImageSet


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (7, 3, 5, 4), (300, 1, 8, 8)])
def test_the_statistics_are_those_of_all_pixels_between_minus_one_and_one(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    said = ImageSet("pets", pixels).statistics()
    scaled = pixels.astype(np.float64) / 255 * 2 - 1
    assert (said["name"], said["images"]) == ("pets", shape[0])
    assert said["mean"] == pytest.approx(scaled.mean(), abs=1e-6)
    assert said["std"] == pytest.approx(scaled.std(), abs=1e-6)


def test_images_of_one_value_each_are_flat_and_others_are_not() -> None:
    greys = np.arange(6, dtype=np.uint8).reshape(6, 1, 1, 1) * np.ones((1, 1, 4, 4), np.uint8)
    assert ImageSet("greys", greys).statistics()["flat"] is True
    greys[5, 0, 3, 3] = 255
    assert "flat" not in ImageSet("greys", greys).statistics()


def test_the_statistics_of_a_set_take_no_memory_beside_it() -> None:
    pixels = np.zeros((500, 3, 64, 64), np.uint8)
    tracemalloc.start()
    try:
        ImageSet("pets", pixels).statistics()
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < pixels.nbytes / 4
