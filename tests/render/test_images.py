"""From pixels to bytes, and back with other readers."""

import io

import numpy as np
import pytest
from PIL import Image

from ddpm_cli.render.images import channels_last, from_pillow, npz, png, to_pillow


def picture(channels: int) -> np.ndarray:
    """5 x 7 pixels, all different in place and channel."""
    return np.arange(channels * 35, dtype=np.uint8).reshape(channels, 5, 7)


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_png_keeps_pixels_and_text(channels: int, mode: str) -> None:
    text = {"model": "mnist-9f3a", "steps": "1000", "label": "été → hiver", "seed": "7"}
    with Image.open(io.BytesIO(png(picture(channels), text))) as image:
        assert image.mode == mode
        assert image.size == (7, 5)
        assert image.text == text
        assert list(image.text) == list(text)
        np.testing.assert_array_equal(from_pillow(image), picture(channels))


def test_to_pillow_puts_channel_row_and_column_in_their_places() -> None:
    assert to_pillow(picture(3)).getpixel((6, 1)) == (13, 48, 83)  # x = 6, y = 1: 1 * 7 + 6, then + 35 a channel


@pytest.mark.parametrize("channels", [1, 3])
def test_npz_is_plain_numpy(channels: int) -> None:
    images = np.stack([picture(channels), picture(channels)[:, ::-1]])
    with np.load(io.BytesIO(npz(images, np.array([3, 9], np.int32))), allow_pickle=False) as archive:
        assert sorted(archive) == ["images", "labels"]
        assert archive["images"].dtype == np.uint8
        assert archive["images"].shape == ((2, 5, 7) if channels == 1 else (2, 5, 7, 3))
        assert archive["images"][1, 0, 2].tolist() == (30 if channels == 1 else [30, 65, 100])
        assert archive["labels"].dtype == np.int64
        assert archive["labels"].tolist() == [3, 9]


def test_npz_holds_more_where_more_is_given() -> None:
    x = np.arange(70.0, dtype=np.float32).reshape(2, 1, 5, 7)
    beside = {"x": channels_last(x), "levels": np.array([0.5, 2.0])}
    with np.load(io.BytesIO(npz(picture(1)[None].repeat(2, axis=0), **beside)), allow_pickle=False) as archive:
        assert sorted(archive) == ["images", "labels", "levels", "x"]
        assert (archive["x"].dtype, archive["x"].shape, archive["x"][1, 0, 3]) == (np.float32, (2, 5, 7), 38)
        assert archive["levels"].tolist() == [0.5, 2]


def test_npz_without_labels_says_so() -> None:
    with np.load(io.BytesIO(npz(picture(1)[None])), allow_pickle=False) as archive:
        assert archive["labels"].tolist() == [-1]


def test_same_input_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    before = png(picture(3), {"seed": "1"}), npz(picture(3)[None])
    monkeypatch.setattr("time.time", lambda: 2e9)
    assert (png(picture(3), {"seed": "1"}), npz(picture(3)[None])) == before
