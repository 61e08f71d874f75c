"""The store is a true safetensors file, and whatever is not exactly one is made anew."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file

from ddpm_cli import data
from ddpm_cli.data import inventory, store
from ddpm_cli.data.imageset import ImageSet, LeftOut
from ddpm_cli.errors import ResourceError

NOISE = np.random.default_rng(1)
LABELLED = ImageSet(
    "set", NOISE.integers(0, 256, (5, 3, 2, 7), dtype=np.uint8), np.array([0, 1, 1, 0, 1]), ("a", "b\u00e9")
)
PLAIN = ImageSet("plain", NOISE.integers(0, 256, (2, 1, 3, 3), dtype=np.uint8))
HOLED = replace(LABELLED, left_out=(LeftOut("a.png", "empty"), LeftOut("\\xff\u00e9.png", "no image")))
EACH = pytest.mark.parametrize("images", [LABELLED, PLAIN, HOLED], ids=["labelled", "unlabelled", "with holes"])


def build_of(images: ImageSet, at_most: int = 9, source: str = "/photos") -> store.Build:
    """Puts a set into a sink one by one, after a first try that is given up."""

    def build(sink: store.Sink) -> store.About:
        sink.start((2 * at_most, 1, 1, 1), images.classes)
        sink.add(np.ones((3, 1, 1, 1), np.uint8))
        sink.start((at_most, *images.shape), images.classes)
        for image in images.images:
            sink.add(image[np.newaxis])
        return store.About(images.name, images.labels, images.classes, images.left_out, source)

    return build


def keep(path: Path, images: ImageSet, key: str = "key") -> None:
    store.write(path, key, build_of(images))


@EACH
def test_safetensors_itself_reads_a_store(tmp_path: Path, images: ImageSet) -> None:
    path = tmp_path / "new" / "set.safetensors"
    keep(path, images)
    tensors = load_file(path)
    np.testing.assert_array_equal(tensors.pop("images"), images.images)
    if images.labels is not None:
        np.testing.assert_array_equal(tensors.pop("labels"), images.labels)
    if images.left_out:
        assert json.loads(tensors.pop("left_out").tobytes()) == [list(bad) for bad in images.left_out]
    assert tensors == {}
    with safe_open(path, "np") as file:
        about = json.loads(file.metadata()["ddpm"])
    assert about.pop("format") == store.FORMAT
    assert about == {"name": images.name, "classes": list(images.classes), "key": "key", "source": "/photos"}
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@EACH
def test_round_trip(tmp_path: Path, images: ImageSet) -> None:
    path = tmp_path / "set.safetensors"
    keep(path, images)
    found = store.read(path, "key")
    assert found is not None
    assert (found.name, found.classes, found.shape) == (images.name, images.classes, images.shape)
    assert found.left_out == images.left_out
    assert store.describe(path) == ("/photos", images.images.shape)
    assert found.images.dtype == np.uint8
    np.testing.assert_array_equal(found.images, images.images)
    if images.labels is None:
        assert found.labels is None
    else:
        assert found.labels is not None
        assert found.labels.dtype == np.int64
        np.testing.assert_array_equal(found.labels, images.labels)


def test_a_map_is_silent_in_torch_and_never_writes_back(tmp_path: Path) -> None:
    path = tmp_path / "set.safetensors"
    keep(path, PLAIN)
    before = path.read_bytes()
    found = store.read(path, "key")
    assert found is not None
    torch.from_numpy(found.images).zero_()  # a warning would be an error here
    assert not found.images.any()
    assert path.read_bytes() == before


def test_every_damaged_or_foreign_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "set.safetensors"
    keep(path, LABELLED)
    sound = path.read_bytes()
    assert store.read(path, "other key") is None
    start = len(sound) - 8 * len(LABELLED.images)
    damaged = {
        "empty": b"",
        "short": sound[:-1],
        "long": sound + b"\0",
        "no header": sound[:20],
        "endless header": b"\xff" * 8 + sound[8:],
        "not JSON": sound[:8] + b"x" + sound[9:],
        "another type": sound.replace(b'"U8"', b'"I8"'),
        "negative": sound.replace(b"[5, 3, 2, 7]", b"[5,3,-2,-7]"),
        "label out of range": sound[:start] + b"\x02" + sound[start + 1 :],
        "label below 0": sound[:start] + b"\xff" * 8 + sound[start + 8 :],
        "nested": (8 + 10**5).to_bytes(8, "little") + b"[" * 10**5,
        "text": b"what is this doing here" * 100,
    }
    for what, content in damaged.items():
        path.write_bytes(content)
        assert store.read(path, "key") is None, what
    path.unlink()
    assert store.read(path, "key") is None
    path.mkdir()
    assert store.read(path, "key") is None


def test_no_single_flipped_header_byte_gets_through(tmp_path: Path) -> None:
    path = tmp_path / "set.safetensors"
    keep(path, LABELLED)
    sound = bytearray(path.read_bytes())
    end = 8 + int.from_bytes(sound[:8], "little")
    written = 8 + len(sound[8:end].rstrip(b" "))
    for place in [*range(written + 8), *range(end - 8, end)]:  # what is between is spaces
        damaged = sound.copy()
        damaged[place] ^= 1
        path.write_bytes(damaged)
        found = store.read(path, "key")
        # The name and the classes may say anything of the same length; nothing else may differ.
        assert found is None or found.shape == LABELLED.shape, place


def test_cached_builds_once_and_again_after_damage(home: Path) -> None:
    built = []

    def build(sink: store.Sink) -> store.About:
        built.append(1)
        return build_of(LABELLED)(sink)

    for _ in range(3):
        found = store.cached("stem", "key", build, pytest.fail)
        np.testing.assert_array_equal(found.images, LABELLED.images)
    assert len(built) == 1
    (file,) = (home / "cache" / "datasets").iterdir()
    file.write_bytes(file.read_bytes()[:-3])
    store.cached("stem", "key", build, pytest.fail)
    assert len(built) == 2
    store.cached("stem", "changed", build, pytest.fail)
    assert len(built) == 3
    assert list((home / "cache" / "datasets").iterdir()) == [file]


def test_a_cache_that_cannot_be_written_is_said_once(home: Path) -> None:
    home.mkdir()
    (home / "cache").write_text("a file where a folder should be")
    said: list[str] = []
    found = store.cached("stem", "key", build_of(HOLED), said.append)
    np.testing.assert_array_equal(found.images, HOLED.images)
    assert (found.name, found.classes, found.left_out) == (HOLED.name, HOLED.classes, HOLED.left_out)
    assert len(said) == 1
    assert str(home / "cache") in said[0]
    assert "set will be read anew each time" in said[0]


def test_what_is_too_large_for_memory_is_refused_where_it_cannot_be_kept(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.mkdir()
    (home / "cache").write_text("a file where a folder should be")
    monkeypatch.setattr(store, "IN_MEMORY", 9 * PLAIN.images[0].size - 1)
    with pytest.raises(ResourceError, match="a part of that path is a file"):
        store.cached("stem", "key", build_of(PLAIN), pytest.fail)


def test_no_room_is_said_before_anything_is_read(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(sink: store.Sink) -> store.About:
        sink.start((30_000, 3, 3000, 3000), ())
        raise AssertionError

    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=3_000_000_000))
    with pytest.raises(ResourceError, match=r"need 810\.0 GB on disk in .*datasets, found 3\.0 GB") as caught:
        store.cached("stem", "key", build, pytest.fail)
    assert "--image-size" in caught.value.hint
    assert list((home / "cache" / "datasets").iterdir()) == []


def test_what_goes_wrong_in_reading_is_not_blamed_on_the_store(home: Path) -> None:
    def build(_: store.Sink) -> store.About:
        raise ResourceError("the network is down")

    with pytest.raises(ResourceError, match="the network is down"):
        store.cached("stem", "key", build, pytest.fail)
    assert list((home / "cache" / "datasets").iterdir()) == []


def test_what_a_killed_process_left_is_swept_away_a_day_later(home: Path) -> None:
    folder = home / "cache" / "datasets"
    folder.mkdir(parents=True)
    fresh, stale = folder / ".0123456789abcdef.tmp", folder / ".fedcba9876543210.tmp"
    for path in (fresh, stale):
        path.write_bytes(b"half a set")
    os.utime(stale, (0, 0))
    store.cached("stem", "key", build_of(PLAIN), pytest.fail)
    assert sorted(path.name for path in folder.iterdir()) == [fresh.name, "stem.safetensors"]


@pytest.mark.skipif(sys.platform != "linux", reason="another rule there")
def test_a_store_larger_than_the_memory_can_be_mapped(tmp_path: Path) -> None:
    """Linux refuses a private map that may be written to and exceeds all its memory, unless told that it will not."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    side = 4096
    path, count = tmp_path / "set.safetensors", 2 * total // side**2 + 1

    def build(sink: store.Sink) -> store.About:
        sink.start((count, 1, side, side), ())
        sink.file.seek(count * side**2 - 1, os.SEEK_CUR)  # a hole
        sink.file.write(b"\x07")
        sink.count = count
        return store.About("huge")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2**60))
        try:
            store.write(path, "key", build)
        except ResourceError as error:
            pytest.skip(f"no such files here: {error.message}")
    found = store.read(path, "key")
    assert found is not None
    assert found.images.shape == (count, 1, side, side)
    assert found.images[-1, 0, -1, -1] == 7
    path.unlink()


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ResourceError, match="the disk is full"):
        keep(tmp_path / "set.safetensors", PLAIN)
    assert list(tmp_path.iterdir()) == []


def test_the_stores_of_a_set_are_those_of_its_name(home: Path) -> None:
    folder = home / "cache" / "datasets"
    assert store.of_known("emnist") == ()
    folder.mkdir(parents=True)
    ours = ["emnist-test.safetensors", "emnist-train-16.safetensors", "emnist-train.safetensors"]
    for name in [*ours, "emnist-letters-train.safetensors", "emnist-train-x.safetensors", "mnist-train.safetensors"]:
        (folder / name).touch()
    (folder / "folder-0123456789abcdef.safetensors").touch()
    assert [path.name for path in store.of_known("emnist")] == ours


def test_stores_of_folders_can_be_listed_and_removed(home: Path, tmp_path: Path) -> None:
    assert inventory.folders() == ()
    for name, value in (("b", 3), ("a\n\udcff", 4)):
        photos = tmp_path / name
        photos.mkdir()
        Image.new("L", (value, value)).save(photos / "x.png")
        data.load(str(photos))
    data.load("mnist", split="test", offline=True)
    data.load(str(tmp_path / "b"), image_size=5)
    old = home / "cache" / "datasets" / "folder-0123456789abcdef.safetensors"
    old.write_bytes(b"of another version")
    found = inventory.folders()
    assert [kept.source for kept in found] == [
        None,
        f"{tmp_path}/a\\n\\xff",
        f"{tmp_path}/b",
        f"{tmp_path}/b",
    ]
    assert [kept.shape for kept in found] == [None, (1, 1, 4, 4), *((1, 1, side, side) for side in (5, 3))]
    assert [kept.bytes for kept in found] == [kept.path.stat().st_size for kept in found]
    assert inventory.remove_folders(found[2:]) == {kept.path: kept.bytes for kept in found[2:]}
    assert inventory.folders() == found[:2]
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == ["x.png"]
    assert store.of_known("mnist")


WARM = """
import sys, time
from ddpm_cli import data
start = time.perf_counter()
images = data.load("mnist", split="test")
took = time.perf_counter() - start
assert images.images.shape == (10000, 1, 28, 28)
heavy = {"torch", "torchvision", "PIL", "requests", "safetensors", "matplotlib"} & set(sys.modules)
assert not heavy, heavy
assert took < 0.1, took
"""


def test_a_warm_cache_needs_nothing_heavy() -> None:
    data.load("mnist", split="test", offline=True)
    subprocess.run([sys.executable, "-c", WARM], check=True)
