"""The step rules against closed forms for Gaussian data, and against the papers' formulas written out."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from ddpm_cli.config import SAMPLERS, Sampler, SamplerConfig, ScheduleConfig, Spacing, Target
from ddpm_cli.denoiser import Condition, Denoiser, Denoises, Prediction
from ddpm_cli.errors import UsageError
from ddpm_cli.sampling import plan, rule, sample
from ddpm_cli.schedule import Floats, Level, Schedule
from oracles import (
    LINEAR,
    Clean,
    IdealNetwork,
    M,
    S,
    ancestral_moments,
    best_fraction,
    clean_variance,
    dpm_2m,
    dpm_3m,
    gaussian_flow,
    heun,
    ideal_clean,
    mixture_clean,
    mixture_flow,
    pair,
    unipc,
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


ORDERS: dict[Sampler, int] = {"ddim": 1, "euler": 1, "heun": 2, "dpm++2m": 2, "dpm++3m": 3, "unipc": 3}
STOCHASTIC = (
    SamplerConfig("ddpm", variance="small"),
    SamplerConfig("ddpm", variance="large"),
    SamplerConfig("ddim", eta=0.5),
    SamplerConfig("euler-a"),
    SamplerConfig("dpm++2m-sde"),
)


def mixed(x_t: Tensor, level: Level[Tensor], condition: Condition) -> Prediction:
    del condition
    return Prediction(mixture_clean(x_t, level.signal, level.noise))


def measured_orders(name: Sampler, denoiser: Denoises, exact: float) -> list[float]:
    """log2 of how much less a walk from T to level 1 misses with twice the steps, for 80 to 640 of them."""
    errors = []
    for steps in (80, 160, 320, 640):
        levels = plan(SCHEDULE, steps + 1, "log-snr", -math.inf)[:-1]  # without the step to clean
        assert (levels[0].t, len(levels)) == (1000, steps + 1)
        *_, end = walk(SamplerConfig(name), levels, images(1.3), denoiser)
        errors.append(abs(float(end) - exact))
    return [math.log2(coarse / fine) for coarse, fine in pairwise(errors)]


def test_every_deterministic_method_has_an_order_here() -> None:
    noisy = {config.name for config in STOCHASTIC} - {"ddim"}
    assert ORDERS.keys() | noisy == set(SAMPLERS)


@pytest.mark.parametrize(("name", "order"), ORDERS.items())
def test_the_order_of_convergence_is_that_of_theory(name: Sampler, order: int) -> None:
    exact = mixture_flow(1.3, LINEAR[1000], LINEAR[1])
    assert measured_orders(name, mixed, exact) == pytest.approx([order] * 3, abs=0.15)


@pytest.mark.parametrize(("name", "order"), ORDERS.items())
def test_on_gaussian_data_too(name: Sampler, order: int) -> None:
    found = measured_orders(name, ideal, gaussian_flow(1.3, LINEAR[1000], LINEAR[1]))
    if name == "dpm++3m":  # on one Gaussian its errors of third order cancel along the way: about 3.9
        assert min(found) > order
    else:
        assert found == pytest.approx([order] * 3, abs=0.15)


# --- moments and weights of the stochastic methods -------------------------------------------------------------------

TIMES = (1000, 960, 800, 560, 300, 120, 40)


def coefficients(config: SamplerConfig, t: int, s: int) -> tuple[float, float, float]:
    """Of x_t, of the estimate and of the noise in x_s, as the papers have them."""
    alpha, beta, btilde = pair(t, s)
    if config.name == "ddim":
        assert config.eta is not None
        sigma = config.eta * math.sqrt(btilde)
        of_eps = math.sqrt(1 - LINEAR[s] - sigma**2) / math.sqrt(1 - LINEAR[t])  # Song et al. 2021, equation 12
        return of_eps, math.sqrt(LINEAR[s]) - of_eps * math.sqrt(LINEAR[t]), sigma
    if config.name == "euler-a":  # down to sigma_down, and up again, in x / signal
        now, after = (math.sqrt((1 - LINEAR[k]) / LINEAR[k]) for k in (t, s))
        up = after * math.sqrt(now**2 - after**2) / now
        down = math.sqrt(after**2 - up**2)
        return tuple(math.sqrt(LINEAR[s]) * each for each in (down / now / math.sqrt(LINEAR[t]), 1 - down / now, up))  # type: ignore[return-value]
    if config.name == "dpm++2m-sde":
        h = (math.log(LINEAR[s] / (1 - LINEAR[s])) - math.log(LINEAR[t] / (1 - LINEAR[t]))) / 2
        fresh, deviation = 1 - math.exp(-2 * h), math.sqrt(1 - LINEAR[s])
        kept = deviation / math.sqrt(1 - LINEAR[t]) * math.exp(-h)
        return kept, math.sqrt(LINEAR[s]) * fresh, deviation * math.sqrt(fresh)
    of_x = math.sqrt(alpha) * (1 - LINEAR[s]) / (1 - LINEAR[t])
    variance = btilde if config.variance == "small" else beta
    return of_x, math.sqrt(LINEAR[s]) * beta / (1 - LINEAR[t]), math.sqrt(variance)


def lookback(config: SamplerConfig, i: int) -> float:
    """How much of the change from the last estimate to this one the step from TIMES[i] adds to this one."""
    if config.name != "dpm++2m-sde" or i == 0:
        return 0.0
    before, now, after = (math.log(LINEAR[t] / (1 - LINEAR[t])) for t in TIMES[i - 1 : i + 2])
    return (after - now) / (now - before) / 2


@pytest.mark.parametrize("config", STOCHASTIC, ids=lambda config: f"{config.name}-{config.variance or config.eta}")
def test_mean_and_covariance_are_those_of_the_recursion(config: SamplerConfig) -> None:
    # Two pixels of N(m, C). The state (x, last estimate) of a walk is linear in itself and in fresh noise.
    m, C = np.array([0.7, -0.2]), np.array([[0.16, 0.09], [0.09, 0.25]])
    mean, covariance = np.zeros(4), np.diag([1.0, 1, 0, 0])
    for i, (t, s) in enumerate(pairwise(TIMES)):
        a = math.sqrt(LINEAR[t])
        gain = a * C @ np.linalg.inv(a**2 * C + (1 - LINEAR[t]) * np.eye(2))
        of_x, of_clean, of_noise = coefficients(config, t, s)
        back, one, none = lookback(config, i), np.eye(2), np.zeros((2, 2))
        A = np.block([[of_x * one + of_clean * (1 + back) * gain, -of_clean * back * one], [gain, none]])
        shift = m - a * gain @ m
        mean = A @ mean + np.concatenate([of_clean * (1 + back) * shift, shift])
        covariance = A @ covariance @ A.T + np.diag([of_noise**2, of_noise**2, 0, 0])

    centre, spread = torch.from_numpy(m), torch.from_numpy(C)

    def denoiser(x_t: Tensor, level: Level[Tensor], condition: Condition) -> Prediction:
        del condition
        a, noise = level.signal, level.noise**2 * torch.eye(2, dtype=x_t.dtype)
        gain = a * spread @ torch.linalg.inv(a**2 * spread + noise)
        rest = x_t.reshape(-1, 2) - a * centre
        return Prediction((centre + rest @ gain.T).reshape(x_t.shape))

    # Image 0 sees no noise at all; each other one a single pixel of a single draw.
    draws = len(TIMES)
    alone = torch.cat([torch.zeros(1, 2 * draws), torch.eye(2 * draws)]).double().reshape(-1, draws, 1, 1, 2)
    *_, end = walk(config, whole(*TIMES), alone[:, 0], denoiser, lambda _, step: alone[:, 1 + step])
    reached = end.reshape(-1, 2).numpy()
    assert reached[0] == pytest.approx(mean[:2], abs=1e-9)
    assert (reached[1:] - reached[0]).T @ (reached[1:] - reached[0]) == pytest.approx(covariance[:2, :2], abs=1e-9)


@pytest.mark.parametrize("config", STOCHASTIC, ids=lambda config: f"{config.name}-{config.variance or config.eta}")
def test_the_weights_of_a_mixture_are_those_of_the_recursion(config: SamplerConfig) -> None:
    # The density of (place before, place) on a grid, carried from step to step as the formulas say.
    x = np.linspace(-6, 6, 241)
    cell = x[1] - x[0]
    normal = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    density, last = normal[None, :] / len(x) / cell * np.ones((len(x), 1)), np.zeros(len(x))
    for i, (t, s) in enumerate(pairwise(TIMES)):
        a = math.sqrt(LINEAR[t])
        clean = mixture_clean(torch.from_numpy(x), a, math.sqrt(1 - LINEAR[t])).numpy()
        of_x, of_clean, of_noise = coefficients(config, t, s)
        back = lookback(config, i)
        middle = of_x * x[None, :] + of_clean * (clean[None, :] + back * (clean[None, :] - last[:, None]))
        step = np.exp(-((x - middle[..., None]) ** 2) / (2 * of_noise**2)) / math.sqrt(2 * math.pi) / of_noise
        density, last = np.einsum("ij,ijk->jk", density, step) * cell, clean
    places = density.sum(0) * cell
    assert places.sum() * cell == pytest.approx(1, abs=1e-5)

    count = 40_000
    start, *rest = np.random.default_rng(0).standard_normal((len(TIMES), count, 1, 1, 1))
    *_, end = walk(config, whole(*TIMES), torch.from_numpy(start), mixed, lambda _, step: torch.from_numpy(rest[step]))
    found = end.flatten().numpy()
    upper = float(places[x > 0].sum() + places[x == 0].sum() / 2) * cell
    assert (found > 0).mean() == pytest.approx(upper, abs=4 * math.sqrt(upper * (1 - upper) / count))
    for power in (1, 2):
        expected, square = (float((x**k * places).sum()) * cell for k in (power, 2 * power))
        assert (found**power).mean() == pytest.approx(expected, abs=4 * math.sqrt((square - expected**2) / count))


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


@pytest.mark.parametrize("spacing", get_args(Spacing))
def test_small_variance_is_ddim_with_eta_1(spacing: Spacing) -> None:
    levels = plan(SCHEDULE, 13, spacing)
    x, draw = images(1.3, -0.4), lambda _, step: images(math.sin(step), math.cos(step))
    ancestral = walk(SamplerConfig("ddpm", variance="small"), levels, x, ideal, draw)
    eta_1 = walk(SamplerConfig("ddim", eta=1), levels, x, ideal, draw)
    for a, b in zip(ancestral, eta_1, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "config",
    [
        *STOCHASTIC,
        *map(SamplerConfig, ORDERS),
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
    assert drawn == ([0, 1] if config in STOCHASTIC else [])


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


@pytest.mark.parametrize("method", [heun, dpm_3m, unipc])
@pytest.mark.parametrize("times", [[1000, 900, 640, 600, 210, 4, 1], [900, 500, 400, 20], [800, 790]])
def test_other_deterministic_methods_are_those_of_the_papers(
    times: list[int], method: Callable[[float, Sequence[float], Clean], list[float]]
) -> None:
    expected = method(0.8, [LINEAR[t] for t in times], bent)
    names: dict[object, Sampler] = {heun: "heun", dpm_3m: "dpm++3m", unipc: "unipc"}
    found = walk(SamplerConfig(names[method]), whole(*times), images(0.8), bent_denoiser)
    assert [float(x) for x in found] == pytest.approx(expected, rel=1e-6)


def test_heun_asks_twice_a_step_but_for_the_last() -> None:
    asked = []

    def denoiser(x_t: Tensor, level: Level[Tensor], condition: Condition) -> Prediction:
        asked.append(int(level.t))
        return ideal(x_t, level, condition)

    walk(SamplerConfig("heun"), whole(900, 500, 100, 0), images(1.3), denoiser)
    assert asked == [900, 500, 500, 100, 100]


@pytest.mark.parametrize(("name", "eta"), [("euler", 0.0), ("euler-a", 1.0)])
def test_euler_is_another_name_of_ddim(name: Sampler, eta: float) -> None:
    draw = lambda _, step: images(math.sin(step), math.cos(step))  # noqa: E731
    for spacing in get_args(Spacing):
        levels, x = plan(SCHEDULE, 9, spacing), images(1.3, -0.4)
        found, expected = (
            walk(config, levels, x, bent_denoiser, draw)
            for config in (SamplerConfig(name), SamplerConfig("ddim", eta=eta))
        )
        assert all(map(torch.equal, found, expected))


def test_a_perfect_estimate_is_kept_by_every_deterministic_rule() -> None:
    # With the clean image known, x stays on the straight line of its noise.
    def known(x_t: Tensor, level: Level[Tensor], condition: Condition) -> Prediction:
        del level, condition
        return Prediction(torch.full_like(x_t, M))

    a, b = scales(900)
    for name in ORDERS:
        places = walk(SamplerConfig(name), whole(900, 500, 100, 0), images(a * M + b * 0.6), known)
        for t, x in zip((500, 100, 0), places, strict=True):
            assert float(x) == pytest.approx(scales(t)[0] * M + scales(t)[1] * 0.6, rel=1e-8)
