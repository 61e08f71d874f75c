"""``ddpm train``: fit a denoiser, show how it goes, lose nothing."""

import dataclasses
import math
import os
import secrets
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ddpm_cli import files, paths, ranges
from ddpm_cli.cli import _completion as complete
from ddpm_cli.cli import _options as o
from ddpm_cli.cli._output import Output, duration
from ddpm_cli.config import (
    DEFAULT_SCHEDULE,
    PRESETS,
    RECIPES,
    Budget,
    Compiling,
    Loss,
    OnBadImage,
    RunConfig,
    ScheduleConfig,
    Target,
    Times,
    TrainConfig,
)
from ddpm_cli.errors import DataError, ResourceError, UsageError, unknown_name

if TYPE_CHECKING:
    from ddpm_cli.runs import Run

LONGEST_EMA = 0.5  # fraction of training
MOST_BETAS = 100_000  # 5 MB of the 16 MiB that the header of a state may have, which holds them twice
LABEL = 40  # letters of the data's name in that of a run
LONG = 3600.0  # seconds after which a run is announced as long
# What --resume may be combined with; everything else is in the run.
RESUMABLE = {"resume", "epochs", "steps", "minutes", "device", "compiling", "threads", "data_dir", "offline"}
RESUMABLE |= {"dry_run", "json", "quiet", "verbose", "config"}


def train(
    context: typer.Context,
    dataset: o.Dataset = "mnist",
    data_dir: o.DataDir = None,
    limit: Annotated[int | None, o.number(ranges.IMAGES, help="Use only N training images.  [default: all]")] = None,
    image_size: Annotated[
        int | None, o.number(ranges.SIDE, help="Bring images to this side, in pixels.  [default: their own]")
    ] = None,
    on_bad_image: Annotated[
        OnBadImage,
        typer.Option(help="An image of a folder that cannot be read: stop, or skip it and list it in the run folder."),
    ] = "stop",
    conditional: Annotated[
        bool | None,
        typer.Option(
            "--conditional/--unconditional",
            help="Learn the labels or not.  [default: where there are labels, but not with preset report]",
        ),
    ] = None,
    preset: Annotated[
        str, typer.Option(metavar="NAME", autocompletion=complete.presets, help=f"Network: {', '.join(PRESETS)}.")
    ] = "small",
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            autocompletion=complete.recipes,
            help=f"Training recipe: {', '.join(RECIPES)}.  [default: report for preset report, else default]",
        ),
    ] = None,
    schedule: o.Schedule = DEFAULT_SCHEDULE,
    timesteps: o.Timesteps = ScheduleConfig.timesteps,
    beta_start: o.BetaStart = None,
    beta_end: o.BetaEnd = None,
    betas: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Use the betas in a file as the schedule: JSON, a CSV with a column beta, or one number per line.  "
            "[default: none]",
        ),
    ] = None,
    zero_terminal_snr: o.ZeroTerminal = ScheduleConfig.zero_terminal_snr,
    target: Annotated[
        Target | None, typer.Option(help="What the network predicts.  [default: the recipe's, v]")
    ] = None,
    loss: Annotated[
        Loss | None,
        typer.Option(
            help="Squared error (simple, or weighted: min-snr), the bound in bits/dim (vlb), or simple + 0.001 vlb, "
            "which learns the variance too (hybrid).  [default: the recipe's, simple]"
        ),
    ] = None,
    times: Annotated[
        Times | None,
        typer.Option(help="Distribution of t; vlb and hybrid need a uniform one.  [default: the recipe's, stratified]"),
    ] = None,
    batch_size: Annotated[
        int | None,
        o.number(ranges.BATCH, help=f"Images a step.  [default: the recipe's, {TrainConfig.batch_size}]"),
    ] = None,
    accumulate: Annotated[
        int | None,
        o.number(
            ranges.BATCH,
            help="Parts a batch is worked through in, for less memory.  "
            f"[default: the recipe's, {TrainConfig.accumulate}]",
        ),
    ] = None,
    lr: Annotated[
        float | None,
        o.number(ranges.RATE, metavar="X", help=f"Peak learning rate.  [default: the recipe's, {TrainConfig.lr:g}]"),
    ] = None,
    epochs: Annotated[
        int | None, o.number(ranges.TRAINED, help="Budget: passes over the data.  [default: none]")
    ] = None,
    steps: Annotated[int | None, o.number(ranges.TRAINED, help="Budget: optimizer steps.  [default: none]")] = None,
    minutes: Annotated[
        float | None,
        o.number(ranges.MINUTES, metavar="X", help="Budget: minutes.  [default: 10; recipe report: 50 epochs]"),
    ] = None,
    ema: Annotated[
        float | None,
        o.number(
            ranges.PART,
            metavar="X",
            help="Half-life of the averaged weights, as a share of the run; 0: none.  "
            f"[default: the recipe's, {TrainConfig.ema:g}]",
        ),
    ] = None,
    save_every: Annotated[
        float, o.number(ranges.MINUTES, metavar="X", help="Minutes between saves.")
    ] = RunConfig.save_every,
    save_steps: Annotated[
        int | None, o.number(ranges.TRAINED, help="Steps between saves, too.  [default: by time alone]")
    ] = None,
    keep: Annotated[
        int, o.number(ranges.EVERY, help="Models of the last N saves to keep, in RUN/checkpoints.")
    ] = RunConfig.keep,
    sample_every: Annotated[
        int, o.number(ranges.EVERY, help="Epochs between grids of samples; 0: at the end only.")
    ] = RunConfig.sample_every,
    eval_every: Annotated[
        int,
        o.number(
            ranges.EVERY,
            help="Epochs between judgements of samples by their Fréchet distance from training images, which then tell "
            "the best model; 0: none, the validation loss does.",
        ),
    ] = RunConfig.eval_every,
    device: o.Device = "auto",
    precision: o.Precision = "auto",
    compiling: Annotated[
        Compiling,
        typer.Option("--compile", help="Compile the network; auto: in long runs, if a short trial shows that it pays."),
    ] = "auto",
    threads: Annotated[
        int | None,
        o.number(
            ranges.THREADS,
            metavar="N|auto",
            auto=True,
            help="CPU threads that train. auto: one per available processor; a resumed run uses as many as before.  "
            "[default: auto]",
        ),
    ] = None,
    seed: o.Seed = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the run.  [default: data set, preset and time]")
    ] = None,
    output: Annotated[
        Path | None,
        o.output("Folder of the run.  [default: DDPM_HOME/runs/NAME]", "DIR"),
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(
            metavar="RUN|latest",
            autocompletion=complete.runs,
            help="Resume a run. Only the budget, --device, --compile and --threads may change.  [default: none]",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would happen, and how long it would take.")
    ] = False,
    offline: o.Offline = False,
    config: o.Config = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Train a diffusion model.

    Prints the path of the run folder; on stderr, progress and the command to sample with.
    """
    out = Output(json, quiet, verbose)
    budget = o.one_of(context, epochs=epochs, steps=steps, minutes=minutes)
    if resume is not None:
        from ddpm_cli import library

        _refuse_others(context)
        typed = {name: value for name, value in budget.items() if o.is_typed(context, name)}
        folder = library.find_run(resume, out.note)
        if not dry_run:  # which writes nothing, so that another process may be training meanwhile
            context.with_resource(files.held(folder, make=False))  # to the end, and before anything in it is read
        chosen = _saved(folder, typed)
    else:
        _refuse_idle(context, dataset)
        if ema is not None:
            _check_ema(ema, steps)
        recipe = recipe or ("report" if preset == "report" else "default")
        fit: dict[str, Any] = {"target": target, "loss": loss, "times": times, "batch_size": batch_size}
        fit |= {"accumulate": accumulate, "lr": lr, "ema": ema}
        chosen = RunConfig(
            dataset=_dataset(dataset),
            budget=Budget(**budget) if budget else _recipe(recipe)[1],
            preset=preset,
            conditional=conditional,
            schedule=_schedule(
                context,
                betas,
                kind=schedule,
                timesteps=timesteps,
                beta_start=beta_start,
                beta_end=beta_end,
                zero_terminal_snr=zero_terminal_snr,
            ),
            train=_recipe(recipe, seed=o.chosen_seed(seed), **fit)[0],
            limit=limit,
            image_size=image_size,
            on_bad_image=on_bad_image,
            precision=precision,
            save_every=save_every,
            save_steps=save_steps,
            keep=keep,
            sample_every=sample_every,
            eval_every=eval_every,
        )
        folder = _new_folder(chosen, name, output)
    try:
        run = _prepared(folder, chosen, device, compiling, offline, data_dir, threads, out)
    except DataError as error:
        moved = f"If the images were moved, write where to into {quote(str(folder / 'config.json'))}, as dataset."
        raise DataError(error.message, moved if resume is not None else error.hint) from error
    if dry_run:
        _tell(run, resume is not None, out)
    else:
        _train(run, resume is not None, out)


def _dataset(name: str) -> str:
    """A folder by its absolute path, so that the run can be resumed from anywhere."""
    from ddpm_cli import data

    return str(paths.absolute(name)) if data.is_path(name) else name


def _schedule(context: typer.Context, betas: Path | None, **formula: Any) -> ScheduleConfig:
    """The schedule of a formula, or of a file of betas, which says all of it.

    Raises:
        DataError: the file holds no betas.
        UsageError: an option that the file decides, or more betas than the header of a model file can hold.
    """
    if betas is None:
        return ScheduleConfig(**formula)
    for name in ("schedule", "timesteps", "beta_start", "beta_end"):
        if o.is_typed(context, name):
            option = "--" + name.replace("_", "-")
            raise UsageError(f"{option} and --betas contradict each other", f"Remove {option}: the file decides it.")
    from ddpm_cli.betas import from_file

    found = from_file(betas)
    if found.timesteps > MOST_BETAS:
        raise UsageError(f"{betas} holds {found.timesteps:,} betas, expected {MOST_BETAS:,} at most")
    return dataclasses.replace(found, zero_terminal_snr=formula["zero_terminal_snr"])


def _refuse_idle(context: typer.Context, dataset: str) -> None:
    """Refuse options that do nothing for the data set.

    Raises:
        UsageError: one was typed.
    """
    from ddpm_cli import data

    is_folder = data.is_path(dataset)
    for name, applies, where in (
        ("data_dir", not is_folder, "known data sets"),
        ("on_bad_image", is_folder, "folders of images"),
    ):
        if o.is_typed(context, name) and not applies:
            option = "--" + name.replace("_", "-")
            raise UsageError(f"{option} applies to {where} only, not to {dataset}", f"Remove {option}.")


def _check_ema(ema: float, steps: int | None) -> None:
    """Refuse a half-life so long that the average would hold the untrained beginning: often it is meant as a decay.

    Raises:
        UsageError: it is one.
    """
    if ema <= LONGEST_EMA:
        return
    half_life = math.log(0.5) / math.log(ema)
    hint = f"A decay of {ema:g} per step is a half-life of {half_life:,.0f} steps"
    if steps is not None and half_life / steps <= LONGEST_EMA:
        hint += f", here --ema {half_life / steps:.2g}"
    raise UsageError(
        f"--ema is {ema:g}, expected at most {LONGEST_EMA:g}: it is a half-life as a fraction of training, not a decay",
        f"{hint}. The default is {TrainConfig.ema:g}.",
    )


def _recipe(name: str, **changes: Any) -> tuple[TrainConfig, Budget]:
    """A recipe with changes, and the budget that it is meant for."""
    if name not in RECIPES:
        raise unknown_name("recipe", name, RECIPES)
    given = {key: value for key, value in changes.items() if value is not None}
    config, budget, _ = RECIPES[name]
    return dataclasses.replace(config, **given), budget


def _refuse_others(context: typer.Context) -> None:
    for parameter in context.command.params:
        if parameter.name and o.is_typed(context, parameter.name) and parameter.name not in RESUMABLE:
            raise UsageError(
                f"{parameter.opts[0]} cannot change when a run is resumed",
                "Only the budget, --device, --compile and --threads can; start a new run for anything else.",
            )


def _saved(folder: Path, budget: dict[str, Any]) -> RunConfig:
    from ddpm_cli import library

    library.check_links(folder)
    config = library.run_config(folder)
    return dataclasses.replace(config, budget=Budget(**budget)) if budget else config


def _new_folder(config: RunConfig, name: str | None, output: Path | None) -> Path:
    from ddpm_cli import library

    if name is not None and output is not None:
        raise UsageError("--name and --output contradict each other", "Give one of them.")
    if name == library.LATEST:
        raise UsageError(f"{name} stands for the newest run, so none is called so", "Take another --name.")
    if name is None:
        # The time for people, the rest so that two runs begun in one second do not share a folder.
        letters = (c if c.isprintable() and c not in "/\\" else "-" for c in Path(config.dataset).name.lstrip("."))
        label = "".join(letters)[:LABEL] or "images"
        name = f"{label}-{config.preset}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    folder = paths.runs() / library.check_name(name) if output is None else paths.absolute(output)
    _check_new(folder)
    files.check_place(folder / paths.CONFIG)
    return folder


def _check_new(folder: Path) -> None:
    """Refuse a folder in which a new run would replace or continue files of another.

    Raises:
        UsageError: it holds a run, or something that has the name of a file of a run.
    """
    from ddpm_cli import library

    if library.is_run(folder):
        raise UsageError(f"{folder} already holds a run", f"Go on with it: ddpm train --resume {quote(str(folder))}")
    for name in paths.OF_RUN:
        if os.path.lexists(folder / name):
            raise UsageError(f"{folder} already contains {name}, which a run writes", "Choose another folder: -o DIR")


def _prepared(
    folder: Path,
    config: RunConfig,
    device: Any,
    compiling: Compiling,
    offline: bool,
    data_dir: Path | None,
    threads: int | None,
    out: Output,
) -> "Run":
    import torch

    from ddpm_cli import machine
    from ddpm_cli.runs import Run

    chosen = machine.choose_device(device)
    run = Run(folder, config, chosen, offline, compiling, data_dir, threads, say=out.note, report=out.routine)
    with out.progress("reading", "bytes") as live:
        run.progress = lambda done, total: live.update(done, total, "")
        run.prepare()
    for text in filter(None, (run.schedule.config.scaling, run.schedule.warning)):
        out.note(text)
    if run.config.limit is not None and run.config.limit > len(run.data.images):
        out.note(f"--limit {run.config.limit:,} leaves nothing out: there are {len(run.data.images):,} images.")
    about = run.info
    kind = f"conditional on {len(about.classes)} classes" if about.classes else "unconditional"
    out.note(
        f"{run.data.name}: {len(run.data.images):,} images of {'x'.join(map(str, about.shape))}; network "
        f"{run.config.preset}: {about.parameters:,} parameters, {about.flops / 1e9:.3g} GFLOP an image, {kind}"
    )
    if about.is_flat:
        out.note("warning: every training image is of one value, so there is no content to learn.")
    out.detail(f"torch {torch.__version__}, recipe {run.config.train}")
    count = torch.get_num_threads()
    out.note(
        f"device {chosen}, precision {run.config.precision}, {count} thread{'s'[: count > 1]}, "
        f"seed {run.config.train.seed}"
    )
    images, size = len(run.data.images), run.config.train.batch_size
    if size > images:
        out.note(
            f"A batch of {size:,} is more than the {images:,} images: each comes several times in it (--batch-size)"
        )
    return run


def _tell(run: "Run", restore: bool, out: Output) -> None:
    """What --dry-run prints: the size of the run, or of what is left of it, and from a few steps how long it takes."""
    position = run.peek() if restore else None
    steps = run.state.steps
    each = run.seconds_a_step()
    if steps is None:
        assert run.config.budget.minutes is not None
        steps = max(1, round(60 * run.config.budget.minutes / each))
    elif position is not None:
        steps -= position.step
    epochs = steps / run.batches.steps_per_epoch
    rate = run.config.train.batch_size / each
    out.document(
        {
            "dry_run": True,
            "run": run.folder,
            "parameters": run.info.parameters,
            "flops": run.info.flops,
            "steps": steps,
            "epochs": epochs,
            "seconds": steps * each,
            "images_per_second": rate,
        }
    )
    out.result(
        f"{steps:,} steps, {epochs:.4g} epochs of {run.batches.steps_per_epoch:,} steps: "
        f"about {duration(steps * each)} at {rate:.0f} images/s; the run {'is' if restore else 'would be'} {run.folder}"
    )
    if steps * each > LONG:
        out.note("Quicker: --minutes 10 fits the run into that time; a smaller --preset trains faster.")


def _train(run: "Run", restore: bool, out: Output) -> None:
    from ddpm_cli import library

    begun = time.perf_counter()
    files.clear_removed(paths.runs())
    with nullcontext() if restore else files.held(run.folder):
        if restore:
            run.restore()
        else:
            _check_new(run.folder)  # another process may have been quicker
        out.note(f"run {run.folder}")
        run.decide_compiling()
        try:
            caught = _watch(run, out)
        except ResourceError as error:
            again = f"Then go on with: ddpm train --resume {quote(str(run.folder))}"
            raise ResourceError(error.message, f"{error.hint} {again}") from error
    values = {
        "run": run.folder,
        "model": run.info.id,
        "steps": run.state.step,
        "epochs": run.state.step / run.batches.steps_per_epoch,
        "loss": run.loss,
        "loss_name": run.config.train.loss_name,
        "skipped": run.skipped,
        "seconds": time.perf_counter() - begun,
        "images_per_second": run.images_per_second,
        "precision": run.config.precision,
        "threads": run.thread_count,
        "samples": run.samples and {**run.samples._asdict(), "passed": run.samples.passed},
    }
    out.document(values, "interrupted" if caught else "done")
    if run.skipped:
        out.note(
            f"warning: {run.skipped:,} of {run.state.step:,} steps were skipped because their loss or gradient was not "
            "finite. A lower --lr avoids this."
        )
    if caught:
        out.note(
            f"Stopped and saved at step {run.state.step:,}. Go on with: ddpm train --resume {quote(str(run.folder))}"
        )
        raise typer.Exit(128 + caught[0])
    out.paths(run.folder)
    if run.samples is not None and not run.samples.passed:
        out.note(
            f"warning: {run.samples}. The model is used only where it is named. "
            f"Train it longer: {library.longer(run.folder, run.info)}"
        )
        return
    out.note(f"Sample from it: ddpm sample --model {quote(str(run.folder))} -n 64 -o grid.png")


def _watch(run: "Run", out: Output) -> list[int]:
    """Train and show how it goes; returns the signals that ended it early."""
    warned = False
    with out.progress("training", "steps", run.state.steps) as live, _stopping(run) as caught:
        for at in run.train():
            skipped = f"  {at.skipped} skipped" if at.skipped else ""
            text = f"{run.config.train.loss_name} {at.loss:.4f}  {at.images_per_second:.0f} images/s{skipped}"
            live.update(at.step, at.steps, text, at.seconds_left)
            if not warned and at.seconds_left is not None and at.seconds_left > LONG and at.step >= 30:
                warned = True
                out.note(f"This will take about {duration(at.seconds_left)}; quicker: --minutes 10, or --preset small.")
    return caught


@contextmanager
def _stopping(run: "Run") -> Iterator[list[int]]:
    """Turn the first signal into a saved end of the run; a second Ctrl-C ends at once. Yields the signals caught."""
    caught: list[int] = []

    def stop(number: int, _frame: object) -> None:
        if caught and number == signal.SIGINT:
            raise KeyboardInterrupt
        caught.append(number)
        run.stopped = True  # and nothing else: printing here could fail, or meet itself

    known = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    # What was ignored when we began, by nohup say, stays ignored.
    before = {number: signal.signal(number, stop) for number in known if signal.getsignal(number) != signal.SIG_IGN}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
