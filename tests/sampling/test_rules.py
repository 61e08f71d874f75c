"""The step rules against closed forms for Gaussian data, and against the papers' formulas written out."""

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from ddpm_cli.config import SamplerConfig, ScheduleConfig, Target
from ddpm_cli.denoiser import Condition, Denoiser, Denoises, Prediction
from ddpm_cli.errors import UsageError
from ddpm_cli.sampling import plan, rule, sample
from ddpm_cli.schedule import Floats, Level, Schedule
from oracles import (
    LINEAR,
    IdealNetwork,
    M,
    S,
    ancestral_moments,
    best_fraction,
    clean_variance,
    dpm_2m,
    gaussian_flow,
    ideal_clean,
    pair,
)

SCHEDULE = Schedule(ScheduleConfig("linear"))
TARGETS: tuple[Target, ...] = ("eps", "x0", "v")


def images(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).reshape(-1, 1, 1, 1)


def silent(purpose: str, step: int) -> Tensor:
    raise AssertionError(f"noise was drawn for {purpose} {step}")


def walk(
    config: SamplerConfig,
    levels: list[Level[Floats]],
    x: Tensor,
    denoiser: Denoises,
    draw: Callable[[str, int], Tensor] = silent,
) -> list[Tensor]:
    return [step.x for step in sample(denoiser, x, levels, draw, rule(config))]


def ideal(x_t: Tensor, level: Level[Tensor], condition: Condition) -> Prediction:
    del condition
    return Prediction(ideal_clean(x_t, level.signal, level.noise))


def whole(*times: int) -> list[Level[Floats]]:
    return [SCHEDULE.level(t) for t in times]


# --- Gaussian data: closed forms -------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("steps", "miss"), [(50, 0.0357), (100, 0.0182), (200, 0.0093)])
def test_ddim_misses_the_exact_endpoint_to_first_order(target: Target, steps: int, miss: float) -> None:
    exact = gaussian_flow(1.3, LINEAR[1000], 1)
    assert exact == pytest.approx(1.2182, abs=5e-5)
    denoiser = Denoiser(IdealNetwork(target), target, "level")
    levels = plan(SCHEDULE, steps, "uniform")
    *_, end = walk(SamplerConfig("ddim", steps, "uniform", clip=False), levels, images(1.3), denoiser)
    assert abs(float(end) - exact) == pytest.approx(miss, abs=5e-5)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("steps", "deviation"), [(50, 0.3482), (100, 0.3700), (1000, 0.3962)])
def test_ancestral_samples_have_the_exact_mean_and_deviation(target: Target, steps: int, deviation: float) -> None:
    levels = plan(SCHEDULE, steps, "uniform")
    mean, exact = ancestral_moments([int(level.t) for level in levels])
    assert exact == pytest.approx(deviation, abs=5e-5)

    # The walk is linear in x_T and in the noise of every step: image 0 sees none of them, each other image one alone.
    x = torch.zeros(steps + 2, 1, 1, 1, dtype=torch.float64)
    x[1] = 1

    def draw(purpose: str, step: int) -> Tensor:
        assert purpose == "step"
        z = torch.zeros_like(x)
        z[2 + step] = 1
        return z

    denoiser = Denoiser(IdealNetwork(target), target, "level")
    *_, end = walk(SamplerConfig("ddpm", steps, "uniform", clip=False), levels, x, denoiser, draw)
    assert float(end[0]) == pytest.approx(mean, abs=1e-6)
    assert float((end - end[0]).square().sum().sqrt()) == pytest.approx(exact, abs=1e-6)
    assert float(end[-1] - end[0]) == 0  # no noise on landing


@pytest.mark.parametrize("times", [[1000, 0], [1000, 400, 5, 0], [1000, 990, 700, 300, 40, 1, 0]])
def test_with_the_best_variance_learned_few_ancestral_steps_are_exact(times: list[int]) -> None:
    # Each step is then q(x_s | x_t) itself, as the data are Gaussian; only landing on the mean takes variance away.
    below = dict(pairwise(times))

    def learned(x_t: Tensor, level: Level[Tensor], condition: Condition) -> Prediction:
        t = int(level.t)
        fraction = best_fraction(t, below[t]) if below[t] else 0.0
        return Prediction(ideal(x_t, level, condition).clean, torch.full_like(x_t, fraction))

    # From q(x_T), which the walk is linear in: image 0 sees its mean, each other image one deviation or one noise.
    x = torch.full((len(times), 1, 1, 1), math.sqrt(LINEAR[1000]) * M, dtype=torch.float64)
    x[1] += math.sqrt(LINEAR[1000] * S**2 + 1 - LINEAR[1000])

    def draw(_: str, step: int) -> Tensor:
        z = torch.zeros_like(x)
        z[2 + step] = 1
        return z

    levels, chosen = whole(*times), rule(SamplerConfig("ddpm", clip=False), learned=True)
    *_, (_, end, _) = sample(learned, x, levels, draw, chosen)
    assert float(end[0]) == pytest.approx(M, rel=1e-9)
    variance = float((end - end[0]).square().sum())
    assert variance == pytest.approx(S**2 - clean_variance(times[-2]), rel=1e-7)


@pytest.mark.parametrize(("name", "order"), [("ddim", 1), ("dpm++2m", 2)])
def test_the_order_of_a_solver(name: str, order: float) -> None:
    errors = []
    for steps in (40, 80, 160, 320):
        levels = plan(SCHEDULE, steps + 1, "log-snr", -math.inf)[:-1]  # from T to level 1, without the step to clean
        assert (levels[0].t, len(levels)) == (1000, steps + 1)
        *_, end = walk(SamplerConfig(name), levels, images(1.3), ideal)  # type: ignore[arg-type]
        errors.append(abs(float(end) - gaussian_flow(1.3, LINEAR[1000], LINEAR[1])))
    for coarse, fine in pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.15)


# --- against the formulas --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("t", "s"), [(1000, 999), (1000, 700), (500, 499), (300, 20), (2, 1)])
def test_ancestral_variances_share_a_mean_and_differ_in_noise(t: int, s: int) -> None:
    x, z, clean = 0.9, 1.7, math.sqrt(0.2)
    alpha = LINEAR[t] / LINEAR[s]
    mean = (
        math.sqrt(LINEAR[s]) * (1 - alpha) / (1 - LINEAR[t]) * clean
        + math.sqrt(alpha) * (1 - LINEAR[s]) / (1 - LINEAR[t]) * x
    )
    variances = {"small": (1 - alpha) * (1 - LINEAR[s]) / (1 - LINEAR[t]), "large": 1 - alpha}

    def guess(x_t: Tensor, level: Level[Tensor], condition: Condition) -> Prediction:
        del level, condition
        return Prediction(torch.full_like(x_t, clean))

    for variance, value in variances.items():
        config = SamplerConfig("ddpm", variance=variance)  # type: ignore[arg-type]
        still, moved = (
            float(walk(config, whole(t, s), images(x), guess, lambda *_, z=z: images(z))[0]) for z in (0.0, z)
        )
        assert still == pytest.approx(mean, rel=1e-9)
        assert moved - still == pytest.approx(math.sqrt(value) * z, rel=1e-6)


@pytest.mark.parametrize(("t", "s"), [(1000, 999), (500, 300), (2, 1)])
def test_a_learned_variance_is_added_to_the_same_mean_pixel_by_pixel(t: int, s: int) -> None:
    fraction, x, z = images(0.0, 0.3, 1.0, 1.2), images(0.9, 0.9, 0.9, 0.9), 1.7

    def learned(x_t: Tensor, level: Level[Tensor], condition: Condition) -> Prediction:
        return Prediction(ideal(x_t, level, condition).clean, fraction)

    def moved(config: SamplerConfig, z: float) -> Tensor:
        steps = sample(learned, x, whole(t, s), lambda *_: torch.full_like(x, z), rule(config, learned=True))
        return next(steps).x

    still, noisy = (moved(SamplerConfig("ddpm"), value) for value in (0.0, z))
    torch.testing.assert_close(still, moved(SamplerConfig("ddpm", variance="small"), 0.0))
    _, beta, btilde = pair(t, s)
    expected = [math.sqrt(beta**f * btilde ** (1 - f)) * z for f in fraction.flatten().tolist()]
    assert (noisy - still).flatten().tolist() == pytest.approx(expected, rel=1e-6)
    asked = moved(SamplerConfig("ddpm", variance="learned"), z)
    assert torch.equal(noisy, asked)  # learned is what a model that has learned it is sampled with
    for variance, share in (("small", btilde), ("large", beta)):
        fixed = moved(SamplerConfig("ddpm", variance=variance), z)  # type: ignore[arg-type]
        assert (fixed - still).flatten().tolist() == pytest.approx([math.sqrt(share) * z] * 4, rel=1e-6)


@pytest.mark.parametrize("config", [SamplerConfig("ddim", eta=0.5), SamplerConfig("dpm++2m"), SamplerConfig()])
def test_other_samplers_do_not_look_at_it(config: SamplerConfig) -> None:
    def learned(x_t: Tensor, level: Level[Tensor], condition: Condition) -> Prediction:
        return ideal(x_t, level, condition)._replace(variance_fraction=torch.full_like(x_t, 0.7))

    def ends(denoiser: Denoises) -> list[Tensor]:
        steps = sample(denoiser, images(0.7), whole(900, 400, 30, 0), lambda *_: images(0.3), rule(config, True))
        return [step.x for step in steps]

    assert all(map(torch.equal, ends(learned), ends(ideal)))


def test_a_variance_that_no_model_learned_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="learned no variance") as caught:
        rule(SamplerConfig("ddpm", variance="learned"))
    assert "small" in caught.value.hint


@pytest.mark.parametrize("eta", [0.0, 0.3, 0.99, 1.0])
@pytest.mark.parametrize(("t", "s"), [(1000, 980), (500, 300), (2, 1)])
def test_ddim_is_equation_12_with_the_sigma_of_equation_16(t: int, s: int, eta: float) -> None:
    x, z = 0.9, -1.3
    eps = float((images(x) - math.sqrt(LINEAR[t]) * ideal_clean(images(x), *scales(t))) / math.sqrt(1 - LINEAR[t]))
    sigma = eta * math.sqrt((1 - LINEAR[s]) / (1 - LINEAR[t])) * math.sqrt(1 - LINEAR[t] / LINEAR[s])
    predicted = (x - math.sqrt(1 - LINEAR[t]) * eps) / math.sqrt(LINEAR[t])
    expected = math.sqrt(LINEAR[s]) * predicted + math.sqrt(1 - LINEAR[s] - sigma**2) * eps + sigma * z
    draw = (lambda *_: images(z)) if eta else silent
    (found,) = walk(SamplerConfig("ddim", eta=eta), whole(t, s), images(x), ideal, draw)
    assert float(found) == pytest.approx(expected, rel=1e-8)


def scales(t: int) -> tuple[float, float]:
    return math.sqrt(LINEAR[t]), math.sqrt(1 - LINEAR[t])


@pytest.mark.parametrize("spacing", ["uniform", "trailing", "log-snr"])
def test_small_variance_is_ddim_with_eta_1(spacing: str) -> None:
    levels = plan(SCHEDULE, 13, spacing)  # type: ignore[arg-type]
    x, draw = images(1.3, -0.4), lambda _, step: images(math.sin(step), math.cos(step))
    ancestral = walk(SamplerConfig("ddpm", variance="small"), levels, x, ideal, draw)
    eta_1 = walk(SamplerConfig("ddim", eta=1), levels, x, ideal, draw)
    for a, b in zip(ancestral, eta_1, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "config",
    [
        SamplerConfig("ddpm", variance="small"),
        SamplerConfig("ddpm", variance="large"),
        SamplerConfig("ddim", eta=0.5),
        SamplerConfig("dpm++2m"),
        SamplerConfig("dpm++2m-sde"),
    ],
)
def test_every_rule_lands_on_the_clean_estimate_without_noise(config: SamplerConfig) -> None:
    drawn: list[int] = []

    def draw(_: str, step: int) -> Tensor:
        drawn.append(step)
        return images(1.0)

    steps = list(sample(ideal, images(0.7), whole(900, 400, 30, 0), draw, rule(config)))
    assert float(steps[-1].x) == pytest.approx(float(steps[-1].clean), rel=1e-12)
    assert float(steps[-1].clean) == pytest.approx(float(ideal_clean(steps[-2].x, *scales(30))), rel=1e-8)
    assert drawn == ([] if config.name == "dpm++2m" else [0, 1])


def bent(x: float, abar: float) -> float:
    """No data's ideal denoiser, but as good as any to compare formulas with."""
    return math.tanh(x - abar) + 0.2 * abar


def bent_denoiser(x_t: Tensor, level: Level[Tensor], condition: Condition) -> Prediction:
    del condition
    return Prediction(torch.tanh(x_t - level.signal**2) + 0.2 * level.signal**2)


@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize("times", [[1000, 900, 640, 600, 210, 4, 1], list(range(1000, 0, -111)), [800, 790]])
def test_dpm_solver_is_the_algorithm_of_the_paper(times: list[int], noisy: bool) -> None:
    z = [math.sin(3 * i) for i in range(len(times))]
    expected = dpm_2m(0.8, [LINEAR[t] for t in times], bent, z if noisy else None)
    config = SamplerConfig("dpm++2m-sde" if noisy else "dpm++2m")
    draw = (lambda _, step: images(z[step])) if noisy else silent
    found = walk(config, whole(*times, 0), images(0.8), bent_denoiser, draw)
    assert [float(x) for x in found[:-1]] == pytest.approx(expected, rel=1e-8)
    assert float(found[-1]) == pytest.approx(bent(expected[-1], LINEAR[times[-1]]), rel=1e-7)


def test_a_perfect_estimate_is_kept_by_every_deterministic_rule() -> None:
    # With the clean image known, x stays on the straight line of its noise.
    def known(x_t: Tensor, level: Level[Tensor], condition: Condition) -> Prediction:
        del level, condition
        return Prediction(torch.full_like(x_t, M))

    a, b = scales(900)
    for name in ("ddim", "dpm++2m"):
        places = walk(SamplerConfig(name), whole(900, 500, 100, 0), images(a * M + b * 0.6), known)  # type: ignore[arg-type]
        for t, x in zip((500, 100, 0), places, strict=True):
            assert float(x) == pytest.approx(scales(t)[0] * M + scales(t)[1] * 0.6, rel=1e-8)
