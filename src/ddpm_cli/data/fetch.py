"""Downloads that are whole and right, or not there.

Invariant: the final name never holds anything but the file with the expected sha256. What an interrupted download
leaves is ``NAME.part`` beside it, which the next attempt continues.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ddpm_cli.data.known import SourceFile
from ddpm_cli.errors import DataError, ResourceError

Progress = Callable[[int, int], None]
"""Called with the bytes done and the bytes in all."""

TIMEOUT = (10.0, 30.0)  # seconds: to connect, and between two packets
CHUNK = 1 << 16  # bytes
# A mirror that delivers less than so many bytes in so many seconds is left for the next one; its part is kept.
SLOWEST, WINDOW = 30_000, 60.0


def fetch(file: SourceFile, mirrors: tuple[str, ...], folder: Path, progress: Progress) -> Path:
    """``folder/file.name``, from the first mirror that delivers it.

    A mirror that fails leaves its part to the next. A whole file that was resumed and then has the wrong sha256 is
    thrown away and fetched once more from its beginning.

    Raises:
        DataError: every mirror delivered something else than the file.
        ResourceError: none delivered it; or ``folder`` cannot be written.
    """
    import pooch
    import requests
    from urllib3.exceptions import HTTPError

    pooch.get_logger().setLevel("CRITICAL")  # what it has to tell comes as exceptions too
    part = folder / f"{file.name}.part"
    failures: dict[str, str] = {}
    unreached = False
    for mirror in mirrors:
        url, host = mirror + file.name, urlsplit(mirror).netloc
        for _ in range(2):
            resumed = part.exists()
            try:
                return Path(
                    pooch.retrieve(
                        url,
                        known_hash=f"sha256:{file.sha256}",
                        fname=file.name,
                        path=folder,
                        downloader=_Resuming(file, part, progress),
                    )
                )
            except (requests.RequestException, HTTPError) as error:
                failures[host] = _reason(error)
                unreached = True
                break
            except ValueError:  # from pooch, which has deleted the file then, or from _Resuming
                failures[host] = "wrong content"
                if not resumed or part.exists():  # wrong from its beginning, or refused before it was touched
                    break
            except OSError as error:
                raise ResourceError(
                    f"cannot write to {folder}: {error.strerror or 'no permission'}",
                    "Free some space or choose another place with DDPM_HOME, then run the command again.",
                ) from error
    reasons = ", ".join(f"{host}: {reason}" for host, reason in failures.items())
    if unreached:
        raise ResourceError(f"cannot fetch {file.name} ({reasons})")
    raise DataError(
        f"no mirror has {file.name} with sha256 {file.sha256[:12]}... ({reasons})",
        "Something between here and there changes it, a login page or a proxy perhaps: try another network.",
    )


class _Resuming:
    """A downloader for pooch: continues ``part`` where the server allows it, and moves it to pooch's temporary name."""

    def __init__(self, file: SourceFile, part: Path, progress: Progress) -> None:
        self.file, self.part, self.progress = file, part, progress

    def __call__(self, url: str, output_file: str, _pooch: Any) -> None:
        """Raises ValueError where the server offers another file, and what requests and urllib3 raise."""
        import requests

        size = self.file.size
        done = self.part.stat().st_size if self.part.exists() else 0
        if done > size:
            done = 0
        if done < size:
            # The gzip is the file itself: nothing on the way may compress or decompress it.
            headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {})
            with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
                if response.status_code == requests.codes.requested_range_not_satisfiable:
                    raise ValueError(f"{url} has less than {done} bytes, expected {size}")
                response.raise_for_status()
                if "html" in response.headers.get("Content-Type", ""):
                    raise ValueError(f"{url} is a web page")  # a login, say: it must not overwrite a good part
                if not response.headers.get("Content-Range", "").startswith(f"bytes {done}-"):
                    done = 0  # the server sends the whole
                announced = response.headers.get("Content-Length")
                if announced is not None and done + int(announced) != size:
                    raise ValueError(f"{url} has {done + int(announced)} bytes, expected {size}")
                with self.part.open("ab" if done else "wb") as output:
                    self.progress(done, size)
                    for chunk in _chunks(response):
                        done += output.write(chunk)
                        if done > size:
                            break
                        self.progress(done, size)
            if done < size:
                raise requests.ConnectionError("the connection ended early")
        self.part.replace(output_file)


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
