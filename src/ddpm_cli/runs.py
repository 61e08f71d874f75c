"""A training run from start to end: the loop, its saves, its metrics, its sample grids, and going on with it.

Invariant: at any moment the run folder holds a whole state or none; what a later state makes obsolete is replaced, not
edited. ``state.safetensors`` is the truth, and ``model.safetensors`` what others use of it.
"""

import contextlib
import copy
import json
import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ddpm_cli import __version__, checkpoint, config, data, files, machine, networks
from ddpm_cli.checkpoint import Info
from ddpm_cli.config import RunConfig
from ddpm_cli.data import ImageSet
from ddpm_cli.errors import DdpmError, ModelError, NumericsError, UsageError
from ddpm_cli.render import grid, images
from ddpm_cli.sampling import DiffusionModel
from ddpm_cli.sampling.model import evaluation_mode
from ddpm_cli.schedule import Schedule
from ddpm_cli.training import Batches, TrainState, train

EVERY = 10  # steps between two looks at the loss; looking waits for the device
BROKEN = 20  # skipped steps in a row after which a run gives up
CALIBRATION = 0.05  # share of a budget in minutes after which the speed counts as known
MOMENTS = ("exp_avg", "exp_avg_sq")  # of Adam and AdamW
SAMPLES = 64  # in a grid; a quarter of it where a CPU would take longer for them than for many steps
LARGE = 1e9  # FLOP of a network
RESERVE = 0.97  # share of a budget in minutes that is given to steps; the rest is for saves and pictures


class Progress(NamedTuple):
    """How far a run is.

    Attributes:
        step: steps done.
        steps: steps of the whole run; None while unknown.
        loss: mean over the last few steps.
        images_per_second: median so far.
        seconds_left: estimated; None while unknown.
        skipped: steps skipped so far because a number was not finite.
    """

    step: int
    steps: int | None
    loss: float
    images_per_second: float
    seconds_left: float | None
    skipped: int


@dataclass
class Run:
    """One run folder and the training that fills it.

    Args:
        folder: of the run.
        config: what to train, and for how long.
        device: where.
        offline: never ask the network for data.
        compiled: whether to compile the network.
        data_dir: where to look for data first.
        say: takes sentences for the user; they are written to train.log too.
        report: takes the line an epoch.
        progress: takes bytes done and in all while data are fetched or read.

    Attributes:
        stopped: set it to end the training after the step at hand, with everything saved.
    """

    folder: Path
    config: RunConfig
    device: torch.device
    offline: bool = False
    compiled: bool = False
    data_dir: Path | None = None
    say: Callable[[str], None] = lambda _: None
    report: Callable[[str], None] = lambda _: None
    progress: Callable[[int, int], None] = lambda _done, _all: None
    stopped: bool = False
    # Images a second, of every EVERY steps; a thousand of them tell the speed.
    _speeds: deque[float] = field(default_factory=lambda: deque(maxlen=1000))
    _losses: list[float] = field(default_factory=list)  # of the steps of one epoch at most

    def prepare(self) -> None:
        """Read the data and build everything, without touching the folder.

        Raises:
            DataError, ResourceError, UsageError: as :func:`ddpm_cli.data.load`.
        """
        c = self.config
        machine.use_available_threads()
        dtype = machine.choose_precision(c.precision, self.device)
        self.data: ImageSet = data.load(
            c.dataset,
            data_dir=self.data_dir,
            limit=c.limit,
            image_size=c.image_size,
            offline=self.offline,
            say=self.say,
            progress=self.progress,
        )
        if c.conditional and not self.data.classes:
            raise UsageError(f"{self.data.name} has no labels to be conditional on", "Leave out --conditional.")
        conditional = bool(self.data.classes) and c.preset != "report" if c.conditional is None else c.conditional
        self.config = c = replace(c, conditional=conditional, precision=machine.PRECISIONS[dtype])
        classes = self.data.classes if conditional else ()
        torch.manual_seed(c.train.seed)
        self.schedule = Schedule(c.schedule)
        network = config.network_for(c.preset, self.data.shape, len(classes), c.train.learns_variance)
        self.info = Info(
            network=network,
            schedule=c.schedule,
            target=c.train.target,
            classes=classes,
            data=describe(self.data),
            parameters=networks.count_parameters(network),
            flops=networks.count_flops(network),
        )
        denoiser = checkpoint.build_denoiser(self.info)
        denoiser.network.to(self.device).to(memory_format=torch.channels_last)
        denoiser.autocast = None if dtype == torch.float32 else dtype
        if self.compiled:
            machine.compile_network(denoiser.network, self.say)
        self.batches = Batches(
            torch.from_numpy(self.data.images),
            torch.from_numpy(self.data.labels) if classes and self.data.labels is not None else None,
            len(classes),
            self.schedule,
            c.train,
            self.device,
        )
        self.state = TrainState.fresh(denoiser, c.train, c.budget.total_steps(self.batches.steps_per_epoch))

    @property
    def model_path(self) -> Path:
        return self.folder / "model.safetensors"

    @property
    def state_path(self) -> Path:
        return self.folder / "state.safetensors"

    def seconds_a_step(self, steps: int = 6) -> float:
        """How long a step takes here, measured on a few of them and then forgotten: changes the state, so use it for
        a run that is not going to be trained."""
        times = []
        for report in train(replace(self.state, steps=steps), self.batches, self.config.train):
            float(report.loss)
            times.append(time.perf_counter())
        return statistics.median(np.diff(times))

    def train(self) -> Iterator[Progress]:
        """Train to the end of the budget, or until :attr:`stopped`, saving on the way.

        Raises:
            NumericsError: too many steps in a row gave no finite number; the last good weights are kept.
        """
        files.write_bytes(self.folder / "config.json", _json(config.to_dict(self.config)))
        self._write_log(f"training {self.data.name} on {self.device}, ddpm {__version__}, torch {torch.__version__}")
        begun = saved = looked = time.perf_counter()
        per_epoch, size = self.batches.steps_per_epoch, self.config.train.batch_size
        waiting: list[Tensor] = []
        for report in train(self.state, self.batches, self.config.train):
            waiting.append(report.loss)
            at_end, epoch_ends, stopping = report.step == self.state.steps, report.step % per_epoch == 0, self.stopped
            if not (at_end or epoch_ends or stopping or report.step % EVERY == 0):
                continue
            losses = torch.stack(waiting).tolist()  # waits for the device
            now = time.perf_counter()
            self._note_speed(len(waiting) * size / (now - looked))
            if int(report.broken) >= BROKEN:
                if not self.state_path.exists():
                    self.save()  # skipped steps changed nothing: these are the last good weights
                raise NumericsError(
                    f"the loss was not a finite number for {int(report.broken)} steps in a row, at step {report.step}",
                    "Lower --lr, or use --precision float32; the run folder keeps the last good weights.",
                )
            self._losses = (self._losses + losses)[-per_epoch:]
            loss = statistics.fmean(losses)
            skipped = int(report.skipped)
            self._append_metrics(report.step, loss, float(report.gradient), report.lr, skipped)
            waiting = []
            if self.state.steps is None:
                self._freeze(report.step, now - begun)
            if at_end or stopping or now - saved > 60 * self.config.save_every:
                self.save()
                saved = time.perf_counter()
            if stopping:
                break
            if epoch_ends or at_end:
                self._end_epoch(report.step, report.lr)
            looked = time.perf_counter()
            left = self._seconds_left()
            yield Progress(report.step, self.state.steps, loss, self.images_per_second, left, skipped)
        if not self.info.id:  # nothing was left to train
            self.save()
        self._draw_loss()

    @property
    def images_per_second(self) -> float:
        """Median over the run, its first steps excluded."""
        steady = list(self._speeds)[1:] or self._speeds
        return statistics.median(steady) if steady else math.nan

    @property
    def loss(self) -> float:
        """Mean over the last epoch, or what there is of it."""
        return statistics.fmean(self._losses) if self._losses else math.nan

    def save(self) -> None:
        """Write the state and then the model made of it."""
        training = {"step": self.state.step, "steps": self.state.steps, "loss": _finite(self.loss)}
        tensors = self._tensors()
        recipe = config.to_dict(self.config.train)
        info = checkpoint.described(replace(self.info, training={**training, "recipe": recipe}), tensors)
        about = {
            "format": checkpoint.FORMAT,
            "kind": "state",
            "run": config.to_dict(self.config),
            "model": info.to_dict(),
            **training,
            "skipped": int(self.state.skipped),
        }
        checkpoint.write_tensors(self.state_path, tensors | self._optimizer_tensors(), about)
        self.info = checkpoint.save(self.model_path, tensors, info)

    def restore(self) -> None:
        """Take up the saved state of the folder, and cut the metrics back to it. Without one, begin at step 0.

        Raises:
            ModelError: the state is corrupt or belongs to another run.
        """
        if not self.state_path.exists():
            self._cut_metrics(0)
            self._log("no state was saved yet: starting at step 0")
            return
        about, found = checkpoint.read_header(self.state_path)
        step, steps = about.get("step"), about.get("steps")
        whole = isinstance(step, int) and (steps is None or isinstance(steps, int)) and 0 <= step <= (steps or step)
        if about.get("kind") != "state" or not whole:
            raise ModelError(f"{self.state_path} holds no state of a run", checkpoint.DAMAGED)
        saved = _run_config(about.get("run"), self.state_path)
        checkpoint.check_tensors(self.state_path, found, self._tensors() | self._optimizer_tensors())
        tensors = checkpoint.read_tensors(self.state_path)
        self.state.denoiser.network.load_state_dict(_below("raw.", tensors))
        if self.state.average is not None:
            for name, value in _below("ema.", tensors).items():
                self.state.average.state[name].copy_(value)
        self._restore_optimizer(tensors)
        self.state.step = int(about["step"])
        self.state.skipped.fill_(int(about.get("skipped", 0)))
        if saved.budget == self.config.budget:
            self.state.steps = steps  # minutes that became steps stay these steps
        if self.state.steps is not None and self.state.step > self.state.steps:
            raise UsageError(
                f"the run is already at step {self.state.step:,}, beyond the {self.state.steps:,} asked for",
                "Ask for more, or start a new run.",
            )
        self._cut_metrics(self.state.step)
        self._derive_model(about["model"])
        self._log(f"restored weights, average and optimizer at step {self.state.step:,}")

    def _derive_model(self, about: Mapping[str, Any]) -> None:
        """Write the model anew if it is not the one of the saved state: a run may be killed between the two.

        Raises:
            ModelError: the state does not describe its model.
        """
        if not about.get("id"):
            return  # of an early version, which did not say
        try:
            info = Info.from_dict(about)
        except (DdpmError, LookupError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(f"{self.state_path} does not say which model it holds", checkpoint.DAMAGED) from error
        with contextlib.suppress(ModelError):
            if checkpoint.read_info(self.model_path).id == info.id:
                return
        self.info = checkpoint.save(self.model_path, self._tensors(), info)
        self._log("wrote the model of the saved state anew")

    # --- what happens on the way ---

    def _log(self, text: str) -> None:
        """Say something, and keep it in the run's train.log."""
        self.say(text)
        self._write_log(text)

    def _write_log(self, text: str) -> None:
        self._append("train.log", f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {text}\n")

    def _append(self, name: str, text: str) -> None:
        path = self.folder / name
        with files.reported(path), path.open("a", encoding="utf-8") as file:
            file.write(text)

    def _note_speed(self, images_per_second: float) -> None:
        self._speeds.append(images_per_second)

    def _freeze(self, step: int, seconds: float) -> None:
        """Turn a budget of minutes into one of steps, once the speed is known or the warm-up ends."""
        assert self.config.budget.minutes is not None
        budget = 60 * self.config.budget.minutes
        if len(self._speeds) > 1 and (seconds > CALIBRATION * budget or step >= self.config.train.warmup):
            left = RESERVE * budget - seconds
            self.state.steps = step + max(1, round(left * self.images_per_second / self.config.train.batch_size))
            self._log(f"{self.config.budget.minutes:g} minutes are {self.state.steps:,} steps here")

    def _seconds_left(self) -> float | None:
        if self.state.steps is None:
            return None
        return (self.state.steps - self.state.step) * self.config.train.batch_size / self.images_per_second

    def _end_epoch(self, step: int, lr: float) -> None:
        epoch, of = step / self.batches.steps_per_epoch, ""
        if self.state.steps is not None:
            of = f" of {self.state.steps / self.batches.steps_per_epoch:.4g}"
        line = (
            f"epoch {epoch:.4g}{of}  step {step:,}  loss {self.loss:.4f}  lr {lr:.2e}"
            f"  {self.images_per_second:.0f} images/s"
        )
        self.report(line)
        self._write_log(line)
        every = self.config.sample_every
        if step == self.state.steps or (every and round(epoch) % every == 0):
            self._draw_samples(step)
            self._draw_loss()

    def _append_metrics(self, step: int, loss: float, gradient: float, lr: float, skipped: int) -> None:
        line = {
            "step": step,
            "epoch": step / self.batches.steps_per_epoch,
            "loss": _finite(loss),
            "gradient": _finite(gradient),
            "lr": lr,
            "images_per_second": _finite(self._speeds[-1]),
            "skipped": skipped,
        }
        self._append("metrics.jsonl", json.dumps(line) + "\n")

    def _cut_metrics(self, step: int) -> None:
        kept = [line for line in self.metrics() if line["step"] <= step]
        self._losses = []
        for line, before in zip(kept, [0, *(line["step"] for line in kept)], strict=False):
            if line["loss"] is not None:
                self._losses += [line["loss"]] * (line["step"] - before)
        self._losses = self._losses[-self.batches.steps_per_epoch :]
        text = "".join(json.dumps(line) + "\n" for line in kept)
        files.write_bytes(self.folder / "metrics.jsonl", text.encode())

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl; a last one cut short by a crash is left out."""
        lines = []
        path = self.folder / "metrics.jsonl"
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            try:
                lines.append(json.loads(line))
            except ValueError:
                break
        return lines

    def _draw_samples(self, step: int) -> None:
        """A grid of samples; pictures are no reason to lose a run."""
        count = SAMPLES if self.info.flops < LARGE or self.device.type != "cpu" else SAMPLES // 4
        try:
            model = self.model()
            labels = [k % len(model.classes) for k in range(count)] if model.classes else None
            batches = [images.to_uint8(x.cpu().numpy()) for x in model.draw(0, range(count), labels)]
            picture = images.png(grid.grid(np.concatenate(batches)))
            files.write_bytes(self.folder / "samples" / f"step-{step:07}.png", picture)
        except (DdpmError, OSError, RuntimeError, MemoryError) as error:
            self._log(f"no samples at step {step}: {error}")

    def model(self) -> DiffusionModel:
        """The present model, ready to be sampled, apart from the one that learns."""
        network = copy.deepcopy(self.state.denoiser)
        if self.state.average is not None:
            network.network.load_state_dict(self.state.average.state)
        network.autocast = None
        ready = evaluation_mode(network, self.device, torch.float32)
        return DiffusionModel(ready, self.schedule, self.info.shape, self.info.classes, self.info.sampler)

    def _draw_loss(self) -> None:
        from ddpm_cli.render import plots

        try:
            lines = [line for line in self.metrics() if line["loss"] is not None]
            if not lines:
                return
            steps, loss = [line["step"] for line in lines], [line["loss"] for line in lines]
            recipe = self.config.train
            unit = " in bits/dim" if recipe.loss == "vlb" else ""
            picture = plots.loss_curve(
                steps,
                loss,
                learning_rate=[line["lr"] for line in lines],
                steps_per_epoch=self.batches.steps_per_epoch,
                title=f"{self.data.name}, {self.config.preset}, {recipe.target} target, {recipe.loss} loss{unit}",
            )
            files.write_bytes(self.folder / "loss.png", picture)
        except (DdpmError, OSError, ValueError, ImportError) as error:
            self._log(f"no loss curve: {error}")

    # --- the state as tensors with names ---

    def _tensors(self) -> dict[str, Tensor]:
        network = self.state.denoiser.network.state_dict()
        average = self.state.average.state if self.state.average is not None else {}
        raw = {f"raw.{name}": value for name, value in network.items()}
        return raw | {f"ema.{name}": value for name, value in average.items()}

    def _optimizer_tensors(self) -> dict[str, Tensor]:
        """The optimizer's two moments and step of every parameter; before the first step, zeros."""
        tensors = {"scale": self.state.scale} if self.state.scale is not None else {}
        for name, parameter in self.state.denoiser.network.named_parameters():
            state = self.state.optimizer.state.get(parameter, {})
            for key in MOMENTS:
                tensors[f"optimizer.{key}.{name}"] = state.get(key, torch.zeros_like(parameter))
            tensors[f"optimizer.step.{name}"] = state.get("step", torch.zeros(()))
        return tensors

    def _restore_optimizer(self, tensors: Mapping[str, Tensor]) -> None:
        if self.state.scale is not None:
            self.state.scale = tensors["scale"].to(self.device)
        saved = {}
        for number, (name, parameter) in enumerate(self.state.denoiser.network.named_parameters()):
            # In the parameter's own memory format: fused kernels take both to be laid out alike.
            moments = {key: torch.empty_like(parameter).copy_(tensors[f"optimizer.{key}.{name}"]) for key in MOMENTS}
            saved[number] = {**moments, "step": tensors[f"optimizer.step.{name}"]}
        self.state.optimizer.load_state_dict({**self.state.optimizer.state_dict(), "state": saved})


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def describe(data: ImageSet) -> dict[str, Any]:
    """Name, number, and pixel statistics of a set: mean and std over all pixels, in [-1, 1]."""
    counts = np.bincount(data.images.reshape(-1), minlength=256) / data.images.size
    values = np.arange(256) / 127.5 - 1
    mean = float(counts @ values)
    std = float(np.sqrt(counts @ (values - mean) ** 2))
    return {"name": data.name, "images": len(data.images), "mean": round(mean, 6), "std": round(std, 6)}


def load_config(folder: Path) -> RunConfig:
    """The config of an existing run.

    Raises:
        ModelError: there is none, or it cannot be read.
    """
    path = folder / "config.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"{folder} holds no run that could be resumed ({error})", "Start a new run with ddpm train."
        ) from error
    return _run_config(values, path)


def _run_config(values: object, path: Path) -> RunConfig:
    try:
        return config.from_dict(RunConfig, values, "the run")
    except UsageError as error:
        raise ModelError(f"{path} is damaged: {error.message}", "Start a new run with ddpm train.") from error


def _json(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values, indent=2) + "\n").encode()


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
