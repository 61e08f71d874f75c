"""What every data set is once it is read: pixels, and labels where there are some.

Invariant: pixels are uint8 from the source to the network's door; scaling to [-1, 1] is the trainer's business.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images of one size, with their labels.

    Args:
        name: of a known set, or of the folder.
        images: (N, C, H, W) uint8, 0..255; C is 1 (grey) or 3 (RGB). Often a copy-on-write map of a file.
        labels: (N,) int64, 0..len(classes) - 1, or None.
        classes: the name of each label; empty without labels.
    """

    name: str
    images: NDArray[np.uint8]
    labels: NDArray[np.int64] | None = None
    classes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one image: (C, H, W)."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    def spread(self, count: int) -> "ImageSet":
        """``count`` images evenly spread over the set: number floor(k N / count) for k = 0..count - 1.

        The first ``count`` would all be of one class in a folder, which is sorted by class.

        Args:
            count: 1..N.
        """
        chosen = np.arange(count) * len(self.images) // count
        return replace(self, images=self.images[chosen], labels=None if self.labels is None else self.labels[chosen])
