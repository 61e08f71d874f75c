"""A folder of one's own images from training to the last command: mixed formats and sizes, one of them broken."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ddpm_cli import data, library
from ddpm_cli.cli import main

SIDE = 16
TINY = ("--preset", "tiny", "--batch-size", "8", "--device", "cpu", "--precision", "float32")
COUNT = 12  # images that can be read


def _write_photos(root: Path) -> None:
    """Color PNGs and JPEGs, one of them grey, of twelve sizes in two classes, and a JPEG cut short."""
    for number in range(COUNT):
        height, width = 20 + 3 * number, 50 - 2 * number
        y, x = np.mgrid[:height, :width]
        pixels = np.stack([x * 255 // width, y * 255 // height, 0 * x + 20 * number], -1).astype(np.uint8)
        folder = root / ("cats" if number % 2 else "dogs")
        folder.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(pixels).convert("L" if number == 3 else "RGB")
        image.save(folder / f"{number:02}.{'jpg' if number % 3 else 'png'}")
    whole = (root / "cats" / "01.jpg").read_bytes()
    (root / "cats" / "00.jpg").write_bytes(whole[: len(whole) // 3])


@pytest.fixture(scope="session")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder ``photos`` and a run that was trained on it, both in one folder."""
    root = tmp_path_factory.mktemp("own")
    _write_photos(root / "photos")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DDPM_HOME", str(root / "home"))
        patch.chdir(root)
        options = ("--image-size", str(SIDE), "--on-bad-image", "skip", "--steps", "3", "--save-steps", "1", "--keep")
        assert main(["train", "--dataset", "./photos", *options, "2", *TINY, "--seed", "0", "-o", "run"]) == 0
    return root


@pytest.fixture
def own(_made: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that was trained on ./photos, the newest one; its three steps count as enough."""
    monkeypatch.setattr(library.SampleCheck, "passed", True)
    shutil.copytree(_made / "run", home / "runs" / "own")
    monkeypatch.setenv("DDPM_DEVICE", "cpu")
    monkeypatch.chdir(_made)
    return home / "runs" / "own"


def _as_trained() -> data.ImageSet:
    return data.load("./photos", image_size=SIDE, on_bad_image="skip")


SKIPPED = "1 of 13 images cannot be read and is left out: cats/00.jpg"
EDITS: dict[str, tuple[object, ...]] = {
    "vary": ("-n", 2, "--index", "0,7"),
    "inpaint": ("-n", 2, "--rounds", 1),
    "interpolate": ("--index", "0,7", "--frames", 3),
    "morph": ("--index", 2, "--label", "cats", "--frames", 3),
}


@pytest.mark.usefixtures("own")
def test_every_command_takes_the_images_of_training_without_further_options(ddpm: Any) -> None:
    assert ddpm("sample", "-n", 4, "--steps", 2).done().out == "samples.png\n"
    about = ddpm("eval", "-n", 4, "--steps", 2, "--json").done()
    expected = _as_trained()
    reference = about.json["protocol"]["reference"]
    assert (reference["data"], reference["images"]) == ("photos", COUNT)
    assert reference["sha256"] == expected.fingerprint()
    assert SKIPPED in about.err
    named = ddpm("eval", "-n", 4, "--steps", 2, "--reference", "./photos", "--json").done().json
    assert named["protocol"]["reference"]["sha256"] == expected.fingerprint()


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize("command", EDITS)
def test_an_edit_begins_with_the_pixels_of_training(ddpm: Any, command: str) -> None:
    common = ("--steps", 3, "--seed", 0, "--json", "-o", "x.png")
    found = ddpm("edit", command, *EDITS[command], *common).done()
    assert SKIPPED in found.err
    assert found.json["dataset"] == "photos"
    expected = _as_trained()
    if command == "vary":
        assert expected.labels is not None
        assert found.json["labels"] == [int(expected.labels[k]) for k in (0, 0, 7, 7)]
        with Image.open("x.png") as picture:
            sheet = np.array(picture)
        original = np.array(expected.images[0]).transpose(1, 2, 0)
        scale = next(s for s in range(1, 9) if sheet.shape[1] == s * (2 + 3 * (SIDE + 2)))
        top = sheet.shape[0] - scale * (2 + 2 * (SIDE + 2)) + 2 * scale  # below the captions
        tile = sheet[top : top + scale * SIDE : scale, 2 * scale : (2 + SIDE) * scale : scale]
        np.testing.assert_array_equal(tile, original)


@pytest.mark.usefixtures("own")
def test_noise_shows_a_folder_and_the_images_of_the_model(ddpm: Any) -> None:
    found = ddpm("noise", "--dataset", "./photos", "--json").done()
    assert SKIPPED in found.err
    assert found.json["dataset"] == "photos"
    for view in ("posterior", "estimates"):
        document = ddpm("noise", "--view", view, "--json").done().json
        assert document["dataset"] == "photos"
    x_0 = ddpm("noise", "--view", "posterior", "--pixel", "3,5", "--json").done().json["x_0"]
    assert x_0 == pytest.approx(_as_trained().images[0, 0, 3, 5] / 127.5 - 1)


@pytest.mark.usefixtures("own")
def test_an_unreadable_image_stops_where_that_is_asked_for(ddpm: Any) -> None:
    for line in (
        ("eval", "-n", 2, "--steps", 2, "--on-bad-image", "stop"),
        ("edit", "vary", "--steps", 2, "--on-bad-image", "stop"),
        ("noise", "--dataset", "./photos", "--on-bad-image", "stop"),
        ("eval", "./photos", "--reference", "mnist"),  # figures of fewer images than there are would mislead
        ("eval", "mnist", "-n", 2, "--steps", 2, "--reference", "./photos"),
    ):
        ddpm(*line).refused(3, "00.jpg", "--on-bad-image skip")
    found = ddpm("eval", "mnist", "-n", 2, "--steps", 2, "--reference", "./photos", "--on-bad-image", "skip")
    assert found.done().err.count(SKIPPED) == 1  # brought to 28 x 28, in grey
    found = ddpm("eval", "./photos", "--reference", "./photos", "--on-bad-image", "skip", "--json").done()
    assert found.json["protocol"]["number"] == COUNT


def test_the_models_of_earlier_saves_know_the_images_too(ddpm: Any, own: Path) -> None:
    for path in ("best.safetensors", "checkpoints/step-0000002.safetensors"):
        found = ddpm("eval", own / path, "-n", 2, "--steps", 2, "--json").done().json
        assert found["protocol"]["reference"]["data"] == "photos"


def test_metadata_contain_no_path_and_a_copied_model_asks_for_the_folder(ddpm: Any, own: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.safetensors"
    shutil.copyfile(own / "model.safetensors", copy)
    assert str(Path.cwd()).encode() not in copy.read_bytes()
    ddpm("eval", copy, "-n", 2).refused(2, "photos", "--reference FOLDER")
    ddpm("edit", "vary", "--model", copy).refused(2, "photos", "--dataset FOLDER")
    ddpm("edit", "vary", "--model", copy, "--dataset", "./photos", "--steps", 2).done()
    ddpm("eval", copy, "-n", 2, "--steps", 2, "--reference", "photos").refused(3, "00.jpg")


def test_a_folder_that_was_moved_is_named_with_what_to_do(ddpm: Any, own: Path, tmp_path: Path) -> None:
    config = own / "config.json"
    text = config.read_text().replace(str(Path.cwd() / "photos"), str(tmp_path / "gone"))
    config.write_text(text)
    ddpm("eval", "-n", 2).refused(3, str(tmp_path / "gone"), "--reference FOLDER")
    ddpm("edit", "vary").refused(3, str(tmp_path / "gone"), "--dataset FOLDER")
    config.write_text("{")  # a damaged config is no reason to refuse what needs none
    ddpm("edit", "vary", "--steps", 2, "--dataset", "./photos").done()
    ddpm("edit", "vary").refused(2, "--dataset FOLDER")


@pytest.mark.usefixtures("own")
def test_a_grey_folder_is_compared_with_color(ddpm: Any, tmp_path: Path) -> None:
    (tmp_path / "grey").mkdir()
    for number in range(3):
        Image.new("L", (20, 20 + number), 80 * number).save(tmp_path / "grey" / f"{number}.png")
    asked = ("--metrics", "ssim", "-n", 2, "--steps", 2, "--reference", tmp_path / "grey", "--json")
    found = ddpm("eval", *asked).done().json["protocol"]["reference"]
    grey = data.load(str(tmp_path / "grey"), image_size=SIDE)
    color = data.ImageSet("grey", grey.images.repeat(3, axis=1))
    assert found["sha256"] == color.fingerprint()


# --- archives of arrays ---------------------------------------------------------------------------------------------


def test_an_archive_of_arrays_from_training_to_evaluation(ddpm: Any, cwd: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (24, 12, 12, 1), dtype=np.uint8)
    np.savez(cwd / "mine.npz", np.asfortranarray(images), np.arange(24, dtype=np.uint8) % 2)
    ddpm("train", "--dataset", "mine.npz", "--steps", 4, *TINY, "--name", "mine").done()
    ddpm("train", "--resume", "mine", "--steps", 8).done()
    assert ddpm("models", "show", "mine", "--json").done().json["classes"] == ["0", "1"]
    ddpm("sample", "--model", "mine", "-n", 2, "--steps", 2, "--label", "1", "-o", "samples.npz").done()
    found = ddpm("eval", "mine", "-n", 4, "--steps", 2, "--metrics", "ssim", "--json").done().json["protocol"]
    assert (found["reference"]["data"], found["reference"]["images"]) == ("mine.npz", 24)


@pytest.mark.parametrize("channels", [2, 4, 5])
def test_other_channels_are_refused_before_training(ddpm: Any, cwd: Path, home: Path, channels: int) -> None:
    np.savez(cwd / "mine.npz", images=np.zeros((8, 12, 12, channels), np.uint8))
    ddpm("train", "--dataset", "mine.npz", "--steps", 4, *TINY).refused(
        3, f"images of {channels} channels", "1 (grey) or 3 (RGB)"
    )
    assert not (home / "runs").exists()
