"""Images changed with a model, as pixels: varied, repainted, led from one to another.

Invariant: what becomes of an image does not depend on the others beside it: its noise depends on the seed, its number
and that of the result alone.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ddpm_cli.config import INPAINT_ROUNDS
from ddpm_cli.drawing import LEAST, Drawing, Ready, check_memory, collect
from ddpm_cli.errors import UsageError
from ddpm_cli.pixels import Pixels, from_uint8
from ddpm_cli.sampling import DiffusionModel, SeededDraw, Step, edits
from ddpm_cli.schedule import Floats, Level

Progress = Callable[[int, int], None]


def _silent(_done: int, _all: int) -> None:
    """No progress."""


class Changed(NamedTuple):
    """What became of images.

    Attributes:
        drawing: the images, row by row; its labels are None.
        evaluations: passes of the network for one image; where classes are mixed, for one that is a mixture.
        inversion: passes for each image that was given, to find its noise; 0: that was not asked for.
    """

    drawing: Drawing
    evaluations: int
    inversion: int = 0


def for_few(ready: Ready) -> DiffusionModel:
    """A model asked of few images at once, since few are edited, whose batches would mostly be filling on a CPU."""
    if ready.model.device.type != "cpu":
        return ready.model
    return replace(ready.model, inner_batch=LEAST)


def vary(
    model: DiffusionModel,
    images: Pixels,
    labels: Sequence[int | None],
    count: int,
    strength: float,
    seed: int,
    watched: int = 0,
    progress: Progress = _silent,
    images_are: Sequence[int] | None = None,
) -> Changed:
    """Variations of images: :func:`ddpm_cli.sampling.edits.vary`.

    Args:
        model: that knows such images.
        images: uint8 (N, C, H, W), of the model's shape.
        labels: the class of each; None: not known.
        count: variations of each.
        strength: above 0, up to 1.
        seed: of the noise.
        watched: results to keep every step of, from the first on.
        progress: takes steps done and in all, of all images.
        images_are: their numbers, in their set say; None: 0, 1, 2, ...

    Returns:
        N x count images: those of the first image, then those of the second, ...

    Raises:
        UsageError: a strength out of range, or a class that the model does not have.
    """
    levels = edits.below(model, strength)

    def change(x_0: Tensor, draw: SeededDraw, known: Sequence[int | None]) -> Iterator[Step]:
        return edits.vary(model, x_0, strength, draw, known)

    walk = _walk(model, images, labels, count, seed, images_are or range(len(images)), change)
    drawing = collect(walk, model, len(images) * count, len(levels) - 1, watched, progress)
    return Changed(drawing, model.evaluations_along(levels))


def inpaint(
    model: DiffusionModel,
    images: Pixels,
    mask: Pixels,
    labels: Sequence[int | None],
    count: int,
    seed: int,
    rounds: int = INPAINT_ROUNDS,
    watched: int = 0,
    progress: Progress = _silent,
    images_are: Sequence[int] | None = None,
) -> Changed:
    """Images with what a mask covers painted anew: :func:`ddpm_cli.sampling.edits.inpaint`. The rest keeps its pixels.

    Args:
        model: that knows such images.
        images: uint8 (N, C, H, W), of the model's shape.
        mask: bool or 0 and 1, (1, H, W): where to paint.
        labels: the class of each; None: not known.
        count: results for each.
        seed: of the noise.
        rounds: times that each step is made.
        watched: results to keep every step of, from the first on.
        progress: takes steps done and in all, of all images.
        images_are: their numbers, in their set say; None: 0, 1, 2, ...

    Returns:
        N x count images: those of the first image, then those of the second, ...

    Raises:
        UsageError: a mask that covers nothing, or a class that the model does not have.
    """
    if not mask.any():
        raise UsageError("the mask covers nothing", "White is repainted, black is kept.")
    covered = torch.from_numpy(mask[None] > 0).to(model.device)

    def change(x_0: Tensor, draw: SeededDraw, known: Sequence[int | None]) -> Iterator[Step]:
        return edits.inpaint(model, x_0, covered, draw, known, rounds)

    walk = _walk(model, images, labels, count, seed, images_are or range(len(images)), change)
    drawing = collect(walk, model, len(images) * count, model.steps, watched, progress)
    return Changed(drawing, edits.evaluations_of_inpainting(model, rounds))


APART = 1_000_000  # images of a seed between two images that are edited: more results than anybody asks for


def _walk(
    model: DiffusionModel,
    images: Pixels,
    labels: Sequence[int | None],
    count: int,
    seed: int,
    images_are: Sequence[int],
    change: Callable[[Tensor, SeededDraw, Sequence[int | None]], Iterator[Step]],
) -> Callable[[slice], Iterator[Step]]:
    """The walk of a part of the results, so many of each image, for :func:`ddpm_cli.drawing.collect`."""
    check_memory(model, len(images) * count)  # before the list of them is made
    places = list(product(range(len(images)), range(count)))

    def walk(part: slice) -> Iterator[Step]:
        which = [image for image, _ in places[part]]
        numbers = [images_are[image] * APART + number for image, number in places[part]]
        draw = SeededDraw(seed, numbers, model.shape, model.device)
        return change(_clean(images, which, model), draw, [labels[image] for image in which])

    return walk


class End(NamedTuple):
    """Where a way between images begins or ends.

    Attributes:
        number: image of the seed, or of the images given.
        label: its class; None: not known, or none.
    """

    number: int
    label: int | None


def ways(
    model: DiffusionModel,
    legs: Sequence[tuple[End, End]],
    frames: int,
    seed: int,
    images: Pixels | None = None,
    labels: Sequence[int | None] = (),
    strength: float = 1.0,
    progress: Progress = _silent,
) -> Changed:
    """Images on the ways between others: noise on a great circle between theirs, classes mixed in proportion.

    Between images of a seed, both ends are those that ``ddpm sample`` draws, whatever the method. Images that are given
    are first led to their noise by a deterministic method, which brings them back nearly as they were.

    Args:
        model: with its sampler.
        legs: both ends of each way.
        frames: images on a way, its ends included, 2 or more.
        seed: of the noise.
        images: uint8 (N, C, H, W), of the model's shape; None: those of the seed.
        labels: the class of each that is given, under which it is led to its noise; None: not known.
        strength: how far images that are given are led, as in :func:`vary`.
        progress: takes steps done and in all, of all images.

    Returns:
        len(legs) x frames images, way by way.

    Raises:
        UsageError: images given and a method that is not deterministic, a strength out of range, or a class that the
            model does not have.
    """
    levels = edits.below(model, strength) if images is not None else model.plan()
    steps = len(levels) - 1
    found = None
    if images is not None:
        if not model.sampler.is_deterministic:
            raise UsageError(
                f"between images, noise must say all of them, and {model.sampler.name} adds more of it on its way",
                "Take --sampler ddim, dpm++2m or unipc.",
            )
        found = _noise_of(model, images, levels, labels)
    check_memory(model, len(legs) * frames)
    places = [(a, b, share) for (a, b), share in product(legs, np.linspace(0, 1, frames))]

    def walk(part: slice) -> Iterator[Step]:
        first, second, shares = zip(*places[part], strict=True)
        share = torch.tensor(shares, dtype=torch.float32, device=model.device)
        here, there = ([end.number for end in ends] for ends in (first, second))
        draw, other = (SeededDraw(seed, numbers, model.shape, model.device) for numbers in (here, there))
        noise: edits.Draw = draw if here == there else edits.Between(draw, other, share)
        x = noise("start") if found is None else edits.slerp(found[here], found[there], share)
        classes = ([end.label for end in first], [end.label for end in second])
        return edits.between(model, x, levels, noise, classes, share)

    blended = any(a.label != b.label for a, b in legs)
    evaluations = model.evaluations_along(levels) * (2 if blended else 1)
    return Changed(collect(walk, model, len(places), steps, 0, progress), evaluations, 0 if found is None else steps)


def _noise_of(
    model: DiffusionModel, images: Pixels, levels: Sequence[Level[Floats]], labels: Sequence[int | None]
) -> Tensor:
    """The noise of images, (N, C, H, W)."""
    parts = []
    for start in range(0, len(images), model.batch_size):
        part = slice(start, start + model.batch_size)
        x_0 = _clean(images, range(len(images))[part], model)
        for step in edits.noise_of(model, x_0, levels, labels[part]):
            x = step.x
        parts.append(x)
    return torch.cat(parts)


def _clean(images: Pixels, which: Sequence[int], model: DiffusionModel) -> Tensor:
    """Some images as the model sees them."""
    return torch.from_numpy(from_uint8(images[list(which)])).float().to(model.device)
