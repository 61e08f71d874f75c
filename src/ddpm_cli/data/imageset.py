"""What every data set is once it is read: pixels, and labels where there are some.

Invariant: pixels are uint8 from the source to the network's door; scaling to [-1, 1] is the trainer's business.
"""

import hashlib
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.pixels import from_uint8


class LeftOut(NamedTuple):
    """An image that could not be read, and that the set goes without.

    Attributes:
        path: relative to the folder, as :func:`ddpm_cli.printable.printable` shows it.
        reason: why, in a few words.
    """

    path: str
    reason: str


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images of one size, with their labels.

    Args:
        name: of a known set, or of the folder.
        images: (N, C, H, W) uint8, 0..255; C is 1 (grey) or 3 (RGB). Often a copy-on-write map of a file.
        labels: (N,) int64, 0..len(classes) - 1, or None.
        classes: the name of each label; empty without labels.
        left_out: images of the folder that could not be read and are not among these.
    """

    name: str
    images: NDArray[np.uint8]
    labels: NDArray[np.int64] | None = None
    classes: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one image: (C, H, W)."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    def fingerprint(self) -> str:
        """sha256 over images, labels and classes: equal for equal data, wherever they lie."""
        digest = hashlib.sha256(repr((self.images.shape, self.classes)).encode())
        for image in self.images:  # one at a time: they may be mapped from a file larger than memory
            digest.update(np.ascontiguousarray(image).data)
        if self.labels is not None:
            digest.update(self.labels.astype("<i8").tobytes())
        return digest.hexdigest()

    def statistics(self) -> dict[str, Any]:
        """Name, number, and what the pixels are like: their mean and standard deviation in [-1, 1]; and whether every
        image is flat, that is of one value."""
        counts = np.zeros(256)
        for image in self.images:  # one at a time: counting takes eight times the memory of what is counted
            counts += np.bincount(image.reshape(-1), minlength=256)
        counts /= self.images.size
        values = from_uint8(np.arange(256))
        mean = float(counts @ values)
        std = float(np.sqrt(counts @ (values - mean) ** 2))
        flat = {"flat": True} if all(image.min() == image.max() for image in self.images) else {}
        return {"name": self.name, "images": len(self.images), "mean": round(mean, 6), "std": round(std, 6), **flat}

    def spread(self, count: int) -> "ImageSet":
        """``count`` images evenly spread over the set: number floor(k N / count) for k = 0..count - 1.

        The first ``count`` would all be of one class in a folder, which is sorted by class.

        Args:
            count: 1..N.
        """
        chosen = np.arange(count) * len(self.images) // count
        return replace(self, images=self.images[chosen], labels=None if self.labels is None else self.labels[chosen])
