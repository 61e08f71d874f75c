"""Both networks take images of any size, hear the time and the label, and cost what is said of them."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ddpm_cli.config import PRESETS, NetworkConfig, ReportUNetConfig, UNetConfig, network_for
from ddpm_cli.errors import UsageError
from ddpm_cli.networks import build, count_flops, count_parameters
from ddpm_cli.networks.layers import FEW, Grow, Norm, SelfAttention, attend, channels_last, sinusoids

Make = Callable[..., NetworkConfig]


def tiny_report(shape: tuple[int, int, int], classes: int = 0) -> NetworkConfig:
    return ReportUNetConfig(shape, classes, widths=(8, 16, 32), embedding=16, heads=2)


def tiny_unet(shape: tuple[int, int, int], classes: int = 0) -> NetworkConfig:
    return UNetConfig(shape, classes, widths=(8, 16, 24), blocks=1, attention=(1,), heads=2)


TINY = pytest.mark.parametrize("make", [tiny_report, tiny_unet])


@pytest.fixture(autouse=True)
def same_numbers_every_time() -> None:
    torch.manual_seed(0)


def awake(network: nn.Module) -> nn.Module:
    """The network away from its start, where some layers are zero and hide the ones before them."""
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in network.parameters():
            p += 0.1 * torch.randn(p.shape, generator=draw)
    return network.eval()


def ask(network: nn.Module, x: Tensor, time: float = 10.0, label: int = 0) -> Tensor:
    out: Tensor = network(x, torch.full((len(x),), time), {"label": torch.full((len(x),), label)})
    return out


# --- the presets -----------------------------------------------------------------------------------------------------


def report_by_hand(channels: int) -> tuple[int, int]:
    """Parameters and multiply-adds of the report's network for 28x28, summed layer by layer."""
    parameters = additions = 0

    def layer(width_in: int, width: int, taps: int, pixels: int) -> None:
        nonlocal parameters, additions
        parameters += width_in * width * taps + width
        additions += width_in * width * taps * pixels

    def block(width_in: int, width: int, pixels: int) -> None:
        nonlocal parameters
        layer(width_in, width, 9, pixels)
        layer(width, width, 9, pixels)
        layer(128, width, 1, 1)  # the time
        parameters += 2 * 2 * width  # two batch norms
        if width_in != width:
            layer(width_in, width, 1, pixels)

    layer(128, 512, 1, 1)
    layer(512, 128, 1, 1)
    for width_in, width, side in ((channels, 128, 28), (128, 256, 14), (256, 512, 7), (512, 512, 7)):
        block(width_in, width, side**2)
    layer(512, 3 * 512, 1, 49)
    additions += 2 * 49 * 49 * 512  # q k^T, and its product with v
    layer(512, 512, 1, 49)
    for wide, width, side in ((512, 256, 14), (256, 128, 28)):
        layer(wide, width, 4, side**2 // 4)  # each pixel below becomes 2x2
        block(2 * width, width, side**2)
    layer(128, channels, 1, 784)
    return parameters, additions


def test_the_report_preset_is_the_network_of_the_report() -> None:
    config = network_for("report", (1, 28, 28), 0)
    assert count_parameters(config) == 13_911_937 == report_by_hand(1)[0]
    assert count_flops(config) == pytest.approx(3.116e9, abs=1e6)
    assert count_flops(config) == pytest.approx(2 * report_by_hand(1)[1], rel=1e-4)


def test_the_report_preset_in_colour() -> None:
    assert count_parameters(network_for("report", (3, 28, 28), 0)) == report_by_hand(3)[0]


def test_the_small_preset_is_small() -> None:
    assert 0.15e9 < count_flops(network_for("small", (1, 28, 28), 10)) < 0.25e9


def test_the_base_preset_has_about_35_million_parameters() -> None:
    assert count_parameters(network_for("base", (3, 32, 32), 0)) == pytest.approx(35e6, rel=0.1)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_count_is_that_of_the_network_that_is_built(preset: str) -> None:
    config = network_for(preset, (1, 8, 8), 3)
    assert count_parameters(config) == sum(p.numel() for p in build(config).parameters())


# --- layers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [2, 7, 8, 128])
@pytest.mark.parametrize("x", [0.0, 1.0, 999.0, -250.5])
def test_a_number_becomes_sines_then_cosines_then_a_zero_if_odd(size: int, x: float) -> None:
    half = size // 2
    angles = [x * math.exp(-math.log(10000) * i / half) for i in range(half)]
    expected = [math.sin(a) for a in angles] + [math.cos(a) for a in angles] + [0.0] * (size % 2)
    found = sinusoids(torch.tensor([x, 3.0]), size)
    assert found.shape == (2, size)
    assert found[0].tolist() == pytest.approx(expected, abs=2e-4)


def test_an_embedding_of_size_1_is_nothing_but_its_padding() -> None:
    assert sinusoids(torch.tensor([3.0]), 1).tolist() == [[0]]


def test_attention_is_a_softmax_over_all_pixels_head_by_head() -> None:
    width, heads, height, breadth = 6, 3, 2, 3
    attention = SelfAttention(width, heads).requires_grad_(False)
    x = torch.randn(2, width, height, breadth)
    tokens = x.flatten(2).transpose(1, 2)  # (B, H W, C), row by row
    weight, bias = attention.qkv.weight[:, :, 0, 0], attention.qkv.bias
    q, k, v = (tokens @ weight.T + bias).chunk(3, dim=2)
    mixed = torch.empty_like(tokens)
    size = width // heads
    for image in range(2):
        for head in range(heads):
            mine = slice(head * size, (head + 1) * size)
            for pixel in range(height * breadth):
                scores = [float(q[image, pixel, mine] @ k[image, other, mine]) / math.sqrt(size) for other in range(6)]
                total = sum(math.exp(score) for score in scores)
                mixed[image, pixel, mine] = sum(
                    math.exp(score) / total * v[image, other, mine] for other, score in enumerate(scores)
                )
    expected = mixed @ attention.out.weight[:, :, 0, 0].T + attention.out.bias
    torch.testing.assert_close(attention(x), expected.transpose(1, 2).reshape(x.shape))


@pytest.mark.parametrize("tokens", [1, 49, FEW, FEW + 1])  # written out, and by the fused kernel
@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-5), (torch.bfloat16, 0.02)])
def test_attention_in_any_precision_is_its_formula_in_float64(tokens: int, dtype: torch.dtype, error: float) -> None:
    q, k, v = torch.randn(3, 2, 4, tokens, 8, dtype=torch.float64)
    weights = torch.softmax(torch.einsum("bhqd,bhkd->bhqk", q, k) / math.sqrt(8), dim=-1)
    expected = torch.einsum("bhqk,bhkd->bhqd", weights, v)
    found = attend(q.to(dtype), k.to(dtype), v.to(dtype))
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), expected, rtol=error, atol=2 * error)


@pytest.mark.parametrize(
    ("dtype", "weights", "error"),
    [
        (torch.float32, torch.float32, 1e-5),
        (torch.bfloat16, torch.float32, 0.01),
        (torch.bfloat16, torch.bfloat16, 0.01),
    ],
)
def test_group_norm_keeps_the_dtype_and_is_its_formula_in_float64(
    dtype: torch.dtype, weights: torch.dtype, error: float
) -> None:
    norm = Norm(3, 12).to(weights)
    with torch.no_grad():
        norm.weight.copy_(torch.randn(12))
        norm.bias.copy_(torch.randn(12))
    x = (3 + 2 * torch.randn(2, 12, 5, 4)).to(dtype)
    groups = x.double().reshape(2, 3, 4 * 20)
    normal = (groups - groups.mean(2, keepdim=True)) / (groups.var(2, correction=0, keepdim=True) + 1e-5).sqrt()
    weight, bias = norm.weight.double()[:, None, None], norm.bias.double()[:, None, None]
    found = norm(x)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), normal.reshape(x.shape) * weight + bias, rtol=error, atol=2 * error)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 1, 1, 1), (2, 6, 7, 3)])
def test_growing_is_a_transposed_convolution_forth_and_back(shape: tuple[int, int, int, int]) -> None:
    grow = Grow(shape[1], 4).double()
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    expected = nn.functional.conv_transpose2d(x, grow.weight, grow.bias, stride=2)
    torch.testing.assert_close(grow(x), expected)
    push = torch.randn_like(expected)
    leaves = [x, grow.weight, grow.bias]
    wanted = torch.autograd.grad(expected, leaves, push)
    for found, want in zip(torch.autograd.grad(grow(x), leaves, push), wanted, strict=True):
        torch.testing.assert_close(found, want)


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_last_is_said_by_the_strides_even_of_one_channel(channels: int) -> None:
    x = torch.randn(2, channels, 5, 4)
    found = channels_last(x)
    assert found.stride() == (20 * channels, 1, 4 * channels, channels)
    assert torch.equal(found, x)
    # What the strides are for: a convolution answers in their order.
    assert nn.functional.conv2d(found, torch.randn(8, channels, 1, 1)).stride(1) == 1


# --- the networks ----------------------------------------------------------------------------------------------------


@TINY
@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (2, 9, 13), (1, 1, 1), (3, 5, 64), (4, 7, 2)])
def test_the_answer_has_the_shape_of_the_image(make: Make, shape: tuple[int, int, int], classes: int) -> None:
    network = awake(build(make(shape, classes)))
    out = ask(network, torch.randn(2, *shape))
    assert out.shape == (2, *shape)
    assert bool(torch.isfinite(out).all())


@TINY
def test_other_sizes_are_grown_by_their_right_and_bottom_edge_and_cut_back(make: Make) -> None:
    network = awake(build(make((1, 8, 8))))
    x = torch.randn(1, 1, 7, 5)
    grown = x[..., [0, 1, 2, 3, 4, 5, 6, 6], :][..., [0, 1, 2, 3, 4, 4, 4, 4]]
    torch.testing.assert_close(ask(network, x), ask(network, grown)[..., :7, :5])


@TINY
@pytest.mark.parametrize("shape", [(1, 28, 28), (2, 9, 13), (3, 5, 64)])
def test_a_learned_variance_is_twice_the_channels_and_nothing_else(make: Make, shape: tuple[int, int, int]) -> None:
    plain, learned = build(make(shape)), awake(build(replace(make(shape), learned_variance=True)))
    kept = {name: value.shape for name, value in plain.state_dict().items()}
    state = learned.state_dict()
    assert {name for name in kept if kept[name] != state[name].shape} == {"out.weight", "out.bias"}
    # The first half of the answer is what the first half of the last layer makes.
    plain.load_state_dict(state | {name: state[name].chunk(2)[0] for name in ("out.weight", "out.bias")})
    x = torch.randn(2, *shape)
    answer = ask(learned, x)
    assert answer.shape == (2, 2 * shape[0], *shape[1:])
    torch.testing.assert_close(answer.chunk(2, dim=1)[0], ask(plain.eval(), x))


@TINY
@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("classes", [0, 3])
def test_the_gradient_reaches_every_parameter(make: Make, classes: int, learned: bool) -> None:
    network = awake(build(replace(make((2, 12, 12), classes), learned_variance=learned)))
    ask(network, torch.randn(2, 2, 12, 12), label=classes).square().sum().backward()
    dead = [name for name, p in network.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)]
    assert not dead


@TINY
def test_time_label_and_image_change_the_answer(make: Make) -> None:
    network = awake(build(make((1, 8, 8), 3)))
    x = torch.randn(1, 1, 8, 8)
    here = ask(network, x, 10, 0)
    for other in (ask(network, x, 11, 0), ask(network, x, 10, 1), ask(network, x, 10, 3), ask(network, -x, 10, 0)):
        assert not torch.allclose(here, other, atol=1e-3)


@TINY
def test_an_image_is_answered_by_itself(make: Make) -> None:
    network = awake(build(make((1, 8, 8), 3)))
    x, time, label = torch.randn(3, 1, 8, 8), torch.tensor([1.0, 50.0, 999.0]), torch.tensor([0, 3, 2])
    together = network(x, time, {"label": label})
    for i in range(3):
        alone = network(x[[i]], time[[i]], {"label": label[[i]]})
        torch.testing.assert_close(together[[i]], alone, rtol=1e-4, atol=1e-4)


@TINY
def test_channels_last_changes_nothing(make: Make) -> None:
    network = awake(build(make((3, 12, 12))))
    x = torch.randn(2, 3, 12, 12)
    expected = ask(network, x)
    found = ask(network.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_fresh_unet_answers_zero() -> None:
    assert not bool(ask(build(tiny_unet((1, 8, 8))), torch.randn(2, 1, 8, 8)).any())


def test_the_attention_of_the_finest_grid_sees_far() -> None:
    network = awake(build(UNetConfig((1, 16, 16), patch=1, widths=(8,), blocks=1, attention=(0,), heads=2)))
    x = torch.randn(1, 1, 16, 16)
    y = x.clone()
    y[..., 0, 0] += 5
    assert float((ask(network, x) - ask(network, y)).detach()[..., -1, -1].abs()) > 1e-6


@settings(max_examples=25, deadline=None)
@given(
    widths=st.lists(st.integers(1, 40).map(lambda n: 8 * n), min_size=1, max_size=3).map(tuple),
    patch=st.integers(1, 3),
    blocks=st.integers(1, 2),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
    data=st.data(),
)
def test_every_unet_that_is_accepted_can_be_built(
    widths: tuple[int, ...], patch: int, blocks: int, shape: tuple[int, int, int], data: st.DataObject
) -> None:
    attention = tuple(data.draw(st.sets(st.integers(0, len(widths) - 1))))
    try:
        config = UNetConfig(shape, 0, patch, widths, blocks, attention, heads=4)
    except UsageError:
        return
    with torch.device("meta"):
        assert ask(build(config), torch.empty(1, *shape)).shape == (1, *shape)
