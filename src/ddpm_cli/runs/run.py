"""The loop of a run: when it looks, saves, validates, draws, and stops.

Invariant: at any moment the run folder holds a whole state or none; what a later state makes obsolete is replaced, not
edited. What is in the files of weights, and in the metrics but for times, depends on config and data alone, not on how
often the run was stopped.
"""

import contextlib
import json
import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ddpm_cli import (
    __version__,
    checkpoint,
    config,
    data,
    features,
    files,
    library,
    machine,
    networks,
    paths,
    torch_environment,
)
from ddpm_cli.checkpoint import Info
from ddpm_cli.config import Compiling, RunConfig, TrainConfig
from ddpm_cli.data import ImageSet
from ddpm_cli.drawing import inner_batch
from ddpm_cli.errors import DdpmError, ModelError, NumericsError, ResourceError, UsageError
from ddpm_cli.printable import printable
from ddpm_cli.runs import judging, pictures, records, saves
from ddpm_cli.runs.saves import Position
from ddpm_cli.sampling import DiffusionModel
from ddpm_cli.sampling.model import evaluation_mode
from ddpm_cli.schedule import Schedule
from ddpm_cli.training import (
    Batches,
    Length,
    Revision,
    StepReport,
    TrainState,
    extended,
    learning_rate,
    pays,
    revised,
    seconds_a_step,
    train,
)

BESIDE = 10_000  # training images that samples are judged beside
VALIDATION, DISTANCE = "validation", "frechet"  # names of scores, in metrics and models
EVERY = 10  # steps between two looks at the loss; looking waits for the device
BROKEN = 20  # skipped steps in a row after which a run gives up
FIRST_ESTIMATE = 0.01  # share of a budget in minutes after which its steps are estimated
REVISION = 0.02  # share of a budget in minutes between two estimates of its steps
MARKS = 5  # estimates over which the speed is measured for the next one: pictures and saves come in bursts
TOLD = 0.1  # share of the steps left by which an estimate must differ from the one in train.log to be logged too
SAMPLES = 64  # in a grid; a quarter of it where a CPU would take longer for them than for many steps
LARGE = 1e9  # FLOP of a network
LONGEST = 40  # letters of the data's name in the title of a plot
RESERVE = 0.97  # share of a budget in minutes that is given to steps; the rest is for saves and pictures
VALIDATED = 256  # images of the validation loss: about the work of one step
RARELY = 200  # steps at least between two lines of epochs, validations or pictures, so that they cost a few percent


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


class Best(NamedTuple):
    """The best model so far: the one with the least validation loss, or Fréchet distance where samples are judged."""

    step: int
    score: float
    weights: dict[str, Tensor] | None  # copies that are still to be written; None: they are


LEAST_IMAGES = 6  # tensors of a batch that training holds at once: images, noise, x_t, prediction and gradients
LEAST_MAPS = 4  # of the size of a network's largest feature map, likewise


@dataclass
class Run:
    """One run folder and the training that fills it.

    Args:
        folder: of the run.
        config: what to train, and for how long.
        device: where.
        offline: never ask the network for data.
        compiling: whether to compile the network; auto: where it pays, and a run that goes on does as before.
        data_dir: where to look for data first.
        threads: that compute; None: one per available processor, or as many as the resumed run recorded.
        say: takes sentences for the user; they are written to train.log too.
        report: takes the line an epoch.
        progress: takes bytes done and in all while data are fetched or read.

    Attributes:
        stopped: set it to end the training after the step at hand, with everything saved.
        compiled: whether the network is, once :meth:`decide_compiling` was called.
        winograd: whether the network multiplies less, once it is built.
        samples: how many of its last samples resemble the training images; None: none were compared.
    """

    folder: Path
    config: RunConfig
    device: torch.device
    offline: bool = False
    compiling: Compiling = "auto"
    data_dir: Path | None = None
    threads: int | None = None
    say: Callable[[str], None] = lambda _: None
    report: Callable[[str], None] = lambda _: None
    progress: Callable[[int, int], None] = lambda _done, _all: None
    stopped: bool = False
    compiled: bool = False
    winograd: bool | None = None
    judge: judging.Judge | None = None
    best: Best | None = None
    samples: library.SampleCheck | None = None
    # Images a second, of every EVERY steps; a thousand of them tell the speed.
    _speeds: deque[float] = field(default_factory=lambda: deque(maxlen=1000))
    _lines: list[tuple[int, int, float]] = field(default_factory=list)  # step, steps, their mean loss: of an epoch
    _waiting: list[float] = field(default_factory=list)  # losses since the last line
    _unwritten: list[str] = field(default_factory=list)  # lines for train.log, before the run has a config
    _seconds: float = 0.0  # trained before this process began
    _begun: float | None = None  # when training did, by the clock
    _minutes_from: float = 0.0  # seconds trained when the present budget of minutes began
    # Step and seconds trained at the last estimates of the steps that a budget of minutes allows.
    _marks: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=MARKS))
    _told_steps: int | None = None  # the estimate of the last step in train.log
    _thread_changes: tuple[tuple[int, int], ...] = ()  # step, threads from then on
    _data_id: str | None = None  # the fingerprint of the data, once it was asked for
    _failed: bool = False  # whether the numbers broke, so that the state is the end of the run

    def prepare(self) -> None:
        """Read the data and build everything, without touching the folder.

        Raises:
            DataError, ResourceError, UsageError: as :func:`ddpm_cli.data.load`.
        """
        c = self.config
        torch_environment.make_cache()  # its first pass through a network looks for it
        self._thread_changes = ((0, machine.use_threads(self.threads)),)
        dtype = machine.choose_precision(c.precision, self.device, training=True)
        self.data: ImageSet = self._load("train", c.limit, self.offline, self.say)
        if c.conditional and not self.data.classes:
            raise UsageError(f"{self.data.name} has no labels to be conditional on", "Leave out --conditional.")
        conditional = bool(self.data.classes) and c.preset != "report" if c.conditional is None else c.conditional
        self.config = c = replace(c, conditional=conditional, precision=machine.PRECISIONS[dtype])
        classes = self.data.classes if conditional else ()
        self.schedule = Schedule(c.schedule)
        network = config.network_for(c.preset, self.data.shape, len(classes), c.train.learns_variance)
        self.info = Info(
            network=network,
            schedule=c.schedule,
            target=c.train.target,
            classes=classes,
            data=self.data.statistics(),
            parameters=networks.count_parameters(network),
            flops=networks.count_flops(network),
        )
        self._check_memory()
        self.batches = self._batches(self.data, c.train)
        self.state = self._fresh()
        self._prepare_validation()
        self._prepare_judge()

    def _check_memory(self) -> None:
        """Refuse a batch that cannot fit into memory, before anything is computed.

        Raises:
            ResourceError: the least that it takes is more than is free.
        """
        c, shape = self.config.train, self.info.shape
        each = 4 * (LEAST_IMAGES * math.prod(shape) + LEAST_MAPS * networks.largest_map(self.info.network))
        needed, free = math.ceil(c.batch_size / c.accumulate) * each, machine.free_memory(self.device)
        if free is not None and needed > free:
            raise ResourceError(
                f"a batch of {c.batch_size:,} images of {'x'.join(map(str, shape))} takes at least "
                f"{needed / 1e9:,.1f} GB of memory, {free / 1e9:,.1f} GB are free",
                "Use a smaller --batch-size, a larger --accumulate or a smaller --image-size.",
            )

    def _fresh(self) -> TrainState:
        """A state before its first step, the same each time."""
        recipe, precision = self.config.train, self.config.precision
        torch.manual_seed(recipe.seed)
        denoiser = checkpoint.build_denoiser(self.info)
        denoiser.network.to(self.device).to(memory_format=torch.channels_last)
        dtype = machine.choose_precision(precision, self.device, training=True)
        denoiser.autocast = None if dtype == torch.float32 else dtype
        if self.winograd is None:
            self.winograd = machine.winograd_pays(self.info.flops, self.device, dtype)
        networks.use_winograd(denoiser.network, self.winograd)
        return TrainState.fresh(denoiser, recipe, self.config.budget.total_steps(self.batches.steps_per_epoch))

    def _load(self, split: data.Split, limit: int | None, offline: bool, say: Callable[[str], None]) -> ImageSet:
        return data.load(
            self.config.dataset,
            split=split,
            data_dir=self.data_dir,
            limit=limit,
            image_size=self.config.image_size,
            offline=offline,
            on_bad_image=self.config.on_bad_image,
            accept=lambda shape: config.network_for(self.config.preset, shape, 0),
            say=say,
            progress=self.progress,
        )

    def _batches(self, images: ImageSet, recipe: TrainConfig) -> Batches:
        labelled = bool(self.info.classes) and images.labels is not None
        return Batches(
            torch.from_numpy(images.images),
            torch.from_numpy(images.labels) if labelled else None,
            len(self.info.classes),
            self.schedule,
            recipe,
            self.device,
        )

    def _prepare_validation(self) -> None:
        """Choose the images of the validation loss: of the test split where there is one that fits.

        They, their levels and their noise are the same in every run and at every step, whatever its seed.
        """
        held = self.data.spread(min(VALIDATED, len(self.data.images)))
        self.validated_on = "training images"
        if data.has_splits(self.config.dataset):
            try:
                test = self._load("test", VALIDATED, True, lambda _: None)
            except DdpmError:  # no reason not to train, nor to download more than was asked for
                self.say("no test images are at hand: the validation loss is of training images")
            else:
                if test.shape == self.data.shape and test.classes == self.data.classes:
                    held, self.validated_on = test, "test images"
        size = min(VALIDATED // 4, len(held.images))  # four batches, so that memory stays that of a small step
        recipe = replace(self.config.train, batch_size=size, accumulate=1, label_drop=0.0, seed=0)
        self._validation = judging.Validation(self._batches(held, recipe), recipe)

    def _prepare_judge(self) -> None:
        """What judges samples on the way, where that is wanted and possible."""
        self.judge = None
        if not self.config.eval_every:
            return
        lacking = features.lacking(self.data)
        if lacking:
            self.say(f"samples are not judged on the way: {lacking}")
            return
        # Not by test images: the model kept as the best would be chosen by them, and flattered by them afterwards.
        self.judge = judging.Judge(self.data.name, self.data.spread(min(BESIDE, len(self.data.images))))

    @property
    def thread_count(self) -> int:
        """Threads that train."""
        return self._thread_changes[-1][1]

    @property
    def model_path(self) -> Path:
        return self.folder / paths.MODEL

    @property
    def state_path(self) -> Path:
        return self.folder / paths.STATE

    @property
    def metrics_path(self) -> Path:
        return self.folder / paths.METRICS

    def decide_compiling(self) -> None:
        """Compile the network if that was asked for or pays; to be called once, before training begins."""
        if self.compiling != "auto":
            self.compiled = self.compiling == "on"
        elif self.state.step == 0:
            budget, network = self.config.budget, json.dumps(config.to_dict(self.info.network), sort_keys=True)
            recipe = f"{self.config.precision} {self.config.train.loss} {network}"
            length = Length(self.state.steps, budget.minutes, self.info.flops)
            self.compiled = pays(self._fresh, self.batches, self.config.train, length, recipe, self._log)
        obstacle = machine.compiling_obstacle(self.device) if self.compiled else ""
        if obstacle:
            self._log(f"warning: not compiling: {obstacle}")
            self.compiled = False
        if self.compiled:
            self._log("compiling the network; the first steps take long")
            machine.compile_network(self.state.denoiser.network)

    def seconds_a_step(self) -> float:
        """How long a step takes here, measured on a few of them and then forgotten: changes the state, so use it for
        a run that is not going to be trained."""
        return seconds_a_step(self.state, self.batches, self.config.train)

    # --- training ---

    def train(self) -> Iterator[Progress]:
        """Train to the end of the budget, or until :attr:`stopped`, saving on the way.

        Raises:
            NumericsError: too many steps in a row gave no finite number; what was saved last is kept.
        """
        saves.write_config(self.folder, self.config)
        if self.data.left_out:
            rows = (json.dumps(left._asdict()) + "\n" for left in self.data.left_out)
            files.write_bytes(self.folder / paths.LEFT_OUT, "".join(rows).encode())
        self._write_log(self._circumstances())
        self._warn_of_few()
        self._begun = self._saved = self._looked = time.perf_counter()
        losses: list[Tensor] = []
        for report in train(self.state, self.batches, self.config.train):
            losses.append(report.loss)
            stopping = self.stopped
            if stopping or self._is_due(report.step) or self._is_late() or self._is_slow():
                progress, losses = self._look(report, losses, stopping), []
                if stopping:
                    break
                yield progress
        step, skipped = self.state.step, int(self.state.skipped)
        how = "finished" if step == self.state.steps else "stopped"
        with contextlib.suppress(ResourceError):  # everything is saved by now
            self._write_log(f"{how} at step {step:,}" + (f", {skipped:,} of them skipped" if skipped else ""))
        self._draw_loss()

    def _warn_of_few(self) -> None:
        """Say that a budget is too short for samples that resemble the training images."""
        steps, budget = self.state.steps, self.config.budget
        if steps is not None and steps < library.FEW_STEPS and self.state.step < steps and not self.info.is_flat:
            option = "--steps" if budget.steps else "--epochs" if budget.epochs else "--minutes"
            self._log(
                f"warning: {steps:,} step{'s are' if steps > 1 else ' is'} too few: samples will be little more than "
                f"noise. {library.FEW_STEPS:,} give first shapes, {library.ENOUGH_STEPS:,} or more a usable model. "
                f"Use a larger {option}."
            )

    def _circumstances(self) -> str:
        """What a run depends on, for its log."""
        c, ways = self.config, [name for name in ("compiled", "winograd") if getattr(self, name)]
        return (
            f"training {self.data.name}, {len(self.data.images):,} images, preset {c.preset} of "
            f"{self.info.parameters:,} parameters, on {self.device} in {c.precision}{''.join(f', {w}' for w in ways)}, "
            f"{self.thread_count} threads, "
            f"seed {c.train.seed}, ddpm {__version__}, torch {torch.__version__}"
        )

    def _is_due(self, step: int) -> bool:
        """Whether a line of the metrics belongs to a step: a question of the step alone."""
        every = self.config.save_steps
        at_save = every is not None and step % every == 0
        return step == self.state.steps or step % EVERY == 0 or step % self.batches.steps_per_epoch == 0 or at_save

    def _is_turn(self, step: int, epochs: int = 1) -> bool:
        """Whether something that is done every few epochs, but not more often than RARELY tells, belongs to this end of
        an epoch; at the end of the run everything does."""
        per_epoch = self.batches.steps_per_epoch
        return step == self.state.steps or step // per_epoch % max(epochs, -(-RARELY // per_epoch)) == 0

    def _is_late(self) -> bool:
        """Whether the last save is older than the user wants one to be."""
        return time.perf_counter() - self._saved > 60 * self.config.save_every

    def _is_slow(self) -> bool:
        """Whether a step takes so much of a budget in minutes that its speed must be known soon."""
        minutes = self.config.budget.minutes
        return minutes is not None and time.perf_counter() - self._looked > REVISION * 60 * minutes

    def _look(self, report: StepReport, losses: list[Tensor], stopping: bool) -> Progress:
        """What is done every few steps: read the losses, note them, save, and at an epoch's end validate and draw."""
        found = torch.stack(losses).tolist()  # waits for the device
        now = time.perf_counter()
        self._speeds.append(len(losses) * self.config.train.batch_size / (now - self._looked))
        self._waiting += found
        loss, step = statistics.fmean(self._waiting), report.step
        if self.config.budget.minutes is not None and not stopping:
            self._revise(step, self._trained(now))
        at_end, epoch_ends = step == self.state.steps, step % self.batches.steps_per_epoch == 0
        every = self.config.save_steps
        saves_now = at_end or stopping or self._is_late() or (every is not None and step % every == 0)
        self._check(report, found[-1], saves_now)
        if self._is_due(step):
            self._note(report, loss, self._score(step) if at_end or epoch_ends else {})
        if saves_now:
            self.save()
            self._saved = time.perf_counter()
        if (epoch_ends or at_end) and self._is_turn(step):
            self._end_epoch(step, report.lr, pictures=not stopping)
        self._looked = time.perf_counter()
        skipped = int(report.skipped)
        return Progress(step, self.state.steps, loss, self.images_per_second, self._seconds_left(), skipped)

    def _check(self, report: StepReport, loss: float, saves_now: bool) -> None:
        """End the run where its numbers broke, before they reach a save.

        Args:
            report: of the last step.
            loss: of the last step.
            saves_now: whether the weights are about to be saved.

        Raises:
            NumericsError: too many steps in a row had no finite loss or gradient, the last one of the run had none, or
                the weights are not finite.
        """
        step, broken, skipped = report.step, int(report.broken), int(report.skipped)
        # In fp16, gradients overflow now and then by design, the last one too: the scale of the loss is being tried.
        breaks = not math.isfinite(loss) or skipped == step or (broken > 0 and self.state.scale is None)
        at_end = step == self.state.steps
        if not (broken >= BROKEN or (at_end and breaks) or saves_now):
            return
        is_whole = all(bool(weight.isfinite().all()) for weight in self.state.weights().values())
        if broken >= BROKEN:
            what = f"the loss was not a finite number for {broken} steps in a row, at step {step:,}"
        elif at_end and breaks:
            what = f"the last step of the run, {step:,}, had no finite loss or gradient"
        elif not is_whole:
            what = f"the weights are not finite numbers after step {step:,}"
        else:
            return
        what, kept = f"{what}; {skipped:,} of {step:,} steps were skipped", ""
        if self.state_path.exists():
            self._save_best()
            kept = "; this one keeps what it saved last"
        elif is_whole:
            self._failed, kept = True, "; the weights before the skipped steps are kept"
            self.save()  # skipped steps changed nothing
        self._write_log(what)
        lower = f"{min(self.config.train.lr / 10, TrainConfig.lr):g}"
        other = "" if self.config.precision == "float32" else ", or with --precision float32"
        raise NumericsError(what, f"Start a new run with a lower --lr, such as {lower}{other}{kept}.")

    def _note(self, report: StepReport, loss: float, scores: dict[str, float]) -> None:
        """Write a line of the metrics, with the scores found at its step."""
        self._remember(report.step, loss)
        line: dict[str, Any] = {
            "step": report.step,
            "epoch": report.step / self.batches.steps_per_epoch,
            "loss": loss,
            "gradient": float(report.gradient),
            "lr": report.lr,
            "images_per_second": self._speeds[-1],
            "skipped": int(report.skipped),
            "threads": self.thread_count,
        }
        records.append(self.metrics_path, line | scores)
        self._waiting = []

    def _remember(self, step: int, loss: float) -> None:
        """Take a line into the mean of the last epoch."""
        before = self._lines[-1][0] if self._lines else 0
        begins = step - self.batches.steps_per_epoch
        self._lines = [*(line for line in self._lines if line[0] > begins), (step, step - before, loss)]

    @property
    def loss(self) -> float:
        """Mean over the lines of the metrics in the last epoch whose loss was finite; before the first line, over the
        steps there were."""
        if not self._lines:
            return statistics.fmean(self._waiting) if self._waiting else math.nan
        finite = [(steps, loss) for _, steps, loss in self._lines if math.isfinite(loss)]
        return sum(steps * loss for steps, loss in finite) / sum(steps for steps, _ in finite) if finite else math.nan

    @property
    def skipped(self) -> int:
        """Steps that changed nothing because a number was not finite."""
        return int(self.state.skipped)

    @property
    def images_per_second(self) -> float:
        """Median over the run, its first steps excluded."""
        steady = list(self._speeds)[1:] or self._speeds
        return statistics.median(steady) if steady else math.nan

    def _trained(self, now: float) -> float:
        """Seconds of training, those of earlier processes included."""
        return self._seconds + (0.0 if self._begun is None else now - self._begun)

    def _seconds_left(self) -> float | None:
        if self.state.steps is None:
            return None
        return (self.state.steps - self.state.step) * self.config.train.batch_size / self.images_per_second

    def _revise(self, step: int, seconds: float) -> None:
        """Estimate anew how many steps a budget of minutes allows.

        Args:
            step: steps done.
            seconds: trained so far.
        """
        assert self.config.budget.minutes is not None
        state, budget = self.state, 60 * self.config.budget.minutes
        if step == state.steps:
            return
        marks, spent = self._marks, seconds - self._minutes_from
        left = RESERVE * budget - spent
        if left > 0:
            if not marks:
                if len(self._speeds) < 2 or spent < FIRST_ESTIMATE * budget:
                    return  # the first steps are slower than the others
                speed = self.images_per_second / self.config.train.batch_size
            elif seconds - marks[-1][1] < REVISION * budget:
                return
            else:
                speed = (step - marks[0][0]) / max(seconds - marks[0][1], 1e-9)
            marks.append((step, seconds))
        last = step if left <= 0 else step + max(1, round(left * speed))
        if last != state.steps:
            self._adopt(revised(step, last, seconds, state.steps, self.config.train, state.revisions))

    def _adopt(self, revision: Revision) -> None:
        """Continue with another estimate of the last step, and log it if it differs much from the one logged before."""
        self.state.revisions, self.state.steps = (*self.state.revisions, revision), revision.last
        if self._told_steps is None:
            self._log(f"{self.config.budget.minutes:g} minutes allow {revision.last:,} steps on this machine")
            self._warn_of_few()
        elif abs(revision.last - self._told_steps) > TOLD * max(self._told_steps - revision.step, EVERY):
            self._write_log(
                f"the speed has changed: the run ends at step {revision.last:,} instead of {self._told_steps:,}"
            )
        else:
            return
        self._told_steps = revision.last

    def _score(self, step: int) -> dict[str, float]:
        """Validation loss and Fréchet distance of the weights to draw with, where it is time for them; remembers the
        best weights."""
        found = {}
        for name, is_turn, measure in (
            (VALIDATION, self._is_turn(step), self._validation),
            (DISTANCE, self._is_turn(step, self.config.eval_every), self.judge),
        ):
            if measure is None or not is_turn:
                continue
            try:
                found[name] = measure(self.model())
            except (DdpmError, RuntimeError, MemoryError) as error:  # no reason to lose a run
                self._log(f"no {name} at step {step}: {error}")
        score = found.get(self._chosen_by, math.nan)
        if math.isfinite(score) and (self.best is None or score < self.best.score):
            kind = "raw" if self.state.average is None else "ema"
            weights = {f"{kind}.{name}": value.clone() for name, value in self.state.best_weights.items()}
            self.best = Best(step, score, weights)
        return found

    @property
    def _chosen_by(self) -> str:
        """Which score tells the best model."""
        return VALIDATION if self.judge is None else DISTANCE

    # --- saving, and going on ---

    def save(self) -> None:
        """Write the best model where it is new, the state, and the model made of it."""
        self._save_best()
        files.flush(self.metrics_path)  # before the state that counts on its lines
        training = {**self._training(), "step": self.state.step, "loss": records.finite(self.loss)}
        position = Position(
            step=self.state.step,
            steps=self.state.steps,
            skipped=int(self.state.skipped),
            broken=int(self.state.broken),
            waiting=tuple(map(records.finite, self._waiting)),
            seconds=self._trained(time.perf_counter()),
            images_per_second=records.finite(self.images_per_second),
            data=self._fingerprint(),
            validated_on=self.validated_on,
            minutes_from=self._minutes_from,
            revisions=self.state.revisions,
            threads=self._thread_changes,
            compiled=self.compiled,
            winograd=bool(self.winograd),
        )
        info = replace(self.info, training=training)
        self.info = saves.write(self.folder, self.state.tensors(), position, self.config, info)
        saves.keep_model(self.folder, self.state.step, self.config.keep)

    def _fingerprint(self) -> str:
        if self._data_id is None:
            self._data_id = self.data.fingerprint()
        return self._data_id

    def _training(self) -> dict[str, Any]:
        """What every model of the run says of its training."""
        failed = {"failed": True} if self._failed else {}
        return {"recipe": config.to_dict(self.config.train), "steps": self.state.steps, **failed}

    def _save_best(self) -> None:
        if self.best is None or self.best.weights is None:
            return
        about = {**self._training(), "step": self.best.step, self._chosen_by: self.best.score}
        checkpoint.save(self.folder / paths.BEST, self.best.weights, replace(self.info, training=about))
        self.best = self.best._replace(weights=None)

    def restore(self) -> None:
        """Take up the saved state of the folder, and cut back to it what came later. Without one, begin at step 0.

        Raises:
            ModelError: the state is corrupt, is missing beside its model, or belongs to another run or other data.
            UsageError: the run is already beyond the budget.
        """
        position = self.peek()
        if position is None:
            records.cut(self.metrics_path, 0)
            self._log("no state was saved yet: starting at step 0")
            return
        self.state.take(checkpoint.read_tensors(self.state_path))
        self._take(position)
        lines = records.cut(self.metrics_path, position.step)
        for line in lines:
            self._remember(line["step"], math.nan if line["loss"] is None else line["loss"])
        self._waiting = [math.nan if loss is None else loss for loss in position.waiting]
        known = lines[-1]["step"] if lines else 0
        if known + len(self._waiting) < position.step:
            self._log(f"{self.metrics_path.name} lacks lines after step {known:,}; the weights are whole")
        saves.drop_later(self.folder, position.step)
        found = saves.best(self.folder, self._chosen_by)
        if found is not None and found[0] <= position.step and position.validated_on == self.validated_on:
            self.best = Best(*found, None)
        self.info, written = saves.derive_model(self.folder, self.state.weights())
        if written:
            self._log("wrote the model of the saved state anew")
        saves.keep_model(self.folder, position.step, self.config.keep)
        self._log(self._where())

    def peek(self) -> Position | None:
        """Where the saved state is, once it was found to fit, and the budget chosen by it; touches no file.

        Returns:
            None where nothing was saved yet.

        Raises:
            ModelError, UsageError: as :meth:`restore`.
        """
        if not self.state_path.exists():
            if not library.is_run(self.folder):
                raise ModelError(f"{self.folder} no longer holds a run", "Name it where it is now, or start a new run.")
            if self.model_path.exists():
                raise ModelError(
                    f"{self.folder} has a model and no state to go on from: {paths.STATE} is missing",
                    "Put it back, or start a new run; ddpm sample can still draw from the model.",
                )
            return None
        tensors = self.state.tensors()
        position, saved = saves.read(self.folder, tensors, self.config, self.info, self._fingerprint())
        self._choose_budget(position, saved)
        return position

    def _take(self, position: Position) -> None:
        self.state.step = position.step
        self.state.skipped.fill_(position.skipped)
        self.state.broken.fill_(position.broken)
        self._seconds, self._minutes_from = position.seconds, self._minutes_from or position.minutes_from
        self._take_threads(position)
        self.compiled, self.winograd = position.compiled, position.winograd
        networks.use_winograd(self.state.denoiser.network, position.winograd)

    def _take_threads(self, position: Position) -> None:
        """Compute with as many threads as the run recorded, unless others were asked for now."""
        recorded = tuple((step, count) for step, count in position.threads)
        if not recorded:
            return
        if self.threads is None:
            machine.use_threads(recorded[-1][1])
        before, now = recorded[-1][1], self.thread_count if self.threads is not None else recorded[-1][1]
        self._thread_changes = recorded if now == before else (*recorded, (position.step, now))
        if now != before:
            self._log(f"threads: {now} from step {position.step:,} on, {before} before")

    def _choose_budget(self, position: Position, saved: RunConfig) -> None:
        if self.config.budget.minutes is not None:  # else its steps are known already
            before = tuple(map(_revision, position.revisions))
            if saved.budget == self.config.budget:
                self.state.steps, self.state.revisions = position.steps, before
                self._told_steps = position.steps
            elif position.images_per_second:  # other minutes count from now
                self._minutes_from = position.seconds
                left = RESERVE * 60 * self.config.budget.minutes * position.images_per_second
                last = position.step + max(1, round(left / self.config.train.batch_size))
                present = learning_rate(position.step, position.steps, self.config.train, before)
                start = extended(position.step, last, position.seconds, present, self.config.train)
                self.state.steps, self.state.revisions, self._told_steps = last, (*before, start), last
        if self.state.steps is not None and position.step > self.state.steps:
            raise UsageError(
                f"the run is already at step {position.step:,}, beyond the {self.state.steps:,} asked for",
                "Ask for more, or start a new run.",
            )

    def _where(self) -> str:
        """What was restored, for the user."""
        step, steps, epoch = self.state.step, self.state.steps, self.state.step / self.batches.steps_per_epoch
        if step == steps:
            return f"nothing is left to train: the run has had its {steps:,} steps; a longer budget extends it"
        parts = ["weights", *(["average"] if self.state.average is not None else []), "optimizer", "learning rate"]
        skipped = int(self.state.skipped)
        return (
            f"going on at step {step:,}{'' if steps is None else f' of {steps:,}'}, epoch {epoch:.4g}: restored "
            f"{', '.join(parts)}, place in the data" + (f", {skipped:,} skipped steps" if skipped else "")
        )

    # --- what is said and drawn on the way ---

    def _log(self, text: str) -> None:
        """Say something, and keep it in the run's train.log."""
        self.say(text)
        self._write_log(text)

    def _write_log(self, text: str) -> None:
        """Add a line to train.log, once there is a config: what ends before leaves no file that looks like a run."""
        self._unwritten.append(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {printable(text)}")
        while self._unwritten and (self.folder / paths.CONFIG).exists():
            files.append_line(self.folder / paths.LOG, self._unwritten[0])
            del self._unwritten[0]

    def _end_epoch(self, step: int, lr: float, pictures: bool) -> None:
        epoch, of = step / self.batches.steps_per_epoch, ""
        if self.state.steps is not None:
            of = f" of {self.state.steps / self.batches.steps_per_epoch:.4g}"
        line = (
            f"epoch {epoch:.4g}{of}  step {step:,}  {self.config.train.loss_name} {self.loss:.4f}  lr {lr:.2e}"
            f"  {self.images_per_second:.0f} images/s"
        )
        self.report(line)
        self._write_log(line)
        every = self.config.sample_every
        if pictures and (step == self.state.steps or (every and self._is_turn(step, every))):
            self._draw_samples(step)
            self._draw_loss()

    def _draw_samples(self, step: int) -> None:
        """A grid of samples; pictures are no reason to lose a run."""
        count = SAMPLES if self.info.flops < LARGE or self.device.type != "cpu" else SAMPLES // 4
        try:
            # Whoever wants to leave does not wait for a picture.
            found = pictures.samples(self.model(), count, step, lambda: self.stopped)
            if found is not None:
                pixels, picture = found
                files.write_bytes(self.folder / paths.SAMPLES / f"step-{step:07}.png", picture)
                resemblance = judging.Resemblance(self.data.spread(min(judging.REAL, len(self.data.images))).images)
                self._record_samples(step, resemblance(pixels), len(pixels))
        except NumericsError as error:
            self._log(f"no samples at step {step}: {error}")
            self._record_samples(step, 0, count)
        except (DdpmError, OSError, RuntimeError, MemoryError) as error:
            self._log(f"no samples at step {step}: {error}")

    def _record_samples(self, step: int, alike: int, number: int) -> None:
        self.samples = library.SampleCheck(step, alike, number)
        library.write_sample_check(self.folder, self.samples)

    def model(self) -> DiffusionModel:
        """The present model, ready to be sampled, apart from the one that learns.

        Raises:
            ModelError: its weights are not finite numbers.
        """
        with torch.device("meta"):  # no weights are drawn that would be replaced
            denoiser = checkpoint.build_denoiser(self.info)
        weights = {name: value.clone() for name, value in self.state.best_weights.items()}
        denoiser.network.load_state_dict(weights, assign=True)
        ready = evaluation_mode(denoiser, self.device, torch.float32)
        about = self.info
        return DiffusionModel(
            ready,
            self.schedule,
            about.shape,
            about.classes,
            about.sampler,
            inner_batch=inner_batch(about.flops, self.device),
            threads=self.thread_count,
            flat=about.is_flat,
        )

    def _draw_loss(self) -> None:
        recipe = self.config.train
        name = self.data.name if len(self.data.name) <= LONGEST else f"{self.data.name[: LONGEST - 1]}…"
        about = f"{self.config.preset}, {recipe.target} target, {recipe.loss} loss"
        title = f"{printable(self.folder.name)}\n{printable(name)}, {about}"
        try:
            lines = records.read(self.metrics_path)
            picture = pictures.loss(lines, self.batches.steps_per_epoch, title, recipe.loss_name)
            if picture is not None:
                files.write_bytes(self.folder / paths.LOSS, picture)
        except (DdpmError, OSError, ValueError, LookupError, TypeError, ImportError) as error:
            self._log(f"no loss curve: {error}")


def _revision(saved: Sequence[float]) -> Revision:
    """A revision from the numbers of a saved state."""
    step, rate, last, top_step, top, seconds = saved
    return Revision(int(step), rate, int(last), int(top_step), top, seconds)
