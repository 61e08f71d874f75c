"""One image, from a file that anybody may have made.

Invariant: nothing is believed of a file. It is an image or an :class:`UnreadableImage`, and costs no more memory than
the largest image allowed.
"""

import io
import os
import stat
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.errors import PERMISSIONS, DataError
from ddpm_cli.printable import printable

if TYPE_CHECKING:
    from PIL import Image

# What a suffix promises. Pillow goes by content, and must not run Ghostscript on an EPS that calls itself .png.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
GREY = {"1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N", "F"}
BITS = 258  # TIFF 6.0, tag BitsPerSample
ORIENTATION = 0x0112  # EXIF 2.32, tag Orientation: 5 to 8 exchange height and width
# Bytes: as many as the largest image allowed (Pillow's MAX_IMAGE_PIXELS, 89 million) has in RGB of 16 bits.
LARGEST_FILE = 2**29
LARGEST_WEBP = 48_000_000  # pixels: its decoder takes 16 bytes for each, where others take 4
STRIP = 2**20  # pixels converted at once, which bounds the memory
PARTS = 2**18  # chunks of a PNG: of 2 KB each in the largest file
SCANS = 100  # of a JPEG
UNCLEAR = ("decoder error", "could not create decoder object", "cannot load this image")  # what Pillow says of damage
TIFF_COLORS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3}  # channels by photometric interpretation (TIFF 6.0)
SPREAD = {"L;2": 85, "L;4": 17}  # shades of 2 and 4 bits, as Pillow calls them: what spreads them to 8
IN_A_FOLDER = "Repair it, move it out of the folder, or skip such images with --on-bad-image skip."
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


class Look(NamedTuple):
    """What a header tells of an image."""

    height: int
    width: int
    colour: bool
    deep: bool = False  # grey of 16 bits


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


def read_mask(file: Path, hint: str) -> tuple[NDArray[np.uint8], bool]:
    """One image as a mask, upright: its opacity if that varies, else its brightness, whatever its opacity.

    Args:
        file: where it is.
        hint: what to do if it cannot be read.

    Returns:
        uint8 (1, H, W), 255 for opaque or white, and whether it is the opacity.

    Raises:
        UnreadableImage: as :func:`read_image`.
    """
    with _opened(file, hint, whole=True) as image:
        pixels, opacity = _pixels(image), _opacity(image)
        varies = opacity is not None and bool(opacity.min() < opacity.max())
        if opacity is not None:
            pixels = opacity if varies else np.moveaxis(np.array(image.convert("RGB")), 2, 0)
        pixels = pixels.mean(0, keepdims=True).round().astype(np.uint8)
        upright = UPRIGHT.get(_orientation(image))
        return np.ascontiguousarray(upright(pixels) if upright else pixels), varies


def read_text(file: Path) -> dict[str, str]:
    """The text chunks of a PNG; none of other files.

    Raises:
        UnreadableImage: as :func:`read_image`.
    """
    with _opened(file, PERMISSIONS, whole=True) as image:
        return dict(getattr(image, "text", {}))


def look_at(file: Path) -> Look:
    """What a header tells; where it does not tell all, the pixels are read too.

    Raises:
        UnreadableImage: as :func:`read_image`.
    """
    with _opened(file, IN_A_FOLDER) as image:
        width, height = image.size
        if _orientation(image) >= 5:
            width, height = height, width
        if image.mode in ("P", "PA"):  # the palette may be all grey
            return Look(height, width, len(_pixels(image)) == 3)
        return Look(height, width, image.mode not in GREY, image.mode.startswith("I"))


def _orientation(image: "Image.Image") -> int:
    """How the stored image lies, 1 (upright) to 8."""
    if image.format == "TIFF":  # Pillow turns these by itself, and no others
        return 1
    from PIL import Image

    if image.format == "PNG" and not _may_have_late_exif(image):
        exif = Image.Image.getexif(image)  # that of PNG files decodes the pixels first
    else:
        exif = image.getexif()
    found = exif.get(ORIENTATION)
    return found if isinstance(found, int) and found in UPRIGHT else 1


def _may_have_late_exif(image: "Image.Image") -> bool:
    """Whether text or EXIF data of a PNG follow its pixels, where Pillow finds them only after decoding these."""
    stream = getattr(image, "fp", None)
    if stream is None:  # it was decoded
        return True
    place = stream.tell()
    try:
        stream.seek(8)
        late = False
        for _ in range(PARTS):
            length, kind = struct.unpack(">I4s", _exactly(stream, 8))
            if kind == b"IEND":
                return False
            late = late or kind == b"IDAT"
            if late and kind in (b"eXIf", b"tEXt", b"zTXt", b"iTXt"):
                return True
            stream.seek(length + 4, os.SEEK_CUR)
        return True
    except EOFError:  # decoding tells more
        return True
    finally:
        stream.seek(place)


def _mend_bmp(image: "Image.Image", stream: BinaryIO) -> None:
    """Restore a palette that Pillow drops because it is grey, with 4 or 8 bits for each pixel, which it then reads as
    another number of bits."""
    if image.mode not in ("1", "L"):
        return
    from PIL import ImageFile, ImagePalette

    stream.seek(14)
    header = stream.read(16)
    (bits,) = struct.unpack("<H", header[10:12] if header[0] == 12 else header[14:16])  # 12: OS/2 1.x
    if bits == 4 or (bits == 8 and image.mode == "1"):
        assert isinstance(image, ImageFile.ImageFile)
        shades = (0, 255) if image.mode == "1" else range(16)
        image.palette = ImagePalette.raw("RGB", bytes(shade for shade in shades for _ in range(3)))
        image._mode = "P"
        (tile,) = image.tile
        assert isinstance(tile.args, tuple)
        image.tile = [tile._replace(args=("P;4" if bits == 4 else "P", *tile.args[1:]))]


def _pixels(image: "Image.Image") -> NDArray[np.uint8]:
    """(1, H, W) where the mode, or the used part of the palette, is grey; else (3, H, W). Writable."""
    clear, tiles = image.info.get("transparency"), getattr(image, "tile", [])
    raw = tiles[0].args if tiles and isinstance(tiles[0].args, str) else ""
    if image.format == "PNG" and isinstance(clear, int):  # Pillow spreads the shades to 8 bits, and not this one
        image.info["transparency"] = clear * SPREAD.get(raw, 1)
    see_through = None
    if image.format == "PNG" and isinstance(clear, tuple) and raw == "RGB;16B":
        del image.info["transparency"]
        see_through = _transparent(image, clear)
    top = 4095 if image.format == "TIFF" and getattr(image, "tag_v2", {}).get(BITS) == (12,) else 65535
    image.load()
    width, height = image.size
    pixels = np.empty((1 if image.mode in GREY else 3, height, width), np.uint8)
    rows = max(1, STRIP // width)
    for start in range(0, height, rows):
        bottom = min(start + rows, height)
        strip = _strip(image.crop((0, start, width, bottom)) if height > rows else image, top)
        pixels[:, start:bottom] = np.moveaxis(strip, 2, 0)
    if see_through is not None:
        pixels[:, see_through] = 255
    if image.mode in ("P", "PA") and (pixels[0] == pixels[1]).all() and (pixels[0] == pixels[2]).all():
        return pixels[:1].copy()
    return pixels


def _opacity(image: "Image.Image") -> NDArray[np.uint8] | None:
    """The opacity of a loaded image, (1, H, W), 255 for opaque; None if it has no transparency."""
    if not image.has_transparency_data:
        return None
    if image.mode.startswith("I"):  # Pillow converts no grey of 16 bits
        clear = image.info["transparency"]
        return np.where(np.array(image) == clear, 0, 255).astype(np.uint8)[np.newaxis]
    return np.array(image.convert("RGBA").getchannel("A"))[np.newaxis]


def _transparent(image: "Image.Image", clear: tuple[int, int, int]) -> NDArray[np.bool_]:
    """Which pixels (H, W) of a PNG of 16-bit colors have the transparent one: of them Pillow compares eight bits.

    It is decoded twice, for the upper and the lower bytes, which are the upper ones in the other order of bytes.
    """
    from PIL import Image, ImageFile

    assert isinstance(image, ImageFile.ImageFile)
    stream = image.fp
    assert stream is not None
    place, equal = stream.tell(), np.ones((image.height, image.width), np.bool_)
    for order, shift in (("RGB;16B", 8), ("RGB;16L", 0)):
        stream.seek(0)
        half = Image.open(stream, formats=("PNG",))
        half.tile = [tile._replace(args=order) for tile in half.tile]
        equal &= (np.asarray(half) == [value >> shift & 0xFF for value in clear]).all(-1)
    stream.seek(place)
    return equal


def _strip(image: "Image.Image", top: int) -> NDArray[np.uint8]:
    """A few rows, (H, W, 1) or (H, W, 3); ``top`` is white where a value has more than 8 bits."""
    if image.mode.startswith("I"):
        values = np.array(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("its values exceed 16 bits")
        pixels = np.minimum((values * 255 + top // 2) // top, 255).astype(np.uint8)
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
                    if image.format == "BMP":
                        _mend_bmp(image, stream)
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
    tiff = head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
    if tiff:
        _check_tiff(stream, head)
    stream.seek(0)
    return tiff


def _check_tiff(stream: BinaryIO, head: bytes) -> None:
    """Refuse channels that are neither colors nor transparency, which Pillow drops or does not identify.

    Raises:
        ValueError: there are such channels.
    """
    from PIL.TiffImagePlugin import EXTRASAMPLES, PHOTOMETRIC_INTERPRETATION, SAMPLESPERPIXEL, ImageFileDirectory_v2

    tags = ImageFileDirectory_v2(head[: 16 if head[2] == 43 else 8])  # 43: BigTIFF
    stream.seek(tags.next)
    tags.load(stream)
    channels, extra = int(tags.get(SAMPLESPERPIXEL, 1)), tags.get(EXTRASAMPLES, ())
    colors = TIFF_COLORS.get(tags.get(PHOTOMETRIC_INTERPRETATION, 0), channels)
    alpha = channels == colors + 1 and (tuple(extra) in ((1,), (2,)) or (not extra and colors == 3))
    if channels != colors and not alpha:
        raise ValueError(f"it has {channels} channels, expected grey or RGB, with or without transparency")


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
