"""``ddpm sample``: which model, which images, in which format, and what is told of them."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ddpm_cli import __version__
from ddpm_cli.config import SAMPLERS, Spacing
from ddpm_cli.render.grid import grid

pytestmark = pytest.mark.usefixtures("model")
FEW = ("-n", 4, "--steps", 2, "--seed", 0)


def text_of(path: Path) -> dict[str, str]:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return dict(image.text)  # type: ignore[attr-defined]  # only PNGs have it


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image, dtype=int)


def images_of(path: Path) -> np.ndarray:
    with np.load(path, allow_pickle=False) as archive:
        return archive["images"].astype(int)


@pytest.fixture
def drawn(ddpm: Any, tmp_path: Path) -> Callable[..., np.ndarray]:
    """The images that options give, (N, 12, 12)."""

    def draw(*options: object) -> np.ndarray:
        ddpm("sample", *options, "-o", tmp_path / "drawn.npz").done()
        return images_of(tmp_path / "drawn.npz")

    return draw


# --- the output -----------------------------------------------------------------------------------------------------


def test_with_no_option_it_writes_64_images_as_samples_png_here(ddpm: Any, cwd: Path) -> None:
    result = ddpm("sample").done()
    assert result.out == "samples.png\n"
    assert [path.name for path in cwd.iterdir()] == ["samples.png"]
    with Image.open(cwd / "samples.png") as image:
        assert image.size == (
            8 * (2 + 8 * 14),
            8 * (2 + 8 * 14),
        )  # 8 x 8 tiles of 12 and a border of 2, 8 times as large
        assert image.mode == "L"
    assert text_of(cwd / "samples.png")["index"] == "0-63"


def test_parents_are_created_and_files_replaced(ddpm: Any, cwd: Path) -> None:
    (cwd / "grid.png").write_text("old")
    for path in ("grid.png", "new/er/grid.png"):
        assert ddpm("sample", *FEW, "-o", path).done().out == f"{path}\n"
        assert pixels_of(cwd / path).size


def test_a_folder_gets_a_png_an_image_that_tells_where_it_comes_from(ddpm: Any, cwd: Path, model: Path) -> None:
    from ddpm_cli.checkpoint import read_info

    options = ["--sampler", "ddim", "--steps", 3, "--seed", 9, "--label", "1,0", "--guidance", 1.5, "--first", 2]
    assert ddpm("sample", "-n", 3, *options, "--precision", "float32", "-o", "out/").done().out.rstrip("\n/") == "out"
    files = sorted((cwd / "out").iterdir())
    assert len(files) == 3
    for number, path in enumerate(files):
        assert pixels_of(path).shape == (12, 12)
        about = text_of(path)
        assert about["model"] == read_info(model).id
        assert about["sampler"] == "ddim"
        assert about["steps"] == "3"
        assert (about["seed"], about["index"]) == ("9", str(2 + number))
        assert about["label"] in ("0", "1")
        assert about["guidance"] == "1.5"
        assert about["precision"] == "float32"
        assert about["weights"] == "ema"
        assert __version__ in about["software"]
    assert len({text_of(path)["label"] for path in files}) == 2


@pytest.mark.parametrize("name", ["out", "out.v1", "out.png"])
def test_an_existing_folder_is_one_whatever_its_name(ddpm: Any, cwd: Path, name: str) -> None:
    (cwd / name).mkdir()
    ddpm("sample", *FEW, "-o", name).done()
    assert len(list((cwd / name).glob("*.png"))) == 4


def foreign(folder: Path, kind: str) -> None:
    """Put something into a folder that is no image of ``ddpm sample``."""
    if kind == "image":
        Image.new("L", (12, 12)).save(folder / "000000.png")
    elif kind == "sub-folder":
        (folder / "000000.png").mkdir()
    elif kind == "link":
        (folder / "000000.png").symlink_to(folder.parent / "mine.png")
    else:
        (folder / kind).write_bytes(b"mine")


@pytest.mark.parametrize("kind", ["image", "sub-folder", "link", "notes.txt", "000000.png", "000000.jpg"])
def test_a_folder_with_something_else_in_it_is_refused_but_for_force(ddpm: Any, cwd: Path, kind: str) -> None:
    """Images of the same command are replaced; anything else, an image of the same name too, is not."""
    (cwd / "mine").mkdir()
    (cwd / "mine" / ".hidden").write_bytes(b"mine")
    ddpm("sample", *FEW, "-o", "mine").done()
    ddpm("sample", "-n", 2, "--first", 2, *FEW[2:], "--seed", 1, "-o", "mine/").done()
    for path in (cwd / "mine").glob("*.png"):
        path.unlink()
    ddpm("sample", "-n", 1, "--first", 7, *FEW[2:], "-o", cwd / "mine.png").done()
    before = (cwd / "mine.png").read_bytes()
    foreign(cwd / "mine", kind)
    ddpm("sample", *FEW, "-o", "mine").refused(2, "mine contains", "ddpm sample", "-o mine/samples/", "--force")
    assert len(list((cwd / "mine").iterdir())) == 2
    ddpm("sample", *FEW, "-o", "mine/samples/").done()
    ddpm("sample", *FEW, "-o", "mine").refused(2, "-o mine/samples-2/")
    if kind in ("image", "notes.txt"):
        ddpm("sample", *FEW, "-o", "mine", "--force").done()
        assert text_of(cwd / "mine" / "000000.png")["index"] == "0"
    assert (cwd / "mine.png").read_bytes() == before


def test_a_folder_of_another_command_is_refused(ddpm: Any) -> None:
    ddpm("noise", "--dataset", "mnist", "-o", "noise/").done()
    ddpm("noise", "--dataset", "mnist", "-o", "noise/").done()
    ddpm("sample", *FEW, "-o", "noise/").refused(2, "ddpm sample")
    ddpm("edit", "vary", "--dataset", "mnist", "-o", "noise/").refused(2, "ddpm edit vary", "-o noise/results/")
    ddpm("edit", "morph", "--label", "0,1", "--steps", 2, "-o", "edit/").done()
    ddpm("edit", "morph", "--label", "0,1", "--steps", 2, "-o", "edit/").done()
    ddpm("edit", "interpolate", "-o", "edit/").refused(2, "ddpm edit interpolate")
    ddpm("sample", *FEW, "-o", "edit/").refused(2, "ddpm sample")
    ddpm("sample", *FEW, "-o", "samples/").done()
    ddpm("noise", "--dataset", "mnist", "-o", "samples/").refused(2, "ddpm noise")
    ddpm("noise", "--dataset", "mnist", "-o", "samples/", "--force").done()


@pytest.mark.parametrize(
    "words",
    [
        ("sample", "-o", "loss.png"),
        ("sample", "--trajectory", "loss.png"),
        ("noise", "-o", "loss.png"),
        ("edit", "vary", "--dataset", "mnist", "-o", "loss.png"),
        ("schedule", "show", "-o", "config.json"),
        ("schedule", "plot", "-o", "loss.png"),
        ("eval", "-o", "config.json"),
        ("eval", "--plot", "loss.png"),
    ],
    ids=" ".join,
)
def test_no_file_of_a_run_is_replaced_by_a_result(
    ddpm: Any, trained: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    monkeypatch.chdir(trained)
    ddpm(*words).refused(2, words[-1], "belongs to the run")
    assert {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["out/", "out.v1/", "out.png/"])
def test_a_trailing_slash_makes_a_folder_whatever_its_name(ddpm: Any, cwd: Path, name: str) -> None:
    ddpm("sample", *FEW, "-o", name).done()
    assert len(list((cwd / name).glob("*.png"))) == 4


@pytest.mark.parametrize("name", ["grid.jpg", "grid.tar.gz", "grid"])
def test_an_unknown_suffix_is_2(ddpm: Any, cwd: Path, name: str) -> None:
    ddpm("sample", *FEW, "-o", name).refused(2, name, ".png")
    assert list(cwd.iterdir()) == []


def test_the_format_may_be_told_beside_the_name(ddpm: Any, cwd: Path) -> None:
    ddpm("sample", *FEW, "-o", "grid.data", "--format", "npz").done()
    assert images_of(cwd / "grid.data").shape == (4, 12, 12)


def test_a_suffix_is_read_in_capitals_too(ddpm: Any, cwd: Path) -> None:
    ddpm("sample", *FEW, "-o", "GRID.PNG").done()
    assert pixels_of(cwd / "GRID.PNG").size


def test_npz_holds_images_and_labels(ddpm: Any, cwd: Path) -> None:
    ddpm("sample", *FEW, "--label", "1,0", "-o", "some.npz").done()
    with np.load(cwd / "some.npz", allow_pickle=False) as archive:
        assert set(archive.files) == {"images", "labels"}
        assert archive["images"].dtype == np.uint8
        assert archive["images"].shape == (4, 12, 12)
        assert archive["labels"].tolist() == [1, 0, 1, 0]


def test_gif_is_the_way_from_noise_to_images(ddpm: Any, cwd: Path) -> None:
    ddpm("sample", "-n", 4, "--steps", 5, "-o", "walk.gif").done()
    ddpm("sample", "-n", 4, "--steps", 5, "-o", "grid.png").done()
    with Image.open(cwd / "walk.gif") as film:
        assert film.format == "GIF"
        assert film.n_frames == 6  # x_T and what each of 5 steps made of it
        assert film.info["loop"] == 0


def test_gif_shows_every_image_whatever_the_batch_size(ddpm: Any, cwd: Path) -> None:
    for batch in (2, 64):
        ddpm("sample", "-n", 6, "--steps", 2, "--seed", 0, "--batch-size", batch, "-o", f"{batch}.gif").done()
    assert pixels_of(cwd / "2.gif").shape == pixels_of(cwd / "64.gif").shape


@pytest.mark.parametrize(
    ("form", "magic"), [(None, b"\x89PNG\r\n\x1a\n"), ("png", b"\x89PNG"), ("npz", b"PK"), ("gif", b"GIF8")]
)
def test_a_dash_writes_bytes_and_nothing_else(
    capsysbinary: pytest.CaptureFixture[bytes], cwd: Path, form: str | None, magic: bytes
) -> None:
    from ddpm_cli.cli import main

    assert main(["sample", "-n", "2", "--steps", "1", "-o", "-", *(["--format", form] if form else [])]) == 0
    assert capsysbinary.readouterr().out.startswith(magic)
    assert list(cwd.iterdir()) == []


def test_a_dash_and_json_contradict_each_other(ddpm: Any) -> None:
    ddpm("sample", "-o", "-", "--json").refused(2, "--json")


def test_a_trajectory_and_an_animation_come_beside(ddpm: Any, cwd: Path) -> None:
    options = ["--sampler", "ddpm", "--steps", 20, "--trajectory", "walk.png", "--animate", "film.gif"]
    result = ddpm("sample", "-n", 9, "--seed", 0, *options).done()
    assert set(result.out.split()) == {"samples.png", "walk.png", "film.gif"}
    assert {path.name for path in cwd.iterdir()} == {"samples.png", "walk.png", "film.gif"}
    height, width = pixels_of(cwd / "walk.png").shape
    scale, rest = divmod(width, 2 + 11 * 14)  # a column every 100 levels of 1000 are 11
    assert rest == 0
    assert scale * (2 + 8 * 14) < height < scale * (2 + 9 * 14)  # 8 rows, and captions above them
    assert text_of(cwd / "walk.png")["seed"] == "0"
    with Image.open(cwd / "film.gif") as film:
        assert film.n_frames == 21


def test_estimates_stand_beside_the_way(ddpm: Any, cwd: Path) -> None:
    common = ["-n", 5, "--sampler", "ddpm", "--steps", 20, "--seed", 1]
    ddpm("sample", *common, "--trajectory", "x.png", "--animate", "x.apng", "-o", "plain.png").done()
    ddpm("sample", *common, "--estimates", "--trajectory", "e.png", "--animate", "e.gif", "-o", "e.apng").done()
    assert pixels_of(cwd / "e.png").shape != pixels_of(cwd / "x.png").shape
    with Image.open(cwd / "x.apng") as plain, Image.open(cwd / "e.gif") as gif, Image.open(cwd / "e.apng") as film:
        assert plain.n_frames == gif.n_frames == film.n_frames == 21
        assert film.text["sampler"] == "ddpm"
        assert gif.width > 1.9 * plain.width / 2
        film.seek(20)  # at the end, an image is what it is taken for
        last = np.array(film.convert("L"))
        half = (last.shape[1] - 2) // 2
        assert last[-30:, :half].std() > 0
    ddpm("sample", *common, "--estimates").refused(2, "--estimates is for ways", "--trajectory")


def test_what_an_image_is_taken_for_is_the_estimate_of_the_next_step(model: Path) -> None:
    """Step k + 1 asks about the images of step k: by hand, along the walk of the model itself."""
    from ddpm_cli import drawing
    from ddpm_cli.pixels import to_uint8

    ready = drawing.ready(model)
    drawn = drawing.draw(ready.model, 3, range(4), watched=3)
    steps = list(ready.model.walk(3, range(4)))
    for k, (walk, taken) in enumerate(zip(drawn.walk, drawn.estimates, strict=True)):
        after = steps[min(k + 1, len(steps) - 1)]
        np.testing.assert_array_equal(walk, to_uint8(steps[k].x[:3].numpy()))
        np.testing.assert_array_equal(taken, to_uint8((after.clean if k + 1 < len(steps) else after.x)[:3].numpy()))


def test_a_trajectory_has_8_rows_whatever_the_batch_size(ddpm: Any, cwd: Path) -> None:
    for batch in (3, 64):
        options = ["--steps", 3, "--seed", 0, "--batch-size", batch, "--trajectory", f"{batch}.png"]
        ddpm("sample", "-n", 9, *options).done()
    assert pixels_of(cwd / "3.png").shape == pixels_of(cwd / "64.png").shape


@pytest.mark.parametrize("option", [("--trajectory", "walk.gif"), ("--animate", "walk.png")])
def test_a_second_output_with_another_suffix_is_2(ddpm: Any, cwd: Path, option: tuple[str, str]) -> None:
    ddpm("sample", *FEW, *option).refused(2, *option)
    ddpm("sample", *FEW, option[0], "").refused(2, "empty")
    assert list(cwd.iterdir()) == []


# --- images of a seed -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_image_k_of_a_seed_is_the_same_whatever_is_drawn_with_it(ddpm: Any, cwd: Path, sampler: str) -> None:
    common = ["--sampler", sampler, "--steps", 4, "--seed", 3, "--precision", "float32"]
    ddpm("sample", *common, "-n", 7, "-o", "all/").done()
    ddpm("sample", *common, "-n", 4, "--first", 3, "-o", "last/").done()
    ddpm("sample", *common, "-n", 7, "--batch-size", 2, "-o", "pairs/").done()
    everything = sorted((cwd / "all").iterdir())
    assert [path.name for path in sorted((cwd / "last").iterdir())] == [path.name for path in everything[3:]]
    for folder in ("last", "pairs"):
        for path in sorted((cwd / folder).iterdir()):
            assert abs(pixels_of(path) - pixels_of(cwd / "all" / path.name)).max() <= 1  # 1e-4 may round otherwise
            assert text_of(path) == text_of(cwd / "all" / path.name)
    assert len({pixels_of(path).tobytes() for path in everything}) == 7


def test_seeds_that_follow_each_other_share_no_image(drawn: Any) -> None:
    some = {image.tobytes() for seed in (1, 2) for image in drawn("-n", 4, "--steps", 1, "--seed", seed)}
    assert len(some) == 8


def test_a_chosen_label_belongs_to_the_image_too(ddpm: Any, cwd: Path) -> None:
    common = ["--steps", 1, "--seed", 3, "--label", "0,1"]
    ddpm("sample", *common, "-n", 4, "-o", "all/").done()
    ddpm("sample", *common, "-n", 3, "--first", 1, "-o", "last/").done()
    for path in (cwd / "last").iterdir():
        assert text_of(path)["label"] == text_of(cwd / "all" / path.name)["label"]


def test_without_a_seed_one_is_drawn_told_and_can_be_used_again(ddpm: Any, cwd: Path) -> None:
    first, second = (ddpm("sample", "-n", 2, "--steps", 1, "-o", name).done() for name in ("a.png", "b.png"))
    seeds = [text_of(cwd / name)["seed"] for name in ("a.png", "b.png")]
    assert seeds[0] != seeds[1]
    assert f"seed {seeds[0]}" in first.err
    assert f"seed {seeds[1]}" in second.err
    ddpm("sample", "-n", 2, "--steps", 1, "--seed", seeds[0], "-o", "again.png").done()
    assert (cwd / "again.png").read_bytes() == (cwd / "a.png").read_bytes()


# --- labels, guidance, samplers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "expected"),
    [("1", [1, 1, 1]), ("cross", [1, 1, 1]), ("circle", [0, 0, 0]), ("0,1", [0, 1, 0]), ("cross, 0", [1, 0, 1])],
)
def test_a_label_is_a_number_a_name_or_several_in_turn(ddpm: Any, label: str, expected: list[int]) -> None:
    assert ddpm("sample", "-n", 3, "--steps", 1, "--label", label, "--json").done().json["labels"] == expected


@pytest.mark.usefixtures("home")
def test_numbers_are_names_where_a_class_is_called_by_a_number(ddpm: Any, save_model: Any, home: Path) -> None:
    save_model(home / "models" / "numbers.safetensors", classes=("1", "2", "3"))
    asked = ("sample", "--model", "numbers", "--device", "cpu", "-n", 3, "--steps", 1, "--json", "--label")
    for label, indices, names in (
        ("1", [0, 0, 0], ["1", "1", "1"]),
        ("@1", [1, 1, 1], ["2", "2", "2"]),
        ("2-3", [1, 2, 1], ["2", "3", "2"]),
        ("all", [0, 1, 2], ["1", "2", "3"]),
    ):
        found = ddpm(*asked, label).done().json
        assert (found["labels"], found["label_names"]) == (indices, names)
    ddpm(*asked, "0").refused(2, "Class 0 does not exist", "This model has 3 classes: @0 1, @1 2, @2 3.")


def test_a_grid_has_the_columns_asked_for(ddpm: Any, cwd: Path) -> None:
    common = ("sample", "-n", 6, "--steps", 1, "--seed", 0)
    ddpm(*common, "-o", "x.npz").done()
    images = images_of(cwd / "x.npz")[:, None].astype(np.uint8)
    for columns, shown in ((4, 4), (1, 1), (100, 6)):
        document = ddpm(*common, "--columns", columns, "-o", "x.png", "--json").done().json
        assert document["columns"] == columns
        np.testing.assert_array_equal(pixels_of(cwd / "x.png"), grid(images, shown)[0])
    assert "columns" not in ddpm(*common, "--json").done().json
    ddpm("sample", "--like", "x.png", "-o", "y.png").done()
    np.testing.assert_array_equal(pixels_of(cwd / "y.png"), pixels_of(cwd / "x.png"))


def test_a_row_per_class_has_its_name_and_is_drawn_again_alike(ddpm: Any, cwd: Path) -> None:
    common = ("sample", "--per-class", 3, "--steps", 2, "--seed", 4, "--first", 5)
    document = ddpm(*common, "--animate", "x.gif", "-o", "x.png", "--json").done().json
    assert document["labels"] == [0, 0, 0, 1, 1, 1]
    assert (document["number"], document["index"], document["per_class"]) == (6, "5-10", 3)
    one = ("sample", "-n", 1, "--steps", 2, "--seed", 4, "--first", 9, "--label", "cross")
    ddpm(*one, "-o", "one.npz").done()
    named, plain = pixels_of(cwd / "x.png"), grid(np.zeros((6, 1, 12, 12), np.uint8), 3)[0]
    assert named.shape[0] == plain.shape[0]
    assert named.shape[1] > plain.shape[1]  # by the names
    scale = plain.shape[1] // 44
    tiles = named[:, -plain.shape[1] :][2 * scale :: scale, 2 * scale :: scale]
    assert np.abs(tiles[14 : 14 + 12, 14 : 14 + 12] - images_of(cwd / "one.npz")[0]).max() <= 1
    again = ddpm("sample", "--like", "x.png", "-o", "again.png", "--json").done().json
    assert again["like"] == {"grey_levels": 0}
    np.testing.assert_array_equal(pixels_of(cwd / "again.png"), named)
    assert ddpm(*common, "--label", "cross", "-o", "z.npz", "--json").done().json["labels"] == [1, 1, 1]
    with Image.open(cwd / "x.gif") as film:
        assert film.width >= 256


def test_layouts_that_make_no_sense_are_refused(ddpm: Any, home: Path, save_model: Any) -> None:
    save_model(home / "models" / "plain.safetensors", classes=())
    ddpm("sample", "--model", "plain", "--per-class", 2).refused(2, "this one has none")
    ddpm("sample", "--per-class", 2, "-n", 3).refused(2, "--per-class and --number")
    ddpm("sample", "--per-class", 2, "--columns", 3).refused(2, "--per-class and --columns")
    ddpm("sample", "--per-class", 0).refused(2, "--per-class")
    ddpm("sample", "--columns", 0).refused(2, "--columns")
    ddpm("sample", "--columns", 3, "-o", "x.npz").refused(2, "--columns is for grids")
    ddpm("sample", "--per-class", 2, "--label", "dog").refused(2, "Class dog does not exist")


def test_a_label_changes_the_image(drawn: Any) -> None:
    one, other = (drawn("-n", 1, "--steps", 2, "--seed", 0, "--label", label) for label in (0, 1))
    assert (one != other).any()


def test_without_a_label_each_image_has_one_of_its_own(ddpm: Any) -> None:
    every = ddpm("sample", "-n", 32, "--steps", 1, "--seed", 0, "--json").done().json["labels"]
    assert set(every) == {0, 1}
    assert (
        ddpm("sample", "-n", 8, "--first", 24, "--steps", 1, "--seed", 0, "--json").done().json["labels"] == every[24:]
    )


def test_guidance_changes_the_image_and_counts_two_evaluations_a_step(ddpm: Any, drawn: Any) -> None:
    common = ["-n", 1, "--steps", 3, "--seed", 0, "--label", 1]
    plain = ddpm("sample", *common, "--guidance", 1, "--json").done().json
    guided = ddpm("sample", *common, "--guidance", 4, "--json").done().json
    assert (plain["evaluations"], guided["evaluations"]) == (3, 6)
    assert (plain["guidance"], guided["guidance"]) == (1, 4)
    assert (drawn(*common) == drawn(*common, "--guidance", 1)).all()
    assert (drawn(*common) != drawn(*common, "--guidance", 4)).any()


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("spacing", get_args(Spacing))
def test_every_sampler_walks_every_spacing(ddpm: Any, sampler: str, spacing: str) -> None:
    options = ["--sampler", sampler, "--spacing", spacing, "--steps", 5]
    document = ddpm("sample", "-n", 2, *options, "--json").done().json
    assert (document["sampler"], document["spacing"], document["steps"]) == (sampler, spacing, 5)


@pytest.mark.parametrize(
    ("sampler", "steps"), [("ddim", 50), ("heun", 10), ("dpm++2m", 20), ("dpm++2m-sde", 20), ("unipc", 20)]
)
def test_a_sampler_has_its_own_number_of_steps(ddpm: Any, sampler: str, steps: int) -> None:
    assert ddpm("sample", "-n", 1, "--sampler", sampler, "--json").done().json["steps"] == steps


def test_eta_belongs_to_ddim(ddpm: Any, drawn: Any) -> None:
    for sampler in ([], *(["--sampler", name] for name in SAMPLERS if name != "ddim")):
        ddpm("sample", *FEW, *sampler, "--eta", 0.5).refused(2, "eta", "ddim")
    ddim = ["-n", 1, "--steps", 3, "--seed", 0, "--sampler", "ddim"]
    assert (drawn(*ddim) == drawn(*ddim, "--eta", 0)).all()
    assert (drawn(*ddim) != drawn(*ddim, "--eta", 1)).any()


def test_variance_belongs_to_ddpm(ddpm: Any, drawn: Any) -> None:
    ddpm("sample", *FEW, "--variance", "large").refused(2, "variance", "ddpm")
    walk = ["-n", 1, "--steps", 3, "--seed", 0, "--sampler", "ddpm"]
    assert (drawn(*walk) == drawn(*walk, "--variance", "small")).all()
    assert (drawn(*walk) != drawn(*walk, "--variance", "large")).any()


def test_a_learned_variance_is_taken_by_itself_told_and_may_be_put_aside(
    ddpm: Any, drawn: Any, home: Path, save_model: Any, cwd: Path
) -> None:
    save_model(home / "models" / "learned.safetensors", learned_variance=True)
    walk = ["--model", "learned", "-n", 2, "--steps", 4, "--seed", 0, "--sampler", "ddpm"]
    ddpm("sample", *walk, "-o", "grid.png").done()
    assert text_of(cwd / "grid.png")["variance"] == "learned"
    assert (drawn(*walk) == drawn(*walk, "--variance", "learned")).all()
    assert (drawn(*walk) != drawn(*walk, "--variance", "small")).any()
    guided = ddpm("sample", *walk, "--guidance", 2, "--json").done().json
    assert (guided["variance"], guided["evaluations"]) == ("learned", 8)
    for other in SAMPLERS.keys() - {"ddpm"}:
        assert "variance" not in ddpm("sample", *walk[:-1], other, "--json").done().json


def test_a_variance_that_the_model_has_not_learned_is_2(ddpm: Any, cwd: Path) -> None:
    ddpm("sample", *FEW, "--sampler", "ddpm", "--variance", "learned").refused(2, "learned no variance", "--variance")
    assert list(cwd.iterdir()) == []


def test_ddpm_of_small_variance_is_ddim_of_eta_1(drawn: Any) -> None:
    common = ["-n", 2, "--steps", 6, "--seed", 0, "--spacing", "uniform", "--precision", "float32"]
    ancestral, implicit = drawn(*common, "--sampler", "ddpm"), drawn(*common, "--sampler", "ddim", "--eta", 1)
    assert abs(ancestral - implicit).max() <= 1


def test_clipping_can_be_turned_off(drawn: Any) -> None:
    common = ["-n", 2, "--steps", 4, "--seed", 0]
    assert (drawn(*common) == drawn(*common, "--clip")).all()
    assert (drawn(*common) != drawn(*common, "--no-clip")).any()


def test_a_sampler_that_is_unknown_is_2_and_named_with_those_that_are_known(ddpm: Any) -> None:
    ddpm("sample", "--sampler", "dpm+2m").refused(2, "dpm+2m", "dpm++2m", "ddim")


# --- which model ----------------------------------------------------------------------------------------------------


def test_raw_and_averaged_weights_are_chosen_and_told(ddpm: Any, cwd: Path) -> None:
    for weights in ("raw", "ema"):
        ddpm("sample", *FEW, "--weights", weights, "-o", f"{weights}.png").done()
        assert text_of(cwd / f"{weights}.png")["weights"] == weights
    assert (pixels_of(cwd / "raw.png") != pixels_of(cwd / "ema.png")).any()
    ddpm("sample", *FEW, "-o", "default.png").done()
    assert (cwd / "default.png").read_bytes() == (cwd / "ema.png").read_bytes()


def test_weights_that_are_not_in_the_file_are_4(ddpm: Any, home: Path, cwd: Path, save_model: Any) -> None:
    save_model(home / "models" / "bare.safetensors", weights=("raw",))
    ddpm("sample", "--model", "bare", *FEW, "--weights", "ema").refused(4, "ema", "raw")
    assert list(cwd.iterdir()) == []
    ddpm("sample", "--model", "bare", *FEW).done()
    assert text_of(cwd / "samples.png")["weights"] == "raw"


@pytest.fixture
def unnamed(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert model
    monkeypatch.delenv("DDPM_MODEL")


def run_of(home: Path, name: str, save_model: Callable[..., str], age: int, step: int = 3) -> str:
    path = home / "runs" / name / "model.safetensors"
    path.parent.mkdir(parents=True)
    # Another target is another architecture, so that each has an id of its own.
    id_ = save_model(path, target={0: "v", 1: "eps", 2: "x0"}[age], training={"step": step, "steps": 3})
    os.utime(path, (1_700_000_000 - age, 1_700_000_000 - age))
    return id_


@pytest.mark.usefixtures("unnamed")
def test_the_newest_finished_run_is_the_model_where_none_is_named(ddpm: Any, home: Path, save_model: Any) -> None:
    run_of(home, "a-old", save_model, age=2)
    newer = run_of(home, "b-newer", save_model, age=1)
    run_of(home, "c-unfinished", save_model, age=0, step=2)
    result = ddpm("sample", *FEW, "--json").done()
    assert result.json["model"] == newer
    assert "b-newer" in result.err


@pytest.mark.usefixtures("unnamed")
def test_the_shipped_mnist_is_the_model_where_there_is_no_finished_run(
    ddpm: Any, home: Path, save_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_of(home, "unfinished", save_model, age=0, step=2)
    shipped = save_model(tmp_path / "package" / "weights" / "mnist.safetensors", target="eps")
    monkeypatch.setattr("ddpm_cli.paths.shipped", lambda: tmp_path / "package")
    result = ddpm("sample", *FEW, "--json").done()
    assert result.json["model"] == shipped
    assert "model mnist (shipped" in result.err


def test_a_name_is_a_saved_model_then_a_run_then_a_shipped_one(
    ddpm: Any, home: Path, save_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ddpm_cli.paths.shipped", lambda: tmp_path / "package")
    saved = save_model(home / "models" / "one.safetensors", target="x0")
    for name in ("one", "two"):
        run = run_of(home, name, save_model, age=1)
    for name in ("one", "two", "three"):
        shipped = save_model(tmp_path / "package" / "weights" / f"{name}.safetensors")
    found = [ddpm("sample", "--model", name, *FEW, "--json").done().json["model"] for name in ("one", "two", "three")]
    assert found == [saved, run, shipped]
    assert len(set(found)) == 3


@pytest.mark.parametrize("where", ["./here/model.safetensors", "model.safetensors", "here", "./here"])
def test_a_path_is_a_file_or_a_run_folder(ddpm: Any, cwd: Path, trained: Path, where: str) -> None:
    shutil.copytree(trained, cwd / "here")
    shutil.copyfile(trained / "model.safetensors", cwd / "model.safetensors")
    config = json.loads((trained / "config.json").read_text())
    result = ddpm("sample", "--model", where, *FEW).done()
    assert result.err.startswith("model ")
    assert config["preset"] == "tiny"


def test_the_variable_names_the_model_and_the_option_another(
    ddpm: Any, home: Path, save_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(home / "models" / "other.safetensors", target="eps")
    monkeypatch.setenv("DDPM_MODEL", "other")
    assert "model other" in ddpm("sample", *FEW).done().err
    assert "model tiny" in ddpm("sample", *FEW, "--model", "tiny").done().err


def test_stderr_says_which_model_it_is_with_json_too(ddpm: Any, model: Path) -> None:
    from ddpm_cli.checkpoint import read_info

    for options in ([], ["--json"]):
        err = ddpm("sample", *FEW, *options).done().err
        assert "tiny" in err.splitlines()[0]
        assert read_info(model).id[:12] in err.splitlines()[0]


# --- like a picture -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--first", 7, "--sampler", "ddim", "--eta", 0.123456789, "--steps", 3),
        ("--sampler", "ddpm", "--steps", 3, "--variance", "large", "--no-clip"),
        ("--sampler", "dpm++3m", "--spacing", "karras", "--steps", 5, "--precision", "bf16"),
        ("--guidance", 3.7, "--guidance-rescale", 0.7, "--guidance-interval", "100-700.5", "--threshold", 0.995),
    ],
)
def test_a_picture_is_drawn_again_from_what_it_says_of_itself(
    ddpm: Any, cwd: Path, options: tuple[object, ...]
) -> None:
    ddpm("sample", "-n", 5, "--seed", 8, *options, "-o", "a.png").done()
    again = ddpm("sample", "--like", "a.png", "--batch-size", 2, "-o", "b.png").done()
    assert (cwd / "b.png").read_bytes() == (cwd / "a.png").read_bytes()
    assert "equal to a.png, pixel for pixel" in again.err


def test_one_of_a_folder_is_drawn_alone(ddpm: Any, cwd: Path) -> None:
    ddpm("sample", *FEW, "-o", "many/").done()
    again = ddpm("sample", "--like", "many/000002.png", "-o", "again/", "--json").done().json
    assert again["like"] == {"grey_levels": 0}
    assert (cwd / "again/000002.png").read_bytes() == (cwd / "many/000002.png").read_bytes()


def test_a_picture_that_was_changed_is_not_called_equal(ddpm: Any, cwd: Path) -> None:
    ddpm("sample", *FEW, "-o", "a.png").done()
    with Image.open("a.png") as image:
        image.putpixel((5, 5), 255 - image.getpixel((5, 5)))
        text = PngInfo()
        for key, value in image.text.items():
            text.add_text(key, value)
        image.save("changed.png", pnginfo=text)
    again = ddpm("sample", "--like", "changed.png", "-o", "b.png").done()
    assert "equal" not in again.err
    assert "grey levels apart from changed.png" in again.err
    assert (cwd / "b.png").read_bytes() == (cwd / "a.png").read_bytes()


def test_a_way_says_the_classes_too(ddpm: Any) -> None:
    ddpm("sample", *FEW, "--label", 1, "--trajectory", "walk.png", "-o", "a.apng").done()
    for name in ("walk.png", "a.apng"):
        again = ddpm("sample", "--like", name, "-o", "b.png", "--json").done().json
        assert set(again["labels"]) == {1}


@pytest.mark.parametrize(("steps", "left"), [(60, 59), (100, 98)])
def test_steps_that_were_merged_are_not_merged_once_more(ddpm: Any, cwd: Path, steps: int, left: int) -> None:
    """Quadratic levels coincide near 0; the picture says what was asked for, not what was left."""
    options = ("-n", 1, "--seed", 0, "--sampler", "ddim", "--spacing", "quadratic", "--precision", "float32")
    document = ddpm("sample", *options, "--steps", steps, "-o", "a.png", "--json").done().json
    assert (document["steps"], document["evaluations"]) == (steps, left)
    again = ddpm("sample", "--like", "a.png", "-o", "b.png").done()
    assert "equal to a.png, pixel for pixel" in again.err
    assert (cwd / "a.png").read_bytes() == (cwd / "b.png").read_bytes()


def test_a_folder_stays_one_where_png_is_said_too(ddpm: Any, cwd: Path) -> None:
    ddpm("sample", *FEW, "-o", "out/", "--format", "png").done()
    ddpm("sample", *FEW, "-o", "out", "--format", "png").done()
    assert len(list((cwd / "out").glob("*.png"))) == 4
    ddpm("sample", *FEW, "-o", "out/", "--format", "gif").refused(2, "is a folder", "NAME.gif")


def test_two_results_do_not_go_into_one_file(ddpm: Any, cwd: Path) -> None:
    ddpm("sample", *FEW, "-o", "a.png", "--trajectory", cwd / "a.png").refused(2, "two results would go to")
    ddpm("sample", *FEW, "-o", "a.gif", "--animate", "a.gif").refused(2, "two results would go to")
    assert not list(cwd.glob("a.*"))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems know no such names")
def test_a_path_that_is_no_utf8_goes_out_as_it_came_in(command: list[str], cwd: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    asked = [*command, "sample", *map(str, FEW), "-q", "-o", name]
    done = subprocess.run(asked, capture_output=True, check=True, cwd=cwd)
    assert done.stdout == b"caf\xe9.png\n"
    assert (cwd / name).exists()


def test_a_trajectory_is_not_compared(ddpm: Any) -> None:
    ddpm("sample", *FEW, "--trajectory", "walk.png", "-o", "a.png").done()
    again = ddpm("sample", "--like", "walk.png", "-o", "b.png").done()
    assert "not compared" in again.err


@pytest.mark.parametrize(
    "option",
    [("-n", 5), ("--first", 0), ("--seed", 1), ("--steps", 3), ("--label", 1), ("--guidance", 1), ("--weights", "ema")],
)
def test_what_a_picture_says_is_not_said_beside_it(ddpm: Any, option: tuple[object, ...]) -> None:
    ddpm("sample", *FEW, "-o", "a.png").done()
    ddpm("sample", "--like", "a.png", *option).refused(2, "contradicts --like")


@pytest.fixture
def guide(save_model: Any, home: Path) -> str:
    """The name of another model of the same images; returns its id."""
    other: str = save_model(home / "models" / "early.safetensors", weights=("ema",), target="x0")
    return other


def test_a_guide_is_in_the_picture_and_found_again(ddpm: Any, cwd: Path, guide: str) -> None:
    options = (*FEW, "--guidance", 2)
    first = ddpm("sample", *options, "--guide", "early", "-o", "a.png").done()
    assert f"guide early (saved, {guide[:12]})" in first.err
    assert text_of(cwd / "a.png")["guide"] == guide
    ddpm("sample", *options, "-o", "without.png").done()
    assert "guide" not in text_of(cwd / "without.png")
    assert not np.array_equal(pixels_of(cwd / "a.png"), pixels_of(cwd / "without.png"))
    again = ddpm("sample", "--like", "a.png", "--batch-size", 2, "-o", "b.png").done()
    assert "equal to a.png, pixel for pixel" in again.err
    assert (cwd / "b.png").read_bytes() == (cwd / "a.png").read_bytes()
    ddpm("sample", "--like", "a.png", "--guide", "tiny").refused(4, "drawn away from", "--guide")
    ddpm("sample", "--like", "without.png", "--guide", "early").refused(2, "without one")


def test_a_guide_must_answer_the_same_questions(ddpm: Any, save_model: Any, home: Path, guide: str) -> None:
    from ddpm_cli.config import ScheduleConfig

    del guide
    ddpm("sample", *FEW, "--guide", "early").refused(2, "does nothing at guidance 1", "--guidance 2")
    ddpm("sample", *FEW, "--guidance", 2, "--guide", "mnist").refused(2, "shape is not the model's")
    save_model(home / "models" / "other.safetensors", schedule=ScheduleConfig("linear"))
    ddpm("sample", *FEW, "--guidance", 2, "--guide", "other").refused(2, "schedule is not the model's")
    spelled = ScheduleConfig("linear", beta_start=1e-4, beta_end=0.02)
    save_model(home / "models" / "spelled.safetensors", schedule=spelled)
    ddpm("sample", "-n", 1, "--steps", 2, "--model", "other", "--guidance", 2, "--guide", "spelled").done()
    ddpm("sample", *FEW, "--guidance", 2, "--guide", "nowhere").refused(4, "nowhere")


def test_another_model_is_refused(ddpm: Any) -> None:
    """A model with one number changed is another one, whatever its name."""
    ddpm("sample", *FEW, "-o", "a.png").done()
    ddpm("sample", "--like", "a.png", "--model", "mnist").refused(4, "mnist is another model", "--model")


def test_a_model_that_is_gone_is_missed(ddpm: Any, tmp_path: Path) -> None:
    ddpm("sample", *FEW, "-o", "a.png").done()
    with Image.open("a.png") as image:
        text = PngInfo()
        for key, value in (dict(image.text) | {"model": "0" * 64}).items():
            text.add_text(key, value)
        image.save(tmp_path / "foreign.png", pnginfo=text)
    ddpm("sample", "--like", tmp_path / "foreign.png").refused(4, "is not here", "--model FILE")


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"software": "Paint"},
        {"steps": "many"},
        {"index": "9-3"},
        {"index": "0-999999999999"},
        {"label": "1,2"},
        {"sampler": "magic"},
        {"precision": "int8"},
        {"clip": "perhaps"},
        {"seed": ""},
        {"guidance": "nan"},
        {"columns": "0"},
        {"per_class": "2.5"},
        {"per_class": "9" * 30},
    ],
)
def test_a_picture_that_does_not_say_how_it_was_drawn(ddpm: Any, said: dict[str, str]) -> None:
    ddpm("sample", *FEW, "-o", "a.png").done()
    with Image.open("a.png") as image:
        text = PngInfo()
        for key, value in (dict(image.text) | said).items() if said else ():
            text.add_text(key, value)
        image.save("b.png", pnginfo=text)
    ddpm("sample", "--like", "b.png").refused(3, "b.png", "ddpm sample")


@pytest.mark.parametrize("label", ["7,7,7,7", "1,1,1,2", "1000000,1,1,1"])
def test_a_picture_of_classes_that_the_model_lacks_is_refused(ddpm: Any, label: str) -> None:
    ddpm("sample", "-n", 4, "--steps", 1, "-o", "a.png").done()
    with Image.open("a.png") as image:
        text = PngInfo()
        for key, value in (dict(image.text) | {"label": label, "per_class": "1"}).items():
            text.add_text(key, value)
        image.save("b.png", pnginfo=text)
    ddpm("sample", "--like", "b.png").refused(2, "label")


@pytest.mark.parametrize("interval", ["100", "a-b", "700-100", "-5-10"])
def test_an_interval_of_guidance_is_two_levels(ddpm: Any, interval: str) -> None:
    ddpm("sample", *FEW, "--guidance", 2, f"--guidance-interval={interval}").refused(2, "interval")


# --- options that do nothing ---


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize("spacing", ["uniform", "trailing", "leading"])
def test_more_steps_than_timesteps_are_as_many_steps_as_there_are(ddpm: Any, spacing: str) -> None:
    options = ("-n", 1, "--sampler", "ddim", "--spacing", spacing, "--steps", 1500, "--seed", 0)
    result = ddpm("sample", *options, "--json").done()
    assert result.json["steps"] == result.json["evaluations"] == 1000
    assert "1,000 steps are made" in result.err


@pytest.mark.usefixtures("model")
def test_steps_that_are_made_are_not_remarked_on(ddpm: Any) -> None:
    result = ddpm("sample", "-n", 1, "--sampler", "dpm++2m", "--steps", 7, "--json").done()  # between the timesteps
    assert result.json["steps"] == result.json["evaluations"] == 7
    assert "steps are made" not in result.err


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize("interval", ["1001-2000", "0-0.5", "998.5-998.6", "1000.5-1200"])
def test_an_interval_without_a_guided_step_is_refused(ddpm: Any, interval: str) -> None:
    guided = ("--guidance", 2, "--guidance-interval", interval)
    ddpm("sample", "-n", 1, "--sampler", "ddim", "--steps", 4, *guided).refused(2, "--guidance-interval", "no timestep")


@pytest.mark.usefixtures("model")
def test_an_interval_between_the_steps_is_noted(ddpm: Any) -> None:
    few = ("-n", 1, "--sampler", "ddim", "--steps", 4, "--guidance", 2)  # at 1000, 750, 500 and 250
    result = ddpm("sample", *few, "--guidance-interval", "260-490", "--json").done()
    assert result.json["evaluations"] == 4
    assert "nothing is guided" in result.err
    assert "nothing is guided" not in ddpm("sample", *few, "--guidance-interval", "260-500").done().err


@pytest.mark.usefixtures("model")
def test_an_interval_is_recorded_up_to_the_last_timestep(ddpm: Any) -> None:
    guided = ("--guidance", 2, "--guidance-interval", "500-5000")
    document = ddpm("sample", "-n", 1, "--sampler", "ddim", "--steps", 4, *guided, "--json").done().json
    assert document["interval"] == "500.0-1000.0"
    assert document["evaluations"] == 4 + 3  # guided at 1000, 750 and 500, not at 250


@pytest.mark.usefixtures("model")
def test_a_class_that_guidance_0_ignores_is_noted(ddpm: Any) -> None:
    few = ("-n", 1, "--steps", 1, "--label", 1)
    assert "--label changes nothing" in ddpm("sample", *few, "--guidance", 0).done().err
    assert "--label changes nothing" not in ddpm("sample", *few, "--guidance", 0.5).done().err


# --- what a picture does not show by itself ---


@pytest.mark.usefixtures("model")
def test_values_that_are_cut_off_are_noted(ddpm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from ddpm_cli.denoiser import Denoiser

    right = Denoiser.output
    few = ("-n", 2, "--sampler", "ddim", "--steps", 2, "--json")
    assert "cut off" not in ddpm("sample", *few).done().err
    monkeypatch.setattr(Denoiser, "output", lambda *args: (1000 * right(*args)[0], None))
    result = ddpm("sample", *few, "--no-clip").done()
    assert result.json["largest"] > 100
    assert "are cut off. Remove --no-clip." in result.err
    clipped = ddpm("sample", *few).done()
    assert clipped.json["largest"] <= 1
    assert "cut off" not in clipped.err


@pytest.mark.usefixtures("model")
def test_estimates_of_images_with_a_class_say_where_it_comes_from(ddpm: Any) -> None:
    few = ("-n", 2, "--steps", 2, "--trajectory", "walk.png")
    assert "Each image has a class" in ddpm("sample", *few, "--estimates").done().err
    assert "Each image has a class" not in ddpm("sample", *few).done().err


@pytest.mark.usefixtures("home")
def test_estimates_of_images_without_a_class_say_nothing_of_one(ddpm: Any, home: Path, save_model: Any) -> None:
    save_model(home / "models" / "plain.safetensors", classes=())
    few = ("--model", "plain", "--device", "cpu", "-n", 2, "--steps", 2, "--trajectory", "walk.png", "--estimates")
    assert "has a class" not in ddpm("sample", *few).done().err
