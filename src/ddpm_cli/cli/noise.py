"""``ddpm noise``: the forward process on images, in one dimension, and its posterior, as pictures and numbers.

Only the view of the posterior asks a model, and only it imports torch.
"""

import io
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

from ddpm_cli import __version__, files, paths
from ddpm_cli.cli import _options as o
from ddpm_cli.cli._models import named
from ddpm_cli.cli._output import Output
from ddpm_cli.config import NoiseKind, Process, ScheduleConfig, to_dict
from ddpm_cli.errors import DataError, UsageError

if TYPE_CHECKING:
    from ddpm_cli.checkpoint import Info
    from ddpm_cli.noising import Mark, Noised
    from ddpm_cli.render.images import Pixels
    from ddpm_cli.sampling import DiffusionModel
    from ddpm_cli.schedule import Floats, Level, Schedule

View = Literal["strip", "density", "posterior"]
AT = "0,5%,25%,50%,75%,100%"  # the report's
AT_POSTERIOR = "5%,25%,50%,75%"
MOST = 6  # levels in the view posterior: a panel each
FRAMES = 60  # of an animation, beside the clean image
LARGEST = 256  # pixels: beyond, images side by side are too large to be seen at once
TINY = 8  # pixels: below, they are brought up to that before a strip enlarges them
HEADINGS = ("right: x <- sqrt(1 - beta) x + sqrt(beta) eps", "naive: x <- x + sqrt(beta) eps")

# What has no meaning in a view: what is typed of it is refused, not ignored.
OF_IMAGES = ("image", "dataset", "index", "at", "image_size", "data_dir", "offline")
FOREIGN: dict[View, tuple[str, ...]] = {
    "strip": ("model", "pixel"),
    "density": (*OF_IMAGES, "process", "kind", "model", "pixel"),
    "posterior": ("schedule", "timesteps", "beta_start", "beta_end", "process", "kind"),
}


def noise(
    context: typer.Context,
    image: Annotated[
        str | None,
        typer.Argument(metavar="IMAGE|-", help="An image file, or - for one on stdin.  [default: an image of mnist]"),
    ] = None,
    dataset: Annotated[str, typer.Option(metavar="NAME|FOLDER", help="Known set, or folder of images.")] = "mnist",
    index: Annotated[
        str, typer.Option(metavar="K", help="Which image of the data set, or several with commas: a row each.")
    ] = "0",
    at: Annotated[
        str | None,
        typer.Option(
            metavar="LEVELS",
            help=f"Levels of 0 to T, or percentages of T, with commas.  [default: {AT}; "
            f"of a .gif {FRAMES} steps from 0 to T; posterior: {AT_POSTERIOR}]",
        ),
    ] = None,
    schedule: o.Kind = ScheduleConfig.kind,
    timesteps: o.Timesteps = ScheduleConfig.timesteps,
    beta_start: o.BetaStart = None,
    beta_end: o.BetaEnd = None,
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
            help="Images side by side (strip); a density in one dimension, to N(0, 1) and back (density); "
            "the true posterior beside a model's, for one pixel (posterior)."
        ),
    ] = "strip",
    model: Annotated[
        str | None,
        typer.Option(
            envvar="DDPM_MODEL",
            metavar="MODEL",
            help="Name or path, of view posterior.  [default: newest finished run, else the shipped mnist]",
        ),
    ] = None,
    pixel: Annotated[
        str | None, typer.Option(metavar="ROW,COLUMN", help="From 0, of view posterior.  [default: the centre]")
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Bring images to squares of this side, in pixels.  [default: their own size; "
            f"side by side, the longer side {LARGEST} at most]",
        ),
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where to look for the set first.  [default: none]")
    ] = None,
    seed: o.Seed = None,
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="A .png, a .gif of the way, a .npz, a folder with trailing / for a PNG a level, or - for stdout.",
        ),
    ] = "noise.png",
    file_format: Annotated[
        Literal["png", "gif", "npz"] | None, typer.Option("--format", help="Of the output.  [default: by its suffix]")
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", envvar="DDPM_OFFLINE", help="Never use the network.")] = False,
    config: o.Config = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Show how an image turns into noise: the forward process.

    Prints the path of what it wrote. With no option at all: a digit at growing noise, as noise.png. A single level
    gives one image; with --json come mean, variance and signal-to-noise ratio by level.
    """
    out = Output(json, quiet, verbose)
    out.check_dash(output)
    _refuse_foreign(context, view)
    form = o.output_format(output, file_format)
    if view != "strip" and form != "png":
        raise UsageError(f"the {view} is a .png, found {output}", f"ddpm noise --view {view} -o {view}.png")
    if output != "-":
        files.check_place(Path(output), may_be_folder=form == "folder")
    chosen = o.chosen_seed(seed)
    ask = Asked(context.params, form, chosen, out)
    data, about = {"strip": _strip, "density": _density, "posterior": _posterior}[view](ask)
    if data is not None:
        out.bytes(data) if output == "-" else files.write_bytes(Path(output), data)
    out.document({"output": Path(output), "view": view, "seed": chosen, **about})
    if output != "-":
        out.result(output)
    if seed is None:
        out.note(f"seed {chosen}")


# Milliseconds: of a film, and of one of its frames at least and at most. Few levels are looked at, many flow.
FILM, SMOOTH, SLOW = 4000, 60, 500


class Asked(NamedTuple):
    """What a view works from: the options by name, the format of the output, the seed, and where to say things."""

    options: Mapping[str, Any]
    form: o.Format
    seed: int
    out: Output


Answer = tuple[bytes | None, dict[str, Any]]
"""The bytes of the output, None where it is a folder and written already; and what --json tells."""


def _refuse_foreign(context: typer.Context, view: View) -> None:
    """Refuse what is typed and has no meaning in a view, and two sources of images at once."""
    for parameter in context.command.params:
        if parameter.name in FOREIGN[view] and o.is_typed(context, parameter.name):
            name = parameter.opts[0] if parameter.opts[0].startswith("-") else "IMAGE"
            views = " or ".join(other for other, names in FOREIGN.items() if parameter.name not in names)
            raise UsageError(f"{name} has no meaning in the view {view}", f"It belongs to --view {views}.")
    for name in ("dataset", "index", "data_dir"):
        if context.params["image"] is not None and o.is_typed(context, name):
            option = "--" + name.replace("_", "-")
            raise UsageError(f"IMAGE and {option} contradict each other", "Give one of them.")


def _schedule(ask: Asked) -> "Schedule":
    from ddpm_cli.schedule import Schedule

    if ask.options["schedule"] == "custom":
        raise UsageError("ddpm noise has no custom schedule", "Choose one of those in: ddpm schedule list")
    names = ("timesteps", "beta_start", "beta_end")
    schedule = Schedule(ScheduleConfig(kind=ask.options["schedule"], **{name: ask.options[name] for name in names}))
    if schedule.warning:
        ask.out.note(schedule.warning)
    return schedule


# --- images ---------------------------------------------------------------------------------------------------------


class Pictures(NamedTuple):
    """Clean images, and where they come from."""

    pixels: "Pixels"  # (N, C, H, W)
    numbers: list[int]  # which images of the data set; of a file, 0
    labels: list[int] | None
    classes: tuple[str, ...]
    name: str  # for people
    source: dict[str, Any]  # what --json tells of it


def _read(ask: Asked, fit: "Callable[[Pixels], Pixels]") -> Pictures:
    """The images that are meant, each at the size that ``fit`` gives it."""
    if ask.options["image"] is not None:
        return _from_file(ask.options["image"], fit)
    return _from_set(ask, fit)


def _from_file(name: str, fit: "Callable[[Pixels], Pixels]") -> Pictures:
    from ddpm_cli.data.folder import read_image

    path = paths.absolute(name) if name.startswith("~") else Path(name)
    if name == "-":
        if sys.stdin.isatty():
            raise UsageError("- reads an image from stdin, which is a terminal", "cat photo.jpg | ddpm noise -")
        content: Path | bytes = sys.stdin.buffer.read()
        if not content:
            raise DataError("there is nothing on stdin, expected an image", "cat photo.jpg | ddpm noise -")
    else:
        # A pipe, of <(...) say, can be read once and not sought in.
        content = _piped(path) if _is_pipe(path) else path
    pixels = fit(read_image(content, _advice(name)))
    source = {"image": path if name != "-" else "-", "dataset": None}
    return Pictures(pixels[None], [0], None, (), path.name if name != "-" else "from stdin", source)


def _is_pipe(path: Path) -> bool:
    try:
        return path.is_fifo()
    except OSError:  # a name too long, say
        return False


def _piped(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", "Check who may read it: ls -l") from error


def _advice(name: str) -> str:
    """What to do about an image that cannot be read."""
    from ddpm_cli import data

    if name in data.KNOWN or os.path.isdir(name):  # noqa: PTH112  # unlike pathlib's, never an error
        return f"Images of a data set: ddpm noise --dataset {name}"
    if name != "-" and not os.path.exists(name):  # noqa: PTH110
        return "Check its path; without one, an image of mnist is shown."
    return "PNG, JPEG, GIF, BMP, WebP, TIFF and PPM can be read."


def _from_set(ask: Asked, fit: "Callable[[Pixels], Pixels]") -> Pictures:
    import numpy as np

    from ddpm_cli import data

    options, out = ask.options, ask.out
    numbers = [_whole(word, "index") for word in options["index"].split(",")]
    with out.progress("reading", "bytes") as live:
        found = data.load(
            options["dataset"],
            data_dir=options["data_dir"],
            image_size=options["image_size"],
            offline=options["offline"],
            say=out.note,
            progress=lambda done, total: live.update(done, total, ""),
        )
    for number in numbers:
        if number >= len(found.images):
            raise UsageError(
                f"index {number} is out of range, expected 0 to {len(found.images) - 1} in {found.name}",
                "Counting starts at 0.",
            )
    labels = None if found.labels is None else [int(found.labels[number]) for number in numbers]
    pixels = np.stack([fit(found.images[number]) for number in numbers])
    source = {"image": None, "dataset": found.name, "index": numbers, "labels": labels}
    return Pictures(pixels, numbers, labels, found.classes, f"image {numbers[0]} of {found.name}", source)


def _whole(word: str, what: str) -> int:
    if not word.strip().isdecimal():
        raise UsageError(f"{what} is {word!r}, expected a whole number of at least 0")
    return int(word)


# --- strip ----------------------------------------------------------------------------------------------------------


def _strip(ask: Asked) -> Answer:
    """Images at some levels: side by side, as an animation, as arrays, or in a folder."""
    from ddpm_cli import noising

    options, schedule = ask.options, _schedule(ask)
    if ask.form == "gif" and options["at"] is None:
        marks = [noising.Mark(t, f"t = {t:.0f}") for t in noising.evenly(schedule.timesteps, FRAMES)]
    else:
        marks = noising.marks(AT if options["at"] is None else options["at"], schedule.timesteps)
    processes: tuple[Process, ...] = ("markov", "naive") if options["process"] == "naive" else (options["process"],)
    alone = ask.form in ("npz", "folder") or (ask.form == "png" and len(marks) == len(processes) == 1)
    pictures = _read(ask, _fitting(ask, beside=not alone))
    _tell(ask)
    results = []
    with ask.out.progress("noising", "steps") as live:
        for process in processes:
            one = noising.noised(
                pictures.pixels,
                pictures.numbers,
                schedule,
                [mark.t for mark in marks],
                process=process,
                noise=options["kind"],
                seed=ask.seed,
                progress=lambda done, total: live.update(done, total, ""),
            )
            results.append(one)
    about = {
        **pictures.source,
        "size": list(pictures.pixels.shape[2:]),
        "schedule": to_dict(schedule.config),
        "process": options["process"],
        "noise": options["kind"],
        "levels": _levels(results, schedule.timesteps),
    }
    for row in about["levels"]:
        ask.out.detail("t = {t:g}: mean {mean:.4f}, variance {variance:.4f}, SNR {snr:.4g}".format(**row))
    return _rendered(ask, pictures, marks, results, _provenance(ask, pictures, schedule, marks)), about


def _fitting(ask: Asked, beside: bool) -> "Callable[[Pixels], Pixels]":
    """How images get their size; those that stand beside others are shrunk, and the user told, once."""
    from ddpm_cli.render.grid import shrunk, squared

    told = False

    def fit(pixels: "Pixels") -> "Pixels":
        nonlocal told
        if ask.options["image_size"] is not None:
            return squared(pixels, ask.options["image_size"])
        smaller = shrunk(pixels, LARGEST) if beside else pixels
        if smaller is not pixels and not told:
            told = True
            (height, width), (high, wide) = pixels.shape[1:], smaller.shape[1:]
            ask.out.note(f"{width} x {height} pixels are shown as {wide} x {high} (--image-size makes squares)")
        return smaller

    return fit


def _tell(ask: Asked) -> None:
    """What a reader of the picture could get wrong."""
    kind = ask.options["kind"]
    if kind != "gaussian":
        ask.out.note(
            f"{kind} noise has mean 0 and variance 1: chain and closed form agree in these two moments only, and no "
            "model trained on Gaussian noise samples from it"
        )
    if ask.options["process"] == "naive":
        ask.out.note("the naive process leaves [-1, 1], black to white: what lies outside is shown clipped")


def _levels(results: "Sequence[Noised]", timesteps: int) -> list[dict[str, Any]]:
    """What --json tells by level; of the naive process, with the right one beside it."""
    last = results[-1]
    level = last.levels
    rows = []
    for k, t in enumerate(level.t.tolist()):
        row: dict[str, Any] = {"t": t, "percent": 100 * t / timesteps, "abar": float(level.signal[k]) ** 2}
        row |= {"signal": float(level.signal[k]), "noise": float(level.noise[k])}
        row |= {"snr": _exp(float(level.log_snr[k])), "log_snr": float(level.log_snr[k]), **_moments(last, k)}
        if len(results) > 1:
            row["right"] = _moments(results[0], k)
        rows.append(row)
    return rows


def _exp(x: float) -> float:
    import numpy as np

    return float(np.exp(np.float64(x)))  # infinity of infinity, which JSON shows as null


def _moments(noised: "Noised", k: int) -> dict[str, float]:
    names = ("mean", "variance", "expected_mean", "expected_variance")
    return {name: float(getattr(noised, name)[k]) for name in names}


def _provenance(ask: Asked, pictures: Pictures, schedule: "Schedule", marks: "Sequence[Mark]") -> dict[str, str]:
    """How to make this picture again, as text chunks of a PNG. Nothing of a path."""
    config = schedule.config
    about = {
        "software": f"ddpm-cli {__version__}",
        "schedule": config.kind,
        "timesteps": config.timesteps,
        "beta_start": config.beta_start,
        "beta_end": config.beta_end,
        "process": ask.options["process"],
        "noise": ask.options["kind"],
        "seed": ask.seed,
        "dataset": pictures.source["dataset"],
        "index": ",".join(map(str, pictures.numbers)) if pictures.source["dataset"] else None,
        "levels": ",".join(f"{mark.t:.10g}" for mark in marks),
    }
    return {key: str(value) for key, value in about.items() if value is not None}


def _rendered(
    ask: Asked,
    pictures: Pictures,
    marks: "Sequence[Mark]",
    results: "Sequence[Noised]",
    about: Mapping[str, str],
) -> bytes | None:
    """The noisy images in the format asked for."""
    from ddpm_cli.render.images import png, to_uint8

    pixels = [to_uint8(x) for x in results[-1].x]  # a level at a time: photographs are large
    match ask.form:
        case "npz":
            return _archive(pictures, marks, results[-1], pixels)
        case "folder":
            _write_folder(Path(ask.options["output"]), pictures, marks, pixels, about)
            return None
        case "gif":
            return _film(marks, results, pixels)
    return png(_picture(marks, results, pixels), about)


def _picture(marks: "Sequence[Mark]", results: "Sequence[Noised]", pixels: "Sequence[Pixels]") -> "Pixels":
    """A strip; of one level, the image itself; of the naive process, rows to compare."""
    import numpy as np

    from ddpm_cli.render.grid import annotated, enlarged, grid, trajectory
    from ddpm_cli.render.images import to_uint8

    if len(results) > 1:
        right = [to_uint8(x) for x in results[0].x]
        rows = np.stack(
            [np.stack([a, b], axis=1).reshape(-1, *a.shape[1:]) for a, b in zip(right, pixels, strict=True)]
        )
        number = len(pixels[0])
        notes = [
            [f"mean {round(x.mean(), 2) + 0.0:.2f}\nvariance {x.var():.2f}" for x in result.x[:, k].astype(float)]
            for k in range(number)
            for result in results
        ]
        return annotated(enlarged(rows, TINY), [mark.caption for mark in marks], HEADINGS * number, notes)
    if len(pixels) > 1:
        return trajectory(enlarged(np.stack(pixels), TINY), [mark.caption for mark in marks])
    return enlarged(pixels[0])[0] if len(pixels[0]) == 1 else grid(pixels[0])


def _film(marks: "Sequence[Mark]", results: "Sequence[Noised]", pixels: "Sequence[Pixels]") -> bytes:
    """The images on their way, in time."""
    import numpy as np

    from ddpm_cli.render.animation import gif
    from ddpm_cli.render.grid import captioned, enlarged, grid

    def frame(k: int) -> "Pixels":
        if len(results) > 1:
            return _picture(marks[k : k + 1], [_only(result, k) for result in results], pixels[k : k + 1])
        one = len(pixels[k]) == 1
        return captioned(grid(enlarged(pixels[k]), scale=1) if one else grid(pixels[k]), marks[k].caption)

    frames = [frame(k) for k in range(len(marks))]
    width = max(picture.shape[2] for picture in frames)
    even = [np.pad(p, ((0, 0), (0, 0), (0, width - p.shape[2])), mode="edge") for p in frames]
    return gif(even, milliseconds=max(SMOOTH, min(SLOW, FILM // len(even))))


def _only(noised: "Noised", k: int) -> "Noised":
    """One of the levels."""
    import dataclasses

    from ddpm_cli.schedule import Level

    values = {f.name: getattr(noised, f.name)[k : k + 1] for f in dataclasses.fields(noised) if f.name != "levels"}
    return dataclasses.replace(noised, levels=Level(*(field[k : k + 1] for field in noised.levels)), **values)


def _archive(pictures: Pictures, marks: "Sequence[Mark]", noised: "Noised", pixels: "Sequence[Pixels]") -> bytes:
    """Arrays, level after level of image after image: n = images x levels.

    images: uint8 n x h x w [x 3], clipped; x: float32 of the same shape, in [-1, 1] and beyond; levels: float64 (n,);
    index: int64 (n,), 0 of a file; labels: int64 (n,), -1 where there are none.
    """
    import numpy as np

    number = len(pictures.numbers)

    def flat(x: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
        x = np.moveaxis(x.swapaxes(0, 1), 2, -1)  # (images, levels, H, W, C)
        x = x.reshape(-1, *x.shape[2:])
        return np.ascontiguousarray(x[..., 0] if x.shape[-1] == 1 else x)

    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        images=flat(np.stack(pixels)),
        x=flat(noised.x),
        levels=np.tile([mark.t for mark in marks], number),
        index=np.repeat(np.array(pictures.numbers, np.int64), len(marks)),
        labels=np.repeat(np.array(pictures.labels or [-1] * number, np.int64), len(marks)),
    )
    return buffer.getvalue()


def _write_folder(
    folder: Path,
    pictures: Pictures,
    marks: "Sequence[Mark]",
    pixels: "Sequence[Pixels]",
    about: Mapping[str, str],
) -> None:
    """A PNG a level, at the images' own size, in the order of the levels asked for."""
    from ddpm_cli.render.images import png

    for number, name in enumerate(pictures.numbers):
        image = f"{name:06}-" if len(pictures.numbers) > 1 else ""
        for k, (mark, level) in enumerate(zip(marks, pixels, strict=True)):
            own = {"levels": f"{mark.t:.10g}"} | ({"index": str(name)} if "index" in about else {})
            path = folder / f"{image}{k:03}-t{mark.t:.10g}.png"
            files.write_bytes(path, png(level[number], {**about, **own}))


# --- density --------------------------------------------------------------------------------------------------------


def _density(ask: Asked) -> Answer:
    """A mixture of two Gaussians on its way to N(0, 1), and back with its exact score."""
    from ddpm_cli import noising
    from ddpm_cli.render.illustrations import density_figure

    schedule = _schedule(ask)
    flow, data = noising.flow(schedule, ask.seed), noising.EXAMPLE
    about = {
        "schedule": to_dict(schedule.config),
        "density": to_dict(data),
        "samples": len(flow.ends),
        "expected_mean": data.mean,
        "expected_variance": data.variance,
        "mean": float(flow.ends.mean()),
        "variance": float(flow.ends.var()),
    }
    ask.out.note(
        f"{len(flow.ends):,} samples came back with mean {about['mean']:.3f} and variance {about['variance']:.3f}; "
        f"the data have {data.mean:.3f} and {data.variance:.3f}"
    )
    return density_figure(flow, f"Schedule {schedule.config.kind}, T = {schedule.timesteps}"), about


# --- posterior ------------------------------------------------------------------------------------------------------


def _posterior(ask: Asked) -> Answer:
    """The true posterior beside a model's, for one pixel."""
    from ddpm_cli import noising
    from ddpm_cli.render.illustrations import posterior_figure

    model, info, name = _model(ask)
    pictures = _read_for(ask, info)
    if len(pictures.numbers) > 1:
        raise UsageError("the view posterior shows one image", f"Give one --index: {pictures.numbers[0]}")
    marks = noising.marks(ask.options["at"] or AT_POSTERIOR, model.schedule.timesteps)
    if len(marks) > MOST:
        raise UsageError(f"the view posterior shows up to {MOST} levels, found {len(marks)}")
    if any(mark.t < 2 for mark in marks):
        raise UsageError("below level 2 there is no noisy level to step to", "Give levels of 2 to T: --at 5%,500")
    pixel = _pixel(ask.options["pixel"], info.shape)
    x_0 = pictures.pixels[0] / 127.5 - 1
    eps = noising.noise_of("gaussian", ask.seed, pictures.numbers[0], x_0.shape)(0)
    found = noising.moments(x_0, model.schedule, [m.t for m in marks], eps, _asking(model, pictures), pixel)
    source = f"The image is {pictures.name}, the model {name}."
    about = {
        **pictures.source,
        "model": info.id,
        "schedule": to_dict(info.schedule),
        "pixel": list(pixel),
        "x_0": float(x_0[(0, *pixel)]),
        "levels": [
            {
                "t": moment.t,
                "x_t": float(moment.x_t[(0, *pixel)]),
                "clean": float(moment.clean[(0, *pixel)]),
                "jumps": [{**jump._asdict(), "kl": jump.kl} for jump in moment.jumps],
            }
            for moment in found
        ],
    }
    return posterior_figure(x_0, found, pixel, source), about


def _model(ask: Asked) -> "tuple[DiffusionModel, Info, str]":
    """The model that is meant, on the CPU in float32: a picture asks it a few times only."""
    found, info = named(ask.options["model"], ask.out)
    if info.network.learned_variance:
        raise UsageError(
            f"model {found.name} has learned its variance, and this view shows the fixed one", "Name another: --model"
        )
    from ddpm_cli import checkpoint

    model, info = checkpoint.load(found.path)
    return model, info, found.name


def _read_for(ask: Asked, info: "Info") -> Pictures:
    """An image of the model's shape: a file is made to fit, a data set must."""
    from ddpm_cli.render.grid import squared

    channels, height, width = info.shape

    def fit(pixels: "Pixels") -> "Pixels":
        if ask.options["image"] is not None and height == width:
            pixels = squared(pixels, height)
        if len(pixels) == 1 < channels:
            pixels = pixels.repeat(channels, axis=0)
        if pixels.shape != info.shape:
            shapes = ("x".join(map(str, shape)) for shape in (pixels.shape, info.shape))
            raise DataError(
                "the image is {}, and the model knows {}".format(*shapes), "Give another image, or --model."
            )
        return pixels

    return _read(ask, fit)


def _pixel(text: str | None, shape: tuple[int, int, int]) -> tuple[int, int]:
    """Row and column; None: the centre."""
    _, height, width = shape
    if text is None:
        return height // 2, width // 2
    words = text.split(",")
    if len(words) != 2:
        raise UsageError(f"pixel is {text!r}, expected ROW,COLUMN", f"The centre is {height // 2},{width // 2}.")
    row, column = (_whole(word, "pixel") for word in words)
    if row >= height or column >= width:
        raise UsageError(f"pixel {text} is out of range, expected rows of 0 to {height - 1}, columns to {width - 1}")
    return row, column


def _asking(model: "DiffusionModel", pictures: Pictures) -> "Callable[[Floats, Level[Floats]], Floats]":
    """The model's estimate of a clean image, clipped as in sampling; told the label, where both know the same ones."""
    import torch

    from ddpm_cli.denoiser import Clip, Denoises
    from ddpm_cli.forward import as_tensors

    denoiser: Denoises = Clip(model.denoiser) if model.sampler.clip else model.denoiser
    known = pictures.labels is not None and pictures.classes == model.classes
    label = pictures.labels[0] if known and pictures.labels else len(model.classes)
    condition = {"label": torch.tensor([label])} if model.classes else {}

    def ask(x_t: "Floats", level: "Level[Floats]") -> "Floats":
        with torch.no_grad():
            x = torch.from_numpy(x_t[None]).float()
            found: Floats = denoiser(x, as_tensors(level), condition).clean[0].double().numpy()
        return found

    return ask
