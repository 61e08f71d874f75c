"""Pixels and the numbers that models see, back and forth."""

import numpy as np
import pytest
import torch

from ddpm_cli.errors import NumericsError
from ddpm_cli.pixels import from_uint8, to_uint8

EVERY = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)


@pytest.mark.parametrize(
    ("value", "pixel"),
    [(-1.0, 0), (1.0, 255), (-3.0, 0), (1e30, 255), (0.003, 128), (-0.003, 127), (0.5, 191), (-0.5, 64)],
)
def test_to_uint8_ends_clipping_and_rounding(value: float, pixel: int) -> None:
    # 0.5 -> 191.25 and -0.5 -> 63.75: truncation instead of rounding would give 63.
    assert to_uint8(np.full((1, 1, 1, 1), value)).item() == pixel


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_to_uint8_undoes_the_scaling_of_every_pixel(dtype: type) -> None:
    back = to_uint8(from_uint8(EVERY).astype(dtype))
    assert back.dtype == np.uint8
    np.testing.assert_array_equal(back, EVERY)


def test_black_is_minus_one_and_white_one_of_arrays_and_tensors_alike() -> None:
    array, tensor = from_uint8(EVERY), from_uint8(torch.from_numpy(EVERY))
    assert (array.dtype, tensor.dtype) == (np.float64, torch.float32)
    assert (array.min(), array.max(), array[0, 0, 3, 3]) == (-1, 1, pytest.approx(-0.6))
    np.testing.assert_allclose(tensor.numpy(), array, rtol=0, atol=1e-7)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_to_uint8_refuses_what_is_no_image(bad: float) -> None:
    x = np.zeros((2, 1, 3, 3), np.float32)
    x[1, 0, 2, 2] = bad
    with pytest.raises(NumericsError, match="not finite"):
        to_uint8(x)
