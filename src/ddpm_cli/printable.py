"""Foreign text (names of files, models, classes and runs; messages of libraries) as it may be shown to a person.

Invariant: what is shown stays in one line, moves no cursor, changes no color and reverses no writing.
"""

import re


def printable(text: str) -> str:
    r"""Escape every character that is not printable: ``\n``, ``\x1b``, ``\u202e``.

    A byte of a file name that is not valid UTF-8, which Python stores as a lone surrogate, becomes ``\xff``, also where
    :func:`repr` has already made ``\udcff`` of it.
    """
    if not text.isprintable():
        text = "".join(c if c.isprintable() else ascii(_byte(c))[1:-1] for c in text)
    return re.sub(r"\\udc([89a-f][0-9a-f])", r"\\x\1", text)


def _byte(character: str) -> str:
    """The character of the byte that a lone surrogate stands for (PEP 383); any other as it is."""
    return chr(ord(character) - 0xDC00) if 0xDC80 <= ord(character) <= 0xDCFF else character
