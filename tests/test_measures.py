"""What is told of a metric: rows for people and for programs; every metric has all that commands ask of it."""

import pytest

from ddpm_cli import evaluation
from ddpm_cli.measures import METRICS, Figure, headline
from ddpm_cli.render.scores import DRAWN

NONE = [""] * 3  # neither an error nor an interval


@pytest.mark.parametrize(
    ("figure", "found", "people", "programs"),
    [
        (Figure("a", "A"), {"a": 0.25, "real": {"a": 1.5}}, ["A", "0.250", "1.500"], ["A", "0.25", "1.5", *NONE]),
        (
            Figure("a", "A"),
            {"a": 1 / 3, "real": {"a": 2e-7 / 3}},
            ["A", "0.333", "6.7e-08"],
            ["A", "0.333333", "6.66667e-08", *NONE],
        ),
        (Figure("a", "A"), {"a": 0.25, "real": {"a": None}}, ["A", "0.250", ""], ["A", "0.25", "", *NONE]),
        (
            Figure("a", "A", error="e"),
            {"a": 0.25, "e": 0.0126, "real": {"a": 0.5}},
            ["A", "0.250 ± 0.013", "0.500"],
            ["A", "0.25", "0.5", "0.0126", "", ""],
        ),
        (
            Figure("a", "A", error="e"),
            {"a": 0.25, "e": None, "real": {"a": 0.5}},
            ["A", "0.250", "0.500"],
            ["A", "0.25", "0.5", *NONE],
        ),
        (
            Figure("a", "A", share=True, interval="i"),
            {"a": 0.875, "i": (0.5, 0.9375), "real": {"a": 1.0}},
            ["A", "87.5 % (50.0 to 93.8)", "100.0 %"],
            ["A", "0.875", "1", "", "0.5", "0.9375"],
        ),
        (
            Figure("a", "A", interval="i"),
            {"a": 3.5, "i": (3.25, 4.0), "real": {"a": 1.0}},
            ["A", "3.500 (3.250 to 4.000)", "1.000"],
            ["A", "3.5", "1", "", "3.25", "4"],
        ),
    ],
)
def test_a_figure_is_short_for_people_and_exact_for_programs(figure, found, people, programs) -> None:
    assert figure.rows(found, exact=False) == [people]
    assert figure.rows(found, exact=True) == [programs]


def test_a_figure_without_a_value_has_no_row_and_a_list_one_for_each_name() -> None:
    assert Figure("a", "A").rows({"a": None, "real": {"a": 1.0}}, exact=True) == []
    found = {"count": [3, 0], "names": ["cat", "dog"], "real": {"count": [1, 2]}}
    rows = [["found as cat", "3", "1"], ["found as dog", "0", "2"]]
    figure = Figure("count", "found as {}", over="names")
    assert figure.rows(found, exact=False) == rows
    assert figure.rows(found, exact=True) == [[*row, *NONE] for row in rows]


def test_every_metric_is_computed_and_nothing_else_is() -> None:
    assert evaluation.COMPUTED.keys() == METRICS.keys()


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_has_what_commands_ask_of_it(name: str) -> None:
    metric = METRICS[name]
    assert metric.headline in {figure.key for figure in metric.figures}
    assert headline(name) == metric.headline
    assert metric.needs is None or metric.needs in evaluation.LACKS
    assert metric.drawn is None or (metric.drawn in DRAWN and metric.title)


def test_what_is_not_known_is_summed_up_by_its_value() -> None:
    assert headline("fid of tomorrow") == "value"
