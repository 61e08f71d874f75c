"""Trying out methods: who competes, who goes on, who wins."""

import math
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddpm_cli import checkpoint, drawing
from ddpm_cli.config import SAMPLERS, SamplerConfig
from ddpm_cli.errors import NumericsError
from ddpm_cli.evaluation.references import reference
from ddpm_cli.evaluation.scores import Distance
from ddpm_cli.evaluation.sweep import Contender, Trial, best, contenders, front, halve, sweep, work
from ddpm_cli.library import TrainingData

SHIPPED = Path(checkpoint.__file__).parent / "weights" / "mnist.safetensors"


def contender(number: int, evaluations: int = 10, budget: int | None = None) -> Contender:
    """One of many, told apart by its guidance."""
    return Contender(
        SamplerConfig("ddim", steps=evaluations, guidance=float(number)), evaluations, budget or evaluations
    )


def trial(value: float, evaluations: int, finished: bool = True) -> Trial:
    return Trial(contender(0, evaluations), 100, Distance(value, 0.0, [value, value]), finished)


def test_every_method_competes_with_as_many_steps_as_a_budget_allows() -> None:
    """Heun asks twice in every step but the last: 3 steps are 5 questions, 10 would be 19, and an 11th 21."""
    model = drawing.ready(SHIPPED, device="cpu", precision="float32").model
    found = {(each.sampler.name, each.budget): each for each in contenders(model)}
    assert set(found) == {(name, budget) for name in SAMPLERS for budget in (5, 10, 20)}
    for (name, budget), each in found.items():
        assert each.evaluations == (budget if name != "heun" else budget - (budget + 1) % 2)
    assert [found["heun", budget].sampler.steps for budget in (5, 10, 20)] == [3, 5, 10]


def test_guided_questions_count_two() -> None:
    model = drawing.ready(SHIPPED, SamplerConfig(guidance=2.0), device="cpu", precision="float32").model
    (found,) = contenders(model, ["dpm++2m"], [10])
    assert (found.sampler.steps, found.evaluations, found.sampler.guidance) == (5, 10, 2.0)


def test_what_is_done_to_clean_images_stays_as_it_is() -> None:
    how = SamplerConfig("ddim", 7, "trailing", 0.3, guidance=2.0, rescale=0.5, interval=(100.0, 700.0), threshold=0.9)
    model = drawing.ready(SHIPPED, how, device="cpu", precision="float32").model
    for each in contenders(model, ["ddim", "ddpm"], [10]):
        kept = (each.sampler.guidance, each.sampler.rescale, each.sampler.interval, each.sampler.threshold)
        assert kept == (2.0, 0.5, (100.0, 700.0), 0.9)
        assert (each.sampler.spacing, each.sampler.eta, each.sampler.variance) == (None, None, None)


def test_whose_numbers_break_is_last_and_nobody_else_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    right = drawing.draw

    def draw(model: Any, *given: Any, **more: Any) -> Any:
        if model.sampler.name == "unipc":
            raise NumericsError("values that are not finite numbers", "")
        return right(model, *given, **more)

    monkeypatch.setattr(drawing, "draw", draw)
    ready = drawing.ready(SHIPPED, device="cpu")
    trained_on = TrainingData("mnist", "mnist")
    against = reference("mnist", (1, 28, 28), trained_on, 0, data_dir=None, offline=True, say=print, progress=print)
    tried = contenders(ready.model, ["unipc", "ddim"], [5])
    found = list(sweep(ready, against, tried, 4, 0))
    assert {each.contender.sampler.name: math.isfinite(each.distance.value) for each in found} == {
        "unipc": False,
        "ddim": True,
    }
    (chosen,) = front(found)
    assert best(found) == chosen
    assert chosen.contender.sampler.name == "ddim"


@pytest.mark.parametrize("number", [2, 80, 801])
def test_the_better_half_goes_on_with_twice_the_images_and_nothing_is_drawn_twice(number: int) -> None:
    """Contender k is k away from real images, so the best of nine is number 1, and the order is known."""
    drawn: dict[Contender, list[int]] = defaultdict(list)

    def draw(each: Contender, images: range) -> np.ndarray:
        drawn[each] += images
        return np.full((len(images), 1), each.sampler.guidance, np.float32)

    def judge(seen: np.ndarray) -> Distance:
        value = float(seen.mean())
        return Distance(value, 0.0, [value, value])

    all_of_them = [contender(k, budget=budget) for budget in (5, 10) for k in (7, 3, 1, 9, 2, 8, 4, 6, 5)]
    found = list(halve(all_of_them, number, draw, judge))
    assert len(found) == len(all_of_them)
    assert {each.contender for each in found} == set(all_of_them)
    for each in found:
        assert drawn[each.contender] == list(range(each.images))
    for budget in (5, 10):
        finished = [each for each in found if each.finished and each.contender.budget == budget]
        rounds = len({each.images for each in found})
        assert all(each.images == number for each in finished)
        left = 9
        for _ in range(rounds - 1):
            left = -(-left // 2)
        assert [each.distance.value for each in finished] == list(range(1, left + 1))
    spent = sum(each.images * each.contender.evaluations for each in found)
    assert spent == work(all_of_them, number)


def test_the_best_is_the_nearest_of_those_that_can_be_afforded() -> None:
    found = [trial(0.5, 20), trial(0.3, 50), trial(0.4, 10), trial(0.1, 5, finished=False)]
    assert best(found) == found[2]
    assert best(found, 50) == found[1]
    assert best([]) is None


def test_the_front_is_of_those_that_nobody_beats_in_both() -> None:
    found = [
        trial(0.5, 20),
        trial(0.9, 5),
        trial(0.6, 10),
        trial(0.7, 10),
        trial(0.5, 40),
        trial(0.1, 5, finished=False),
    ]
    assert front(found) == [found[1], found[2], found[0]]


def test_another_sampler_leaves_id_and_weights_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    path.write_bytes(SHIPPED.read_bytes())
    os.utime(path, (1e9, 1e9))
    before = checkpoint.read_info(path)
    written = checkpoint.set_sampler(path, SamplerConfig("unipc", steps=10))
    assert path.stat().st_mtime == 1e9  # or it would be the newest model
    after = checkpoint.read_info(path)
    assert after == written
    assert (after.id, after.weights, after.training) == (before.id, before.weights, before.training)
    assert after.sampler == SamplerConfig("unipc", steps=10)
    tensors: dict[str, Any] = checkpoint.read_tensors(path)
    assert all(bool((tensors[name] == value).all()) for name, value in checkpoint.read_tensors(SHIPPED).items())
