"""Shells complete names of models, runs, presets, data sets, samplers, schedules and metrics, fast and safely."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ddpm_cli import config, paths
from ddpm_cli.cli._completion import with_shell


@pytest.fixture
def complete(monkeypatch: pytest.MonkeyPatch, ddpm: Any, capsys: pytest.CaptureFixture[str]) -> Any:
    """What bash is offered for the last word of a line."""

    def call(line: str) -> list[str]:
        monkeypatch.setenv("_DDPM_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(line.count(" ")))
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            ddpm()
        assert end.value.code == 0
        out, err = capsys.readouterr()
        assert err == ""
        return out.split()

    return call


@pytest.fixture
def names(model: Path, trained: Path, home: Path) -> None:
    """A saved model, two runs of which one has no model yet, and names that shells would have to quote."""
    assert trained.name == "trained"
    (home / "runs" / "begun").mkdir()
    (home / "runs" / "begun" / "config.json").write_text("{}", encoding="utf-8")
    for name in ("two words", "$(touch hacked)", "a'b", "a:b", "new\nline", "\x1b[31m"):
        shutil.copyfile(model, home / "models" / f"{name}.safetensors")


@pytest.mark.usefixtures("names")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ddpm sample --model ", {"tiny", "trained", "mnist"}),
        ("ddpm sample --model t", {"tiny", "trained"}),
        ("ddpm sample --model=t", {"tiny", "trained"}),
        ("ddpm sample --guide ti", {"tiny"}),
        ("ddpm eval mn", {"mnist"}),
        ("ddpm models show ti", {"tiny"}),
        ("ddpm models path ti", {"tiny"}),
        ("ddpm models rm ", {"tiny", "trained", "begun"}),
        ("ddpm edit vary --model ti", {"tiny"}),
        ("ddpm noise --model ti", {"tiny"}),
        ("ddpm train --resume ", {"latest", "trained", "begun"}),
        ("ddpm train --preset s", {"small"}),
        ("ddpm train --recipe r", {"report"}),
        ("ddpm train --dataset fash", {"fashion-mnist"}),
        ("ddpm noise --dataset fash", {"fashion-mnist"}),
        ("ddpm edit vary --dataset fash", {"fashion-mnist"}),
        ("ddpm eval --reference fash", {"fashion-mnist"}),
        ("ddpm data fetch cifar", {"cifar10", "cifar100"}),
        ("ddpm data path kmn", {"kmnist"}),
        ("ddpm data rm svhn emnist-b", {"emnist-byclass", "emnist-bymerge"}),
        ("ddpm sample --sampler ", set(config.SAMPLERS)),
        ("ddpm sample --sampler dpm++", {"dpm++2m", "dpm++2m-sde", "dpm++3m"}),
        ("ddpm schedule show --kind sc", {"scaled-linear"}),
        ("ddpm schedule compare sig", {"sigmoid"}),
        ("ddpm schedule compare --kind linear,sig", {"linear,sigmoid"}),
        ("ddpm eval --metrics ssim,ke", {"ssim,kernel"}),
        ("ddpm eval --metrics ssim,ss", set()),
        ("ddpm sample --model nothing-like-it", set()),
        ("ddpm sample --model ./", set()),
        ("ddpm --show-completion z", {"zsh"}),
        ("ddpm --version mod", {"models"}),
    ],
)
def test_names_are_completed(complete: Any, line: str, expected: set[str]) -> None:
    assert set(complete(line)) == expected


@pytest.mark.parametrize("shell", ["zsh", "fish"])
@pytest.mark.usefixtures("names")
def test_zsh_and_fish_are_offered_the_same(
    ddpm: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], shell: str
) -> None:
    monkeypatch.setenv("_DDPM_COMPLETE", f"complete_{shell}")
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", "ddpm sample --model t")
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    with pytest.raises(SystemExit):
        ddpm()
    out = capsys.readouterr().out
    offered = out.split("((")[1].split("))")[0] if shell == "zsh" else out
    assert {name.strip('"') for name in offered.split()} == {"tiny", "trained"}


def test_a_home_that_cannot_be_read_completes_nothing(complete: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> Path:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(paths, "models", refused)
    assert complete("ddpm sample --model ") == []


@pytest.mark.parametrize("line", ["ddpm sample --model ", "ddpm train --resume ", "ddpm train --dataset "])
def test_completion_imports_no_torch(home: Path, line: str) -> None:
    environment = {**os.environ, "_DDPM_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": "3"}
    environment["DDPM_HOME"] = str(home)
    code = (
        "import sys, atexit\n"
        "atexit.register(lambda: print(sorted({'torch', 'matplotlib', 'scipy'} & set(sys.modules))))\n"
        "from ddpm_cli.cli import main\nmain([])\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert out.splitlines()[-1] == "[]"
    assert len(out.splitlines()) > 1


# --- scripts --------------------------------------------------------------------------------------------------------

SCRIPTS = {"bash": "complete -o default -F", "zsh": "#compdef ddpm", "fish": "complete --command ddpm"}


@pytest.mark.parametrize("shell", SCRIPTS)
@pytest.mark.parametrize("form", ["{0} {1}", "{0}={1}"])
def test_the_script_of_the_named_shell_is_shown(ddpm: Any, shell: str, form: str) -> None:
    out = ddpm(*form.format("--show-completion", shell).split()).done().out
    assert SCRIPTS[shell] in out
    assert not any(line in out for other, line in SCRIPTS.items() if other != shell)
    assert f"_DDPM_COMPLETE=complete_{shell}" in out


def test_without_a_name_the_script_is_that_of_the_current_shell(ddpm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shellingham.detect_shell", lambda: ("fish", "/usr/bin/fish"))
    assert SCRIPTS["fish"] in ddpm("--show-completion").done().out
    monkeypatch.setattr("shellingham.detect_shell", lambda: ("nu", "/usr/bin/nu"))
    ddpm("--show-completion").refused(2, "shell", "--show-completion zsh")


def test_a_shell_that_is_not_known_is_2(ddpm: Any) -> None:
    ddpm("--show-completion", "tcsh").refused(2, "tcsh", "zsh")


@pytest.mark.parametrize(("shell", "place"), [("zsh", ".zfunc/_ddpm"), ("fish", ".config/fish/completions/ddpm.fish")])
def test_completion_is_installed_for_the_named_shell(
    ddpm: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: str, place: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert ddpm("--install-completion", shell).done().out == f"{tmp_path / place}\n"
    assert SCRIPTS[shell] in (tmp_path / place).read_text()


def test_only_a_missing_shell_is_filled_in() -> None:
    assert with_shell(["--show-completion"]) == ["--show-completion=auto"]
    assert with_shell(["--show-completion", "--help"]) == ["--show-completion=auto", "--help"]
    assert with_shell(["--show-completion", "zsh"]) == ["--show-completion", "zsh"]
    assert with_shell(["sample", "-n", "3"]) == ["sample", "-n", "3"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.usefixtures("model")
def test_bash_completes_with_the_script_that_is_shown(ddpm: Any, tmp_path: Path) -> None:
    script = ddpm("--show-completion", "bash").done().out
    (tmp_path / "ddpm").write_text(f'#!/bin/sh\nexec {sys.executable} -m ddpm_cli "$@"\n', encoding="utf-8")
    (tmp_path / "ddpm").chmod(0o755)
    typed = 'COMP_WORDS=(ddpm sample --model ti); COMP_CWORD=3; _ddpm_completion ddpm; printf "%s\\n" "${COMPREPLY[@]}"'
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    found = subprocess.run(
        ["bash", "--norc", "-c", script + typed], env=environment, capture_output=True, text=True, check=True
    )
    assert found.stdout == "tiny\n"
