"""An archive of arrays is images or an error, and never code."""

import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddpm_cli.data import npz
from ddpm_cli.errors import DataError
from ddpm_cli.render.images import npz as written

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (5, 1, 8, 9), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (4, 3, 8, 8), dtype=np.uint8)


def archive(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def packed(header: bytes, content: bytes = bytes(100)) -> bytes:
    """An archive with an array of a header of our own."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("images.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + content)
    return buffer.getvalue()


def encrypted() -> bytes:
    """An archive whose member says that it is encrypted, in both places where zip has the flag."""
    content = bytearray(archive(images=GREY[:, 0]))
    content[6] |= 1
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    return bytes(content)


@pytest.mark.parametrize("images", [GREY, COLOUR], ids=["grey", "colour"])
def test_what_sample_writes_comes_back(images: np.ndarray, tmp_path: Path) -> None:
    labels = np.arange(len(images))
    path = tmp_path / "a.npz"
    path.write_bytes(written(images, labels))
    for source in (path, path.read_bytes()):
        found = npz.read(source, "a.npz")
        assert np.array_equal(found.images, images)
        assert found.labels is not None
        assert np.array_equal(found.labels, labels)
        assert found.classes == tuple(map(str, range(len(images))))


def test_images_without_labels_have_none() -> None:
    assert npz.read(written(GREY), "a").labels is None
    assert npz.read(archive(images=GREY[:, 0]), "a").labels is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04 no archive",
        archive(pictures=GREY[:, 0]),
        archive(images=GREY[:, 0].astype(np.float32)),
        archive(images=GREY[:0, 0]),
        archive(images=np.uint8(3)),
        archive(images=GREY[:, 0], labels=np.arange(3)),
        archive(images=np.array([{"a": 1}], dtype=object)),
        written(GREY)[:200],
        archive(images=GREY[:2, 0], labels=np.array([0, 30_000_000])),
        encrypted(),
        packed(b"{'descr': (), 'fortran_order': False, 'shape': (1,), }\n"),
        packed(b"{" * 5000 + b"\n"),
        packed(b"{'descr': '|u1', 'fortran_order': False, 'shape': (" + b"9," * 60 + b"), }\n"),
    ],
    ids=[
        "empty",
        "no zip",
        "other names",
        "floats",
        "no image",
        "a number",
        "few labels",
        "objects",
        "cut short",
        "many classes",
        "encrypted",
        "no type",
        "deep",
        "many axes",
    ],
)
def test_anything_else_is_a_data_error(content: bytes) -> None:
    with pytest.raises(DataError) as caught:
        npz.read(content, "a.npz")
    assert "a.npz" in caught.value.message
    assert "sample" in caught.value.hint


def test_a_missing_file_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file b.npz"):
        npz.read(tmp_path / "b.npz", "b.npz")


def test_a_header_that_promises_more_than_there_is_allocates_nothing() -> None:
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (1000000, 10000, 100), }\n"
    with pytest.raises(DataError, match="header says 1000000000000"):
        npz.read(packed(header), "a.npz")
