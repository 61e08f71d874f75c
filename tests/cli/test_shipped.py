"""The model that ships with the package: straight after installation, offline, on a CPU."""

import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU and no network."""
    monkeypatch.setenv("DDPM_DEVICE", "cpu")
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("the network was asked for"))


def test_sample_works_with_no_other_flag(ddpm: Any, cwd: Path) -> None:
    result = ddpm("sample", "-n", 64, "-o", "grid.png").done()
    assert result.out == "grid.png\n"
    assert result.err.startswith("model mnist (shipped")
    with Image.open(cwd / "grid.png") as image:
        assert image.mode == "L"
        pixels = np.array(image)
    assert len(np.unique(pixels)) > 50


def test_the_digits_have_the_pixels_of_mnist(ddpm: Any, cwd: Path) -> None:
    ddpm("sample", "-n", 64, "--seed", 0, "-o", "digits.npz").done()
    with np.load(cwd / "digits.npz", allow_pickle=False) as archive:
        images, labels = archive["images"], archive["labels"]
    assert images.shape == (64, 28, 28)
    assert set(labels) <= set(range(10))
    # MNIST: mean 33.3, 81 % of all pixels are 0, of the corners practically all.
    assert 20 < images.mean() < 48
    assert 0.6 < (images < 16).mean() < 0.92
    assert images[:, :3, :3].mean() < 8
    assert images.max(axis=(1, 2)).min() > 150


def test_a_label_gives_its_digit(ddpm: Any, cwd: Path) -> None:
    """Ones are thin and zeros are hollow: enough to tell them apart without a classifier."""
    means, middles = {}, {}
    for digit in (0, 1):
        ddpm("sample", "-n", 16, "--seed", 0, "--label", digit, "-o", f"{digit}.npz").done()
        with np.load(cwd / f"{digit}.npz", allow_pickle=False) as archive:
            means[digit], middles[digit] = archive["images"].mean(), archive["images"][:, 12:16, 13:15].mean()
    assert means[0] > 1.5 * means[1]
    assert middles[1] > 2 * middles[0]


def test_its_file_says_what_it_is() -> None:
    from ddpm_cli import paths
    from ddpm_cli.checkpoint import read_info

    info = read_info(paths.shipped() / "weights" / "mnist.safetensors")
    assert info.data["name"] == "mnist"
    assert info.classes == tuple("0123456789")
    assert info.shape == (1, 28, 28)
    assert info.training["step"] == info.training["steps"]


@pytest.mark.skipif(os.name == "nt", reason="no bash")
def test_head_ends_it_silently(command: list[str]) -> None:
    line = f"{' '.join(command)} sample -n 64 -o - | head -c 8 >/dev/null; echo ${{PIPESTATUS[@]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=110, check=False)
    assert done.stdout in ("141 0\n", "0 0\n"), done.stderr  # 0 where all of it fits into the pipe
    assert "Traceback" not in done.stderr
    assert "Broken" not in done.stderr
