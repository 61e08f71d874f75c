"""A home of its own for every test, tiny known sets, and a mirror on this machine that can be told to misbehave."""

import gzip
import hashlib
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from ddpm_cli.data import idx
from ddpm_cli.data.known import KNOWN, KnownSet, SourceFile


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """DDPM_HOME, empty; and no proxy between a test and its mirror."""
    place = tmp_path / "home"
    monkeypatch.setenv("DDPM_HOME", str(place))
    monkeypatch.setenv("NO_PROXY", "*")
    return place


def idx_bytes(array: np.ndarray) -> bytes:
    """The IDX format by its definition."""
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@dataclass
class Tiny:
    """A known set of 6 images, its table entry and what its two files hold."""

    known: KnownSet
    contents: dict[str, bytes]
    images: np.ndarray
    labels: np.ndarray

    def place(self, folder: Path, plain: bool = False) -> Path:
        folder.mkdir(parents=True)
        for name, content in self.contents.items():
            target = folder / (name.removesuffix(".gz") if plain else name)
            target.write_bytes(gzip.decompress(content) if plain else content)
        return folder

    def at(self, *mirrors: str, **changes: object) -> None:
        """Puts it into the table of known sets with these mirrors."""
        KNOWN["tiny"] = replace(self.known, mirrors=mirrors or self.known.mirrors, **changes)


@pytest.fixture
def tiny() -> Iterator[Tiny]:
    noise = np.random.default_rng(0)
    images = noise.integers(0, 256, (6, 5, 4), dtype=np.uint8)
    labels = np.array([0, 1, 2, 2, 1, 0], np.uint8)
    plain = {"a-images.gz": idx_bytes(images), "a-labels.gz": idx_bytes(labels)}
    contents = {name: gzip.compress(content, mtime=0) for name, content in plain.items()}
    files = tuple(
        SourceFile(
            name, len(contents[name]), hashlib.sha256(contents[name]).hexdigest(), hashlib.sha256(content).hexdigest()
        )
        for name, content in plain.items()
    )
    known = KnownSet(
        name="tiny",
        classes=("x", "y", "z"),
        shape=(1, 5, 4),
        files={"train": files, "test": files},
        read=idx.read_pair,
        mirrors=("http://127.0.0.1:9/",),  # the discard port: nobody listens
        torchvision="Tiny/raw",
        licence="none",
    )
    KNOWN["tiny"] = known
    yield Tiny(known, contents, images, labels)
    del KNOWN["tiny"]


@dataclass
class Mirror:
    """A web server. ``cut`` is after how many bytes each answer ends; ``pause`` seconds lie before each body."""

    url: str
    files: dict[str, bytes]
    cut: int | None = None
    pause: float = 0.0
    ranges: bool = True
    status: int = 200
    redirect: str = ""
    length: bool = True
    requests: list[tuple[str, str]] = field(default_factory=list)  # (name, Range header)


@pytest.fixture
def mirror() -> Iterator[Callable[..., Mirror]]:
    """Starts a mirror: ``mirror(files, cut=100, ...)``."""
    servers: list[tuple[ThreadingHTTPServer, threading.Thread]] = []

    def start(files: dict[str, bytes], **behaviour: object) -> Mirror:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name, wanted = self.path.rpartition("/")[2], self.headers.get("Range", "")
                state.requests.append((name, wanted))
                if state.redirect:
                    self.send_response(302)
                    self.send_header("Location", state.redirect + name)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                if state.status != 200:
                    self.send_error(state.status)
                    return
                content, first = state.files[name], 0
                if wanted and state.ranges:
                    first = int(wanted.removeprefix("bytes=").removesuffix("-"))
                    if first >= len(content):
                        self.send_error(416)
                        return
                    self.send_response(206)
                    self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
                else:
                    self.send_response(200)
                if state.length:
                    self.send_header("Content-Length", str(len(content) - first))
                self.end_headers()
                time.sleep(state.pause)
                end = len(content) if state.cut is None else min(first + state.cut, len(content))
                self.wfile.write(content[first:end])
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        state = Mirror(f"http://127.0.0.1:{server.server_port}/", files, **behaviour)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        servers.append((server, thread))
        return state

    yield start
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()
