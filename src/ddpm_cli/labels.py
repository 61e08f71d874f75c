"""Class labels as text: classes by name or number, as every ``--label`` reads them.

Invariant: every class can be chosen, whatever its name is: ``@3`` is always the class of index 3.
"""

import difflib
import re
from collections.abc import Iterator, Sequence
from unicodedata import normalize

from ddpm_cli.errors import UsageError

ALL = "all"
LISTED = 100  # classes at most, in a message
NUMBER = re.compile("[0-9]+")
NUMERIC_NAME = re.compile(r"[+-]?[0-9]+([.][0-9]+)?")
RANGE = re.compile("(@?)([0-9]+)-(@?)([0-9]+)")
INDEX = re.compile("@[0-9]+(-@?[0-9]+)?")
DIGITS = 18  # beyond, a number is larger than any count of classes


def parse(text: str, classes: Sequence[str]) -> list[int]:
    """The indices of the classes in a list with commas.

    An entry is a class name, a number, ``@`` and an index, a range ``0-9`` or ``@0-@9``, or ``all``. A number is a name
    if any class has a numeric name, and else an index. A name may contain commas: the longest name that fits is taken.

    Args:
        text: as typed.
        classes: the names of all classes, in the order of their indices.

    Returns:
        At least one index.

    Raises:
        UsageError: there are no classes, or not these.
    """
    if not classes:
        raise UsageError("this model has no classes to choose from", "Leave out --label.")
    names = _Names(classes)
    words, chosen, start = text.split(","), list[int](), 0
    while start < len(words):
        # Names with commas in them first: the longest number of words that make a name.
        longest = min(len(words) - start, names.most_words)
        for count in range(longest, 0, -1):
            index = names.find(",".join(words[start : start + count]))
            if index is not None:
                chosen.append(index)
                break
        else:
            count = 1
            chosen += names.unnamed(words[start].strip(), text)
        start += count
    return chosen


def choose(text: str, classes: Sequence[str], images: Sequence[int]) -> list[int]:
    """The labels of images by their numbers: the classes in a list (:func:`parse`) in turn, from image 0 on.

    Raises:
        UsageError: as :func:`parse`.
    """
    chosen = parse(text, classes)
    return [chosen[image % len(chosen)] for image in images]


def listed(classes: Sequence[str]) -> str:
    """All classes with their indices, as ``--label`` reads them: @0 ant, @1 bee."""
    named = ", ".join(f"@{index} {name}" for index, name in enumerate(classes[:LISTED]))
    return named + (f" and {len(classes) - LISTED:,} more" if len(classes) > LISTED else "")


def names_of(labels: Sequence[int | None] | None, classes: Sequence[str]) -> list[str | None] | None:
    """The class names of labels; None where a label, or all of them, is not known."""
    return None if labels is None else [None if label is None else classes[label] for label in labels]


class _Names:
    """The names of classes, to look words up in."""

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = classes
        # A file system may store é as e and an accent. The first of two such names wins, unless typed exactly.
        self.alike = {normalize("NFC", name): index for index, name in reversed(list(enumerate(classes)))}
        self.exact = {name: index for index, name in enumerate(classes)}
        self.most_words = 1 + max(name.count(",") for name in classes)
        self.are_numeric = any(NUMERIC_NAME.fullmatch(name) for name in classes)

    def find(self, word: str) -> int | None:
        """The class of a name, with or without spaces around it; None if there is none, or for an index."""
        if INDEX.fullmatch(word.strip()):
            return None
        for name in (word, word.strip()):
            found = self.exact.get(name, self.alike.get(normalize("NFC", name)))
            if found is not None:
                return found
        return None

    def unnamed(self, word: str, text: str) -> Iterator[int]:
        """The classes of a word that is not a name: a number, a range, or all.

        Raises:
            UsageError: there is no such class.
        """
        if not word:
            raise UsageError(f"--label {text!r} contains an empty entry", "Name a class, such as: --label @0")
        if word == ALL:
            yield from range(len(self.classes))
        elif ends := RANGE.fullmatch(word):
            first, last = self._number(f"{ends[1]}{ends[2]}"), self._number(f"{ends[3] or ends[1]}{ends[4]}")
            if ends[1] or ends[3] or not self.are_numeric:
                yield from range(first, last + 1) if first <= last else range(first, last - 1, -1)
            else:
                low, high = int(ends[2]), int(ends[4])
                width = len(ends[2]) if ends[2].startswith("0") else 0  # names such as 01, 02
                numbers = (str(k).zfill(width) for k in range(low, high, 1 if low <= high else -1))
                yield from map(self._number, numbers)
                yield last
        else:
            yield self._number(word)

    def _number(self, word: str) -> int:
        """The class of an index, or of a number that is a name."""
        if word.startswith("@") or not self.are_numeric:
            digits = word.removeprefix("@")
            if NUMBER.fullmatch(digits) and len(digits) <= DIGITS and int(digits) < len(self.classes):
                return int(digits)
        elif (found := self.find(word)) is not None:
            return found
        near = difflib.get_close_matches(word, self.classes, n=1, cutoff=0.6)
        guess = f"Did you mean {near[0]}? " if near else ""
        count = f"{len(self.classes)} class{'es' if len(self.classes) > 1 else ''}"
        raise UsageError(f"Class {word} does not exist", f"{guess}This model has {count}: {listed(self.classes)}.")
