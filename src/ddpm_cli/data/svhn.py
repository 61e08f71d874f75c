"""Street View House Numbers, cropped to 32 x 32: a MATLAB file a split, http://ufldl.stanford.edu/housenumbers/.

Each holds ``X`` (H, W, 3, N) uint8 and ``y`` (N, 1), the digit, with 10 for 0. Invariant: labels here are the digits
themselves.

References:
    Netzer, Wang, Coates, Bissacco, Wu, Ng: Reading Digits in Natural Images with Unsupervised Feature Learning,
    NIPS Workshop on Deep Learning and Unsupervised Feature Learning 2011.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.data import mat, streams
from ddpm_cli.errors import DataError


def read(
    files: tuple[Path, ...], _split: str, shape: tuple[int, int, int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """One split from its file.

    Args:
        files: the file.
        shape: (N, 3, H, W), expected.

    Returns:
        Images (N, 3, H, W) uint8, labels (N,) int64, 0 to 9.

    Raises:
        DataError: a file that is unreadable or holds something else.
    """
    (path,) = files
    count, channels, height, width = shape
    arrays = mat.read(path, {"X": ((height, width, channels, count), "u1"), "y": ((count, 1), "")})
    digits = arrays["y"].reshape(-1)
    if not np.isin(digits, np.arange(1, 11)).all():
        raise DataError(
            f"{path} holds labels {digits.min()} to {digits.max()}, expected digits 1 to 10", streams.INTACT
        )
    return streams.turn(arrays["X"]), digits.astype(np.int64) % 10
