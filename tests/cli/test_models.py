"""``ddpm models``: what is there, what is known of it, where it is, and being rid of it."""

import json
import os
import re
import select
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ddpm_cli import paths
from ddpm_cli.checkpoint import read_info

HEAVY = {"torch", "numpy", "matplotlib", "PIL", "skimage"}
PROBE = """
import json, sys
from ddpm_cli.cli import main
code = main(json.loads(sys.argv[1]))
print(json.dumps([code, sorted(sys.modules)]), file=sys.stderr)
"""
SHIPPED = paths.shipped() / "weights" / "mnist.safetensors"


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Lets the next command believe that its stdout is a terminal of so many columns."""

    def pretend(columns: int) -> None:
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)

    return pretend


def listed(ddpm: Any) -> dict[str, Any]:
    return {about["name"]: about for about in ddpm("models", "list", "--json").done().json["models"]}


# --- list -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", ["list", "list --json", "show", "show mnist --json", "path"])
def test_it_goes_without_torch_and_numpy(line: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps(["models", *line.split()])], capture_output=True, text=True, check=True
    )
    code, modules = json.loads(done.stderr.splitlines()[-1])
    assert code == 0
    assert done.stdout
    assert not HEAVY & set(modules)


def test_the_list_has_what_ships_with_the_package(ddpm: Any) -> None:
    about = listed(ddpm)["mnist"]
    record = json.loads(SHIPPED.with_suffix(".json").read_text())
    assert about["origin"] == "shipped"
    assert about["path"] == str(SHIPPED)
    assert about["id"] == record["id"]
    assert about["dataset"] == "mnist"
    assert about["parameters"] == record["parameters"]
    assert about["flops"] == record["flops_per_image"]
    assert about["size"] == SHIPPED.stat().st_size
    assert about["finished"] is True
    assert about["default"] is True
    assert about["problem"] is None
    assert about["changed"].startswith(record["date"])


def test_saved_models_come_before_runs_before_shipped_ones(
    ddpm: Any, home: Path, save_model: Any, trained: Path
) -> None:
    save_model(home / "models" / "zebra.safetensors", training={"step": 2, "steps": 9})
    models = ddpm("models", "list", "--json").done().json["models"]
    assert [about["name"] for about in models][:3] == ["zebra", "trained", "mnist"]
    zebra, run = models[:2]
    assert (zebra["origin"], zebra["step"], zebra["steps"], zebra["finished"]) == ("saved", 2, 9, False)
    assert (run["origin"], run["step"], run["steps"], run["finished"]) == ("run", 3, 3, True)
    assert run["size"] == sum(file.stat().st_size for file in trained.rglob("*") if file.is_file())
    assert [about["name"] for about in models if about["default"]] == ["trained"]


def test_off_a_terminal_the_list_is_a_table_of_tabs(ddpm: Any, model: Path) -> None:
    head, *rows = (line.split("\t") for line in ddpm("models", "list").done().out.splitlines())
    (tiny, *_) = (dict(zip(head, row, strict=True)) for row in rows)
    assert tiny["name"] == "tiny"
    assert tiny["path"] == str(model)
    assert tiny["id"] == read_info(model).id
    assert tiny["size"] == str(model.stat().st_size)
    assert (tiny["step"], tiny["finished"], tiny["default"], tiny["problem"]) == ("3", "yes", "*", "")


@pytest.mark.parametrize("columns", [40, 60, 80, 100, 120, 160, 200])
def test_on_a_terminal_rows_fit_and_no_name_is_broken(
    ddpm: Any, home: Path, save_model: Any, terminal: Any, columns: int
) -> None:
    name = "mnist-small-20260101-120000-ab12"
    model_id = save_model(home / "models" / f"{name}.safetensors", training={"step": 1200, "steps": 6440})
    evaluation = home / "cache" / "evaluations" / f"{model_id}.json"
    evaluation.parent.mkdir(parents=True)
    evaluation.write_text('{"metrics": {"ssim": {"mean": 0.2123}, "labels": {"accuracy": 0.9789}}, "protocol": {}}')
    terminal(columns)
    shown = re.sub(r"\x1b\[[0-9;]*m", "", ddpm("models", "list").done().out)  # Rich's bold
    assert all(len(line.rstrip()) <= columns for line in shown.splitlines())
    (row,) = (line for line in shown.splitlines() if name in line)
    words = {60: ["1,200/6,440"], 80: ["ssim 0.212, labels 0.979"], 200: [model_id[:12], "photos", "saved"]}
    for least, expected in words.items():
        assert columns < least or all(word in row for word in expected)
    (star,) = (line for line in shown.splitlines() if line.lstrip().startswith("*"))
    assert " mnist" in star


def test_a_file_that_is_damaged_is_listed_with_what_is_wrong(ddpm: Any, home: Path, terminal: Any) -> None:
    path = home / "runs" / "broken" / "model.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(SHIPPED.read_bytes()[:5000])
    about = listed(ddpm)["broken"]
    assert "not a whole model file" in about["problem"]
    assert (about["id"], about["parameters"], about["finished"], about["size"]) == (None, None, None, 5000)
    result = ddpm("models", "list").done()
    assert "not a whole model file" in result.out
    assert f"broken: {path} is not a whole model file" in result.err
    terminal(120)
    result = ddpm("models", "list").done()
    assert any("broken" in line and "damaged" in line for line in result.out.splitlines())
    assert "not a whole model file" in result.err


def test_what_a_file_says_stays_in_its_line_and_does_nothing_to_the_terminal(
    ddpm: Any, home: Path, save_model: Any, terminal: Any
) -> None:
    evil = {"name": "a\tb\nc\x1b[31m[/red][bold]", "images": 1, "mean": 0.0, "std": 1.0}
    save_model(home / "models" / "evil.safetensors", data=evil, training={"step": "x", "steps": [], "recipe": 3})
    for arguments in (["list"], ["show", "evil"]):
        result = ddpm("models", *arguments).done()
        assert "\x1b" not in result.out + result.err
        assert "[/red][bold]" in result.out
        assert len({line.count("\t") for line in result.out.splitlines()}) == 1
    terminal(200)
    for arguments in (["list"], ["show", "evil"]):
        result = ddpm("models", *arguments).done()
        assert "\x1b[31m" not in result.out
        assert "[/red][bold]" in result.out


def test_the_star_is_on_the_model_that_sample_would_take(
    ddpm: Any, home: Path, save_model: Any, monkeypatch: pytest.MonkeyPatch, cwd: Path
) -> None:
    def starred() -> list[str]:
        return [name for name, about in listed(ddpm).items() if about["default"]]

    for name in ("one", "two"):
        save_model(home / "models" / f"{name}.safetensors")
    assert starred() == ["mnist"]
    (home / "config.toml").write_text('[sample]\nmodel = "one"\n')
    assert starred() == ["one"]
    monkeypatch.setenv("DDPM_MODEL", "two")
    assert starred() == ["two"]
    monkeypatch.setenv("DDPM_MODEL", str(home / "models" / "one.safetensors"))
    assert starred() == ["one"]
    monkeypatch.setenv("DDPM_MODEL", "nobody")
    result = ddpm("models", "list").done()
    assert "no model called 'nobody'" in result.err
    assert starred() == []
    save_model(cwd / "elsewhere.safetensors")
    monkeypatch.setenv("DDPM_MODEL", "elsewhere.safetensors")
    assert starred() == []


# --- show -----------------------------------------------------------------------------------------------------------


def test_show_tells_what_is_documented(ddpm: Any, model: Path) -> None:
    document = ddpm("models", "show", "tiny", "--json").done().json
    info = read_info(model)
    assert (document["id"], document["parameters"], document["flops"]) == (info.id, info.parameters, info.flops)
    assert document["id"] == info.id
    assert document["path"] == str(model)
    assert document["network"]["kind"] == "unet"
    assert document["schedule"]["timesteps"] == 1000
    assert document["target"] == "v"
    assert document["classes"] == ["circle", "cross"]
    assert document["weights"] == ["ema", "raw"]
    assert document["training"] == {"step": 3, "steps": 3}
    assert document["sampler"]["name"] == "dpm++2m-sde"
    assert document["record"] == {}


def test_show_of_the_shipped_model_has_its_record(ddpm: Any) -> None:
    document = ddpm("models", "show", "mnist", "--json").done().json
    record = json.loads(SHIPPED.with_suffix(".json").read_text())
    assert document["record"] == record
    text = ddpm("models", "show", "mnist").done().out
    for word in (record["date"], record["machine"], record["versions"]["torch"]):
        assert word in text


def test_off_a_terminal_show_is_exact_and_a_line_a_value(ddpm: Any, model: Path) -> None:
    result = ddpm("models", "show", "tiny").done()
    values = dict(line.split("\t") for line in result.out.splitlines())
    info = read_info(model)
    assert values["id"] == info.id
    assert values["parameters"] == str(info.parameters)
    assert values["flops"] == str(info.flops)
    assert values["classes"] == "2: circle, cross"
    assert values["schedule"] == "cosine, timesteps 1000"
    assert values["sampler"] == "dpm++2m-sde, steps 20, spacing karras"
    assert values["training"] == "3 of 3 steps"
    assert values["file"] == str(model)
    assert f"model tiny (saved, {info.id[:12]})" in result.err


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_on_a_terminal_show_is_aligned(ddpm: Any, trained: Path, terminal: Any, columns: int) -> None:
    terminal(columns)
    shown = ddpm("models", "show", trained).done().out
    path = str(trained / "model.safetensors")
    assert path in shown  # in one piece
    for line in shown.splitlines():
        assert len(line) <= columns or line.endswith(path)
        assert line[:12] == " " * 12 or line[10:12] == "  "
        assert line[12] != " "
    assert read_info(trained / "model.safetensors").id[:12] in shown
    assert "learned variance no" in shown or "time log-snr" in shown


def test_an_unfinished_run_is_called_so(ddpm: Any, home: Path, save_model: Any) -> None:
    save_model(home / "models" / "half.safetensors", training={"step": 1200, "steps": 6440, "loss": 0.123456})
    assert "1200 of 6440 steps, not finished, training loss 0.1235" in ddpm("models", "show", "half").done().out


@pytest.mark.parametrize("command", ["show", "path"])
def test_without_a_name_it_is_the_model_that_sample_would_take(
    ddpm: Any, home: Path, save_model: Any, trained: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    assert ddpm("models", command, "--json").done().json["path"] == str(trained / "model.safetensors")
    save_model(home / "models" / "one.safetensors")
    monkeypatch.setenv("DDPM_MODEL", "one")
    assert ddpm("models", command, "--json").done().json["path"] == str(home / "models" / "one.safetensors")
    assert ddpm("models", command, "mnist", "--json").done().json["path"] == str(SHIPPED)


@pytest.mark.parametrize("command", ["show", "path"])
def test_a_model_that_is_not_there_is_4(ddpm: Any, command: str) -> None:
    ddpm("models", command, "nobody").refused(4, "nobody", "mnist")
    ddpm("models", command, "./nobody").refused(4, "there is no model")
    ddpm("models", command, "./nobody", "--json").refused(4)


def test_show_of_a_damaged_file_is_4_and_its_path_is_told(ddpm: Any, home: Path) -> None:
    path = home / "models" / "bad.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no model")
    ddpm("models", "show", "bad").refused(4, "bad.safetensors")
    assert ddpm("models", "path", "bad").done().out == f"{path}\n"


# --- path -----------------------------------------------------------------------------------------------------------


def test_path_prints_the_path_and_nothing_else(ddpm: Any, trained: Path, cwd: Path) -> None:
    assert ddpm("models", "path", "mnist").done().out == f"{SHIPPED}\n"
    assert ddpm("models", "path", "trained", "--quiet").done().err == ""
    shutil.copytree(trained, cwd / "here")
    assert ddpm("models", "path", "./here").done().out == f"{cwd / 'here' / 'model.safetensors'}\n"
    document = ddpm("models", "path", "trained", "--json").done().json
    assert (document["path"], document["origin"]) == (str(trained / "model.safetensors"), "run")


# --- rm -------------------------------------------------------------------------------------------------------------


def test_rm_removes_models_and_whole_runs_and_says_how_much(ddpm: Any, model: Path, trained: Path) -> None:
    size = model.stat().st_size + sum(file.stat().st_size for file in trained.rglob("*") if file.is_file())
    result = ddpm("models", "rm", "tiny", "trained", "--yes").done()
    assert result.out == f"{model}\n{trained}\n"
    assert f"{size / 1000:.0f} kB freed" in result.err or f"{size / 1e6:.1f} MB freed" in result.err
    assert not model.exists()
    assert not trained.exists()


def test_rm_and_train_clear_what_an_interrupted_rm_left(
    ddpm: Any, home: Path, trained: Path, quick: tuple[str, ...]
) -> None:
    left = home / "runs" / ".0123456789abcdef.removed"
    for words in ((*quick, "--steps", 1), ("models", "rm", "trained", "--yes")):
        shutil.copytree(trained, left)
        assert left.name not in ddpm("models", "list").done().out
        ddpm(*words).done()
        assert not left.exists()


def test_rm_as_json(ddpm: Any, model: Path) -> None:
    size = model.stat().st_size
    document = ddpm("models", "rm", "tiny", "tiny", str(model), "-y", "--json").done().json
    assert (document["removed"], document["bytes"]) == ([str(model)], size)


def test_one_name_that_is_wrong_and_nothing_is_removed(ddpm: Any, model: Path, trained: Path, cwd: Path) -> None:
    shutil.copytree(trained, cwd / "mine")
    ddpm("models", "rm", "tiny", "nobody", "--yes").refused(4, "nobody")
    ddpm("models", "rm", "tiny", "mnist", "--yes").refused(2, "ships with ddpm")
    ddpm("models", "rm", "tiny", "./mine", "--yes").refused(2, str(cwd / "mine"))
    ddpm("models", "rm", "tiny", "../models", "--yes").refused(4)
    ddpm("models", "rm").refused(2, "MODEL")
    assert model.exists()
    assert trained.exists()
    assert (cwd / "mine" / "model.safetensors").exists()
    assert SHIPPED.exists()


def test_rm_without_a_terminal_wants_yes(ddpm: Any, model: Path) -> None:
    ddpm("models", "rm", "tiny").refused(2, "terminal", "--yes")
    ddpm("models", "rm", "tiny", "--json").refused(2, "--yes")
    assert model.exists()


@pytest.mark.skipif(os.name == "nt", reason="no pseudo-terminals")
@pytest.mark.parametrize(("answer", "stays"), [("y", False), ("", True), ("no", True)])
def test_rm_asks_on_a_terminal(command: list[str], trained: Path, answer: str, stays: bool) -> None:
    master, slave = os.openpty()
    with subprocess.Popen(
        [*command, "models", "rm", "trained", "--json"], stdin=slave, stderr=slave, stdout=subprocess.PIPE
    ) as child:
        os.close(slave)
        said = b""
        while b"[y/N]" not in said and select.select([master], [], [], 60)[0]:
            said += os.read(master, 4096)
        os.write(master, answer.encode() + b"\n")
        out = child.communicate(timeout=30)[0]
    os.close(master)
    assert child.returncode == 0
    question = said.decode().replace("\r\n", "")
    assert f"Remove the run {trained} (" in question
    assert "last saved" in question
    assert json.loads(out)["removed"] == ([] if stays else [str(trained)])
    assert trained.exists() == stays


def test_of_a_run_that_is_a_link_only_the_link_goes(ddpm: Any, trained: Path, home: Path, tmp_path: Path) -> None:
    shutil.move(trained, tmp_path / "far")
    (home / "runs" / "near").symlink_to(tmp_path / "far")
    document = ddpm("models", "rm", "near", "--yes", "--json").done().json
    assert document["bytes"] == 0
    assert not (home / "runs" / "near").is_symlink()
    assert (tmp_path / "far" / "model.safetensors").exists()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may remove everything")
def test_rm_without_permission_is_6(ddpm: Any, model: Path) -> None:
    model.parent.chmod(0o500)
    try:
        ddpm("models", "rm", "tiny", "--yes").refused(6, "cannot remove", str(model))
    finally:
        model.parent.chmod(0o700)


def test_the_group_alone_prints_help(ddpm: Any) -> None:
    result = ddpm("models").done()
    assert result.out.startswith("Usage: ddpm models ")
    for command in ("list", "show", "path", "rm"):
        assert f"\n  {command} " in result.out


@pytest.mark.parametrize("command", ["", "list", "show", "path", "rm"])
def test_help_ends_with_examples_and_fits_80_columns(ddpm: Any, command: str) -> None:
    text = ddpm("models", *command.split(), "--help").done().out
    examples = text.rpartition("Examples:")[2].split("\n")[1:]
    assert any(line.strip().startswith(f"ddpm models {command}".strip()) for line in examples)
    assert max(map(len, text.splitlines())) <= 80


def test_a_command_that_is_not_there_is_2(ddpm: Any) -> None:
    ddpm("models", "remove", "mnist").refused(2, "remove", "ddpm models --help")
