"""Training throughput beside the plain loop and the peers, on networks of equal work, in one run.

Every contender trains on the same random images, a batch of 64 of 28 x 28 a step. They take turns, a few steps each, so
that whatever else the machine does meets all of them; what is told is the median of the turns, and its ratio to the
plain loop's of the same turn. A peer that is not installed is left out.

    python -m pip install diffusers denoising-diffusion-pytorch
    python benchmarks/training.py [TURNS]
"""

import datetime
import importlib
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ddpm_cli import machine, networks
from ddpm_cli.config import RECIPES, ReportUNetConfig, ScheduleConfig, network_for
from ddpm_cli.denoiser import Denoiser
from ddpm_cli.schedule import Schedule
from ddpm_cli.training import Batches, TrainState, train

SHAPE, BATCH, STEPS = (1, 28, 28), 64, 2  # steps of a turn
IMAGES = np.random.default_rng(0).integers(0, 256, (2048, *SHAPE), dtype=np.uint8)
SCHEDULE = Schedule(ScheduleConfig("linear"))
Network = Callable[[Tensor, Tensor], Tensor]


@dataclass
class Contender:
    """Somebody's training.

    Attributes:
        name: for the table.
        flops: of the network for one image forward.
        step: makes one step and waits for it.
    """

    name: str
    flops: float
    step: Callable[[], object]


def plain(name: str, network: nn.Module, answer: Callable[[Tensor, Tensor], Tensor], tuned: bool = False) -> Contender:
    """The loop of the report: draw t and noise, mean squared error of eps, Adam, float32.

    Tuned: channels last, fused AdamW, and bf16 where the processor is fast in it.
    """
    fast = tuned and machine.choose_precision("auto", torch.device("cpu")) == torch.bfloat16
    network = network.train()
    if tuned:
        network = network.to(memory_format=torch.channels_last)
    optimizer = (
        torch.optim.AdamW(network.parameters(), lr=2e-4, fused=True)
        if tuned
        else torch.optim.Adam(network.parameters(), lr=2e-4)
    )
    images = torch.from_numpy(IMAGES).float() / 127.5 - 1
    abars = torch.from_numpy(SCHEDULE.abars[1:]).float()

    def step() -> None:
        x_0 = images[torch.randint(len(images), (BATCH,))]
        if tuned:
            x_0 = x_0.to(memory_format=torch.channels_last)
        t = torch.randint(len(abars), (BATCH,))
        eps = torch.randn_like(x_0)
        abar = abars[t].view(-1, 1, 1, 1)
        with torch.autocast("cpu", torch.bfloat16, enabled=fast):
            out = answer(abar.sqrt() * x_0 + (1 - abar).sqrt() * eps, t)
        loss = F.mse_loss(out.float(), eps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()

    return Contender(name, flops(answer), step)


def ours(preset: str, compiled: bool = False) -> Contender:
    """Training as ``ddpm train`` does it."""
    recipe = replace(RECIPES["report" if preset == "report" else "default"][0], batch_size=BATCH)
    network = networks.build(network_for(preset, SHAPE, 0)).to(memory_format=torch.channels_last)
    denoiser = Denoiser(network, recipe.target, network.config.time)  # type: ignore[union-attr, arg-type]
    dtype = machine.choose_precision("auto", torch.device("cpu"))
    denoiser.autocast = None if dtype == torch.float32 else dtype
    count = networks.count_flops(network.config)  # type: ignore[arg-type]
    if compiled:
        machine.compile_network(network, lambda _: None)
    batches = Batches(torch.from_numpy(IMAGES), None, 0, SCHEDULE, recipe, torch.device("cpu"))
    steps = train(TrainState.fresh(denoiser, recipe, 10**9), batches, recipe)
    name = f"ddpm, {preset}, {machine.PRECISIONS[dtype]}" + (", compiled" if compiled else "")
    return Contender(name, count, lambda: float(next(steps).loss))


def flops(answer: Network) -> float:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        answer(torch.zeros(1, *SHAPE), torch.zeros(1, dtype=torch.int64))
    return float(counter.get_total_flops())


def report_network() -> tuple[nn.Module, Network]:
    network = networks.build(ReportUNetConfig(SHAPE))
    return network, lambda x, t: network(x, t.float(), {})


def small_network() -> tuple[nn.Module, Network]:
    network = networks.build(network_for("small", SHAPE, 0))
    return network, lambda x, t: network(x, t.float(), {})


def diffusers_network() -> tuple[nn.Module, Network]:
    """UNet2DModel with its own blocks, at widths that make its work that of the report's network."""
    peer = importlib.import_module("diffusers").UNet2DModel(
        sample_size=28,
        in_channels=1,
        out_channels=1,
        block_out_channels=(64, 128, 256),
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
    )
    return peer, lambda x, t: peer(x, t).sample


def lucidrains_network() -> tuple[nn.Module, Network]:
    """Unet of denoising-diffusion-pytorch, likewise."""
    peer = importlib.import_module("denoising_diffusion_pytorch").Unet(dim=74, dim_mults=(1, 2, 4), channels=1)
    return peer, peer


def contenders() -> Iterator[Contender]:
    """The plain loop first, of the report's network and then of small; the others are measured by it."""
    yield plain("plain loop, the report's network", *report_network())
    yield ours("report")
    yield ours("report", compiled=True)
    for name, make in (("diffusers", diffusers_network), ("lucidrains", lucidrains_network)):
        try:
            yield plain(f"{name}, defaults", *make())
            yield plain(f"{name}, tuned", *make(), tuned=True)
        except ImportError as error:
            print(f"({name} is left out: {error})")
    yield plain("plain loop, network small", *small_network())
    yield ours("small")
    yield ours("small", compiled=True)


def turn(contender: Contender) -> float:
    """Images a second over one turn."""
    start = time.perf_counter()
    for _ in range(STEPS):
        contender.step()
    return STEPS * BATCH / (time.perf_counter() - start)


def matrix_rate() -> float:
    """FLOP a second of the largest float32 product that is worth its time."""
    a = torch.ones(2048, 2048)
    best = 0.0
    for _ in range(5):
        start = time.perf_counter()
        a @ a
        best = max(best, 2 * 2048**3 / (time.perf_counter() - start))
    return best


def main(turns: int) -> None:
    threads = machine.use_available_threads()
    print(f"{datetime.date.today()}, {machine.processor()}, {threads} threads,")
    print(f"torch {torch.__version__}, Python {platform.python_version()}; {turns} turns of {STEPS} steps of {BATCH}\n")
    all_of_them = list(contenders())
    for contender in all_of_them:
        for _ in range(3):  # compiling, and the first touch of memory
            contender.step()
    speeds: dict[str, list[float]] = {contender.name: [] for contender in all_of_them}
    for _ in range(turns):
        for contender in all_of_them:
            speeds[contender.name].append(turn(contender))
    peak = matrix_rate()
    print(f"float32 matrix products: {peak / 1e9:.0f} GFLOP/s\n")
    print("| training | GFLOP an image | images/s | of the plain loop | of the matrix rate |")
    print("| --- | --- | --- | --- | --- |")
    base = ""
    for contender in all_of_them:
        base = contender.name if contender.name.startswith("plain") else base
        mine = speeds[contender.name]
        ratio = statistics.median(a / b for a, b in zip(mine, speeds[base], strict=True))
        rate = statistics.median(mine)
        share = 3 * contender.flops * rate / peak  # backward is twice the work of forward
        print(f"| {contender.name} | {contender.flops / 1e9:.2f} | {rate:.1f} | {ratio:.2f} | {share:.0%} |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
