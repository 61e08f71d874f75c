"""Every tile is where the formula says, unchanged but for its size."""

import numpy as np
import pytest

from ddpm_cli.render.grid import BACKGROUND, columns_for, grid, trajectory


def tiles(count: int, channels: int = 1, size: int = 4) -> np.ndarray:
    """Random images, none of whose pixels has the colour of the background."""
    pixels = np.random.default_rng(0).integers(100, 256, (count, channels, size, size))
    return pixels.astype(np.uint8)


@pytest.mark.parametrize(
    ("count", "columns"),
    [(1, 1), (2, 2), (3, 3), (4, 2), (5, 3), (6, 3), (7, 3), (8, 4), (10, 5), (12, 4), (14, 4), (16, 4), (64, 8)],
)
def test_near_square_without_holes_where_possible(count: int, columns: int) -> None:
    assert columns_for(count) == columns


@pytest.mark.parametrize("channels", [1, 3])
def test_places_sizes_and_border(channels: int) -> None:
    images = tiles(5, channels)
    picture = grid(images, columns=3, pad=2, scale=3)
    # 3 columns and 2 rows of 4 pixels, borders of 2: 3 (2 + 3 * 6) by 3 (2 + 2 * 6)
    assert picture.shape == (channels, 42, 60)
    assert picture.dtype == np.uint8
    expected = np.full_like(picture, BACKGROUND)
    for k, (row, column) in enumerate([(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]):
        for y in range(12):
            for x in range(12):
                expected[:, 6 + 18 * row + y, 6 + 18 * column + x] = images[k, :, y // 3, x // 3]
    np.testing.assert_array_equal(picture, expected)


def test_no_border_no_enlargement_is_only_an_arrangement() -> None:
    images = tiles(4)
    expected = np.block([[images[0, 0], images[1, 0]], [images[2, 0], images[3, 0]]])
    np.testing.assert_array_equal(grid(images, pad=0, scale=1)[0], expected)


@pytest.mark.parametrize(
    ("count", "size", "width"),
    [(64, 28, 968), (1, 28, 256), (64, 32, 822), (64, 128, 1042), (10_000, 28, 3002)],
)
def test_small_images_are_enlarged_large_ones_left(count: int, size: int, width: int) -> None:
    # 64 of 28: 4 (2 + 8 * 30); 1 of 28: 8 * 32; 64 of 32: 3 (2 + 8 * 34); the last two are too wide to enlarge.
    assert grid(np.zeros((count, 1, size, size), np.uint8)).shape[2] == width


@pytest.mark.parametrize("channels", [1, 3])
def test_trajectory_has_a_row_per_sample_and_a_column_per_moment(channels: int) -> None:
    snapshots = tiles(6, channels, 28).reshape(3, 2, channels, 28, 28)
    picture = trajectory(snapshots, ["t = 2", "t = 1", "t = 0"])
    # Below the captions it is the grid whose row n is what sample n went through.
    order = [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1)]
    expected = grid(np.stack([snapshots[s, n] for s, n in order]), columns=3)
    np.testing.assert_array_equal(picture[:, -expected.shape[1] :], expected)
    captions = picture[:, : -expected.shape[1]]
    for column in range(3):
        scale = expected.shape[2] // 92
        left = scale * (2 + 30 * column)
        written = (captions[:, :, left : left + scale * 28] > 200).any(axis=(0, 1))
        assert written.any()  # and centred, up to the unequal margins of the first and last letter
        assert abs(np.flatnonzero(written)[[0, -1]].mean() - scale * 14) < 4


def test_wide_captions_are_thinned_out_and_never_touch_or_leave() -> None:
    picture = trajectory(np.zeros((51, 1, 1, 28, 28), np.uint8), [f"t = {t}" for t in range(1000, -1, -20)])
    head = picture[0, :-32]
    ink = np.flatnonzero((head > 60).any(axis=0))
    assert ink[0] >= 1
    assert ink[-1] <= picture.shape[2] - 2
    # Every second of the 51 is written; captions are apart by more than a word space (about 3 pixels at this size).
    assert (np.diff(ink) > 6).sum() == 25


def test_same_input_same_bytes() -> None:
    snapshots = tiles(4, 3).reshape(2, 2, 3, 4, 4)
    assert trajectory(snapshots, ["1", "0"]).tobytes() == trajectory(snapshots, ["1", "0"]).tobytes()
