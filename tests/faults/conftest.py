"""What the fault tests share: a tiny set, processes of their own, and a summary of what was survived."""

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ddpm_cli.cli import main
from ddpm_cli.config import ScheduleConfig, UNetConfig


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """What was survived, a line each; the reports bring it, from whatever process ran the test."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.getreports(kind)]
    for report in reports:
        if getattr(report, "when", "") == "call":
            for name, line in report.user_properties:
                if name == "figure":
                    terminalreporter.write_line(f"faults: {line}")


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Notes a line for the end of the test run."""
    return lambda line: request.node.user_properties.append(("figure", line))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Sixteen grey images of 8x8 in two classes."""
    noise = np.random.default_rng(0)
    for number in range(16):
        path = tmp_path / "photos" / ("cat", "dog")[number % 2] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise.integers(0, 256, (8, 8), dtype=np.uint8)).save(path)
    return tmp_path / "photos"


@pytest.fixture
def recipe(photos: Path) -> list[str]:
    """What to train: small steps."""
    budget = ["--batch-size", "4", "--timesteps", "20", "--sample-every", "0"]
    return ["--dataset", str(photos), "--preset", "tiny", "--seed", "0", "--precision", "float32", *budget]


@pytest.fixture
def quick(photos: Path) -> list[str]:
    """What to train: the smallest network there is, and nothing but the end is saved or drawn."""
    budget = ["--batch-size", "4", "--timesteps", "20", "--sample-every", "0", "--device", "cpu", "--quiet"]
    return ["train", "--dataset", str(photos), "--preset", "tiny", "--seed", "0", "--precision", "float32", *budget]


@dataclass
class End:
    """How a process ended: its code, or the signal it died of, below zero; and what it said."""

    code: int
    out: str
    err: str

    def refused(self, code: int, *words: str) -> None:
        """An expected error: its code, a sentence and a hint, nothing on stdout."""
        assert self.code == code, self.err
        assert "Traceback" not in self.err
        assert self.err.count("ddpm: ") == 1, self.err
        sentence, hint = self.err.splitlines()[-2:]
        assert sentence.startswith("ddpm: ")
        assert hint.startswith("  ")
        assert self.out == ""
        for word in words:
            assert word in sentence, self.err


@dataclass
class Child:
    """A process of ``ddpm`` in a folder of its own."""

    nursery: "Nursery"
    pid: int
    folder: Path

    def until(self, what: Callable[[], bool], seconds: float = 60) -> None:
        """Wait until something has happened."""
        end = time.monotonic() + seconds
        for look in itertools.count():
            if what():
                return
            alive = look % 50 or not self.nursery.ask(do="gone", pid=self.pid)["gone"]
            assert alive or what(), (self.folder / "stderr").read_text()
            assert time.monotonic() < end, (self.folder / "stderr").read_text()
            time.sleep(0.002)

    def here(self) -> None:
        """Wait until it has come to its moment."""
        self.until((self.folder / "here").exists)

    def go(self) -> None:
        """Let it go on."""
        (self.folder / "go").touch()

    def kill(self, *numbers: int) -> None:
        """Send it signals, one after the other: without a pause the system may deliver them in another order."""
        for number in numbers:
            os.kill(self.pid, number)
            time.sleep(0.01)

    def end(self) -> End:
        """Wait until it has ended."""
        status = self.nursery.ask(do="wait", pid=self.pid)["status"]
        del self.nursery.children[self.pid]
        said = [(self.folder / name).read_text() if (self.folder / name).is_file() else "" for name in STREAMS]
        return End(os.waitstatus_to_exitcode(status), *said)


STREAMS = ("stdout", "stderr")


class Nursery:
    """Starts processes of ``ddpm`` that have torch imported already."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("nursery.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
        )
        self.children: dict[int, Child] = {}

    def ask(self, **words: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(words) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def __call__(self, folder: Path, *words: object, **birth: Any) -> Child:
        """Start one.

        Args:
            folder: to work in; made where there is none.
            words: the arguments.
            birth: see nursery.py.
        """
        folder.mkdir(parents=True, exist_ok=True)
        for name in (*STREAMS, "here", "go"):
            (folder / name).unlink(missing_ok=True)
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "DDPM_OFFLINE": "1"}
        environment |= birth.pop("environment", {})
        answer = self.ask(do="start", words=list(map(str, words)), folder=str(folder), environment=environment, **birth)
        child = self.children[answer["pid"]] = Child(self, answer["pid"], folder)
        return child

    def clear(self) -> None:
        """End what a failed test has left."""
        for child in list(self.children.values()):
            os.kill(child.pid, signal.SIGKILL)
            child.end()


@pytest.fixture(scope="session")
def _nursery() -> Iterator[Nursery]:
    nursery = Nursery()
    yield nursery
    with nursery.process:
        assert nursery.process.stdin is not None
        nursery.process.stdin.close()


@pytest.fixture
def nursery(_nursery: Nursery) -> Iterator[Nursery]:
    """``nursery(folder, "train", ...)`` starts ``ddpm`` as a process of its own, in milliseconds."""
    yield _nursery
    with contextlib.suppress(ProcessLookupError):
        _nursery.clear()


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model whose samples are not flat."""
    import torch

    from ddpm_cli import checkpoint, networks

    network = UNetConfig((1, 8, 8), classes=2, patch=2, widths=(8,), blocks=1, attention=(), heads=1)
    noise = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        state = networks.build(network).state_dict()
    tensors = {
        f"{kind}.{name}": 0.3 * torch.randn(value.shape, generator=noise)
        for kind in ("ema", "raw")
        for name, value in state.items()
    }
    training = {"step": 3, "steps": 3, "loss": 0.25, "recipe": {"lr": 0.002}}
    data = {"name": "pets", "images": 16, "mean": 0.0, "std": 1.0}
    info = checkpoint.Info(network, ScheduleConfig(timesteps=10), "v", ("cat", "dog"), data, training=training)
    path = tmp_path_factory.mktemp("good") / "good.safetensors"
    checkpoint.save(path, tensors, info)
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four steps on sixteen images, beside its images and with the home it was trained in: home/runs/run."""
    root, noise = tmp_path_factory.mktemp("trained"), np.random.default_rng(0)
    for number in range(16):
        path = root / "photos" / ("cat", "dog")[number % 2] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise.integers(0, 256, (8, 8), dtype=np.uint8)).save(path)
    recipe = ("--preset", "tiny", "--batch-size", "4", "--timesteps", "20", "--seed", "0", "--precision", "float32")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DDPM_HOME", str(root / "home"))
        patch.setattr("ddpm_cli.runs.Run._draw_samples", lambda *_: None)
        patch.setattr("ddpm_cli.runs.Run._draw_loss", lambda *_: None)
        words = ["train", "--dataset", str(root / "photos"), *recipe, "--steps", "4", "--name", "run", "--quiet"]
        assert main([*words, "--device", "cpu"]) == 0
    return root


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data directory, beside things that are none of ours; the current folder is ``tmp_path/here``."""
    monkeypatch.setenv("DDPM_DEVICE", "cpu")
    monkeypatch.setenv("DDPM_OFFLINE", "1")
    (tmp_path / "secret").write_text("mine")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "home" / "models").mkdir(parents=True)
    (tmp_path / "home" / "runs").mkdir()
    return tmp_path / "home"
