"""A folder of images as a data set.

Invariant: the same files give the same set, in the order of their paths; what is left out of it changes it as if it
had never been there. Hidden files and folders (a leading dot, as the ``._x.jpg`` of macOS) are no images; every real
folder is read once, so that links cannot run in circles. Nothing is believed of a file: it is an image or a
:class:`UnreadableImage`, and costs no more memory than the largest image allowed.
"""

import hashlib
import io
import os
import stat
import statistics
import struct
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.config import OnBadImage
from ddpm_cli.data import store
from ddpm_cli.data.fetch import Progress
from ddpm_cli.data.imageset import ImageSet, LeftOut, printable
from ddpm_cli.data.resize import to_square
from ddpm_cli.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
# What a suffix promises. Pillow goes by content, and must not run Ghostscript on an EPS that calls itself .png.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
GREY = {"1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N", "F"}
ORIENTATION = 0x0112  # EXIF 2.32, tag Orientation: 5 to 8 exchange height and width
LARGEST = 64  # pixels: what a small U-Net on a CPU can still learn
# Bytes: as many as the largest image allowed (Pillow's MAX_IMAGE_PIXELS, 89 million) has in RGB of 16 bits.
LARGEST_FILE = 2**29
LARGEST_WEBP = 48_000_000  # pixels: its decoder takes 16 bytes for each, where others take 4
STRIP = 2**20  # pixels converted at once, which bounds the memory
PARTS = 2**18  # chunks of a PNG: of 2 KB each in the largest file
SCANS = 100  # of a JPEG
UNCLEAR = ("decoder error", "could not create decoder object", "cannot load this image")  # what Pillow says of damage
SPREAD = {"L;2": 85, "L;4": 17}  # shades of 2 and 4 bits, as Pillow calls them: what spreads them to 8
NAMED = 3  # of the images that are left out, in the note on them
IN_A_FOLDER = "Repair it, or move it out of the folder; ddpm train leaves such images out with --on-bad-image skip."
# EXIF 2.32: how the stored image (C, H, W) becomes upright.
UPRIGHT: Final[dict[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]]] = {
    2: lambda a: a[..., ::-1],
    3: lambda a: a[..., ::-1, ::-1],
    4: lambda a: a[..., ::-1, :],
    5: lambda a: a.swapaxes(1, 2),
    6: lambda a: a[..., ::-1, :].swapaxes(1, 2),
    7: lambda a: a[..., ::-1, ::-1].swapaxes(1, 2),
    8: lambda a: a[..., ::-1].swapaxes(1, 2),
}


class UnreadableImage(DataError):
    """An image that cannot be read.

    Args:
        what: the file, or where its bytes came from.
        reason: why, in a few words.
        hint: what to do.
    """

    def __init__(self, what: str, reason: str, hint: str) -> None:
        super().__init__(f"cannot read {what}: {reason}", hint)
        self.reason = reason


class Entry(NamedTuple):
    """What a folder tells of a file: bytes, time of its last change, mode; or why it tells nothing."""

    size: int
    time: int
    mode: int
    problem: str = ""


class Look(NamedTuple):
    """What a header tells of an image."""

    height: int
    width: int
    colour: bool


# --- a folder -------------------------------------------------------------------------------------------------------


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

    A folder that holds ``train`` and ``test`` is read below the one that ``split`` names; any other has no splits and
    is always read whole. Two or more sub-folders with images, and no image beside them, are classes.

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
    title = printable(root.name)
    if has_splits(root):
        root /= split
    elif split == "test":
        say(f"{name} has no folders train and test: all its images are used")

    files = scan(root)
    if not files:
        raise DataError(f"there is no image in {root}", f"Looked for {' '.join(sorted(SUFFIXES))}, in sub-folders too.")
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
    return images


def place(name: str) -> Path:
    """Where a folder is that was named so."""
    # Not those of pathlib: expanduser raises on ~unknown there, and absolute keeps "..", which is no title.
    return Path(os.path.abspath(os.path.expanduser(name)))  # noqa: PTH100, PTH111


def has_splits(root: Path) -> bool:
    """Whether a folder holds ``train`` and ``test``, of which one is read, instead of being read whole."""
    return is_folder(root / "train") and is_folder(root / "test")


def is_folder(path: str | Path) -> bool:
    """Whether there is a folder that can be seen; unlike pathlib's, never an OSError or a ValueError."""
    return os.path.isdir(path)  # noqa: PTH112


def scan(root: Path) -> dict[str, Entry]:
    """The image files below ``root`` by their paths relative to it, in the order of these.

    A folder below that cannot be looked into counts as a file that cannot be read; its path ends with the separator.

    Raises:
        DataError: ``root`` cannot be looked into.
    """
    files: dict[str, Entry] = {}
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
                visible = sorted((entry for entry in entries if entry.name[0] != "."), key=lambda entry: entry.name)
        except OSError as error:
            if not folder:
                raise DataError(f"cannot read {printable(str(root))}: {error.strerror}") from error
            files[folder] = Entry(0, 0, 0, error.strerror or "")
            continue
        below = []
        for entry in visible:
            if _leads_to_folder(entry):
                below.append(f"{folder}{entry.name}{os.sep}")
            elif os.path.splitext(entry.name)[1].lower() in SUFFIXES:  # noqa: PTH122  # pathlib would cost a second
                files[folder + entry.name] = _entry(entry)
        folders += reversed(below)
    # By parts: a/b before a-b.
    return {file: files[file] for file in sorted(files, key=lambda file: file.replace(os.sep, "\0"))}


def _leads_to_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _entry(entry: "os.DirEntry[str]") -> Entry:
    try:
        status = entry.stat()
    except OSError as error:
        return Entry(0, 0, 0, error.strerror or "it cannot be looked at")
    problem = "" if stat.S_ISREG(status.st_mode) else "not a regular file"
    return Entry(status.st_size, status.st_mtime_ns, status.st_mode, problem)


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
        labels, classes = _label(self.looks)
        left_out = tuple(LeftOut(printable(file), self.problems[file]) for file in self.files if file in self.problems)
        return store.About(self.title, labels, classes, left_out, printable(str(self.root)))

    def _look_at_all(self) -> None:
        shared: dict[Look, Look] = {}  # a million images of one size are one object
        for file in self.files:
            if file in self.problems:
                continue
            try:
                look = _look(self.root / file)
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
                sink.add(_fitted(read_image(self.root / file), shape, self.root / file))
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


def _tops(files: Sequence[str] | dict[str, Look]) -> tuple[str, ...]:
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


# --- an image -------------------------------------------------------------------------------------------------------


def read_image(file: Path | bytes, hint: str = IN_A_FOLDER) -> NDArray[np.uint8]:
    """One image, upright: (1, H, W) where the file is grey, else (3, H, W); uint8, writable.

    The first frame of an animation. What is transparent is laid on white, as every viewer shows it: most such images
    are dark lines, which would vanish on black. Grey of 16 bits becomes 8 by the nearest v / 257; of colour of 16 bits
    Pillow keeps the upper half, which differs by 1 at most.

    Args:
        file: where it is, or, as it came from stdin, the bytes of the file itself.
        hint: what to do where it cannot be read.

    Raises:
        UnreadableImage: not an image, damaged, or too large to be one.
    """
    with _opened(file, hint, whole=True) as image:
        pixels = _pixels(image)
        upright = UPRIGHT.get(_orientation(image))
        return np.ascontiguousarray(upright(pixels)) if upright else pixels


def read_text(file: Path) -> dict[str, str]:
    """The text chunks of a PNG; none of other files.

    Raises:
        UnreadableImage: as :func:`read_image`.
    """
    with _opened(file, "", whole=True) as image:
        return dict(getattr(image, "text", {}))


def _look(file: Path) -> Look:
    """What a header tells; where it does not tell all, the pixels are read too."""
    with _opened(file, IN_A_FOLDER) as image:
        width, height = image.size
        if _orientation(image) >= 5:
            width, height = height, width
        if image.mode in ("P", "PA"):  # the palette may be all grey
            return Look(height, width, len(_pixels(image)) == 3)
        return Look(height, width, image.mode not in GREY)


def _orientation(image: "Image.Image") -> int:
    """How the stored image lies, 1 (upright) to 8."""
    if image.format == "TIFF":  # Pillow turns these by itself, and no others
        return 1
    found = image.getexif().get(ORIENTATION)
    return found if isinstance(found, int) and found in UPRIGHT else 1


def _pixels(image: "Image.Image") -> NDArray[np.uint8]:
    """(1, H, W) where the mode, or the used part of the palette, is grey; else (3, H, W). Writable."""
    clear = image.info.get("transparency")
    if image.format == "PNG" and isinstance(clear, int):  # Pillow spreads the shades to 8 bits, and not this one
        tiles = getattr(image, "tile", [])
        image.info["transparency"] = clear * SPREAD.get(tiles[0].args if tiles else "", 1)
    image.load()
    width, height = image.size
    pixels = np.empty((1 if image.mode in GREY else 3, height, width), np.uint8)
    rows = max(1, STRIP // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        strip = _strip(image.crop((0, top, width, bottom)) if height > rows else image)
        pixels[:, top:bottom] = np.moveaxis(strip, 2, 0)
    if image.mode in ("P", "PA") and (pixels[0] == pixels[1]).all() and (pixels[0] == pixels[2]).all():
        return pixels[:1].copy()
    return pixels


def _strip(image: "Image.Image") -> NDArray[np.uint8]:
    """A few rows, (H, W, 1) or (H, W, 3)."""
    if image.mode.startswith("I"):
        values = np.array(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("its values exceed 16 bits")
        pixels = ((values + 128) // 257).astype(np.uint8)
        if isinstance(clear := image.info.get("transparency"), int):
            pixels[values == clear] = 255
        return pixels[..., np.newaxis]
    if image.mode == "F":
        raise ValueError("floating-point pixels have no agreed range")

    grey = image.mode in GREY
    if image.has_transparency_data:
        bands = np.array(image.convert("LA" if grey else "RGBA")).astype(np.uint16)
        colour, alpha = bands[..., :-1], bands[..., -1:]
        return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    pixels = np.array(image.convert("L" if grey else "RGB"))
    return pixels.reshape(*pixels.shape[:2], -1)


@contextmanager
def _opened(file: Path | bytes, hint: str, whole: bool = False) -> Iterator["Image.Image"]:
    """An open image file; whatever Pillow trips over becomes an :class:`UnreadableImage` that names it.

    Args:
        file: where it is, or its bytes.
        hint: what to do where it cannot be read.
        whole: whether checksums are compared too, which reads all of it.
    """
    from PIL import Image, UnidentifiedImageError

    what = "the image on stdin" if isinstance(file, bytes) else printable(str(file))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # oddities in the EXIF data and the like, which do not touch the pixels
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            # Given a path, Pillow 13 maps an uncompressed TIFF with height and width exchanged if it is to be turned.
            with io.BytesIO(file) if isinstance(file, bytes) else _stream(file) as stream:
                tiff = _checked(stream, whole)
                with _silence() if tiff else nullcontext(), Image.open(stream, formats=FORMATS) as image:
                    yield image
    except UnreadableImage:
        raise
    # Pillow's plugins raise whatever their parsers meet: OSError, SyntaxError, KeyError, struct.error, ...
    except Exception as error:
        raise UnreadableImage(what, _reason(error, isinstance(error, UnidentifiedImageError)), hint) from error


def _stream(file: Path) -> BinaryIO:
    """A file, opened for reading; a pipe that somebody put in its place is refused rather than waited for."""
    handle = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise ValueError("not a regular file")
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def _reason(error: Exception, unidentified: bool) -> str:
    """Why an image cannot be read, in a few words; Pillow's own where they say it well."""
    from PIL import Image

    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if unidentified:
        return "no image, or damaged"
    if isinstance(error, MemoryError):
        return "there is not enough memory for it"
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return "too large, perhaps a decompression bomb"
    said = printable(" ".join(str(error).split())[:200].rstrip("."))
    if "truncated" in said.lower():
        return "truncated"
    return "damaged" if said.startswith(UNCLEAR) else said or type(error).__name__


def _checked(stream: BinaryIO, whole: bool) -> bool:
    """Look at a file before Pillow does, and leave it at its beginning; returns whether it is a TIFF.

    Pillow does not compare the checksums of the pixels in a PNG, and asks for the whole canvas of a WebP before it
    looks at its size.

    Raises:
        ValueError: it is no image that could be read.
        EOFError: it is truncated.
    """
    size = stream.seek(0, os.SEEK_END)
    if not size:
        raise ValueError("empty")
    if size > LARGEST_FILE:
        raise ValueError(f"it has {size:,} bytes, expected at most {LARGEST_FILE:,}")
    stream.seek(0)
    head = stream.read(30)
    if head.startswith(b"\x89PNG\r\n\x1a\n") and whole:
        _check_png(stream)
    if head[:2] == b"\xff\xd8" and whole:
        _check_jpeg(stream)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        _check_webp(head)
    stream.seek(0)
    return head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def _check_png(stream: BinaryIO) -> None:
    """Compare the checksums of the chunks that the picture is made of (PNG 1.2, 3.2)."""
    stream.seek(8)
    for _ in range(PARTS):
        length, kind = struct.unpack(">I4s", _exactly(stream, 8))
        checksum = zlib.crc32(kind)
        while length:
            block = _exactly(stream, min(length, 1 << 20))
            checksum, length = zlib.crc32(block, checksum), length - len(block)
        (expected,) = struct.unpack(">I", _exactly(stream, 4))
        if checksum != expected and not kind[0] & 0x20:  # a small letter: what is not needed for the picture
            raise ValueError("damaged: a checksum is wrong")
        if kind == b"IEND":
            return
    raise ValueError(f"it has more than {PARTS:,} parts")


def _check_jpeg(stream: BinaryIO) -> None:
    """Count the scans, each of which costs a pass over all pixels (ITU-T T.81, B.1.1.3: inside one, FF DA is FF 00 DA).

    Progressive files have about ten; thousands would take hours.
    """
    stream.seek(0)
    scans, end = 0, b""
    while block := stream.read(1 << 20):
        scans += (end + block).count(b"\xff\xda")
        end = block[-1:] if block[-1:] == b"\xff" else b""
        if scans > SCANS:
            raise ValueError(f"it has more than {SCANS} scans")


def _check_webp(head: bytes) -> None:
    """Compare the size with the largest allowed, before the decoder takes memory for it (RFC 9649, 2.5 to 2.7)."""
    from PIL import Image

    kind = head[12:16]
    if kind == b"VP8X":
        width, height = (1 + int.from_bytes(head[place : place + 3], "little") for place in (24, 27))
    elif kind == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    else:
        width, height = (int.from_bytes(head[place : place + 2], "little") & 0x3FFF for place in (26, 28))
    if width * height > min(LARGEST_WEBP, Image.MAX_IMAGE_PIXELS or LARGEST_WEBP):
        raise Image.DecompressionBombError


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError("truncated")
    return data


@contextmanager
def _silence() -> Iterator[None]:
    """Nothing on stderr: the library that decodes TIFFs writes there what it thinks of a damaged one."""
    try:
        before = os.dup(2)
    except OSError:  # there is no stderr
        yield
        return
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
