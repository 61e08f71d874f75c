"""A web server on this machine that serves files, and can be told to misbehave in the ways that mirrors do."""

import contextlib
import gzip
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Mirror:
    """What a server does, changeable while it runs.

    Args:
        url: where it is, with a slash at its end.
        files: what it has, by name; anything else is a 404.
        cut: after how many bytes each answer ends, or None.
        pause: seconds before each body.
        trickle: bytes in each piece of a body, or None for all at once.
        delay: seconds after each piece.
        ranges: whether it answers a Range with a part.
        status: of every answer; 200 for what fits.
        redirect: an address that it sends everybody to, the name appended.
        moved: the status of that.
        length: whether it announces one.
        headers: more of them.
        compresses: whether it compresses for those who accept that.
        requests: those it got: name, Range header.
    """

    url: str
    files: dict[str, bytes]
    cut: int | None = None
    pause: float = 0.0
    trickle: int | None = None
    delay: float = 0.0
    ranges: bool = True
    status: int = 200
    redirect: str = ""
    moved: int = 302
    length: bool = True
    headers: dict[str, str] = field(default_factory=dict)
    compresses: bool = False
    requests: list[tuple[str, str]] = field(default_factory=list)


@contextlib.contextmanager
def mirrors() -> Iterator[Callable[..., Mirror]]:
    """Starts servers, ``start(files, cut=100, ...)``, which end with the block."""
    servers: list[tuple[ThreadingHTTPServer, threading.Thread]] = []

    def start(files: dict[str, bytes], **behaviour: object) -> Mirror:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                with contextlib.suppress(ConnectionError):  # who asked may have left
                    _answer(self, state)
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        state = Mirror(f"http://127.0.0.1:{server.server_port}/", files, **behaviour)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        servers.append((server, thread))
        return state

    try:
        yield start
    finally:
        for server, thread in servers:
            server.shutdown()
            server.server_close()
            thread.join()


def _answer(to: BaseHTTPRequestHandler, state: Mirror) -> None:
    name, wanted = to.path.rpartition("/")[2], to.headers.get("Range", "")
    state.requests.append((name, wanted))
    if state.redirect:
        to.send_response(state.moved)
        to.send_header("Location", state.redirect + name)
        to.send_header("Content-Length", "0")
        to.end_headers()
        return
    if state.status != 200 or name not in state.files:
        to.send_error(404 if state.status == 200 else state.status)
        return
    content, first = state.files[name], 0
    encoded = state.compresses and "gzip" in to.headers.get("Accept-Encoding", "")
    if encoded:
        content = gzip.compress(content)
    if wanted and state.ranges:
        first = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if first >= len(content):
            to.send_error(416)
            return
        to.send_response(206)
        to.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
    else:
        to.send_response(200)
    if state.length:
        to.send_header("Content-Length", str(len(content) - first))
    if encoded:
        to.send_header("Content-Encoding", "gzip")
    for header, value in state.headers.items():
        to.send_header(header, value)
    to.end_headers()
    time.sleep(state.pause)
    end = len(content) if state.cut is None else min(first + state.cut, len(content))
    piece = state.trickle or max(end - first, 1)
    for start in range(first, end, piece):
        to.wfile.write(content[start : min(start + piece, end)])
        to.wfile.flush()
        time.sleep(state.delay)
