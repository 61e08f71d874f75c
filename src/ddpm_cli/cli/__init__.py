"""The command line: a file a command, and one boundary around all of them.

Invariant: nothing here, nor in a command's module, imports torch, numpy or matplotlib before a command runs, so that
help is instant; and whatever happens, :func:`main` turns it into one of the documented exit codes.
"""

import contextlib
import difflib
import errno
import io
import os
import re
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ddpm_cli import __version__, files, paths, signals
from ddpm_cli.cli import data, doctor, edit, models, noise, sample, schedule, train
from ddpm_cli.cli import eval as eval_
from ddpm_cli.cli._completion import Install, Show, with_shell
from ddpm_cli.cli._options import EXAMPLES
from ddpm_cli.cli._output import Output, ReaderGone, forget, library_messages, line, say, stdout_failed
from ddpm_cli.cli._settings import Commands, read_settings
from ddpm_cli.errors import DdpmError, ResourceError, UsageError, is_lack_of_memory

__all__ = ["app", "entry", "main"]

app = typer.Typer(
    name="ddpm",
    cls=Commands,
    help="Train denoising diffusion models, draw from them, and see how they work.",
    epilog=EXAMPLES["ddpm"],
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,  # by options of ours
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("train", epilog=EXAMPLES["train"])(train.train)
app.command("sample", epilog=EXAMPLES["sample"])(sample.sample)
app.add_typer(edit.app, name="edit")
app.command("noise", epilog=EXAMPLES["noise"])(noise.noise)
app.command("eval", epilog=EXAMPLES["eval"])(eval_.evaluate)
app.add_typer(schedule.app, name="schedule")
app.add_typer(models.app, name="models")
app.add_typer(data.app, name="data")
app.command("doctor", epilog=EXAMPLES["doctor"])(doctor.doctor)

GROUPS = {"edit", "schedule", "models", "data"}  # commands with commands below them


def _version(context: typer.Context, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        typer.echo(f"ddpm {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
    install_completion: Install = None,
    show_completion: Show = None,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit
    if not {"-h", "--help"} & set(context.obj or ()):  # help can be read even where the settings are wrong
        files.check_current_folder()
        try:
            read_settings(context)
        except (DdpmError, OSError):
            if context.invoked_subcommand != "doctor":  # which says itself what is wrong with them
                raise


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``ddpm`` and return its exit code; every error ends here.

    Args:
        argv: the arguments, without the program's name; None: those of the process.
    """
    arguments = with_shell(list(sys.argv[1:] if argv is None else argv))
    Output.owed = "--json" in arguments  # also where the arguments cannot be parsed
    try:
        stdout = sys.stdout
        if isinstance(stdout, io.TextIOWrapper):
            stdout.reconfigure(errors="surrogateescape")  # a path that is no UTF-8 goes out as it came in
        _provide_temporary_folder()
        with library_messages():
            code = app(args=arguments, prog_name="ddpm", standalone_mode=False, obj=arguments)
        sys.stdout.flush()
        if isinstance(code, int) and code > signals.SIGNALLED:  # Typer turns Ctrl-C into this code by itself
            return _interrupted(code - signals.SIGNALLED)
        return code if isinstance(code, int) else 0
    except UsageError as error:
        return _report(error.message, error.hint or f"See: {_command(argv)} --help", error.exit_code)
    except DdpmError as error:
        return _report(error.message, error.hint, error.exit_code)
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "ddpm"
        message = error.format_message() if hasattr(error, "format_message") else str(error) or "aborted"
        message = message.replace("Value error, ", "").rstrip(".")  # what pydantic puts before a choice
        return _report(message, f"{_guess(message)}See: {command} --help", getattr(error, "exit_code", 2))
    except (ReaderGone, BrokenPipeError):
        forget(sys.stdout)  # nobody reads any more
        return 141
    except SystemExit as end:
        if sys.stdout is stdout:
            raise
        sys.stdout = stdout  # Typer met a closed pipe while it printed help
        return 141 if end.code == 1 else int(end.code or 0)
    except KeyboardInterrupt:
        return _interrupted(signal.SIGINT)
    except signals.Ended as end:
        return _interrupted(end.number)
    except Exception as error:  # noqa: BLE001  # the one boundary
        known = _expected(error)
        if known is not None:
            return _report(known.message, known.hint, known.exit_code)
        if not signals.received:
            _print_traceback()
        return _report(f"this is a bug: {error!r}", "Please report it with the lines above.", 1)


def _provide_temporary_folder() -> None:
    """Where no temporary folder can be written, as in a read-only container, use one below DDPM_HOME.

    Libraries look for one when they are imported, and fail without.
    """
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        # Where this fails too, some commands work, and the others fail with the error from above.
        with contextlib.suppress(OSError, ResourceError):
            folder = paths.cache() / "tmp"
            folder.mkdir(parents=True, exist_ok=True)
            if os.access(folder, os.W_OK | os.X_OK):
                tempfile.tempdir = os.environ["TMPDIR"] = str(folder)


def _expected(error: Exception) -> DdpmError | None:
    """What to report of a lack of memory, of an error of the operating system, or of a name that it cannot have; None:
    of any other error."""
    if is_lack_of_memory(error):
        return ResourceError("there is not enough memory", NO_MEMORY_HINT)
    if isinstance(error, UnicodeEncodeError) or "embedded null" in str(error):
        return UsageError(
            "a name contains a character that no file name can have here", "Use plain letters and digits."
        )
    if not isinstance(error, OSError):
        return None
    if error.filename is None and (error.errno in NO_ROOM or not sys.stdout.writable()):
        return stdout_failed(error)
    return files.system_error(error) if error.errno else None


NO_MEMORY_HINT = "Use a smaller --batch-size, close other programs, or raise the limit (ulimit -v)."
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _interrupted(number: int) -> int:
    """End after a signal; a training that it stopped has already printed its document."""
    code = signals.SIGNALLED + number
    _print_failure("interrupted", "", code, "interrupted")
    return code


def _guess(message: str) -> str:
    """For "'lin' is not one of 'linear', ...": the nearest of them."""
    found, _, choices = message.partition(" is not one of ")
    near = difflib.get_close_matches(
        found.rpartition("'")[0].rpartition("'")[2], re.findall(r"'([^']+)'", choices), n=1
    )
    return f"Did you mean {near[0]}? " if near else ""


def _command(argv: Sequence[str] | None) -> str:
    """The command that was typed: "ddpm schedule show"."""
    words = ["ddpm", *(sys.argv[1:] if argv is None else argv)]
    depth = 3 if words[1:2] and words[1] in GROUPS else 2
    return " ".join(words[: next((k for k, word in enumerate(words[:depth]) if word.startswith("-")), depth)])


def _report(message: str, hint: str, code: int) -> int:
    if signals.received:  # the error is what a library made of the signal
        return _interrupted(signals.received[-1])
    if os.environ.get("DDPM_DEBUG") == "1" and code != 1:
        _print_traceback()
    say(f"ddpm: {message}.")
    if hint:
        say(f"  {hint}")
    _print_failure(message, hint, code)
    return code


def _print_failure(message: str, hint: str, code: int, status: str = "failed") -> None:
    """Print the document that --json promises, unless it is already printed or stdout takes no more."""
    if Output.owed:
        with contextlib.suppress(ReaderGone, ResourceError):
            document = {"code": code, "error": line(message), "hint": line(hint)}
            Output(json=True).document(document, status)


def _print_traceback() -> None:
    for part in traceback.format_exc().splitlines():
        say(part)


def _open_streams() -> None:
    """Give streams that the caller closed something to be: nothing to read, nowhere for notes, an error for results."""
    if sys.stdin is None:
        sys.stdin = Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115  # for as long as the process lives
    if sys.stdout is None:
        sys.stdout = Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115  # not for writing
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  # for as long as the process lives


def entry() -> None:
    """The console script: :func:`main`, and after a signal the signal's default action, so that shell loops stop."""
    _open_streams()
    warnings.resetwarnings()  # PYTHONWARNINGS=error, meant for the user's own code, would make an error of each
    for category in (DeprecationWarning, ResourceWarning):  # for developers
        warnings.simplefilter("ignore", category)
    code = signals.run(main)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            forget(stream)
    if code - signals.SIGNALLED in signals.NUMBERS and os.name == "posix":
        signals.die(code - signals.SIGNALLED)
    sys.exit(code)
