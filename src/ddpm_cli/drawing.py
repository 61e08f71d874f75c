"""Images drawn from a model as pixels, with the way they came and where they come from."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ddpm_cli import checkpoint, machine
from ddpm_cli.checkpoint import Info, Weights
from ddpm_cli.config import Device, Precision, SamplerConfig
from ddpm_cli.errors import UsageError
from ddpm_cli.networks import largest_map
from ddpm_cli.pixels import Pixels, check_count, from_uint8, to_uint8
from ddpm_cli.sampling import DiffusionModel, Step
from ddpm_cli.sampling.model import check_images, evaluation_mode
from ddpm_cli.schedule import Schedule

WALKING = 64  # images that walk together
INNER = 16  # images the network sees at once: enough to keep a thread busy, few to waste where one is sampled
INNER_ON_GPU = 256  # which takes no longer for them than for one
WALKING_ON_GPU = 1024  # images that walk together
WORK = 1.25e10  # FLOP that keep a thread busy: a large network needs fewer images for it, down to LEAST
LEAST = 4
CLOSE = 0.1  # difference of means, in [-1, 1], that is never remarkable
STEPS = 4  # for each value of a step that is kept: the image and the prediction, collected and joined
TENSORS = 6  # of the images that are sampled together, in float32, at once
MAPS = 5  # of the size of a network's largest feature map, in float32, at once


@dataclass(frozen=True)
class Ready:
    """A model on its device, with the sampler asked for.

    Attributes:
        model: what to draw from.
        info: what its file says of it.
        weights: which of its weights it draws with.
        precision: what its network computes in.
        guide: of the model that guidance leads away from; None: there is none.
    """

    model: DiffusionModel
    info: Info
    weights: Weights
    precision: Precision
    guide: Info | None = None


def ready(
    path: Path,
    sampler: SamplerConfig | None = None,
    *,
    weights: Weights | None = None,
    guide: Path | None = None,
    batch_size: int | None = None,
    device: Device = "auto",
    precision: Precision = "auto",
) -> Ready:
    """A model from its file, ready to be drawn from.

    Args:
        path: of the model.
        sampler: how to draw; None: as the model says.
        weights: which weights; None: the best it has.
        guide: of a worse model that guidance leads away from; None: there is none.
        batch_size: images that walk together; None: 64, on a GPU 1024.
        device: where to compute.
        precision: what to compute in.

    Raises:
        ModelError, ResourceError: as :func:`ddpm_cli.checkpoint.load` and :func:`ddpm_cli.machine.choose_device`.
        UsageError: a guide of other images, classes or levels.
    """
    chosen = machine.choose_device(device)
    threads = machine.use_threads()
    loaded, info = checkpoint.load(path, weights)
    dtype = machine.choose_precision(precision, chosen)
    leader, about = (None, None) if guide is None else _guide(guide, info)
    model = replace(
        loaded,
        denoiser=evaluation_mode(loaded.denoiser, chosen, dtype),
        guide=None if leader is None else evaluation_mode(leader.denoiser, chosen, dtype),
        sampler=sampler or info.sampler,
        batch_size=batch_size or (WALKING if chosen.type == "cpu" else WALKING_ON_GPU),
        inner_batch=inner_batch(info.flops, chosen),
        threads=threads,
    )
    return Ready(model, info, weights or info.weights[0], machine.PRECISIONS[dtype], about)


def _guide(path: Path, info: Info) -> tuple[DiffusionModel, Info]:
    """A model to lead away from, which must answer the same questions.

    Raises:
        UsageError: it does not.
    """
    guide, about = checkpoint.load(path)
    levels = [Schedule(each.schedule).abars for each in (about, info)]  # which can be told in more than one way
    same = {"shape": about.shape == info.shape, "classes": about.classes == info.classes}
    for what, is_same in {**same, "schedule": np.array_equal(*levels)}.items():
        if not is_same:
            raise UsageError(
                f"the guide's {what} is not the model's",
                "A guide is a worse model of the same images, an earlier save of the same run say.",
            )
    return guide, about


def inner_batch(flops: int, device: torch.device) -> int:
    """How many images a network sees at once on a device; a power of 2.

    A question of the network, never of how many images are wanted: so an image is the same among any others.

    Args:
        flops: of the network for one image.
        device: where.
    """
    if device.type != "cpu":
        return INNER_ON_GPU
    if flops <= 0:
        return INNER
    return min(INNER, max(LEAST, 1 << max(0, round(math.log2(WORK) - math.log2(flops)))))


def check_memory(model: DiffusionModel, count: int, watched: int = 0) -> None:
    """Refuse to sample what does not fit into memory, before anything is computed.

    Args:
        model: what to sample from.
        count: number of images.
        watched: number of images whose every step is kept.

    Raises:
        ResourceError: more is needed than is free, or than is reasonable.
    """
    pixels, batch = math.prod(model.shape), min(count, model.batch_size)
    more = STEPS * pixels * min(watched, count) * (model.steps + 1)
    if model.device.type == "cpu":
        config = getattr(model.denoiser.network, "config", None)  # networks of others may have none
        maps = largest_map(config) * min(batch, LEAST) if config is not None else 0
        more += 4 * (TENSORS * pixels * batch + MAPS * maps)
    check_count(count, model.shape, more, machine.memory()[1] or math.inf)


@dataclass(frozen=True)
class Drawing:
    """What came out.

    Attributes:
        images: uint8 (N, C, H, W).
        labels: the class of each; None where the model has none.
        walk: uint8 (S, n, C, H, W), the first n images after each step, x_T first; empty unless asked for.
        estimates: likewise, the clean images that those of the walk were taken for; at the end the images themselves.
        times: the levels t of the walk, (S,).
        largest: magnitude of a pixel value, before it was clipped to [-1, 1].
    """

    images: Pixels
    labels: list[int] | None
    walk: Pixels
    estimates: Pixels
    times: list[float]
    largest: float = 0.0

    def columns(self, every: float) -> list[int]:
        """Which moments of the walk lie nearest to the levels T, T - every, ... 0; each once."""
        wanted = np.arange(np.ceil(self.times[0] / every) * every, -1, -every)
        return sorted({int(np.argmin(np.abs(np.array(self.times) - t))) for t in wanted})


def draw(
    model: DiffusionModel,
    seed: int,
    images: Sequence[int],
    labels: Sequence[int] | None = None,
    watched: int = 0,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Drawing:
    """Draw images of a seed.

    Args:
        model: what to draw from.
        seed: the seed.
        images: which images of it.
        labels: a class for each; None: from the seed, where the model has classes.
        watched: how many images to keep every step of, from the first on.
        progress: takes network evaluations done and in all, per image.

    Raises:
        NumericsError: what came out is no image.
        UsageError: labels or guidance that the model does not have.
    """
    check_memory(model, len(images), watched)
    if labels is None and model.classes:
        labels = model.labels(seed, images)
    known = list(labels) if labels is not None else None

    def walk(part: slice) -> Iterator[Step]:
        return model.walk(seed, images[part], None if known is None else known[part])

    return replace(collect(walk, model, len(images), model.steps, watched, progress), labels=known)


def collect(
    walk: Callable[[slice], Iterator[Step]],
    model: DiffusionModel,
    count: int,
    steps: int,
    watched: int = 0,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Drawing:
    """What comes out at the end of walks, batch after batch.

    Args:
        walk: of a part of the images, from where it starts to level 0.
        model: that is walked with.
        count: of images.
        steps: of a walk.
        watched: how many images to keep every step of, from the first on.
        progress: takes steps done and in all, of all images.

    Raises:
        NumericsError: what came out is no image.
    """
    check_memory(model, count, watched)
    pixels, times, largest = [], [], 0.0
    walks: list[Pixels] = []
    estimates: list[Pixels] = []
    for start in range(0, count, model.batch_size):
        part = slice(start, min(start + model.batch_size, count))
        kept: list[Pixels] = []
        taken: list[Pixels] = []
        for number, step in enumerate(walk(part)):
            if start < watched:
                kept.append(_pixels(step.x[: watched - start]))
                taken.append(_pixels(step.clean[: watched - start]))
            if start == 0:
                times.append(float(step.level.t))
            progress(start * steps + number * (part.stop - start), count * steps)
        if kept:
            walks.append(np.stack(kept))
            # What a step estimated, it estimated of the images before it.
            estimates.append(np.stack([*taken[1:], kept[-1]]))
        check_images(step.x, model.flat)
        largest = max(largest, float(step.x.abs().max()))
        pixels.append(_pixels(step.x))
    none = np.empty((0, 0, *model.shape), np.uint8)
    walked, guessed = (np.concatenate(parts, axis=1) if parts else none for parts in (walks, estimates))
    return Drawing(np.concatenate(pixels), None, walked, guessed, times, largest)


def unlike(images: Pixels, info: Info, what: str = "Samples") -> str | None:
    """What is wrong at first sight: images are far brighter or darker than the training data; None: nothing is.

    Far is more than a standard deviation of the data's pixels, and more than :data:`CLOSE` where these hardly vary.
    Too much guidance does it, and too little training; of a single class it may be right.
    """
    mean, std = (info.data.get(name) for name in ("mean", "std"))
    if not isinstance(mean, float | int) or not isinstance(std, float | int):
        return None
    found = float(from_uint8(images).mean())
    if abs(found - mean) <= max(std, CLOSE):
        return None
    return f"{what} differ from the training data (mean {found:.2f} against {mean:.2f}, on a scale of -1 to 1)"


def _pixels(x: torch.Tensor) -> Pixels:
    return to_uint8(np.nan_to_num(x.float().cpu().numpy()))
