"""``ddpm doctor``: what it prints, its exit code, and that it works where nothing else does."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ddpm_cli import diagnosis
from ddpm_cli.diagnosis import Finding

WELL = Finding("torch", "ok", "2.9.0, built for CUDA 12.8")
UNWELL = Finding("threads", "warning", "8 on 2 processors", "export OMP_NUM_THREADS=2")
ILL = Finding("torchvision", "problem", "does not belong to torch 2.9.0", "pip install torchvision")


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Lets the doctor find this."""

    def pretend(*findings: Finding) -> None:
        monkeypatch.setattr(diagnosis, "examine", lambda _: list(findings))

    return pretend


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings are looked at, and nothing that takes time."""
    settings = {"settings": diagnosis.CHECKS["settings"]}
    monkeypatch.setattr(diagnosis, "CHECKS", settings | {"torchvision": diagnosis.Check(list, "torch")})
    monkeypatch.setattr(diagnosis, "_guarded_start", lambda *_: None)


# --- output ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("findings", "code", "summary"),
    [
        ([WELL], 0, "all is well"),
        ([WELL, UNWELL], 0, "1 warning"),
        ([WELL, ILL], 6, "1 problem"),
        ([ILL, UNWELL, ILL], 6, "2 problems and 1 warning"),
    ],
)
def test_a_problem_is_6_and_a_warning_is_not(
    ddpm: Any, found: Any, findings: list[Finding], code: int, summary: str
) -> None:
    found(*findings)
    result = ddpm("doctor")
    assert result.code == code
    assert result.err == f"{summary}\n"
    assert ddpm("doctor", "--quiet").err == ""


def test_off_a_terminal_a_table_of_tabs(ddpm: Any, found: Any) -> None:
    found(WELL, ILL._replace(found="two\nlines\tand a tab"))
    assert [line.split("\t") for line in ddpm("doctor").out.splitlines()] == [
        ["name", "state", "found", "advice"],
        ["torch", "ok", "2.9.0, built for CUDA 12.8", ""],
        ["torchvision", "problem", "two lines and a tab", "pip install torchvision"],
    ]


def test_as_json_every_check_even_where_there_is_a_problem(ddpm: Any, found: Any) -> None:
    found(WELL, ILL)
    result = ddpm("doctor", "--json")
    assert result.code == 6
    assert result.out.count("\n") == 1
    assert result.json["checks"] == [
        {"name": "torch", "state": "ok", "found": "2.9.0, built for CUDA 12.8", "advice": ""},
        {
            "name": "torchvision",
            "state": "problem",
            "found": "does not belong to torch 2.9.0",
            "advice": "pip install torchvision",
        },
    ]


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_on_a_terminal_what_to_do_stands_below_what_was_found(
    ddpm: Any, found: Any, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    found(WELL, ILL._replace(found="many words " * 30))
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    coloured = ddpm("doctor").out
    assert "\x1b[32mok\x1b[0m" in coloured
    assert "\x1b[31mproblem\x1b[0m" in coloured
    monkeypatch.setenv("NO_COLOR", "1")
    lines = ddpm("doctor").out.splitlines()
    assert "\x1b" not in "".join(lines)
    assert max(map(len, lines)) <= columns
    margin = lines[0].index("2.9.0")
    assert lines[0].split()[:2] == ["ok", "torch"]
    assert lines[1].split()[:2] == ["problem", "torchvision"]
    assert all(line.startswith(" " * margin) and line[margin] != " " for line in lines[2:])
    assert lines[-1][margin:] == "-> pip install torchvision"


# --- settings that keep every other command from beginning ----------------------------------------------------------


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("text", ["[sample\n", "[sample]\nnumbr = 3\n", "[nonsense]\n"])
def test_settings_that_are_wrong_are_a_finding(ddpm: Any, home: Path, text: str) -> None:
    home.mkdir()
    (home / "config.toml").write_text(text)
    assert ddpm("models", "list").code in (2, 3)
    result = ddpm("doctor", "--json")
    assert result.code == 6
    (finding,) = result.json["checks"]
    assert (finding["name"], finding["state"]) == ("settings", "problem")
    assert str(home / "config.toml") in finding["found"] + finding["advice"]


@pytest.mark.usefixtures("settled")
def test_settings_that_are_right_are_no_finding(ddpm: Any, home: Path) -> None:
    home.mkdir()
    (home / "config.toml").write_text("[sample]\nnumber = 3\n")
    assert ddpm("doctor", "--json").done().json["checks"][0]["state"] == "ok"


# --- proving that runs resume ---------------------------------------------------------------------------------------

EQUAL = Finding("float32 AdamW", "ok", "sha256 0123456789ab… equal after a kill and going on from step 17 of 120")
UNEQUAL = Finding("bf16 AdamW", "problem", "sha256 0123456789ab…, expected ba9876543210…", "Please report it")


@pytest.fixture
def resumed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Lets the runs end like this; returns the devices asked for."""
    from ddpm_cli import rehearsal

    asked: list[str] = []

    def pretend(*findings: Finding) -> list[str]:
        def rehearse(device: str, begin: Any) -> Any:
            asked.append(device)
            for number, finding in enumerate(findings):
                begin(number, len(findings), finding.name)
                yield finding

        monkeypatch.setattr(rehearsal, "rehearse", rehearse)
        return asked

    return pretend


def test_verify_resume_prints_the_same_table_and_nothing_else_is_looked_at(ddpm: Any, resumed: Any, found: Any) -> None:
    found(ILL)
    assert resumed(EQUAL) == []
    result = ddpm("doctor", "--verify-resume").done()
    assert result.out == f"name\tstate\tfound\tadvice\nfloat32 AdamW\tok\t{EQUAL.found}\t\n"
    assert result.err == "all is well\n"
    assert ddpm("doctor", "--verify-resume", "--quiet").done().err == ""


def test_runs_that_do_not_end_alike_are_6(ddpm: Any, resumed: Any) -> None:
    resumed(EQUAL, UNEQUAL)
    result = ddpm("doctor", "--verify-resume", "--json")
    assert result.code == 6
    assert result.json["status"] == "done"
    assert result.json["checks"] == [EQUAL._asdict(), UNEQUAL._asdict()]
    assert ddpm("doctor", "--verify-resume").err == "1 problem\n"


def test_the_device_is_passed_on_and_belongs_to_it_alone(ddpm: Any, resumed: Any, found: Any, monkeypatch: Any) -> None:
    found(WELL)
    asked = resumed(EQUAL)
    ddpm("doctor", "--verify-resume", "--device", "cpu").done()
    monkeypatch.setenv("DDPM_DEVICE", "mps")
    ddpm("doctor", "--verify-resume").done()
    assert asked == ["cpu", "mps"]
    ddpm("doctor").done()
    ddpm("doctor", "--device", "cpu").refused(2, "--device belongs to --verify-resume", "ddpm doctor --verify-resume")


@pytest.mark.usefixtures("no_gpu")
def test_a_device_that_is_absent_is_a_problem(ddpm: Any) -> None:
    result = ddpm("doctor", "--verify-resume", "--device", "cuda", "--json")
    assert result.code == 6
    (check,) = result.json["checks"]
    assert (check["state"], check["found"]) == ("problem", "there is no cuda device here")
    assert "--device" in check["advice"]


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_verify_resume_itself(process: Any, tmp_path: Path, home: Path) -> None:
    """In a process of its own, which kills another; a machine that does much else may not come to the end in time."""
    (tmp_path / "temporary").mkdir()
    chosen = {**os.environ, "TMPDIR": str(tmp_path / "temporary")}
    result = process("doctor", "--verify-resume", "--json", "--device", "cpu", env=chosen, timeout=300)
    assert result.code == 0, result.out + result.err
    checks = result.json["checks"]
    assert len(checks) == 4
    assert all(check["state"] == "ok" or "not tried" in check["found"] for check in checks), checks
    assert not home.exists()
    assert not list((tmp_path / "temporary").glob("ddpm-*"))


# --- as a whole -----------------------------------------------------------------------------------------------------


MACHINE = {"device", "load", "memory", "disk", "threads"}  # what is no fault of the installation


def test_this_installation(process: Any, monkeypatch: pytest.MonkeyPatch, home: Path, tmp_path: Path) -> None:
    """In a process of its own, as users run it."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    result = process("doctor", "--json")
    checks = result.json["checks"]
    assert all(set(check) == {"name", "state", "found", "advice"} for check in checks)
    assert {check["name"] for check in checks} >= {"ddpm", "python", "environment", "home", "disk", "models"}
    for check in checks:  # a machine that does much else may not answer in time
        assert check["state"] == "ok" or check["name"] in MACHINE or "no answer" in check["found"], check
    written = {path.relative_to(tmp_path).parts[:2] for path in tmp_path.rglob("*") if path.is_file()}
    assert written <= {(home.name, "cache")}


@pytest.mark.skipif(os.name == "nt", reason="other ways to break a library")
def test_it_needs_none_of_the_libraries_it_looks_at(tmp_path: Path) -> None:
    """Where torch, numpy, matplotlib and Pillow end Python when they are imported, the doctor says so."""
    broken = tmp_path / "broken"
    for name in ("torch", "numpy", "matplotlib", "PIL", "safetensors", "skimage", "torchvision"):
        (broken / name).mkdir(parents=True)
        (broken / name / "__init__.py").write_text("import os; os.abort()")
    done = subprocess.run(
        [sys.executable, "-m", "ddpm_cli", "doctor", "--json"],
        env={**os.environ, "PYTHONPATH": str(broken)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 6
    assert "Traceback" not in done.stderr
    checks = json.loads(done.stdout)["checks"]
    problems = {check["name"]: check["found"] for check in checks if check["state"] == "problem"}
    assert {"torch", "numpy", "pillow", "safetensors", "scikit-image"} <= problems.keys()
    assert "SIGABRT" in problems["torch"]
    assert {check["name"] for check in checks if check["state"] == "ok"} >= {"ddpm", "python", "home", "disk"}


def test_the_doctor_itself_loads_no_torch_and_no_numpy() -> None:
    code = (
        "import sys; from ddpm_cli import diagnosis; diagnosis._guarded_start = lambda *_: None; "
        "diagnosis.examine(lambda: None); print(*{'torch', 'numpy', 'matplotlib', 'PIL'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_help_states_the_exit_codes_and_ends_with_examples(ddpm: Any) -> None:
    text = ddpm("doctor", "--help").done().out
    assert "Exit code 0" in text
    assert "6: there is a problem" in text
    assert "ddpm doctor --json" in text.rpartition("Examples:")[2]
    assert max(map(len, text.splitlines())) <= 80
