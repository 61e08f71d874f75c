"""Environment variables that torch and the libraries in it read once, when they are loaded.

Invariant: :func:`prepare` runs before torch is imported, whichever part of the package is imported first: the
package's ``__init__`` calls it. Code that torch compiled is loaded only from a folder that no other user can write to.
"""

import atexit
import contextlib
import os
import shutil
import stat
import tempfile
from pathlib import Path

from ddpm_cli import paths
from ddpm_cli.errors import ResourceError

# Iterations that a waiting OpenMP thread spins before it sleeps. libgomp's default is 300,000, which takes
# milliseconds: on a busy machine the threads that compute are denied the processors on which the others spin.
SPINS = "1000"
CHOSEN_WAITING = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
CACHE = "TORCHINDUCTOR_CACHE_DIR"


def prepare() -> None:
    """Set what is not set: how threads wait, where compiled code is kept, what torch's C++ prints. Creates no file.

    Where no data directory can be named, every command ends with that error by itself.

    References:
        GNU libgomp manual, GOMP_SPINCOUNT and OMP_WAIT_POLICY.
    """
    if not any(name in os.environ for name in CHOSEN_WAITING):
        os.environ["GOMP_SPINCOUNT"] = SPINS
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # its warnings go to stderr past Python's
    with contextlib.suppress(ResourceError, OSError):
        os.environ.setdefault(CACHE, str(paths.cache() / "inductor"))


def compiled_code() -> Path:
    """The folder that torch keeps compiled code in."""
    return Path(os.environ[CACHE])


def make_cache() -> None:
    """Create the folder of compiled code, which torch does when an optimizer is made, whether anything is compiled or
    not; where it cannot be created or compilers do not accept its path, use a temporary one for this process."""
    if compilers_accept(compiled_code()) or not compilers_accept(Path(tempfile.gettempdir())):
        with contextlib.suppress(OSError):
            compiled_code().mkdir(mode=0o700, parents=True, exist_ok=True)
            if os.access(compiled_code(), os.W_OK | os.X_OK):
                return
    with contextlib.suppress(OSError):
        os.environ[CACHE] = tempfile.mkdtemp(prefix="ddpm-compiled-")
        atexit.register(shutil.rmtree, os.environ[CACHE], ignore_errors=True)


def compilers_accept(path: Path) -> bool:
    """Whether torch can hand a path to compilers: it splits their command line at spaces, gives quotes a meaning, and
    reads what they print as UTF-8."""
    return all(character.isalnum() or character in f"{os.sep}/:._-+=@,~%" for character in str(path))


def keep_temporary_files_private() -> None:
    """Let torch's temporary files, some of which hold code, lie in the folder of compiled code.

    torch keeps precompiled headers and some caches in the system's temporary folder under a name that anybody can
    guess, whatever ``TORCHINDUCTOR_CACHE_DIR`` is. To be called before torch's compiler is imported.
    """
    folder = compiled_code() / "tmp"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.environ["TMPDIR"], tempfile.tempdir = str(folder), None


def writable_by_others(folder: Path) -> Path | None:
    """The first folder, from ``folder`` up to the root, through which another user could place files in it.

    A folder is safe if this user or the administrator owns it and nobody else can write to it. Above ``folder``, others
    may write where the sticky bit keeps them from renaming what is not theirs, and so may the user's own group.

    Returns:
        None if there is none, or on systems without owners and modes.
    """
    if not hasattr(os, "geteuid"):
        return None
    here = folder.resolve()
    for part in (here, *here.parents):
        about = part.stat()
        others = about.st_mode & stat.S_IWOTH or (
            about.st_mode & stat.S_IWGRP and about.st_gid not in (0, about.st_uid)
        )
        sticky = part != here and about.st_mode & stat.S_ISVTX
        if about.st_uid not in (0, os.geteuid()) or (others and not sticky):
            return part
    return None
