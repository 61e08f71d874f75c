"""What can go wrong, and the exit code that says so.

Invariant: every failure that a user can cause or meet is a :class:`DdpmError`. Its message is one sentence
(what, found, expected) and its hint is the next thing to type; both are shown without a traceback.
Anything else that escapes is a bug and keeps its traceback (exit code 1).
"""

import difflib
from collections.abc import Iterable


class DdpmError(Exception):
    """An expected failure: one sentence, a hint, an exit code.

    Args:
        message: one sentence without a trailing full stop: what, what was found, what was expected.
        hint: what to do or type next; may be empty.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(DdpmError):
    """An unknown option, name or choice, a value out of range, or two wishes that contradict each other."""

    exit_code = 2


class DataError(DdpmError):
    """Input that is missing, unreadable, or not what its checksum says."""

    exit_code = 3


class ModelError(DdpmError):
    """A model or checkpoint that is unknown, corrupt, too new, or lacks the weights asked for."""

    exit_code = 4


class NumericsError(DdpmError):
    """The numbers broke: a non-finite loss, or samples that are no images."""

    exit_code = 5


class ResourceError(DdpmError):
    """Something the machine lacks: the device asked for, memory, disk, permission, network."""

    exit_code = 6


def unknown_name(what: str, found: str, known: Iterable[str]) -> UsageError:
    """A :class:`UsageError` for a name outside a fixed choice, with the nearest known name as hint."""
    names = sorted(known)
    near = difflib.get_close_matches(found, names, n=1, cutoff=0.5)
    guess = f"Did you mean {near[0]}? " if near else ""
    return UsageError(f"unknown {what} {found!r}", f"{guess}Known: {', '.join(names)}.")


PERMISSIONS = "Check the path, and who may read it: ls -ld"  # a hint

# Of a GPU; of the system, as torch, C++, the loader of libraries and Python's threads report it.
NO_MEMORY = (
    "out of memory",
    "allocate memory",
    "not enough memory",
    "bad_alloc",
    "failed to map segment",
    "can't start new thread",
)


def is_lack_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, of a device or of the system."""
    return isinstance(error, MemoryError) or any(word in str(error).lower() for word in NO_MEMORY)
