"""What the tests of the command line share: ``ddpm`` in this process or its own, a tiny model, a tiny set."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddpm_cli.cli import main

CLASSES = ("circle", "cross")
SIDE = 12
EACH = 12  # images a class
AFFINITY = getattr(os, "sched_getaffinity", None)
TINY = ("--preset", "tiny", "--batch-size", "8", "--device", "cpu", "--precision", "float32")


@dataclass
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str
    arguments: tuple[str, ...] = ()

    def done(self) -> "Result":
        assert self.code == 0, self.err
        assert "Traceback" not in self.err
        return self

    def refused(self, code: int, *words: str) -> None:
        """An expected error: its code, one sentence and one hint on stderr that hold the words, and nothing else.

        With --json, stdout holds the same as a document; else it is empty.
        """
        assert "Traceback" not in self.err
        assert self.code == code, self.err
        if "--json" not in self.arguments:
            assert self.out == ""
        *_, sentence, hint = self.err.splitlines() or ["", ""]
        assert self.err.count("ddpm: ") == 1, self.err
        assert sentence.startswith("ddpm: "), self.err
        assert sentence.endswith("."), sentence
        assert hint.startswith("  "), self.err
        assert hint.strip()
        for word in words:
            assert word in f"{sentence}\n{hint}", self.err
        if "--json" in self.arguments:
            said = {"error": sentence.removeprefix("ddpm: ").removesuffix("."), "hint": hint.removeprefix("  ")}
            assert self.json == {"schema": 1, "status": "failed", "code": code, **said}

    @property
    def json(self) -> dict[str, Any]:
        """The one strict document on stdout."""

        def refuse(word: str) -> None:
            raise AssertionError(f"{word} is no JSON")

        document = json.loads(self.out, parse_constant=refuse)
        assert document["schema"] == 1
        return document


Ddpm = Callable[..., Result]


@pytest.fixture
def ddpm(capsys: pytest.CaptureFixture[str]) -> Ddpm:
    """Runs a command in this process: ``ddpm("sample", "-n", 4)``."""

    def call(*arguments: object) -> Result:
        capsys.readouterr()
        words = tuple(map(str, arguments))
        code = main(words)
        return Result(code, *capsys.readouterr(), words)

    return call


@pytest.fixture
def command() -> Iterator[list[str]]:
    """``ddpm`` as a process of its own, on one processor, which it inherits."""
    allowed = AFFINITY(0) if AFFINITY else set()
    if allowed:
        os.sched_setaffinity(0, {max(allowed)})
    yield [sys.executable, "-m", "ddpm_cli"]
    if allowed:
        os.sched_setaffinity(0, allowed)


@pytest.fixture
def process(command: list[str]) -> Ddpm:
    """Runs a command as a process of its own; a signal that killed it is a negative code."""

    def call(*arguments: object, **options: Any) -> Result:
        asked = {"capture_output": True, "text": True, "timeout": 100, **options}
        words = tuple(map(str, arguments))
        done = subprocess.run([*command, *words], check=False, **asked)
        return Result(done.returncode, done.stdout, done.stderr, words)

    return call


@pytest.fixture(autouse=True)
def cwd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: empty."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny network is no faster on several processors, and many times slower where they are busy."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """DDPM_HOME."""
    return tmp_path / "home"


@pytest.fixture
def written(tmp_path: Path) -> Callable[[], set[str]]:
    """The files that a test or a command has left anywhere but in the cache."""

    def look() -> set[str]:
        found = (Path(folder, name).relative_to(tmp_path) for folder, _, names in os.walk(tmp_path) for name in names)
        return {path.as_posix() for path in found if path.parts[:2] != ("home", "cache")}

    return look


def _picture(label: int, number: int) -> np.ndarray:
    """A bright circle or cross on black, a little different each time."""
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    shape = np.abs(np.hypot(x, y) - 3.5) < 1 if label == 0 else np.minimum(abs(x - y), abs(x + y)) < 1.5
    return np.where(shape, 255 - number, number).astype(np.uint8)


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 24 grey PNGs of 12 x 12 in two classes."""
    from PIL import Image

    root = tmp_path_factory.mktemp("data") / "photos"
    for label, name in enumerate(CLASSES):
        (root / name).mkdir(parents=True)
        for number in range(EACH):
            Image.fromarray(_picture(label, number)).save(root / name / f"{number:02}.png")
    return root


def _save(
    path: Path,
    weights: tuple[str, ...] = ("ema", "raw"),
    classes: tuple[str, ...] = CLASSES,
    learned_variance: bool = False,
    **about: Any,
) -> str:
    """Writes a model with random weights, none of them zero, so that its samples are not flat; returns its id."""
    import torch

    from ddpm_cli import checkpoint, networks
    from ddpm_cli.config import ScheduleConfig, network_for

    network = network_for("tiny", (1, SIDE, SIDE), len(classes), learned_variance)
    noise = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = networks.build(network).state_dict()
    tensors = {
        f"{kind}.{name}": tensor + 0.1 * torch.randn(tensor.shape, generator=noise)
        for kind in weights
        for name, tensor in state.items()
    }
    info = checkpoint.Info(
        network=network,
        schedule=ScheduleConfig(),
        target="v",
        classes=classes,
        data={"name": "photos", "images": 24, "mean": 0.0, "std": 1.0},
        training={"step": 3, "steps": 3},
        parameters=networks.count_parameters(network),
        flops=networks.count_flops(network),
    )
    return checkpoint.save(path, tensors, replace(info, **about)).id


@pytest.fixture
def save_model() -> Callable[..., str]:
    return _save


@pytest.fixture(scope="session")
def _model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    _save(path)
    return path


@pytest.fixture
def model(_model: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The saved model ``tiny``, which is also what DDPM_MODEL names; on the CPU in float32 where nobody says else."""
    path = home / "models" / "tiny.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(_model, path)
    monkeypatch.setenv("DDPM_MODEL", "tiny")
    monkeypatch.setenv("DDPM_DEVICE", "cpu")
    return path


@pytest.fixture(scope="session")
def _trained(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    """A run of three steps, made by ``ddpm train`` itself."""
    root = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DDPM_HOME", str(root / "home"))
        assert (
            main(["train", "--dataset", str(photos), *TINY, "--steps", "3", "--seed", "5", "-o", str(root / "run")])
            == 0
        )
    return root / "run"


@pytest.fixture
def trained(_trained: Path, home: Path) -> Path:
    """A finished run in DDPM_HOME/runs, called ``trained``, whose samples count as good, so that it is the default."""
    folder = home / "runs" / "trained"
    shutil.copytree(_trained, folder)
    check = {"step": 3, "alike": 64, "number": 64, "passed": True}
    (folder / "samples" / "check.json").write_text(json.dumps(check), encoding="utf-8")
    return folder


@pytest.fixture
def quick(photos: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """``ddpm train`` of the tiny preset on the tiny set, without the pictures that it draws on the way."""
    from ddpm_cli.runs import Run

    monkeypatch.setattr(Run, "_draw_samples", lambda *_: None)
    monkeypatch.setattr(Run, "_draw_loss", lambda *_: None)
    return ("train", "--dataset", str(photos), *TINY)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def no_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    """fashion-mnist is nowhere: no package of the system has it, and nobody answers where its mirror should be."""
    from ddpm_cli.data.known import KNOWN

    nowhere = replace(KNOWN["fashion-mnist"], mirrors=("http://127.0.0.1:9/",), system=None)
    monkeypatch.setitem(KNOWN, "fashion-mnist", nowhere)
