"""``ddpm eval``: figures with their protocol, of a model, a run, a folder, an archive or stdin."""

import csv
import dataclasses
import io
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from skimage.metrics import structural_similarity

from ddpm_cli import checkpoint, data, drawing, files, library
from ddpm_cli.cli import eval as eval_module
from ddpm_cli.cli._output import Output
from ddpm_cli.errors import ResourceError, UsageError
from ddpm_cli.evaluation import Evaluation, Reference, choose, evaluate, from_files, remember, scores
from ddpm_cli.render.images import npz


@pytest.fixture
def digits(cwd: Path) -> Path:
    """Forty real test digits with their labels, as ``ddpm sample`` would write them."""
    found = data.load("mnist", split="test", limit=40)
    path = cwd / "digits.npz"
    path.write_bytes(npz(found.images, found.labels))
    return path


@pytest.mark.usefixtures("model")
def test_ssim_is_that_of_the_pairs_it_says(ddpm: Any, photos: Path) -> None:
    found = ddpm("eval", "--metrics", "ssim", "-n", 5, "--reference", photos, "--seed", 3, "--json").done().json
    ssim, protocol = found["metrics"]["ssim"], found["protocol"]
    assert set(found["metrics"]) == {"ssim"}
    assert len(ssim["values"]) == len(ssim["real"]["values"]) == 5
    assert ssim["mean"] == pytest.approx(np.mean(ssim["values"]), abs=1e-6)
    assert ssim["standard_error"] == pytest.approx(np.std(ssim["values"], ddof=1) / 5**0.5, abs=1e-6)
    assert protocol["number"] == 5
    assert protocol["seed"] == 3
    assert protocol["ssim"] == {"window": 7, "data_range": 255, "pairs": "random"}
    assert protocol["reference"]["images"] == 24
    for key in ("model", "sampler", "steps", "evaluations", "weights", "precision", "guidance"):
        assert key in protocol


@pytest.mark.usefixtures("model")
def test_the_same_seed_gives_the_same_figures_and_another_gives_others(ddpm: Any, photos: Path) -> None:
    def values(seed: int) -> list[float]:
        found = ddpm("eval", "-n", 4, "--reference", photos, "--seed", seed, "--json").done().json
        return found["metrics"]["ssim"]["values"]

    assert values(1) == values(1)
    assert values(1) != values(2)


def test_images_against_themselves(ddpm: Any, digits: Path) -> None:
    """Every pair is one of the forty: the values are among those of all pairs, worked out here one by one."""
    found = ddpm("eval", digits, "--metrics", "ssim", "--reference", digits, "--seed", 0, "--json").done().json
    with np.load(digits, allow_pickle=False) as archive:
        images = archive["images"]
    every = [[structural_similarity(a, b, win_size=7, data_range=255) for b in images] for a in images]
    for row, value in zip(every, found["metrics"]["ssim"]["values"], strict=True):
        assert min(abs(value - one) for one in row) < 1e-5
    others = np.array(every)[~np.eye(40, dtype=bool)]
    for value in found["metrics"]["ssim"]["real"]["values"]:  # no image meets itself
        assert np.abs(others - value).min() < 1e-5
        assert value < 0.999


def test_real_digits_are_what_they_are_called(ddpm: Any, digits: Path) -> None:
    found = ddpm("eval", digits, "--metrics", "labels", "--json").done()
    assert "mnist" in found.err
    labels = found.json["metrics"]["labels"]
    assert labels["accuracy"] >= 0.95
    assert labels["interval"][0] < labels["accuracy"] <= labels["interval"][1] <= 1
    assert sum(labels["histogram"]) == sum(labels["real"]["histogram"]) == 40
    assert labels["classes"] == list("0123456789")
    assert len(found.json["protocol"]["features"]["id"]) == 64


def test_wrong_labels_are_wrong(ddpm: Any, digits: Path, cwd: Path) -> None:
    with np.load(digits, allow_pickle=False) as archive:
        (cwd / "wrong.npz").write_bytes(npz(archive["images"][:, None], (archive["labels"] + 1) % 10))
    labels = ddpm("eval", "wrong.npz", "--metrics", "labels", "--json").done().json["metrics"]["labels"]
    assert labels["accuracy"] <= 0.05
    assert sum(labels["wrong"]) >= 38


def test_images_without_labels_have_no_accuracy(ddpm: Any, digits: Path, cwd: Path) -> None:
    with np.load(digits, allow_pickle=False) as archive:
        (cwd / "bare.npz").write_bytes(npz(archive["images"][:, None]))
    labels = ddpm("eval", "bare.npz", "--json").done().json["metrics"]["labels"]
    assert labels["accuracy"] is None
    assert labels["confidence"] > 0.8


def test_a_folder_of_pictures_and_stdin(ddpm: Any, digits: Path, cwd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with np.load(digits, allow_pickle=False) as archive:
        for number, (image, label) in enumerate(zip(archive["images"], archive["labels"], strict=True)):
            folder = cwd / "pictures" / str(label)
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{number}.png")
    whole = ddpm("eval", "pictures", "--metrics", "labels", "--json").done().json["metrics"]["labels"]
    stdin = io.TextIOWrapper(io.BytesIO(digits.read_bytes()))
    monkeypatch.setattr(sys, "stdin", stdin)
    piped = ddpm("eval", "-", "--metrics", "labels", "--json").done().json["metrics"]["labels"]
    assert whole["accuracy"] == piped["accuracy"]
    assert whole["histogram"] == piped["histogram"]


def test_a_run_and_a_model_by_name(ddpm: Any, trained: Path, photos: Path) -> None:
    for name in (trained, "trained"):
        found = ddpm("eval", name, "-n", 3, "--reference", photos, "--seed", 0, "--steps", 2, "--json").done().json
        assert found["protocol"]["steps"] == 2


def test_figures_are_kept_for_the_list_of_models(
    ddpm: Any, photos: Path, home: Path, save_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a model that learned MNIST at 12 x 12, beside its own test images."""
    (home / "models").mkdir(parents=True)
    about = {"data": {"name": "mnist", "images": 9, "mean": 0.0, "std": 1.0}, "classes": tuple("0123456789")}
    save_model(home / "models" / "tiny.safetensors", **about)
    monkeypatch.setenv("DDPM_MODEL", "tiny")
    asked = ("eval", "--seed", 0, "--json")
    few = ddpm(*asked, "-n", 3).done().json
    path = home / "cache" / "evaluations" / f"{few['protocol']['model']}.json"
    assert json.loads(path.read_text())["metrics"]["ssim"]["mean"] == few["metrics"]["ssim"]["mean"]
    more = ddpm(*asked, "-n", 6).done().json
    ddpm(*asked, "-n", 2).done()  # says less than is known
    ddpm(*asked, "-n", 9, "--sampler", "ddim", "--steps", 3).done()  # not how the model is drawn by default
    ddpm(*asked, "-n", 9, "--reference", photos).done()  # not what it learned
    kept = json.loads(path.read_text())
    assert kept["metrics"]["ssim"]["mean"] == more["metrics"]["ssim"]["mean"]
    assert kept["protocol"]["ssim"]["number"] == 6
    assert ddpm(*asked, "-n", 8, "--steps", 20).done().json["protocol"]["number"] == 8  # the default, spelled out
    assert json.loads(path.read_text())["protocol"]["ssim"]["number"] == 8
    for damaged in (
        "[]",
        '{"metrics": {}, "protocol": {"ssim": 5}}',
        '{"metrics": 1, "protocol": {"ssim": {"number": 1}}}',
    ):
        path.write_text(damaged)
        ddpm(*asked, "-n", 2).done()


@pytest.mark.usefixtures("model")
def test_a_table_a_file_and_a_picture(ddpm: Any, photos: Path, cwd: Path) -> None:
    asked = ("eval", "-n", 4, "--reference", photos, "--seed", 0)
    table = ddpm(*asked, "--plot", "scores.png").done()
    head, first, *_ = table.out.splitlines()
    assert head == "metric\tvalue\treal\terror\tlow\thigh"
    assert first.startswith("SSIM mean\t")
    assert "4 images of model" in table.err
    with Image.open(cwd / "scores.png") as picture:
        assert picture.format == "PNG"
    assert ddpm(*asked, "-o", "scores.csv").done().out == "scores.csv\n"
    rows = list(csv.reader((cwd / "scores.csv").read_text().splitlines()))
    assert rows[0] == ["metric", "value", "real", "error", "low", "high"]
    document = json.loads(ddpm(*asked, "-o", "-").done().out)
    assert rows[1][1] == f"{document['metrics']['ssim']['mean']:.6g}"  # digits that can be meant
    assert rows[1][3] == f"{document['metrics']['ssim']['standard_error']:.6g}"
    share = next(row for row in rows if row[0] == "background")
    assert [float(end) for end in share[4:]] == pytest.approx(document["metrics"]["background"]["interval"], rel=1e-5)
    mean = f"{document['metrics']['ssim']['mean']:.3f}"
    assert ddpm(*asked, "-o", "scores.md").done().out == "scores.md\n"
    assert (cwd / "scores.md").read_text().splitlines()[2].startswith(f"| SSIM mean | {mean} ± ")
    ddpm(*asked, "-o", "scores.tex").done()
    assert f"SSIM mean & {mean} $\\pm$ " in (cwd / "scores.tex").read_text()
    ddpm(*asked, "--plot", "scores.PDF").done()
    assert (cwd / "scores.PDF").read_bytes().startswith(b"%PDF")


@pytest.mark.usefixtures("model")
def test_a_protocol_names_images_by_their_hash(ddpm: Any, photos: Path, digits: Path) -> None:
    asked = ("eval", "-n", 2, "--reference", photos, "--metrics", "ssim", "--json")
    known = data.load(str(photos)).fingerprint()
    assert ddpm(*asked).done().json["protocol"]["reference"]["sha256"] == known
    found = ddpm("eval", digits, "--reference", digits, "--metrics", "ssim", "--json").done().json["protocol"]
    assert found["sha256"] == found["reference"]["sha256"] != known


@pytest.mark.usefixtures("model")
def test_what_cannot_be_judged_is_refused(ddpm: Any, photos: Path, digits: Path) -> None:
    ddpm("eval", "--metrics", "sim").refused(2, "'sim'", "Did you mean ssim?")
    ddpm("eval", "--metrics", ",").refused(2, "names none")
    ddpm("eval", digits, "--model", "tiny").refused(2, "Name one of them")
    ddpm("eval", "-n", 2).refused(2, "--reference")  # the data set of this model has no name that is known
    ddpm("eval", "-n", 2, "--reference", "mnist").refused(2, "1x12x12", "1x28x28")
    ddpm("eval", "-n", 2, "--reference", "mnist:valid").refused(2, "'valid'")
    ddpm("eval", "-n", 2, "--reference", photos, "--metrics", "labels").refused(2, "feature network")
    ddpm("eval", "-n", 2, "--reference", photos, "--plot", "a.jpg").refused(2, ".png, .svg or .pdf")
    ddpm("eval", "-n", 2, "--reference", photos, "-o", "a.txt").refused(2, ".json, .csv, .md or .tex")
    ddpm("eval", digits, "--sampler", "ddim").refused(2, "--sampler is for models")
    ddpm("eval", "no.npz").refused(3, "no.npz")
    Image.new("L", (12, 12)).save("grid.png")
    ddpm("eval", "grid.png").refused(2, "grid.png is one picture", "ddpm sample -n 64 -o samples.npz")
    ddpm("eval", digits, "--plot", "").refused(2, "empty")
    ddpm("eval", "nothing").refused(4, "'nothing'")
    ddpm("eval", "mnist", "--reference", "nothing", "-n", 1).refused(2, "nothing")
    ddpm("eval", "mnist", "--reference", "./nothing", "-n", 1).refused(3, "nothing")


def test_a_name_is_a_models_before_it_is_a_folders(ddpm: Any, cwd: Path) -> None:
    (cwd / "mnist").mkdir()
    found = ddpm("eval", "mnist", "-n", 2, "--metrics", "ssim", "--steps", 2, "--json").done()
    assert "model mnist (shipped" in found.err
    ddpm("eval", "./mnist").refused(3, "no image")


def test_no_two_pairs_of_real_images_are_the_same() -> None:
    images = data.ImageSet("dots", np.arange(10, dtype=np.uint8)[:, None, None, None].repeat(8, 2).repeat(8, 3))
    for count in range(1, 11):
        one, other = Reference(images, "all", 0).pairs(count)
        pairs = {frozenset((int(a[0, 0, 0]), int(b[0, 0, 0]))) for a, b in zip(one.images, other.images, strict=True)}
        assert len(pairs) == count
        assert all(len(pair) == 2 for pair in pairs)


@pytest.mark.usefixtures("model")
def test_verbose_tells_what_each_metric_is(ddpm: Any, photos: Path) -> None:
    told = ddpm("eval", "-n", 2, "--reference", photos, "--metrics", "ssim", "-v").done().err
    assert "ssim: structural similarity" in told
    assert "better: like real images" in told


@pytest.mark.usefixtures("model")
def test_metrics_that_do_not_apply_are_left_out_unless_asked_for(ddpm: Any, photos: Path) -> None:
    found = ddpm("eval", "-n", 2, "--reference", photos, "--json").done()
    assert set(found.json["metrics"]) == {"ssim", "background"}
    assert "no labels" in found.err


def test_all_metrics_of_files_are_those_that_files_have(ddpm: Any, digits: Path) -> None:
    """Forty images are few for distances, which is said; they have no likelihood, which is too."""
    found = ddpm("eval", digits, "--metrics", "all", "--seed", 0, "--json", "--plot", "all.png").done()
    metrics, protocol = found.json["metrics"], found.json["protocol"]
    assert list(metrics) == ["ssim", "labels", "background", "frechet", "kernel", "overlap", "neighbours"]
    assert "no nll: images from files have no likelihood" in found.err
    assert "warning: 40 images are few for frechet, kernel, overlap, neighbours: take 2,000 or more" in found.err
    low, high = metrics["frechet"]["interval"]
    assert low <= metrics["frechet"]["value"] <= high
    assert protocol["floor"] == {"data": "mnist", "split": "train", "images": 40}
    assert metrics["neighbours"]["copied"] <= 0.05  # test digits are no training digits
    with Image.open("all.png") as picture:
        assert picture.width > 1500
    ddpm("eval", digits, "--metrics", "nll").refused(2, "no nll", "only models do")


def test_the_likelihood_of_a_model(ddpm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "BOUNDED", 4)
    asked = ("eval", "mnist", "--metrics", "nll", "-n", 1, "--steps", 1, "--seed", 3, "--json")
    found = ddpm(*asked).done().json
    nll, protocol = found["metrics"]["nll"], found["protocol"]["nll"]
    assert nll["total"] == pytest.approx(nll["prior"] + nll["steps"] + nll["decoder"])
    assert 0.5 < nll["total"] < 5  # the shipped model, of images of which a flat guess takes 8
    assert nll["error"] > 0
    assert [nll["levels"][0]["first"], nll["levels"][-1]["last"]] == [2, 1000]
    assert protocol["images"] == 4
    assert protocol["conditional"]
    assert protocol["dequantisation"].startswith("none")
    assert ddpm(*asked).done().json["metrics"] == found["metrics"]


def test_the_likelihood_alone_draws_nothing(ddpm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "BOUNDED", 2)
    monkeypatch.setattr(drawing, "draw", None)
    found = ddpm("eval", "mnist", "--metrics", "nll", "--seed", 3, "--json").done()
    assert "nll is of the model itself: no images are drawn" in found.err
    assert found.json["protocol"]["number"] == 0
    assert "index" not in found.json["protocol"]
    assert "mnist" in found.err.splitlines()[-1]


@pytest.mark.usefixtures("model")
def test_metrics_of_too_few_images_are_left_out_unless_asked_for(ddpm: Any) -> None:
    few = ("eval", "mnist", "-n", 4, "--steps", 1, "--seed", 0)
    found = ddpm(*few, "--metrics", "all", "--json").done()
    assert "overlap" not in found.json["metrics"]
    assert "no overlap: it needs 6 images, judged and real" in found.err
    ddpm(*few, "--metrics", "overlap").refused(2, "it needs 6 images")


def test_training_images_that_are_not_at_hand_are_missed_and_nothing_more(digits: Path) -> None:
    """Only test images were fetched: what needs no others is judged, and none are downloaded."""

    def absent() -> data.ImageSet:
        raise ResourceError("the network is down", "")

    test = data.load("mnist", split="test", limit=40)
    against, said = Reference(test, "test", 0, absent), []
    assert against.apart(5) is None
    chosen = choose(["all"], against, 40, said.append, {"nll": "no model"})
    assert chosen == ["ssim", "labels", "background", "frechet", "kernel", "overlap"]
    assert "no neighbours: the training images are not at hand: ddpm data fetch mnist" in said
    with pytest.raises(UsageError, match="ddpm data fetch mnist"):
        choose(["neighbours"], against, 40, said.append)
    found = evaluate(from_files(str(digits), None, said.append), against, chosen, said.append)
    assert found.metrics["frechet"]["real"] == {"value": None}
    assert found.metrics["ssim"]["real"]["nearest"] is None
    assert found.protocol["floor"] is None


def test_the_likelihood_of_the_model_alone_is_kept_whatever_number_was_judged_before(home: Path) -> None:
    """It does not depend on how many images are drawn; figures of images do."""

    def found(number: int, value: float) -> Evaluation:
        protocol = {"number": number, "reference": {"data": "mnist", "split": "test"}}
        return Evaluation({"nll": {"total": value}, "ssim": {"mean": value}}, protocol, "0" * 64)

    for number, value in ((5000, 9.0), (0, 1.0)):
        remember(found(number, value), "mnist")
    kept = json.loads((home / "cache" / "evaluations" / f"{'0' * 64}.json").read_text())["metrics"]
    assert (kept["nll"]["total"], kept["ssim"]["mean"]) == (1.0, 9.0)


def test_a_figure_of_fewer_images_than_its_metric_needs_is_not_kept(home: Path) -> None:
    """A Fréchet distance of 64 images in a list would look like one of 5,000."""
    protocol = {"number": 64, "reference": {"data": "mnist", "split": "test"}}
    remember(Evaluation({"frechet": {"value": 7.4}, "ssim": {"mean": 0.2}}, protocol, "0" * 64), "mnist")
    kept = json.loads((home / "cache" / "evaluations" / f"{'0' * 64}.json").read_text())["metrics"]
    assert list(kept) == ["ssim"]


def test_every_metric_is_told_as_it_begins(digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that nobody looks at a still screen: the next one on a terminal, with how many are done."""
    against = Reference(data.load("mnist", split="test", limit=40), "test", 0, None)
    told: list[object] = []
    chosen = ["background", "ssim"]
    evaluate(
        from_files(str(digits), None, told.append), against, chosen, told.append, begins=lambda *at: told.append(at)
    )
    assert told == [("SSIM", 0, 2), ("background", 1, 2)]
    shown: list[tuple[str, str]] = []
    real = Output.progress

    def progress(self: Output, what: str, unit: str, *rest: Any, **more: Any) -> Any:
        shown.append((what, unit))
        return real(self, what, unit, *rest, **more)

    monkeypatch.setattr(Output, "progress", progress)
    with eval_module._Stages(Output()) as live:
        live.metrics("copies", 0, 2)
        live.images("neighbours", 5, 9)
        live.images("neighbours", 9, 9)
        live.images("neighbours", 3, 9)  # of others
        live.metrics("background", 1, 2)
    neighbours = ("neighbours", "images")
    assert shown == [("copies", "metrics"), neighbours, neighbours, ("background", "metrics")]


def test_more_images_than_real_ones_have_the_overlap_of_as_many() -> None:
    """Beside 40 real digits, 40 others judged, and the same four times over: precision and coverage stay."""
    against, said = Reference(data.load("mnist", split="test", limit=40), "test", 0, None), []
    others = data.load("mnist", split="train", limit=40)
    found = []
    for times in (1, 4):
        content = npz(others.images.repeat(times, axis=0)[np.argsort(np.tile(np.arange(times), 40), kind="stable")])
        one = evaluate(from_files(content, None, said.append), against, ["overlap"], said.append)
        found.append(one.metrics["overlap"])
        assert one.protocol["overlap"]["images"] == 40
    assert found[0] == found[1]
    assert found[0]["precision"] > 0.3


def test_a_picture_of_nothing_is_refused_before_anything_is_drawn(ddpm: Any, digits: Path, cwd: Path) -> None:
    words = ("eval", digits, "--reference", "mnist", "--metrics", "background,frechet", "--plot", "p.png")
    ddpm(*words).refused(2, "nothing to show of background, frechet", "ssim")
    assert not (cwd / "p.png").exists()


def test_the_document_in_a_file_is_the_printed_one(ddpm: Any, digits: Path, cwd: Path) -> None:
    words = ("eval", digits, "--reference", "mnist", "--metrics", "background", "--seed", 1)
    printed = ddpm(*words, "--json").done().json
    ddpm(*words, "-o", "x.json").done()
    assert json.loads((cwd / "x.json").read_text()) == printed


def test_a_single_image_has_no_interval(ddpm: Any, cwd: Path) -> None:
    (cwd / "one.npz").write_bytes(npz(data.load("mnist", split="test", limit=1).images))
    found = ddpm("eval", "one.npz", "--reference", "mnist", "--metrics", "background", "--json").done()
    assert found.json["metrics"]["background"]["interval"] is None
    assert "1 image of" in found.err


def test_the_name_of_nothing_is_refused(ddpm: Any) -> None:
    ddpm("eval", "").refused(2, "empty")


def test_a_folder_that_is_called_as_a_known_set_is_not_that_set(photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "mnist")
    assert data.load(str(tmp_path / "mnist")).name == "mnist (folder)"


@pytest.fixture
def divided(cwd: Path) -> Path:
    """A folder with 9 dark training images, 8 mid-grey test images, in classes."""
    for split, count, shade in (("train", 9, 0), ("test", 8, 100)):
        for number in range(count):
            folder = cwd / "divided" / split / "ab"[number % 2]
            folder.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(number).integers(shade, shade + 50, (12, 12), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    return cwd / "divided"


@pytest.mark.usefixtures("model")
def test_a_folder_with_splits_is_compared_by_its_test_images(ddpm: Any, divided: Path, photos: Path) -> None:
    test, train = data.load(str(divided / "test")), data.load(str(divided / "train"))
    found = (
        ddpm("eval", "-n", 4, "--reference", divided, "--metrics", "ssim,neighbours", "--json").done().json["protocol"]
    )
    assert (found["reference"]["split"], found["reference"]["images"]) == ("test", 8)
    assert found["reference"]["sha256"] == test.fingerprint()
    assert (found["neighbours"]["split"], found["neighbours"]["images"]) == ("train", 9)
    assert found["neighbours"]["sha256"] == train.fingerprint()
    found = ddpm("eval", divided, "--reference", divided / "train", "--json").done().json["protocol"]
    assert (found["number"], found["split"], found["sha256"]) == (8, "test", test.fingerprint())
    assert (found["reference"]["split"], found["reference"]["images"]) == ("all", 9)
    found = ddpm("eval", photos, "--reference", photos, "--json").done().json["protocol"]
    assert (found["split"], found["reference"]["split"]) == ("all", "all")


def test_few_real_images_are_warned_of_too(digits: Path) -> None:
    del digits
    against, said = Reference(data.load("mnist", split="test", limit=50), "test", 0, None), []
    choose(["frechet"], against, 5000, said.append)
    assert any("50 real images of mnist are few for frechet" in line for line in said)


@pytest.mark.parametrize(
    ("theirs", "ours"), [("fid", "frechet"), ("kid", "kernel"), ("recall", "overlap"), ("bpd", "nll")]
)
def test_what_others_call_a_metric_leads_to_ours(ddpm: Any, theirs: str, ours: str) -> None:
    ddpm("eval", "mnist", "--metrics", theirs).refused(2, f"unknown metric '{theirs}'", f"--metrics {ours}")


# --- trying methods -------------------------------------------------------------------------------------------------


def test_a_sweep_tells_every_way_and_stores_the_best(ddpm: Any, home: Path, cwd: Path) -> None:
    shipped = Path(ddpm("models", "path", "mnist").done().out.strip())
    mine = home / "models" / "mine.safetensors"
    mine.parent.mkdir(parents=True, exist_ok=True)
    mine.write_bytes(shipped.read_bytes())
    words = ("eval", "mine", "--sweep", "--sampler", "unipc", "-n", 3, "--seed", 0, "--device", "cpu")
    found = ddpm(*words, "--store", "--json", "--plot", "sweep.png").done()
    assert [each["evaluations"] for each in found.json["trials"]] == [5, 10, 20]
    assert all(each["images"] == 3 and each["finished"] for each in found.json["trials"])
    best = min(found.json["trials"], key=lambda each: each["frechet"]["value"])
    assert found.json["best"] == best
    assert "its id is still" in found.err
    with Image.open(cwd / "sweep.png") as picture:
        assert picture.width > 600
    about = ddpm("models", "show", "mine", "--json").done().json
    assert (about["sampler"]["name"], about["sampler"]["steps"]) == ("unipc", best["steps"])
    assert about["id"] == ddpm("models", "show", "mnist", "--json").done().json["id"]
    protocol = found.json["protocol"]
    assert protocol["stored"] is True
    assert (protocol["number"], protocol["reference"]["data"], protocol["reference"]["split"]) == (3, "mnist", "test")
    assert len(protocol["features"]["id"]) == 64


@pytest.fixture
def mine(ddpm: Any, home: Path) -> Path:
    """A finished run with the weights of the shipped model."""
    shipped = Path(ddpm("models", "path", "mnist").done().out.strip())
    (home / "runs" / "mine" / "checkpoints").mkdir(parents=True)
    for name in ("model.safetensors", "checkpoints/step-0000001.safetensors"):
        (home / "runs" / "mine" / name).write_bytes(shipped.read_bytes())
    return home / "runs" / "mine"


SWEEP = ("--sweep", "--sampler", "unipc", "-n", 3, "--seed", 0, "--device", "cpu", "--store")


@pytest.mark.skipif(os.name == "nt", reason="no such locks there")
@pytest.mark.parametrize("name", ["mine", "model.safetensors", "checkpoints/step-0000001.safetensors"])
def test_a_run_that_another_process_uses_gets_no_other_default(ddpm: Any, mine: Path, name: str) -> None:
    before = (mine / "model.safetensors").read_bytes()
    with files.held(mine):
        ddpm("eval", name if name == "mine" else mine / name, *SWEEP).refused(6, "another process", str(mine))
    assert (mine / "model.safetensors").read_bytes() == before


@pytest.mark.skipif(os.name == "nt", reason="no such locks there")
def test_nor_does_one_process_use_a_run_while_another_stores_its_default(
    ddpm: Any, mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, refused = checkpoint.set_sampler, []

    def removed(path: Path, sampler: Any) -> Any:
        try:
            library.remove(mine)
        except ResourceError as error:
            refused.append(error.message)
        return change(path, sampler)

    monkeypatch.setattr(checkpoint, "set_sampler", removed)
    ddpm("eval", "mine", *SWEEP).done()
    assert len(refused) == 1
    assert checkpoint.read_info(mine / "model.safetensors").sampler.name == "unipc"
    library.remove(mine)


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need a privilege there")
def test_a_link_in_a_run_is_not_written_through(ddpm: Any, mine: Path, tmp_path: Path) -> None:
    (mine / "model.safetensors").rename(tmp_path / "theirs")
    (mine / "model.safetensors").symlink_to(tmp_path / "theirs")
    before = (tmp_path / "theirs").read_bytes()
    ddpm("eval", "mine", *SWEEP).refused(4, "link")
    assert (tmp_path / "theirs").read_bytes() == before


def test_a_run_that_goes_on_by_its_path_gets_no_default(ddpm: Any, trained: Path) -> None:
    path = trained / "model.safetensors"
    tensors, info = checkpoint.read_tensors(path), checkpoint.read_info(path)
    checkpoint.save(path, tensors, dataclasses.replace(info, training={**info.training, "step": 2}))
    ddpm("eval", path, *SWEEP).refused(2, "not finished")


def test_what_was_found_of_images_drawn_otherwise_is_forgotten_with_another_default(ddpm: Any, home: Path) -> None:
    shipped = Path(ddpm("models", "path", "mnist").done().out.strip())
    (home / "models").mkdir(parents=True, exist_ok=True)
    (home / "models" / "mine.safetensors").write_bytes(shipped.read_bytes())
    ddpm("eval", "mine", "-n", 8, "--metrics", "labels", "--seed", 0, "--device", "cpu").done()
    kept = list((home / "cache" / "evaluations").iterdir())
    assert len(kept) == 1
    ddpm("eval", "mine", "--sweep", "--sampler", "unipc", "-n", 3, "--seed", 0, "--device", "cpu", "--store").done()
    assert not kept[0].exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("mnist", "--store"), ("--sweep",)),
        (("mnist", "--sweep", "--store"), ("ships with ddpm", "--store")),
        (("tiny", "--sweep", "--store", "--guidance", 2, "--guide", "tiny"), ("without --guide",)),
        (("mnist", "--sweep", "--metrics", "ssim"), ("--metrics", "--sweep")),
        (("mnist", "--sweep", "--steps", 5), ("--steps", "--sweep")),
        (("digits.npz", "--sweep"), ("--sweep is for models",)),
    ],
)
@pytest.mark.usefixtures("model")
def test_what_does_not_go_with_a_sweep(ddpm: Any, options: tuple[object, ...], words: tuple[str, ...]) -> None:
    ddpm("eval", *options).refused(2, *words)
