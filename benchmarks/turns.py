"""Contenders that take turns, so that whatever else the machine does meets all of them; and what surrounds a table."""

import contextlib
import datetime
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from ddpm_cli import __version__, machine

HERE = Path(__file__).parent
PATIENCE = 0.5  # s for eight small products; the large ones take 64 times as long
PEERS = HERE.parent / "build" / "peers"  # where `make bench` installs them


class Result(NamedTuple):
    """What was measured of a contender.

    Attributes:
        name: of it.
        gflop: of its network for one image forward.
        rates: images a second, turn by turn.
        memory: the most it had, in MB.
    """

    name: str
    gflop: float
    rates: list[float]
    memory: float

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)

    def over(self, base: "Result") -> float:
        """The median over the turns of its rate by another's of the same turn."""
        return statistics.median(a / b for a, b in zip(self.rates, base.rates, strict=True))


def race(names: Sequence[str], turns: int, pieces: int) -> list[Result]:
    """Let contenders take turns; one that cannot start is left out, with a line on stderr.

    Args:
        names: see :func:`contenders.make`.
        turns: how often each comes.
        pieces: of work in a turn.
    """
    begun = {name: _start(name) for name in names}
    gflop = {name: first for name, child in begun.items() if (first := _line(child)) is not None}
    for name in begun.keys() - gflop.keys():
        print(f"({name} is left out: it does not run here)", file=sys.stderr)
    rates: dict[str, list[float]] = {name: [] for name in names if name in gflop}
    for _ in range(turns):
        for name, mine in rates.items():
            child = begun[name]
            assert child.stdin is not None
            child.stdin.write(f"{pieces}\n")
            child.stdin.flush()
            mine.append(_line(child) or float("nan"))
    return [Result(name, gflop[name], mine, _end(begun[name])) for name, mine in rates.items()]


def _start(name: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "PYTHONPATH": f"{PEERS}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    return subprocess.Popen(
        [sys.executable, str(HERE / "contenders.py"), name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment if name.startswith(("diffusers", "lucidrains")) else None,
    )


def _line(child: "subprocess.Popen[str]") -> float | None:
    assert child.stdout is not None
    for line in child.stdout:
        with contextlib.suppress(ValueError):  # what a peer prints on its way
            return float(line)
    return None


def _end(child: "subprocess.Popen[str]") -> float:
    assert child.stdin is not None
    child.stdin.close()
    memory = _line(child) or float("nan")
    child.wait()
    return memory


def matrix_rate(dtype: torch.dtype) -> float:
    """GFLOP a second of the best of some large products, of :func:`side` rows.

    A processor that has no instructions for a dtype takes minutes for a single one, so small ones come first, and where
    those are that slow they have to do.
    """
    device = machine.choose_device("auto")
    best = 0.0
    for rows in (side() // 4, side()):
        a = torch.randn(rows, rows, device=device).to(dtype)
        begun = time.perf_counter()
        for _ in range(8):
            start = time.perf_counter()
            out = a @ a
            float(out[0, 0])  # waits for the device
            best = max(best, 2 * rows**3 / (time.perf_counter() - start))
        if time.perf_counter() - begun > PATIENCE:
            break
    return best / 1e9


def side() -> int:
    """Rows of a matrix whose product keeps the machine busy."""
    return 2048 if machine.choose_device("auto").type == "cpu" else 8192


def circumstances() -> str:
    """What figures depend on, in a line."""
    versions = f"torch {torch.__version__}, Python {platform.python_version()}"
    what = f"{machine.processor()}, {machine.use_threads()} threads"
    if (device := machine.choose_device("auto")).type == "cuda":
        what = torch.cuda.get_device_name(device)
    return f"{datetime.date.today()}, {what}, ddpm {__version__}, {versions}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """In Markdown, the first column as words and the others as numbers."""
    line = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, line, *rows))
