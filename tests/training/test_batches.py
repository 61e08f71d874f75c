"""What a step sees belongs to the step, and an epoch sees everything."""

import numpy as np
import pytest
import torch

from ddpm_cli import machine
from ddpm_cli.config import ScheduleConfig, Times, TrainConfig
from ddpm_cli.schedule import Schedule
from ddpm_cli.seeds import generator
from ddpm_cli.training import Batches
from ddpm_cli.training.batches import draw_times

SCHEDULE = Schedule(ScheduleConfig("linear"))
TIMES: tuple[Times, ...] = ("uniform", "stratified", "logit-normal")


def batches(count: int = 23, classes: int = 3, **options: object) -> Batches:
    """Images of one grey value each, by which they are known; values 0..count - 1, labels by value."""
    images = torch.arange(count, dtype=torch.uint8).reshape(-1, 1, 1, 1).expand(-1, 1, 4, 6)
    labels = torch.arange(count) % classes if classes else None
    config = TrainConfig(**{"batch_size": 5, "seed": 7, **options})  # type: ignore[arg-type]
    return Batches(images, labels, classes, SCHEDULE, config, torch.device("cpu"))


def which(x_0: torch.Tensor) -> list[int]:
    return [round(value) for value in (127.5 * (x_0[:, 0, 0, 0] + 1)).tolist()]


def test_the_draws_of_a_step_do_not_depend_on_what_ran_before() -> None:
    forwards, backwards = batches(), batches()
    there = [forwards(step) for step in range(12)]
    back = [backwards(step) for step in reversed(range(12))][::-1]
    for a, b, alone in zip(there, back, (batches()(step) for step in range(12)), strict=True):
        for other in (b, alone):
            assert torch.equal(a.x_0, other.x_0)
            assert torch.equal(a.eps, other.eps)
            assert all(torch.equal(x, y) for x, y in zip(a.level, other.level, strict=True))
            assert torch.equal(a.condition["label"], other.condition["label"])


def test_steps_and_seeds_share_no_noise() -> None:
    noise = [batches(seed=seed)(step).eps for seed in (7, 8) for step in range(4)]
    values = torch.cat([eps.flatten() for eps in noise])
    assert len(values.unique()) == len(values)


def test_what_else_is_drawn_in_a_step_is_not_the_noise_again() -> None:
    # A dropout mask made of the numbers that made eps would tell the network about eps.
    batch = batches()(2)
    again = torch.empty_like(batch.x_0).normal_(generator=torch.Generator().manual_seed(batch.seed))
    assert not torch.equal(again, batch.eps)


def test_global_random_state_has_no_say() -> None:
    torch.manual_seed(0)
    first = batches()(3)
    torch.manual_seed(1)
    assert torch.equal(batches()(3).eps, first.eps)


@pytest.mark.parametrize(("count", "size"), [(20, 5), (23, 5), (3, 5), (1, 1)])
def test_an_epoch_visits_every_image_once_and_fills_up_its_last_batch(count: int, size: int) -> None:
    found = batches(count, batch_size=size)
    assert found.steps_per_epoch == int(np.ceil(count / size))
    orders = []
    for epoch in range(3):
        steps = range(epoch * found.steps_per_epoch, (epoch + 1) * found.steps_per_epoch)
        rows = np.concatenate([found.rows(step) for step in steps])
        assert len(rows) == size * found.steps_per_epoch
        assert sorted(rows[:count]) == list(range(count))
        assert rows[count:].tolist() == [rows[k % count] for k in range(len(rows) - count)]
        orders.append(rows.tolist())
    if count > 3:
        assert orders[0] != orders[1] != orders[2]
        assert orders[0] != batches(count, batch_size=size, seed=8).rows(0).tolist()


def test_images_run_from_minus_1_to_1_and_keep_their_labels() -> None:
    images = torch.tensor([0, 255], dtype=torch.uint8).reshape(2, 1, 1, 1)
    config = TrainConfig(batch_size=2, label_drop=0)
    found = Batches(images, torch.tensor([4, 9]), 10, SCHEDULE, config, torch.device("cpu"))(0)
    pairs = set(zip(found.x_0.flatten().tolist(), found.condition["label"].tolist(), strict=True))
    assert pairs == {(-1.0, 4), (1.0, 9)}


def test_everything_has_the_shape_and_dtype_of_a_batch() -> None:
    found = batches()(4)
    assert found.x_0.shape == found.eps.shape == (5, 1, 4, 6)
    assert found.x_0.dtype == found.eps.dtype == torch.float32
    assert all(field.shape == (5,) and field.dtype == torch.float32 for field in found.level)
    assert found.condition["label"].dtype == torch.int64
    assert [image % 3 for image in which(batches(label_drop=0)(4).x_0)] == batches(label_drop=0)(4).condition[
        "label"
    ].tolist()


def test_levels_are_those_of_the_schedule() -> None:
    level = batches(batch_size=23)(0).level
    expected = SCHEDULE.level(level.t.double().numpy())
    for field, wanted in zip(level, expected, strict=True):
        np.testing.assert_allclose(field.numpy(), wanted, rtol=1e-6)


@pytest.mark.parametrize("loss", ["vlb", "hybrid"])
def test_a_loss_made_of_the_bound_brings_the_level_below_each(loss: str) -> None:
    found, plain = batches(batch_size=23, loss=loss)(0), batches(batch_size=23)(0)
    assert found.chain is not None
    assert plain.chain is None
    assert (found.level.t - found.chain.earlier.t).tolist() == [1.0] * 23
    assert found.chain.steps == 1000
    assert all(field.dtype == torch.float32 for field in found.chain.earlier)
    expected = SCHEDULE.level(found.level.t.double().numpy() - 1)
    for field, wanted in zip(found.chain.earlier, expected, strict=True):
        np.testing.assert_allclose(field.numpy(), wanted, rtol=1e-6)
    # Whatever the loss, a step sees the same images, levels and noise.
    assert torch.equal(found.x_0, plain.x_0)
    assert torch.equal(found.eps, plain.eps)
    assert torch.equal(found.level.t, plain.level.t)
    assert found.seed == plain.seed


def test_noise_is_standard_normal() -> None:
    eps = torch.cat([batches()(step).eps.flatten() for step in range(500)])
    error = len(eps) ** -0.5
    assert float(eps.mean()) == pytest.approx(0, abs=5 * error)
    assert float(eps.square().mean()) == pytest.approx(1, abs=5 * 2**0.5 * error)


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_a_share_of_the_labels_is_hidden(share: float) -> None:
    found = batches(batch_size=100, label_drop=share)
    labels = torch.cat([found(step).condition["label"] for step in range(50)])
    hidden = float((labels == 3).double().mean())
    assert hidden == pytest.approx(share, abs=5 * (share * (1 - share) / len(labels)) ** 0.5)


def test_without_labels_there_is_no_condition() -> None:
    assert batches(classes=0)(0).condition == {}


# --- the distribution of t -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize(("count", "timesteps"), [(1, 1), (128, 1000), (1000, 7), (7, 4000)])
def test_t_is_a_whole_level_above_0(times: Times, count: int, timesteps: int) -> None:
    for step in range(20):
        t = draw_times(times, count, timesteps, generator("t", step))
        assert t.shape == (count,)
        assert t.dtype == np.float64
        assert np.all((t >= 1) & (t <= timesteps) & (t == np.floor(t)))


@pytest.mark.parametrize("times", ["uniform", "stratified"])
def test_every_level_is_equally_likely(times: Times) -> None:
    t = np.concatenate([draw_times(times, 100, 10, generator("t", step)) for step in range(1000)])
    counts = np.bincount(t.astype(int), minlength=11)[1:]
    # chi-square of 9 degrees of freedom: 33.7 has probability 1e-4; even less scatter when stratified
    assert ((counts - 10_000) ** 2 / 10_000).sum() < 33.7


@pytest.mark.parametrize(("count", "timesteps"), [(10, 1000), (128, 1280), (4, 4)])
def test_stratified_puts_one_t_into_every_stratum(count: int, timesteps: int) -> None:
    for step in range(50):
        t = draw_times("stratified", count, timesteps, generator("t", step))
        assert sorted((t - 1) // (timesteps // count)) == list(range(count))


def test_strata_are_dealt_to_images_at_random() -> None:
    orders = {tuple(draw_times("stratified", 4, 4, generator("t", step))) for step in range(500)}
    assert len(orders) == 24


def test_logit_normal_follows_its_distribution() -> None:
    t = draw_times("logit-normal", 100_000, 1000, generator("t", 0))
    # P(sigmoid(n) < u) = Phi(logit(u)): quartiles of a normal at -0.67449, 0, 0.67449
    quartiles = [1000 / (1 + np.exp(-z)) for z in (-0.67449, 0, 0.67449)]
    assert np.quantile(t, [0.25, 0.5, 0.75]) == pytest.approx(quartiles, abs=8)


@pytest.mark.parametrize("free", [None, 2 * 20 * 64, 2 * 20 * 64 - 1, 0])  # of 20 images of 8 x 8, twice
def test_images_that_do_not_fit_are_read_ahead_and_nobody_notices(
    monkeypatch: pytest.MonkeyPatch, free: int | None
) -> None:
    images = torch.randint(0, 256, (20, 1, 8, 8), dtype=torch.uint8)
    config = TrainConfig(batch_size=8)
    cpu = torch.device("cpu")
    whole = Batches(images, None, 0, SCHEDULE, config, cpu)
    monkeypatch.setattr(machine, "free_memory", lambda _: free)
    found = Batches(images, None, 0, SCHEDULE, config, cpu)
    assert (found._ahead is None) == (free is None or free == 2 * 20 * 64)
    for step in (0, 1, 2, 3, 1, 7, 8):  # over the end of an epoch, back, and on
        for mine, expected in zip(found(step)[:1], whole(step)[:1], strict=True):
            assert torch.equal(mine, expected)
