"""``ddpm schedule``: noise schedules as tables and pictures, without torch."""

import csv
import dataclasses
import io
import json as json_module
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ddpm_cli import files
from ddpm_cli.cli import _options as o
from ddpm_cli.cli._output import Output
from ddpm_cli.config import BETA_RANGES, SCHEDULES, ScheduleConfig
from ddpm_cli.errors import DataError, UsageError

if TYPE_CHECKING:
    from ddpm_cli.render.plots import Curve
    from ddpm_cli.schedule import Schedule

app = typer.Typer(
    help="Noise schedules: list, show, plot.",
    rich_markup_mode=None,
    no_args_is_help=False,
    invoke_without_command=True,
    epilog=o.EXAMPLES["schedule show"],
)
ROWS_ON_A_TERMINAL = 21
BETAS_HINT = 'Write a number a line, a CSV with a column beta, or {"betas": [...]}.'

MaxBeta = Annotated[
    float, typer.Option(metavar="X", help="No beta made from abars, or scaled, exceeds it; inside (0, 1).")
]
Offset = Annotated[float, typer.Option(metavar="X", help="s of cosine, at least 0.")]
Start = Annotated[float, typer.Option(metavar="X", help="Where sigmoid starts, below --end.")]
End = Annotated[float, typer.Option(metavar="X", help="Where sigmoid ends.")]
Tau = Annotated[float, typer.Option(metavar="X", help="Temperature of sigmoid, above 0.")]
FromFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Your own betas: JSON, a CSV with a column beta, or a number a line; - for stdin.  [default: none]",
    ),
]


@app.callback()
def _group(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


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
def show(
    context: typer.Context,
    kind: o.Kind = ScheduleConfig.kind,
    timesteps: o.Timesteps = ScheduleConfig.timesteps,
    beta_start: o.BetaStart = None,
    beta_end: o.BetaEnd = None,
    max_beta: MaxBeta = ScheduleConfig.max_beta,
    offset: Offset = ScheduleConfig.offset,
    start: Start = ScheduleConfig.start,
    end: End = ScheduleConfig.end,
    tau: Tau = ScheduleConfig.tau,
    from_file: FromFile = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="A .csv or .json file, or - for CSV on stdout.  [default: print here]",
        ),
    ] = None,
    config: o.Config = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Show a schedule as a table: beta, abar, signal, noise and log-SNR of every level.

    On a terminal, some levels; off it, in a file and with --json, all.
    """
    out = Output(json, quiet)
    out.check_dash(output)
    schedule = _schedule(context, out)
    if output is not None:
        _write(schedule, output, (".csv", ".json"), out)
    else:
        out.document(_document(schedule))
        out.table(*_table(schedule, None if not sys.stdout.isatty() else ROWS_ON_A_TERMINAL))
        if sys.stdout.isatty() and schedule.timesteps >= ROWS_ON_A_TERMINAL and not json:
            out.note(f"{ROWS_ON_A_TERMINAL} of {schedule.timesteps + 1} levels; all of them: -o table.csv")


@app.command(epilog=o.EXAMPLES["schedule plot"])
def plot(
    context: typer.Context,
    kind: o.Kind = ScheduleConfig.kind,
    timesteps: o.Timesteps = ScheduleConfig.timesteps,
    beta_start: o.BetaStart = None,
    beta_end: o.BetaEnd = None,
    max_beta: MaxBeta = ScheduleConfig.max_beta,
    offset: Offset = ScheduleConfig.offset,
    start: Start = ScheduleConfig.start,
    end: End = ScheduleConfig.end,
    tau: Tau = ScheduleConfig.tau,
    from_file: FromFile = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="A .png, .svg, .csv or .json file, or - for PNG on stdout.  [default: plot here]",
        ),
    ] = None,
    config: o.Config = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Plot a schedule: in the terminal, or as a picture."""
    out = Output(json, quiet)
    out.check_dash(output)
    schedule = _schedule(context, out)
    if output is not None:
        _write(schedule, output, (".png", ".svg", ".csv", ".json"), out)
    elif json:
        out.document(_document(schedule))
    else:
        from ddpm_cli.render.terminal import schedule_text

        out.result(schedule_text([_curve(schedule)], **_screen()))


def _schedule(context: typer.Context, out: Output) -> "Schedule":
    """The schedule that a command's options describe."""
    from ddpm_cli.schedule import Schedule

    names = [field.name for field in dataclasses.fields(ScheduleConfig) if field.name in context.params]
    path = context.params["from_file"]
    if path is not None:
        for name in names:
            if o.is_typed(context, name) and context.params[name] != "custom":
                raise UsageError(
                    f"--{name.replace('_', '-')} and --from-file contradict each other", "Give one of them."
                )
        betas = _read_betas(path)
        if not betas:
            raise DataError(f"{path} holds no betas", BETAS_HINT)
        config = ScheduleConfig(kind="custom", timesteps=len(betas), betas=betas)
    elif context.params["kind"] == "custom":
        raise UsageError("a custom schedule needs betas", "Name their file: --from-file betas.csv")
    else:
        config = ScheduleConfig(**{name: context.params[name] for name in names})
    schedule = Schedule(config)
    if schedule.warning:
        out.note(schedule.warning)
    return schedule


def _read_betas(path: Path) -> tuple[float, ...]:
    """Betas from JSON (a list, or an object with "betas"), a CSV with a column beta, or one number a line."""
    try:
        text = sys.stdin.read() if path == Path("-") else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the betas in {path} ({error})", BETAS_HINT) from error
    try:
        if text.lstrip()[:1] in "[{":
            values = json_module.loads(text)
            return tuple(map(float, values["betas"] if isinstance(values, dict) else values))
        rows = [row for row in csv.reader(io.StringIO(text), delimiter="\t" if "\t" in text else ",") if row]
        if "beta" in rows[0]:
            column = rows[0].index("beta")
            levels = rows[1:]
            # A table of ours starts at level 0, which has no beta.
            if "t" in rows[0] and levels and float(levels[0][rows[0].index("t")]) == 0:
                levels = levels[1:]
            return tuple(float(row[column]) for row in levels)
        return tuple(float(row[0]) for row in rows)
    except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        raise DataError(f"{path} holds no betas ({error})", BETAS_HINT) from error


def _document(schedule: "Schedule") -> dict[str, object]:
    return {
        "kind": schedule.config.kind,
        "timesteps": schedule.timesteps,
        "betas": schedule.betas[1:].tolist(),
        "abars": schedule.abars.tolist(),
        "log_snr": schedule.log_snr.tolist(),
    }


def _table(schedule: "Schedule", rows: int | None) -> tuple[list[str], list[list[str]]]:
    """Every level, or so many of them, as text, exact (every level) or to six digits."""
    import numpy as np

    level = schedule.level(np.arange(schedule.timesteps + 1))
    chosen = np.arange(schedule.timesteps + 1)
    if rows is not None and rows < len(chosen):
        chosen = np.unique(np.round(np.linspace(0, schedule.timesteps, rows)).astype(int))
    digits = "{!r}" if rows is None else "{:.6g}"
    columns = (schedule.betas, schedule.abars, level.signal, level.noise, schedule.log_snr)
    table = [[str(t), *(digits.format(float(column[t])) for column in columns)] for t in chosen]
    return ["t", "beta", "abar", "signal", "noise", "log_snr"], table


def _curve(schedule: "Schedule") -> "Curve":
    import numpy as np

    from ddpm_cli.render.plots import Curve

    t = np.arange(schedule.timesteps + 1, dtype=np.float64)
    return Curve(
        f"{schedule.config.kind}, T = {schedule.timesteps}", t, schedule.betas, schedule.abars, schedule.log_snr
    )


def _write(schedule: "Schedule", path: Path, suffixes: tuple[str, ...], out: Output) -> None:
    """Write a schedule in the format that the suffix names; `-` is the first of the formats a command has."""
    suffix = suffixes[0] if path == Path("-") else path.suffix.lower()
    if suffix not in suffixes:
        raise UsageError(f"{path} ends in {suffix or 'nothing'!r}, expected {', '.join(suffixes)}")
    if suffix in (".png", ".svg"):
        from ddpm_cli.render.plots import schedule_figure

        data = schedule_figure([_curve(schedule)], "png" if suffix == ".png" else "svg")
    elif suffix == ".csv":
        head, rows = _table(schedule, None)
        data = "".join(",".join(row) + "\n" for row in [head, *rows]).encode()
    else:
        data = (json_module.dumps({**_document(schedule), "log_snr": [None, *schedule.log_snr[1:]]}) + "\n").encode()
    if path == Path("-"):
        out.bytes(data)
    else:
        files.write_bytes(path, data)
        out.document({"output": path, "kind": schedule.config.kind, "timesteps": schedule.timesteps})
        out.result(str(path))


def _screen() -> dict[str, Any]:
    import os
    import shutil

    size = shutil.get_terminal_size((80, 24))
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    return {"width": max(60, min(size.columns, 120)), "height": max(18, min(size.lines - 1, 40)), "colour": colour}
