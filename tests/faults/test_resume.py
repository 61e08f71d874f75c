"""A run that is stopped or killed and taken up again ends in the bytes of one that never was, whatever it is set to.

The moments are steps, so that every case is the same on every machine; `test_kills.py` has the random ones.
"""

import itertools
import json
import math
import os
import random
import shutil
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

from ddpm_cli import checkpoint, config, machine, networks, runs
from ddpm_cli.cli import main
from ddpm_cli.config import Budget, NetworkConfig, ReportUNetConfig, RunConfig, ScheduleConfig, TrainConfig, UNetConfig
from ddpm_cli.denoiser import Denoiser
from ddpm_cli.errors import DdpmError, ModelError
from ddpm_cli.runs import Run
from ddpm_cli.training import learning_rate

STEPS = 13
RECIPE = TrainConfig(batch_size=4, warmup=2, ema=0.3, seed=5)
CPU = torch.device("cpu")

NETWORKS: dict[str, Callable[[config.Shape, int], NetworkConfig]] = {
    "plain": lambda shape, classes: UNetConfig(shape, classes, widths=(8,), blocks=1, attention=(), heads=1),
    "attention": lambda shape, classes: UNetConfig(shape, classes, widths=(8, 16), blocks=1, attention=(1,), heads=2),
    "dropout": lambda shape, classes: UNetConfig(shape, classes, widths=(8,), blocks=1, attention=(), dropout=0.5),
    "batch norm": lambda shape, classes: ReportUNetConfig(shape, classes, widths=(4, 4, 4), embedding=8, heads=1),
}


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread, a preset that takes milliseconds, and nothing that takes longer: pictures, and counting FLOP."""
    monkeypatch.setattr(networks, "count_flops", lambda _: 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(Run, "_draw_samples", lambda *_: None)
    monkeypatch.setattr(Run, "_draw_loss", lambda _: None)
    monkeypatch.setitem(config.PRESETS, "tiny", (NETWORKS["plain"], ""))


def draw(place: Path, count: int = 14, channels: int = 1, classes: tuple[str, ...] = ("cat", "dog")) -> str:
    """A folder of noise, 8x8: by default fourteen grey images in two classes, so that four make no even epoch."""
    noise = np.random.default_rng(count)
    for number in range(count):
        path = place / (classes[number % len(classes)] if classes else "") / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = noise.integers(0, 256, (8, 8, channels), dtype=np.uint8)
        Image.fromarray(pixels[..., 0] if channels == 1 else pixels).save(path)
    return str(place)


@pytest.fixture
def pets(tmp_path: Path) -> str:
    return draw(tmp_path / "pets")


def most_are_slow(cases: dict[str, Any], quick: set[str]) -> list[Any]:
    """Cases by name, of which those that are not quick are left to `make slow`."""
    assert quick <= cases.keys()
    return [
        pytest.param(case, id=name, marks=() if name in quick else pytest.mark.slow) for name, case in cases.items()
    ]


def plan(dataset: str, train: TrainConfig = RECIPE, **changes: Any) -> RunConfig:
    small = ScheduleConfig(timesteps=20)
    chosen = RunConfig(dataset, Budget(steps=STEPS), "tiny", schedule=small, train=train, precision="float32")
    return replace(chosen, **changes)


def prepared(folder: Path, chosen: RunConfig) -> Run:
    run = Run(folder, chosen, CPU, offline=True)
    run.prepare()
    return run


def begun(folder: Path, chosen: RunConfig) -> Run:
    """A run that `ddpm train` would begin or, where there is one, go on with."""
    if not (folder / "config.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        return prepared(folder, chosen)
    saved = runs.load_config(folder)
    run = prepared(folder, saved if chosen.budget == saved.budget else replace(saved, budget=chosen.budget))
    run.restore()
    return run


def finish(run: Run, stop: int | None = None) -> Run:
    """Train to the end, or until somebody presses Ctrl-C amid a step, counted from 1."""
    if stop is not None:
        rows = run.batches.rows

        def interrupted(step: int) -> Any:
            run.stopped = run.stopped or step + 1 == stop
            return rows(step)

        run.batches.rows = interrupted  # type: ignore[method-assign]
    for _ in run.train():
        pass
    return run


def abandon(run: Run, save: int, end: int) -> None:
    """Train, save once a step is reached, and vanish some steps later, as a killed process does."""
    due = True
    for at in run.train():
        if due and at.step >= save:
            run.save()
            due = False
        if at.step >= end:
            return


def disturb(seed: int) -> None:
    """Whatever else draws random numbers in the process must not matter."""
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002  # it is the global state that must not matter
    random.seed(seed)


def broken(folder: Path, chosen: RunConfig, *stops: int) -> Run:
    """A run stopped at these steps and gone on with each time, in other weather."""
    for number, stop in enumerate(stops):
        disturb(number)
        finish(begun(folder, chosen), stop)
    disturb(99)
    return finish(begun(folder, chosen))


def lines(folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl without what a clock says."""
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{key: value for key, value in line.items() if key != "images_per_second"} for line in found]


def assert_same(one: Run, other: Run) -> None:
    """The same model, byte for byte; the same state, tensor for tensor; the same metrics."""
    states = [checkpoint.read_tensors(run.state_path) for run in (one, other)]
    assert states[0].keys() == states[1].keys()
    assert [name for name, value in states[0].items() if not torch.equal(value, states[1][name])] == []
    assert one.model_path.read_bytes() == other.model_path.read_bytes()
    assert lines(one.folder) == lines(other.folder)
    bests = [run.folder / "best.safetensors" for run in (one, other)]
    assert bests[0].exists() == bests[1].exists()
    assert not bests[0].exists() or bests[0].read_bytes() == bests[1].read_bytes()


# --- every setting --------------------------------------------------------------------------------------------------

RECIPES: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "Adam": {"optimizer": "adam"},
    "weight decay": {"weight_decay": 0.1},
    "no average": {"ema": 0.0},
    "no clipping": {"clip": 0.0},
    "constant rate": {"decay": "constant", "warmup": 0},
    "cosine decay": {"decay": "cosine"},
    "long warm-up": {"warmup": 1000},
    "min-snr": {"loss": "min-snr"},
    "bound": {"loss": "vlb"},
    "learned variance": {"loss": "hybrid"},
    "target eps": {"target": "eps"},
    "target x0": {"target": "x0"},
    "uniform times": {"times": "uniform"},
    "logit-normal times": {"times": "logit-normal"},
    "no label hidden": {"label_drop": 0.0},
    "two parts": {"accumulate": 2},
    "three parts that are not equal": {"accumulate": 3},
    "a batch larger than the set": {"batch_size": 17},
    "one image a step": {"batch_size": 1, "accumulate": 1},
}


QUICK = {"as it comes", "Adam", "learned variance", "three parts that are not equal"}


@pytest.mark.parametrize("changes", most_are_slow(RECIPES, QUICK))
def test_every_recipe_resumes_exactly(pets: str, tmp_path: Path, changes: dict[str, Any]) -> None:
    chosen = plan(pets, replace(RECIPE, **changes))
    assert_same(broken(tmp_path / "broken", chosen, 6), broken(tmp_path / "whole", chosen))


KINDS = {f"{network}, {precision}": (network, precision) for network in NETWORKS for precision in ("float32", "bf16")}


@pytest.mark.parametrize("kind", most_are_slow(KINDS, {"dropout, bf16", "batch norm, float32"}))
def test_every_kind_of_network_resumes_exactly_in_every_precision(
    pets: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: tuple[str, Any]
) -> None:
    network, precision = kind
    monkeypatch.setitem(config.PRESETS, "tiny", (NETWORKS[network], ""))
    chosen = plan(pets, replace(RECIPE, accumulate=2), precision=precision)
    assert_same(broken(tmp_path / "broken", chosen, 6), broken(tmp_path / "whole", chosen))


def test_the_scale_of_the_loss_in_fp16_comes_back(pets: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU, which users are spared for its slowness: only what is saved is at issue."""
    monkeypatch.setattr(machine, "choose_precision", lambda *_, **__: torch.float16)
    chosen = plan(pets, precision="fp16")
    halves = [finish(begun(tmp_path / "broken", chosen), 6), begun(tmp_path / "broken", chosen)]
    assert halves[0].state.scale is not None
    assert halves[1].state.scale is not None
    assert torch.equal(halves[0].state.scale, halves[1].state.scale)
    assert float(halves[1].state.scale[1]) > 0
    assert_same(finish(halves[1]), broken(tmp_path / "whole", chosen))


SETS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "unlabelled": lambda place: {"dataset": draw(place / "plain", classes=())},
    "labels that are not learned": lambda place: {"dataset": draw(place / "plain"), "conditional": False},
    "colour": lambda place: {"dataset": draw(place / "colour", channels=3)},
    "resized": lambda place: {"dataset": draw(place / "resized"), "image_size": 4},
    "a part": lambda place: {"dataset": draw(place / "part"), "limit": 5},
    "batches that come out even": lambda place: {"dataset": draw(place / "even", count=16)},
    "one image": lambda place: {"dataset": draw(place / "one", count=1)},
    "mnist": lambda _: {"dataset": "mnist", "limit": 50},
}


@pytest.mark.parametrize("kind", most_are_slow(SETS, {"unlabelled", "colour", "mnist"}))
def test_every_kind_of_set_resumes_exactly(tmp_path: Path, kind: Callable[[Path], dict[str, Any]]) -> None:
    chosen = replace(plan("mnist"), **kind(tmp_path))
    assert_same(broken(tmp_path / "broken", chosen, 6), broken(tmp_path / "whole", chosen))


# --- every moment ---------------------------------------------------------------------------------------------------


MOMENTS = {
    "the first step": (1,),
    "the end of an epoch": (4,),
    "a logged step": (runs.EVERY,),
    "the last but one": (STEPS - 1,),
    "the last": (STEPS,),
    "one step after another": (6, 7),
    "again and again": (1, 2, 5, 9, runs.EVERY, 12),
}


@pytest.mark.parametrize("stops", most_are_slow(MOMENTS, {"again and again"}))
def test_every_moment_will_do(pets: str, tmp_path: Path, stops: tuple[int, ...]) -> None:
    assert_same(broken(tmp_path / "broken", plan(pets), *stops), broken(tmp_path / "whole", plan(pets)))


def test_an_epoch_longer_than_what_lies_between_two_lines_too(tmp_path: Path) -> None:
    """Its loss is a mean over steps of before and after the stop, and stands in the model."""
    chosen = plan(draw(tmp_path / "many", count=70), replace(RECIPE, batch_size=3))
    assert_same(broken(tmp_path / "broken", chosen, 7, 14), broken(tmp_path / "whole", chosen))


@pytest.mark.parametrize(("save", "end"), [(8, 12), pytest.param(1, 4, marks=pytest.mark.slow)])
def test_work_after_the_last_save_is_done_again_in_the_same_way(pets: str, tmp_path: Path, save: int, end: int) -> None:
    """The metrics of the lost steps stand in metrics.jsonl, and give way."""
    abandon(begun(tmp_path / "broken", plan(pets)), save, end)
    assert lines(tmp_path / "broken")[-1]["step"] >= end
    assert_same(broken(tmp_path / "broken", plan(pets)), broken(tmp_path / "whole", plan(pets)))


@pytest.mark.slow
def test_without_any_save_it_begins_again(pets: str, tmp_path: Path) -> None:
    abandon(begun(tmp_path / "broken", plan(pets)), save=STEPS + 1, end=9)
    assert not (tmp_path / "broken" / "state.safetensors").exists()
    assert_same(broken(tmp_path / "broken", plan(pets)), broken(tmp_path / "whole", plan(pets)))


def test_saves_by_the_step_change_no_weight(pets: str, tmp_path: Path) -> None:
    whole, often = finish(begun(tmp_path / "whole", plan(pets))), tmp_path / "often"
    abandon(begun(often, plan(pets, save_steps=3)), save=STEPS + 1, end=9)
    assert checkpoint.read_header(often / "state.safetensors")[0]["step"] == 9
    run = broken(often, plan(pets, save_steps=3))
    assert run.info.id == whole.info.id
    assert_same(run, broken(tmp_path / "another", plan(pets, save_steps=3)))


def test_the_best_model_is_the_same_one(pets: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a validation every epoch, and one whose model was lost before it was saved."""
    monkeypatch.setattr("ddpm_cli.runs.run.RARELY", 1)
    rising = replace(RECIPE, lr=0.3, clip=0.0)  # it gets worse, so that the best is none of the last
    whole = broken(tmp_path / "whole", plan(pets, rising))
    losses = {line["step"]: line["validation"] for line in lines(whole.folder) if "validation" in line}
    assert set(losses) == {4, 8, 12, STEPS}
    best = min(losses, key=lambda step: losses[step])
    assert checkpoint.read_info(whole.folder / "best.safetensors").training["step"] == best < STEPS
    assert_same(broken(tmp_path / "stopped", plan(pets, rising), best, best + 1), whole)
    abandon(begun(tmp_path / "killed", plan(pets, rising)), save=1, end=best)
    assert_same(broken(tmp_path / "killed", plan(pets, rising)), whole)


def test_threads_stay_as_many(pets: str, tmp_path: Path) -> None:
    finish(begun(tmp_path / "run", plan(pets)), 6)
    before = torch.get_num_threads()
    finish(begun(tmp_path / "run", plan(pets)))
    assert torch.get_num_threads() == before


# --- budgets --------------------------------------------------------------------------------------------------------


def test_a_budget_of_minutes_resumes_exactly_at_the_same_speed(
    pets: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = []
    for name, stop in (("whole", None), ("broken", 15)):
        run = begun(tmp_path / name, plan(pets, budget=Budget(minutes=0.25)))
        # A step takes half a second, all else nothing.
        clock = SimpleNamespace(perf_counter=lambda run=run: 0.5 * run.state.step, strftime=time.strftime)
        monkeypatch.setattr("ddpm_cli.runs.run.time", clock)
        finish(run, stop)
        if stop:
            assert run.state.step == stop
            frozen = run.state.steps
            run = begun(tmp_path / name, plan(pets, budget=Budget(minutes=0.25)))
            assert run.state.steps == frozen
            clock.perf_counter = lambda run=run: 0.5 * run.state.step
            finish(run)
        ends.append(run)
    assert ends[0].state.step == ends[0].state.steps == ends[1].state.step
    assert_same(*ends)


def test_a_finished_run_goes_on_as_if_it_had_been_longer_where_the_rate_is_constant(pets: str, tmp_path: Path) -> None:
    flat = replace(RECIPE, warmup=0, decay="constant")
    finish(begun(tmp_path / "run", plan(pets, flat, budget=Budget(epochs=1))))
    extended = finish(begun(tmp_path / "run", plan(pets, flat, budget=Budget(epochs=3))))
    long = finish(begun(tmp_path / "long", plan(pets, flat, budget=Budget(epochs=3))))
    assert extended.state.step == 3 * 4
    assert extended.model_path.read_bytes() == long.model_path.read_bytes()
    # The end that was had a validation loss, which the middle of a longer run has not.
    assert [line | {"validation": 0} for line in lines(extended.folder)] == [
        line | {"validation": 0} for line in lines(long.folder)
    ]


@pytest.mark.parametrize("decay", ["linear", pytest.param("cosine", marks=pytest.mark.slow)])
def test_elsewhere_it_goes_on_from_its_weights_at_the_rate_of_the_longer_run(
    pets: str, tmp_path: Path, decay: Any
) -> None:
    """The rate fell to 0 at the end that was; no longer run was ever in this state, but nothing else jumps."""
    fading = replace(RECIPE, decay=decay)
    done = finish(begun(tmp_path / "run", plan(pets, fading, budget=Budget(steps=11))))
    run = begun(tmp_path / "run", plan(pets, fading, budget=Budget(steps=30)))
    left = done.state.tensors()
    assert all(torch.equal(value, left[name]) for name, value in run.state.tensors().items())
    before = lines(run.folder)
    finish(run)
    after = lines(run.folder)
    assert after[: len(before)] == before
    assert [line["lr"] for line in after[len(before) :]] == [
        learning_rate(line["step"] - 1, 30, fading) for line in after[len(before) :]
    ]
    assert run.state.step == 30


# --- steps that broke -----------------------------------------------------------------------------------------------


def break_steps(monkeypatch: pytest.MonkeyPatch, run: Run, first: int, last: int) -> Run:
    """Make the loss of some steps, counted from 1, no number."""
    right = Denoiser.loss

    def loss(self: Denoiser, *args: Any, **more: Any) -> torch.Tensor:
        return right(self, *args, **more) * (math.nan if first <= run.state.step + 1 <= last else 1)

    monkeypatch.setattr(Denoiser, "loss", loss)
    return run


@pytest.mark.parametrize("stop", [8, *(pytest.param(stop, marks=pytest.mark.slow) for stop in (5, 6, 9, 10))])
def test_skipped_steps_are_remembered_and_change_nothing(
    pets: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    ends = []
    for name, stops in (("whole", (None,)), ("broken", (stop, None))):
        for moment in stops:
            with monkeypatch.context() as patch:
                run = break_steps(patch, begun(tmp_path / name, plan(pets)), 6, 9)
                finish(run, moment)
        ends.append(run)
        assert int(run.state.skipped) == 4
    assert_same(*ends)


def test_steps_that_broke_before_the_stop_count_towards_giving_up(
    pets: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = break_steps(monkeypatch, begun(tmp_path / "run", plan(pets)), 6, 9)
    finish(run, 8)
    assert int(run.state.broken) == 3
    assert int(begun(tmp_path / "run", plan(pets)).state.broken) == 3


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def _stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run stopped at step 6, and its images beside it."""
    place = tmp_path_factory.mktemp("stopped")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DDPM_HOME", str(place / "home"))
        patch.setitem(config.PRESETS, "tiny", (NETWORKS["plain"], ""))
        finish(begun(place / "run", plan(draw(place / "pets"))), 6)
    return place


@pytest.fixture
def stopped(_stopped: Path, tmp_path: Path) -> Path:
    """A copy of it, with images of its own."""
    shutil.copytree(_stopped / "run", tmp_path / "run")
    shutil.copytree(_stopped / "pets", tmp_path / "pets")
    edit_config(tmp_path / "run", ("dataset",), str(tmp_path / "pets"))
    return tmp_path / "run"


def edit_config(folder: Path, where: tuple[str, ...], value: object) -> None:
    """What somebody does who edits config.json."""
    document = inner = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for key in where[:-1]:
        inner = inner[key]
    assert inner[where[-1]] != value
    inner[where[-1]] = value
    (folder / "config.json").write_text(json.dumps(document), encoding="utf-8")


def assert_refused(folder: Path, *words: str) -> DdpmError:
    """One sentence with these words, and the run as it was."""
    before = {path.name: path.read_bytes() for path in folder.glob("*.*") if path.suffix != ".log"}
    with pytest.raises(DdpmError) as caught:
        begun(folder, runs.load_config(folder))
    for word in words:
        assert word in caught.value.message
    assert caught.value.hint
    assert {path.name: path.read_bytes() for path in folder.glob("*.*") if path.suffix != ".log"} == before
    return caught.value


def repaint(place: Path) -> None:
    path = place / "cat" / "00.png"
    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)


CHANGES: dict[str, Callable[[Path], object]] = {
    "one removed": lambda place: (place / "cat" / "00.png").unlink(),
    "one added": lambda place: shutil.copy(place / "cat" / "00.png", place / "cat" / "99.png"),
    "one changed": repaint,
    "two exchanged": lambda place: [
        (place / "cat" / "00.png").rename(place / "x.txt"),
        (place / "cat" / "02.png").rename(place / "cat" / "00.png"),
        (place / "x.txt").rename(place / "cat" / "02.png"),
    ],
    "a label changed": lambda place: (place / "cat" / "00.png").rename(place / "dog" / "00.png"),
    "another size": lambda place: [
        Image.fromarray(np.zeros((9, 9), np.uint8)).save(path) for path in place.glob("*/*.png")
    ],
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_set_that_has_changed_is_refused(stopped: Path, change: Callable[[Path], object]) -> None:
    change(stopped.parent / "pets")
    assert_refused(stopped)


def test_a_set_whose_files_are_only_newer_or_elsewhere_is_not(stopped: Path, tmp_path: Path) -> None:
    for path in (tmp_path / "pets").glob("*/*.png"):
        os.utime(path, (1e9, 1e9))
    (tmp_path / "pets").rename(tmp_path / "moved")
    edit_config(stopped, ("dataset",), str(tmp_path / "moved"))
    chosen = runs.load_config(stopped)
    assert begun(stopped, chosen).state.step == 6


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("train", "lr"), 0.01),
        (("train", "seed"), 6),
        (("train", "batch_size"), 5),
        (("train", "accumulate"), 2),
        (("train", "optimizer"), "adam"),
        (("train", "target"), "eps"),
        (("train", "ema"), 0.0),
        (("train", "loss"), "hybrid"),
        (("schedule", "timesteps"), 21),
        (("precision",), "bf16"),
        (("conditional",), False),
        (("limit",), 13),
        (("image_size",), 4),
    ],
    ids=lambda value: ".".join(value) if isinstance(value, tuple) else str(value),
)
def test_a_config_that_contradicts_the_state_is_refused(stopped: Path, where: tuple[str, ...], value: object) -> None:
    edit_config(stopped, where, value)
    assert_refused(stopped)


def test_a_state_of_another_network_is_refused(stopped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after an upgrade in which a preset became another network."""
    monkeypatch.setitem(config.PRESETS, "tiny", (NETWORKS["attention"], ""))
    assert isinstance(assert_refused(stopped, "state.safetensors"), ModelError)


@pytest.mark.parametrize("of", ["raw.", "ema.", "optimizer.exp_avg.", "optimizer.exp_avg_sq.", "optimizer.step."])
def test_a_state_that_lacks_a_piece_is_refused_by_its_name(stopped: Path, of: str) -> None:
    path = stopped / "state.safetensors"
    about, _ = checkpoint.read_header(path)
    tensors = checkpoint.read_tensors(path)
    gone = min(name for name in tensors if name.startswith(of))
    del tensors[gone]
    checkpoint.write_tensors(path, tensors, about)
    assert_refused(stopped, gone)


@pytest.mark.parametrize("size", [0, 7, 1000, -1])
def test_a_state_cut_short_is_refused(stopped: Path, size: int) -> None:
    path = stopped / "state.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    assert_refused(stopped, "state.safetensors")


def test_a_state_that_is_gone_is_refused_while_its_model_is_there(stopped: Path) -> None:
    """Beginning again would overwrite it."""
    (stopped / "state.safetensors").unlink()
    assert_refused(stopped, "state.safetensors is missing")


@pytest.mark.parametrize(
    "words",
    [
        ("--precision", "bf16"),
        ("--preset", "small"),
        ("--batch-size", "8"),
        ("--lr", "0.1"),
        ("--seed", "1"),
        ("--dataset", "mnist"),
        ("--loss", "vlb"),
        ("--schedule", "linear"),
    ],
    ids=lambda words: words[0],
)
def test_what_cannot_change_is_refused_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, str]
) -> None:
    assert main(["train", "--resume", str(tmp_path / "run"), *words]) == 2
    assert f"{words[0]} cannot change when a run is resumed" in capsys.readouterr().err


# --- all of it together ---------------------------------------------------------------------------------------------

CHOICES: dict[str, tuple[Any, ...]] = {
    "optimizer": ("adamw", "adam"),
    "ema": (0.0, 0.08, 0.5),
    "clip": (0.0, 0.1, 1.0),
    "decay": ("constant", "linear", "cosine"),
    "warmup": (0, 3, 200),
    "loss": ("simple", "min-snr", "vlb", "hybrid"),
    "target": ("eps", "x0", "v"),
    "times": ("stratified", "uniform"),
    "accumulate": (1, 2, 3),
    "batch_size": (3, 4, 7),
    "weight_decay": (0.0, 0.1),
    "label_drop": (0.0, 0.1, 1.0),
}


def shuffled(seed: int) -> Iterator[tuple[str, dict[str, Any], dict[str, Any], list[int]]]:
    """Recipes drawn at random, with a network, more of the run's settings, and the steps it is stopped at."""
    dice = random.Random(seed)
    while True:
        recipe = {name: dice.choice(choice) for name, choice in CHOICES.items()}
        more = {
            "precision": dice.choice(("float32", "bf16")),
            "conditional": dice.choice((None, False)),
            "limit": dice.choice((None, 9)),
            "save_steps": dice.choice((None, 1, 5)),
            "keep": dice.choice((0, 2)),
            "budget": Budget(steps=dice.randrange(12, 36)),
        }
        stops = sorted(dice.sample(range(1, more["budget"].steps), dice.randrange(1, 4)))
        yield dice.choice(list(NETWORKS)), recipe, more, stops


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("colour", [1, 3])
def test_any_mixture_resumes_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, figure: Callable[[str], None], colour: int
) -> None:
    count, dataset = 60, draw(tmp_path / "pets", channels=colour)
    for number, (network, recipe, more, stops) in enumerate(itertools.islice(shuffled(colour), count)):
        monkeypatch.setitem(config.PRESETS, "tiny", (NETWORKS[network], ""))
        chosen = plan(dataset, replace(RECIPE, seed=number, **recipe), **more)
        whole = broken(tmp_path / f"{number}-whole", chosen)
        stopped = broken(tmp_path / f"{number}-broken", chosen, *stops)
        assert whole.model_path.read_bytes() == stopped.model_path.read_bytes(), (network, recipe, more, stops)
        assert_same(whole, stopped)
        shutil.rmtree(whole.folder)
        shutil.rmtree(stopped.folder)
    figure(f"{count} mixtures of settings in {'colour' if colour == 3 else 'grey'} resumed to the same bytes")
