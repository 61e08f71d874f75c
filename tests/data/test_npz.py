"""An archive of arrays is images or an error, and never code."""

import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddpm_cli import data
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


@pytest.mark.parametrize("images", [GREY, COLOUR], ids=["grey", "colour"])
@pytest.mark.parametrize("layout", ["channels last", "channels first", "Fortran", "Fortran, channels first"])
@pytest.mark.parametrize("names", [("images", "labels"), ("arr_0", "arr_1")])
def test_every_layout_of_an_array(images: np.ndarray, layout: str, names: tuple[str, str]) -> None:
    array = images if "first" in layout else np.moveaxis(images, 1, -1)
    array = np.asfortranarray(array) if "Fortran" in layout else np.ascontiguousarray(array)
    found = npz.read(archive(**{names[0]: array, names[1]: np.arange(len(images))}), "a.npz")
    np.testing.assert_array_equal(found.images, images)
    assert found.images.flags["C_CONTIGUOUS"]
    assert found.labels is not None
    assert found.labels.tolist() == list(range(len(images)))


@pytest.mark.parametrize("dtype", ["i1", "u1", "<i2", ">i2", "<u2", "<i4", ">u4", "<u8", ">i8"])
@pytest.mark.parametrize("column", [False, True])
def test_labels_of_any_integer_type(dtype: str, column: bool) -> None:
    labels = np.array([4, 0, 2, 2, 1], dtype)
    found = npz.read(archive(images=GREY[:, 0], labels=labels[:, None] if column else labels), "a.npz")
    assert found.labels is not None
    assert found.labels.dtype == np.int64
    assert found.labels.tolist() == [4, 0, 2, 2, 1]


@pytest.mark.parametrize("channels", [2, 4, 5, 16])
@pytest.mark.parametrize("axis", [1, -1])
def test_other_numbers_of_channels_are_refused_by_name(channels: int, axis: int) -> None:
    images = np.moveaxis(np.zeros((2, channels, 20, 20), np.uint8), 1, axis)
    with pytest.raises(
        DataError, match=rf"a.npz holds images of {channels} channels, expected 1 \(grey\) or 3 \(RGB\)"
    ):
        npz.read(archive(images=images), "a.npz")


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"images": GREY / 255}, "'images' is float64, expected uint8"),
        ({"images": GREY.astype(np.int64)}, "'images' is int64, expected uint8"),
        ({"images": GREY[:, 0] > 9}, "'images' is bool, expected uint8"),
        ({"images": GREY[:, 0], "labels": np.zeros(5)}, "'labels' is float64, expected integers"),
        ({"x_train": GREY, "y_train": GREY}, "it contains 'x_train', 'y_train' and no array named 'images'"),
    ],
)
def test_the_reason_names_the_array(arrays: dict[str, np.ndarray], reason: str) -> None:
    with pytest.raises(DataError) as caught:
        npz.read(archive(**arrays), "a.npz")
    assert reason in caught.value.message


@pytest.mark.parametrize("descr", [b"<f7", b"|S9", b"<M8", b"=Q1", b"|V999"])
def test_a_type_that_is_none_is_a_data_error(descr: bytes) -> None:
    with pytest.raises(DataError, match="expected uint8"):
        npz.read(packed(b"{'descr': '%s', 'fortran_order': False, 'shape': (1,), }\n" % descr), "a.npz")


def test_an_archive_is_a_data_set(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(archive(arr_0=COLOUR, arr_1=np.array([0, 1, 1, 0], np.uint8)))
    seen: list[tuple[int, ...]] = []
    found = data.load(str(tmp_path / "a.npz"), accept=seen.append, limit=2)
    np.testing.assert_array_equal(found.images, COLOUR[[0, 2]])
    assert found.classes == ("0", "1")
    assert (found.name, seen) == ("a.npz", [(3, 8, 8)])
    assert data.load(str(tmp_path / "a.npz"), image_size=4).shape == (3, 4, 4)
    assert not data.has_splits(str(tmp_path / "a.npz"))


def test_a_missing_file_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file b.npz"):
        npz.read(tmp_path / "b.npz", "b.npz")


def test_a_header_that_promises_more_than_there_is_allocates_nothing() -> None:
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (1000000, 10000, 100), }\n"
    with pytest.raises(DataError, match="header says 1000000000000"):
        npz.read(packed(header), "a.npz")
