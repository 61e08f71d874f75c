"""A folder of images becomes what a person who looks at it would say it is."""

import io
import os
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from ddpm_cli import data
from ddpm_cli.data import folder, imagefile
from ddpm_cli.errors import DataError, ResourceError

NOISE = np.random.default_rng(2)


def save(path: Path, pixels: object, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(np.asarray(pixels))
    image.save(path, **options)


def grey(height: int = 6, width: int = 6, value: int | None = None) -> np.ndarray:
    if value is not None:
        return np.full((height, width), value, np.uint8)
    return NOISE.integers(0, 256, (height, width), dtype=np.uint8)


def colour(height: int = 6, width: int = 6) -> np.ndarray:
    return NOISE.integers(0, 256, (height, width, 3), dtype=np.uint8)


def load(path: Path, **options: object) -> data.ImageSet:
    return data.load(str(path), **options)


# --- What there is


def test_every_suffix_recursively_in_the_order_of_paths(tmp_path: Path) -> None:
    suffixes = ("png", "BMP", "gif", "tif", "TIFF", "pgm", "ppm", "webp")
    pictures = {f"{chr(104 - k)}{'/sub' * (k % 3)}/x.{suffix}": grey() for k, suffix in enumerate(suffixes)}
    for name, pixels in pictures.items():
        save(tmp_path / name, pixels, **({"lossless": True} if name.endswith("webp") else {}))
    (tmp_path / "notes.txt").write_text("no image")
    images = load(tmp_path)
    ordered = [pictures[name] for name in sorted(pictures)]
    # WebP knows no grey, so the set has colour, and grey is repeated.
    assert images.shape == (3, 6, 6)
    for channel in range(3):
        np.testing.assert_array_equal(images.images[:, channel], ordered)
    assert images.name == tmp_path.name


def test_jpegs(tmp_path: Path) -> None:
    save(tmp_path / "a.jpg", grey(value=77))
    save(tmp_path / "b.JPEG", grey(value=200))
    images = load(tmp_path)
    assert images.shape == (1, 6, 6)
    assert images.images.mean(axis=(1, 2, 3)).tolist() == [77, 200]


def test_hidden_files_are_no_images(tmp_path: Path) -> None:
    save(tmp_path / "a.png", grey())
    (tmp_path / "._a.png").write_bytes(b"resource fork")
    save(tmp_path / ".thumbnails" / "a.png", grey())
    assert len(load(tmp_path).images) == 1


def test_links_neither_loop_nor_double(tmp_path: Path) -> None:
    root = tmp_path / "root"
    save(root / "a" / "x.png", grey(value=1))
    save(tmp_path / "elsewhere" / "y.png", grey(value=2))
    (root / "a" / "up").symlink_to(root)
    (root / "b").symlink_to(tmp_path / "elsewhere")
    (root / "c").symlink_to(tmp_path / "elsewhere")
    (root / "round").symlink_to(root / "round")
    images = load(root)
    assert images.images[:, 0, 0, 0].tolist() == [1, 2]
    assert images.classes == ("a", "b")


# --- Classes and splits


def test_sub_folders_are_classes(tmp_path: Path) -> None:
    for name, value in (("dog/2.png", 1), ("dog/1.png", 2), ("cat/deep/er/1.png", 3), ("empty/none.txt", 0)):
        if value:
            save(tmp_path / name, grey(value=value))
        else:
            (tmp_path / "empty").mkdir()
    images = load(tmp_path)
    assert images.classes == ("cat", "dog")
    assert images.labels is not None
    assert images.labels.tolist() == [0, 1, 1]
    assert images.images[:, 0, 0, 0].tolist() == [3, 2, 1]


@pytest.mark.parametrize("names", [["a.png", "b.png"], ["x/a.png", "x/b.png"], ["x/a.png", "y/b.png", "c.png"]])
def test_other_folders_have_no_labels(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        save(tmp_path / name, grey())
    images = load(tmp_path)
    assert images.labels is None
    assert images.classes == ()
    assert len(images.images) == len(names)


def test_train_and_test_are_splits(tmp_path: Path) -> None:
    for split, value in (("train", 10), ("test", 20)):
        save(tmp_path / split / "a" / "1.png", grey(value=value))
        save(tmp_path / split / "b" / "1.png", grey(value=value + 1))
    for split, value in (("train", 10), ("test", 20)):
        images = load(tmp_path, split=split, say=pytest.fail)
        assert images.classes == ("a", "b")
        assert images.images[:, 0, 0, 0].tolist() == [value, value + 1]
        assert images.name == tmp_path.name


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("Train", "Test"),
        ("TRAINING", "TESTING"),
        ("training", "validation"),
        ("train", "val"),
        ("train", "Valid"),
        ("train", "dev"),
        ("train", "eval"),
        ("training_set", "test_set"),
        ("trainset", "testset"),
        ("Train Images", "Test Images"),
        ("train2017", "val2017"),
        ("train-data", "test-data"),
    ],
)
def test_other_names_of_splits(tmp_path: Path, train: str, test: str) -> None:
    for split, value in ((train, 10), (test, 20)):
        save(tmp_path / split / "a" / "1.png", grey(value=value))
        save(tmp_path / split / "b" / "1.png", grey(value=value + 1))
    assert data.has_splits(str(tmp_path))
    for split, name, value in (("train", train, 10), ("test", test, 20)):
        said: list[str] = []
        images = load(tmp_path, split=split, say=said.append)
        assert images.classes == ("a", "b")
        assert images.images[:, 0, 0, 0].tolist() == [value, value + 1]
        assert said == ([f"{split} images: {tmp_path / name}"] if name != split else [])


def test_test_images_go_before_those_for_validation(tmp_path: Path) -> None:
    for value, split in enumerate(("test", "train", "val")):
        save(tmp_path / split / "1.png", grey(value=value))
    assert load(tmp_path, split="test").images[0, 0, 0, 0] == 0
    assert load(tmp_path, split="train").images[0, 0, 0, 0] == 1


@pytest.mark.parametrize(
    "names", [("train", "bus"), ("test", "control"), ("train 1", "train 2"), ("invalid", "valid"), ("strain", "test")]
)
def test_classes_that_are_no_splits(tmp_path: Path, names: tuple[str, str]) -> None:
    for name in names:
        save(tmp_path / name / "1.png", grey())
    assert set(load(tmp_path, say=pytest.fail).classes) == set(names)
    assert not data.has_splits(str(tmp_path))


def test_two_folders_of_one_split_are_refused(tmp_path: Path) -> None:
    for name in ("train", "training", "test"):
        save(tmp_path / name / "1.png", grey())
    with pytest.raises(DataError, match="holds train and training, which name the same split"):
        load(tmp_path)


def test_splits_without_training_images(tmp_path: Path) -> None:
    for name in ("test", "val"):
        save(tmp_path / name / "1.png", grey())
    with pytest.raises(DataError, match="has no folder of train images") as caught:
        load(tmp_path)
    assert "training" in caught.value.hint
    assert len(load(tmp_path, split="test").images) == 1


def of_system(root: Path) -> None:
    """Puts pictures where operating systems, network storage and programs put them."""
    for name in (
        *("@eaDir", "#recycle", "$RECYCLE.BIN", "$Recycle.Bin", "System Volume Information", "__MACOSX", "lost+found"),
        *(".ipynb_checkpoints", "__pycache__", "@Recycle", "found.000", "LOST.DIR", ".thumbnails", "RECYCLER"),
    ):
        save(root / name / "1.png", colour())


def test_folders_of_systems_are_neither_classes_nor_images(tmp_path: Path) -> None:
    for value, name in enumerate(("cat", "dog")):
        save(tmp_path / name / "1.png", grey(value=value))
        of_system(tmp_path / name)
    of_system(tmp_path)
    images = load(tmp_path, say=pytest.fail)
    assert images.classes == ("cat", "dog")
    assert images.images[:, 0, 0, 0].tolist() == [0, 1]


def test_classes_without_images_are_said(tmp_path: Path) -> None:
    root = tmp_path / "root"

    def said(**options: object) -> list[str]:
        lines: list[str] = []
        load(root, say=lines.append, **options)
        return lines

    save(root / "cat" / "1.png", grey())
    save(root / "dog" / "1.png", grey())
    (root / "eel").mkdir()
    (root / "fox" / "deeper").mkdir(parents=True)
    (root / "fox" / "deeper" / "notes.txt").touch()
    (root / "gnu").symlink_to(root / "not mounted")
    assert load(root).classes == ("cat", "dog")
    for _ in range(2):  # the second time from the store
        assert said() == ["warning: no image in eel, fox, gnu: 2 classes are left"]
    (root / "dog" / "1.png").write_bytes(b"damaged")
    skipped = said(on_bad_image="skip")
    only = "only one folder has images, so there are no classes"
    assert skipped[-1] == f"warning: no image in dog, eel, fox and 1 more: {only}"
    assert load(root, on_bad_image="skip").classes == ()


def test_an_empty_folder_beside_images_is_no_class(tmp_path: Path) -> None:
    save(tmp_path / "1.png", grey())
    (tmp_path / "notes").mkdir()
    load(tmp_path, say=pytest.fail)


def test_a_folder_without_splits_is_read_whole(tmp_path: Path) -> None:
    save(tmp_path / "a.png", grey())
    said: list[str] = []
    assert len(load(tmp_path, split="test", say=said.append).images) == 1
    assert len(said) == 1
    assert "all its images are used" in said[0]


def test_limit_reaches_every_class(tmp_path: Path) -> None:
    for name in "abc":
        for k in range(4):
            save(tmp_path / name / f"{k}.png", grey())
    images = load(tmp_path, limit=6)
    assert images.labels is not None
    assert images.labels.tolist() == [0, 0, 1, 1, 2, 2]


# --- Pixels


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [
        ("1", 1, [255]),
        ("L", 130, [130]),
        ("LA", (130, 255), [130]),
        ("RGB", (1, 2, 3), [1, 2, 3]),
        ("CMYK", (0, 255, 255, 0), [255, 0, 0]),
    ],
)
def test_modes(tmp_path: Path, mode: str, value: object, expected: list[int]) -> None:
    suffix = "tif" if mode == "CMYK" else "png"
    save(tmp_path / f"a.{suffix}", Image.new(mode, (4, 4), value))
    images = load(tmp_path)
    assert images.images[0, :, 0, 0].tolist() == expected


def test_a_grey_palette_is_grey_and_a_coloured_one_is_not(tmp_path: Path) -> None:
    for name, colours in (("grey", [9, 9, 9, 200, 200, 200]), ("colour", [9, 9, 9, 200, 100, 0])):
        image = Image.new("P", (2, 1))
        image.putpalette(colours)
        image.putdata([1, 0])
        save(tmp_path / name / "a.png", image)
    assert load(tmp_path / "grey").images[0].tolist() == [[[200, 9]]]
    assert load(tmp_path / "colour").images[0].tolist() == [[[200, 9]], [[100, 9]], [[0, 9]]]


def test_sixteen_bits_become_eight(tmp_path: Path) -> None:
    values = np.array([[0, 128, 129, 257, 32767, 32768, 65406, 65407, 65535]], np.uint16)
    # v / 257 to the nearest: 128 / 257 = 0.498, 129 / 257 = 0.502, 32767 / 257 = 127.498, 32768 / 257 = 127.502, ...
    expected = [[[0, 0, 1, 1, 127, 128, 254, 255, 255]]]
    for name in ("png/a.png", "tif/a.tif", "pgm/a.pgm"):
        save(tmp_path / name, values)
        images = load((tmp_path / name).parent)
        assert images.images.tolist() == [expected], name


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def test_a_transparent_color_of_sixteen_bits_is_compared_in_all_of_them(tmp_path: Path) -> None:
    """Two colors with equal upper bytes, one of which is transparent, and so white."""
    rows = b"".join(b"\0" + struct.pack(">6H", 0x1234, 0x5678, 0x9ABC, 0x1235, 0x5678, 0x9ABC) for _ in range(2))
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0))
    clear, body = (
        png_chunk(b"tRNS", struct.pack(">3H", 0x1234, 0x5678, 0x9ABC)),
        png_chunk(b"IDAT", zlib.compress(rows)),
    )
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + head + body + png_chunk(b"IEND", b""))
    assert load(tmp_path).images[0, :, 0, 0].tolist() == [0x12, 0x56, 0x9A]
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + head + clear + body + png_chunk(b"IEND", b""))
    assert load(tmp_path).images[0, :, 0].tolist() == [[255, 0x12], [255, 0x56], [255, 0x9A]]


def bmp(bits: int, palette: list[tuple[int, int, int]], indices: list[int]) -> bytes:
    """One row of a BMP with a palette, by the definition of BITMAPINFOHEADER."""
    row = int("".join(f"{index:0{bits}b}" for index in indices).ljust(32 * -(-bits * len(indices) // 32), "0"), 2)
    packed = row.to_bytes(4 * -(-bits * len(indices) // 32), "big")
    offset = 54 + 4 * len(palette)
    info = struct.pack("<IiiHHIIiiII", 40, len(indices), 1, 1, bits, 0, len(packed), 0, 0, len(palette), 0)
    colors = b"".join(bytes((*reversed(color), 0)) for color in palette)
    return b"BM" + struct.pack("<IHHI", offset + len(packed), 0, 0, offset) + info + colors + packed


@pytest.mark.parametrize("bits", [1, 4, 8])
@pytest.mark.parametrize("two", [[0, 255], [255, 0], [10, 200], [0, 1]])
def test_bitmaps_of_two_colors(tmp_path: Path, bits: int, two: list[int]) -> None:
    indices = [0, 1, 1, 0, 1, 0, 0, 1, 1, 1]
    (tmp_path / "a.bmp").write_bytes(bmp(bits, [(shade,) * 3 for shade in two], indices))
    assert load(tmp_path).images[0, 0, 0].tolist() == [two[index] for index in indices]


def test_a_bitmap_of_sixteen_dark_greys(tmp_path: Path) -> None:
    (tmp_path / "a.bmp").write_bytes(bmp(4, [(shade,) * 3 for shade in range(16)], [15, 3, 0, 7]))
    assert load(tmp_path).images[0, 0, 0].tolist() == [15, 3, 0, 7]


def test_twelve_bits_are_spread_or_named(tmp_path: Path) -> None:
    said: list[str] = []
    save(tmp_path / "16" / "a.png", np.array([[0, 4095]], np.uint16))
    load(tmp_path / "16", say=said.append)
    assert len(said) == 1
    assert "at most 12 bits" in said[0]
    save(tmp_path / "16" / "b.png", np.array([[0, 65535]], np.uint16))
    load(tmp_path / "16", say=pytest.fail)
    (tmp_path / "12").mkdir()
    one_row = bytes((0x00, 0x08, 0x00, 0x0F, 0xFF, 0x00))  # 0x000, 0x800, 0x0FF, 0xF00 of 12 bits
    (tmp_path / "12" / "a.tif").write_bytes(tiff_12(one_row, 4))
    assert load(tmp_path / "12").images[0, 0, 0].tolist() == [0, 128, 16, 239]  # 255 v / 4095, rounded


def tiff_12(row: bytes, width: int) -> bytes:
    """A TIFF of one row of grey, 12 bits each."""
    tags = [
        *((256, 4, 1, width), (257, 4, 1, 1), (258, 3, 1, 12), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 134)),
        *((274, 3, 1, 1), (277, 3, 1, 1), (278, 4, 1, 1), (279, 4, 1, len(row))),
    ]
    packed = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + packed + bytes(4) + row


def test_more_suffixes_of_what_can_be_read(tmp_path: Path) -> None:
    for suffix in (".jfif", ".JPE", ".apng"):
        save(tmp_path / f"a{suffix}", grey(), format="PNG" if suffix == ".apng" else "JPEG")
    assert len(load(tmp_path, say=pytest.fail).images) == 3


def test_images_that_are_not_read_are_named(tmp_path: Path) -> None:
    for name in ("a.avif", "b.HEIC", "c.heic", "notes.txt"):
        (tmp_path / name).write_bytes(b"?")
    with pytest.raises(
        DataError, match=r"there is no image in .*; images of other kinds are not read: 1 .avif, 2 .heic"
    ):
        load(tmp_path)
    save(tmp_path / "a.png", grey())
    for _ in range(2):  # the second time from the store
        said: list[str] = []
        load(tmp_path, say=said.append)
        assert said == ["warning: images of these kinds are not read: 1 .avif, 2 .heic"]


def test_a_png_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[str] = []
    before = ImageFile.ImageFile.load

    def counted(self: ImageFile.ImageFile) -> object:
        decoded.extend([str(self.format)] * bool(self.tile))
        return before(self)

    monkeypatch.setattr(ImageFile.ImageFile, "load", counted)
    save(tmp_path / "a.png", grey())
    save(tmp_path / "b.png", colour(), pnginfo=None)
    load(tmp_path)
    assert decoded == ["PNG", "PNG"]


def test_an_orientation_after_the_pixels_is_found(tmp_path: Path) -> None:
    pixels, exif = grey(6, 4), Image.Exif()
    exif[0x0112] = 6  # turn clockwise: the left column, from below, becomes the top row
    save(tmp_path / "a.png", pixels)
    whole = (tmp_path / "a.png").read_bytes()
    end = whole.index(b"IEND") - 4
    late = png_chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    (tmp_path / "a.png").write_bytes(whole[:end] + late + whole[end:])
    np.testing.assert_array_equal(load(tmp_path).images[0, 0], np.rot90(pixels, -1))


def tiff(pixels: np.ndarray, photometric: int, extra: tuple[int, ...] = ()) -> bytes:
    """A TIFF of 8 bits, (H, W, C), written by hand from the definition (TIFF 6.0), for Pillow writes few of them."""
    height, width, channels = pixels.shape
    count = 12 if extra else 11
    end = 8 + 2 + 12 * count + 4
    bits = end if channels > 2 else 8 | 8 << 16
    extras = struct.pack(f"<{len(extra)}H", *extra)
    where = end + 2 * channels
    at = where + len(extras) if len(extras) > 4 else where
    tags = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, channels, bits if channels > 1 else 8),
        (259, 3, 1, 1),
        (262, 3, 1, photometric),
        (273, 4, 1, at),
        (274, 3, 1, 1),
        (277, 3, 1, channels),
        (278, 4, 1, height),
        (279, 4, 1, pixels.size),
        (284, 3, 1, 1),
    ]
    if extra:
        tags.append((338, 3, len(extra), where if len(extras) > 4 else int.from_bytes(extras, "little")))
    packed = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    head = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", count) + packed + bytes(4)
    content = head + struct.pack(f"<{channels}H", *[8] * channels)
    return content + (extras if len(extras) > 4 else b"") + pixels.tobytes()


@pytest.mark.parametrize(
    ("channels", "photometric", "extra"),
    [
        (2, 1, (0,)),
        (2, 1, ()),
        (4, 2, (0,)),
        (5, 2, (0, 0)),
        (5, 2, (2, 0)),
        (5, 1, (0, 0, 0, 0)),
        (4, 1, (0, 0, 0)),
        (8, 1, (0,) * 7),
        (5, 1, ()),
    ],
)
def test_more_channels_than_colors_are_refused_by_name(
    tmp_path: Path, channels: int, photometric: int, extra: tuple[int, ...]
) -> None:
    (tmp_path / "a.tif").write_bytes(tiff(np.full((6, 7, channels), 90, np.uint8), photometric, extra))
    with pytest.raises(DataError, match=f"it has {channels} channels"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("channels", "photometric", "extra", "expected"),
    [(1, 1, (), 100), (1, 0, (), 155), (2, 1, (2,), 194), (3, 2, (), 100), (4, 2, (2,), 194)],
)
def test_tiffs_of_colors_and_transparency(
    tmp_path: Path, channels: int, photometric: int, extra: tuple[int, ...], expected: int
) -> None:
    """100 where 100 of 255 is opaque: 100 * 100 / 255 + 155 = 194 on white."""
    (tmp_path / "a.tif").write_bytes(tiff(np.full((6, 7, channels), 100, np.uint8), photometric, extra))
    assert (load(tmp_path).images == expected).all()


def test_what_is_transparent_lies_on_white(tmp_path: Path) -> None:
    save(tmp_path / "rgba" / "a.png", np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 100, 255, 51]]], np.uint8))
    # 51 / 255 = 0.2: 0.2 v + 0.8 * 255
    assert load(tmp_path / "rgba").images[0].tolist() == [[[10, 255, 204]], [[20, 255, 224]], [[30, 255, 255]]]
    save(tmp_path / "la" / "a.png", Image.fromarray(np.array([[[0, 255], [0, 0], [0, 51]]], np.uint8), "LA"))
    assert load(tmp_path / "la").images[0].tolist() == [[[0, 255, 204]]]
    image = Image.new("P", (2, 1))
    image.putpalette([9, 9, 9, 200, 100, 0])
    image.putdata([1, 0])
    save(tmp_path / "p" / "a.png", image, transparency=1)
    assert load(tmp_path / "p").images[0].tolist() == [[[255, 9]]]  # the one colour in use is grey


ROTATIONS = {
    # EXIF 2.32: where row 0 and column 0 of the stored image are seen.
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].T,
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", ROTATIONS)
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_orientation(tmp_path: Path, orientation: int, suffix: str) -> None:
    pixels = grey(2, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    save(tmp_path / f"a.{suffix}", pixels, exif=exif)
    np.testing.assert_array_equal(load(tmp_path).images[0, 0], ROTATIONS[orientation](pixels))


def test_damaged_exif_is_no_reason_to_refuse(tmp_path: Path) -> None:
    save(tmp_path / "a.jpg", grey(value=50), exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff")
    assert load(tmp_path).images[0, 0, 0, 0] == 50


def test_first_frame(tmp_path: Path) -> None:
    frames = [Image.fromarray(grey(value=value)) for value in (10, 20, 30)]
    for suffix in ("gif", "png", "tif"):
        path = tmp_path / f"a.{suffix}"
        frames[0].save(path, save_all=True, append_images=frames[1:])
    assert load(tmp_path).images[:, 0, 0, 0].tolist() == [10, 10, 10]


def test_two_pictures_in_one_jpeg(tmp_path: Path) -> None:
    """Telephones save MPO under the suffix of JPEG."""
    save(
        tmp_path / "a.jpg",
        Image.new("L", (4, 4), 60),
        format="MPO",
        save_all=True,
        append_images=[Image.new("L", (4, 4))],
    )
    assert load(tmp_path).images[0, :, 0, 0].tolist() == [60]


# --- Sizes


def test_one_size_is_kept_without_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    save(tmp_path / "a.png", grey(100, 30))
    save(tmp_path / "b.png", grey(100, 30))
    assert load(tmp_path, say=pytest.fail).shape == (1, 100, 30)


def test_the_common_size_is_the_median_side_in_fours(tmp_path: Path) -> None:
    for k, size in enumerate([(1, 1), (30, 90), (31, 40), (35, 33), (500, 400)]):
        save(tmp_path / f"{k}.png", grey(*size))
    said: list[str] = []
    assert load(tmp_path, say=said.append).shape == (1, 28, 28)  # the sides 1 30 31 33 400: 31, in fours 28
    assert said == ["the images are of 5 sizes: all become 28 x 28 (--image-size changes that)"]


@pytest.mark.parametrize(("sides", "expected"), [((1, 2), 4), ((70, 90), 64)])
def test_the_common_size_has_bounds(tmp_path: Path, sides: tuple[int, int], expected: int) -> None:
    for side in sides:
        save(tmp_path / f"{side}.png", grey(side, side))
    assert load(tmp_path).shape == (1, expected, expected)


def test_resized_then_cropped_in_the_centre(tmp_path: Path) -> None:
    """Three plain squares side by side, doubled and halved: the middle one is left, away from its soft edges."""
    stripe = np.repeat(np.array([[10, 100, 250]], np.uint8), 8, axis=0).repeat(8, axis=1)  # 8 x 24
    save(tmp_path / "wide" / "a.png", stripe)
    save(tmp_path / "tall" / "a.png", stripe.T.copy())
    for size in (4, 16):
        for name in ("wide", "tall"):
            images = load(tmp_path / name, image_size=size)
            assert images.shape == (1, size, size)
            assert set(images.images[0, 0, 1:-1, 1:-1].ravel()) == {100}
    assert load(tmp_path / "wide", image_size=8).images[0, 0].tolist() == [[100] * 8] * 8


def test_downscaling_is_antialiased(tmp_path: Path) -> None:
    save(tmp_path / "a.png", (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8))
    shrunk = load(tmp_path, image_size=8).images
    assert 120 <= shrunk.min() <= shrunk.max() <= 135  # without, a chequerboard is black or white


def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    class Finder:
        def find_spec(self, name: str, *_: object) -> None:
            if name.startswith("torchvision"):
                raise RuntimeError("operator torchvision::nms does not exist")

    for name in [name for name in sys.modules if name.startswith("torchvision")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])


def missing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("torchvision", "torchvision.transforms", "torchvision.transforms.v2"):
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.parametrize("how", [broken, missing])
def test_no_torchvision_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how) -> None:
    how(monkeypatch)
    save(tmp_path / "a.png", grey())
    with pytest.raises(ResourceError, match="resizing images needs torchvision") as caught:
        load(tmp_path, image_size=3)
    assert "pip install torchvision" in caught.value.hint


# --- What is wrong


def test_no_folder_no_images(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no folder"):
        load(tmp_path / "absent")
    with pytest.raises(DataError, match="there is no image in"):
        load(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="is not a folder"):
        load(tmp_path / "file")


def png(pixels: np.ndarray) -> bytes:
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, "PNG")
    return target.getvalue()


BAD = {
    "text": b"I am no image",
    "empty": b"",
    "truncated": png(grey(50, 50))[:-900],
    "damaged": png(grey(50, 50)).replace(b"IDAT", b"IDAX"),
    "header only": png(grey())[:30],
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n",
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_file_is_named(tmp_path: Path, what: str) -> None:
    save(tmp_path / "a.png", grey())
    (tmp_path / "bad.png").write_bytes(BAD[what])
    with pytest.raises(DataError, match=r"cannot read .*bad\.png: .") as caught:
        load(tmp_path)
    assert "move it out of the folder" in caught.value.hint


@pytest.mark.parametrize("pixels", [101, 201], ids=["warned of", "refused"])
def test_decompression_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pixels: int) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # Pillow warns above, and refuses above twice as many
    save(tmp_path / "bomb.png", grey(1, pixels))
    with pytest.raises(DataError, match=r"bomb\.png: .*decompression bomb"):
        load(tmp_path)


def test_numbers_without_a_range(tmp_path: Path) -> None:
    save(tmp_path / "float" / "a.tif", np.ones((2, 2), np.float32))
    with pytest.raises(DataError, match="floating-point pixels have no agreed range"):
        load(tmp_path / "float")
    save(tmp_path / "wide" / "a.tif", np.full((2, 2), 70_000, np.int32))
    with pytest.raises(DataError, match="its values exceed 16 bits"):
        load(tmp_path / "wide")


def test_a_broken_link_and_a_pipe(tmp_path: Path) -> None:
    link, pipe = tmp_path / "link" / "a.png", tmp_path / "pipe" / "a.png"
    for path in (link, pipe):
        path.parent.mkdir()
    link.symlink_to(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"cannot read .*a\.png: No such file"):
        load(link.parent)
    os.mkfifo(pipe)
    with pytest.raises(DataError, match="not a regular file"):
        load(pipe.parent)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path: Path) -> None:
    save(tmp_path / "a.png", grey())
    (tmp_path / "a.png").chmod(0)
    with pytest.raises(DataError, match=r"cannot read .*a\.png: Permission denied"):
        load(tmp_path)


# --- One image on its own


@pytest.mark.parametrize("orientation", ROTATIONS)
def test_bytes_are_read_as_their_file_is(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    for name, pixels in (
        ("grey.jpg", grey(20, 30)),
        ("colour.jpg", colour(20, 30)),
        ("sixteen.png", grey(20, 30).astype(np.uint16) * 200),
        ("clear.png", np.dstack([colour(20, 30), grey(20, 30)])),
        ("turned.tif", grey(20, 30)),
    ):
        save(tmp_path / name, pixels, exif=exif)
        found = imagefile.read_image((tmp_path / name).read_bytes())
        np.testing.assert_array_equal(found, imagefile.read_image(tmp_path / name))
        assert found.shape[1:] == ((20, 30) if orientation < 5 else (30, 20))
        assert found.flags.writeable


@pytest.mark.parametrize("what", BAD)
def test_bad_bytes_are_told_with_the_advice_of_the_caller(what: str) -> None:
    with pytest.raises(DataError, match=r"cannot read the image on stdin: .") as caught:
        imagefile.read_image(BAD[what], "Send another.")
    assert caught.value.hint == "Send another."


# --- The store


def test_a_folder_is_read_once_until_it_changes(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, reads, read_image = tmp_path / "root", [], imagefile.read_image

    def counted(file: Path) -> np.ndarray:
        reads.append(file.name)
        return read_image(file)

    monkeypatch.setattr(folder, "read_image", counted)
    save(root / "a.png", grey(value=1))
    save(root / "b.png", grey(value=2))
    for _ in range(2):
        assert load(root).images[:, 0, 0, 0].tolist() == [1, 2]
    assert reads == ["a.png", "b.png"]

    save(root / "a.png", grey(value=3))
    os.utime(root / "a.png", ns=(0, 0))  # as many bytes, another time
    assert load(root).images[:, 0, 0, 0].tolist() == [3, 2]
    (root / "b.png").rename(root / "_.png")
    assert load(root).images[:, 0, 0, 0].tolist() == [2, 3]
    assert len(reads) == 6
    assert len(list((home / "cache" / "datasets").iterdir())) == 1

    load(root, image_size=3)
    assert load(root).shape == (1, 6, 6)
    assert len(reads) == 8


def test_folders_with_equal_names_sizes_and_times_are_told_apart(tmp_path: Path) -> None:
    for name, value in (("one", 1), ("two", 2)):
        save(tmp_path / name / "a.bmp", grey(value=value))
        os.utime(tmp_path / name / "a.bmp", ns=(0, 0))
    assert [load(tmp_path / name).images[0, 0, 0, 0] for name in ("one", "two")] == [1, 2]


def exchange(one: Path, other: Path) -> None:
    """As ``mv`` does it, with nothing but names changed."""
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


@pytest.mark.parametrize("how", ["files", "folders", "links", "content"])
def test_what_exchanged_its_name_is_read_again(tmp_path: Path, how: str) -> None:
    paths = [tmp_path / "d" / name / "1.bmp" for name in ("a", "b")]
    for shade, path in enumerate(paths):
        save(path, np.full((4, 4), shade, np.uint8))
        os.utime(path, (1e9, 1e9))
    if how == "links":
        for path in paths:
            path.rename(tmp_path / f"{path.parent.name}.bmp")
            path.symlink_to(tmp_path / f"{path.parent.name}.bmp")
    assert load(tmp_path / "d").images[:, 0, 0, 0].tolist() == [0, 1]
    if how == "folders":
        exchange(paths[0].parent, paths[1].parent)
    elif how == "content":
        for path, content in zip(paths, [path.read_bytes() for path in reversed(paths)], strict=True):
            path.write_bytes(content)
            os.utime(path, (1e9, 1e9))
    else:
        exchange(*paths)
    assert load(tmp_path / "d").images[:, 0, 0, 0].tolist() == [1, 0]


def test_progress_counts_bytes(tmp_path: Path) -> None:
    sizes = []
    for name in "ab":
        save(tmp_path / f"{name}.png", grey())
        sizes.append((tmp_path / f"{name}.png").stat().st_size)
    seen: list[tuple[int, int]] = []
    load(tmp_path, progress=lambda *report: seen.append(report))
    assert seen == [(sizes[0], sum(sizes)), (sum(sizes), sum(sizes))]
