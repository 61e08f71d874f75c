"""``ddpm edit``: images changed with a model: varied, repainted, led from one to another."""

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ddpm_cli import files
from ddpm_cli.cli import _options as o
from ddpm_cli.cli._images import Source, refuse_two_sources, to_shape, whole
from ddpm_cli.cli._models import guide as guide_of
from ddpm_cli.cli._models import named
from ddpm_cli.cli._output import Output, counted, duration
from ddpm_cli.config import INPAINT_ROUNDS
from ddpm_cli.errors import DataError, UsageError

if TYPE_CHECKING:
    from ddpm_cli.data.pictures import Pictures
    from ddpm_cli.drawing import Ready
    from ddpm_cli.editing import Changed, End
    from ddpm_cli.pixels import Pixels
    from ddpm_cli.sampling import DiffusionModel

app = o.group("edit", "Change images with a model: vary, inpaint, interpolate, morph.")
VARIATIONS = 8
STRENGTH = 0.6  # of the digits of MNIST, 91 % are still recognised as what they were: docs/samplers.md
STRENGTH_BETWEEN = 0.5
FRAMES = 10  # on a way, its ends included
ANIMATED = 64  # images at most, in a film of their way
MOMENTS = 60  # at most, in it
GIF_SCALE = 2
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
    typer.Option(metavar="NAME|FOLDER", help="Known set, or folder of images.  [default: the model's own]"),
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
        metavar="CLASS",
        help="Class or classes of the images, by number or name.  [default: as the data set says, else not known]",
    ),
]
Strength = Annotated[
    float,
    typer.Option(metavar="X", help="How far the images are noised, as a share of T: above 0, up to 1 (all new)."),
]
Frames = Annotated[int, typer.Option(min=2, max=1000, metavar="N", help="Images on a way, both ends included.")]


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
    file_format: o.Format = None,
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
    number: Annotated[
        int, typer.Option("--number", "-n", min=1, metavar="N", help="Variations of each image.")
    ] = VARIATIONS,
    label: Label = None,
    output: Result = "varied.png",
    **_: Any,
) -> None:
    """Image to image: noise an image to some level, and sample from there.

    Prints the path of what it wrote. A .png shows the image and its variations beside it, a row each; a single
    variation stands alone.
    """
    from ddpm_cli import editing

    job = _Job.prepared(context, "vary", output)
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
            help=f"What to paint anew: white in this picture, or {', '.join(MASKS)}.",
        ),
    ] = "bottom",
    number: Annotated[
        int, typer.Option("--number", "-n", min=1, metavar="N", help="Results for each image.")
    ] = VARIATIONS,
    rounds: Annotated[
        int,
        typer.Option(
            min=1, max=100, metavar="N", help="Times each step is made, so that new and old fit; 1: once, and fast."
        ),
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

    job = _Job.prepared(context, "inpaint", output)
    pictures = job.pictures(image, dataset, index)
    covered = _mask(mask, job.ready.model.shape)
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
        {"mask": mask if mask in MASKS else Path(mask), "rounds": rounds, **pictures.source},
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

    own = bool(images) or o.is_typed(context, "dataset") or o.is_typed(context, "index")
    if not own and o.is_typed(context, "strength"):
        raise UsageError("--strength is for images of your own, and none is named", "Leave out --strength.")
    if own and o.is_typed(context, "between"):
        raise UsageError("--between names images of the seed, beside images of your own", "Name one of them.")
    job = _Job.prepared(context, "interpolate", output, exact=own)
    about: dict[str, Any]
    if own:
        named_images: list[str | None] = list(images) if images else [None]
        found = [job.pictures(each, dataset, index) for each in named_images]
        pixels = _together(found)
        about = {"strength": strength}
        about |= found[0].source if len(found) == 1 else {"image": [Path(name) for name in images or ()]}
        ends = [editing.End(k, each) for k, each in enumerate(job.labels(found, label))]
    else:
        numbers = [whole(word, "--between") for word in between.split(",")]
        pixels, about = None, {"between": numbers}
        ends = [editing.End(k, each) for k, each in zip(numbers, job.seed_labels(numbers, label), strict=True)]
    if len(ends) < 2:
        raise UsageError("one image has nothing to lead to, expected two or more", "Such as: --between 0,1")
    legs = list(itertools.pairwise(ends))
    job.ways(legs, frames, pixels, strength, about, 1)


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
            help="From class to class, by number or name: 3,8, or 3,8,0; one, where the image's own is known.  "
            "[required]",
        ),
    ] = None,
    number: Annotated[
        int, typer.Option("--number", "-n", min=1, metavar="N", help="How many images of the seed.")
    ] = ROWS,
    first: Annotated[int, typer.Option(min=0, metavar="K", help="Start at image K of the seed.")] = 0,
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

    own = image is not None or o.is_typed(context, "dataset") or o.is_typed(context, "index")
    for name, meant in (("strength", True), ("number", False), ("first", False)):
        if own is not meant and o.is_typed(context, name):
            what = "images of your own, and none is named" if meant else "images of a seed, and your own are named"
            raise UsageError(f"--{name} is for {what}", f"Leave out --{name}.")
    job = _Job.prepared(context, "morph", output, exact=own)
    if label is None:
        raise UsageError("morphing needs classes to go between", "Name them: --label 3,8")
    path: list[int | None] = list(job.classes(label))
    about: dict[str, Any]
    if own:
        pictures = job.pictures(image, dataset, index)
        known = job.labels([pictures], None)
        paths = [[mine, *path] if len(path) == 1 and mine is not None else path for mine in known]
        about, numbers, pixels = {"strength": strength, **pictures.source}, range(len(known)), pictures.pixels
    else:
        paths, numbers, pixels = [path] * number, range(first, first + number), None
        about = {"first": first}
    if any(len(each) < 2 for each in paths):
        raise UsageError(f"morphing needs two classes or more, found {label}", "Name them: --label 3,8")
    about["classes"] = path
    legs = [
        (editing.End(k, a), editing.End(k, b))
        for k, each in zip(numbers, paths, strict=True)
        for a, b in itertools.pairwise(each)
    ]
    job.ways(legs, frames, pixels, strength, about, len(paths))


# --- what they share -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Job:
    """An edit that was asked for, with its model ready.

    Attributes:
        what: the command.
        values: of all its options.
        output: where to write.
        kind: what to write.
        ready: the model.
        data: the set it learned, by name.
        seed: of the noise.
        out: where to tell.
    """

    what: str
    values: Mapping[str, Any]
    context: typer.Context
    output: str
    kind: o.Written
    ready: "Ready"
    data: str
    seed: int
    out: Output

    @classmethod
    def prepared(cls, context: typer.Context, what: str, output: str, exact: bool = False) -> "_Job":
        """Check what was typed, and load the model.

        Args:
            context: of the command.
            what: its name.
            output: where to write.
            exact: whether images are led to their noise, which only deterministic methods do.
        """
        values = context.params
        out = Output(values["json"], values["quiet"], values["verbose"])
        out.check_dash(output)
        kind = o.output_format(output, values["file_format"])
        if output != "-":
            files.check_place(Path(output), may_be_folder=kind == "folder")
        refuse_two_sources(context, (values.get("images") or [None])[0] or values.get("image"))
        found, info = named(values["model"], out)
        changes = {"steps": values["steps"], "guidance": values["guidance"]}
        how = info.sampler.changed(values["sampler"], changes)
        if exact and values["sampler"] is None and not how.is_deterministic:
            how = info.sampler.changed("ddim", {**changes, "eta": 0.0})
            out.detail(f"ddim, for {info.sampler.name} adds noise of its own")
        away = guide_of(values["guide"], out)
        from ddpm_cli import drawing

        placed = {name: values[name] for name in ("weights", "batch_size", "device", "precision")}
        ready = drawing.ready(found.path, how, guide=away, **placed)
        seed, data = o.chosen_seed(values["seed"]), str(info.data.get("name", ""))
        return cls(what, values, context, output, kind, ready, data, seed, out)

    @property
    def watched(self) -> int:
        """Results to keep every step of."""
        return ANIMATED if self.kind in ("gif", "apng") else 0

    def pictures(self, image: str | None, dataset: str | None, index: str | None) -> "Pictures":
        """The images to change, in the model's shape."""
        name = dataset or self.data or "mnist"
        source = Source(
            image,
            name,
            index,
            None,
            self.values["data_dir"],
            self.values["offline"],
            self.out,
            f"ddpm edit {self.what}",
        )
        from ddpm_cli.drawing import unlike

        found = source.read(to_shape(self.ready.model.shape, crop=True))
        strange = unlike(found.pixels, self.ready.info, "images")
        if strange:
            self.out.note(f"{strange}. Dark and light may be the wrong way round.")
        return found

    def classes(self, text: str) -> list[int]:
        """The classes in a list of names and numbers."""
        from ddpm_cli.drawing import choose_labels

        return choose_labels(text, self.ready.model.classes, range(text.count(",") + 1))

    def labels(self, found: "Sequence[Pictures]", text: str | None) -> list[int | None]:
        """The classes of images: as asked, else as their set says where it has the model's classes, else not known."""
        classes = self.ready.model.classes
        if text is not None:
            chosen, count = self.classes(text), sum(len(each.pixels) for each in found)
            return [chosen[k % len(chosen)] for k in range(count)]
        known: list[int | None] = []
        for each in found:
            # The numbers in an archive are of a set that is not known.
            same = each.source["dataset"] is not None and classes and each.classes == classes
            known += each.labels if same and each.labels is not None else [None] * len(each.pixels)
        return known

    def seed_labels(self, numbers: Sequence[int], text: str | None) -> list[int | None]:
        """The classes of images of the seed: as asked, else as ``ddpm sample`` has them."""
        model = self.ready.model
        if text is not None:
            from ddpm_cli.drawing import choose_labels

            return list(choose_labels(text, model.classes, numbers))
        return list(model.labels(self.seed, numbers)) if model.classes else [None] * len(numbers)

    def guiding(self, labels: Sequence[int | None]) -> "_Job":
        """This job, without the guidance that the model has by default where no class is known to lead to.

        Raises:
            UsageError: somebody typed it.
        """
        model = self.ready.model
        if model.sampler.guidance == 1 or model.guide is not None or any(label is not None for label in labels):
            return self
        if o.is_typed(self.context, "guidance"):
            raise UsageError("guidance needs a class to lead to, and none is known", "Name it: --label 7")
        unguided = replace(model, sampler=model.sampler.changed(None, {"guidance": 1.0}))
        return replace(self, ready=replace(self.ready, model=unguided))

    def run(
        self, change: "Callable[[DiffusionModel, int, Callable[[int, int], None]], Changed]"
    ) -> "tuple[Changed, float]":
        """Change the images; also the seconds it took."""
        from ddpm_cli import editing

        model = editing.for_few(self.ready)
        begun = time.perf_counter()
        with self.out.progress("editing", "image steps") as live:
            return change(model, self.seed, live), time.perf_counter() - begun

    def ways(
        self,
        legs: "list[tuple[End, End]]",
        frames: int,
        pixels: "Pixels | None",
        strength: float,
        about: Mapping[str, Any],
        things: int,
    ) -> None:
        """Lead so many things along some ways each, and tell of it."""
        from ddpm_cli import editing

        job = self.guiding([end.label for leg in legs for end in leg])
        changed = job.run(lambda model, seed, live: editing.ways(model, legs, frames, seed, pixels, strength, live))
        job.tell(changed, {**about, "frames": frames}, [None] * len(legs) * frames, [], len(legs), things)

    def tell(
        self,
        found: "tuple[Changed, float]",
        about: Mapping[str, Any],
        labels: Sequence[int | None],
        beside: "Sequence[tuple[str, Pixels]]",
        rows: int,
        things: int = 1,
    ) -> None:
        """Write the results, and tell of them.

        Args:
            found: the results, row by row, and the seconds they took.
            about: what this edit was.
            labels: of each result.
            beside: what stands left of each row in a picture, with its caption.
            rows: how many there are.
            things: that are led along them, each along as many.
        """
        from ddpm_cli.provenance import as_text, provenance

        changed, seconds = found
        images = changed.drawing.images
        origin = provenance(self.ready, self.seed, [0])
        del origin["index"]
        origin = {"edit": self.what, **origin}
        text = as_text({**origin, **_portable(about)})
        if any(label is not None for label in labels):
            text["label"] = ",".join("" if label is None else str(label) for label in labels)
        table = images.reshape(rows, -1, *images.shape[1:])
        if self.kind == "folder":
            from ddpm_cli.render.images import png

            for row, results in enumerate(table):
                for k, result in enumerate(results):
                    name = f"{row:06}-{k:03}.png" if rows > 1 else f"{k:06}.png"
                    label = labels[row * len(results) + k]
                    own = {key: value for key, value in text.items() if key != "label"}
                    own |= {} if label is None else {"label": str(label)}
                    files.write_bytes(Path(self.output) / name, png(result, own))
        else:
            self.out.save(Path(self.output), self._bytes(changed, table, labels, beside, text, things))
        known = [-1 if label is None else label for label in labels]
        numbers = {
            "number": len(images),
            "labels": None if set(known) == {-1} else [None if label < 0 else label for label in known],
            "evaluations": changed.evaluations,
            "seconds": seconds,
        }
        self.out.document({"output": Path(self.output), **origin, **about, **numbers})
        if self.output != "-":
            self.out.result(self.output)
        again = f", seed {self.seed}" if self.values["seed"] is None else ""
        self.out.note(
            f"{counted(len(images))} in {duration(seconds)}, {changed.evaluations} network evaluations each{again}"
        )

    def _bytes(
        self,
        changed: "Changed",
        table: "Pixels",
        labels: Sequence[int | None],
        beside: "Sequence[tuple[str, Pixels]]",
        text: Mapping[str, str],
        things: int,
    ) -> bytes:
        """The results in the format asked for."""
        import numpy as np

        from ddpm_cli.render.animation import FILMS
        from ddpm_cli.render.grid import grid, trajectory
        from ddpm_cli.render.images import npz, png

        images = changed.drawing.images
        if self.kind == "npz":
            return npz(images, np.array([-1 if label is None else label for label in labels]))
        ways = not beside
        film, said = FILMS.get(self.kind), {"text": text} if self.kind == "apng" else {}
        if film is not None and ways:
            at_once = images.reshape(things, -1, *images.shape[1:])
            there = [grid(at_once[:, k]) for k in range(at_once.shape[1])]
            return film([*there, *there[-2:0:-1]], milliseconds=100, hold=100, **said)
        if film is not None:
            walk = changed.drawing.walk
            moments = np.unique(np.linspace(0, len(walk) - 1, MOMENTS).astype(int))
            return film([grid(walk[moment], scale=GIF_SCALE) for moment in moments], **said)
        if len(images) == 1:
            return png(images[0], text)
        columns = [pixels for _, pixels in beside] + [table[:, k] for k in range(table.shape[1])]
        shares = [f"{share:.0%}" for share in np.linspace(0, 1, table.shape[1])]
        captions = [caption for caption, _ in beside] + (shares if ways else [""] * table.shape[1])
        return png(trajectory(np.stack(columns), captions), text)


def _portable(about: Mapping[str, Any]) -> dict[str, Any]:
    """What a picture may say of how it was made: nothing of a path, and lists with commas."""
    told = {key: value for key, value in about.items() if value is not None and key not in ("image", "labels", "data")}
    return {
        key: ",".join(map(str, value)) if isinstance(value, list | tuple) else value
        for key, value in told.items()
        if not isinstance(value, Path) and not (key == "dataset" and ("/" in str(value) or "\\" in str(value)))
    }


def _together(found: "Sequence[Pictures]") -> "Pixels":
    import numpy as np

    return np.concatenate([each.pixels for each in found])


def _mask(text: str, shape: tuple[int, int, int]) -> "Pixels":
    """Where to paint, (1, H, W), 1 or 0: white in a picture, or a named half, or the middle.

    Raises:
        DataError: the picture cannot be read, or covers nothing.
    """
    import numpy as np

    _, height, width = shape
    covered = np.zeros((1, height, width), np.uint8)
    rows, columns = {
        "left": (slice(None), slice(width // 2)),
        "right": (slice(None), slice(width // 2, None)),
        "top": (slice(height // 2), slice(None)),
        "bottom": (slice(height // 2, None), slice(None)),
        "centre": (slice(height // 4, -(height // 4)), slice(width // 4, -(width // 4))),
    }.get(text, (slice(0), slice(0)))
    covered[:, rows, columns] = 1
    if text in MASKS:
        return covered
    from ddpm_cli import paths
    from ddpm_cli.data.folder import read_image
    from ddpm_cli.render.grid import squared

    hint = f"White is painted anew, black is kept; or one of: {', '.join(MASKS)}."
    picture = read_image(paths.absolute(text), hint)
    if picture.shape[1:] != (height, width):
        picture = squared(picture, height) if height == width else picture
    if picture.shape[1:] != (height, width):
        raise DataError(
            f"the mask is {picture.shape[2]} x {picture.shape[1]} pixels, expected {width} x {height}", hint
        )
    white: Pixels = (picture.mean(0, keepdims=True) >= COVERED).astype(np.uint8)
    if not white.any():
        raise DataError(f"the mask {text} covers nothing", hint)
    return white
