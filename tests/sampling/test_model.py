"""A model draws image k of a seed the same in any company, and refuses what is no image."""

import math
import threading
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from ddpm_cli.config import SAMPLERS, Sampler, SamplerConfig, ScheduleConfig, Target, Time, UNetConfig
from ddpm_cli.denoiser import Condition, Denoiser, Prediction
from ddpm_cli.errors import ModelError, NumericsError, UsageError
from ddpm_cli.networks import build
from ddpm_cli.sampling import DiffusionModel, SeededDraw
from ddpm_cli.sampling.model import InnerBatches, check_images, evaluation_mode
from ddpm_cli.schedule import Level, Schedule

SHAPE = (1, 8, 8)
CLASSES = ("zero", "one", "two")
LEVEL: Level[Tensor] = Level(*(torch.tensor(x) for x in (5.0, 0.8, 0.6, 0.575)))


def model(classes: tuple[str, ...] = CLASSES, learned: bool = False, **options: object) -> DiffusionModel:
    """Random weights, large enough that label and noise matter."""
    config = UNetConfig(SHAPE, len(classes), widths=(8, 16), blocks=1, heads=2, learned_variance=learned)
    torch.manual_seed(0)
    network = build(config)
    with torch.no_grad():
        for p in network.parameters():
            p += 0.1 * torch.randn_like(p)
    denoiser = evaluation_mode(Denoiser(network, "v", "log-snr", learned), torch.device("cpu"), torch.float32)
    sampler = SamplerConfig(steps=4, **options)  # type: ignore[arg-type]
    return DiffusionModel(denoiser, Schedule(ScheduleConfig("cosine")), SHAPE, classes, sampler)


def drawn(model: DiffusionModel, seed: int, images: range | list[int], labels: list[int] | None = None) -> Tensor:
    return torch.cat(list(model.draw(seed, images, labels)))


@pytest.mark.parametrize(
    "options",
    [
        *({}, {"guidance": 2.0}, {"name": "ddim", "eta": 0.5}, *({"name": name} for name in SAMPLERS)),
        {"name": "ddpm", "learned": True, "guidance": 2.0},
    ],
    ids=str,
)
def test_an_image_does_not_depend_on_the_batch(options: dict[str, object]) -> None:
    whole = drawn(replace(model(**options), batch_size=64), 3, range(64))
    assert whole.shape == (64, *SHAPE)
    for size, count in ((1, 4), (7, 18)):
        part = drawn(replace(model(**options), batch_size=size), 3, range(count))
        torch.testing.assert_close(part, whole[:count], rtol=0, atol=1e-4)
    torch.testing.assert_close(drawn(model(**options), 3, [40, 2]), whole[[40, 2]], rtol=0, atol=1e-4)


def test_starting_at_image_k_continues_the_seed() -> None:
    whole = drawn(model(), 3, range(10))
    torch.testing.assert_close(drawn(model(), 3, range(6, 10)), whole[6:], rtol=0, atol=1e-4)


def test_seeds_share_no_image() -> None:
    a, b = (drawn(model(), seed, range(8)) for seed in (3, 4))
    assert float((a[:, None] - b[None]).abs().flatten(2).max(2).values.min()) > 0.1


def test_labels_come_from_the_seed_in_any_batch() -> None:
    labels = SeededDraw(3, range(9), SHAPE).labels(3)
    assert len(set(labels)) > 1
    by_seed, given = drawn(model(), 3, range(9)), drawn(model(), 3, range(9), labels)
    torch.testing.assert_close(by_seed, given, rtol=0, atol=1e-6)
    alone = drawn(model(), 3, [5])
    torch.testing.assert_close(alone, by_seed[[5]], rtol=0, atol=1e-4)


def test_labels_are_dealt_out_over_batches_in_order() -> None:
    labels = [2, 0, 1, 1, 2]
    whole = drawn(model(), 0, range(5), labels)
    torch.testing.assert_close(drawn(replace(model(), batch_size=2), 0, range(5), labels), whole, rtol=0, atol=1e-4)
    other = drawn(model(), 0, range(5), [2, 0, 1, 0, 2])
    changed = (whole - other).abs().flatten(1).max(1).values > 1e-3
    assert changed.tolist() == [False, False, False, True, False]


def test_a_walk_begins_with_the_noise_of_the_seed_and_ends_with_what_is_drawn() -> None:
    steps = list(model().walk(3, range(5)))
    assert torch.equal(steps[0].x, SeededDraw(3, range(5), SHAPE)("start"))
    assert [float(step.level.t) for step in steps] == pytest.approx([float(level.t) for level in model().plan()])
    assert torch.equal(steps[-1].x, drawn(model(), 3, range(5)))
    assert float(steps[-1].x.abs().max()) <= 1  # clipped


def test_without_clipping_images_may_leave_the_range() -> None:
    assert float(drawn(model(clip=False), 3, range(5)).abs().max()) > 1


def test_ddpm_takes_the_variance_that_the_model_has_learned() -> None:
    common = {"learned": True, "name": "ddpm"}
    by_itself, learned, small = (
        drawn(model(**common, variance=variance), 3, range(3)) for variance in (None, "learned", "small")
    )
    assert torch.equal(by_itself, learned)
    assert float((learned - small).abs().max()) > 1e-3
    with pytest.raises(UsageError, match="learned no variance"):
        drawn(model(name="ddpm", variance="learned"), 3, range(3))


def test_guidance_moves_images_and_asks_twice() -> None:
    off, on = model(), model(guidance=3.0)
    assert float((drawn(off, 3, range(3)) - drawn(on, 3, range(3))).abs().max()) > 1e-3
    assert (off.evaluations, on.evaluations) == (4, 8)


@pytest.mark.parametrize("guided", [{}, {"guidance": 3.0}, {"guidance": 3.0, "interval": (300.0, 700.0)}])
@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_evaluations_are_the_images_that_the_network_has_seen(name: str, guided: dict[str, Any], steps: int) -> None:
    drawing, seen = model(name=name, **guided), []
    drawing = replace(drawing, sampler=replace(drawing.sampler, steps=steps), inner_batch=1)
    drawing.denoiser.network.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    drawn(drawing, 3, [0])
    assert sum(seen) == drawing.evaluations


@pytest.mark.parametrize("classes", [CLASSES, ()])
@pytest.mark.parametrize("interval", [None, (500.0, 900.0)])
def test_a_guide_is_asked_as_often_as_the_model(classes: tuple[str, ...], interval: tuple[float, float] | None) -> None:
    plain = model(classes, spacing="log-snr")
    guided = replace(plain, sampler=replace(plain.sampler, guidance=2.0, interval=interval), inner_batch=1)
    torch.manual_seed(1)
    worse = evaluation_mode(
        Denoiser(build(UNetConfig(SHAPE, len(classes), widths=(8, 8), blocks=1, heads=2)), "x0", "log-snr"),
        torch.device("cpu"),
        torch.float32,
    )
    guided, seen = replace(guided, guide=worse), []
    for name, denoiser in (("model", guided.denoiser), ("guide", worse)):
        denoiser.network.register_forward_hook(lambda _, inputs, __, name=name: seen.append((name, len(inputs[0]))))
    images = drawn(guided, 3, [0])
    inside = [t for t in (float(level.t) for level in guided.plan()[:-1]) if interval is None or 500 <= t <= 900]
    assert seen.count(("model", 1)) == 4
    assert seen.count(("guide", 1)) == len(inside) > 0
    assert len(seen) == guided.evaluations
    assert float((images - drawn(plain, 3, [0])).abs().max()) > 1e-3


def test_a_guide_without_guidance_is_a_usage_error() -> None:
    drawing = model()
    with pytest.raises(UsageError, match="does nothing"):
        drawn(replace(drawing, guide=drawing.denoiser), 3, [0])


@pytest.mark.parametrize("time", ["level", "log-snr"])
@pytest.mark.parametrize("target", ["x0", "v"])
@pytest.mark.parametrize("name", SAMPLERS)
def test_without_any_signal_at_level_T_every_method_starts_there(name: Sampler, target: Target, time: Time) -> None:
    """Where x_T is noise alone, all methods go to the estimate there, and none divides by nothing."""
    drawing = model(name=name, spacing="trailing")
    schedule = Schedule(ScheduleConfig("cosine", zero_terminal_snr=True))
    denoiser = Denoiser(drawing.denoiser.network, target, time)
    drawing = replace(drawing, schedule=schedule, denoiser=denoiser, sampler=replace(drawing.sampler, steps=6))
    steps = list(drawing.walk(3, range(2)))
    assert float(steps[0].level.signal) == 0
    assert bool(torch.isfinite(torch.stack([step.x for step in steps])).all())
    if name in ("ddim", "euler", "dpm++2m"):
        expected = steps[1].level.signal * steps[1].clean + steps[1].level.noise * steps[0].x
        torch.testing.assert_close(steps[1].x, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("classes", "options", "labels"),
    [(CLASSES, {}, [3]), (CLASSES, {}, [-1]), ((), {}, [0]), ((), {"guidance": 2.0}, None)],
)
def test_impossible_wishes_are_usage_errors(
    classes: tuple[str, ...], options: dict[str, object], labels: list[int] | None
) -> None:
    with pytest.raises(UsageError):
        drawn(model(classes, **options), 0, [0], labels)


def test_an_unconditional_model_draws_too() -> None:
    assert drawn(model(()), 0, range(3)).shape == (3, *SHAPE)


@pytest.mark.parametrize("count", [1, 4, 5, 8, 11])
@pytest.mark.parametrize("levels", ["one", "each"])
def test_inner_batches_are_the_direct_call(count: int, levels: str) -> None:
    sizes = []

    def direct(x_t: Tensor, level: Level[Tensor], condition: Condition) -> Prediction:
        sizes.append(len(x_t))
        clean = x_t * level.signal.reshape(-1, 1, 1, 1) + condition["label"].reshape(-1, 1, 1, 1)
        return Prediction(clean, 2 * clean)

    x, label = torch.randn(count, 1, 2, 2), torch.arange(count)
    level = LEVEL if levels == "one" else Level(*(field + torch.arange(count) for field in LEVEL))
    found, expected = InnerBatches(direct, 4)(x, level, {"label": label}), direct(x, level, {"label": label})
    assert torch.equal(found.clean, expected.clean)
    assert found.variance_fraction is not None
    assert expected.variance_fraction is not None
    assert torch.equal(found.variance_fraction, expected.variance_fraction)
    assert set(sizes[:-1]) == {4}


@pytest.mark.parametrize("options", [{}, {"guidance": 2.0, "rescale": 0.5}, {"name": "heun"}], ids=str)
def test_an_image_does_not_depend_on_the_number_of_threads(options: dict[str, object]) -> None:
    before = torch.get_num_threads()
    try:
        found = []
        for kernels, batches in ((1, 1), (1, 2), (2, 1), (3, 4)):
            torch.set_num_threads(kernels)
            found.append(drawn(replace(model(**options), inner_batch=4, threads=batches), 3, range(18)))
            assert torch.get_num_threads() == kernels
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(each, found[0]) for each in found[1:])


def test_inner_batches_are_computed_at_a_time_each_by_one_thread() -> None:
    together, kernels = threading.Barrier(3, timeout=60), []

    def direct(x_t: Tensor, _: Level[Tensor], __: Condition) -> Prediction:
        together.wait()  # all three are here before one of them goes on
        kernels.append(torch.get_num_threads())
        return Prediction(2 * x_t)

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        x = torch.randn(12, 1, 2, 2)
        with torch.inference_mode():
            found = InnerBatches(direct, 4, threads=3)(x, LEVEL, {}).clean
            assert found.is_inference()
        assert torch.equal(found, 2 * x)
        assert kernels == [1, 1, 1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_an_error_in_one_of_several_threads_is_raised() -> None:
    def direct(x_t: Tensor, _: Level[Tensor], __: Condition) -> Prediction:
        if float(x_t.min()) > 4:
            raise RuntimeError("shapes differ")
        return Prediction(x_t)

    with pytest.raises(RuntimeError, match="shapes differ"):
        InnerBatches(direct, 2, threads=2)(torch.arange(8.0).reshape(8, 1, 1, 1), LEVEL, {})


@pytest.mark.parametrize("error", [RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), MemoryError()])
def test_where_memory_runs_out_batches_are_halved_for_good(error: Exception) -> None:
    sizes = []

    def direct(x_t: Tensor, _: Level[Tensor], __: Condition) -> Prediction:
        sizes.append(len(x_t))
        if len(x_t) > 3:
            raise error
        return Prediction(2 * x_t)

    asked, x = InnerBatches(direct, 8), torch.randn(5, 1, 2, 2)
    for _ in range(2):
        assert torch.equal(asked(x, LEVEL, {}).clean, 2 * x)
    assert sizes == [8, 4, 2, 2, 2, 2, 2, 2]


def test_a_single_image_too_large_for_memory_and_other_errors_are_raised() -> None:
    for error in (RuntimeError("not enough memory: you tried to allocate 3 bytes"), RuntimeError("shapes differ")):

        def direct(*_: object, error: Exception = error) -> Prediction:
            raise error

        with pytest.raises(RuntimeError, match=str(error)):
            InnerBatches(direct, 4)(torch.randn(5, 1, 2, 2), LEVEL, {})


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_images_that_are_not_finite_are_refused(bad: float) -> None:
    x = torch.rand(3, 1, 4, 4)
    check_images(x)
    x[1, 0, 2, 3] = bad
    with pytest.raises(NumericsError, match="finite") as caught:
        check_images(x)
    assert caught.value.exit_code == 5
    assert caught.value.hint


def test_flat_images_are_refused_unless_one_has_content() -> None:
    flat = torch.tensor([-1.0, 0.3, 1.0]).reshape(3, 1, 1, 1).expand(3, 1, 4, 4).clone()
    with pytest.raises(NumericsError, match="flat"):
        check_images(flat)
    check_images(flat, flat=True)  # as the images of the training are
    flat[2, 0, 0, 0] = 0.5
    check_images(flat)


def test_a_model_with_broken_weights_draws_nothing() -> None:
    broken = model()
    with torch.no_grad():
        next(broken.denoiser.parameters())[0] = math.nan
    with pytest.raises(NumericsError):
        drawn(broken, 0, [0])
    with pytest.raises(ModelError):
        evaluation_mode(broken.denoiser, torch.device("cpu"), torch.float32)
