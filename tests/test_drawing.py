"""Samples that are nothing like the data are not passed over in silence."""

import numpy as np
import pytest
import torch

from ddpm_cli import drawing
from ddpm_cli.checkpoint import Info
from ddpm_cli.config import ScheduleConfig, UNetConfig

MNIST = {"mean": -0.739, "std": 0.616}


def described(data: dict[str, object]) -> Info:
    return Info(UNetConfig((1, 8, 8)), ScheduleConfig(), "v", data=data)


@pytest.mark.parametrize(("grey", "far"), [(0, False), (33, False), (111, False), (113, True), (255, True)])
def test_samples_a_standard_deviation_brighter_than_the_data_are_unlike_it(grey: int, far: bool) -> None:
    """-0.739 + 0.616 = -0.123 is grey level 111.8."""
    said = drawing.unlike(np.full((3, 1, 8, 8), grey, np.uint8), described(MNIST))
    assert (said is not None) == far
    if said:
        assert f"mean {grey / 127.5 - 1:.2f} against -0.74" in said


@pytest.mark.parametrize(("grey", "far"), [(255, False), (245, False), (240, True), (0, True)])
def test_data_without_contrast_leave_room_for_a_tenth(grey: int, far: bool) -> None:
    """White images: the mean is 1 and the standard deviation 0; 1 - 0.1 is grey level 242."""
    said = drawing.unlike(np.full((3, 1, 8, 8), grey, np.uint8), described({"mean": 1.0, "std": 0.0}))
    assert (said is not None) == far


@pytest.mark.parametrize("data", [{}, {"mean": None, "std": 1.0}, {"mean": "dark", "std": 1}, {"name": "pets"}])
def test_a_model_that_does_not_know_its_data_is_not_judged(data: dict[str, object]) -> None:
    assert drawing.unlike(np.zeros((1, 1, 8, 8), np.uint8), described(data)) is None


@pytest.mark.parametrize(
    ("gflop", "expected"), [(0, 16), (0.02, 16), (0.19, 16), (0.78, 16), (1.6, 8), (3.1, 4), (100, 4), (1e290, 4)]
)
def test_a_large_network_sees_fewer_images_at_once_on_a_cpu(gflop: float, expected: int) -> None:
    assert drawing.inner_batch(int(gflop * 1e9), torch.device("cpu")) == expected
    assert drawing.inner_batch(int(gflop * 1e9), torch.device("cuda")) == 256
