"""Training throughput beside the plain loop and the peers, on networks of equal work.

A step sees 64 random images of 28 x 28, on a GPU 128 and 1024. What is told is the median of the turns, and the median
ratio to the plain loop of the same turn.

    python benchmarks/training.py [TURNS]
"""

import sys
from collections.abc import Mapping

import contenders
import torch
import turns

from ddpm_cli import machine

LARGE = {
    "plain:report": "plain loop, the report's network, float32",
    "ddpm:report": "ddpm, preset report",
    "ddpm-float32:report": "ddpm, preset report, float32",
    "ddpm-compiled:report": "ddpm, preset report, compiled",
    "diffusers:-": "diffusers, defaults",
    "diffusers-tuned:-": "diffusers, tuned",
    "lucidrains:-": "lucidrains, defaults",
    "lucidrains-tuned:-": "lucidrains, tuned",
}
SMALL = {
    "plain:small": "plain loop, network small, float32",
    "ddpm:small": "ddpm, preset small",
    "ddpm-float32:small": "ddpm, preset small, float32",
    "ddpm-compiled:small": "ddpm, preset small, compiled",
}
HEAD = ["training", "batch", "GFLOP an image", "images/s", "of the plain loop", "of the matrix rate", "memory, MB"]
ON_CPU = {64: (2, 10)}  # images of a step: steps of a turn, of the large network and the small one
ON_GPU = {128: (20, 40), 1024: (6, 20)}
LARGER = 1024  # images of a step


def rows(names: Mapping[str, str], batch: int, count: int, pieces: int, peak: float) -> list[list[str]]:
    found = turns.race([f"{name}:{batch}:28" for name in names], count, pieces)
    base = found[0]
    found_rows = [
        [
            names[each.name.rsplit(":", 2)[0]],
            str(batch),
            f"{each.gflop:.2f}",
            f"{each.rate:.1f}",
            f"{each.over(base):.2f}",
            f"{3 * each.gflop * each.rate / peak:.0%}",  # a step back costs two forward
            f"{each.memory:.0f}",
        ]
        for each in found
    ]
    print(turns.table(HEAD, found_rows), file=sys.stderr)  # to see how it goes
    return found_rows


def main(count: int) -> None:
    single, half = turns.matrix_rate(torch.float32), turns.matrix_rate(torch.bfloat16)
    peak = max(single, half)
    # What is measured once and kept: now, for soon all contenders start at once.
    machine.winograd_pays(10**10, contenders.DEVICE, machine.choose_precision("auto", contenders.DEVICE, training=True))
    body = []
    for batch, (few, many) in (ON_CPU if contenders.DEVICE.type == "cpu" else ON_GPU).items():
        # All are in memory at once, and a GPU does not hold the peers at larger batches.
        large = {name: about for name, about in LARGE.items() if batch < LARGER or name.startswith(("plain", "ddpm"))}
        body += rows(large, batch, count, few, peak) + rows(SMALL, batch, count, many, peak)
    print(f"{turns.circumstances()}; {count} turns.")
    print(f"Matrix products of {turns.side()}: {single:.0f} GFLOP/s in float32, {half:.0f} in bf16.\n")
    print(turns.table(HEAD, body))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
