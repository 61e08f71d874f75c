"""A cheap judgement of samples while a run trains: their Fréchet distance, of few images in few steps.

It tells whether samples get better or worse, and which model to keep; for figures to be told there is ``ddpm eval``.
Invariant: the same model gets the same figure, whenever it is asked and whatever ran before.
"""

from dataclasses import replace

import numpy as np

from ddpm_cli import features
from ddpm_cli.config import SamplerConfig
from ddpm_cli.data import ImageSet
from ddpm_cli.features import FeatureNetwork
from ddpm_cli.metrics import Moments, frechet, moments
from ddpm_cli.pixels import to_uint8
from ddpm_cli.sampling import DiffusionModel

DRAWN = 500  # images of a judgement
SAMPLER = SamplerConfig("dpm++2m", steps=10)


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
