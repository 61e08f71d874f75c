"""Noise belongs to an image of a seed, and to nothing else."""

import math
from itertools import combinations

import pytest
import torch

from ddpm_cli.sampling import SeededDraw
from ddpm_cli.seeds import generator

SHAPE = (1, 4, 4)


def test_an_image_gets_the_same_noise_in_any_batch() -> None:
    together = SeededDraw(3, range(10), SHAPE)("step", 5)
    assert together.dtype == torch.float32
    assert together.shape == (10, *SHAPE)
    for images in ([7], [7, 2], [9, 8, 7, 0], range(5, 10)):
        assert torch.equal(SeededDraw(3, images, SHAPE)("step", 5), together[list(images)])


def test_seeds_images_purposes_and_steps_share_nothing() -> None:
    noise = [
        row
        for seed in (0, 1, 2, 2**63 - 1)
        for purpose, step in (("start", 0), ("step", 0), ("step", 1), ("step", 999))
        for row in SeededDraw(seed, range(12), SHAPE)(purpose, step)
    ]
    assert len({tuple(row.flatten().tolist()) for row in noise}) == len(noise)
    values = torch.stack(noise)
    assert len(values.unique()) > 0.999 * values.numel()  # nor is one a shifted copy of another


def test_neighbouring_seeds_share_no_image() -> None:
    images = {
        seed: {tuple(row.flatten().tolist()) for row in SeededDraw(seed, range(100), SHAPE)("start")}
        for seed in range(5)
    }
    assert all(len(found) == 100 for found in images.values())
    for a, b in combinations(images, 2):
        assert not images[a] & images[b]


def test_keys_are_not_run_together() -> None:
    keys: list[tuple[int | str, ...]] = [("sample", 1, 23), ("sample", 12, 3), ("sample", 123), ("sample1", 23)]
    assert len({float(generator(*key).random()) for key in keys}) == len(keys)


def test_repeating_a_draw_repeats_its_noise() -> None:
    draw = SeededDraw(1, [4], SHAPE)
    first = draw("start")
    draw("step", 1)
    assert torch.equal(draw("start"), first)


def test_noise_is_standard_normal() -> None:
    z = SeededDraw(0, range(400), (1, 28, 28))("start").double()
    n = z.numel()
    moments = [float((z**k).mean()) for k in (1, 2, 3, 4)]
    # five standard errors: the variances of z^k are 1, 2, 15 and 96
    for found, expected, variance in zip(moments, (0, 1, 0, 3), (1, 2, 15, 96), strict=True):
        assert found == pytest.approx(expected, abs=5 * math.sqrt(variance / n))
    between = torch.corrcoef(z.flatten(1)[:50]) - torch.eye(50)
    assert float(between.abs().max()) < 5.5 / 28  # correlations of 784 numbers have deviation 1/28


def test_labels_are_uniform_and_belong_to_the_image() -> None:
    labels = SeededDraw(5, range(5000), SHAPE).labels(10)
    counts = [labels.count(c) for c in range(10)]
    assert sum(counts) == 5000
    # chi-square of 9 degrees of freedom: 33.7 has probability 1e-4
    assert sum((count - 500) ** 2 / 500 for count in counts) < 33.7
    assert SeededDraw(5, [4321, 17], SHAPE).labels(10) == [labels[4321], labels[17]]
    assert SeededDraw(6, range(5000), SHAPE).labels(10) != labels
