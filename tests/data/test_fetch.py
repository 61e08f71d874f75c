"""Downloads are whole and right, or not there, whatever a mirror does."""

import contextlib
import gzip
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from ddpm_cli import files
from ddpm_cli.data import fetch as module
from ddpm_cli.data.fetch import fetch
from ddpm_cli.errors import DataError, ResourceError

NAME = "a-images.gz"


@pytest.fixture
def file(tiny):
    return tiny.known.files["train"][0]


@pytest.fixture
def content(tiny) -> bytes:
    return tiny.contents[NAME]


def quiet(done: int, total: int) -> None:
    pass


def test_fetches_and_reports(file, content: bytes, mirror: Callable, tmp_path: Path, capfd) -> None:
    server, seen = mirror({NAME: content}), []
    path = fetch(file, (server.url,), tmp_path / "to", lambda done, total: seen.append((done, total)))
    assert path == tmp_path / "to" / NAME
    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]
    assert seen[-1] == (len(content), len(content))
    assert seen == sorted(seen)
    assert capfd.readouterr() == ("", "")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_follows_redirects_to_another_server(
    file, content: bytes, mirror: Callable, tmp_path: Path, status: int, host: str
) -> None:
    target = mirror({NAME: content})
    moved = mirror({}, redirect=target.url.replace("127.0.0.1", host), moved=status)
    (tmp_path / f"{NAME}.part").write_bytes(content[:30])
    assert fetch(file, (moved.url,), tmp_path, quiet).read_bytes() == content
    assert target.requests == [(NAME, "bytes=30-")]  # and it is continued there


def test_redirects_in_circles_are_told(file, content: bytes, mirror: Callable, tmp_path: Path) -> None:
    one, other = mirror({}), mirror({})
    one.redirect, other.redirect = other.url, one.url
    with pytest.raises(ResourceError, match="redirects in circles"):
        fetch(file, (one.url,), tmp_path, quiet)
    assert names(tmp_path) == []
    assert len(one.requests) + len(other.requests) < 50
    assert fetch(file, (one.url, mirror({NAME: content}).url), tmp_path, quiet).read_bytes() == content


def test_a_redirect_out_of_the_web_is_not_followed(file, mirror: Callable, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / NAME).write_bytes(b"?")
    with pytest.raises(ResourceError, match="cannot fetch"):
        fetch(file, (mirror({}, redirect=f"file://{tmp_path}/secret/").url,), tmp_path / "to", quiet)
    assert names(tmp_path / "to") == []


@pytest.mark.parametrize("length", [True, False], ids=["announced", "without a length"])
def test_a_cut_download_is_continued_by_the_next_mirror(
    file, content: bytes, mirror: Callable, tmp_path: Path, length: bool
) -> None:
    first, second = mirror({NAME: content}, cut=50, length=length), mirror({NAME: content})
    assert fetch(file, (first.url, second.url), tmp_path, quiet).read_bytes() == content
    assert second.requests == [(NAME, "bytes=50-")]


def test_a_cut_download_is_continued_by_the_next_run(file, content: bytes, mirror: Callable, tmp_path: Path) -> None:
    server = mirror({NAME: content}, cut=50)
    with pytest.raises(ResourceError, match="the connection ended early"):
        fetch(file, (server.url,), tmp_path, quiet)
    assert [path.name for path in tmp_path.iterdir()] == [f"{NAME}.part"]
    server.cut = None
    assert fetch(file, (server.url,), tmp_path, quiet).read_bytes() == content
    assert server.requests == [(NAME, ""), (NAME, "bytes=50-")]
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_a_server_without_ranges_sends_the_whole(file, content: bytes, mirror: Callable, tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.part").write_bytes(content[:50])
    server = mirror({NAME: content}, ranges=False)
    assert fetch(file, (server.url,), tmp_path, quiet).read_bytes() == content


@pytest.mark.parametrize("size", [50, None, 10_000], ids=["shorter", "as long", "longer"])
def test_a_wrong_part_is_thrown_away_once(
    file, content: bytes, mirror: Callable, tmp_path: Path, size: int | None
) -> None:
    (tmp_path / f"{NAME}.part").write_bytes(b"?" * (size or len(content)))
    server = mirror({NAME: content})
    assert fetch(file, (server.url,), tmp_path, quiet).read_bytes() == content
    assert server.requests[-1] == (NAME, "")
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


LIES = {
    "wrong bytes": lambda content: bytes(len(content)),
    "a login page": lambda _: b"<html>Please log in</html>",
    "too much": lambda content: content * 3,
}


@pytest.mark.parametrize("length", [True, False], ids=["announced", "without a length"])
@pytest.mark.parametrize("lie", LIES)
def test_a_lying_mirror_is_passed_over(
    file, content: bytes, mirror: Callable, tmp_path: Path, lie: str, length: bool
) -> None:
    liar, honest = mirror({NAME: LIES[lie](content)}, length=length), mirror({NAME: content})
    assert fetch(file, (liar.url, honest.url), tmp_path, quiet).read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


@pytest.mark.parametrize("lie", LIES)
def test_only_liars_is_a_data_error(file, content: bytes, mirror: Callable, tmp_path: Path, lie: str) -> None:
    liars = [mirror({NAME: LIES[lie](content)}) for _ in range(2)]
    with pytest.raises(DataError, match=f"no mirror has {NAME}.*wrong content") as caught:
        fetch(file, tuple(liar.url for liar in liars), tmp_path, quiet)
    assert caught.value.hint
    assert list(tmp_path.iterdir()) == []
    assert [len(liar.requests) for liar in liars] == [1, 1]


def test_a_resumed_lie_is_asked_for_twice_and_no_more(file, content: bytes, mirror: Callable, tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.part").write_bytes(content[:50])
    liar = mirror({NAME: bytes(len(content))})
    with pytest.raises(DataError):
        fetch(file, (liar.url,), tmp_path, quiet)
    assert liar.requests == [(NAME, "bytes=50-"), (NAME, "")]
    assert list(tmp_path.iterdir()) == []


def test_a_mirror_with_a_shorter_file_leaves_the_part(file, content: bytes, mirror: Callable, tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.part").write_bytes(content[:50])
    short, honest = mirror({NAME: content[:40]}), mirror({NAME: content})
    assert fetch(file, (short.url, honest.url), tmp_path, quiet).read_bytes() == content
    assert honest.requests == [(NAME, "bytes=50-")]


def test_a_mute_mirror_times_out(
    file, content: bytes, mirror: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TIMEOUT", (0.2, 0.2))
    mute, honest = mirror({NAME: content}, pause=0.6), mirror({NAME: content})
    assert fetch(file, (mute.url, honest.url), tmp_path / "a", quiet).read_bytes() == content
    with pytest.raises(ResourceError, match="timed out"):
        fetch(file, (mute.url,), tmp_path / "b", quiet)


def test_a_slow_mirror_is_shown_as_it_comes(file, content: bytes, mirror: Callable, tmp_path: Path) -> None:
    server, seen = mirror({NAME: content}, trickle=20, delay=0.01), []
    path = fetch(file, (server.url,), tmp_path, lambda done, _: seen.append(done))
    assert path.read_bytes() == content
    assert len(set(seen)) > 3, "told in one piece only"
    assert seen[-1] == len(content)


def test_a_mirror_that_would_never_end_is_left_for_the_next(
    file, content: bytes, mirror: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WINDOW", 0.1)
    trickling = mirror({NAME: content}, trickle=1, delay=0.03)
    with pytest.raises(ResourceError, match="too slow"):
        fetch(file, (trickling.url,), tmp_path, quiet)
    assert names(tmp_path) == [f"{NAME}.part"]
    left = (tmp_path / f"{NAME}.part").read_bytes()
    assert content.startswith(left)
    assert 0 < len(left) < len(content)
    honest = mirror({NAME: content})
    assert fetch(file, (trickling.url, honest.url), tmp_path, quiet).read_bytes() == content
    ((_, range_),) = honest.requests
    assert int(range_.removeprefix("bytes=").removesuffix("-")) > len(left)


def test_a_slow_mirror_that_is_fast_enough_is_kept(
    file, content: bytes, mirror: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WINDOW", 0.05)
    monkeypatch.setattr(module, "SLOWEST", 10)
    server = mirror({NAME: content}, trickle=20, delay=0.02)
    assert fetch(file, (server.url,), tmp_path, quiet).read_bytes() == content
    assert len(server.requests) == 1


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("ranges", [True, False], ids=["with ranges", "without"])
def test_cut_at_random_and_resumed_until_it_is_whole(
    file, content: bytes, mirror: Callable, tmp_path: Path, seed: int, ranges: bool
) -> None:
    noise = np.random.default_rng(seed)
    server = mirror({NAME: content}, ranges=ranges)
    have = 0
    for _ in range(4):
        server.cut = int(noise.integers(0, len(content) // 3))
        with pytest.raises(ResourceError, match="ended early"):
            fetch(file, (server.url,), tmp_path, quiet)
        have = have + server.cut if ranges else server.cut
        part = tmp_path / f"{NAME}.part"
        assert names(tmp_path) == [part.name]
        assert part.read_bytes() == content[:have]
        if have > len(content) // 2:
            break
    server.cut = None
    assert fetch(file, (server.url,), tmp_path, quiet).read_bytes() == content
    assert server.requests[-1] == (NAME, f"bytes={have}-" if have else "")
    assert names(tmp_path) == [NAME]


@pytest.mark.parametrize("length", [True, False], ids=["announced", "without a length"])
def test_a_login_page_does_not_overwrite_what_is_there(
    file, content: bytes, mirror: Callable, tmp_path: Path, length: bool
) -> None:
    (tmp_path / f"{NAME}.part").write_bytes(content[:50])
    portal = mirror(
        {NAME: b"<html>Please log in</html>"},
        ranges=False,
        length=length,
        headers={"Content-Type": "text/html; charset=utf-8"},
    )
    with pytest.raises(DataError, match="wrong content") as caught:
        fetch(file, (portal.url,), tmp_path, quiet)
    assert "login page" in caught.value.hint
    assert (tmp_path / f"{NAME}.part").read_bytes() == content[:50]
    honest = mirror({NAME: content})
    assert fetch(file, (portal.url, honest.url), tmp_path, quiet).read_bytes() == content
    assert honest.requests == [(NAME, "bytes=50-")]


def test_a_gzip_called_encoded_stays_the_gzip(file, content: bytes, mirror: Callable, tmp_path: Path) -> None:
    """Some servers take the suffix .gz for an encoding of the way and announce it."""
    server = mirror({NAME: content}, headers={"Content-Encoding": "gzip"})
    assert fetch(file, (server.url,), tmp_path, quiet).read_bytes() == content


def test_a_server_is_not_asked_to_compress(file, content: bytes, mirror: Callable, tmp_path: Path) -> None:
    server = mirror({NAME: content}, compresses=True)
    assert fetch(file, (server.url,), tmp_path, quiet).read_bytes() == content


@pytest.mark.parametrize("length", [True, False], ids=["announced", "without a length"])
def test_what_was_compressed_on_the_way_is_not_the_file(
    file, content: bytes, mirror: Callable, tmp_path: Path, length: bool
) -> None:
    server = mirror({NAME: gzip.compress(content)}, headers={"Content-Encoding": "gzip"}, length=length)
    with pytest.raises(DataError, match="wrong content"):
        fetch(file, (server.url,), tmp_path, quiet)
    assert NAME not in names(tmp_path)


def test_a_part_of_another_place_is_not_appended(file, content: bytes, mirror: Callable, tmp_path: Path) -> None:
    """A server that answers a range from 50 with the whole, and says so, has given the whole."""
    (tmp_path / f"{NAME}.part").write_bytes(content[:50])
    server = mirror({NAME: content}, ranges=False, headers={"Content-Range": f"bytes 0-{len(content) - 1}/*"})
    assert fetch(file, (server.url,), tmp_path, quiet).read_bytes() == content


@pytest.mark.parametrize("status", [403, 404, 429, 500, 503])
def test_http_errors_are_told_and_the_next_mirror_asked(
    file, content: bytes, mirror: Callable, tmp_path: Path, status: int
) -> None:
    failing = mirror({}, status=status)
    with pytest.raises(ResourceError, match=f"HTTP {status}"):
        fetch(file, (failing.url,), tmp_path, quiet)
    assert names(tmp_path) == []
    assert fetch(file, (failing.url, mirror({NAME: content}).url), tmp_path, quiet).read_bytes() == content
    assert len(failing.requests) == 2  # once each time


def test_nobody_there(file, tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"cannot fetch a-images.gz \(127.0.0.1:9: no connection\)"):
        fetch(file, ("http://127.0.0.1:9/",), tmp_path, quiet)


def test_a_folder_that_cannot_be_written(file, content: bytes, mirror: Callable, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match=r"cannot write .*: a part of that path is a file"):
        fetch(file, (mirror({NAME: content}).url,), tmp_path / "file", quiet)


def test_an_interrupted_download_keeps_its_part(file, content: bytes, mirror: Callable, tmp_path: Path) -> None:
    def interrupt(done: int, _: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(file, (mirror({NAME: content}).url,), tmp_path, interrupt)
    assert [path.name for path in tmp_path.iterdir()] == [f"{NAME}.part"]


# --- several processes at once --------------------------------------------------------------------------------------

FETCHER = """
import sys
from pathlib import Path
from ddpm_cli.data.fetch import fetch
from ddpm_cli.data.known import SourceFile
name, size, sha256, url, folder = sys.argv[1:]
fetch(SourceFile(name, int(size), sha256), (url,), Path(folder), lambda *_: None)
"""


@pytest.fixture
def start(file, tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Starts a process that fetches the file to ``tmp_path``."""
    with contextlib.ExitStack() as stack:

        def begin(url: str) -> subprocess.Popen[str]:
            child = subprocess.Popen(
                [sys.executable, "-c", FETCHER, file.name, str(file.size), file.sha256, url, str(tmp_path)],
                stderr=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(child)
            stack.callback(child.kill)
            return child

        yield begin


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def has_begun(part: Path) -> bool:
    return part.exists() and part.stat().st_size > 0


@pytest.mark.skipif(os.name == "nt", reason="there are no locks of this kind")
def test_of_six_processes_one_downloads_and_when_it_is_killed_another_continues(
    content: bytes, mirror: Callable, start: Callable, tmp_path: Path
) -> None:
    server = mirror({NAME: content}, trickle=10, delay=0.2)  # 3 seconds
    first = start(server.url)
    until(lambda: has_begun(tmp_path / f"{NAME}.part"))
    others = [start(server.url) for _ in range(5)]
    time.sleep(0.5)
    first.kill()
    for child in others:
        _, errors = child.communicate(timeout=60)
        assert child.returncode == 0, errors
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {NAME: content}
    (_, whole), (_, rest) = server.requests
    assert whole == ""
    assert 0 < int(rest.removeprefix("bytes=").removesuffix("-")) < len(content)


@pytest.mark.skipif(os.name == "nt", reason="processes cannot be stopped there")
def test_a_stopped_process_is_not_waited_for_for_ever(
    file,
    content: bytes,
    mirror: Callable,
    start: Callable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "WINDOW", 0.5)
    server = mirror({NAME: content}, trickle=10, delay=0.2)
    child = start(server.url)
    part = tmp_path / f"{NAME}.part"
    until(lambda: has_begun(part))
    child.send_signal(signal.SIGSTOP)
    server.delay, said, seen = 0.0, [], []
    path = fetch(file, (server.url,), tmp_path, lambda done, _: seen.append(done), said.append)
    assert path.read_bytes() == content
    assert said == [f"another process is fetching {NAME}: waiting for it"]
    assert 0 < seen[0] < len(content)  # what the other has by now
    child.send_signal(signal.SIGCONT)
    _, errors = child.communicate(timeout=60)
    assert child.returncode == 0, errors
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {NAME: content}


def test_without_locks_no_two_downloads_share_a_file(
    file, content: bytes, mirror: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_lock", lambda _: None)
    server, results = mirror({NAME: content}, trickle=20, delay=0.01), []
    threads = [
        threading.Thread(target=lambda: results.append(fetch(file, (server.url,), tmp_path, quiet).read_bytes()))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [content] * 3
    assert names(tmp_path) == [NAME]


def test_what_another_process_delivered_meanwhile_is_taken(
    file, content: bytes, mirror: Callable, tmp_path: Path
) -> None:
    (tmp_path / NAME).write_bytes(content)
    server = mirror({NAME: content})
    assert fetch(file, (server.url,), tmp_path, quiet) == tmp_path / NAME
    assert server.requests == []


def test_what_is_there_and_wrong_is_replaced(file, content: bytes, mirror: Callable, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(content[:-1] + b"?")
    assert fetch(file, (mirror({NAME: content}).url,), tmp_path, quiet).read_bytes() == content
    assert names(tmp_path) == [NAME]
