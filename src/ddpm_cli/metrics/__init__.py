"""Measures of images: pure functions of two sets of images, of features, or of classes.

Invariant: nothing here draws, loads or prints; equal arguments give equal figures.
"""

from ddpm_cli.metrics.background import background_of, background_share
from ddpm_cli.metrics.frechet import Moments, frechet, moments, resampled
from ddpm_cli.metrics.kernel import KernelDistance, kernel_distance
from ddpm_cli.metrics.labels import Labels, judge_labels
from ddpm_cli.metrics.manifold import Overlap, overlap
from ddpm_cli.metrics.nearest import Neighbours, neighbours
from ddpm_cli.metrics.ssim import ssim

__all__ = [
    "KernelDistance",
    "Labels",
    "Moments",
    "Neighbours",
    "Overlap",
    "background_of",
    "background_share",
    "frechet",
    "judge_labels",
    "kernel_distance",
    "moments",
    "neighbours",
    "overlap",
    "resampled",
    "ssim",
]
