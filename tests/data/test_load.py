"""One call, whatever the name: known sets from wherever their files are, and folders."""

import gzip
import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import archives
from ddpm_cli import data, paths
from ddpm_cli.data import find
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


# Images and classes as their makers publish them: the pages of MNIST, Fashion-MNIST, KMNIST, CIFAR and SVHN, and NIST's
# page on EMNIST, which has only sums.
PUBLISHED = {
    "mnist": (60_000 + 10_000, 10),
    "fashion-mnist": (60_000 + 10_000, 10),
    "kmnist": (60_000 + 10_000, 10),
    "emnist": (131_600, 47),
    "emnist-letters": (145_600, 26),
    "emnist-digits": (280_000, 10),
    "emnist-byclass": (814_255, 62),
    "emnist-bymerge": (814_255, 47),
    "emnist-mnist": (70_000, 10),
    "cifar10": (50_000 + 10_000, 10),
    "cifar100": (50_000 + 10_000, 100),
    "svhn": (73_257 + 26_032, 10),
}


def test_the_table_is_whole() -> None:
    assert KNOWN.keys() == PUBLISHED.keys()
    for name, known in KNOWN.items():
        assert known.name == name
        assert (sum(known.counts.values()), len(known.classes)) == PUBLISHED[name]
        assert len(set(known.classes)) == len(known.classes)
        sums = [sum_ for file in known.all_files for sums in file.accepted().values() for sum_ in sums]
        assert len(set(sums)) == len(sums)
        assert all(len(sum_) == 64 and int(sum_, 16) for sum_ in sums)
        assert known.mirrors
        assert all(mirror.startswith("http") and mirror.endswith("/") for mirror in known.mirrors)
        assert known.licence
        assert known.credit
        assert known.files.keys() == known.counts.keys() == {"train", "test"}
    assert all(len(KNOWN[name].mirrors) > 1 for name in ("mnist", "fashion-mnist"))


def test_sets_that_share_a_folder_share_their_files() -> None:
    """A file of one name and two contents in one folder would make either set unreadable."""
    for known in KNOWN.values():
        assert {file.name for other in KNOWN.values() if other.place == known.place for file in other.all_files} == {
            file.name for file in known.all_files
        }


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "emnist", "emnist-letters", "kmnist", "svhn"])
@pytest.mark.parametrize("layout", ["DIR/NAME", "DIR", "torchvision's"])
def test_every_set_is_found_in_every_layout(name: str, layout: str, tmp_path: Path) -> None:
    known = KNOWN[name]
    torchvision = {"kmnist": "KMNIST/raw", "emnist": "EMNIST/raw", "emnist-letters": "EMNIST/raw"}
    folder = tmp_path / {"DIR/NAME": name, "DIR": "", "torchvision's": torchvision.get(name, "")}[layout]
    folder.mkdir(parents=True, exist_ok=True)
    for file in known.all_files:
        assert find.locate(known, file, tmp_path) is None
        (folder / file.name).touch()
        assert find.locate(known, file, tmp_path) == folder / file.name


def rainbow(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)


def test_one_archive_serves_both_splits(mirror: Callable, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = rainbow(10), rainbow(2)
    batches = {
        f"cifar-10-batches-bin/data_batch_{k + 1}.bin": archives.cifar_rows(train[2 * k : 2 * k + 2], [k, 9 - k])
        for k in range(5)
    }
    content = archives.tar_gz({**batches, "cifar-10-batches-bin/test_batch.bin": archives.cifar_rows(test, [3, 4])})
    server = mirror({"cifar-10-binary.tar.gz": content})
    known = archives.small("cifar10", server.files, 10, 2, server.url)
    monkeypatch.setitem(KNOWN, "cifar10", known)
    images = data.load("cifar10")
    np.testing.assert_array_equal(images.images, train)
    assert images.labels is not None
    assert images.labels.tolist() == [0, 9, 1, 8, 2, 7, 3, 6, 4, 5]
    np.testing.assert_array_equal(data.load("cifar10", split="test", offline=True).images, test)
    assert len(server.requests) == 1
    assert data.load("cifar10", split="test", image_size=16, offline=True).shape == (3, 16, 16)
    assert [path.name for path in (home / "datasets" / "cifar10").iterdir()] == ["cifar-10-binary.tar.gz"]


def test_one_archive_serves_several_sets(mirror: Callable, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digits, letters = rainbow(2)[:, 0, :28, :28], rainbow(3)[:, 0, :28, :28]
    content = archives.emnist_zip({"digits-train": (digits, [7, 0]), "letters-train": (letters, [1, 26, 2])})
    server = mirror({"gzip.zip": content})
    for name, count in (("emnist-digits", 2), ("emnist-letters", 3)):
        monkeypatch.setitem(KNOWN, name, archives.small(name, server.files, count, count, server.url))
    np.testing.assert_array_equal(data.load("emnist-digits").images[:, 0], digits)
    images = data.load("emnist-letters", offline=True)
    np.testing.assert_array_equal(images.images[:, 0], letters)
    assert images.labels is not None
    assert [images.classes[label] for label in images.labels] == ["a", "z", "b"]
    assert len(server.requests) == 1
    assert [path.name for path in (home / "datasets").iterdir()] == ["emnist"]
    # What was made of one is not taken for the other, though both were made of one file.
    stores = home / "cache" / "datasets"
    (stores / "emnist-digits-train.safetensors").replace(stores / "emnist-letters-train.safetensors")
    np.testing.assert_array_equal(data.load("emnist-letters", offline=True).images[:, 0], letters)


def test_a_store_with_other_class_names_is_made_anew(tiny, tmp_path: Path) -> None:
    folder = tiny.place(tmp_path / "d")
    assert data.load("tiny", data_dir=folder).classes == ("x", "y", "z")
    tiny.at(classes=("p", "q", "r"))
    assert data.load("tiny", data_dir=folder).classes == ("p", "q", "r")


def test_a_copy_that_was_packed_otherwise_is_as_good(tiny, tmp_path: Path) -> None:
    """Debian's Fashion-MNIST and our MNIST hold the same bytes, in gzip files without name and time."""
    folder = tiny.place(tmp_path / "d")
    images = tiny.known.files["train"][0]
    again = gzip.compress(gzip.decompress(tiny.contents[images.name]), mtime=1)
    assert again != tiny.contents[images.name]
    (folder / images.name).write_bytes(again)
    with pytest.raises(DataError, match="damaged"):
        data.load("tiny", data_dir=folder)
    known = replace(images, packed_otherwise=("0" * 64, hashlib.sha256(again).hexdigest()))
    tiny.at(files={"train": (known, tiny.known.files["train"][1]), "test": ()})
    np.testing.assert_array_equal(data.load("tiny", data_dir=folder).images[:, 0], tiny.images)


def test_a_plain_copy_of_unknown_sha256_is_not_taken(tiny, tmp_path: Path) -> None:
    folder = tiny.place(tmp_path / "d", plain=True)
    tiny.at(files={"train": tuple(replace(file, plain_sha256=None) for file in tiny.known.files["train"]), "test": ()})
    with pytest.raises(ResourceError, match="not on this machine"):
        data.load("tiny", data_dir=folder, offline=True)


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


def test_what_killed_downloads_left_goes_with_the_next_one(tiny, home: Path, mirror: Callable) -> None:
    tiny.at(mirror(tiny.contents).url)
    folder = tiny.place(home / "datasets" / "tiny")
    (folder / "a-labels.gz").unlink()
    left = [folder / name for name in ("a-images.gz.part", "a-labels.gz.part", f".{'0' * 16}.tmp")]
    for path in left:
        path.write_bytes(b"half")
    (folder / "mine.part").touch()
    data.load("tiny")
    assert sorted(path.name for path in folder.iterdir()) == ["a-images.gz", "a-labels.gz", "mine.part"]


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


@pytest.mark.parametrize("wish", [{"limit": 0}, {"limit": -1}, {"image_size": 0}, {"image_size": 4097}])
def test_what_is_out_of_range_is_refused(wish: dict[str, int]) -> None:
    with pytest.raises(UsageError, match=r"expected at least 1|expected 1 to 4096"):
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
