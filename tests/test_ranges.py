"""What a number may be, and the sentence for a value that it may not be."""

import math
from typing import Any

import pytest

from ddpm_cli import ranges
from ddpm_cli.ranges import Range

INSIDE: list[tuple[Range, Any, float]] = [
    (ranges.STEPS, "1", 1),
    (ranges.STEPS, " 5 ", 5),
    (ranges.STEPS, "+1_000", 1000),
    (ranges.STEPS, "1000000", 10**6),
    (ranges.STEPS, 20, 20),
    (ranges.STEPS, 20.0, 20),
    (ranges.SEED, str(2**63 - 1), 2**63 - 1),
    (ranges.RATE, "2e-3", 0.002),
    (ranges.RATE, ".5", 0.5),
    (ranges.GUIDANCE, 2, 2),
    (ranges.GUIDANCE, "100", 100),
    (ranges.PART, "0", 0),
]
OUTSIDE: list[tuple[Range, Any, str]] = [
    (ranges.STEPS, "1e3", "is '1e3', expected a whole number of at least 1"),
    (ranges.STEPS, "0", "is 0, expected at least 1"),
    (ranges.STEPS, "1000001", "is 1000001, expected at most 1,000,000"),
    (ranges.STEPS, "9" * 25, "is 9999999999999999999999999, expected at most 1,000,000"),
    (ranges.STEPS, "9" * 5000, "is 99999999999999999999...9999999999, expected at most 1,000,000"),
    (ranges.STEPS, 10**400, "is a number of 401 digits, expected at most 1,000,000"),
    (ranges.STEPS, 1.5, "is 1.5, expected a whole number of at least 1"),
    (ranges.STEPS, math.nan, "is nan, expected a whole number of at least 1"),
    (ranges.STEPS, True, "is true, expected a whole number of at least 1"),
    (ranges.STEPS, [3], "is [3], expected a whole number of at least 1"),
    (ranges.STEPS, "", "is '', expected a whole number of at least 1"),
    (ranges.STEPS, "\u00b2", "is '\u00b2', expected a whole number of at least 1"),
    (ranges.SIDE, "0", "is 0, expected 1 to 4096"),
    (ranges.SIDE, "4097", "is 4097, expected 1 to 4096"),
    (ranges.SIDE, "many", "is 'many', expected a whole number of 1 to 4096"),
    (ranges.SEED, "-1", "is -1, expected 0 or more"),
    (ranges.SEED, str(2**63), "is 9223372036854775808, expected at most 9,223,372,036,854,775,807"),
    (ranges.RATE, "0", "is 0, expected more than 0 and less than 1"),
    (ranges.RATE, "1", "is 1, expected more than 0 and less than 1"),
    (ranges.RATE, "nan", "is 'nan', expected a number of more than 0 and less than 1"),
    (ranges.SHARE, "2", "is 2, expected 0 to 1"),
    (ranges.SHARE, "inf", "is 'inf', expected a number of 0 to 1"),
    (ranges.SHARE, "-1e400", "is -1e400, expected 0 to 1"),
    (ranges.SHARE, 10**400, "is a number of 401 digits, expected 0 to 1"),
    (ranges.MINUTES, "0", "is 0, expected more than 0 minutes"),
    (ranges.MINUTES, "1e400", "is 1e400, expected at most 10,000,000 minutes"),
]
ALL = {name: each for name, each in vars(ranges).items() if isinstance(each, Range)}


@pytest.mark.parametrize(("allowed", "value", "number"), INSIDE)
def test_a_number_inside_its_range_is_read(allowed: Range, value: object, number: float) -> None:
    assert allowed.read(value) == number


@pytest.mark.parametrize(("allowed", "value", "message"), OUTSIDE)
def test_a_value_outside_its_range_is_named_with_what_is_expected(allowed: Range, value: object, message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # its whole message is compared
        allowed.read(value)
    assert str(caught.value) == message


@pytest.mark.parametrize("name", ALL)
def test_every_range_is_finite_and_fits_into_64_bits(name: str) -> None:
    allowed = ALL[name]
    assert -(2**63) <= allowed.least < allowed.most < 2**63
    for value in (math.nan, math.inf, -math.inf, 2**63, 10**400, -(10**400), True, None, "1", [1]):
        assert not allowed.holds(value)


def test_a_config_takes_no_float_for_a_whole_number() -> None:
    with pytest.raises(ValueError, match=r"^is 20\.0, expected a whole number of at least 1$"):
        ranges.STEPS.check(20.0)
