"""Every tile is where the formula says, unchanged but for its size."""

import numpy as np
import pytest

from ddpm_cli.data.resize import to_square
from ddpm_cli.render.grid import (
    BACKGROUND,
    HEIGHT,
    Layout,
    annotated,
    arranged,
    captioned,
    columns_for,
    enlarged,
    grid,
    shrunk,
    squared,
    trajectory,
)


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


def test_there_are_never_more_columns_than_images() -> None:
    np.testing.assert_array_equal(grid(tiles(3), columns=10), grid(tiles(3), columns=3))


def test_a_tall_grid_is_enlarged_less() -> None:
    assert grid(np.zeros((40, 1, 28, 28), np.uint8), columns=1).shape[1] == 2 + 40 * 30 <= HEIGHT


@pytest.mark.parametrize("channels", [1, 3])
def test_a_row_has_its_name_on_its_left(channels: int) -> None:
    images = tiles(6, channels, 28)
    picture = arranged(images, Layout(2, ((3, "ant"), (5, "bumblebee"), (9, "ant"))))
    plain = grid(images, columns=2)
    np.testing.assert_array_equal(picture[:, :, -plain.shape[2] :], plain)
    names = picture[:, :, : -plain.shape[2]]
    scale = plain.shape[2] // 62
    bands = [names[:, scale * (2 + 30 * row) : scale * 30 * (row + 1)] for row in range(3)]
    for band in bands:
        lines, columns = np.nonzero((band > 150).any(axis=0))
        assert abs(lines.mean() - band.shape[1] / 2) < 5  # in the middle of the row
        assert band.shape[2] - columns.max() < 12  # close to it
    np.testing.assert_array_equal(bands[0], bands[2])
    between = names[:, scale * 30 : scale * 32]
    assert (between == BACKGROUND).all()


def test_a_name_that_is_too_long_or_cannot_be_written_takes_no_room() -> None:
    images = tiles(2, 1, 28)
    width = arranged(images, Layout(1, ((0, "a"), (1, "b")))).shape[2]
    assert arranged(images, Layout(1, ((0, "a" * 500), (1, "b")))).shape[2] < 2 * width
    foreign = arranged(images, Layout(1, ((0, "\u732b"), (1, "two\nlines\x1b[31m"))))
    numbered = arranged(images, Layout(1, ((0, "@0"), (1, r"two\nlines\x1b[31m"))))
    np.testing.assert_array_equal(foreign, numbered)


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


# --- rows to compare ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_annotated_keeps_every_tile_between_its_texts(channels: int) -> None:
    snapshots = tiles(6, channels, 28).reshape(3, 2, channels, 28, 28)
    notes = [["mean 1\nvariance 2"] * 3] * 2
    picture = annotated(snapshots, ["a", "b", "c"], ["one", "two"], notes)
    for row in range(2):
        strip = grid(snapshots[:, row], columns=3)
        places = [y for y in range(picture.shape[1] - strip.shape[1] + 1) if (picture[:, y, 0] == BACKGROUND).all()]
        assert any(np.array_equal(picture[:, y : y + strip.shape[1], : strip.shape[2]], strip) for y in places)
    plain = annotated(snapshots, ["", "", ""], ["", ""], [[" \n "] * 3] * 2)
    written = (picture > 200).sum() - (plain > 200).sum()
    assert written > 0


def test_annotated_widens_for_its_heading_and_centres_the_images() -> None:
    picture = annotated(
        np.full((1, 1, 1, 4, 4), 255, np.uint8), ["t"], ["a heading wider than one image " * 3], [["n"]]
    )
    assert picture.shape[2] > 400
    bright = np.flatnonzero((picture[0] == 255).sum(0) > 100)
    assert abs(bright.mean() - (picture.shape[2] - 1) / 2) <= 1
    assert len(bright) == 256  # a single column is enlarged to at most that


def test_texts_shrink_before_they_are_left_out() -> None:
    snapshots = np.zeros((6, 1, 1, 90, 120), np.uint8)  # columns of 122 pixels, at size 20 too narrow for the note
    picture = annotated(snapshots, ["x"] * 6, [""], [["variance 10.00"] * 6])
    below = picture[0, -30:]
    assert all((below[:, 122 * k : 122 * (k + 1)] > 150).any() for k in range(6))


def test_a_caption_stands_above_the_untouched_picture_and_still() -> None:
    picture = tiles(1, 3, 64)[0]
    short, long = captioned(picture, "t = 5"), captioned(picture, "t = 500")
    assert short.shape == long.shape
    np.testing.assert_array_equal(short[:, -64:], picture)
    np.testing.assert_array_equal(short[:, :-64, :20], long[:, :-64, :20])  # its beginning does not move
    assert (long[:, :-64] != short[:, :-64]).any()


# --- sizes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "scale"), [(1, 256), (28, 9), (128, 2), (129, 1), (300, 1)])
def test_a_picture_alone_is_enlarged_to_at_most_256_pixels(size: int, scale: int) -> None:
    image = tiles(1, 3, size)
    large = enlarged(image)
    assert large.shape == (1, 3, size * scale, size * scale)
    np.testing.assert_array_equal(large[..., ::scale, ::scale], image)
    np.testing.assert_array_equal(large[..., scale - 1 :: scale, scale - 1 :: scale], image)


def test_the_longer_side_decides_how_far() -> None:
    assert enlarged(np.zeros((1, 10, 100), np.uint8)).shape == (1, 20, 200)
    assert enlarged(np.zeros((1, 4, 2), np.uint8), 8).shape == (1, 8, 4)


@pytest.mark.parametrize(
    ("shape", "shrunken"),
    [
        ((1, 200, 300), (1, 67, 100)),
        ((3, 300, 200), (3, 100, 67)),
        ((1, 100, 100), (1, 100, 100)),
        ((1, 3000, 1), (1, 100, 1)),
    ],
)
def test_shrunk_keeps_proportions(shape: tuple[int, ...], shrunken: tuple[int, ...]) -> None:
    assert shrunk(np.zeros(shape, np.uint8), 100).shape == shrunken


def test_shrinking_averages_and_leaves_small_pictures_alone() -> None:
    board = (np.indices((200, 200)).sum(0) % 2 * 255).astype(np.uint8)[None]
    assert 120 <= shrunk(board, 50).min() <= shrunk(board, 50).max() <= 135
    assert shrunk(board, 200) is board


def test_squared_keeps_the_middle_as_data_sets_do() -> None:
    stripe = np.repeat(np.array([[10, 100, 250]], np.uint8), 8, axis=0).repeat(8, axis=1)[None]  # 8 x 24
    for size in (4, 16):
        for picture in (stripe, stripe.transpose(0, 2, 1).copy()):
            square = squared(picture, size)
            assert square.shape == (1, size, size)
            assert set(square[0, 1:-1, 1:-1].ravel()) == {100}
    assert (squared(stripe, 8) == 100).all()
    photo = np.random.default_rng(0).integers(0, 256, (3, 40, 60)).astype(np.uint8)
    expected = to_square(photo[None].copy(), 20)[0]
    assert np.abs(squared(photo, 20).astype(int) - expected).max() <= 2  # two libraries round differently
