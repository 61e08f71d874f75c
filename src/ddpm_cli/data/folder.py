"""A folder of images as a data set.

Invariant: the same files give the same set, in the order of their paths; what is left out of it changes it as if it
had never been there. Hidden files and folders (a leading dot, as the ``._x.jpg`` of macOS) and those that systems keep
for themselves are no images; every real folder is read once, so that links cannot run in circles.
"""

import hashlib
import os
import re
import stat
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.config import OnBadImage
from ddpm_cli.data import store
from ddpm_cli.data.fetch import Progress
from ddpm_cli.data.imagefile import IN_A_FOLDER, Look, UnreadableImage, look_at, read_image
from ddpm_cli.data.imageset import ImageSet, LeftOut
from ddpm_cli.data.resize import to_square
from ddpm_cli.errors import PERMISSIONS, DataError
from ddpm_cli.printable import printable

SUFFIXES = set(
    ".png .apng .jpg .jpeg .jpe .jfif .bmp .gif .webp .tif .tiff .ppm .pgm".split()  # noqa: SIM905  # shorter
)
# Of images that are not read: they are named, or they would be missed only much later.
UNREAD = set(
    ".avif .avifs .heic .heif .jxl .jp2 .j2k .svg .tga .ico .psd .pbm .pnm .dib .exr .hdr .dng .cr2 .cr3 .nef .arw"  # noqa: SIM905
    " .orf .rw2 .raf .dcm .nii".split()
)
LARGEST = 64  # pixels: what a small U-Net on a CPU can still learn
DARK = 16  # of 255: what 12 of 16 bits reach, rounded up
NAMED = 3  # of the images that are left out, in the note on them
# Folders of operating systems, network storage and programs, in lower case; any that are hidden do not count anyway.
OF_SYSTEMS = re.compile(
    r"[$]recycle\.bin|recycle[dr]|system volume information|found\.\d{3}|msocache|config\.msi"  # Windows
    r"|__macosx|network trash folder|temporary items"  # macOS
    r"|lost\+found|lost\.dir|__pycache__"  # Linux, Android, Python
    r"|@eadir|@tmp|@recycle|@recently-snapshot|@__thumb|#recycle|#snapshot|~snapshot"  # Synology, QNAP, NetApp
)
# What the folder of a split is called, without words that say nothing: train, training_set, Train-Images, val2017.
SPLITS = {
    "train": ("train", "training"),
    "test": ("test", "testing"),
    "validation": ("val", "valid", "validation", "dev", "eval", "evaluation"),
}
NO_SPLIT = ("set", "data", "dataset", "images", "imgs", "split")


class Entry(NamedTuple):
    """What a folder tells of a file without reading it; or why it tells nothing.

    Attributes:
        size: bytes.
        time: of the last change of its content, which may be set to any value.
        changed: of the last change of anything about it, which may not.
        number: of its inode, by which two files that exchanged their names differ.
        mode: type and permissions.
        problem: why it cannot be read; empty if it perhaps can.
    """

    size: int = 0
    time: int = 0
    changed: int = 0
    number: int = 0
    mode: int = 0
    problem: str = ""


def load(
    name: str,
    *,
    split: str,
    image_size: int | None,
    on_bad_image: OnBadImage,
    accept: Callable[[tuple[int, int, int]], object],
    say: Callable[[str], None],
    progress: Progress,
) -> ImageSet:
    """The images below a folder, from the store if neither they nor ``image_size`` changed.

    A folder that holds folders of splits is read below the one that ``split`` names; any other has no splits and is
    always read whole. Two or more sub-folders with images, and no image beside them, are classes.

    Raises:
        DataError: no folder, no images, or one that cannot be read and is not to be left out.
        ResourceError: resizing needs torchvision, which cannot be imported; or there is no room for so many images.
    """
    root = place(name)
    if not is_folder(root):
        raise DataError(
            f"{name} is not a folder" if os.path.lexists(root) else f"there is no folder {name}",
            "A folder of images was expected; known data sets are named without a path: --dataset mnist.",
        )
    title, found = printable(root.name), splits(root)
    if found:
        if split not in found:
            raise DataError(
                f"{printable(str(root))} has no folder of {split} images", f"Expected: {' or '.join(SPLITS[split])}."
            )
        if found[split].name != split:
            say(f"{split} images: {printable(str(found[split]))}")
        root = found[split]
    elif split == "test":
        say(f"{name} has no folders train and test: all its images are used")

    files, barren, unread = scan(root)
    kinds = ", ".join(f"{count:,} {suffix}" for suffix, count in sorted(unread.items()))
    if not files:
        more = f"; images of other kinds are not read: {kinds}" if unread else ""
        hint = f"Looked for {' '.join(sorted(SUFFIXES))}, in sub-folders too."
        raise DataError(f"there is no image in {root}{more}", hint)
    if unread:
        say(f"warning: images of these kinds are not read: {kinds}")
    digest = hashlib.sha256(repr((store.FORMAT, image_size)).encode())
    for file, entry in files.items():
        digest.update(os.fsencode(file) + f"\0{entry}\0".encode())
    stem = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]
    stem = f"folder-{stem}" + (f"-{image_size}" if image_size else "")

    def read(key: str) -> ImageSet:
        reading = _Reading(title, root, files, image_size, on_bad_image, accept, say, progress)
        return store.cached(stem, key, reading.into, say)

    images = read(digest.hexdigest())
    if images.left_out and on_bad_image == "stop":  # kept by a run that was to skip
        _refuse(root, files, images.left_out)
        images = read(f"{digest.hexdigest()} again")  # they can be read by now
    if images.left_out:
        say(_told(images.left_out, len(files)))
    unreadable = {bad.path for bad in images.left_out}
    left = _tops([file for file in files if printable(file) not in unreadable])
    lost = sorted({*barren, *_tops(files)}.difference(left))
    if lost and all(os.sep in file for file in files):
        say(_told_classes(lost, len(left)))
    return images


def place(name: str) -> Path:
    """Where a folder is that was named so."""
    # Not those of pathlib: expanduser raises on ~unknown there, and absolute keeps "..", which is no title.
    return Path(os.path.abspath(os.path.expanduser(name)))  # noqa: PTH100, PTH111


def splits(root: Path) -> dict[str, Path]:
    """The folders of the training and the test images below a folder, by "train" and "test".

    Folders of two kinds at least must be there: training, test or validation images. Where there are no test images,
    those for validation take their place. Empty: the folder is read whole.

    Raises:
        DataError: two folders are called as one split is.
    """
    found: dict[str, list[Path]] = {}
    try:
        below = sorted(root.iterdir())
    except OSError:
        return {}
    for path in below:
        kind = _split_of(path.name)
        if kind and is_folder(path):
            found.setdefault(kind, []).append(path)
    if len(found) < 2:
        return {}
    chosen = {"train": found.get("train"), "test": found.get("test") or found["validation"]}
    for paths in filter(None, chosen.values()):
        if len(paths) > 1:
            names = " and ".join(printable(path.name) for path in paths)
            raise DataError(
                f"{printable(str(root))} holds {names}, which name the same split", "Rename or move all but one."
            )
    return {split: paths[0] for split, paths in chosen.items() if paths}


def _split_of(name: str) -> str | None:
    """The kind of images that a folder of this name holds; None for any other name."""
    words = [word for word in re.split(r"[\W\d_]+", name.lower()) if word and word not in NO_SPLIT]
    if len(words) != 1:
        return None
    return next((kind for kind, names in SPLITS.items() if words[0].removesuffix("set") in names), None)


def is_folder(path: str | Path) -> bool:
    """Whether there is a folder that can be seen; unlike pathlib's, never an OSError or a ValueError."""
    return os.path.isdir(path)  # noqa: PTH112


def scan(root: Path) -> tuple[dict[str, Entry], list[str], Counter[str]]:
    """The image files below ``root`` by their paths relative to it, in the order of these; its immediate sub-folders
    without any, printable; and how many files have suffixes of images that are not read.

    A folder below that cannot be looked into counts as a file that cannot be read; its path ends with the separator.

    Raises:
        DataError: ``root`` cannot be looked into.
    """
    files: dict[str, Entry] = {}
    tops: set[str] = set()
    unread: Counter[str] = Counter()
    seen = set()
    folders = [""]
    while folders:
        folder = folders.pop()
        try:
            status = os.stat(root / folder)  # noqa: PTH116
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(root / folder) as entries:
                visible = sorted(filter(_is_visible, entries), key=lambda entry: entry.name)
        except OSError as error:
            if not folder:
                raise DataError(f"cannot read {printable(str(root))}: {error.strerror}", PERMISSIONS) from error
            files[folder] = Entry(problem=error.strerror or "")
            continue
        below = []
        for entry in visible:
            if _leads_to_folder(entry):
                below.append(f"{folder}{entry.name}{os.sep}")
            elif (suffix := os.path.splitext(entry.name)[1].lower()) in SUFFIXES:  # noqa: PTH122  # pathlib is slower
                files[folder + entry.name] = _entry(entry)
            elif suffix in UNREAD:
                unread[suffix] += 1
            elif not folder and _is_broken_link(entry):
                tops.add(printable(entry.name))
        folders += reversed(below)
        if not folder:
            tops |= {printable(each.removesuffix(os.sep)) for each in below}
    # By parts: a/b before a-b.
    files = {file: files[file] for file in sorted(files, key=lambda file: file.replace(os.sep, "\0"))}
    return files, sorted(tops.difference(_tops(files))), unread


def _is_visible(entry: "os.DirEntry[str]") -> bool:
    return entry.name[0] != "." and not OF_SYSTEMS.fullmatch(entry.name.lower())


def _is_broken_link(entry: "os.DirEntry[str]") -> bool:
    return entry.is_symlink() and not os.path.exists(entry.path)  # noqa: PTH110


def _leads_to_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _entry(entry: "os.DirEntry[str]") -> Entry:
    try:
        status = entry.stat()
    except OSError as error:
        return Entry(problem=error.strerror or "it cannot be looked at")
    problem = "" if stat.S_ISREG(status.st_mode) else "not a regular file"
    return Entry(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_mode, problem)


def _refuse(root: Path, files: dict[str, Entry], left_out: Sequence[LeftOut]) -> None:
    """Raise the error of the first file of which a store says that it could not be read; return if it now can.

    Raises:
        UnreadableImage: it still cannot.
    """
    first = next((file for file in files if printable(file) == left_out[0].path), None)
    if first is None:
        return
    try:
        if files[first].problem:
            raise UnreadableImage(printable(str(root / first)), files[first].problem, IN_A_FOLDER)
        read_image(root / first)
    except UnreadableImage as error:
        raise _with_others(error, len(left_out) - 1) from error


def _with_others(error: UnreadableImage, others: int) -> DataError:
    """An error that also counts the other images that cannot be read, where some are known."""
    if not others:
        return error
    return DataError(
        f"{error.message}; nor can {others:,} other{'s' if others > 1 else ''} in the folder, at least", error.hint
    )


def _told(left_out: Sequence[LeftOut], count: int) -> str:
    """The note on what was left out: how many, and the first few by name."""
    named = ", ".join(f"{bad.path} ({bad.reason})" for bad in left_out[:NAMED])
    more = f" and {len(left_out) - NAMED:,} more" if len(left_out) > NAMED else ""
    verb = "cannot be read and is left out" if len(left_out) == 1 else "cannot be read and are left out"
    return f"{len(left_out):,} of {count:,} images {verb}: {named}{more}"


def _told_classes(lost: Sequence[str], left: int) -> str:
    """The note on sub-folders that are no classes, because they hold no image that can be read."""
    named = ", ".join(lost[:NAMED]) + (f" and {len(lost) - NAMED:,} more" if len(lost) > NAMED else "")
    so = f"{left} classes are left" if left > 1 else "only one folder has images, so there are no classes"
    return f"warning: no image in {named}: {so}"


class _Reading:
    """Reads the images of a folder: first the headers, which decide on channels and size, then the pixels.

    One image at a time is in memory. What turns out to be unreadable only when its pixels are read may have had a say
    in the decision; then they are read once more without it.
    """

    def __init__(
        self,
        title: str,
        root: Path,
        files: dict[str, Entry],
        image_size: int | None,
        on_bad_image: OnBadImage,
        accept: Callable[[tuple[int, int, int]], object],
        say: Callable[[str], None],
        progress: Progress,
    ) -> None:
        self.title, self.root, self.files, self.image_size = title, root, files, image_size
        self.skip, self.accept, self.say, self.progress = on_bad_image == "skip", accept, say, progress
        self.problems: dict[str, str] = {}
        self.looks: dict[str, Look] = {}
        self.brightest = 0  # of what has 16 bits

    def into(self, sink: store.Sink) -> store.About:
        """Reads everything into a sink.

        Raises:
            DataError: an image cannot be read, and is not to be left out; or none can.
        """
        self.problems = {file: entry.problem for file, entry in self.files.items() if entry.problem}
        self._look_at_all()
        shape = None
        while shape != (decided := self._decide()):
            shape = decided
            self.accept(shape)
            self._read_all(sink, shape)
        if not self.image_size:
            self._tell_size(shape)
        if any(look.deep for look in self.looks.values()) and self.brightest <= DARK:
            self.say("warning: the 16-bit images use at most 12 bits and are almost black: multiply their values by 16")
        labels, classes = _label(self.looks)
        left_out = tuple(LeftOut(printable(file), self.problems[file]) for file in self.files if file in self.problems)
        return store.About(self.title, labels, classes, left_out, printable(str(self.root)))

    def _look_at_all(self) -> None:
        shared: dict[Look, Look] = {}  # a million images of one size are one object
        for file in self.files:
            if file in self.problems:
                continue
            try:
                look = look_at(self.root / file)
                self.looks[file] = shared.setdefault(look, look)
            except UnreadableImage as error:
                self.problems[file] = error.reason
        if self.problems and not self.skip:
            first = next(file for file in self.files if file in self.problems)
            bad = UnreadableImage(printable(str(self.root / first)), self.problems[first], IN_A_FOLDER)
            raise _with_others(bad, len(self.problems) - 1)

    def _decide(self) -> tuple[int, int, int]:
        """Channels, height and width of the set, from what can be read."""
        if not self.looks:
            file, reason = next((file, self.problems[file]) for file in self.files if file in self.problems)
            raise DataError(
                f"none of the {len(self.files):,} images in {printable(str(self.root))} can be read: "
                f"{printable(file)} ({reason})",
                "Name a folder with images.",
            )
        channels = 3 if any(look.colour for look in self.looks.values()) else 1
        if self.image_size:
            return channels, self.image_size, self.image_size
        return channels, *_common_size(self._sizes())

    def _sizes(self) -> Counter[tuple[int, int]]:
        return Counter((look.height, look.width) for look in self.looks.values())

    def _tell_size(self, shape: tuple[int, int, int]) -> None:
        if (sizes := len(self._sizes())) > 1:
            self.say(f"the images are of {sizes} sizes: all become {shape[1]} x {shape[2]} (--image-size changes that)")

    def _read_all(self, sink: store.Sink, shape: tuple[int, int, int]) -> None:
        """One pass over the pixels of what can still be read."""
        sink.start((len(self.looks), *shape), _label(self.looks)[1] or _tops(self.looks))
        total, done = sum(self.files[file].size for file in self.looks), 0
        for file in list(self.looks):
            try:
                pixels = read_image(self.root / file)
                if self.looks[file].deep:
                    self.brightest = max(self.brightest, int(pixels.max()))
                sink.add(_fitted(pixels, shape, self.root / file))
            except UnreadableImage as error:
                if not self.skip:
                    raise
                self.problems[file] = error.reason
                del self.looks[file]
            done += self.files[file].size
            self.progress(done, total)


def _fitted(pixels: NDArray[np.uint8], shape: tuple[int, int, int], file: Path) -> NDArray[np.uint8]:
    """(1, C, H, W) of the shape wanted; grey among colour is repeated."""
    if pixels.shape[1:] != shape[1:] and shape[1] == shape[2]:
        pixels = to_square(pixels[np.newaxis], shape[1])[0]
    if pixels.shape[1:] != shape[1:] or pixels.shape[0] > shape[0]:
        raise UnreadableImage(printable(str(file)), "it changed while it was read", IN_A_FOLDER)
    return np.broadcast_to(pixels, shape)[np.newaxis]


def _common_size(sizes: Counter[tuple[int, int]]) -> tuple[int, int]:
    """Height and width where none was asked for: their own where it is the same, else a square.

    Its side is the median of the shorter sides, so that one tiny or huge image does not decide, rounded down to a
    multiple of 4, for a U-Net halves twice, and at most :data:`LARGEST`.
    """
    if len(sizes) == 1:
        (only,) = sizes
        return only
    side = statistics.median_low(min(size) for size in sizes.elements())
    side = min(max(side - side % 4, 4), LARGEST)
    return side, side


def _tops(files: Iterable[str]) -> tuple[str, ...]:
    """The immediate sub-folders, printable."""
    return tuple(sorted({printable(file.partition(os.sep)[0]) for file in files if os.sep in file}))


def _label(files: dict[str, Look]) -> tuple[NDArray[np.int64] | None, tuple[str, ...]]:
    """Labels (N,) and class names from the immediate sub-folders; None and none where they do not tell classes."""
    if not all(os.sep in file for file in files):
        return None, ()
    classes = _tops(files)
    if len(classes) < 2:
        return None, ()
    index = {top: label for label, top in enumerate(classes)}
    labels = (index[printable(file.partition(os.sep)[0])] for file in files)
    return np.fromiter(labels, np.int64, len(files)), classes
