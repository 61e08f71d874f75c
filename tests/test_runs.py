"""A run leaves what the contract names, and stopping it changes nothing but the time it takes."""

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ddpm_cli import checkpoint, config, library, runs
from ddpm_cli.config import (
    Budget,
    NetworkConfig,
    ReportUNetConfig,
    RunConfig,
    SamplerConfig,
    ScheduleConfig,
    TrainConfig,
    UNetConfig,
)
from ddpm_cli.denoiser import Denoiser
from ddpm_cli.errors import ModelError, NumericsError, UsageError
from ddpm_cli.networks.layers import Convolution
from ddpm_cli.runs import Run, pictures
from ddpm_cli.runs import run as run_module
from ddpm_cli.training import learning_rate

NOISE = np.random.default_rng(3)
RECIPE = TrainConfig(batch_size=4, warmup=2, ema=0.3, seed=5)  # three steps an epoch of the twelve photos


DRAW_SAMPLES = Run._draw_samples  # the real one, for the test that wants it


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """DDPM_HOME of its own, one thread, and no pictures, which take longer than the training."""
    monkeypatch.setenv("DDPM_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(Run, "_draw_samples", lambda *_: None)
    monkeypatch.setattr(Run, "_draw_loss", lambda _: None)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def photos(tmp_path: Path) -> str:
    """Twelve images of 8x8 in two classes."""
    for number in range(12):
        path = tmp_path / "photos" / ("cat", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(NOISE.integers(0, 256, (8, 8), dtype=np.uint8)).save(path)
    return str(tmp_path / "photos")


def recipe(photos: str, steps: int = 7, train: TrainConfig = RECIPE, **changes: Any) -> RunConfig:
    chosen = RunConfig(
        photos, Budget(steps=steps), "tiny", schedule=ScheduleConfig(timesteps=20), train=train, precision="float32"
    )
    return replace(chosen, **changes)


def prepared(folder: Path, chosen: RunConfig) -> Run:
    run = Run(folder, chosen, torch.device("cpu"))
    run.prepare()
    return run


def finish(run: Run, stop_at: int | None = None) -> Run:
    """Train to the end, or until somebody presses Ctrl-C amid a step, counted from 1."""
    rows = run.batches.rows

    def interrupted(step: int) -> np.ndarray:
        run.stopped = step + 1 == stop_at
        return rows(step)

    run.batches.rows = interrupted
    for _ in run.train():
        pass
    return run


def resumed(folder: Path, **changes: Any) -> Run:
    run = prepared(folder, replace(runs.load_config(folder), **changes))
    run.restore()
    return run


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


# --- a whole run ---


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of two epochs of twelve steps with everything that belongs to one; read only."""
    place = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DDPM_HOME", str(place / "home"))
        patch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
        patch.setattr(runs.run, "RARELY", 1)
        for number in range(48):
            path = place / "pets" / ("cat", "dog")[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(NOISE.integers(0, 256, (12, 12), dtype=np.uint8)).save(path)
        chosen = recipe(str(place / "pets"), budget=Budget(epochs=2), sample_every=1)
        return finish(prepared(place / "run", chosen))


@pytest.mark.parametrize(
    "name",
    [
        *("config.json", "metrics.jsonl", "train.log", "model.safetensors", "state.safetensors", "loss.png"),
        *("samples/step-0000012.png", "samples/step-0000024.png"),
    ],
)
def test_a_run_leaves(whole: Run, name: str) -> None:
    assert (whole.folder / name).stat().st_size > 0


def test_a_run_leaves_nothing_else(whole: Run) -> None:
    contract = {"config.json", "metrics.jsonl", "train.log", "model.safetensors", "state.safetensors", "samples"}
    contract |= {"best.safetensors"}
    assert {path.name for path in whole.folder.iterdir()} <= contract | {"loss.png"}


def test_the_lines_of_the_epochs_are_in_the_log(photos: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs.run, "RARELY", 1)
    said: list[str] = []
    run = Run(tmp_path / "run", recipe(photos), torch.device("cpu"), report=said.append)
    run.prepare()
    finish(run)
    log = (run.folder / "train.log").read_text(encoding="utf-8")
    epochs = [sentence for sentence in said if sentence.startswith("epoch ")]
    assert len(epochs) == 3  # two whole ones, and the end
    assert all(sentence in log for sentence in epochs)
    first, *_, last = log.splitlines()
    for told in ("photos, 12 images", "preset tiny", "on cpu in float32", f"seed {RECIPE.seed}", "torch "):
        assert told in first
    assert last.endswith(f"finished at step {run.state.steps}")


def test_a_run_that_was_stopped_says_so_in_its_log(photos: str, tmp_path: Path) -> None:
    run = prepared(tmp_path / "run", recipe(photos))
    finish(run, stop_at=3)
    assert (run.folder / "train.log").read_text(encoding="utf-8").splitlines()[-1].endswith("stopped at step 3")


def test_the_config_is_the_one_the_run_had_with_its_open_choices_made(whole: Run) -> None:
    saved = runs.load_config(whole.folder)
    assert saved == whole.config
    assert saved.conditional is True
    assert saved.precision == "float32"


def test_metrics_have_rising_steps_and_finite_numbers(whole: Run) -> None:
    metrics = lines(whole.folder)
    assert [line["step"] for line in metrics] == [10, 12, 20, 24]  # every tenth, and the ends of epochs
    assert [line["epoch"] for line in metrics] == [10 / 12, 1, 20 / 12, 2]
    for key in ("loss", "gradient", "lr", "images_per_second"):
        assert all(math.isfinite(line[key]) and line[key] > 0 for line in metrics)


def test_the_model_says_what_it_was_made_of(whole: Run) -> None:
    model, info = checkpoint.load(whole.model_path)
    assert info == whole.info
    assert (info.shape, info.classes, info.target, info.weights) == ((1, 12, 12), ("cat", "dog"), "v", ("ema", "raw"))
    assert (info.data["name"], info.data["images"]) == ("pets", 48)
    assert (info.training["step"], info.training["steps"]) == (24, 24)
    assert info.training["loss"] == pytest.approx(whole.loss)
    assert info.parameters == sum(p.numel() for p in model.denoiser.parameters())


def test_the_model_is_what_the_state_holds(whole: Run) -> None:
    state, model = (checkpoint.read_tensors(path) for path in (whole.state_path, whole.model_path))
    assert {name for name in state if not name.startswith("optimizer.")} == set(model)
    assert all(torch.equal(state[name], value) for name, value in model.items())


def test_the_sample_grid_shows_sixty_four_images(whole: Run) -> None:
    with Image.open(whole.folder / "samples" / "step-0000024.png") as picture:
        assert picture.width >= 8 * 12
        assert picture.height >= 8 * 12


def test_equal_runs_leave_equal_models_wherever_they_are(photos: str, tmp_path: Path) -> None:
    first, second = (finish(prepared(tmp_path / name, recipe(photos))) for name in ("a", "b/c"))
    assert first.model_path.read_bytes() == second.model_path.read_bytes()


def test_pictures_on_the_way_change_no_weight(photos: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Run, "_draw_samples", DRAW_SAMPLES)
    often, never = (
        finish(prepared(tmp_path / str(every), recipe(photos, 4, sample_every=every))).info.id for every in (1, 0)
    )
    assert often == never


def test_the_grids_of_a_run_have_a_row_per_class_and_say_their_step(
    photos: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Run, "_draw_samples", DRAW_SAMPLES)
    named: list[object] = []
    monkeypatch.setattr(pictures.grid, "named_rows", lambda picture, rows, _: named.append(rows) or picture)
    captions: list[str] = []
    monkeypatch.setattr(pictures.grid, "captioned", lambda picture, text: captions.append(text) or picture)
    run = finish(prepared(tmp_path / "run", recipe(photos)))
    assert captions == ["step 7, seed 0"]
    assert named == [tuple(enumerate(run.data.classes))]
    with Image.open(run.folder / "samples" / "step-0000007.png") as picture:
        assert (picture.text["step"], picture.text["seed"]) == ("7", "0")  # type: ignore[attr-defined]


def test_another_seed_is_another_model(photos: str, tmp_path: Path) -> None:
    ids = {finish(prepared(tmp_path / str(s), recipe(photos, 2, replace(RECIPE, seed=s)))).info.id for s in (1, 2)}
    assert len(ids) == 2


# --- stopping and going on ---


@pytest.mark.parametrize("optimizer", ["adamw", "adam"])
@pytest.mark.parametrize("ema", [0.3, 0.0])
@pytest.mark.parametrize("loss", ["simple", "min-snr"])
@pytest.mark.parametrize("conditional", [True, False])
def test_a_run_that_was_stopped_ends_in_the_same_file(
    photos: str, tmp_path: Path, optimizer: Any, ema: float, loss: Any, conditional: bool
) -> None:
    train = replace(RECIPE, optimizer=optimizer, ema=ema, loss=loss, weight_decay=0.01)
    chosen = recipe(photos, 7, train, conditional=conditional)
    unbroken = finish(prepared(tmp_path / "unbroken", chosen))
    stopped = finish(prepared(tmp_path / "stopped", chosen), stop_at=4)
    assert stopped.state.step == 4
    assert checkpoint.read_info(stopped.model_path).training["step"] == 4
    again = finish(resumed(tmp_path / "stopped"))
    assert again.info.id == unbroken.info.id
    assert again.model_path.read_bytes() == unbroken.model_path.read_bytes()
    assert again.info.weights == (("ema", "raw") if ema else ("raw",))


@pytest.mark.parametrize("loss", ["vlb", "hybrid"])
def test_so_does_one_that_learns_from_the_bound(photos: str, tmp_path: Path, loss: Any) -> None:
    chosen = recipe(photos, 7, replace(RECIPE, loss=loss))
    unbroken = finish(prepared(tmp_path / "unbroken", chosen))
    finish(prepared(tmp_path / "stopped", chosen), stop_at=4)
    again = finish(resumed(tmp_path / "stopped"))
    assert again.model_path.read_bytes() == unbroken.model_path.read_bytes()
    assert again.info.network.learned_variance == (loss == "hybrid")
    assert again.loss == pytest.approx(unbroken.loss, rel=1e-6)


def test_a_run_with_a_learned_variance_can_be_drawn_from(photos: str, tmp_path: Path) -> None:
    run = finish(prepared(tmp_path / "run", recipe(photos, 4, replace(RECIPE, loss="hybrid"))))
    loaded, info = checkpoint.load(run.model_path)
    assert info.network.learned_variance
    for model in (run.model(), loaded):
        assert model.denoiser.learned_variance
        (drawn,) = replace(model, sampler=config.SamplerConfig("ddpm")).draw(0, range(3))
        (small,) = replace(model, sampler=config.SamplerConfig("ddpm", variance="small")).draw(0, range(3))
        assert bool(drawn.isfinite().all())
        assert not torch.equal(drawn, small)


NETWORKS: dict[str, Callable[[config.Shape, int], NetworkConfig]] = {
    "batch norm": lambda shape, classes: ReportUNetConfig(shape, classes, widths=(4, 4, 4), embedding=8, heads=1),
    "dropout": lambda shape, classes: UNetConfig(shape, classes, widths=(8,), blocks=1, attention=(), dropout=0.5),
}


@pytest.mark.parametrize("network", NETWORKS)
def test_networks_with_a_state_of_their_own_resume_exactly_too(
    photos: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: str
) -> None:
    monkeypatch.setitem(config.PRESETS, "tiny", (NETWORKS[network], ""))
    unbroken = finish(prepared(tmp_path / "unbroken", recipe(photos)))
    finish(prepared(tmp_path / "stopped", recipe(photos)), stop_at=4)
    assert finish(resumed(tmp_path / "stopped")).info.id == unbroken.info.id


@pytest.mark.parametrize("stop_at", range(1, 6))
def test_a_stop_anywhere_ends_in_the_same_file_with_the_same_loss(photos: str, tmp_path: Path, stop_at: int) -> None:
    unbroken = finish(prepared(tmp_path / "unbroken", recipe(photos, 6)))
    finish(prepared(tmp_path / "stopped", recipe(photos, 6)), stop_at)
    again = finish(resumed(tmp_path / "stopped"))
    assert again.loss == pytest.approx(unbroken.loss, rel=1e-6)
    assert again.model_path.read_bytes() == unbroken.model_path.read_bytes()


def test_a_stop_between_two_steps_saves_the_step_before(photos: str, tmp_path: Path) -> None:
    run = prepared(tmp_path / "run", recipe(photos))
    for _ in run.train():
        run.stopped = True
    assert checkpoint.read_info(run.model_path).training["step"] == run.state.step < 7


def test_stopping_again_and_again_changes_nothing(photos: str, tmp_path: Path) -> None:
    unbroken = finish(prepared(tmp_path / "unbroken", recipe(photos, 11)))
    finish(prepared(tmp_path / "stopped", recipe(photos, 11)), stop_at=1)
    for step in (2, 5, 6, 10):
        finish(resumed(tmp_path / "stopped"), stop_at=step)
    assert finish(resumed(tmp_path / "stopped")).info.id == unbroken.info.id


def test_metrics_go_on_without_doubles_and_forget_what_the_state_does_not_know(photos: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    finish(prepared(folder, recipe(photos, 9)), stop_at=4)
    before = lines(folder)
    assert [line["step"] for line in before] == [3]
    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as file:  # a crash after the last save, amid a line
        file.write(json.dumps({**before[-1], "step": 6}) + '\n{"step": 9, "lo')
    finish(resumed(folder))
    assert [line["step"] for line in lines(folder)] == [3, 6, 9]
    assert lines(folder)[:1] == before


def without_times(folder: Path) -> list[dict[str, Any]]:
    return [{key: value for key, value in line.items() if key != "images_per_second"} for line in lines(folder)]


@pytest.mark.parametrize("stop_at", [1, 7, 10, 12, 13, 16])
def test_neither_metrics_nor_loss_tell_where_a_run_was_stopped(photos: str, tmp_path: Path, stop_at: int) -> None:
    """Amid ten steps that share a line, at a line, at an epoch's end; the budget ends amid an epoch of twelve."""
    chosen = recipe(photos, 17, replace(RECIPE, batch_size=1))
    unbroken = finish(prepared(tmp_path / "unbroken", chosen))
    finish(prepared(tmp_path / "stopped", chosen), stop_at)
    again = finish(resumed(tmp_path / "stopped"))
    assert [line["step"] for line in lines(again.folder)] == [10, 12, 17]
    assert without_times(again.folder) == without_times(unbroken.folder)
    assert again.model_path.read_bytes() == unbroken.model_path.read_bytes()
    assert (again.folder / "best.safetensors").read_bytes() == (unbroken.folder / "best.safetensors").read_bytes()


def test_a_line_without_a_finite_loss_gives_its_steps_to_no_other(photos: str, tmp_path: Path) -> None:
    run = prepared(tmp_path / "run", recipe(photos, 17, replace(RECIPE, batch_size=1)))
    for step, loss in ((10, 1.0), (12, math.nan), (17, 3.0)):
        run._remember(step, loss)
    assert run.loss == pytest.approx((10 * 1 + 5 * 3) / 15)


def test_the_loss_of_the_model_is_the_mean_over_the_lines_of_its_last_epoch(photos: str, tmp_path: Path) -> None:
    run = finish(prepared(tmp_path / "run", recipe(photos, 17, replace(RECIPE, batch_size=1))))
    of = {line["step"]: line["loss"] for line in lines(run.folder)}
    wanted = (5 * of[10] * 2 + 2 * of[12] + 5 * of[17]) / 17  # steps 1..10, 11 and 12, 13..17
    assert checkpoint.read_info(run.model_path).training["loss"] == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("model", [None, "of an earlier save", "cut short", "with a wrong byte"])
def test_a_model_that_is_not_the_states_is_written_anew(photos: str, tmp_path: Path, model: str | None) -> None:
    """As after a kill between the two."""
    run = prepared(tmp_path / "run", recipe(photos))
    earlier = b""
    for at in run.train():
        if at.step == 3:
            run.save()
            earlier = run.model_path.read_bytes()
    right = run.model_path.read_bytes()
    if model is None:
        run.model_path.unlink()
    else:
        wrong = {"of an earlier save": earlier, "cut short": right[:-9]}.get(model, right[:-1] + bytes([right[-1] ^ 1]))
        run.model_path.write_bytes(wrong)
    resumed(tmp_path / "run")
    assert run.model_path.read_bytes() == right


def test_a_longer_budget_extends_a_finished_run(photos: str, tmp_path: Path) -> None:
    flat = replace(RECIPE, warmup=0, decay="constant", ema=0.0)  # nothing in it depends on the length of the run
    finish(prepared(tmp_path / "short", recipe(photos, 3, flat)))
    extended = finish(resumed(tmp_path / "short", budget=Budget(steps=7)))
    long = finish(prepared(tmp_path / "long", recipe(photos, 7, flat)))
    assert extended.info.id == long.info.id
    assert checkpoint.read_info(extended.model_path).training["step"] == 7
    assert runs.load_config(tmp_path / "short").budget == Budget(steps=7)


def test_resuming_a_finished_run_as_it_is_changes_no_file_of_weights(photos: str, tmp_path: Path) -> None:
    run = finish(prepared(tmp_path / "run", recipe(photos, 3)))
    before = run.model_path.read_bytes(), run.state_path.read_bytes(), lines(run.folder)
    finish(resumed(run.folder))
    assert before == (run.model_path.read_bytes(), run.state_path.read_bytes(), lines(run.folder))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[Run, Callable[[int], float]], None]:
    """Makes the time that a run sees a function of its step."""

    def set_clock(run: Run, seconds: Callable[[int], float]) -> None:
        now = SimpleNamespace(perf_counter=lambda: seconds(run.state.step), strftime=time.strftime)
        monkeypatch.setattr(runs.run, "time", now)

    return set_clock


def test_a_budget_of_minutes_becomes_the_steps_that_fit(photos: str, tmp_path: Path, clock: Any) -> None:
    run = prepared(tmp_path / "run", recipe(photos, budget=Budget(minutes=0.25)))
    clock(run, lambda step: 0.5 * step)
    finish(run, stop_at=9)
    steps = run.state.steps
    assert steps is not None
    assert 0.9 * 30 <= steps <= 30
    run = resumed(run.folder)
    assert run.state.steps == steps
    clock(run, lambda step: 0.5 * step)
    assert 0.9 * 30 <= finish(run).state.step <= 30
    assert checkpoint.read_info(run.model_path).training["steps"] == run.state.step


@pytest.mark.parametrize("later", [0.1, 0.5, 2.0])
def test_a_run_whose_speed_changes_ends_on_time_and_its_rate_falls_to_0_without_a_jump(
    photos: str, tmp_path: Path, clock: Any, later: float
) -> None:
    """A third of the minute passes at one speed, the rest at another: 0.5 s a step, then `later`."""
    run = prepared(tmp_path / "run", recipe(photos, budget=Budget(minutes=1), save_every=100))
    clock(run, lambda step: 0.5 * min(step, 40) + later * max(step - 40, 0))
    finish(run)
    step = run.state.step
    seconds = 0.5 * 40 + later * (step - 40)
    assert 0.9 * 60 <= seconds <= 60
    rates = [learning_rate(k, None, RECIPE, [r for r in run.state.revisions if r.step <= k]) for k in range(2, step)]
    assert (len(run.state.revisions) > 3) == (later != 0.5)
    assert rates == sorted(rates, reverse=True)
    written = {line["step"]: line["lr"] for line in lines(run.folder)}
    assert all(rates[k - 3] == lr for k, lr in written.items() if k > 10)  # the rate of step k is that of index k - 1
    # The last step is one of those left, so its rate is one part of them.
    assert min(rates) == pytest.approx(run.state.revisions[-1].top / (step - run.state.revisions[-1].top_step))


def test_revisions_are_saved_and_a_resumed_run_continues_at_the_same_rate(
    photos: str, tmp_path: Path, clock: Any
) -> None:
    run = prepared(tmp_path / "run", recipe(photos, budget=Budget(minutes=1)))
    clock(run, lambda step: 0.5 * step)
    finish(run, stop_at=50)
    before = learning_rate(50, run.state.steps, RECIPE, run.state.revisions)
    again = resumed(tmp_path / "run")
    assert again.state.revisions == run.state.revisions
    clock(again, lambda step: 2.0 * step)
    finish(again)
    first = next(line for line in lines(tmp_path / "run") if line["step"] > 50)
    assert before - 3 * before / 60 < first["lr"] <= before
    assert len(again.state.revisions) > len(run.state.revisions)
    assert again.state.step < run.state.steps  # the machine is slower than it was


def test_other_minutes_count_from_now_by_the_speed_that_the_run_had(photos: str, tmp_path: Path, clock: Any) -> None:
    """A finished run, whose rate is 0, rises to that of a run planned for both, and falls to 0 again."""
    run = prepared(tmp_path / "run", recipe(photos, budget=Budget(minutes=0.25)))
    clock(run, lambda step: 0.5 * step)
    done = finish(run).state.step
    run = resumed(tmp_path / "run", budget=Budget(minutes=0.5))
    assert run.state.steps is not None
    assert 0.9 * 60 <= run.state.steps - done <= 60
    assert learning_rate(done, None, RECIPE, run.state.revisions) == pytest.approx(0, abs=RECIPE.lr / done)
    clock(run, lambda step: 0.5 * step)
    assert 0.9 * 60 <= finish(run).state.step - done <= 60
    rates = [line["lr"] for line in lines(tmp_path / "run") if line["step"] > done]
    assert max(rates) > RECIPE.lr / 2
    assert rates[-1] < RECIPE.lr / 20


def test_the_number_of_threads_is_recorded_and_repeated(
    photos: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    torch.set_num_threads(8)
    folder = tmp_path / "run"
    run = Run(folder, recipe(photos), torch.device("cpu"), threads=2)
    run.prepare()
    finish(run, stop_at=2)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(8)
    again = resumed(folder)  # where three would be chosen
    assert torch.get_num_threads() == again.thread_count == 2
    finish(again, stop_at=4)
    said: list[str] = []
    other = Run(folder, runs.load_config(folder), torch.device("cpu"), threads=1, say=said.append)
    other.prepare()
    other.restore()
    finish(other)
    assert "threads: 1 from step 4 on, 2 before" in said
    assert {line["step"]: line["threads"] for line in lines(folder)} == {3: 2, 6: 1, 7: 1}
    about, _ = checkpoint.read_header(folder / "state.safetensors")
    assert about["threads"] == [[0, 2], [4, 1]]


def test_images_that_were_left_out_are_listed(photos: str, tmp_path: Path) -> None:
    (Path(photos) / "cat" / "empty.png").touch()
    run = finish(prepared(tmp_path / "run", recipe(photos, on_bad_image="skip")))
    (left,) = (run.folder / "left-out.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(left)["path"] == "cat/empty.png"
    assert len(run.data.images) == 12


def test_a_resumed_run_says_what_it_took_up(photos: str, tmp_path: Path) -> None:
    said: list[str] = []
    finish(prepared(tmp_path / "run", recipe(photos)), stop_at=4)
    for last in ("going on at step 4 of 7, epoch 1.333: restored weights, average, optimizer", "has had its 7 steps"):
        run = Run(tmp_path / "run", runs.load_config(tmp_path / "run"), torch.device("cpu"), say=said.append)
        run.prepare()
        run.restore()
        assert last in said[-1]
        finish(run)


def test_a_record_that_lost_lines_is_told_of(photos: str, tmp_path: Path) -> None:
    folder = finish(prepared(tmp_path / "run", recipe(photos)), stop_at=5).folder
    for kept, told in ((1, False), (0, True)):
        said: list[str] = []
        rows = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
        (folder / "metrics.jsonl").write_text("".join(rows[:kept]))
        run = Run(folder, runs.load_config(folder), torch.device("cpu"), say=said.append)
        run.prepare()
        run.restore()
        assert any("metrics.jsonl lacks" in sentence for sentence in said) is told


def test_the_record_is_on_the_disk_before_the_state_that_counts_on_it(
    photos: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a power cut could take lines whose steps the state has, and that never come again."""
    run = prepared(tmp_path / "run", recipe(photos, 3))
    flushed: list[tuple[int, int]] = []
    fsync = os.fsync

    def noted(handle: int) -> None:
        fsync(handle)
        found = os.fstat(handle)
        flushed.append((found.st_ino, found.st_size))

    monkeypatch.setattr(os, "fsync", noted)
    finish(run)
    record, state = run.metrics_path.stat(), run.state_path.stat()
    record_at, state_at = (flushed.index((each.st_ino, each.st_size)) for each in (record, state))
    assert record_at < state_at


def test_a_run_killed_before_its_first_save_begins_again(photos: str, tmp_path: Path) -> None:
    unbroken = finish(prepared(tmp_path / "unbroken", recipe(photos)))
    begun = prepared(tmp_path / "run", recipe(photos))
    steps = begun.train()
    next(steps)
    steps.close()
    assert not begun.state_path.exists()
    again = finish(resumed(tmp_path / "run"))
    assert again.info.id == unbroken.info.id
    assert without_times(again.folder) == without_times(unbroken.folder)


# --- models beside the last ---


def test_saves_come_every_so_many_steps_and_the_last_few_models_are_kept(photos: str, tmp_path: Path) -> None:
    run = prepared(tmp_path / "run", recipe(photos, 11, save_steps=2, keep=3))
    at_save: dict[int, str] = {}
    for at in run.train():
        if at.step % 2 == 0 or at.step == 11:
            info = checkpoint.read_info(run.model_path)
            assert info.training["step"] == at.step
            at_save[at.step] = info.id
    kept = sorted((run.folder / "checkpoints").iterdir())
    assert [path.name for path in kept] == [f"step-{step:07}.safetensors" for step in (8, 10, 11)]
    assert [checkpoint.load(path)[1].id for path in kept] == [at_save[step] for step in (8, 10, 11)]


def test_saves_come_in_time_where_steps_are_slow(photos: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step takes a minute, and ten share a line of the metrics."""
    run = prepared(tmp_path / "run", recipe(photos, 19, replace(RECIPE, batch_size=1), save_every=2.5))
    clock = SimpleNamespace(perf_counter=lambda: 60.0 * run.state.step, strftime=time.strftime)
    monkeypatch.setattr(runs.run, "time", clock)
    saved: list[int] = []
    save = run.save

    def noted() -> None:
        saved.append(run.state.step)
        save()

    monkeypatch.setattr(run, "save", noted)
    finish(run)
    assert saved == [3, 6, 9, 12, 15, 18, 19]
    assert [line["step"] for line in lines(run.folder)] == [10, 12, 19]


def test_kept_models_of_steps_that_come_again_are_dropped(photos: str, tmp_path: Path) -> None:
    run = prepared(tmp_path / "run", recipe(photos, 11, save_steps=2, keep=3))
    finish(run, stop_at=8)
    state = run.state_path.read_bytes()
    finish(resumed(run.folder))
    run.state_path.write_bytes(state)  # as after a kill before the next state
    resumed(run.folder)
    assert [path.name for path in (run.folder / "checkpoints").iterdir()] == ["step-0000008.safetensors"]


def test_the_best_model_is_that_of_the_least_validation_loss(
    photos: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs.run, "RARELY", 1)
    losses = iter([0.5, 0.2, 0.4, 0.3])
    right = Run.model
    drawn_with: list[dict[str, torch.Tensor]] = []

    def model(run: Run) -> Any:
        loss, found = next(losses), right(run)
        drawn_with.append({k: v.clone() for k, v in found.denoiser.network.state_dict().items()})
        monkeypatch.setattr(found.denoiser, "loss", lambda x_0, *_: torch.full((len(x_0),), loss))
        return found

    monkeypatch.setattr(Run, "model", model)
    run = finish(prepared(tmp_path / "run", recipe(photos, 12)))
    assert [line["validation"] for line in lines(run.folder) if "validation" in line] == pytest.approx(
        [0.5, 0.2, 0.4, 0.3]
    )
    best, info = checkpoint.load(run.folder / "best.safetensors")
    assert (info.training["step"], info.weights) == (6, ("ema",))
    assert info.training["validation"] == pytest.approx(0.2)
    assert all(torch.equal(value, drawn_with[1][name]) for name, value in best.denoiser.network.state_dict().items())


def test_the_validation_loss_is_that_of_images_and_noise_that_never_change(photos: str, tmp_path: Path) -> None:
    """One image at a time, by the formula; the same in a run of another seed and batch size with these weights."""
    one = prepared(tmp_path / "one", recipe(photos))
    other = prepared(tmp_path / "other", recipe(photos, 3, replace(RECIPE, seed=77, batch_size=5)))
    for run in (one, other):
        for tensor in run.state.best_weights.values():
            tensor.uniform_(-0.2, 0.2, generator=torch.Generator().manual_seed(4))
    model, errors, seen = one.model(), [], set()
    for number in range(one._validation.batches.steps_per_epoch):
        batch = one._validation.batches(number)
        for k in range(len(batch.x_0)):
            signal, noise = (float(part[k]) for part in (batch.level.signal, batch.level.noise))
            x_0, eps = batch.x_0[k : k + 1], batch.eps[k : k + 1]
            level = batch.level._replace(
                **{name: getattr(batch.level, name)[k : k + 1] for name in batch.level._fields}
            )
            condition = {"label": batch.condition["label"][k : k + 1]}
            v, _ = model.denoiser.output(signal * x_0 + noise * eps, level, condition)
            errors.append(float((v - (signal * eps - noise * x_0)).square().mean()))
            seen.add(x_0.numpy().tobytes())
    assert len(seen) == 12
    assert one._validation(one.model()) == pytest.approx(np.mean(errors), rel=1e-4)
    assert other._validation(other.model()) == one._validation(one.model())
    assert one.validated_on == "training images"


def test_a_test_split_is_what_is_validated_on(tmp_path: Path) -> None:
    for split, shade in (("train", 0), ("test", 255)):
        for number in range(6):
            path = tmp_path / "pets" / split / ("cat", "dog")[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (8, 8), shade).save(path)
    run = prepared(tmp_path / "run", recipe(str(tmp_path / "pets")))
    assert run.validated_on == "test images"
    assert float(run._validation.batches(0).x_0.min()) == 1
    assert float(run.batches(0).x_0.max()) == -1


def test_test_images_that_no_network_takes_are_no_reason_not_to_train(tmp_path: Path) -> None:
    for split, height in (("train", 8), ("test", 5000)):
        (tmp_path / "pets" / split).mkdir(parents=True)
        for number in range(2):
            Image.new("L", (8, height), 90 * number).save(tmp_path / "pets" / split / f"{number}.png")
    said: list[str] = []
    run = Run(tmp_path / "run", recipe(str(tmp_path / "pets")), torch.device("cpu"), say=said.append)
    run.prepare()
    assert run.validated_on == "training images"
    assert any("no test images" in sentence for sentence in said)


# --- states that cannot be taken up ---


def stopped_run(photos: str, folder: Path) -> Path:
    return finish(prepared(folder, recipe(photos)), stop_at=4).folder


def test_the_state_of_another_network_is_refused(photos: str, tmp_path: Path) -> None:
    folder = stopped_run(photos, tmp_path / "run")
    run = prepared(folder, replace(runs.load_config(folder), conditional=False))
    with pytest.raises(ModelError, match="conditional was True and is False"):
        run.restore()


def test_a_config_that_was_edited_is_refused_by_the_name_of_the_setting(photos: str, tmp_path: Path) -> None:
    folder = stopped_run(photos, tmp_path / "run")
    values = json.loads((folder / "config.json").read_text())
    values["train"]["lr"] = 0.1
    (folder / "config.json").write_text(json.dumps(values))
    with pytest.raises(ModelError, match=r"train was lr 0\.002 and is lr 0\.1"):
        resumed(folder)


def test_a_run_goes_on_with_the_same_images_elsewhere_and_with_no_others(photos: str, tmp_path: Path) -> None:
    folder = stopped_run(photos, tmp_path / "run")
    moved = Path(photos).rename(tmp_path / "elsewhere")
    resumed(folder, dataset=str(moved))
    picture = next(moved.rglob("*.png"))
    with Image.open(picture) as image:
        pixels = np.array(image)
    pixels[3, 4] ^= 1
    Image.fromarray(pixels).save(picture)
    with pytest.raises(ModelError, match="are not those that the run was trained on"):
        resumed(folder, dataset=str(moved))


def test_images_of_another_shape_are_what_is_told_of_not_the_state(photos: str, tmp_path: Path) -> None:
    folder = stopped_run(photos, tmp_path / "run")
    Image.new("RGB", (8, 8), "red").save(Path(photos) / "cat" / "red.png")
    with pytest.raises(ModelError, match="are not those that the run was trained on"):
        resumed(folder)


def test_a_look_at_the_state_chooses_the_budget_and_changes_no_file(photos: str, tmp_path: Path) -> None:
    folder = stopped_run(photos, tmp_path / "run")
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    run = prepared(folder, replace(runs.load_config(folder), budget=Budget(steps=9)))
    position = run.peek()
    assert position is not None
    assert (position.step, run.state.steps) == (4, 9)
    with pytest.raises(UsageError, match="already at step 4"):
        prepared(folder, replace(runs.load_config(folder), budget=Budget(steps=3))).peek()
    assert {path: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_small_epochs_bring_no_flood_of_lines_and_pictures(
    photos: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three steps an epoch, and room for one line in ten steps: the fourth epoch's end is the first beyond."""
    monkeypatch.setattr(runs.run, "RARELY", 10)
    drawn: list[int] = []
    monkeypatch.setattr(Run, "_draw_samples", lambda _, step: drawn.append(step))
    said: list[str] = []
    run = Run(tmp_path / "run", recipe(photos, 31, sample_every=1), torch.device("cpu"), report=said.append)
    run.prepare()
    finish(run)
    assert drawn == [12, 24, 31]
    assert [int(line.split("step ")[1].split()[0]) for line in said] == [12, 24, 31]
    assert [line["step"] for line in lines(run.folder) if "validation" in line] == [12, 24, 31]


def test_a_model_without_its_state_is_not_trained_over(photos: str, tmp_path: Path) -> None:
    folder = stopped_run(photos, tmp_path / "run")
    (folder / "state.safetensors").unlink()
    before = (folder / "model.safetensors").read_bytes()
    with pytest.raises(ModelError, match="no state to go on from"):
        resumed(folder)
    assert (folder / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    "damage",
    [
        lambda tensors: tensors.pop("raw.stem.bias"),
        lambda tensors: tensors.pop("ema.stem.bias"),
        lambda tensors: tensors.pop("optimizer.exp_avg.stem.bias"),
        lambda tensors: tensors.pop("optimizer.step.stem.bias"),
        lambda tensors: tensors.update({"optimizer.exp_avg.nothing": torch.zeros(1)}),
        lambda tensors: tensors.update({"optimizer.exp_avg.stem.bias": torch.zeros(1)}),
        lambda tensors: tensors.update({"raw.stem.bias": torch.zeros(1)}),
    ],
    ids=[
        "no raw",
        "no ema",
        "no moment",
        "no step",
        "unknown moment",
        "moment of a wrong shape",
        "raw of a wrong shape",
    ],
)
def test_a_state_that_is_not_whole_is_refused(
    photos: str, tmp_path: Path, damage: Callable[[dict[str, torch.Tensor]], object]
) -> None:
    folder = stopped_run(photos, tmp_path / "run")
    about, _ = checkpoint.read_header(folder / "state.safetensors")
    tensors = checkpoint.read_tensors(folder / "state.safetensors")
    damage(tensors)
    checkpoint.write_tensors(folder / "state.safetensors", tensors, about)
    with pytest.raises(ModelError):
        resumed(folder)


@pytest.mark.parametrize(
    "change",
    [
        *({"kind": "diffusion"}, {"step": None}, {"step": -1}, {"steps": "7"}, {"run": {}}, {"format": 99}),
        *({"skipped": 5}, {"broken": 2**40}, {"step": 2**40, "steps": None, "skipped": 2**40}),
    ],
    ids=str,
)
def test_a_state_that_says_something_else_is_refused(photos: str, tmp_path: Path, change: dict[str, object]) -> None:
    folder = stopped_run(photos, tmp_path / "run")
    about, _ = checkpoint.read_header(folder / "state.safetensors")
    tensors = checkpoint.read_tensors(folder / "state.safetensors")
    checkpoint.write_tensors(folder / "state.safetensors", tensors, about | change)
    with pytest.raises(ModelError):
        resumed(folder)


def test_a_state_of_a_model_with_infinite_parameters_is_refused(photos: str, tmp_path: Path) -> None:
    state = stopped_run(photos, tmp_path / "run") / "state.safetensors"
    content = state.read_bytes()
    number = str(checkpoint.read_header(state)[0]["model"]["parameters"]).encode()
    state.write_bytes(content.replace(b": " + number, b": " + b"1e999".rjust(len(number)), 1))
    assert state.stat().st_size == len(content)
    with pytest.raises(ModelError, match="1e999 is beyond the range"):
        resumed(state.parent)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"dataset": 3}', b"\xff", None])
def test_a_config_that_cannot_be_read_is_a_model_error(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ModelError):
        runs.load_config(tmp_path)


# --- what is learned, and from what ---


@pytest.mark.parametrize(
    ("preset", "asked", "learned"),
    [("tiny", None, True), ("tiny", False, False), ("report", None, False), ("report", True, True)],
)
def test_labels_are_learned_where_there_are_some_except_by_the_report(
    photos: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, preset: str, asked: bool | None, learned: bool
) -> None:
    if preset == "report":
        monkeypatch.setitem(config.PRESETS, "report", (NETWORKS["batch norm"], ""))
    run = prepared(tmp_path / "run", recipe(photos, preset=preset, conditional=asked))
    assert run.config.conditional is learned
    assert run.info.classes == (("cat", "dog") if learned else ())
    assert run.info.network.classes == (2 if learned else 0)
    assert not run.folder.exists()


def test_without_labels_a_run_is_unconditional_and_cannot_be_asked_otherwise(photos: str, tmp_path: Path) -> None:
    cats = str(Path(photos) / "cat")
    assert prepared(tmp_path / "run", recipe(cats)).config.conditional is False
    with pytest.raises(UsageError, match="no labels"):
        prepared(tmp_path / "run", recipe(cats, conditional=True))
    assert not (tmp_path / "run").exists()


# --- numbers that break ---


def break_from(monkeypatch: pytest.MonkeyPatch, run: Run, first: int, until: int = 10**9) -> None:
    """Make the loss of the steps first..until, counted from 1, something else than a number."""
    right = Denoiser.loss

    def loss(self: Denoiser, *args: Any) -> torch.Tensor:
        return right(self, *args) * (math.nan if first <= run.state.step + 1 <= until else 1)

    monkeypatch.setattr(Denoiser, "loss", loss)


@pytest.mark.parametrize("network", ["unet", "batch norm"])
def test_broken_steps_change_nothing_and_are_forgiven(
    photos: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: str
) -> None:
    if network in NETWORKS:
        monkeypatch.setitem(config.PRESETS, "tiny", (NETWORKS[network], ""))
    run = prepared(tmp_path / "run", recipe(photos, 30, replace(RECIPE, ema=0.0)))
    break_from(monkeypatch, run, 7, until=24)
    after: dict[int, list[torch.Tensor]] = {}
    for at in run.train():
        state = run.state.denoiser.network.state_dict()
        after[at.step] = [value.clone() for value in state.values() if value.is_floating_point()]
    assert not all(map(torch.equal, after[24], after[30]))
    by_step = {line["step"]: line["loss"] for line in lines(run.folder)}
    assert by_step[12] is None
    assert [line["skipped"] for line in lines(run.folder)][-1] == 24 - 6
    again = prepared(run.folder, runs.load_config(run.folder))
    again.restore()
    assert int(again.state.skipped) == 24 - 6
    assert by_step[30] > 0
    assert checkpoint.read_info(run.model_path).training["step"] == 30
    assert all(map(torch.equal, after[6], after[24]))


def test_twenty_broken_steps_end_a_run_and_leave_its_last_save_alone(
    photos: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, saved = prepared(tmp_path / "run", recipe(photos, 100)), b""
    break_from(monkeypatch, run, 7)
    with pytest.raises(NumericsError, match="not a finite number") as caught:  # noqa: PT012
        for at in run.train():
            if at.step == 6:
                run.save()
                saved = run.model_path.read_bytes()
    assert caught.value.exit_code == 5
    assert 7 + 20 - 1 <= run.state.step <= 7 + 20 + runs.EVERY
    assert run.model_path.read_bytes() == saved
    model, info = checkpoint.load(run.model_path)
    assert info.training["step"] == 6
    assert all(bool(p.isfinite().all()) for p in model.denoiser.parameters())


def test_broken_steps_in_a_row_are_counted_over_a_stop(
    photos: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = prepared(tmp_path / "run", recipe(photos, 100))
    break_from(monkeypatch, run, 4)
    finish(run, stop_at=20)
    monkeypatch.undo()
    monkeypatch.setenv("DDPM_HOME", str(tmp_path / "home"))
    again = resumed(run.folder)
    assert int(again.state.broken) == 17
    break_from(monkeypatch, again, 1)
    with pytest.raises(NumericsError, match=r"for 2[0-9] steps in a row"):
        finish(again)


def test_a_run_that_breaks_before_its_first_save_keeps_its_good_weights_too(
    photos: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = prepared(tmp_path / "run", recipe(photos, 100))
    break_from(monkeypatch, run, 7)
    with pytest.raises(NumericsError, match="not a finite number"):
        finish(run)
    checkpoint.load(run.model_path)  # as the hint of the error says


@pytest.mark.parametrize(("first", "steps"), [(7, 7), (5, 12), (7, 26), (1, 3)])
def test_a_run_whose_last_step_breaks_fails_and_is_not_finished(
    photos: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: int, steps: int
) -> None:
    run = prepared(tmp_path / "home" / "runs" / "broken", recipe(photos, steps))
    break_from(monkeypatch, run, first)
    with pytest.raises(NumericsError, match=f"{steps - first + 1} of {steps} steps were skipped") as caught:
        finish(run)
    assert caught.value.exit_code == 5
    assert "--lr" in caught.value.hint
    assert "float32" not in caught.value.hint  # it is used already
    assert f"{steps - first + 1} of {steps} steps were skipped" in (run.folder / "train.log").read_text()
    info = checkpoint.load(run.model_path)[1]
    assert not library.is_finished(info)
    assert library.find(None).origin == "shipped"
    again = prepared(run.folder, replace(runs.load_config(run.folder), budget=Budget(steps=50)))
    with pytest.raises(NumericsError, match="cannot be resumed"):
        again.restore()


def test_a_run_that_breaks_at_its_end_keeps_and_resumes_its_last_save(
    photos: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = prepared(tmp_path / "run", recipe(photos, 12, save_steps=6))
    break_from(monkeypatch, run, 7)
    with pytest.raises(NumericsError, match="6 of 12 steps were skipped"):
        finish(run)
    monkeypatch.undo()
    monkeypatch.setenv("DDPM_HOME", str(tmp_path / "home"))
    again = resumed(run.folder)
    assert again.state.step == 6
    assert library.is_finished(finish(again).info)


def test_steps_that_were_skipped_on_the_way_are_no_failure(
    photos: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = prepared(tmp_path / "run", recipe(photos, 9))
    break_from(monkeypatch, run, 3, until=8)
    assert library.is_finished(finish(run).info)
    assert run.skipped == 6


@pytest.mark.parametrize("where", ["weights", "average"])
def test_weights_that_are_not_finite_are_not_saved(
    photos: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    run = prepared(tmp_path / "run", recipe(photos, 6, save_steps=3))
    with pytest.raises(NumericsError, match="weights are not finite numbers after step 6"):  # noqa: PT012
        for at in run.train():
            if at.step == 3:  # no later loss reads these
                broken = run.state.average.state if where == "average" else {}  # type: ignore[union-attr]
                for value in broken.values():
                    value.fill_(math.inf)
                if where == "weights":
                    monkeypatch.setattr(type(run.state), "weights", lambda _: {"raw.one": torch.tensor([1, math.nan])})
    monkeypatch.undo()
    assert checkpoint.load(run.model_path)[1].training["step"] == 3


# --- what must not cost a run ---------------------------------------------------------------------------------------


def test_a_state_that_does_not_know_its_steps_has_those_of_the_budget(photos: str, tmp_path: Path) -> None:
    state = stopped_run(photos, tmp_path / "run") / "state.safetensors"
    about, _ = checkpoint.read_header(state)
    checkpoint.write_tensors(state, checkpoint.read_tensors(state), about | {"steps": None})
    assert finish(resumed(tmp_path / "run")).state.step == 7


def test_a_budget_that_lies_behind_is_refused_and_the_run_stays_resumable(photos: str, tmp_path: Path) -> None:
    stopped_run(photos, tmp_path / "run")
    behind = replace(runs.load_config(tmp_path / "run"), budget=Budget(steps=1))
    run = prepared(tmp_path / "run", behind)
    with pytest.raises(UsageError, match="already at step"):
        run.restore()
    finish(resumed(tmp_path / "run"))


def test_a_picture_that_cannot_be_drawn_costs_nothing(
    photos: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out_of_memory(*_: object) -> None:
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(Run, "_draw_samples", DRAW_SAMPLES)
    monkeypatch.setattr(Run, "model", out_of_memory)
    run = finish(prepared(tmp_path / "run", recipe(photos)))
    assert checkpoint.read_info(run.model_path).training["step"] == 7
    assert "no samples" in (run.folder / "train.log").read_text(encoding="utf-8")


# --- compiling -------------------------------------------------------------------------------------------------------


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Every network that was to be compiled."""
    found: list[object] = []
    monkeypatch.setattr(run_module.machine, "compile_network", found.append)
    monkeypatch.setattr(run_module.machine, "compiling_obstacle", lambda _: "")
    return found


def test_a_run_that_goes_on_compiles_if_it_did_before(
    photos: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiled: list[object]
) -> None:
    """Whatever a trial would say now: compiled kernels round otherwise, and a resumed run must not."""
    for did in (True, False):
        folder = tmp_path / str(did)
        folder.mkdir()
        monkeypatch.setattr(run_module, "pays", lambda *_, did=did: did)
        run = prepared(folder, recipe(photos))
        run.decide_compiling()
        finish(run, stop_at=3)
        assert len(compiled) == did
        compiled.clear()
        monkeypatch.setattr(run_module, "pays", lambda *_, did=did: not did)
        run = prepared(folder, recipe(photos))
        run.restore()
        run.decide_compiling()
        assert len(compiled) == did
        compiled.clear()


def test_a_run_that_goes_on_multiplies_less_if_it_did_before(
    photos: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a measurement would say now, for it rounds otherwise."""

    def multiplies_less(run: Run) -> bool:
        layers = [each for each in run.state.denoiser.network.modules() if isinstance(each, Convolution)]
        assert len({layer.winograd for layer in layers}) == 1
        return layers[0].winograd

    monkeypatch.setattr("ddpm_cli.networks.winograd.WIDE", 1)
    for did in (True, False):
        monkeypatch.setattr(run_module.machine, "winograd_pays", lambda *_, did=did: did)
        folder = tmp_path / str(did)
        run = prepared(folder / "stopped", recipe(photos))
        assert multiplies_less(run) == did
        finish(run, stop_at=3)
        monkeypatch.setattr(run_module.machine, "winograd_pays", lambda *_, did=did: not did)
        again = prepared(folder / "stopped", recipe(photos))
        again.restore()
        assert multiplies_less(again) == did
        finish(again)
        monkeypatch.setattr(run_module.machine, "winograd_pays", lambda *_, did=did: did)
        assert finish(prepared(folder / "whole", recipe(photos))).info.id == again.info.id


def test_compiling_without_a_compiler_is_a_warning(
    photos: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiled: list[object]
) -> None:
    monkeypatch.setattr(run_module.machine, "compiling_obstacle", lambda _: "no C++ compiler was found")
    run, said = prepared(tmp_path / "run", recipe(photos)), []
    run.compiling, run.say = "on", said.append
    (tmp_path / "run").mkdir()
    run.decide_compiling()
    assert said == ["warning: not compiling: no C++ compiler was found"]
    assert not compiled
    assert not run.compiled


# --- samples judged on the way ---------------------------------------------------------------------------------------


@pytest.fixture
def quick_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module.judging, "DRAWN", 20)
    monkeypatch.setattr(run_module.judging, "SAMPLER", SamplerConfig("ddim", steps=2))
    monkeypatch.setattr(run_module, "RARELY", 2)


def digits(steps: int) -> RunConfig:
    train = replace(RECIPE, batch_size=16)
    return replace(recipe("mnist", steps, train), limit=32, eval_every=1)


@pytest.mark.usefixtures("quick_judge")
def test_samples_are_judged_every_few_epochs_and_tell_the_best_model(tmp_path: Path) -> None:
    run = finish(prepared(tmp_path / "run", digits(8)))  # two steps an epoch
    lines = [json.loads(line) for line in run.metrics_path.read_text().splitlines()]
    found = {line["step"]: line["frechet"] for line in lines if "frechet" in line}
    assert list(found) == [2, 4, 6, 8]
    assert all("validation" in line for line in lines)
    best = checkpoint.read_info(tmp_path / "run" / "best.safetensors").training
    assert best["frechet"] == min(found.values())
    assert found[best["step"]] == min(found.values())
    # The figure of the last model, worked out from its file.
    model, _ = checkpoint.load(run.model_path)
    assert run.judge(model) == pytest.approx(found[8], rel=1e-3)
    # Beside what it is trained on: the best model is not to be chosen by the test images that judge it in the end.
    seen = run.judge.network.see(run.data.images).features
    np.testing.assert_allclose(run.judge.real.mean, seen.mean(0), rtol=1e-5)


@pytest.mark.usefixtures("quick_judge")
def test_judging_changes_nothing_and_goes_on_with_the_run(tmp_path: Path) -> None:
    judged = finish(prepared(tmp_path / "judged", digits(8)))
    alone = finish(prepared(tmp_path / "alone", replace(digits(8), eval_every=0)))
    assert judged.info.id == alone.info.id
    finish(prepared(tmp_path / "stopped", digits(8)), stop_at=5)
    again = prepared(tmp_path / "stopped", digits(8))
    again.restore()
    finish(again)
    assert again.info.id == judged.info.id
    one, other = (checkpoint.read_info(run.folder / "best.safetensors") for run in (judged, again))
    assert (one.id, one.training) == (other.id, other.training)


def test_where_nothing_knows_the_images_the_validation_loss_tells_the_best(photos: str, tmp_path: Path) -> None:
    said: list[str] = []
    run = Run(tmp_path / "run", recipe(photos, eval_every=1), torch.device("cpu"), say=said.append)
    run.prepare()
    assert any("samples are not judged on the way: there is no feature network for photos" in each for each in said)
    finish(run)
    assert "validation" in checkpoint.read_info(tmp_path / "run" / "best.safetensors").training


# --- whether samples resemble the images ------------------------------------------------------------------------------


def disks(count: int, seed: int) -> np.ndarray:
    """Bright disks on black, uint8 (count, 1, 16, 16)."""
    y, x = np.mgrid[:16, :16]
    numbers = np.random.default_rng(seed).uniform(5, 10, (count, 3))
    shapes = [np.hypot(x - a, y - b) < r / 2 for a, b, r in numbers]
    return (255 * np.stack(shapes)[:, None]).astype(np.uint8)


def test_other_images_of_the_kind_resemble_and_noise_and_flat_images_do_not() -> None:
    resemblance = runs.judging.Resemblance(disks(300, 0))
    assert resemblance(disks(100, 1)) >= 97
    noise = NOISE.integers(0, 256, (20, 1, 16, 16), dtype=np.uint8)
    assert resemblance(noise) == 0
    assert resemblance(np.sort(noise, axis=3)) == 0  # far too bright and smooth
    assert resemblance(np.full((20, 1, 16, 16), 40, np.uint8)) == 0
    speckled = disks(20, 2)
    speckled[:, :, ::2, ::2] |= NOISE.integers(0, 200, (20, 1, 8, 8), dtype=np.uint8)
    assert resemblance(speckled) == 0


def test_where_the_images_are_noise_noise_resembles_them() -> None:
    resemblance = runs.judging.Resemblance(NOISE.integers(0, 256, (37, 1, 8, 8), dtype=np.uint8))
    assert resemblance(NOISE.integers(0, 256, (64, 1, 8, 8), dtype=np.uint8)) >= 50


@pytest.mark.parametrize("shape", [(4, 1, 1, 1), (4, 3, 1, 6), (4, 1, 6, 1)])
def test_images_of_one_pixel_row_or_column_are_compared_too(shape: tuple[int, ...]) -> None:
    images = NOISE.integers(0, 256, shape, dtype=np.uint8)
    assert runs.judging.Resemblance(images)(images) == 4
    assert runs.judging.Resemblance(images // 8)(255 - images // 8) == 0


def test_a_run_records_how_many_of_its_samples_resemble_its_images(
    photos: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Run, "_draw_samples", DRAW_SAMPLES)
    run = finish(prepared(tmp_path / "run", recipe(photos, 4)))
    assert run.samples is not None
    assert run.samples.step == 4
    assert 0 <= run.samples.alike <= run.samples.number > 0
    found = library.Found("run", run.model_path, "run")
    assert library.sample_check(found, checkpoint.read_info(run.model_path)) == run.samples
