"""Layers that more than one network uses."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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
        mixed = F.scaled_dot_product_attention(q, k, v)
        mixed = mixed.transpose(1, 2).reshape(batch, height, breadth, width)
        out: Tensor = self.out(mixed.permute(0, 3, 1, 2))
        return out


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
