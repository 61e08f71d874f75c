"""``ddpm eval``: how good a model, a folder or an archive of images is, beside what real images get."""

import csv
import io
import json as json_module
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, cast

import typer

from ddpm_cli import files, paths
from ddpm_cli.cli import _options as o
from ddpm_cli.cli._models import named
from ddpm_cli.cli._output import Output
from ddpm_cli.config import METRICS, Metric, Sampler, Shape
from ddpm_cli.errors import UsageError, unknown_name

if TYPE_CHECKING:
    from ddpm_cli.evaluation import Evaluation, Subject

NUMBER = 64  # images judged unless said otherwise: as many as in the report
OUTPUTS = (".json", ".csv")
PLOTS = (".png", ".svg")


def evaluate(
    context: typer.Context,
    subject: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL|FOLDER|NPZ]",
            help="A model by name or path, a folder of images, an .npz archive, or - for one from stdin.  "
            "[default: newest finished run, else the shipped mnist]",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(envvar="DDPM_MODEL", metavar="MODEL", help="Name or path.  [default: the same]"),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help=f"Of {', '.join(METRICS)}, with commas; or all.  [default: all that apply]"),
    ] = None,
    number: Annotated[
        int | None,
        typer.Option(
            "--number", "-n", min=1, metavar="N", help=f"How many images to judge.  [default: {NUMBER}; of files, all]"
        ),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FOLDER|NPZ",
            help="Real images to compare with; NAME:train for a set's training images.  "
            "[default: the test images of the model's own data set]",
        ),
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where to look for the set first.  [default: none]")
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", envvar="DDPM_OFFLINE", help="Never use the network.")] = False,
    guidance: Annotated[
        float | None, typer.Option(metavar="X", help="Classifier-free guidance, 1: off.  [default: the model's, 1]")
    ] = None,
    sampler: Annotated[Sampler | None, typer.Option(help="Method.  [default: the model's, dpm++2m-sde]")] = None,
    steps: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Steps.  [default: T for ddpm, 50 for ddim, 20 for dpm++2m and -sde]"),
    ] = None,
    seed: o.Seed = None,
    batch_size: Annotated[
        int, typer.Option(min=1, metavar="N", help="Images that walk together; changes memory, not images.")
    ] = 64,
    device: o.Device = "auto",
    precision: o.Precision = "auto",
    weights: Annotated[
        Literal["ema", "raw"] | None, typer.Option(help="Averaged or raw weights.  [default: ema where there]")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also a picture, .png or .svg.  [default: none]")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="PATH", help="A .json or .csv file, or - for JSON on stdout.  [default: print]"
        ),
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
    for path, suffixes in ((plot, PLOTS), (output, OUTPUTS)):
        _check_suffix(path, suffixes)
    name = _one_subject(context, subject, model)
    if name is not None and _is_files(name):
        _refuse_drawing(context, name)
    how = {"weights": weights, "batch_size": batch_size, "device": device, "precision": precision}
    source = _source(name, number, chosen, sampler, {"guidance": guidance, "steps": steps}, how, out)
    from ddpm_cli import evaluation

    with out.progress("reading", "bytes") as live:
        against = evaluation.reference(
            reference,
            source.shape,
            source.trained_on,
            chosen,
            data_dir=data_dir,
            offline=offline,
            say=out.note,
            progress=lambda done, total: live.update(done, total, ""),
        )
    names = evaluation.choose(wanted, against, out.note)
    found = evaluation.evaluate(source.take(), against, names, out.note)
    if plot is not None:
        _draw(found, plot)
    _tell(found, output, plot, out)
    evaluation.remember(found, source.trained_on)


# What only a model can be told.
DRAWING = ("guidance", "sampler", "steps", "batch_size", "device", "precision", "weights")


def _refuse_drawing(context: typer.Context, name: str) -> None:
    for parameter in context.command.params:
        if parameter.name in DRAWING and o.is_typed(context, parameter.name):
            raise UsageError(f"{parameter.opts[0]} is for models, and {name} holds images", "Leave it out.")


class _Source(NamedTuple):
    """What is judged, before anything long was done for it.

    Attributes:
        shape: of its images.
        trained_on: the data set its model learned; empty for images from files.
        take: draws or reads the images.
    """

    shape: Shape
    trained_on: str
    take: Callable[[], "Subject"]


def _metrics(text: str | None) -> list[Metric]:
    """The metrics asked for; none: all that apply."""
    if text is None:
        return []
    words = [word.strip() for word in text.split(",") if word.strip()]
    if words == ["all"]:
        return list(METRICS)
    for word in words:
        if word not in METRICS:
            raise unknown_name("metric", word, [*METRICS, "all"])
    if not words:
        raise UsageError("--metrics names none", f"Known: {', '.join(METRICS)}, all.")
    return cast("list[Metric]", list(dict.fromkeys(words)))


def _check_suffix(path: Path | None, suffixes: tuple[str, ...]) -> None:
    if path is not None and path != Path("-"):
        if path.suffix.lower() not in suffixes:
            raise UsageError(f"{path} ends in {path.suffix or 'nothing'!r}, expected {' or '.join(suffixes)}")
        files.check_place(path)
    elif path is not None and suffixes is PLOTS:
        raise UsageError("--plot writes a file, found -", "Name it: --plot scores.png")


def _one_subject(context: typer.Context, subject: str | None, model: str | None) -> str | None:
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
    out: Output,
) -> _Source:
    """Images from files, or those that a model is going to draw."""
    if name is not None and _is_files(name):
        from ddpm_cli import evaluation

        read = evaluation.from_files(_stdin() if name == "-" else name, number, out.note)
        channels, height, width = read.images.shape[1:]
        return _Source((channels, height, width), "", lambda: read)

    found, info = named(name, out)
    config = info.sampler.changed(sampler, changes)

    def take() -> "Subject":
        from ddpm_cli import drawing, evaluation

        ready = drawing.ready(found.path, config, **how)
        with out.progress("sampling", "image steps") as live:
            return evaluation.drawn(ready, number or NUMBER, seed, lambda done, total: live.update(done, total, ""))

    return _Source(info.shape, str(info.data.get("name", "")), take)


def _stdin() -> bytes:
    if sys.stdin.isatty():
        raise UsageError(
            "- reads an .npz from stdin, which is a terminal", "ddpm sample -o - --format npz | ddpm eval -"
        )
    return sys.stdin.buffer.read()


def _is_files(name: str) -> bool:
    """Whether somebody means images rather than a model: an archive, stdin, or a folder that holds no run.

    A bare name is a model's before it is a folder's: a folder called mnist may hold the files of the data set.
    """
    from ddpm_cli import library

    if name == "-" or name.lower().endswith(".npz"):
        return True
    folder = paths.absolute(name)
    if not library.is_folder(folder) or library.is_run(folder):
        return False
    return "/" in name or "\\" in name or all(found.name != name for found in library.known())


def _draw(found: "Evaluation", path: Path) -> None:
    from ddpm_cli.render.scores import scores_figure

    picture = scores_figure(
        found.metrics, _title(found).replace("; ", "\n"), "svg" if path.suffix.lower() == ".svg" else "png"
    )
    files.write_bytes(path, picture)


def _title(found: "Evaluation") -> str:
    """What was judged against what, in a line."""
    protocol = found.protocol
    if "model" in protocol:
        how = f"model {protocol['model'][:12]}, {protocol['sampler']}, {protocol['evaluations']} network evaluations"
        how += f", guidance {protocol['guidance']:g}" if protocol["guidance"] != 1 else ""
    else:
        how = Path(protocol["images"]).name
    real = protocol["reference"]
    return f"{protocol['number']:,} images of {how}; real: {real['data']} {real['split']}"


def _tell(found: "Evaluation", output: Path | None, plot: Path | None, out: Output) -> None:
    document = {"metrics": found.metrics, "protocol": found.protocol}
    written = {key: path for key, path in (("plot", plot), ("output", output)) if path is not None}
    head, rows = ["metric", "value", "real images"], _rows(found, exact=not sys.stdout.isatty())
    if output is None:
        out.document({**document, **written})
        out.table(head, rows)
    else:
        if output.suffix.lower() == ".csv":
            table = io.StringIO()
            csv.writer(table, lineterminator="\n").writerows([["metric", "value", "real"], *_rows(found, exact=True)])
            data = table.getvalue()
        else:
            data = json_module.dumps(document, indent=2, allow_nan=False) + "\n"
        if output == Path("-"):
            out.bytes(data.encode())
        else:
            files.write_bytes(output, data.encode())
            out.document({**document, **written})
            out.result(str(output))
    out.note(f"{_title(found)}, seed {found.protocol['reference']['seed']}")
    if plot is not None:
        out.note(f"picture {plot}")


def _rows(found: "Evaluation", exact: bool) -> list[list[str]]:
    """A row a figure: its name, its value, and that of real images; exact for programs, in short for people."""

    def number(value: float | None, form: str) -> str:
        return "" if value is None else repr(value) if exact else format(value, form)

    def percent(value: float | None) -> str:
        return number(value, "") if exact or value is None else f"{100 * value:.1f} %"

    rows = []
    if (ssim := found.metrics.get("ssim")) is not None:
        error = "" if exact or ssim["standard_error"] is None else f" ± {ssim['standard_error']:.3f}"
        for name, key, more in (("mean", "mean", error), ("standard deviation", "std", "")):
            rows.append([f"SSIM {name}", number(ssim[key], ".3f") + more, number(ssim["real"][key], ".3f")])
    if (labels := found.metrics.get("labels")) is not None:
        real = labels["real"]
        if labels["accuracy"] is not None:
            low, high = labels["interval"]
            span = "" if exact else f" ({100 * low:.1f} to {100 * high:.1f})"
            rows.append(["label accuracy", percent(labels["accuracy"]) + span, percent(real["accuracy"])])
        rows.append(["confidence", percent(labels["confidence"]), percent(real["confidence"])])
        for name, count, of_real in zip(labels["classes"], labels["histogram"], real["histogram"], strict=True):
            rows.append([f"found as {name}", str(count), str(of_real)])
    return rows
