"""The IDX reader takes exactly what its header announces."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from ddpm_cli.data import idx
from ddpm_cli.errors import DataError

# 2 x 1 x 3 bytes, written out by hand from the definition of the format.
HEADER = bytes.fromhex("00000803 00000002 00000001 00000003")
CONTENT = HEADER + bytes((10, 20, 30, 40, 50, 60))


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_reads_plain_and_gzipped(tmp_path: Path, pack: type[bytes]) -> None:
    file = tmp_path / "images"
    file.write_bytes(pack(CONTENT))
    array = idx.read(file, 3)
    assert array.dtype == np.uint8
    assert array.flags.writeable
    assert array.tolist() == [[[10, 20, 30]], [[40, 50, 60]]]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "starts with nothing"),
        (CONTENT[:9], "no IDX file"),
        (CONTENT[:-1], "holds 5 elements, its header says 2 x 1 x 3 = 6"),
        (CONTENT + b"\0", "holds 7 elements"),
        (b"\0\0\x0d" + CONTENT[3:], "starts with 00 00 0d 03"),  # float32
        (b"\0\0\x08\x01" + CONTENT[4:], "starts with 00 00 08 01"),  # one axis
        (b"\x01" + CONTENT[1:], "no IDX file"),
        (gzip.compress(CONTENT)[:-9], "cannot read"),  # truncated
        (gzip.compress(CONTENT)[:-8] + bytes(8), "cannot read"),  # wrong CRC
        (gzip.compress(CONTENT)[:12] + b"\xff" * 20, "cannot read"),  # no deflate stream
        (b"\0\0\x08\x03" + b"\xff" * 12, "holds 0 elements"),  # 2^96 elements announced
    ],
)
def test_refuses_anything_else_and_names_the_file(tmp_path: Path, content: bytes, complaint: str) -> None:
    file = tmp_path / "some-images"
    file.write_bytes(content)
    with pytest.raises(DataError, match=complaint) as caught:
        idx.read(file, 3)
    assert str(file) in caught.value.message


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read .*absent"):
        idx.read(tmp_path / "absent", 3)


def test_images_and_labels_must_be_equally_many(tmp_path: Path) -> None:
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.write_bytes(CONTENT)
    labels.write_bytes(bytes.fromhex("00000801 00000003 070809"))
    with pytest.raises(DataError, match=r"holds 2 images, .* 3 labels"):
        idx.read_pair((images, labels))
