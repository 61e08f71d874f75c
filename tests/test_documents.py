"""JSON that somebody else wrote is a value, or one of two exceptions; and nothing is waited for."""

import json
import os
import threading
from pathlib import Path

import pytest

from ddpm_cli import documents

# Lists and objects in one another, as deep as they may be and one deeper.
DEEP = ["[" * n + "]" * n for n in (documents.DEEPEST, documents.DEEPEST + 1)]
DEEP_OBJECTS = ['{"a":' * n + "1" + "}" * n for n in (documents.DEEPEST, documents.DEEPEST + 1)]


@pytest.mark.parametrize("value", [None, 3, "x", [], {}, [1, [2, {"a": [3]}]], {"a": {"b": [None, True]}}])
def test_a_document_is_its_value(tmp_path: Path, value: object) -> None:
    (tmp_path / "file").write_text(json.dumps(value))
    assert documents.read(tmp_path / "file") == value


@pytest.mark.parametrize(("fine", "beyond"), [DEEP, DEEP_OBJECTS])
def test_lists_in_lists_have_an_end(fine: str, beyond: str) -> None:
    assert documents.parse(fine) == json.loads(fine)
    for text in (beyond, "[1, " + beyond + "]", "[" * 100_000):
        with pytest.raises(ValueError, match="too deeply nested"):
            documents.parse(text)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"9" * 5000, b'{"a": }'])
def test_what_is_no_json_is_a_value_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError):  # noqa: PT011  # of json's own words
        documents.read(tmp_path / "file")


def test_no_more_is_read_than_was_said(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("[1, 2]")
    assert documents.read(path, 6) == [1, 2]
    assert documents.text(path, 6) == "[1, 2]"
    for read in (documents.read, documents.text):
        with pytest.raises(ValueError, match="5"):
            read(path, 5)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_neither_a_pipe_nor_a_device_nor_a_folder_is_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), Path("/dev/null")):
        with pytest.raises(OSError, match="a pipe or a device"):
            documents.read(path)
    with pytest.raises(IsADirectoryError):
        documents.size_of(tmp_path)
    with pytest.raises(FileNotFoundError):
        documents.size_of(tmp_path / "nothing")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_text_comes_through_a_pipe_too(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=("lr = 1",))
    writer.start()
    assert documents.text(tmp_path / "pipe") == "lr = 1"
    writer.join()


def test_a_device_without_an_end_is_not_read_to_it() -> None:
    with pytest.raises(ValueError, match="more than"):
        documents.text(Path("/dev/zero"), 1000)
