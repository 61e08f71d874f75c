"""The range of every number that a user or a file can give, and the message for a value outside it.

Invariant: a number inside its range is finite, and a whole one fits into 64 bits. No torch and no numpy here.
"""

import math
import re
import reprlib
from typing import NamedTuple

LARGE = 10_000  # an upper end from here on is named only where it is exceeded
LONGEST = 40  # characters of a value in a message
WHOLE = re.compile(r"\s*[+-]?[0-9][0-9_]*\s*")
REAL = re.compile(r"\s*[+-]?([0-9][0-9_]*\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?\s*", re.IGNORECASE)
Number = int | float


class Range(NamedTuple):
    """An interval of numbers.

    Attributes:
        least: its lower end.
        most: its upper end.
        whole: whether only whole numbers are allowed.
        above: whether the lower end is excluded.
        below: whether the upper end is excluded.
        unit: what is counted, for the message.
    """

    least: Number
    most: Number
    whole: bool = True
    above: bool = False
    below: bool = False
    unit: str = ""

    def holds(self, value: object) -> bool:
        """Whether a value is a number of the right type inside the range."""
        if isinstance(value, bool) or not isinstance(value, int if self.whole else int | float):
            return False
        low = self.least < value if self.above else self.least <= value
        return low and (value < self.most if self.below else value <= self.most)

    def expected(self, number: Number | None) -> str:
        """What to write instead of a number outside the range; None: instead of a value that is not a number."""
        low = f"more than {_short(self.least)}" if self.above else f"at least {_short(self.least)}"
        high = f"less than {_short(self.most)}" if self.below else f"at most {_short(self.most)}"
        if self.least == 0 and not self.above:
            low = "0 or more"
        if self.most >= LARGE:
            limits = high if number is not None and number >= self.most else low
        elif self.above or self.below:
            limits = f"{low} and {high}"
        else:
            limits = f"{_short(self.least)} to {_short(self.most)}"
        kind = "" if number is not None else "a whole number of " if self.whole else "a number of "
        return f"{kind}{limits}{self.unit and f' {self.unit}'}"

    def check(self, value: object) -> None:
        """Refuse a value of a config that is not a number inside the range.

        Raises:
            ValueError: it is not; the message continues after the name of the value.
        """
        if not self.holds(value):
            number = None if self.whole and isinstance(value, float) else _number(value, self.whole)
            raise ValueError(f"is {shown(value)}, expected {self.expected(number)}")

    def read(self, value: object) -> Number:
        """The number that was typed, or that a settings file holds.

        Args:
            value: text, or a value of TOML.

        Raises:
            ValueError: it is not a number inside the range; the message continues after the name of the option.
        """
        number = _number(value, self.whole)
        if number is None or not self.holds(number):
            raise ValueError(f"is {shown(value, number is not None)}, expected {self.expected(number)}")
        return number


def shown(value: object, is_number: bool = False) -> str:
    """A value for a message: text in quotes unless it is a number, and cut where it is long."""
    if isinstance(value, int) and abs(value) >= 10**LONGEST:
        return f"a number of {math.floor(abs(value).bit_length() * math.log10(2)) + 1} digits"
    if isinstance(value, bool):
        return str(value).lower()
    text = value.strip() if isinstance(value, str) and is_number else reprlib.repr(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]}...{text[-LONGEST // 4 :]}"


def _number(value: object, whole: bool) -> Number | None:
    """The number in a value of any type, infinite where it has too many digits; None: there is none of this kind."""
    if isinstance(value, str) and (WHOLE if whole else REAL).fullmatch(value):
        value = int(value) if whole and len(value) < LONGEST else float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and whole and math.isfinite(value):
        return int(value) if value.is_integer() else None
    if isinstance(value, int) and not whole:
        return float(value) if abs(value) < 10**300 else math.inf if value > 0 else -math.inf
    return None if value != value else value  # NaN


def _short(number: Number) -> str:
    return f"{number:,}" if abs(number) >= LARGE else f"{number:g}"


LARGEST = 2**63 - 1  # of a signed number of 64 bits
COUNT = 10**12  # of anything that a run counts: centuries of work

SEED = Range(0, LARGEST)
FIRST = Range(0, LARGEST - COUNT)  # the last image of a seed has a number of 64 bits, too
IMAGES = Range(1, COUNT)
INDEX = Range(0, COUNT)
COPIES = Range(1, 100_000)  # variations of an image
BATCH = Range(1, 1_000_000)  # a thousand times the usual
SIDE = Range(1, 4096)  # pixels
CLASSES = Range(0, 1_000_000)

PIXEL = Range(-2, 2, whole=False)  # mean and standard deviation of values in [-1, 1], and some rounding
WORK = Range(0, LARGEST)  # parameters, or floating-point operations for an image

TIMESTEPS = Range(1, 1_000_000)  # a thousand times the usual, and still only megabytes
BETA = Range(0, 1, whole=False, above=True, below=True)
OFFSET = Range(0, 1000, whole=False)
SIGMOID = Range(-1000, 1000, whole=False)
TAU = Range(0, 1000, whole=False, above=True)

WIDTH = Range(1, 8192)  # channels of a layer
BLOCKS = Range(1, 64)

STEPS = TIMESTEPS  # of a sampler, which visits each level at most once
SHARE = Range(0, 1, whole=False)
GUIDANCE = Range(0, 100, whole=False)  # long before 100, images are textures; beyond, nothing but black and white
THRESHOLD = Range(0.5, 1, whole=False)
STRENGTH = Range(0, 1, whole=False, above=True)
LEVEL = Range(0, TIMESTEPS.most, whole=False)
FRAMES = Range(2, 1000)
ROUNDS = Range(1, 100)

RATE = Range(0, 1, whole=False, above=True, below=True)
PART = Range(0, 1, whole=False, below=True)
GAMMA = Range(0, 1_000_000, whole=False, above=True)
CLIP = Range(0, 1_000_000, whole=False)
TRAINED = Range(1, COUNT)  # steps or epochs
EVERY = Range(0, COUNT)  # steps or epochs between two events; 0: none
THREADS = Range(1, 4096)
MINUTES = Range(0, 10_000_000, whole=False, above=True, unit="minutes")  # nineteen years
