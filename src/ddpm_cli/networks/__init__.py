"""Networks that see a noisy image, a time and a condition, and answer with an image.

Invariant: ``network(x, time, condition)`` maps x (B, C, H, W), time (B,) real, and a mapping of (B,) tensors to a
tensor of x's shape. What that tensor means (eps, x0 or v) is the denoiser's business, not theirs.
"""

from torch import nn

from ddpm_cli.config import NetworkConfig, ReportUNetConfig, UNetConfig
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
