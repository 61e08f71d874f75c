"""The walk visits its plan, hands out draws by step, lets the caller interfere, and refuses plans that do not fall."""

import pytest
import torch
from torch import Tensor

from ddpm_cli.config import SamplerConfig, ScheduleConfig
from ddpm_cli.denoiser import Condition, Prediction
from ddpm_cli.sampling import plan, rule, sample
from ddpm_cli.schedule import Level, Schedule

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


def test_no_gradient_is_kept() -> None:
    weight = torch.ones((), requires_grad=True)

    def learning(x_t: Tensor, level: Level[Tensor], condition: Condition) -> Prediction:
        del level, condition
        return Prediction(x_t * weight)

    assert not any(s.x.requires_grad for s in sample(learning, zeros(), plan(SCHEDULE, 3, "uniform"), zeros, DDPM))
