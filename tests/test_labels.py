"""Classes by name, number and range; the expected indices are read off the names by hand."""

import pytest

from ddpm_cli.errors import UsageError
from ddpm_cli.labels import LISTED, choose, listed, names_of, parse

PETS = ("ant", "bee", "cat")
DIGITS = tuple("0123456789")
FROM_ONE = ("1", "2", "3")
TEXT_ORDER = ("1", "10", "2", "9")  # as folders are sorted
ODD = ("T-shirt/top", "a, b", "a", "b", " led", "@0", "all", "1-2")
LETTERS = ("0", "1", "A", "B")


@pytest.mark.parametrize(
    ("classes", "text", "expected"),
    [
        (PETS, "bee", [1]),
        (PETS, "0", [0]),
        (PETS, "2,bee", [2, 1]),
        (PETS, " cat , 0", [2, 0]),
        (PETS, "@2", [2]),
        (PETS, "all", [0, 1, 2]),
        (PETS, "0-2", [0, 1, 2]),
        (PETS, "1-1", [1]),
        (PETS, "2-0", [2, 1, 0]),
        (PETS, "@0-@1,cat", [0, 1, 2]),
        (PETS, "@1-2", [1, 2]),
        (PETS, "007", None),
        (PETS, "3", None),
        (PETS, "@3", None),
        (PETS, "0-3", None),
        (PETS, "dog", None),
        (PETS, "", None),
        (PETS, "0,", None),
        (PETS, ",", None),
        (PETS, "-1", None),
        (PETS, "@", None),
        (PETS, "@-1", None),
        (PETS, "1.0", None),
        (PETS, "\u00b2", None),
        (PETS, "\u0661", None),  # an Arabic 1 is not what the help shows
        (PETS, "9" * 5000, None),
        (PETS, "0-" + "9" * 5000, None),
        (PETS, "0-999999999999", None),
        (DIGITS, "7", [7]),
        (DIGITS, "0-9", list(range(10))),
        (DIGITS, "10", None),
        (FROM_ONE, "1", [0]),
        (FROM_ONE, "3", [2]),
        (FROM_ONE, "0", None),
        (FROM_ONE, "@0", [0]),
        (FROM_ONE, "1-3", [0, 1, 2]),
        (FROM_ONE, "3-1", [2, 1, 0]),
        (FROM_ONE, "@0-@2", [0, 1, 2]),
        (FROM_ONE, "0-3", None),
        (FROM_ONE, "1-999999999999", None),
        (TEXT_ORDER, "10", [1]),
        (TEXT_ORDER, "1-2", [0, 2]),
        (TEXT_ORDER, "9-10", [3, 1]),
        (TEXT_ORDER, "@1-@2", [1, 2]),
        (("08", "09", "10"), "08-10", [0, 1, 2]),
        (("0.5", "1.0"), "1.0", [1]),
        (("0.5", "1.0"), "1", None),
        (("-1", "1"), "-1", [0]),
        (LETTERS, "1", [1]),
        (LETTERS, "2", None),
        (LETTERS, "@2,A", [2, 2]),
        (ODD, "T-shirt/top", [0]),
        (ODD, "a, b", [1]),
        (ODD, "a,b", [2, 3]),
        (ODD, "b,a, b,a", [3, 1, 2]),
        (ODD, " led", [4]),
        (ODD, "@0", [0]),
        (ODD, "@5", [5]),
        (ODD, "all", [6]),
        (ODD, "@0-@7", list(range(8))),
        (ODD, "1-2", [7]),
        (("Cafe\u0301", "tea"), "Caf\u00e9", [0]),
        (("Cafe\u0301", "Caf\u00e9"), "Caf\u00e9", [1]),
    ],
)
def test_a_text_means_these_classes(classes: tuple[str, ...], text: str, expected: list[int] | None) -> None:
    if expected is None:
        with pytest.raises(UsageError):
            parse(text, classes)
    else:
        assert parse(text, classes) == expected


def test_an_unknown_class_lists_the_valid_ones() -> None:
    with pytest.raises(UsageError, match=r"^Class 3 does not exist$") as caught:
        parse("0,3", PETS)
    assert caught.value.hint == "This model has 3 classes: @0 ant, @1 bee, @2 cat."
    with pytest.raises(UsageError, match=r"^Class cut does not exist$") as caught:
        parse("cut", PETS)
    assert caught.value.hint == "Did you mean cat? This model has 3 classes: @0 ant, @1 bee, @2 cat."
    with pytest.raises(UsageError, match="--label '0,' contains an empty entry"):
        parse("0,", PETS)
    with pytest.raises(UsageError, match="no classes"):
        parse("0", ())


def test_the_list_of_many_classes_ends() -> None:
    text = listed([f"kind {k}" for k in range(1234)])
    assert text.startswith("@0 kind 0, @1 kind 1, ")
    assert text.endswith(f"@{LISTED - 1} kind {LISTED - 1} and 1,134 more")


def test_classes_are_dealt_by_the_number_of_the_image() -> None:
    assert choose("ant,cat", PETS, range(3, 7)) == [2, 0, 2, 0]


def test_names_of_labels() -> None:
    assert names_of([2, None, 0], PETS) == ["cat", None, "ant"]
    assert names_of(None, PETS) is None
