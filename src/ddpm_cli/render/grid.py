"""Many images as one picture: a grid of samples, or their way from noise to image, a row each.

Invariant: every tile keeps its pixels exactly; it is only enlarged by a whole number, so that small images can be seen.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np

from ddpm_cli.pixels import Pixels
from ddpm_cli.printable import printable
from ddpm_cli.render.images import from_pillow, to_pillow

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

BACKGROUND = 40  # dark enough not to glare between black digits, light enough to part them
INK = 235  # captions on that background
WIDTH, HEIGHT = 1000, 1500  # pixels: a picture is enlarged as far as it stays within
LARGEST = 8  # times: beyond, a single digit is all blocks
SEEN = 256  # pixels: a picture on its own is enlarged to at most that
EDGE = 6  # pixels left of a line of text
LINE = 13  # pixels from one line of the smallest text to the next
NAMES = 0.4  # width of the names of rows at most, as a share of the picture's


class Layout(NamedTuple):
    """How images are arranged in a grid.

    Attributes:
        columns: at least 1; None for a near-square grid (:func:`columns_for`).
        rows: the class of each row, its index and its name; empty for rows without names.
    """

    columns: int | None = None
    rows: tuple[tuple[int, str], ...] = ()


def columns_for(count: int) -> int:
    """Columns of a near-square grid: without holes if that is at most three times as wide as high, else ceil(sqrt)."""
    square = math.ceil(math.sqrt(count))
    return next((c for c in range(square, count + 1) if count % c == 0 and c * c <= 3 * count), square)


def grid(images: Pixels, columns: int | None = None, pad: int = 2, scale: int | None = None) -> Pixels:
    """One picture of all images, row by row, with an even border around and between them.

    Tile (row r, column c) starts at (scale (pad + r (H + pad)), scale (pad + c (W + pad))).

    Args:
        images: uint8 (N, C, H, W), N at least 1.
        columns: at least 1, and never more than there are images; None for a near-square grid (:func:`columns_for`).
        pad: width of the border in pixels of the images.
        scale: whole-number enlargement (nearest neighbour); None for the largest up to :data:`LARGEST` that keeps
            the picture within :data:`WIDTH` by :data:`HEIGHT` pixels, at least 1.

    Returns:
        uint8 (C, scale (pad + rows (H + pad)), scale (pad + columns (W + pad))); places without an image are border.
    """
    count, channels, height, width = images.shape
    columns = min(columns, count) if columns else columns_for(count)
    rows = math.ceil(count / columns)
    picture = np.full((channels, pad + rows * (height + pad), pad + columns * (width + pad)), BACKGROUND, np.uint8)
    for k, image in enumerate(images):
        top, left = pad + k // columns * (height + pad), pad + k % columns * (width + pad)
        picture[:, top : top + height, left : left + width] = image
    scale = scale or enlargement(picture)
    return picture.repeat(scale, axis=1).repeat(scale, axis=2)


def enlargement(picture: Pixels) -> int:
    """How many times a picture is enlarged to stay within :data:`WIDTH` by :data:`HEIGHT` pixels, at least 1."""
    _, height, width = picture.shape
    return int(max(1, min(LARGEST, WIDTH // width, HEIGHT // height)))


def arranged(images: Pixels, layout: Layout, scale: int | None = None, pad: int = 2) -> Pixels:
    """A grid in a layout, with the names of its rows if it has some; arguments as for :func:`grid`."""
    picture = grid(images, layout.columns, pad, 1)
    scale = scale or enlargement(picture)
    pitch = images.shape[2] + pad
    if layout.rows:
        scale = max(scale, -(-LINE // pitch))
    picture = picture.repeat(scale, axis=1).repeat(scale, axis=2)
    return named_rows(picture, layout.rows, scale * pitch) if layout.rows else picture


def named_rows(picture: Pixels, rows: Sequence[tuple[int, str]], pitch: int) -> Pixels:
    """A picture with the names of classes left of its rows; ``@index`` instead of a name that the font cannot write.

    Args:
        picture: uint8 (C, H, W).
        rows: index and name of the class of each row, from the top.
        pitch: pixels from one row to the next; what is left of the height is the border of the first.
    """
    from PIL import Image, ImageDraw, ImageFont

    channels, height, width = picture.shape
    size = min(20, max(11, pitch // 4))
    font = cast("FreeTypeFont", ImageFont.load_default(size))
    names = [_cut(name if _writes(font, name) else f"@{index}", font, NAMES * width) for index, name in rows]
    left = math.ceil(max(map(font.getlength, names))) + 2 * EDGE
    framed = Image.new("L" if channels == 1 else "RGB", (left + width, height), (BACKGROUND,) * channels)
    framed.paste(to_pillow(picture), (left, 0))
    draw, border = ImageDraw.Draw(framed), (height - len(rows) * pitch) / 2
    for row, name in enumerate(names):
        draw.text((left - EDGE, border + (row + 0.5) * pitch), name, fill=(INK,) * channels, font=font, anchor="rm")
    return from_pillow(framed)


def _writes(font: "FreeTypeFont", text: str) -> bool:
    """Whether a font has a glyph for every character of a text."""
    missing = bytes(font.getmask("\U0010ffff"))  # a code point that is never assigned
    return all(c == " " or bytes(font.getmask(c)) != missing for c in printable(text))


def _cut(text: str, font: "FreeTypeFont", room: float) -> str:
    """A text in one line, shortened to a width in pixels."""
    text = printable(text)
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(f"{text}...") > room:
        text = text[:-1]
    return f"{text.rstrip()}..."


def trajectory(snapshots: Pixels, captions: Sequence[str], pad: int = 2) -> Pixels:
    """Images on their way: a row each, a column per moment, the moment written above its column.

    Serves the way from noise to image (captions such as ``t = 900``) and from image to noise (``25 %``) alike. Where
    captions are too wide for their columns, only every second, third, ... is written.

    Args:
        snapshots: uint8 (S, N, C, H, W): S moments of N images.
        captions: S short texts.
        pad: width of the border in pixels of the images.

    Returns:
        uint8 (C, H', W').
    """
    from PIL import Image, ImageDraw

    moments, channels, height, width = snapshots.shape[0], *snapshots.shape[2:]
    tiles = to_pillow(grid(snapshots.swapaxes(0, 1).reshape(-1, channels, height, width), columns=moments, pad=pad))
    columns = _columns(tiles, moments, width, pad)
    font, head = _font(columns)
    picture = Image.new(tiles.mode, (tiles.width, head + tiles.height), (BACKGROUND,) * channels)
    picture.paste(tiles, (0, head))
    _write(ImageDraw.Draw(picture), captions, columns, 0.62 * head, font, _every(columns, captions, font))
    return from_pillow(picture)


def annotated(
    snapshots: Pixels,
    captions: Sequence[str],
    headings: Sequence[str],
    notes: Sequence[Sequence[str]],
    pad: int = 2,
) -> Pixels:
    """Rows to compare: as :func:`trajectory`, with a line above each row and lines below each image.

    Args:
        snapshots: uint8 (S, N, C, H, W): S moments of N rows.
        captions: S short texts, above the columns.
        headings: N texts, above the rows.
        notes: N rows of S texts, of as many lines each, below the images.
        pad: width of the border in pixels of the images.

    Returns:
        uint8 (C, H', W').
    """
    from PIL import Image, ImageDraw

    moments, channels, width = len(snapshots), snapshots.shape[2], snapshots.shape[4]
    scale = max(1, SEEN // max(snapshots.shape[3:])) if moments == 1 else None  # else as large as the width allows
    rows = [to_pillow(grid(snapshots[:, n], moments, pad, scale)) for n in range(len(headings))]
    columns = _columns(rows[0], moments, width, pad)
    texts = [*captions, *(line for row in notes for note in row for line in note.splitlines())]
    font, head = _font(columns, texts)
    below = round(1.3 * font.size)  # a line of notes
    lines = max(len(note.splitlines()) for row in notes for note in row)
    block = head + rows[0].height + lines * below + round(0.5 * font.size)
    wide = max(rows[0].width, math.ceil(max(map(font.getlength, headings))) + 2 * EDGE)
    left = (wide - rows[0].width) // 2
    columns = columns._replace(middle=left + columns.middle, end=wide)
    picture = Image.new(rows[0].mode, (wide, head + len(rows) * block), (BACKGROUND,) * channels)
    draw, every = ImageDraw.Draw(picture), _every(columns, texts, font)
    _write(draw, captions, columns, 0.62 * head, font, every)
    for number, (row, heading, note) in enumerate(zip(rows, headings, notes, strict=True)):
        top = head + number * block
        draw.text((EDGE, top + 0.5 * head), heading, fill=(INK,) * channels, font=font, anchor="lm")
        picture.paste(row, (left, top + head))
        for k, line in enumerate(zip(*(text.splitlines() for text in note), strict=True)):
            _write(draw, line, columns, top + head + row.height + (k + 0.6) * below, font, every)
    return from_pillow(picture)


def captioned(picture: Pixels, caption: str, longest: str = "") -> Pixels:
    """A picture with a line above it, at its left, so that a caption that changes from frame to frame stands still.

    The line is small enough for the picture's width, as far as it can still be read.

    Args:
        picture: uint8 (C, H, W).
        caption: the line.
        longest: that of all frames of a film, so that all get the same size; empty: this one.
    """
    from PIL import Image, ImageDraw, ImageFont

    channels, height, width = picture.shape
    size = min(20, max(11, width // 12))
    while size > 11 and ImageFont.load_default(size).getlength(longest or caption) > width - 2 * EDGE:
        size -= 1
    font, head = ImageFont.load_default(size), round(1.8 * size)
    framed = Image.new("L" if channels == 1 else "RGB", (width, head + height), (BACKGROUND,) * channels)
    framed.paste(to_pillow(picture), (0, head))
    ImageDraw.Draw(framed).text((EDGE, 0.55 * head), caption, fill=(INK,) * channels, font=font, anchor="lm")
    return from_pillow(framed)


def enlarged(images: Pixels, side: int = SEEN) -> Pixels:
    """Small images so that they can be seen: by a whole number, as far as the longer side stays within ``side``.

    Args:
        images: uint8 (..., C, H, W).
        side: pixels; larger images are left as they are.
    """
    scale = max(1, side // max(images.shape[-2:]))
    return images.repeat(scale, axis=-2).repeat(scale, axis=-1)


def shrunk(image: Pixels, side: int) -> Pixels:
    """A picture whose longer side is at most ``side``, in its own proportions; a smaller one as it is.

    Args:
        image: uint8 (C, H, W).
        side: pixels, 1 or more.
    """
    from PIL import Image

    _, height, width = image.shape
    if max(height, width) <= side:
        return image
    size = (max(1, round(width * side / max(height, width))), max(1, round(height * side / max(height, width))))
    return from_pillow(to_pillow(image).resize(size, Image.Resampling.LANCZOS))


def grayscale(image: Pixels) -> Pixels:
    """A color picture as its luminance (ITU-R BT.601), uint8 (1, H, W).

    Args:
        image: uint8 (3, H, W).
    """
    return from_pillow(to_pillow(image).convert("L"))


def squared(image: Pixels, side: int) -> Pixels:
    """A picture as a square, as data sets get theirs: the shorter side resized, the middle of the longer one kept.

    Args:
        image: uint8 (C, H, W).
        side: pixels, 1 or more.
    """
    from PIL import Image, ImageOps

    if image.shape[1:] == (side, side):
        return image
    return from_pillow(ImageOps.fit(to_pillow(image), (side, side), Image.Resampling.BILINEAR))


class _Columns(NamedTuple):
    """Where the columns of a picture are, in its pixels."""

    middle: float  # of the first
    pitch: int  # from one to the next
    end: int  # of the picture


def _columns(tiles: "PillowImage", moments: int, width: int, pad: int) -> _Columns:
    scale = tiles.width // (pad + moments * (width + pad))
    return _Columns(scale * (pad + width / 2), scale * (width + pad), tiles.width)


def _font(columns: _Columns, texts: Sequence[str] = ()) -> tuple["FreeTypeFont", int]:
    """The font that suits columns, smaller where texts would not fit above each, and the height of a line of it."""
    from PIL import ImageFont

    size = min(20, max(11, columns.pitch // 5))
    while size > 11 and _every(columns, texts, cast("FreeTypeFont", ImageFont.load_default(size))) > 1:
        size -= 1
    return cast("FreeTypeFont", ImageFont.load_default(size)), round(1.8 * size)


def _every(columns: _Columns, texts: Sequence[str], font: "FreeTypeFont") -> int:
    """Only every so-manieth text finds room above its column."""
    return max(1, math.ceil(1.15 * max(map(font.getlength, texts), default=0) / columns.pitch))


def _write(
    draw: "ImageDraw", texts: Sequence[str], columns: _Columns, y: float, font: "FreeTypeFont", every: int
) -> None:
    """Texts centred on every so-manieth column."""
    ink = (INK,) * len(draw.mode)  # "L" or "RGB"
    for k in range(0, len(texts), every):
        half = font.getlength(texts[k]) / 2
        middle = columns.middle + k * columns.pitch
        middle = min(max(middle, half + 2), columns.end - half - 2)  # the outermost may be wide
        draw.text((middle, y), texts[k], fill=ink, font=font, anchor="mm")
