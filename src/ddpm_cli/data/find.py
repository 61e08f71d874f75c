"""Where the files of a known set are: the user's folder, our own, the package, the system, the mirrors.

Invariant: a file is handed on only after its sha256 was compared with the table's.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from ddpm_cli import paths
from ddpm_cli.data import fetch
from ddpm_cli.data.known import KnownSet, SourceFile
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
        say(f"no {known.name} in {data_dir}: looking elsewhere")
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
            verify(path, file, known.name if path.parent == own(known) else "")
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
    """The first copy of a file on this machine, gzipped or plain, not verified; None where there is none."""
    system = [] if known.system is None else [known.system]
    given = [] if data_dir is None else _given(known, data_dir)
    return _first(file, [*given, own(known), shipped(known), *system])


def verify(path: Path, file: SourceFile, fetched: str = "") -> None:
    """Compares the sha256 of a copy with the table's.

    Args:
        path: the copy.
        file: what it should be.
        fetched: the set that it was fetched for, where it was: a damaged copy can be fetched again then.

    Raises:
        DataError: it differs, or the copy cannot be read.
    """
    expected = file.accepted()[path.name]
    try:
        with path.open("rb") as content:
            found = hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", PERMISSIONS) from error
    if found not in expected:
        raise DataError(
            f"{path} has sha256 {found[:12]}..., expected {expected[0][:12]}...: it is damaged or of another data set",
            f"Remove it, then fetch it again: ddpm data rm {fetched}"
            if fetched
            else "Delete it or replace it by an intact copy, then run the command again.",
        )


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


def _first(file: SourceFile, folders: list[Path]) -> Path | None:
    copies = (folder / name for folder in folders for name in file.accepted())
    # Unlike pathlib's, no error where a folder may not be looked into.
    return next((path for path in copies if os.path.isfile(path)), None)  # noqa: PTH113
