"""What saving costs a training: the share of its time at the default interval, for each preset.

A save writes the state and the model, flushes both to the disk, and reads them back. A run saves every
`RunConfig.save_every` minutes, so the share is the time of a save over that interval. Where an epoch ends there is a
validation, too: its share is its time over that of the steps between two, `RARELY` at least. Run it on a quiet machine:

    python benchmarks/saving.py [FOLDER]

FOLDER (default: a temporary one) lies on the disk that is meant.
"""

import datetime
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ddpm_cli import machine
from ddpm_cli.config import RECIPES, Budget, RunConfig
from ddpm_cli.runs import Run
from ddpm_cli.runs.run import RARELY

PRESETS = {"tiny": 128, "small": 128, "report": 32}  # preset -> batch size that a CPU is patient with
REPEATS = 9
WARM = 20  # steps after which the speed is a steady one; the optimizer has its moments from the first on


def seconds(work: Callable[[], object]) -> float:
    """Median time of a piece of work."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def row(preset: str, size: int, folder: Path) -> str:
    """The figures of a preset as a line of a table."""
    recipe = replace(RECIPES["report" if preset == "report" else "default"][0], batch_size=size)
    chosen = RunConfig(str(folder / "images"), Budget(steps=RARELY), preset, train=recipe, sample_every=0)
    run = Run(folder / preset, chosen, machine.choose_device("auto"))
    run.prepare()
    for at in run.train():
        if at.step >= WARM:
            break
    save = seconds(run.save)
    validate = seconds(lambda: run._validate())
    written = sum(path.stat().st_size for path in (run.state_path, run.model_path))
    each = recipe.batch_size / run.images_per_second
    interval = 60 * chosen.save_every
    return (
        f"| {preset} | {run.info.parameters:,} | {written / 1e6:.1f} MB | {1000 * save:.0f} ms | {save / interval:.3%} "
        f"| {1000 * each:.0f} ms | {validate / (RARELY * each):.2%} |"
    )


def main(folder: Path) -> None:
    noise = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    for number in range(256):
        Image.fromarray(noise.integers(0, 256, (28, 28), dtype=np.uint8)).save(folder / "images" / f"{number}.png")
    print(f"{datetime.date.today()}, {machine.processor()}, {machine.use_threads()} threads,")
    print(f"torch {torch.__version__}, Python {platform.python_version()}, {machine.choose_device('auto')}\n")
    print("| preset | parameters | written | a save | share at the default interval | a step | share of validation |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for preset, size in PRESETS.items():
        print(row(preset, size, folder), flush=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as place:
        main(Path(place))
