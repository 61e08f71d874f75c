"""What every metric makes of digits that went wrong in a known way: 2,000 training images against the test images.

python benchmarks/metrics.py [NUMBER]
"""

import sys
from functools import partial
from pathlib import Path

import numpy as np
import turns

from ddpm_cli import data, evaluation
from ddpm_cli.evaluation import Reference, Subject

sys.path.append(str(Path(__file__).parent.parent / "tests"))
from degradations import DEGRADATIONS, Judged

METRICS = ("ssim", "labels", "background", "frechet", "kernel", "overlap")
HEAD = ("images", "Fréchet", "kernel", "precision", "recall", "coverage", "accuracy", "entropy", "background", "SSIM")


def row(name: str, found: dict) -> list[str]:
    spread = f"{found['frechet']['value']:.2f} ± {found['frechet']['error']:.2f}"
    shares = [found["overlap"][key] for key in ("precision", "recall", "coverage")]
    return [
        name,
        spread,
        f"{found['kernel']['value']:.3f} ± {found['kernel']['error']:.3f}",
        *(f"{100 * share:.1f} %" for share in (*shares, found["labels"]["accuracy"])),
        f"{found['labels']['entropy']:.2f}",
        f"{100 * found['background']['share']:.1f} %",
        f"{found['ssim']['mean']:.3f}",
    ]


def main(number: int) -> None:
    load = partial(data.load, "mnist")
    against = Reference(load(split="test"), "test", 0, partial(load, split="train"))
    train = load(split="train")
    rows = np.random.default_rng(0).permutation(len(train.images))[:number]
    real = Judged(train.images[rows], train.labels[rows])
    print(f"{turns.circumstances()}; {number:,} images each.\n")
    table = []
    for name, degrade in DEGRADATIONS.items():
        judged = degrade(real)
        subject = Subject(judged.images, judged.labels, train.classes, {})
        table.append(row(name, evaluation.evaluate(subject, against, METRICS, lambda _: None).metrics))
    print(turns.table(HEAD, table))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
