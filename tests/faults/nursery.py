"""Raises processes: ``nursery.py`` imports torch once, and every ``ddpm`` that it is asked for is a fork of it.

Reads a JSON object a line, answers with one:

    {"do": "start", "words": [...], ...}  the arguments of ddpm, and the keys of `Birth`  ->  {"pid": N}
    {"do": "gone", "pid": N}              whether that one has ended                     ->  {"gone": true}
    {"do": "kill", ...}                   see killer.py                                  ->  what it found
    {"do": "wait", "pid": N}              until it has                                   ->  {"status": N}, of waitpid

A child is what the console script is, with its own session: it can be stopped, signalled and killed as any other.
"""

import contextlib
import io
import json
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import killer
import numpy as np
import torch

from ddpm_cli import checkpoint, cli, data, evaluation, files, machine
from ddpm_cli.data import store
from ddpm_cli.render import images
from ddpm_cli.runs import Run
from ddpm_cli.sampling.model import DiffusionModel

# Where a child can be made to wait: name -> the function that it waits in, before its work is done.
MOMENTS: dict[str, tuple[Any, str]] = {
    "reading": (data, "load"),
    "preparing": (checkpoint, "build_denoiser"),
    "compiling": (machine, "compile_network"),
    "keeping": (store, "replacing"),
    "flushing": (os, "fsync"),
    "renaming": (Path, "replace"),
    "saving": (checkpoint, "write_tensors"),
    "drawing": (DiffusionModel, "walk"),
    "noting": (files, "append_line"),
    "judging": (evaluation, "evaluate"),
}


class Birth(NamedTuple):
    """How a process is to begin.

    Attributes:
        words: the arguments of ddpm.
        folder: to work in; its stdout and stderr go to files of that name there.
        environment: variables.
        ignored: numbers of signals.
        limit: of the size of its files, in bytes; None: none.
        waits: (moment, number, name): at that call, of those with a path of that name if one is given, makes a file
            ``here`` in its folder and waits for a file ``go``.
        streams: what is to be stdin, stdout or stderr instead, a pipe say: path by number.
        pictures: whether a training draws them.
    """

    words: list[str]
    folder: str
    environment: dict[str, str]
    ignored: Sequence[int] = ()
    limit: int | None = None
    waits: list[Any] | None = None
    streams: Mapping[str, str] = MappingProxyType({})
    pictures: bool = False


def pausing(original: Callable[..., Any], number: int, name: str, folder: Path) -> Callable[..., Any]:
    calls = 0

    def call(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += not name or name in [each.name for each in arguments if isinstance(each, Path)]
        if calls == number and not (folder / "here").exists():
            (folder / "here").touch()
            until = time.monotonic() + 60
            while not (folder / "go").exists() and time.monotonic() < until:
                time.sleep(0.002)
        return original(*arguments, **options)

    return call


def live(birth: Birth) -> None:
    """The life of a child."""
    os.setsid()
    folder = Path(birth.folder)
    os.chdir(folder)
    for number, name, how in ((0, os.devnull, os.O_RDONLY), (1, "stdout", os.O_WRONLY), (2, "stderr", os.O_WRONLY)):
        path = birth.streams.get(str(number), name)
        os.dup2(os.open(path, how | (os.O_CREAT if number else 0), 0o666), number)
    os.environ.clear()
    os.environ.update(birth.environment)
    for known in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(known, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for ignored in birth.ignored:
        signal.signal(ignored, signal.SIG_IGN)
    if birth.limit is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (birth.limit, birth.limit))
    if birth.waits is not None:
        moment, number, file = birth.waits
        owner, name = MOMENTS[moment]
        setattr(owner, name, pausing(getattr(owner, name), number, file, folder))
    if not birth.pictures:
        Run._draw_samples = lambda *_: None  # type: ignore[method-assign]
        Run._draw_loss = lambda *_: None  # type: ignore[method-assign]
    sys.argv = ["ddpm", *birth.words]
    cli.entry()


def start(birth: Birth) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        live(birth)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        os._exit(code)


def warm_up() -> None:
    """Train a little, so that what training imports is there too. On one thread, or the children could have none."""
    torch.set_num_threads(1)
    home = os.environ.get("DDPM_HOME")
    with tempfile.TemporaryDirectory() as place:
        os.environ["DDPM_HOME"] = place
        for number in range(4):
            path = Path(place) / "images" / "abcd"[number] / "1.png"
            files.write_bytes(path, images.png(np.full((1, 8, 8), 60 * number, np.uint8)))
        words = ["train", "--dataset", str(Path(place) / "images"), "--preset", "tiny", "--batch-size", "2", "--quiet"]
        out = io.TextIOWrapper(io.BytesIO())
        with contextlib.redirect_stdout(out):
            code = cli.main([*words, "--steps", "3", "--device", "cpu", "--precision", "float32"])
        assert code == 0
    del os.environ["DDPM_HOME"]
    if home is not None:
        os.environ["DDPM_HOME"] = home


def serve() -> None:
    """Answer until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for pytest
    warm_up()
    for line in sys.stdin:
        asked = json.loads(line)
        answer: dict[str, Any] = {}
        match asked.pop("do"):
            case "start":
                answer["pid"] = start(Birth(**asked))
            case "kill":
                answer = killer.run(**asked)
            case "gone":
                found = os.waitid(os.P_PID, asked["pid"], os.WEXITED | os.WNOHANG | os.WNOWAIT)
                answer["gone"] = found is not None
            case "wait":
                answer["status"] = os.waitpid(asked["pid"], 0)[1]
        print(json.dumps(answer), flush=True)  # noqa: T201


if __name__ == "__main__":
    serve()
