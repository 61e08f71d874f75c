"""How well a model knows images: the variational bound on their negative log-likelihood, term by term.

-ln p(x_0) <= L_T + sum_{t=2..T} L_{t-1} + L_0, in bits per dimension. L_T = D(q(x_T | x_0) || N(0, I)) is exact; L_0,
the likelihood of the 256 pixel values under p(x_0 | x_1), is asked of every image; the sum between is estimated from a
few levels, one in each stratum of 2..T, weighted by its size. Nothing is dequantised: pixels are whole numbers, and
what is bounded is the probability of exactly these. Invariant: what is drawn for an image belongs to the image, so the
bound does not depend on the batch.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddpm_cli.config import Variance
from ddpm_cli.denoiser import Condition, Denoises, bound_term, last_variance
from ddpm_cli.forward import q_sample
from ddpm_cli.gaussians import kl
from ddpm_cli.schedule import Floats, Level, Schedule
from ddpm_cli.seeds import generator

STRATA = 20  # levels asked of each image, beside level 1
BATCH = 64  # questions at once


class Estimate(NamedTuple):
    """A mean over images, and its standard error: over images, and over the levels and noise drawn for each."""

    value: float
    error: float


class Stratum(NamedTuple):
    """Levels `first` to `last`, and the mean of one term L_{t-1} among them, in bits per dimension."""

    first: int
    last: int
    term: Estimate


@dataclass(frozen=True, eq=False)
class Bound:
    """The bound on the negative log-likelihood of N images, in bits per dimension.

    Attributes:
        prior: L_T of each image, (N,) float64.
        decoder: L_0 of each.
        steps: the estimate of sum_{t=2..T} L_{t-1} of each.
        strata: the terms between, by level.
    """

    prior: Floats
    decoder: Floats
    steps: Floats
    strata: tuple[Stratum, ...]

    @property
    def total(self) -> Estimate:
        """Of all terms. Images draw their levels and noise by themselves, so their spread tells of both."""
        return estimate(self.prior + self.decoder + self.steps)


def estimate(values: Floats) -> Estimate:
    """The mean of independent values (N,), and its standard error; NaN for a single one."""
    error = float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return Estimate(float(values.mean()), error)


def strata(timesteps: int, count: int) -> list[tuple[int, int]]:
    """Levels 2..T cut into parts, (first, last): narrow where terms are large, which is near the clean end.

    The ends lie at 2 + (T - 1) (k / count)^2, rounded; at most T - 1 parts, each of a level or more.
    """
    ends = np.round(1 + (timesteps - 1) * (np.arange(count + 1) / count) ** 2)
    ends = np.unique(np.maximum(ends, 1 + np.minimum(np.arange(count + 1), timesteps - 1))).astype(int)
    return [(int(before) + 1, int(after)) for before, after in pairwise(ends)]


def bound(
    denoiser: Denoises,
    schedule: Schedule,
    images: Tensor,
    condition: Condition,
    variance: Variance,
    seed: int,
    count: int = STRATA,
    device: torch.device | None = None,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Bound:
    """The variational bound of images, in bits per dimension.

    Args:
        denoiser: of the model, wrapped in :class:`~ddpm_cli.denoiser.Clip` where clean images are to be clipped.
        schedule: its own.
        images: (N, C, H, W) in [-1, 1], of the 256 pixel values, on the CPU.
        condition: what is known about them, on the CPU.
        variance: of the reverse step.
        seed: of levels and noise.
        count: levels asked of each image between 2 and T; T - 1 or more: all of them, and no luck but the noise's.
        device: of the denoiser; None: the CPU.
        progress: takes questions asked and in all.

    References:
        Ho et al. 2020, equation 5 and section 3.3; Nichol and Dhariwal 2021, section 3.3 for strata instead of all t.
    """
    parts = strata(schedule.timesteps, count) if schedule.timesteps > 1 else []
    levels = np.array([_levels(parts, seed, image) for image in range(len(images))])  # (N, 1 + parts)
    asked = [(image, place) for image in range(len(images)) for place in range(levels.shape[1])]
    terms = np.empty(levels.shape)
    last = last_variance(schedule)
    for start in range(0, len(asked), BATCH):
        some = asked[start : start + BATCH]
        which, places = np.array(some).T
        t = levels[which, places].astype(np.float64)
        now, earlier = _on(schedule.level(t), device), _on(schedule.level(t - 1), device)
        x_0 = images[torch.from_numpy(which)].to(now.t.dtype).to(device)
        eps = _noise(seed, some, images.shape[1:], now.t)
        x_t = q_sample(x_0, now, eps)
        known = {name: value[torch.from_numpy(which)].to(device) for name, value in condition.items()}
        with torch.inference_mode():
            found = bound_term(x_0, x_t, denoiser(x_t, now, known), now, earlier, variance, last)
        terms[which, places] = found.double().cpu().numpy()
        progress(start + len(some), len(asked))
    sizes = np.array([after - before + 1 for before, after in parts], dtype=np.float64)
    between = tuple(Stratum(first, final, estimate(terms[:, 1 + place])) for place, (first, final) in enumerate(parts))
    return Bound(prior(images, schedule), terms[:, 0], terms[:, 1:] @ sizes, between)


def prior(images: Tensor, schedule: Schedule) -> Floats:
    """L_T = D(q(x_T | x_0) || N(0, I)) of images (N, C, H, W), in bits per dimension, (N,) float64."""
    end = schedule.level(schedule.timesteps)
    x_0 = images.double()
    variance = torch.tensor(float(end.noise) ** 2, dtype=torch.float64)
    nats = kl((float(end.signal) * x_0, variance), (torch.zeros_like(x_0), torch.ones_like(variance)))
    bits: Floats = nats.flatten(1).mean(1).numpy() / math.log(2)
    return bits


def _levels(parts: Sequence[tuple[int, int]], seed: int, image: int) -> NDArray[np.int64]:
    """Level 1, and one of each stratum, for an image."""
    draw = generator("bound", seed, image, "levels")
    return np.array([1, *(draw.integers(first, last, endpoint=True) for first, last in parts)])


def _on(level: Level[Floats], device: torch.device | None) -> Level[Tensor]:
    """Levels on a device, in float64 where it has that."""
    dtype = torch.float32 if device is not None and device.type == "mps" else torch.float64
    return Level(*(torch.from_numpy(field).to(dtype).to(device) for field in level))


def _noise(seed: int, asked: Sequence[tuple[int, int]], shape: Sequence[int], like: Tensor) -> Tensor:
    """Standard normal noise for each question, an image and a place among its levels; (b, C, H, W)."""
    draws = [generator("bound", seed, image, "noise", place).standard_normal(tuple(shape)) for image, place in asked]
    return torch.from_numpy(np.stack(draws)).to(like.dtype).to(like.device)
