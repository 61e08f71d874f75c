"""``ddpm edit``: images changed with a model: varied, repainted, led from one to another."""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ddpm_cli import paths, ranges
from ddpm_cli.cli import _completion as complete
from ddpm_cli.cli import _options as o
from ddpm_cli.cli._edits import Job
from ddpm_cli.cli._images import whole
from ddpm_cli.cli._output import Output
from ddpm_cli.config import INPAINT_ROUNDS
from ddpm_cli.errors import DataError, UsageError
from ddpm_cli.labels import names_of

if TYPE_CHECKING:
    from ddpm_cli.data.pictures import Pictures
    from ddpm_cli.pixels import Pixels

app = o.group("edit", "Change images with a model: vary, inpaint, interpolate, morph.")
VARIATIONS = 8
STRENGTH = 0.6  # of the digits of MNIST, nine in ten are still recognised as what they were: docs/editing.md
STRENGTH_BETWEEN = 0.5
FRAMES = 10  # on a way, its ends included
ROWS = 4  # images that are led from class to class
MASKS = ("left", "right", "top", "bottom", "centre")
COVERED = 128  # grey, where a mask covers an image

Image = Annotated[
    str | None,
    typer.Argument(
        metavar="IMAGE|NPZ|-",
        help="An image file, an .npz, or - for one on stdin.  [default: an image of the model's own data set]",
        show_default=False,
    ),
]
Dataset = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FOLDER",
        autocompletion=complete.data_sets,
        help="Known set, or folder of images.  [default: the model's own]",
    ),
]
Index = Annotated[
    str | None,
    typer.Option(
        metavar="K", help="Images of the data set or .npz, with commas.  [default: 0 of a set, all of an .npz]"
    ),
]
Label = Annotated[
    str | None,
    typer.Option(
        metavar="CLASSES",
        help=f"Classes of the images, in turn. {o.CLASSES}  [default: as the data set says, else not known]",
    ),
]
Strength = Annotated[
    float,
    o.number(
        ranges.STRENGTH,
        metavar="X",
        help="How far the images are noised, as a share of T: above 0, up to 1 (all new).",
    ),
]
Frames = Annotated[int, o.number(ranges.FRAMES, help="Images on a way, both ends included.")]


def _shared(
    model: o.Model = None,
    guidance: o.Guidance = None,
    guide: o.Guide = None,
    sampler: o.Sampler = None,
    steps: o.Steps = None,
    seed: o.Seed = None,
    batch_size: o.BatchSize = None,
    device: o.Device = "auto",
    precision: o.Precision = "auto",
    weights: o.Weights = None,
    data_dir: o.DataDir = None,
    offline: o.Offline = False,
    on_bad_image: o.OnBadImage = "skip",
    file_format: o.Format = None,
    force: o.Force = False,
    config: o.Config = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """The options of every command here: a signature, never called."""


_shares = o.with_options(_shared, own_first=True)


Result = Annotated[
    str,
    typer.Option(
        "--output", "-o", metavar="PATH", help="A .png, .gif, .apng, .npz, a folder with trailing /, or - for stdout."
    ),
]


@app.command(epilog=o.EXAMPLES["edit vary"])
@_shares
def vary(
    context: typer.Context,
    image: Image = None,
    dataset: Dataset = None,
    index: Index = None,
    strength: Strength = STRENGTH,
    number: Annotated[int, o.number(ranges.COPIES, "--number", "-n", help="Variations of each image.")] = VARIATIONS,
    label: Label = None,
    output: Result = "varied.png",
    **_: Any,
) -> None:
    """Image to image: noise an image to some level, and sample from there.

    Prints the path of what it wrote. A .png shows the image and its variations beside it, a row each; a single
    variation stands alone.
    """
    from ddpm_cli import editing

    job = Job.prepared(context, "vary", output)
    pictures = job.pictures(image, dataset, index)
    labels = job.labels([pictures], label)
    job = job.guiding(labels)
    changed = job.run(
        lambda model, seed, live: editing.vary(
            model, pictures.pixels, labels, number, strength, seed, job.watched, live, pictures.numbers
        )
    )
    job.tell(
        changed,
        {"strength": strength, **pictures.source},
        [each for each in labels for _ in range(number)],
        [("original", pictures.pixels)],
        len(pictures.pixels),
    )


@app.command(epilog=o.EXAMPLES["edit inpaint"])
@_shares
def inpaint(
    context: typer.Context,
    image: Image = None,
    dataset: Dataset = None,
    index: Index = None,
    mask: Annotated[
        str,
        typer.Option(
            metavar="FILE|SIDE",
            help="What to repaint: white in this picture, or what is opaque if its opacity varies; or "
            f"{', '.join(MASKS)}.",
        ),
    ] = "bottom",
    number: Annotated[int, o.number(ranges.COPIES, "--number", "-n", help="Results for each image.")] = VARIATIONS,
    rounds: Annotated[
        int,
        o.number(ranges.ROUNDS, help="Times each step is made, so that new and old fit; 1: once, and fast."),
    ] = INPAINT_ROUNDS,
    label: Label = None,
    output: Result = "inpainted.png",
    **_: Any,
) -> None:
    """Paint part of an image anew, so that it fits the rest, which keeps its pixels.

    Prints the path of what it wrote. A .png shows the image, what was kept of it, and the results, a row each; a
    single result stands alone.
    """
    import numpy as np

    from ddpm_cli import editing

    job = Job.prepared(context, "inpaint", output)
    pictures = job.pictures(image, dataset, index)
    covered = _mask(mask, job.ready.model.shape, job.out)
    labels = job.labels([pictures], label)
    job = job.guiding(labels)
    changed = job.run(
        lambda model, seed, live: editing.inpaint(
            model, pictures.pixels, covered, labels, number, seed, rounds, job.watched, live, pictures.numbers
        )
    )
    left = np.where(covered > 0, np.uint8(COVERED), pictures.pixels)
    job.tell(
        changed,
        {"mask": mask if mask in MASKS else paths.absolute(mask), "rounds": rounds, **pictures.source}
        | {"covered": float(covered.mean())},
        [each for each in labels for _ in range(number)],
        [("original", pictures.pixels), ("kept", left)],
        len(pictures.pixels),
    )


@app.command(epilog=o.EXAMPLES["edit interpolate"])
@_shares
def interpolate(
    context: typer.Context,
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IMAGE...", help="Image files, two or more, or an .npz.  [default: none]", show_default=False
        ),
    ] = None,
    dataset: Dataset = None,
    index: Index = None,
    between: Annotated[
        str, typer.Option(metavar="K,L", help="Where no images are named: these images of the seed, two or more.")
    ] = "0,1",
    strength: Strength = STRENGTH_BETWEEN,
    frames: Frames = FRAMES,
    label: Label = None,
    output: Result = "interpolated.png",
    **_: Any,
) -> None:
    """Lead one image to another over images that lie between: of a seed, or your own.

    Noise is mixed on a great circle, classes in proportion. Images of a seed begin and end as ddpm sample draws them;
    your own come back nearly as they are. Prints the path of what it wrote; a .gif goes there and back.
    """
    from ddpm_cli import editing

    own = bool(images) or dataset is not None or index is not None
    if not own and o.is_typed(context, "strength"):
        raise UsageError("--strength is for images of your own, and none is named", "Leave out --strength.")
    if own and o.is_typed(context, "between"):
        raise UsageError("--between names images of the seed, beside images of your own", "Name one of them.")
    job = Job.prepared(context, "interpolate", output, exact=own)
    about: dict[str, Any]
    if own:
        named_images: list[str | None] = list(images) if images else [None]
        found = [job.pictures(each, dataset, index) for each in named_images]
        pixels = _together(found)
        about = {"strength": strength}
        about |= found[0].source if len(found) == 1 else {"image": [each.source["image"] for each in found]}
        known = job.labels(found, label)
        ends = [editing.End(k, each) for k, each in enumerate(known)]
    else:
        numbers = [whole(word, "--between") for word in between.split(",")]
        pixels, about, known = None, {"between": numbers}, []
        ends = [editing.End(k, each) for k, each in zip(numbers, job.seed_labels(numbers, label), strict=True)]
    if len(ends) < 2:
        raise UsageError("one image has nothing to lead to, expected two or more", "Such as: --between 0,1")
    legs = list(itertools.pairwise(ends))
    job.ways(legs, frames, pixels, known, strength, about, 1)


@app.command(epilog=o.EXAMPLES["edit morph"])
@_shares
def morph(
    context: typer.Context,
    image: Annotated[
        str | None,
        typer.Argument(
            metavar="IMAGE|NPZ|-",
            help="An image file, an .npz, or - for one on stdin.  [default: images of the seed]",
            show_default=False,
        ),
    ] = None,
    dataset: Dataset = None,
    index: Index = None,
    label: Annotated[
        str | None,
        typer.Option(
            metavar="CLASSES",
            help=f"From class to class; one suffices where the image's own is known. {o.CLASSES}  [required]",
        ),
    ] = None,
    number: Annotated[int, o.number(ranges.COPIES, "--number", "-n", help="How many images of the seed.")] = ROWS,
    first: Annotated[int, o.number(ranges.FIRST, metavar="K", help="Start at image K of the seed.")] = 0,
    strength: Strength = 1.0,
    frames: Frames = FRAMES,
    output: Result = "morphed.png",
    **_: Any,
) -> None:
    """Lead images from class to class, with the noise they are drawn from kept: of a seed, or your own.

    Images of a seed begin and end as ddpm sample draws them with --label. Prints the path of what it wrote; a .gif
    goes there and back.
    """
    from ddpm_cli import editing

    own = image is not None or dataset is not None or index is not None
    for name, meant in (("strength", True), ("number", False), ("first", False)):
        if own is not meant and o.is_typed(context, name):
            what = "images of your own, and none is named" if meant else "images of a seed, and your own are named"
            raise UsageError(f"--{name} is for {what}", f"Leave out --{name}.")
    job = Job.prepared(context, "morph", output, exact=own)
    if label is None:
        raise UsageError("morphing needs classes to go between", "Name them: --label 3,8")
    path: list[int | None] = list(job.classes(label))
    about: dict[str, Any]
    if own:
        pictures = job.pictures(image, dataset, index)
        known = job.labels([pictures], None)
        routes = [[mine, *path] if len(path) == 1 and mine is not None else path for mine in known]
        known = [route[0] if mine is None else mine for mine, route in zip(known, routes, strict=True)]
        about, numbers, pixels = {"strength": strength, **pictures.source}, range(len(known)), pictures.pixels
    else:
        routes, numbers, pixels, known = [path] * number, range(first, first + number), None, []
        about = {"first": first}
    if any(len(each) < 2 for each in routes):
        raise UsageError(f"morphing needs two classes or more, found {label}", "Name them: --label 3,8")
    about |= {"classes": path, "class_names": names_of(path, job.ready.model.classes)}
    legs = [
        (editing.End(k, a), editing.End(k, b))
        for k, each in zip(numbers, routes, strict=True)
        for a, b in itertools.pairwise(each)
    ]
    job.ways(legs, frames, pixels, known, strength, about, len(routes))


def _together(found: "Sequence[Pictures]") -> "Pixels":
    import numpy as np

    return np.concatenate([each.pixels for each in found])


def _mask(text: str, shape: tuple[int, int, int], out: Output) -> "Pixels":
    """Where to paint, (1, H, W), 1 or 0: in a picture what is white or opaque, or a named half, or the middle.

    Raises:
        DataError: the picture cannot be read, or selects no pixel or all of them.
    """
    import numpy as np

    _, height, width = shape
    covered = np.zeros((1, height, width), np.uint8)
    rows, columns = {
        "left": (slice(None), slice(width // 2)),
        "right": (slice(None), slice(width // 2, None)),
        "top": (slice(height // 2), slice(None)),
        "bottom": (slice(height // 2, None), slice(None)),
        "centre": (slice(height // 4, height - height // 4), slice(width // 4, width - width // 4)),
    }.get(text, (slice(0), slice(0)))
    covered[:, rows, columns] = 1
    if text in MASKS:
        return covered
    from ddpm_cli.data.imagefile import read_mask
    from ddpm_cli.render.grid import squared

    hint = f"White is repainted, black is kept; or one of: {', '.join(MASKS)}."
    picture, is_opacity = read_mask(paths.absolute(text), hint)
    if picture.shape[1:] != (height, width):
        picture = squared(picture, height) if height == width else picture
    if picture.shape[1:] != (height, width):
        raise DataError(
            f"the mask is {picture.shape[2]} x {picture.shape[1]} pixels, expected {width} x {height}", hint
        )
    selected: Pixels = (picture >= COVERED).astype(np.uint8)
    what, brightest = ("opaque", "most opaque") if is_opacity else ("white", "brightest")
    if not selected.any():
        raise DataError(
            f"the mask {text} selects no pixel: at {width} x {height} pixels, its {brightest} value is {picture.max()} "
            f"of 255, and {COVERED} or more selects",
            hint,
        )
    if selected.all():
        raise DataError(
            f"the mask {text} selects every pixel, so nothing of the image would be kept",
            "Paint black what to keep, or make it transparent. For entirely new images: ddpm sample",
        )
    out.note(
        f"The mask selects {selected.sum():,} of {selected.size:,} pixels ({selected.mean():.1%}): what is {what}."
    )
    return selected
