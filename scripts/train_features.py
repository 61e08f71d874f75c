"""Train the pinned feature network of a data set and put it into the package: ``scripts/train_features.py NAME``.

Writes src/ddpm_cli/weights/features/NAME.safetensors, and NAME.json beside it, the record of its training. The network
sees every image twice, once as it is and once with noise, blur, and other contrast and brightness, and has to say the
same of both: to be right is not enough, its features must not move. So what nobody sees in an image does not weigh on
a distance between sets.
"""

import argparse
import datetime
import hashlib
import json
import math
import os
import platform
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ddpm_cli import __version__, checkpoint, data, files, machine
from ddpm_cli.features import KIND, batches
from ddpm_cli.networks.classifier import Classifier

WEIGHTS = Path(__file__).parents[1] / "src/ddpm_cli/weights/features"
BATCH = 256
LR = 3e-3
SAME = 0.5  # weight of the squared distance between the features of an image and of its disturbed twin
NOISE = 0.6  # largest standard deviation of the noise, of pixels in [-1, 1]


def moved(x: Tensor, draw: torch.Generator) -> Tensor:
    """Turned by up to 10 degrees, scaled by up to 10 %, shifted by up to 2 pixels; what comes in is black."""
    count = len(x)

    def uniform(low: float, high: float) -> Tensor:
        return torch.empty(count).uniform_(low, high, generator=draw)

    angle, scale = uniform(-10, 10) * math.pi / 180, uniform(0.9, 1.1)
    shift = torch.stack([uniform(-2, 2), uniform(-2, 2)], 1) / 14
    matrix = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).reshape(-1, 2, 2)
    affine = torch.cat([matrix / scale[:, None, None], shift[:, :, None]], 2)
    where = F.affine_grid(affine, list(x.shape), align_corners=False)
    return F.grid_sample(x + 1, where, align_corners=False) - 1


def disturbed(x: Tensor, draw: torch.Generator) -> Tensor:
    """With noise of a random strength, sometimes blurred, with other contrast and brightness; (B, 1, H, W)."""

    def uniform(low: float, high: float) -> Tensor:
        return torch.empty(len(x), 1, 1, 1).uniform_(low, high, generator=draw)

    blurred = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    x = torch.lerp(x, blurred, (uniform(-1, 1)).clamp(min=0))
    x = (x + 1) * uniform(0.6, 1.1) - 1 + uniform(0, 0.2)
    strength = NOISE * uniform(0, 1) ** 2
    return (x + strength * torch.empty_like(x).normal_(generator=draw)).clamp(-1, 1)


def accuracy(network: Classifier, images: data.ImageSet, change: float = 0.0) -> float:
    """Share of images whose class is found, with noise of standard deviation `change` added."""
    draw = torch.Generator().manual_seed(0)
    right, labels = 0, torch.from_numpy(images.labels)
    for part, x in batches(images.images):
        found = network((x + change * torch.empty_like(x).normal_(generator=draw)).clamp(-1, 1)).argmax(1)
        right += int((found == labels[part]).sum())
    return right / len(labels)


def fit(network: Classifier, images: data.ImageSet, epochs: int, flips: bool) -> None:
    """Train with AdamW, the learning rate rising and falling once; the average of the last steps is what remains."""
    count = len(images.images)
    pixels, labels = torch.from_numpy(images.images), torch.from_numpy(images.labels)
    steps = epochs * (count // BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), LR, weight_decay=0.02, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, steps, pct_start=0.2)
    draw = torch.Generator().manual_seed(1)
    average = {name: value.clone() for name, value in network.state_dict().items()}
    begun = time.perf_counter()
    for step in range(steps):
        if step % (count // BATCH) == 0:
            order = torch.randperm(count, generator=draw)
        rows = order[step % (count // BATCH) * BATCH :][:BATCH]
        x = moved(pixels[rows].float() / 127.5 - 1, draw)
        if flips:
            mirror = torch.empty(len(x), 1, 1, 1).uniform_(generator=draw) < 0.5
            x = torch.where(mirror, x.flip(3), x)
        features = network.features(torch.cat([x, disturbed(x, draw)]).contiguous(memory_format=torch.channels_last))
        told = F.cross_entropy(network.scores(features), labels[rows].repeat(2), label_smoothing=0.05)
        plain, twin = features.chunk(2)
        # In units of the features' own spread, or they would shrink instead of agreeing.
        same = ((plain - twin).square().mean(0) / (plain.detach().var(0) + 1e-3)).mean()
        optimizer.zero_grad()
        (told + SAME * same).backward()
        optimizer.step()
        schedule.step()
        for name, value in network.state_dict().items():
            average[name].copy_(torch.lerp(average[name], value, 0.005) if value.is_floating_point() else value)
        if step % 100 == 0:
            seconds = time.perf_counter() - begun
            print(f"step {step} of {steps}  class {told:.3f}  same {same:.3f}  {seconds:.0f} s", flush=True)  # noqa: T201
    network.load_state_dict(average)


@torch.no_grad()
def standardise(network: Classifier, images: data.ImageSet) -> None:
    """Set mean and spread of the features to those over the training images."""
    features = torch.cat([network.features(x) for _, x in batches(images.images)]).double()
    network.center.copy_(features.mean(0))
    network.spread.copy_(features.std(0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=("mnist", "fashion-mnist"))
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--epochs", type=int, default=14)
    asked = parser.parse_args()
    machine.use_threads()
    train, test = (data.load(asked.name, split=split, data_dir=asked.data_dir) for split in ("train", "test"))
    torch.manual_seed(0)
    network = Classifier(len(train.classes)).to(memory_format=torch.channels_last)
    fit(network, train, asked.epochs, flips=asked.name == "fashion-mnist")
    network.eval()
    standardise(network, train)
    with torch.no_grad():
        found = {
            "accuracy": accuracy(network, test),
            "accuracy with noise 0.1": accuracy(network, test, 0.1),
            "accuracy with noise 0.3": accuracy(network, test, 0.3),
        }
    tensors = network.state_dict()
    about = {"kind": KIND, "data": asked.name, "classes": list(train.classes)}
    record = {
        "made_by": "scripts/train_features.py",
        "epochs": asked.epochs,
        "parameters": sum(p.numel() for p in network.parameters()),
        "test": found,
        "machine": f"{machine.processor()}, {os.cpu_count()} cores, no GPU",
        "versions": {"ddpm-cli": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "date": datetime.date.today().isoformat(),
    }
    identity = checkpoint.model_id(about, tensors)
    path = WEIGHTS / f"{asked.name}.safetensors"
    checkpoint.write_tensors(path, tensors, {**about, "format": 1, "id": identity})
    record = {"id": identity, "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), **record}
    files.write_bytes(path.with_suffix(".json"), (json.dumps(record, indent=2) + "\n").encode())
    print(identity)  # noqa: T201


if __name__ == "__main__":
    main()
