"""Changing images with a model that has learned to draw: variations, repainting, and ways from one to another.

Nothing is trained for it. Each is the one sampling loop, begun elsewhere than in noise, or held to what is known.
All take x_0 in [-1, 1], (B, C, H, W), and yield the steps of one batch, the first of them the place they start from.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from ddpm_cli import machine
from ddpm_cli.config import INPAINT_ROUNDS
from ddpm_cli.denoiser import Blend
from ddpm_cli.errors import UsageError
from ddpm_cli.forward import as_tensors, q_sample, transition
from ddpm_cli.sampling.loop import Step, invert, sample
from ddpm_cli.sampling.model import DiffusionModel
from ddpm_cli.sampling.rules import rule
from ddpm_cli.schedule import Floats, Level


class Draw(Protocol):
    """Standard normal noise for a batch, by purpose and step."""

    def __call__(self, purpose: str, step: int = 0) -> Tensor: ...


def below(model: DiffusionModel, strength: float) -> list[Level[Floats]]:
    """The plan of a model from a level on: from t = strength T, but 1 at least, over the levels of its plan below.

    Levels just below the start are left out: a step much smaller than the one after it would make multistep methods
    extrapolate far beyond what they know.

    Args:
        model: with its sampler.
        strength: above 0, up to 1, which is the whole plan.

    Raises:
        UsageError: out of range.
    """
    if not 0 < strength <= 1:
        raise UsageError(f"strength is {strength}, expected a number above 0, up to 1")
    levels = model.plan()
    if strength == 1:
        return levels
    start = model.schedule.level(max(1.0, strength * model.schedule.timesteps))
    later = [level for level in levels if level.t < start.t]
    while len(later) > 1 and _much_nearer(start, later[0], later[1]):
        del later[0]
    return [start, *later]


def _much_nearer(start: Level[Floats], first: Level[Floats], second: Level[Floats]) -> bool:
    """Whether the way to a level is less than half of the way from there to the next, in log-SNR, or none at all."""
    gap = first.log_snr - start.log_snr
    return bool(gap < 1e-6 or (second.t > 0 and 2 * gap < second.log_snr - first.log_snr))


@machine.on_one_thread
@torch.inference_mode()
def vary(
    model: DiffusionModel, x_0: Tensor, strength: float, draw: Draw, labels: Sequence[int | None]
) -> Iterator[Step]:
    """Image to image: noise it to the level t = strength T, and sample from there.

    Little strength keeps more of the image; at 1 as much is left as the first level of the plan leaves, 1 % of its
    amplitude by default.

    References:
        Meng et al. 2022 (SDEdit), section 3.1.
    """
    levels = below(model, strength)
    start = as_tensors(levels[0])
    x = q_sample(x_0, start, draw("start"))
    yield Step(start, x, x_0)
    chosen = rule(model.sampler, model.denoiser.learned_variance)
    yield from sample(model.asked, x, levels, draw, chosen, model.condition(labels))


@machine.on_one_thread
@torch.inference_mode()
def inpaint(
    model: DiffusionModel,
    x_0: Tensor,
    mask: Tensor,
    draw: Draw,
    labels: Sequence[int | None],
    rounds: int = INPAINT_ROUNDS,
) -> Iterator[Step]:
    """Repaint what a mask covers, so that it fits what is around it.

    At every level what is known is put back, with fresh noise of that level. Put back alone, it came from elsewhere
    than what is being drawn, and the two do not fit. So each step but the last is made several times, with the
    image noised again to the level it came from, and drawn and known can come to terms. Multistep methods then know
    nothing of the steps before: each is a step of first order.

    Args:
        model: with its sampler.
        x_0: the images.
        mask: 1 where to paint, 0 where to keep, broadcast over x_0.
        draw: the noise.
        labels: what is known of the images.
        rounds: times that each step is made, 1 or more.

    References:
        Lugmayr et al. 2022 (RePaint), algorithm 1, with a jump of one step.
    """
    levels, asked, condition = model.plan(), model.asked, model.condition(labels)
    chosen = rule(model.sampler, model.denoiser.learned_variance)
    made, put_back = 0, itertools.count()

    def known_back(x: Tensor, level: Level[Tensor]) -> Tensor:
        return torch.where(mask > 0, x, q_sample(x_0, level, draw("known", next(put_back))))

    start = as_tensors(levels[0])
    x = known_back(draw("start"), start)
    yield Step(start, x, torch.zeros_like(x))
    if rounds == 1:
        yield from sample(asked, x, levels, draw, chosen, condition, known_back)
        return
    for now, after in pairwise(levels):
        for last in [*[False] * (rounds - 1 if after.t > 0 else 0), True]:
            made += 1
            numbered = _from(draw, made)
            step = next(sample(asked, x, [now, after], numbered, chosen, condition, known_back))
            x = step.x if last else _up(step, as_tensors(now), draw("again", made))
        yield step


def _from(draw: Draw, number: int) -> Callable[[str, int], Tensor]:
    """The noise of a later step, for a walk of one step that counts from 0."""
    return lambda purpose, step: draw(purpose, number + step)


def _up(step: Step, level: Level[Tensor], eps: Tensor) -> Tensor:
    mean, variance = transition(step.x, step.level, level)
    return mean + variance.sqrt() * eps


def evaluations_of_inpainting(model: DiffusionModel, rounds: int) -> int:
    """Passes of the network for one image repainted."""
    levels = model.plan()
    return sum(
        (rounds if after.t > 0 else 1) * model.evaluations_along([now, after]) for now, after in pairwise(levels)
    )


# --- from one to another ---------------------------------------------------------------------------------------------


def slerp(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """The way from a to b on a great circle, for each of a batch; between two draws of noise all of it is like noise.

    (sin((1 - share) angle) a + sin(share angle) b) / sin(angle), exactly a and b at its ends; straight where the two
    have the same direction, or opposite ones.

    Args:
        a: (B, ...).
        b: likewise.
        share: (B,), 0 to 1.

    References:
        Shoemake 1985; for the noise of a deterministic sampler Song et al. 2021, section 5.3.
    """
    share = share.to(a.dtype).reshape(-1, *[1] * (a.ndim - 1))
    exact = torch.float32 if a.device.type == "mps" else torch.float64  # which MPS does not have
    cosine = torch.nn.functional.cosine_similarity(a.flatten(1).to(exact), b.flatten(1).to(exact), dim=1)
    angle = torch.acos(cosine.clamp(-1, 1)).reshape(share.shape)
    sine = angle.sin()
    round_ = [(torch.sin(part * angle) / sine).to(a.dtype) for part in (1 - share, share)]
    straight = sine < 1e-6
    first, second = (
        torch.where(straight, part, curved) for part, curved in zip((1 - share, share), round_, strict=True)
    )
    return first * a + second * b


class Between:
    """Noise between two draws: at its ends exactly the one or the other, and standard normal all the way.

    Args:
        a: noise for a batch.
        b: of another.
        share: of b, (B,), 0 to 1.
    """

    def __init__(self, a: Draw, b: Draw, share: Tensor) -> None:
        self.a, self.b, self.share = a, b, share

    def __call__(self, purpose: str, step: int = 0) -> Tensor:
        return slerp(self.a(purpose, step), self.b(purpose, step), self.share)


@machine.on_one_thread
@torch.inference_mode()
def between(
    model: DiffusionModel,
    x: Tensor,
    levels: Sequence[Level[Floats]],
    draw: Draw,
    labels: tuple[Sequence[int | None], Sequence[int | None]],
    share: Tensor,
) -> Iterator[Step]:
    """Sample from given noise, under a mixture of two classes for each image.

    Args:
        model: with its sampler.
        x: images at the first of the levels.
        levels: to walk along.
        draw: the noise of the steps.
        labels: of each image, at both ends.
        share: of the second, (B,).
    """
    start, denoiser = as_tensors(levels[0]), model.asked
    if list(labels[0]) != list(labels[1]):
        denoiser = Blend(denoiser, model.condition(labels[1]), share)
    yield Step(start, x, torch.zeros_like(x))
    chosen = rule(model.sampler, model.denoiser.learned_variance)
    yield from sample(denoiser, x, levels, draw, chosen, model.condition(labels[0]))


@machine.on_one_thread
@torch.inference_mode()
def noise_of(
    model: DiffusionModel, x_0: Tensor, levels: Sequence[Level[Floats]], labels: Sequence[int | None]
) -> Iterator[Step]:
    """From images to the noise that a deterministic sampler makes them of, without guidance; all steps up to it."""
    plain = replace(model, guide=None, sampler=model.sampler.changed(None, {"guidance": 1.0}))
    yield from invert(plain.asked, x_0, levels, plain.condition(labels))
