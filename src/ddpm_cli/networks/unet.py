"""A modern U-Net for small images.

Group norm and SiLU before every convolution, time and class as scale and shift inside the block (Dhariwal and Nichol
2021), residual blocks whose last convolution starts at zero, self-attention at chosen resolutions, and optionally a
pixel-unshuffle entrance, which moves the work from the finest grid, where convolutions are dear, into channels.
Reading order: block, then the network.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm_cli.config import UNetConfig
from ddpm_cli.networks.layers import (
    Convolution,
    Grow,
    LabelEmbedding,
    Norm,
    SelfAttention,
    channels_last,
    pad_to_multiple,
    sinusoids,
)


def _norm(width: int) -> Norm:
    return Norm(width // 8 if width < 256 else math.gcd(32, width), width)


def _zero(layer: nn.Conv2d) -> nn.Conv2d:
    """Start at zero, so that a fresh block is the identity."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class Block(nn.Module):
    """Residual block, conditioned between its two convolutions, with attention behind it where asked."""

    def __init__(self, width_in: int, width: int, embedding: int, dropout: float, heads: int | None) -> None:
        super().__init__()
        self.norm1 = _norm(width_in)
        self.conv1 = Convolution(width_in, width)
        self.condition = nn.Linear(embedding, 2 * width)
        self.norm2 = _norm(width)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = _zero(Convolution(width, width))
        self.residual = nn.Conv2d(width_in, width, 1) if width_in != width else nn.Identity()
        self.norm3 = _norm(width) if heads else None
        self.attention = SelfAttention(width, heads) if heads else None
        if self.attention is not None:
            _zero(self.attention.out)

    def forward(self, x: Tensor, embedded: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.condition(embedded)[:, :, None, None].chunk(2, dim=1)
        h = F.silu(torch.addcmul(shift, self.norm2(h), 1 + scale))
        h = self.conv2(self.dropout(h)) + self.residual(x)
        if self.attention is not None and self.norm3 is not None:
            h = h + self.attention(self.norm3(h))
        out: Tensor = h
        return out


class UNet(nn.Module):
    """The network of a :class:`~ddpm_cli.config.UNetConfig`.

    Every output of the way down is kept and concatenated on the way up, as in Ho et al. 2020, appendix B.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.shape[0] * config.patch**2
        size = 4 * config.widths[0]
        self.time = nn.Sequential(nn.Linear(config.widths[0], size), nn.SiLU(), nn.Linear(size, size))
        self.label = LabelEmbedding(config.classes, size) if config.classes else None

        def block(width_in: int, width: int, attends: bool) -> Block:
            return Block(width_in, width, size, config.dropout, config.heads if attends else None)

        self.stem = nn.Conv2d(channels, config.widths[0], 3, padding=1)
        kept = [config.widths[0]]  # widths of what the way up will take, last first
        self.down = nn.ModuleList()
        for place, width in enumerate(config.widths):
            if place:
                self.down.append(nn.Conv2d(kept[-1], width, 2, stride=2))
                kept.append(width)
            for _ in range(config.blocks):
                self.down.append(block(kept[-1], width, place in config.attention))
                kept.append(width)
        width = config.widths[-1]
        self.middle = nn.ModuleList([block(width, width, True), block(width, width, False)])
        self.up = nn.ModuleList()
        for place, wide in reversed(list(enumerate(config.widths))):
            for _ in range(config.blocks + 1):
                self.up.append(block(width + kept.pop(), wide, place in config.attention))
                width = wide
            if place:
                self.up.append(Grow(width, config.widths[place - 1]))
                width = config.widths[place - 1]
        self.norm = _norm(width)
        self.out = _zero(nn.Conv2d(width, channels * (2 if config.learned_variance else 1), 3, padding=1))

    def forward(self, x: Tensor, time: Tensor, condition: dict[str, Tensor]) -> Tensor:
        height, width = x.shape[2:]
        x = pad_to_multiple(x, self.config.patch * 2 ** (len(self.config.widths) - 1))
        embedded = self.time(sinusoids(time, self.config.widths[0]).to(x.dtype))
        if self.label is not None:
            embedded = embedded + self.label(condition["label"])
        embedded = F.silu(embedded)

        h = self.stem(channels_last(F.pixel_unshuffle(x, self.config.patch)))
        kept = [h]
        for layer in self.down:
            h = layer(h, embedded) if isinstance(layer, Block) else layer(h)
            kept.append(h)
        for layer in self.middle:
            h = layer(h, embedded)
        for layer in self.up:
            h = layer(torch.cat([h, kept.pop()], dim=1), embedded) if isinstance(layer, Block) else layer(h)
        h = self.out(F.silu(self.norm(h)))
        return F.pixel_shuffle(h, self.config.patch)[..., :height, :width]
