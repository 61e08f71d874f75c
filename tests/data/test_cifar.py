"""CIFAR's binary archives become the images and labels that their description says, and anything else is refused."""

import gzip
import io
import os
import stat
import tarfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import archives
from ddpm_cli.data import cifar
from ddpm_cli.data.known import KNOWN
from ddpm_cli.errors import DataError

TRAIN, TEST = (10, 3, 32, 32), (2, 3, 32, 32)


def pixel(split: str, number: int, channel: int, row: int, column: int) -> int:
    """A formula that differs along every axis, so that any two axes exchanged are noticed."""
    return (31 * number + 83 * channel + 7 * row + 3 * column + len(split)) % 256


def images(split: str, count: int) -> np.ndarray:
    return np.array(
        [[[[pixel(split, n, c, y, x) for x in range(32)] for y in range(32)] for c in range(3)] for n in range(count)],
        np.uint8,
    )


@pytest.fixture(scope="module")
def members10() -> dict[str, bytes]:
    train = images("train", 10)
    batches = {
        f"cifar-10-batches-bin/data_batch_{k + 1}.bin": archives.cifar_rows(
            train[2 * k : 2 * k + 2], [2 * k, 2 * k + 1]
        )
        for k in range(5)
    }
    return {
        "cifar-10-batches-bin/batches.meta.txt": b"airplane\nautomobile\n",
        # In another order than that of the images.
        **dict(reversed(batches.items())),
        "cifar-10-batches-bin/readme.html": b"<html>",
        "cifar-10-batches-bin/test_batch.bin": archives.cifar_rows(images("test", 2), [9, 3]),
    }


@pytest.fixture(scope="module")
def members100() -> dict[str, bytes]:
    return {
        "cifar-100-binary/test.bin": archives.cifar_rows(images("test", 2), [19, 0], [99, 5]),
        "cifar-100-binary/train.bin": archives.cifar_rows(images("train", 10), [7] * 10, list(range(40, 50))),
    }


def read(name: str, path: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    return KNOWN[name].read((path,), split, TRAIN if split == "train" else TEST)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return tmp_path / "archive.tar.gz"


@pytest.mark.parametrize("split", ["train", "test"])
def test_cifar10(archive: Path, members10: dict[str, bytes], split: str) -> None:
    archive.write_bytes(archives.tar_gz(members10))
    pixels, labels = read("cifar10", archive, split)
    assert (pixels.dtype, labels.dtype) == ("uint8", "int64")
    assert pixels.flags.writeable
    assert pixels.flags.c_contiguous
    np.testing.assert_array_equal(pixels, images(split, len(pixels)))
    assert labels.tolist() == {"train": list(range(10)), "test": [9, 3]}[split]
    assert [path.name for path in archive.parent.iterdir()] == [archive.name]


@pytest.mark.parametrize("split", ["train", "test"])
def test_cifar100_has_the_fine_labels(archive: Path, members100: dict[str, bytes], split: str) -> None:
    archive.write_bytes(archives.tar_gz(members100))
    pixels, labels = read("cifar100", archive, split)
    np.testing.assert_array_equal(pixels, images(split, len(pixels)))
    assert labels.tolist() == {"train": list(range(40, 50)), "test": [99, 5]}[split]


def test_the_classes_of_cifar100() -> None:
    """A hundred, in the order of the alphabet; some by the number that papers and other libraries give them."""
    classes = KNOWN["cifar100"].classes
    assert len(set(classes)) == 100
    assert list(classes) == sorted(classes)
    assert {0: "apple", 1: "aquarium_fish", 47: "maple_tree", 53: "orange", 99: "worm"}.items() <= dict(
        enumerate(classes)
    ).items()


NAME = "cifar-100-binary/test.bin"


def link(kind: bytes, size: int = 0) -> tarfile.TarInfo:
    member = tarfile.TarInfo(NAME)
    member.type, member.linkname, member.size = kind, "/etc/passwd", size
    return member


def changed(members: dict[str, bytes], **changes: object) -> bytes:
    """The archive with another test.bin; a key is a name with __ for a slash."""
    rest = {name: content for name, content in members.items() if name != NAME}
    return archives.tar_gz({**rest, **{key.replace("__", "/"): value for key, value in changes.items()}})


HOSTILE = {
    "no archive": (lambda _: b"hello", "cannot read"),
    "empty": (lambda _: b"", "cannot read"),
    "no tar inside": (lambda _: gzip.compress(b"hello" * 500), "cannot read"),
    "an empty tar": (lambda _: archives.tar_gz({}), "there is no cifar-100-binary/test.bin"),
    "truncated": (lambda members: archives.tar_gz(members)[:-2000], "cannot read"),
    "without its checksum": (lambda members: archives.tar_gz(members)[:-8], "cannot read"),
    "a wrong checksum": (lambda members: archives.tar_gz(members)[:-8] + bytes(8), "cannot read"),
    "another name": (lambda members: changed(members, **{"test.bin": members[NAME]}), "there is no"),
    "an absolute path": (lambda members: changed(members, **{f"/{NAME}": members[NAME]}), "there is no"),
    "a path upwards": (lambda members: changed(members, **{f"../{NAME}": members[NAME]}), "there is no"),
    "a byte less": (lambda members: changed(members, **{NAME: members[NAME][:-1]}), "has 6,147 bytes, expected 6,148"),
    "a byte more": (lambda members: changed(members, **{NAME: members[NAME] + b"\0"}), "has 6,149 bytes"),
    "a symbolic link": (lambda members: changed(members, **{NAME: link(tarfile.SYMTYPE)}), "is no plain file"),
    "a hard link": (lambda members: changed(members, **{NAME: link(tarfile.LNKTYPE)}), "is no plain file"),
    "a device": (lambda members: changed(members, **{NAME: link(tarfile.CHRTYPE)}), "is no plain file"),
    "a folder": (lambda members: changed(members, **{NAME: link(tarfile.DIRTYPE)}), "is no plain file"),
    "a sparse file": (lambda members: changed(members, **{NAME: link(tarfile.GNUTYPE_SPARSE)}), "archive.tar.gz"),
    "too many members": (
        lambda members: archives.tar_gz({**{f"{k}": b"" for k in range(200)}, **members}),
        "more than 100 members",
    ),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_anything_else_is_refused_and_named(archive: Path, members100: dict[str, bytes], what: str) -> None:
    make, complaint = HOSTILE[what]
    archive.write_bytes(make(members100))
    with pytest.raises(DataError, match=complaint) as caught:
        read("cifar100", archive, "test")
    assert str(archive) in caught.value.message
    assert caught.value.hint
    assert list(archive.parent.iterdir()) == [archive]


def test_a_member_that_comes_twice_counts_once(archive: Path, members100: dict[str, bytes]) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for content in (members100[NAME], bytes(len(members100[NAME]))):
            member = tarfile.TarInfo(NAME)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    archive.write_bytes(out.getvalue())
    np.testing.assert_array_equal(read("cifar100", archive, "test")[0], images("test", 2))


@pytest.mark.parametrize("where", ["another member", "after the end", "a header"])
def test_a_bomb_unpacks_no_further_than_an_archive_may(
    archive: Path, members100: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setattr(cifar, "LARGEST", 200_000)
    if where == "another member":
        archive.write_bytes(archives.tar_gz({"bomb": bytes(50_000_000), **members100}))
    elif where == "after the end":
        archive.write_bytes(gzip.compress(gzip.decompress(archives.tar_gz(members100)) + bytes(50_000_000)))
    else:
        header = tarfile.TarInfo("pax")
        header.type, header.size = tarfile.XHDTYPE, 50_000_000
        archive.write_bytes(gzip.compress(header.tobuf() + bytes(50_000_000)))
    tracemalloc.start()
    with pytest.raises(DataError, match="unpacks to more than 200,000 bytes"):
        read("cifar100", archive, "test")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3_000_000


def test_what_an_archive_may_unpack_to_fits_the_real_ones() -> None:
    """60,000 rows of 3074 bytes, with room for headers, padding and names."""
    assert 60_000 * 3074 < cifar.LARGEST < 1.1 * 60_000 * 3074


@pytest.mark.parametrize("packed", [True, False], ids=["the packed bytes", "the tar"])
def test_no_damage_gets_through_as_another_error(archive: Path, members100: dict[str, bytes], packed: bool) -> None:
    sound = archives.tar_gz(members100)
    noise = np.random.default_rng(5)
    target = bytearray(sound if packed else gzip.decompress(sound))
    for _ in range(60):
        damaged = target.copy()
        for place in noise.integers(0, len(target) if packed else 1500, 3):
            damaged[place] ^= int(noise.integers(1, 256))
        archive.write_bytes(damaged if packed else gzip.compress(damaged, 1))
        try:
            assert read("cifar100", archive, "test")[0].shape == TEST
        except DataError as error:
            assert str(archive) in error.message  # noqa: PT017  # either end is right


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(archive: Path) -> None:
    archive.touch(mode=stat.S_IWUSR)
    with pytest.raises(DataError, match=r"cannot read .*ermission denied"):
        read("cifar10", archive, "train")
