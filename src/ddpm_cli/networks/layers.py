"""Layers that more than one network uses."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm_cli.networks import winograd


def sinusoids(x: Tensor, size: int) -> Tensor:
    """Sines and cosines of a real number at geometrically spaced frequencies.

    ``[sin(x w_i), cos(x w_i)]`` with ``w_i = exp(-ln(10000) i / half)``, i < half = size // 2; an odd size ends in 0.

    Args:
        x: (B,) real.
        size: of the embedding.

    Returns:
        (B, size), float32.

    References:
        Vaswani et al. 2017, section 3.5, halves concatenated as in Ho et al. 2020.
    """
    half = size // 2
    frequencies = torch.exp(
        torch.arange(half, device=x.device, dtype=torch.float32) * (-math.log(10000) / max(half, 1))
    )
    angles = x.float()[:, None] * frequencies
    return F.pad(torch.cat([angles.sin(), angles.cos()], dim=1), (0, size % 2))


def channels_last(x: Tensor) -> Tensor:
    """The same images with strides that say channels last; (B, C, H, W).

    With one channel any order is the same in memory, and convolutions take the slow one unless the strides name the
    other.
    """
    if x.shape[1] > 1:
        return x.contiguous(memory_format=torch.channels_last)
    return x.reshape(*x.shape[:1], *x.shape[2:], 1).permute(0, 3, 1, 2)


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Repeat the right and bottom edges until `multiple` divides height and width; (B, C, H, W)."""
    height, width = x.shape[2:]
    grow = (-width % multiple, -height % multiple)
    return F.pad(x, (0, grow[0], 0, grow[1]), mode="replicate") if any(grow) else x


class SelfAttention(nn.Module):
    """Every pixel attends to every pixel: softmax(q k^T / sqrt(d_head)) v over H x W tokens, 1x1 projections.

    Returns what is to be added to the input; the residual is the caller's.

    References:
        Vaswani et al. 2017, section 3.2.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Conv2d(width, 3 * width, 1)
        self.out = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        batch, width, height, breadth = x.shape
        # One token a pixel: with channels last this is a view, no copy.
        tokens = self.qkv(x).permute(0, 2, 3, 1).reshape(batch, height * breadth, 3, self.heads, -1)
        q, k, v = tokens.permute(2, 0, 3, 1, 4)  # each (B, heads, H W, d_head)
        mixed = attend(q, k, v)
        mixed = mixed.transpose(1, 2).reshape(batch, height, breadth, width)
        out: Tensor = self.out(mixed.permute(0, 3, 1, 2))
        return out


FEW = 256  # tokens: their weights on one another still fit into a processor's cache, image by image


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v over (..., tokens, d).

    PyTorch's fused kernel, but on a CPU in low precision, where it takes up to six times as long as the formula for as
    few tokens as small images have.
    """
    if q.device.type == "cpu" and q.dtype != torch.float32 and q.shape[-2] <= FEW:
        return torch.softmax(q * q.shape[-1] ** -0.5 @ k.transpose(-1, -2), dim=-1) @ v
    return F.scaled_dot_product_attention(q, k, v)


class Convolution(nn.Conv2d):
    """3x3 with a border of zeros.

    Attributes:
        winograd: whether it multiplies less, see :mod:`ddpm_cli.networks.winograd`; in float32 on a CPU alone.
    """

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__(width_in, width, 3, padding=1)
        self.winograd = False

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C', H, W)
        if self.winograd and self.bias is not None:
            return winograd.convolve(x, self.weight, self.bias)
        return super().forward(x)


class Norm(nn.GroupNorm):
    """Group norm, in float32 on a CPU, where that is four times as fast as in bf16."""

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> the same, in the dtype of x
        if x.device.type != "cpu" or x.dtype == torch.float32:
            return super().forward(x)
        weight, bias = self.weight.float(), self.bias.float()
        return F.group_norm(x.float(), self.num_groups, weight, bias, self.eps).to(x.dtype)


class Grow(nn.ConvTranspose2d):
    """Twice the height and breadth by a transposed convolution of 2 x 2 with stride 2.

    No two of its windows overlap, so it is one matrix product a pixel, whose four answers are laid out as a square.
    """

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__(width_in, width, 2, stride=2)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:  # noqa: ARG002  # its base's
        # (B, C, H, W) -> (B, C', 2 H, 2 W)
        batch, _, height, breadth = x.shape
        weight = self.weight.permute(2, 3, 1, 0).flatten(0, 2)  # (2 2 C', C)
        bias = None if self.bias is None else self.bias.repeat(4)
        squares = F.linear(x.permute(0, 2, 3, 1), weight, bias).view(batch, height, breadth, 2, 2, -1)
        return squares.transpose(2, 3).reshape(batch, 2 * height, 2 * breadth, -1).permute(0, 3, 1, 2)


class LabelEmbedding(nn.Module):
    """A learned vector a class, and one more for "no label", which has the index `classes`."""

    def __init__(self, classes: int, size: int) -> None:
        super().__init__()
        weight = torch.empty(classes + 1, size)
        if not weight.is_meta:  # where there is nothing to draw, and trying costs a second of imports
            weight.normal_()
        self.table = nn.Embedding.from_pretrained(weight, freeze=False)

    def forward(self, labels: Tensor) -> Tensor:  # (B,) int64 -> (B, size)
        out: Tensor = self.table(labels)
        return out
