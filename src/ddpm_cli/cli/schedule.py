"""``ddpm schedule``: noise schedules as tables and pictures, without torch."""

import dataclasses
import json as json_module
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ddpm_cli import ranges
from ddpm_cli.cli import _completion as complete
from ddpm_cli.cli import _options as o
from ddpm_cli.cli._output import Output
from ddpm_cli.config import BETA_RANGES, SCHEDULES, Kind, PlotFormat, ScheduleConfig
from ddpm_cli.errors import UsageError, unknown_name
from ddpm_cli.render.tables import as_csv

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ddpm_cli.schedule import Floats, Schedule

app = o.group("schedule", "Noise schedules: list, show, plot, compare.")
ROWS_ON_A_TERMINAL = 21
TABLE_FRAME = 4  # lines of a table on a terminal that are no rows
HEAD = ["t", "beta", "abar", "signal", "noise", "log_snr"]

COMPARED: tuple[Kind, ...] = ("linear", "cosine", "sigmoid")  # of the papers, and unlike each other; more is a crowd
PERCENT = (0, 5, 10, 25, 50, 75, 90, 100)  # of T: where schedules are compared as numbers and as images
# What one kind alone has: typed for others, it is refused, not ignored.
OWNERS: dict[str, Kind] = {"offset": "cosine", "start": "sigmoid", "end": "sigmoid", "tau": "sigmoid"}

MaxBeta = Annotated[
    float, o.number(ranges.BETA, metavar="X", help="No beta made from abars, or scaled, exceeds it; inside (0, 1).")
]
Offset = Annotated[float, o.number(ranges.OFFSET, metavar="X", help="s of cosine, at least 0.")]
Start = Annotated[float, o.number(ranges.SIGMOID, metavar="X", help="Where sigmoid starts, below --end.")]
End = Annotated[float, o.number(ranges.SIGMOID, metavar="X", help="Where sigmoid ends.")]
Tau = Annotated[float, o.number(ranges.TAU, metavar="X", help="Temperature of sigmoid, above 0.")]
FromFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Your own betas: JSON, a CSV with a column beta, or a number a line; - for stdin.  [default: none]",
    ),
]


def _description(
    kind: o.Kind = ScheduleConfig.kind,
    timesteps: o.Timesteps = ScheduleConfig.timesteps,
    beta_start: o.BetaStart = None,
    beta_end: o.BetaEnd = None,
    max_beta: MaxBeta = ScheduleConfig.max_beta,
    offset: Offset = ScheduleConfig.offset,
    start: Start = ScheduleConfig.start,
    end: End = ScheduleConfig.end,
    tau: Tau = ScheduleConfig.tau,
    zero_terminal_snr: o.ZeroTerminal = ScheduleConfig.zero_terminal_snr,
    from_file: FromFile = None,
) -> None:
    """The options that describe a schedule: a signature, never called."""


_describes = o.with_options(_description)


@app.command("list", epilog=o.EXAMPLES["schedule list"])
def list_(config: o.Config = None, json: o.Json = False, quiet: o.Quiet = False) -> None:
    """List the schedules there are, with their beta range at T = 1000."""
    out = Output(json, quiet)
    ranges = {kind: BETA_RANGES.get(kind) for kind in SCHEDULES}
    schedules = [{"kind": kind, "description": what, "beta_range": ranges[kind]} for kind, what in SCHEDULES.items()]
    out.document({"schedules": schedules})
    rows = [
        [kind, "{:g} to {:g}".format(*beta_range) if (beta_range := ranges[kind]) else "", what]
        for kind, what in SCHEDULES.items()
    ]
    out.table(["kind", "betas at T = 1000", "what it is"], rows)


@app.command(epilog=o.EXAMPLES["schedule show"])
@_describes
def show(
    context: typer.Context,
    output: Annotated[
        Path | None, o.output("A .csv or .json file, or - for CSV on stdout.  [default: print here]")
    ] = None,
    config: o.Config = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
    **_: Any,
) -> None:
    """Show a schedule as a table: beta, abar, signal, noise and log-SNR of every level.

    On a terminal, some levels; off it, in a file and with --json, all.
    """
    out = Output(json, quiet)
    out.check_dash(output)
    schedule = _schedule(context, out)
    if output is not None:
        _write(output, _formats(schedule, (".csv", ".json")), _about(schedule), out)
    else:
        out.document(_document(schedule))
        out.table(HEAD, _table(schedule, None if not sys.stdout.isatty() else ROWS_ON_A_TERMINAL))
        if sys.stdout.isatty() and schedule.timesteps >= ROWS_ON_A_TERMINAL and not json:
            out.note(f"{ROWS_ON_A_TERMINAL} of {schedule.timesteps + 1} levels; all of them: -o table.csv")


@app.command(epilog=o.EXAMPLES["schedule plot"])
@_describes
def plot(
    context: typer.Context,
    output: Annotated[
        Path | None, o.output("A .png, .svg, .pdf, .csv or .json file, or - for PNG on stdout.  [default: plot here]")
    ] = None,
    config: o.Config = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
    **_: Any,
) -> None:
    """Plot a schedule: in the terminal, or as a picture."""
    out = Output(json, quiet)
    out.check_dash(output)
    schedule = _schedule(context, out)
    if output is not None:
        _write(output, _formats(schedule, (".png", ".svg", ".pdf", ".csv", ".json")), _about(schedule), out)
    elif json:
        out.document(_document(schedule))
    else:
        from ddpm_cli.render.plots import curve
        from ddpm_cli.render.terminal import schedule_text

        name = f"{schedule.config.kind}, T = {schedule.timesteps}"
        out.result(schedule_text([curve(schedule, name)], **_screen()), colored=True)


@app.command(epilog=o.EXAMPLES["schedule compare"])
@_describes
def compare(
    context: typer.Context,
    kinds: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KIND",
            autocompletion=complete.schedules,
            help=f"Schedules to compare.  [default: {' '.join(COMPARED)}]",
        ),
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND",
            autocompletion=complete.schedules,
            help="One more, or several with commas between; repeatable.  [default: none]",
        ),
    ] = None,
    timesteps: Annotated[
        int | None,
        o.number(
            ranges.TIMESTEPS, metavar="T", help="Number of noising steps.  [default: that of --from-file, else 1000]"
        ),
    ] = None,
    output: Annotated[
        Path | None,
        o.output("A .png, .svg, .pdf, .csv or .json file, or - for PNG on stdout.  [default: compare here]"),
    ] = None,
    config: o.Config = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
    **_: Any,
) -> None:
    """Compare schedules: beta, abar, log-SNR, weight of the bound, and an image on its way.

    On a terminal, curves and a table of what matters; off it, a table of eight levels each; with -o, one picture of
    all, and below it the same image under the same noise. --from-file adds your own as one more. A beta range is for
    the kinds that have one.
    """
    out = Output(json, quiet)
    out.check_dash(output)
    also = kind if o.is_typed(context, "kind") or not kinds else None  # what is typed beats what a file sets
    schedules = _schedules(context, [*(kinds or ()), *(also or ())], out)
    if output is not None:
        about = {"kinds": [schedule.config.kind for schedule in schedules], "timesteps": _timesteps(schedules)}
        _write(output, _comparison_formats(schedules), about, out)
    elif json:
        out.document(_comparison(schedules))
    elif sys.stdout.isatty():
        _show_comparison(schedules, out)
    else:
        out.table(*_comparison_table(schedules, [_at(schedule) for schedule in schedules]))


# --- from options to schedules --------------------------------------------------------------------------------------


def _schedule(context: typer.Context, out: Output) -> "Schedule":
    """The schedule that the options of a command describe."""
    from ddpm_cli.schedule import Schedule

    values = _values(context)
    _refuse_ownerless(context, [values["kind"]])
    _refuse_cap(context, values)
    if context.params["from_file"] is not None:
        _refuse_beside_a_file(context, [name for name in values if values[name] != "custom"])
    if context.params["from_file"] is not None or values["kind"] == "custom":
        config = _custom(context.params["from_file"])
    else:
        config = ScheduleConfig(**values)
    schedule = Schedule(config)
    _note(schedule, out)
    return schedule


def _schedules(context: typer.Context, named: Sequence[str], out: Output) -> "list[Schedule]":
    """The schedules to compare: each kind once, in the order named; your own last, if it is not named."""
    from ddpm_cli.schedule import Schedule

    kinds = list(dict.fromkeys(kind.strip() for words in named for kind in words.split(","))) or list(COMPARED)
    for kind in kinds:
        if kind not in SCHEDULES:
            raise unknown_name("schedule", kind, SCHEDULES)
    _refuse_ownerless(context, kinds)
    values = _values(context)
    path = context.params["from_file"]
    if path is not None and "custom" not in kinds:
        kinds.append("custom")
    if path is not None and kinds == ["custom"]:
        _refuse_beside_a_file(context, [name for name in values if name != "kind"])
    custom = _custom(path) if "custom" in kinds else None
    values["timesteps"] = values["timesteps"] or (custom or ScheduleConfig()).timesteps
    schedules = [
        Schedule(custom if custom and kind == "custom" else ScheduleConfig(**_own(kind, kinds, values)))
        for kind in kinds
    ]
    for schedule in schedules:
        _note(schedule, out, f"{schedule.config.kind}: ")
    return schedules


def _note(schedule: "Schedule", out: Output, name: str = "") -> None:
    """What is printed of a schedule in addition to its numbers."""
    for text in filter(None, (schedule.config.scaling, schedule.warning)):
        out.note(f"{name}{text}")


def _values(context: typer.Context) -> dict[str, Any]:
    """The fields of a ScheduleConfig, as the options give them."""
    names = [field.name for field in dataclasses.fields(ScheduleConfig)]
    return {name: context.params[name] for name in names if name in context.params}


def _own(kind: str, kinds: Sequence[str], values: Mapping[str, Any]) -> dict[str, Any]:
    """The options for one of several kinds: ends of a beta range go to those that have them, if any has."""
    ranged = set(kinds) & set(BETA_RANGES)
    takers = {"beta_start": ranged, "beta_end": ranged - {"constant"}}
    spared = [name for name, those in takers.items() if those and kind not in those]
    return {**values, "kind": kind, **dict.fromkeys(spared)}


def _refuse_beside_a_file(context: typer.Context, names: Sequence[str]) -> None:
    """A file of betas says all: no other option may."""
    for name in names:
        if o.is_typed(context, name):
            raise UsageError(f"--{name.replace('_', '-')} and --from-file contradict each other", "Give one of them.")


def _refuse_ownerless(context: typer.Context, kinds: Sequence[str]) -> None:
    """Refuse what none of the kinds has."""
    for name, owner in OWNERS.items():
        if owner not in kinds and o.is_typed(context, name):
            raise UsageError(f"--{name} belongs to {owner}, found {', '.join(kinds)}", f"Leave out --{name}.")


def _refuse_cap(context: typer.Context, values: Mapping[str, Any]) -> None:
    """Refuse a cap of betas that are all given, and are taken as they are."""
    ends = {"constant": ["beta_start"], "custom": []}.get(values["kind"], ["beta_start", "beta_end"])
    given = values["kind"] not in ("cosine", "sigmoid") and all(values[name] is not None for name in ends)
    if given and o.is_typed(context, "max_beta"):
        raise UsageError("--max-beta does not apply to betas that are given", "Remove --max-beta.")


def _custom(path: Path | None) -> ScheduleConfig:
    """The schedule whose betas are in a file; the file decides T."""
    if path is None:
        raise UsageError("a custom schedule needs betas", "Name their file: --from-file betas.csv")
    from ddpm_cli import betas

    return betas.from_file(path)


# --- one schedule as document, table, curve and file ----------------------------------------------------------------


def _about(schedule: "Schedule") -> dict[str, object]:
    """What --json tells of a schedule whose file was written."""
    return {"kind": schedule.config.kind, "timesteps": schedule.timesteps}


def _document(schedule: "Schedule") -> dict[str, object]:
    return {
        "kind": schedule.config.kind,
        "timesteps": schedule.timesteps,
        "betas": schedule.betas[1:].tolist(),
        "abars": schedule.abars.tolist(),
        "log_snr": _finite(schedule.log_snr),
    }


def _finite(values: "Floats") -> list[float | None]:
    """As JSON has it: null for what is not finite."""
    import numpy as np

    return [value if np.isfinite(value) else None for value in values.tolist()]


def _table(schedule: "Schedule", rows: int | None) -> list[list[str]]:
    """Every level, exact, or so many of them to six digits."""
    import numpy as np

    levels = np.arange(schedule.timesteps + 1)
    if rows is not None and rows < len(levels):
        levels = np.unique(np.round(np.linspace(0, schedule.timesteps, rows)).astype(int))
    return _rows(schedule, levels, "{!r}" if rows is None else "{:.6g}")


def _rows(schedule: "Schedule", levels: "NDArray[np.intp]", digits: str) -> list[list[str]]:
    """A row a level, as text: the columns of :data:`HEAD`."""
    level = schedule.level(levels)
    columns = (schedule.betas[levels], schedule.abars[levels], level.signal, level.noise, schedule.log_snr[levels])
    return [
        [str(t), *(digits.format(float(value)) for value in values)]
        for t, *values in zip(levels, *columns, strict=True)
    ]


def _formats(schedule: "Schedule", suffixes: Sequence[str]) -> dict[str, Callable[[], bytes]]:
    """How a schedule becomes each of these kinds of file."""

    def picture(file_format: PlotFormat) -> bytes:
        from ddpm_cli.render.plots import curve, schedule_figure

        return schedule_figure([curve(schedule, f"{schedule.config.kind}, T = {schedule.timesteps}")], file_format)

    makers: dict[str, Callable[[], bytes]] = {
        ".png": lambda: picture("png"),
        ".svg": lambda: picture("svg"),
        ".pdf": lambda: picture("pdf"),
        ".csv": lambda: _csv(HEAD, _table(schedule, None)),
        ".json": lambda: _json(_document(schedule)),
    }
    return {suffix: makers[suffix] for suffix in suffixes}


# --- several schedules ----------------------------------------------------------------------------------------------


def _timesteps(schedules: "Sequence[Schedule]") -> int | None:
    """T, where all schedules have the same."""
    lengths = {schedule.timesteps for schedule in schedules}
    return lengths.pop() if len(lengths) == 1 else None


def _names(schedules: "Sequence[Schedule]") -> list[str]:
    """Each by its kind, and by its T too where they differ."""
    same = _timesteps(schedules) is not None
    return [
        schedule.config.kind if same else f"{schedule.config.kind}, T = {schedule.timesteps}" for schedule in schedules
    ]


def _at(schedule: "Schedule") -> "NDArray[np.intp]":
    """The whole levels nearest to :data:`PERCENT` of T."""
    import numpy as np

    return np.unique(np.rint(np.array(PERCENT) / 100 * schedule.timesteps).astype(np.intp))


def _facts(schedule: "Schedule") -> list[str]:
    """The summary for people."""
    facts = schedule.summary()
    half = facts["half_noise"]
    where = "-" if half is None else f"{half:.{0 if half >= 10 else 1}f}"
    return [f"{facts['abar_T']:.2g}", f"{facts['max_beta']:.3g}", where, f"{facts['working_share']:.0%}"]


def _comparison(schedules: "Sequence[Schedule]") -> dict[str, object]:
    return {
        "timesteps": _timesteps(schedules),
        "schedules": [
            {
                **_document(schedule),
                "weights": _finite(schedule.bound_weights),
                **schedule.summary(),
                "at": _at(schedule).tolist(),
            }
            for schedule in schedules
        ],
    }


def _comparison_table(
    schedules: "Sequence[Schedule]", levels: "Sequence[NDArray[np.intp]]"
) -> tuple[list[str], list[list[str]]]:
    """A row for each kind and level, exact."""
    rows = [
        [schedule.config.kind, *row, repr(float(weight))]
        for schedule, chosen in zip(schedules, levels, strict=True)
        for row, weight in zip(_rows(schedule, chosen, "{!r}"), schedule.bound_weights[chosen], strict=True)
    ]
    return ["kind", *HEAD, "weight"], rows


def _show_comparison(schedules: "Sequence[Schedule]", out: Output) -> None:
    """Curves for a terminal, and a table that is their key; together they fill 24 lines or more."""
    from ddpm_cli.render.plots import curve
    from ddpm_cli.render.terminal import marker_of, schedule_text
    from ddpm_cli.schedule import WORKING

    screen = _screen()
    screen["height"] = max(16, screen["height"] - len(schedules) - TABLE_FRAME)
    out.result(
        schedule_text([*map(curve, schedules, _names(schedules))], **screen, weights=True, key=False), colored=True
    )
    rows = [
        [f"{marker_of(k)} {schedule.config.kind}", str(schedule.timesteps), *_facts(schedule)]
        for k, schedule in enumerate(schedules)
    ]
    out.table(["kind", "T", "abar_T", "max beta", "half noise", f"|log-SNR| <= {WORKING:g}"], rows)


def _comparison_formats(schedules: "Sequence[Schedule]") -> dict[str, Callable[[], bytes]]:
    """How a comparison becomes each kind of file."""
    import numpy as np

    def picture(file_format: PlotFormat) -> bytes:
        from ddpm_cli.render.noise import compared
        from ddpm_cli.render.plots import comparison_figure, curve

        curves, shares = [*map(curve, schedules, _names(schedules))], np.array(PERCENT) / 100
        return comparison_figure(curves, [*map(_facts, schedules)], compared(schedules, shares), shares, file_format)

    return {
        ".png": lambda: picture("png"),
        ".svg": lambda: picture("svg"),
        ".pdf": lambda: picture("pdf"),
        ".csv": lambda: _csv(*_comparison_table(schedules, [np.arange(each.timesteps + 1) for each in schedules])),
        ".json": lambda: _json(_comparison(schedules)),
    }


# --- files ----------------------------------------------------------------------------------------------------------


def _csv(head: Sequence[str], rows: Sequence[Sequence[str]]) -> bytes:
    return as_csv(head, rows).encode()


def _json(document: Mapping[str, object]) -> bytes:
    return (json_module.dumps(document, allow_nan=False) + "\n").encode()


def _write(path: Path, formats: Mapping[str, Callable[[], bytes]], about: Mapping[str, object], out: Output) -> None:
    """Write the format that the suffix names; `-` is the first of those a command has."""
    piped = path == Path("-")
    if not piped:
        o.check_file(path, "-o", *formats)
    out.save(path, formats[next(iter(formats)) if piped else path.suffix.lower()]())
    out.document({"output": path, **about})
    if not piped:
        out.paths(path)


def _screen() -> dict[str, Any]:
    import os
    import shutil

    size = shutil.get_terminal_size((80, 24))
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    return {"width": max(60, min(size.columns, 120)), "height": max(18, min(size.lines - 1, 40)), "colour": colour}
