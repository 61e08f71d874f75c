"""Options that several commands share, their settings from files, and the examples that end each help page."""

import secrets
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ddpm_cli import paths
from ddpm_cli.config import Device as DeviceName
from ddpm_cli.config import Kind as KindName
from ddpm_cli.config import Precision as PrecisionName
from ddpm_cli.errors import DataError, UsageError, unknown_name


def _examples(*lines: str) -> str:
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


EXAMPLES = {
    "ddpm": _examples(
        "ddpm sample -n 64 -o grid.png",
        "ddpm train --dataset mnist --minutes 10",
        "ddpm schedule plot --kind cosine",
    ),
    "train": _examples(
        "ddpm train --dataset mnist --epochs 50 --dry-run",
        "ddpm train --dataset ./photos --image-size 32 --minutes 30",
        "ddpm train --resume latest --epochs 60",
        'run=$(ddpm train --dataset mnist --minutes 3 --seed 0) && ddpm sample --model "$run"',
    ),
    "sample": _examples(
        "ddpm sample -n 64 -o grid.png",
        "ddpm sample --label 7 -n 16 --guidance 2 -o sevens.png",
        "ddpm sample --sampler ddpm --trajectory walk.png --animate walk.gif",
        "ddpm sample -n 1000 --seed 0 -o samples.npz",
    ),
    "schedule list": _examples("ddpm schedule list"),
    "schedule show": _examples(
        "ddpm schedule show --kind linear --timesteps 100",
        "ddpm schedule show --kind cosine --json",
        "ddpm schedule show --from-file betas.csv -o table.csv",
    ),
    "schedule plot": _examples(
        "ddpm schedule plot --kind cosine",
        "ddpm schedule plot --kind linear --beta-end 0.03 -o linear.svg",
    ),
}


# --- settings from files --------------------------------------------------------------------------------------------


def read_settings(context: typer.Context) -> None:
    """Put DDPM_HOME/config.toml beneath flags and environment, for the command about to run."""
    if paths.config_file().is_file():
        context.default_map = _settings(context.command, paths.config_file())


def _read_config(context: Any, path: Path | None) -> None:
    """Put a file named by --config above config.toml."""
    if path is None:
        return
    above: Any = _settings(context.find_root().command, path)
    for name in context.command_path.split()[1:]:
        above = above.get(name, {})
    below = context.default_map or {}
    if BUDGET & above.keys():  # one budget takes the place of another
        below = {name: value for name, value in below.items() if name not in BUDGET}
    context.default_map = {**below, **above}


BUDGET = {"epochs", "steps", "minutes"}
NOT_SETTINGS = {"config", "_", "help", "install_completion", "show_completion"}


def _settings(command: Any, path: Path) -> dict[str, Any]:
    """The settings in a file, by command and by the Python names of the options."""
    try:
        return _checked(command, tomllib.loads(path.read_text(encoding="utf-8")), path)
    except FileNotFoundError as error:
        raise DataError(f"there is no settings file {path}", "Leave out --config, or write one.") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(
            f"cannot read the settings in {path} ({error})", "A table a command: [train], then lr = 0.001."
        ) from error


def _checked(command: Any, settings: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The settings with option names as Python names; refuses commands, options and types that do not exist."""
    commands = getattr(command, "commands", {})
    options = {
        word.removeprefix("--"): option
        for option in command.params
        for word in option.opts
        if word.startswith("--") and option.name not in NOT_SETTINGS
    }
    checked: dict[str, Any] = {}
    for key, value in settings.items():
        word = key.replace("_", "-")
        if key in commands and isinstance(value, Mapping):
            checked[key] = _checked(commands[key], value, path)
        elif word not in options or isinstance(value, Mapping):
            raise unknown_name(f"setting in {path}", key, {*commands, *options})
        elif isinstance(value, bool) and not options[word].is_flag:
            raise UsageError(
                f"{key} in {path} is {str(value).lower()}, expected a value", "Only switches are true or false."
            )
        else:
            checked[options[word].name] = value
    return checked


Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        is_eager=True,
        callback=_read_config,
        metavar="FILE",
        help="Settings in TOML, a table a command.  [default: none]",
    ),
]

# --- shared options -------------------------------------------------------------------------------------------------

Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, notes or hints; errors remain.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Tell more.")]
Device = Annotated[
    DeviceName,
    typer.Option(envvar="DDPM_DEVICE", help="Where to compute; auto: the first CUDA device, then MPS, then the CPU."),
]
Precision = Annotated[
    PrecisionName,
    typer.Option(help="What the network computes in; auto: bf16 where the hardware is fast in it, else float32."),
]
Seed = Annotated[
    int | None, typer.Option(min=0, max=2**63 - 1, metavar="N", help="Of everything drawn.  [default: random, printed]")
]
Kind = Annotated[KindName, typer.Option(help="Noise schedule.")]
Timesteps = Annotated[int, typer.Option(min=1, metavar="T", help="Number of noising steps.")]
BetaStart = Annotated[
    float | None,
    typer.Option(
        metavar="X", help="First beta, inside (0, 1); of constant, every beta.  [default: the kind's own, times 1000/T]"
    ),
]
BetaEnd = Annotated[
    float | None, typer.Option(metavar="X", help="Last beta, inside (0, 1).  [default: the kind's own, times 1000/T]")
]


def chosen_seed(seed: int | None) -> int:
    """The seed asked for, or a random one, short enough to type again."""
    return secrets.randbelow(2**32) if seed is None else seed


def one_of(context: typer.Context, **values: object) -> dict[str, Any]:
    """Of options that exclude each other, those given nearest to the user: flags before settings.

    Raises:
        UsageError: two of them at once.
    """
    given = {name: value for name, value in values.items() if value is not None}
    typed = {name: value for name, value in given.items() if is_typed(context, name)}
    chosen = typed or given
    if len(chosen) > 1:
        names = " and ".join(f"--{name}" for name in chosen)
        raise UsageError(f"{names} contradict each other", "Give one of them.")
    return chosen


def is_typed(context: typer.Context, name: str) -> bool:
    """Whether an option stands on the command line itself."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
