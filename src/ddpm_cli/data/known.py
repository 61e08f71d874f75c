"""The data sets known by name: one literal table.

Invariant: a file is told by its sha256 and by nothing else, so it may come from anywhere. A new set is a new entry;
a new file format is a function for its ``read``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.data import idx

Split = Literal["train", "test"]
Arrays = tuple[NDArray[np.uint8], NDArray[np.int64]]  # (N, C, H, W) images, (N,) labels


@dataclass(frozen=True)
class SourceFile:
    """One file of a set as its mirrors have it; ``plain_sha256`` is that of its decompressed bytes."""

    name: str
    size: int  # bytes
    sha256: str
    plain_sha256: str


@dataclass(frozen=True)
class KnownSet:
    """Where a set comes from and how its files become arrays.

    Args:
        name: as typed after ``--dataset``.
        classes: the name of each label.
        shape: of one image, (C, H, W).
        files: those of each split, in the order ``read`` takes them.
        read: files of one split -> arrays.
        mirrors: addresses that a file's name is appended to, tried in this order.
        torchvision: the folder below a torchvision root.
        licence: for people to read.
        system: a folder that an operating system's package fills, or None.
        package: the name of that package, with its system.
    """

    name: str
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    files: dict[Split, tuple[SourceFile, ...]]
    read: Callable[[tuple[Path, ...]], Arrays]
    mirrors: tuple[str, ...]
    torchvision: str
    licence: str
    system: Path | None = None
    package: str = ""


KNOWN: dict[str, KnownSet] = {
    "mnist": KnownSet(
        name="mnist",
        classes=tuple("0123456789"),
        shape=(1, 28, 28),
        files={
            "train": (
                SourceFile(
                    "train-images-idx3-ubyte.gz",
                    9_719_438,
                    "0b367032e93c5d0cea0925647cfdb18614af8ee15f83e6f2fc2ad904a6835971",
                    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                ),
                SourceFile(
                    "train-labels-idx1-ubyte.gz",
                    28_857,
                    "1787548bbe0bff1ec2ecdc0ef292b02df999e2d1a6002d27500982c652b17203",
                    "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                ),
            ),
            "test": (
                SourceFile(
                    "t10k-images-idx3-ubyte.gz",
                    1_616_508,
                    "1a1a05eab793c14bb050b398624a11b0ffd1a2953baed553b1b9bd079e2a20be",
                    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                ),
                SourceFile(
                    "t10k-labels-idx1-ubyte.gz",
                    4_517,
                    "b91679a0acfe4ba0e50a2437a903084cba1f5f92592b016a25a7dfd00455798b",
                    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
                ),
            ),
        },
        read=idx.read_pair,
        mirrors=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        torchvision="MNIST/raw",
        licence="CC BY-SA 3.0, Yann LeCun and Corinna Cortes",
    ),
    "fashion-mnist": KnownSet(
        name="fashion-mnist",
        classes=(
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
        shape=(1, 28, 28),
        files={
            "train": (
                SourceFile(
                    "train-images-idx3-ubyte.gz",
                    26_421_856,
                    "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
                    "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                ),
                SourceFile(
                    "train-labels-idx1-ubyte.gz",
                    29_491,
                    "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
                    "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
                ),
            ),
            "test": (
                SourceFile(
                    "t10k-images-idx3-ubyte.gz",
                    4_422_079,
                    "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
                    "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                ),
                SourceFile(
                    "t10k-labels-idx1-ubyte.gz",
                    5_125,
                    "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
                    "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
                ),
            ),
        },
        read=idx.read_pair,
        mirrors=(
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
        ),
        torchvision="FashionMNIST/raw",
        licence="MIT, Zalando SE",
        system=Path("/usr/share/datasets/fashion-mnist"),
        package="Debian's package dataset-fashion-mnist",
    ),
}
