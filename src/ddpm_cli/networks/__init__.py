"""Networks that see a noisy image, a time and a condition, and answer with an image.

Invariant: ``network(x, time, condition)`` maps x (B, C, H, W), time (B,) real, and a mapping of (B,) tensors to a
tensor of x's shape, or with `learned_variance` of twice its channels. What that tensor means (eps, x0 or v, and the
fraction of a variance) is the denoiser's business, not theirs.
"""

import math

import torch
from torch import nn

from ddpm_cli.config import NetworkConfig, ReportUNetConfig, UNetConfig
from ddpm_cli.networks import winograd
from ddpm_cli.networks.layers import Convolution
from ddpm_cli.networks.report_unet import ReportUNet
from ddpm_cli.networks.unet import UNet

__all__ = ["ReportUNet", "UNet", "build"]


def build(config: NetworkConfig) -> nn.Module:
    """A freshly initialised network, on the CPU in float32."""
    match config:
        case ReportUNetConfig():
            return ReportUNet(config)
        case UNetConfig():
            return UNet(config)


def use_winograd(network: nn.Module, wanted: bool) -> None:
    """Let the wide layers of a network multiply less, or no more; see :mod:`ddpm_cli.networks.winograd`."""
    for layer in network.modules():
        if isinstance(layer, Convolution):
            layer.winograd = wanted and layer.in_channels * layer.out_channels >= winograd.WIDE


def largest_map(config: NetworkConfig) -> int:
    """Values in the largest feature map of a network for one image."""
    patch = config.patch if isinstance(config, UNetConfig) else 1
    return config.widths[0] * math.ceil(config.shape[1] / patch) * math.ceil(config.shape[2] / patch)


def count_parameters(config: NetworkConfig) -> int:
    """Parameters of a network, counted on shapes alone."""
    with torch.device("meta"):
        return sum(p.numel() for p in build(config).parameters())


def count_flops(config: NetworkConfig) -> int:
    """Floating-point operations for one image forward, a multiply-add counted as two; counted on shapes alone."""
    from torch.utils.flop_counter import FlopCounterMode  # slow to import, and sampling does not count

    with torch.device("meta"):
        network = build(config).eval()
        x, time, label = torch.empty(1, *config.shape), torch.zeros(1), torch.zeros(1, dtype=torch.int64)
    with FlopCounterMode(display=False) as counter:
        network(x, time, {"label": label})
    return int(counter.get_total_flops())
