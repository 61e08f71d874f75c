"""Random numbers that belong to an image, not to a batch.

Invariant: what is drawn for image k of seed s depends on (s, k), the purpose and the step alone.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ddpm_cli.seeds import generator


class SeededDraw:
    """Standard normal noise for chosen images of a seed.

    Args:
        seed: the seed, a whole number of at least 0.
        images: which images of that seed make up the batch.
        shape: of one image, (C, H, W).
        device: where the noise is wanted. It is always drawn on the CPU, so that every device sees the same.
    """

    def __init__(
        self, seed: int, images: Sequence[int], shape: tuple[int, int, int], device: torch.device | str = "cpu"
    ) -> None:
        self.seed, self.images, self.shape, self.device = seed, images, shape, torch.device(device)

    def __call__(self, purpose: str, step: int = 0) -> Tensor:
        """Noise (B, C, H, W), float32, for a purpose ("start", "step") and a step's number."""
        noise = np.empty((len(self.images), *self.shape), dtype=np.float32)
        for row, image in zip(noise, self.images, strict=True):
            generator("sample", self.seed, image, purpose, step).standard_normal(out=row, dtype=np.float32)
        return torch.from_numpy(noise).to(self.device)

    def labels(self, classes: int) -> list[int]:
        """A class for each image, uniform over 0..classes-1."""
        return [int(generator("sample", self.seed, image, "label").integers(classes)) for image in self.images]
