"""Where the files of a known set are: the user's folder, our own, the package, the system, the mirrors.

Invariant: a file is handed on only after its sha256 was compared with the table's. Sets whose files have the same names
(MNIST, Fashion-MNIST, KMNIST) are told apart by it.
"""

import functools
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from ddpm_cli import paths
from ddpm_cli.data import fetch
from ddpm_cli.data.known import KNOWN, KnownSet, SourceFile
from ddpm_cli.errors import PERMISSIONS, DataError, ResourceError


def find(
    known: KnownSet,
    files: tuple[SourceFile, ...],
    *,
    data_dir: Path | None,
    offline: bool,
    say: Callable[[str], None],
    progress: fetch.Progress,
) -> tuple[Path, ...]:
    """Verified copies of these files of a set, each from the first place that has it; fetched where none has.

    Raises:
        DataError: a file is there, but not what its checksum says.
        ResourceError: a file is nowhere, and the network is down or forbidden.
    """
    if data_dir is not None and not any(_first(file, _given(known, data_dir)) for file in files):
        copies = [copy for file in files for copy in _copies(file, _given(known, data_dir))]
        others = ", ".join(dict.fromkeys(name for copy in copies for name in _owners(copy)))
        say(f"no {known.name} in {data_dir}{f', which holds {others}' if others else ''}: looking elsewhere")
    located = {file: locate(known, file, data_dir) for file in files}
    absent = [file for file, path in located.items() if path is None]
    if absent and offline:
        raise ResourceError(
            f"{known.name} is not on this machine and the network is forbidden: {absent[0].name} is missing",
            by_hand(known, files),
        )

    total, before = sum(file.size for file in absent), 0

    def report(done: int, _: int) -> None:
        progress(before + done, total)

    for file, path in located.items():
        if path is not None:
            verify(path, file, known)
            continue
        target = own(known)
        say(f"fetching {file.name} of {known.name} ({file.size / 1e6:.3g} MB) to {target}")
        try:
            located[file] = fetch.fetch(file, known.mirrors, target, report, say)
        except ResourceError as error:
            raise ResourceError(error.message, error.hint or by_hand(known, files)) from error
        before += file.size
    for file, path in located.items():
        if path is not None and path.parent == own(known):
            fetch.tidy(file, path.parent)
    return tuple(path for path in located.values() if path is not None)


def own(known: KnownSet) -> Path:
    """The folder that files of a set are fetched to."""
    return paths.datasets() / known.place


def shipped(known: KnownSet) -> Path:
    """The folder inside the package that holds a set that ships with it."""
    return paths.shipped() / "data" / known.place


def locate(known: KnownSet, file: SourceFile, data_dir: Path | None = None) -> Path | None:
    """The first copy of a file on this machine, gzipped or plain, which may be damaged; None where there is none.

    Files of another set below ``data_dir`` are passed over.
    """
    given = None if data_dir is None else _first(file, _given(known, data_dir))
    system = [] if known.system is None else [known.system]
    return given or next(iter(_copies(file, [own(known), shipped(known), *system])), None)


def verify(path: Path, file: SourceFile, known: KnownSet) -> None:
    """Compares the sha256 of a copy with the table's.

    Args:
        path: the copy.
        file: what it should be.
        known: the set of that file.

    Raises:
        DataError: it differs, or the copy cannot be read.
    """
    expected = file.accepted()[path.name]
    try:
        found = _sha256(path)
        problem = "" if found in expected else _problem(path, file, found, expected[0])
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", PERMISSIONS) from error
    if problem:
        raise DataError(
            f"{path} is damaged or of another data set: {problem}",
            f"Remove it, then fetch it again: ddpm data rm {known.name}"
            if path.parent == own(known)
            else "Delete it or replace it by an intact copy, then run the command again.",
        )


def _problem(path: Path, file: SourceFile, found: str, expected: str) -> str:
    """What a copy is instead."""
    if others := _owners(path):
        return f"it belongs to {', '.join(others)}"
    with path.open("rb") as content:
        begin = content.read(64).lstrip().lower()
    size = path.stat().st_size
    if not size:
        return "it is empty"
    if begin.startswith((b"<!doctype html", b"<html")):
        return "it is a web page"
    if path.name == file.name and size < file.size and not file.packed_otherwise:
        return f"it has {size:,} bytes, expected {file.size:,}"
    return f"it has sha256 {found[:12]}..., expected {expected[:12]}..."


def _owners(path: Path) -> list[str]:
    """The known sets that a file belongs to, by its content; none where it belongs to none or cannot be read."""
    try:
        found = _sha256(path)
    except OSError:
        return []
    return [
        name
        for name, known in KNOWN.items()
        if any(found in sums for file in known.all_files for sums in file.accepted().values())
    ]


def _sha256(path: Path) -> str:
    """Of a file; computed once as long as the file is the same.

    Raises:
        OSError: it cannot be read.
    """
    state = path.stat()
    return _digest(path, state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)


@functools.lru_cache(maxsize=256)
def _digest(path: Path, *_state: int) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def by_hand(known: KnownSet, files: tuple[SourceFile, ...]) -> str:
    """How to place files without a network."""
    names = " and ".join(file.name for file in files)
    package = f", or install {known.package}" if known.package else ""
    return (
        f"Place {names} from {known.mirrors[0]} in {own(known)}, "
        f"or name the folder that holds them with --data-dir{package}."
    )


def _given(known: KnownSet, data_dir: Path) -> list[Path]:
    """The places below ``--data-dir``: DIR/NAME, DIR, and torchvision's layout."""
    return [data_dir / known.name, data_dir / known.place, data_dir, data_dir / known.torchvision]


def _first(file: SourceFile, given: list[Path]) -> Path | None:
    """The first copy of a file that does not belong to another set."""
    return next((path for path in _copies(file, given) if not _is_other(path, file)), None)


def _is_other(path: Path, file: SourceFile) -> bool:
    """Whether a file that has the name of a known one is another known one."""
    return bool(_owners(path)) and _sha256(path) not in file.accepted()[path.name]


def _copies(file: SourceFile, folders: list[Path]) -> list[Path]:
    """The files in these folders that have a name of this one."""
    paths = (folder / name for folder in dict.fromkeys(folders) for name in file.accepted())
    # Unlike pathlib's, no error where a folder may not be looked into.
    return [path for path in paths if os.path.isfile(path)]  # noqa: PTH113
