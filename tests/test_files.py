"""A file is written whole or not at all, and a failure says what and where."""

import errno
import os
import signal
import stat
from pathlib import Path

import pytest

from ddpm_cli import files
from ddpm_cli.errors import ResourceError
from ddpm_cli.files import held, replacing, write_bytes

verify = files._verify


def test_creates_parents_and_replaces_leaving_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "result.png"
    write_bytes(path, b"first")
    write_bytes(path, b"second")
    assert path.read_bytes() == b"second"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_permissions_are_those_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_bytes(tmp_path / "file", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_the_longest_name_a_folder_can_hold(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 255)
    write_bytes(path, b"data")
    assert path.read_bytes() == b"data"


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need a privilege there")
def test_writes_through_a_symbolic_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    write_bytes(tmp_path / "link", b"data")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "elsewhere").read_bytes() == b"data"


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="no devices as files")
def test_a_device_is_written_to_and_not_replaced() -> None:
    write_bytes(Path("/dev/null"), b"data")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux only")
def test_a_full_device() -> None:
    with pytest.raises(ResourceError, match="cannot write /dev/full: the disk is full"):
        write_bytes(Path("/dev/full"), b"data")


@pytest.mark.parametrize("below", ["file", "file/folder"])
def test_a_parent_that_is_a_file(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_bytes(b"kept")
    with pytest.raises(ResourceError, match="is a file, not a folder") as caught:
        write_bytes(tmp_path / below / "result.png", b"data")
    assert str(tmp_path / below / "result.png") in caught.value.message
    assert caught.value.hint
    assert (tmp_path / "file").read_bytes() == b"kept"


def test_a_path_that_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(ResourceError, match="folder"):
        write_bytes(tmp_path / "folder", b"data")
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EACCES, "no permission"),
        (errno.EROFS, "read-only"),
        (errno.EIO, "input/output error"),
    ],
)
def test_a_failure_keeps_the_old_file_and_leaves_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    path = tmp_path / "result.png"
    path.write_bytes(b"old")

    def fail(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ResourceError, match=words) as caught:
        write_bytes(path, b"new")
    assert caught.value.exit_code == 6
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupt_leaves_no_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_bytes(tmp_path / "result.png", b"data")
    assert list(tmp_path.iterdir()) == []


def test_a_stream_becomes_the_file_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "a" / "large"
    write_bytes(path, b"old")
    with replacing(path) as file:
        file.write(b"new ")
        file.flush()
        assert path.read_bytes() == b"old"
        file.write(b"content")
    assert path.read_bytes() == b"new content"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_block_that_fails_leaves_the_old_file_and_its_own_error(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "large"
    path.write_bytes(b"old")

    def fail() -> None:
        with replacing(path) as file:
            file.write(b"half")
            raise error("mine")

    with pytest.raises(error, match="mine"):
        fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux only")
def test_a_stream_to_a_full_device() -> None:
    with pytest.raises(ResourceError, match="the disk is full"), replacing(Path("/dev/full")) as file:
        file.write(bytes(1 << 20))


@pytest.mark.skipif(os.name == "nt", reason="no named pipes")
def test_a_pipe_is_written_to_and_stays_one(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with replacing(pipe) as file:
            file.write(b"data")
        assert os.read(reader, 100) == b"data"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_the_old_file_stays_where_the_new_one_does_not_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that loses what it was given."""
    path = tmp_path / "state"
    write_bytes(path, b"x" * 3_000_000)
    monkeypatch.setattr(files, "_verify", lambda file, data: verify(file, data[:-1] + b"?"))
    with pytest.raises(ResourceError, match="does not read back"):
        write_bytes(path, b"y" * 3_000_000)
    assert path.read_bytes() == b"x" * 3_000_000
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name == "nt", reason="no such locks there")
def test_a_folder_is_held_by_one_and_by_nobody_after_that(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "run"
    with held(folder):
        with pytest.raises(ResourceError, match="another process is at work") as caught, held(folder):
            pass
        assert caught.value.exit_code == 6
    with held(folder):
        pass
    assert list(folder.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_process_that_was_killed_holds_nothing(tmp_path: Path) -> None:
    said, say = os.pipe()
    child = os.fork()
    if child == 0:
        with held(tmp_path):
            os.write(say, b"!")
            signal.pause()
    os.read(said, 1)
    with pytest.raises(ResourceError), held(tmp_path):
        pass
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with held(tmp_path):
        pass
