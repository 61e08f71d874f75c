"""The sampling loop."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from ddpm_cli.denoiser import Condition, Denoises
from ddpm_cli.forward import as_tensors, eps_from_clean, q_sample
from ddpm_cli.sampling.rules import Move, Place, Rule
from ddpm_cli.schedule import Floats, Level


class Step(NamedTuple):
    """A place on the walk.

    Attributes:
        level: where it is; level 0 at the last.
        x: the images there, (B, C, H, W).
        clean: the clean image estimated on the way there; at level 0 the same as x up to rounding.
    """

    level: Level[Tensor]
    x: Tensor
    clean: Tensor


@torch.inference_mode()
def sample(
    denoiser: Denoises,
    x_T: Tensor,
    plan: Sequence[Level[Floats]],
    draw: Callable[[str, int], Tensor],
    rule: Rule,
    condition: Condition | None = None,
    project: Callable[[Tensor, Level[Tensor]], Tensor] | None = None,
) -> Iterator[Step]:
    """Walk from noise to images, yielding after every step.

    Progress, animations and early stop live in the caller; closing the generator ends the walk.

    Args:
        denoiser: answers the clean-image question.
        x_T: where to start, (B, C, H, W); for a plan that begins at T, standard normal noise.
        plan: levels, strictly falling, the last one clean.
        draw: standard normal noise of x_T's shape for ("step", number).
        rule: how to get from a level to the next.
        condition: what the images shall be.
        project: applied to x after every step, with its level; where inpainting puts back what is known.

    Raises:
        ValueError: the plan does not fall strictly.
    """
    levels = [as_tensors(level) for level in plan]
    if any(not now.log_snr < after.log_snr for now, after in pairwise(levels)):
        raise ValueError("a plan must fall strictly")
    known = condition or {}

    def ask(x: Tensor, level: Level[Tensor]) -> Tensor:
        return denoiser(x, level, known).clean

    x = x_T
    before: tuple[Place, ...] = ()
    for number, (now, after) in enumerate(pairwise(levels)):
        clean, fraction = denoiser(x, now, known)
        x = rule(Move(x, clean, now, after, partial(draw, "step", number), before, ask, fraction))
        if project is not None:
            x = project(x, after)
        before = (Place(now, clean), *before)[:2]
        yield Step(after, x, clean)


@torch.inference_mode()
def invert(
    denoiser: Denoises, x_0: Tensor, plan: Sequence[Level[Floats]], condition: Condition | None = None
) -> Iterator[Step]:
    """Walk from images to the noise that deterministic sampling makes them of: DDIM upwards.

    The same rule as downwards, x_t = signal_t clean + noise_t eps, and so as inexact: going down the same plan
    comes back to first order in its steps. Level 0 has no clean-image question: the step from it asks at the
    level that it goes to, of signal * x_0.

    Args:
        denoiser: answers the clean-image question.
        x_0: images, (B, C, H, W), in [-1, 1].
        plan: levels as for :func:`sample`, strictly falling, the last one clean; walked from its end to its beginning.
        condition: what the images show.

    Raises:
        ValueError: the plan does not fall strictly, or does not end at level 0.

    References:
        Song et al. 2021, section 5.4; Dhariwal and Nichol 2021, appendix F.
    """
    levels = [as_tensors(level) for level in reversed(plan)]
    if any(not after.log_snr < now.log_snr for now, after in pairwise(levels)) or float(levels[0].t) != 0:
        raise ValueError("a plan must fall strictly to level 0")
    known, x = condition or {}, x_0
    for now, after in pairwise(levels):
        if float(now.t) == 0:
            clean = denoiser(after.signal * x, after, known).clean
            x = q_sample(x, after, eps_from_clean(after.signal * x, clean, after))
        else:
            clean = denoiser(x, now, known).clean
            x = q_sample(clean, after, eps_from_clean(x, clean, now))
        yield Step(after, x, clean)
