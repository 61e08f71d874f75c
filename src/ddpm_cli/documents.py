"""JSON from files that anybody may have written.

Invariant: reading ends, soon and in little memory, with a value that everything after it can walk through, or with one
of two exceptions; a pipe is not waited for, and a device not read to its end.
"""

import errno
import json
import math
import os
import select
import stat
import time
from pathlib import Path
from typing import Any, BinaryIO

from ddpm_cli import ranges

LARGEST = 16 * 2**20  # bytes
PATIENCE = 10.0  # seconds that a pipe named as a file has to deliver its text
DEEPEST = 50  # lists and objects in one another; what ddpm writes has six, and Python walks through a thousand


def read(path: Path, largest: int = LARGEST) -> Any:
    """The value in a JSON file.

    Args:
        path: the file.
        largest: bytes beyond which it is not read.

    Raises:
        OSError: missing, not a regular file, or the system refuses.
        ValueError: too large, not JSON, or too deeply nested.
    """
    size = size_of(path)
    if size > largest:
        raise ValueError(f"{size:,} bytes, and {largest:,} are read at most")
    with path.open("rb") as file:
        return parse(file.read(largest))


def parse(text: str | bytes) -> Any:
    """The value of a JSON document, as :func:`json.loads` understands it.

    Raises:
        ValueError: not JSON, too deeply nested, or with a number beyond 64 bits or the range of floats.
    """
    try:
        value = json.loads(text, parse_int=_whole, parse_float=_real)
    except RecursionError as error:
        raise ValueError("too deeply nested") from error
    level = [value]
    for _ in range(DEEPEST):
        level = [item for node in level for item in _inside(node)]
        if not level:
            return value
    raise ValueError("too deeply nested")


def _whole(text: str) -> int:
    """A whole number of a document, in a signed number of 64 bits."""
    if len(text) > len(str(-ranges.LARGEST)) or abs(number := int(text)) > ranges.LARGEST:
        raise ValueError(f"{text[:20]}... is beyond 64 bits")
    return number


def _real(text: str) -> float:
    """A decimal number of a document."""
    if math.isinf(number := float(text)):
        raise ValueError(f"{text[:20]} is beyond the range of floats")
    return number


def _inside(node: object) -> list[Any]:
    """The lists and objects directly inside a value."""
    values = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return [value for value in values if isinstance(value, dict | list)]


def text(path: Path, largest: int = LARGEST) -> str:
    """The text of a file that was named to be read: what a shell hands over as a pipe too.

    Args:
        path: the file.
        largest: bytes beyond which it is not read.

    Raises:
        OSError: missing, or the system refuses.
        ValueError: too large, or not UTF-8.
    """
    with open(path, "rb", opener=_without_waiting) as file:  # pathlib has no opener
        found = file.read(largest + 1) if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else _waited(file, largest + 1)
    if len(found) > largest:
        raise ValueError(f"more than {largest:,} bytes")
    return found.decode("utf-8-sig")  # spreadsheets begin with a mark


def _without_waiting(path: str, flags: int) -> int:
    """Open a file; a pipe that no process writes to is opened too, and not waited for."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _waited(file: BinaryIO, most: int) -> bytes:
    """What comes out of a pipe or a device until it ends.

    Raises:
        ValueError: nothing came, or not the end, within :data:`PATIENCE` seconds.
    """
    found, until = bytearray(), time.monotonic() + PATIENCE
    while len(found) < most:
        left = until - time.monotonic()
        if left <= 0 or not select.select([file], [], [], left)[0]:
            raise ValueError(f"it is a pipe, and did not end within {PATIENCE:g} seconds")
        try:
            part = os.read(file.fileno(), min(most - len(found), 1 << 16))
        except BlockingIOError:
            continue
        if not part:
            break
        found += part
    return bytes(found)


def size_of(path: Path) -> int:
    """The size in bytes of a regular file, or of what a link leads to.

    Raises:
        OSError: missing, or a folder, a pipe or a device.
    """
    found = path.stat()
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is a pipe or a device, not a file")
    return found.st_size
