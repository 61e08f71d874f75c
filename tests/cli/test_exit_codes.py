"""Every documented exit code, one by one: what ``main`` returns, and what a shell sees of a signal or a closed pipe."""

import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SIGNALS = [signal.SIGHUP, signal.SIGINT, signal.SIGTERM]


def test_0_is_done(ddpm: Any) -> None:
    assert ddpm("schedule", "list").done().code == 0


def test_1_is_a_bug_and_keeps_its_traceback(ddpm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def planted(*_: object) -> None:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr("ddpm_cli.schedule.Schedule.__init__", planted)
    result = ddpm("schedule", "show")
    assert result.code == 1
    assert result.out == ""
    assert "Traceback (most recent call last)" in result.err
    assert "in planted" in result.err
    assert "ZeroDivisionError: planted" in result.err
    assert "bug" in result.err.splitlines()[-2]


@pytest.mark.parametrize(
    "arguments",
    [
        ["smaple"],
        ["sample", "--nonsense"],
        ["sample", "nonsense"],
        ["sample", "-n"],
        ["sample", "-n", "0"],
        ["sample", "-n", "many"],
        ["sample", "--sampler", "eulr"],
        ["train", "--dataset", "mnits"],
        ["train", "--preset", "tny"],
        ["train", "--recipe", "reprot"],
        ["train", "--schedule", "cosin"],
        ["train", "--epochs", "1", "--steps", "1"],
        ["train", "--quiet", "--verbose"],
        ["train", "--name", "a", "-o", "b"],
        ["schedule", "show", "--kind", "cosin"],
        ["schedule", "nonsense"],
    ],
    ids=" ".join,
)
def test_2_is_usage(ddpm: Any, arguments: list[str]) -> None:
    ddpm(*arguments).refused(2)


def test_3_is_data(ddpm: Any) -> None:
    ddpm("train", "--dataset", "./nowhere").refused(3, "nowhere")


def test_4_is_the_model(ddpm: Any) -> None:
    ddpm("sample", "--model", "nobody").refused(4, "nobody")


@pytest.mark.parametrize("steps", [1, 7, 20, 100])
def test_5_is_a_loss_that_is_not_finite(
    ddpm: Any, quick: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    from ddpm_cli.denoiser import Denoiser

    right = Denoiser.loss
    monkeypatch.setattr(Denoiser, "loss", lambda *args: right(*args) * float("nan"))
    ddpm(*quick, "--steps", steps).refused(5, "finite", "--lr")


@pytest.mark.usefixtures("model")
def test_5_is_samples_that_are_flat(ddpm: Any, home: Path, save_model: Any, cwd: Path) -> None:
    path = home / "models" / "flat.safetensors"
    save_model(path, target="x0")
    from ddpm_cli import checkpoint

    info = checkpoint.read_info(path)
    zeros = {name: 0 * tensor for name, tensor in checkpoint.read_tensors(path).items()}
    checkpoint.save(path, zeros, info)
    ddpm("sample", "--model", "flat", "-n", 4).refused(5, "flat")
    assert list(cwd.iterdir()) == []


@pytest.mark.usefixtures("model", "no_gpu")
def test_6_is_a_missing_device(ddpm: Any) -> None:
    ddpm("sample", "--device", "cuda").refused(6, "cuda", "--device")


@pytest.mark.usefixtures("model")
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux only")
def test_6_is_a_full_disk(ddpm: Any) -> None:
    ddpm("sample", "-n", 1, "--steps", 1, "--format", "png", "-o", "/dev/full").refused(6, "disk is full")


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")])
def test_6_is_memory(ddpm: Any, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def full(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("ddpm_cli.drawing.draw", full)
    ddpm("sample").refused(6, "memory", "--batch-size")


def test_the_debug_variable_shows_the_traceback_of_an_expected_error(
    ddpm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DDPM_DEBUG", "1")
    result = ddpm("sample", "--model", "nobody")
    assert result.code == 4
    assert "Traceback" in result.err


# --- what the operating system refuses --------------------------------------------------------------------------------

LONG = "x" * 300  # bytes of a name; file systems allow 255
CAPABILITIES = [
    "setpriv",
    "--bounding-set",
    "-dac_override,-dac_read_search",
]  # root without its right to open anything


@pytest.fixture
def unprivileged(command: list[str], process: Any) -> Any:
    """Runs a command as a process that file permissions apply to."""
    if os.getuid() == 0:
        if shutil.which(CAPABILITIES[0]) is None:
            pytest.skip("root may open everything")
        command[:0] = CAPABILITIES
    return process


@pytest.fixture
def shut(cwd: Path) -> Iterator[Path]:
    """A folder that must not be searched."""
    folder = cwd / "shut"
    folder.mkdir(mode=0)
    yield folder
    folder.chmod(0o700)


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["sample", "-n", "1", "-o", "shut/a.png"], 6),
        (["sample", "-n", "1", "-o", "shut/folder/"], 6),
        (["noise", "--dataset", "mnist", "-o", "shut/a.png"], 6),
        (["edit", "vary", "--dataset", "mnist", "-o", "shut/a.png"], 6),
        (["schedule", "plot", "-o", "shut/a.png"], 6),
        (["eval", "-n", "4", "--plot", "shut/a.png"], 6),
        (["train", "-o", "shut/run"], 6),
        (["train", "--dataset", "./shut/in"], 3),
        (["train", "--dataset", "./shut"], 3),
        (["train", "--resume", "shut/run"], 4),
        (["sample", "--model", "shut/a.safetensors"], 4),
        (["sample", "--like", "shut/a.png"], 3),
        (["noise", "shut/a.png"], 3),
        (["eval", "shut/a.npz"], 3),
        (["schedule", "show", "--from-file", "shut/betas.csv"], 3),
        (["schedule", "show", "--config", "shut/a.toml"], 3),
        (["models", "rm", "shut/run", "--yes"], 4),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_a_folder_that_must_not_be_searched_is_named(
    unprivileged: Any, shut: Path, arguments: list[str], code: int
) -> None:
    unprivileged(*arguments).refused(code, shut.name)


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["sample", "-n", "1", "-o", f"{LONG}.png"], 6),
        (["sample", "-n", "1", "-o", f"{LONG}/"], 6),
        (["noise", "--dataset", "mnist", "-o", f"{LONG}.png"], 6),
        (["schedule", "plot", "-o", f"{LONG}.png"], 6),
        (["schedule", "show", "-o", f"{LONG}.csv"], 6),
        (["train", "-o", LONG], 6),
        (["train", "-o", f"a/{'/'.join(['x' * 200] * 25)}"], 6),  # more than the 4,096 bytes of a path
        (["sample", "--model", f"./{LONG}"], 4),
        (["noise", f"{LONG}.png"], 3),
        (["eval", f"{LONG}.npz"], 3),
        (["eval", f"./{LONG}"], 4),
        (["train", "--resume", LONG], 4),
        (["train", "--dataset", f"./{LONG}"], 3),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else str(value),
)
def test_a_name_that_is_too_long_is_refused(ddpm: Any, arguments: list[str], code: int, written: Any) -> None:
    before = written()
    ddpm(*arguments).refused(code, "xxx")
    assert written() == before


def test_2_is_a_path_that_no_system_takes(ddpm: Any, home: Path) -> None:
    home.mkdir()
    for key, command in (("output", "sample"), ("model", "sample"), ("reference", "eval"), ("dataset", "train")):
        (home / "config.toml").write_text(f'[{command}]\n{key} = "a\\u0000/b.png"\n')
        result = ddpm(command)
        assert result.code in (2, 3, 4), result.err
        assert "Traceback" not in result.err


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/some/file"), ["/some/file", "permission"]),
        (OSError(errno.EIO, "Input/output error", "/some/file"), ["/some/file", "input/output error"]),
        (OSError(errno.EMFILE, "Too many open files", "/some/file"), ["/some/file", "ulimit -n"]),
        (OSError(errno.ESTALE, "Stale file handle", b"/some/file"), ["/some/file", "stale"]),
        (OSError(errno.EIO, "Input/output error"), ["input/output error"]),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), ["memory", "ulimit -v"]),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), ["memory", "ulimit -v"]),
        (RuntimeError("can't start new thread"), ["memory", "ulimit -v"]),
        (RuntimeError("std::bad_alloc"), ["memory", "ulimit -v"]),
    ],
    ids=str,
)
def test_6_is_an_error_of_the_system_wherever_it_comes_from(
    ddpm: Any, monkeypatch: pytest.MonkeyPatch, error: Exception, words: list[str]
) -> None:
    def raise_it(*_: object) -> None:
        raise error

    monkeypatch.setattr("ddpm_cli.schedule.Schedule.__init__", raise_it)
    ddpm("schedule", "show").refused(6, *words)


@pytest.mark.parametrize(
    "arguments",
    [["schedule", "list"], ["models", "list"], ["sample", "-n", "1", "-o", "/dev/null"], ["train"], ["doctor"]],
    ids=" ".join,
)
def test_6_is_a_current_folder_that_was_deleted(
    command: list[str], process: Any, cwd: Path, arguments: list[str]
) -> None:
    gone = cwd / "gone"
    gone.mkdir()
    words = ["bash", "-c", 'rmdir "$PWD"; exec "$@"', "bash", *command]
    command[:] = [*words[:4], sys.executable, "-P", "-c", "from ddpm_cli.cli import entry; entry()"]
    process(*arguments, cwd=gone).refused(6, "current folder", "cd")
    assert process("train", "--help", cwd=_again(gone)).code == 0


def _again(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.mark.parametrize("arguments", [["models", "list"], ["train"], ["schedule", "list"]], ids=" ".join)
def test_6_is_a_user_without_a_home_directory(ddpm: Any, monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    import pwd

    def unknown(number: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.delenv("DDPM_HOME")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", unknown)  # as in a container that runs as any user
    ddpm(*arguments).refused(6, "home directory", "DDPM_HOME")
    assert ddpm(*arguments, "--help").code == 0


def test_without_a_temporary_folder_libraries_get_one_in_the_data_directory(
    ddpm: Any, quick: tuple[str, ...], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/nowhere/at/all"])
    monkeypatch.setenv("TMPDIR", "/nowhere")
    ddpm(*quick, "--steps", 1).done()
    assert Path(tempfile.gettempdir()).is_relative_to(home)
    assert os.environ["TMPDIR"] == tempfile.gettempdir()


def test_a_cache_that_cannot_be_written_stops_no_training(process: Any, photos: Path, home: Path) -> None:
    home.mkdir()
    (home / "cache").write_bytes(b"a file where the folder should be")
    options = ["--preset", "tiny", "--batch-size", 4, "--steps", 1, "--device", "cpu", "--precision", "float32"]
    process("train", "--dataset", photos, *options).done()


@pytest.mark.parametrize(
    "arguments",
    [["noise", "-"], ["eval", "-"], ["schedule", "show", "--from-file", "-"]],
    ids=" ".join,
)
def test_3_is_a_standard_input_that_cannot_be_read(process: Any, cwd: Path, arguments: list[str]) -> None:
    with (cwd / "write-only").open("wb") as file:
        process(*arguments, stdin=file).refused(3)


# --- signals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_signal_saves_and_is_128_and_its_number(
    ddpm: Any, quick: tuple[str, ...], cwd: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    from ddpm_cli import checkpoint
    from ddpm_cli.denoiser import Denoiser

    before = [signal.getsignal(each) for each in SIGNALS]
    right, calls = Denoiser.loss, []

    def interrupted(*args: Any) -> Any:
        calls.append(None)
        if len(calls) == 5:
            signal.raise_signal(number)
        return right(*args)

    monkeypatch.setattr(Denoiser, "loss", interrupted)
    result = ddpm(*quick, "--steps", 1000, "--json", "-o", "run")
    assert result.code == {"SIGHUP": 129, "SIGINT": 130, "SIGTERM": 143}[number.name]
    assert result.json["status"] == "interrupted"
    assert "--resume" in result.err
    steps = result.json["steps"]
    assert steps == 5  # the step at hand is finished
    assert checkpoint.read_info(cwd / "run" / "model.safetensors").training["step"] == steps
    assert checkpoint.read_header(cwd / "run" / "state.safetensors")[0]["step"] == steps
    assert [signal.getsignal(each) for each in SIGNALS] == before


def test_a_signal_between_two_steps_saves_too(
    ddpm: Any, quick: tuple[str, ...], cwd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ddpm_cli import checkpoint
    from ddpm_cli.cli._output import Live

    monkeypatch.setattr(Live, "update", lambda self, *_: self.what == "training" and signal.raise_signal(signal.SIGINT))
    result = ddpm(*quick, "--steps", 1000, "--json", "-o", "run")
    assert result.code == 130
    assert (cwd / "run" / "model.safetensors").exists(), "told to be saved, and was not"
    assert checkpoint.read_info(cwd / "run" / "model.safetensors").training["step"] == result.json["steps"]


@pytest.mark.usefixtures("model")
def test_ctrl_c_while_sampling_is_130_without_a_traceback(
    ddpm: Any, monkeypatch: pytest.MonkeyPatch, cwd: Path
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ddpm_cli.drawing.draw", interrupt)
    result = ddpm("sample")
    assert result.code == 130
    assert result.out == ""
    assert "Traceback" not in result.err
    assert list(cwd.iterdir()) == []


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_process_saves_and_then_dies_of_the_signal(
    command: list[str], photos: Path, cwd: Path, number: signal.Signals
) -> None:
    from ddpm_cli import checkpoint

    arguments = ["train", "--dataset", str(photos), "--preset", "tiny", "--batch-size", "4", "--steps", "1000000"]
    arguments += ["--sample-every", "0", "--device", "cpu", "--precision", "float32", "--json", "-o", "run"]
    with subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        try:
            until = time.monotonic() + 100
            while not (cwd / "run" / "metrics.jsonl").exists() and child.poll() is None and time.monotonic() < until:
                time.sleep(0.1)
            child.send_signal(number)
            out, err = child.communicate(timeout=60)
        finally:
            child.kill()
    assert child.returncode == -number, err
    assert "Traceback" not in err
    document = json.loads(out)
    assert document["status"] == "interrupted"
    assert checkpoint.read_info(cwd / "run" / "model.safetensors").training["step"] == document["steps"] > 0
    assert f"ddpm train --resume {cwd / 'run'}" in err


def _training(command: list[str], photos: Path, cwd: Path, **streams: Any) -> "subprocess.Popen[str]":
    """A training in a process of its own, some steps after its start."""
    arguments = ["train", "--dataset", str(photos), "--preset", "tiny", "--batch-size", "4", "--steps", "1000000"]
    arguments += ["--sample-every", "0", "--device", "cpu", "--precision", "float32", "-o", "run"]
    child = subprocess.Popen([*command, *arguments], text=True, **streams)
    until = time.monotonic() + 100
    while not (cwd / "run" / "metrics.jsonl").exists() and child.poll() is None and time.monotonic() < until:
        time.sleep(0.1)
    return child


def test_ctrl_c_saves_even_where_nobody_reads_what_is_said(command: list[str], photos: Path, cwd: Path) -> None:
    read, write = os.pipe()
    with _training(command, photos, cwd, stdout=subprocess.DEVNULL, stderr=write) as child:
        os.close(write)
        os.close(read)  # as when Ctrl-C ends tee as well, or the terminal is closed
        child.send_signal(signal.SIGINT)
        child.wait(timeout=60)
    assert child.returncode == -signal.SIGINT
    assert (cwd / "run" / "state.safetensors").exists()


def test_a_training_under_nohup_outlives_the_hang_up(command: list[str], photos: Path, cwd: Path) -> None:
    nohup = ["nohup", *command]
    with _training(nohup, photos, cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        try:
            child.send_signal(signal.SIGHUP)
            lines = (cwd / "run" / "metrics.jsonl").read_text(encoding="utf-8").count("\n")
            until = time.monotonic() + 60
            while (cwd / "run" / "metrics.jsonl").read_text(encoding="utf-8").count("\n") < lines + 3:
                assert child.poll() is None, "the hang-up ended it"
                assert time.monotonic() < until
                time.sleep(0.1)
        finally:
            child.kill()


# --- a reader that has gone -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [["schedule", "show"], ["schedule", "show", "--json"], ["schedule", "plot", "-o", "-"], ["train", "--help"], []],
    ids=" ".join,
)
def test_141_is_a_closed_pipe_silently(process: Any, arguments: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        result = process(*arguments, capture_output=False, stdout=write, stderr=subprocess.PIPE)
    finally:
        os.close(write)
    assert result.err == ""
    assert result.code == 141


@pytest.mark.usefixtures("model")
@pytest.mark.skipif(not hasattr(fcntl, "F_SETPIPE_SZ"), reason="Linux only")
@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])  # Docker images often set it
def test_a_reader_that_leaves_early_ends_sampling_silently(
    command: list[str], monkeypatch: pytest.MonkeyPatch, unbuffered: str
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)  # less than the picture, so that the writer must wait for the reader
    arguments = ["sample", "-n", "64", "--steps", "1", "--seed", "0", "-o", "-"]
    with subprocess.Popen([*command, *arguments], stdout=write, stderr=subprocess.PIPE, text=True) as child:
        os.close(write)
        assert os.read(read, 8) == b"\x89PNG\r\n\x1a\n"
        os.close(read)
        _, err = child.communicate(timeout=100)
    assert child.returncode == 141
    assert [line.split()[:2] for line in err.splitlines()] == [["model", "tiny"]]
