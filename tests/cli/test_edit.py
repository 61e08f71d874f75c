"""``ddpm edit``: which images, in which format, and what is told of them. The edits: tests/sampling/test_edits.py."""

import io
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ddpm_cli.checkpoint import read_info

SIDE = 12
QUICK = ("--sampler", "ddim", "--steps", 3, "--seed", 5)
pytestmark = pytest.mark.usefixtures("model")


def images_of(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        return dict(archive)


def text_of(path: Path) -> dict[str, str]:
    with Image.open(path) as image:
        return dict(image.text)  # type: ignore[attr-defined]  # only PNGs have it


@pytest.fixture
def picture(cwd: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE), np.uint8)
    Image.fromarray(pixels).save(cwd / "picture.png")
    return cwd / "picture.png"


@pytest.fixture
def archive(cwd: Path) -> Path:
    images = np.random.default_rng(1).integers(0, 256, (3, SIDE, SIDE), np.uint8)
    np.savez(cwd / "some.npz", images=images, labels=np.array([1, 0, 1]))
    return cwd / "some.npz"


@pytest.fixture
def mask(cwd: Path) -> Path:
    """Three columns at the left, in colour and twice the size."""
    white = np.zeros((2 * SIDE, 2 * SIDE, 3), np.uint8)
    white[:, :6] = 255
    Image.fromarray(white).save(cwd / "mask.png")
    return cwd / "mask.png"


EVERY: dict[str, tuple[object, ...]] = {
    "vary": ("picture.png", "-n", 2),
    "inpaint": ("picture.png", "-n", 2, "--rounds", 2),
    "interpolate": ("--frames", 3),
    "morph": ("--label", "0,1", "--frames", 3, "-n", 2),
}


@pytest.mark.usefixtures("picture")
@pytest.mark.parametrize("command", EVERY)
def test_an_edit_goes_into_every_format(ddpm: Any, cwd: Path, command: str, model: Path) -> None:
    options = (*EVERY[command], *QUICK)
    assert ddpm("edit", command, *options).done().out.endswith("ed.png\n")
    (cwd / "many").mkdir()
    for name in ("x.png", "x.gif", "x.apng", "x.npz", "many"):
        assert ddpm("edit", command, *options, "-o", name).done().out == f"{name}\n"
    images = images_of(cwd / "x.npz")["images"]
    assert images.shape[1:] == (SIDE, SIDE)
    singly = sorted((cwd / "many").iterdir())
    assert len(singly) == len(images)
    for path, image in zip(singly, images, strict=True):
        with Image.open(path) as one:
            np.testing.assert_array_equal(np.array(one), image)
    for name in ("x.gif", "x.apng"):
        with Image.open(cwd / name) as film:
            assert film.n_frames > 2
    for path in (cwd / "x.png", singly[0]):
        about = text_of(path)
        assert about["edit"] == command
        assert about["model"] == read_info(model).id
        assert (about["seed"], about["sampler"], about["steps"]) == ("5", "ddim", "3")
        assert not any("/" in value for value in about.values())


@pytest.mark.usefixtures("picture")
@pytest.mark.parametrize("command", EVERY)
def test_the_same_seed_gives_the_same_bytes(ddpm: Any, cwd: Path, command: str) -> None:
    first = ddpm("edit", command, *EVERY[command], *QUICK, "-o", "a.png", "--json").done().json
    ddpm("edit", command, *EVERY[command], *QUICK, "--batch-size", 1, "-o", "b.png").done()
    assert (cwd / "a.png").read_bytes() == (cwd / "b.png").read_bytes()
    assert first["edit"] == command
    assert first["evaluations"] >= 1
    other = (*EVERY[command], *QUICK[:-1], 6)
    ddpm("edit", command, *other, "-o", "c.png").done()
    assert (cwd / "a.png").read_bytes() != (cwd / "c.png").read_bytes()


def test_an_image_of_the_wrong_brightness_is_told(ddpm: Any, cwd: Path, save_model: Any, home: Path) -> None:
    save_model(home / "models" / "dark.safetensors", data={"name": "dark", "images": 9, "mean": -0.7, "std": 0.6})
    options = ("--model", "dark", "-n", 1, *QUICK)
    Image.new("L", (SIDE, SIDE), 230).save(cwd / "bright.png")
    found = ddpm("edit", "vary", "bright.png", *options).done()
    assert "The images differ from the training data" in found.err
    assert "1 image in" in found.err
    Image.new("L", (SIDE, SIDE), 30).save(cwd / "dark.png")
    assert "differ from" not in ddpm("edit", "vary", "dark.png", *options).done().err.split("network evaluations")[0]


def test_a_single_result_is_the_bare_image(ddpm: Any, cwd: Path, picture: Path, mask: Path) -> None:
    ddpm("edit", "inpaint", picture, "--mask", mask, "-n", 1, *QUICK, "-o", "one.png").done()
    with Image.open(cwd / "one.png") as found, Image.open(picture) as before:
        assert found.size == (SIDE, SIDE)
        found, before = np.array(found).astype(int), np.array(before)
    np.testing.assert_array_equal(found[:, 3:], before[:, 3:])
    assert np.abs(found[:, :3] - before[:, :3]).max() > 0
    ddpm("edit", "vary", picture, "-n", 1, *QUICK, "-o", "one.png").done()
    with Image.open(cwd / "one.png") as found:
        assert found.size == (SIDE, SIDE)


@pytest.mark.parametrize(
    ("side", "kept"),
    [
        ("left", np.s_[:, 6:]),
        ("right", np.s_[:, :6]),
        ("top", np.s_[6:]),
        ("bottom", np.s_[:6]),
        ("centre", np.s_[:3]),
    ],
)
def test_a_side_is_painted_and_the_other_kept(ddpm: Any, cwd: Path, picture: Path, side: str, kept: Any) -> None:
    ddpm("edit", "inpaint", picture, "--mask", side, "-n", 1, *QUICK, "-o", "x.npz").done()
    found = images_of(cwd / "x.npz")["images"][0]
    with Image.open(picture) as image:
        before = np.array(image)
    np.testing.assert_array_equal(found[kept], before[kept])
    assert not np.array_equal(found, before)


SQUARE = np.zeros((SIDE, SIDE), bool)
SQUARE[2:8, 3:7] = True


def _masks() -> dict[str, Image.Image]:
    """Masks that select SQUARE, as drawing programs and scripts write them."""
    inside, outside = SQUARE * np.uint8(255), ~SQUARE * np.uint8(255)
    grey = Image.fromarray(inside)
    strokes = {}
    for name, value in (("white", 255), ("black", 0), ("red", 90)):
        color = np.full((SIDE, SIDE), value, np.uint8)
        layer = [Image.fromarray(channel) for channel in (color, color // 2, color)]
        strokes[f"{name} strokes, RGBA"] = Image.merge("RGBA", [*layer, grey])
        strokes[f"{name} strokes, LA"] = Image.merge("LA", [layer[0], grey])
    palette = Image.fromarray(SQUARE.astype(np.uint8))
    palette.putpalette([9, 9, 9, 250, 250, 250])
    palette.info["transparency"] = bytes([0, 255])
    swapped = Image.fromarray((~SQUARE).astype(np.uint8))
    swapped.putpalette([250, 250, 250, 9, 9, 9])
    swapped.info["transparency"] = 1
    keyed = Image.fromarray(outside)  # what is white is transparent
    keyed.info["transparency"] = 255
    deep = Image.fromarray(np.where(SQUARE, 300, 40000).astype(np.uint16))
    deep.info["transparency"] = 40000
    opaque, half = (Image.merge("RGBA", [grey] * 3 + [Image.new("L", grey.size, alpha)]) for alpha in (255, 100))
    return {
        **strokes,
        "palette": palette,
        "palette with one transparent color": swapped,
        "grey with a transparent shade": keyed,
        "16 bits with a transparent shade": deep,
        "all opaque": opaque,
        "all half transparent": half,
        "all transparent": Image.merge("RGBA", [grey] * 3 + [Image.new("L", grey.size, 0)]),
        "grey": grey,
        "1 bit": grey.convert("1"),
        "color": grey.convert("RGB"),
    }


@pytest.mark.parametrize("name", _masks())
def test_a_mask_selects_what_is_white_or_opaque(ddpm: Any, cwd: Path, picture: Path, name: str) -> None:
    mask = _masks()[name]
    mask.save(cwd / "mask.png", **{key: mask.info[key] for key in ("transparency",) if key in mask.info})
    asked = ("edit", "inpaint", picture, "--mask", "mask.png", "-n", 1, *QUICK, "--rounds", 1, "-o", "x.npz", "--json")
    found = ddpm(*asked).done()
    assert found.json["covered"] == pytest.approx(24 / 144)
    assert "selects 24 of 144 pixels (16.7%)" in found.err
    with Image.open(picture) as image:
        before = np.array(image)
    after = images_of(cwd / "x.npz")["images"][0]
    np.testing.assert_array_equal(after[~SQUARE], before[~SQUARE])
    assert (after[SQUARE] != before[SQUARE]).mean() > 0.5


def test_a_mask_that_selects_nothing_or_everything_is_refused(ddpm: Any, cwd: Path, picture: Path) -> None:
    thin = np.zeros((20 * SIDE, 20 * SIDE), np.uint8)
    thin[:, 5] = 255
    Image.fromarray(thin).save(cwd / "thin.png")
    Image.new("L", (SIDE, SIDE), 255).save(cwd / "white.png")
    Image.merge(
        "LA", [Image.new("L", (SIDE, SIDE)), Image.linear_gradient("L").resize((SIDE, SIDE)).point(lambda v: v // 3)]
    ).save(cwd / "faint.png")
    for name, words in (
        ("thin.png", ["selects no pixel", "at 12 x 12 pixels", "brightest value is"]),
        ("faint.png", ["selects no pixel", "most opaque value is", "128 or more"]),
        ("white.png", ["selects every pixel", "ddpm sample"]),
    ):
        ddpm("edit", "inpaint", picture, "--mask", name, *QUICK).refused(3, *words)
    assert not (cwd / "inpainted.png").exists()


def test_a_named_mask_is_in_the_picture_and_the_path_of_one_is_not(
    ddpm: Any, cwd: Path, picture: Path, mask: Path
) -> None:
    ddpm("edit", "inpaint", picture, "--mask", "top", *QUICK, "-o", "a.png").done()
    assert text_of(cwd / "a.png")["mask"] == "top"
    document = ddpm("edit", "inpaint", picture, "--mask", mask, *QUICK, "-o", "b.png", "--json").done().json
    assert document["mask"] == str(mask)
    assert "mask" not in text_of(cwd / "b.png")


def test_an_archive_gives_all_its_images_or_some_with_their_classes(
    ddpm: Any, cwd: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ddpm("edit", "vary", archive, "-n", 2, *QUICK, "-o", "x.npz", "--json").done().json
    assert (whole["number"], whole["labels"]) == (6, None)  # 0 and 1 are not called as the model's classes are
    ddpm("edit", "vary", archive, "-n", 2, *QUICK, "--index", "2", "-o", "y.npz").done()
    np.testing.assert_array_equal(images_of(cwd / "x.npz")["images"][4:], images_of(cwd / "y.npz")["images"])
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(archive.read_bytes())))
    ddpm("edit", "vary", "-", "-n", 2, *QUICK, "-o", "z.npz").done()
    np.testing.assert_array_equal(images_of(cwd / "x.npz")["images"], images_of(cwd / "z.npz")["images"])
    ddpm("edit", "vary", archive, "-n", 2, *QUICK, "--label", "1", "-o", "w.npz").done()
    found = images_of(cwd / "w.npz")
    assert found["labels"].tolist() == [1] * 6
    assert not np.array_equal(found["images"], images_of(cwd / "x.npz")["images"])


def test_a_known_class_of_a_data_set_is_used(ddpm: Any, photos: Path, save_model: Any, home: Path) -> None:
    from ddpm_cli import data

    found = data.load(str(photos))
    save_model(home / "models" / "own.safetensors", classes=found.classes)
    options = ("--dataset", photos, "--index", "0,13", *QUICK, "-n", 1, "-o", "x.npz", "--json", "--model", "own")
    document = ddpm("edit", "vary", *options).done().json
    assert found.labels is not None
    assert document["labels"] == [int(found.labels[0]), int(found.labels[13])]


def test_an_edit_chooses_classes_as_sampling_does_and_names_them(
    ddpm: Any, picture: Path, save_model: Any, home: Path
) -> None:
    save_model(home / "models" / "odd.safetensors", classes=("a, b", "7", "t-shirt"))
    common = ("--model", "odd", "--steps", 2, "--sampler", "ddim", "--seed", 0, "--json")
    found = ddpm("edit", "vary", picture, "-n", 2, "--label", "a, b", *common).done().json
    assert (found["labels"], found["label_names"]) == ([0, 0], ["a, b", "a, b"])
    found = ddpm("edit", "morph", "--label", "7,a, b,@2", "--frames", 2, "-n", 1, *common).done().json
    assert (found["classes"], found["class_names"]) == ([1, 0, 2], ["7", "a, b", "t-shirt"])
    found = ddpm("edit", "interpolate", "--label", "t-shirt,7", "--frames", 2, *common).done().json
    assert found["between"] == [0, 1]
    ddpm("edit", "vary", picture, "--label", "0", *common).refused(2, "Class 0 does not exist", "@0 a, b, @1 7")
    assert ddpm("edit", "vary", picture, *common).done().json["label_names"] is None


@pytest.mark.parametrize(
    ("options", "frames"),
    [
        (("interpolate", "--between", "0,1,2", "--frames", 4), 2 * 4),
        (("morph", "--label", "0,1,0", "-n", 3, "--frames", 4), 2 * 4),
        (("vary", "picture.png", "-n", 5, "--strength", 1), 4),
    ],
)
@pytest.mark.usefixtures("picture")
def test_a_film_is_wide_enough_and_says_where_it_is(
    ddpm: Any, cwd: Path, options: tuple[object, ...], frames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ddpm_cli.render import walks

    captions: list[str] = []
    framed = walks.framed
    monkeypatch.setattr(walks, "framed", lambda *words: captions.append(words[1]) or framed(*words))
    ddpm("edit", *options, *QUICK, "-o", "x.apng").done()
    assert len(captions) == frames
    if options[0] == "vary":
        assert captions[-1] == "t = 0"
    else:
        assert captions == 2 * ["0%", "33%", "67%", "100%"]
    with Image.open(cwd / "x.apng") as film:
        assert film.width >= 256


def test_images_named_in_settings_are_images_of_ones_own(ddpm: Any, cwd: Path, photos: Path) -> None:
    (cwd / "mine.toml").write_text(f'[edit.interpolate]\ndataset = "{photos}"\nindex = "0,13"\n')
    asked = ("edit", "interpolate", "--config", "mine.toml", "--frames", 3, "--steps", 2, "--seed", 0, "--json")
    document = ddpm(*asked, "-o", "w.npz").done().json
    assert document["index"] == [0, 13]
    assert "between" not in document
    ddpm(*asked, "--between", "1,2").refused(2, "--between names images of the seed")


def test_a_way_begins_and_ends_where_sample_does(ddpm: Any, cwd: Path) -> None:
    ddpm("sample", "-n", 3, *QUICK, "-o", "s.npz").done()
    drawn = images_of(cwd / "s.npz")["images"].astype(int)
    ddpm("edit", "interpolate", "--between", "2,0", "--frames", 4, *QUICK, "-o", "w.npz").done()
    way = images_of(cwd / "w.npz")["images"]
    assert np.abs(way[0] - drawn[2]).max() <= 1
    assert np.abs(way[3] - drawn[0]).max() <= 1
    ddpm("sample", "-n", 2, "--label", 1, *QUICK, "-o", "s.npz").done()
    ddpm("edit", "morph", "--label", "0,1", "-n", 2, "--frames", 4, *QUICK, "-o", "m.npz").done()
    ends = images_of(cwd / "m.npz")["images"][3::4]
    assert np.abs(ends - images_of(cwd / "s.npz")["images"].astype(int)).max() <= 1


def test_images_of_ones_own_take_a_deterministic_method_by_themselves(ddpm: Any, picture: Path, archive: Path) -> None:
    found = ddpm("edit", "interpolate", picture, picture, archive, "--seed", 1, "--frames", 3, "--json").done().json
    assert (found["sampler"], found["number"]) == ("ddim", 4 * 3)
    ddpm("edit", "interpolate", picture, archive, "--sampler", "ddpm").refused(2, "ddpm adds more of it", "ddim")
    found = ddpm("edit", "morph", archive, "--label", "0,1", "--frames", 3, "--json", "--seed", 1).done().json
    assert (found["sampler"], found["number"]) == ("ddim", 9)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("vary", "nowhere.png"), 3, ["nowhere.png"]),
        (("vary", "picture.png", "--strength", 0), 2, ["strength"]),
        (("vary", "picture.png", "--strength", 1.5), 2, ["strength"]),
        (("vary", "picture.png", "--guidance", 2), 2, ["needs a class", "--label"]),
        (("vary", "picture.png", "--label", "dog"), 2, ["dog"]),
        (("vary", "picture.png", "--index", 1), 2, ["contradict"]),
        (("vary", "picture.png", "--dataset", "mnist"), 2, ["contradict"]),
        (("vary", "picture.png", "-o", "x.txt"), 2, ["x.txt"]),
        (("vary", "picture.png", "-o", "x.png", "--format", "gif"), 2, ["x.png"]),
        (("inpaint", "picture.png", "--mask", "nowhere.png"), 3, ["nowhere.png", "White"]),
        (("inpaint", "picture.png", "--mask", "black.png"), 3, ["black.png selects no pixel", "0 of 255"]),
        (("interpolate", "picture.png"), 2, ["two or more"]),
        (("interpolate", "--between", "1"), 2, ["two or more"]),
        (("interpolate", "--between", "1,x"), 2, ["whole number"]),
        (("interpolate", "--strength", 0.5), 2, ["images of your own"]),
        (("interpolate", "picture.png", "--between", "0,1"), 2, ["--between"]),
        (("morph",), 2, ["--label"]),
        (("morph", "--label", "1"), 2, ["two classes"]),
        (("morph", "--label", "1,7"), 2, ["Class 7 does not exist", "@0 circle, @1 cross"]),
        (("morph", "picture.png", "--label", "1"), 2, ["two classes"]),
        (("morph", "picture.png", "--label", "0,1", "-n", 3), 2, ["--number"]),
        (("morph", "--label", "0,1", "--strength", 0.5), 2, ["images of your own"]),
    ],
)
@pytest.mark.usefixtures("picture")
def test_bad_input_is_told_in_a_sentence(
    ddpm: Any, cwd: Path, arguments: tuple[object, ...], code: int, words: list[str]
) -> None:
    Image.new("L", (SIDE, SIDE)).save(cwd / "black.png")
    before = set(cwd.iterdir())
    ddpm("edit", *arguments).refused(code, *words)
    assert set(cwd.iterdir()) == before


@pytest.mark.usefixtures("picture")
def test_an_edit_cannot_be_drawn_again_without_its_image(ddpm: Any) -> None:
    ddpm("edit", "vary", "picture.png", *QUICK, "-o", "x.png").done()
    ddpm("sample", "--like", "x.png").refused(3, "made from other images (ddpm edit vary)")


def test_classes_are_dealt_to_images_of_several_files_in_turn(ddpm: Any, cwd: Path, picture: Path) -> None:
    options = ("--frames", 2, "--seed", 1, "--sampler", "ddim", "--steps", 3, "-o")
    ddpm("edit", "interpolate", picture, picture, "--label", "0,1", *options, "x.npz").done()
    ddpm("edit", "interpolate", picture, picture, "--label", "0", *options, "y.npz").done()
    both, one = (images_of(cwd / name)["images"] for name in ("x.npz", "y.npz"))
    np.testing.assert_array_equal(both[0], one[0])
    assert not np.array_equal(both[1], one[1])


def test_guidance_that_has_nothing_to_lead_to_is_left_out_and_not_told(
    ddpm: Any, cwd: Path, picture: Path, save_model: Any, home: Path
) -> None:
    from ddpm_cli.config import SamplerConfig

    save_model(home / "models" / "guided.safetensors", sampler=SamplerConfig("ddim", steps=3, guidance=2.0))
    common = ("--model", "guided", "-n", 1, "--seed", 1, "--json", "-o", "x.png")
    document = ddpm("edit", "vary", picture, *common).done().json
    assert document["guidance"] == 1
    assert text_of(cwd / "x.png")["guidance"] == "1"
    assert ddpm("edit", "vary", picture, "--label", 1, *common).done().json["guidance"] == 2


def test_a_picture_says_its_class_and_each_of_a_folder_which_it_is(ddpm: Any, cwd: Path, archive: Path) -> None:
    ddpm("edit", "vary", archive, "--index", "2,0", "-n", 2, "--label", "1,0", *QUICK, "-o", "x.png").done()
    assert (text_of(cwd / "x.png")["label"], text_of(cwd / "x.png")["index"]) == ("1,1,0,0", "2,0")
    ddpm("edit", "vary", archive, "--index", "2,0", "-n", 2, "--label", "1,0", *QUICK, "-o", "many/").done()
    told = [text_of(path) for path in sorted((cwd / "many").iterdir())]
    assert [(each["index"], each["result"], each["label"]) for each in told] == [
        ("2", "0", "1"),
        ("2", "1", "1"),
        ("0", "0", "0"),
        ("0", "1", "0"),
    ]
    ddpm("edit", "vary", archive, "-n", 1, *QUICK, "-o", "x.apng").done()
    assert text_of(cwd / "x.apng")["edit"] == "vary"


def test_an_archive_comes_through_a_pipe_with_a_name_too(ddpm: Any, cwd: Path, archive: Path) -> None:
    ddpm("edit", "vary", archive, "-n", 1, *QUICK, "-o", "a.npz").done()
    os.mkfifo(cwd / "pipe")
    writer = threading.Thread(target=lambda: (cwd / "pipe").write_bytes(archive.read_bytes()))
    writer.start()
    ddpm("edit", "vary", "pipe", "-n", 1, *QUICK, "-o", "b.npz").done()
    writer.join()
    np.testing.assert_array_equal(images_of(cwd / "a.npz")["images"], images_of(cwd / "b.npz")["images"])


def test_a_model_of_a_folder_needs_images_named(ddpm: Any) -> None:
    ddpm("edit", "vary").refused(2, "a folder (photos)", "--dataset FOLDER")


def test_a_path_from_home_is_told_whole(
    ddpm: Any, cwd: Path, picture: Path, mask: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(cwd))
    document = ddpm("edit", "inpaint", picture, "--mask", "~/mask.png", "-n", 1, *QUICK, "--json").done().json
    assert document["mask"] == str(mask)


def test_guidance_of_a_model_without_classes_says_what_is_wrong(
    ddpm: Any, picture: Path, save_model: Any, home: Path
) -> None:
    save_model(home / "models" / "plain.safetensors", classes=())
    ddpm("edit", "vary", picture, "--model", "plain", "--guidance", 2).refused(2, "this one has none", "--guide")
