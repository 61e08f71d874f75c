"""``ddpm eval``: how good a model, a folder or an archive of images is, beside what real images get."""

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from ddpm_cli import files, paths, ranges
from ddpm_cli.cli import _completion as complete
from ddpm_cli.cli import _options as o
from ddpm_cli.cli import _sweep
from ddpm_cli.cli._models import guide as guide_of
from ddpm_cli.cli._models import named, note_merged
from ddpm_cli.cli._output import Live, Output, counted, duration
from ddpm_cli.config import OnBadImage, Sampler, Shape
from ddpm_cli.errors import UsageError, unknown_name
from ddpm_cli.measures import METRICS, OTHER_NAMES

if TYPE_CHECKING:
    from ddpm_cli.evaluation import Evaluation, Subject
    from ddpm_cli.library import TrainingData
    from ddpm_cli.sampling import DiffusionModel

LONG = 30.0  # seconds of drawing that are announced
NUMBER = 64  # images judged unless said otherwise: as many as in the report
HEAD = ("metric", "value", "real images")
EXACT_HEAD = ("metric", "value", "real", "error", "low", "high")


def evaluate(
    context: typer.Context,
    subject: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL|FOLDER|NPZ]",
            autocompletion=complete.models,
            help="A model by name, path or id, a folder of images, an .npz archive, or - for one from stdin.  "
            f"[default: {o.UNNAMED}]",
            show_default=False,
        ),
    ] = None,
    model: o.Model = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            autocompletion=complete.metrics,
            help=f"Of {', '.join(METRICS)}, with commas; or all.  [default: those that so many images suffice for]",
        ),
    ] = None,
    number: Annotated[
        int | None,
        o.number(
            ranges.IMAGES, "--number", "-n", help=f"How many images to judge.  [default: {NUMBER}; of files, all]"
        ),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FOLDER|NPZ",
            autocompletion=complete.data_sets,
            help="Real images to compare with; NAME:train for a set's training images.  "
            "[default: the test images of the model's own data set]",
        ),
    ] = None,
    data_dir: o.DataDir = None,
    offline: o.Offline = False,
    on_bad_image: Annotated[
        OnBadImage | None,
        typer.Option(help=f"{o.BAD_IMAGE}  [default: as in training for the model's own folder, else stop]"),
    ] = None,
    guidance: o.Guidance = None,
    guide: o.Guide = None,
    sampler: o.Sampler = None,
    steps: o.Steps = None,
    seed: o.Seed = None,
    batch_size: o.BatchSize = None,
    device: o.Device = "auto",
    precision: o.Precision = "auto",
    weights: o.Weights = None,
    sweep: Annotated[
        bool,
        typer.Option(
            "--sweep",
            help="Instead, try every method with 5, 10 and 20 network evaluations, by the Fréchet distance of "
            f"{_sweep.NUMBER:,} images or -n.",
        ),
    ] = False,
    store: Annotated[
        bool, typer.Option("--store", help="With --sweep: draw from the model like the best of them from now on.")
    ] = False,
    plot: Annotated[Path | None, o.file_option("Also a picture, .png, .svg or .pdf.  [default: none]")] = None,
    output: Annotated[
        Path | None, o.output("A .json, .csv, .md or .tex file, or - for JSON on stdout.  [default: print]")
    ] = None,
    config: o.Config = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Judge a model, or images from files, beside what real images get.

    Prints a table of figures, and on stderr how they were found. The same seed gives the same figures.
    """
    out = Output(json, quiet, verbose)
    out.check_dash(output)
    wanted, chosen = _metrics(metrics), o.chosen_seed(seed)
    o.check_file(plot, "--plot", *o.PLOTS)
    if output != Path("-"):
        o.check_file(output, "-o", ".json", ".csv", ".md", ".tex")
    name = _one_subject(context, subject, model)
    if name is not None and _is_files(name):
        _refuse_drawing(context, name)
    how: dict[str, Any] = {"weights": weights, "batch_size": batch_size, "device": device, "precision": precision}
    how["guide"] = guide_of(guide, out)
    if sweep or store:
        _check_sweep(context, sweep, name)
        if store:
            context.with_resource(_sweep.kept(name))
        asked = (name, reference, sampler, guidance, number, chosen, data_dir, offline, on_bad_image)
        _sweep.sweep(_sweep.Wanted(*asked, how, store, plot, output), out)
        return
    source = _source(name, number, chosen, sampler, {"guidance": guidance, "steps": steps}, how, on_bad_image, out)
    from ddpm_cli import evaluation

    with out.progress("reading", "MB", scale=1e-6) as live:
        against = evaluation.reference(
            reference,
            source.shape,
            source.trained_on,
            chosen,
            data_dir=data_dir,
            offline=offline,
            on_bad_image=on_bad_image,
            say=out.note,
            progress=live,
        )
    lacks = {} if source.is_model else {"nll": "images from files have no likelihood, only models do"}
    names = evaluation.choose(wanted, against, source.number, out.note, lacks)
    if plot is not None and not any(METRICS[each].drawn for each in names):
        drawn = ", ".join(each for each, metric in METRICS.items() if metric.drawn)
        raise UsageError(f"--plot has nothing to show of {', '.join(names)}", f"Ask for one of {drawn}, too: --metrics")
    for each in names:
        out.detail(f"{each}: {METRICS[each].what}; better: {METRICS[each].better}")
    looks = any(METRICS[each].of_images for each in names)
    if not looks:
        out.note(f"{', '.join(names)} is of the model itself: no images are drawn")
    subject_taken = source.take(source.number if looks else 0)
    with _Stages(out) as live:
        found = evaluation.evaluate(subject_taken, against, names, out.note, live.images, live.metrics)
    evaluation.remember(found, source.trained_on.name)  # before anything that could fail
    if plot is not None:
        _draw(found, plot, source.name)
    _tell(found, source.name, output, plot, out)


def _check_sweep(context: typer.Context, sweep: bool, name: str | None) -> None:
    if not sweep:
        raise UsageError("--store keeps what --sweep finds, expected both", "Add --sweep.")
    if name is not None and _is_files(name):
        raise UsageError(f"--sweep is for models, and {name} holds images", "Name a model: ddpm models list")
    for option in ("metrics", "steps"):
        if o.is_typed(context, option):
            raise UsageError(f"--{option} does not go with --sweep, which chooses for itself", f"Leave out --{option}.")


# What only a model can be told.
DRAWING = ("guidance", "guide", "sampler", "steps", "batch_size", "device", "precision", "weights")


def _refuse_drawing(context: typer.Context, name: str) -> None:
    for parameter in context.command.params:
        if parameter.name in DRAWING and o.is_typed(context, parameter.name):
            raise UsageError(f"{parameter.opts[0]} is for models, and {name} holds images", "Leave it out.")


class _Source(NamedTuple):
    """What is judged, before anything long was done for it.

    Attributes:
        shape: of its images.
        name: of the model; empty for images from files.
        trained_on: the data of its model; unknown for images from files.
        number: how many images.
        is_model: whether a model draws them.
        take: draws so many images, 0 where the model alone is judged; those read from files it gives as they are.
    """

    shape: Shape
    name: str
    trained_on: "TrainingData"
    number: int
    is_model: bool
    take: Callable[[int], "Subject"]


def _metrics(text: str | None) -> list[str]:
    """The metrics asked for; none: all that apply."""
    if text is None:
        return []
    words = [word.strip() for word in text.split(",") if word.strip()]
    if words == ["all"]:
        return words
    for word in words:
        if word in OTHER_NAMES:
            ours = OTHER_NAMES[word]
            raise UsageError(f"unknown metric {word!r}", f"What others call so is in {ours} here: --metrics {ours}")
        if word not in METRICS:
            raise unknown_name("metric", word, [*METRICS, "all"])
    if not words:
        raise UsageError("--metrics names none", f"Known: {', '.join(METRICS)}, all.")
    return list(dict.fromkeys(words))


def _one_subject(context: typer.Context, subject: str | None, model: str | None) -> str | None:
    if subject == "":
        raise UsageError("the name of what to judge is empty", "Name a model, a folder or an .npz: ddpm models list")
    if subject is not None and o.is_typed(context, "model"):
        raise UsageError(f"both {subject} and --model {model} are named", "Name one of them.")
    return subject if subject is not None else model


def _source(
    name: str | None,
    number: int | None,
    seed: int,
    sampler: Sampler | None,
    changes: dict[str, Any],
    how: dict[str, Any],
    on_bad_image: OnBadImage | None,
    out: Output,
) -> _Source:
    """Images from files, or those that a model is going to draw."""
    from ddpm_cli import library

    if name is not None and _is_files(name):
        from ddpm_cli import evaluation

        read = evaluation.from_files(_stdin() if name == "-" else name, number, out.note, on_bad_image or "stop")
        channels, height, width = read.images.shape[1:]
        return _Source((channels, height, width), "", library.TrainingData(), len(read.images), False, lambda _: read)

    found, info = named(name, out)
    config = info.sampler.changed(sampler, changes)

    def take(count: int) -> "Subject":
        from ddpm_cli import drawing, evaluation

        ready = drawing.ready(found.path, config, **how)
        note_merged(ready.model, changes["steps"], out)
        with out.progress("sampling", "image steps") as live:
            return evaluation.drawn(ready, count, seed, _Announcing(live, out), in_float32)

    def in_float32() -> "DiffusionModel":
        from ddpm_cli import drawing

        return drawing.ready(found.path, config, **{**how, "precision": "float32"}).model

    return _Source(info.shape, found.name, library.training_data(found, info), number or NUMBER, True, take)


class _Stages(contextlib.ExitStack):
    """Progress of one thing after another; each begins when there is some, so that its rate is its own."""

    def __init__(self, out: Output) -> None:
        super().__init__()
        self.out = out
        self.what, self.done = "", 0
        self.live: Live | None = None

    def metrics(self, name: str, done: int, total: int) -> None:
        """A metric begins, after so many of so many."""
        self._show(name, "metrics").update(done, total, "")

    def images(self, what: str, done: int, total: int) -> None:
        """A metric that takes long has come to so many of so many images."""
        if self.live is None or what != self.what or done < self.done:
            self._show(what, "images")
        self.done = done
        if self.live is not None:
            self.live(done, total)

    def _show(self, what: str, unit: str) -> Live:
        self.close()
        self.what, self.done = what, 0
        self.live = self.enter_context(self.out.progress(what, unit))
        return self.live


class _Announcing:
    """Progress that says, once it can tell, how long the whole will take where that is long."""

    def __init__(self, live: Callable[[int, int], None], out: Output) -> None:
        self.live, self.out, self.begun, self.told = live, out, time.perf_counter(), False

    def __call__(self, done: int, total: int) -> None:
        self.live(done, total)
        seconds = time.perf_counter() - self.begun
        if not self.told and seconds > 5:  # by then it is known well enough
            self.told = True
            left = seconds * (total / max(done, 1) - 1)
            if left > LONG:
                self.out.note(f"Drawing them will take about {duration(left)}; fewer: -n.")


def _stdin() -> bytes:
    return o.from_stdin("an .npz", "ddpm sample -o - --format npz | ddpm eval -")


def _is_files(name: str) -> bool:
    """Whether somebody means images rather than a model: an archive, stdin, or a folder that holds no run.

    A bare name is a model's before it is a folder's: a folder called mnist may hold the files of the data set.
    """
    from ddpm_cli import library
    from ddpm_cli.data.folder import SUFFIXES

    if name == "-" or name.lower().endswith(".npz"):
        return True
    folder = paths.absolute(name)
    if folder.suffix.lower() in SUFFIXES and os.path.isfile(folder):  # noqa: PTH113  # never an error
        raise UsageError(
            f"{name} is one picture, expected a model, a folder of images or an .npz",
            "Draw an archive of images: ddpm sample -n 64 -o samples.npz",
        )
    if not library.is_folder(folder) or library.is_run(folder):
        return False
    return "/" in name or "\\" in name or all(found.name != name for found in library.known())


def _draw(found: "Evaluation", path: Path, name: str) -> None:
    from ddpm_cli.render.scores import scores_figure

    picture = scores_figure(
        found.metrics,
        _title(found, name).replace("; ", "\n"),
        o.plot_format(path),
        found.pictures,
    )
    files.write_bytes(path, picture)


def _title(found: "Evaluation", name: str) -> str:
    """What was evaluated against what, in a line; ``name`` is that of the model."""
    protocol = found.protocol
    if "model" in protocol:
        how = f"model {name} ({protocol['model'][:12]}), {protocol['sampler']}"
        how += f", {protocol['evaluations']} network evaluations"
        how += f", guidance {protocol['guidance']:g}" if protocol["guidance"] != 1 else ""
    else:
        how = Path(protocol["images"]).name
    how = f"{counted(protocol['number'])} of {how}" if protocol["number"] else how
    real = protocol["reference"]
    return f"{how}; real: {real['data']} {real['split']}"


def _tell(found: "Evaluation", name: str, output: Path | None, plot: Path | None, out: Output) -> None:
    document = {"metrics": found.metrics, "protocol": found.protocol}
    short, exact = (HEAD, _rows(found, exact=False)), (EXACT_HEAD, _rows(found, exact=True))
    out.report(document, short, exact, output, {} if plot is None else {"plot": plot})
    out.note(f"{_title(found, name)}, seed {found.protocol['reference']['seed']}")
    if plot is not None:
        out.note(f"picture {plot}")


def _rows(found: "Evaluation", exact: bool) -> list[list[str]]:
    """A row a figure, below one of the heads; exact for programs, in short for people."""
    each = ((figure, values) for name, values in found.metrics.items() for figure in METRICS[name].figures)
    return [row for figure, values in each for row in figure.rows(values, exact)]
