"""Put the averaged weights of a finished run into the package: ``python scripts/ship.py RUN NAME [NOTE]``.

Writes src/ddpm_cli/weights/NAME.safetensors, in half precision, and beside it NAME.json, the record of its training.
"""

import dataclasses
import datetime
import json
import os
import platform
import sys
from pathlib import Path

import numpy
import torch

from ddpm_cli import __version__, checkpoint, config, files, runs
from ddpm_cli.machine import processor

WEIGHTS = Path(__file__).parents[1] / "src/ddpm_cli/weights"
LARGEST = 6_000_000  # bytes


def main(run: Path, name: str, note: str = "") -> None:
    """Ship a run under a name, with a note on the circumstances."""
    source = run / "model.safetensors"
    info = checkpoint.read_info(source)
    training = dict(info.training)
    if training["step"] != training["steps"]:
        sys.exit(f"{run} is at step {training['step']} of {training['steps']}: finish it first")
    ema = {key: value for key, value in checkpoint.read_tensors(source).items() if key.startswith("ema.")}
    half = {key: value.half() if value.is_floating_point() else value for key, value in ema.items()}
    target = WEIGHTS / f"{name}.safetensors"
    info = checkpoint.save(target, half, dataclasses.replace(info, weights=()))
    if target.stat().st_size > LARGEST:
        sys.exit(f"{target} has {target.stat().st_size:,} bytes, more than {LARGEST:,}")

    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    speeds = [line["images_per_second"] for line in lines]
    images = numpy.diff([0, *(line["step"] for line in lines)]) * info.training["recipe"]["batch_size"]
    record = {
        "model": name,
        "id": info.id,
        "parameters": info.parameters,
        "flops_per_image": info.flops,
        "made_by": "scripts/ship_mnist.sh",
        "run": config.to_dict(runs.load_config(run)),
        "data": dict(info.data),
        "steps": training["steps"],
        "loss_of_the_last_epoch": training["loss"],
        "minutes_of_steps": round(float(numpy.sum(images / speeds)) / 60, 1),
        "images_per_second": round(float(numpy.median(speeds)), 1),
        "machine": f"{processor()}, {os.cpu_count()} cores, no GPU",
        "versions": {"ddpm-cli": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "note": note,
        "date": datetime.date.today().isoformat(),
    }
    files.write_bytes(target.with_suffix(".json"), (json.dumps(record, indent=2) + "\n").encode())
    print(target, info.id)  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
