"""``ddpm noise``: which images, which levels, which process, in which format, and what is told of them."""

import io
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from ddpm_cli import __version__
from oracles import cosine_betas, evenly, products

COSINE = products(cosine_betas(1000))
LINEAR = products(evenly(1e-4, 0.02, 1000))
REPORT = [0, 50, 250, 500, 750, 1000]


def text_of(path: Path) -> dict[str, str]:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return dict(image.text)  # type: ignore[attr-defined]  # only PNGs have it


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image, dtype=int)


def arrays_of(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        return dict(archive)


@pytest.fixture
def photo(cwd: Path) -> Path:
    """A colour photograph of 60 x 40 pixels."""
    y, x = np.mgrid[:40, :60]
    Image.fromarray(np.dstack([x * 4, y * 6, 255 - x * 4]).astype(np.uint8)).save(cwd / "photo.png")
    return cwd / "photo.png"


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts bytes on stdin."""

    def put(content: bytes) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))

    return put


# --- start-up and help ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", ["--help", "photo.png", "photo.png -o strip.gif --process markov --timesteps 50"])
@pytest.mark.usefixtures("photo")
def test_it_starts_without_torch_and_matplotlib(line: str) -> None:
    code = "import sys; from ddpm_cli.cli import main; code = main(sys.argv[1:]); print(code, *sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, "noise", *line.split()], capture_output=True, text=True)
    code, *modules = done.stdout.splitlines()[-1].split()
    assert code == "0", done.stderr
    assert not {"torch", "torchvision", "matplotlib", "scipy", "skimage"} & set(modules)
    if line == "--help":
        assert not {"numpy", "PIL"} & set(modules)


def test_a_data_set_needs_no_torch_and_the_density_no_pyplot(photos: Path) -> None:
    for line, forbidden in (
        (["--dataset", str(photos), "--process", "naive"], {"torch", "matplotlib"}),
        (["--view", "density", "--timesteps", "5"], {"torch", "matplotlib.pyplot"}),
    ):
        code = "import sys; from ddpm_cli.cli import main; code = main(sys.argv[1:]); print(code, *sys.modules)"
        done = subprocess.run([sys.executable, "-c", code, "noise", *line], capture_output=True, text=True)
        code, *modules = done.stdout.splitlines()[-1].split()
        assert code == "0", done.stderr
        assert not forbidden & set(modules)


def test_help_fits_80_columns_and_ends_with_examples(ddpm: Any) -> None:
    out = ddpm("noise", "--help").done().out
    assert [line for line in out.splitlines() if len(line) > 80 and "|" not in line] == []
    assert out.rpartition("Examples:")[2].count("ddpm noise") >= 4


# --- the output -----------------------------------------------------------------------------------------------------


def test_with_no_option_it_shows_a_digit_at_the_reports_levels_as_noise_png(ddpm: Any, cwd: Path) -> None:
    result = ddpm("noise").done()
    assert result.out == "noise.png\n"
    assert "seed" in result.err
    assert [path.name for path in cwd.iterdir()] == ["noise.png"]
    about = text_of(cwd / "noise.png")
    assert about["levels"] == "0,50,250,500,750,1000"
    assert (about["dataset"], about["index"], about["schedule"], about["timesteps"]) == ("mnist", "0", "cosine", "1000")
    assert (about["process"], about["noise"]) == ("closed-form", "gaussian")
    assert __version__ in about["software"]
    assert pixels_of(cwd / "noise.png").shape[1] == 5 * (2 + 6 * 30)  # six tiles of 28 with borders of 2, enlarged


def test_one_level_is_one_image(ddpm: Any, cwd: Path) -> None:
    ddpm("noise", "--dataset", "mnist", "--index", 7, "--at", 500, "--seed", 3, "-o", "one.png").done()
    ddpm("noise", "--dataset", "mnist", "--index", 7, "--at", 500, "--seed", 3, "-o", "one.npz").done()
    image = pixels_of(cwd / "one.png")
    assert image.shape == (252, 252)  # 9 times as large, without a border
    np.testing.assert_array_equal(image[::9, ::9], arrays_of(cwd / "one.npz")["images"][0])
    assert text_of(cwd / "one.png")["levels"] == "500"


def test_one_level_of_a_photograph_keeps_its_size(ddpm: Any, cwd: Path) -> None:
    Image.new("RGB", (700, 300), (9, 99, 199)).save(cwd / "large.jpg")
    ddpm("noise", "large.jpg", "--at", "50%", "-o", "one.png").done()
    assert pixels_of(cwd / "one.png").shape == (300, 700, 3)
    ddpm("noise", "large.jpg", "--at", "2%", "--process", "naive", "-o", "two.png").done()
    assert pixels_of(cwd / "two.png").shape[1] < 500  # the right one stands beside it


def test_side_by_side_large_photographs_are_shrunk_and_the_user_told(ddpm: Any, cwd: Path) -> None:
    Image.new("RGB", (768, 384), (9, 99, 199)).save(cwd / "large.jpg")
    result = ddpm("noise", "large.jpg", "--at", "0,100%", "-o", "strip.png").done()
    assert "768 x 384" in result.err
    assert "256 x 128" in result.err
    assert pixels_of(cwd / "strip.png").shape[1] == 2 + 2 * 258
    squares = ddpm("noise", "large.jpg", "--at", "0,100%", "--image-size", 300, "-o", "squares.png").done()
    assert "768" not in squares.err
    assert pixels_of(cwd / "squares.png").shape[1] == 2 + 2 * 302


def test_the_clean_level_is_the_image_itself(ddpm: Any, cwd: Path, photo: Path) -> None:
    ddpm("noise", photo.name, "-o", "levels/").done()
    files = sorted((cwd / "levels").iterdir())
    assert [file.name for file in files] == [f"{k:03}-t{t}.png" for k, t in enumerate(REPORT)]
    np.testing.assert_array_equal(pixels_of(files[0]), pixels_of(photo))
    assert [text_of(file)["levels"] for file in files] == [str(t) for t in REPORT]
    error = [np.abs(pixels_of(file) - pixels_of(photo)).mean() for file in files]
    assert error == sorted(error)


def test_a_folder_of_several_images_names_each(ddpm: Any, cwd: Path, photos: Path) -> None:
    ddpm("noise", "--dataset", photos, "--index", "3,20", "--at", "0,12.5", "-o", "out/").done()
    names = [file.name for file in sorted((cwd / "out").iterdir())]
    assert names == [
        "000003-000-t0.png",
        "000003-001-t12.5.png",
        "000020-000-t0.png",
        "000020-001-t12.5.png",
    ]
    assert text_of(cwd / "out" / names[3])["index"] == "20"
    clean = pixels_of(cwd / "out" / names[2])
    np.testing.assert_array_equal(clean, pixels_of(photos / "cross" / "08.png"))


def test_the_archive_holds_every_level_of_every_image(ddpm: Any, cwd: Path, photos: Path) -> None:
    ddpm("noise", "--dataset", photos, "--index", "1,13", "--at", "0,50%,100%", "--seed", 4, "-o", "x.npz").done()
    found = arrays_of(cwd / "x.npz")
    assert found["images"].shape == found["x"].shape == (6, 12, 12)
    assert (found["images"].dtype, found["x"].dtype) == (np.uint8, np.float32)
    assert found["levels"].tolist() == [0, 500, 1000] * 2
    assert found["index"].tolist() == [1, 1, 1, 13, 13, 13]
    assert found["labels"].tolist() == [0, 0, 0, 1, 1, 1]
    np.testing.assert_array_equal(found["images"][3], pixels_of(photos / "cross" / "01.png"))
    clipped = np.rint((np.clip(found["x"], -1, 1) + 1) * 127.5)
    np.testing.assert_array_equal(found["images"], clipped)
    assert np.abs(found["x"]).max() > 1.5
    # One noise for all levels of an image: x_500 = a x_0 + b x_T / 1, up to the little image left in x_T.
    expected = math.sqrt(COSINE[500]) * found["x"][0] + math.sqrt(1 - COSINE[500]) * found["x"][2]
    np.testing.assert_allclose(found["x"][1], expected, atol=1e-3)


def test_the_archive_of_the_naive_process_is_naive(ddpm: Any, cwd: Path, photo: Path) -> None:
    for process in ("naive", "markov"):
        ddpm("noise", photo, "--process", process, "--at", "100%", "--seed", 1, "-o", f"{process}.npz").done()
    naive, right = (arrays_of(cwd / f"{process}.npz") for process in ("naive", "markov"))
    assert naive["x"].var() > 5 > 2 > right["x"].var()
    for found in (naive, right):
        np.testing.assert_array_equal(found["images"], np.rint((np.clip(found["x"], -1, 1) + 1) * 127.5))


def test_colour_comes_last_in_the_archive(ddpm: Any, cwd: Path, photo: Path) -> None:
    ddpm("noise", photo, "--at", 0, "-o", "x.npz").done()
    found = arrays_of(cwd / "x.npz")
    np.testing.assert_array_equal(found["images"][0], pixels_of(photo))
    assert found["labels"].tolist() == [-1]


@pytest.mark.parametrize("process", ["closed-form", "markov", "naive"])
def test_a_gif_goes_from_clean_to_noise_in_61_frames_and_holds(
    ddpm: Any, cwd: Path, photos: Path, process: str
) -> None:
    ddpm("noise", "--dataset", photos, "--process", process, "--timesteps", 300, "-o", "walk.gif").done()
    with Image.open(cwd / "walk.gif") as image:
        assert image.n_frames == 61
        frames, times = [], []
        for k in range(61):
            image.seek(k)
            frames.append(np.array(image.convert("L"), dtype=float))
            times.append(image.info["duration"])
    assert times[:-1] == [60] * 60
    assert times[-1] == 1500
    change = [np.abs(frame - frames[0]).mean() for frame in frames]
    assert change[0] == 0
    assert change[5] < change[30] < change[60]


def test_a_gif_shows_the_levels_asked_for(ddpm: Any, cwd: Path, photos: Path) -> None:
    options = ["--dataset", photos, "--index", "0,12,13", "--at", "0,500,1000"]
    document = ddpm("noise", *options, "-o", "walk.gif", "--json").done().json
    assert [row["t"] for row in document["levels"]] == [0, 500, 1000]
    with Image.open(cwd / "walk.gif") as image:
        assert image.n_frames == 3


@pytest.mark.parametrize(("form", "beginning"), [(None, b"\x89PNG\r\n"), ("gif", b"GIF89a"), ("npz", b"PK")])
def test_a_dash_sends_bytes_down_the_pipe(
    capsysbinary: pytest.CaptureFixture[bytes], photo: Path, form: str | None, beginning: bytes
) -> None:
    from ddpm_cli.cli import main

    options = ["--at", "0,5,9", "--seed", "1", *(["--format", form] if form else [])]
    assert main(["noise", str(photo), *options, "-o", "-"]) == 0
    captured = capsysbinary.readouterr()
    assert captured.out.startswith(beginning)
    assert captured.err == b""


# --- which image ----------------------------------------------------------------------------------------------------


def test_an_image_from_stdin_is_the_one_from_its_file(ddpm: Any, cwd: Path, photo: Path, stdin: Any) -> None:
    options = ["--at", "0,5%,25%,50%,75%,100%", "--seed", 5]
    ddpm("noise", photo, *options, "-o", "a.png").done()
    stdin(photo.read_bytes())
    ddpm("noise", "-", *options, "-o", "b.png").done()
    assert (cwd / "a.png").read_bytes() == (cwd / "b.png").read_bytes()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_an_image_may_come_through_a_named_pipe(process: Any, cwd: Path, photo: Path) -> None:
    os.mkfifo(cwd / "pipe")
    with subprocess.Popen(["cp", str(photo), str(cwd / "pipe")]) as writer:
        process("noise", "pipe", "--at", "0", "-o", "out.png").done()
        assert writer.wait(timeout=20) == 0
    assert pixels_of(cwd / "out.png").shape == (160, 240, 3)


def test_images_of_every_kind_are_read_as_in_a_folder(ddpm: Any, cwd: Path) -> None:
    upright = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees to the right
    Image.fromarray(upright).save(cwd / "turned.png", exif=exif)
    Image.fromarray(upright.astype(np.uint16) * 257).save(cwd / "sixteen.png")
    Image.fromarray(np.dstack([upright, np.zeros_like(upright)]), "LA").save(cwd / "clear.png")
    Image.fromarray(np.uint8([[[200, 30, 90]]])).save(cwd / "dot.png")
    for name, expected in (
        ("turned", np.rot90(upright, -1)),
        ("sixteen", upright),
        ("clear", np.full((2, 3), 255)),
        ("dot", [[[200, 30, 90]]]),
    ):
        ddpm("noise", f"{name}.png", "--at", 0, "-o", "x.npz").done()
        np.testing.assert_array_equal(arrays_of(cwd / "x.npz")["images"][0], expected)
    assert ddpm("noise", "dot.png", "-o", "strip.png").done()
    assert pixels_of(cwd / "strip.png").shape[0] > 64  # even a single pixel is seen


def test_an_image_of_a_seed_is_the_same_in_any_company(ddpm: Any, cwd: Path, photos: Path) -> None:
    for name, index in (("alone", "5"), ("together", "0,9,5")):
        ddpm("noise", "--dataset", photos, "--index", index, "--seed", 8, "--at", "30%", "-o", f"{name}.npz").done()
    alone, together = (arrays_of(cwd / f"{name}.npz")["x"] for name in ("alone", "together"))
    np.testing.assert_array_equal(alone[0], together[2])
    assert np.abs(together[0] - together[1]).max() > 0.5


def test_without_a_seed_each_time_is_another_and_tells_which(ddpm: Any, cwd: Path, photo: Path) -> None:
    first = ddpm("noise", photo, "-o", "a.png").done()
    ddpm("noise", photo, "-o", "b.png").done()
    assert (cwd / "a.png").read_bytes() != (cwd / "b.png").read_bytes()
    seed = first.err.split()[-1]
    ddpm("noise", photo, "--seed", seed, "-o", "c.png").done()
    assert (cwd / "a.png").read_bytes() == (cwd / "c.png").read_bytes()
    assert text_of(cwd / "a.png")["seed"] == seed


# --- numbers --------------------------------------------------------------------------------------------------------


def test_the_document_tells_the_levels(ddpm: Any, cwd: Path, photo: Path) -> None:
    result = ddpm("noise", photo.name, "--seed", 2, "-o", "a/strip.png", "--json").done()
    document = result.json
    assert result.out.count("\n") == 1
    assert (document["status"], document["seed"], document["view"]) == ("done", 2, "strip")
    assert document["output"] == str(cwd / "a" / "strip.png")
    assert document["image"] == str(photo)
    assert (document["process"], document["noise"]) == ("closed-form", "gaussian")
    assert (document["schedule"]["kind"], document["schedule"]["timesteps"]) == ("cosine", 1000)
    assert document["size"] == [40, 60]
    x_0 = pixels_of(photo) / 127.5 - 1
    for row, t in zip(document["levels"], REPORT, strict=True):
        abar = COSINE[t]
        assert (row["t"], row["percent"]) == (t, t / 10)
        assert row["abar"] == pytest.approx(abar)
        assert (row["signal"], row["noise"]) == pytest.approx((math.sqrt(abar), math.sqrt(1 - abar)))
        if t:
            assert row["snr"] == pytest.approx(abar / (1 - abar))
            assert row["log_snr"] == pytest.approx(math.log(abar / (1 - abar)))
        else:
            assert row["snr"] is row["log_snr"] is None  # infinite
        mean, variance = math.sqrt(abar) * x_0.mean(), abar * x_0.var() + 1 - abar
        assert (row["expected_mean"], row["expected_variance"]) == pytest.approx((mean, variance))
        assert row["mean"] == pytest.approx(mean, abs=5 / math.sqrt(x_0.size))
        assert row["variance"] == pytest.approx(variance, rel=5 * math.sqrt(2 / x_0.size))


def test_the_naive_process_is_told_beside_the_right_one(ddpm: Any, photo: Path) -> None:
    document = ddpm("noise", photo, "--process", "naive", "--schedule", "linear", "--json").done().json
    x_0 = pixels_of(photo) / 127.5 - 1
    for row, t in zip(document["levels"], REPORT, strict=True):
        assert row["expected_mean"] == pytest.approx(x_0.mean())
        assert row["expected_variance"] == pytest.approx(x_0.var() + sum(evenly(1e-4, 0.02, 1000)[:t]))
        assert row["variance"] == pytest.approx(row["expected_variance"], rel=0.1)
        assert row["right"]["expected_variance"] == pytest.approx(LINEAR[t] * x_0.var() + 1 - LINEAR[t])
        assert row["right"]["variance"] == pytest.approx(row["right"]["expected_variance"], rel=0.1)
    assert document["levels"][-1]["variance"] > 9
    assert document["levels"][-1]["right"]["variance"] < 1.2


def test_naive_and_right_stand_in_labelled_rows(ddpm: Any, cwd: Path, photos: Path) -> None:
    result = ddpm("noise", "--dataset", photos, "--process", "naive", "--index", "0,13", "-o", "naive.png").done()
    assert "clipped" in result.err
    ddpm("noise", "--dataset", photos, "--index", "0,13", "--process", "markov", "-o", "right.png").done()
    # Two rows an image, with headings and numbers between them.
    assert pixels_of(cwd / "naive.png").shape[0] > 2 * pixels_of(cwd / "right.png").shape[0]


@pytest.mark.parametrize(
    ("kind", "law"),
    [
        ("uniform", stats.uniform(-math.sqrt(3), 2 * math.sqrt(3))),
        ("laplace", stats.laplace(scale=math.sqrt(0.5))),
        ("gamma", stats.gamma(4, loc=-2, scale=0.5)),
    ],
)
def test_other_noise_is_what_is_left_at_the_end_and_is_told_of_once(
    ddpm: Any, cwd: Path, photo: Path, kind: str, law: Any
) -> None:
    result = ddpm("noise", photo, "--noise", kind, "--at", "100%,100%", "--seed", 1, "-o", "x.npz").done()
    assert result.err.count("two moments only") == 1
    x = arrays_of(cwd / "x.npz")["x"]
    np.testing.assert_array_equal(x[0], x[1])  # duplicates are kept
    assert stats.kstest(x[0].ravel(), law.cdf).pvalue > 1e-3
    assert "moments" not in ddpm("noise", photo, "-o", "x.png").done().err


def test_a_schedule_is_chosen_as_everywhere(ddpm: Any, photo: Path) -> None:
    options = ["--schedule", "constant", "--beta-start", 0.1, "--timesteps", 20, "--at", "7,100%"]
    result = ddpm("noise", photo, *options, "--json").done()
    assert [row["abar"] for row in result.json["levels"]] == pytest.approx([0.9**7, 0.9**20])
    assert "abar_T" in result.err  # a chain that does not end as noise is warned of
    assert ddpm("noise", photo, "--schedule", "sigmoid", "--at", 500, "--json").json["levels"][0][
        "abar"
    ] == pytest.approx(0.5)


def test_settings_come_from_the_config_file(ddpm: Any, photo: Path, home: Path) -> None:
    home.mkdir()
    (home / "config.toml").write_text('[noise]\nat = "10%"\nnoise = "laplace"\ndataset = "fashion-mnist"\n')
    document = ddpm("noise", photo, "--json").done().json  # the IMAGE on the command line goes before the data set
    assert (document["noise"], [row["t"] for row in document["levels"]]) == ("laplace", [100])
    assert document["dataset"] is None


def test_quiet_leaves_only_the_path_and_verbose_tells_the_levels(ddpm: Any, photo: Path) -> None:
    options = ["noise", photo, "--noise", "gamma", "--process", "naive", "--timesteps", 100]
    result = ddpm(*options, "-q").done()
    assert (result.out, result.err) == ("noise.png\n", "")
    assert ddpm(*options, "-v").done().err.count("variance ") == 6 + 1  # and the note on the noise


# --- one dimension --------------------------------------------------------------------------------------------------


def test_the_density_is_a_picture_with_numbers(ddpm: Any, cwd: Path) -> None:
    document = ddpm("noise", "--view", "density", "--timesteps", 100, "--seed", 1, "--json").done().json
    weights, means, stds = (np.array(document["density"][key]) for key in ("weights", "means", "stds"))
    mean = (weights * means).sum()
    assert document["expected_mean"] == pytest.approx(mean)
    assert document["expected_variance"] == pytest.approx((weights * (stds**2 + means**2)).sum() - mean**2)
    assert document["mean"] == pytest.approx(mean, abs=0.06)
    assert document["variance"] == pytest.approx(document["expected_variance"], abs=0.06)
    assert document["schedule"]["timesteps"] == 100
    with Image.open(cwd / "noise.png") as picture:
        assert picture.size == (1500, 1080)


# --- the posterior --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("model")
def test_the_posterior_is_that_of_the_formula_and_the_model(ddpm: Any, cwd: Path, photos: Path, model: Path) -> None:
    from ddpm_cli.checkpoint import read_info

    options = ["--dataset", photos, "--index", 14, "--at", "30%,900", "--pixel", "2,9", "--seed", 3]
    document = ddpm("noise", "--view", "posterior", *options, "-o", "pixel.png", "--json").done().json
    assert document["model"] == read_info(model).id
    assert (document["pixel"], document["dataset"], document["labels"]) == ([2, 9], "photos", [1])
    x_0 = pixels_of(photos / "cross" / "02.png")[2, 9] / 127.5 - 1
    assert document["x_0"] == pytest.approx(x_0)
    assert [row["t"] for row in document["levels"]] == [300, 900]
    for row in document["levels"]:
        assert [jump["s"] for jump in row["jumps"]] == [row["t"] - 1, row["t"] // 2]
        assert -1 <= row["clean"] <= 1  # clipped, as in sampling
        for jump in row["jumps"]:
            now, then = COSINE[int(row["t"])], COSINE[int(jump["s"])]
            beta = 1 - now / then
            of_clean, of_x = math.sqrt(then) * beta / (1 - now), math.sqrt(now / then) * (1 - then) / (1 - now)
            assert jump["true"] == pytest.approx(of_clean * x_0 + of_x * row["x_t"], abs=1e-9)
            assert jump["model"] == pytest.approx(of_clean * row["clean"] + of_x * row["x_t"], abs=1e-9)
            assert jump["variance"] == pytest.approx(beta * (1 - then) / (1 - now), rel=1e-6)
            assert jump["kl"] == pytest.approx((jump["true"] - jump["model"]) ** 2 / 2 / jump["variance"])
    assert pixels_of(cwd / "pixel.png").shape[0] == 1230


@pytest.mark.usefixtures("model")
def test_the_model_is_told_the_label_where_it_knows_it(ddpm: Any, cwd: Path, photos: Path) -> None:
    import torch

    from ddpm_cli import checkpoint, library
    from ddpm_cli.forward import as_tensors
    from ddpm_cli.noising import noise_of

    loaded, _ = checkpoint.load(library.find("tiny").path)
    (cwd / "other.png").write_bytes((photos / "cross" / "02.png").read_bytes())
    clean = pixels_of(cwd / "other.png")[None] / 127.5 - 1
    level = loaded.schedule.level(500)

    def answers(index: int) -> tuple[np.ndarray, list[np.ndarray]]:
        """The noisy image, and what the model takes it for under labels 0, 1 and none."""
        x_t = level.signal * clean + level.noise * noise_of("gaussian", 3, index, (1, 12, 12))(0)
        x = torch.from_numpy(x_t[None]).float()
        with torch.no_grad():
            found = [loaded.denoiser(x, as_tensors(level), {"label": torch.tensor([k])}).clean for k in range(3)]
        return x_t[0], [image[0, 0].clamp(-1, 1).numpy() for image in found]

    options = ["--view", "posterior", "--at", 500, "--seed", 3, "--json"]
    for source, index, label in ((["--dataset", photos, "--index", 14], 14, 1), (["other.png"], 0, 2)):
        x_t, expected = answers(index)
        least = np.min([np.abs(expected[label] - expected[k]) for k in range(3) if k != label], axis=0)
        pixel = np.unravel_index(least.argmax(), least.shape)  # where the label matters most
        assert least[pixel] > 1e-3
        document = ddpm("noise", *source, *options, "--pixel", "{},{}".format(*pixel)).done().json
        assert document["levels"][0]["x_t"] == pytest.approx(x_t[pixel])
        assert document["levels"][0]["clean"] == pytest.approx(float(expected[label][pixel]), abs=1e-5)


@pytest.mark.usefixtures("model")
def test_an_image_file_is_made_to_fit_the_model(ddpm: Any, cwd: Path) -> None:
    Image.new("L", (50, 40), 90).save(cwd / "grey.png")
    document = ddpm("noise", "grey.png", "--view", "posterior", "--at", 500, "--json").done().json
    assert document["x_0"] == pytest.approx(90 / 127.5 - 1)
    assert document["pixel"] == [6, 6]
    Image.new("RGB", (50, 40), (200, 30, 90)).save(cwd / "colour.png")
    document = ddpm("noise", "colour.png", "--view", "posterior", "--at", 500, "--json").done().json
    grey = round(0.299 * 200 + 0.587 * 30 + 0.114 * 90)  # ITU-R BT.601
    assert document["x_0"] == pytest.approx(grey / 127.5 - 1)
    ddpm("noise", "--dataset", "mnist", "--view", "posterior").refused(3, "1x28x28", "1x12x12")


# --- what is wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["photo.png", "--dataset", "mnist"], ["IMAGE", "--dataset"]),
        (["photo.png", "--index", "1"], ["IMAGE", "--index"]),
        (["photo.png", "--at", "1001"], ["1001", "1000"]),
        (["photo.png", "--at", "5,101%"], ["101%"]),
        (["photo.png", "--at", "5,,6"], ["--at contains ''"]),
        (["photo.png", "--at", ""], ["--at contains ''"]),
        (["photo.png", "--at", "2.5", "--process", "markov"], ["2.5", "closed-form"]),
        (["photo.png", "--schedule", "custom"], ["custom"]),
        (["photo.png", "--schedule", "cosin"], ["Did you mean cosine?"]),
        (["photo.png", "--noise", "gauss"], ["gauss", "Did you mean gaussian?"]),
        (["photo.png", "--pixel", "1,1"], ["--pixel", "posterior"]),
        (["photo.png", "-o", "strip.jpg"], ["strip.jpg", ".png"]),
        (["photo.png", "-o", "-", "--json"], ["--json"]),
        (["photo.png", "--view", "density"], ["IMAGE", "density"]),
        (["--view", "density", "--process", "naive"], ["--process"]),
        (["--view", "density", "--noise", "gamma"], ["--noise"]),
        (["--view", "density", "-o", "density.gif"], ["density.gif", ".png"]),
        (["--view", "posterior", "--schedule", "linear"], ["--schedule"]),
        (["--dataset", "mnits"], ["mnits", "Did you mean"]),
    ],
    ids=" ".join,
)
@pytest.mark.usefixtures("photo")
def test_a_wrong_wish_is_2_and_writes_nothing(ddpm: Any, cwd: Path, options: list[str], words: list[str]) -> None:
    ddpm("noise", *options).refused(2, *words)
    assert [path.name for path in cwd.iterdir()] == ["photo.png"]


@pytest.mark.parametrize("index", ["24", "0,99", "-1", "a", "1.5", ""])
def test_an_index_outside_the_set_is_2(ddpm: Any, photos: Path, index: str) -> None:
    ddpm("noise", "--dataset", photos, "--index", index).refused(2, "index")


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--pixel", "12,0"], ["12,0", "11"]),
        (["--pixel", "3"], ["ROW,COLUMN"]),
        (["--pixel", "a,b"], ["pixel"]),
        (["--at", "1"], ["level 2"]),
        (["--at", "2,3,4,5,6,7,8"], ["6"]),
        (["--index", "1,2"], ["one image"]),
    ],
    ids=" ".join,
)
def test_a_wrong_wish_of_the_posterior_is_2(ddpm: Any, photos: Path, options: list[str], words: list[str]) -> None:
    ddpm("noise", "--view", "posterior", "--dataset", photos, "-q", *options).refused(2, *words)


def test_an_image_that_cannot_be_read_is_3(ddpm: Any, cwd: Path, stdin: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (cwd / "text.png").write_text("I am no image")
    ddpm("noise", "nowhere.png").refused(3, "nowhere.png", "No such file")
    ddpm("noise", "text.png").refused(3, "text.png", "no image")
    ddpm("noise", "mnist").refused(3, "--dataset mnist")
    ddpm("noise", ".").refused(3, "--dataset .")
    stdin(b"")
    ddpm("noise", "-").refused(3, "nothing on stdin")
    stdin(b"I am no image")
    ddpm("noise", "-").refused(3, "stdin", "no image")
    Image.new("L", (1, 201)).save(cwd / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    ddpm("noise", "bomb.png").refused(3, "bomb")
    stdin((cwd / "bomb.png").read_bytes())
    ddpm("noise", "-").refused(3, "bomb")


def test_an_unknown_model_is_4_and_one_in_the_environment_disturbs_no_strip(
    ddpm: Any, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ddpm("noise", "--view", "posterior", "--model", "nobody").refused(4, "nobody")
    monkeypatch.setenv("DDPM_MODEL", "nobody")
    ddpm("noise", photo).done()


def test_a_place_that_cannot_be_written_is_6_before_any_work(ddpm: Any, photo: Path) -> None:
    ddpm("noise", photo, "-o", photo / "below.png").refused(6, "below.png")


def test_a_failure_in_json_leaves_stdout_empty(ddpm: Any) -> None:
    ddpm("noise", "nowhere.png", "--json").refused(3)
    assert json.loads(ddpm("noise", "--at", "0", "--json").done().out)["dataset"] == "mnist"


# --- estimates -------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("model")
def test_what_a_model_takes_noisy_images_for(ddpm: Any, cwd: Path, photo: Path, model: Path) -> None:
    from ddpm_cli import checkpoint

    document = ddpm("noise", photo, "--view", "estimates", "--at", "0,300,900", "--seed", 3, "--json").done().json
    assert [level["t"] for level in document["levels"]] == [0, 300, 900]
    assert document["levels"][0]["error"] == pytest.approx(0, abs=1e-6)
    assert document["levels"][2]["error"] > 0
    with Image.open(cwd / "noise.png") as picture:
        assert picture.text["model"] == checkpoint.read_info(model).id  # type: ignore[attr-defined]
    for name, frames in (("x.gif", 61), ("x.apng", 61)):
        ddpm("noise", photo, "--view", "estimates", "--seed", 3, "-o", name).done()
        with Image.open(cwd / name) as film:
            assert film.n_frames == frames
    ddpm("noise", photo, "--view", "estimates", "-o", "x.npz").refused(2, "x.npz")
    ddpm("noise", photo, "--view", "estimates", "--schedule", "linear").refused(2, "no meaning in the view estimates")


# --- archives --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("piped", [False, True])
def test_images_of_an_archive_are_noised_too(
    ddpm: Any, cwd: Path, piped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 12, 12), np.uint8)
    np.savez(cwd / "some.npz", images=images, labels=np.array([4, 5, 6]))
    if piped:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO((cwd / "some.npz").read_bytes())))
    name = "-" if piped else "some.npz"
    ddpm("noise", name, "--index", "2,0", "--at", "0", "--seed", 0, "-o", "out.npz").done()
    np.testing.assert_array_equal(arrays_of(cwd / "out.npz")["images"].reshape(2, 12, 12), images[[2, 0]])
    if not piped:
        ddpm("noise", name, "--index", 3).refused(2, "out of range, expected 0 to 2 in some.npz")
        ddpm("noise", name, "--dataset", "mnist").refused(2, "contradict")
