"""The sampling loop."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from ddpm_cli.denoiser import Condition, Denoises
from ddpm_cli.forward import as_tensors
from ddpm_cli.sampling.rules import Move, Rule
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

    x, before = x_T, None
    for number, (now, after) in enumerate(pairwise(levels)):
        clean, fraction = denoiser(x, now, known)
        x = rule(Move(x, clean, now, after, partial(draw, "step", number), before, ask, fraction))
        if project is not None:
            x = project(x, after)
        before = now, clean
        yield Step(after, x, clean)
