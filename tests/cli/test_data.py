"""``ddpm data``: what is here and where, fetched and verified, and removed without touching anything else."""

import gzip
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archives
from ddpm_cli import paths
from ddpm_cli.data import KNOWN, load
from mirror import Mirror, mirrors

FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


def kmnist(train: int = 5) -> dict[str, bytes]:
    """The four files of a KMNIST of 5 + 3 images, or more."""
    noise = np.random.default_rng(3)
    contents = {}
    for split, count in (("train", train), ("t10k", 3)):
        images = noise.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        contents[f"{split}-images-idx3-ubyte.gz"] = gzip.compress(archives.idx(images), mtime=0)
        contents[f"{split}-labels-idx1-ubyte.gz"] = gzip.compress(
            archives.idx(np.arange(count, dtype=np.uint8) % 10), mtime=0
        )
    return contents


@pytest.fixture
def mirror() -> Iterator[Callable[..., Mirror]]:
    with mirrors() as start:
        yield start


@pytest.fixture
def server(mirror: Callable[..., Mirror], monkeypatch: pytest.MonkeyPatch) -> Mirror:
    """A mirror that has the small KMNIST, which is the one that is known."""
    started = mirror(kmnist())
    monkeypatch.setitem(KNOWN, "kmnist", archives.small("kmnist", started.files, 5, 3, started.url))
    return started


@pytest.fixture
def folder(home: Path) -> Path:
    return home / "datasets" / "kmnist"


# --- list -----------------------------------------------------------------------------------------------------------


def listed(ddpm: Any, *arguments: object) -> dict[str, dict[str, Any]]:
    sets = ddpm("data", "list", "--json", *arguments).done().json["sets"]
    return {about["name"]: about for about in sets}


@pytest.mark.usefixtures("no_mirror")
def test_list_as_a_table_for_scripts(ddpm: Any) -> None:
    result = ddpm("data", "list").done()
    head, *rows = (line.split("\t") for line in result.out.splitlines())
    assert head == ["name", "train", "test", "shape", "classes", "download", "present", "licence", "where"]
    assert [row[0] for row in rows] == list(KNOWN)
    about = {row[0]: dict(zip(head, row, strict=True)) for row in rows}
    assert about["mnist"]["present"] == "shipped"
    assert about["mnist"]["where"] == str(paths.shipped() / "data" / "mnist")
    assert about["cifar100"] == {
        "name": "cifar100",
        "train": "50,000",
        "test": "10,000",
        "shape": "3x32x32",
        "classes": "100",
        "download": "169 MB",
        "present": "no",
        "licence": "none stated",
        "where": "",
    }
    assert result.err == ""


@pytest.mark.usefixtures("no_mirror")
def test_list_as_json(ddpm: Any) -> None:
    sets = listed(ddpm)
    assert list(sets) == list(KNOWN)
    svhn = sets["svhn"]
    assert svhn["images"] == {"train": 73257, "test": 26032}
    assert svhn["shape"] == [3, 32, 32]
    assert svhn["classes"] == list("0123456789")
    assert svhn["download_bytes"] == 182_040_794 + 64_275_384
    assert (svhn["present"], svhn["where"], svhn["disk_bytes"]) == ("no", [], 0)
    assert svhn["licence"] == "non-commercial"
    shipped = paths.shipped() / "data" / "mnist"
    assert sets["mnist"]["where"] == [str(shipped)]
    assert sets["mnist"]["disk_bytes"] == sum(file.stat().st_size for file in shipped.iterdir())


def test_list_tells_where_each_set_is(ddpm: Any, server: Mirror, folder: Path, tmp_path: Path) -> None:
    def put(place: Path, names: tuple[str, ...]) -> None:
        place.mkdir(parents=True, exist_ok=True)
        for name in names:
            (place / name).write_bytes(server.files[name])

    def now(*arguments: object) -> tuple[str, list[str]]:
        about = listed(ddpm, *arguments)["kmnist"]
        return about["present"], about["where"]

    assert now() == ("no", [])
    system = tmp_path / "usr"
    KNOWN["kmnist"] = replace(KNOWN["kmnist"], system=system)
    put(system, FILES[:1])
    assert now() == ("partly", [str(system)])
    put(system, FILES)
    assert now() == ("system", [str(system)])
    put(folder, FILES)
    assert now() == ("cached", [str(folder)])
    put(tmp_path / "mine" / "KMNIST" / "raw", FILES)
    assert now("--data-dir", tmp_path / "mine") == ("given", [str(tmp_path / "mine" / "KMNIST" / "raw")])
    load("kmnist")
    about = listed(ddpm)["kmnist"]
    (store,) = (paths.cache() / "datasets").iterdir()
    assert about["disk_bytes"] == sum(map(len, server.files.values())) + store.stat().st_size


def test_the_group_alone_prints_help(ddpm: Any) -> None:
    out = ddpm("data").done().out
    for command in ("list", "fetch", "path", "rm"):
        assert re.search(rf"^  {command} ", out, re.MULTILINE)


# --- fetch ----------------------------------------------------------------------------------------------------------


def test_fetch_puts_verified_files_into_the_data_directory(ddpm: Any, server: Mirror, folder: Path) -> None:
    result = ddpm("data", "fetch", "kmnist").done()
    assert result.out == f"{folder}\n"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == server.files
    assert "CC BY-SA 4.0" in result.err
    assert f"kmnist is in {folder}, and intact" in result.err
    assert all(f"fetching {name} of kmnist" in result.err for name in FILES)
    assert len(server.requests) == 4


@pytest.mark.usefixtures("server")
def test_what_was_fetched_is_what_is_trained_on(ddpm: Any) -> None:
    ddpm("data", "fetch", "kmnist").done()
    images = load("kmnist", offline=True)
    assert images.images.shape == (5, 1, 28, 28)
    assert images.classes[images.labels[3]] == "tsu"


def test_fetch_again_says_so_and_asks_nobody(ddpm: Any, server: Mirror, folder: Path) -> None:
    ddpm("data", "fetch", "kmnist").done()
    asked = len(server.requests)
    result = ddpm("data", "fetch", "kmnist", "--offline").done()
    assert result.out == f"{folder}\n"
    assert result.err == f"kmnist is already in {folder}, and intact\n"
    assert len(server.requests) == asked


def test_fetch_of_what_ships_with_the_package(ddpm: Any, written: Callable[[], set[str]]) -> None:
    result = ddpm("data", "fetch", "mnist", "--offline").done()
    assert result.out == f"{paths.shipped() / 'data' / 'mnist'}\n"
    assert "already" in result.err
    assert written() == set()


def test_fetch_takes_only_what_is_missing(ddpm: Any, server: Mirror, folder: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    for name in FILES[:3]:
        (mine / name).write_bytes(server.files[name])
    document = ddpm("data", "fetch", "kmnist", "--data-dir", mine, "--json").done().json
    assert [name for name, _ in server.requests] == [FILES[3]]
    (about,) = document["sets"]
    assert about["name"] == "kmnist"
    assert about["fetched"] == [FILES[3]]
    assert about["bytes"] == len(server.files[FILES[3]])
    assert about["where"] == [str(mine), str(folder)]
    assert about["files"] == [*(str(mine / name) for name in FILES[:3]), str(folder / FILES[3])]


def test_fetch_several(ddpm: Any, server: Mirror, folder: Path) -> None:
    document = ddpm("data", "fetch", "mnist", "kmnist", "mnist", "--json").done().json
    assert [about["name"] for about in document["sets"]] == ["mnist", "kmnist"]
    assert ddpm("data", "fetch", "mnist", "kmnist").done().out.splitlines() == [
        str(paths.shipped() / "data" / "mnist"),
        str(folder),
    ]
    assert len(server.requests) == 4


@pytest.mark.usefixtures("server")
def test_fetch_quietly(ddpm: Any, folder: Path) -> None:
    result = ddpm("data", "fetch", "kmnist", "--quiet").done()
    assert (result.out, result.err) == (f"{folder}\n", "")


def test_fetch_offline_is_6_and_asks_nobody(
    ddpm: Any, server: Mirror, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ddpm("data", "fetch", "kmnist", "--offline").refused(6, "kmnist", "forbidden", FILES[0], server.url, str(folder))
    monkeypatch.setenv("DDPM_OFFLINE", "1")
    ddpm("data", "fetch", "kmnist").refused(6, "forbidden", "--data-dir")
    assert server.requests == []
    assert not folder.exists()


def test_fetch_with_a_dead_mirror_is_6(ddpm: Any, server: Mirror) -> None:
    KNOWN["kmnist"] = replace(KNOWN["kmnist"], mirrors=("http://127.0.0.1:9/",))
    ddpm("data", "fetch", "kmnist").refused(6, "cannot fetch", "127.0.0.1:9: no connection", "--data-dir")
    assert server.requests == []


def test_fetch_goes_on_where_it_was_cut_and_with_the_next_mirror(
    ddpm: Any, server: Mirror, mirror: Callable[..., Mirror], folder: Path
) -> None:
    server.cut = 700
    ddpm("data", "fetch", "kmnist", "--json").refused(6, "the connection ended early")
    assert [path.name for path in folder.iterdir()] == [f"{FILES[0]}.part"]
    other = mirror(server.files)
    KNOWN["kmnist"] = replace(KNOWN["kmnist"], mirrors=(other.url,))
    ddpm("data", "fetch", "kmnist").done()
    assert other.requests[0] == (FILES[0], "bytes=700-")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == server.files


def test_fetch_of_something_else_is_3_and_leaves_nothing(ddpm: Any, server: Mirror, folder: Path) -> None:
    server.files = {name: bytes(len(content)) for name, content in server.files.items()}
    ddpm("data", "fetch", "kmnist").refused(3, "no mirror has", FILES[0], "wrong content")
    assert list(folder.iterdir()) == []


def test_fetch_notices_a_damaged_copy(ddpm: Any, server: Mirror, folder: Path) -> None:
    ddpm("data", "fetch", "kmnist").done()
    (folder / FILES[2]).write_bytes(b"damaged")
    ddpm("data", "fetch", "kmnist").refused(3, str(folder / FILES[2]), "damaged", "ddpm data rm kmnist")
    ddpm("data", "rm", "kmnist", "--yes").done()
    ddpm("data", "fetch", "kmnist").done()
    assert (folder / FILES[2]).read_bytes() == server.files[FILES[2]]


@pytest.mark.usefixtures("server")
def test_fetch_where_nothing_can_be_written_is_6(ddpm: Any, home: Path) -> None:
    home.mkdir()
    (home / "datasets").write_text("a file where a folder should be")
    ddpm("data", "fetch", "kmnist").refused(6, "cannot write ", str(home / "datasets"))


DRIVER = """
import sys
sys.path[:0] = sys.argv[1:3]
import archives, test_data
from ddpm_cli.cli import entry
from ddpm_cli.data import KNOWN
train = int(sys.argv[4])
KNOWN["kmnist"] = archives.small("kmnist", test_data.kmnist(train), train, 3, sys.argv[3])
sys.argv[1:] = sys.argv[5:]
entry()
"""


def driven(url: str, train: int, *arguments: str) -> list[str]:
    """``ddpm`` in a process of its own, for which the small KMNIST is at ``url``."""
    here = Path(__file__).parent
    return [sys.executable, "-c", DRIVER, str(here.parent), str(here), url, str(train), *arguments]


def test_ctrl_c_keeps_the_part_for_the_next_time(mirror: Callable[..., Mirror], folder: Path) -> None:
    server = mirror(kmnist(40), trickle=1000, delay=0.05)  # 31 kB, more than a buffer
    part = folder / f"{FILES[0]}.part"
    with subprocess.Popen(
        driven(server.url, 40, "data", "fetch", "kmnist"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        try:
            until = time.monotonic() + 60
            while (not part.exists() or not part.stat().st_size) and child.poll() is None and time.monotonic() < until:
                time.sleep(0.02)
            child.send_signal(signal.SIGINT)
            out, err = child.communicate(timeout=30)
        finally:
            child.kill()
    assert child.returncode == -signal.SIGINT, err
    assert out == ""
    assert "Traceback" not in err
    have = part.stat().st_size
    assert server.files[FILES[0]].startswith(part.read_bytes())
    server.trickle, server.delay = None, 0.0
    done = subprocess.run(
        driven(server.url, 40, "data", "fetch", "kmnist"), capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, f"{folder}\n"), done.stderr
    assert server.requests[1] == (FILES[0], f"bytes={have}-")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == server.files


# --- path -----------------------------------------------------------------------------------------------------------


def test_path_prints_the_folder_and_nothing_else(ddpm: Any, server: Mirror, folder: Path, tmp_path: Path) -> None:
    result = ddpm("data", "path", "mnist").done()
    assert (result.out, result.err) == (f"{paths.shipped() / 'data' / 'mnist'}\n", "")
    ddpm("data", "fetch", "kmnist").done()
    assert ddpm("data", "path", "kmnist").done().out == f"{folder}\n"
    document = ddpm("data", "path", "kmnist", "--json").done().json
    assert (document["name"], document["where"]) == ("kmnist", [str(folder)])
    assert document["files"] == [str(folder / name) for name in FILES]
    mine = tmp_path / "mine"
    folder.rename(mine)
    assert ddpm("data", "path", "kmnist", "--data-dir", mine).done().out == f"{mine}\n"
    assert len(server.requests) == 4


@pytest.mark.usefixtures("server")
def test_path_of_what_is_not_here_is_3(ddpm: Any, folder: Path) -> None:
    ddpm("data", "path", "kmnist").refused(3, FILES[0], "kmnist", "ddpm data fetch kmnist")
    ddpm("data", "fetch", "kmnist").done()
    (folder / FILES[3]).unlink()
    ddpm("data", "path", "kmnist", "--json").refused(3, FILES[3])


WRONG = {
    "empty": (lambda _: b"", "it is empty"),
    "a web page": (lambda _: b"\n<!DOCTYPE html><title>Log in</title>", "it is a web page"),
    "truncated": (lambda content: content[:-1], "bytes, expected"),
    "one bit": (lambda content: content[:-1] + bytes([content[-1] ^ 1]), "sha256"),
    "of another set": (lambda _: (paths.shipped() / "data" / "mnist" / FILES[3]).read_bytes(), "it belongs to mnist"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_not_the_file_does_not_count_as_present(ddpm: Any, server: Mirror, folder: Path, wrong: str) -> None:
    ddpm("data", "fetch", "kmnist").done()
    path = folder / FILES[2]
    change, reason = WRONG[wrong]
    path.write_bytes(change(server.files[FILES[2]]))
    result = ddpm("data", "list", "--json").done()
    about = {about["name"]: about for about in result.json["sets"]}
    assert about["kmnist"]["present"] == "damaged"
    assert about["kmnist"]["damaged"] == [str(path)]
    assert (about["mnist"]["present"], about["mnist"]["damaged"]) == ("shipped", [])
    assert f"warning: {path} is damaged or of another data set: " in result.err
    assert reason in result.err
    ddpm("data", "path", "kmnist").refused(3, str(path), reason, "ddpm data rm kmnist")
    ddpm("data", "fetch", "kmnist").refused(3, str(path), reason, "ddpm data rm kmnist")


@pytest.mark.parametrize("plain", [False, True], ids=["gzip", "plain"])
def test_a_set_with_files_of_the_same_names_is_not_taken_for_another(
    ddpm: Any, server: Mirror, tmp_path: Path, plain: bool
) -> None:
    """MNIST, Fashion-MNIST and KMNIST call their files alike."""
    mine = tmp_path / "mine"
    mine.mkdir()
    for file in (paths.shipped() / "data" / "mnist").iterdir():
        content = file.read_bytes()
        if plain:
            (mine / file.name.removesuffix(".gz")).write_bytes(gzip.decompress(content))
        else:
            (mine / file.name).write_bytes(content)
    for name in ("kmnist", "fashion-mnist"):
        ddpm("data", "path", name, "--data-dir", mine).refused(3, f"of {name} is not on this machine")
        assert listed(ddpm, "--data-dir", mine)[name]["present"] == "no"
    ddpm("data", "fetch", "kmnist", "--data-dir", mine, "--offline").refused(6, "kmnist is not on this machine")
    assert listed(ddpm, "--data-dir", mine)["mnist"]["present"] == "given"
    right = mine / "KMNIST" / "raw"  # torchvision's layout, which is looked into after the folder itself
    right.mkdir(parents=True)
    for name, content in server.files.items():
        (right / name).write_bytes(content)
    assert ddpm("data", "path", "kmnist", "--data-dir", mine).done().out == f"{right}\n"


def test_a_data_dir_with_another_set_is_said(ddpm: Any, server: Mirror, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(paths.shipped() / "data" / "mnist", mine)
    result = ddpm("data", "fetch", "kmnist", "--data-dir", mine).done()
    assert f"no kmnist in {mine}, which holds mnist: looking elsewhere" in result.err
    assert len(server.requests) == 4


# --- rm -------------------------------------------------------------------------------------------------------------


def test_rm_removes_what_was_fetched_and_made_and_nothing_else(ddpm: Any, server: Mirror, home: Path) -> None:
    ddpm("data", "fetch", "kmnist").done()
    load("kmnist")
    load("kmnist", split="test")
    load("mnist", split="test")
    folder, stores = home / "datasets" / "kmnist", home / "cache" / "datasets"
    (stores / "kmnist-train-14.safetensors").write_bytes(b"resized")
    (folder / f"{FILES[0]}.part").write_bytes(b"half")
    (folder / "notes.txt").write_text("mine")
    size = sum(path.stat().st_size for path in stores.glob("kmnist-*")) + sum(map(len, server.files.values())) + 4
    document = ddpm("data", "rm", "kmnist", "--yes", "--json").done().json
    assert document["bytes"] == size
    assert sorted(document["removed"]) == sorted(
        [
            *(str(folder / name) for name in (*FILES, f"{FILES[0]}.part")),
            *(str(stores / f"kmnist-{rest}.safetensors") for rest in ("train", "test", "train-14")),
        ]
    )
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    assert [path.name for path in stores.iterdir()] == ["mnist-test.safetensors"]
    (folder / "notes.txt").unlink()
    ddpm("data", "fetch", "kmnist").done()
    result = ddpm("data", "rm", "-y", "kmnist").done()
    assert result.out.splitlines() == [str(folder / name) for name in FILES]
    assert result.err == f"{sum(map(len, server.files.values())) / 1000:.0f} kB freed\n"
    assert not folder.exists()


def test_rm_of_nothing_says_so_and_is_no_error(ddpm: Any) -> None:
    for arguments in (["kmnist"], ["mnist", "cifar10", "--yes"]):
        result = ddpm("data", "rm", *arguments).done()
        assert result.out == ""
        assert "nothing to remove" in result.err
    document = ddpm("data", "rm", "kmnist", "--json").done().json
    assert (document["removed"], document["bytes"]) == ([], 0)


def test_rm_never_touches_the_package_the_system_or_a_folder_of_yours(
    ddpm: Any, server: Mirror, tmp_path: Path, home: Path
) -> None:
    shipped = paths.shipped() / "data" / "mnist"
    before = {path.name: path.read_bytes() for path in shipped.iterdir()}
    load("mnist", split="test")
    result = ddpm("data", "rm", "mnist", "--yes").done()
    assert result.out == f"{home / 'cache' / 'datasets' / 'mnist-test.safetensors'}\n"
    assert {path.name: path.read_bytes() for path in shipped.iterdir()} == before

    system, mine = tmp_path / "usr", tmp_path / "mine"
    KNOWN["kmnist"] = replace(KNOWN["kmnist"], system=system)
    for place in (system, mine):
        place.mkdir()
        for name, content in server.files.items():
            (place / name).write_bytes(content)
    load("kmnist", data_dir=mine)
    ddpm("data", "rm", "kmnist", "--yes").done()
    assert sorted(path.name for path in system.iterdir()) == sorted(FILES)
    assert sorted(path.name for path in mine.iterdir()) == sorted(FILES)


def test_rm_of_a_linked_folder_removes_the_link(ddpm: Any, server: Mirror, folder: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    for name, content in server.files.items():
        (mine / name).write_bytes(content)
    folder.parent.mkdir(parents=True)
    folder.symlink_to(mine)
    assert ddpm("data", "path", "kmnist").done().out == f"{folder}\n"
    assert ddpm("data", "rm", "kmnist", "--yes").done().out == f"{folder}\n"
    assert not os.path.lexists(folder)
    assert sorted(path.name for path in mine.iterdir()) == sorted(FILES)


def test_rm_tells_which_sets_lose_their_files_too(ddpm: Any, home: Path) -> None:
    archive = home / "datasets" / "emnist" / "gzip.zip"
    archive.parent.mkdir(parents=True)
    archive.write_bytes(b"x")
    result = ddpm("data", "rm", "emnist-letters", "--yes").done()
    assert result.out == f"{archive}\n"
    assert "emnist, emnist-digits" in result.err


@pytest.mark.usefixtures("server")
def test_rm_without_a_terminal_wants_yes(ddpm: Any, folder: Path) -> None:
    ddpm("data", "fetch", "kmnist").done()
    ddpm("data", "rm", "kmnist").refused(2, "terminal", "--yes")
    ddpm("data", "rm", "kmnist", "--json").refused(2, "--yes")
    assert len(list(folder.iterdir())) == 4


@pytest.mark.skipif(os.name == "nt", reason="no pseudo-terminals")
@pytest.mark.parametrize(("answer", "left"), [("y", 0), ("", 4)])
def test_rm_asks_on_a_terminal(ddpm: Any, server: Mirror, folder: Path, answer: str, left: int) -> None:
    ddpm("data", "fetch", "kmnist").done()
    terminal, inside = os.openpty()
    with subprocess.Popen(
        driven("http://127.0.0.1:9/", 5, "data", "rm", "kmnist"), stdin=inside, stderr=inside, stdout=subprocess.PIPE
    ) as child:
        os.close(inside)
        said = b""
        while b"[y/N]" not in said and select.select([terminal], [], [], 60)[0]:
            said += os.read(terminal, 4096)
        os.write(terminal, answer.encode() + b"\n")
        out = child.communicate(timeout=30)[0].decode()
    os.close(terminal)
    assert child.returncode == 0
    size = f"{sum(map(len, server.files.values())) / 1000:.0f} kB"
    assert f"Remove kmnist (4 files, {size}) from {folder}?" in said.decode().replace("\r\n", "")
    assert len(out.splitlines()) == 4 - left
    assert (len(list(folder.iterdir())) if folder.exists() else 0) == left


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may remove everything")
@pytest.mark.usefixtures("server")
def test_rm_without_permission_is_6(ddpm: Any, folder: Path) -> None:
    ddpm("data", "fetch", "kmnist").done()
    folder.chmod(0o500)
    try:
        ddpm("data", "rm", "kmnist", "--yes").refused(6, "cannot remove", str(folder))
    finally:
        folder.chmod(0o700)


def test_rm_of_what_is_a_folder_is_6(ddpm: Any, folder: Path) -> None:
    (folder / FILES[0]).mkdir(parents=True)
    ddpm("data", "rm", "kmnist", "--yes").refused(6, "cannot remove", str(folder / FILES[0]))


# --- usage ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["fetch", "path", "rm"])
def test_an_unknown_name_is_2(ddpm: Any, command: str) -> None:
    ddpm("data", command, "kmnits").refused(2, "unknown data set 'kmnits'", "Did you mean kmnist?")


def test_one_unknown_name_stops_all(ddpm: Any, server: Mirror) -> None:
    ddpm("data", "fetch", "kmnist", "./photos").refused(2, "./photos")
    assert server.requests == []


@pytest.mark.parametrize(
    "arguments", [["fetch"], ["path"], ["rm"], ["path", "a", "b"], ["list", "mnist"], ["nonsense"], ["list", "-x"]]
)
def test_usage_errors_are_2(ddpm: Any, arguments: list[str]) -> None:
    ddpm("data", *arguments).refused(2, "ddpm data")


@pytest.mark.parametrize("command", ["", "list", "fetch", "path", "rm"])
def test_help_ends_with_examples_and_loads_nothing_heavy(command: str) -> None:
    code = (
        "import sys; from ddpm_cli.cli import main; main(sys.argv[1:]);"
        "print(*{'torch', 'numpy', 'requests'} & set(sys.modules), file=sys.stderr)"
    )
    arguments = ["data", *command.split(), "--help"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    examples = done.stdout.rpartition("Examples:")[2].split("\n")[1:]
    assert all(f"ddpm data {command}".strip() in line for line in examples if line.strip())
    assert all(len(line) <= 80 or "ddpm " in line for line in done.stdout.splitlines())
    assert done.stderr.split() == []


def test_data_loads_neither_torch_nor_the_web(home: Path) -> None:
    code = (
        "import sys; from ddpm_cli.cli import main\n"
        "for line in ('list', 'path mnist', 'rm mnist'): assert main(['data', *line.split()]) == 0\n"
        "print(*{'torch', 'matplotlib', 'requests', 'scipy'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1].split() == []
    assert not home.exists()


def test_the_page_about_data_names_every_set_with_its_numbers() -> None:
    page = (Path(__file__).parent.parent.parent / "docs" / "data.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("| `")
    ]
    sets = {row[0].strip("`"): row[1:5] for row in rows if len(row) == 7}
    assert sets == {
        name: [
            f"{known.counts['train']:,}",
            f"{known.counts['test']:,}",
            "x".join(map(str, known.shape)),
            str(len(known.classes)),
        ]
        for name, known in KNOWN.items()
    }
    for name, known in KNOWN.items():
        assert known.licence in page, name


# --- what was made of folders ---------------------------------------------------------------------------------------


def test_what_was_made_of_a_folder_is_listed_and_goes_and_the_folder_stays(ddpm: Any, cwd: Path, photos: Path) -> None:
    for name in ("mine", "mine-too"):
        shutil.copytree(photos, cwd / name)
        ddpm("noise", "--dataset", f"./{name}", "--at", "0", "-q").done()
    listed = ddpm("data", "list", "--json").done().json["folders"]
    assert [each["source"] for each in listed] == [str(cwd / "mine"), str(cwd / "mine-too")]
    assert [each["shape"] for each in listed] == [[24, 1, 12, 12]] * 2
    files = [Path(each["path"]) for each in listed]
    assert [each["bytes"] for each in listed] == [path.stat().st_size for path in files]

    ddpm("data", "rm", "mine").refused(2, "--yes")
    result = ddpm("data", "rm", "--yes", "./mine/").done()
    assert result.out == f"{files[0]}\n"
    assert (files[0].exists(), files[1].exists()) == (False, True)
    assert len(list((cwd / "mine").rglob("*.png"))) == 24
    again = ddpm("data", "rm", "--yes", "./mine", "cifar10").done()
    assert again.out == ""
    assert "nothing to remove of ./mine, cifar10" in again.err
