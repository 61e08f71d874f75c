"""Tables of text as CSV, Markdown and LaTeX."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence

from ddpm_cli.printable import printable

Rows = Sequence[Sequence[str]]
LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
}


def as_csv(head: Sequence[str], rows: Rows) -> str:
    """Return a table with commas between the columns."""
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([head, *(map(printable, row) for row in rows)])
    return table.getvalue()


def as_markdown(head: Sequence[str], rows: Rows) -> str:
    """Return a table as GitHub and most Markdown programs read it; numbers are on the right."""
    escapes = {ord(character): f"\\{character}" for character in "\\|`*_<"}
    lines = [[printable(cell).translate(escapes) for cell in row] for row in (head, *rows)]
    lines.insert(1, ["---", *["---:"] * (len(head) - 1)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def as_latex(head: Sequence[str], rows: Rows) -> str:
    """Return a tabular that needs no package; numbers are on the right."""
    escapes = {ord(character): text for character, text in LATEX.items()}
    first, *lines = ["  " + " & ".join(printable(cell).translate(escapes) for cell in row) for row in (head, *rows)]
    body = [f"{first} \\\\", "  \\hline", *(f"{line} \\\\" for line in lines)]
    return "\n".join([f"\\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}", *body, "\\end{tabular}", ""])


TABLES: Mapping[str, Callable[[Sequence[str], Rows], str]] = {".csv": as_csv, ".md": as_markdown, ".tex": as_latex}
