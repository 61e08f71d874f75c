"""A signal ends a process when it should, saves what there is to save, and leaves nothing half-written.

What a shell sees of a process that died of a signal is 128 and its number: 129, 130, 143.
"""

import hashlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from signal import SIGCONT, SIGHUP, SIGINT, SIGKILL, SIGSTOP, SIGTERM
from typing import Any

import pytest

from ddpm_cli import checkpoint
from ddpm_cli.files import TEMPORARY

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
ENDLESS = ["--steps", "1000000"]
EVERYWHERE = [SIGINT, SIGTERM, SIGHUP]


def names(number: signal.Signals) -> str:
    return number.name


each_signal = pytest.mark.parametrize("number", EVERYWHERE, ids=names)
slow = pytest.mark.slow


def digest(run: Path) -> str:
    return hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest()


def saved(run: Path) -> int:
    """The step that state and model both are of."""
    step = checkpoint.read_header(run / "state.safetensors")[0]["step"]
    assert checkpoint.read_info(run / "model.safetensors").training["step"] == step
    checkpoint.load(run / "model.safetensors")
    return int(step)


def half_written(place: Path) -> list[Path]:
    return list(place.rglob(TEMPORARY))


# In a run of four steps an epoch, the first line of metrics.jsonl is of step 4.
LOOKING = ["noting", 1, "metrics.jsonl"]


@pytest.mark.parametrize(
    "number", [pytest.param(SIGINT, marks=slow), SIGTERM, pytest.param(SIGHUP, marks=slow)], ids=names
)
def test_a_signal_saves_the_step_at_hand_and_then_ends_the_process(
    nursery: Any, quick: list[str], tmp_path: Path, number: signal.Signals
) -> None:
    """And going on from there gives the run that was never stopped, to the last bit."""
    run = tmp_path / "a" / "run"
    child = nursery(tmp_path / "a", *quick, "--steps", 18, "--json", "-o", "run", waits=LOOKING)
    child.here()
    child.kill(number)
    child.go()
    ended = child.end()
    assert ended.code == -number, ended.err
    assert ended.err == ""
    document = json.loads(ended.out)
    assert (document["schema"], document["status"], document["steps"]) == (1, "interrupted", 5)
    assert document["run"] == str(run)
    assert saved(run) == 5
    assert checkpoint.read_info(run / "model.safetensors").id == document["model"]
    resumed = nursery(tmp_path / "b", "train", "--resume", run, "--quiet").end()
    assert resumed.code == 0, resumed.err
    whole = nursery(tmp_path / "c", *quick, "--steps", 18, "-o", "run").end()
    assert whole.code == 0, whole.err
    assert digest(run) == digest(tmp_path / "c" / "run")


@pytest.mark.parametrize("moment", [pytest.param("saving", marks=slow), "renaming"])
@pytest.mark.parametrize("name", ["state.safetensors", pytest.param("model.safetensors", marks=slow)])
def test_signals_while_a_save_is_written_wait_for_it(
    nursery: Any, quick: list[str], tmp_path: Path, moment: str, name: str
) -> None:
    """Those that come after the first change nothing, unless one is Ctrl-C."""
    options = ["--save-steps", 2, "--json", "-o", "run"]
    child = nursery(tmp_path / "a", *quick, *ENDLESS, *options, waits=[moment, 2, name])
    child.here()
    child.kill(SIGTERM, SIGTERM, SIGHUP)
    child.go()
    ended = child.end()
    assert ended.code == -SIGTERM, ended.err
    assert saved(tmp_path / "a" / "run") == json.loads(ended.out)["steps"] == 5
    assert half_written(tmp_path) == []


@pytest.mark.parametrize(
    "waits",
    [
        ["renaming", 2, "state.safetensors"],
        pytest.param(["renaming", 2, "model.safetensors"], marks=slow),
        pytest.param(["flushing", 20, ""], marks=slow),
    ],
    ids=str,
)
@pytest.mark.parametrize("first", [SIGINT, pytest.param(SIGTERM, marks=slow)], ids=names)
def test_ctrl_c_again_leaves_at_once_with_the_last_checkpoint_intact(
    nursery: Any, quick: list[str], tmp_path: Path, waits: list[Any], first: signal.Signals
) -> None:
    """In the middle of a save, what was saved before it stays, and nothing is left half-written."""
    run = tmp_path / "a" / "run"
    child = nursery(tmp_path / "a", *quick, *ENDLESS, "--save-steps", 2, "--json", "-o", "run", waits=waits)
    child.here()
    before = {path.name: path.read_bytes() for path in run.glob("*.safetensors")}
    assert {"state.safetensors", "model.safetensors"} <= before.keys()
    child.kill(first, SIGINT)
    ended = child.end()
    assert ended.code == -SIGINT, ended.err
    assert ended.err == ""
    document = json.loads(ended.out)
    assert (document["status"], document["code"]) == ("interrupted", 130)
    assert {name: (run / name).read_bytes() for name in before} == before
    assert half_written(tmp_path) == []
    assert nursery(tmp_path / "b", "train", "--resume", run, "--steps", 6, "--quiet").end().code == 0
    assert saved(run) == 6


@slow
@each_signal
@pytest.mark.parametrize(
    ("moment", "options"),
    [("reading", []), ("preparing", []), ("compiling", ["--compile", "on"]), ("keeping", []), ("renaming", [])],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_signal_before_the_first_step_ends_at_once(
    nursery: Any, quick: list[str], tmp_path: Path, moment: str, options: list[str], number: signal.Signals
) -> None:
    """While data are read, kept in the cache, or the network is built; and no file is left half-written."""
    child = nursery(tmp_path / "a", *quick, *ENDLESS, *options, "-o", "run", waits=[moment, 1, ""])
    child.here()
    begun = time.monotonic()
    child.kill(number)
    ended = child.end()
    assert time.monotonic() - begun < 10
    assert ended.code == -number, ended.err
    assert (ended.out, ended.err) == ("", "")
    assert half_written(tmp_path) == []
    again = nursery(tmp_path / "b", *quick, "--steps", 2, "-o", tmp_path / "a" / "run").end()
    assert again.code == 0, again.err


@slow
def test_a_signal_while_samples_are_drawn_saves_too(nursery: Any, quick: list[str], tmp_path: Path) -> None:
    options = ["--sample-every", 1, "--json", "-o", "run"]
    child = nursery(tmp_path / "a", *quick, *ENDLESS, *options, waits=["drawing", 1, ""], pictures=True)
    child.here()
    child.kill(SIGTERM)
    child.go()
    ended = child.end()
    assert ended.code == -SIGTERM, ended.err
    assert json.loads(ended.out)["steps"] == saved(tmp_path / "a" / "run")


@slow
def test_what_is_ignored_under_nohup_stays_ignored(nursery: Any, quick: list[str], tmp_path: Path) -> None:
    """While training and before; and SIGTERM still ends it."""
    run = tmp_path / "a" / "run"
    child = nursery(tmp_path / "a", *quick, *ENDLESS, "-o", "run", waits=["reading", 1, ""], ignored=[SIGHUP])
    child.here()
    child.kill(SIGHUP)
    child.go()
    child.until((run / "metrics.jsonl").exists)
    child.kill(SIGHUP)
    lines = (run / "metrics.jsonl").read_bytes().count(b"\n")
    child.until(lambda: (run / "metrics.jsonl").read_bytes().count(b"\n") > lines + 3)
    child.kill(SIGTERM)
    assert child.end().code == -SIGTERM
    assert saved(run) > 4


def test_progress_that_nobody_reads_ends_no_training(nursery: Any, quick: list[str], tmp_path: Path) -> None:
    """A closed pipe as stderr: the run goes on to its end. A closed pipe as stdout, too: 141 when all is saved."""
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    pipe = str(tmp_path / "pipe")
    loud = [word for word in quick if word != "--quiet"]
    codes = []
    for number, streams in enumerate(({"2": pipe}, {"1": pipe, "2": pipe})):
        where = tmp_path / str(number)
        waits = ["reading", 1, ""]
        child = nursery(where, *loud, "--steps", 9, "--verbose", "-o", "run", waits=waits, streams=streams)
        child.here()
        if number == 0:
            os.close(reader)
            reader = -1
        child.go()
        ended = child.end()
        codes.append(ended.code)
        assert saved(where / "run") == 9
        if number == 0:
            assert ended.out == f"{where / 'run'}\n"
            reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)  # or the next could not open it
    os.close(reader)
    assert codes[0] == 0


@slow
def test_a_terminal_that_is_closed_saves_and_ends_of_the_hang_up(
    nursery: Any, quick: list[str], tmp_path: Path
) -> None:
    ours, theirs = pty.openpty()
    loud = [word for word in quick if word != "--quiet"]
    streams = {"0": os.ttyname(theirs), "2": os.ttyname(theirs)}
    child = nursery(tmp_path / "a", *loud, *ENDLESS, "-o", "run", streams=streams)
    os.close(theirs)
    child.until((tmp_path / "a" / "run" / "metrics.jsonl").exists)
    shown = os.read(ours, 10_000)
    os.close(ours)
    child.kill(SIGHUP)  # what a shell sends; the bar has nowhere to go any more
    ended = child.end()
    assert ended.code == -SIGHUP, ended.err
    assert b"run" in shown
    assert saved(tmp_path / "a" / "run") > 0


@slow
def test_a_training_that_is_stopped_goes_on_with_its_speed(nursery: Any, quick: list[str], tmp_path: Path) -> None:
    """Ctrl-Z for two seconds is one slow look of many: the median, and the time left made of it, stay."""
    run = tmp_path / "a" / "run"
    child = nursery(tmp_path / "a", *quick, *ENDLESS, "--json", "-o", "run")
    child.until(lambda: (run / "metrics.jsonl").exists() and (run / "metrics.jsonl").read_bytes().count(b"\n") > 5)
    child.kill(SIGSTOP)
    lines = (run / "metrics.jsonl").read_bytes().count(b"\n")
    time.sleep(2)
    assert (run / "metrics.jsonl").read_bytes().count(b"\n") == lines
    child.kill(SIGCONT)
    child.until(lambda: (run / "metrics.jsonl").read_bytes().count(b"\n") > lines + 15)
    child.kill(SIGINT)
    ended = child.end()
    assert ended.code == -SIGINT
    speeds = [json.loads(line)["images_per_second"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    document = json.loads(ended.out)
    assert document["seconds"] > 2
    speeds.sort()
    assert speeds[len(speeds) // 4] <= document["images_per_second"] <= speeds[-(len(speeds) // 4)]


def tiny_model(nursery: Any, quick: list[str], place: Path) -> Path:
    assert nursery(place, *quick, "--steps", 2, "-o", "run").end().code == 0
    return place / "run"


@slow
@pytest.mark.parametrize("number", [SIGINT, SIGTERM], ids=names)
@pytest.mark.parametrize(
    ("moment", "words"),
    [
        ("drawing", ["sample", "-n", "4", "--device", "cpu", "-o", "out.png"]),
        ("renaming", ["sample", "-n", "4", "--device", "cpu", "-o", "out.png"]),
        ("judging", ["eval", "-n", "4", "--metrics", "ssim", "--device", "cpu", "-o", "out.json"]),
        ("renaming", ["noise", "--dataset", "mnist", "-o", "out.png"]),
        ("flushing", ["schedule", "plot", "-o", "out.png"]),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_other_commands_leave_no_half_result(
    nursery: Any,
    quick: list[str],
    photos: Path,
    tmp_path: Path,
    moment: str,
    words: list[str],
    number: signal.Signals,
) -> None:
    words = [*words, "--reference", str(photos)] if words[0] == "eval" else words
    model = {"DDPM_MODEL": str(tiny_model(nursery, quick, tmp_path / "m"))} if words[0] in ("sample", "eval") else {}
    file = "out.png" if moment == "renaming" else ""
    child = nursery(tmp_path / "a", *words, environment=model, waits=[moment, 1, file])
    child.here()
    child.kill(number)
    ended = child.end()
    assert ended.code == -number, ended.err
    assert ended.out == ""
    assert "Traceback" not in ended.err
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"stdout", "stderr", "here"}
    assert half_written(tmp_path) == []


@slow
def test_ctrl_c_ends_a_loop_of_the_shell(photos: Path, tmp_path: Path) -> None:
    """The shell goes on with its loop unless the command died of the signal itself."""
    train = f"{sys.executable} -m ddpm_cli train --dataset {photos} --preset tiny --batch-size 4 --steps 1000000"
    loop = f"for i in 1 2 3; do {train} --device cpu --precision float32 -o run$i; done; echo went on"
    with subprocess.Popen(
        ["bash", "-c", loop], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0
    ) as shell:
        try:
            until = time.monotonic() + 100
            while not (tmp_path / "run1" / "metrics.jsonl").exists() and time.monotonic() < until:
                time.sleep(0.05)
            os.killpg(shell.pid, SIGINT)
            out, err = shell.communicate(timeout=60)
        finally:
            if shell.poll() is None:
                os.killpg(shell.pid, SIGKILL)
    assert shell.returncode in (-SIGINT, 130), err
    assert "went on" not in out
    assert not (tmp_path / "run2").exists()
    assert saved(tmp_path / "run1") > 0
    assert re.search("Stopped and saved at step [0-9,]+", err)
