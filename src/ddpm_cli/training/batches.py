"""What a training step sees: images, labels, levels and noise.

Invariant: everything drawn for step k depends on (seed, k) alone, not on what ran before, so that a resumed run sees
what an unbroken one sees. The whole batch is drawn first; parts of it are slices.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ddpm_cli import machine
from ddpm_cli.config import Times, TrainConfig
from ddpm_cli.denoiser import Chain, Condition, last_variance
from ddpm_cli.forward import as_tensors
from ddpm_cli.schedule import Floats, Level, Schedule
from ddpm_cli.seeds import generator


class Batch(NamedTuple):
    """One step's work: clean images in [-1, 1], their levels, the noise to add, and what is known about them."""

    x_0: Tensor  # (B, C, H, W) float32
    level: Level[Tensor]  # (B,)
    eps: Tensor  # (B, C, H, W) float32
    condition: Condition  # "label": (B,) int64
    seed: int  # of whatever else is drawn in the step: dropout
    chain: Chain | None = None  # for losses that are made of the bound

    def parts(self, count: int) -> "Iterator[Batch]":
        """The batch in ``count`` slices of nearly equal length."""
        size = len(self.x_0)
        for number in range(count):
            part = slice(number * size // count, (number + 1) * size // count)
            chain = self.chain and self.chain._replace(earlier=Level(*(field[part] for field in self.chain.earlier)))
            level = Level(*(field[part] for field in self.level))
            condition = {name: value[part] for name, value in self.condition.items()}
            yield Batch(self.x_0[part], level, self.eps[part], condition, self.seed, chain)


class Batches:
    """The batches of a data set, by step.

    An epoch is ceil(N / B) steps through a permutation that belongs to (seed, epoch); its last batch is filled up from
    the permutation's start, so that every batch has B images.

    Args:
        images: (N, C, H, W) uint8.
        labels: (N,) int64, or None to train without.
        classes: number of classes; the index `classes` stands for "no label".
        schedule: gives the levels.
        config: batch size, seed, distribution of t, share of labels dropped, whether the bound is wanted.
        device: where the batches are wanted. The images are moved there once if they fit; else each batch is read
            while the step before it is computed.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor | None,
        classes: int,
        schedule: Schedule,
        config: TrainConfig,
        device: torch.device,
    ) -> None:
        free = machine.free_memory(device)
        fits = free is None or images.nbytes <= ROOM * free
        self.images = images.to(device) if fits else images  # on a CPU it stays the map of a file that it is
        self._ahead = None if fits else _Ahead(images, device)
        self.labels = labels.to(device) if labels is not None else None
        self.classes, self.schedule, self.config, self.device = classes, schedule, config, device
        self.steps_per_epoch = -(-len(images) // config.batch_size)
        self._last = last_variance(schedule)
        self._noise = torch.Generator(device)
        self._order: tuple[int, np.ndarray[tuple[int], np.dtype[np.int64]]] = (-1, np.empty(0, np.int64))

    def __call__(self, step: int) -> Batch:
        """The batch of a step, 0 the first."""
        config = self.config
        chosen = torch.from_numpy(self.rows(step))
        rows = chosen.to(self.device, non_blocking=True)
        draw = generator("train", config.seed, step)
        t = draw_times(config.times, config.batch_size, self.schedule.timesteps, draw)
        if self._ahead is None:
            pixels = self.images[rows]
        else:
            pixels = self._ahead.take(step, chosen, torch.from_numpy(self.rows(step + 1)))
        x_0 = pixels.to(torch.float32, memory_format=torch.channels_last).div_(127.5).sub_(1)
        self._noise.manual_seed(int(draw.integers(2**63)))
        eps = torch.empty_like(x_0).normal_(generator=self._noise)
        condition = {}
        if self.labels is not None:
            hidden = torch.from_numpy(draw.random(config.batch_size) < config.label_drop)
            condition["label"] = self.labels[rows].masked_fill(hidden.to(self.device, non_blocking=True), self.classes)
        seed = int(draw.integers(2**63))
        chain = self._chain(t) if config.needs_bound else None
        return Batch(x_0, as_tensors(self.schedule.level(t), self.device), eps, condition, seed, chain)

    def _chain(self, t: Floats) -> Chain:
        earlier = as_tensors(self.schedule.level(t - 1), self.device)
        return Chain(earlier, self._last, self.schedule.timesteps)

    def rows(self, step: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Which images make up the batch of a step, (B,)."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if self._order[0] != epoch:
            self._order = (epoch, generator("order", self.config.seed, epoch).permutation(len(self.images)))
        size = self.config.batch_size
        return self._order[1][np.arange(place * size, (place + 1) * size) % len(self.images)]


ROOM = 0.5  # of the free memory, that the images may take; the network needs the rest


class _Ahead:
    """Reads the images of a step while the step before it is computed, so that a disk or a bus is not waited for.

    Args:
        images: (N, C, H, W) uint8, on the CPU.
        device: where they are wanted.
    """

    def __init__(self, images: Tensor, device: torch.device) -> None:
        self.images, self.device = images, device
        self._reader = ThreadPoolExecutor(1, "reader")
        self._step, self._read = -1, Future[Tensor]()

    def take(self, step: int, rows: Tensor, later: Tensor) -> Tensor:
        """The images of a step, (B, C, H, W) uint8 on the device; begins to read those of the step after it.

        Args:
            step: its number.
            rows: which images make it up.
            later: those of the step after it.
        """
        pixels = self._read.result() if step == self._step else self._gather(rows)
        self._step, self._read = step + 1, self._reader.submit(self._gather, later)
        return pixels.to(self.device, non_blocking=True)

    def _gather(self, rows: Tensor) -> Tensor:
        pixels = self.images[rows]
        return pixels.pin_memory() if self.device.type == "cuda" else pixels


def draw_times(times: Times, count: int, timesteps: int, draw: np.random.Generator) -> Floats:
    """Whole levels 1..T for a batch, (count,) float64.

    `uniform` draws each by itself. `stratified` is uniform too, but puts one into each of `count` equal slices of
    0..T, which takes most of the noise out of a batch's loss (Kingma et al. 2021, appendix I.1). `logit-normal` puts
    sigmoid(n) in place of the uniform number, n standard normal (Esser et al. 2024, section 3.1); the loss is not
    corrected for it, so it acts as a weight on the middle levels.
    """
    match times:
        case "uniform":
            u = draw.random(count)
        case "stratified":
            u = draw.permutation((np.arange(count) + draw.random(count)) / count)
        case "logit-normal":
            u = 1 / (1 + np.exp(-draw.standard_normal(count)))
    return np.minimum(np.floor(u * timesteps), timesteps - 1) + 1
