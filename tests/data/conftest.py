"""A home of its own for every test, tiny known sets, and a mirror on this machine that can be told to misbehave."""

import gzip
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

import archives
from ddpm_cli.data import idx
from ddpm_cli.data.known import KNOWN, KnownSet, SourceFile
from mirror import Mirror, mirrors


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """DDPM_HOME, empty; and no proxy between a test and its mirror."""
    place = tmp_path / "home"
    monkeypatch.setenv("DDPM_HOME", str(place))
    monkeypatch.setenv("NO_PROXY", "*")
    return place


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
    plain = {"a-images.gz": archives.idx(images), "a-labels.gz": archives.idx(labels)}
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
        counts={"train": 6, "test": 6},
        files={"train": files, "test": files},
        read=idx.read_pair,
        mirrors=("http://127.0.0.1:9/",),  # the discard port: nobody listens
        torchvision="Tiny/raw",
        licence="none",
        credit="nobody",
    )
    KNOWN["tiny"] = known
    yield Tiny(known, contents, images, labels)
    del KNOWN["tiny"]


@pytest.fixture
def mirror() -> Iterator[Callable[..., Mirror]]:
    """Starts a mirror: ``mirror(files, cut=100, ...)``."""
    with mirrors() as start:
        yield start
