"""A signal ends the process by its default action at any moment, without a traceback, and after it has tidied up."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
BEGIN = "import signal, sys, time\nfrom ddpm_cli import signals\n"
BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)


def ended(script: str) -> tuple[int, str, str]:
    """The end of a script that calls ``signals.run`` and then ends as ``ddpm`` does; its two streams."""
    end = "\nif code > 128:\n    signals.die(code - 128)\nsys.exit(code)\n"
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + script + end], capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout, done.stderr


@BOTH
def test_a_signal_while_another_is_ending_the_process_changes_nothing(number: signal.Signals) -> None:
    """It may come before, amid and after the tidying up."""
    script = f"""
def main():
    try:
        signal.raise_signal({number:d})
    finally:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        print("tidied", flush=True)
code = signals.run(main)
"""
    assert ended(script) == (-number, "tidied\n", "")
    late = script + f"signal.raise_signal({number:d})\nprint('too far')\n"
    assert ended(late) == (-number, "tidied\n", "")


def test_a_signal_later_on_ends_what_takes_too_long() -> None:
    """Where tidying up hangs, or a library caught the first one."""
    script = """
signals.AGAIN = 0.05
def main():
    try:
        signal.raise_signal(signal.SIGTERM)
    except BaseException:
        time.sleep(0.1)
    signal.raise_signal(signal.SIGTERM)
    print("too far")
code = signals.run(main)
"""
    assert ended(script) == (-signal.SIGTERM, "", "")


def test_a_signal_in_a_destructor_is_not_printed_and_forgotten() -> None:
    script = """
class Object:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)
        time.sleep(0)
def main():
    Object()
    print("too far")
    return 0
code = signals.run(main)
"""
    assert ended(script) == (-signal.SIGTERM, "", "")


def test_what_is_ignored_stays_ignored() -> None:
    script = """
signal.signal(signal.SIGHUP, signal.SIG_IGN)
code = signals.run(lambda: signal.raise_signal(signal.SIGHUP) or 7)
"""
    assert ended(script) == (7, "", "")


def test_who_imports_the_package_keeps_ctrl_c() -> None:
    script = "import ddpm_cli.cli\ncode = int(signal.getsignal(signal.SIGINT) is not signal.default_int_handler)"
    assert ended(script) == (0, "", "")


SLOW = "import pathlib, time\npathlib.Path('here').touch()\n"


@BOTH
@pytest.mark.parametrize("module", ["platformdirs", "typer", "torch"])
@pytest.mark.parametrize("how", ["module", "script"])
@pytest.mark.parametrize("turned", [False, True], ids=["", "turned into another error"])
def test_a_signal_while_modules_are_imported(
    tmp_path: Path, number: signal.Signals, module: str, how: str, turned: bool
) -> None:
    """With a module that takes its time: of the package, of the command line, and of a command."""
    sleep = "time.sleep(60)\n"
    if turned:
        sleep = f"try:\n    {sleep}except BaseException:\n    raise ImportError('it failed') from None\n"
    (tmp_path / f"{module}.py").write_text(SLOW + sleep)
    (tmp_path / "ddpm").write_text("from ddpm_cli.cli import entry\nentry()\n")
    start = [str(tmp_path / "ddpm")] if how == "script" else ["-m", "ddpm_cli"]
    search = os.pathsep.join([str(tmp_path), *sys.path])
    environment = {**os.environ, "PYTHONPATH": search, "DDPM_HOME": str(tmp_path / "home")}
    with subprocess.Popen(
        [sys.executable, *start, "sample", "-n", "1"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        until = time.monotonic() + 60
        while not (tmp_path / "here").exists() and child.poll() is None and time.monotonic() < until:
            time.sleep(0.002)
        for _ in range(2):
            child.send_signal(number)
        out, err = child.communicate(timeout=60)
    assert child.returncode == -number, err
    assert out == ""
    assert "Traceback" not in err
    assert "it failed" not in err
