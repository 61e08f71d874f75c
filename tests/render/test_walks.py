"""Ways between noise and image: every tile keeps its pixels, and stands where it is said to stand."""

import numpy as np
import pytest

from ddpm_cli.pixels import Pixels
from ddpm_cli.render.grid import Layout
from ddpm_cli.render.walks import frames, sheet


def tiles(picture: Pixels, tile: Pixels) -> list[tuple[int, int]]:
    """Where an enlarged tile is in a picture, top and left; its pixels are unlike anything else."""
    _, height, width = picture.shape
    for scale in range(1, 9):
        large = tile.repeat(scale, axis=1).repeat(scale, axis=2)
        _, h, w = large.shape
        found = [
            (top, left)
            for top in range(height - h + 1)
            for left in np.flatnonzero(picture[0, top, : width - w + 1] == large[0, 0, 0])
            if np.array_equal(picture[:, top : top + h, left : left + w], large)
        ]
        if found:
            return found
    return []


@pytest.fixture
def ways() -> tuple[Pixels, Pixels]:
    """Three moments of two images, and what they are taken for."""
    x, estimates = np.random.default_rng(0).integers(0, 256, (2, 3, 2, 1, 12, 12), np.uint8)
    return x, estimates


def test_an_estimate_stands_below_what_it_was_made_of(ways: tuple[Pixels, Pixels]) -> None:
    x, estimates = ways
    picture = sheet(x, estimates, ["t = 9", "t = 5", "t = 0"])
    for moment in range(3):
        for image in range(2):
            (above,) = tiles(picture, x[moment, image])
            (below,) = tiles(picture, estimates[moment, image])
            assert above[1] == below[1]
            assert 0 < below[0] - above[0] < picture.shape[1] / 4
    heights = [tiles(picture, x[0, image])[0][0] for image in range(2)]
    assert heights[0] < tiles(picture, estimates[0, 0])[0][0] < heights[1]


def test_a_frame_has_both_of_one_moment_side_by_side(ways: tuple[Pixels, Pixels]) -> None:
    x, estimates = ways
    found = frames(x, estimates, ["t = 9", "t = 5", "t = 0"])
    assert len(found) == 3
    assert len({picture.shape for picture in found}) == 1
    for moment, picture in enumerate(found):
        for image in range(2):
            ((top, left),) = tiles(picture, x[moment, image])
            ((same, right),) = tiles(picture, estimates[moment, image])
            assert top == same
            assert left < picture.shape[2] / 2 <= right


@pytest.mark.parametrize(("side", "count"), [(1, 1), (12, 1), (28, 1), (28, 2), (28, 64), (44, 1), (250, 1)])
@pytest.mark.parametrize("pairs", [True, False])
def test_every_frame_is_wide_enough_to_be_seen_and_has_its_caption(side: int, count: int, pairs: bool) -> None:
    x = np.random.default_rng(0).integers(0, 30, (2, count, 1, side, side), np.uint8)  # darker than the captions
    first, second = frames(x, x if pairs else None, ["t = 1000", "t = 7"])
    assert first.shape == second.shape
    assert 256 <= first.shape[2] <= 1100
    written = [np.count_nonzero(frame[0] > 150) for frame in (first, second)]
    assert written[0] > written[1] > 20  # the longer caption has more ink


def test_rows_of_a_film_are_named() -> None:
    x = np.zeros((1, 6, 1, 28, 28), np.uint8)
    layout = Layout(3, ((0, "circle"), (1, "cross")))
    for estimates in (None, x):
        named, plain = (frames(x, estimates, ["t = 0"], each)[0] for each in (layout, Layout(3)))
        assert named.shape[2] > plain.shape[2]
        assert (named[0, 60:, :60] > 150).any()


@pytest.mark.parametrize("classes", [64, 200])
def test_a_film_of_many_rows_is_not_taller_than_it_must_be(classes: int) -> None:
    x = np.zeros((1, classes, 1, 28, 28), np.uint8)
    (frame,) = frames(x, None, ["t = 0"], Layout(1, tuple((k, str(k)) for k in range(classes))))
    assert frame.shape[2] >= 256
    assert frame.shape[1] < classes * 30 + 100


@pytest.mark.parametrize(("side", "count"), [(16, 2), (16, 9), (24, 4), (32, 1), (48, 1)])
def test_all_frames_of_a_film_have_one_size(side: int, count: int) -> None:
    x = np.zeros((3, count, 1, side, side), np.uint8)
    assert len({picture.shape for picture in frames(x, x, ["t = 1000", "t = 50", "t = 0"])}) == 1


def test_without_estimates_there_are_the_images_alone(ways: tuple[Pixels, Pixels]) -> None:
    x, estimates = ways
    for picture in (sheet(x, None, ["a", "b", "c"]), *frames(x, None, ["a", "b", "c"])):
        assert not any(tiles(picture, tile) for tile in estimates.reshape(-1, 1, 12, 12))
