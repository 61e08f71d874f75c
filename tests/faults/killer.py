"""Kills a training again and again and takes it up each time; a part of nursery.py.

Every training is a fork of this process, which has torch imported, so that most of its short life is training and
saving. Every other kill waits for a save to be half-written, the rest come at random moments.
"""

import json
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

from ddpm_cli import checkpoint
from ddpm_cli.cli import main
from ddpm_cli.errors import ModelError
from ddpm_cli.files import TEMPORARY

PATIENCE = 30.0  # seconds until a save must have begun


def start(folder: Path, arguments: list[str]) -> int:
    """Begin the run, or go on with it, in a process of its own; returns its number."""
    words = ["--resume", str(folder)] if (folder / "config.json").exists() else [*arguments, "-o", str(folder)]
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            code = main(["train", *words, "--device", "cpu", "--quiet"])
        finally:
            os._exit(code)
    return child


def half_written(folder: Path) -> list[Path]:
    """Files of weights that were not finished: what is JSON begins otherwise."""
    return [path for path in folder.glob(TEMPORARY) if beginning(path)[8:] == b"{" != beginning(path)[:1]]


def beginning(path: Path) -> bytes:
    """The length of a header, as safetensors has it, and the bracket that it opens with."""
    with path.open("rb") as file:
        return file.read(9)


def moment(folder: Path, random: random.Random, old: set[Path], at_save: bool) -> None:
    """Wait for the next kill."""
    time.sleep(random.uniform(0.05, 1.0))
    until = time.monotonic() + PATIENCE
    while at_save and time.monotonic() < until:
        try:
            if set(half_written(folder)) - old:
                return
        except FileNotFoundError:
            continue  # renamed between the two looks


def saved(folder: Path) -> tuple[int, int | None, int]:
    """Step and budget of the state that a resumed run would begin with, and its size in bytes."""
    path = folder / "state.safetensors"
    if not path.exists():
        return 0, None, 0
    about, _ = checkpoint.read_header(path)
    checkpoint.read_tensors(path)
    return int(about["step"]), about["steps"], path.stat().st_size


def reached(folder: Path) -> int:
    """The last step that was logged."""
    lines = (folder / "metrics.jsonl").read_text().splitlines() if (folder / "metrics.jsonl").exists() else []
    try:
        return int(json.loads(lines[-1])["step"]) if lines else 0
    except ValueError:  # cut short by the kill
        return int(json.loads(lines[-2])["step"]) if len(lines) > 1 else 0


def check(folder: Path) -> None:
    """Whatever the moment, a model is whole or not there."""
    for path in (*folder.glob("*.safetensors"), *folder.glob("checkpoints/*.safetensors")):
        _, found = checkpoint.read_header(path)
        if not found:
            raise ModelError(f"{path.name} is empty")
        if path.name != "state.safetensors":
            checkpoint.load(path)


def run(seed: int, kills: int, place: str, arguments: list[str]) -> dict[str, Any]:
    """Kill a run in ``place/killed``, and let the same run alone in ``place/whole``.

    Args:
        seed: of the moments.
        kills: how many.
        place: a folder, which is also DDPM_HOME.
        arguments: of ``ddpm train``.

    Returns:
        kills, saving: survived; of them those that left a half-written file.
        lost: logged steps to do again, after each kill.
        bytes: of saved states that could no longer be read, or that an older one had taken the place of.
        budgets: the steps of the whole run, as the states said it.
        codes: of the processes that ended by themselves: the last one, and the one never killed.
    """
    os.environ["DDPM_HOME"] = place
    folder = Path(place) / "killed"
    moments = random.Random(seed)
    lost, budgets, survived, saving, gone, before = [], set(), 0, 0, 0, (0, 0)
    while survived < kills:
        old = set(half_written(folder))  # of the kill before; they go when the run is taken up
        child = start(folder, arguments)
        moment(folder, moments, old, at_save=survived % 2 == 0)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            return {"codes": [f"{os.waitstatus_to_exitcode(status)}, by itself, after {survived} kills"]}
        survived += 1
        saving += bool(set(half_written(folder)) - old)
        check(folder)
        try:
            step, budget, size = saved(folder)
        except ModelError:
            step, budget, size = 0, None, 0
        gone += before[1] if step < before[0] else 0
        before = step, size
        budgets |= {budget} - {None}
        lost.append(max(0, reached(folder) - step))
    ends = [os.waitpid(start(each, arguments), 0)[1] for each in (folder, folder.with_name("whole"))]
    budgets |= {saved(folder)[1]}
    return {
        "kills": survived,
        "saving": saving,
        "lost": lost,
        "bytes": gone,
        "budgets": sorted(filter(None, budgets)),
        "codes": list(map(os.waitstatus_to_exitcode, ends)),
    }
