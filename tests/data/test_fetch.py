"""Downloads are whole and right, or not there, whatever a mirror does."""

from collections.abc import Callable
from pathlib import Path

import pytest

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


def test_follows_redirects(file, content: bytes, mirror: Callable, tmp_path: Path) -> None:
    target = mirror({NAME: content})
    assert fetch(file, (mirror({}, redirect=target.url).url,), tmp_path, quiet).read_bytes() == content


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


@pytest.mark.parametrize("status", [404, 503])
def test_http_errors_are_told(file, mirror: Callable, tmp_path: Path, status: int) -> None:
    with pytest.raises(ResourceError, match=f"HTTP {status}"):
        fetch(file, (mirror({}, status=status).url,), tmp_path, quiet)


def test_nobody_there(file, tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"cannot fetch a-images.gz \(127.0.0.1:9: no connection\)"):
        fetch(file, ("http://127.0.0.1:9/",), tmp_path, quiet)


def test_a_folder_that_cannot_be_written(file, content: bytes, mirror: Callable, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="cannot write to"):
        fetch(file, (mirror({NAME: content}).url,), tmp_path / "file", quiet)


def test_an_interrupted_download_keeps_its_part(file, content: bytes, mirror: Callable, tmp_path: Path) -> None:
    def interrupt(done: int, _: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(file, (mirror({NAME: content}).url,), tmp_path, interrupt)
    assert [path.name for path in tmp_path.iterdir()] == [f"{NAME}.part"]
