"""Sampling beside the peers, DDIM with equally many evaluations of networks of equal work.

python benchmarks/sampling.py [TURNS]
"""

import sys

import contenders
import turns

NAMES = {
    "diffusers-sampling:-:0:28": "diffusers, defaults",
    "lucidrains-sampling:-:0:28": "lucidrains, defaults",
    "ddpm-sampling:report:0:28": "ddpm, the report's network",
    "ddpm-sampling:small:0:28": "ddpm, network small",
}


def main(count: int) -> None:
    found = turns.race(list(NAMES), count, 1)
    base = found[0]
    print(f"{turns.circumstances()}; {count} turns of {contenders.DRAWN} images.\n")
    rows = [
        [
            NAMES[each.name],
            f"{each.gflop:.2f}",
            f"{each.rate:.1f}",
            f"{each.rate * contenders.EVALUATIONS:.0f}",
            f"{each.over(base):.2f}",
            f"{each.memory:.0f}",
        ]
        for each in found
    ]
    head = ["sampling", "GFLOP an image", "images/s", "evaluations/s", "of the first", "memory, MB"]
    print(turns.table(head, rows))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
