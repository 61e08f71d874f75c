"""Whatever a network predicts, the denoiser answers with the clean image, and its losses are weights on that."""

import math
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ddpm_cli.config import ScheduleConfig, Target
from ddpm_cli.denoiser import Clip, Condition, Denoiser, Guide, Prediction
from ddpm_cli.forward import as_tensors
from ddpm_cli.schedule import Level, Schedule
from oracles import LINEAR, IdealNetwork, ideal_clean

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
        return self.answer.expand_as(x)


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
            self.conv = nn.Conv2d(1, 1, 1, dtype=weights)

        def forward(self, x: Tensor, time: Tensor, condition: Mapping[str, Tensor]) -> Tensor:
            del time, condition
            out: Tensor = self.conv(x)
            assert out.dtype == (autocast or weights)
            return out

    denoiser = Denoiser(Convolution(), "v", "level")
    denoiser.autocast = autocast
    assert denoiser(torch.zeros(2, 1, 4, 4, dtype=x), at(3), {}).clean.dtype == x


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
