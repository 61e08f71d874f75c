"""EMNIST's archive becomes upright images with labels from 0, and anything else is refused."""

import gzip
import io
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

import archives
from ddpm_cli.data import streams
from ddpm_cli.data.known import KNOWN
from ddpm_cli.errors import DataError

# Letters that look like no other letter when turned or mirrored.
PICTURES = {
    "F": ["#####", "#....", "###..", "#....", "#...."],
    "J": ["..###", "...#.", "...#.", "#..#.", ".##.."],
    "R": ["###..", "#..#.", "###..", "#.#..", "#..##"],
}
UPRIGHT = np.array([[[255 * (dot == "#") for dot in line] for line in rows] for rows in PICTURES.values()], np.uint8)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "gzip.zip"
    path.write_bytes(
        archives.emnist_zip(
            {
                "balanced-train": (UPRIGHT, [15, 19, 27]),
                "balanced-test": (UPRIGHT[:1], [46]),
                "letters-train": (UPRIGHT, [6, 10, 18]),
                "digits-train": (UPRIGHT[::-1], [0, 9, 5]),
            }
        )
    )
    return path


def read(name: str, path: Path, split: str, count: int = 3) -> tuple[np.ndarray, np.ndarray]:
    return KNOWN[name].read((path,), split, (count, 1, 5, 5))


def test_images_are_upright_as_they_are_not_in_the_file(archive: Path) -> None:
    images, labels = read("emnist", archive, "train")
    np.testing.assert_array_equal(images[:, 0], UPRIGHT)
    assert (images.dtype, labels.dtype) == ("uint8", "int64")
    assert labels.tolist() == [15, 19, 27]
    with zipfile.ZipFile(archive) as file:
        content = gzip.decompress(file.read("gzip/emnist-balanced-train-images-idx3-ubyte.gz"))
    # The first five bytes in the file go down the first column of the F, where it is all black.
    assert list(content[16:21]) == [255, 255, 255, 255, 255]
    assert list(content[21:26]) == [255, 0, 255, 0, 0]


def test_more_images_than_are_turned_at_once(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "BLOCK", 2)
    np.testing.assert_array_equal(read("emnist", archive, "train")[0][:, 0], UPRIGHT)


def test_splits_and_parts_are_told_apart(archive: Path) -> None:
    images, labels = read("emnist", archive, "test", 1)
    np.testing.assert_array_equal(images[:, 0], UPRIGHT[:1])
    assert labels.tolist() == [46]
    images, labels = read("emnist-digits", archive, "train")
    np.testing.assert_array_equal(images[:, 0], UPRIGHT[::-1])
    assert labels.tolist() == [0, 9, 5]


def test_labels_are_those_of_the_classes(archive: Path) -> None:
    """The paper's order: digits, capitals, then small letters; in "letters" the files count from 1."""
    for name, letters in (("emnist", "FJR"), ("emnist-letters", "fjr")):
        labels = read(name, archive, "train")[1]
        assert [KNOWN[name].classes[label] for label in labels] == list(letters)
    assert KNOWN["emnist"].classes[46] == "t"


def test_classes_are_those_of_the_mapping_files() -> None:
    """Some lines of emnist-PART-mapping.txt: the label, and the character by its ASCII code."""
    lines = {
        "emnist": {0: 48, 9: 57, 10: 65, 35: 90, 36: 97, 37: 98, 38: 100, 39: 101, 40: 102, 41: 103, 42: 104, 43: 110},
        "emnist-bymerge": {44: 113, 45: 114, 46: 116},
        "emnist-byclass": {0: 48, 10: 65, 36: 97, 61: 122},
    }
    for name, mapping in lines.items():
        for label, code in mapping.items():
            assert KNOWN[name].classes[label] == chr(code), (name, label)
    assert [len(KNOWN[f"emnist{part}"].classes) for part in ("", "-bymerge", "-byclass", "-letters")] == [
        47,
        47,
        62,
        26,
    ]


def members(archive: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(archive) as file:
        return {name: file.read(name) for name in file.namelist()}


def packed(contents: dict[str, bytes], kind: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", kind) as file:
        for name, content in contents.items():
            file.writestr(name, content)
    return out.getvalue()


IMAGES = "gzip/emnist-balanced-train-images-idx3-ubyte.gz"
LABELS = "gzip/emnist-balanced-train-labels-idx1-ubyte.gz"


def encrypted(contents: dict[str, bytes]) -> bytes:
    """The first bit of the flags in every header: local ones (APPNOTE.TXT 4.3.7) and central ones (4.3.12)."""
    data = bytearray(packed(contents))
    for signature, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        place = data.find(signature)
        while place >= 0:
            data[place + flags] |= 1
            place = data.find(signature, place + 4)
    return bytes(data)


HOSTILE = {
    "no archive": (lambda _: b"hello", "cannot read"),
    "empty": (lambda _: b"", "cannot read"),
    "truncated": (lambda contents: packed(contents)[:-30], "cannot read"),
    "no such part": (lambda _: packed({"gzip/readme": b""}), f"there is no {IMAGES}"),
    "an absolute path": (lambda contents: packed({f"/{name}": each for name, each in contents.items()}), "there is no"),
    "encrypted": (encrypted, "is encrypted"),
    "not packed": (lambda contents: packed(contents | {IMAGES: b"hello"}), "cannot read"),
    "a truncated member": (lambda contents: packed(contents | {IMAGES: contents[IMAGES][:-9]}), "cannot read"),
    "another shape": (lambda contents: packed(contents | {IMAGES: contents[LABELS]}), "no IDX file"),
    "fewer images": (
        lambda contents: packed(contents | {IMAGES: gzip.compress(archives.idx(UPRIGHT[:2]))}),
        "announces 2 x 5 x 5 = 50 elements, expected 3 x 5 x 5 = 75",
    ),
    "fewer labels": (
        lambda contents: packed(contents | {LABELS: gzip.compress(archives.idx(np.zeros(2, np.uint8)))}),
        "announces 2 elements, expected 3",
    ),
    "a damaged member": (
        lambda contents: packed(contents).replace(contents[LABELS], contents[LABELS][:-1] + b"?"),
        "cannot read",
    ),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_anything_else_is_refused_and_named(archive: Path, what: str) -> None:
    make, complaint = HOSTILE[what]
    archive.write_bytes(make(members(archive)))
    with pytest.raises(DataError, match=complaint) as caught:
        read("emnist", archive, "train")
    assert str(archive) in caught.value.message
    assert caught.value.hint
    assert list(archive.parent.iterdir()) == [archive]


def test_only_the_part_that_is_asked_for_is_read(archive: Path) -> None:
    big = np.random.default_rng(0).bytes(20_000_000)
    archive.write_bytes(packed({"gzip/emnist-byclass-train-images-idx3-ubyte.gz": big, **members(archive)}))
    tracemalloc.start()
    read("emnist", archive, "train")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize("kind", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["in the gzip", "in the zip"])
def test_a_bomb_unpacks_no_further_than_expected(archive: Path, kind: int) -> None:
    header = bytes.fromhex("00000803 00000003 00000005 00000005")
    bomb = gzip.compress(header + bytes(75) + bytes(30_000_000), 9 if kind == zipfile.ZIP_STORED else 0)
    archive.write_bytes(packed(members(archive) | {IMAGES: bomb}, kind))
    del bomb
    tracemalloc.start()
    with pytest.raises(DataError, match="longer than it should be"):
        read("emnist", archive, "train")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3_000_000


def test_no_damage_gets_through_as_another_error(archive: Path) -> None:
    sound = bytearray(archive.read_bytes())
    noise = np.random.default_rng(6)
    for _ in range(100):
        damaged = sound.copy()
        for place in noise.integers(0, len(sound), 3):
            damaged[place] ^= int(noise.integers(1, 256))
        archive.write_bytes(damaged)
        try:
            assert read("emnist", archive, "train")[0].shape == (3, 1, 5, 5)
        except DataError as error:
            assert str(archive) in error.message  # noqa: PT017  # either end is right
