"""One call, whatever the name: known sets from wherever their files are, and folders."""

import gzip
import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ddpm_cli import data, paths
from ddpm_cli.data.known import KNOWN
from ddpm_cli.errors import DataError, ResourceError, UsageError

# The md5 sums of the decompressed files, as published with several mirrors of MNIST.
MNIST_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


@pytest.mark.parametrize("name", MNIST_MD5)
def test_the_shipped_mnist_is_mnist(name: str) -> None:
    content = gzip.decompress((paths.shipped() / "data" / "mnist" / f"{name}.gz").read_bytes())
    assert hashlib.md5(content, usedforsecurity=False).hexdigest() == MNIST_MD5[name]


@pytest.mark.parametrize(("split", "count"), [("train", 60_000), ("test", 10_000)])
def test_mnist_works_offline(split: data.Split, count: int) -> None:
    images = data.load("mnist", split=split, offline=True, say=pytest.fail)
    assert images.images.shape == (count, 1, 28, 28)
    assert images.images.dtype == np.uint8
    assert images.shape == (1, 28, 28)
    assert images.labels is not None
    assert images.labels.dtype == np.int64
    # How many of each digit there are is in every description of MNIST: 5923 zeros and 6742 ones to train with.
    assert np.bincount(images.labels)[:2].tolist() == {"train": [5923, 6742], "test": [980, 1135]}[split]
    assert images.classes == ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")


def test_the_table_is_whole() -> None:
    for name, known in KNOWN.items():
        assert known.name == name
        assert len(known.classes) == 10
        files = [file for split in known.files.values() for file in split]
        sums = [sum_ for file in files for sum_ in (file.sha256, file.plain_sha256)]
        assert len(set(sums)) == 8
        assert all(len(sum_) == 64 and int(sum_, 16) for sum_ in sums)
        assert len(known.mirrors) > 1
        assert all(mirror.endswith("/") for mirror in known.mirrors)


@pytest.mark.parametrize("plain", [False, True], ids=["gzip", "plain"])
@pytest.mark.parametrize("below", ["", "tiny", "Tiny/raw"])
def test_data_dir_in_each_layout(tiny, tmp_path: Path, below: str, plain: bool) -> None:
    tiny.place(tmp_path / "d" / below, plain)
    images = data.load("tiny", data_dir=tmp_path / "d", offline=True, say=pytest.fail)
    np.testing.assert_array_equal(images.images[:, 0], tiny.images)
    assert images.labels is not None
    assert images.labels.tolist() == tiny.labels.tolist()
    assert images.classes == ("x", "y", "z")


def test_places_are_tried_in_order(tiny, home: Path, tmp_path: Path) -> None:
    """Each place but the last holds a file that would be refused, so the complaint tells which was chosen."""
    wrong = dict.fromkeys(tiny.contents, b"wrong")
    system, own, given = tmp_path / "system", home / "datasets" / "tiny", tmp_path / "given"
    tiny.at(system=system)
    tiny.place(system)
    assert len(data.load("tiny", offline=True).images) == 6
    for folder in (own, given, given / "tiny"):
        replace(tiny, contents=wrong).place(folder)
        (home / "cache" / "datasets" / "tiny-train.safetensors").unlink(missing_ok=True)
        with pytest.raises(DataError, match="damaged or of another data set") as caught:
            data.load("tiny", data_dir=given, offline=True)
        assert caught.value.message.startswith(str(folder / "a-images.gz"))


def test_files_may_come_from_several_places(tiny, home: Path, mirror: Callable, tmp_path: Path) -> None:
    tiny.place(tmp_path / "d")
    (tmp_path / "d" / "a-labels.gz").unlink()
    server = mirror(tiny.contents)
    tiny.at(server.url)
    seen: list[tuple[int, int]] = []
    data.load("tiny", data_dir=tmp_path / "d", progress=lambda *report: seen.append(report))
    assert server.requests == [("a-labels.gz", "")]
    assert seen[-1] == (len(tiny.contents["a-labels.gz"]),) * 2
    assert [file.name for file in (home / "datasets" / "tiny").iterdir()] == ["a-labels.gz"]


def test_a_data_dir_without_the_set_is_said(tiny, mirror: Callable, tmp_path: Path) -> None:
    tiny.at(mirror(tiny.contents).url)
    said: list[str] = []
    data.load("tiny", data_dir=tmp_path, say=said.append)
    assert said[0] == f"no tiny in {tmp_path}: looking elsewhere"
    assert all(sentence.startswith("fetching a-") for sentence in said[1:])
    assert len(said) == 3


def test_progress_runs_over_all_files(tiny, mirror: Callable) -> None:
    tiny.at(mirror(tiny.contents).url)
    seen: list[tuple[int, int]] = []
    data.load("tiny", progress=lambda *report: seen.append(report))
    total = sum(map(len, tiny.contents.values()))
    assert {report[1] for report in seen} == {total}
    assert [report[0] for report in seen] == sorted(report[0] for report in seen)
    assert seen[-1] == (total, total)


def test_offline_tells_how_to_place_the_files(tiny, home: Path, mirror: Callable) -> None:
    server = mirror(tiny.contents)
    tiny.at(server.url)
    with pytest.raises(ResourceError, match="the network is forbidden") as caught:
        data.load("tiny", offline=True)
    for word in ("a-images.gz", "a-labels.gz", server.url, str(home / "datasets" / "tiny"), "--data-dir"):
        assert word in caught.value.hint
    assert server.requests == []


@pytest.mark.usefixtures("tiny")
def test_network_down_tells_how_to_place_the_files() -> None:
    with pytest.raises(ResourceError, match=r"cannot fetch a-images\.gz") as caught:
        data.load("tiny")
    assert "--data-dir" in caught.value.hint


def test_fashion_mnist_hint_names_debians_package() -> None:
    if (KNOWN["fashion-mnist"].system or Path()).is_dir():
        pytest.skip("the package is installed here")
    with pytest.raises(ResourceError) as caught:
        data.load("fashion-mnist", offline=True)
    assert "dataset-fashion-mnist" in caught.value.hint


def test_a_warm_store_needs_no_files(tiny, tmp_path: Path) -> None:
    folder = tiny.place(tmp_path / "d")
    data.load("tiny", data_dir=folder)
    for file in folder.iterdir():
        file.unlink()
    assert len(data.load("tiny", offline=True).images) == 6


def test_labels_beyond_the_classes_are_refused(tiny, tmp_path: Path) -> None:
    tiny.at(classes=("x", "y"))
    with pytest.raises(DataError, match="labels up to 2, expected 0 to 1"):
        data.load("tiny", data_dir=tiny.place(tmp_path / "d"))


def test_limit_is_spread_evenly(tiny, tmp_path: Path) -> None:
    folder = tiny.place(tmp_path / "d")
    images = data.load("tiny", data_dir=folder, limit=4, say=pytest.fail)
    # 0, 6/4, 12/4, 18/4 rounded down
    np.testing.assert_array_equal(images.images[:, 0], tiny.images[[0, 1, 3, 4]])
    assert images.labels is not None
    assert images.labels.tolist() == [0, 1, 2, 1]
    assert len(data.load("tiny", limit=1).images) == 1
    said: list[str] = []
    assert len(data.load("tiny", limit=7, say=said.append).images) == 6
    assert said == ["tiny has only 6 images: all are used"]


@pytest.mark.parametrize("wish", [{"limit": 0}, {"limit": -1}, {"image_size": 0}])
def test_nothing_below_one(wish: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="expected 1 or more"):
        data.load("mnist", **wish)


def test_known_sets_are_resized_too(tiny, tmp_path: Path) -> None:
    folder = tiny.place(tmp_path / "d")
    images = data.load("tiny", data_dir=folder, image_size=4)
    # 5 x 4: the width fits already, so the centre crop keeps rows 0 to 3 (torchvision rounds 0.5 to 0).
    np.testing.assert_array_equal(images.images[:, 0], tiny.images[:, :4])
    assert data.load("tiny", data_dir=folder, image_size=10).shape == (1, 10, 10)
    assert data.load("tiny", data_dir=folder).shape == (1, 5, 4)


def test_mnist_at_its_own_size_is_mnist(home: Path) -> None:
    assert data.load("mnist", split="test", image_size=28).shape == (1, 28, 28)
    assert [file.name for file in (home / "cache" / "datasets").iterdir()] == ["mnist-test.safetensors"]


def test_unknown_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="unknown data set 'mnits'") as caught:
        data.load("mnits")
    assert "Did you mean mnist?" in caught.value.hint
    for name in ("./mnits", "a/b", "~nobody-here", ".hidden"):
        with pytest.raises(DataError, match="there is no folder"):
            data.load(name)
    for name in ("x" * 1000, "nul\0byte"):
        with pytest.raises(UsageError, match="unknown data set"):
            data.load(name)
    (tmp_path / "mnits").mkdir()
    with pytest.raises(DataError, match="there is no image in"):
        data.load("mnits")
