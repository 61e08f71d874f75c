"""``ddpm sample``: from a model to images, with their provenance written into them."""

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ddpm_cli import files, paths, ranges
from ddpm_cli.cli import _options as o
from ddpm_cli.cli._models import guide as guide_of
from ddpm_cli.cli._models import named, note_merged, with_id
from ddpm_cli.cli._output import Output, counted, duration
from ddpm_cli.config import Spacing, Variance
from ddpm_cli.errors import UsageError
from ddpm_cli.labels import choose, names_of, parse

if TYPE_CHECKING:
    from ddpm_cli.drawing import Drawing
    from ddpm_cli.provenance import Origin
    from ddpm_cli.render.grid import Layout
    from ddpm_cli.sampling import DiffusionModel

COLUMN_EVERY = 100  # levels between two columns of a trajectory
ROWS = 8  # images in a trajectory
FRAMES = 60  # at most, in an animation
ANIMATED = 64  # images at most, in an animation
FAR = 2.0  # magnitude of a pixel value, in [-1, 1] for images, beyond which cutting it off shows
STRONG = 10.0  # guidance beyond which half of the shipped model's digits are no digits any more


def sample(
    context: typer.Context,
    model: o.Model = None,
    number: Annotated[int, o.number(ranges.IMAGES, "--number", "-n", help="How many images.")] = 64,
    first: Annotated[int, o.number(ranges.FIRST, metavar="K", help="Start at image K of the seed.")] = 0,
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="A .png grid, a .gif or .apng of the way, .npz, a folder with trailing /, or - for stdout.",
        ),
    ] = "samples.png",
    file_format: o.Format = None,
    force: o.Force = False,
    label: Annotated[
        str | None,
        typer.Option(metavar="CLASSES", help=f"{o.CLASSES} Several are used in turn.  [default: by seed]"),
    ] = None,
    per_class: Annotated[
        int | None,
        o.number(
            ranges.IMAGES,
            "--per-class",
            help="Generate N images of each class, or of each in --label, in one row per class.  [default: none]",
        ),
    ] = None,
    columns: Annotated[int | None, o.number(ranges.IMAGES, help="Columns of the grid.  [default: near-square]")] = None,
    guidance: o.Guidance = None,
    guide: o.Guide = None,
    rescale: Annotated[
        float | None,
        o.number(
            ranges.SHARE,
            "--guidance-rescale",
            metavar="X",
            help="Bring guided images back to the contrast they have unguided: 0 not, 1 wholly.  [default: 0]",
        ),
    ] = None,
    interval: Annotated[
        str | None,
        typer.Option(
            "--guidance-interval", metavar="A-B", help="Guide at levels t from A to B alone.  [default: everywhere]"
        ),
    ] = None,
    sampler: o.Sampler = None,
    steps: o.Steps = None,
    eta: Annotated[
        float | None,
        o.number(ranges.SHARE, metavar="X", help="Of ddim: 0 deterministic to 1 ancestral.  [default: 0]"),
    ] = None,
    variance: Annotated[
        Variance | None,
        typer.Option(
            help="Of ddpm: small (btilde), large (beta) or learned.  [default: learned where the model has, else small]"
        ),
    ] = None,
    spacing: Annotated[
        Spacing | None, typer.Option(help="How steps are spread over the levels.  [default: the method's]")
    ] = None,
    clip: Annotated[
        bool | None,
        typer.Option("--clip/--no-clip", help="Keep clean-image estimates in [-1, 1].  [default: the model's, clip]"),
    ] = None,
    threshold: Annotated[
        float | None,
        o.number(
            ranges.THRESHOLD,
            metavar="P",
            help="Where clipping, let a share P of the pixels, 0.995 say, stay in [-1, 1], and scale by the rest.  "
            "[default: clip all]",
        ),
    ] = None,
    seed: o.Seed = None,
    batch_size: o.BatchSize = None,
    device: o.Device = "auto",
    precision: o.Precision = "auto",
    trajectory: Annotated[
        Path | None,
        o.file_option(
            f"Also a picture of {ROWS} samples on their way, a column every {COLUMN_EVERY} levels.  [default: none]"
        ),
    ] = None,
    animate: Annotated[
        Path | None, o.file_option("Also an animated .gif or .apng from noise to images.  [default: none]")
    ] = None,
    estimates: Annotated[
        bool,
        typer.Option("--estimates", help="On all of these ways, beside x_t, the clean image that it is taken for."),
    ] = False,
    weights: o.Weights = None,
    like: Annotated[
        Path | None,
        o.file_option("Draw again what this .png of ddpm sample shows, by what it says of itself.  [default: none]"),
    ] = None,
    config: o.Config = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Draw images from a model.

    Prints the path of what it wrote. With no option at all: 64 images of the newest model, as samples.png.
    """
    out = Output(json, quiet, verbose)
    out.check_dash(output)
    kind = o.check_output(output, file_format, "sample", force)
    o.check_file(trajectory, "--trajectory", ".png")
    o.check_file(animate, "--animate", ".gif", ".apng")
    _check_apart(output, trajectory, animate)
    _check_layout(context, kind, animate is not None)
    ways = kind in ("gif", "apng") or trajectory or animate
    if estimates and not ways:
        raise UsageError("--estimates is for ways from noise to images", "Ask for one: --trajectory walk.png")
    changes: dict[str, Any] = {
        "steps": steps,
        "eta": eta,
        "variance": variance,
        "spacing": spacing,
        "guidance": guidance,
        "clip": clip,
    }
    changes |= {"rescale": rescale, "threshold": threshold, "interval": None if interval is None else _levels(interval)}
    labels: list[int] | None = None
    if like is None:
        needs_classes = label is not None or per_class is not None or (guidance not in (None, 1) and guide is None)
        found, info = named(model, out, needs_classes)
        how, chosen = info.sampler.changed(sampler, changes), o.chosen_seed(seed)
        images = range(first, first + number)
        from ddpm_cli.pixels import check_count  # numpy

        check_count(per_class or number, info.shape)
        if per_class is not None:
            labels = [row for row in _rows(label, info.classes) for _ in range(per_class)]
            images = range(first, first + len(labels))
        elif label is not None:
            labels = choose(label, info.classes, images)
        away = guide_of(guide, out)
    else:
        origin = _origin(like, context)
        found = with_id(origin.model, model if o.is_typed(context, "model") else None, out)
        _, weights, how, usual, chosen, images, labels, other, columns, per_class = origin
        if other is None and o.is_typed(context, "guide"):
            raise UsageError(f"--guide contradicts --like: {like} was drawn without one", "Leave out --guide.")
        named_guide = guide if o.is_typed(context, "guide") else None
        away = None if other is None else guide_of(named_guide, out, other)
        precision = precision if o.is_typed(context, "precision") else usual
    from ddpm_cli import drawing
    from ddpm_cli.provenance import provenance

    placed: dict[str, Any] = {"batch_size": batch_size, "device": device, "precision": precision}
    ready = drawing.ready(found.path, how, weights=weights, guide=away, **placed)
    loaded = ready.model
    if like is None:
        note_merged(loaded, steps, out)
        _check_interval(loaded, out)
        if loaded.sampler.guidance == 0 and loaded.guide is None and label is not None:
            out.note("--guidance 0 ignores the classes: --label changes nothing.")
    shown = ANIMATED // per_class * per_class or ANIMATED if per_class else ANIMATED  # whole rows
    watched = max(ROWS if trajectory else 0, shown if animate or kind in ("gif", "apng") else 0)
    begun = time.perf_counter()
    with out.progress("sampling", "image steps") as live:
        drawn = drawing.draw(loaded, chosen, images, labels, watched, live)
    seconds = time.perf_counter() - begun
    layout = _layout(columns, per_class, labels, loaded.classes)  # of labels that the model has, by now
    about = provenance(ready, chosen, images)
    about |= {"columns": columns} if columns else {"per_class": per_class} if per_class else {}
    written = {"output": Path(output)}
    if trajectory is not None:
        files.write_bytes(trajectory, _walk(drawn, about, estimates))
        written["trajectory"] = trajectory
    if animate is not None:
        files.write_bytes(animate, _film(drawn, about, estimates, layout, animate.suffix.lower().removeprefix(".")))
        written["animation"] = animate
    told = {"like": _alike(drawn, layout, like)} if like is not None else {}  # before it may be written over
    _write(drawn, Path(output), kind, about, estimates, layout, out)
    out.document({**written, **about, **_numbers(images[0], drawn, loaded, seconds), **told})
    if output != "-":
        out.paths(*written.values())
    again = f", seed {chosen}" if seed is None and like is None else ""
    out.note(f"{counted(len(images))} in {duration(seconds)}, {loaded.evaluations} network evaluations each{again}")
    if told:
        apart = told["like"]["grey_levels"]
        out.note(f"equal to {like}, pixel for pixel" if apart == 0 else _why_apart(like, apart))
    if loaded.sampler.guidance > STRONG:
        out.note(f"Guidance above {STRONG:g} breaks images; 1 to 5 is usual.")
    if drawn.largest > FAR:
        advice = "" if loaded.sampler.clip else " Remove --no-clip."
        out.note(f"warning: pixel values reach {drawn.largest:,.3g}, and all beyond -1 to 1 are cut off.{advice}")
    if estimates and drawn.labels:
        out.note("Each image has a class: predictions at full noise (t = T) show what it suggests, not the noise.")
    unlike = drawing.unlike(drawn.images, ready.info)
    if unlike and not (drawn.labels and len(loaded.classes) > 1 == len(set(drawn.labels))):
        advice = "Lower --guidance" if loaded.sampler.guidance > 1 else "Train the model longer"
        out.note(f"warning: {unlike}. {advice}.")


def _check_apart(output: str, trajectory: Path | None, animate: Path | None) -> None:
    """Refuse two results for one file, of which the second would replace the first."""
    named = [Path(output), *(path for path in (trajectory, animate) if path is not None)]
    for path in named[1:]:
        if [other.absolute() for other in named].count(path.absolute()) > 1:
            raise UsageError(f"two results would go to {path}", "Give each a name of its own.")


def _check_layout(context: typer.Context, kind: o.Written, animated: bool) -> None:
    """Refuse options of a grid that contradict each other, or without a grid.

    Raises:
        UsageError: there are some.
    """
    asked = context.params
    for other in ("number", "columns"):
        if asked["per_class"] is not None and (o.is_typed(context, other) or (other == "columns" and asked[other])):
            raise UsageError(f"--per-class and --{other} contradict each other", "Give one of them.")
    if asked["columns"] is not None and kind in ("npz", "folder") and not animated:
        raise UsageError(
            "--columns is for grids, and the output is not one", "Leave it out, or write a .png, .gif or .apng."
        )


def _rows(label: str | None, classes: Sequence[str]) -> list[int]:
    """The classes of the rows of a grid: those in a list, else all.

    Raises:
        UsageError: the model has no classes, or not these.
    """
    if not classes:
        raise UsageError("--per-class needs a model with classes, and this one has none", "Use --columns.")
    return list(range(len(classes))) if label is None else parse(label, classes)


def _layout(columns: int | None, per_class: int | None, labels: list[int] | None, classes: Sequence[str]) -> "Layout":
    from ddpm_cli.render.grid import Layout

    if per_class is None or labels is None:
        return Layout(columns)
    return Layout(per_class, tuple((label, classes[label]) for label in labels[::per_class]))


def _check_interval(model: "DiffusionModel", out: Output) -> None:
    """Refuse a guidance interval beyond the timesteps of a model, and say so where none in it is visited.

    Raises:
        UsageError: it contains no timestep of the model.
    """
    if model.sampler.interval is None or model.guided:
        return
    (low, high), last = model.sampler.interval, model.schedule.timesteps
    if math.floor(high) < max(1, math.ceil(low)) or low > last:
        raise UsageError(
            f"--guidance-interval {low:g}-{high:g} contains no timestep of the model, which has 1 to {last:,}",
            f"Choose one inside 1-{last}, or remove --guidance-interval.",
        )
    out.note(
        f"warning: --guidance-interval {low:g}-{high:g} contains no timestep that these {model.steps} steps visit: "
        "nothing is guided. Use more --steps, or a wider interval."
    )


def _levels(text: str) -> tuple[float, float]:
    try:
        low, high = (ranges.LEVEL.read(word) for word in text.split("-"))
    except ValueError:
        found = ranges.shown(text)
        raise UsageError(f"--guidance-interval is {found}, expected two levels t, for example 100-700") from None
    return low, high


# What a picture says of itself, and nobody else may say beside it.
SAID = {
    *("number", "first", "label", "per_class", "columns", "seed", "weights", "guidance", "rescale", "interval"),
    *("sampler", "steps", "eta", "variance", "spacing", "clip", "threshold"),
}


def _origin(like: Path, context: typer.Context) -> "Origin":
    """How the images in a file were drawn.

    Raises:
        DataError: it does not say so.
        UsageError: an option that would make other images of them.
    """
    from ddpm_cli.data.imagefile import read_text
    from ddpm_cli.provenance import read

    for parameter in context.command.params:
        if parameter.name in SAID and o.is_typed(context, parameter.name):
            option = parameter.opts[0]
            raise UsageError(f"{option} contradicts --like, which draws the very same images", f"Leave out {option}.")
    return read(read_text(paths.absolute(str(like))), str(like))


def _alike(drawn: "Drawing", layout: "Layout", like: Path) -> dict[str, int | None]:
    """How far what was drawn is from the picture it is to be like: the largest difference of a pixel, None where that
    is no grid of the same images, as a trajectory is none."""
    import numpy as np

    from ddpm_cli.data.imagefile import read_image
    from ddpm_cli.render.grid import arranged

    there = read_image(paths.absolute(str(like)))
    for here in (arranged(drawn.images, layout), drawn.images[0]):  # one image in a folder is no grid
        if here.shape == there.shape:
            return {"grey_levels": int(np.abs(here.astype(int) - there).max())}
    return {"grey_levels": None}


def _why_apart(like: Path | None, apart: int | None) -> str:
    if apart is None:
        return f"{like} is another kind of picture of these images, so they were not compared"
    return f"{apart} grey levels apart from {like} at most: it was drawn on another device, or by another version"


def _write(
    drawn: "Drawing",
    output: Path,
    kind: o.Written,
    about: Mapping[str, Any],
    estimates: bool,
    layout: "Layout",
    out: Output,
) -> None:
    """Write the images in one of the formats."""
    from ddpm_cli.provenance import as_text
    from ddpm_cli.render.grid import arranged
    from ddpm_cli.render.images import npz, png

    first = int(about["index"].partition("-")[0])

    if kind == "folder":
        for number, image in enumerate(drawn.images):
            one = {**as_text(about), "index": str(first + number), **_labels(drawn, slice(number, number + 1))}
            files.write_bytes(output / f"{first + number:06}.png", png(image, one))
        return
    match kind:
        case "png":
            data = png(arranged(drawn.images, layout), {**as_text(about), **_labels(drawn, slice(None))})
        case "npz":
            import numpy as np

            data = npz(drawn.images, np.array(drawn.labels) if drawn.labels is not None else None)
        case "gif" | "apng":
            data = _film(drawn, about, estimates, layout, kind)
    out.save(output, data)


def _labels(drawn: "Drawing", which: slice) -> dict[str, str]:
    return {"label": ",".join(map(str, drawn.labels[which]))} if drawn.labels is not None else {}


def _walk(drawn: "Drawing", about: Mapping[str, Any], estimates: bool) -> bytes:
    """The first samples on their way: a row each, or two with estimates, a column every so many levels."""
    from ddpm_cli.provenance import as_text
    from ddpm_cli.render.images import png
    from ddpm_cli.render.walks import sheet

    columns = drawn.columns(COLUMN_EVERY)
    captions = [f"t = {drawn.times[column]:.0f}" for column in columns]
    rows = slice(ROWS // 2 if estimates else ROWS)
    beside = drawn.estimates[columns, rows] if estimates else None
    text = {**as_text(about), **_labels(drawn, slice(None))}
    return png(sheet(drawn.walk[columns, rows], beside, captions), text)


def _film(drawn: "Drawing", about: Mapping[str, Any], estimates: bool, layout: "Layout", kind: str) -> bytes:
    """The samples on their way, in time."""
    import numpy as np

    from ddpm_cli.provenance import as_text
    from ddpm_cli.render.animation import apng, gif
    from ddpm_cli.render.walks import frames

    moments = np.unique(np.linspace(0, len(drawn.walk) - 1, FRAMES).astype(int))
    captions = [f"t = {drawn.times[moment]:.0f}" for moment in moments]
    layout = layout._replace(rows=layout.rows[: drawn.walk.shape[1] // (layout.columns or 1)])
    pictures = frames(drawn.walk[moments], drawn.estimates[moments] if estimates else None, captions, layout)
    return gif(pictures) if kind == "gif" else apng(pictures, text={**as_text(about), **_labels(drawn, slice(None))})


def _numbers(first: int, drawn: "Drawing", model: "DiffusionModel", seconds: float) -> dict[str, Any]:
    """What --json tells beside the provenance, as numbers."""
    return {
        "first": first,
        "number": len(drawn.images),
        "labels": drawn.labels,
        "largest": drawn.largest,
        "label_names": names_of(drawn.labels, model.classes),
        "evaluations": model.evaluations,
        "seconds": seconds,
        "images_per_second": len(drawn.images) / seconds,
    }
