"""The figures of a run: metrics.jsonl, a line every few steps, and one an epoch with more in it.

Invariant: steps rise from line to line. Whatever is not such a line, one that a crash cut short say, ends the record:
what follows it is not read, and :func:`cut` takes it away.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ddpm_cli import documents, files
from ddpm_cli.errors import PERMISSIONS, ResourceError

LONGEST = 2**16  # bytes of a line that is one of ours
Line = dict[str, Any]  # "step", "loss" (None: not finite) and whatever else was known


def append(path: Path, values: Mapping[str, Any]) -> None:
    """Add a line; numbers that are not finite become null.

    Raises:
        ResourceError: it cannot be written.
    """
    plain = {name: finite(value) if isinstance(value, float) else value for name, value in values.items()}
    files.append_line(path, json.dumps(plain))


def read(path: Path) -> list[Line]:
    """The lines, the first first; none where there is no such file.

    Raises:
        ResourceError: it cannot be read.
    """
    lines: list[Line] = []
    try:
        documents.size_of(path)  # of a pipe or a device there is none
        with path.open("rb") as file:
            for row in iter(lambda: file.readline(LONGEST), b""):
                line = _line(row)
                if line is None or line["step"] <= (lines[-1]["step"] if lines else 0):
                    break
                lines.append(line)
    except FileNotFoundError:
        return lines
    except OSError as error:
        raise ResourceError(f"cannot read {path}: {error.strerror}", PERMISSIONS) from error
    return lines


def _line(row: bytes) -> Line | None:
    try:
        line = documents.parse(row)
    except ValueError:
        return None
    if not isinstance(line, dict) or type(line.get("step")) is not int:
        return None
    loss = line.get("loss", "")
    return line if loss is None or (isinstance(loss, float) and math.isfinite(loss)) else None


def cut(path: Path, step: int) -> list[Line]:
    """Keep the lines up to a step; returns them.

    Raises:
        ResourceError: the file cannot be written.
    """
    kept = [line for line in read(path) if line["step"] <= step]
    files.write_bytes(path, "".join(json.dumps(line) + "\n" for line in kept).encode())
    return kept


def finite(value: float) -> float | None:
    """A number as JSON can hold it."""
    return value if math.isfinite(value) else None
