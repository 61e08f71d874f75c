"""Writing a file so that a reader finds the old one or the new one, never a half.

Invariant: whatever goes wrong (a full disk, a kill, a power cut) leaves the old file as it was, and no temporary file
behind unless the process itself was killed. Every failure is a :class:`ResourceError` that names the path.
"""

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ddpm_cli.errors import ResourceError

# What the system said -> (what it means, what to do). Anything else is passed on in the system's own words.
_ELSEWHERE = "choose another place (-o, or DDPM_HOME for what ddpm keeps)"
_REASONS = {
    errno.ENOSPC: ("the disk is full", "free some space, or " + _ELSEWHERE),
    errno.EDQUOT: ("the disk quota is used up", "free some space, or " + _ELSEWHERE),
    errno.EACCES: ("no permission", _ELSEWHERE),
    errno.EPERM: ("no permission", _ELSEWHERE),
    errno.EROFS: ("the file system is read-only", _ELSEWHERE),
    errno.ENOTDIR: ("a part of that path is a file, not a folder", _ELSEWHERE),
    errno.EEXIST: ("a part of that path is a file, not a folder", _ELSEWHERE),
    errno.EISDIR: ("that is a folder", "name a file inside it"),
}


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` as :func:`replacing` does.

    Raises:
        ResourceError: the disk is full, no permission, a parent is a file, the path is a folder.
        BrokenPipeError: ``path`` is a pipe whose reader has left.
    """
    with replacing(path) as file:
        file.write(data)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write into that becomes ``path`` when the block ends, atomically, and nothing when it fails.

    A temporary name in the same folder, flush, fsync, rename. Missing parents are created, an existing file is
    replaced, permissions are what the umask gives, a symbolic link is written through. A device or a pipe
    (``/dev/null``, ``/dev/stdout``) is written to: a rename would destroy it.

    Raises:
        ResourceError: the disk is full, no permission, a parent is a file, the path is a folder.
        BrokenPipeError: ``path`` is a pipe whose reader has left.
    """
    target = Path(os.path.realpath(path))
    # Random, so that two processes never share it; short, because the real name may fill the 255 bytes there are.
    temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with reported(path):
            if path.exists() and not path.is_file() and not path.is_dir():
                with path.open("wb") as file:
                    yield file
                return
            target.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def check_place(path: Path, may_be_folder: bool = False) -> None:
    """Refuse, before long work, a path that could not be written after it.

    Raises:
        ResourceError: a part of the path is a file, the path is a folder where a file is wanted, or the folder it would
            go to does not let itself be written to.
    """
    with reported(path):
        folder = next(parent for parent in path.absolute().parents if parent.exists())
        if path.is_dir() and not may_be_folder:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not os.access(folder, os.W_OK) and not (path.exists() and os.access(path, os.W_OK)):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


@contextlib.contextmanager
def reported(path: Path) -> Iterator[None]:
    """Turn what the system says about writing ``path`` into a :class:`ResourceError`; a broken pipe passes."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        reason, hint = _REASONS.get(error.errno or 0, (str(error.strerror or error).lower(), _ELSEWHERE))
        raise ResourceError(f"cannot write {path}: {reason}", hint) from error
