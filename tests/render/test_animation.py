"""An animation shows every frame, long enough, for ever."""

import io

import numpy as np
import pytest
from PIL import Image

from ddpm_cli.render.animation import apng, gif


def decoded(data: bytes, mode: str) -> tuple[list[np.ndarray], list[int]]:
    """Frames as Pillow shows them, (H, W) or (H, W, 3), and their times in milliseconds."""
    frames, times = [], []
    with Image.open(io.BytesIO(data)) as image:
        for k in range(image.n_frames):
            image.seek(k)
            frames.append(np.asarray(image.convert(mode)))
            times.append(image.info["duration"])
    return frames, times


def test_grey_frames_are_exact_even_with_all_256_greys() -> None:
    every = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    changed = every.copy()
    changed[0, 3, 3] = 255  # a frame that differs in one pixel is stored as a difference
    frames = [np.random.default_rng(0).permutation(every.ravel()).reshape(1, 16, 16), every, changed]
    shown, _ = decoded(gif(frames), "L")
    assert len(shown) == 3
    for image, frame in zip(shown, frames, strict=True):
        np.testing.assert_array_equal(image, frame[0])


def test_times_the_last_frame_held_and_the_loop() -> None:
    frames = [np.full((1, 4, 4), value, np.uint8) for value in (0, 80, 160, 255)]
    data = gif(frames, milliseconds=80, hold=1200)
    assert decoded(data, "L")[1] == [80, 80, 80, 1200]
    with Image.open(io.BytesIO(data)) as image:
        assert image.info["loop"] == 0  # 0 is for ever


def test_equal_neighbours_keep_their_time() -> None:
    frames = [np.full((1, 4, 4), value, np.uint8) for value in (0, 0, 255)]
    assert decoded(gif(frames, milliseconds=100), "L")[1] == [200, 1500]


def test_one_frame() -> None:
    shown, _ = decoded(gif([np.full((1, 4, 4), 7, np.uint8)]), "L")
    assert [image[0, 0] for image in shown] == [7]


@pytest.mark.parametrize("channels", [1, 3])
def test_an_animated_png_is_exact_in_colour_too(channels: int) -> None:
    frames = list(np.random.default_rng(0).integers(0, 256, (3, channels, 16, 16), np.uint8))
    frames.append(frames[-1].copy())  # equal neighbours are stored once, and last as long as both
    frames[3][0, 2, 2] ^= 255
    data = apng(frames, milliseconds=80, hold=1200, text={"model": "some"})
    assert data[:4] == b"\x89PNG"
    shown, times = decoded(data, "L" if channels == 1 else "RGB")
    assert times == [80, 80, 80, 1200]
    for image, frame in zip(shown, frames, strict=True):
        np.testing.assert_array_equal(image, frame[0] if channels == 1 else np.moveaxis(frame, 0, -1))
    with Image.open(io.BytesIO(data)) as image:
        assert image.info["loop"] == 0
        assert image.text == {"model": "some"}  # type: ignore[attr-defined]  # only PNGs have it


@pytest.mark.parametrize("seed", [0, 1])
def test_few_colours_are_exact_and_many_are_near(seed: int) -> None:
    draw = np.random.default_rng(seed)
    palette = np.array([[0, 158, 115], [213, 94, 0], [40, 40, 40], [255, 255, 255]], np.uint8)
    few = np.moveaxis(palette[draw.integers(0, 4, (20, 20))], -1, 0)
    ramp = np.linspace(0, 255, 64)
    many = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None], 128)).astype(np.uint8)
    np.testing.assert_array_equal(np.moveaxis(decoded(gif([few]), "RGB")[0][0], -1, 0), few)
    error = np.moveaxis(decoded(gif([many]), "RGB")[0][0], -1, 0).astype(float) - many
    # 256 colours cut the plane of 255 x 255 into squares of 16: uniform errors of +-8 have standard deviation 4.6.
    assert np.sqrt(np.square(error).mean()) < 6


def test_colour_noise_is_as_near_as_256_colours_can_be() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (3, 200, 200)).astype(np.uint8)
    error = np.moveaxis(decoded(gif([noise]), "RGB")[0][0], -1, 0).astype(float) - noise
    # 256 colours cut the cube of 255 into cubes of 255 / 256^(1/3) = 40: errors of +-20, standard deviation 11.6.
    assert np.sqrt(np.square(error).mean()) < 1.1 * 11.6


def test_same_input_same_bytes() -> None:
    frames = list(np.random.default_rng(0).integers(0, 256, (3, 3, 16, 16)).astype(np.uint8))
    assert gif(frames) == gif(frames)
