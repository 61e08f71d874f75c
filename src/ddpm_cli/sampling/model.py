"""A model of images that can be drawn from: what evaluation, the library and the command line see."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, cast

import torch
from torch import Tensor

from ddpm_cli import machine
from ddpm_cli.config import SamplerConfig, Shape
from ddpm_cli.denoiser import Clip, Condition, Denoiser, Denoises, Guide, Prediction
from ddpm_cli.errors import ModelError, NumericsError, UsageError, is_lack_of_memory
from ddpm_cli.forward import as_tensors
from ddpm_cli.sampling.draws import SeededDraw
from ddpm_cli.sampling.loop import Step, sample
from ddpm_cli.sampling.plans import plan
from ddpm_cli.sampling.rules import questions, rule
from ddpm_cli.schedule import Floats, Level, Schedule

FLAT = 1e-3  # standard deviation in an image, in [-1, 1], below which it has no content


class ImageModel(Protocol):
    """Anything that draws images: diffusion today, others to compare it with later."""

    @property
    def shape(self) -> Shape: ...

    @property
    def classes(self) -> tuple[str, ...]: ...

    def draw(self, seed: int, images: Sequence[int], labels: Sequence[int] | None = None) -> Iterator[Tensor]:
        """Images (b, C, H, W) in [-1, 1], batch after batch, in the order asked for."""
        ...


class InnerBatches:
    """Calls a denoiser on batches of one fixed size, the last one filled up.

    Kernels and their rounding depend on the batch size; with this they do not, so an image comes out the same
    whichever batch it was part of, in low precision too. Where memory runs out, the size is halved for good.

    On a CPU each of these batches is computed by one thread, several of them at a time: so an image does not depend on
    the number of threads either, and no thread waits for another in the middle of a layer.

    Args:
        denoiser: called with parts of a batch.
        size: images in a part.
        threads: parts computed at a time, on a CPU.
    """

    def __init__(self, denoiser: Denoises, size: int, threads: int = 1) -> None:
        self.denoiser, self.size, self.threads = denoiser, size, threads

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        # A thread takes the number of threads that its own kernels use from torch when it first asks for it, which a
        # convolution does not do.
        return ThreadPoolExecutor(self.threads, "sampling", initializer=torch.get_num_threads)

    def __call__(self, x_t: Tensor, level: Level[Tensor], condition: Condition) -> Prediction:
        while True:
            try:
                return self._ask(x_t, level, condition)
            except (RuntimeError, MemoryError) as error:
                if self.size == 1 or not is_lack_of_memory(error):
                    raise
            self.size //= 2  # after the handler, whose traceback holds what was allocated
            if x_t.device.type == "cuda":
                torch.cuda.empty_cache()

    def _ask(self, x_t: Tensor, level: Level[Tensor], condition: Condition) -> Prediction:
        count = len(x_t)
        rows = torch.arange(-(-count // self.size) * self.size, device=x_t.device).clamp(max=count - 1)
        gradients, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()

        def predict(part: Tensor) -> Prediction:
            with torch.inference_mode(inference), torch.set_grad_enabled(gradients):  # each thread has its own modes
                here = Level(*(field[part] for field in level)) if level.t.ndim else level
                return self.denoiser(x_t[part], here, {k: v[part] for k, v in condition.items()})

        parts = rows.split(self.size)
        if x_t.device.type != "cpu":
            predictions = [predict(part) for part in parts]
        else:
            with machine.single_thread():
                several = self.threads > 1 and len(parts) > 1
                predictions = list(self._pool.map(predict, parts) if several else map(predict, parts))
        fractions = [each.variance_fraction for each in predictions if each.variance_fraction is not None]
        return Prediction(
            torch.cat([each.clean for each in predictions])[:count],
            torch.cat(fractions)[:count] if fractions else None,
        )


@dataclass(frozen=True)
class DiffusionModel:
    """A trained denoiser with everything that sampling needs.

    Attributes:
        denoiser: in evaluation mode, on its device.
        schedule: the one it was trained on.
        shape: of an image.
        classes: names of its classes; empty: unconditional.
        sampler: how it is sampled unless said otherwise.
        batch_size: images that walk together.
        inner_batch: images the network sees at once.
        threads: inner batches computed at a time, on a CPU; images do not depend on it.
        guide: a worse denoiser that guidance leads away from (Karras et al. 2024); None: from the same one's estimate
            without class.
        flat: whether the images it was trained on have no contrast, so that flat samples are right.
    """

    denoiser: Denoiser
    schedule: Schedule
    shape: Shape
    classes: tuple[str, ...]
    sampler: SamplerConfig
    batch_size: int = 64
    inner_batch: int = 16
    threads: int = 1
    guide: Denoiser | None = None
    flat: bool = False

    @cached_property
    def _asked_in_batches(self) -> InnerBatches:
        """One for all walks, so that what memory allows is found out once."""
        return InnerBatches(self.denoiser, self.inner_batch, self.threads)

    @cached_property
    def _guide_in_batches(self) -> InnerBatches | None:
        return None if self.guide is None else InnerBatches(self.guide, self.inner_batch, self.threads)

    @property
    def asked(self) -> Denoises:
        """The denoiser as sampling asks it: in batches of one size, guided and clipped as the sampler says.

        Raises:
            UsageError: guidance that leads nowhere, or a guide without guidance.
        """
        config, denoiser = self.sampler, cast("Denoises", self._asked_in_batches)
        if config.guidance != 1:
            if self.guide is None and not self.classes:
                raise UsageError(
                    "guidance needs a model with classes, and this one has none",
                    "Leave out --guidance, or name a worse model to lead away from: --guide",
                )
            away = self._guide_in_batches or {"label": len(self.classes)}
            denoiser = Guide(denoiser, config.guidance, away, config.rescale, config.interval)
        elif self.guide is not None:
            raise UsageError("a guide does nothing at guidance 1", "Say how much: --guidance 2")
        return Clip(denoiser, config.threshold) if config.clip else denoiser

    @property
    def device(self) -> torch.device:
        return next(self.denoiser.parameters()).device

    @machine.on_one_thread
    def walk(self, seed: int, images: Sequence[int], labels: Sequence[int] | None = None) -> Iterator[Step]:
        """Every step on the way to some images of a seed; one batch. Starts with x_T itself.

        Args:
            seed: the seed.
            images: which images of it.
            labels: a class for each; None: drawn from the seed, where the model has classes.

        Raises:
            UsageError: guidance or labels without classes, a label out of range, or the learned variance of a model
                that has learned none.
        """
        chosen, denoiser = rule(self.sampler, self.denoiser.learned_variance), self.asked
        draw = SeededDraw(seed, images, self.shape, self.device)
        levels, x_T = self.plan(), draw("start")
        yield Step(as_tensors(levels[0]), x_T, torch.zeros_like(x_T))
        yield from sample(denoiser, x_T, levels, draw, chosen, self.condition(self._labels(draw, labels)))

    def draw(self, seed: int, images: Sequence[int], labels: Sequence[int] | None = None) -> Iterator[Tensor]:
        """Images (b, C, H, W) in [-1, 1] of a seed, batch after batch, in the order asked for.

        Raises:
            NumericsError: what came out is no image.
        """
        for start in range(0, len(images), self.batch_size):
            part = slice(start, start + self.batch_size)
            for step in self.walk(seed, images[part], labels[part] if labels is not None else None):
                x = step.x
            check_images(x, self.flat)
            yield x

    @torch.no_grad()
    def estimate(self, x_t: Floats, level: Level[Floats], label: int | None = None) -> Floats:
        """What it takes a noisy image for: E[x_0 | x_t], clipped where sampling clips, without guidance.

        Args:
            x_t: (C, H, W).
            level: of x_t, a scalar one.
            label: its class; None: not known.

        Returns:
            (C, H, W) float64.
        """
        denoiser: Denoises = Clip(self.denoiser) if self.sampler.clip else self.denoiser
        known = torch.tensor([len(self.classes) if label is None else label], device=self.device)
        x = torch.from_numpy(x_t[None]).float().to(self.device)
        answer = denoiser(x, as_tensors(level), {"label": known} if self.classes else {})
        found: Floats = answer.clean[0].double().cpu().numpy()
        return found

    def plan(self) -> list[Level[Floats]]:
        """The levels that sampling visits."""
        return plan(self.schedule, *self.sampler.steps_and_spacing(self.schedule.timesteps))

    @property
    def steps(self) -> int:
        """Steps from noise to image."""
        return len(self.plan()) - 1

    @property
    def evaluations(self) -> int:
        """Passes of the network for one image; a guided question makes two."""
        return self.evaluations_along(self.plan())

    def evaluations_along(self, levels: Sequence[Level[Floats]]) -> int:
        """Those along some levels, whether they are its plan or not."""
        asked = questions(self.sampler, levels)
        return sum(2 if self.sampler.guides(float(level.t)) else 1 for level in asked)

    @property
    def guided(self) -> int:
        """How many of its evaluations are guided."""
        return sum(self.sampler.guides(float(level.t)) for level in questions(self.sampler, self.plan()))

    def draws_as(self, other: SamplerConfig) -> bool:
        """Whether its sampler and another come to the same, defaults that are spelled out included."""
        steps, spacing = self.sampler.steps_and_spacing(self.schedule.timesteps)
        same = other.steps_and_spacing(self.schedule.timesteps) == (steps, spacing)
        return same and replace(other, steps=steps, spacing=spacing) == replace(
            self.sampler, steps=steps, spacing=spacing
        )

    def labels(self, seed: int, images: Sequence[int]) -> list[int]:
        """The classes that images of a seed have when nobody chooses them."""
        return SeededDraw(seed, images, self.shape).labels(len(self.classes))

    def condition(self, labels: Sequence[int | None]) -> Condition:
        """What is known of some images: the class of each; None: nothing.

        Raises:
            UsageError: a class that the model does not have.
        """
        count = len(self.classes)
        for label in labels:
            if label is not None and not 0 <= label < count:
                if not count:
                    raise UsageError("this model has no classes to choose from", "Leave out --label.")
                raise UsageError(f"label {label} is out of range, expected 0 to {count - 1}")
        known = [count if label is None else label for label in labels]
        return {"label": torch.tensor(known, device=self.device)} if count else {}

    def _labels(self, draw: SeededDraw, labels: Sequence[int] | None) -> Sequence[int | None]:
        if labels is None and self.classes:
            return draw.labels(len(self.classes))
        return [None] * len(draw.images) if labels is None else labels


def check_images(x: Tensor, flat: bool = False) -> None:
    """Refuse what a broken model or a broken precision draws: values that are not finite, or nothing but flat images.

    Args:
        x: images (B, C, H, W).
        flat: whether the training images are flat too.

    Raises:
        NumericsError: with advice.
    """
    hint = "Try --precision float32, or another model; ddpm train keeps the last good weights of a run."
    if not bool(torch.isfinite(x).all()):
        raise NumericsError("the samples hold values that are not finite numbers", hint)
    if not flat and float(x.flatten(1).std(1, correction=0).max()) < FLAT:
        raise NumericsError("every sample is a flat image without any content", hint)


def evaluation_mode(denoiser: Denoiser, device: torch.device, dtype: torch.dtype) -> Denoiser:
    """The denoiser ready for sampling: weights cast once, channels last, nothing that learns."""
    if not all(bool(torch.isfinite(p).all()) for p in denoiser.parameters()):
        raise ModelError("the model holds weights that are not finite numbers", "Use --weights raw, or another model.")
    denoiser.network.to(device, dtype).to(memory_format=torch.channels_last)
    return denoiser.eval().requires_grad_(False)
