"""An edit of images from its options to what is written and told: what the commands of ``ddpm edit`` share."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ddpm_cli import files
from ddpm_cli.cli import _options as o
from ddpm_cli.cli._images import Source, refuse_two_sources
from ddpm_cli.cli._models import guide as guide_of
from ddpm_cli.cli._models import named, note_merged
from ddpm_cli.cli._output import Output, counted, duration
from ddpm_cli.errors import UsageError
from ddpm_cli.labels import choose, names_of, parse

if TYPE_CHECKING:
    from ddpm_cli.data.pictures import Pictures
    from ddpm_cli.drawing import Ready
    from ddpm_cli.editing import Changed, End
    from ddpm_cli.library import TrainingData
    from ddpm_cli.pixels import Pixels
    from ddpm_cli.sampling import DiffusionModel

ANIMATED = 64  # images at most, in a film of their way
MOMENTS = 60  # at most, in it
NAMES = ("label_names", "class_names")  # of classes, which --json contains and pictures do not


@dataclass(frozen=True)
class Job:
    """An edit that was asked for, with its model ready.

    Attributes:
        what: the command.
        values: of all its options.
        output: where to write.
        kind: what to write.
        ready: the model.
        trained_on: its data.
        seed: of the noise.
        out: where to tell.
    """

    what: str
    values: Mapping[str, Any]
    context: typer.Context
    output: str
    kind: o.Written
    ready: "Ready"
    trained_on: "TrainingData"
    seed: int
    out: Output

    @classmethod
    def prepared(cls, context: typer.Context, what: str, output: str, exact: bool = False) -> "Job":
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
        kind = o.check_output(output, values["file_format"], f"edit {what}", values["force"])
        for image in values.get("images") or [values.get("image")]:
            refuse_two_sources(context, image)
        found, info = named(values["model"], out)
        changes = {"steps": values["steps"], "guidance": values["guidance"]}
        how = info.sampler.changed(values["sampler"], changes)
        if exact and values["sampler"] is None and not how.is_deterministic:
            how = info.sampler.changed("ddim", {**changes, "eta": 0.0})
            out.detail(f"ddim, for {info.sampler.name} adds noise of its own")
        away = guide_of(values["guide"], out)
        from ddpm_cli import drawing, library

        placed = {name: values[name] for name in ("weights", "batch_size", "device", "precision")}
        ready = drawing.ready(found.path, how, guide=away, **placed)
        note_merged(ready.model, values["steps"], out)
        seed, trained_on = o.chosen_seed(values["seed"]), library.training_data(found, info)
        return cls(what, values, context, output, kind, ready, trained_on, seed, out)

    @property
    def watched(self) -> int:
        """Results to keep every step of."""
        return ANIMATED if self.kind in ("gif", "apng") else 0

    def pictures(self, image: str | None, dataset: str | None, index: str | None) -> "Pictures":
        """The images to change, in the model's shape."""
        source = Source(
            image,
            dataset,
            index,
            None,
            self.values["data_dir"],
            self.values["offline"],
            self.values["on_bad_image"],
            self.out,
            f"ddpm edit {self.what}",
        )
        from ddpm_cli.drawing import unlike

        found = source.read_for(self.ready.model.shape, self.trained_on)
        strange = unlike(found.pixels, self.ready.info, "The images")
        if strange:
            self.out.note(f"{strange}. Dark and light may be the wrong way round.")
        return found

    def classes(self, text: str) -> list[int]:
        """The classes in a list of names and numbers."""
        return parse(text, self.ready.model.classes)

    def labels(self, found: "Sequence[Pictures]", text: str | None) -> list[int | None]:
        """The classes of images: as asked, else as their set says where it has the model's classes, else not known."""
        classes = self.ready.model.classes
        if text is not None:
            chosen, count = self.classes(text), sum(len(each.pixels) for each in found)
            return [chosen[k % len(chosen)] for k in range(count)]
        return [label for each in found for label in each.known_to(classes)]

    def seed_labels(self, numbers: Sequence[int], text: str | None) -> list[int | None]:
        """The classes of images of the seed: as asked, else as ``ddpm sample`` has them."""
        model = self.ready.model
        if text is not None:
            return list(choose(text, model.classes, numbers))
        return list(model.labels(self.seed, numbers)) if model.classes else [None] * len(numbers)

    def guiding(self, labels: Sequence[int | None]) -> "Job":
        """This job, without the guidance that the model has by default where no class is known to lead to.

        Raises:
            UsageError: somebody typed it.
        """
        model = self.ready.model
        if model.sampler.guidance == 1 or model.guide is not None or not model.classes:  # the last is refused later on
            return self
        if any(label is not None for label in labels):
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
        known: Sequence[int | None],
        strength: float,
        about: Mapping[str, Any],
        things: int,
    ) -> None:
        """Lead so many things along some ways each, and tell of it."""
        from ddpm_cli import editing

        job = self.guiding([end.label for leg in legs for end in leg])
        changed = job.run(
            lambda model, seed, live: editing.ways(model, legs, frames, seed, pixels, known, strength, live)
        )
        job.tell(changed, {**about, "frames": frames}, [None] * len(legs) * frames, [], len(legs), things)

    def tell(
        self,
        found: "tuple[Changed, float]",
        about: Mapping[str, Any],
        labels: Sequence[int | None],
        beside: "Sequence[tuple[str, Pixels]]",
        rows: int,
        things: int = 0,
    ) -> None:
        """Write the results, and tell of them.

        Args:
            found: the results, row by row, and the seconds they took.
            about: what this edit was.
            labels: of each result.
            beside: what stands left of each row in a picture, with its caption.
            rows: how many there are.
            things: that are led along them, each along as many; 0: a row is of one image.
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
                    own = {key: value for key, value in text.items() if key not in ("label", "index")}
                    own |= {} if label is None else {"label": str(label)}
                    own |= {"index": str(about["index"][row])} if "index" in about and things == 0 else {}
                    own["result"] = str(k)
                    files.write_bytes(Path(self.output) / name, png(result, own))
        else:
            self.out.save(Path(self.output), self._bytes(changed, table, labels, beside, text, things))
        known = [-1 if label is None else label for label in labels]
        given = None if set(known) == {-1} else [None if label < 0 else label for label in known]
        numbers = {
            "number": len(images),
            "labels": given,
            "label_names": names_of(given, self.ready.model.classes),
            "evaluations": changed.evaluations,
            "inversion": changed.inversion,
            "seconds": seconds,
        }
        self.out.document({"output": Path(self.output), **origin, **about, **numbers})
        if self.output != "-":
            self.out.paths(self.output)
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
        from ddpm_cli.render.grid import trajectory
        from ddpm_cli.render.images import npz, png
        from ddpm_cli.render.walks import frames

        images = changed.drawing.images
        if self.kind == "npz":
            return npz(images, np.array([-1 if label is None else label for label in labels]))
        ways = things > 0
        shares = [f"{share:.0%}" for share in np.linspace(0, 1, table.shape[1])]
        film, said = FILMS.get(self.kind), {"text": text} if self.kind == "apng" else {}
        if film is not None and ways:
            at_once = images.reshape(things, -1, *images.shape[1:])
            there = frames(at_once.swapaxes(0, 1), None, shares * (len(table) // things))
            return film([*there, *there[-2:0:-1]], milliseconds=100, hold=100, **said)
        if film is not None:
            walk = changed.drawing.walk
            moments = np.unique(np.linspace(0, len(walk) - 1, MOMENTS).astype(int))
            captions = [f"t = {changed.drawing.times[moment]:.0f}" for moment in moments]
            return film(frames(walk[moments], None, captions), **said)
        if len(images) == 1:
            return png(images[0], text)
        columns = [pixels for _, pixels in beside] + [table[:, k] for k in range(table.shape[1])]
        captions = [caption for caption, _ in beside] + (shares if ways else [""] * table.shape[1])
        return png(trajectory(np.stack(columns), captions), text)


def _portable(about: Mapping[str, Any]) -> dict[str, Any]:
    """What a picture may say of how it was made: nothing of a path, and lists with commas."""
    told = {
        key: value
        for key, value in about.items()
        if value is not None and key not in ("image", "labels", "data", *NAMES)
    }
    return {
        key: ",".join(map(str, value)) if isinstance(value, list | tuple) else value
        for key, value in told.items()
        if not isinstance(value, Path) and not (key == "dataset" and ("/" in str(value) or "\\" in str(value)))
    }
