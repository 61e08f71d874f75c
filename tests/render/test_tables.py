"""Tables are read by the programs that they are written for."""

import csv
import io

import pytest

from ddpm_cli.render.tables import as_csv, as_latex, as_markdown

HEAD = ("figure", "value")
ROWS = [["a_1, 50 %", "0.5 ± 0.1"], ['"quoted" & #$', "3"], ["new\nline", "\x1b[31m"]]


def test_a_csv_is_read_again_with_every_cell() -> None:
    found = list(csv.reader(io.StringIO(as_csv(HEAD, ROWS))))
    assert found[:3] == [list(HEAD), *ROWS[:2]]
    assert all(cell.isprintable() for row in found for cell in row)
    assert len(found) == 4


def test_markdown_has_a_line_per_row_with_numbers_on_the_right() -> None:
    assert as_markdown(("a", "b"), [["x|y", "1"], ["*z*", "2 %"]]) == (
        "| a | b |\n| --- | ---: |\n| x\\|y | 1 |\n| \\*z\\* | 2 % |\n"
    )


def test_latex_is_a_tabular_in_which_nothing_is_a_command() -> None:
    assert as_latex(("a", "b"), [["50 % & x_1", "1 ± 2"], ["\\a{y}~^#$<>", ""]]) == (
        "\\begin{tabular}{lr}\n"
        "  a & b \\\\\n"
        "  \\hline\n"
        "  50 \\% \\& x\\_1 & 1 $\\pm$ 2 \\\\\n"
        "  \\textbackslash{}a\\{y\\}\\textasciitilde{}\\textasciicircum{}\\#\\$\\textless{}\\textgreater{} &  \\\\\n"
        "\\end{tabular}\n"
    )


@pytest.mark.parametrize("table", [as_csv, as_markdown, as_latex])
def test_no_cell_leaves_its_line(table: object) -> None:
    text = table(HEAD, ROWS)  # type: ignore[operator]
    assert text.count("\n") == {as_csv: 4, as_markdown: 5, as_latex: 7}[table]  # type: ignore[index]
    assert "\x1b" not in text
