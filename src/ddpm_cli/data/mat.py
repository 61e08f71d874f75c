"""Arrays of numbers in MATLAB files of version 5 to 7, of which no more is read than was asked for.

A header of 128 bytes, then data elements: a tag of type and length, and the content, padded to 8 bytes. A matrix is
an element of elements: flags, lengths of the axes, name, numbers, first axis fastest; it may be deflated as a whole.
SciPy reads these files too, but can crash the process on a damaged one. Invariant: a file holds the arrays that are
expected, or it is a :class:`~ddpm_cli.errors.DataError`; whatever it announces, only they are allocated.

References:
    MathWorks: MAT-File Format, chapter 1, "Level 5 MAT-File Format".
"""

import io
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.data import streams
from ddpm_cli.errors import DataError

INT8, UINT8, INT32, UINT32, MATRIX, COMPRESSED = 1, 2, 5, 6, 14, 15  # table 1-1: types of data
# Those of numbers, as NumPy calls them.
NUMBERS: Final = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
NUMERIC = range(6, 16)  # table 1-3: classes of arrays that are plain numbers, mxDOUBLE to mxUINT64
COMPLEX = 0x08  # among the flags
SMALL = 256  # bytes: no flags, axes or name of what is expected are longer


def read(path: Path, expected: Mapping[str, tuple[tuple[int, ...], str]]) -> dict[str, NDArray[Any]]:
    """Arrays by name.

    Args:
        path: the file.
        expected: name -> lengths of the axes, and the type as NumPy calls it ("u1"); "" for any number.

    Returns:
        Each array with its axes in reverse order, for the first is the fastest in the file and the last in NumPy.

    Raises:
        DataError: unreadable, or an expected array is missing or something else.
    """
    found: dict[str, NDArray[Any]] = {}
    with streams.readable(path), path.open("rb") as file:
        order = _order(file, path)
        for element in _matrices(file, order):
            matrix = _Matrix(element, order, f"{path}")
            if matrix.name in expected and matrix.name not in found:
                found[matrix.name] = matrix.numbers(*expected[matrix.name])
    for name in expected.keys() - found.keys():
        raise DataError(f"there is no {name} in {path}", streams.INTACT)
    return found


def _order(file: BinaryIO, path: Path) -> str:
    """The order of bytes, as struct calls it, by the end of the header."""
    header = file.read(128)
    order = {b"IM": "<", b"MI": ">"}.get(header[126:])
    if order is None or header[124:126] != struct.pack(f"{order}H", 0x0100):
        raise DataError(f"{path} is no MATLAB file of version 5 to 7", streams.INTACT)
    return order


def _matrices(file: BinaryIO, order: str) -> Iterator[streams.Stream]:
    """The content of each matrix at the top of the file."""
    while head := file.read(8):
        kind, size = struct.unpack(f"{order}II", head)
        start = file.tell()
        content: streams.Stream = _Part(file, size)
        if kind == COMPRESSED:
            content = _Inflated(content)
            kind, _ = struct.unpack(f"{order}II", _take(content, 8, "a matrix"))
        if kind == MATRIX:
            yield content
        file.seek(start + size)


class _Matrix:
    """Flags, axes and name of a matrix, read from its content; then its numbers, if asked for.

    Raises:
        DataError: by all of it, where they are not what a matrix begins with.
    """

    def __init__(self, content: streams.Stream, order: str, where: str) -> None:
        self.content, self.order = content, order
        self.what = f"a matrix in {where}"
        flags = struct.unpack(f"{order}II", self._part(UINT32, 8))
        self.plain = flags[0] & 0xFF in NUMERIC and not flags[0] >> 8 & COMPLEX
        axes = self._part(INT32)
        self.axes = struct.unpack(f"{order}{len(axes) // 4}i", axes)
        self.name = self._part(INT8).decode("ascii")
        self.what = f"{self.name} in {where}"

    def numbers(self, axes: tuple[int, ...], kind: str) -> NDArray[Any]:
        """The real part, which must have these axes and this type."""
        if not self.plain or self.axes != axes:
            found = streams.elements(self.axes) if self.plain else "no plain numbers"
            raise DataError(f"{self.what} has {found} elements, expected {streams.elements(axes)}", streams.INTACT)
        code, size, content = self._tag()
        if code not in NUMBERS or kind not in ("", NUMBERS[code]):
            raise DataError(f"{self.what} is of another type than expected", streams.INTACT)
        array = np.empty(axes[::-1], np.dtype(self.order + NUMBERS[code]))
        if size != array.nbytes:
            raise DataError(f"{self.what} has {size:,} bytes, expected {array.nbytes:,}", streams.INTACT)
        streams.fill(content, array.reshape(-1).view(np.uint8), self.what)
        self._skip(size, content)
        streams.ended(self.content, self.what)  # where zlib compares its checksum
        return array

    def _tag(self) -> tuple[int, int, streams.Stream]:
        """Type and bytes of the next element, and where its content comes from."""
        (word,) = struct.unpack(f"{self.order}I", _take(self.content, 4, self.what))
        following = _take(self.content, 4, self.what)
        if word >> 16:  # up to 4 bytes in the tag itself
            return word & 0xFFFF, word >> 16, io.BytesIO(following[: word >> 16])
        return word, struct.unpack(f"{self.order}I", following)[0], self.content

    def _part(self, kind: int, size: int | None = None) -> bytes:
        """The content of the next element, a short one that must be of this type, and of this size if one is given."""
        found, length, content = self._tag()
        if found != kind or length > SMALL or size not in (None, length):
            raise DataError(f"{self.what} is damaged", streams.INTACT)
        data = _take(content, length, self.what)
        self._skip(length, content)
        return data

    def _skip(self, size: int, content: streams.Stream) -> None:
        """The padding after an element; what is in the tag itself has none."""
        if content is self.content:
            _take(content, -size % 8, self.what)


def _take(stream: streams.Stream, size: int, what: str) -> bytes:
    """Exactly so many bytes."""
    taken = np.empty(size, np.uint8)
    streams.fill(stream, taken, what)
    return taken.tobytes()


class _Part:
    """So many bytes of a stream, which then ends."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self.stream, self.left = stream, size

    def read(self, size: int = 1 << 16, /) -> bytes:
        chunk = self.stream.read(min(size, self.left))
        self.left -= len(chunk)
        return chunk


class _Inflated:
    """What a zlib stream holds, inflated as far as it is read."""

    def __init__(self, packed: streams.Stream) -> None:
        self.packed, self.zlib = packed, zlib.decompressobj()

    def read(self, size: int = 1 << 16, /) -> bytes:
        """At most ``size`` bytes; none at the end.

        Raises:
            EOFError: the stream ends before its end.
            zlib.error: it is damaged.
        """
        while not self.zlib.eof:
            rest = self.zlib.unconsumed_tail or self.packed.read(1 << 14)
            if chunk := self.zlib.decompress(rest, size):
                return chunk
            if not rest:
                raise EOFError("compressed data ends early")
        return b""
