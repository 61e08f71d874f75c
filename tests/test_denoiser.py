"""Whatever a network predicts, the denoiser answers with the clean image, and its losses are weights on that."""

import math
from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ddpm_cli.config import ScheduleConfig, Target, Variance
from ddpm_cli.denoiser import (
    Blend,
    Chain,
    Clip,
    Condition,
    Denoiser,
    Guide,
    Prediction,
    bound_term,
    last_variance,
    reverse,
)
from ddpm_cli.forward import as_tensors
from ddpm_cli.schedule import Level, Schedule
from oracles import (
    LINEAR,
    IdealNetwork,
    M,
    S,
    best_fraction,
    clean_variance,
    ideal_clean,
    pair,
    reverse_variance,
)

TARGETS: tuple[Target, ...] = ("eps", "x0", "v")
SCHEDULE = Schedule(ScheduleConfig("linear"))


def at(t: float | list[int]) -> Level[Tensor]:
    return as_tensors(SCHEDULE.level(t))


class Fixed(nn.Module):
    """A network that always gives one answer, and remembers what it was told."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = nn.Parameter(answer)
        self.seen: list[tuple[Tensor, Tensor]] = []

    def forward(self, x: Tensor, time: Tensor, condition: Mapping[str, Tensor]) -> Tensor:
        del condition
        self.seen.append((x, time))
        return self.answer.expand(len(x), -1, *x.shape[2:]) if self.answer.ndim == 4 else self.answer.expand_as(x)


# --- the clean image -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("t", [1, 2, 500, 1000])
def test_an_ideal_network_gives_the_ideal_clean_image(target: Target, t: int) -> None:
    x = torch.linspace(-3, 3, 7, dtype=torch.float64).reshape(-1, 1, 1, 1)
    found = Denoiser(IdealNetwork(target), target, "level")(x, at(t), {})
    expected = ideal_clean(x, math.sqrt(LINEAR[t]), math.sqrt(1 - LINEAR[t]))
    torch.testing.assert_close(found.clean, expected, rtol=1e-8, atol=1e-8)
    assert found.variance_fraction is None


@pytest.mark.parametrize("target", TARGETS)
def test_a_second_half_of_the_channels_is_a_fraction_and_leaves_the_clean_image_alone(target: Target) -> None:
    x = torch.randn(4, 3, 2, 2)
    answer, v = torch.randn(2, 1, 3, 1, 1)
    both = Denoiser(Fixed(torch.cat([answer, v], 1)), target, "level", learned_variance=True)(x, at(300), {})
    assert torch.equal(both.clean, Denoiser(Fixed(answer), target, "level")(x, at(300), {}).clean)
    assert both.variance_fraction is not None
    # v = -1 is btilde, v = 1 is beta: Nichol and Dhariwal 2021, equation 15
    torch.testing.assert_close(both.variance_fraction, ((v + 1) / 2).expand_as(x))


@pytest.mark.parametrize("target", TARGETS)
def test_every_image_may_have_a_level_of_its_own(target: Target) -> None:
    x = torch.tensor([0.1, -0.4, 1.3]).reshape(-1, 1, 1, 1)
    found = Denoiser(IdealNetwork(target), target, "level")(x, at([1, 500, 1000]), {}).clean
    for i, t in enumerate((1, 500, 1000)):
        expected = ideal_clean(x[i], math.sqrt(LINEAR[t]), math.sqrt(1 - LINEAR[t]))
        torch.testing.assert_close(found[i], expected, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize(("t", "told"), [(1, 0), (1000, 999), (2.5, 1.5)])
def test_the_network_is_told_t_minus_1(t: float, told: float) -> None:
    network = Fixed(torch.zeros(1, 1, 1, 1))
    Denoiser(network, "x0", "level").output(torch.zeros(3, 1, 2, 2), at(t), {})
    (x, heard), *_ = network.seen
    assert x.shape == (3, 1, 2, 2)
    assert heard.dtype == torch.float32
    assert heard.tolist() == [told] * 3


def test_or_it_is_told_log_snr_in_proportion() -> None:
    network = Fixed(torch.zeros(1, 1, 1, 1))
    denoiser = Denoiser(network, "x0", "log-snr")
    for t in (3, 400, 1000):
        denoiser.output(torch.zeros(1, 1, 1, 1), at(t), {})
    told = [float(time) for _, time in network.seen]
    log_snr = [math.log(LINEAR[t] / (1 - LINEAR[t])) for t in (3, 400, 1000)]
    assert told[0] / log_snr[0] > 0
    assert [a / told[0] for a in told] == pytest.approx([b / log_snr[0] for b in log_snr], rel=1e-5)


@pytest.mark.parametrize(
    ("weights", "autocast"), [(torch.bfloat16, None), (torch.float32, torch.bfloat16), (torch.float64, None)]
)
@pytest.mark.parametrize("x", [torch.float32, torch.float64])
def test_nobody_outside_notices_the_precision_inside(
    weights: torch.dtype, autocast: torch.dtype | None, x: torch.dtype
) -> None:
    class Convolution(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 1, dtype=weights)

        def forward(self, x: Tensor, time: Tensor, condition: Mapping[str, Tensor]) -> Tensor:
            del time, condition
            out: Tensor = self.conv(x)
            assert out.dtype == (autocast or weights)
            return out

    denoiser = Denoiser(Convolution(), "v", "level", learned_variance=True)
    denoiser.autocast = autocast
    assert [found.dtype for found in denoiser(torch.zeros(2, 1, 4, 4, dtype=x), at(3), {})] == [x, x]


# --- losses ----------------------------------------------------------------------------------------------------------

X_0, EPS = torch.tensor([[0.3], [-0.8], [1.0]]), torch.tensor([[1.2], [0.1], [-0.7]])
ANSWER = 0.4  # of the network, whatever it is asked
TIMES = [10, 300, 900]  # SNR about 430, 0.66 and 0.00027, on both sides of gamma


def errors_of_the_clean_image(target: Target) -> list[tuple[float, float]]:
    """SNR and squared error of the clean image that the answer amounts to, image by image."""
    found = []
    for x_0, eps, t in zip(X_0.flatten().tolist(), EPS.flatten().tolist(), TIMES, strict=True):
        a, b = math.sqrt(LINEAR[t]), math.sqrt(1 - LINEAR[t])
        x_t = a * x_0 + b * eps
        clean = {"eps": (x_t - b * ANSWER) / a, "x0": ANSWER, "v": a * x_t - b * ANSWER}[target]
        found.append((LINEAR[t] / (1 - LINEAR[t]), (clean - x_0) ** 2))
    return found


def loss_of(target: Target, answer: Tensor, **options: object) -> Tensor:
    x_0, eps = (x.reshape(3, 1, 1, 1).expand(3, 2, 4, 4) for x in (X_0, EPS))
    return Denoiser(Fixed(answer), target, "level").loss(x_0, at(TIMES), eps, {}, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("target", TARGETS)
def test_the_simple_loss_weighs_the_clean_error_by_a_function_of_snr(target: Target) -> None:
    weight = {"eps": lambda snr: snr, "x0": lambda _: 1.0, "v": lambda snr: snr + 1}[target]
    expected = [weight(snr) * error for snr, error in errors_of_the_clean_image(target)]
    found = loss_of(target, torch.tensor(ANSWER))
    assert found.dtype == torch.float32
    assert found.tolist() == pytest.approx(expected, rel=1e-3)


def test_the_simple_loss_is_the_squared_error_of_the_noise() -> None:
    expected = [(ANSWER - eps) ** 2 for eps in EPS.flatten().tolist()]
    assert loss_of("eps", torch.tensor(ANSWER)).tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("gamma", [5.0, 0.1])
def test_min_snr_weighs_the_clean_error_by_the_capped_snr(target: Target, gamma: float) -> None:
    expected = [min(snr, gamma) * error for snr, error in errors_of_the_clean_image(target)]
    assert loss_of(target, torch.tensor(ANSWER), kind="min-snr", gamma=gamma).tolist() == pytest.approx(
        expected, rel=1e-3
    )


def test_the_loss_is_a_mean_over_elements_and_separate_for_each_image() -> None:
    x_0 = torch.zeros(2, 1, 1, 4)
    x_0[1, ..., 0] = 2
    loss = Denoiser(Fixed(torch.zeros(())), "x0", "level").loss(x_0, at([5, 5]), torch.zeros_like(x_0), {})
    assert loss.tolist() == [0, 1]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", ["simple", "min-snr"])
def test_a_perfect_network_has_no_loss(target: Target, kind: str) -> None:
    x_0, eps = X_0.reshape(3, 1, 1, 1).double(), EPS.reshape(3, 1, 1, 1).double()
    abar = torch.tensor([LINEAR[t] for t in TIMES]).reshape(3, 1, 1, 1).double()
    v = abar.sqrt() * eps - (1 - abar).sqrt() * x_0
    denoiser = Denoiser(Fixed({"eps": eps, "x0": x_0, "v": v}[target]), target, "level")
    assert float(denoiser.loss(x_0, at(TIMES), eps, {}, kind).detach().max()) < 1e-12  # type: ignore[arg-type]


# --- the reverse step ------------------------------------------------------------------------------------------------


def images(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).reshape(-1, 1, 1, 1)


@pytest.mark.parametrize(("t", "s"), [(1000, 999), (1000, 300), (500, 499), (2, 1)])
@pytest.mark.parametrize("fraction", [0.0, 0.25, 1.0, 1.5, -0.5])
def test_the_reverse_step_is_the_posterior_of_the_estimate_with_one_of_three_variances(
    t: int, s: int, fraction: float
) -> None:
    alpha, beta, btilde = pair(t, s)
    mean = math.sqrt(LINEAR[s]) * beta / (1 - LINEAR[t]) * 0.4 + math.sqrt(alpha) * (1 - LINEAR[s]) / (
        1 - LINEAR[t]
    ) * (-1.3)
    expected = {"small": btilde, "large": beta, "learned": beta**fraction * btilde ** (1 - fraction)}
    for variance, value in expected.items():
        prediction = Prediction(images(0.4), images(fraction))
        found = reverse(images(-1.3), prediction, at(t), at(s), variance)  # type: ignore[arg-type]
        assert float(found.mean) == pytest.approx(mean, rel=1e-8)
        assert float(found.variance) == pytest.approx(value, rel=1e-7)


def test_on_landing_a_likelihood_takes_the_variance_of_the_step_before() -> None:
    last = last_variance(SCHEDULE)
    assert last == pytest.approx(pair(2, 1)[2], rel=1e-9)
    assert 0 < last < 1 - LINEAR[1]
    expected = {"small": last, "large": last, "learned": (1 - LINEAR[1]) ** 0.25 * last**0.75}
    for variance, value in expected.items():
        found = reverse(images(0.3), Prediction(images(0.4), images(0.25)), at(1), at(0), variance, last)  # type: ignore[arg-type]
        assert float(found.mean) == pytest.approx(0.4)
        assert float(found.variance) == pytest.approx(value, rel=1e-9)
    # Everywhere else it changes nothing.
    free, held = (reverse(images(0.3), Prediction(images(0.4)), at(3), at(2), "small", x) for x in (None, 7.0))
    assert torch.equal(free.variance, held.variance)


def test_a_chain_of_one_step_has_the_variance_of_that_step() -> None:
    assert last_variance(Schedule(ScheduleConfig("constant", 1, beta_start=0.3))) == pytest.approx(0.3)


def test_every_image_may_take_a_step_of_its_own() -> None:
    x, clean, fraction = torch.randn(3, 3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    now, earlier = [1, 500, 1000], [0, 100, 999]
    for variance in ("small", "large", "learned"):
        together = reverse(x, Prediction(clean, fraction), at(now), at(earlier), variance, 2e-5)  # type: ignore[arg-type]
        assert together.variance.dtype == torch.float32
        for i, (t, s) in enumerate(zip(now, earlier, strict=True)):
            prediction = Prediction(clean[[i]], fraction[[i]])
            alone = reverse(x[[i]], prediction, at(t), at(s), variance, 2e-5)  # type: ignore[arg-type]
            torch.testing.assert_close(together.mean[[i]], alone.mean, rtol=1e-3, atol=1e-5)
            found = together.variance[[i]].expand_as(x[[i]])
            torch.testing.assert_close(found, alone.variance.float().expand_as(x[[i]]), rtol=1e-3, atol=0)


def test_a_variance_that_nobody_learned_is_refused() -> None:
    with pytest.raises(ValueError, match="no variance"):
        reverse(images(0.3), Prediction(images(0.4)), at(5), at(4), "learned")


# --- the bound -------------------------------------------------------------------------------------------------------

LAST = pair(2, 1)[2]
BITS = math.log(2)  # nats in a bit


@pytest.mark.parametrize(("t", "s"), [(1000, 999), (500, 499), (2, 1), (700, 200)])
@pytest.mark.parametrize("variance", ["small", "large", "learned"])
def test_a_term_is_a_divergence_summed_on_a_grid(t: int, s: int, variance: str) -> None:
    x_0, clean, fraction = -0.6, 0.1, 0.4
    x_t = math.sqrt(LINEAR[t]) * x_0 + 0.7 * math.sqrt(1 - LINEAR[t])
    alpha, beta, btilde = pair(t, s)
    # q(x_s | x_t, x_0) ~ q(x_t | x_s) q(x_s | x_0), on a grid; p with the formulas of the papers
    middle = math.sqrt(LINEAR[s]) * x_0 + math.sqrt(alpha) * (1 - LINEAR[s]) / (1 - LINEAR[t]) * (
        x_t - math.sqrt(LINEAR[t]) * x_0
    )
    x_s = middle + math.sqrt(btilde) * np.linspace(-9, 9, 40_001)
    log_q = -((x_t - math.sqrt(alpha) * x_s) ** 2) / (2 * beta)
    log_q -= (x_s - math.sqrt(LINEAR[s]) * x_0) ** 2 / (2 * (1 - LINEAR[s]))
    log_q -= np.log(np.sum(np.exp(log_q - log_q.max())) * (x_s[1] - x_s[0])) + log_q.max()
    width = {"small": btilde, "large": beta, "learned": beta**fraction * btilde ** (1 - fraction)}[variance]
    mean = math.sqrt(LINEAR[s]) * clean + math.sqrt(alpha) * (1 - LINEAR[s]) / (1 - LINEAR[t]) * (
        x_t - math.sqrt(LINEAR[t]) * clean
    )
    log_p = -((x_s - mean) ** 2) / (2 * width) - math.log(2 * math.pi * width) / 2
    expected = float(np.sum(np.exp(log_q) * (log_q - log_p)) * (x_s[1] - x_s[0]))
    prediction = Prediction(images(clean), images(fraction))
    found = bound_term(images(x_0), images(x_t), prediction, at(t), at(s), variance, LAST)  # type: ignore[arg-type]
    assert float(found) == pytest.approx(expected / BITS, rel=1e-5)


@pytest.mark.parametrize(("t", "s"), [(1000, 999), (500, 499), (2, 1), (700, 200)])
def test_with_small_variance_it_is_the_fall_of_snr_times_the_clean_error(t: int, s: int) -> None:
    # Kingma et al. 2021, equation 13
    snr_t, snr_s = (LINEAR[k] / (1 - LINEAR[k]) for k in (t, s))
    x_0, clean, x_t = torch.rand(3, 2, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = bound_term(x_0, x_t, Prediction(clean), at(t), at(s), "small", LAST)
    expected = (snr_s - snr_t) / 2 * (x_0 - clean).square().flatten(1).mean(1) / BITS
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


def test_the_last_term_is_the_likelihood_of_the_pixel() -> None:
    x_0, clean = images(-1.0, 7 / 255, 1.0), images(-0.995, 5 / 255, 0.999)
    found = bound_term(x_0, images(0, 0, 0), Prediction(clean), at(1), at(0), "small", LAST)

    def below(z: float) -> float:
        return math.erfc(-z / math.sqrt(2 * LAST)) / 2

    edge = 1 / 255
    shares = [below(-1 + edge + 0.995), below(2 * edge + edge) - below(2 * edge - edge), below(0.999 - 1 + edge)]
    assert found.tolist() == pytest.approx([-math.log2(share) for share in shares], rel=1e-6)


def test_terms_at_levels_of_their_own_are_those_at_one_level() -> None:
    draw, times = torch.Generator().manual_seed(0), [1, 2, 500, 1000]
    x_0 = torch.randint(0, 256, (4, 1, 3, 3), generator=draw) / 127.5 - 1
    x_t, clean, fraction = torch.randn(3, *x_0.shape, generator=draw)
    clean = x_0 + 0.01 * clean
    below = [t - 1 for t in times]
    together = bound_term(x_0, x_t, Prediction(clean, fraction), at(times), at(below), "learned", LAST)
    for i, t in enumerate(times):
        prediction = Prediction(clean[[i]], fraction[[i]])
        alone = bound_term(x_0[[i]], x_t[[i]], prediction, at(t), at(t - 1), "learned", LAST)
        torch.testing.assert_close(together[[i]], alone, rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize("t", [2, 3, 100, 500, 1000])
def test_the_expected_terms_of_ideal_denoisers_are_known(t: int) -> None:
    # Gauss-Hermite nodes of x_0 and eps: a mean over them is the exact expectation of a polynomial.
    nodes, weights = np.polynomial.hermite_e.hermegauss(5)
    x_0, eps = (torch.tensor(grid.reshape(-1, 1, 1, 1)) for grid in np.meshgrid(M + S * nodes, nodes))
    weight = torch.tensor(np.outer(weights, weights).flatten() / weights.sum() ** 2)
    x_t = math.sqrt(LINEAR[t]) * x_0 + math.sqrt(1 - LINEAR[t]) * eps
    clean = ideal_clean(x_t, math.sqrt(LINEAR[t]), math.sqrt(1 - LINEAR[t]))

    def term(variance: Variance, fraction: float = 0.0) -> float:
        prediction = Prediction(clean, torch.full_like(clean, fraction))
        return float((weight * bound_term(x_0, x_t, prediction, at(t), at(t - 1), variance, LAST)).sum())

    snr_t, snr_s = (LINEAR[k] / (1 - LINEAR[k]) for k in (t, t - 1))
    assert term("small") == pytest.approx((snr_s - snr_t) / 2 * clean_variance(t) / BITS, rel=1e-5)
    # Learned, the term can fall to the information that x_s holds of x_0 beyond x_t, and no further.
    best = best_fraction(t, t - 1)
    information = math.log(reverse_variance(t, t - 1) / pair(t, t - 1)[2]) / 2
    assert term("learned", best) == pytest.approx(information / BITS, rel=1e-4)
    assert term("learned", best) < min(term("learned", best - 0.2), term("learned", best + 0.2), term("small"))


def chain(times: list[int], schedule: Schedule = SCHEDULE) -> Chain:
    earlier = as_tensors(schedule.level([t - 1 for t in times]))
    return Chain(earlier, last_variance(schedule), schedule.timesteps)


@pytest.mark.parametrize("kind", ["vlb", "hybrid"])
def test_a_loss_made_of_the_bound_needs_the_chain(kind: str) -> None:
    with pytest.raises(ValueError, match="chain"):
        loss_of("v", torch.tensor(ANSWER), kind=kind)


@pytest.mark.parametrize("target", TARGETS)
def test_the_bound_as_a_loss_weighs_the_clean_error_alike_for_every_target(target: Target) -> None:
    expected = [
        1000 * (LINEAR[t - 1] / (1 - LINEAR[t - 1]) - snr) / 2 * error / BITS
        for t, (snr, error) in zip(TIMES, errors_of_the_clean_image(target), strict=True)
    ]
    found = loss_of(target, torch.tensor(ANSWER), kind="vlb", chain=chain(TIMES))
    assert found.dtype == torch.float32
    assert found.tolist() == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("target", ["eps", "v"])
def test_networks_that_err_alike_in_other_words_have_the_same_bound(target: Target) -> None:
    class Wrong(IdealNetwork):
        """The ideal clean image plus 0.01, told as each target tells it."""

        def forward(self, x: Tensor, time: Tensor, condition: Mapping[str, Tensor]) -> Tensor:
            abar = torch.tensor(LINEAR)[time.long() + 1].reshape(-1, 1, 1, 1)
            change = {"x0": torch.ones(1), "eps": -(abar / (1 - abar)).sqrt(), "v": -1 / (1 - abar).sqrt()}[self.target]
            return super().forward(x, time, condition) + 0.01 * change

    times = [1, 2, 37, 500, 999, 1000]
    x_0, eps = (torch.linspace(a, b, 6).reshape(-1, 1, 1, 1) for a, b in ((-1, 1), (1.5, -0.7)))
    x_0 = (127.5 * (x_0 + 1)).round() / 127.5 - 1
    losses = [
        Denoiser(Wrong(name), name, "level").loss(x_0, at(times), eps, {}, "vlb", chain=chain(times))
        for name in (target, "x0")
    ]
    torch.testing.assert_close(*losses, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_its_mean_over_all_levels_is_the_bound_term_by_term(kind: str) -> None:
    steps, answer = 20, 0.3
    schedule = Schedule(ScheduleConfig(kind, steps))  # type: ignore[arg-type]
    times = list(range(1, steps + 1))
    x_0 = torch.full((steps, 1, 1, 1), 77 / 255)
    eps = torch.linspace(-2, 2, steps).reshape(-1, 1, 1, 1)
    level = as_tensors(schedule.level(times))
    found = Denoiser(Fixed(torch.tensor(answer)), "x0", "level").loss(
        x_0, level, eps, {}, "vlb", chain=chain(times, schedule)
    )
    snr = [float(a / (1 - a)) for a in schedule.abars[1:]]
    error = (77 / 255 - answer) ** 2
    terms = [(before - after) / 2 * error for before, after in pairwise(snr)]
    deviation = math.sqrt(float(schedule.betas[2] * (1 - schedule.abars[1]) / (1 - schedule.abars[2])))
    edges = [(77 / 255 + side / 255 - answer) / (deviation * math.sqrt(2)) for side in (-1, 1)]
    pixel = -math.log((math.erf(edges[1]) - math.erf(edges[0])) / 2)
    assert float(found.detach().mean()) == pytest.approx((sum(terms) + pixel) / BITS, rel=1e-4)


# --- learned variance ------------------------------------------------------------------------------------------------


class TwoHalves(nn.Module):
    """A network of two numbers: what it answers, and the v of its variance."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = nn.Parameter(torch.tensor(0.2))
        self.v = nn.Parameter(torch.tensor(-0.3))

    def forward(self, x: Tensor, time: Tensor, condition: Mapping[str, Tensor]) -> Tensor:
        del time, condition
        return torch.cat([self.answer.expand_as(x), self.v.expand_as(x)], 1)


def gradients(target: Target, kind: str, share: float = 1.0) -> tuple[Tensor, Tensor]:
    """Of the answer and of v, from a batch with every kind of term in it."""
    times = [1, 2, 400, 1000]
    draw = torch.Generator().manual_seed(0)
    x_0 = torch.randint(0, 256, (4, 2, 3, 3), generator=draw) / 127.5 - 1
    network = TwoHalves()
    denoiser = Denoiser(network, target, "level", learned_variance=True)
    loss = denoiser.loss(x_0, at(times), torch.randn(x_0.shape, generator=draw), {}, kind, chain=chain(times))  # type: ignore[arg-type]
    (share * loss.sum()).backward()
    return (
        network.answer.grad if network.answer.grad is not None else torch.zeros(()),
        network.v.grad if network.v.grad is not None else torch.zeros(()),
    )


@pytest.mark.parametrize("target", TARGETS)
def test_in_the_hybrid_the_mean_learns_from_the_simple_loss_and_the_variance_from_the_bound(target: Target) -> None:
    hybrid, simple, vlb = gradients(target, "hybrid"), gradients(target, "simple"), gradients(target, "vlb")
    assert torch.equal(hybrid[0], simple[0])
    assert float(simple[1]) == 0
    assert float(hybrid[1]) != 0
    assert float(vlb[0]) != 0  # there would be something to stop
    assert float(hybrid[1]) == pytest.approx(0.001 * float(vlb[1]), rel=1e-5)


def test_the_hybrid_is_the_simple_loss_and_a_thousandth_of_the_bound() -> None:
    x_0, eps = (x.reshape(3, 1, 1, 1) for x in (X_0, EPS))
    denoiser = Denoiser(TwoHalves(), "v", "level", learned_variance=True)
    simple, vlb, hybrid = (
        denoiser.loss(x_0, at(TIMES), eps, {}, kind, chain=chain(TIMES))  # type: ignore[arg-type]
        for kind in ("simple", "vlb", "hybrid")
    )
    torch.testing.assert_close(hybrid, simple + 0.001 * vlb)


@pytest.mark.parametrize("t", [2, 5, 20])
def test_a_variance_that_is_learned_becomes_that_of_the_data(t: int) -> None:
    class Learns(IdealNetwork):
        """An ideal mean beside a v to be learned."""

        def __init__(self) -> None:
            super().__init__("v")
            self.v = nn.Parameter(torch.zeros(()))

        def forward(self, x: Tensor, time: Tensor, condition: Mapping[str, Tensor]) -> Tensor:
            return torch.cat([super().forward(x, time, condition), self.v.expand_as(x)], 1)

    network, (nodes, weights) = Learns(), np.polynomial.hermite_e.hermegauss(5)
    x_0, eps = (torch.tensor(grid.reshape(-1, 1, 1, 1)) for grid in np.meshgrid(M + S * nodes, nodes))
    weight = torch.tensor(np.outer(weights, weights).flatten() / weights.sum() ** 2)
    denoiser, times = Denoiser(network, "v", "level", learned_variance=True), [t] * len(x_0)
    level, below = at(times), chain(times)
    adam = torch.optim.Adam([network.v], lr=0.1)
    for _ in range(100):
        adam.zero_grad()
        (weight * denoiser.loss(x_0, level, eps, {}, "hybrid", chain=below)).sum().backward()
        adam.step()
    expected = best_fraction(t, t - 1)
    assert 0 < expected < 1
    assert (float(network.v.detach()) + 1) / 2 == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", ["vlb", "hybrid"])
@pytest.mark.parametrize("size", [0.0, 1.0, 300.0])
def test_answers_far_off_have_a_finite_loss_and_gradient(target: Target, kind: str, size: float) -> None:
    times = [1, 1, 2, 500, 999, 1000]
    answer = size * torch.tensor([1.0, -1, 1, -1, 1, -1]).reshape(-1, 1, 1, 1)
    network = Fixed(torch.cat([answer, answer.clamp(-3, 3)], 1))
    denoiser = Denoiser(network, target, "level", learned_variance=True)
    x_0, eps = torch.tensor([-1.0, 1, -1, 1, 7 / 255, -1]).reshape(-1, 1, 1, 1), torch.full((6, 1, 1, 1), 0.5)
    loss = denoiser.loss(x_0, at(times), eps, {}, kind, chain=chain(times))  # type: ignore[arg-type]
    assert bool(torch.isfinite(loss).all())
    loss.sum().backward()
    assert network.answer.grad is not None
    assert bool(torch.isfinite(network.answer.grad).all())


# --- guidance and clipping -------------------------------------------------------------------------------------------


def by_label(x_t: Tensor, level: Level[Tensor], condition: Condition) -> Prediction:
    """A denoiser whose answer tells the image, its level and its label."""
    t = level.t.reshape(-1, 1, 1, 1)
    return Prediction(x_t + 100 * condition["label"].reshape(-1, 1, 1, 1) + t.to(x_t.dtype))


@pytest.mark.parametrize("t", [5, [5, 700, 30]])
@pytest.mark.parametrize("scale", [0.0, 0.3, 1.0, 2.0, 7.5])
def test_guidance_is_the_line_from_unconditional_through_conditional(scale: float, t: int | list[int]) -> None:
    x, labels = torch.tensor([0.1, 0.2, 0.3]).reshape(-1, 1, 1, 1), torch.tensor([0, 1, 2])
    cond = by_label(x, at(t), {"label": labels}).clean
    uncond = by_label(x, at(t), {"label": torch.tensor([3, 3, 3])}).clean
    found = Guide(by_label, scale, {"label": 3})(x, at(t), {"label": labels}).clean
    torch.testing.assert_close(found, uncond + scale * (cond - uncond))
    if scale in (0, 1):
        assert torch.equal(found, cond if scale else uncond)


@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
def test_guidance_keeps_the_conditional_fraction(scale: float) -> None:
    def learned(x_t: Tensor, level: Level[Tensor], condition: Condition) -> Prediction:
        return Prediction(x_t, by_label(x_t, level, condition).clean)

    x, labels = torch.tensor([0.1, 0.2, 0.3]).reshape(-1, 1, 1, 1), torch.tensor([0, 1, 2])
    found = Guide(learned, scale, {"label": 3})(x, at(5), {"label": labels}).variance_fraction
    assert found is not None
    assert torch.equal(found, by_label(x, at(5), {"label": labels}).clean)


@pytest.mark.parametrize("t", [100.0, 300.0, 500.0, 700.0, 900.0, [100.0, 500.0, 900.0]])
def test_outside_its_interval_there_is_no_guidance(t: float | list[float]) -> None:
    x, labels = torch.tensor([0.1, 0.2, 0.3]).reshape(-1, 1, 1, 1), {"label": torch.tensor([0, 1, 2])}
    found = Guide(by_label, 3.0, {"label": 3}, interval=(300.0, 700.0))(x, at(t), labels).clean
    everywhere, nowhere = Guide(by_label, 3.0, {"label": 3})(x, at(t), labels).clean, by_label(x, at(t), labels).clean
    for number, level in enumerate(t if isinstance(t, list) else [t] * 3):
        expected = everywhere if 300 <= level <= 700 else nowhere
        torch.testing.assert_close(found[number], expected[number])


@pytest.mark.parametrize("rescale", [0.3, 1.0])
def test_rescaled_guidance_has_the_contrast_of_the_conditional_image(rescale: float) -> None:
    """Std s_cond + (1 - rescale) (s_guided - s_cond) of each image, written out in numpy."""
    drawn = torch.randn(2, 3, 1, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def two(x_t: Tensor, level: Level[Tensor], condition: Condition) -> Prediction:
        del level, condition
        return Prediction(drawn[0] if len(x_t) == 3 else torch.cat([drawn[0], drawn[1]]))

    labels = {"label": torch.tensor([0, 1, 2])}
    found = Guide(two, 4.0, {"label": 3}, rescale=rescale)(torch.zeros(3, 1, 6, 6), at(5), labels).clean.numpy()
    cond, uncond = drawn.numpy()
    plain = uncond + 4 * (cond - uncond)
    for image in range(3):
        whole = plain[image] * cond[image].std() / plain[image].std()
        np.testing.assert_allclose(found[image], rescale * whole + (1 - rescale) * plain[image], rtol=1e-12)


@pytest.mark.parametrize("threshold", [0.5, 0.9, 0.995, 1.0])
def test_dynamic_thresholding_scales_by_what_a_share_of_the_pixels_does_not_exceed(threshold: float) -> None:
    """The order statistic by sorting; an image within [-1, 1] stays as it is."""
    clean = 3 * torch.randn(4, 2, 7, 5, generator=torch.Generator().manual_seed(1))
    clean[3] = clean[3].clamp(-1, 1) * 0.9
    found = Clip(lambda *_: Prediction(clean), threshold)(clean, at(5), {}).clean.numpy()
    for image, before in enumerate(clean.numpy()):
        ordered = np.sort(np.abs(before).ravel())
        s = max(1.0, ordered[math.ceil(threshold * ordered.size) - 1])
        np.testing.assert_allclose(found[image], np.clip(before, -s, s) / s, rtol=1e-6)
    np.testing.assert_array_equal(found[3], clean[3].numpy())


@pytest.mark.parametrize("t", [5, [5, 700, 30]])
@pytest.mark.parametrize("scale", [0.0, 0.3, 1.0, 2.0, 7.5])
def test_a_guide_is_led_away_from_with_the_same_condition(scale: float, t: int | list[int]) -> None:
    """Karras et al. 2024, equation 3: D_w = w D_1 + (1 - w) D_0."""

    def worse(x_t: Tensor, level: Level[Tensor], condition: Condition) -> Prediction:
        return Prediction(-3 * by_label(x_t, level, condition).clean, torch.zeros_like(x_t))

    def learned(x_t: Tensor, level: Level[Tensor], condition: Condition) -> Prediction:
        return by_label(x_t, level, condition)._replace(variance_fraction=x_t)

    x, labels = torch.tensor([0.1, 0.2, 0.3]).reshape(-1, 1, 1, 1), {"label": torch.tensor([0, 1, 2])}
    found = Guide(learned, scale, worse)(x, at(t), labels)
    good, bad = by_label(x, at(t), labels).clean, worse(x, at(t), labels).clean
    torch.testing.assert_close(found.clean, scale * good + (1 - scale) * bad)
    assert found.variance_fraction is x


@pytest.mark.parametrize("t", [5, [5, 700, 30]])
def test_a_blend_is_the_line_between_two_conditions(t: int | list[int]) -> None:
    def learned(x_t: Tensor, level: Level[Tensor], condition: Condition) -> Prediction:
        return Prediction(*[by_label(x_t, level, condition).clean] * 2)

    x, first, second = torch.randn(3, 1, 1, 1), {"label": torch.tensor([0, 1, 2])}, {"label": torch.tensor([2, 2, 0])}
    share = torch.tensor([0.0, 0.25, 1.0])
    found = Blend(learned, second, share)(x, at(t), first)
    a, b = (by_label(x, at(t), condition).clean for condition in (first, second))
    assert found.variance_fraction is not None
    for field in (found.clean, found.variance_fraction):
        assert torch.equal(field[0], a[0])
        torch.testing.assert_close(field[1], 0.75 * a[1] + 0.25 * b[1])
        assert torch.equal(field[2], b[2])


def test_a_guided_question_is_one_batch() -> None:
    sizes = []

    def count(x_t: Tensor, level: Level[Tensor], condition: Condition) -> Prediction:
        del level, condition
        sizes.append(len(x_t))
        return Prediction(x_t)

    Guide(count, 2, {"label": 3})(torch.zeros(3, 1, 1, 1), at(5), {"label": torch.tensor([0, 1, 2])})
    assert sizes == [6]


def test_clip_keeps_clean_images_between_minus_1_and_1() -> None:
    def answer(x_t: Tensor, level: Level[Tensor], condition: Condition) -> Prediction:
        del level, condition
        return Prediction(x_t, x_t)

    x = torch.tensor([-7, -1, -0.3, 0, 0.9, 1, 1.1])
    found = Clip(answer)(x, at(5), {})
    assert found.clean.tolist() == pytest.approx(np.clip(x.tolist(), -1, 1).tolist())
    assert found.variance_fraction is x


@pytest.mark.parametrize("t", [1, 300, 500, 900])
def test_losses_of_one_prediction_convert_as_the_page_says(t: int) -> None:
    """eps-loss = abar v-loss, x0-loss = (1 - abar) v-loss, and the v-loss is their sum.

    One prediction v as the other two, by x_t = a x_0 + b eps and v = a eps - b x_0 and not by the denoiser.
    """
    generator = torch.Generator().manual_seed(0)
    x_0, eps, v = (torch.randn(6, 1, 4, 4, generator=generator, dtype=torch.float64) for _ in range(3))
    a, b = math.sqrt(LINEAR[t]), math.sqrt(1 - LINEAR[t])
    x_t = a * x_0 + b * eps
    same = {"v": v, "x0": a * x_t - b * v, "eps": b * x_t + a * v}
    levels = at([t] * 6)
    loss = {
        target: Denoiser(Fixed(value), target, "level").loss(x_0, levels, eps, {})  # type: ignore[arg-type]
        for target, value in same.items()
    }
    torch.testing.assert_close(loss["eps"], a * a * loss["v"], rtol=1e-6, atol=0)
    torch.testing.assert_close(loss["x0"], b * b * loss["v"], rtol=1e-6, atol=0)
    torch.testing.assert_close(loss["eps"] + loss["x0"], loss["v"], rtol=1e-6, atol=0)
