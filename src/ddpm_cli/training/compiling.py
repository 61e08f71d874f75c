"""Whether compiling a network pays: measured on a few steps of the run itself, and remembered.

Compiled kernels save memory traffic and calls, and cost a minute to make. How much they save depends on processor,
network and batch, from a half to less than nothing, so it is not guessed.
"""

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import NamedTuple

from ddpm_cli import machine
from ddpm_cli.config import TrainConfig
from ddpm_cli.training.batches import Batches
from ddpm_cli.training.loop import train
from ddpm_cli.training.state import TrainState


@dataclass(frozen=True)
class Trial:
    """What a few steps showed, in seconds.

    Attributes:
        eager: of a step without compiling.
        compiled: of a step with it.
        compiling: that it took.
    """

    eager: float
    compiled: float
    compiling: float

    def saved(self, steps: int) -> float:
        """Seconds that compiling saves a run of so many steps; below 0 where it costs more than it saves."""
        return steps * (self.eager - self.compiled) - self.compiling


class Length(NamedTuple):
    """How long a run is.

    Attributes:
        steps: None where only its minutes are known.
        minutes: None where its steps are.
        flops: of the network for one image forward.
    """

    steps: int | None
    minutes: float | None
    flops: int


LONG = 20.0  # minutes of a run that are worth a trial of one or two
ENOUGH = 500  # steps likewise
FASTEST = 1e12  # FLOP a second that no CPU trains at: what would be over soon even then needs no trial


def pays(
    fresh: Callable[[], TrainState],
    batches: Batches,
    config: TrainConfig,
    length: Length,
    recipe: str,
    say: Callable[[str], None],
) -> bool:
    """Whether compiling saves more time of a run than it takes, from a trial where the run may be long.

    Args:
        fresh: makes a state of the run's network on its device.
        batches: of the run.
        config: its recipe.
        length: how long it is.
        recipe: what the speed depends on beside batch and machine: network, precision.
        say: takes sentences for the user.
    """
    least = length.minutes or 0.0
    if length.steps is not None:  # a step back costs two forward
        on_cpu = batches.device.type == "cpu"
        work = 3 * length.flops * config.batch_size * length.steps
        least = work / FASTEST / 60 if on_cpu else math.inf
    if least < LONG or (length.steps is not None and length.steps < ENOUGH):
        say("not compiling: the run is too short for it to pay")
        return False
    if machine.compiling_obstacle(batches.device):
        return True  # the caller reports the obstacle
    key = f"{machine.circumstances(batches.device)} batch {config.batch_size} in {config.accumulate} {recipe}"
    try:
        trial = Trial(**machine.remembered("compiling", key))  # type: ignore[arg-type]  # TypeError where it is none
    except TypeError:
        say("trying out whether compiling pays, for a minute or two (--compile on or off skips this)")
        trial = try_out(fresh, batches, config)
        machine.remember("compiling", key, asdict(trial))
    steps = length.steps or round(60 * (length.minutes or 0.0) / trial.eager)
    saved = trial.saved(steps)
    found = f"{trial.compiled:.3g} s a step instead of {trial.eager:.3g} s, after {trial.compiling:.0f} s of compiling"
    say(f"compiling pays: {found}" if saved > 0 else f"not compiling: it does not pay here ({found})")
    return saved > 0


def try_out(fresh: Callable[[], TrainState], batches: Batches, config: TrainConfig) -> Trial:
    """Train a few steps without compiling and with it, on a state that is then forgotten.

    Args:
        fresh: makes a state of the run's network on its device.
        batches: of the run.
        config: its recipe.
    """
    state = fresh()
    eager = seconds_a_step(state, batches, config)
    begun = time.perf_counter()
    machine.compile_network(state.denoiser.network)
    compiled = seconds_a_step(state, batches, config)
    # All that the second half took beyond its steps: the first of them waits for the compiler.
    return Trial(eager, compiled, max(0.0, time.perf_counter() - begun - STEPS * compiled))


STEPS = 6  # of a measurement; the first is left out of it


def seconds_a_step(state: TrainState, batches: Batches, config: TrainConfig) -> float:
    """How long a step takes here, the median of a few; changes the state."""
    times = []
    for report in train(replace(state, steps=state.step + STEPS), batches, config):
        float(report.loss)  # waits for the device
        times.append(time.perf_counter())
    return statistics.median(after - before for before, after in pairwise(times))
