"""A run that is stopped, killed and resumed here, beside one that never was.

Exact resume is a claim about a machine too: its kernels, its threads, its disk. So it is tried where it has to hold.
Invariant: all of it happens in a folder of its own, which is gone afterwards, whatever happens; no image, run, setting
or cache of the user is read or written.
"""

import contextlib
import hashlib
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ddpm_cli import checkpoint, files, machine, paths
from ddpm_cli.config import RECIPES, Budget, Device, Precision, RunConfig, ScheduleConfig
from ddpm_cli.diagnosis import Finding, guarded
from ddpm_cli.errors import ResourceError, UsageError
from ddpm_cli.render import images
from ddpm_cli.runs import Run, load_config, records, saves

STEPS = 48  # of a run: a tiny network takes about a second for them
SAVED = 17  # steps between two saves: inside an epoch of 7 steps, and not a step that has a line in the metrics anyway
STOPS = (10, 35)  # steps at which somebody asks a run to stop: it ends with the next, inside an epoch
IMAGES, BATCH, SIDE = 40, 6, 8  # the last batch of an epoch is filled up from its first images
LIMIT = 45.0  # seconds after which no other case begins
PATIENCE = 30.0  # seconds that a process has until its first save; most of it goes into importing torch
WITHIN = 1e-6  # of the largest weight: what runs may differ in on a device that adds up in any order
MANIFOLD = 10  # times the distance of two unbroken runs: two samples of it tell little more than its magnitude
BUSY = "Close other programs, then try again."
REPORT = "Please report it, with what this says: ddpm doctor --verify-resume --json"
TIMES = ("images_per_second",)  # of a line of metrics.jsonl: what a clock says


class Case(NamedTuple):
    """One kind of run.

    Attributes:
        precision: of the network.
        recipe: a name of :data:`ddpm_cli.config.RECIPES`: `default` has AdamW, `report` Adam, and much else differs.
        accumulate: parts that a batch is worked through in.
        killed: whether it is killed, too, in a process of its own.
    """

    precision: Precision
    recipe: str
    accumulate: int
    killed: bool

    @property
    def name(self) -> str:
        optimizer = {"adamw": "AdamW", "adam": "Adam"}[RECIPES[self.recipe][0].optimizer]
        return f"{self.precision} {optimizer}" + (f" in {self.accumulate} parts" if self.accumulate > 1 else "")


class Quick(Run):
    """A run without pictures, which take longer than such a training."""

    def _draw_samples(self, step: int) -> None:
        pass

    def _draw_loss(self) -> None:
        pass


def rehearse(device: Device = "auto", begin: Callable[[int, int, str], None] = lambda *_: None) -> Iterator[Finding]:
    """Train, kill, stop and resume small runs on generated images, and compare each with one that went through.

    Args:
        device: where.
        begin: takes, before each case, its number, the number of cases, and its name.

    Yields:
        A finding a case.

    Raises:
        ResourceError: the device is absent, or no temporary folder can be made.
    """
    stop = time.monotonic() + LIMIT
    chosen = machine.choose_device(device)
    with _place_apart() as place:
        draw_images(place / "images")
        every = list(cases(chosen))
        for number, case in enumerate(every):
            begin(number, len(every), case.name)
            if time.monotonic() > stop:
                yield Finding(case.name, "warning", "not tried: time is up", BUSY)
            else:
                yield from guarded(case.name, partial(_try, case, place / case.name.replace(" ", "-"), chosen))


def cases(device: torch.device) -> Iterator[Case]:
    """What is tried on a device: every precision that it computes in, with both optimizers, whole and in parts."""
    for precision in machine.PRECISIONS.values():
        if computes(precision, device):
            # One kill is enough: what it leaves on the disk is the same in all, and a process takes seconds to start.
            yield Case(precision, "default", 1, killed=precision == "float32")
            yield Case(precision, "report", 2, killed=False)


def computes(precision: Precision, device: torch.device) -> bool:
    """Whether a device takes a precision, and multiplies in it."""
    try:
        ones = torch.ones(8, 8, dtype=machine.choose_precision(precision, device, training=True), device=device)
        return float((ones @ ones).sum()) == 8**3
    except (UsageError, RuntimeError, TypeError):  # as MPS says of bf16 on older systems
        return False


@contextlib.contextmanager
def _place_apart() -> Iterator[Path]:
    """A folder for as long as the block runs, with what is DDPM_HOME meanwhile in it."""
    before = os.environ.get("DDPM_HOME")
    with files.reported(Path("a temporary folder")):
        folder = tempfile.TemporaryDirectory(prefix="ddpm-resume-", ignore_cleanup_errors=True)
    with folder as name:
        os.environ["DDPM_HOME"] = str(Path(name) / "home")
        try:
            yield Path(name)
        finally:
            if before is None:
                del os.environ["DDPM_HOME"]
            else:
                os.environ["DDPM_HOME"] = before


def draw_images(folder: Path) -> None:
    """Write grey noise in two classes, of which one is lighter."""
    noise = np.random.default_rng(0)
    for number in range(IMAGES):
        label = number % 2
        pixels = noise.integers(100 * label, 156 + 100 * label, (1, SIDE, SIDE), dtype=np.uint8)
        files.write_bytes(folder / ("dark", "light")[label] / f"{number:02}.png", images.png(pixels))


def run_config(case: Case, dataset: Path) -> RunConfig:
    """The run of a case: every save by the step, for the clock must decide nothing."""
    recipe = replace(RECIPES[case.recipe][0], batch_size=BATCH, accumulate=case.accumulate, seed=0)
    return RunConfig(
        str(dataset),
        Budget(steps=STEPS),
        "tiny",
        schedule=ScheduleConfig(timesteps=100),
        train=recipe,
        precision=case.precision,
        save_every=1e6,
        save_steps=SAVED,
        sample_every=0,
    )


# --- one case -------------------------------------------------------------------------------------------------------


def _try(case: Case, place: Path, device: torch.device) -> Iterator[Finding]:
    chosen = run_config(case, place.parent / "images")
    saves.write_config(place / "broken", chosen)  # a run that has not begun: going on with it begins at step 0
    step, told = 0, []
    if case.killed:
        killed = _kill(place / "broken", device)
        if killed is None or killed >= STEPS:
            late = (
                f"it saved nothing within {PATIENCE:.0f} seconds" if killed is None else "it ended too soon for a kill"
            )
            yield Finding(case.name, "warning", f"not tried: {late}", BUSY)
            return
        step, told = killed, [f"a kill and going on from step {killed}"]
    for stop in STOPS:
        if stop > step:
            step = _train(place / "broken", device, stop).step
            told.append(f"a stop at step {step}")
    broken = _train(place / "broken", device)
    saves.write_config(place / "whole", chosen)
    whole = _train(place / "whole", device)
    after = f"after {' and '.join(told)} of {STEPS}"
    if broken == whole:
        yield Finding(case.name, "ok", f"sha256 {whole.digest[:12]}… equal {after}, metrics too")
    elif device.type == "cpu":
        yield Finding(case.name, "problem", f"{_difference(whole, broken)} {after}", REPORT)
    else:
        saves.write_config(place / "again", chosen)
        yield _judge(case.name, after, whole, broken, _train(place / "again", device))


@dataclass(frozen=True)
class End:
    """What a training has left when it ended.

    Attributes:
        step: that it reached.
        digest: sha256 of model.safetensors.
        metrics: the lines of metrics.jsonl, without what a clock says.
        model: the path of model.safetensors.
    """

    step: int
    digest: str
    metrics: list[dict[str, Any]]
    model: Path = field(compare=False)


def _train(folder: Path, device: torch.device, stop: int | None = None) -> End:
    """Go on with a run in this process, to its end or until somebody stops it at a step or soon after."""
    run = Quick(folder, load_config(folder), device, offline=True)
    run.prepare()
    with files.held(folder):
        run.restore()
        for at in run.train():
            run.stopped = stop is not None and at.step >= stop
    lines = [{key: value for key, value in line.items() if key not in TIMES} for line in records.read(run.metrics_path)]
    digest = hashlib.sha256(run.model_path.read_bytes()).hexdigest()
    return End(run.state.step, digest, lines, run.model_path)


def _kill(folder: Path, device: torch.device) -> int | None:
    """Go on with a run as ``ddpm train`` in a process of its own, and kill it as soon as it has saved.

    Returns:
        The step of its last save, with which going on begins; None where it saved nothing in time.

    Raises:
        ResourceError: it ended by itself, without a save.
    """
    state, said = folder / paths.STATE, folder / "stderr.txt"
    words = ["-m", "ddpm_cli", "train", "--resume", str(folder), "--device", device.type, "--offline", "--quiet"]
    # This very package, whatever else is installed; and nothing from the current folder, where a torch.py may lie.
    search = os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]))
    give_up = time.monotonic() + PATIENCE
    with said.open("wb") as errors:
        child = subprocess.Popen(
            [sys.executable, "-P", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env={**os.environ, "PYTHONPATH": search},
        )
        try:
            while not state.exists() and child.poll() is None and time.monotonic() < give_up:
                time.sleep(0.002)
        finally:
            child.kill()  # SIGKILL: it can do nothing more
            code = child.wait()
    if state.exists():
        return int(checkpoint.read_header(state)[0]["step"])
    if code <= 0:
        return None
    lines = said.read_text(encoding="utf-8", errors="replace").splitlines()
    last = next((f": {line.strip()[:300]}" for line in reversed(lines) if line.strip()), "")
    raise ResourceError(f"ddpm train ended by itself with code {code}{last}", REPORT)


# --- where bytes differ ---------------------------------------------------------------------------------------------


def _judge(name: str, after: str, whole: End, broken: End, again: End) -> Finding:
    """What to make of different bytes on a device that may add up in any order: `again` went through like `whole`.

    Where two runs that were never stopped differ as well, the device cannot be held to the last bit, and a stopped run
    may be as far from one of them as they are from each other.
    """
    off, usual = distance(whole.model, broken.model), distance(whole.model, again.model)
    same_lines = [line["step"] for line in whole.metrics] == [line["step"] for line in broken.metrics]
    if same_lines and off <= WITHIN:
        return Finding(name, "warning", f"equal to {WITHIN:.0e} {after}, but not to the last bit: {off:.1e} apart")
    if same_lines and off <= MANIFOLD * usual:
        found = f"{off:.1e} from an unbroken run {after}, and two unbroken runs are {usual:.1e} apart here"
        return Finding(name, "warning", found, "Where every bit counts: --device cpu")
    found = f"{_difference(whole, broken)} {after}; two unbroken runs are {usual:.1e} apart"
    return Finding(name, "problem", found, REPORT)


def _difference(whole: End, broken: End) -> str:
    """Where two ends part, in a few words."""
    words = []
    if whole.digest != broken.digest:
        off = distance(whole.model, broken.model)
        words.append(f"sha256 {broken.digest[:12]}…, expected {whole.digest[:12]}…, weights {off:.1e} apart")
    if whole.metrics != broken.metrics:
        lines = zip_longest(whole.metrics, broken.metrics)
        number, (expected, found) = next((number, pair) for number, pair in enumerate(lines, 1) if pair[0] != pair[1])
        words.append(f"line {number} of metrics.jsonl {json.dumps(found)}, expected {json.dumps(expected)}")
    return "; ".join(words)


def distance(one: Path, other: Path) -> float:
    """The largest difference of two models' weights, as a share of the largest weight; infinite for other shapes."""
    first, second = checkpoint.read_tensors(one), checkpoint.read_tensors(other)
    if {name: value.shape for name, value in first.items()} != {name: value.shape for name, value in second.items()}:
        return math.inf
    off = max(float((first[name].double() - second[name].double()).abs().max()) for name in first)
    return off / max(float(value.abs().max()) for value in first.values())
