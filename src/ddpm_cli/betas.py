"""A schedule of one's own, from a file of betas: JSON, a CSV, or a number a line."""

import csv
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from ddpm_cli import documents, ranges
from ddpm_cli.config import ScheduleConfig
from ddpm_cli.errors import DataError

LARGEST = 64 * 2**20  # bytes of a file
LARGEST_JSON = 24 * 2**20  # characters: a million betas, and no more lists in lists than fit into memory
FORMS = 'Write a number a line, a CSV with a column beta, or {"betas": [...]}.'


def from_file(path: Path) -> ScheduleConfig:
    """The schedule whose betas a file holds; `-` is stdin.

    Raises:
        DataError: it cannot be read, or holds no betas.
        UsageError: one lies outside (0, 1).
    """
    try:
        text = sys.stdin.read(LARGEST) if path == Path("-") else documents.text(path, LARGEST)
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}", FORMS) from error
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read the betas in {path} ({error})", FORMS) from error
    return read(text, str(path))


def read(text: str, name: str) -> ScheduleConfig:
    """The schedule whose betas a text holds; their number decides T.

    Args:
        text: JSON (a list, or an object with ``betas``), a CSV with a column ``beta``, or one number a line.
        name: of the file, for messages.

    Raises:
        DataError: there are none in it.
        UsageError: one lies outside (0, 1).
    """
    try:
        found = _from_json(text) if text[:99].lstrip()[:1] in ("[", "{") else _from_table(text)
        betas = tuple(islice(found, int(ranges.TIMESTEPS.most) + 1))  # one too many is refused below
    except (ValueError, LookupError, TypeError, OverflowError, csv.Error) as error:
        raise DataError(f"{name} holds no betas ({str(error)[:80]})", FORMS) from error
    if not betas:
        raise DataError(f"{name} holds no betas", FORMS)
    return ScheduleConfig(kind="custom", timesteps=len(betas), betas=betas)


def _from_json(text: str) -> Iterator[float]:
    if len(text) > LARGEST_JSON:
        raise ValueError(f"more than {LARGEST_JSON:,} characters of JSON")
    values = documents.parse(text)
    return map(float, values["betas"] if isinstance(values, dict) else values)


def _from_table(text: str) -> Iterator[float]:
    """One by one, for a table is many times as large in memory as its betas."""
    rows = (row for row in csv.reader(_lines(text), delimiter="\t" if "\t" in text else ",") if row)
    head = next(rows, [])
    if "beta" not in head:
        yield from map(float, head[:1])
        yield from (float(row[0]) for row in rows)
        return
    column, level = head.index("beta"), head.index("t") if "t" in head else None
    for number, row in enumerate(rows):
        # A table of ours starts at level 0, which has no beta.
        if number or level is None or float(row[level]) != 0:
            yield float(row[column])


def _lines(text: str) -> Iterator[str]:
    """The lines of a text, without a copy of all of it."""
    start = 0
    while start < len(text):
        end = text.find("\n", start) + 1 or len(text)
        yield text[start:end]
        start = end
