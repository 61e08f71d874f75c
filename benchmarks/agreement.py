"""Whether the fast loop learns what a plain one learns: its loss beside that of eager float32, draw for draw.

The plain loop sees the batches of the fast one, begins with its weights, and is otherwise the textbook's: contiguous
tensors, an optimizer that goes from tensor to tensor, no autocast.

    python benchmarks/agreement.py [STEPS]
"""

import sys
from dataclasses import replace

import numpy as np
import torch
import turns

from ddpm_cli import data, machine, networks
from ddpm_cli.config import RECIPES, ScheduleConfig, network_for
from ddpm_cli.denoiser import Denoiser
from ddpm_cli.schedule import Schedule
from ddpm_cli.training import Batches, TrainState, learning_rate, train

SIZES = {"small": 64, "report": 16}  # preset -> batch that a CPU is patient with
WINDOW = 50  # steps that the loss is averaged over
CPU = torch.device("cpu")


def losses(preset: str, steps: int, way: str) -> np.ndarray:
    """The loss of every step, by the plain loop or by the fast one in a precision."""
    recipe = replace(RECIPES["report" if preset == "report" else "default"][0], batch_size=SIZES[preset])
    torch.manual_seed(0)
    config = network_for(preset, (1, 28, 28), 0)
    denoiser = Denoiser(networks.build(config), recipe.target, config.time)
    images = torch.from_numpy(np.ascontiguousarray(data.load("mnist").images))
    batches = Batches(images, None, 0, Schedule(ScheduleConfig()), recipe, CPU)
    if way == "plain":
        return np.array(list(plain(denoiser, batches, recipe, steps)))
    denoiser.network.to(memory_format=torch.channels_last)
    dtype = torch.bfloat16 if way == "bf16" else torch.float32
    denoiser.autocast = torch.bfloat16 if way == "bf16" else None
    networks.use_winograd(denoiser.network, machine.winograd_pays(networks.count_flops(config), CPU, dtype))
    return np.array([float(at.loss) for at in train(TrainState.fresh(denoiser, recipe, steps), batches, recipe)])


def plain(denoiser: Denoiser, batches: Batches, recipe, steps: int):  # type: ignore[no-untyped-def]
    make = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
    optimizer = make(denoiser.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay, foreach=False)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, recipe)
        batch = batches(step)
        x_0, eps = batch.x_0.contiguous(), batch.eps.contiguous()
        loss = denoiser.loss(x_0, batch.level, eps, batch.condition).mean()
        optimizer.zero_grad()
        loss.backward()
        if recipe.clip:
            torch.nn.utils.clip_grad_norm_(denoiser.parameters(), recipe.clip, foreach=False)
        optimizer.step()
        yield loss.item()


def main(steps: int) -> None:
    machine.use_threads()
    print(f"{turns.circumstances()}; {steps} steps on MNIST, losses averaged over {WINDOW} steps.\n")
    rows = []
    for preset, size in SIZES.items():
        smooth = {
            way: np.convolve(losses(preset, steps, way), np.ones(WINDOW) / WINDOW, "valid")
            for way in ("plain", "float32", "bf16")
        }
        for way in ("float32", "bf16"):
            off = np.abs(smooth[way] / smooth["plain"] - 1)
            ends = [f"{smooth[each][-1]:.4f}" for each in ("plain", way)]
            rows.append([f"{preset}, batch {size}, {way}", *ends, f"{off[-1]:.2%}", f"{off.max():.2%}"])
    print(turns.table(["training", "plain loss", "loss", "apart at the end", "at most"], rows))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
