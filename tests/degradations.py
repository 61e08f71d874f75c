"""Ways in which digits go wrong, for judging what judges them."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

Images = NDArray[np.uint8]


class Judged(NamedTuple):
    """Images (N, 1, 28, 28) and the classes that they were asked to be, (N,)."""

    images: Images
    labels: NDArray[np.int64]


def noisy(deviation: float) -> Callable[[Judged], Judged]:
    """Gaussian noise of so many grey levels."""

    def degrade(real: Judged) -> Judged:
        noise = deviation * np.random.default_rng(0).standard_normal(real.images.shape)
        return real._replace(images=np.clip(real.images + noise, 0, 255).round().astype(np.uint8))

    return degrade


def blurred(real: Judged) -> Judged:
    return real._replace(images=gaussian_filter(real.images, (0, 0, 1.2, 1.2)))


def overlaid(real: Judged) -> Judged:
    """Two digits in one image."""
    return real._replace(images=np.maximum(real.images, np.roll(real.images, 1, axis=0)))


def bent(real: Judged) -> Judged:
    """Strokes displaced by smooth fields, by a pixel and a half on average: sharp, clean, and malformed."""
    draw, grid = np.random.default_rng(0), np.mgrid[:28, :28].astype(float)
    images = []
    for image in real.images[:, 0]:
        field = [13 * gaussian_filter(draw.standard_normal((28, 28)), 2.5) for _ in range(2)]
        images.append(map_coordinates(image, [grid[0] + field[0], grid[1] + field[1]], order=1))
    return real._replace(images=np.stack(images)[:, None])


def without_sevens(real: Judged) -> Judged:
    """One class is missing; others come twice instead."""
    rows = np.arange(len(real.images))
    others = rows[real.labels != 7]
    chosen = np.where(real.labels == 7, others[rows % len(others)], rows)
    return Judged(real.images[chosen], real.labels[chosen])


def called_wrongly(real: Judged) -> Judged:
    return real._replace(labels=(real.labels + 1) % 10)


DEGRADATIONS: dict[str, Callable[[Judged], Judged]] = {
    "nothing": lambda real: real,
    "faint noise, 3 grey levels": noisy(3),
    "strong noise, 60": noisy(60),
    "blur, 1.2 pixels": blurred,
    "pairs overlaid": overlaid,
    "bent strokes": bent,
    "no sevens": without_sevens,
    "wrong labels": called_wrongly,
}
