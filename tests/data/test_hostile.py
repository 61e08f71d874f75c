"""Whatever lies in a folder is read rightly, or reported; and left out, if that is wished, as if it were not there."""

import io
import os
import resource
import socket
import struct
import sys
import tracemalloc
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddpm_cli import data
from ddpm_cli.config import Budget, RunConfig, network_for
from ddpm_cli.data import folder, imagefile, store
from ddpm_cli.data.imageset import LeftOut
from ddpm_cli.errors import DataError, UsageError
from ddpm_cli.printable import printable

NOISE = np.random.default_rng(5)
GREY = NOISE.integers(0, 256, (6, 6), dtype=np.uint8)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(
    width: int, height: int, depth: int, colour: int, rows: Sequence[bytes], *before: bytes, after: bytes = b""
) -> bytes:
    """A PNG by its definition (PNG 1.2): rows without their filter bytes, chunks before and after the pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(before) + pixels + after + chunk(b"IEND", b"")


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    target = io.BytesIO()
    image.save(target, kind, **options)
    return target.getvalue()


SOUND = encoded(Image.fromarray(GREY), "PNG")


def load(path: Path, **options: object) -> data.ImageSet:
    return data.load(str(path), **options)


def reason(content: bytes) -> str:
    with pytest.raises(imagefile.UnreadableImage) as caught:
        imagefile.read_image(content)
    assert "\n" not in caught.value.message
    assert caught.value.message.isprintable()
    return caught.value.reason


# --- Read rightly

SHADES = {
    # depth -> a row of packed pixels, and what each is in 8 bits: v * 255 / (2^depth - 1)
    1: (bytes([0b10110000]), [255, 0, 255, 255]),
    2: (bytes([0b00011011]), [0, 85, 170, 255]),
    4: (bytes([0x0F, 0x5A]), [0, 255, 85, 170]),
    8: (bytes([0, 255, 7, 200]), [0, 255, 7, 200]),
    16: (struct.pack(">4H", 0, 65535, 128, 129), [0, 255, 0, 1]),
}


@pytest.mark.parametrize("depth", SHADES)
def test_grey_of_any_depth(depth: int) -> None:
    row, expected = SHADES[depth]
    assert imagefile.read_image(png(4, 1, depth, 0, [row])).tolist() == [[expected]]


@pytest.mark.parametrize("depth", SHADES)
def test_a_shade_can_be_transparent(depth: int) -> None:
    """The chunk tRNS of a grey image names one shade, in the depth of the image (PNG 1.2, 4.2.9)."""
    row, expected = SHADES[depth]
    clear = {1: 0, 2: 1, 4: 0x5, 8: 7, 16: 128}[depth]
    place = {1: 1, 2: 1, 4: 2, 8: 2, 16: 2}[depth]
    on_white = [255 if number == place else shade for number, shade in enumerate(expected)]
    found = imagefile.read_image(png(4, 1, depth, 0, [row], chunk(b"tRNS", struct.pack(">H", clear))))
    assert found.tolist() == [[on_white]]


@pytest.mark.parametrize("depth", [8, 16])
def test_a_colour_can_be_transparent(depth: int) -> None:
    scale = 257 if depth == 16 else 1
    kind = "H" if depth == 16 else "B"
    row = struct.pack(f">6{kind}", *(scale * value for value in (1, 2, 3, 4, 5, 6)))
    clear = chunk(b"tRNS", struct.pack(">3H", *(scale * value for value in (1, 2, 3))))
    assert imagefile.read_image(png(2, 1, depth, 2, [row], clear)).tolist() == [[[255, 4]], [[255, 5]], [[255, 6]]]


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_palettes_with_transparency(depth: int) -> None:
    row = {1: bytes([0b01000000]), 2: bytes([0b00010000]), 4: bytes([0x01]), 8: bytes([0, 1])}[depth]
    palette, clear = chunk(b"PLTE", bytes([10, 20, 30, 0, 100, 255])), chunk(b"tRNS", bytes([255, 51]))
    # 51 / 255 = 0.2: 0.2 v + 0.8 * 255
    expected = [[[10, 204]], [[20, 224]], [[30, 255]]]
    assert imagefile.read_image(png(2, 1, depth, 3, [row], palette, clear)).tolist() == expected
    grey = chunk(b"PLTE", bytes([9, 9, 9, 200, 200, 200]))
    assert imagefile.read_image(png(2, 1, depth, 3, [row], grey)).tolist() == [[[9, 200]]]


def test_colour_of_sixteen_bits_is_at_most_one_off() -> None:
    values = np.array([0, 128, 129, 257, 300, 32767, 32768, 65406, 65535])
    row = struct.pack(">9H", *values)
    for colour, channels, expected in ((2, 3, values / 257), (4, 2, None)):
        if colour == 2:
            found = imagefile.read_image(png(3, 1, 16, colour, [row]))
            assert np.abs(found.transpose(1, 2, 0).ravel() - expected).max() <= 1
        else:  # grey with alpha, all of it opaque
            row = b"".join(struct.pack(">2H", value, 65535) for value in values)
            found = imagefile.read_image(png(9, 1, 16, colour, [row]))
            assert np.abs(found[0, 0] - values / 257).max() <= 1
        assert channels in (2, 3)


@pytest.mark.parametrize("marked", [True, False], ids=["Adobe's", "of nobody"])
def test_cmyk_jpegs(marked: bool) -> None:
    """Ink of 255 is none in a JPEG with Adobe's mark, and viewers take those without it likewise."""
    content = encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=100)
    place = content.index(b"\xff\xee\x00\x0eAdobe")
    if not marked:
        content = content[:place] + content[place + 16 :]
    red = imagefile.read_image(content)
    assert np.abs(red.astype(int) - np.array([255, 0, 0]).reshape(3, 1, 1)).max() <= 3


SIX = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
UPRIGHT = {
    1: [[0, 40, 80], [120, 160, 200]],
    2: [[80, 40, 0], [200, 160, 120]],
    3: [[200, 160, 120], [80, 40, 0]],
    4: [[120, 160, 200], [0, 40, 80]],
    5: [[0, 120], [40, 160], [80, 200]],
    6: [[120, 0], [160, 40], [200, 80]],
    7: [[200, 80], [160, 40], [120, 0]],
    8: [[80, 200], [40, 160], [0, 120]],
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_orientations_of_jpeg_webp_and_late_png(tmp_path: Path, orientation: int) -> None:
    """In blocks of 16, which a JPEG keeps; a PNG may tell it after its pixels."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    blocks = Image.fromarray(np.kron(SIX, np.ones((16, 16), np.uint8)))
    late = chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    rows = [row.tobytes() for row in np.asarray(blocks)]
    for name, content in (
        ("a.jpg", encoded(blocks, "JPEG", quality=100, exif=exif)),
        ("a.webp", encoded(blocks, "WEBP", lossless=True, exif=exif)),
        ("a.png", png(48, 32, 8, 0, rows, after=late)),
    ):
        (tmp_path / name).write_bytes(content)
        found = load(tmp_path)
        middles = found.images[0, 0, 8::16, 8::16]
        assert np.abs(middles.astype(int) - UPRIGHT[orientation]).max() <= 2, name
        (tmp_path / name).unlink()


@pytest.mark.parametrize(
    ("kind", "count", "value"),
    [(3, 1, 0), (3, 1, 9), (4, 1, 70_000), (2, 2, 0x36), (3, 2, 0x60006), (5, 1, 2), (3, 2**31, 6)],
    ids=["0", "9", "70000", "text", "two", "a fraction out of reach", "endless"],
)
def test_an_orientation_that_is_none_is_ignored(kind: int, count: int, value: int) -> None:
    tags = b"II*\0\x08\0\0\0" + struct.pack("<HHHIII", 1, 0x0112, kind, count, value, 0)
    content = png(3, 2, 8, 0, [row.tobytes() for row in SIX], chunk(b"eXIf", tags))
    try:
        assert imagefile.read_image(content).tolist() == [SIX.tolist()] or (kind, count) == (3, 2)
    except DataError:
        assert count == 2**31


def test_the_first_frame_of_every_animation() -> None:
    frames = [Image.new("RGB", (4, 4), (shade, 0, 0)) for shade in (10, 20, 30)]
    for kind, options in (("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {}), ("TIFF", {})):
        content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        assert imagefile.read_image(content)[0].tolist() == [[10] * 4] * 4, kind


def test_a_jpeg_called_png_is_a_jpeg(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(Image.new("L", (8, 8), 90), "JPEG"))
    assert load(tmp_path).images.tolist() == [[[[90] * 8] * 8]]


CUTS = {
    "png": lambda image: encoded(image, "PNG"),
    "jpeg": lambda image: encoded(image, "JPEG"),
    "progressive jpeg": lambda image: encoded(image, "JPEG", progressive=True),
    "gif": lambda image: encoded(image.convert("P"), "GIF"),
    "bmp": lambda image: encoded(image, "BMP"),
    "webp": lambda image: encoded(image, "WEBP"),
    "tiff": lambda image: encoded(image, "TIFF", compression="tiff_lzw"),
    "ppm": lambda image: encoded(image, "PPM"),
}


@pytest.mark.parametrize("kind", CUTS)
def test_a_file_cut_anywhere_is_whole_or_reported(kind: str) -> None:
    y, x = np.mgrid[:12, :17]
    content = CUTS[kind](Image.fromarray(np.stack([x * 15, y * 20, x * y], 2).astype(np.uint8)))
    whole, read = imagefile.read_image(content), 0
    for end in [*range(0, len(content) - 20, 7), *range(len(content) - 20, len(content))]:
        try:
            np.testing.assert_array_equal(imagefile.read_image(content[:end]), whole)
            read += 1
        except DataError:
            pass
    assert read <= 4  # only what comes after the pixels may be missing


def test_every_flipped_bit_of_a_png_is_found() -> None:
    for place in range(len(SOUND)):
        damaged = bytearray(SOUND)
        damaged[place] ^= 1 << place % 8
        assert reason(bytes(damaged))


# --- Reported


def huge(width: int, height: int) -> dict[str, bytes]:
    """Headers that announce such an image, in every format that has room for it."""
    vp8x = (
        b"VP8X" + struct.pack("<IB3x", 10, 2) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    )
    frame = b"\xff\xc0" + struct.pack(">HBHHB", 11, 8, height % 65536, width % 65536, 1) + b"\1\x11\0"
    tags = ((256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1))
    tags += ((273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, 100))
    tiff = b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
    small = (min(width, 16_384) - 1) | (min(height, 16_384) - 1) << 14
    return {
        "lossless webp": b"RIFF" + struct.pack("<I8sIBI95x", 112, b"WEBPVP8L", 100, 0x2F, small),
        "png": png(width, height, 8, 2, [bytes(100)]),
        "gif": b"GIF89a"
        + struct.pack("<HHBBB", width, height, 0x80, 0, 0)
        + bytes(6)
        + b","
        + bytes(9)
        + b"\2\2L\1\0;",
        "bmp": b"BM"
        + struct.pack("<IIIIiiHHIIIIII", 154, 0, 54, 40, width, height, 1, 24, 0, 100, 0, 0, 0, 0)
        + bytes(100),
        "webp": b"RIFF" + struct.pack("<I", 4 + len(vp8x) + 100) + b"WEBP" + vp8x + bytes(100),
        "jpg": b"\xff\xd8" + frame + b"\xff\xda\0\x08\1\1\0\0\x3f\0" + bytes(100),
        "tif": tiff + bytes(104),
        "ppm": f"P6 {width} {height} 255\n".encode() + bytes(100),
    }


@pytest.mark.parametrize("kind", huge(1, 1))
def test_a_bomb_is_refused_before_anything_is_allocated(kind: str) -> None:
    content = huge(60_000, 60_000)[kind]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    found = reason(content)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "bomb" in found
    assert peak < 10_000_000
    unit = 1 if sys.platform == "darwin" else 1024
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit < 100_000_000


def test_chunks_that_inflate_or_are_giant() -> None:
    zeros = zlib.compress(bytes(100_000_000), 9)
    rows = [bytes(4)]
    assert "too large" in reason(png(4, 1, 8, 0, rows, chunk(b"zTXt", b"a\0\0" + zeros)))
    assert "too large" in reason(png(4, 1, 8, 0, rows, chunk(b"iCCP", b"a\0\0" + zeros)))
    assert "text" in reason(png(4, 1, 8, 0, rows, chunk(b"tEXt", b"a\0" + b"x" * 70_000_000)))
    small = chunk(b"tEXt", b"a\0" + b"x" * 900_000)
    assert imagefile.read_image(png(4, 1, 8, 0, rows, small)).tolist() == [[[0] * 4]]


def test_a_file_of_endless_parts_is_given_up() -> None:
    assert "parts" in reason(SOUND[:33] + chunk(b"xxxx", b"") * (imagefile.PARTS + 1) + SOUND[33:])
    jpeg = encoded(Image.fromarray(GREY), "JPEG", progressive=True)
    scan = jpeg[jpeg.rindex(b"\xff\xda") : -2]
    assert "scans" in reason(jpeg[:-2] + scan * imagefile.SCANS + jpeg[-2:])


def test_a_file_too_large_to_be_an_image(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(SOUND[:33] + struct.pack(">I", 2**31 - 1) + b"tEXt")
    os.truncate(path, 10**10)  # a hole
    with pytest.raises(DataError, match="bytes, expected at most"):
        imagefile.read_image(path)


def test_nothing_is_run_that_calls_itself_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proof = tmp_path / "proof"
    for name in ("gs", "gsc", "gswin64c"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\ntouch {proof}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    for head in (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n", b"%PDF-1.7\n"):
        assert reason(head + b"showpage\n%%EOF\n") == "no image, or damaged"
    assert not proof.exists()


def test_a_tiff_is_refused_in_silence(capfd: pytest.CaptureFixture[str]) -> None:
    content = CUTS["tiff"](Image.fromarray(np.dstack([GREY] * 3)))
    place = content.index(struct.pack("<H", 273))  # StripOffsets
    assert reason(content[:8] + b"\xff" * 20 + content[28:]) or place
    assert capfd.readouterr() == ("", "")


# --- Names


def test_printable() -> None:
    assert printable("photo \u00e9\u4e2d (1).png") == "photo \u00e9\u4e2d (1).png"
    assert printable("a\nb\x1b[31m\u202e.png") == "a\\nb\\x1b[31m\\u202e.png"
    assert printable(os.fsdecode(b"\xff\xfe'.png")) == "\\xff\\xfe'.png"


NAMES = [
    b"-rf.png",
    b"two\nlines.png",
    b"\xff\xfe.png",
    b"x" * 251 + b".png",
    "\u4e2d\u00e9.png".encode(),
    b"a b;$(c).png",
]


@pytest.mark.skipif(sys.platform != "linux", reason="other rules for names there")
@pytest.mark.parametrize("good", [True, False], ids=["good", "bad"])
def test_names_of_every_kind(tmp_path: Path, good: bool) -> None:
    """Before all of them in bytes: the order of paths."""
    root = tmp_path / os.fsdecode(b"-folder\n\xff")
    root.mkdir()
    for number, name in enumerate(NAMES):
        Image.new("L", (2, 2), number).save(root / os.fsdecode(name), "PNG")
        if not good:
            (root / os.fsdecode(name)).write_bytes(b"")
    Image.new("L", (2, 2), 9).save(root / "zz.png")
    images = load(root, on_bad_image="skip")
    assert images.name == "-folder\\n\\xff"
    order = sorted(range(len(NAMES)), key=lambda number: os.fsdecode(NAMES[number]))
    if good:
        assert sorted(images.images[:, 0, 0, 0]) == [*range(len(NAMES)), 9]
        assert images.left_out == ()
    else:
        expected = {printable(os.fsdecode(NAMES[number])) for number in order}
        assert {bad.path for bad in images.left_out} == expected
        assert all(bad.path.isprintable() and bad.reason == "empty" for bad in images.left_out)
    images = load(root, on_bad_image="skip")  # from the store
    assert len(images.left_out) == (0 if good else len(NAMES))


def test_classes_with_names_that_cannot_be_printed(tmp_path: Path) -> None:
    for name in (b"\xff", b"a\nb"):
        (tmp_path / os.fsdecode(name)).mkdir()
        (tmp_path / os.fsdecode(name) / "x.png").write_bytes(SOUND)
    assert load(tmp_path).classes == ("\\xff", "a\\nb")


# --- Left out


def hostile(root: Path) -> dict[str, str]:
    """Fills a folder with what is no image but has the name of one; returns what is to be said of each."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "empty.png").touch()
    (root / "text.png").write_text("I am no image")
    (root / "cut.png").write_bytes(
        encoded(Image.fromarray(NOISE.integers(0, 256, (50, 50, 3), dtype=np.uint8)), "PNG")[:-90]
    )
    (root / "cut.jpg").write_bytes(encoded(Image.new("RGB", (300, 200)), "JPEG")[:-9])
    (root / "bomb.png").write_bytes(huge(60_000, 60_000)["png"])
    (root / "float.tif").write_bytes(encoded(Image.new("F", (4, 4)), "TIFF"))
    (root / "dangling.png").symlink_to(root / "nowhere")
    (root / "round.png").symlink_to(root / "round.png")
    (root / "zero.png").symlink_to("/dev/zero")
    os.mkfifo(root / "pipe.png")
    here = os.getcwd()  # noqa: PTH109
    os.chdir(root)  # the name of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as plug:
            plug.bind("socket.png")
    finally:
        os.chdir(here)
    (root / "folder.png").mkdir()
    return {
        "bomb.png": "bomb",
        "cut.jpg": "truncated",
        "cut.png": "truncated",
        "dangling.png": "No such file or directory",
        "empty.png": "empty",
        "float.tif": "floating-point",
        "pipe.png": "not a regular file",
        "round.png": "Too many levels of symbolic links",
        "socket.png": "not a regular file",
        "text.png": "no image, or damaged",
        "zero.png": "not a regular file",
    }


@pytest.fixture
def mixed(tmp_path: Path) -> tuple[Path, Path, dict[str, str]]:
    """A folder with good and bad images, the same without the bad ones, and what is to be said of these."""
    both, good = tmp_path / "both" / "photos", tmp_path / "good" / "photos"
    for number in range(5):
        for root in (both, good):
            path = root / ("cat", "dog")[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((8 + number, 9), 40 * number, np.uint8)).save(path)
    return both, good, hostile(both / "cat") | {}


def same(found: data.ImageSet, expected: data.ImageSet) -> None:
    np.testing.assert_array_equal(found.images, expected.images)
    assert (found.name, found.classes) == (expected.name, expected.classes)
    if expected.labels is None:
        assert found.labels is None
    else:
        np.testing.assert_array_equal(found.labels, expected.labels)


@pytest.mark.parametrize("image_size", [None, 6])
def test_a_set_is_as_if_bad_images_were_not_there(mixed, image_size: int | None) -> None:
    both, good, said_of = mixed
    expected = load(good, image_size=image_size)
    for _ in range(2):  # read, then from the store
        said: list[str] = []
        found = load(both, image_size=image_size, on_bad_image="skip", say=said.append)
        same(found, expected)
        assert [bad.path for bad in found.left_out] == [f"cat/{name}" for name in sorted(said_of)]
        for bad in found.left_out:
            assert said_of[bad.path.removeprefix("cat/")] in bad.reason
        notes = [note for note in said if "left out" in note]
        assert len(notes) == 1
        assert notes[0].startswith("11 of 16 images cannot be read and are left out: cat/bomb.png (")
        assert notes[0].endswith(", cat/cut.jpg (truncated), cat/cut.png (truncated) and 8 more")
    assert len(found.spread(2).left_out) == 11


def test_stop_names_the_first_and_counts_the_rest(mixed) -> None:
    both, _, _ = mixed
    with pytest.raises(
        DataError, match=r"cannot read .*/cat/bomb\.png: .*bomb.*; nor can [789] others in the folder"
    ) as caught:
        load(both)
    assert "--on-bad-image skip" in caught.value.hint


def test_what_was_skipped_stops_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(SOUND)
    (tmp_path / "b.png").write_bytes(SOUND[:-30])
    assert load(tmp_path, on_bad_image="skip").left_out == (LeftOut("b.png", "truncated"),)
    reads, real = [], imagefile.read_image
    monkeypatch.setattr(folder, "read_image", lambda file: reads.append(file.name) or real(file))
    for _ in range(2):
        with pytest.raises(DataError, match=r"b\.png: truncated"):
            load(tmp_path)
    assert reads == ["b.png"] * 2
    assert len(load(tmp_path, on_bad_image="skip").images) == 1


def test_what_can_be_read_by_now_is_read(tmp_path: Path) -> None:
    """As many bytes at the same time: a disk that failed for a while, say."""
    (tmp_path / "a.png").write_bytes(SOUND)
    (tmp_path / "b.png").write_bytes(bytes(len(SOUND)))
    os.utime(tmp_path / "b.png", ns=(0, 0))
    assert len(load(tmp_path, on_bad_image="skip").images) == 1
    (tmp_path / "b.png").write_bytes(SOUND)
    os.utime(tmp_path / "b.png", ns=(0, 0))
    assert len(load(tmp_path).images) == 2
    assert load(tmp_path).left_out == ()


def test_nothing_but_bad_images(tmp_path: Path, home: Path) -> None:
    for name in "ab":
        (tmp_path / "all" / f"{name}.png").parent.mkdir(exist_ok=True)
        (tmp_path / "all" / f"{name}.png").write_bytes(SOUND[:-30])
    with pytest.raises(DataError, match=r"none of the 2 images in .*all can be read: a\.png \(truncated\)"):
        load(tmp_path / "all", on_bad_image="skip")
    assert list((home / "cache" / "datasets").iterdir()) == []


def test_an_image_that_only_its_pixels_betray_has_no_say(tmp_path: Path) -> None:
    """Its header has colour and another size, and it is the only image beside the classes."""
    for name in ("cat/a.png", "dog/a.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(SOUND)
    (tmp_path / "bad.jpg").write_bytes(encoded(Image.new("RGB", (300, 200)), "JPEG")[:-9])
    said: list[str] = []
    found = load(tmp_path, on_bad_image="skip", say=said.append)
    assert found.shape == (1, 6, 6)
    assert found.classes == ("cat", "dog")
    np.testing.assert_array_equal(found.images[:, 0], [GREY, GREY])
    assert said == ["1 of 3 images cannot be read and is left out: bad.jpg (truncated)"]


def test_a_class_without_a_readable_image_is_none(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_bytes(SOUND if name != "b" else b"")
    found = load(tmp_path, on_bad_image="skip")
    assert found.classes == ("a", "c")
    assert found.labels is not None
    assert found.labels.tolist() == [0, 1]


def test_a_path_below_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="there is no folder"):
        load(tmp_path / "file" / "x")


def test_memory_that_is_not_there_is_no_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_memory(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(imagefile, "_strip", out_of_memory)
    (tmp_path / "a.png").write_bytes(SOUND)
    with pytest.raises(DataError, match=r"a\.png: there is not enough memory for it"):
        load(tmp_path)


# --- Memory


def grown(work: Callable[[], None]) -> int:
    """Bytes by which the peak of a process of its own rises above where it began."""
    ends, begins = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with open("/proc/self/clear_refs", "w") as file:  # noqa: PTH123
                file.write("5")  # the peak begins anew (proc(5))
            before = _peak()
            work()
            os.write(begins, str(_peak() - before).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(begins)
    with os.fdopen(ends) as answer:
        found = answer.read()
    assert os.waitpid(child, 0)[1] == 0
    return int(found)


def _peak() -> int:
    """Bytes: the highest resident memory (proc(5), VmHWM)."""
    with open("/proc/self/status") as file:  # noqa: PTH123
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))


@pytest.mark.skipif(sys.platform != "linux", reason="no /proc there")
def test_the_memory_to_read_a_folder_does_not_grow_with_it(tmp_path: Path) -> None:
    peaks = []
    for count in (4, 40):
        root = tmp_path / str(count)
        root.mkdir()
        Image.new("RGB", (1024, 1024), (1, 2, 3)).save(root / "0.png")
        for number in range(1, count):
            os.link(root / "0.png", root / f"{number}.png")

        def work(root: Path = root, count: int = count) -> None:
            assert load(root).images.shape == (count, 3, 1024, 1024)

        peaks.append(grown(work))
    assert peaks[1] - peaks[0] < 20_000_000  # 40 of them are 126 MB


@pytest.mark.skipif(sys.platform != "linux", reason="no /proc there")
@pytest.mark.parametrize("mode", ["RGBA", "I;16", "L", "P", "CMYK", "WebP"])
def test_the_largest_image_needs_less_than_a_gigabyte(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20_000_000)  # a quarter of what it is, of memory too
    kind, colours = {"CMYK": ("TIFF", mode), "WebP": ("WEBP", "RGBA")}.get(mode, ("PNG", mode))
    size = (5000, 2000) if kind == "WEBP" else (5000, 4000)  # of which half as many pixels are allowed
    content = encoded(Image.new(colours, size), kind, **({"lossless": True, "method": 0} if kind == "WEBP" else {}))

    def work() -> None:
        assert imagefile.read_image(content).shape[1:] == size[::-1]

    assert grown(work) < 250_000_000


def test_a_line_of_a_million_pixels_becomes_a_small_square(tmp_path: Path) -> None:
    line = np.zeros((1, 1_000_000), np.uint8)
    line[0, 499_000:501_000] = 200
    Image.fromarray(line).save(tmp_path / "a.png")
    found = load(tmp_path, image_size=64)
    assert found.shape == (1, 64, 64)
    assert (found.images == 200).all()


def test_a_size_that_no_network_takes_is_refused_before_anything_is_read(tmp_path: Path, home: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"not even looked at")
    with pytest.raises(UsageError, match="expected 1 to 4096"):
        load(tmp_path, image_size=5000)
    with pytest.raises(UsageError, match="expected at most 2048 with --preset small"):
        RunConfig(str(tmp_path), Budget(steps=1), image_size=3000)
    Image.new("L", (3000, 10)).save(tmp_path / "a.png")
    with pytest.raises(UsageError, match="expected at most 2048 with --preset small"):
        load(tmp_path, accept=lambda shape: network_for("small", shape, 0))
    assert not (home / "cache" / "datasets").exists() or not list((home / "cache" / "datasets").iterdir())
    assert store.of_folders() == ()
