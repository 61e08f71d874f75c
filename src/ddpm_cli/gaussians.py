"""What the variational bound is made of: the divergence of two Gaussians, and the likelihood of a pixel under one.

Invariant: everything is elementwise and in nats, and in float32 both values and gradients stay finite and right
however far out in a tail an element lies.
"""

import math

import torch
from torch import Tensor

Moments = tuple[Tensor, Tensor]
"""Mean and variance of independent elements, broadcast against each other; a :class:`ddpm_cli.forward.Gaussian` is
one. Variances lie above 0."""

HALF_BIN = 1 / 255  # the 256 pixel values lie 2/255 apart in [-1, 1]
INFINITY = 40.0  # deviations: what lies beyond has a share below exp(-800) of what lies before


def kl(q: Moments, p: Moments) -> Tensor:
    """The Kullback-Leibler divergence D(q || p) of Gaussians, in nats; at least 0, up to rounding.

    D = (v_q / v_p - 1 - ln(v_q / v_p) + (m_q - m_p)^2 / v_p) / 2

    Args:
        q: where the expectation is taken.
        p: what is compared with it.

    Returns:
        Of the shape that all four broadcast to.
    """
    (mean_q, variance_q), (mean_p, variance_p) = q, p
    ratio = variance_q.log() - variance_p.log()
    # With expm1 the terms without means keep their digits where the variances are nearly equal.
    return (ratio.expm1() - ratio + (mean_q - mean_p).square() / variance_p) / 2


def discretised_log_likelihood(x: Tensor, p: Moments) -> Tensor:
    """ln of the probability that a Gaussian gives to a pixel, at most 0: its integral over the pixel's bin.

    The bin of x is [x - 1/255, x + 1/255]; those of -1 and 1 are open to -inf and inf, so that the 256 sum to 1.

    Args:
        x: pixels, multiples of 2/255 from -1 to 1.
        p: mean and variance.

    References:
        Ho et al. 2020, equation 13.
    """
    mean, variance = p
    deviation = variance.sqrt()
    centre, half = (x - mean) / deviation, HALF_BIN / deviation
    # In deviations from the mean, mirrored so that the bin, or its closed end, lies at near <= far with far > 0.
    near, far = centre.abs() - half, centre.abs() + half
    lowest, highest = x < -1 + HALF_BIN, x > 1 - HALF_BIN
    near = torch.where(lowest, -centre - half, torch.where(highest, centre - half, near))
    far = torch.where(lowest | highest, near.clamp(min=0) + INFINITY, far)
    # Around the mean the two halves of the bin are added, beside it one tail is taken from the other. Neither cancels.
    # What is clamped is the side that `where` drops: its gradient must be finite too.
    inside, outside = near.clamp(max=0), near.clamp(min=0)
    around = ((_erf(far) - _erf(inside)) / 2).log()
    log_tail, log_rest = (torch.special.erfcx(y / math.sqrt(2)).log() for y in (outside, far))
    # The tail beyond y is exp(-y^2 / 2) erfcx(y / sqrt 2) / 2, so this is ln(tail beyond far / tail beyond near):
    share = log_rest - log_tail - (far - outside) * (far + outside) / 2
    beside = log_tail - outside.square() / 2 - math.log(2) + (-share.expm1()).log()
    return torch.where(near < 0, around, beside)


def _erf(x: Tensor) -> Tensor:
    return torch.erf(x / math.sqrt(2))
