"""Signals that end the process, whenever they come and however often.

Invariant: the process ends by the default action of the signal, so that shell loops stop; no traceback is printed, and
no file is left half-written. This module imports little, for it is needed before the others are imported.
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

PROGRAMS = ("ddpm", "ddpm-cli", "ddpm.exe", "ddpm-cli.exe")
NUMBERS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
SIGNALLED = 128  # added to the number of a signal: a shell's exit code of what the signal ended
AGAIN = 1.0  # seconds within which another signal changes nothing: the process is already ending


class Ended(BaseException):
    """A signal that ends the process was sent to it. Not an Exception: no handler of errors may catch it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


received: list[int] = []
"""The signals for which :class:`Ended` was raised. A library may turn it into an error of its own."""


def prepare() -> None:
    """Where this process is the program ``ddpm``: let Ctrl-C end it at once while modules are imported.

    Nothing is written yet, and an exception raised amid the imports would be printed, or caught by a library.
    """
    name = sys.argv[0] if getattr(sys, "argv", None) else ""
    as_module = name == "-m" and "ddpm_cli" in sys.orig_argv  # while Python looks for the module
    if (as_module or os.path.basename(name) in PROGRAMS) and _is_default(signal.SIGINT):  # noqa: PTH119  # quick
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def run(main: Callable[[], int]) -> int:
    """Call a function that returns an exit code; a signal meanwhile raises :class:`Ended` in it, for it to tidy up.

    What is ignored, for example by nohup, stays ignored.

    Returns:
        Its exit code, or 128 and the number of a signal that it let through.
    """
    over = False
    last = -AGAIN

    def end(number: int, _frame: FrameType | None) -> None:
        nonlocal last
        if over:
            die(number)
        if time.monotonic() - last >= AGAIN:
            last = time.monotonic()
            received.append(number)
            raise Ended(number)

    def in_a_callback(found: Any) -> None:
        """Python prints an exception of a destructor or the like, and goes on."""
        if isinstance(found.exc_value, Ended):
            die(found.exc_value.number)
        sys.__unraisablehook__(found)

    received.clear()
    code = 0
    try:
        try:
            sys.unraisablehook = in_a_callback
            for number in filter(_is_default, NUMBERS):
                signal.signal(number, end)
            code = main()
        finally:
            over = True
    except Ended as ended:
        code = SIGNALLED + ended.number
    return code


def die(number: int) -> None:
    """End by the default action of a signal."""
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)


def _is_default(number: int) -> bool:
    return signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler)
