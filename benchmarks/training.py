"""Training throughput beside the plain loop and the peers, on networks of equal work.

A step sees 64 random images of 28 x 28. What is told is the median of the turns, and the median ratio to the plain loop
of the same turn.

    python benchmarks/training.py [TURNS]
"""

import sys

import torch
import turns

BATCH, PIECES = 64, 2
LARGE = {
    f"plain:report:{BATCH}:28": "plain loop, the report's network, float32",
    f"ddpm:report:{BATCH}:28": "ddpm, preset report",
    f"ddpm-float32:report:{BATCH}:28": "ddpm, preset report, float32",
    f"ddpm-compiled:report:{BATCH}:28": "ddpm, preset report, compiled",
    f"diffusers:-:{BATCH}:28": "diffusers, defaults",
    f"diffusers-tuned:-:{BATCH}:28": "diffusers, tuned",
    f"lucidrains:-:{BATCH}:28": "lucidrains, defaults",
    f"lucidrains-tuned:-:{BATCH}:28": "lucidrains, tuned",
}
SMALL = {
    f"plain:small:{BATCH}:28": "plain loop, network small, float32",
    f"ddpm:small:{BATCH}:28": "ddpm, preset small",
    f"ddpm-float32:small:{BATCH}:28": "ddpm, preset small, float32",
    f"ddpm-compiled:small:{BATCH}:28": "ddpm, preset small, compiled",
}


def rows(names: dict[str, str], count: int, pieces: int, peak: float) -> list[list[str]]:
    found = turns.race(list(names), count, pieces)
    base = found[0]
    return [
        [
            names[each.name],
            f"{each.gflop:.2f}",
            f"{each.rate:.1f}",
            f"{each.over(base):.2f}",
            f"{3 * each.gflop * each.rate / peak:.0%}",  # a step back costs two forward
            f"{each.memory:.0f}",
        ]
        for each in found
    ]


def main(count: int) -> None:
    single, half = turns.matrix_rate(torch.float32), turns.matrix_rate(torch.bfloat16)
    peak = max(single, half)
    body = rows(LARGE, count, PIECES, peak) + rows(SMALL, count, 5 * PIECES, peak)
    print(f"{turns.circumstances()}; {count} turns of {PIECES} or {5 * PIECES} steps of {BATCH} images.")
    print(f"Matrix products of 2048: {single:.0f} GFLOP/s in float32, {half:.0f} in bf16.\n")
    head = ["training", "GFLOP an image", "images/s", "of the plain loop", "of the matrix rate", "memory, MB"]
    print(turns.table(head, body))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
