"""What the fault tests share: a tiny set, a place of their own, and a summary of what was survived."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

FIGURES = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash.setdefault(FIGURES, [])


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    for line in config.stash.get(FIGURES, []):
        terminalreporter.write_line(f"faults: {line}")


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Notes a line for the end of the test run."""
    return request.config.stash[FIGURES].append


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
    """What to train: small steps, and a save every quarter of a second."""
    budget = ["--batch-size", "4", "--timesteps", "20", "--save-every", "0.004", "--sample-every", "0"]
    return ["--dataset", str(photos), "--preset", "tiny", "--seed", "0", "--precision", "float32", *budget]
