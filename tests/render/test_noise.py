"""Strips, films and arrays of images on their way to noise show the levels in their places."""

import io

import numpy as np
import pytest
from PIL import Image

from ddpm_cli import noising
from ddpm_cli.config import ScheduleConfig
from ddpm_cli.noising import Noised
from ddpm_cli.render import noise
from ddpm_cli.schedule import Schedule

SCHEDULE = Schedule(ScheduleConfig("linear", 10))
IMAGES = np.random.default_rng(0).integers(0, 256, (2, 1, 12, 10), np.uint8)
TIMES = [0.0, 4.0, 10.0]


def sent(process="closed-form", images=IMAGES, times=TIMES) -> Noised:
    numbers = range(len(images))
    return noising.noised(images, numbers, SCHEDULE, times, process=process, noise="gaussian", seed=0)


def seen(x: np.ndarray) -> np.ndarray:
    return np.rint((np.clip(x, -1, 1) + 1) * 127.5)


def test_a_strip_has_a_row_an_image_a_column_a_level_and_a_heading_above() -> None:
    found = sent()
    plain, headed = (noise.strip([found], ["0", "4", "10"], heading) for heading in ("", "linear schedule"))
    scale = 8
    tiles = plain[0, -scale * (2 + 2 * 14) :][scale // 2 :: scale, scale // 2 :: scale]  # without the captions
    for n in range(2):
        for k in range(3):
            tile = tiles[2 + 14 * n : 14 * (n + 1), 2 + 12 * k : 12 * (k + 1)]
            np.testing.assert_array_equal(tile, seen(found.x[k, n, 0]))
    assert headed.shape[1] > plain.shape[1]
    np.testing.assert_array_equal(headed[:, -plain.shape[1] :], plain)


def test_a_narrow_strip_has_no_room_for_a_heading() -> None:
    small = sent(images=IMAGES[:1, :, :2, :2], times=[0.0, 4.0])
    strips = [noise.strip([small], ["0", "4"], heading) for heading in ("", "scaled-linear schedule")]
    assert strips[0].shape[2] < 300
    np.testing.assert_array_equal(*strips)


def test_a_level_on_its_own_is_its_pixels() -> None:
    alone = noise.strip([sent(images=IMAGES[:1], times=[4.0])], ["4"], "never seen")
    scale = 256 // 12
    assert alone.shape == (1, 12 * scale, 10 * scale)
    np.testing.assert_array_equal(alone[:, ::scale, ::scale], seen(sent().x[1, 0]))


@pytest.mark.parametrize("processes", [["closed-form"], ["markov", "naive"]])
def test_a_film_has_a_frame_a_level(processes: list[str]) -> None:
    with Image.open(io.BytesIO(noise.film([sent(process) for process in processes], ["0", "4", "10"]))) as film:
        assert film.n_frames == 3


def test_an_archive_goes_through_the_levels_of_one_image_after_the_other() -> None:
    found = sent()
    with np.load(io.BytesIO(noise.archive(found, [7, 9], [1, 0])), allow_pickle=False) as archive:
        arrays = dict(archive)
    assert arrays["index"].tolist() == [7, 7, 7, 9, 9, 9]
    assert arrays["labels"].tolist() == [1, 1, 1, 0, 0, 0]
    assert arrays["levels"].tolist() == TIMES * 2
    for row, (n, k) in enumerate((n, k) for n in range(2) for k in range(3)):
        np.testing.assert_array_equal(arrays["x"][row], found.x[k, n, 0])
        np.testing.assert_array_equal(arrays["images"][row], seen(found.x[k, n, 0]))
    for (n, k, picture), image in zip(noise.singly(found), arrays["images"], strict=True):
        np.testing.assert_array_equal(picture[0], image, err_msg=f"{n}, {k}")


def test_schedules_are_compared_on_one_image_under_one_noise() -> None:
    linear, cosine = (Schedule(ScheduleConfig(kind, 50)) for kind in ("linear", "cosine"))
    tiles = noise.compared([linear, cosine, linear], np.array([0, 0.5, 1.0]))
    assert (tiles.shape, tiles.dtype) == ((3, 3, 1, 28, 28), np.uint8)
    np.testing.assert_array_equal(tiles[0], tiles[2])
    np.testing.assert_array_equal(tiles[0, 0], tiles[1, 0])
    assert np.any(tiles[0, 1] != tiles[1, 1])


def test_numbers_are_told_by_level_and_the_right_process_beside() -> None:
    right, naive = sent("markov"), sent("naive")
    rows = noising.told([right, naive], 10)
    assert [(row["t"], row["percent"]) for row in rows] == [(0, 0), (4, 40), (10, 100)]
    for k, row in enumerate(rows):
        x = right.x[k].astype(float)
        assert row["right"]["mean"] == pytest.approx(x.mean(), abs=1e-6)
        assert row["right"]["variance"] == pytest.approx(x.var(), rel=1e-5)
        assert row["signal"] ** 2 + row["noise"] ** 2 == pytest.approx(1)
        assert row["snr"] == pytest.approx(np.exp(row["log_snr"]))
        assert row["variance"] == pytest.approx(naive.x[k].astype(float).var(), rel=1e-5)
    assert "right" not in noising.told([right], 10)[0]
    only = naive.only(1)
    np.testing.assert_array_equal(only.x, naive.x[1:2])
    assert (only.levels.t.tolist(), only.moments(0)) == ([4], naive.moments(1))
