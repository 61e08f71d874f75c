"""Which method draws best with how many network evaluations, found by trying.

Invariant: every contender draws the same images of the same seed, from the same starting noise, so that luck meets all
of them alike; and those that are compared were judged by equally many.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ddpm_cli import drawing, features
from ddpm_cli.config import SAMPLERS, Sampler, SamplerConfig
from ddpm_cli.drawing import Ready
from ddpm_cli.errors import NumericsError
from ddpm_cli.evaluation.references import Reference
from ddpm_cli.evaluation.scores import BOOTSTRAPS, Distance, distance
from ddpm_cli.metrics import frechet, moments
from ddpm_cli.sampling import DiffusionModel

EVALUATIONS = (5, 10, 20)  # that methods are tried with
AFFORDABLE = 20  # evaluations that a default may take
# In each but the last, the better half of the contenders goes on, with twice the images. With four, the first has an
# eighth of them, and among 375 digits a single odd one decides.
ROUNDS = 3


class Contender(NamedTuple):
    """A way to draw.

    Attributes:
        sampler: method, steps and guidance.
        evaluations: passes of the network for one image.
        budget: for which it competes, at least its evaluations.
    """

    sampler: SamplerConfig
    evaluations: int
    budget: int


class Trial(NamedTuple):
    """What was found of a contender.

    Attributes:
        contender: who.
        images: how many it was judged by in its last round.
        distance: Fréchet distance to real images in that round.
        finished: whether that was the last round, with all images.
    """

    contender: Contender
    images: int
    distance: Distance
    finished: bool


Features = NDArray[np.float32]


def contenders(
    model: DiffusionModel, methods: Sequence[Sampler] = tuple(SAMPLERS), budgets: Sequence[int] = EVALUATIONS
) -> list[Contender]:
    """Every method with as many steps as each budget allows; what it does to clean images stays as it is.

    Args:
        model: to draw from.
        methods: which.
        budgets: network evaluations an image.
    """
    found: list[Contender] = []
    base = model.sampler
    for budget in budgets:
        for name in methods:
            config = replace(base, name=name, steps=None, spacing=None, eta=None, variance=None)
            # A method asks once or twice a step, guided questions count two, and plans may merge levels.
            for steps in range(budget, 0, -1):
                there = replace(model, sampler=replace(config, steps=steps))
                if there.evaluations <= budget:
                    found.append(Contender(there.sampler, there.evaluations, budget))
                    break
    return found


def halve(
    all_of_them: Sequence[Contender],
    number: int,
    draw: Callable[[Contender, range], Features],
    judge: Callable[[Features], Distance],
) -> Iterator[Trial]:
    """Successive halving within each budget: all draw few images, the better half of them twice as many, and so on.

    Args:
        all_of_them: the contenders.
        number: images of the last round.
        draw: what is seen in some images of a contender, by their numbers, (N, d).
        judge: how far that is from real images.

    Yields:
        What was found of each contender, once it leaves or has finished.

    References:
        Jamieson and Talwalkar 2016, algorithm 1.
    """
    counts = sorted({max(2, number >> later) for later in range(ROUNDS)})
    for budget in sorted({each.budget for each in all_of_them}):
        left = [each for each in all_of_them if each.budget == budget]
        seen: dict[Contender, Features] = {}
        before = 0
        for count in counts:
            for each in left:
                new = draw(each, range(before, count))
                seen[each] = np.concatenate([seen[each], new]) if each in seen else new
            found = sorted(((judge(seen[each]), each) for each in left), key=lambda pair: pair[0].value)
            going_on = len(found) if count == number else -(-len(found) // 2)
            for far, each in found if count == number else found[going_on:]:
                yield Trial(each, count, far, finished=count == number)
                del seen[each]
            left, before = [each for _, each in found[:going_on]], count


def work(all_of_them: Sequence[Contender], number: int) -> int:
    """Network evaluations that :func:`halve` takes, of all images."""
    counts = sorted({max(2, number >> later) for later in range(ROUNDS)})
    total = 0
    for budget in {each.budget for each in all_of_them}:
        left, before = [each.evaluations for each in all_of_them if each.budget == budget], 0
        for count in counts:
            total += (count - before) * sum(left)
            # Who goes on is not known yet, and all of a budget cost nearly the same.
            left, before = sorted(left, reverse=True)[: -(-len(left) // 2)], count
    return total


def sweep(
    ready: Ready,
    against: Reference,
    all_of_them: Sequence[Contender],
    number: int,
    seed: int,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Iterator[Trial]:
    """Try contenders on a model, beside real images.

    Args:
        ready: the model.
        against: real images that a feature network knows.
        all_of_them: the contenders.
        number: images of the last round.
        seed: of the images.
        progress: takes network evaluations done and in all.
    """
    network = against.network
    real = moments(features.see_whole(network, against.images).features)
    done, total = 0, work(all_of_them, number)

    def draw(contender: Contender, images: range) -> Features:
        nonlocal done
        model = replace(ready.model, sampler=contender.sampler)
        share = len(images) * contender.evaluations
        try:
            found = drawing.draw(
                model, seed, images, progress=lambda part, whole: progress(done + share * part // whole, total)
            ).images
        except NumericsError:
            found = None
        done += share
        progress(done, total)
        return (
            np.full((len(images), len(real.mean)), np.nan, np.float32) if found is None else network.see(found).features
        )

    def judge(seen: Features) -> Distance:
        # Whose numbers break is as far as can be; nobody else is lost for it.
        if not np.isfinite(seen).all():
            return Distance(math.inf, math.inf, [math.inf, math.inf])
        return distance(seen, real, seed)

    yield from halve(all_of_them, number, draw, judge)


def best(found: Sequence[Trial], affordable: int = AFFORDABLE) -> Trial | None:
    """Whose images are nearest to real ones, of those that finished within so many evaluations; None: nobody did."""
    within = [each for each in front(found) if each.contender.evaluations <= affordable]
    return min(within, key=lambda each: each.distance.value, default=None)


def front(found: Sequence[Trial]) -> list[Trial]:
    """Those that finished and that no other of them beats in both quality and evaluations, the cheapest first."""
    finished = [each for each in found if each.finished and math.isfinite(each.distance.value)]
    finished.sort(key=lambda each: (each.contender.evaluations, each.distance.value))
    kept: list[Trial] = []
    for each in finished:
        if not kept or each.distance.value < kept[-1].distance.value:
            kept.append(each)
    return kept


def document(trial: Trial, timesteps: int) -> dict[str, Any]:
    """A trial as plain JSON values."""
    sampler = trial.contender.sampler
    steps, spacing = sampler.steps_and_spacing(timesteps)
    about: Mapping[str, Any] = {"sampler": sampler.name, "steps": steps, "spacing": spacing}
    return {
        **about,
        "evaluations": trial.contender.evaluations,
        "images": trial.images,
        "finished": trial.finished,
        "frechet": trial.distance._asdict(),
    }


def about(against: Reference) -> dict[str, Any]:
    """What the protocol of a sweep tells of how distances are measured."""
    network = against.network
    return {"features": {"data": network.data, "id": network.id}, "bootstraps": BOOTSTRAPS}


def floor(against: Reference, number: int) -> float | None:
    """What so many real images get that are not among the reference's; None: none are known."""
    apart = against.apart(number)
    if apart is None:
        return None
    network = against.network
    real = moments(features.see_whole(network, against.images).features)
    return frechet(moments(network.see(apart.images).features), real)
