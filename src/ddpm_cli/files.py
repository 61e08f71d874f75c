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
    """Write ``data`` to ``path`` as :func:`replacing` does; the old file goes only after the new one was read back.

    Raises:
        ResourceError: the disk is full, no permission, a parent is a file, the path is a folder.
        BrokenPipeError: ``path`` is a pipe whose reader has left.
    """
    with replacing(path) as file:
        file.write(data)
        if file.readable():
            file.flush()
            os.fsync(file.fileno())
            _verify(file, data)


def _verify(file: BinaryIO, data: bytes) -> None:
    """Compare what a file holds, as the system tells it, with what was written.

    Finds what a quota, a network or a file system of its own kind swallowed; not what a disk forgets later.

    Raises:
        OSError: they differ.
    """
    file.seek(0)
    rest = memoryview(data)
    while rest:
        chunk = file.read(min(CHUNK, len(rest)))
        if not chunk or chunk != rest[: len(chunk)]:
            raise OSError(errno.EIO, "what was written does not read back")
        rest = rest[len(chunk) :]


CHUNK = 1 << 20  # bytes


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
            with temporary.open("x+b") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
            _flush_folder(target.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    """Bring a rename to the disk, so that it outlives a power cut; where a system cannot, it comes in its own time."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep a folder to this process while the block runs; it is made where there is none.

    The system lets go of it when the process ends, however it ends, so no lock is ever left behind. Where a system or
    a file system has no such locks, nothing is held.

    Raises:
        ResourceError: another process holds it, or it cannot be made.
    """
    with reported(folder):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with reported(folder):
        handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ResourceError(
                f"another process is at work in {folder}", "Wait until it ends, or stop it; both would lose."
            ) from error
        except OSError:
            pass  # no locks here
        yield
    finally:
        os.close(handle)


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
