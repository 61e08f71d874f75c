"""The kernel distance is its double sum, unbiased, and knows its error."""

import numpy as np
import pytest

from ddpm_cli.metrics import kernel
from ddpm_cli.metrics.kernel import kernel_distance

DRAW = np.random.default_rng(0)


def slowly(a: np.ndarray, b: np.ndarray) -> float:
    """Pair by pair."""

    def k(x: np.ndarray, y: np.ndarray) -> float:
        return (sum(float(p) * float(q) for p, q in zip(x, y, strict=True)) / len(x) + 1) ** 3

    within = sum(k(x, y) for i, x in enumerate(a) for j, y in enumerate(a) if i != j) / (len(a) * (len(a) - 1))
    within += sum(k(x, y) for i, x in enumerate(b) for j, y in enumerate(b) if i != j) / (len(b) * (len(b) - 1))
    return within - 2 * sum(k(x, y) for x in a for y in b) / (len(a) * len(b))


@pytest.mark.parametrize(("n", "m"), [(3, 3), (7, 12), (20, 5)])
def test_it_is_its_sum_over_all_pairs(n: int, m: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "ROWS", 4)
    a, b = DRAW.standard_normal((n, 3)).astype(np.float32), 2 + DRAW.standard_normal((m, 3)).astype(np.float32)
    assert kernel_distance(a, b).value == pytest.approx(slowly(a, b), rel=1e-9)


def test_its_error_is_the_jackknife_one_left_out_after_the_other() -> None:
    a, b = DRAW.standard_normal((8, 2)), 1 + DRAW.standard_normal((6, 2))
    without_a = [slowly(np.delete(a, i, 0), b) for i in range(8)]
    without_b = [slowly(a, np.delete(b, i, 0)) for i in range(6)]
    expected = (7 * np.var(without_a) + 5 * np.var(without_b)) ** 0.5
    assert kernel_distance(a, b).error == pytest.approx(expected, rel=1e-9)


def test_equal_clouds_are_0_apart_on_average_and_by_as_much_as_it_says() -> None:
    found = [kernel_distance(DRAW.standard_normal((60, 4)), DRAW.standard_normal((80, 4))) for _ in range(200)]
    values, errors = np.array(found).T
    assert abs(values.mean()) < 4 * values.std() / 200**0.5
    assert np.median(errors) == pytest.approx(values.std(), rel=0.5)


def test_of_clouds_with_known_moments_it_is_their_difference() -> None:
    """In one dimension E k = sum over p of C(3, p) E[x^p] E[y^p], so the distance is sum C(3, p) (E a^p - E b^p)^2."""
    a, b = DRAW.standard_normal((4000, 1)), 1 + DRAW.standard_normal((4000, 1))
    expected = 3 * (0 - 1) ** 2 + 3 * (1 - 2) ** 2 + 1 * (0 - 4) ** 2
    found = kernel_distance(a, b)
    assert abs(found.value - expected) < 4 * found.error
