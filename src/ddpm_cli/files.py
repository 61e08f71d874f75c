"""Writing a file so that a reader finds the old one or the new one, never a half.

Invariant: whatever goes wrong (a full disk, a kill, a power cut) leaves the old file as it was, and no temporary file
behind unless the process itself was killed; the next process that holds the folder removes that one. Every failure is a
:class:`ResourceError` that names the path.
"""

import contextlib
import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from shlex import quote
from typing import BinaryIO

from ddpm_cli.errors import ResourceError

# What the system said -> (what it means, what to do). Anything else is passed on in the system's own words.
_ELSEWHERE = "choose another place (-o, or DDPM_HOME for what ddpm keeps)"
_REASONS = {
    errno.ENOSPC: ("the disk is full", "free some space, or " + _ELSEWHERE),
    errno.EDQUOT: ("the disk quota is used up", "free some space, or " + _ELSEWHERE),
    errno.EFBIG: ("it would be larger than a file may be here", "raise the limit (ulimit -f), or " + _ELSEWHERE),
    errno.EACCES: ("no permission", _ELSEWHERE),
    errno.EPERM: ("no permission", _ELSEWHERE),
    errno.EROFS: ("the file system is read-only", _ELSEWHERE),
    errno.ENOTDIR: ("a part of that path is a file, not a folder", _ELSEWHERE),
    errno.EEXIST: ("a part of that path is a file, not a folder", _ELSEWHERE),
    errno.EISDIR: ("that is a folder", "name a file inside it"),
    errno.ENOENT: ("its folder is gone", _ELSEWHERE),
    errno.ENAMETOOLONG: ("the name is too long for the file system", "use a shorter name"),
    errno.EMFILE: ("too many files are open", "raise the limit: ulimit -n"),
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
            _make_folder(target.parent)
            with temporary.open("x+b") as file:
                _lock(file.fileno())  # so that :func:`held` knows it from one whose process was killed
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
            _flush_folder(target.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


class NoLocks(Exception):
    """The system, or the file system, has no locks."""


@contextlib.contextmanager
def continuing(path: Path, part: Path) -> Iterator[BinaryIO]:
    """As :func:`replacing`, but with a temporary file that outlives a failure, so that the next process continues it.

    Args:
        path: of the file.
        part: of the temporary file, in the same folder; it is removed if the block fails and nothing is in it.

    Yields:
        The temporary file with what earlier processes wrote, unbuffered, for this process alone.

    Raises:
        BlockingIOError: another process writes into it.
        NoLocks: whether another process does, cannot be known here.
        ResourceError: the disk is full, no permission, ``part`` was removed meanwhile.
    """
    with reported(part):
        _make_folder(part.parent)
        file = part.open("a+b", buffering=0)
    with file:
        lock = _lock(file.fileno())
        if lock is None:
            _remove_if_empty(file, part)
            raise NoLocks
        if not lock or not _is_at(file, part):  # or it became ``path``, or was removed, while it was opened
            raise BlockingIOError
        try:
            with reported(part):
                yield file
                os.fsync(file.fileno())
                if not _is_at(file, part):
                    raise FileNotFoundError(errno.ENOENT, "it was removed meanwhile")
                part.replace(path)
                _flush_folder(path.parent)
        finally:
            _remove_if_empty(file, part)


def _is_at(file: BinaryIO, path: Path) -> bool:
    """Whether an open file is the one that has this path."""
    with contextlib.suppress(OSError):
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    return False


def _remove_if_empty(file: BinaryIO, path: Path) -> None:
    with contextlib.suppress(OSError):
        if not os.fstat(file.fileno()).st_size and _is_at(file, path):
            path.unlink()


def append_line(path: Path, line: str) -> None:
    """Add a line of UTF-8 to the end of a file, the whole of it or nothing; made where there is none.

    Half a line, which a killed process or a full disk has left at the end, is cut off first. A file that has further
    names (hard links) is copied first, so that what these name stays as it is.

    Args:
        path: of the file.
        line: without its end.

    Raises:
        ResourceError: the disk is full, no permission, the folder is gone.
    """
    with reported(path), contextlib.suppress(FileNotFoundError):
        if path.stat().st_nlink > 1 and path.is_file():
            write_bytes(path, path.read_bytes())
    with reported(path), path.open("a+b", buffering=0) as file:
        end = _end_of_lines(file) if file.seekable() else 0
        if file.seekable() and end != file.seek(0, os.SEEK_END):
            file.truncate(end)
        rest = memoryview(f"{line}\n".encode())
        try:
            while rest:
                rest = rest[file.write(rest) :]
        except BaseException:
            with contextlib.suppress(OSError):
                file.truncate(end)
            raise


def flush(path: Path) -> None:
    """Bring what was appended to a file to the disk, so that it outlives a power cut; nothing where there is none.

    Raises:
        ResourceError: the disk is full, no permission.
    """
    with reported(path), contextlib.suppress(FileNotFoundError), path.open("r+b") as file:
        os.fsync(file.fileno())


def _end_of_lines(file: BinaryIO) -> int:
    """Where the last whole line of a file ends, in bytes from its beginning."""
    end = file.seek(0, os.SEEK_END)
    while end:
        begin = max(0, end - LINE)
        file.seek(begin)
        newline = file.read(end - begin).rfind(b"\n")
        if newline >= 0:
            return begin + newline + 1
        end = begin
    return 0


LINE = 4096  # bytes to look for the end of a line in


def _make_folder(folder: Path) -> None:
    """Make a folder and its parents, and bring their names to the disk.

    Raises:
        FileNotFoundError: one of them is held by this process and gone.
    """
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    if any(each.absolute() in _held.values() for each in missing):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    for made in reversed(missing or [folder]):
        made.mkdir(exist_ok=True)
    for made in missing:
        _flush_folder(made.parent)


def _flush_folder(folder: Path) -> None:
    """Bring a rename to the disk, so that it outlives a power cut; where a system cannot, it comes in its own time."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


# --- a folder for one process alone ---

_held: dict[int, Path] = {}  # of this process: handle -> folder


@contextlib.contextmanager
def held(folder: Path, make: bool = True) -> Iterator[None]:
    """Keep a folder to this process while the block runs.

    The system lets go of it when the process ends, however it ends, so no lock is ever left behind: a file that looks
    like one means nothing. Processes forked meanwhile hold nothing. Where a system or a file system has no such locks,
    nothing is held. Files that killed processes left half-written in the folder, or right below it, are removed.

    While it is held, writing into it is refused if another folder, or none, has come to be at its place, and wherever
    it would go through a link.

    Args:
        folder: the folder.
        make: whether to create it if it does not exist.

    Raises:
        ResourceError: another process holds it, it cannot be made, or it is not to be made and does not exist.
    """
    if make:
        with reported(folder):
            _make_folder(folder)
    if os.name == "nt":  # a folder cannot be opened there
        yield
        return
    with reported(folder):
        handle = os.open(folder, os.O_RDONLY)
    _held[handle] = folder.absolute()
    try:
        if _lock(handle) is False:
            raise ResourceError(
                f"another process is at work in {folder}", "Wait until it ends, or stop it; both would lose."
            )
        _sweep(folder)
        yield
    finally:
        if _held.pop(handle, None):  # it is gone in a forked process
            os.close(handle)


def _let_go() -> None:
    """In a forked process: close what its parent holds, or the lock would live as long as the last of the family."""
    for handle in _held:
        with contextlib.suppress(OSError):
            os.close(handle)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


def _lock(handle: int) -> bool | None:
    """Lock an open file or folder until it is closed; False: another process has it; None: there are no locks here."""
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        return None
    return True


TEMPORARY = f".{'[0-9a-f]' * 16}.tmp"  # as replacing() names them


def _sweep(folder: Path) -> None:
    """Remove temporary files whose processes are gone, in a folder and in those right below it; links are not
    followed."""
    below = [each for each in folder.glob("*/") if not each.is_symlink()]
    remove_abandoned(path for each in (folder, *below) for path in each.glob(TEMPORARY))


def remove_abandoned(temporaries: Iterable[Path]) -> None:
    """Remove those temporary files whose processes are gone; links are not followed."""
    for path in temporaries:
        if path.is_symlink():
            continue
        with contextlib.suppress(OSError), path.open("r+b") as file:
            if _lock(file.fileno()):
                path.unlink()


REMOVED = f".{'[0-9a-f]' * 16}.removed"  # as remove_folder() names what it removes


def remove_folder(path: Path) -> None:
    """Remove a folder with all that is in it, so that at its place there is the whole of it or nothing.

    It is moved aside first, under a name that :data:`REMOVED` matches. Where the process is killed before everything is
    deleted, :func:`clear_removed` deletes the rest. Links in it are removed, and not followed.

    Raises:
        OSError: the system refuses; nothing was removed.
        ResourceError: another process holds it, or a part of it that was moved aside could not be deleted.
    """
    with held(path, make=False):
        for parent, folders, names in os.walk(path, onerror=_raise):
            if (folders or names) and not os.access(parent, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        aside = path.rename(path.with_name(f".{secrets.token_hex(8)}.removed"))
        _flush_folder(path.parent)
        try:
            shutil.rmtree(aside)
        except OSError as error:
            raise ResourceError(
                f"{path} was removed, but not all of it could be deleted: {(error.strerror or str(error)).lower()}",
                f"Delete the rest: {aside}",
            ) from error


def _raise(error: OSError) -> None:
    raise error


def clear_removed(parent: Path) -> None:
    """Delete what interrupted removals have left in a folder, as far as the system permits."""
    with contextlib.suppress(OSError):
        for path in (each for each in parent.glob(REMOVED) if not each.is_symlink()):
            # Whoever is removing it still holds it.
            with contextlib.suppress(OSError, ResourceError), held(path, make=False):
                shutil.rmtree(path, ignore_errors=True)


def _check_held(path: Path) -> None:
    """Refuse to write into a folder that took the place of one that is held, and through a link in one that is.

    Raises:
        ResourceError: a folder that is held was moved or deleted, or the path leads out of it.
    """
    for handle, folder in _held.items():
        between = [path.absolute(), *path.absolute().parents]
        if folder not in between:
            continue
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            if os.path.samestat(os.fstat(handle), folder.stat()):
                for part in between[: between.index(folder)]:
                    _check_own(part)
                continue
        raise ResourceError(
            f"cannot write {path}: its folder was moved or deleted meanwhile",
            "What was saved before is in the folder, wherever it is now.",
        )


def _check_own(path: Path) -> None:
    """Refuse a path in a folder that is held unless a regular file, a folder or nothing is there.

    Raises:
        ResourceError: it is a link, a pipe or a device.
    """
    if not is_own(path):
        raise ResourceError(
            f"cannot write {path}: it is a link, a pipe or a device", "Replace it with a regular file or folder."
        )


def is_own(path: Path) -> bool:
    """Whether what is at a path is a regular file, a folder, or nothing: no link, no pipe, no device."""
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return True
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def check_place(path: Path, may_be_folder: bool = False) -> None:
    """Refuse, before long work, a path that could not be written after it.

    Raises:
        ResourceError: a part of the path is a file, the path is a folder where a file is wanted, or the folder it would
            go to does not let itself be written to.
    """
    with reported(path):
        place = path.absolute()
        folder = next((parent for parent in place.parents if parent.exists()), place)  # the root has no parent
        if path.is_dir() and not may_be_folder:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not os.access(folder, os.W_OK) and not (path.exists() and os.access(path, os.W_OK)):
            reason = errno.EROFS if _is_read_only(folder) else errno.EACCES
            raise OSError(reason, os.strerror(reason))


def _is_read_only(folder: Path) -> bool:
    """Whether the file system of a folder is, as far as the system tells."""
    return hasattr(os, "statvfs") and bool(os.statvfs(folder).f_flag & os.ST_RDONLY)


@contextlib.contextmanager
def reported(path: Path) -> Iterator[None]:
    """Turn what the system says about writing ``path`` into a :class:`ResourceError`; a broken pipe passes."""
    _check_held(path)
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        reason, hint = _REASONS.get(error.errno or 0, (str(error.strerror or error).lower(), _ELSEWHERE))
        raise ResourceError(f"cannot write {path}: {reason}", f"{hint[0].upper()}{hint[1:]}.") from error


def system_error(error: OSError) -> ResourceError:
    """Describe an error of the operating system that no code closer to its cause has described.

    Args:
        error: with an ``errno``; whether a file was read or written is not known.
    """
    missing = error.errno == errno.ENOENT
    if error.filename is None:
        return ResourceError(f"the operating system reports: {str(error.strerror).lower()}", TRACE)
    name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else str(error.filename)
    unknown = (str(error.strerror).lower(), "")
    reason, hint = ("it does not exist", "") if missing else _REASONS.get(error.errno or 0, unknown)
    if hint in ("", _ELSEWHERE):
        hint = f"check the path and its permissions: ls -ld {quote(name)}"
    return ResourceError(f"cannot use {name}: {reason}", f"{hint[0].upper()}{hint[1:]}")


TRACE = "For where it happened: DDPM_DEBUG=1 ddpm ..."


def check_current_folder() -> None:
    """Refuse to work in a folder that was deleted: relative paths mean nothing there, and MKL ends the process.

    Raises:
        ResourceError: it was.
    """
    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise ResourceError("the current folder no longer exists", "Change to a folder that exists: cd ~") from error
