"""The store is a true safetensors file, and whatever is not exactly one is made anew."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file

from ddpm_cli import data
from ddpm_cli.data import store
from ddpm_cli.data.imageset import ImageSet
from ddpm_cli.errors import ResourceError

NOISE = np.random.default_rng(1)
LABELLED = ImageSet(
    "set", NOISE.integers(0, 256, (5, 3, 2, 7), dtype=np.uint8), np.array([0, 1, 1, 0, 1]), ("a", "b\u00e9")
)
PLAIN = ImageSet("plain", NOISE.integers(0, 256, (2, 1, 3, 3), dtype=np.uint8))


@pytest.mark.parametrize("images", [LABELLED, PLAIN], ids=["labelled", "unlabelled"])
def test_safetensors_itself_reads_a_store(tmp_path: Path, images: ImageSet) -> None:
    path = tmp_path / "new" / "set.safetensors"
    store.write(path, images, "key")
    tensors = load_file(path)
    np.testing.assert_array_equal(tensors.pop("images"), images.images)
    if images.labels is not None:
        np.testing.assert_array_equal(tensors.pop("labels"), images.labels)
    assert tensors == {}
    with safe_open(path, "np") as file:
        about = json.loads(file.metadata()["ddpm"])
    assert about == {"format": store.FORMAT, "name": images.name, "classes": list(images.classes), "key": "key"}
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("images", [LABELLED, PLAIN], ids=["labelled", "unlabelled"])
def test_round_trip(tmp_path: Path, images: ImageSet) -> None:
    path = tmp_path / "set.safetensors"
    store.write(path, images, "key")
    found = store.read(path, "key")
    assert found is not None
    assert (found.name, found.classes, found.shape) == (images.name, images.classes, images.shape)
    assert found.images.dtype == np.uint8
    np.testing.assert_array_equal(found.images, images.images)
    if images.labels is None:
        assert found.labels is None
    else:
        assert found.labels is not None
        assert found.labels.dtype == np.int64
        assert found.labels.ctypes.data % 8 == 0
        np.testing.assert_array_equal(found.labels, images.labels)


def test_a_map_is_silent_in_torch_and_never_writes_back(tmp_path: Path) -> None:
    path = tmp_path / "set.safetensors"
    store.write(path, PLAIN, "key")
    before = path.read_bytes()
    found = store.read(path, "key")
    assert found is not None
    torch.from_numpy(found.images).zero_()  # a warning would be an error here
    assert not found.images.any()
    assert path.read_bytes() == before


def test_every_damaged_or_foreign_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "set.safetensors"
    store.write(path, LABELLED, "key")
    sound = path.read_bytes()
    assert store.read(path, "other key") is None
    start = 8 + int.from_bytes(sound[:8], "little")
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
    store.write(path, LABELLED, "key")
    sound = bytearray(path.read_bytes())
    for place in range(8 + int.from_bytes(sound[:8], "little")):
        damaged = sound.copy()
        damaged[place] ^= 1
        path.write_bytes(damaged)
        found = store.read(path, "key")
        # The name and the classes may say anything of the same length; nothing else may differ.
        assert found is None or found.shape == LABELLED.shape, place


def test_cached_builds_once_and_again_after_damage(home: Path) -> None:
    built = []

    def build() -> ImageSet:
        built.append(1)
        return LABELLED

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
    assert store.cached("stem", "key", lambda: PLAIN, said.append) is PLAIN
    assert len(said) == 1
    assert str(home / "cache") in said[0]
    assert "plain will be read anew each time" in said[0]


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ResourceError, match="the disk is full"):
        store.write(tmp_path / "set.safetensors", PLAIN, "key")
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


WARM = """
import sys, time
from ddpm_cli import data
start = time.perf_counter()
images = data.load("mnist", split="test")
took = time.perf_counter() - start
assert images.images.shape == (10000, 1, 28, 28)
heavy = {"torch", "torchvision", "PIL", "pooch", "requests", "safetensors", "matplotlib"} & set(sys.modules)
assert not heavy, heavy
assert took < 0.1, took
"""


def test_a_warm_cache_needs_nothing_heavy() -> None:
    data.load("mnist", split="test", offline=True)
    subprocess.run([sys.executable, "-c", WARM], check=True)
