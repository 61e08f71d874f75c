"""A file is written whole or not at all, and a failure says what and where."""

import errno
import os
import shutil
import signal
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from ddpm_cli import files
from ddpm_cli.errors import ResourceError
from ddpm_cli.files import append_line, held, replacing, write_bytes

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
        (errno.EDQUOT, "the disk quota is used up"),
        (errno.EFBIG, "larger than a file may be here"),
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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_holds_nothing_after_its_parent(tmp_path: Path) -> None:
    """A loader of data, say, that outlives the training it belongs to."""
    said, say = os.pipe()
    parent = os.fork()
    if parent == 0:
        with held(tmp_path):
            child = os.fork()
            if child:
                os.write(say, f"{child} ".encode())
            signal.pause()
    child = int(os.read(said, 20))
    try:
        with pytest.raises(ResourceError), held(tmp_path):
            pass
        os.kill(parent, signal.SIGKILL)
        os.waitpid(parent, 0)
        os.kill(child, 0)  # still there
        with held(tmp_path):
            pass
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_that_leaves_the_block_does_not_let_its_parent_go(tmp_path: Path) -> None:
    with held(tmp_path):
        child = os.fork()
        if child == 0:
            os._exit(7 if tmp_path.absolute() in files._held.values() else 0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        with pytest.raises(ResourceError), held(tmp_path):
            pass


@pytest.mark.skipif(os.name == "nt", reason="no such locks there")
@pytest.mark.parametrize("name", [".lock", "lock", "run.lock", ".held"])
def test_a_file_that_looks_like_a_lock_is_none(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(str(os.getpid()))
    with held(tmp_path):
        pass
    assert (tmp_path / name).exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_what_a_killed_process_left_half_written_goes_when_the_folder_is_held(tmp_path: Path) -> None:
    """And what a living one writes stays, and so does what others call .tmp."""
    (tmp_path / "samples").mkdir()
    (tmp_path / ".mine.tmp").write_bytes(b"")
    said, say = os.pipe()
    children = [os.fork(), 0]
    if children[0] == 0:
        with replacing(tmp_path / "state"), replacing(tmp_path / "samples" / "picture"):
            os.write(say, b"!")
            signal.pause()
    os.read(said, 1)
    children[1] = os.fork()
    if children[1] == 0:
        with replacing(tmp_path / "other") as file:
            file.write(b"data")
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
            os.write(say, b"!")
            signal.sigwait({signal.SIGUSR1})
        os._exit(0)
    os.read(said, 1)
    os.kill(children[0], signal.SIGKILL)
    os.waitpid(children[0], 0)
    half = {path for path in tmp_path.rglob(".*.tmp") if path.name != ".mine.tmp"}
    assert len(half) == 3
    with held(tmp_path):
        left = {path for path in tmp_path.rglob(".*.tmp") if path.name != ".mine.tmp"}
        assert len(left) == 1
        assert left < half
    os.kill(children[1], signal.SIGUSR1)
    assert os.waitstatus_to_exitcode(os.waitpid(children[1], 0)[1]) == 0
    assert (tmp_path / "other").read_bytes() == b"data"
    assert {path.name for path in tmp_path.iterdir()} == {"samples", ".mine.tmp", "other"}


def move(folder: Path) -> None:
    folder.rename(folder.with_name("moved"))


def delete(folder: Path) -> None:
    shutil.rmtree(folder)


def replace(folder: Path) -> None:
    """Somebody else begins a run of the same name."""
    move(folder)
    folder.mkdir()
    (folder / "old").write_bytes(b"theirs")


@pytest.mark.skipif(os.name == "nt", reason="no such locks there")
@pytest.mark.parametrize("happens", [move, delete, replace])
@pytest.mark.parametrize("write", [write_bytes, lambda path, data: append_line(path, data.decode())])
def test_a_held_folder_that_was_moved_or_deleted_is_not_written_to(
    tmp_path: Path, happens: Callable[[Path], None], write: Callable[[Path, bytes], None]
) -> None:
    folder = tmp_path / "run"
    with held(folder):
        write(folder / "old", b"mine")
        happens(folder)
        with pytest.raises(ResourceError, match="moved or deleted"):
            write(folder / "old", b"mine")
        with pytest.raises(ResourceError, match="moved or deleted"):
            write(folder / "samples" / "new", b"mine")
        write(tmp_path / "beside", b"mine")
    assert not (folder / "samples").exists()
    assert not folder.exists() or (folder / "old").read_bytes() == b"theirs"


@pytest.mark.skipif(os.name == "nt", reason="no such locks there")
@pytest.mark.parametrize("write", [write_bytes, lambda path, data: append_line(path, data.decode())])
@pytest.mark.parametrize("where", ["file", "folder/file", "folder/deeper/file", "lost", "pipe"])
def test_nothing_is_written_through_a_link_in_a_held_folder(
    tmp_path: Path, where: str, write: Callable[[Path, bytes], None]
) -> None:
    """Nor waits it for the reader of a pipe."""
    (tmp_path / "there" / "deeper").mkdir(parents=True)
    for path in (tmp_path / "there" / "file", tmp_path / "there" / "deeper" / "file"):
        path.write_bytes(b"theirs")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "file").symlink_to(tmp_path / "there" / "file")
    (folder / "folder").symlink_to(tmp_path / "there")
    (folder / "lost").symlink_to(tmp_path / "nowhere")
    os.mkfifo(folder / "pipe")
    with held(folder), pytest.raises(ResourceError, match="link"):
        write(folder / where, b"mine")
    assert {path.read_bytes() for path in (tmp_path / "there").rglob("file")} == {b"theirs"}
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.skipif(os.name == "nt", reason="no such locks there")
def test_what_is_half_written_behind_a_link_stays(tmp_path: Path) -> None:
    there = tmp_path / "there" / ".0123456789abcdef.tmp"
    there.parent.mkdir()
    there.write_bytes(b"theirs")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "samples").symlink_to(there.parent)
    with held(tmp_path / "run"):
        pass
    assert there.exists()


def test_a_folder_that_is_not_to_be_made_is_not(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="its folder is gone"), held(tmp_path / "run", make=False):
        pass
    assert not (tmp_path / "run").exists()


def test_a_line_leaves_the_other_names_of_a_file_alone(tmp_path: Path) -> None:
    write_bytes(tmp_path / "theirs", b"one\n")
    os.link(tmp_path / "theirs", tmp_path / "mine")
    append_line(tmp_path / "mine", "two")
    assert (tmp_path / "mine").read_bytes() == b"one\ntwo\n"
    assert (tmp_path / "theirs").read_bytes() == b"one\n"


def test_the_names_of_new_folders_reach_the_disk_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed = []
    monkeypatch.setattr(os, "fsync", lambda handle: flushed.append(os.fstat(handle).st_ino))
    write_bytes(tmp_path / "a" / "b" / "file", b"")
    folders = [tmp_path, tmp_path / "a", tmp_path / "a" / "b"]
    assert {folder.stat().st_ino for folder in folders} <= set(flushed)


# --- lines at the end of a file -------------------------------------------------------------------------------------


def test_lines_are_added_one_by_one(tmp_path: Path) -> None:
    for line in ("first", "zweite Zeile: ä", ""):
        append_line(tmp_path / "log", line)
    assert (tmp_path / "log").read_bytes() == "first\nzweite Zeile: ä\n\n".encode()


@pytest.mark.parametrize(
    ("found", "left"),
    [
        (b"", b""),
        (b"whole\n", b"whole\n"),
        (b"whole\nhal", b"whole\n"),
        (b"hal", b""),
        (b"whole\n" + b"x" * 10_000, b"whole\n"),
        (b"x" * 4096 + b"\n" + b"y" * 4095, b"x" * 4096 + b"\n"),
    ],
    ids=len,
)
def test_half_a_line_is_cut_off_before_the_next(tmp_path: Path, found: bytes, left: bytes) -> None:
    (tmp_path / "log").write_bytes(found)
    append_line(tmp_path / "log", "next")
    assert (tmp_path / "log").read_bytes() == left + b"next\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("room", range(13, 19))
def test_a_line_that_does_not_fit_is_taken_back(tmp_path: Path, room: int) -> None:
    """A limit on the size of files stands for a disk that is full in the middle of a line."""
    import resource

    path = tmp_path / "log"
    path.write_bytes(b"whole line\n")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
            append_line(path, "no room")
        except ResourceError as error:
            code = error.exit_code
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 6
    assert path.read_bytes() == b"whole line\n"


def test_what_was_added_is_brought_to_the_disk_where_there_is_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda handle: flushed.append(os.fstat(handle).st_ino))
    files.flush(tmp_path / "nothing")
    assert list(tmp_path.iterdir()) == []
    files.append_line(tmp_path / "log", "one")
    files.flush(tmp_path / "log")
    assert flushed == [(tmp_path / "log").stat().st_ino]
    with pytest.raises(ResourceError, match="that is a folder"):
        files.flush(tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux only")
def test_a_line_to_a_full_device() -> None:
    with pytest.raises(ResourceError, match="cannot write /dev/full: the disk is full"):
        append_line(Path("/dev/full"), "line")
