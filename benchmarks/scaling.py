"""Time and memory of training against the size of batch, image, network and data.

python benchmarks/scaling.py [TURNS] [PICTURE.png]
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import turns
from PIL import Image

from ddpm_cli.render.plots import COLOURS, styled

BATCHES, SIDES, PRESETS = (16, 32, 64, 128, 256), (16, 28, 32, 64, 128), ("tiny", "small", "report")
SETS = (20_000, 200_000)  # images of a folder
STEPS = 30  # trained on them


def measure(names: Sequence[str], count: int) -> list[turns.Result]:
    """One after the other: they are not compared turn by turn, and side by side they would not fit into memory."""
    return [found for name in names for found in turns.race([name], count, 1)]


def row(found: turns.Result) -> list[str]:
    _, preset, batch, side = found.name.split(":")
    step = 1000 * int(batch) / found.rate
    return [preset, batch, side, f"{found.gflop:.3f}", f"{step:.0f}", f"{found.rate:.0f}", f"{found.memory:.0f}"]


def picture(by_batch: Sequence[turns.Result], by_side: Sequence[turns.Result]) -> bytes:
    """Speed and memory against the batch, and time against the side of the images."""
    batches, sides = (
        [int(each.name.split(":")[part]) for each in group] for part, group in ((2, by_batch), (3, by_side))
    )
    with styled((11, 3.6), "png") as (figure, buffer):
        speed, memory, side = figure.subplots(1, 3)
        speed.plot(batches, [each.rate for each in by_batch], "o-", color=COLOURS[0])
        speed.set(title="Speed", xlabel="images a step", ylabel="images/s", xscale="log", ylim=(0, None))
        memory.plot(batches, [each.memory for each in by_batch], "o-", color=COLOURS[1])
        memory.set(title="Memory", xlabel="images a step", ylabel="MB", xscale="log", ylim=(0, None))
        side.plot(sides, [1000 / each.rate for each in by_side], "o-", color=COLOURS[2])
        side.set(title="Time", xlabel="side of the images", ylabel="ms an image", xscale="log", yscale="log")
        far_apart = [each for each in sides if each != 28]  # which is too near to 32 to be written out
        for axes, ticks in ((speed, batches), (memory, batches), (side, far_apart)):
            axes.set_xticks(ticks, map(str, ticks))
            axes.minorticks_off()
    return buffer.getvalue()


def anonymous_memory(count: int, place: Path) -> tuple[float, float]:
    """The most anonymous memory, in MB, of training on a folder: the run that reads it, and the one after that."""
    folder, draw = place / f"{count}-images", np.random.default_rng(0)
    folder.mkdir()
    for number in range(count):
        Image.fromarray(draw.integers(0, 256, (28, 28), dtype=np.uint8)).save(folder / f"{number:06}.png")
    words = [str(Path(sys.executable).parent / "ddpm"), "train", "--dataset", str(folder), "--steps", str(STEPS), "-q"]
    found = []
    for run in ("first", "second"):
        environment = {"DDPM_HOME": str(place / "home"), "PATH": "/usr/bin:/bin"}
        child = subprocess.Popen(
            [*words, "-o", str(place / f"{count}-{run}")], env=environment, stdout=subprocess.DEVNULL
        )
        most = 0.0
        while child.poll() is None:
            for line in Path(f"/proc/{child.pid}/status").read_text(encoding="ascii", errors="ignore").splitlines():
                if line.startswith("RssAnon"):
                    most = max(most, int(line.split()[1]) / 1024)
            time.sleep(0.02)
        found.append(most)
    return found[0], found[1]


def main(count: int, target: Path | None) -> None:
    by_batch = measure([f"ddpm:small:{batch}:28" for batch in BATCHES], count)
    by_side = measure([f"ddpm:small:64:{side}" for side in SIDES], count)
    by_preset = measure([f"ddpm:{preset}:64:28" for preset in PRESETS], count)
    print(f"{turns.circumstances()}; medians of {count} steps.\n")
    head = ["preset", "batch", "side", "GFLOP an image", "ms a step", "images/s", "memory, MB"]
    print(turns.table(head, [row(each) for each in (*by_batch, *by_side, *by_preset)]))
    with tempfile.TemporaryDirectory() as place:
        sets = {size: anonymous_memory(size, Path(place)) for size in SETS}
    print(f"\nAnonymous memory of `ddpm train --steps {STEPS}`, preset small, on a folder of 28 x 28 images:\n")
    rows = [[f"{size:,}", f"{first:.0f}", f"{second:.0f}"] for size, (first, second) in sets.items()]
    print(turns.table(["images", "MB, folder read", "MB, once it was"], rows))
    if target is not None:
        target.write_bytes(picture(by_batch, by_side))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 9, Path(sys.argv[2]) if len(sys.argv) > 2 else None)
