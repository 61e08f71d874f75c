"""A folder of images as a data set.

Invariant: the same files give the same set, in the order of their paths. Hidden files and folders (a leading dot,
as the ``._x.jpg`` of macOS) are no images; every real folder is read once, so that links cannot run in circles.
"""

import hashlib
import io
import os
import stat
import statistics
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.data import store
from ddpm_cli.data.fetch import Progress
from ddpm_cli.data.imageset import ImageSet
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
IN_A_FOLDER = "Repair it, or move it out of the folder, then run the command again."


def load(name: str, *, split: str, image_size: int | None, say: Callable[[str], None], progress: Progress) -> ImageSet:
    """The images below a folder, from the store if neither they nor ``image_size`` changed.

    A folder that holds ``train`` and ``test`` is read below the one that ``split`` names; any other has no splits and
    is always read whole. Two or more sub-folders with images, and no image beside them, are classes.

    Raises:
        DataError: no folder, no images, or one that cannot be read.
        ResourceError: resizing needs torchvision, which cannot be imported.
    """
    # Not those of pathlib: expanduser raises on ~unknown there, and absolute keeps "..", which is no title.
    root = Path(os.path.abspath(os.path.expanduser(name)))  # noqa: PTH100, PTH111
    if not is_folder(root):
        raise DataError(
            f"{name} is not a folder" if os.path.lexists(root) else f"there is no folder {name}",
            "A folder of images was expected; known data sets are named without a path: --dataset mnist.",
        )
    title = root.name
    if is_folder(root / "train") and is_folder(root / "test"):
        root /= split
    elif split == "test":
        say(f"{name} has no folders train and test: all its images are used")

    files = scan(root)
    if not files:
        raise DataError(f"there is no image in {root}", f"Looked for {' '.join(sorted(SUFFIXES))}, in sub-folders too.")
    digest = hashlib.sha256(repr((store.FORMAT, image_size)).encode())
    for file, status in files.items():
        digest.update(os.fsencode(file.relative_to(root)) + f"\0{status.st_size} {status.st_mtime_ns}\0".encode())
    stem = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]
    return store.cached(
        f"folder-{stem}" + (f"-{image_size}" if image_size else ""),
        digest.hexdigest(),
        lambda: _read_all(title, root, files, image_size, say, progress),
        say,
    )


def is_folder(path: str | Path) -> bool:
    """Whether there is a folder that can be seen; unlike pathlib's, never an OSError or a ValueError."""
    return os.path.isdir(path)  # noqa: PTH112


def scan(root: Path) -> dict[Path, os.stat_result]:
    """The image files below ``root`` in the order of their paths.

    Raises:
        DataError: a folder or a file cannot be looked at.
    """
    files: dict[Path, os.stat_result] = {}
    seen = set()
    folders = [root]
    try:
        while folders:
            folder = folders.pop()
            status = folder.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            visible = sorted((path for path in folder.iterdir() if not path.name.startswith(".")), reverse=True)
            folders += [path for path in visible if path.is_dir()]
            files |= {p: p.stat() for p in visible if p.suffix.lower() in SUFFIXES and not p.is_dir()}
    except OSError as error:
        raise DataError(f"cannot read {error.filename}: {error.strerror}") from error
    return dict(sorted(files.items()))


def _read_all(
    name: str,
    root: Path,
    files: dict[Path, os.stat_result],
    image_size: int | None,
    say: Callable[[str], None],
    progress: Progress,
) -> ImageSet:
    """Two passes: the headers, which decide on channels and size, then the pixels, one image at a time in memory."""
    for file, status in files.items():
        if not stat.S_ISREG(status.st_mode):
            raise DataError(f"{file} is not a file", "Move it out of the folder.")
    looks = [_look(file) for file in files]
    channels = 3 if any(colour for *_, colour in looks) else 1
    sizes = Counter((height, width) for height, width, _ in looks)
    height, width = (image_size, image_size) if image_size else _common_size(sizes, say)

    images = np.empty((len(files), channels, height, width), np.uint8)
    total, done = sum(status.st_size for status in files.values()), 0
    for index, (file, status) in enumerate(files.items()):
        pixels = read_image(file)
        if pixels.shape[1:] != (height, width):
            pixels = to_square(pixels[np.newaxis], height)[0]
        images[index] = pixels  # grey among colour is repeated
        done += status.st_size
        progress(done, total)
    labels, classes = _label(root, list(files))
    return ImageSet(name, images, labels, classes)


def _common_size(sizes: Counter[tuple[int, int]], say: Callable[[str], None]) -> tuple[int, int]:
    """Height and width where none was asked for: their own where it is the same, else a square.

    Its side is the median of the shorter sides, so that one tiny or huge image does not decide, rounded down to a
    multiple of 4, for a U-Net halves twice, and at most :data:`LARGEST`.
    """
    if len(sizes) == 1:
        (only,) = sizes
        return only
    side = statistics.median_low(min(size) for size in sizes.elements())
    side = min(max(side - side % 4, 4), LARGEST)
    say(f"the images are of {len(sizes)} sizes: all become {side} x {side} (--image-size changes that)")
    return side, side


def _label(root: Path, files: list[Path]) -> tuple[NDArray[np.int64] | None, tuple[str, ...]]:
    """Labels (N,) and class names from the immediate sub-folders; None and none where they do not tell classes."""
    if any(file.parent == root for file in files):
        return None, ()
    tops = [file.relative_to(root).parts[0] for file in files]
    classes = tuple(sorted(set(tops)))
    if len(classes) < 2:
        return None, ()
    index = {top: label for label, top in enumerate(classes)}
    return np.array([index[top] for top in tops], np.int64), classes


def read_image(file: Path | bytes, hint: str = IN_A_FOLDER) -> NDArray[np.uint8]:
    """One image, upright: (1, H, W) where the file is grey, else (3, H, W); uint8, writable.

    The first frame of an animation. What is transparent is laid on white, as every viewer shows it: most such images
    are dark lines, which would vanish on black. 16 bits become 8 by the nearest v / 257.

    Args:
        file: where it is, or, as it came from stdin, the bytes of the file itself.
        hint: what to do where it cannot be read.

    Raises:
        DataError: not an image, damaged, or too large to be one.
    """
    from PIL import ImageOps

    with _opened(file, hint) as image:
        return np.ascontiguousarray(np.moveaxis(_pixels(ImageOps.exif_transpose(image)), 2, 0))


def _look(file: Path) -> tuple[int, int, bool]:
    """Height, width and whether there is colour, from the header alone where it says so."""
    with _opened(file) as image:
        width, height = image.size
        # Pillow tells the size of an upright TIFF by itself, and of no other format.
        if image.format != "TIFF" and image.getexif().get(ORIENTATION) in (5, 6, 7, 8):
            width, height = height, width
        if image.mode in ("P", "PA"):  # the palette may be all grey
            return height, width, _pixels(image).shape[2] == 3
        return height, width, image.mode not in GREY


def _pixels(image: "Image.Image") -> NDArray[np.uint8]:
    """(H, W, 1) where the mode, or the used part of the palette, is grey; else (H, W, 3). Writable."""
    if image.mode.startswith("I"):
        values = np.array(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("its values exceed 16 bits")
        return ((values + 128) // 257).astype(np.uint8)[..., np.newaxis]
    if image.mode == "F":
        raise ValueError("floating-point pixels have no agreed range")

    grey = image.mode in GREY
    if image.has_transparency_data:
        bands = np.array(image.convert("LA" if grey else "RGBA")).astype(np.uint16)
        colour, alpha = bands[..., :-1], bands[..., -1:]
        pixels = ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    else:
        pixels = np.array(image.convert("L" if grey else "RGB"))
        pixels = pixels.reshape(*pixels.shape[:2], -1)
    if image.mode in ("P", "PA") and (pixels == pixels[..., :1]).all():
        pixels = pixels[..., :1]
    return pixels


@contextmanager
def _opened(file: Path | bytes, hint: str = IN_A_FOLDER) -> Iterator["Image.Image"]:
    """An open image file; whatever Pillow trips over becomes a DataError that names it."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # oddities in the EXIF data and the like, which do not touch the pixels
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            # Given a path, Pillow 13 maps an uncompressed TIFF with height and width exchanged if it is to be turned.
            content = io.BytesIO(file) if isinstance(file, bytes) else file.open("rb")
            with content as stream, Image.open(stream, formats=FORMATS) as image:
                yield image
    except (MemoryError, DataError):
        raise
    # Pillow's plugins raise whatever their parsers meet: OSError, SyntaxError, KeyError, struct.error, ...
    except Exception as error:
        known = isinstance(error, OSError) and error.strerror
        reason = known or str(error).rstrip(".") or type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            reason = "it is no image, or damaged"
        name = "the image on stdin" if isinstance(file, bytes) else file
        raise DataError(f"cannot read {name}: {reason}", hint) from error
