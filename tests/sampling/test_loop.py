"""The walk visits its plan, hands out draws by step, lets the caller interfere, and refuses plans that do not fall."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from ddpm_cli.config import SamplerConfig, ScheduleConfig
from ddpm_cli.denoiser import Condition, Prediction
from ddpm_cli.sampling import invert, plan, rule, sample
from ddpm_cli.sampling.rules import Move
from ddpm_cli.schedule import Level, Schedule
from oracles import LINEAR, gaussian_flow, ideal_clean

SCHEDULE = Schedule(ScheduleConfig("linear"))
DDPM = rule(SamplerConfig("ddpm"))


def half(x_t: Tensor, level: Level[Tensor], condition: Condition) -> Prediction:
    del level, condition
    return Prediction(x_t / 2)


def zeros(*_: object) -> Tensor:
    return torch.zeros(1, 1, 2, 2)


def test_every_level_after_the_first_is_yielded_with_its_images_and_estimate() -> None:
    x = torch.ones(1, 1, 2, 2)
    steps = list(sample(half, x, plan(SCHEDULE, 4, "uniform"), zeros, DDPM))
    assert [float(step.level.t) for step in steps] == [750, 500, 250, 0]
    for before, step in zip([x, *(step.x for step in steps)], steps, strict=False):
        assert torch.equal(step.clean, before / 2)


def test_noise_is_asked_for_by_purpose_and_number_of_the_step() -> None:
    asked: list[tuple[str, int]] = []

    def draw(purpose: str, step: int) -> Tensor:
        asked.append((purpose, step))
        return zeros()

    list(sample(half, zeros(), plan(SCHEDULE, 4, "uniform"), draw, DDPM))
    assert asked == [("step", 0), ("step", 1), ("step", 2)]


def test_the_condition_reaches_every_question() -> None:
    heard = []

    def listen(x_t: Tensor, level: Level[Tensor], condition: Condition) -> Prediction:
        heard.append((float(level.t), int(condition["label"])))
        return Prediction(x_t)

    list(sample(listen, zeros(), plan(SCHEDULE, 2, "uniform"), zeros, DDPM, {"label": torch.tensor([7])}))
    assert heard == [(1000, 7), (500, 7)]


def test_project_has_the_last_word_on_every_step() -> None:
    def project(x: Tensor, level: Level[Tensor]) -> Tensor:
        return torch.full_like(x, float(level.t))

    steps = list(sample(half, zeros(), plan(SCHEDULE, 4, "uniform"), zeros, DDPM, project=project))
    assert [float(step.x.mean()) for step in steps] == [750, 500, 250, 0]
    assert [float(step.clean.mean()) for step in steps] == [0, 375, 250, 125]


def test_the_walk_ends_where_the_caller_stops_asking() -> None:
    questions = []

    def count(x_t: Tensor, level: Level[Tensor], condition: Condition) -> Prediction:
        questions.append(level)
        return half(x_t, level, condition)

    steps = sample(count, zeros(), plan(SCHEDULE, 50, "uniform"), zeros, DDPM)
    next(steps)
    next(steps)
    steps.close()  # type: ignore[attr-defined]
    assert len(questions) == 2


@pytest.mark.parametrize("times", [[3, 3, 0], [2, 3, 0], [0, 0], [5, 0, 2], [0, 5]])
def test_a_plan_that_does_not_fall_is_refused(times: list[int]) -> None:
    with pytest.raises(ValueError, match="fall strictly"):
        list(sample(half, zeros(), [SCHEDULE.level(t) for t in times], zeros, DDPM))


# --- upwards --------------------------------------------------------------------------------------------------------


def ideal(x_t: Tensor, level: Level[Tensor], condition: Condition) -> Prediction:
    del condition
    return Prediction(ideal_clean(x_t, level.signal, level.noise))


def test_an_image_becomes_the_noise_of_its_quantile_and_comes_back() -> None:
    x_0, misses, returns = torch.tensor([0.2, 0.9, 1.3], dtype=torch.float64).reshape(-1, 1, 1, 1), [], []
    exact = torch.tensor([gaussian_flow(x, 1, LINEAR[1000]) for x in x_0.flatten().tolist()])
    for count in (50, 100, 200):
        levels = plan(SCHEDULE, count, "log-snr", -math.inf)
        *_, (level, x_T, _) = invert(ideal, x_0, levels)
        *_, end = sample(ideal, x_T, levels, zeros, rule(SamplerConfig("ddim")))
        assert float(level.t) == 1000
        misses.append(float((x_T.flatten() - exact).abs().max()))
        returns.append(float((end.x - x_0).abs().max()))
    for errors in (misses, returns):  # of first order: half with twice the steps
        assert [a / b for a, b in pairwise(errors)] == pytest.approx([2, 2], abs=0.15)
    assert misses[-1] < 0.05
    assert returns[-1] < 0.05


def test_upwards_it_visits_the_plan_from_its_end_and_asks_at_level_0_for_nothing() -> None:
    asked = []

    def listen(x_t: Tensor, level: Level[Tensor], condition: Condition) -> Prediction:
        asked.append((float(level.t), int(condition["label"])))
        return half(x_t, level, condition)

    steps = list(invert(listen, zeros(), plan(SCHEDULE, 4, "uniform"), {"label": torch.tensor([7])}))
    assert [float(step.level.t) for step in steps] == [250, 500, 750, 1000]
    assert asked == [(250, 7), (250, 7), (500, 7), (750, 7)]


def test_with_the_clean_image_known_the_way_up_is_the_way_down() -> None:
    eps = torch.linspace(-1, 1, 4, dtype=torch.float64).reshape(1, 1, 2, 2)

    def known(x_t: Tensor, level: Level[Tensor], condition: Condition) -> Prediction:
        del condition
        return Prediction((x_t - level.noise * eps) / level.signal)

    x_0 = torch.full_like(eps, 0.3)
    for step in invert(known, x_0, plan(SCHEDULE, 5, "uniform")):
        abar = LINEAR[int(step.level.t)]
        torch.testing.assert_close(step.x, abar**0.5 * x_0 + (1 - abar) ** 0.5 * eps, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("times", [[3, 3, 0], [2, 3, 0], [9, 4], [0, 5]])
def test_upwards_too_a_plan_that_does_not_fall_to_0_is_refused(times: list[int]) -> None:
    with pytest.raises(ValueError, match="fall strictly"):
        list(invert(half, zeros(), [SCHEDULE.level(t) for t in times]))


@pytest.mark.parametrize(("steps", "kept"), [(1, [0]), (2, [0, 1]), (5, [0, 1, 2, 2, 2])])
def test_a_rule_sees_up_to_two_steps_before_the_newest_first(steps: int, kept: list[int]) -> None:
    seen = []

    def look(move: Move) -> Tensor:
        seen.append([float(place.level.t) for place in move.before])
        assert [float(place.level.t) for place in move.places] == [float(move.now.t), *seen[-1]]
        return move.x

    levels = plan(SCHEDULE, steps, "uniform")
    list(sample(half, zeros(), levels, zeros, look))
    times = [float(level.t) for level in levels]
    assert seen == [times[max(0, i - 2) : i][::-1] for i in range(steps)]
    assert [len(before) for before in seen] == kept


def test_no_gradient_is_kept() -> None:
    weight = torch.ones((), requires_grad=True)

    def learning(x_t: Tensor, level: Level[Tensor], condition: Condition) -> Prediction:
        del level, condition
        return Prediction(x_t * weight)

    assert not any(s.x.requires_grad for s in sample(learning, zeros(), plan(SCHEDULE, 3, "uniform"), zeros, DDPM))
