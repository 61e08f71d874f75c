"""Shell completion of names: models, runs, presets, data sets, schedules and metrics; without torch.

Options with a fixed choice are completed by Typer itself. Invariant: completion prints names that no shell needs to
quote, and it never fails; where nothing fits, the shell completes names of files.
"""

import re
from collections.abc import Callable, Iterable
from typing import Annotated, Literal

import typer
from typer.completion import completion_init, get_completion_script, install  # type: ignore[attr-defined]  # its own

from ddpm_cli.config import PRESETS, RECIPES, SCHEDULES
from ddpm_cli.errors import DdpmError, UsageError
from ddpm_cli.measures import METRICS

Complete = Callable[[str], list[str]]
PLAIN = re.compile(r"[\w.+-]+")

Shell = Literal["auto", "bash", "zsh", "fish", "powershell", "pwsh"]


def _completing(names: Callable[[], Iterable[str]], several: bool = False) -> Complete:
    """A completion of names, or of several names with commas between them.

    Args:
        names: returns all of them.
        several: whether commas separate names.
    """

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",") if several else ("", "", incomplete)
        taken = before.split(",")
        try:
            found = [name for name in dict.fromkeys(names()) if PLAIN.fullmatch(name) and name not in taken]
        except (DdpmError, OSError):
            return []
        return [f"{before}{comma}{name}" for name in found if name.startswith(last)]

    return complete


def _models() -> Iterable[str]:
    from ddpm_cli import library

    return (found.name for found in library.known())


def _removable() -> Iterable[str]:
    from ddpm_cli import library

    yield from (found.name for found in library.known() if found.origin == "saved")
    yield from _run_names()


def _runs() -> Iterable[str]:
    from ddpm_cli import library

    yield library.LATEST
    yield from _run_names()


def _run_names() -> Iterable[str]:
    from ddpm_cli import paths

    return (path.parent.name for path in sorted(paths.runs().glob("*/config.json")))


def _data_sets() -> Iterable[str]:
    from ddpm_cli.data import KNOWN

    return KNOWN


models = _completing(_models)
removable_models = _completing(_removable)
runs = _completing(_runs)
data_sets = _completing(_data_sets)
presets = _completing(lambda: PRESETS)
recipes = _completing(lambda: RECIPES)
schedules = _completing(lambda: SCHEDULES, several=True)
metrics = _completing(lambda: ("all", *METRICS), several=True)

# --- the scripts ----------------------------------------------------------------------------------------------------

completion_init()
SCRIPTS = ("--install-completion", "--show-completion")


def with_shell(arguments: list[str]) -> list[str]:
    """Arguments in which an option of SCRIPTS without a shell names "auto"."""
    last = len(arguments) - 1
    return [
        f"{word}=auto" if word in SCRIPTS and (k == last or arguments[k + 1].startswith("-")) else word
        for k, word in enumerate(arguments)
    ]


def _shell(chosen: str, option: str) -> str:
    if chosen != "auto":
        return chosen
    import shellingham

    try:
        found = shellingham.detect_shell()[0]
    except (shellingham.ShellDetectionFailure, OSError):
        found = ""
    if found not in Shell.__args__:  # type: ignore[attr-defined]
        raise UsageError("the current shell is not recognized", f"Name it: {option} zsh")
    return str(found)


def _install(context: typer.Context, shell: str | None) -> None:
    if shell and not context.resilient_parsing:
        _, path = install(_shell(shell, SCRIPTS[0]), "ddpm", VARIABLE)
        typer.echo(path)
        typer.echo("Completion works in terminals opened from now on.", err=True)
        raise typer.Exit


def _show(context: typer.Context, shell: str | None) -> None:
    if shell and not context.resilient_parsing:
        wanted = {"prog_name": "ddpm", "complete_var": VARIABLE, "shell": _shell(shell, SCRIPTS[1])}
        typer.echo(get_completion_script(**wanted))
        raise typer.Exit


VARIABLE = "_DDPM_COMPLETE"  # where shells put what they want completed; read by Typer
Install = Annotated[
    Shell | None,
    typer.Option(
        SCRIPTS[0],
        callback=_install,
        metavar="[SHELL]",
        help="Install completion for bash, zsh, fish, powershell or pwsh, and exit.  [default: the current shell]",
    ),
]
Show = Annotated[
    Shell | None,
    typer.Option(
        SCRIPTS[1],
        callback=_show,
        metavar="[SHELL]",
        help="Print the completion script of a shell, and exit.  [default: the current shell]",
    ),
]
