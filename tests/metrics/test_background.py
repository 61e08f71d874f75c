"""The background is the value that most pixels have, and its share is counted."""

import numpy as np

from ddpm_cli.metrics.background import background_of, background_share


def test_the_background_is_the_most_frequent_value() -> None:
    images = np.zeros((3, 1, 4, 4), np.uint8)
    images[0] = 255
    assert background_of(images) == 0
    assert background_of(255 - images) == 255


def test_its_share_counts_what_nobody_can_tell_from_it() -> None:
    images = np.array([0, 12, 13, 255], np.uint8).reshape(2, 1, 1, 2)
    assert background_share(images, 0).tolist() == [1.0, 0.0]
    assert background_share(images, 255).tolist() == [0.0, 0.5]
    assert background_share(images, 6).tolist() == [1.0, 0.5]  # 0 to 18
