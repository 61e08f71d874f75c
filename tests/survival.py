"""Runs what may hang, crash or eat memory in a fork of this process, and tells what became of each.

The fork has a gigabyte that the system enforces: what wanted more is refused it, and its exit code tells. Of files, it
tells which have changed.
"""

import faulthandler
import io
import json
import os
import re
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ddpm_cli.cli import main
from ddpm_cli.errors import DdpmError

MEMORY = 2**30  # bytes above the base that a mutant may take
SECONDS = 10.0  # that it may take, on a machine with other work to do
CONTROL = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")  # all but tabs and ends of lines
Figure = Callable[[str], None]


@dataclass(frozen=True)
class Mutant:
    """One mutant.

    Attributes:
        what: how it came about, for a claim that fails.
        put: puts it in its place.
        run: what is then done; gives the exit code.
    """

    what: str
    put: Callable[[], object]
    run: Callable[[], int]


class Outcome(NamedTuple):
    """What became of a mutant: its name, the exit code, what was said, seconds, and the peak in bytes so far."""

    what: str
    code: int
    out: str
    err: str
    seconds: float
    memory: int
    changed: list[str]


class Hang(BaseException):
    """Beyond every ``except Exception``."""


def survive(mutants: Iterable[Mutant], root: Path, spared: Callable[[str], bool]) -> list[Outcome]:
    """Runs mutants in a fork, one after the other.

    Args:
        mutants: made in the fork, one at a time.
        root: the folder of this test; what changes in it is told.
        spared: whether a file, named relative to the root, may change.
    """
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer versions of Python warn of threads, and the child uses none
        child = os.fork()
    if child == 0:
        os.close(reading)
        with open(writing, "w") as told:  # noqa: PTH123  # a handle
            _child(mutants, root, spared, told)
        os._exit(0)
    os.close(writing)
    with open(reading) as heard:  # noqa: PTH123
        lines = list(heard)
    _, status = os.waitpid(child, 0)
    assert status == 0, f"the process died with {status} after {lines[-1:]}"
    assert lines[-1] == "end\n", json.loads(lines[-1])
    return [Outcome(*json.loads(line)) for line in lines[:-1]]


def _child(mutants: Iterable[Mutant], root: Path, spared: Callable[[str], bool], told: io.TextIOBase) -> None:
    try:
        import torch

        torch.set_num_threads(1)
        signal.signal(signal.SIGALRM, _hang)
        base = _limit_memory()
        for mutant in mutants:
            mutant.put()
            faulthandler.dump_traceback_later(6 * SECONDS, exit=True, file=told)  # where no alarm is heard
            outcome = _outcome(mutant, root, spared, base)
            told.write(json.dumps(outcome) + "\n")
            told.flush()
        told.write("end\n")
    except BaseException:  # noqa: BLE001  # of the test itself
        told.write(json.dumps(traceback.format_exc()) + "\n")


def _hang(*_: object) -> None:
    raise Hang


def _limit_memory() -> int:
    """Let this process have MEMORY more bytes than it has; returns the peak so far."""
    import resource  # not on every system

    words = Path("/proc/self/status").read_text().partition("VmData:")[2].split()
    limit = int(words[0]) * 1024 + MEMORY
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    return _peak()


def _peak() -> int:
    """The most memory that this process has had, in bytes."""
    import resource

    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _outcome(mutant: Mutant, root: Path, spared: Callable[[str], bool], base: int) -> Outcome:
    before, begun = _look(root, spared), time.perf_counter()
    out, err = io.BytesIO(), io.BytesIO()
    sys.stdout = io.TextIOWrapper(out, "utf-8", "strict", write_through=True)
    sys.stderr = io.TextIOWrapper(err, "utf-8", "backslashreplace", write_through=True)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        code = mutant.run()
    except Hang:
        traceback.print_exc()
        code = -1
    except BaseException:  # noqa: BLE001  # what main has let pass is told as its bug
        traceback.print_exc()
        code = 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    seconds, after = time.perf_counter() - begun, _look(root, spared)
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    memory = _peak() - base
    told = [stream.getvalue().decode("utf-8", "replace")[-1_000_000:] for stream in (out, err)]
    return Outcome(mutant.what, code, told[0], told[1], seconds, memory, changed)


def _look(root: Path, spared: Callable[[str], bool]) -> dict[str, tuple[int, int, int]]:
    """Every file and link below a folder but the spared ones, with what changes when it is written."""
    found = {}
    for folder, folders, names in os.walk(root):
        for name in (*names, *folders):
            path = os.path.join(folder, name)  # noqa: PTH118  # often
            relative = os.path.relpath(path, root)
            if not spared(relative):
                state = os.lstat(path)
                found[relative] = (
                    state.st_ino,
                    state.st_size if name in names else 0,
                    state.st_mtime_ns if name in names else 0,
                )
    return found


def claim(outcomes: list[Outcome], codes: set[int], what: str, figure: Figure) -> Counter[int]:
    """What holds of every mutant: a documented exit code, no hang, no traceback, in little memory; refused in one
    sentence with a hint, with nothing on stdout; and no file changed but those it may change. Notes the figures."""
    wrong = {complaint: outcome for outcome in reversed(outcomes) if (complaint := fault(outcome, codes))}
    assert not wrong, "\n".join(f"{complaint}: {str(outcome)[:3000]}" for complaint, outcome in wrong.items())
    found = Counter(outcome.code for outcome in outcomes)
    slowest = max(outcome.seconds for outcome in outcomes)
    memory = max(outcome.memory for outcome in outcomes)
    figure(
        f"{len(outcomes)} mutants of {what}: {len(outcomes) - found[0]} refused, {found[0]} read; "
        f"at most {slowest:.1f} s and {memory / 1e6:.0f} MB each"
    )
    return found


def fault(outcome: Outcome, codes: set[int]) -> str:
    """What is wrong with how a mutant was met, in a few words; empty: nothing."""
    lines = outcome.err.splitlines()
    refused = len(lines) > 1 and lines[-2].startswith("ddpm: ") and lines[-1].startswith("  ") and lines[-1].strip()
    for wrong, what in (
        (outcome.code == -1, "it hangs"),
        ("Traceback" in outcome.err, f"a traceback, {lines[-3:-2]}"),
        (outcome.code not in codes, f"code {outcome.code}"),
        (outcome.code and not is_failure(outcome.out), "something on stdout"),
        (CONTROL.search(outcome.err), "a control character"),
        (outcome.changed, f"{outcome.changed} changed"),
        (outcome.memory > MEMORY, f"{outcome.memory / 1e6:.0f} MB"),
        (outcome.code and not refused, f"no sentence with a hint but {lines[-1:]}"),
        (outcome.code and outcome.err.count("ddpm: ") != 1, "more than a sentence"),
    ):
        if wrong:
            return what
    return ""


def is_failure(out: str) -> bool:
    """Whether stdout is what it should be after a failure: empty, or with --json the document of the failure."""
    return not out or (out.endswith("}\n") and json.loads(out)["status"] in ("failed", "interrupted"))


def ddpm(*arguments: object) -> Callable[[], int]:
    return lambda: main([str(argument) for argument in arguments])


def api(call: Callable[[], object]) -> Callable[[], int]:
    """A call behind the error boundary, without a command line around it."""

    def run() -> int:
        try:
            call()
        except DdpmError as error:
            print(f"ddpm: {error.message}.\n  {error.hint}", file=sys.stderr)  # noqa: T201
            return error.exit_code
        return 0

    return run
