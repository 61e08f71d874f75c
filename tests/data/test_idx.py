"""The IDX reader takes exactly what it expects."""

import gzip
import tracemalloc
from pathlib import Path

import pytest

from ddpm_cli.data import idx
from ddpm_cli.errors import DataError

# 2 x 1 x 3 bytes, written out by hand from the definition of the format.
HEADER = bytes.fromhex("00000803 00000002 00000001 00000003")
CONTENT = HEADER + bytes((10, 20, 30, 40, 50, 60))
SHAPE = (2, 1, 3)


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_reads_plain_and_gzipped(tmp_path: Path, pack: type[bytes]) -> None:
    file = tmp_path / "images"
    file.write_bytes(pack(CONTENT))
    array = idx.read(file, SHAPE)
    assert array.dtype == "uint8"
    assert array.flags.writeable
    assert array.tolist() == [[[10, 20, 30]], [[40, 50, 60]]]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "starts with nothing"),
        (CONTENT[:9], "no IDX file"),
        (CONTENT[:-1], "ends after 5 of 6 bytes"),
        (CONTENT + b"\0", "longer than it should be"),
        (b"\0\0\x0d" + CONTENT[3:], "starts with 00 00 0d 03"),  # float32
        (b"\0\0\x08\x01" + CONTENT[4:], "starts with 00 00 08 01"),  # one axis
        (b"\x01" + CONTENT[1:], "no IDX file"),
        (CONTENT[:7] + b"\x03" + CONTENT[8:], "announces 3 x 1 x 3 = 9 elements, expected 2 x 1 x 3 = 6"),
        (CONTENT[:11] + b"\x03" + CONTENT[12:15] + b"\x01" + CONTENT[16:], "announces 2 x 3 x 1 = 6 elements"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "announces"),  # 2^96 elements
        (gzip.compress(CONTENT, mtime=0)[:-9], "cannot read"),  # truncated
        (gzip.compress(CONTENT, mtime=0)[:-8] + bytes(8), "cannot read"),  # wrong CRC
        (gzip.compress(CONTENT, mtime=0)[:12] + b"\xff" * 20, "no IDX file"),  # deflate goes wrong after a few bytes
        (gzip.compress(CONTENT, mtime=0) + b"rubbish", "cannot read"),
    ],
)
def test_refuses_anything_else_and_names_the_file(tmp_path: Path, content: bytes, complaint: str) -> None:
    file = tmp_path / "some-images"
    file.write_bytes(content)
    with pytest.raises(DataError, match=complaint) as caught:
        idx.read(file, SHAPE)
    assert str(file) in caught.value.message


def test_a_bomb_unpacks_no_further_than_expected(tmp_path: Path) -> None:
    file = tmp_path / "bomb"
    file.write_bytes(gzip.compress(CONTENT + bytes(50_000_000), mtime=0))
    tracemalloc.start()
    with pytest.raises(DataError, match="longer"):
        idx.read(file, SHAPE)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read .*absent: No such file"):
        idx.read(tmp_path / "absent", SHAPE)


def test_a_pair_has_one_label_an_image(tmp_path: Path) -> None:
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.write_bytes(CONTENT)
    labels.write_bytes(bytes.fromhex("00000801 00000002 0708"))
    pixels, classes = idx.read_pair((images, labels), "train", (2, 1, 1, 3))
    assert pixels.tolist() == [[[[10, 20, 30]]], [[[40, 50, 60]]]]
    assert (classes.tolist(), classes.dtype) == ([7, 8], "int64")
    labels.write_bytes(bytes.fromhex("00000801 00000003 070809"))
    with pytest.raises(DataError, match=r"labels announces 3 elements, expected 2"):
        idx.read_pair((images, labels), "train", (2, 1, 1, 3))
