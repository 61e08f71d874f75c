"""A run that is killed again and again ends as if it had never been."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ddpm_cli import checkpoint
from ddpm_cli.files import TEMPORARY


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl without what a clock says."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "images_per_second"} for line in lines]


def survive(
    nursery: Any, arguments: list[str], tmp_path: Path, figure: Callable[[str], None], kills: int, what: str
) -> dict[str, Any]:
    """Kill a run, take it up, and let it end; what was found on the way."""
    found = nursery.ask(do="kill", seed=1, kills=kills, place=str(tmp_path), arguments=arguments)
    assert found["codes"] == [0, 0]
    assert found["kills"] == kills
    assert found["saving"] >= kills / 3, "too few kills while a save was written"
    assert found["bytes"] == 0
    assert list((tmp_path / "killed").rglob(TEMPORARY)) == []
    figure(
        f"{kills} kills survived ({what}), {found['saving']} of them while a save was being written, at most "
        f"{max(found['lost'])} logged steps to do again, {found['bytes']} bytes of a saved state lost"
    )
    return found


many = pytest.mark.timeout(1800)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize(
    ("kills", "steps", "options"),
    [
        pytest.param(3, 300, [], id="default"),
        pytest.param(32, 3000, ["--keep", 2], id="many", marks=[pytest.mark.slow, many]),
        pytest.param(6, 600, ["--accumulate", 2], id="accumulate", marks=[pytest.mark.slow, many]),
        pytest.param(6, 600, ["--precision", "bf16"], id="bf16", marks=[pytest.mark.slow, many]),
        pytest.param(6, 600, ["--recipe", "report", "--batch-size", 4], id="report", marks=[pytest.mark.slow, many]),
        pytest.param(6, 600, ["--loss", "hybrid", "--times", "uniform"], id="hybrid", marks=[pytest.mark.slow, many]),
    ],
)
def test_a_run_that_is_killed_ends_in_the_same_bytes(
    nursery: Any,
    recipe: list[str],
    tmp_path: Path,
    figure: Callable[[str], None],
    kills: int,
    steps: int,
    options: list[object],
) -> None:
    arguments = [*recipe, "--save-steps", "25", "--steps", str(steps), *map(str, options)]
    survive(nursery, arguments, tmp_path, figure, kills, " ".join(["train", "--steps", str(steps), *map(str, options)]))
    assert digest(tmp_path / "killed") == digest(tmp_path / "whole")
    assert metrics(tmp_path / "killed") == metrics(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_budget_of_minutes_ends_on_time_whatever_is_killed(
    nursery: Any, recipe: list[str], tmp_path: Path, figure: Callable[[str], None]
) -> None:
    arguments = [*recipe, "--save-steps", "25", "--minutes", "0.4"]
    found = survive(nursery, arguments, tmp_path, figure, 6, "train --minutes 0.4")
    assert found["budgets"], found
    for name in ("killed", "whole"):  # what a kill undid does not count as trained
        about, _ = checkpoint.read_header(tmp_path / name / "state.safetensors")
        assert about["seconds"] == pytest.approx(0.4 * 60, rel=1 / 8)
