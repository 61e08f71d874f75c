"""Start-up and help: instant, complete, and with examples that hold."""

import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from ddpm_cli import __version__
from pages import commands_in

COMMANDS = ["", "train", "sample", "noise", "eval", "doctor"]
COMMANDS += ["schedule", "schedule list", "schedule show", "schedule plot", "schedule compare"]
COMMANDS += ["models", "models list", "models show", "models path", "models rm"]
COMMANDS += ["data", "data list", "data fetch", "data path", "data rm"]
HEAVY = ("torch", "torchvision", "matplotlib", "scipy", "skimage", "diffusers")
PROBE = """
import json, sys
from ddpm_cli.cli import main
code = main(json.loads(sys.argv[1]))
print(json.dumps([code, sorted(sys.modules)]), file=sys.stderr)
"""


def loaded_by(*arguments: str) -> set[str]:
    """The modules that a command loaded, in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps(arguments)], capture_output=True, text=True, timeout=60, check=True
    )
    code, modules = json.loads(done.stderr.splitlines()[-1])
    assert code == 0
    assert done.stdout
    return set(modules)


@pytest.mark.parametrize(
    "line", ["", "--version", "--help", "train --help", "sample --help", "schedule --help", "schedule plot --help"]
)
def test_help_loads_neither_torch_nor_numpy_nor_matplotlib(line: str) -> None:
    assert not loaded_by(*line.split()) & {*HEAVY, "numpy", "PIL", "rich.console", "plotext"}


@pytest.mark.parametrize("line", ["list", "list --json", "show --json", "show", "show -o table.csv", "plot"])
def test_schedule_loads_neither_torch_nor_matplotlib(line: str) -> None:
    assert not loaded_by("schedule", *line.split()) & set(HEAVY)


def test_a_picture_of_a_schedule_loads_no_torch_and_no_pyplot() -> None:
    assert not loaded_by("schedule", "plot", "-o", "plot.png") & {"torch", "matplotlib.pyplot"}


def test_ddpm_alone_prints_help(ddpm: Any) -> None:
    alone, asked, short = ddpm().done(), ddpm("--help").done(), ddpm("-h").done()
    assert alone.out == asked.out == short.out
    assert alone.out.startswith("Usage: ddpm ")
    assert alone.err == ""
    for command in ("train", "sample", "noise", "eval", "schedule", "models", "data", "doctor"):
        assert f"\n  {command} " in alone.out


def test_the_version_is_that_of_the_package(ddpm: Any) -> None:
    result = ddpm("--version").done()
    assert result.out == f"ddpm {__version__}\n"
    assert importlib.metadata.version("ddpm-cli") == __version__


def test_the_scripts_ddpm_and_ddpm_cli_are_the_same() -> None:
    scripts = importlib.metadata.entry_points(group="console_scripts")
    targets = {script.name: script.value for script in scripts if script.name in ("ddpm", "ddpm-cli")}
    assert targets == {"ddpm": "ddpm_cli.cli:entry", "ddpm-cli": "ddpm_cli.cli:entry"}


def test_the_module_runs_as_the_script_does(process: Any) -> None:
    result = process("--version").done()
    assert result.out == f"ddpm {__version__}\n"


# --- help pages -----------------------------------------------------------------------------------------------------


def examples(text: str) -> list[str]:
    return [line.strip() for line in text.rpartition("Examples:")[2].splitlines() if line.strip()]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_page_ends_with_examples(ddpm: Any, command: str) -> None:
    lines = examples(ddpm(*command.split(), "--help").done().out)
    assert lines
    assert all(f"ddpm {command}".strip() in line for line in lines)


@pytest.mark.parametrize("command", COMMANDS)
def test_examples_name_commands_and_options_that_exist(ddpm: Any, command: str) -> None:
    for line in examples(ddpm(*command.split(), "--help").done().out):
        for words in commands_in(line):
            path = [word for word in words[:2] if f"{' '.join(words[: words.index(word) + 1])}" in COMMANDS]
            page = ddpm(*path, "--help").done().out
            assert path
            for option in (word for word in words if word.startswith("-") and word != "-"):
                assert re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", page), f"{option} in: {line}"


def _options() -> list[Any]:
    found = []

    def walk(command: Any, path: str) -> None:
        context = command.context_class(command, info_name=path)
        found.extend(
            pytest.param(option, context, id=f"{path} {option.opts[-1]}")
            for option in command.get_params(context)
            if option.param_type_name == "option"
        )
        for name, below in getattr(command, "commands", {}).items():
            walk(below, f"{path} {name}")

    from ddpm_cli.cli import app

    walk(typer.main.get_command(app), "ddpm")
    return found


@pytest.mark.parametrize(("option", "context"), _options())
def test_every_option_has_help_and_states_its_default_or_is_a_flag(option: Any, context: Any) -> None:
    _, text = option.get_help_record(context)
    assert re.match(r"[A-Z]\w*|s of ", text), "begins like a sentence"
    assert option.is_flag or "default" in text or "required" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_80_columns(ddpm: Any, command: str) -> None:
    text = ddpm(*command.split(), "--help").done().out
    wide = [line for line in text.splitlines() if len(line) > 80 and "|" not in line and "ddpm " not in line]
    assert wide == []


def test_help_names_no_folder_of_this_machine(ddpm: Any, tmp_path: Path) -> None:
    for command in COMMANDS:
        assert str(tmp_path) not in ddpm(*command.split(), "--help").done().out
