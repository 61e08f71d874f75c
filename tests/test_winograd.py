"""Convolutions that multiply less are the same convolutions, forth and back."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ddpm_cli import machine, networks
from ddpm_cli.config import network_for
from ddpm_cli.networks import winograd
from ddpm_cli.networks.layers import Convolution

CPU = torch.device("cpu")


def operands(count: int, read: int, made: int, height: int, width: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    draw = torch.Generator().manual_seed(count + 10 * read + 100 * made + 1000 * height + width)
    shapes = ((count, read, height, width), (made, read, 3, 3), (made,))
    x, kernel, bias = (torch.randn(shape, generator=draw, dtype=dtype) for shape in shapes)
    return x.to(memory_format=torch.channels_last).requires_grad_(), kernel.requires_grad_(), bias.requires_grad_()


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(1, 11), st.integers(1, 11))
@settings(max_examples=60, deadline=None)
def test_it_is_the_convolution_and_its_gradients(count: int, read: int, made: int, height: int, width: int) -> None:
    given_ = operands(count, read, made, height, width, torch.float64)
    x, kernel, bias = given_
    ours, usual = winograd.convolve(x, kernel, bias), F.conv2d(x, kernel, bias, padding=1)
    torch.testing.assert_close(ours, usual, rtol=0, atol=1e-11)
    slope = torch.randn(usual.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for one, other in zip(
        torch.autograd.grad(ours, given_, slope), torch.autograd.grad(usual, given_, slope), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


def test_whole_numbers_of_a_small_case_by_hand() -> None:
    """A kernel of one 1 moves the image; off its border are zeros."""
    x = torch.arange(49.0).view(1, 1, 7, 7)
    kernel = torch.zeros(1, 1, 3, 3)
    kernel[..., 0, 2] = 1  # one up, one to the right
    moved = winograd.convolve(x, kernel, torch.zeros(1))[0, 0]
    torch.testing.assert_close(moved[1:, :-1], x[0, 0, :-1, 1:], rtol=0, atol=1e-4)
    torch.testing.assert_close(moved[0], torch.zeros(7), rtol=0, atol=1e-4)
    torch.testing.assert_close(moved[:, -1], torch.zeros(7), rtol=0, atol=1e-4)


@pytest.mark.parametrize("squares", [1, 5, 10**6])
def test_how_many_squares_are_at_once_changes_nothing(squares: int, monkeypatch: pytest.MonkeyPatch) -> None:
    given_ = operands(5, 3, 2, 9, 6, torch.float64)
    usual = winograd.convolve(*given_)
    monkeypatch.setattr(winograd, "SQUARES", squares)
    torch.testing.assert_close(winograd.convolve(*given_), usual, rtol=0, atol=1e-12)


def test_an_image_is_the_same_among_others() -> None:
    x, kernel, bias = operands(6, 16, 8, 14, 14, torch.float32)
    together = winograd.convolve(x, kernel, bias)
    torch.testing.assert_close(together[2:3], winograd.convolve(x[2:3], kernel, bias), rtol=0, atol=2e-5)


def test_in_float32_it_is_as_exact_as_promised() -> None:
    given_ = operands(4, 128, 128, 14, 14, torch.float32)
    exact = tuple(each.detach().double().requires_grad_() for each in given_)
    ours, usual = winograd.convolve(*given_), F.conv2d(*exact, padding=1)
    slope = torch.randn(usual.shape, generator=torch.Generator().manual_seed(1))
    found = (ours, *torch.autograd.grad(ours, given_, slope))
    expected = (usual, *torch.autograd.grad(usual, exact, slope.double()))
    for one, other in zip(found, expected, strict=True):
        assert float((one - other).detach().abs().max() / other.detach().abs().max()) < 3e-5
    assert ours.is_contiguous(memory_format=torch.channels_last)


def test_what_needs_no_gradient_gets_none() -> None:
    x, kernel, bias = operands(2, 3, 2, 8, 8, torch.float64)
    winograd.convolve(x.detach(), kernel, bias).sum().backward()
    assert x.grad is None
    assert kernel.grad is not None


def test_wide_layers_of_a_network_are_told_and_the_answer_stays() -> None:
    torch.manual_seed(0)
    network = networks.build(network_for("report", (1, 28, 28), 0)).to(memory_format=torch.channels_last).eval()
    x, time = torch.randn(2, 1, 28, 28), torch.tensor([3.0, 700.0])
    with torch.no_grad():
        usual = network(x, time, {})
        networks.use_winograd(network, True)
        told = {layer.winograd for layer in network.modules() if isinstance(layer, Convolution)}
        ours = network(x, time, {})
        networks.use_winograd(network, False)
    assert told == {True, False}  # the first layer has one channel
    assert float((ours - usual).abs().max() / usual.abs().max()) < 1e-4
    assert not torch.equal(ours, usual)
    assert not any(layer.winograd for layer in network.modules() if isinstance(layer, Convolution))


@pytest.mark.parametrize(("seconds", "pays"), [(0.5, True), (0.9, False)])
def test_it_is_used_where_it_was_measured_to_be_faster(
    seconds: float, pays: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(machine, "_training_seconds", lambda ours: asked.append(ours) or (seconds if ours else 1.0))
    large = 3_000_000_000
    assert machine.winograd_pays(large, CPU, torch.float32) == pays
    assert asked == 5 * [True, False]
    assert machine.winograd_pays(large, CPU, torch.float32) == pays  # known by now
    assert not machine.winograd_pays(200_000_000, CPU, torch.float32)
    assert not machine.winograd_pays(large, CPU, torch.bfloat16)
    assert not machine.winograd_pays(large, torch.device("meta"), torch.float32)
    assert len(asked) == 10


def test_both_ways_are_measured_for_real() -> None:
    for ours in (True, False):
        assert 0 < machine._training_seconds(ours) < 60
