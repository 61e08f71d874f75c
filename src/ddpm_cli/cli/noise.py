"""``ddpm noise``: the forward process on images, in one dimension, and its posterior, as pictures and numbers.

Only the views of the posterior and of estimates ask a model, and only they import torch.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, get_args

import typer

from ddpm_cli import __version__, files, ranges
from ddpm_cli.cli import _completion as complete
from ddpm_cli.cli import _options as o
from ddpm_cli.cli._images import Source, refuse_two_sources, whole
from ddpm_cli.cli._models import named
from ddpm_cli.cli._output import Output
from ddpm_cli.config import DEFAULT_SCHEDULE, NoiseKind, Process, ScheduleConfig, Shape, to_dict
from ddpm_cli.errors import UsageError

if TYPE_CHECKING:
    from ddpm_cli.data.pictures import Fit, Pictures
    from ddpm_cli.library import TrainingData
    from ddpm_cli.noising import Mark, Noised
    from ddpm_cli.pixels import Pixels
    from ddpm_cli.sampling import DiffusionModel
    from ddpm_cli.schedule import Schedule

View = Literal["strip", "estimates", "density", "posterior"]
AT = "0,5%,25%,50%,75%,100%"  # the report's
AT_POSTERIOR = "5%,25%,50%,75%"
MOST = 6  # levels in the view posterior: a panel each
FRAMES = 60  # of an animation, beside the clean image
SHOWN = "mnist"  # the set whose images are shown if none is named
LARGEST = 256  # pixels: beyond, images side by side are too large to be seen at once

# What has no meaning in a view: what is typed of it is refused, not ignored.
OF_IMAGES = ("image", "dataset", "index", "at", "image_size", "data_dir", "offline", "on_bad_image")
FOREIGN: dict[View, tuple[str, ...]] = {
    "strip": ("model", "pixel"),
    "estimates": ("schedule", "timesteps", "beta_start", "beta_end", "zero_terminal_snr", "process", "kind", "pixel"),
    "density": (*OF_IMAGES, "process", "kind", "model", "pixel"),
    "posterior": ("schedule", "timesteps", "beta_start", "beta_end", "zero_terminal_snr", "process", "kind"),
}


def noise(
    context: typer.Context,
    image: Annotated[
        str | None,
        typer.Argument(
            metavar="IMAGE|-", help="An image file or .npz, or - for one on stdin.  [default: an image of mnist]"
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FOLDER",
            autocompletion=complete.data_sets,
            help=f"Known set, or folder of images.  [default: {SHOWN}; of a model's view, its own]",
        ),
    ] = None,
    index: Annotated[
        str, typer.Option(metavar="K", help="Which image of the data set or .npz, or several with commas: a row each.")
    ] = "0",
    at: Annotated[
        str | None,
        typer.Option(
            metavar="LEVELS",
            help=f"Levels of 0 to T, or percentages of T, with commas.  [default: {AT}; "
            f"of a .gif {FRAMES} steps from 0 to T; posterior: {AT_POSTERIOR}]",
        ),
    ] = None,
    schedule: o.Schedule = DEFAULT_SCHEDULE,
    timesteps: o.Timesteps = ScheduleConfig.timesteps,
    beta_start: o.BetaStart = None,
    beta_end: o.BetaEnd = None,
    zero_terminal_snr: o.ZeroTerminal = ScheduleConfig.zero_terminal_snr,
    process: Annotated[
        Process,
        typer.Option(
            help="One noise, scaled (closed-form); fresh noise each step (markov); "
            "steps that do not shrink the image, beside the right ones (naive)."
        ),
    ] = "closed-form",
    kind: Annotated[
        NoiseKind, typer.Option("--noise", help="Distribution of the noise, each of mean 0 and variance 1.")
    ] = "gaussian",
    view: Annotated[
        View,
        typer.Option(
            help="Images side by side (strip), above what --model takes each for (estimates); a density in one "
            "dimension, to N(0, 1) and back (density); the true posterior beside the model's, for a pixel (posterior)."
        ),
    ] = "strip",
    model: o.Model = None,
    pixel: Annotated[
        str | None, typer.Option(metavar="ROW,COLUMN", help="From 0, of view posterior.  [default: the centre]")
    ] = None,
    image_size: Annotated[
        int | None,
        o.number(
            ranges.SIDE,
            help="Bring images to squares of this side, in pixels.  [default: their own size; "
            f"side by side, the longer side {LARGEST} at most]",
        ),
    ] = None,
    data_dir: o.DataDir = None,
    seed: o.Seed = None,
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="A .png, a .gif or .apng of the way, .npz, a folder with trailing / for a PNG a level, or -, stdout.",
        ),
    ] = "noise.png",
    file_format: o.Format = None,
    force: o.Force = False,
    offline: o.Offline = False,
    on_bad_image: o.OnBadImage = "skip",
    config: o.Config = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Show how an image turns into noise: the forward process.

    Prints the path of what it wrote. With no option at all: a digit at growing noise, as noise.png. A single level
    gives one image; with --json come mean, variance and signal-to-noise ratio by level.
    """
    from ddpm_cli.schedule import Schedule

    out = Output(json, quiet, verbose)
    out.check_dash(output)
    _refuse_foreign(context, view)
    form = o.check_output(output, file_format, "noise", force)
    forms = {"strip": get_args(o.Written), "estimates": ("png", "gif", "apng")}.get(view, ("png",))
    if form not in forms:
        raise UsageError(f"the {view} is a .png, found {output}", f"ddpm noise --view {view} -o {view}.png")
    chosen = o.chosen_seed(seed)
    name = dataset or (None if view in ("posterior", "estimates") else SHOWN)
    source = Source(image, name, index, image_size, data_dir, offline, on_bad_image, out, "ddpm noise")
    if view == "posterior":
        made, about = _posterior(source, model, at, pixel, chosen)
    elif view == "estimates":
        made, about = _estimates(source, model, at, form, chosen)
    else:
        noisy = Schedule(ScheduleConfig(schedule, timesteps, beta_start, beta_end, zero_terminal_snr=zero_terminal_snr))
        for text in filter(None, (noisy.config.scaling, noisy.warning)):
            out.note(text)
        way = _Way(noisy, process, kind, chosen)
        made, about = _strip(source, at, way, form, output) if view == "strip" else _density(noisy, chosen, out)
    if made is not None:
        out.save(Path(output), made)
    out.document({"output": Path(output), "view": view, "seed": chosen, **about})
    if output != "-":
        out.paths(output)
    if seed is None:
        out.note(f"seed {chosen}")


Made = tuple[bytes | None, dict[str, Any]]
"""The bytes of the output, None where it is a folder and written already; and what --json tells."""


class _Way(NamedTuple):
    """How images turn into noise."""

    schedule: "Schedule"
    process: Process
    noise: NoiseKind
    seed: int


def _refuse_foreign(context: typer.Context, view: View) -> None:
    """Refuse what is typed and has no meaning in a view, and two sources of images at once."""
    for parameter in context.command.params:
        if parameter.name in FOREIGN[view] and o.is_typed(context, parameter.name):
            name = parameter.opts[0] if parameter.opts[0].startswith("-") else "IMAGE"
            views = " or ".join(other for other, names in FOREIGN.items() if parameter.name not in names)
            raise UsageError(f"{name} has no meaning in the view {view}", f"It belongs to --view {views}.")
    refuse_two_sources(context, context.params["image"])


# --- strip ----------------------------------------------------------------------------------------------------------


def _strip(source: Source, at: str | None, way: _Way, form: o.Written, output: str) -> Made:
    """Images at some levels: side by side, as an animation, as arrays, or in a folder."""
    from ddpm_cli import noising

    out, timesteps = source.out, way.schedule.timesteps
    if form in ("gif", "apng") and at is None:
        marks = [noising.Mark(t, f"t = {t:.0f}") for t in noising.evenly(timesteps, FRAMES)]
    else:
        marks = noising.marks(AT if at is None else at, timesteps)
    processes: tuple[Process, ...] = ("markov", "naive") if way.process == "naive" else (way.process,)
    alone = form in ("npz", "folder") or (form == "png" and len(marks) == len(processes) == 1)
    pictures = source.read(_fitting(source.image_size, out, beside=not alone))
    _warn(way, out)
    times, results = [mark.t for mark in marks], []
    for process in processes:
        with out.progress("noising", "steps") as live:
            one = noising.noised(
                pictures.pixels,
                pictures.numbers,
                way.schedule,
                times,
                process=process,
                noise=way.noise,
                seed=way.seed,
                progress=live,
            )
        results.append(one)
    about = {
        **pictures.source,
        "size": list(pictures.pixels.shape[2:]),
        "schedule": to_dict(way.schedule.config),
        "process": way.process,
        "noise": way.noise,
        "levels": noising.told(results, timesteps),
    }
    for row in about["levels"]:
        out.detail("t = {t:g}: mean {mean:.4f}, variance {variance:.4f}, SNR {snr:.4g}".format(**row))
    return _rendered(pictures, marks, results, _provenance(pictures, marks, way), form, Path(output)), about


def _fitting(image_size: int | None, out: Output, beside: bool) -> "Fit":
    """How images get their size; those that stand beside others are shrunk, and the user told, once."""
    from ddpm_cli.render.grid import shrunk, squared

    told = False

    def fit(pixels: "Pixels") -> "Pixels":
        nonlocal told
        if image_size is not None:
            return squared(pixels, image_size)
        smaller = shrunk(pixels, LARGEST) if beside else pixels
        if smaller is not pixels and not told:
            told = True
            (height, width), (high, wide) = pixels.shape[1:], smaller.shape[1:]
            out.note(f"{width} x {height} pixels are shown as {wide} x {high} (--image-size makes squares)")
        return smaller

    return fit


def _warn(way: _Way, out: Output) -> None:
    """What a reader of the picture could get wrong."""
    if way.noise != "gaussian":
        out.note(
            f"{way.noise} noise has mean 0 and variance 1: chain and closed form agree in these two moments only, and "
            "no model trained on Gaussian noise samples from it"
        )
    if way.process == "naive":
        out.note("the naive process leaves [-1, 1], black to white: what lies outside is shown clipped")


def _provenance(pictures: "Pictures", marks: "Sequence[Mark]", way: _Way) -> dict[str, str]:
    """How to make this picture again, as text chunks of a PNG. Nothing of a path."""
    config = way.schedule.config
    about = {
        "software": f"ddpm-cli {__version__}",
        "schedule": config.kind,
        "timesteps": config.timesteps,
        "beta_start": config.beta_start,
        "beta_end": config.beta_end,
        "zero_terminal_snr": "true" if config.zero_terminal_snr else None,
        "process": way.process,
        "noise": way.noise,
        "seed": way.seed,
        "dataset": pictures.source["dataset"],
        "index": ",".join(map(str, pictures.numbers)) if pictures.source["dataset"] else None,
        "levels": ",".join(f"{mark.t:.10g}" for mark in marks),
    }
    return {key: str(value) for key, value in about.items() if value is not None}


def _heading(about: Mapping[str, str]) -> str:
    """What a strip says of itself."""
    return f"{about['schedule']} schedule, T = {about['timesteps']}, {about['noise']} noise"


def _rendered(
    pictures: "Pictures",
    marks: "Sequence[Mark]",
    results: "Sequence[Noised]",
    about: Mapping[str, str],
    form: o.Written,
    output: Path,
) -> bytes | None:
    """The noisy images in the format asked for."""
    from ddpm_cli.render import noise as render
    from ddpm_cli.render.images import png

    captions = [mark.caption for mark in marks]
    match form:
        case "npz":
            return render.archive(results[-1], pictures.numbers, pictures.labels)
        case "gif" | "apng":
            return render.film(results, captions, form)
        case "png":
            return png(render.strip(results, captions, _heading(about)), about)
    # A folder: a PNG a level, at the images' own size, in the order of the levels asked for.
    for n, k, picture in render.singly(results[-1]):
        number, t = pictures.numbers[n], f"{marks[k].t:.10g}"
        own = {"levels": t} | ({"index": str(number)} if "index" in about else {})
        image = f"{number:06}-" if len(pictures.numbers) > 1 else ""
        files.write_bytes(output / f"{image}{k:03}-t{t}.png", png(picture, {**about, **own}))
    return None


# --- density --------------------------------------------------------------------------------------------------------


def _density(schedule: "Schedule", seed: int, out: Output) -> Made:
    """A mixture of two Gaussians on its way to N(0, 1), and back with its exact score."""
    from ddpm_cli import noising
    from ddpm_cli.render.illustrations import density_figure

    flow, data = noising.flow(schedule, seed), noising.EXAMPLE
    about = {
        "schedule": to_dict(schedule.config),
        "density": to_dict(data),
        "samples": len(flow.ends),
        "expected_mean": data.mean,
        "expected_variance": data.variance,
        "mean": float(flow.ends.mean()),
        "variance": float(flow.ends.var()),
    }
    out.note(
        f"{len(flow.ends):,} samples came back with mean {about['mean']:.3f} and variance {about['variance']:.3f}; "
        f"the data have {data.mean:.3f} and {data.variance:.3f}"
    )
    return density_figure(flow, f"Schedule {schedule.config.kind}, T = {schedule.timesteps}"), about


# --- estimates ------------------------------------------------------------------------------------------------------


def _estimates(source: Source, name: str | None, at: str | None, form: o.Written, seed: int) -> Made:
    """Images on their way to noise, and the clean images that a model takes them for."""
    import numpy as np

    from ddpm_cli import noising
    from ddpm_cli.pixels import from_uint8, to_uint8
    from ddpm_cli.render.animation import FILMS
    from ddpm_cli.render.images import png
    from ddpm_cli.render.walks import frames, sheet

    model, trained_on, about = _model(name, source.out)
    pictures = source.read_for(model.shape, trained_on, crop=False)
    timesteps = model.schedule.timesteps
    if form != "png" and at is None:
        marks = [noising.Mark(t, f"t = {t:.0f}") for t in noising.evenly(timesteps, FRAMES)]
    else:
        marks = noising.marks(at or AT, timesteps)
    with source.out.progress("noising", "steps") as live:
        noised = noising.noised(
            pictures.pixels,
            pictures.numbers,
            model.schedule,
            [mark.t for mark in marks],
            process="closed-form",
            noise="gaussian",
            seed=seed,
            progress=live,
        )
    labels = pictures.known_to(model.classes)
    taken, errors = np.empty_like(noised.x), []
    for k, mark in enumerate(marks):
        for n, label in enumerate(labels):
            # Below level 1 there is no question to ask: what is left of the noise is not seen.
            asks = mark.t >= 1
            x = noised.x[k, n].astype(np.float64)
            taken[k, n] = model.estimate(x, model.schedule.level(mark.t), label) if asks else x
        errors.append(float(np.sqrt(np.mean((taken[k] - from_uint8(pictures.pixels)) ** 2))))
    x_t, estimates, captions = to_uint8(noised.x), to_uint8(taken), [mark.caption for mark in marks]
    told = [{"t": mark.t, "error": error} for mark, error in zip(marks, errors, strict=True)]
    document = {**pictures.source, **about, "levels": told}
    if form == "png":
        text = {
            "software": f"ddpm-cli {__version__}",
            "model": about["model"],
            "seed": str(seed),
            "levels": ",".join(f"{mark.t:.10g}" for mark in marks),
        }
        return png(sheet(x_t, estimates, captions), text), document
    return FILMS[form](frames(x_t, estimates, captions)), document


# --- posterior ------------------------------------------------------------------------------------------------------


def _posterior(source: Source, name: str | None, at: str | None, where: str | None, seed: int) -> Made:
    """The true posterior beside a model's, for one pixel."""
    from ddpm_cli import noising
    from ddpm_cli.pixels import from_uint8
    from ddpm_cli.render.illustrations import posterior_figure

    model, trained_on, about = _model(name, source.out)
    if model.denoiser.learned_variance:
        raise UsageError(
            f"model {about['name']} has learned its variance, and this view shows the fixed one",
            "Name another: --model",
        )
    pictures = source.read_for(model.shape, trained_on, crop=False)
    if len(pictures.numbers) > 1:
        raise UsageError("the view posterior shows one image", f"Give one --index: {pictures.numbers[0]}")
    marks = noising.marks(at or AT_POSTERIOR, model.schedule.timesteps)
    if len(marks) > MOST:
        raise UsageError(f"the view posterior shows up to {MOST} levels, found {len(marks)}")
    if any(mark.t < 2 for mark in marks):
        raise UsageError("below level 2 there is no noisy level to step to", "Give levels of 2 to T: --at 5%,500")
    pixel, x_0 = _pixel(where, model.shape), from_uint8(pictures.pixels[0])
    eps = noising.noise_of("gaussian", seed, pictures.numbers[0], x_0.shape)(0)
    (label,) = pictures.known_to(model.classes)
    found = noising.moments(
        x_0, model.schedule, [m.t for m in marks], eps, lambda x_t, level: model.estimate(x_t, level, label), pixel
    )
    called = about.pop("name")
    figure = posterior_figure(x_0, found, pixel, f"The image is {pictures.name}, the model {called}.", called)
    levels = [moment.told(pixel) for moment in found]
    return figure, {**pictures.source, **about, "pixel": pixel, "x_0": float(x_0[(0, *pixel)]), "levels": levels}


def _model(name: str | None, out: Output) -> "tuple[DiffusionModel, TrainingData, dict[str, Any]]":
    """The model, on the CPU in float32, since it is evaluated a few times only; its data; and what to print of it."""
    found, _ = named(name, out)
    from ddpm_cli import checkpoint, drawing, library

    model, info = checkpoint.load(found.path)
    drawing.check_memory(model, 1)
    return (
        model,
        library.training_data(found, info),
        {"name": found.name, "model": info.id, "schedule": to_dict(info.schedule)},
    )


def _pixel(text: str | None, shape: Shape) -> tuple[int, int]:
    """Row and column; None: the centre."""
    _, height, width = shape
    if text is None:
        return height // 2, width // 2
    words = text.split(",")
    if len(words) != 2:
        raise UsageError(f"pixel is {text!r}, expected ROW,COLUMN", f"The centre is {height // 2},{width // 2}.")
    row, column = (whole(word, "--pixel") for word in words)
    if row >= height or column >= width:
        raise UsageError(f"pixel {text} is out of range, expected rows of 0 to {height - 1}, columns to {width - 1}")
    return row, column
