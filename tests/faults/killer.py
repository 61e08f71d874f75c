"""Kills a training at random moments and takes it up again: ``killer.py SEED KILLS FOLDER ARGUMENTS...``.

Torch is imported once; every training is a fork of this process, so that most of its short life is training and saving.
Prints a JSON document: kills survived, and how many steps each cost.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from ddpm_cli import checkpoint
from ddpm_cli.cli import main
from ddpm_cli.errors import ModelError


def start(folder: Path, arguments: list[str]) -> int:
    """Begin the run, or go on with it, in a process of its own; returns its number."""
    words = ["--resume", str(folder)] if (folder / "config.json").exists() else [*arguments, "-o", str(folder)]
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = main(["train", *words, "--device", "cpu", "--quiet"])
        finally:
            os._exit(code)
    return child


def saved(folder: Path) -> int:
    """The step that a resumed run would begin with."""
    if not (folder / "state.safetensors").exists():
        return 0
    about, _ = checkpoint.read_header(folder / "state.safetensors")
    return int(about["step"])


def reached(folder: Path) -> int:
    """The last step that was logged."""
    lines = (folder / "metrics.jsonl").read_text().splitlines() if (folder / "metrics.jsonl").exists() else []
    try:
        return int(json.loads(lines[-1])["step"]) if lines else 0
    except ValueError:  # cut short by the kill
        return int(json.loads(lines[-2])["step"]) if len(lines) > 1 else 0


def check(folder: Path) -> None:
    """Whatever the moment, a file of weights is whole or not there."""
    for name in ("model.safetensors", "state.safetensors"):
        if (folder / name).exists():
            _, found = checkpoint.read_header(folder / name)
            if not found:
                raise ModelError(f"{name} is empty")
    if (folder / "model.safetensors").exists():
        checkpoint.load(folder / "model.safetensors")


def run(seed: int, kills: int, folder: Path, arguments: list[str]) -> dict[str, object]:
    torch.set_num_threads(1)
    moments = random.Random(seed)
    lost, survived = [], 0
    while survived < kills:
        child = start(folder, arguments)
        time.sleep(moments.uniform(0.05, 1.0))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            raise SystemExit(f"ended by itself after {survived} kills, with code {os.waitstatus_to_exitcode(status)}")
        survived += 1
        check(folder)
        lost.append(max(0, reached(folder) - saved(folder)))
    _, status = os.waitpid(start(folder, arguments), 0)
    return {"kills": survived, "lost": lost, "code": os.waitstatus_to_exitcode(status)}


if __name__ == "__main__":
    print(json.dumps(run(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])))  # noqa: T201
