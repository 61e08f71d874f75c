"""JSON from files that anybody may have written.

Invariant: reading ends, soon and in little memory, with a value that everything after it can walk through, or with one
of two exceptions; a pipe is not waited for, and a device not read to its end.
"""

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

LARGEST = 16 * 2**20  # bytes
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
        ValueError: not JSON, or too deeply nested.
    """
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError("too deeply nested") from error
    level = [value]
    for _ in range(DEEPEST):
        level = [item for node in level for item in _inside(node)]
        if not level:
            return value
    raise ValueError("too deeply nested")


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
    with path.open("rb") as file:
        found = file.read(largest + 1)
    if len(found) > largest:
        raise ValueError(f"more than {largest:,} bytes")
    return found.decode("utf-8-sig")  # spreadsheets begin with a mark


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
