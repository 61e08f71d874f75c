"""Measures of images: pure functions of two sets of images, of features, or of classes.

Invariant: nothing here draws, loads or prints; equal arguments give equal figures.
"""

from ddpm_cli.metrics.labels import Labels, judge_labels
from ddpm_cli.metrics.ssim import ssim

__all__ = ["Labels", "judge_labels", "ssim"]
