"""Streams: the result on stdout, everything else on stderr; plain off a terminal; nothing written anywhere else."""

import contextlib
import logging
import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-9][0-9;]*m")


@pytest.fixture
def on_a_terminal(command: list[str]) -> Callable[..., tuple[int, str]]:
    """Runs a command whose streams are a terminal of 100 x 40; its code and what it showed."""
    pty = pytest.importorskip("pty", reason="no terminals to pretend on Windows")
    import fcntl
    import struct
    import termios

    def call(*arguments: object, **variables: str) -> tuple[int, str]:
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
        environment = {**os.environ, "TERM": "xterm-256color", **variables}
        streams = {"stdin": slave, "stdout": slave, "stderr": slave}
        with subprocess.Popen([*command, *map(str, arguments)], **streams, env=environment) as child:
            os.close(slave)
            shown = b""
            with contextlib.suppress(OSError):  # EIO: the other side has closed
                while piece := os.read(master, 1 << 16):
                    shown += piece
            os.close(master)
            code = child.wait(timeout=60)
        return code, shown.decode()

    return call


# --- on a terminal --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["sample"], ["schedule", "show"], ["schedule", "plot"]], ids=" ".join)
def test_bytes_are_not_written_to_a_terminal(on_a_terminal: Any, cwd: Path, arguments: list[str]) -> None:
    code, shown = on_a_terminal(*arguments, "-o", "-")
    assert code == 2
    assert "terminal" in shown
    assert "Traceback" not in shown
    assert list(cwd.iterdir()) == []


def test_a_table_on_a_terminal_is_aligned_and_shortened(on_a_terminal: Any) -> None:
    code, shown = on_a_terminal("schedule", "show", "--kind", "linear")
    assert code == 0
    assert "\t" not in shown
    rows = [line.split()[0] for line in shown.splitlines() if re.match(r" *\d+ +[\d.]", line)]
    assert (rows[0], rows[-1]) == ("0", "1000")
    assert 15 < len(rows) < 40
    assert "1001 levels" in shown.replace(",", "")


def test_a_short_schedule_is_shown_whole_and_without_a_note_on_a_terminal(on_a_terminal: Any, cwd: Path) -> None:
    (cwd / "betas.txt").write_text("0.9\n" * 5)
    code, shown = on_a_terminal("schedule", "show", "--from-file", "betas.txt")
    assert code == 0
    assert "levels" not in shown


def test_no_color_is_honoured_on_a_terminal(on_a_terminal: Any) -> None:
    for arguments in (["schedule", "plot"], ["schedule", "list"], ["schedule", "show", "--kind", "cosin"]):
        _, plain = on_a_terminal(*arguments, NO_COLOR="1")
        assert not COLOUR.search(plain)
    _, coloured = on_a_terminal("schedule", "plot")
    assert COLOUR.search(coloured)


def test_help_on_a_terminal_has_no_boxes(on_a_terminal: Any) -> None:
    code, shown = on_a_terminal("sample", "--help")
    assert code == 0
    assert not set("╭╮╰╯│") & set(shown)
    code, shown = on_a_terminal("sample", "--nonsense")
    assert code == 2
    assert not set("╭╮╰╯│") & set(shown)


# --- off a terminal -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize("force", [None, "FORCE_COLOR", "CLICOLOR_FORCE"])
def test_there_are_no_escape_codes_off_a_terminal(
    ddpm: Any, quick: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, force: str | None
) -> None:
    if force:
        monkeypatch.setenv(force, "1")
    for arguments in (
        [*quick, "--steps", 2],
        ["sample", "-n", 2, "--steps", 1],
        ["schedule", "list"],
        ["schedule", "plot"],
        ["schedule", "show", "--kind", "cosin"],
        ["--help"],
    ):
        result = ddpm(*arguments)
        assert "\x1b" not in result.out + result.err


@pytest.mark.usefixtures("model")
def test_quiet_leaves_only_the_result(ddpm: Any, quick: tuple[str, ...], cwd: Path) -> None:
    result = ddpm(*quick, "--steps", 4, "-o", "run", "--quiet").done()
    assert (result.out, result.err) == (f"{cwd / 'run'}\n", "")
    result = ddpm("sample", "-n", 2, "--steps", 1, "-q").done()
    assert (result.out, result.err) == ("samples.png\n", "")
    result = ddpm("schedule", "plot", "--kind", "linear", "--beta-end", 0.001, "-o", "plot.csv", "-q").done()
    assert (result.out, result.err) == ("plot.csv\n", "")


def test_quiet_leaves_errors(ddpm: Any) -> None:
    ddpm("sample", "--model", "nobody", "--quiet").refused(4, "nobody")


def test_quiet_and_verbose_contradict_each_other(ddpm: Any) -> None:
    ddpm("sample", "--quiet", "--verbose").refused(2, "--quiet", "--verbose")


def test_progress_off_a_terminal_is_a_line_now_and_then(ddpm: Any, quick: tuple[str, ...]) -> None:
    err = ddpm(*quick, "--epochs", 60).done().err  # in a few seconds, and a line every 30 s at most
    assert len(err.splitlines()) < 20


# --- files ----------------------------------------------------------------------------------------------------------


def test_nothing_is_written_but_the_data_directory_and_the_result(
    process: Any, photos: Path, tmp_path: Path, home: Path, cwd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("user", "temporary"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    before = sorted(photos.rglob("*"))
    options = ["--dataset", photos, "--preset", "tiny", "--batch-size", 8, "--steps", 2, "--device", "cpu"]
    process("train", *options, "--name", "one").done()
    process("sample", "-n", 2, "--steps", 1, "--device", "cpu", "--trajectory", "walk.png").done()
    process("schedule", "plot", "-o", "plot.svg").done()
    assert {path.name for path in cwd.iterdir()} == {"samples.png", "walk.png", "plot.svg"}
    assert {path.name for path in home.iterdir()} == {"runs", "cache"}
    assert list((tmp_path / "user").rglob("*")) == []
    assert list((tmp_path / "temporary").rglob("*")) == []
    assert sorted(photos.rglob("*")) == before
    assert {path.name for path in tmp_path.iterdir()} == {"user", "temporary", "home", "work"}


@pytest.mark.parametrize(
    "arguments", [[], ["--version"], ["--help"], ["schedule", "show"], ["schedule", "plot"]], ids=" ".join
)
def test_what_only_prints_writes_nothing(ddpm: Any, written: Callable[[], set[str]], arguments: list[str]) -> None:
    ddpm(*arguments).done()
    assert written() == set()


@pytest.mark.usefixtures("model")
def test_no_temporary_file_is_left(ddpm: Any, quick: tuple[str, ...], written: Callable[[], set[str]]) -> None:
    ddpm(*quick, "--steps", 2, "-o", "run").done()
    ddpm("sample", "-n", 2, "--steps", 1, "-o", "out/").done()
    assert not [name for name in written() if Path(name).name.startswith(".") or name.endswith((".tmp", ".part"))]


# --- streams that take no more, or were never open ------------------------------------------------------------------

posix = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
ENTRY = "from ddpm_cli.cli import entry; entry()"


def shell(line: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A line for sh in which $ddpm is the console script."""
    words = f'ddpm() {{ "{sys.executable}" -c "{ENTRY}" "$@"; }}; {line}'
    return subprocess.run(
        ["bash", "-c", words, "sh", *arguments], capture_output=True, text=True, check=False, timeout=100
    )


@posix
@pytest.mark.parametrize(
    "line",
    [
        "ddpm schedule list >/dev/full",
        "ddpm schedule show --json >/dev/full",
        "ddpm --help >/dev/full",
        "ddpm --version >&-",
        "ddpm schedule list >&-",
        "export PYTHONUNBUFFERED=1; ddpm schedule list >/dev/full",
        "ulimit -f 8; export PYTHONUNBUFFERED=1; ddpm schedule show --timesteps 9000 >table",
    ],
)
def test_a_result_that_cannot_be_delivered_is_6(line: str) -> None:
    done = shell(line)
    assert done.returncode == 6, done.stderr
    assert done.stderr.startswith("ddpm: cannot write to stdout: ")
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@posix
@pytest.mark.parametrize(("command", "code"), [("nosuch", 2), ("schedule list", 0), ("models path mnist", 0)])
@pytest.mark.parametrize("stderr", ["/dev/full", "&-"])
def test_notes_that_cannot_be_delivered_change_nothing(command: str, code: int, stderr: str) -> None:
    done, plain = shell(f"ddpm {command} 2>{stderr}"), shell(f"ddpm {command}")
    assert done.returncode == plain.returncode == code
    assert done.stdout == plain.stdout


@posix
def test_an_unbuffered_stdout_whose_reader_left_is_141() -> None:
    done = shell("export PYTHONUNBUFFERED=1; ddpm schedule show --timesteps 20000 | head -1; echo ${PIPESTATUS[0]}")
    assert done.stdout.endswith("\n141\n")
    assert done.stderr == ""


def test_a_stdout_that_knows_no_such_letters_gets_others(process: Any) -> None:
    done = process("schedule", "plot", env={**os.environ, "PYTHONIOENCODING": "ascii"}).done()
    assert done.out.isascii()


def test_progress_off_a_terminal_tells_rate_and_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ddpm_cli.cli import _output

    now = 0.0
    monkeypatch.setattr(_output.time, "monotonic", lambda: now)
    live = _output.Live("fetching x", "MB", None, quiet=False, scale=1e-6)
    now = 10.0
    live(30_000_000, 90_000_000)  # what an earlier attempt had left is no speed of this one
    assert capsys.readouterr().err == ""
    now = 50.0
    live(50_000_000, 90_000_000)
    assert capsys.readouterr().err == "fetching x  50 of 90 MB  0.5 MB/s  80 s left\n"


# --- names and messages of others -----------------------------------------------------------------------------------

HOSTILE = "a\x1b[31m\u202e:smile:[bold]\u200b"  # a color, a reversal, an emoji and markup for Rich, no width
SHOWN = r"a\x1b[31m\u202e:smile:[bold]\u200b"


def is_harmless(text: str) -> bool:
    """Whether a text does nothing to a terminal but end its lines and separate its columns."""
    return text.replace("\n", "").replace("\t", "").isprintable()


@pytest.fixture
def hostile_photos(photos: Path, cwd: Path) -> Path:
    """The images in a folder and with classes whose names do all sorts of things to a terminal."""
    folder = cwd / HOSTILE
    for number, source in enumerate(sorted(photos.iterdir())):
        shutil.copytree(source, folder / f"{number}\x1b]0;title\x07{os.fsdecode(bytes([0xFF]))}")
    return folder


def test_hostile_names_are_harmless_in_every_note_table_log_and_error(
    ddpm: Any, quick: tuple[str, ...], hostile_photos: Path, home: Path
) -> None:
    train, _, _, *tiny = quick
    done = ddpm(train, "--dataset", f"./{hostile_photos.name}", *tiny, "--steps", 2, "-v").done()
    assert is_harmless(done.err)
    assert SHOWN in done.err
    run = next((home / "runs").iterdir())
    log = (run / "train.log").read_text(encoding="utf-8")
    assert is_harmless(log)
    assert SHOWN in log
    named = run.with_name(f"run{HOSTILE}")
    run.rename(named)
    for arguments in (
        ["models", "list"],
        ["models", "show", named.name],
        ["data", "list"],
        ["sample", "--model", named.name, "-n", "1", "--steps", "1", "-v"],
        ["eval", named.name, "-n", "4", "--metrics", "ssim", "--reference", f"./{hostile_photos.name}", "-v"],
        ["train", "--resume", named.name],
        ["sample", "--model", HOSTILE],
        ["train", "--dataset", f"no{HOSTILE}"],
        ["train", "--dataset", f"./{HOSTILE}/nothing"],
        ["noise", f"./{HOSTILE}.png"],
        ["sample", "--label", HOSTILE],
        [f"sample{HOSTILE}"],
        ["sample", f"--{HOSTILE}"],
        ["doctor", "--device", HOSTILE],
    ):
        result = ddpm(*arguments)
        assert is_harmless(result.err), arguments
        assert is_harmless(result.out) or arguments == ["train", "--resume", named.name], arguments
        assert "Traceback" not in result.err


def test_bytes_that_are_no_utf_8_have_one_form(ddpm: Any) -> None:
    name = os.fsdecode(b"\xe9t\xe9")
    for arguments in (
        ["sample", "--model", name],
        ["sample", "--model", f"./{name}"],
        ["train", "--dataset", name],
        ["train", "--dataset", f"./{name}"],
        ["train", "--resume", name],
        ["noise", f"./{name}.png"],
        ["schedule", "show", "--from-file", name],
        ["schedule", "show", "--config", name],
        ["sample", "--label", name],
        [name],
    ):
        result = ddpm(*arguments)
        assert r"\xe9t\xe9" in result.err, arguments
        assert "udc" not in result.err
        assert "\N{REPLACEMENT CHARACTER}" not in result.err


@pytest.mark.usefixtures("model")
def test_a_path_is_exact_off_a_terminal_and_harmless_on_one(ddpm: Any, on_a_terminal: Any) -> None:
    name = f"{HOSTILE}.png"
    assert ddpm("sample", "-n", 1, "--steps", 1, "-o", name).done().out == f"{name}\n"
    code, shown = on_a_terminal("sample", "-n", "1", "--steps", "1", "-q", "-o", name, DDPM_DEVICE="cpu")
    assert (code, shown) == (0, f"{SHOWN}.png\r\n")


def test_notes_above_a_bar_and_the_bar_itself_are_literal(command: list[str], on_a_terminal: Any) -> None:
    code = f"""
from ddpm_cli.cli._output import Output
out = Output()
with out.progress({HOSTILE + "1"!r}, "steps", 2) as live:
    out.note({HOSTILE + "2"!r})
    live.update(1, 2, {"[bold]:smile:3"!r})
"""
    command[:] = [sys.executable, "-c", code]
    _, shown = on_a_terminal()
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    for text in (f"{SHOWN}1", f"{SHOWN}2", "[bold]:smile:3"):
        assert text in plain


def test_a_hostile_message_of_a_library_is_harmless(
    ddpm: Any, quick: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, cwd: Path
) -> None:
    from ddpm_cli.runs import Run, pictures

    def fail(*_: object) -> None:
        raise ValueError("bad \x1b[2J\nname")

    monkeypatch.undo()
    monkeypatch.setattr(Run, "_draw_samples", lambda *_: None)
    monkeypatch.setattr(pictures, "loss", fail)
    monkeypatch.chdir(cwd)
    done = ddpm(*quick, "--steps", 2, "-o", "run").done()
    assert r"no loss curve: bad \x1b[2J\nname" in done.err
    assert r"no loss curve: bad \x1b[2J\nname" in (cwd / "run" / "train.log").read_text()


# --- warnings of libraries ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verbose", [False, True])
def test_warnings_and_log_records_of_libraries_are_notes_with_verbose_and_nothing_without(
    ddpm: Any, quick: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, verbose: bool
) -> None:
    from ddpm_cli.denoiser import Denoiser

    right = Denoiser.loss
    itself = logging.getLogger("library.with.handler")  # as torch has
    monkeypatch.setattr(itself, "handlers", [logging.StreamHandler(sys.stderr)])
    monkeypatch.setattr(itself, "propagate", False)

    def warn(*arguments: Any) -> Any:
        warnings.warn("of \x1b[31mtorch", UserWarning, stacklevel=1)
        record = logging.makeLogRecord({"name": "library", "msg": "a %s", "args": ("record",), "levelno": 30})
        assert logging.lastResort is not None
        logging.lastResort.handle(record)  # what logging calls where no handler is set; pytest sets some
        itself.warning("from its own handler")
        return right(*arguments)

    monkeypatch.setattr(Denoiser, "loss", warn)
    before = warnings.showwarning, logging.lastResort, logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        result = ddpm(*quick, "--steps", 1, *(["--verbose"] if verbose else [])).done()
    assert (r"UserWarning: of \x1b[31mtorch" in result.err) == verbose
    assert ("library: a record" in result.err) == verbose
    assert ("from its own handler" in result.err) == verbose
    assert ("torch" in result.err.replace("torch 2", "")) == verbose
    assert (warnings.showwarning, logging.lastResort, logging.root.manager.disable) == before


@pytest.mark.parametrize("variables", [{}, {"PYTHONWARNINGS": "error"}, {"PYTHONWARNINGS": "always"}], ids=str)
def test_one_pixel_and_a_folder_of_matplotlib_that_cannot_be_written_warn_of_nothing(
    process: Any, cwd: Path, variables: dict[str, str]
) -> None:
    from PIL import Image

    (cwd / "dots").mkdir()
    for number in range(3):
        Image.new("L", (1, 1), 90 * number).save(cwd / "dots" / f"{number}.png")
    (cwd / "file").touch()
    environment = {**os.environ, "MPLCONFIGDIR": "file/below", **variables}
    options = ["--preset", "tiny", "--batch-size", 2, "--steps", 2, "--device", "cpu", "--precision", "float32", "-q"]
    result = process("train", "--dataset", "./dots", *options, "-o", "run", env=environment).done()
    assert result.err == ""
    assert (cwd / "run" / "loss.png").exists()
    result = process("eval", "run", "-n", 2, "--metrics", "ssim", "--reference", "./dots", "-q", env=environment)
    assert "Warning" not in result.err
