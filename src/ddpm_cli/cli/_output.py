"""What a command says, and where: results on stdout, everything else on stderr.

Invariant: stdout holds the result of the command and nothing else; with --json exactly one document.
"""

import contextlib
import json
import logging
import math
import os
import shutil
import sys
import textwrap
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, NoReturn, TextIO

from ddpm_cli import files
from ddpm_cli.errors import ResourceError, UsageError
from ddpm_cli.printable import printable
from ddpm_cli.render.tables import TABLES

SCHEMA = 1
Table = tuple[Sequence[str], Sequence[Sequence[str]]]
"""The head and the rows of a table."""
DAY = 86400.0  # seconds
SILENCE = 30.0  # seconds between two lines of progress off a terminal


class ReaderGone(Exception):
    """The reader of stdout closed the pipe; the process ends silently."""


class Output:
    """The streams of one command.

    Args:
        json: whether the result is a JSON document.
        quiet: whether stderr stays silent but for errors.
        verbose: whether details are printed.

    Attributes:
        owed: whether stdout still lacks the document that --json promises; of the process.
        current: that of the command that runs; of the process.
    """

    owed: ClassVar[bool] = False
    current: ClassVar["Output | None"] = None

    def __init__(self, json: bool = False, quiet: bool = False, verbose: bool = False) -> None:
        if quiet and verbose:
            raise UsageError("--quiet and --verbose contradict each other", "Choose one.")
        self.json, self.quiet, self.verbose = json, quiet, verbose
        self.live: Live | None = None
        self._routine = -math.inf
        Output.owed = Output.owed or json
        if verbose:
            logging.disable(logging.NOTSET)
        Output.current = self

    def note(self, text: str) -> None:
        """A sentence for the user."""
        if not self.quiet:
            if self.live is not None:
                self.live.above(text)
            else:
                say(text)

    def routine(self, text: str) -> None:
        """A sentence that comes again and again: all of them on a terminal, elsewhere one now and then."""
        if sys.stderr.isatty() or time.monotonic() - self._routine > SILENCE:
            self._routine = time.monotonic()
            if self.live is not None:
                self.live.said = self._routine
            self.note(text)

    def detail(self, text: str) -> None:
        """A sentence for the user who asked for more."""
        if self.verbose:
            self.note(text)

    def result(self, text: str, colored: bool = False) -> None:
        """The result as lines of text, with --json left to :meth:`document`.

        Args:
            text: may hold foreign names.
            colored: the text holds escape sequences of ours, and no foreign name that is not :func:`printable`.
        """
        if not self.json:
            self._write("".join(f"{part if colored else printable(part)}\n" for part in text.split("\n")))

    def paths(self, *paths: Path | str) -> None:
        """The result as paths, one per line: on a terminal printable, off it byte for byte, for scripts."""
        if not self.json and paths:
            on_terminal = sys.stdout.isatty()
            self._write("".join(f"{printable(str(path)) if on_terminal else path}\n" for path in paths))

    def document(self, values: Mapping[str, Any], status: str = "done") -> None:
        """The result as the one JSON document; without --json, nothing."""
        if self.json:
            document = {"schema": SCHEMA, "status": status, **values}
            Output.owed = False
            self._write(json.dumps(_plain(document), allow_nan=False, separators=(",", ":")) + "\n")

    @staticmethod
    def as_json(values: Mapping[str, Any]) -> str:
        """The same document for a file, which people may read."""
        return json.dumps(_plain({"schema": SCHEMA, "status": "done", **values}), allow_nan=False, indent=2)

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """The result as a table: aligned on a terminal, tab-separated off it."""
        if self.json:
            return
        rows = [[printable(cell) for cell in row] for row in rows]
        if not sys.stdout.isatty():
            self._write("".join("\t".join(row) + "\n" for row in [head, *rows] if row))
            return
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for number, name in enumerate(head):
            table.add_column(name, justify="right" if _is_number(rows, number) else "left")
        for row in rows:
            table.add_row(*map(Text, row))  # a str would be read as markup
        Console().print(table)

    def report(
        self, document: Mapping[str, Any], short: Table, exact: Table, output: Path | None, written: Mapping[str, Path]
    ) -> None:
        """Figures as a table and as a document: printed, or in a file.

        Args:
            document: for --json and for .json files.
            short: for people at a terminal, and in .md and .tex files.
            exact: for programs: off a terminal, and in .csv files.
            output: a .json, .csv, .md or .tex file, `-` for JSON on stdout; None: print.
            written: files written beside, by their key in the document on stdout.

        Raises:
            ResourceError: it cannot be written.
        """
        if output is None:
            self.document({**document, **written})
            self.table(*(short if sys.stdout.isatty() else exact))
            return
        text = self.as_json(document) + "\n"
        suffix = output.suffix.lower()
        if suffix in TABLES:
            text = TABLES[suffix](*(exact if suffix == ".csv" else short))
        self.save(output, text.encode())
        self.document({**document, **written, "output": output})
        if output != Path("-"):
            self.paths(output)

    def _bytes(self, data: bytes) -> None:
        """The result as bytes on stdout.

        Raises:
            ResourceError: stdout is closed, or its disk is full.
        """
        try:
            sys.stdout.flush()
            rest = memoryview(data)
            while rest:  # an unbuffered stdout may take a part only
                rest = rest[sys.stdout.buffer.write(rest) :]
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            _reader_gone()
        except OSError as error:
            raise stdout_failed(error) from error

    def save(self, path: Path, data: bytes) -> None:
        """The result as a file, or for `-` as bytes on stdout.

        Raises:
            ResourceError: it cannot be written.
        """
        self._bytes(data) if path == Path("-") else files.write_bytes(path, data)

    def agreed(self, question: str, yes: bool) -> bool:
        """Whether the user wants what cannot be undone: said with --yes, else asked for on the terminal.

        Raises:
            UsageError: nobody can be asked.
        """
        if yes:
            return True
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise UsageError("this removes files, and there is no terminal to ask on", "Say so beforehand: --yes")
        print(f"{line(question)} [y/N] ", end="", file=sys.stderr, flush=True)  # noqa: T201
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    def check_dash(self, path: str | Path | None) -> None:
        """Refuse `-o -` where bytes would do harm.

        Raises:
            UsageError: stdout is a terminal, or promised to a JSON document.
        """
        if str(path) == "-" and self.json:
            raise UsageError("-o - and --json both want stdout", "Write the result to a file.")
        if str(path) == "-" and sys.stdout.isatty():
            raise UsageError("-o - would write bytes to the terminal", "Redirect it: ddpm ... -o - > file")

    @contextmanager
    def progress(self, what: str, unit: str, total: float | None = None, scale: float = 1) -> Iterator["Live"]:
        """Show how something long goes on, with rate and time left, until the block ends.

        Args:
            what: goes on.
            unit: of what is counted.
            total: of these in all, where it is known.
            scale: what is told is counted in so many of them: 1e-6 for bytes shown in MB.
        """
        self.live = Live(what, unit, total, self.quiet, scale)
        try:
            with self.live:
                yield self.live
        finally:
            self.live = None

    def _write(self, text: str) -> None:
        # As bytes: the text layer of an unbuffered stdout drops what a full disk or pipe does not take at once.
        encoding = sys.stdout.encoding or "utf-8"
        try:
            self._bytes(text.encode(encoding, errors="surrogateescape"))  # a path that is no UTF-8, as it came in
        except UnicodeEncodeError:
            self._bytes(text.encode(encoding, errors="replace"))


class Live:
    """Progress on stderr: a bar on a terminal, elsewhere a plain line now and then."""

    def __init__(self, what: str, unit: str, total: float | None, quiet: bool, scale: float = 1) -> None:
        self.what, self.unit, self.total, self.quiet, self.scale = what, unit, total, quiet, scale
        self.said = self.begun = time.monotonic()
        self.before: float | None = None  # what an earlier attempt had left
        self.bar: Any = None
        if not quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self.bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[text]}", markup=False),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self.task = self.bar.add_task(line(what), total=total, text="")

    def __enter__(self) -> "Live":
        if self.bar is not None:
            with contextlib.suppress(OSError, ValueError):
                self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            with contextlib.suppress(OSError, ValueError):
                self.bar.stop()

    def above(self, text: str) -> None:
        """A sentence that stays, above the bar."""
        if self.bar is not None:
            from rich.text import Text

            with contextlib.suppress(OSError, ValueError):
                self.bar.console.print(Text(line(text)))  # a str would be read as markup, and for emoji
        else:
            say(text)

    def __call__(self, done: float, total: float) -> None:
        """How far it is; rate and time left are worked out here."""
        done, total = self.scale * done, self.scale * total
        if self.before is None:
            self.before, self.begun = done, time.monotonic()
        rate = (done - self.before) / max(time.monotonic() - self.begun, 1e-6)
        self.update(done, total, f"{rate:,.1f} {self.unit}/s", (total - done) / rate if rate else None)

    def update(self, done: float, total: float | None, text: str, seconds_left: float | None = None) -> None:
        """How far it is.

        Args:
            done: units done.
            total: units in all, or None.
            text: what else to show, a rate say.
            seconds_left: for the plain line; the bar estimates by itself.
        """
        if self.quiet:
            return
        if self.bar is not None:
            with contextlib.suppress(OSError, ValueError):
                self.bar.update(self.task, completed=done, total=total, text=text)
        elif time.monotonic() - self.said > SILENCE:
            self.said = time.monotonic()
            of = f" of {total:,.0f}" if total else ""
            left = f"  {duration(seconds_left)} left" if seconds_left is not None else ""
            say(f"{self.what}  {done:,.0f}{of} {self.unit}  {text}{left}")


@contextmanager
def library_messages() -> Iterator[None]:
    """Print the warnings and log records of libraries as notes with --verbose, and not at all without.

    Records of a library that has its own handlers, such as torch, are printed by these.
    """

    def show(text: str) -> None:
        if Output.current is not None:
            Output.current.detail(text)

    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: show(f"{record.name}: {record.getMessage()}")  # type: ignore[method-assign]
    before, disabled = (warnings.showwarning, logging.lastResort), logging.root.manager.disable
    logging.disable(logging.WARNING)
    warnings.showwarning = lambda message, category, *_: show(f"{category.__name__}: {message}")
    logging.lastResort = handler
    Output.current = None
    try:
        yield
    finally:
        warnings.showwarning, logging.lastResort = before
        logging.disable(disabled)


def say(text: str) -> None:
    """Print a line to stderr. A terminal that was closed, or a reader that left, is no reason to stop."""
    with contextlib.suppress(OSError, ValueError):
        print(line(text), file=sys.stderr, flush=True)  # noqa: T201


def line(text: str) -> str:
    """Shorten a text that may hold foreign names to a line that does nothing to a terminal, and is not a page."""
    shown = printable(text)
    return shown if len(shown) < LONGEST else f"{shown[: LONGEST // 2]}...{shown[-LONGEST // 2 :]}"


LONGEST = 2000  # characters of a line


def counted(images: int) -> str:
    """How many images, in words that fit their number."""
    return f"{images:,} image{'s' if images != 1 else ''}"


def duration(seconds: float) -> str:
    """A time for people: 45 s, 3 min, 2 h 05 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"


def age(changed: float | None) -> str:
    """How long ago a time is, in seconds since 1970: "45 s", "3 min", "2 h 05 min", "3 days"; None: empty."""
    if changed is None:
        return ""
    seconds = max(0.0, time.time() - changed)
    return duration(seconds) if seconds < 2 * DAY else f"{seconds / DAY:,.0f} days"


def aligned(rows: Sequence[tuple[str, str]]) -> str:
    """Names and values in two columns for a terminal: long values go on below their beginning, no path is broken."""
    margin = max(len(name) for name, _ in rows) + 2
    room = max(20, shutil.get_terminal_size().columns - margin)
    lines = []
    for name, value in rows:
        broken = textwrap.wrap(value, room, break_long_words=False, break_on_hyphens=False)
        lines += [f"{head:{margin}}{part}" for head, part in zip([name, *[""] * len(broken)], broken, strict=False)]
    return "\n".join(lines)


def stdout_failed(error: OSError) -> ResourceError:
    """What to say where stdout takes no more; what Python still holds for it is let go."""
    forget(sys.stdout)
    reason = (error.strerror or "it is closed").lower()
    return ResourceError(f"cannot write to stdout: {reason}", "Send the result somewhere else, or free some space.")


def forget(stream: TextIO) -> None:
    """Let go what Python still holds for a stream that takes no more: flushed at the end, it would change the code."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _reader_gone() -> NoReturn:
    # Typer turns a BrokenPipeError into exit code 1 by itself; this passes it by.
    raise ReaderGone


def _is_number(rows: Sequence[Sequence[str]], column: int) -> bool:
    return all(row[column] == "inf" or row[column][:1] in "0123456789-." for row in rows)


def _plain(value: Any) -> Any:
    """JSON has no NaN and no infinity: null. Paths are absolute."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value.absolute()) if isinstance(value, Path) else value
