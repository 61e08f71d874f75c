"""Settings from files: which values they hold, and which of them an error is about.

Invariant: a setting is called KEY in FILE in every message. Flags come before the environment, then a file named by
--config, then DDPM_HOME/config.toml.
"""

import difflib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from ddpm_cli import documents, paths
from ddpm_cli.errors import DataError, DdpmError, ResourceError, UsageError
from ddpm_cli.ranges import shown

BUDGET = {"epochs", "steps", "minutes"}
LARGEST = 2**16  # bytes of settings
PARTS = 100  # of a key; the time that tomllib takes grows with their square
NOT_SETTINGS = {"config", "_", "help", "install_completion", "show_completion"}
RUNNING = "ddpm_cli.running"  # in the context: that of the command that runs
LABELS = "ddpm_cli.labels"  # in the context: (command, parameter) -> KEY in FILE


def read_settings(context: typer.Context) -> None:
    """Put DDPM_HOME/config.toml beneath flags and environment, for the command about to run."""
    try:
        is_there = paths.config_file().is_file()
    except OSError as error:  # no permission, or a name that is too long
        raise ResourceError(
            f"cannot look into {paths.home()}: {error.strerror}", "Set DDPM_HOME to a folder of your own."
        ) from error
    if is_there:
        context.default_map = _settings(context, paths.config_file())


def read_config(context: Any, path: Path | None) -> None:
    """Put a file named by --config above config.toml."""
    context.meta[RUNNING] = context
    if path is None or context.resilient_parsing:
        return
    above: Any = _settings(context.find_root(), path)
    for name in context.command_path.split()[1:]:
        above = above.get(name, {})
    below = context.default_map or {}
    if BUDGET & above.keys():  # one budget takes the place of another
        below = {name: value for name, value in below.items() if name not in BUDGET}
    context.default_map = {**below, **above}


def _parsed(text: str) -> dict[str, Any]:
    """The values of a TOML document.

    Raises:
        ValueError: not TOML, or a key that would take minutes.
    """
    for number, line in enumerate(text.splitlines(), 1):
        if line.count(".") > PARTS and not line.lstrip().startswith("#"):
            raise ValueError(f"line {number} has a key of more than {PARTS} parts")
    return tomllib.loads(text)


def _settings(root: Any, path: Path) -> dict[str, Any]:
    """The settings in a file, by command and by the Python names of the options."""
    try:
        return _checked(root.command, _parsed(documents.text(path, LARGEST)), path, "ddpm", root.meta)
    except FileNotFoundError as error:
        raise DataError(f"there is no settings file {path}", "Leave out --config, or write one.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"cannot read the settings in {path} ({error})", "A table a command: [train], then lr = 0.001."
        ) from error


def _checked(
    command: Any, settings: Mapping[str, Any], path: Path, command_path: str, meta: dict[str, Any]
) -> dict[str, Any]:
    """The settings of a command with option names as Python names; refuses what is not an option or has a wrong type.

    Args:
        command: whose settings they are.
        settings: from the file.
        path: the file.
        command_path: what is typed to run the command.
        meta: of the context; takes the label of each setting.
    """
    commands = getattr(command, "commands", {})
    options = {
        word.removeprefix("--"): option
        for option in command.params
        for word in option.opts
        if word.startswith("--") and option.name not in NOT_SETTINGS
    }
    checked: dict[str, Any] = {}
    for key, value in settings.items():
        label = f"{key if key.isprintable() and len(key) < 80 else shown(key)} in {path}"
        word = key.replace("_", "-")
        if key in commands:
            if not isinstance(value, Mapping):
                raise UsageError(f"{label} is {_shown(value)}, expected a table", f"Write the settings below [{key}].")
            checked[key] = _checked(commands[key], value, path, f"{command_path} {key}", meta)
            continue
        if word not in options:
            known = sorted({*commands, *options})
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            guess = f"Did you mean {near[0]}? " if near else ""
            what = f"an option of {command_path}" if options else f"a command of {command_path}"
            raise UsageError(f"{label} is not {what}", f"{guess}Known: {', '.join(known)}.")
        option = options[word]
        if option.name in checked:
            raise UsageError(f"{label} is given twice, with - and with _", "Remove one of them.")
        _check_type(label, value, option)
        checked[option.name] = value
        meta.setdefault(LABELS, {})[command_path, option.name] = label
    return checked


def _check_type(label: str, value: object, option: Any) -> None:
    """Refuse a value of a type that no text on the command line could stand for."""
    several = option.multiple and isinstance(value, list)
    for each in value if several else [value]:  # type: ignore[attr-defined]  # which is a list
        if option.is_flag != isinstance(each, bool) or not isinstance(each, str | int | float) or each == "":
            expected = "true or false" if option.is_flag else "text" if option.multiple else "a number or text"
            raise UsageError(f"{label} is {_shown(value)}, expected {expected}", 'Text stands in quotes: key = "text".')


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return "a table"
    return shown(value) if isinstance(value, str | int | float | list) else str(value)  # a date


def label_of(context: Any, parameter: Any) -> str:
    """The label of a parameter's value if it comes from a settings file, else an empty string."""
    source = context.get_parameter_source(parameter.name)  # None: not parsed yet
    if parameter.name not in (context.default_map or {}) or (source is not None and source.name != "DEFAULT_MAP"):
        return ""
    label: str = context.meta.get(LABELS, {}).get((context.command_path, parameter.name), "")
    return label


class Commands(typer.core.TyperGroup):
    """The group of all commands, in which an error about a value from a settings file names the key and the file."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except DdpmError as error:
            _name_settings(error, ctx.meta.get(RUNNING))
            raise
        except typer.BadParameter as error:
            if error.ctx is not None and error.param is not None and (label := label_of(error.ctx, error.param)):
                raise UsageError(*_refusal(label, error)) from error
            raise


def _refusal(label: str, error: Any) -> tuple[str, str]:
    """Message and hint of a value in a settings file that an option does not accept."""
    message = str(error.message).removeprefix("Value error, ").rstrip(".")  # what pydantic puts before a choice
    found, is_choice, choices = message.partition(" is not one of ")
    if not is_choice:
        return f"{label} {message}", ""
    names = re.findall(r"'([^']+)'", choices)
    near = difflib.get_close_matches(found.strip("'"), names, n=1)
    return f"{label} is {found}, expected one of: {', '.join(names)}", f"Did you mean {near[0]}?" if near else ""


def _name_settings(error: DdpmError, context: Any) -> None:
    """Put KEY in FILE into the message of an error that names an option, or quotes a value, from a settings file."""
    if context is None:
        return
    message, texts = error.message, []
    for option in context.command.params:
        if not (label := label_of(context, option)):
            continue
        value = context.default_map[option.name]
        for word in option.opts:
            if word.startswith("--"):
                message = _replaced(f"{word} {value}", f"{label} ({value})", message)
                message = _replaced(word, label, message)
        if not isinstance(context.params.get(option.name), int | float):
            texts += [(label, str(each)) for each in (value if isinstance(value, list) else [value])]
    if message == error.message:
        found = dict.fromkeys(label for label, text in texts if _replaced(text, "", message) != message)
        message += f" ({', '.join(found)})" if found else ""
    error.message = message


def _replaced(old: str, new: str, text: str) -> str:
    """A text with another word or words in it."""
    return re.sub(rf"(?<![\w.-]){re.escape(old)}(?![\w.-])", new.replace("\\", r"\\"), text)
