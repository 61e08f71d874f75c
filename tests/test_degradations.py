"""Each metric sees what it is there to see, and does not see what people do not."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

from ddpm_cli import data, evaluation
from ddpm_cli.evaluation import Reference, Subject
from degradations import DEGRADATIONS, Judged

COUNT = 1000
ASKED = ("labels", "background", "frechet", "kernel", "overlap")


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DDPM_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="module")
def against() -> Reference:
    """The test images, of which the training images are no part."""
    load = partial(data.load, "mnist")
    return Reference(load(split="test").spread(2500), "test", 0, partial(load, split="train"))


@pytest.fixture(scope="module")
def real() -> Judged:
    """Training images, in no order: they stand for samples as good as the real ones."""
    train = data.load("mnist", split="train")
    rows = np.random.default_rng(0).permutation(60_000)[:COUNT]
    assert train.labels is not None
    return Judged(train.images[rows], train.labels[rows])


def judge(judged: Judged, against: Reference, *metrics: str) -> dict[str, Any]:
    subject = Subject(judged.images, judged.labels, tuple("0123456789"), {})
    return evaluation.evaluate(subject, against, metrics, lambda _: None).metrics


@pytest.fixture(scope="module")
def found(real: Judged, against: Reference) -> dict[str, dict[str, Any]]:
    return {name: judge(degrade(real), against, *ASKED) for name, degrade in DEGRADATIONS.items()}


def test_real_images_get_what_stands_beside_as_that_of_real_images(found: dict[str, Any]) -> None:
    fine = found["nothing"]
    assert fine["frechet"]["interval"][0] < fine["frechet"]["real"]["value"] < fine["frechet"]["interval"][1]
    assert abs(fine["kernel"]["value"] - fine["kernel"]["real"]["value"]) < 4 * fine["kernel"]["error"]
    for key in ("precision", "recall", "coverage"):
        assert fine["overlap"][key] == pytest.approx(fine["overlap"]["real"][key], abs=0.05)
    assert fine["labels"]["entropy"] == pytest.approx(np.log2(10), abs=0.02)


@pytest.mark.parametrize("metric", ["frechet", "kernel"])
def test_distances_rank_what_went_wrong(found: dict[str, Any], metric: str) -> None:
    """What nobody sees is nearly nothing, and less than any malformed shape; what is only called wrongly is nothing."""
    distance = {name: figures[metric]["value"] for name, figures in found.items()}
    error = found["nothing"][metric]["error"]
    assert distance["wrong labels"] == distance["nothing"]
    assert abs(distance["faint noise, 3 grey levels"] - distance["nothing"]) < error
    for name in ("pairs overlaid", "bent strokes", "no sevens"):
        assert distance[name] > distance["nothing"] + 4 * error, name
    assert distance["no sevens"] < min(distance["pairs overlaid"], distance["bent strokes"])


def test_what_does_not_look_real_is_not_precise(found: dict[str, Any]) -> None:
    precision = {name: figures["overlap"]["precision"] for name, figures in found.items()}
    for name in ("faint noise, 3 grey levels", "no sevens"):
        assert precision[name] == pytest.approx(precision["nothing"], abs=0.04), name
    for name in ("strong noise, 60", "pairs overlaid", "bent strokes"):
        assert precision[name] < precision["nothing"] - 0.1, name


def test_images_that_are_all_a_little_smoother_lack_diversity(found: dict[str, Any]) -> None:
    assert found["blur, 1.2 pixels"]["overlap"]["recall"] < found["nothing"]["overlap"]["recall"] - 0.1


def test_what_is_missing_is_not_covered(found: dict[str, Any]) -> None:
    fine, missing = found["nothing"], found["no sevens"]
    assert missing["overlap"]["coverage"] < fine["overlap"]["coverage"] - 0.05
    assert missing["overlap"]["recall"] < fine["overlap"]["recall"] - 0.05
    assert missing["labels"]["entropy"] < np.log2(9) + 0.01 < fine["labels"]["entropy"]
    assert missing["labels"]["histogram"][7] < 0.02 * COUNT


def test_wrong_labels_are_wrong_and_overlaid_digits_are_doubtful(found: dict[str, Any]) -> None:
    assert found["nothing"]["labels"]["accuracy"] > 0.97
    assert found["wrong labels"]["labels"]["accuracy"] < 0.03
    assert found["pairs overlaid"]["labels"]["confidence"] < found["nothing"]["labels"]["confidence"] - 0.05


def test_the_background_tells_of_noise(found: dict[str, Any]) -> None:
    share = {name: figures["background"]["share"] for name, figures in found.items()}
    assert share["nothing"] == pytest.approx(found["nothing"]["background"]["real"]["share"], abs=0.01)
    assert share["faint noise, 3 grey levels"] == pytest.approx(share["nothing"], abs=0.01)
    assert share["strong noise, 60"] < share["nothing"] - 0.2
    assert share["pairs overlaid"] < share["nothing"] - 0.05


def test_copies_of_the_training_set_are_known(real: Judged, against: Reference) -> None:
    copied = judge(Judged(real.images[:300], real.labels[:300]), against, "neighbours")["neighbours"]
    assert copied["copied"] == 1
    assert copied["distance"] == 0
    assert copied["real"]["copied"] < 0.02
    faint = DEGRADATIONS["faint noise, 3 grey levels"](Judged(real.images[:300], real.labels[:300]))
    assert judge(faint, against, "neighbours")["neighbours"]["copied"] > 0.9
    held = against.images
    assert held.labels is not None
    fresh = judge(Judged(held.images[:300], held.labels[:300]), against, "neighbours")["neighbours"]
    assert fresh["copied"] < 0.02
    assert fresh["distance"] == pytest.approx(fresh["real"]["distance"], rel=0.15)


def test_real_digits_are_as_like_their_nearest_as_other_real_ones(real: Judged, against: Reference) -> None:
    few = Judged(real.images[:200], real.labels[:200])
    found = judge(few, against, "ssim")["ssim"]
    assert found["nearest"] == pytest.approx(found["real"]["nearest"], abs=0.03)
    assert found["nearest"] > found["mean"] + 0.2
    overlaid = judge(DEGRADATIONS["pairs overlaid"](few), against, "ssim")["ssim"]
    assert overlaid["nearest"] < found["nearest"] - 0.1


def test_figures_come_with_their_protocol(real: Judged, against: Reference) -> None:
    subject = Subject(real.images[:50], None, (), {"images": "x"})
    protocol = evaluation.evaluate(subject, against, ("frechet", "neighbours"), lambda _: None).protocol
    assert protocol["number"] == 50
    about = {"data": "mnist", "split": "test", "images": 2500, "seed": 0}
    assert protocol["reference"] == {**about, "sha256": against.images.fingerprint()}
    assert len(protocol["features"]["id"]) == 64
    assert protocol["floor"] == {"data": "mnist", "split": "train", "images": 50}
    assert protocol["bootstraps"] == 200
    assert protocol["neighbours"]["images"] == 60_000
