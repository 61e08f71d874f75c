"""``ddpm doctor``: what is wrong with this installation, and what to type."""

import os
import re
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ddpm_cli.cli import _options as o
from ddpm_cli.cli._output import Output, aligned
from ddpm_cli.cli._settings import read_settings
from ddpm_cli.errors import ResourceError, UsageError
from ddpm_cli.printable import printable

if TYPE_CHECKING:
    from ddpm_cli.diagnosis import Finding

COLOURS = {"ok": 32, "warning": 33, "problem": 31}  # green, yellow, red


def doctor(
    context: typer.Context,
    verify_resume: Annotated[
        bool,
        typer.Option(
            "--verify-resume", help="Instead, kill, stop and resume small runs, and compare them byte by byte."
        ),
    ] = False,
    device: o.Device = "auto",
    config: o.Config = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Look for what is wrong with this installation, and say what to type.

    Looks at versions, whether the libraries work, device, threads, memory, environment, settings, data directory, disk,
    and at every byte of the data and weights that ship with ddpm. It takes some seconds.

    With --verify-resume it trains small runs on generated images on --device, in a temporary folder, kills one, stops
    others, goes on with them, and compares each with a run that went through: in every precision, with both optimizers.
    It takes up to a minute.

    Exit code 0: all is well, but for warnings; 6: there is a problem, so some of ddpm does not work.
    """
    out = Output(json, quiet)
    if verify_resume:
        findings = _rehearsed(device, out)
    else:
        if o.is_typed(context, "device"):
            raise UsageError("--device belongs to --verify-resume", "Type: ddpm doctor --verify-resume --device ...")
        findings = _examined(context, out)
    out.document({"checks": [finding._asdict() for finding in findings]})
    if sys.stdout.isatty():
        out.result(_listing(findings), colored=True)
    else:
        out.table(["name", "state", "found", "advice"], [_row(finding) for finding in findings])
    counts = {state: sum(finding.state == state for finding in findings) for state in ("problem", "warning")}
    ill = [f"{count} {state}{'s' if count > 1 else ''}" for state, count in counts.items() if count]
    out.note(" and ".join(ill) or "all is well")
    if counts["problem"]:
        raise typer.Exit(ResourceError.exit_code)


def _examined(context: typer.Context, out: Output) -> "list[Finding]":
    from ddpm_cli import diagnosis

    if sys.stderr.isatty():
        out.note("looking; this takes some seconds")
    root: Any = context.find_root()
    return diagnosis.examine(lambda: read_settings(root))


def _rehearsed(device: Any, out: Output) -> "list[Finding]":
    """What comes of runs that are killed, stopped and resumed; where torch does not work, that."""
    from ddpm_cli.diagnosis import guarded

    def look() -> "Iterator[Finding]":
        # Read when torch is imported. Where processors are busy, threads that spin while they wait take minutes.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        from ddpm_cli import rehearsal

        yield from rehearsal.rehearse(device, lambda number, total, name: live.update(number, total, name))

    if sys.stderr.isatty():
        out.note("training, killing and resuming; this takes up to a minute")
    with out.progress("resume", "cases") as live:
        return guarded("resume", look)


def _row(finding: "Finding") -> list[str]:
    """A finding in one line for programs."""
    return [printable(" ".join(text.split())) for text in (finding.name, finding.state, finding.found, finding.advice)]


def _listing(findings: "list[Finding]") -> str:
    """The findings for people: what to do stands below what was found."""
    rows = []
    for name, state, found, advice in map(_row, findings):
        rows.append((f"{state:9}{name}", found))
        if advice:
            rows.append(("", f"-> {advice}"))
    text = aligned(rows)
    if os.environ.get("NO_COLOR"):
        return text
    return re.sub(
        rf"^({'|'.join(COLOURS)})",
        lambda state: f"\x1b[{COLOURS[state[0]]}m{state[0]}\x1b[0m",
        text,
        flags=re.MULTILINE,
    )
