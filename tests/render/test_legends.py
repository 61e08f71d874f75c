"""Legends cover no data, and titles are those that were asked for: the geometry of every plot that has a legend."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ddpm_cli.config import ScheduleConfig
from ddpm_cli.noising import Jump, Moment
from ddpm_cli.render.illustrations import posterior_figure
from ddpm_cli.render.plots import curve, loss_curve, schedule_figure
from ddpm_cli.render.scores import scores_figure, sweep_figure
from ddpm_cli.schedule import Schedule


def loss() -> None:
    """A loss that rises, so that its end is where the legend used to be."""
    steps = list(range(1, 50))
    loss_curve(
        steps,
        [1 + 0.1 * step for step in steps],
        learning_rate=[1e-3] * 49,
        validation=([10, 49], [2.0, 5.9]),
        steps_per_epoch=7,
        title="my run\nphotos, small, v target, simple loss",
    )


def scores() -> None:
    values = list(np.linspace(0, 1, 40))
    classes = [f"kind {k}" for k in range(12)]
    levels = [{"first": t, "last": t, "term": 0.1 / t} for t in (2, 10, 100, 1000)]
    scores_figure(
        {
            "ssim": {"values": values, "real": {"values": [1.0] * 40}},
            "labels": {
                "classes": classes,
                "accuracy": 0.9,
                "histogram": [9] * 12,
                "real": {"accuracy": 1.0, "histogram": [9] * 12},
            },
            "nll": {"levels": levels, "decoder": 1.0, "prior": 1e-9},
        },
        "8 images of model my run (0123456789ab)\nreal: mnist test",
    )


def sweep() -> None:
    trials = [
        {
            "sampler": sampler,
            "evaluations": evaluations,
            "images": 60,
            "finished": True,
            "frechet": {"value": 3.0, "interval": [1.0, 5.0]},
        }
        for sampler in ("ddim", "heun")
        for evaluations in (5, 10, 20)
    ]
    sweep_figure(trials, trials[:3], 2.0, "model my run (0123456789ab)")


def schedules() -> None:
    schedule_figure([curve(Schedule(ScheduleConfig(kind)), kind) for kind in ("cosine", "linear")])  # type: ignore[arg-type]


def posterior() -> None:
    image = np.zeros((1, 8, 8))
    moment = Moment(10.0, image, image, (Jump(9, 0.1, 0.12, 0.01), Jump(5, 0.1, 0.9, 0.2)))
    posterior_figure(image, [moment], (7, 7), "The model is my run.", "my run of wide letters")


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every figure that is saved."""
    from matplotlib.figure import Figure

    found: list[Any] = []
    save = Figure.savefig

    def keep(self: Any, *args: Any, **options: Any) -> None:
        save(self, *args, **options)
        found.append(self)

    monkeypatch.setattr(Figure, "savefig", keep)
    return found


@pytest.mark.parametrize("draw", [loss, scores, sweep, schedules, posterior])
def test_no_legend_covers_a_panel_or_a_text(draw: Callable[[], None], figures: list[Any]) -> None:
    draw()
    (figure,) = figures
    figure.draw_without_rendering()  # saving leaves a mixture of two resolutions
    panels = [axes.get_window_extent() for axes in figure.axes]
    titles = [text for axes in figure.axes for text in (axes.title, axes._left_title, axes._right_title)]
    texts = [text.get_window_extent() for text in [*figure.texts, *titles] if text.get_text()]
    legends = [*figure.legends, *(axes.get_legend() for axes in figure.axes if axes.get_legend() is not None)]
    assert legends
    for legend in legends:
        # The box of the entries themselves: that of the legend has an invisible margin around them.
        box = legend._legend_box.get_children()[1].get_window_extent()
        for other in (*panels, *texts):
            across = min(box.x1, other.x1) - max(box.x0, other.x0)
            down = min(box.y1, other.y1) - max(box.y0, other.y0)
            assert across < 2 or down < 2, (legend.get_texts()[0].get_text(), box, other)
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.x1


@pytest.mark.parametrize("draw", [loss, scores, sweep, posterior])
def test_the_title_names_the_model(draw: Callable[[], None], figures: list[Any]) -> None:
    draw()
    (figure,) = figures
    heads = [text.get_text() for text in figure.texts] + [
        axes.get_title(where) for axes in figure.axes for where in ("left", "center")
    ]
    assert any("my run" in head for head in heads)
