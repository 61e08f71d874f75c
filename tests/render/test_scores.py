"""An evaluation as a picture."""

import io

import pytest
from PIL import Image

from ddpm_cli.render.scores import scores_figure

SSIM = {"values": [0.1, 0.2, 0.3], "real": {"values": [0.2, 0.2, 0.4]}}
LABELS = {
    "classes": ["cat", "ankle boot"],
    "accuracy": 0.9,
    "histogram": [4, 6],
    "real": {"accuracy": None, "histogram": [5, 5]},
}


@pytest.mark.parametrize("metrics", [{"ssim": SSIM}, {"labels": LABELS}, {"ssim": SSIM, "labels": LABELS}])
def test_every_metric_has_its_panel_and_equal_figures_give_equal_bytes(metrics: dict[str, object]) -> None:
    picture = scores_figure(metrics, "a title")
    assert picture == scores_figure(metrics, "a title")
    width, height = Image.open(io.BytesIO(picture)).size
    assert height == 660
    assert width == (1560 if len(metrics) == 2 else 960)


def test_what_is_drawn_is_written_beside_it() -> None:
    text = scores_figure({"ssim": SSIM, "labels": LABELS}, "a title", "svg").decode()
    # Glyphs are paths in these files, and each text stands before its own as a comment.
    for words in ("a title", "judged with real: mean 0.200", "real with real: mean 0.267", "ankle boot"):
        assert f"<!-- {words} -->" in text
    assert "<!-- judged: 90.0 % as asked -->" in text


def test_equal_values_are_no_reason_to_fail() -> None:
    flat = {"values": [1.0], "real": {"values": [1.0]}}
    assert scores_figure({"ssim": flat}, "").startswith(b"\x89PNG")
