"""Classes found are counted as anybody would count them."""

import numpy as np
import pytest
from scipy import stats

from ddpm_cli.metrics import judge_labels
from ddpm_cli.metrics.labels import wilson

PROBABILITIES = np.array([[0.9, 0.1, 0.0], [0.2, 0.5, 0.3], [0.4, 0.0, 0.6], [0.7, 0.2, 0.1]], np.float32)


def test_counts_by_hand() -> None:
    found = judge_labels(PROBABILITIES, np.array([0, 1, 2, 1]))
    assert found.accuracy == 3 / 4
    assert found.confidence == pytest.approx((0.9 + 0.5 + 0.6 + 0.7) / 4)
    assert found.histogram == [2, 1, 1]
    assert found.wrong == [0, 1, 0]


def test_one_class_alone_has_no_entropy_and_no_sign() -> None:
    found = judge_labels(np.tile(np.array([[0.9, 0.1]], np.float32), (4, 1)), None)
    assert str(found.entropy) == "0.0"


def test_where_nothing_was_asked_nothing_is_right_or_wrong() -> None:
    found = judge_labels(PROBABILITIES, None)
    assert (found.accuracy, found.interval, found.wrong) == (None, None, None)
    assert found.histogram == [2, 1, 1]


@pytest.mark.parametrize(("hits", "count"), [(0, 5), (5, 5), (8, 10), (970, 1000), (1, 1)])
def test_the_interval_is_that_of_scipy(hits: int, count: int) -> None:
    expected = stats.binomtest(hits, count).proportion_ci(0.95, method="wilson")
    assert wilson(hits, count) == pytest.approx((expected.low, expected.high), abs=1e-6)
