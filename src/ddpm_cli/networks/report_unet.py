"""The attention U-Net of the report, layer for layer.

For 1x28x28 it has exactly 13,911,937 parameters and costs 3.116 GFLOP an image forward (a multiply-add counts two).
Reading order: residual block, attention, then the way down, through and up.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm_cli.config import ReportUNetConfig
from ddpm_cli.networks.layers import (
    Convolution,
    Grow,
    LabelEmbedding,
    SelfAttention,
    channels_last,
    pad_to_multiple,
    sinusoids,
)


class ReportBlock(nn.Module):
    """Convolution, batch norm, ReLU; the time added; once more; and the input around it all."""

    def __init__(self, width_in: int, width: int, embedding: int) -> None:
        super().__init__()
        self.conv1 = Convolution(width_in, width)
        self.norm1 = nn.BatchNorm2d(width)
        self.time = nn.Linear(embedding, width)
        self.conv2 = Convolution(width, width)
        self.norm2 = nn.BatchNorm2d(width)
        self.residual = nn.Conv2d(width_in, width, 1) if width_in != width else nn.Identity()

    def forward(self, x: Tensor, embedded: Tensor) -> Tensor:
        h = F.relu(self.norm1(self.conv1(x)))
        h = h + self.time(embedded)[:, :, None, None]
        h = F.relu(self.norm2(self.conv2(h)))
        out: Tensor = h + self.residual(x)
        return out


class ReportUNet(nn.Module):
    """Three resolutions with max-pooling, self-attention in the bottleneck, transposed convolutions back up.

    Heights and widths that 4 does not divide are padded inside and cropped back. With classes, a learned vector a
    class is added to the time embedding.
    """

    def __init__(self, config: ReportUNetConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.shape[0]
        fine, middle, coarse = config.widths
        size = config.embedding
        self.time = nn.Sequential(nn.Linear(size, 4 * size), nn.SiLU(), nn.Linear(4 * size, size))
        self.label = LabelEmbedding(config.classes, size) if config.classes else None
        self.down1 = ReportBlock(channels, fine, size)
        self.down2 = ReportBlock(fine, middle, size)
        self.down3 = ReportBlock(middle, coarse, size)
        self.bottleneck = ReportBlock(coarse, coarse, size)
        self.attention = SelfAttention(coarse, config.heads)
        self.grow2 = Grow(coarse, middle)
        self.up2 = ReportBlock(2 * middle, middle, size)
        self.grow1 = Grow(middle, fine)
        self.up1 = ReportBlock(2 * fine, fine, size)
        self.out = nn.Conv2d(fine, channels * (2 if config.learned_variance else 1), 1)

    def forward(self, x: Tensor, time: Tensor, condition: dict[str, Tensor]) -> Tensor:
        height, width = x.shape[2:]
        x = channels_last(pad_to_multiple(x, 4))
        embedded = self.time(sinusoids(time, self.config.embedding).to(x.dtype))
        if self.label is not None:
            embedded = embedded + self.label(condition["label"])
        skip1 = self.down1(x, embedded)  # H x W
        skip2 = self.down2(F.max_pool2d(skip1, 2), embedded)  # H/2 x W/2
        h = self.down3(F.max_pool2d(skip2, 2), embedded)  # H/4 x W/4
        h = self.bottleneck(h, embedded)
        h = h + self.attention(h)
        h = self.up2(torch.cat([self.grow2(h), skip2], dim=1), embedded)
        h = self.up1(torch.cat([self.grow1(h), skip1], dim=1), embedded)
        out: Tensor = self.out(h)
        return out[..., :height, :width]
