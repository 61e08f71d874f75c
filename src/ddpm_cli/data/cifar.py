"""The binary version of CIFAR-10 and CIFAR-100: https://www.cs.toronto.edu/~kriz/cifar.html.

A gzipped tar whose members are rows of label bytes (CIFAR-10: the class; CIFAR-100: superclass, then class) and 3072
pixel bytes: a plane of red, one of green, one of blue, each row by row. The Python version would be a pickle, which
runs what it holds. Invariant: nothing is unpacked to disk, and a member counts only under its exact name, as a plain
file of its exact length.
"""

import gzip
import tarfile
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.data import streams
from ddpm_cli.errors import DataError

Members = dict[str, tuple[str, ...]]  # of each split, in the order of its images
CIFAR10: Final[Members] = {
    "train": tuple(f"cifar-10-batches-bin/data_batch_{number}.bin" for number in range(1, 6)),
    "test": ("cifar-10-batches-bin/test_batch.bin",),
}
CIFAR100: Final[Members] = {"train": ("cifar-100-binary/train.bin",), "test": ("cifar-100-binary/test.bin",)}
# fine_label_names.txt in the archive.
CIFAR100_CLASSES: Final = tuple(
    """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
    castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
    elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard
    lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear
    pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark
    shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone
    television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
    """.split()  # noqa: SIM905  # a hundred lines of a literal read no better
)
# Bytes that an archive may unpack to: both hold 184.5 MB. And how many members: 8 and 7.
LARGEST, MEMBERS = 200_000_000, 100
PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE)  # neither link nor device nor sparse


def read(
    members: Members, label_bytes: int, files: tuple[Path, ...], split: str, shape: tuple[int, int, int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """One split, its members streamed from the archive.

    Args:
        members: equally long, of each split.
        label_bytes: before the pixels of each image; the last one is the class.
        files: the archive.
        split: "train" or "test".
        shape: (N, 3, H, W), expected.

    Returns:
        Images (N, 3, H, W) uint8, labels (N,) int64.

    Raises:
        DataError: an archive that is unreadable or holds something else.
    """
    (path,) = files
    count, channels, height, width = shape
    wanted = members[split]
    rows = np.empty((len(wanted), count // len(wanted), label_bytes + channels * height * width), np.uint8)
    with streams.readable(path), gzip.open(path) as unpacked:
        bounded = streams.Bounded(unpacked, LARGEST, str(path))
        # Typeshed asks for more of a file than reading in one direction needs.
        with tarfile.open(fileobj=bounded, mode="r|") as archive:  # type: ignore[call-overload]
            _fill(archive, dict(zip(wanted, rows, strict=True)), path)
        while bounded.read():  # to the end, where gzip compares its checksum
            pass
    table = rows.reshape(count, -1)
    return np.ascontiguousarray(table[:, label_bytes:]).reshape(shape), table[:, label_bytes - 1].astype(np.int64)


def _fill(archive: tarfile.TarFile, wanted: dict[str, NDArray[np.uint8]], path: Path) -> None:
    """Read every wanted member into its array."""
    for number, member in enumerate(archive):
        if number == MEMBERS:
            raise DataError(f"{path} holds more than {MEMBERS} members", streams.INTACT)
        array = wanted.pop(member.name, None)
        if array is None:
            continue
        what = f"{member.name} in {path}"
        if member.type not in PLAIN:
            raise DataError(f"{what} is no plain file", streams.INTACT)
        if member.size != array.size:
            raise DataError(f"{what} has {member.size:,} bytes, expected {array.size:,}", streams.INTACT)
        content = archive.extractfile(member)
        assert content is not None
        streams.fill(content, array, what)
    if wanted:
        raise DataError(f"there is no {next(iter(wanted))} in {path}", streams.INTACT)
