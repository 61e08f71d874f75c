"""SVHN's MATLAB files become images and digits, and anything else is refused."""

import io
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat

import archives
from ddpm_cli.data import mat
from ddpm_cli.data.known import KNOWN
from ddpm_cli.errors import DataError

SHAPE = (4, 3, 32, 32)
DIGITS = [1, 0, 9, 5]


def images() -> np.ndarray:
    """Pixels by a formula that differs along every axis."""
    return np.array(
        [
            [[[(41 * n + 83 * c + 7 * y + 3 * x) % 256 for x in range(32)] for y in range(32)] for c in range(3)]
            for n in range(4)
        ],
        np.uint8,
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "train_32x32.mat"


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    return KNOWN["svhn"].read((path,), "train", SHAPE)


@pytest.mark.parametrize("compressed", [True, False])
def test_images_and_digits_with_10_for_0(file: Path, compressed: bool) -> None:
    file.write_bytes(archives.svhn_mat(images(), DIGITS, compressed))
    pixels, labels = read(file)
    np.testing.assert_array_equal(pixels, images())
    assert labels.tolist() == DIGITS
    assert (pixels.dtype, labels.dtype) == ("uint8", "int64")
    assert pixels.flags.c_contiguous
    assert [KNOWN["svhn"].classes[label] for label in labels] == ["1", "0", "9", "5"]


@pytest.mark.parametrize("kind", [np.float64, np.int32, np.uint16])
def test_digits_may_be_any_kind_of_number(file: Path, kind: type) -> None:
    file.write_bytes(archives.svhn_mat(images(), DIGITS, y=np.array([[1], [10], [9], [5]], kind)))
    assert read(file)[1].tolist() == DIGITS


def saved(**arrays: object) -> bytes:
    out = io.BytesIO()
    savemat(out, arrays)
    return out.getvalue()


X, Y = np.zeros((32, 32, 3, 4), np.uint8), np.array([[1], [10], [9], [5]], np.uint8)
HOSTILE = {
    "no file of MATLAB": b"hello" * 100,
    "empty": b"",
    "a header only": saved(X=X, y=Y)[:128],
    "truncated": archives.svhn_mat(np.zeros(SHAPE, np.uint8), DIGITS, compressed=False)[:-5000],
    "truncated and compressed": archives.svhn_mat(images(), DIGITS)[:-500],
    "version 7.3, which is HDF5": b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + b"\x89HDF\r\n\x1a\n" * 50,
    "no X": saved(Z=X, y=Y),
    "no y": saved(X=X, z=Y),
    "fewer images": saved(X=X[..., :3], y=Y),
    "axes in another order": saved(X=X.transpose(3, 2, 0, 1), y=Y),
    "fewer digits": saved(X=X, y=Y[:3]),
    "digits in a row": saved(X=X, y=Y.T),
    "pixels that are no bytes": saved(X=X.astype(np.float32), y=Y),
    "a structure": saved(X={"a": 1}, y=Y),
    "a cell": saved(X=np.array([[X, Y]], object), y=Y),
    "text": saved(X="hello", y=Y),
    "the digit 11": saved(X=X, y=Y + 1),
    "no digit": saved(X=X, y=Y - 1),
    "half a digit": saved(X=X, y=Y - 0.5),
    "not a number": saved(X=X, y=np.full((4, 1), np.inf)),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_anything_else_is_refused_and_named(file: Path, what: str) -> None:
    file.write_bytes(HOSTILE[what])
    with pytest.raises(DataError) as caught:
        read(file)
    assert str(file) in caught.value.message
    assert caught.value.hint


def test_what_it_holds_and_what_was_expected_is_told(file: Path) -> None:
    file.write_bytes(saved(X=X[..., :3], y=Y))
    with pytest.raises(
        DataError, match=r"X in .* has 32 x 32 x 3 x 3 = 9216 elements, expected 32 x 32 x 3 x 4 = 12288"
    ):
        read(file)


@pytest.mark.parametrize("compressed", [True, False])
def test_no_damage_gets_through_as_another_error(file: Path, compressed: bool) -> None:
    sound = bytearray(archives.svhn_mat(images(), DIGITS, compressed))
    noise = np.random.default_rng(7)
    for _ in range(100):
        damaged = sound.copy()
        for place in noise.integers(0, 400, 2):
            damaged[place] ^= int(noise.integers(1, 256))
        file.write_bytes(damaged)
        try:
            assert read(file)[0].shape == SHAPE
        except DataError as error:
            assert str(file) in error.message  # noqa: PT017  # either end is right


# --- the format itself, by hand -------------------------------------------------------------------------------------


def element(order: str, kind: int, content: bytes) -> bytes:
    """Tag, content, padding; short content goes into the tag."""
    if len(content) <= 4:
        return struct.pack(f"{order}I", len(content) << 16 | kind) + content.ljust(4, b"\0")
    return struct.pack(f"{order}II", kind, len(content)) + content + bytes(-len(content) % 8)


def matrix(order: str, name: str, axes: tuple[int, ...], kind: int, content: bytes, flags: int = 9) -> bytes:
    inside = (
        struct.pack(f"{order}IIII", 6, 8, flags, 0)
        + element(order, 5, struct.pack(f"{order}{len(axes)}i", *axes))
        + element(order, 1, name.encode())
        + element(order, kind, content)
    )
    return struct.pack(f"{order}II", 14, len(inside)) + inside


def file_of(order: str, *matrices: bytes) -> bytes:
    return (
        b"written by hand".ljust(124)
        + struct.pack(f"{order}H", 0x0100)
        + {"<": b"IM", ">": b"MI"}[order]
        + b"".join(matrices)
    )


def deflated(order: str, content: bytes) -> bytes:
    packed = zlib.compress(content)
    return struct.pack(f"{order}II", 15, len(packed)) + packed  # not padded


# Two axes of 2 and 3: 1 2 3 / 4 5 6, column by column.
COLUMNS = bytes([1, 4, 2, 5, 3, 6])


@pytest.mark.parametrize("order", ["<", ">"], ids=["little endian", "big endian"])
@pytest.mark.parametrize("pack", [lambda _, content: content, deflated], ids=["plain", "deflated"])
def test_either_order_of_bytes(file: Path, order: str, pack: Callable[[str, bytes], bytes]) -> None:
    doubles = struct.pack(f"{order}2d", 0.5, -3.0)
    file.write_bytes(
        file_of(
            order,
            pack(order, matrix(order, "other", (9, 9), 2, bytes(81))),
            pack(order, matrix(order, "a", (2, 3), 2, COLUMNS)),
            pack(order, matrix(order, "b", (1, 2), 9, doubles, 6)),
            pack(order, matrix(order, "c", (2, 1), 4, struct.pack(f"{order}2H", 258, 7), 6)),
        )
    )
    found = mat.read(file, {"a": ((2, 3), "u1"), "b": ((1, 2), ""), "c": ((2, 1), "")})
    assert {name: array.tolist() for name, array in found.items()} == {
        "a": [[1, 4], [2, 5], [3, 6]],
        "b": [[0.5], [-3.0]],
        "c": [[258, 7]],
    }


def test_scipy_reads_what_is_written_by_hand(file: Path) -> None:
    """So that the two tests above and below are about MATLAB's format, and not about a misunderstanding of it."""
    file.write_bytes(
        file_of("<", matrix("<", "a", (2, 3), 2, COLUMNS), deflated("<", matrix("<", "b", (1, 6), 2, COLUMNS)))
    )
    loaded = loadmat(file)
    assert loaded["a"].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert loaded["b"].tolist() == [[1, 4, 2, 5, 3, 6]]


DAMAGED = {
    "complex numbers": (matrix("<", "a", (2, 3), 2, COLUMNS, 9 | 0x0800), "no plain numbers"),
    "sparse": (matrix("<", "a", (2, 3), 2, COLUMNS, 5), "no plain numbers"),
    "another type": (matrix("<", "a", (2, 3), 1, COLUMNS), "another type"),
    "an unknown type": (matrix("<", "a", (2, 3), 99, COLUMNS), "another type"),
    "too few bytes": (matrix("<", "a", (2, 3), 2, COLUMNS[:5]), "has 5 bytes, expected 6"),
    "a matrix that ends early": (matrix("<", "a", (2, 3), 2, COLUMNS)[:-6], "ends after"),
    "an endless name": (matrix("<", "a" * 300, (2, 3), 2, COLUMNS), "is damaged"),
    "more after the numbers": (
        deflated("<", matrix("<", "a", (2, 3), 2, COLUMNS) + b"?"),
        "longer than it should be",
    ),
    "a wrong checksum": (deflated("<", matrix("<", "a", (2, 3), 2, COLUMNS))[:-1] + b"?", "cannot read"),
    "compressed data that ends early": (
        struct.pack("<II", 15, 20) + zlib.compress(matrix("<", "a", (2, 3), 2, COLUMNS))[:20],
        "cannot read",
    ),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_matrix_is_refused(file: Path, what: str) -> None:
    content, complaint = DAMAGED[what]
    file.write_bytes(file_of("<", content))
    with pytest.raises(DataError, match=complaint) as caught:
        mat.read(file, {"a": ((2, 3), "u1")})
    assert str(file) in caught.value.message


def test_a_bomb_inflates_no_further_than_expected(file: Path) -> None:
    other = deflated("<", matrix("<", "other", (30_000_000, 1), 2, bytes(30_000_000)))
    longer = deflated("<", matrix("<", "a", (2, 3), 2, COLUMNS) + bytes(30_000_000))
    file.write_bytes(file_of("<", other, longer))
    tracemalloc.start()
    with pytest.raises(DataError, match="longer than it should be"):
        mat.read(file, {"a": ((2, 3), "u1")})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000
