"""Edits are the sampling loop begun elsewhere: against closed forms of Gaussian data, and against sampling itself."""

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ddpm_cli.config import SAMPLERS, SamplerConfig, ScheduleConfig, UNetConfig
from ddpm_cli.denoiser import Denoiser
from ddpm_cli.editing import End, inpaint, vary, ways
from ddpm_cli.errors import UsageError
from ddpm_cli.networks import build
from ddpm_cli.pixels import Pixels, from_uint8
from ddpm_cli.sampling import DiffusionModel, SeededDraw, edits, sample
from ddpm_cli.sampling.model import evaluation_mode
from ddpm_cli.sampling.rules import rule
from ddpm_cli.schedule import Schedule

SHAPE = (1, 8, 8)
CLASSES = ("zero", "one", "two")


def model(classes: tuple[str, ...] = CLASSES, **options: Any) -> DiffusionModel:
    """Random weights, large enough that label and noise matter."""
    torch.manual_seed(0)
    network = build(UNetConfig(SHAPE, len(classes), widths=(8, 16), blocks=1, heads=2))
    with torch.no_grad():
        for p in network.parameters():
            p += 0.1 * torch.randn_like(p)
    denoiser = evaluation_mode(Denoiser(network, "v", "log-snr"), torch.device("cpu"), torch.float32)
    sampler = SamplerConfig(**{"steps": 4, **options})
    return DiffusionModel(denoiser, Schedule(ScheduleConfig("cosine")), SHAPE, classes, sampler, inner_batch=2)


class Ideal(nn.Module):
    """E[x_0 | x_t] where the elements of x_0 are Gaussian of mean 0 and a given covariance."""

    def __init__(self, covariance: Tensor) -> None:
        super().__init__()
        self.covariance = nn.Parameter(covariance)

    def forward(self, x: Tensor, time: Tensor, condition: object) -> Tensor:
        del condition
        abar = torch.sigmoid(time.double()[0] / 25)  # what the network is told: 25 times log-SNR
        there = abar * self.covariance + (1 - abar) * torch.eye(len(self.covariance))
        back = abar.sqrt() * self.covariance @ torch.linalg.inv(there)
        return (x.flatten(1).double() @ back.T).reshape(x.shape)


def gaussian(covariance: list[list[float]], **options: Any) -> DiffusionModel:
    shape = (1, 1, len(covariance))
    denoiser = Denoiser(Ideal(torch.tensor(covariance, dtype=torch.float64)), "x0", "log-snr").requires_grad_(False)
    schedule = Schedule(ScheduleConfig("cosine"))
    return DiffusionModel(denoiser, schedule, shape, (), SamplerConfig(**{"clip": False, **options}), inner_batch=4096)


def some(count: int, seed: int = 5) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (count, *SHAPE), np.uint8)


def counted(drawing: DiffusionModel) -> tuple[DiffusionModel, list[int]]:
    seen: list[int] = []
    drawing.denoiser.network.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    return replace(drawing, inner_batch=1), seen


# --- vary ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strength", [0.001, 0.25, 0.6, 1.0])
def test_a_variation_starts_where_the_forward_process_leads(strength: float) -> None:
    drawing, x_0 = model(name="ddim", steps=7), torch.from_numpy(from_uint8(some(3))).float()
    draw = SeededDraw(4, range(3), SHAPE)
    steps = list(edits.vary(drawing, x_0, strength, draw, [None, 0, 2]))
    t = 1000 * strength if strength < 1 else float(drawing.plan()[0].t)
    abar = float(Schedule(ScheduleConfig("cosine")).abars[round(t)])
    torch.testing.assert_close(steps[0].x, abar**0.5 * x_0 + (1 - abar) ** 0.5 * draw("start"), rtol=1e-5, atol=1e-5)
    below = [float(level.t) for level in drawing.plan() if float(level.t) < t]
    found = [float(step.level.t) for step in steps]
    assert found[0] == pytest.approx(t)
    assert found[1:] == pytest.approx(below[len(below) - len(found) + 1 :])
    assert len(found) >= len(below)  # one at most was left out


@pytest.mark.parametrize("options", [{"name": "dpm++2m-sde"}, {"name": "dpm++2m"}, {"name": "unipc"}], ids=str)
def test_no_step_is_much_larger_than_the_one_before_wherever_a_way_starts(options: dict[str, Any]) -> None:
    """What multistep methods extrapolate by: half the ratio of a step to the one before, in log-SNR."""
    drawing = model(steps=20, **options)
    usual = np.diff([float(level.log_snr) for level in drawing.plan()[:-1]])
    largest = max(2.0, float((usual[1:] / usual[:-1]).max()))
    for strength in np.linspace(0.005, 0.995, 397):
        gaps = np.diff([float(level.log_snr) for level in edits.below(drawing, float(strength))[:-1]])
        assert np.all(gaps > 0)
        assert np.all(gaps[1:] / gaps[:-1] <= largest + 1e-9)


def test_a_start_that_rounds_to_a_level_of_the_plan_is_one_level() -> None:
    drawing = replace(model(name="ddpm", steps=None), schedule=Schedule(ScheduleConfig("cosine", 100)))
    for strength in np.arange(1, 100) / 100:
        levels = edits.below(drawing, float(strength))
        assert all(now.log_snr < after.log_snr for now, after in itertools.pairwise(levels))


@pytest.mark.parametrize("strength", [0.3, 0.8])
def test_a_variation_of_gaussian_data_is_where_the_flow_leads(strength: float) -> None:
    """The flow keeps x over its standard deviation: x_0' = s x_t / sqrt(abar s^2 + 1 - abar)."""
    s = 0.3
    drawing = gaussian([[s**2, 0], [0, s**2]], name="unipc", steps=200)
    x_0, draw = torch.tensor([[[[0.7, -0.2]]]], dtype=torch.float64), SeededDraw(0, [0], (1, 1, 2))
    *_, last = edits.vary(drawing, x_0, strength, draw, [None])
    abar = float(drawing.schedule.abars[round(1000 * strength)])
    x_t = abar**0.5 * x_0 + (1 - abar) ** 0.5 * draw("start").double()
    torch.testing.assert_close(last.x, x_t * s / math.sqrt(abar * s**2 + 1 - abar), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_variation_does_not_depend_on_what_is_beside_it(name: str) -> None:
    drawing, images = model(name=name), some(3)
    whole = vary(drawing, images, [0, None, 2], 4, 0.7, 9).drawing.images
    alone = vary(replace(drawing, batch_size=2), images[[1]], [None], 2, 0.7, 9, images_are=[1]).drawing.images
    assert np.abs(whole[4:6].astype(int) - alone).max() <= 1
    assert np.abs(whole[4].astype(int) - whole[5]).max() > 1
    same = vary(drawing, images[[1, 1]], [None, None], 1, 0.7, 9).drawing.images
    assert np.abs(same[0].astype(int) - same[1]).max() > 1  # the noise of another image is another


@pytest.mark.parametrize("guided", [{}, {"guidance": 2.0}, {"guidance": 2.0, "interval": (100.0, 500.0)}])
def test_evaluations_are_the_images_that_the_network_has_seen(guided: dict[str, Any]) -> None:
    for name, change in itertools.product(
        ("ddim", "heun", "dpm++2m-sde"),
        (
            lambda m: vary(m, some(1), [1], 1, 0.6, 0),
            lambda m: inpaint(m, some(1), np.eye(8, dtype=np.uint8)[None], [1], 1, 0, 1),
            lambda m: inpaint(m, some(1), np.eye(8, dtype=np.uint8)[None], [1], 1, 0, 3),
            lambda m: ways(m, [(End(0, 1), End(1, 1))], 2, 0),
            lambda m: ways(m, [(End(0, 1), End(1, 2))], 2, 0),
        ),
    ):
        drawing, seen = counted(model(name=name, **guided))
        changed = change(drawing)
        assert sum(seen) == changed.evaluations * len(changed.drawing.images)


def test_the_passes_that_find_the_noise_of_an_image_are_told_apart() -> None:
    drawing, seen = counted(model(name="ddim", steps=5))
    changed = ways(drawing, [(End(0, 1), End(1, 2))], 4, 0, some(2), [1, 2], 0.6)
    assert sum(seen) == 2 * changed.inversion + 4 * changed.evaluations
    assert changed.inversion > 0
    assert ways(drawing, [(End(0, 1), End(1, 2))], 2, 0).inversion == 0


def test_an_image_is_led_to_its_noise_under_its_own_class() -> None:
    drawing, images = model(name="ddim", steps=20), some(1)
    under = [ways(drawing, [(End(0, 0), End(0, 2))], 2, 0, images, [label]).drawing.images for label in (0, 1)]
    assert np.abs(under[0].astype(int) - under[1]).max() > 1


@pytest.mark.parametrize("strength", [0, -1, 1.001, math.nan])
def test_a_strength_out_of_range_is_a_usage_error(strength: float) -> None:
    with pytest.raises(UsageError, match="strength"):
        vary(model(), some(1), [None], 1, strength, 0)


# --- inpaint ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rounds", [1, 3])
@pytest.mark.parametrize("name", SAMPLERS)
def test_what_is_not_covered_keeps_its_pixels(name: str, rounds: int) -> None:
    mask = (np.random.default_rng(0).random((1, 8, 8)) < 0.5).astype(np.uint8)
    images = some(2)
    found = inpaint(model(name=name, clip=False), images, mask, [0, None], 3, 1, rounds).drawing.images
    kept = mask == 0
    for k, result in enumerate(found):
        np.testing.assert_array_equal(result[kept], images[k // 3][kept])
        assert np.abs(result[~kept].astype(int) - images[k // 3][~kept]).max() > 1
    assert np.abs(found[0].astype(int) - found[1]).max() > 1


def test_a_mask_that_covers_all_is_sampling_itself() -> None:
    drawing, labels = model(name="dpm++2m-sde"), [0, 1, 2]
    draw, everything = SeededDraw(3, range(3), SHAPE), torch.ones(1, 1, 8, 8)
    x_0 = torch.from_numpy(from_uint8(some(3))).float()
    *_, last = edits.inpaint(drawing, x_0, everything, draw, labels, rounds=1)
    (drawn,) = drawing.draw(3, range(3), labels)
    torch.testing.assert_close(last.x, drawn, rtol=0, atol=1e-5)


def test_once_through_is_the_loop_with_what_is_known_put_back() -> None:
    """Lugmayr et al. 2022, equation 8, written out."""
    drawing, mask = model(name="ddpm", steps=5), torch.eye(8)[None, None]
    x_0, draw = torch.from_numpy(from_uint8(some(2))).float(), SeededDraw(3, range(2), SHAPE)
    levels, number = drawing.plan(), itertools.count(1)
    a, b = float(levels[0].signal), float(levels[0].noise)

    def put_back(x: Tensor, level: Any) -> Tensor:
        eps = draw("known", next(number))
        return mask * x + (1 - mask) * (float(level.signal) * x_0 + float(level.noise) * eps)

    start = mask * draw("start") + (1 - mask) * (a * x_0 + b * draw("known", 0))
    condition = {"label": torch.tensor([0, 1])}
    walk = sample(drawing.asked, start, levels, draw, rule(drawing.sampler), condition, put_back)
    found = list(edits.inpaint(drawing, x_0, mask, draw, [0, 1], rounds=1))[1:]
    for step, expected in zip(found, walk, strict=True):
        torch.testing.assert_close(step.x, expected.x, rtol=0, atol=1e-5)


def test_more_rounds_come_nearer_to_what_the_known_pixel_implies() -> None:
    """Two pixels of correlation rho: given one, the other has mean rho x and variance 1 - rho^2."""
    rho, count = 0.9, 1000
    drawing = gaussian([[1, rho], [rho, 1]], name="ddpm", steps=20, spacing="log-snr")
    mask, draw = torch.tensor([[[[0.0, 1.0]]]]), SeededDraw(0, range(count), (1, 1, 2))
    x_0 = torch.zeros(count, 1, 1, 2, dtype=torch.float64)
    x_0[..., 0] = torch.randn(count, 1, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    slopes = []
    for rounds in (1, 3, 12):
        *_, last = edits.inpaint(drawing, x_0, mask, draw, [None] * count, rounds)
        known, painted = last.x[:, 0, 0].T
        torch.testing.assert_close(known, x_0[:, 0, 0, 0])
        slopes.append(float((known * painted).mean() / (known * known).mean()))
    assert slopes[0] < slopes[1] < slopes[2]
    assert slopes[2] == pytest.approx(rho, abs=0.05)
    assert float((painted - slopes[2] * known).var()) == pytest.approx(1 - rho**2, abs=0.08)


# --- from one to another ---------------------------------------------------------------------------------------------


def test_slerp_is_the_rotation_in_the_plane_of_both() -> None:
    """Shoemake's formula is the turn by share x angle: here by Gram and Schmidt."""
    a, b = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    b = b * (a.flatten(1).norm(dim=1) / b.flatten(1).norm(dim=1))[:, None, None]
    share = torch.tensor([0.1, 0.3, 0.5, 0.8, 0.95], dtype=torch.float64)
    found = edits.slerp(a, b, share).flatten(1).numpy()
    for row, first, second, part in zip(found, a.flatten(1).numpy(), b.flatten(1).numpy(), share.numpy(), strict=True):
        e = first / np.linalg.norm(first)
        across = second - (second @ e) * e
        f = across / np.linalg.norm(across)
        angle = part * math.atan2(second @ f, second @ e)
        np.testing.assert_allclose(row, np.linalg.norm(first) * (math.cos(angle) * e + math.sin(angle) * f), rtol=1e-9)


def test_the_ends_of_slerp_are_exact_and_a_way_to_itself_stands_still() -> None:
    a, b = torch.randn(2, 2, 1, 9, 9, generator=torch.Generator().manual_seed(0))
    assert torch.equal(edits.slerp(a, b, torch.tensor([0.0, 1.0])), torch.stack([a[0], b[1]]))
    torch.testing.assert_close(edits.slerp(a, a, torch.tensor([0.3, 0.7])), a)
    assert bool(torch.isfinite(edits.slerp(a, -a, torch.tensor([0.3, 0.7]))).all())


def test_noise_between_draws_is_standard_normal_all_the_way() -> None:
    count, shape = 200, (1, 16, 16)
    first, second = (SeededDraw(0, range(k, k + count), shape) for k in (0, count))
    draw = edits.Between(first, second, torch.linspace(0, 1, count))
    for purpose, step in (("start", 0), ("step", 3)):
        x = draw(purpose, step)
        assert float(x.mean()) == pytest.approx(0, abs=5 / math.sqrt(x.numel()))
        assert float(x.var()) == pytest.approx(1, abs=5 * math.sqrt(2 / x.numel()))
        middle = x[90:110].flatten(1).var(1)
        assert float((middle - 1).abs().max()) < 0.5
    assert torch.equal(draw("start")[0], first("start")[0])


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_way_between_images_of_a_seed_ends_at_those_that_are_drawn(name: str) -> None:
    drawing = model(name=name, clip=False)
    labels = drawing.labels(3, [2, 7, 4])
    ends = [End(k, label) for k, label in zip((2, 7, 4), labels, strict=True)]
    found = ways(drawing, list(itertools.pairwise(ends)), 5, 3).drawing.images
    (drawn,) = drawing.draw(3, [2, 7, 4])
    expected = np.round((drawn.numpy().clip(-1, 1) + 1) * 127.5)
    for place, end in ((0, 0), (4, 1), (5, 1), (9, 2)):
        assert np.abs(found[place] - expected[end]).max() <= 1
    # Where classes differ, half of both is neither.
    assert np.abs(found[2] - expected[0]).max() > 1


@pytest.mark.parametrize("name", ["ddim", "dpm++2m-sde"])
def test_a_morph_goes_from_what_one_class_gives_to_what_another_does(name: str) -> None:
    drawing = model(name=name, clip=False)
    found = ways(drawing, [(End(6, 0), End(6, 2)), (End(6, 2), End(6, 1))], 4, 3).drawing.images
    for place, label in ((0, 0), (3, 2), (4, 2), (7, 1)):
        (drawn,) = drawing.draw(3, [6], [label])
        assert np.abs(found[place] - np.round((drawn[0].numpy().clip(-1, 1) + 1) * 127.5)).max() <= 1


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_images_come_back_from_their_noise_the_nearer_the_more_steps(strength: float) -> None:
    errors: list[float] = []
    images = np.random.default_rng(3).integers(64, 192, (2, 1, 1, 3), np.uint8)
    for steps in (10, 40, 160):
        drawing = gaussian([[0.2, 0.1, 0], [0.1, 0.2, 0], [0, 0, 0.3]], name="ddim", steps=steps)
        found = ways(drawing, [(End(0, None), End(1, None))], 3, 0, images, [None] * 2, strength).drawing.images
        errors.append(float(np.abs(found[[0, 2]].astype(int) - images).mean()))
    assert errors[0] >= errors[1] >= errors[2]
    assert errors[2] <= 1.5


@pytest.mark.parametrize(
    "options", [{"name": "ddpm"}, {"name": "euler-a"}, {"name": "dpm++2m-sde"}, {"name": "ddim", "eta": 0.1}]
)
def test_images_have_no_way_back_from_noise_that_is_not_all_of_them(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="adds more of it"):
        ways(model(**options), [(End(0, None), End(1, None))], 3, 0, some(2), [None] * 2)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: vary(m, some(1), [3], 1, 0.5, 0),
        lambda m: inpaint(m, some(1), np.ones((1, 8, 8), np.uint8), [-1], 1, 0),
        lambda m: inpaint(m, some(1), np.zeros((1, 8, 8), np.uint8), [0], 1, 0),
        lambda m: ways(m, [(End(0, 0), End(0, 9))], 2, 0),
        lambda m: vary(replace(m, classes=()), some(1), [0], 1, 0.5, 0),
    ],
)
def test_impossible_edits_are_usage_errors(change: Callable[[DiffusionModel], object]) -> None:
    with pytest.raises(UsageError):
        change(model())
