"""Downloads that are whole and right, or not there.

Invariant: the final name never holds anything but the file with the expected sha256. What an interrupted download
leaves is ``NAME.part`` beside it, which the next attempt continues. One process at a time writes into it; the others
wait and use its result.
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from ddpm_cli import files
from ddpm_cli.data.known import SourceFile
from ddpm_cli.errors import DataError, ResourceError

Progress = Callable[[int, int], None]
"""Called with the bytes done and the bytes in all."""

TIMEOUT = (10.0, 30.0)  # seconds: to connect, and between two packets
CHUNK = 1 << 16  # bytes
# A mirror that delivers less than so many bytes in so many seconds is left for the next one; its part is kept. A
# process that adds nothing to its part in that time, because it is suspended, is not waited for.
SLOWEST, WINDOW = 30_000, 60.0
POLL = 0.2  # seconds between two looks at what another process downloads


def _silent(_: str) -> None:
    pass


def fetch(
    file: SourceFile,
    mirrors: tuple[str, ...],
    folder: Path,
    progress: Progress,
    say: Callable[[str], None] = _silent,
) -> Path:
    """``folder/file.name``, from the first mirror that delivers it, or from another process that fetches it now.

    A mirror that fails leaves its part to the next. A whole file that was resumed and then has the wrong sha256 is
    thrown away and fetched once more from its beginning.

    Raises:
        DataError: every mirror delivered something else than the file.
        ResourceError: none delivered it; or ``folder`` cannot be written.
    """
    path, part = folder / file.name, _part(file, folder)
    size, since = -1, time.monotonic()
    while not _is_whole(path, file):
        try:
            with files.continuing(path, part) as output:
                if _is_whole(path, file):
                    raise _Delivered
                _download(file, mirrors, output, progress)
            break
        except _Delivered:
            break
        except BlockingIOError:
            if size < 0:
                say(f"another process is fetching {file.name}: waiting for it")
            if size != (size := _size(part)):
                since = time.monotonic()
                progress(min(size, file.size), file.size)
            if time.monotonic() - since < WINDOW:
                time.sleep(POLL)
                continue
        except files.NoLocks:
            pass
        with files.replacing(path) as output:
            _download(file, mirrors, output, progress)
    return path


def tidy(file: SourceFile, folder: Path) -> None:
    """Remove what killed downloads left of a file that is whole in ``folder`` by now."""
    files.remove_abandoned((_part(file, folder), *folder.glob(files.TEMPORARY)))


def _part(file: SourceFile, folder: Path) -> Path:
    return folder / f"{file.name}.part"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # just renamed or removed
        return 0


def _is_whole(path: Path, file: SourceFile) -> bool:
    try:
        with path.open("rb") as content:
            return _sha256(content) == file.sha256
    except OSError:
        return False


def _sha256(content: BinaryIO) -> str:
    digest = hashlib.sha256()
    content.seek(0)
    while chunk := content.read(CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def _download(file: SourceFile, mirrors: tuple[str, ...], output: BinaryIO, progress: Progress) -> None:
    """Complete ``output``, which may hold the beginning of the file, so that it has the expected sha256.

    Raises:
        DataError, ResourceError: as :func:`fetch`.
    """
    import requests
    from urllib3.exceptions import HTTPError

    failures: dict[str, str] = {}
    unreached = False
    for mirror in mirrors:
        host = urlsplit(mirror).netloc
        for _ in range(2):
            resumed = output.seek(0, os.SEEK_END) > 0
            try:
                _continue(mirror + file.name, file.size, output, progress)
            except (requests.RequestException, HTTPError) as error:
                failures[host] = _reason(error)
                unreached = True
                break
            except _OtherFile:
                failures[host] = "wrong content"
                break
            if _sha256(output) == file.sha256:
                return
            output.truncate(0)
            failures[host] = "wrong content"
            if not resumed:
                break
    reasons = ", ".join(f"{host}: {reason}" for host, reason in failures.items())
    if unreached:
        raise ResourceError(f"cannot fetch {file.name} ({reasons})")
    raise DataError(
        f"no mirror has {file.name} with sha256 {file.sha256[:12]}... ({reasons})",
        "Something between here and there changes it, a login page or a proxy perhaps: try another network.",
    )


class _Delivered(Exception):
    """Another process was quicker."""


class _OtherFile(Exception):
    """A server offers another file than the one that is wanted."""


def _continue(url: str, size: int, output: BinaryIO, progress: Progress) -> None:
    """Append the bytes that ``output`` lacks of ``size``, from where it ends if the server allows that.

    Raises:
        _OtherFile: the server offers something else; ``output`` is as it was.
        requests.RequestException, urllib3.exceptions.HTTPError: the connection fails.
    """
    import requests

    done = output.seek(0, os.SEEK_END)
    if done == size:
        return
    if done > size:
        done = output.truncate(0)
    # The gzip is the file itself: nothing on the way may compress or decompress it.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {})
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            raise _OtherFile(f"{url} has less than {done} bytes, expected {size}")
        response.raise_for_status()
        if "html" in response.headers.get("Content-Type", ""):
            raise _OtherFile(f"{url} is a web page")  # a login page, which must not overwrite a good part
        if not response.headers.get("Content-Range", "").startswith(f"bytes {done}-"):
            done = 0  # the server sends the whole
        announced = response.headers.get("Content-Length")
        if announced is not None and done + int(announced) != size:
            raise _OtherFile(f"{url} has {done + int(announced)} bytes, expected {size}")
        output.truncate(done)
        output.seek(done)
        progress(done, size)
        for chunk in _chunks(response):
            rest = memoryview(chunk)
            while rest:
                rest = rest[output.write(rest) :]
            done += len(chunk)
            if done > size:
                break
            progress(done, size)
    if done < size:
        raise requests.ConnectionError("the connection ended early")


def _chunks(response: Any) -> Iterator[bytes]:
    """The body as it comes, not decoded.

    Raises:
        requests.Timeout: it comes too slowly to ever end.
    """
    import requests

    begun, received = time.monotonic(), 0
    while chunk := response.raw.read1(CHUNK, decode_content=False):
        yield chunk
        received += len(chunk)
        if time.monotonic() - begun > WINDOW:
            if received < SLOWEST:
                raise requests.Timeout("too slow")
            begun, received = time.monotonic(), 0


def _reason(error: Exception) -> str:
    """A network failure in a few words; those of requests and urllib3 nest addresses and object reprs."""
    import requests
    from urllib3 import exceptions

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"HTTP {error.response.status_code}"
    if isinstance(error, requests.TooManyRedirects):
        return "redirects in circles"
    if str(error) == "too slow":
        return "too slow"
    if isinstance(error, requests.Timeout | exceptions.TimeoutError):
        return "timed out"
    if isinstance(error, exceptions.ProtocolError) or str(error) == "the connection ended early":
        return "the connection ended early"
    return "no connection"
