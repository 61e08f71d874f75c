"""How good a model is while a run trains: its loss on images that never change, and the Fréchet distance of a few
samples drawn in few steps.

The distance tells whether samples get better or worse, and which model to keep; for figures to be told there is
``ddpm eval``. Invariant: the same model gets the same figures, whenever it is asked and whatever ran before.
"""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from ddpm_cli import features
from ddpm_cli.config import SamplerConfig, TrainConfig
from ddpm_cli.data import ImageSet
from ddpm_cli.features import FeatureNetwork
from ddpm_cli.metrics import Moments, frechet, moments
from ddpm_cli.pixels import Pixels, from_uint8, to_uint8
from ddpm_cli.sampling import DiffusionModel
from ddpm_cli.training import Batches

DRAWN = 500  # images of a judgement
SAMPLER = SamplerConfig("dpm++2m", steps=10)


class Validation:
    """The loss of models on images, levels and noise that never change.

    Args:
        batches: of them.
        recipe: tells which loss.
    """

    def __init__(self, batches: Batches, recipe: TrainConfig) -> None:
        self.batches, self.recipe = batches, recipe

    @torch.no_grad()
    def __call__(self, model: DiffusionModel) -> float:
        """The mean loss of a model."""
        recipe, denoiser = self.recipe, model.denoiser
        losses = [
            denoiser.loss(b.x_0, b.level, b.eps, b.condition, recipe.loss, recipe.gamma, b.chain).mean()
            for b in map(self.batches, range(self.batches.steps_per_epoch))
        ]
        return float(torch.stack(losses).mean())


REAL = 1000  # training images whose figures samples are compared with
MARGIN = 0.02  # beyond the range of the figures of real images, in [-1, 1], and a tenth of the range


class Resemblance:
    """Whether samples resemble real images at first sight: each in its brightness, contrast and roughness.

    These are the mean and the standard deviation of the pixels of an image and the mean absolute difference of
    neighboring pixels. Noise is far rougher than images, and what has hardly been trained is noise.

    Args:
        real: (N, C, H, W) uint8.
    """

    def __init__(self, real: Pixels) -> None:
        low, high = np.quantile(_figures(real), [0.005, 0.995], axis=0)
        margin = MARGIN + (high - low) / 10
        self.low, self.high = low - margin, high + margin

    def __call__(self, samples: Pixels) -> int:
        """How many samples have all three figures in the range of those of the real images."""
        found = _figures(samples)
        return int(((self.low <= found) & (found <= self.high)).all(axis=1).sum())


def _figures(images: Pixels) -> NDArray[np.float64]:
    """Brightness, contrast and roughness of images (N, C, H, W), in [-1, 1]: (N, 3)."""
    x = from_uint8(images)
    steps = [np.abs(np.diff(x, axis=axis)).mean(axis=(1, 2, 3)) for axis in (2, 3) if x.shape[axis] > 1]
    rough = np.mean(steps, axis=0) if steps else np.zeros(len(x))
    return np.stack([x.mean(axis=(1, 2, 3)), x.std(axis=(1, 2, 3)), rough], axis=1)


class Judge:
    """Judges models of a known data set.

    Args:
        name: of the set, one of :data:`ddpm_cli.features.PINNED`.
        real: images of it, none of which is to judge the model in the end.
    """

    def __init__(self, name: str, real: ImageSet) -> None:
        self.network: FeatureNetwork = features.load(name)
        self.real: Moments = moments(features.see_whole(self.network, real).features)

    def __call__(self, model: DiffusionModel) -> float:
        """The squared Fréchet distance of its samples from the real images, at least 0."""
        images = replace(model, sampler=SAMPLER).draw(0, range(DRAWN))
        drawn = np.concatenate([to_uint8(batch.float().cpu().numpy()) for batch in images])
        return frechet(moments(self.network.see(drawn).features), self.real)
