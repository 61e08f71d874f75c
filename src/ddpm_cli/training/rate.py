"""The learning rate of every step, for a budget of steps and for one of minutes.

With a budget of steps the rate depends on the step and the budget alone. With a budget of minutes the last step is an
estimate that changes while the run goes on. Each change is a :class:`Revision`, and from its step on the rate follows
the revision. Invariant: a revision never makes the rate jump.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from ddpm_cli.config import TrainConfig


class Revision(NamedTuple):
    """An estimate of a run's last step, and the learning rate from then on.

    The rate goes in a straight line from `rate` at `step` to `top` at `top_step`, which is the warm-up, then in another
    to 0 at `last`.

    Attributes:
        step: steps done when it was made.
        rate: learning rate of that step.
        last: steps of the whole run.
        top_step: where the warm-up ends; `step` if it is over.
        top: learning rate there.
        seconds: trained when it was made.
    """

    step: int
    rate: float
    last: int
    top_step: int
    top: float
    seconds: float


def learning_rate(step: int, steps: int | None, config: TrainConfig, revisions: Sequence[Revision] = ()) -> float:
    """The learning rate of a step: a linear rise over the warm-up, then a fall to 0 at the end.

    Args:
        step: 0 is the first.
        steps: of the whole run; None: not known yet, and the rate stays on its rise or at its peak.
        config: peak, warm-up and decay.
        revisions: of the last step, in order; the last one replaces `steps`.
    """
    if revisions:
        return _revised(step, revisions[-1], config)
    # A short run warms up over a tenth of itself at most.
    warmup = min(config.warmup, steps // 10) if steps else config.warmup
    if step < warmup:
        return config.lr * (step + 1) / (warmup + 1)
    if steps is None or config.decay == "constant":
        return config.lr
    left = max(steps - step, 0) / max(steps - warmup, 1)
    return config.lr * (left if config.decay == "linear" else (1 - math.cos(math.pi * left)) / 2)


def _revised(step: int, at: Revision, config: TrainConfig) -> float:
    if step < at.top_step:
        return at.rate + (at.top - at.rate) * (step - at.step) / (at.top_step - at.step)
    if config.decay == "constant":
        return at.top
    return at.top * max(at.last - step, 0) / max(at.last - at.top_step, 1)


def revised(
    step: int, last: int, seconds: float, steps: int | None, config: TrainConfig, revisions: Sequence[Revision]
) -> Revision:
    """A new estimate of the last step: the rate falls from its present value to 0 there.

    During the warm-up it still rises to its peak first, over what is left of the warm-up or a tenth of the steps left,
    whichever is less.

    Args:
        step: steps done.
        last: steps of the whole run, as estimated now; at least `step`.
        seconds: trained so far.
        steps: the estimate, or budget, until now; None: there is none.
        config: peak, warm-up and decay.
        revisions: earlier ones, in order.
    """
    present = learning_rate(step, steps, config, revisions)
    if revisions:
        warmup, top = revisions[-1].top_step, revisions[-1].top
    else:
        warmup, top = config.warmup if steps is None else 0, config.lr
    if step >= warmup:
        return Revision(step, present, last, step, present, seconds)
    return Revision(step, present, last, step + max(1, min(warmup - step, (last - step) // 10)), top, seconds)


def extended(step: int, last: int, seconds: float, present: float, config: TrainConfig) -> Revision:
    """The revision for a budget that was changed when the run was resumed.

    The rate rises again if it is below that of a run planned for `last` steps from the start, over the warm-up or a
    tenth of the steps left, whichever is less; so a finished run, whose rate is 0, can be trained further.

    Args:
        step: steps done.
        last: steps of the whole run, as estimated now; above `step`.
        seconds: trained so far.
        present: learning rate until now.
        config: peak, warm-up and decay.
    """
    planned = learning_rate(step, last, config)
    if present >= planned:
        return Revision(step, present, last, step, present, seconds)
    rise = max(1, min(config.warmup, (last - step) // 10))
    return Revision(step, present, last, step + rise, planned, seconds)
