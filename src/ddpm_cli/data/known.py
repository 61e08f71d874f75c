"""The data sets known by name: one literal table.

Invariant: a file is told by its sha256 and by nothing else, so it may come from anywhere. A new set is a new entry;
a new file format is a function for its ``read``.

Sizes and sha256 of what the mirrors deliver are those of TensorFlow Datasets (tensorflow/datasets on GitHub,
tensorflow_datasets/url_checksums/SET.txt), where a second project has the same: Fashion-MNIST in Keras
(keras/src/datasets/fashion_mnist.py), CIFAR in GoMLX, KMNIST and SVHN in torchvision's prototype datasets.
"""

import string
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.data import cifar, emnist, idx, svhn

Split = Literal["train", "test"]
Arrays = tuple[NDArray[np.uint8], NDArray[np.int64]]  # (N, C, H, W) images, (N,) labels
Reader = Callable[[tuple[Path, ...], Split, tuple[int, int, int, int]], Arrays]


@dataclass(frozen=True)
class SourceFile:
    """One file of a set.

    Args:
        name: as the mirrors have it.
        size: bytes, there.
        sha256: there.
        plain_sha256: of what a ``.gz`` unpacks to, which is accepted under the name without it; None: not known.
        packed_otherwise: sha256 of other gzip files of the same content, accepted under the same name: those that a
            Linux distribution or this package packed anew, without the time and the name that gzip notes.
    """

    name: str
    size: int
    sha256: str
    plain_sha256: str | None = None
    packed_otherwise: tuple[str, ...] = ()

    def accepted(self) -> dict[str, tuple[str, ...]]:
        """The names that a copy may have, best first, and the sha256 it may have under each."""
        names = {self.name: (self.sha256, *self.packed_otherwise)}
        if self.plain_sha256 is not None:
            names[self.name.removesuffix(".gz")] = (self.plain_sha256,)
        return names


@dataclass(frozen=True)
class KnownSet:
    """Where a set comes from and how its files become arrays.

    Args:
        name: as typed after ``--dataset``.
        classes: the name of each label.
        shape: of one image, (C, H, W).
        counts: images in each split.
        files: those of each split, in the order ``read`` takes them; one archive may serve both.
        read: files, split and expected (N, C, H, W) -> arrays.
        mirrors: addresses that a file's name is appended to, tried in this order.
        torchvision: the folder below a torchvision root; empty: the root itself.
        licence: its name, or in a few words.
        credit: whom to name, or what to cite.
        folder: below the data directory's ``datasets``; sets with the same archive share it. Empty: the name.
        system: a folder that an operating system's package fills, or None.
        package: the name of that package, with its system.
    """

    name: str
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    counts: dict[Split, int]
    files: dict[Split, tuple[SourceFile, ...]]
    read: Reader
    mirrors: tuple[str, ...]
    torchvision: str
    licence: str
    credit: str
    folder: str = ""
    system: Path | None = None
    package: str = ""

    @property
    def place(self) -> str:
        """The folder that its files have, ours and below ``--data-dir``."""
        return self.folder or self.name

    @property
    def all_files(self) -> tuple[SourceFile, ...]:
        """Those of both splits, each once."""
        return tuple(dict.fromkeys(file for files in self.files.values() for file in files))

    @property
    def size(self) -> int:
        """Bytes to fetch."""
        return sum(file.size for file in self.all_files)


MNIST = KnownSet(
    name="mnist",
    classes=tuple(string.digits),
    shape=(1, 28, 28),
    counts={"train": 60_000, "test": 10_000},
    files={
        "train": (
            SourceFile(
                "train-images-idx3-ubyte.gz",
                9_912_422,
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
                "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                ("0b367032e93c5d0cea0925647cfdb18614af8ee15f83e6f2fc2ad904a6835971",),
            ),
            SourceFile(
                "train-labels-idx1-ubyte.gz",
                28_881,
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
                "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                ("1787548bbe0bff1ec2ecdc0ef292b02df999e2d1a6002d27500982c652b17203",),
            ),
        ),
        "test": (
            SourceFile(
                "t10k-images-idx3-ubyte.gz",
                1_648_877,
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
                "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                ("1a1a05eab793c14bb050b398624a11b0ffd1a2953baed553b1b9bd079e2a20be",),
            ),
            SourceFile(
                "t10k-labels-idx1-ubyte.gz",
                4_542,
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
                "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
                ("b91679a0acfe4ba0e50a2437a903084cba1f5f92592b016a25a7dfd00455798b",),
            ),
        ),
    },
    read=idx.read_pair,
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",  # torchvision's
        "https://storage.googleapis.com/cvdf-datasets/mnist/",  # that of TensorFlow Datasets
    ),
    torchvision="MNIST/raw",
    licence="CC BY-SA 3.0",
    credit="Yann LeCun and Corinna Cortes",
)

FASHION_MNIST = KnownSet(
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
    counts={"train": 60_000, "test": 10_000},
    files={
        "train": (
            SourceFile(
                "train-images-idx3-ubyte.gz",
                26_421_880,
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
                "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                ("b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",),  # Debian's
            ),
            SourceFile(
                "train-labels-idx1-ubyte.gz",
                29_515,
                "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
                "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
                ("0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",),
            ),
        ),
        "test": (
            SourceFile(
                "t10k-images-idx3-ubyte.gz",
                4_422_102,
                "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
                "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                ("cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",),
            ),
            SourceFile(
                "t10k-labels-idx1-ubyte.gz",
                5_148,
                "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
                "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
                ("8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",),
            ),
        ),
    },
    read=idx.read_pair,
    mirrors=(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",  # Zalando's own
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",  # Keras's
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
    ),
    torchvision="FashionMNIST/raw",
    licence="MIT",
    credit="Zalando SE",
    system=Path("/usr/share/datasets/fashion-mnist"),
    package="Debian's package dataset-fashion-mnist",
)

KMNIST = KnownSet(
    name="kmnist",
    classes=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
    shape=(1, 28, 28),
    counts={"train": 60_000, "test": 10_000},
    files={
        "train": (
            SourceFile(
                "train-images-idx3-ubyte.gz",
                18_165_135,
                "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
            ),
            SourceFile(
                "train-labels-idx1-ubyte.gz",
                29_497,
                "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
            ),
        ),
        "test": (
            SourceFile(
                "t10k-images-idx3-ubyte.gz",
                3_041_136,
                "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
            ),
            SourceFile(
                "t10k-labels-idx1-ubyte.gz",
                5_120,
                "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
            ),
        ),
    },
    read=idx.read_pair,
    # One host; the second is the address that its makers publish (rois-codh/kmnist, README.md).
    mirrors=("https://codh.rois.ac.jp/kmnist/dataset/kmnist/", "http://codh.rois.ac.jp/kmnist/dataset/kmnist/"),
    torchvision="KMNIST/raw",
    licence="CC BY-SA 4.0",
    credit="KMNIST Dataset (created by CODH), adapted from Kuzushiji Dataset (created by NIJL and others), "
    "doi:10.20676/00000341",
)

_EMNIST_ZIP = (SourceFile("gzip.zip", 561_753_746, "fb9bb67e33772a9cc0b895e4ecf36d2cf35be8b709693c3564cea2a019fcda8e"),)
EMNIST = KnownSet(
    name="emnist",
    classes=emnist.BALANCED,
    shape=(1, 28, 28),
    counts={"train": 112_800, "test": 18_800},
    files={"train": _EMNIST_ZIP, "test": _EMNIST_ZIP},
    read=partial(emnist.read, "balanced", 0),
    # NIST's address of today (torchvision's too), and the one before.
    mirrors=("https://biometrics.nist.gov/cs_links/EMNIST/", "https://www.itl.nist.gov/iaui/vip/cs_links/EMNIST/"),
    torchvision="EMNIST/raw",
    licence="none stated",
    credit="Cohen, Afshar, Tapson, van Schaik: arXiv:1702.05373; from NIST Special Database 19",
    folder="emnist",
)


def _emnist(part: str, classes: tuple[str, ...], train: int, test: int, first: int = 0) -> KnownSet:
    """Another part of the same archive. Counts: NIST's page on EMNIST and arXiv:1702.05373, table II.

    The paper has 88,800 + 14,800 letters; the archive, and NIST's page, 124,800 + 20,800.
    """
    return replace(
        EMNIST,
        name=f"emnist-{part}",
        classes=classes,
        counts={"train": train, "test": test},
        read=partial(emnist.read, part, first),
    )


_CIFAR10_TAR = (
    SourceFile(
        "cifar-10-binary.tar.gz", 170_052_171, "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
    ),
)
CIFAR10 = KnownSet(
    name="cifar10",
    classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    shape=(3, 32, 32),
    counts={"train": 50_000, "test": 10_000},
    files={"train": _CIFAR10_TAR, "test": _CIFAR10_TAR},
    read=partial(cifar.read, cifar.CIFAR10, 1),
    mirrors=(
        "https://www.cs.toronto.edu/~kriz/",
        "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10/",  # that of tensorflow/swift-models
    ),
    torchvision="",
    licence="none stated",
    credit="Krizhevsky: Learning Multiple Layers of Features from Tiny Images, 2009",
)

_CIFAR100_TAR = (
    SourceFile(
        "cifar-100-binary.tar.gz", 168_513_733, "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec"
    ),
)
CIFAR100 = KnownSet(
    name="cifar100",
    classes=cifar.CIFAR100_CLASSES,
    shape=(3, 32, 32),
    counts={"train": 50_000, "test": 10_000},
    files={"train": _CIFAR100_TAR, "test": _CIFAR100_TAR},
    read=partial(cifar.read, cifar.CIFAR100, 2),
    mirrors=("https://www.cs.toronto.edu/~kriz/",),
    torchvision="",
    licence=CIFAR10.licence,
    credit=CIFAR10.credit,
)

SVHN = KnownSet(
    name="svhn",
    classes=tuple(string.digits),
    shape=(3, 32, 32),
    counts={"train": 73_257, "test": 26_032},
    files={
        "train": (
            SourceFile(
                "train_32x32.mat", 182_040_794, "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8"
            ),
        ),
        "test": (
            SourceFile(
                "test_32x32.mat", 64_275_384, "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b"
            ),
        ),
    },
    read=svhn.read,
    mirrors=("http://ufldl.stanford.edu/housenumbers/",),
    torchvision="",
    licence="non-commercial",
    credit="Netzer, Wang, Coates, Bissacco, Wu, Ng: Reading Digits in Natural Images, NIPS Workshop 2011",
)

KNOWN: dict[str, KnownSet] = {
    known.name: known
    for known in (
        MNIST,
        FASHION_MNIST,
        KMNIST,
        EMNIST,
        _emnist("letters", emnist.LETTERS, 124_800, 20_800, first=1),
        _emnist("digits", tuple(string.digits), 240_000, 40_000),
        _emnist("byclass", emnist.BYCLASS, 697_932, 116_323),
        _emnist("bymerge", emnist.BALANCED, 697_932, 116_323),
        _emnist("mnist", tuple(string.digits), 60_000, 10_000),
        CIFAR10,
        CIFAR100,
        SVHN,
    )
}
