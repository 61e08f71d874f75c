"""Everybody who is measured: trainings and samplings of this project, of the plain loop, and of the peers.

Each runs in a process of its own, so that none profits from another's settings:

    python benchmarks/contenders.py NAME

It prints a line when it is warm, the GFLOP of its network for one image forward; then for every number on stdin it does
so many pieces of work and prints its images a second; and at the end of stdin the most memory it had, in MB.
"""

import importlib
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ddpm_cli import drawing, machine, networks
from ddpm_cli.config import RECIPES, NetworkConfig, SamplerConfig, ScheduleConfig, Shape, network_for
from ddpm_cli.denoiser import Denoiser
from ddpm_cli.sampling import DiffusionModel
from ddpm_cli.sampling.model import evaluation_mode
from ddpm_cli.schedule import Schedule
from ddpm_cli.training import Batches, TrainState, train

SCHEDULE = Schedule(ScheduleConfig("linear"))
DEVICE = machine.choose_device("auto")
DRAWN = 32 if DEVICE.type == "cpu" else 512  # images of a piece of sampling
EVALUATIONS = 10  # of the network for each
Network = Callable[[Tensor, Tensor], Tensor]


@dataclass
class Contender:
    """Somebody's work.

    Attributes:
        flops: of the network for one image forward.
        images: of a piece of work.
        work: does a piece.
    """

    flops: float
    images: int
    work: Callable[[], object]


# --- training --------------------------------------------------------------------------------------------------------


def plain(network: nn.Module, answer: Network, batch: int, shape: Shape, tuned: bool = False) -> Contender:
    """The loop of the report: draw t and noise, mean squared error of eps, Adam, float32.

    Tuned: channels last, fused AdamW, and bf16 where the machine is fast in it.
    """
    fast = tuned and machine.choose_precision("auto", DEVICE, training=True) == torch.bfloat16
    network = network.to(DEVICE).train()
    if tuned:
        network = network.to(memory_format=torch.channels_last)
    make: Any = torch.optim.AdamW if tuned else torch.optim.Adam
    optimizer = make(network.parameters(), lr=2e-4, **({"fused": True} if tuned else {}))
    images = torch.from_numpy(pixels(shape)).to(DEVICE).float() / 127.5 - 1
    abars = torch.from_numpy(SCHEDULE.abars[1:]).to(DEVICE).float()

    def step() -> None:
        x_0 = images[torch.randint(len(images), (batch,), device=DEVICE)]
        if tuned:
            x_0 = x_0.to(memory_format=torch.channels_last)
        t = torch.randint(len(abars), (batch,), device=DEVICE)
        eps = torch.randn_like(x_0)
        abar = abars[t].view(-1, 1, 1, 1)
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=fast):
            out = answer(abar.sqrt() * x_0 + (1 - abar).sqrt() * eps, t)
        loss = F.mse_loss(out.float(), eps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()

    return Contender(flops(answer, shape), batch, step)


def ours(preset: str, batch: int, shape: Shape, precision: str = "auto", compiled: bool = False) -> Contender:
    """Training as ``ddpm train`` does it."""
    machine.use_threads()
    recipe = replace(RECIPES["report" if preset == "report" else "default"][0], batch_size=batch)
    config = network_for(preset, shape, 0)
    network = networks.build(config).to(DEVICE).to(memory_format=torch.channels_last)
    denoiser = Denoiser(network, recipe.target, config.time)
    dtype = machine.choose_precision(precision, DEVICE, training=True)  # type: ignore[arg-type]
    denoiser.autocast = None if dtype == torch.float32 else dtype
    networks.use_winograd(network, machine.winograd_pays(networks.count_flops(config), DEVICE, dtype))
    if compiled:
        machine.compile_network(network)
    batches = Batches(torch.from_numpy(pixels(shape)), None, 0, SCHEDULE, recipe, DEVICE)
    steps = train(TrainState.fresh(denoiser, recipe, 10**9), batches, recipe)

    def step() -> None:
        loss = next(steps).loss
        if DEVICE.type == "cpu":  # a GPU is not waited for within a step
            loss.item()

    return Contender(networks.count_flops(config), batch, step)


def pixels(shape: Shape) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Random images, (N, C, H, W): the speed does not depend on what is to be seen."""
    return np.random.default_rng(0).integers(0, 256, (2048, *shape), dtype=np.uint8)


def flops(answer: Network, shape: Shape) -> float:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        answer(torch.zeros(1, *shape, device=DEVICE), torch.zeros(1, dtype=torch.int64, device=DEVICE))
    return float(counter.get_total_flops())


# --- networks --------------------------------------------------------------------------------------------------------


def own_network(preset: str, shape: Shape) -> tuple[nn.Module, Network]:
    network = networks.build(network_for(preset, shape, 0))
    return network, lambda x, t: network(x, t.float(), {})


def diffusers_network(shape: Shape) -> tuple[nn.Module, Network]:
    """UNet2DModel with its own blocks, at widths that make its work that of the report's network."""
    peer = importlib.import_module("diffusers").UNet2DModel(
        sample_size=shape[1],
        in_channels=shape[0],
        out_channels=shape[0],
        block_out_channels=(64, 128, 256),
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
    )
    return peer, lambda x, t: peer(x, t).sample


def lucidrains_network(shape: Shape) -> tuple[nn.Module, Network]:
    """Unet of denoising-diffusion-pytorch, likewise."""
    peer = importlib.import_module("denoising_diffusion_pytorch").Unet(dim=74, dim_mults=(1, 2, 4), channels=shape[0])
    return peer, peer


# --- sampling --------------------------------------------------------------------------------------------------------


def our_sampling(preset: str, shape: Shape) -> Contender:
    """Drawing as ``ddpm sample`` does it, with DDIM, from a network that knows nothing."""
    threads = machine.use_threads()
    config: NetworkConfig = network_for(preset, shape, 0)
    dtype = machine.choose_precision("auto", DEVICE)
    denoiser = evaluation_mode(Denoiser(networks.build(config), "v", config.time), DEVICE, dtype)
    work = networks.count_flops(config)
    sampler = SamplerConfig("ddim", steps=EVALUATIONS)
    model = DiffusionModel(denoiser, SCHEDULE, shape, (), sampler, DRAWN, drawing.inner_batch(work, DEVICE), threads)

    def draw() -> None:
        for _ in model.walk(0, range(DRAWN)):
            pass

    return Contender(work, DRAWN, draw)


def diffusers_sampling(shape: Shape) -> Contender:
    """Its DDIM pipeline, float32, as it comes."""
    network, answer = diffusers_network(shape)
    peer = importlib.import_module("diffusers")
    pipeline = peer.DDIMPipeline(network.to(DEVICE).eval(), peer.DDIMScheduler())
    pipeline.set_progress_bar_config(disable=True)

    def draw() -> None:
        pipeline(batch_size=DRAWN, num_inference_steps=EVALUATIONS, output_type="np")

    return Contender(flops(answer, shape), DRAWN, draw)


def lucidrains_sampling(shape: Shape) -> Contender:
    """Its GaussianDiffusion with as many sampling steps, which is DDIM, float32, as it comes."""
    network, answer = lucidrains_network(shape)
    module = importlib.import_module("denoising_diffusion_pytorch")
    process = module.GaussianDiffusion(network, image_size=shape[1], timesteps=1000, sampling_timesteps=EVALUATIONS)
    process = process.to(DEVICE).eval()
    return Contender(flops(answer, shape), DRAWN, lambda: process.sample(batch_size=DRAWN))


# --- by name ---------------------------------------------------------------------------------------------------------


def make(name: str) -> Contender:
    """A contender by its name: WHO:WHAT:BATCH:SIDE, as ``ddpm:report:64:28``."""
    who, what, batch, side = name.split(":")
    shape, size = (1, int(side), int(side)), int(batch)
    match who:
        case "plain":
            return plain(*own_network(what, shape), size, shape)
        case "ddpm" | "ddpm-float32" | "ddpm-compiled":
            precision = "float32" if who == "ddpm-float32" else "auto"
            return ours(what, size, shape, precision, compiled=who == "ddpm-compiled")
        case "diffusers" | "diffusers-tuned":
            return plain(*diffusers_network(shape), size, shape, tuned=who.endswith("tuned"))
        case "lucidrains" | "lucidrains-tuned":
            return plain(*lucidrains_network(shape), size, shape, tuned=who.endswith("tuned"))
        case "ddpm-sampling":
            return our_sampling(what, shape)
        case "diffusers-sampling":
            return diffusers_sampling(shape)
        case "lucidrains-sampling":
            return lucidrains_sampling(shape)
    raise SystemExit(f"unknown contender {name}")


def main(name: str) -> None:
    contender = make(name)
    for _ in range(3):  # compiling, and the first touch of memory
        contender.work()
    print(contender.flops / 1e9, flush=True)
    for line in sys.stdin:
        begun = time.perf_counter()
        for _ in range(int(line)):
            contender.work()
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
        print(int(line) * contender.images / (time.perf_counter() - begun), flush=True)
    on_gpu = DEVICE.type == "cuda"
    print(
        torch.cuda.max_memory_allocated() / 1e6 if on_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    )


if __name__ == "__main__":
    main(sys.argv[1])
