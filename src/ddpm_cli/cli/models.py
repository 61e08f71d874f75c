"""``ddpm models``: what can be sampled from, what is known of it, and being rid of it; without torch."""

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from ddpm_cli import checkpoint, files, library, paths
from ddpm_cli import config as settings
from ddpm_cli.checkpoint import Info
from ddpm_cli.cli import _completion as complete
from ddpm_cli.cli import _options as o
from ddpm_cli.cli._output import Output, age, aligned
from ddpm_cli.errors import ModelError, UsageError
from ddpm_cli.library import Entry, Found, file_size
from ddpm_cli.printable import printable

app = o.group("models", "Models: list, show, path, rm.")

Model = Annotated[
    str | None,
    typer.Argument(
        metavar="[MODEL]",
        autocompletion=complete.models,
        help=f"Name, path, or id (12 digits or more).  [default: DDPM_MODEL, else {o.UNNAMED}]",
        show_default=False,
    ),
]
# What a narrow terminal does without, first of all the first.
DISPENSABLE = ("id", "data", "origin", "parameters", "size", "age", "scores", "steps")


@app.command("list", epilog=o.EXAMPLES["models list"])
def list_(context: typer.Context, config: o.Config = None, json: o.Json = False, quiet: o.Quiet = False) -> None:
    """List saved models, runs and shipped models.

    A star marks the one that ddpm sample takes when none is named. On a terminal, the columns that fit; off it and with
    --json, all.
    """
    out = Output(json, quiet)
    default = _default(context, out)
    listed = [
        (library.entry(found), default is not None and _same(found.path, default.path)) for found in library.known()
    ]
    out.document({"models": [_about(entry) | {"default": is_default} for entry, is_default in listed]})
    if sys.stdout.isatty():
        _fit([_row(entry, is_default) for entry, is_default in listed], out)
        if default is not None:
            star = "* is" if any(is_default for _, is_default in listed) else f"{default.path} is"
            out.note(f"{star} what ddpm sample takes when no model is named")
    elif listed:
        exact = [_exact(entry, is_default) for entry, is_default in listed]
        out.table(list(exact[0]), [list(row.values()) for row in exact])
    for entry, _ in listed:
        if entry.problem:
            out.note(f"{_line(entry.found.name)}: {_line(entry.problem)}")


@app.command(epilog=o.EXAMPLES["models show"])
def show(
    context: typer.Context,
    model: Model = None,
    config: o.Config = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Show what is known of a model: architecture, schedule, training.

    On a terminal, in short; off it, exact, a name and a value a line.
    """
    out = Output(json, quiet)
    found = _meant(context, model)
    info = checkpoint.read_info(found.path)
    entry = library.entry(found)
    out.note(f"model {found.name} ({found.origin}, {info.id[:12]})")
    beside = {"record": library.record(found), "evaluation": library.evaluation(info.id)}
    out.document({**info.to_dict(), **_about(entry), **beside})
    exact = not sys.stdout.isatty()
    rows = [(name, _line(value)) for name, value in _description(entry, info, beside["record"], exact) if value]
    out.table((), rows) if exact else out.result(aligned(rows))


@app.command(epilog=o.EXAMPLES["models path"])
def path(
    context: typer.Context,
    model: Model = None,
    config: o.Config = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Print the absolute path of a model's file."""
    out = Output(json, quiet)
    found = _meant(context, model)
    if library.changed(found.path) is None:
        raise ModelError(f"there is no model file {found.path}", "What there is: ddpm models list")
    out.note(f"model {found.name} ({found.origin})")
    out.document({"path": found.path, "name": found.name, "origin": found.origin})
    out.paths(found.path)


@app.command(epilog=o.EXAMPLES["models rm"])
def rm(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL", autocompletion=complete.removable_models, help="Names, paths or ids.", show_default=False
        ),
    ],
    yes: o.Yes = False,
    config: o.Config = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Remove saved models, or runs with their whole folders.

    Prints what is gone. Only what is in the data directory's models and runs can go; of a link, only the link.
    """
    out = Output(json, quiet)
    files.clear_removed(paths.runs())
    doomed = list(dict.fromkeys(map(library.removable, models)))
    gone: dict[Path, int] = {}
    if out.agreed(f"Remove {', '.join(map(_doomed, doomed))}?", yes):
        for place in doomed:
            gone[place] = library.remove(place)
    out.document({"removed": list(gone), "bytes": sum(gone.values())})
    out.paths(*gone)
    out.note(f"{file_size(sum(gone.values()))} freed" if gone else "nothing was removed")


# --- which model is meant -------------------------------------------------------------------------------------------


def _meant(context: typer.Context, model: str | None) -> Found:
    return library.find(_unnamed(context) if model is None else model)


def _unnamed(context: typer.Context) -> str | None:
    """What ``ddpm sample`` is told when no model is named: by DDPM_MODEL, else by the settings."""
    told = (context.find_root().default_map or {}).get("sample", {}).get("model")
    return os.environ.get("DDPM_MODEL") or (told if isinstance(told, str) else None)


def _default(context: typer.Context, out: Output) -> Found | None:
    """The model that ``ddpm sample`` takes when none is named; None where it finds none."""
    try:
        return library.find(_unnamed(context))
    except ModelError as error:
        out.note(f"DDPM_MODEL, or the settings: {error.message}")
        return None


def _same(one: Path, other: Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def _doomed(place: Path) -> str:
    """What is asked about: what it is, where, how large, how old."""
    if place.is_symlink():
        return f"the link {place}"
    written = library.changed(place / paths.MODEL if place.is_dir() else place)
    since = f", last saved {age(written)} ago" if written is not None else ""
    return f"{'the run ' if place.is_dir() else ''}{place} ({file_size(library.size_on_disk(place))}{since})"


# --- the list -------------------------------------------------------------------------------------------------------


def _about(entry: Entry) -> dict[str, Any]:
    """A model as --json lists it; numbers that its file does not tell are null."""
    info = entry.info
    return {
        "name": entry.found.name,
        "origin": entry.found.origin,
        "path": entry.found.path,
        "id": info.id if info else None,
        "dataset": info.data.get("name") if info else None,
        "parameters": info.parameters if info else None,
        "flops": info.flops if info else None,
        "size": entry.size,
        "step": info.training.get("step") if info else None,
        "steps": info.training.get("steps") if info else None,
        "finished": library.is_finished(info) if info else None,
        "scores": entry.scores,
        "changed": _when(entry.changed),
        "problem": entry.problem or None,
    }


def _exact(entry: Entry, is_default: bool) -> dict[str, str]:
    """A row for programs: every column, exact."""
    about = _about(entry) | {"default": "*" if is_default else "", "scores": _scores(entry.scores, exact=True)}
    return {name: "" if value is None else _word(value, exact=True) for name, value in about.items()}


def _row(entry: Entry, is_default: bool) -> dict[str, str]:
    """A row for people."""
    info = entry.info
    return {
        "name": ("* " if is_default else "  ") + _line(entry.found.name),
        "origin": entry.found.origin,
        "data": _line(info.data.get("name", "")) if info else "",
        "parameters": _short(info.parameters) if info else "",
        "size": file_size(entry.size),
        "steps": _steps(info.training) if info else "damaged",
        "scores": _scores(entry.scores),
        "age": age(entry.changed),
        "id": info.id[:12] if info else "",
    }


def _fit(rows: Sequence[Mapping[str, str]], out: Output) -> None:
    """The table on a terminal, with as many columns as fit and none that is empty."""
    if not rows:
        return
    names = [name for name in rows[0] if any(row[name] for row in rows)]
    room = shutil.get_terminal_size().columns
    for name in ("", *DISPENSABLE):
        names = [other for other in names if other != name]
        widths = [max(len(name), *(len(row[name]) for row in rows)) for name in names]
        if sum(widths) + 3 * len(widths) <= room:  # what the table puts between and around columns
            break
    head = ["  name" if name == "name" else name for name in names]
    out.table(head, [[row[name] for name in names] for row in rows])


def _steps(training: Mapping[str, Any]) -> str:
    """Steps done, and of how many where not all are: "6,440", "1,200/6,440"."""
    step, steps = training.get("step"), training.get("steps")
    if not isinstance(step, int):
        return ""
    of = f"{steps:,}" if isinstance(steps, int) else "?"
    return f"{step:,}" if step == steps else f"{step:,}/{of}"


def _scores(scores: Mapping[str, float], exact: bool = False) -> str:
    return ", ".join(
        f"{_line(name)} {value!r}" if exact else f"{_line(name)} {value:.3g}" for name, value in scores.items()
    )


def _when(changed: float | None) -> str | None:
    try:
        return None if changed is None else datetime.fromtimestamp(changed, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):  # no clock says that
        return None


def _short(count: int) -> str:
    """A number of parameters for people: 912, 36.2 k, 1.69 M."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return str(count)


def _word(value: object, exact: bool) -> str:
    """A value as text: "yes", "48-96", "0.002"."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return "-".join(_word(item, exact) for item in value) or "none"
    return f"{value:.4g}" if isinstance(value, float) and not exact else _line(value)


def _line(value: object) -> str:
    """A value from a file that anybody may have written, as text that stays in its line and does nothing else."""
    return printable(" ".join(str(value).split()))


# --- one model ------------------------------------------------------------------------------------------------------


def _description(entry: Entry, info: Info, record: Mapping[str, Any], exact: bool) -> Iterator[tuple[str, str]]:
    """Name and value of everything that is known of a model; values may be empty."""
    number: Callable[[float], str] = str if exact else "{:,}".format
    channels, height, width = info.shape
    yield "name", entry.found.name
    yield (
        "origin",
        {"shipped": "ships with ddpm", "saved": "saved", "run": "a run", "file": "a file"}[entry.found.origin],
    )
    yield "id", info.id if exact else info.id[:12]
    network = info.architecture()["network"]
    yield "network", _words(network | dict.fromkeys(("kind", "shape", "classes")), exact, first=network["kind"])
    yield (
        "images",
        f"{height}x{width}, {'grey' if channels == 1 else 'colour' if channels == 3 else f'{channels} channels'}",
    )
    yield "classes", f"{len(info.classes)}: {', '.join(info.classes)}" if info.classes else "none, unconditional"
    yield "parameters", number(info.parameters)
    yield "flops", number(info.flops) + ("" if exact else f", {info.flops / 1e9:.3g} GFLOP an image and step")
    yield "target", info.target
    yield (
        "schedule",
        _words({**_changes(info.schedule), "timesteps": info.schedule.timesteps}, exact, first=info.schedule.kind),
    )
    yield "data", _words({**info.data, "name": None}, exact, first=info.data.get("name", ""))
    yield "sampler", _sampler(info, exact)
    yield "weights", ", ".join(info.weights)
    yield "training", _training(info, number)
    yield "recipe", _words(_mapping(info.training.get("recipe")), exact)
    yield "scores", _scores(entry.scores, exact)
    yield (
        "made",
        _words({key: record.get(key) for key in ("date", "machine", "minutes_of_steps", "images_per_second")}, exact),
    )
    yield "versions", _words(_mapping(record.get("versions")), exact)
    yield "note", record.get("note", "")
    yield "file", str(entry.found.path)
    yield (
        "size",
        number(entry.size)
        if exact
        else file_size(entry.size) + (", the whole run" if entry.found.origin == "run" else ""),
    )
    yield "changed", (_when(entry.changed) or "") if exact else f"{age(entry.changed)} ago"


def _sampler(info: Info, exact: bool) -> str:
    steps, spacing = info.sampler.steps_and_spacing(info.schedule.timesteps)
    return _words({**_changes(info.sampler), "steps": steps, "spacing": spacing}, exact, first=info.sampler.name)


def _training(info: Info, number: Callable[[float], str]) -> str:
    step, steps, loss = (info.training.get(key) for key in ("step", "steps", "loss"))
    if not isinstance(step, int):
        return ""
    of = f" of {number(steps)} steps" if isinstance(steps, int) else " steps"
    unfinished = ", not finished" if step != steps else ""
    name = "training loss"
    with contextlib.suppress(UsageError):
        name = f"training {settings.from_dict(settings.TrainConfig, info.training.get('recipe'), 'recipe').loss_name}"
    return f"{number(step)}{of}{unfinished}" + (f", {name} {loss:.4g}" if isinstance(loss, int | float) else "")


def _changes(chosen: Any) -> dict[str, Any]:
    """What a schedule or a sampler has otherwise than its kind has by default."""
    mine, usual = settings.to_dict(chosen), settings.to_dict(type(chosen)())
    named = {"kind", "name", "betas"}  # said elsewhere, or a thousand numbers
    return {key: value for key, value in mine.items() if value != usual[key] and key not in named}


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _words(values: Mapping[str, Any], exact: bool, first: object = "") -> str:
    """Values by name, in a line: "cosine, timesteps 1000"; without those that are None."""

    pairs = [f"{key.replace('_', ' ')} {_word(value, exact)}" for key, value in values.items() if value is not None]
    return ", ".join(filter(None, [str(first), *pairs]))
