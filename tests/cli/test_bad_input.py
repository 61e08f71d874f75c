"""Wrong input: the exact code, one sentence, a hint, nothing on stdout, no traceback, nothing written."""

import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def refused(ddpm: Any, written: Callable[[], set[str]]) -> Iterator[Callable[..., None]]:
    """Expects a command to be refused, and no file to come of it."""

    def check(arguments: list[object], code: int, *words: str) -> None:
        before = written()
        ddpm(*arguments).refused(code, *words)
        assert written() == before

    return check


def test_an_unknown_data_set_is_2_and_the_nearest_is_named(refused: Any) -> None:
    refused(["train", "--dataset", "fashon-mnist"], 2, "fashon-mnist", "Did you mean fashion-mnist?")


def test_a_missing_image_folder_is_3(refused: Any) -> None:
    refused(["train", "--dataset", "./holiday"], 3, "holiday")


def test_an_empty_image_folder_is_3(refused: Any, cwd: Path) -> None:
    (cwd / "empty").mkdir()
    refused(["train", "--dataset", "./empty"], 3, "empty", ".png")


def test_text_that_calls_itself_png_is_3(refused: Any, cwd: Path) -> None:
    (cwd / "photos").mkdir()
    (cwd / "photos" / "letter.png").write_text("Dear image,\n")
    refused(["train", "--dataset", "./photos"], 3, "letter.png")


def test_a_home_that_is_unknown_is_3(refused: Any) -> None:
    refused(["train", "--dataset", "~nobody-here/photos"], 3, "~nobody-here/photos")


@pytest.mark.parametrize("kept", [0, 7, 100, 0.5, -1])
def test_a_model_file_cut_short_is_4(refused: Any, model: Path, kept: float) -> None:
    content = model.read_bytes()
    model.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    refused(["sample", "--model", model], 4, str(model))


def test_a_model_file_with_a_byte_changed_is_4(refused: Any, model: Path) -> None:
    content = bytearray(model.read_bytes())
    content[-3] ^= 0x40
    model.write_bytes(content)
    refused(["sample", "--model", model], 4, str(model))


def test_a_model_of_a_newer_format_is_4_and_says_upgrade(refused: Any, model: Path) -> None:
    from ddpm_cli.checkpoint import FORMAT

    content = model.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    about = json.loads(header["__metadata__"]["ddpm"])
    header["__metadata__"]["ddpm"] = json.dumps({**about, "format": FORMAT + 1, "unheard": "of"})
    changed = json.dumps(header).encode()
    model.write_bytes(struct.pack("<Q", len(changed)) + changed + content[8 + length :])
    refused(["sample", "--model", model], 4, f"format {FORMAT + 1}", "pgrade")


@pytest.mark.parametrize("name", ["nobody", "./nobody", "nobody.safetensors", "~nobody-here/model", "x" * 5000, "."])
def test_a_model_that_is_not_there_is_4(refused: Any, name: str) -> None:
    refused(["sample", "--model", name], 4)


def test_a_model_that_is_no_model_is_4(refused: Any, cwd: Path) -> None:
    (cwd / "model.safetensors").write_text("not really")
    refused(["sample", "--model", "model.safetensors"], 4, "model.safetensors")


@pytest.mark.parametrize("beta", ["0", "1", "-0.1", "1.5", "nan"])
@pytest.mark.parametrize("option", ["--beta-start", "--beta-end"])
def test_a_beta_outside_0_and_1_is_2(refused: Any, option: str, beta: str) -> None:
    refused(
        ["schedule", "show", "--kind", "linear", option, beta],
        2,
        option.removeprefix("--"),
        "more than 0 and less than 1",
    )


@pytest.mark.parametrize(
    "arguments",
    [
        "schedule show --timesteps 0",
        "schedule show --timesteps ten",
        "schedule show --max-beta 1",
        "schedule show --offset -1",
        "schedule show --offset nan",
        "schedule show --kind sigmoid --tau 0",
        "schedule show --kind sigmoid --tau inf",
        "schedule show --kind sigmoid --start 3 --end -3",
        "schedule show --kind sigmoid --start=-inf",
        "schedule show --kind sigmoid --end inf",
        "schedule show --kind cosine --beta-end 0.03",
        "train --lr 0",
        "train --lr nan",
        "train --minutes 0",
        "train --minutes nan",
        "train --minutes inf",
        "train --epochs 0",
        "train --save-every 0",
        "train --ema 1",
        "train --ema -1",
        "train --limit 0",
        "train --image-size 0",
        "train --seed -1",
        "train --timesteps 0",
        "sample --guidance nan",
        "sample --guidance -1",
        "sample --sampler ddim --eta 1.5",
        "sample --steps 0",
        "sample --first -1",
        "sample --batch-size 0",
        "sample --seed 9223372036854775808",
    ],
)
@pytest.mark.usefixtures("model")
def test_a_value_out_of_range_is_2(refused: Any, arguments: str) -> None:
    refused(arguments.split(), 2)


@pytest.mark.usefixtures("no_mirror")
def test_a_set_that_is_not_here_is_6_with_offline(refused: Any) -> None:
    refused(["train", "--dataset", "fashion-mnist", "--offline"], 6, "fashion-mnist", "forbidden", "--data-dir")


@pytest.mark.usefixtures("no_mirror")
def test_a_dead_mirror_is_6(refused: Any) -> None:
    refused(["train", "--dataset", "fashion-mnist"], 6, "cannot fetch", "127.0.0.1:9", "--data-dir")


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize("output", ["file/grid.png", "file/below/grid.png", "file/folder/"])
def test_an_output_whose_parent_is_a_file_is_6(refused: Any, cwd: Path, output: str) -> None:
    (cwd / "file").write_text("kept")
    refused(["sample", "-n", 2, "--steps", 1, "-o", output], 6, "file, not a folder")
    assert (cwd / "file").read_text() == "kept"


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize("option", ["--trajectory", "--animate"])
def test_a_second_output_whose_parent_is_a_file_is_6(refused: Any, cwd: Path, option: str) -> None:
    (cwd / "file").write_text("kept")
    suffix = {"--trajectory": "png", "--animate": "gif"}[option]
    refused(["sample", "-n", 2, "--steps", 1, option, f"file/extra.{suffix}"], 6, "file, not a folder")


def test_a_run_below_a_file_is_6(refused: Any, cwd: Path, quick: tuple[str, ...]) -> None:
    (cwd / "file").write_text("kept")
    refused([*quick, "--steps", 2, "-o", "file/run"], 6, "file, not a folder")


def test_a_schedule_below_a_file_is_6(refused: Any, cwd: Path) -> None:
    (cwd / "file").write_text("kept")
    refused(["schedule", "show", "-o", "file/table.csv"], 6, "file, not a folder")


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize("label", ["2", "-1", "0,2", "square", "", "0,,1", "²", "--1", "99999999999999999999"])
def test_a_label_out_of_range_or_unknown_is_2(refused: Any, label: str) -> None:
    refused(["sample", f"--label={label}", "-n", 2, "--steps", 1], 2)


def test_a_label_for_a_model_without_classes_is_2(refused: Any, home: Path, save_model: Any) -> None:
    save_model(home / "models" / "plain.safetensors", classes=())
    refused(["sample", "--model", "plain", "--label", 1], 2, "no classes")


def test_guidance_for_a_model_without_classes_is_2(refused: Any, home: Path, save_model: Any) -> None:
    save_model(home / "models" / "plain.safetensors", classes=())
    refused(["sample", "--model", "plain", "--guidance", 2, "-n", 1], 2, "classes")


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("command", ["sample", "train"])
def test_a_device_that_is_absent_is_6(refused: Any, model: Path, photos: Path, command: str) -> None:
    data = ["--model", model] if command == "sample" else ["--dataset", photos, "--steps", 1]
    refused([command, *data, "--device", "cuda"], 6, "cuda", "--device cpu")


def test_labels_asked_of_a_set_without_any_are_2(refused: Any, photos: Path) -> None:
    refused(["train", "--dataset", photos / "circle", "--conditional", "--steps", 1], 2, "--conditional")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", 3),
        ("[]", 3),
        ("beta\n", 3),
        ("0.1\nhello\n", 3),
        ('{"alphas": [0.1]}', 3),
        ("[0.1, ", 3),
        ("[0.1, null]", 3),
        ("[" + "9" * 400 + "]", 3),
        ("[" * 100_000, 3),
        ('0.1\n"' + "x" * 200_000, 3),
        ("0.1\n" * 1_000_001, 2),
        ("0.1\n1.5\n", 2),
        ("[0.1, NaN]", 2),
    ],
)
def test_a_file_without_betas_is_3_and_with_impossible_ones_2(refused: Any, cwd: Path, text: str, code: int) -> None:
    (cwd / "betas").write_text(text)
    refused(["schedule", "show", "--from-file", "betas"], code)


def test_betas_that_are_not_there_are_3(refused: Any) -> None:
    refused(["schedule", "show", "--from-file", "nowhere.csv"], 3, "nowhere.csv")


def test_a_custom_schedule_without_betas_is_2(refused: Any) -> None:
    refused(["schedule", "show", "--kind", "custom"], 2, "--from-file")


@pytest.mark.parametrize("option", [["--kind", "linear"], ["--timesteps", "7"], ["--beta-end", "0.5"]])
def test_betas_from_a_file_contradict_those_of_an_option(refused: Any, cwd: Path, option: list[str]) -> None:
    (cwd / "betas").write_text("0.1\n0.2\n")
    refused(["schedule", "show", "--from-file", "betas", *option], 2, option[0].removeprefix("--"))


@pytest.mark.parametrize("text", ["a = " + "[" * 50_000, "a = " + "{a = " * 900, "\0", "a = 1\n" * 200_000])
def test_settings_that_are_none_are_3(refused: Any, cwd: Path, text: str) -> None:
    (cwd / "settings.toml").write_text(text)
    refused(["schedule", "list", "--config", "settings.toml"], 3, "settings.toml")


def test_what_a_name_does_to_a_terminal_is_not_done(ddpm: Any) -> None:
    found = ddpm("models", "path", "a\nb\x1b[31m\udcff")
    found.refused(4)
    assert len(found.err.splitlines()) == 2
    assert "\x1b" not in found.err


def test_what_torch_says_of_memory_is_6(ddpm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from ddpm_cli import library

    def fail() -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes. Error code 12")

    monkeypatch.setattr(library, "known", fail)
    ddpm("models", "list").refused(6, "memory")


@pytest.mark.parametrize("value", ["3", "[]", "true", "1979-05-27"])
def test_a_model_in_the_settings_that_is_no_name_leaves_the_list_as_it_is(ddpm: Any, home: Path, value: str) -> None:
    home.mkdir()
    (home / "config.toml").write_text(f"[sample]\nmodel = {value}\n")
    assert ddpm("models", "list", "--json").code in (0, 2)


# --- numbers --------------------------------------------------------------------------------------------------------


def numeric_options() -> list[tuple[tuple[str, ...], str]]:
    """Every option of every command that takes one number: the words of the command, and the option."""
    import typer

    from ddpm_cli.cli import app

    def below(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
        for option in getattr(command, "params", []):
            if option.type_descriptor.annotation in (int, float):
                yield words, max(option.opts, key=len)
        for name, each in getattr(command, "commands", {}).items():
            yield from below(each, (*words, name))

    return list(below(typer.main.get_command(app), ()))


NUMERIC = numeric_options()


def test_there_are_numeric_options() -> None:
    assert {(("sample",), "--steps"), (("train",), "--lr"), (("edit", "vary"), "--strength")} <= set(NUMERIC)
    assert len(NUMERIC) > 60


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e400", "-1e400", "9" * 25, "9" * 5000, "x", "", "0x1"])
def test_a_number_that_no_option_takes_is_refused_in_one_form(ddpm: Any, value: str) -> None:
    for words, option in NUMERIC:
        found = ddpm(*words, f"{option}={value}")
        found.refused(2)
        sentence = found.err.splitlines()[-2]
        begin = f"ddpm: {option} is "
        assert sentence.startswith(begin), (words, sentence)
        assert value[:20] in sentence, (words, sentence)
        assert ", expected " in sentence, (words, sentence)
        assert len(sentence) < 200


BEYOND = ["1" + "0" * 400, "-1" + "0" * 400, "9" * 5000, "1e999", "18446744073709551616", "NaN", "-Infinity"]


def with_numbers(path: Path, changes: dict[str, str], into: Path) -> None:
    """Copies a model file; the numbers at these places of its description are replaced by JSON text."""
    import mutation

    header, about, body = mutation.take_apart(path.read_bytes())
    for number, place in enumerate(changes):
        *above, key = place.split(".")
        part = about
        for name in above:
            part = part[name]
        part[key] = f"<{number}>"
    text = json.dumps(about)
    for number, value in enumerate(changes.values()):
        text = text.replace(f'"<{number}>"', value)
    into.write_bytes(mutation.put_together(json.dumps(header).encode(), text.encode(), body))


@pytest.mark.parametrize("value", BEYOND)
@pytest.mark.parametrize(
    "place", ["parameters", "flops", "training.step", "training.steps", "data.images", "data.mean", "sampler.steps"]
)
def test_a_number_beyond_reason_in_one_model_leaves_the_others_in_the_list(
    ddpm: Any, model: Path, home: Path, place: str, value: str
) -> None:
    with_numbers(model, {place: value}, home / "models" / "odd.safetensors")
    listed = {each["name"]: each["problem"] for each in ddpm("models", "list", "--json").done().json["models"]}
    assert listed["tiny"] is None
    assert listed["odd"]
    ddpm("models", "list").done()
    ddpm("models", "show", "odd").refused(4, "odd.safetensors")
    ddpm("sample", "--model", "odd", "-n", 1).refused(4, "odd.safetensors")


@pytest.mark.parametrize("place", ["parameters", "flops", "training.steps", "sampler.steps", "schedule.timesteps"])
def test_a_number_of_the_wrong_sign_in_a_model_is_named(ddpm: Any, model: Path, home: Path, place: str) -> None:
    with_numbers(model, {place: "-1"}, home / "models" / "odd.safetensors")
    ddpm("models", "show", "odd").refused(4, "odd.safetensors", f"{place.rpartition('.')[2]} is -1, expected ")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("seed", value) for value in ("-1", "9223372036854775808", "9" * 5000, "x", "1e3", "")),
        *(("steps", value) for value in ("0", "1000000000", "9" * 400, "1.5", "nan")),
        *(("index", value) for value in ("-1", "0-10000", "5-1", "9" * 30, "0-" + "9" * 400, "a-b")),
        *(("guidance", value) for value in ("nan", "inf", "1e400", "101", "-1")),
        *(("rescale", value) for value in ("nan", "2")),
        *(("threshold", value) for value in ("0", "-inf")),
        *(("interval", value) for value in ("1e400-2", "nan-nan", "5-2", "1")),
        *(("label", value) for value in ("9" * 400, "-1", "x", "0,0,0")),
    ],
)
@pytest.mark.usefixtures("model")
def test_a_number_beyond_reason_in_a_picture_is_3(refused: Any, cwd: Path, key: str, value: str, ddpm: Any) -> None:
    import numpy as np
    from PIL import Image

    from ddpm_cli.render.images import png

    ddpm("sample", "-n", 1, "--steps", 1, "--guidance", 2, "-o", "right.png").done()
    with Image.open("right.png") as picture:
        text = {name: str(each) for name, each in picture.info.items() if name != "dpi"}
    (cwd / "wrong.png").write_bytes(png(np.zeros((1, 12, 12), np.uint8), {**text, key: value}))
    refused(["sample", "--like", "wrong.png", "-o", "again.png"], 3, "wrong.png")
    assert not (cwd / "again.png").exists()


# --- files of another kind ------------------------------------------------------------------------------------------

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
OTHERS = [
    (b"", "is empty"),
    (LFS, "is a Git LFS pointer, not a model"),
    (b"\x89PNG\r\n\x1a\n" + bytes(50), "is a PNG image, not a model"),
    (b"\x80\x04\x95\x10\0\0\0\0\0\0\0", "is a pickle, not a model"),
    (b"PK\x03\x04" + bytes(22) + b"\x10\0\0\0archive/data.pkl" + bytes(90), "is a PyTorch file, which holds a pickle"),
    (b"\x93NUMPY\x01\0v\0{'descr': '<f4'", "is a NumPy array, not a model"),
    (b"<!doctype html><title>Sign in</title>", "is a web page, not a model"),
    (b"\x1f\x8b\x08\0\0\0\0\0\0\x03", "is a gzip file, not a model"),
    (b'{"model_type": "unet"}\n', "is a JSON file, not a model"),
    (b"not really a model\n", "is a text file, not a model"),
]


@pytest.mark.parametrize(("content", "words"), OTHERS)
def test_a_file_of_another_kind_is_no_damaged_model(
    ddpm: Any, refused: Any, cwd: Path, home: Path, content: bytes, words: str
) -> None:
    (cwd / "model.safetensors").write_bytes(content)
    refused(["sample", "--model", "model.safetensors"], 4, f"model.safetensors {words}")
    (home / "models").mkdir(parents=True)
    (home / "models" / "odd.safetensors").write_bytes(content)
    assert words in ddpm("models", "list").done().err


def test_a_model_of_another_program_is_named_as_such(refused: Any, cwd: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    for number, metadata in enumerate((None, {"format": "pt"})):
        save_file({"weight": np.zeros(3, np.float32)}, cwd / f"{number}.safetensors", metadata)
        refused(["models", "show", f"./{number}.safetensors"], 4, "is a safetensors file that ddpm did not write")


def test_the_state_of_a_run_is_for_resume(refused: Any, trained: Path) -> None:
    words = ("state.safetensors is for --resume; the model is model.safetensors in the same folder", str(trained))
    refused(["sample", "--model", trained / "state.safetensors"], 4, *words)


@pytest.mark.parametrize(("content", "words"), [(each, words) for each, words in OTHERS if "PyTorch" not in words])
def test_a_file_of_another_kind_is_no_damaged_archive(refused: Any, cwd: Path, content: bytes, words: str) -> None:
    (cwd / "images.npz").write_bytes(content)
    refused(
        ["eval", "images.npz", "--reference", "mnist"], 3, f"images.npz {words.replace('a model', 'an .npz archive')}"
    )


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"pictures": "uint8"}, "it contains 'pictures' and no array named 'images'"),
        ({}, "it contains nothing and no array named 'images'"),
        ({"images": "float64"}, "'images' is float64, expected uint8"),
        ({"images": "uint8", "labels": "float32"}, "'labels' is float32, expected integers"),
    ],
)
def test_an_archive_of_other_arrays_is_3_with_what_it_holds(
    refused: Any, cwd: Path, arrays: dict[str, str], words: str
) -> None:
    import numpy as np

    np.savez(
        cwd / "images.npz",
        **{name: np.zeros((4, 8, 8)[: 1 if name == "labels" else 3], kind) for name, kind in arrays.items()},
    )  # type: ignore[arg-type]
    refused(["eval", "images.npz", "--reference", "mnist"], 3, "images.npz", words)


# --- work beyond reason ---------------------------------------------------------------------------------------------


def test_a_billion_images_are_refused_with_what_they_would_take(refused: Any, model: Path) -> None:
    for more in ((), ("--label", "0"), ("-o", "a.npz"), ("-o", "folder/")):
        arguments = ["sample", "--model", model, "-n", 10**9, *more]
        refused(arguments, 6, "1,000,000,000 images of 1x12x12 would take 432.0 GB of memory", "--first")
    refused(["sample", "--model", model, "--per-class", 10**9], 6, "GB of memory")
    refused(
        ["edit", "interpolate", "--model", model, "--between", ",".join("5" * 9999), "--frames", 1000],
        6,
        "GB of memory",
    )


@pytest.mark.parametrize("command", ["vary", "inpaint"])
def test_a_billion_variations_are_refused_with_what_they_would_take(
    refused: Any, model: Path, photos: Path, command: str
) -> None:
    change = ["edit", command, "--model", model, "--dataset", photos]
    refused([*change, "-n", 10**9], 2, "--number is 1000000000, expected at most 100,000")
    refused(
        [*change, "--index", ",".join("5" * 9999), "-n", 100_000], 6, "999,900,000 images of 1x12x12", "GB of memory"
    )


def test_a_small_model_of_huge_images_is_refused(refused: Any, cwd: Path) -> None:
    import torch

    from ddpm_cli import checkpoint, networks
    from ddpm_cli.config import ScheduleConfig, UNetConfig

    network = UNetConfig((1, 4096, 4096), patch=1, widths=(8,), blocks=1, attention=(), heads=1)
    with torch.device("meta"):
        state = networks.build(network).state_dict()
    tensors = {f"ema.{name}": torch.full(value.shape, 0.1) for name, value in state.items()}
    checkpoint.save(cwd / "huge.safetensors", tensors, checkpoint.Info(network, ScheduleConfig(), "v"))
    assert (cwd / "huge.safetensors").stat().st_size < 100_000
    for arguments in (["sample"], ["sample", "-n", 1], ["edit", "interpolate"], ["noise", "--view", "estimates"]):
        refused([*arguments, "--model", "huge.safetensors"], 6, "1x4096x4096", "GB of memory")


@pytest.mark.parametrize("size", [1_000_001, 10**9, 10**30])
def test_a_batch_beyond_reason_is_2(refused: Any, model: Path, photos: Path, size: int) -> None:
    refused(["sample", "--model", model, "--batch-size", size], 2, f"--batch-size is {size}")
    refused(["train", "--dataset", photos, "--batch-size", size], 2, f"--batch-size is {size}")


def test_a_batch_that_cannot_fit_into_memory_is_6(refused: Any, quick: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from ddpm_cli import machine

    monkeypatch.setattr(machine, "free_memory", lambda _: 10**9)
    refused(
        [*quick, "--batch-size", 1_000_000, "--steps", 1],
        6,
        "a batch of 1,000,000 images of 1x12x12",
        "1.0 GB are free",
    )


@pytest.mark.parametrize("text", [".".join("a" * 100_000) + " = 1", "[" + ".".join("a" * 100_000) + "]"])
def test_a_key_of_a_hundred_thousand_parts_is_3_at_once(refused: Any, cwd: Path, text: str) -> None:
    (cwd / "settings.toml").write_text(text)
    refused(["schedule", "list", "--config", "settings.toml"], 3, "settings.toml", "more than 65,536 bytes")
    (cwd / "settings.toml").write_text(text[:20_000] + text[-5:])
    refused(["schedule", "list", "--config", "settings.toml"], 3, "settings.toml", "parts")


def test_settings_and_betas_come_through_a_pipe_that_ends(
    ddpm: Any, cwd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os
    import threading

    from ddpm_cli import documents

    os.mkfifo(cwd / "pipe")
    for text, arguments, kind in (
        ('[schedule.show]\nkind = "linear"\n', ["--config", "pipe"], "linear"),
        ("0.1\n0.2\n", ["--from-file", "pipe"], "custom"),
    ):
        writer = threading.Timer(0.2, (cwd / "pipe").write_text, [text])
        writer.daemon = True
        writer.start()
        assert ddpm("schedule", "show", "--json", *arguments).done().json["kind"] == kind
        writer.join()
    monkeypatch.setattr(documents, "PATIENCE", 0.2)
    ddpm("schedule", "list", "--config", "pipe").refused(3, "pipe", "did not end within 0.2 seconds")
    ddpm("schedule", "show", "--from-file", "pipe").refused(3, "pipe", "did not end within 0.2 seconds")


def test_an_archive_of_one_giant_image_is_3(refused: Any, cwd: Path) -> None:
    import numpy as np

    np.savez_compressed(cwd / "giant.npz", images=np.zeros((1, 1, 20_000_000), np.uint8))
    refused(["eval", "giant.npz", "--reference", "mnist"], 3, "giant.npz", "expected sides of 1 to 4096")
    refused(["noise", "giant.npz"], 3, "giant.npz", "expected sides of 1 to 4096")


def test_an_endless_stdin_is_3(monkeypatch: pytest.MonkeyPatch, ddpm: Any) -> None:
    import io
    import sys

    from ddpm_cli.cli import _options

    monkeypatch.setattr(_options, "LARGEST_INPUT", 2**20)
    with Path("/dev/zero").open("rb") as endless:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(endless))
        ddpm("noise", "-").refused(3, "stdin holds more than 1 MiB")
        ddpm("eval", "-").refused(3, "stdin holds more than 1 MiB")


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize("output", ["/", "//", "///"])
def test_the_root_of_the_file_system_as_a_result_is_refused(refused: Any, output: str) -> None:
    refused(["sample", "-n", 1, "--steps", 1, "--format", "npz", "-o", output], 2, "is a folder")
    refused(["edit", "vary", "--dataset", "mnist", "-n", 1, "--format", "gif", "-o", output], 2, "is a folder")


@pytest.mark.parametrize("place", ["/", "//"])
def test_a_place_without_a_parent_is_checked(place: str) -> None:
    from ddpm_cli import files
    from ddpm_cli.errors import ResourceError

    files.check_place(Path(place), may_be_folder=True)
    with pytest.raises(ResourceError, match="folder"):
        files.check_place(Path(place))
