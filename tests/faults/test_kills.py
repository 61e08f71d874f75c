"""A run that is killed again and again ends as if it had never been."""

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

KILLER = Path(__file__).with_name("killer.py")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "DDPM_OFFLINE": "1"}


def process(*arguments: object, home: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    environment = {**ENVIRONMENT, "DDPM_HOME": str(home), "HOME": str(home)}
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        **{"timeout": 1500, **options},
    )


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl without what a clock says."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "images_per_second"} for line in lines]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize(
    ("kills", "steps"), [(4, 400), pytest.param(32, 4000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
)
def test_a_run_that_is_killed_ends_in_the_same_bytes(
    recipe: list[str], tmp_path: Path, figure: Callable[[str], None], kills: int, steps: int
) -> None:
    home, arguments = tmp_path / "home", [*recipe, "--steps", steps]
    done = process(KILLER, 1, kills, tmp_path / "killed", *arguments, home=home)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["code"] == 0, done.stderr
    assert found["kills"] == kills
    whole = process("-m", "ddpm_cli", "train", *arguments, "-o", tmp_path / "whole", home=home)
    assert whole.returncode == 0, whole.stderr
    assert digest(tmp_path / "killed") == digest(tmp_path / "whole")
    assert metrics(tmp_path / "killed") == metrics(tmp_path / "whole")
    left = [path.name for path in (tmp_path / "killed").iterdir() if path.name.endswith(".tmp")]
    assert len(left) <= kills
    figure(f"{kills} kills survived in a run of {steps} steps; at most {max(found['lost'])} logged steps to do again")


@pytest.mark.skipif(os.name == "nt", reason="no such limit there")
def test_a_disk_that_is_full_leaves_the_last_state_alone(recipe: list[str], tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: the state no longer fits."""
    home, folder = tmp_path / "home", tmp_path / "run"
    assert process("-m", "ddpm_cli", "train", *recipe, "--steps", 2, "-o", folder, home=home).returncode == 0
    before = {name: (folder / name).read_bytes() for name in ("state.safetensors", "model.safetensors")}

    def small_disk() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    full = process("-m", "ddpm_cli", "train", "--resume", folder, "--steps", 9, home=home, preexec_fn=small_disk)
    assert full.returncode == 6, full.stderr
    assert "Traceback" not in full.stderr
    assert {name: (folder / name).read_bytes() for name in before} == before
    assert not list(folder.glob(".*.tmp"))
    again = process("-m", "ddpm_cli", "train", "--resume", folder, "--steps", 9, home=home)
    assert again.returncode == 0, again.stderr
