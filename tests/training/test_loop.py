"""Training learns, belongs to its seed and steps alone, and survives numbers that are not finite."""

import copy
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from ddpm_cli.config import (
    Decay,
    NetworkConfig,
    ReportUNetConfig,
    ScheduleConfig,
    TrainConfig,
    UNetConfig,
    network_for,
)
from ddpm_cli.denoiser import Denoiser
from ddpm_cli.forward import q_sample
from ddpm_cli.networks import build
from ddpm_cli.schedule import Schedule
from ddpm_cli.training import Batches, Revision, StepReport, TrainState, extended, learning_rate, revised, train
from ddpm_cli.training.batches import Batch

SHAPE = (1, 8, 8)
SCHEDULE = Schedule(ScheduleConfig("cosine"))
UNET = UNetConfig(SHAPE, 3, widths=(8, 16), blocks=1, heads=2)
PLAIN = UNetConfig(SHAPE, widths=(8,), blocks=1, attention=(), heads=2)
REPORT = ReportUNetConfig(SHAPE, 3, widths=(8, 8, 16), embedding=16, heads=2)
NETWORKS = pytest.mark.parametrize("network", [UNET, REPORT], ids=["unet", "report"])
CPU = torch.device("cpu")


def batches(config: TrainConfig, count: int = 20, shape: tuple[int, int, int] = SHAPE, classes: int = 3) -> Batches:
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, *shape), generator=draw, dtype=torch.uint8)
    labels = torch.arange(count) % classes if classes else None
    return Batches(images, labels, classes, SCHEDULE, config, CPU)


def fresh(network: NetworkConfig, config: TrainConfig, steps: int | None) -> TrainState:
    torch.manual_seed(config.seed)
    network = replace(network, learned_variance=config.learns_variance)
    denoiser = Denoiser(build(network), config.target, network.time, network.learned_variance)
    return TrainState.fresh(denoiser, config, steps)


def run(
    state: TrainState, config: TrainConfig, steps: int, work: Callable[[int], Batch] | None = None
) -> list[StepReport]:
    """Train up to a step, as a caller does that stops early."""
    reports = []
    for report in train(state, work or batches(config), config):  # type: ignore[arg-type]
        reports.append(report)
        if report.step == steps:
            break
    return reports


def everything(state: TrainState) -> dict[str, torch.Tensor]:
    """Weights, buffers, average and the optimizer's moments and counters, copied."""
    found = {f"raw.{name}": value for name, value in state.denoiser.network.state_dict().items()}
    if state.average is not None:
        found |= {f"ema.{name}": value for name, value in state.average.state.items()}
    for number, moments in state.optimizer.state_dict()["state"].items():
        found |= {f"optimizer.{number}.{name}": value for name, value in moments.items()}
    return {name: value.clone() for name, value in found.items()}


def differing(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> list[str]:
    assert a.keys() == b.keys()
    return [name for name in a if not torch.equal(a[name], b[name])]


# --- the learning rate -----------------------------------------------------------------------------------------------


def test_the_rate_rises_to_its_peak_and_falls_in_a_line_to_0_at_the_end() -> None:
    config = TrainConfig(lr=0.01, warmup=4, decay="linear")
    rates = [learning_rate(step, 104, config) for step in range(105)]
    assert rates[:5] == pytest.approx([0.002, 0.004, 0.006, 0.008, 0.01])
    assert rates[4:] == pytest.approx([0.01 * (100 - k) / 100 for k in range(101)])


def test_or_in_half_a_cosine_or_not_at_all() -> None:
    cosine = TrainConfig(lr=0.01, warmup=0, decay="cosine")
    assert [learning_rate(k, 100, cosine) for k in (0, 25, 50, 75, 100)] == pytest.approx(
        [0.01 * (1 + math.cos(math.pi * u)) / 2 for u in (0, 0.25, 0.5, 0.75, 1)], abs=1e-15
    )
    constant = TrainConfig(lr=0.01, warmup=0, decay="constant")
    assert {learning_rate(k, 100, constant) for k in range(100)} == {0.01}


def test_a_short_run_warms_up_over_a_tenth_of_itself() -> None:
    rates = [learning_rate(step, 50, TrainConfig(lr=0.01, warmup=200)) for step in range(50)]
    assert rates.index(max(rates)) == 5
    assert max(rates) == pytest.approx(0.01)


def rates(revisions: list[Revision], config: TrainConfig) -> list[float]:
    return [learning_rate(step, None, config, revisions) for step in range(revisions[-1].step, revisions[-1].last + 1)]


def test_after_a_revision_the_rate_falls_in_a_line_from_its_present_value_to_0_at_the_new_end() -> None:
    config = TrainConfig(lr=0.01, warmup=4, decay="linear")
    one = revised(10, 110, 60.0, None, config, ())
    assert one == Revision(10, 0.01, 110, 10, 0.01, 60.0)
    assert rates([one], config) == pytest.approx(np.linspace(0.01, 0, 101))
    two = revised(60, 80, 360.0, 110, config, [one])  # the machine became slower
    assert two.rate == learning_rate(60, None, config, [one]) == pytest.approx(0.005)
    assert rates([one, two], config) == pytest.approx(np.linspace(0.005, 0, 21))
    three = revised(70, 170, 420.0, 80, config, [one, two])  # and faster again
    assert rates([one, two, three], config) == pytest.approx(np.linspace(0.0025, 0, 101))
    assert learning_rate(80, None, config, [revised(80, 80, 500.0, 170, config, [one])]) == 0  # the time is over


@pytest.mark.parametrize("decay", ["linear", "cosine", "constant"])
def test_no_revision_makes_the_rate_jump(decay: Decay) -> None:
    """Between neighbouring steps it changes by no more than the steepest of its lines allows."""
    config, draw = TrainConfig(lr=0.01, warmup=20, decay=decay), np.random.default_rng(0)
    for _ in range(50):
        revisions: list[Revision] = []
        steps, rates, last = None, [], 10**9
        for step in range(300):
            if step > 2 and draw.random() < 0.1:
                last = step + int(draw.integers(100, 400))
                revisions.append(revised(step, last, float(step), steps, config, revisions))
                steps = last
            rates.append(learning_rate(step, steps, config, revisions))
        assert max(rates) <= 0.01 * (1 + 1e-12)
        assert float(np.abs(np.diff(rates)).max()) <= 0.01 / 10 * (1 + 1e-9)  # a rise takes a tenth of 100 steps
        assert 0.01 in [pytest.approx(rate) for rate in rates]


def test_a_short_budget_of_minutes_reaches_the_peak_within_a_tenth_of_its_steps() -> None:
    config = TrainConfig(lr=0.01, warmup=200)
    one = revised(5, 35, 10.0, None, config, ())
    found = rates([one], config)
    assert found[0] == learning_rate(5, None, config)
    assert found[3] == pytest.approx(0.01) == max(found)
    assert found[-1] == 0


def test_an_extended_budget_starts_at_the_present_rate_and_never_falls_from_nothing() -> None:
    config = TrainConfig(lr=0.01, warmup=10)
    finished = extended(100, 200, 60.0, 0.0, config)
    found = rates([finished], config)
    assert found[0] == 0
    assert max(found) == found[10] == pytest.approx(learning_rate(100, 200, config))
    assert found[-1] == 0
    shorter = extended(50, 60, 60.0, 0.008, config)
    assert rates([shorter], config) == pytest.approx(np.linspace(0.008, 0, 11))


def test_while_the_budget_is_unknown_the_rate_only_rises() -> None:
    config = TrainConfig(lr=0.01, warmup=4)
    assert [learning_rate(k, None, config) for k in (0, 3, 4, 1000)] == pytest.approx([0.002, 0.008, 0.01, 0.01])


def test_the_loop_uses_and_reports_this_rate() -> None:
    config = TrainConfig(batch_size=2, warmup=3)
    state = fresh(UNET, config, 40)
    for k, report in enumerate(train(state, batches(config), config)):
        assert report.step == k + 1
        assert report.lr == state.optimizer.param_groups[0]["lr"] == learning_rate(k, 40, config)


# --- one step and many -----------------------------------------------------------------------------------------------


@NETWORKS
def test_the_first_step_of_adam_is_the_rate_times_the_sign_of_the_gradient(network: NetworkConfig) -> None:
    config = TrainConfig(batch_size=4, warmup=0, clip=0, optimizer="adam", lr=1e-3)
    state = fresh(network, config, 100)
    mirror = copy.deepcopy(state.denoiser).train()
    batch = batches(config)(0)
    loss = mirror.loss(batch.x_0, batch.level, batch.eps, batch.condition).mean()
    loss.backward()
    (report,) = run(state, config, 1)
    assert float(report.loss) == pytest.approx(float(loss.detach()), rel=1e-5)
    total = sum(float(p.grad.square().sum()) for p in mirror.parameters() if p.grad is not None)
    assert float(report.gradient) == pytest.approx(math.sqrt(total), rel=1e-4)
    for before, after in zip(mirror.parameters(), state.denoiser.parameters(), strict=True):
        assert before.grad is not None
        clear = before.grad.abs() > 1e-4  # against Adam's epsilon of 1e-8
        expected = before.detach() - 1e-3 * before.grad.sign()
        torch.testing.assert_close(after.detach()[clear], expected[clear], rtol=0, atol=2e-6)


def test_a_long_gradient_is_cut_to_the_clip_and_reported_uncut() -> None:
    loose, tight = (TrainConfig(batch_size=4, warmup=0, clip=clip, lr=1e-3) for clip in (0.0, 1e-3))
    a, b = fresh(UNET, loose, 10), fresh(UNET, tight, 10)
    (uncut,), (cut,) = run(a, loose, 1), run(b, tight, 1)
    assert torch.equal(uncut.gradient, cut.gradient)
    # Adam's first moment is a tenth of the gradient it saw.
    seen = math.sqrt(sum(float(m["exp_avg"].square().sum()) for m in b.optimizer.state.values())) * 10
    assert seen == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("target", ["eps", "x0", "v"])
def test_one_batch_can_be_learned_by_heart(target: str) -> None:
    config = TrainConfig(target=target, batch_size=8, lr=5e-3, warmup=10, label_drop=0)  # type: ignore[arg-type]
    network = network_for("tiny", SHAPE, 0)
    work = batches(config, 2, classes=0)(0)
    losses = [float(report.loss) for report in run(fresh(network, config, 150), config, 150, lambda _: work)]
    assert losses[0] > 5 * losses[-1]


@pytest.mark.parametrize("target", ["eps", "x0", "v"])
def test_the_bound_of_one_image_falls_too(target: str) -> None:
    config = TrainConfig(target=target, loss="vlb", batch_size=16, lr=1e-2, warmup=5)  # type: ignore[arg-type]
    state, work = fresh(PLAIN, config, 50), batches(config, 1, classes=0)
    losses = [float(report.loss) for report in run(state, config, 50, work)]
    assert sum(losses[:5]) > 1.5 * sum(losses[-5:])


@pytest.mark.parametrize(("data", "goes"), [("one flat image", "down"), ("random pixels", "up")])
def test_the_variance_that_is_learned_goes_where_the_data_want_it(data: str, goes: str) -> None:
    # Of one flat image x_0 is known, so the best variance is btilde, fraction 0. Of pixels that are 0 or 255 at random,
    # of variance 1 in [-1, 1], it is near beta, fraction 1: Ho et al. 2020, section 3.2. A fresh network says 1/2.
    schedule = Schedule(ScheduleConfig("cosine", 10))
    config = TrainConfig(loss="hybrid", batch_size=16, lr=1e-2, warmup=10, ema=0)
    images = torch.full((1, *SHAPE), 100, dtype=torch.uint8)
    if data == "random pixels":
        images = 255 * torch.randint(0, 2, (2000, *SHAPE), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    state, work = fresh(PLAIN, config, 60), Batches(images, None, 0, schedule, config, CPU)
    seen = work(1000)

    def fraction() -> float:
        with torch.no_grad():
            found = state.denoiser(q_sample(seen.x_0, seen.level, seen.eps), seen.level, {}).variance_fraction
        assert found is not None
        return float(found.mean())

    assert fraction() == 0.5
    run(state, config, 60, work)
    assert fraction() < 0.4 if goes == "down" else fraction() > 0.8


@NETWORKS
@pytest.mark.parametrize("loss", ["vlb", "hybrid"])
def test_so_is_training_by_the_bound(network: NetworkConfig, loss: str) -> None:
    config = TrainConfig(batch_size=4, loss=loss, warmup=3)  # type: ignore[arg-type]
    one, two = fresh(network, config, 8), fresh(network, config, 8)
    losses = [float(report.loss) for report in run(one, config, 8)]
    assert [float(report.loss) for report in run(two, config, 5) + run(two, config, 8)] == losses
    assert not differing(everything(one), everything(two))


@NETWORKS
@pytest.mark.parametrize("optimizer", ["adamw", "adam"])
def test_training_in_two_parts_is_training_in_one(network: NetworkConfig, optimizer: str) -> None:
    config = TrainConfig(batch_size=4, optimizer=optimizer, warmup=3)  # type: ignore[arg-type]
    one, two = fresh(network, config, 12), fresh(network, config, 12)
    losses = [float(report.loss) for report in run(one, config, 12)]
    parts = [float(report.loss) for report in run(two, config, 5) + run(two, config, 12)]
    assert parts == losses
    assert not differing(everything(one), everything(two))
    assert (two.step, len(set(losses))) == (12, 12)


@NETWORKS
def test_taking_up_a_copy_of_the_state_changes_nothing(network: NetworkConfig) -> None:
    config = TrainConfig(batch_size=4, warmup=3)
    one, first = fresh(network, config, 12), fresh(network, config, 12)
    run(one, config, 12)
    run(first, config, 5)
    second = fresh(network, TrainConfig(batch_size=4, warmup=3, seed=9), 12)
    second.denoiser.load_state_dict(copy.deepcopy(first.denoiser.state_dict()))
    second.optimizer.load_state_dict(copy.deepcopy(first.optimizer.state_dict()))
    assert second.average is not None
    assert first.average is not None
    for name, value in second.average.state.items():
        value.copy_(first.average.state[name])
    second.step = first.step
    run(second, config, 12)
    assert not differing(everything(one), everything(second))


def test_dropout_belongs_to_the_step_too() -> None:
    network = UNetConfig(SHAPE, 3, widths=(8,), blocks=1, attention=(), heads=2, dropout=0.5)
    config = TrainConfig(batch_size=4, warmup=0)
    one, two = fresh(network, config, 6), fresh(network, config, 6)
    run(one, config, 6)
    run(two, config, 3)
    torch.manual_seed(12345)  # as in another process
    run(two, config, 6)
    assert not differing(everything(one), everything(two))


def test_the_average_follows_the_weights_over_its_share_of_the_run() -> None:
    config = TrainConfig(batch_size=4, ema=0.25, warmup=0)
    state = fresh(UNET, config, 8)
    expected = {name: value.clone() for name, value in state.denoiser.network.state_dict().items()}
    for k, _ in enumerate(train(state, batches(config), config)):
        decay = 2 ** (-1 / (0.25 * (k + 1)))
        for name, value in state.denoiser.network.state_dict().items():
            expected[name] = decay * expected[name] + (1 - decay) * value
    assert state.average is not None
    for name, value in state.average.state.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-6)
    assert fresh(UNET, TrainConfig(ema=0), 8).average is None


@pytest.mark.parametrize("parts", [2, 3, 8])
def test_a_batch_worked_through_in_parts_has_the_gradient_of_the_whole(parts: int) -> None:
    """Group norm sees an image at a time, so only the order of sums differs; every image counts once."""
    whole = TrainConfig(batch_size=8, ema=0.0, clip=0.0, optimizer="adam")
    reports, states = [], []
    for config in (whole, replace(whole, accumulate=parts)):
        state = fresh(UNET, config, 4)
        reports.append(run(state, config, 4))
        states.append(everything(state))
    for one, other in zip(*reports, strict=True):
        assert float(one.loss) == pytest.approx(float(other.loss), rel=1e-4)
        assert float(one.gradient) == pytest.approx(float(other.gradient), rel=1e-3)
    batch = batches(whole)(0)
    assert torch.equal(torch.cat([part.x_0 for part in batch.parts(parts)]), batch.x_0)
    assert torch.equal(torch.cat([part.level.t for part in batch.parts(parts)]), batch.level.t)
    assert {len(part.eps) for part in batch.parts(parts)} <= {8 // parts, -(-8 // parts)}


def test_parts_of_a_batch_know_their_own_chain() -> None:
    batch = batches(TrainConfig(batch_size=6, loss="vlb"))(0)
    for part in batch.parts(4):
        assert part.chain is not None
        assert torch.equal(part.chain.earlier.t, part.level.t - 1)


def test_training_stops_at_its_budget_and_leaves_training_mode_on() -> None:
    config = TrainConfig(batch_size=2)
    state = fresh(UNET, config, 3)
    assert [report.step for report in train(state, batches(config), config)] == [1, 2, 3]
    assert list(train(state, batches(config), config)) == []
    assert state.denoiser.training


# --- numbers that are not finite -------------------------------------------------------------------------------------


def poisoned(work: Batches, bad: set[int], value: float) -> Callable[[int], Batch]:
    def call(step: int) -> Batch:
        batch = work(step)
        if step not in bad:
            return batch
        x_0 = batch.x_0.clone()
        x_0[0, 0, 0, 0] = value
        return batch._replace(x_0=x_0)

    return call


@NETWORKS
@pytest.mark.parametrize("optimizer", ["adamw", "adam"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_step_that_is_not_finite_changes_nothing_but_the_count(
    network: NetworkConfig, optimizer: str, value: float
) -> None:
    config = TrainConfig(batch_size=4, warmup=0, ema=0, weight_decay=0.1, optimizer=optimizer)  # type: ignore[arg-type]
    state = fresh(network, config, 10)
    work = poisoned(batches(config), {2, 3, 5}, value)
    run(state, config, 2, work)
    before = everything(state)
    broken = [int(report.broken) for report in run(state, config, 4, work)]
    assert not differing(before, everything(state))
    broken += [int(report.broken) for report in run(state, config, 7, work)]
    assert broken == [1, 2, 0, 1, 0]
    assert state.step == 7
    assert differing(before, everything(state))
    assert all(bool(torch.isfinite(x).all()) for x in everything(state).values())


@NETWORKS
def test_the_average_never_takes_up_a_number_that_is_not_finite(network: NetworkConfig) -> None:
    config = TrainConfig(batch_size=4, warmup=0)
    state = fresh(network, config, 10)
    run(state, config, 4, poisoned(batches(config), {1}, math.nan))
    assert all(bool(torch.isfinite(x).all()) for x in everything(state).values())


def test_a_loss_that_is_finite_with_a_gradient_that_is_not_is_skipped_too() -> None:
    config = TrainConfig(batch_size=4, warmup=0, ema=0)
    state = fresh(UNET, config, 10)
    run(state, config, 1)
    before = everything(state)
    next(state.denoiser.parameters()).register_hook(lambda gradient: gradient * math.inf)
    (report,) = run(state, config, 2)
    assert bool(torch.isfinite(report.loss))
    assert int(report.broken) == 1
    assert not differing(before, everything(state))


def test_scaling_the_loss_changes_nothing_but_the_scale() -> None:
    config = TrainConfig(batch_size=4, warmup=0)
    plain, scaled = fresh(UNET, config, 5), fresh(UNET, config, 5)
    scaled.scale = torch.tensor([1024.0, 1998.0])  # one good step before it doubles
    run(plain, config, 5)
    run(scaled, config, 1)
    assert scaled.scale.tolist() == [1024, 1999]
    run(scaled, config, 2)
    assert scaled.scale.tolist() == [2048, 0]
    run(scaled, config, 5)
    for name, value in everything(plain).items():
        torch.testing.assert_close(everything(scaled)[name], value, rtol=1e-4, atol=1e-6)


def test_the_scale_is_halved_at_every_overflow() -> None:
    config = TrainConfig(batch_size=4, warmup=0)
    state = fresh(UNET, config, 5)
    state.scale = torch.tensor([1024.0, 7.0])
    next(state.denoiser.parameters()).register_hook(lambda gradient: gradient * math.inf)
    assert [int(report.broken) for report in run(state, config, 2)] == [1, 2]
    assert state.scale.tolist() == [256, 0]


def textbook(denoiser: Denoiser, work: Batches, config: TrainConfig, steps: int) -> list[float]:
    """The losses of the plain loop: contiguous float32, and an optimizer that goes from tensor to tensor."""
    optimizer = torch.optim.AdamW(denoiser.parameters(), lr=config.lr, weight_decay=0, foreach=False)
    losses = []
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = learning_rate(step, steps, config)
        batch = work(step)
        x_t = q_sample(batch.x_0.contiguous(), batch.level, batch.eps.contiguous())
        v = batch.level.signal.view(-1, 1, 1, 1) * batch.eps - batch.level.noise.view(-1, 1, 1, 1) * batch.x_0
        answer = denoiser.network(x_t, batch.level.t - 1, batch.condition)
        loss = (answer - v).square().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(denoiser.parameters(), config.clip, foreach=False)
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize(("precision", "apart"), [(None, 0.01), (torch.bfloat16, 0.03)], ids=["float32", "bf16"])
def test_the_fast_loop_learns_what_the_plain_one_learns(precision: torch.dtype | None, apart: float) -> None:
    """Draw for draw: the loss, averaged over 50 steps, after 200 of them; of images that can be learned in part."""
    config, steps = TrainConfig(batch_size=16, warmup=20, times="uniform", ema=0, label_drop=0), 200
    network = replace(UNET, time="level")
    grey = torch.linspace(0, 255, 8)[None, None, :, None] * torch.linspace(0.2, 1, 40)[:, None, None, None]
    images = grey.expand(40, 1, 8, 8).to(torch.uint8)
    work = Batches(images, torch.arange(40) % 3, 3, SCHEDULE, config, CPU)
    expected = textbook(fresh(network, config, steps).denoiser, work, config, steps)
    state = fresh(network, config, steps)
    state.denoiser.network.to(memory_format=torch.channels_last)
    state.denoiser.autocast = precision
    state = TrainState.fresh(state.denoiser, config, steps)
    found = [float(report.loss) for report in train(state, work, config)]
    assert expected[-1] < 0.5 * expected[0]
    for end in (50, 100, 150, 200):
        mean, wanted = (sum(losses[end - 50 : end]) / 50 for losses in (found, expected))
        assert mean == pytest.approx(wanted, rel=apart)
