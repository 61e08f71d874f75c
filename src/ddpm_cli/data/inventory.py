"""What there is of data sets on this machine, where, how large, and how to be rid of it.

Invariant: only what ``ddpm`` itself fetched or made is ever removed, name by name; nothing in the package, nothing of
the system, nothing below ``--data-dir``, and no file that the table does not know.
"""

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ddpm_cli.data import find, store
from ddpm_cli.data.known import KNOWN, KnownSet, SourceFile
from ddpm_cli.errors import DataError, ResourceError


@dataclass(frozen=True)
class Stock:
    """Where the files of one set are.

    Args:
        known: the set.
        files: each file with its first copy, or None.
        damaged: what is wrong with the copies that are not what their checksums say.
        stores: what was made of them, ready to be mapped.
    """

    known: KnownSet
    files: dict[SourceFile, Path | None]
    damaged: dict[Path, DataError]
    stores: tuple[Path, ...]

    @property
    def missing(self) -> tuple[SourceFile, ...]:
        """The files that are nowhere."""
        return tuple(file for file, path in self.files.items() if path is None)

    @property
    def folders(self) -> tuple[Path, ...]:
        """Those that hold the files: mostly one, none where no file is there."""
        return tuple(dict.fromkeys(path.parent for path in self.files.values() if path is not None))

    @property
    def present(self) -> str:
        """Whether and where the files are: no, damaged, partly, given (below --data-dir), cached, shipped or system."""
        if not self.folders:
            return "no"
        if self.damaged:
            return "damaged"
        if self.missing:
            return "partly"
        ours = {find.own(self.known): "cached", find.shipped(self.known): "shipped"}
        if self.known.system is not None:
            ours[self.known.system] = "system"
        return ours.get(self.folders[0], "given")

    @property
    def bytes(self) -> int:
        """On disk: the files, wherever they are, and the stores."""
        return sum(map(size, [*filter(None, self.files.values()), *self.stores]))


def take(known: KnownSet, data_dir: Path | None = None) -> Stock:
    """What there is of a set; every file is verified."""
    files = {file: find.locate(known, file, data_dir) for file in known.all_files}
    damaged = {}
    for file, path in files.items():
        if path is None:
            continue
        try:
            find.verify(path, file, known)
        except DataError as error:
            damaged[path] = error
    return Stock(known, files, damaged, store.of_known(known.name))


def removable(known: KnownSet) -> tuple[Path, ...]:
    """What :func:`remove` would remove: fetched files, whole or in part, and stores.

    A link that stands for the folder of the set counts, and what it leads to does not.
    """
    folder = find.own(known)
    if folder.is_symlink():
        return (folder, *store.of_known(known.name))
    names = (name for file in known.all_files for name in (*file.accepted(), f"{file.name}.part"))
    return (*(folder / name for name in names if os.path.lexists(folder / name)), *store.of_known(known.name))


def sharing(known: KnownSet) -> tuple[str, ...]:
    """The other sets that would lose their files with this one, for they are read from the same."""
    if not any(find.own(known) in (path, path.parent) for path in removable(known)):
        return ()
    return tuple(name for name, other in KNOWN.items() if other is not known and other.place == known.place)


def remove(known: KnownSet) -> dict[Path, int]:
    """Remove what there is of a set, and the folder if nothing else is in it.

    Returns:
        Each path that is gone, with the bytes it had.

    Raises:
        ResourceError: no permission.
    """
    gone = _unlink(removable(known))
    with contextlib.suppress(OSError):  # it is not there, a link, or holds something else
        find.own(known).rmdir()
    return gone


@dataclass(frozen=True)
class FolderStore:
    """What was made of a folder of images, to read it faster.

    Args:
        path: of the store.
        source: the folder it was made from, printable; None where an earlier version of ddpm made it, which does not
            tell, or where it is damaged. The folder may be gone.
        shape: (N, C, H, W) of its images; None likewise.
        bytes: on disk.
    """

    path: Path
    source: str | None
    shape: tuple[int, int, int, int] | None
    bytes: int


def folders() -> tuple[FolderStore, ...]:
    """The stores of folders of images, one a folder and image size, by their sources."""
    found = []
    for path in store.of_folders():
        source, shape = store.describe(path) or (None, None)
        found.append(FolderStore(path, source, shape, size(path)))
    return tuple(sorted(found, key=lambda kept: (kept.source or "", kept.path)))


def remove_folders(kept: Iterable[FolderStore]) -> dict[Path, int]:
    """Remove stores of folders; the folders themselves are never touched.

    Returns:
        Each path that is gone, with the bytes it had.

    Raises:
        ResourceError: no permission.
    """
    return _unlink(each.path for each in kept)


def _unlink(paths: Iterable[Path]) -> dict[Path, int]:
    gone = {}
    for path in paths:
        gone[path] = size(path)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise ResourceError(
                f"cannot remove {path}: {error.strerror}", "Remove it by hand, or run the command as its owner."
            ) from error
    return gone


def size(path: Path) -> int:
    """Bytes of a file, 0 where it vanished meanwhile; of a link itself, for what it leads to is not ours."""
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0
