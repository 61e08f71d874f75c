"""``ddpm train``: the run folder, what comes out on which stream, what can be resumed, and what is refused."""

import json
import math
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddpm_cli import paths

FILES = {"config.json", "metrics.jsonl", "train.log", "model.safetensors", "state.safetensors", "loss.png"}
FILES |= {"best.safetensors"}


def config_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return found


def step_of(folder: Path) -> int:
    from ddpm_cli.checkpoint import read_info

    return int(read_info(folder / "model.safetensors").training["step"])


# --- what comes out -------------------------------------------------------------------------------------------------


def test_stdout_is_the_path_of_the_run_and_nothing_else(ddpm: Any, quick: tuple[str, ...], home: Path) -> None:
    result = ddpm(*quick, "--steps", 2, "--name", "first").done()
    assert result.out == f"{home / 'runs' / 'first'}\n"


def test_a_run_without_a_name_has_the_set_the_preset_and_the_time_in_it(
    ddpm: Any, quick: tuple[str, ...], home: Path
) -> None:
    folder = Path(ddpm(*quick, "--steps", 2).done().out.strip())
    assert folder.parent == home / "runs"
    assert folder.name.startswith("photos-tiny-")


def test_two_runs_without_a_name_begun_in_one_second_are_two(
    ddpm: Any, quick: tuple[str, ...], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.strftime", lambda *_: "20260101-120000")
    for _ in range(2):
        ddpm(*quick, "--steps", 1).done()
    assert len(list((home / "runs").iterdir())) == 2


@pytest.mark.parametrize("name", ["run", "my run", "it's; true"])
def test_stderr_ends_with_the_command_to_sample_with_and_it_works(
    ddpm: Any, quick: tuple[str, ...], cwd: Path, name: str
) -> None:
    result = ddpm(*quick, "--steps", 2, "-o", name).done()
    last = result.err.splitlines()[-1]
    line = last[last.index("ddpm sample") :]
    words = shlex.split(line)
    assert words[0] == "ddpm"
    sampled = ddpm(*words[1:], "--device", "cpu").done()
    written = cwd / sampled.out.strip()
    assert written.read_bytes().startswith(b"\x89PNG")
    assert f"model {name}" in sampled.err


def test_a_run_folder_holds_what_is_documented(trained: Path) -> None:
    assert {path.name for path in trained.iterdir()} == FILES | {"samples"}
    assert sorted(path.name for path in (trained / "samples").iterdir()) == ["check.json", "step-0000003.png"]
    steps = [json.loads(line)["step"] for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert steps[-1] == 3
    assert "loss" in (trained / "train.log").read_text()
    assert (trained / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert step_of(trained) == 3


def test_a_checkpoint_holds_nothing_of_clock_host_or_path(trained: Path, photos: Path) -> None:
    header = (trained / "model.safetensors").read_bytes()[:20_000]
    for secret in (str(photos.parent), os.uname().nodename, str(trained)):
        assert secret.encode() not in header


def test_the_same_seed_gives_the_same_model(ddpm: Any, quick: tuple[str, ...], cwd: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        ddpm(*quick, "--steps", 3, "--seed", seed, "-o", name).done()
    a, b, c = ((cwd / name / "model.safetensors").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_a_random_seed_is_told_and_kept(ddpm: Any, quick: tuple[str, ...], cwd: Path) -> None:
    errs = [ddpm(*quick, "--steps", 1, "-o", name).done().err for name in ("a", "b")]
    seeds = [config_of(cwd / name)["train"]["seed"] for name in ("a", "b")]
    assert seeds[0] != seeds[1]
    assert all(f"seed {seed}" in err for seed, err in zip(seeds, errs, strict=True))


# --- what is learned ------------------------------------------------------------------------------------------------


def test_a_folder_of_images_in_classes_is_learned_with_them(ddpm: Any, quick: tuple[str, ...], cwd: Path) -> None:
    from ddpm_cli.checkpoint import read_info

    ddpm(*quick, "--steps", 2, "-o", "run").done()
    info = read_info(cwd / "run" / "model.safetensors")
    assert info.classes == ("circle", "cross")
    assert info.shape == (1, 12, 12)
    assert info.weights == ("ema", "raw")
    ddpm(*quick, "--steps", 2, "--unconditional", "-o", "free").done()
    assert read_info(cwd / "free" / "model.safetensors").classes == ()


def test_a_folder_without_classes_is_learned_without(
    ddpm: Any, quick: tuple[str, ...], photos: Path, cwd: Path
) -> None:
    from ddpm_cli.checkpoint import read_info

    ddpm(*quick, "--dataset", photos / "circle", "--steps", 2, "-o", "run").done()
    assert read_info(cwd / "run" / "model.safetensors").classes == ()


def test_images_are_brought_to_the_size_asked_for(ddpm: Any, quick: tuple[str, ...], cwd: Path) -> None:
    from ddpm_cli.checkpoint import read_info

    ddpm(*quick, "--image-size", 8, "--limit", 10, "--steps", 1, "-o", "run").done()
    info = read_info(cwd / "run" / "model.safetensors")
    assert info.shape == (1, 8, 8)
    assert info.data["images"] == 10


def test_the_options_land_in_the_config(ddpm: Any, quick: tuple[str, ...], cwd: Path, photos: Path) -> None:
    options = ["--schedule", "linear", "--timesteps", 50, "--target", "x0", "--loss", "min-snr", "--lr", 0.001]
    ddpm(*quick, *options, "--ema", 0, "--times", "uniform", "--steps", 2, "-o", "run").done()
    config = config_of(cwd / "run")
    assert config["dataset"] == str(photos)
    assert config["preset"] == "tiny"
    assert config["budget"] == {"epochs": None, "steps": 2, "minutes": None}
    assert (config["schedule"]["kind"], config["schedule"]["timesteps"]) == ("linear", 50)
    train = config["train"]
    assert (train["target"], train["loss"], train["times"]) == ("x0", "min-snr", "uniform")
    assert (train["lr"], train["ema"], train["batch_size"]) == (0.001, 0, 8)


@pytest.mark.parametrize(("loss", "learned"), [("vlb", False), ("hybrid", True)])
def test_a_loss_made_of_the_bound_trains_a_model_to_sample_from(
    ddpm: Any, quick: tuple[str, ...], cwd: Path, loss: str, learned: bool
) -> None:
    from ddpm_cli.checkpoint import read_info

    trained = ddpm(*quick, "--loss", loss, "--steps", 3, "--seed", 0, "-o", "run", "--json").done().json
    assert 0 < trained["loss"] < 1000
    assert read_info(cwd / "run" / "model.safetensors").network.learned_variance == learned
    options = ["--model", "run", "-n", 2, "--steps", 4, "--device", "cpu", "--sampler", "ddpm"]
    drawn = ddpm("sample", *options, "-o", "drawn.png", "--json").done().json
    assert drawn["variance"] == ("learned" if learned else "small")
    assert ddpm("sample", *options, "--variance", "large", "--json").done().json["variance"] == "large"


@pytest.mark.parametrize("loss", ["vlb", "hybrid"])
def test_the_bound_wants_t_uniform(
    ddpm: Any, quick: tuple[str, ...], written: Callable[[], set[str]], loss: str
) -> None:
    ddpm(*quick, "--loss", loss, "--times", "logit-normal", "--steps", 1).refused(2, loss, "logit-normal", "--times")
    assert written() == set()


def test_the_recipe_of_the_report_lands_in_the_config(
    ddpm: Any, photos: Path, cwd: Path, quick: tuple[str, ...]
) -> None:
    assert quick
    ddpm("train", "--dataset", photos, "--preset", "tiny", "--recipe", "report", "--steps", 1, "-o", "run").done()
    config = config_of(cwd / "run")
    train = config["train"]
    # Adam, batch 128, cosine, T = 1000: the report; no averaging and no clipping: it has neither.
    assert (train["optimizer"], train["batch_size"], train["target"]) == ("adam", 128, "eps")
    assert (train["ema"], train["clip"], train["decay"], train["warmup"]) == (0, 0, "constant", 0)
    assert (config["schedule"]["kind"], config["schedule"]["timesteps"]) == ("cosine", 1000)


def test_an_option_goes_before_the_recipe(ddpm: Any, quick: tuple[str, ...], cwd: Path) -> None:
    ddpm(*quick, "--recipe", "report", "--target", "v", "--steps", 1, "-o", "run").done()
    assert config_of(cwd / "run")["train"]["target"] == "v"
    assert config_of(cwd / "run")["train"]["optimizer"] == "adam"


def test_the_preset_of_the_report_is_its_network_unconditional(ddpm: Any, cwd: Path, quick: tuple[str, ...]) -> None:
    from safetensors import safe_open

    from ddpm_cli.checkpoint import read_info

    assert quick  # without the pictures: 64 samples of this network take a minute on a CPU
    options = ["--steps", 2, "--limit", 256, "--batch-size", 8, "--device", "cpu"]
    ddpm("train", "--preset", "report", *options, "-o", "run").done()
    info = read_info(cwd / "run" / "model.safetensors")
    assert info.classes == ()
    assert info.parameters == 13_911_937
    assert info.flops == pytest.approx(3.116e9, rel=1e-3)
    with safe_open(cwd / "run" / "model.safetensors", "np") as file:
        sizes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118  # no mapping
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    count = sum(
        math.prod(shape) for name, shape in sizes.items() if name.startswith("raw.") and not name.endswith(buffers)
    )
    assert count == 13_911_937
    assert config_of(cwd / "run")["train"]["optimizer"] == "adam"  # its recipe comes with it


def test_mnist_is_here_and_learned_with_its_ten_classes(ddpm: Any, cwd: Path, quick: tuple[str, ...]) -> None:
    from ddpm_cli.checkpoint import read_info

    ddpm(*quick, "--dataset", "mnist", "--offline", "--limit", 64, "--steps", 1, "-o", "run").done()
    info = read_info(cwd / "run" / "model.safetensors")
    assert info.classes == tuple("0123456789")
    assert info.shape == (1, 28, 28)


# --- a dry run ------------------------------------------------------------------------------------------------------


def test_a_dry_run_of_the_reports_budget_tells_23450_steps_and_writes_nothing(
    ddpm: Any, written: Callable[[], set[str]], home: Path
) -> None:
    options = ["--dataset", "mnist", "--batch-size", 128, "--epochs", 50, "--preset", "tiny", "--device", "cpu"]
    result = ddpm("train", *options, "--dry-run").done()
    assert "23,450 steps" in result.out  # 50 times ceil(60,000 / 128)
    assert "469" in result.out
    assert written() == set()
    assert {path.name for path in home.iterdir()} <= {"cache"}


def test_the_number_of_threads_is_chosen_reported_and_kept_when_resumed(ddpm: Any, quick: tuple[str, ...]) -> None:
    run = ddpm(*quick, "--steps", 2, "--threads", 1, "--json").done().json
    assert (run["threads"], run["precision"]) == (1, "float32")
    again = ddpm("train", "--resume", run["run"], "--steps", 3, "--threads", 2, "--json").done().json
    assert again["threads"] == 2
    assert ddpm("train", "--resume", run["run"], "--steps", 4, "--json").done().json["threads"] == 2
    assert "threads: 2 from step 2 on, 1 before" in (Path(run["run"]) / "train.log").read_text(encoding="utf-8")
    ddpm(*quick, "--steps", 1, "--threads", "auto", "--dry-run").done()
    for wrong in ("0", "many", "1.5"):
        ddpm(*quick, "--threads", wrong).refused(2, f"--threads is '{wrong}'" if wrong == "many" else "--threads is")


def test_a_dry_run_of_minutes_tells_steps_too(
    ddpm: Any, quick: tuple[str, ...], written: Callable[[], set[str]]
) -> None:
    result = ddpm(*quick, "--minutes", 1, "--dry-run", "--json").done()
    document = result.json
    assert document["seconds"] == pytest.approx(60, rel=0.1)
    assert document["steps"] > 1
    assert written() == set()


def test_a_long_run_is_announced_with_what_would_be_quicker(ddpm: Any, quick: tuple[str, ...]) -> None:
    assert "uicker" in ddpm(*quick, "--steps", 100_000_000, "--dry-run").done().err
    assert "uicker" not in ddpm(*quick, "--steps", 10, "--dry-run").done().err


# --- where it goes --------------------------------------------------------------------------------------------------


def test_a_folder_that_holds_a_run_is_refused_and_kept(ddpm: Any, quick: tuple[str, ...], trained: Path) -> None:
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    ddpm(*quick, "--steps", 2, "-o", trained).refused(2, "already holds a run", "--resume")
    ddpm(*quick, "--steps", 2, "-o", "").refused(2, "empty")  # and not the current folder
    ddpm(*quick, "--steps", 2, "--name", "trained").refused(2, "already holds a run", "--resume")
    assert {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["../evil", "..", ".", "a/b", "/tmp/evil", ".hidden", "", "a\\b", "a\nb", "x" * 300])
def test_a_name_that_leaves_its_folder_is_2(
    ddpm: Any, quick: tuple[str, ...], written: Callable[[], set[str]], name: str
) -> None:
    ddpm(*quick, "--steps", 1, f"--name={name}").refused(2)
    assert written() == set()


def test_a_name_and_a_folder_contradict_each_other(ddpm: Any, quick: tuple[str, ...]) -> None:
    ddpm(*quick, "--steps", 1, "--name", "a", "-o", "b").refused(2, "--name", "--output")


@pytest.mark.parametrize(
    "budget", [["--epochs", 1, "--steps", 1], ["--epochs", 1, "--minutes", 1], ["--steps", 1, "--minutes", 1]]
)
def test_two_budgets_contradict_each_other(ddpm: Any, quick: tuple[str, ...], budget: list[object]) -> None:
    ddpm(*quick, *budget).refused(2, str(budget[0]), str(budget[2]))


# --- resuming -------------------------------------------------------------------------------------------------------


def test_latest_goes_on_with_the_newest_run(ddpm: Any, quick: tuple[str, ...], home: Path) -> None:
    for age, name in enumerate(("newest", "older")):
        ddpm(*quick, "--steps", 2, "--name", name).done()
        os.utime(home / "runs" / name / "config.json", (1_700_000_000 - age, 1_700_000_000 - age))
    result = ddpm("train", "--resume", "latest", "--steps", 4, "--device", "cpu").done()
    assert result.out == f"{home / 'runs' / 'newest'}\n"
    assert step_of(home / "runs" / "newest") == 4
    assert step_of(home / "runs" / "older") == 2
    assert "restored" in result.err


def test_a_stopped_run_resumed_is_the_run_never_stopped(
    ddpm: Any, quick: tuple[str, ...], cwd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ddpm_cli.checkpoint import read_info
    from ddpm_cli.runs import Run

    ddpm(*quick, "--steps", 6, "--seed", 4, "-o", "whole").done()
    with monkeypatch.context() as patch:
        patch.setattr(Run, "stopped", property(lambda self: self.state.step == 3, lambda *_: None), raising=False)
        ddpm(*quick, "--steps", 6, "--seed", 4, "-o", "parts")
    assert step_of(cwd / "parts") == 3
    ddpm("train", "--resume", "parts", "--device", "cpu").done()
    assert read_info(cwd / "parts" / "model.safetensors").id == read_info(cwd / "whole" / "model.safetensors").id


@pytest.mark.parametrize("run", ["trained", "path"])
def test_a_run_is_resumed_by_name_or_path(ddpm: Any, trained: Path, quick: tuple[str, ...], run: str) -> None:
    assert quick
    ddpm("train", "--resume", trained if run == "path" else run, "--epochs", 2, "--device", "cpu").done()
    assert step_of(trained) == 6
    assert config_of(trained)["budget"] == {"epochs": 2, "steps": None, "minutes": None}


def test_a_finished_run_resumed_stays_as_it_is(ddpm: Any, trained: Path, quick: tuple[str, ...]) -> None:
    assert quick
    before = (trained / "model.safetensors").read_bytes()
    assert ddpm("train", "--resume", trained).done().out == f"{trained}\n"
    assert (trained / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    "options",
    [
        ["--batch-size", 4],
        ["--preset", "small"],
        ["--seed", 1],
        ["--dataset", "mnist"],
        ["--lr", 0.1],
        ["--schedule", "linear"],
        ["-o", "elsewhere"],
        ["--name", "other"],
        ["--unconditional"],
        ["--precision", "bf16"],
    ],
    ids=str,
)
def test_resuming_refuses_whatever_would_make_it_another_run(ddpm: Any, trained: Path, options: list[object]) -> None:
    before = (trained / "state.safetensors").read_bytes()
    option = {"-o": "--output"}.get(str(options[0]), str(options[0]))
    result = ddpm("train", "--resume", "trained", *options)
    result.refused(2)
    assert option in result.err or (option == "--unconditional" and "--conditional" in result.err)
    assert (trained / "state.safetensors").read_bytes() == before


@pytest.mark.parametrize("run", ["nobody", "./nobody", "latest"])
def test_a_run_that_is_not_there_is_4(ddpm: Any, run: str) -> None:
    ddpm("train", "--resume", run).refused(4)


def test_a_state_cut_short_is_4(ddpm: Any, trained: Path) -> None:
    content = (trained / "state.safetensors").read_bytes()
    (trained / "state.safetensors").write_bytes(content[:-100])
    ddpm("train", "--resume", trained, "--steps", 9).refused(4, "state.safetensors")
    (trained / "config.json").write_text("{")
    ddpm("train", "--resume", trained, "--steps", 9).refused(4)


def test_the_example_that_pipes_one_command_into_the_other_works(command: list[str], photos: Path, cwd: Path) -> None:
    ddpm = shlex.join(command)
    train = f"{ddpm} train --dataset {shlex.quote(str(photos))} --preset tiny --batch-size 8 --steps 2 --device cpu -q"
    line = f'run=$({train}) && {ddpm} sample --model "$run" -n 2 --steps 1 --device cpu -o grid.png'
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "grid.png\n"
    assert (cwd / "grid.png").is_file()


def test_a_run_that_somebody_else_trains_is_refused(ddpm: Any, quick: tuple[str, ...], cwd: Path) -> None:
    from ddpm_cli.files import held

    ddpm(*quick, "--steps", 2, "-o", "run").done()
    with held(cwd / "run"):
        ddpm("train", "--resume", "run", "--steps", 4).refused(6, "another process is at work in")
    ddpm("train", "--resume", "run", "--steps", 4).done()  # and nothing is left behind


def test_no_run_is_called_latest(ddpm: Any, quick: tuple[str, ...]) -> None:
    ddpm(*quick, "--steps", 2, "--name", "latest").refused(2, "stands for the newest run")


def test_a_dry_run_of_a_run_tells_what_is_left_of_it(ddpm: Any, trained: Path) -> None:
    said = ddpm("train", "--resume", trained, "--steps", 10, "--dry-run", "--json", "--device", "cpu").done()
    assert json.loads(said.out)["steps"] == 7
    ddpm("train", "--resume", trained, "--steps", 1, "--dry-run", "--device", "cpu").refused(2, "already at step 3")


def test_a_batch_larger_than_the_set_is_told_of(ddpm: Any, quick: tuple[str, ...], tmp_path: Path) -> None:
    done = ddpm(*quick, "--steps", 1, "--batch-size", 64, "-o", tmp_path / "run").done()
    assert "A batch of 64 is more than the 24 images" in done.err


def test_images_that_were_moved_are_asked_for(ddpm: Any, quick: tuple[str, ...], photos: Path, tmp_path: Path) -> None:
    place = shutil.copytree(photos, tmp_path / "here")
    ddpm(*quick, "--dataset", place, "--steps", 1, "-o", tmp_path / "run").done()
    place.rename(tmp_path / "elsewhere")
    ddpm("train", "--resume", tmp_path / "run", "--steps", 2).refused(3, "there is no folder", "config.json")


# --- folders that hold something else ---


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.usefixtures("quick")
@pytest.mark.skipif(os.name == "nt", reason="symbolic links need a privilege there")
@pytest.mark.parametrize("name", paths.OF_RUN)
def test_a_run_with_a_link_in_it_is_not_resumed(ddpm: Any, trained: Path, tmp_path: Path, name: str) -> None:
    """Whoever made the folder could choose what is appended to, overwritten and deleted elsewhere."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    if (trained / name).exists():
        (trained / name).rename(elsewhere / name)
    elif name in (paths.SAMPLES, paths.EARLIER):
        (elsewhere / name).mkdir()
        (elsewhere / name / "step-0000009.safetensors").write_bytes(b"mine")
        (elsewhere / name / ".0123456789abcdef.tmp").write_bytes(b"mine")
    (trained / name).symlink_to(elsewhere / name)
    before = contents(elsewhere)
    result = ddpm("train", "--resume", trained, "--steps", 5)
    result.refused(4, str(trained / name), "link")
    assert contents(elsewhere) == before


@pytest.mark.usefixtures("quick")
@pytest.mark.skipif(os.name == "nt", reason="symbolic links need a privilege there")
@pytest.mark.parametrize("name", ["samples/step-0000005.png", "checkpoints/step-0000009.safetensors"])
def test_nor_is_one_with_a_link_deeper_in_it(ddpm: Any, trained: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "mine").write_bytes(b"mine")
    (trained / name).parent.mkdir(exist_ok=True)
    (trained / name).symlink_to(tmp_path / "mine")
    ddpm("train", "--resume", trained, "--steps", 5).refused(4, str(trained / name), "link")
    assert (tmp_path / "mine").read_bytes() == b"mine"


@pytest.mark.usefixtures("quick")
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes as files")
def test_a_pipe_in_a_run_folder_is_not_waited_for(ddpm: Any, trained: Path) -> None:
    (trained / "train.log").unlink()
    os.mkfifo(trained / "train.log")
    ddpm("train", "--resume", trained, "--steps", 5).refused(4, str(trained / "train.log"))


@pytest.mark.usefixtures("quick")
def test_a_second_name_of_the_log_stays_as_it_is(ddpm: Any, trained: Path, tmp_path: Path) -> None:
    """A hard link is no link that can be seen; what is appended to goes into a file of the run's own."""
    os.link(trained / "train.log", tmp_path / "mine")
    before = (tmp_path / "mine").read_bytes()
    ddpm("train", "--resume", trained, "--steps", 5).done()
    assert (tmp_path / "mine").read_bytes() == before
    assert (trained / "train.log").read_bytes().startswith(before)
    assert len((trained / "train.log").read_bytes()) > len(before)


@pytest.mark.usefixtures("quick")
@pytest.mark.skipif(os.name == "nt", reason="symbolic links need a privilege there")
def test_a_run_folder_behind_a_link_is_resumed(ddpm: Any, trained: Path, cwd: Path) -> None:
    """For example one that was moved to another disk."""
    (cwd / "moved").symlink_to(trained)
    assert ddpm("train", "--resume", cwd / "moved", "--steps", 5, "--json").done().json["steps"] == 5


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("happens", ["moved", "deleted", "emptied", "replaced"])
def test_a_run_that_goes_while_it_is_prepared_is_not_begun_again(
    ddpm: Any, trained: Path, monkeypatch: pytest.MonkeyPatch, happens: str
) -> None:
    from ddpm_cli.runs import Run

    prepare = Run.prepare

    def and_then(run: Run) -> None:
        prepare(run)
        if happens == "deleted":
            shutil.rmtree(trained)
        elif happens == "emptied":
            for path in trained.iterdir():
                path.unlink() if path.is_file() else shutil.rmtree(path)
        else:
            trained.rename(trained.with_name("there"))
            if happens == "replaced":
                trained.mkdir()
                (trained / "config.json").write_bytes((trained.with_name("there") / "config.json").read_bytes())

    monkeypatch.setattr(Run, "prepare", and_then)
    before = contents(trained)
    result = ddpm("train", "--resume", trained, "--steps", 5)
    assert result.code in (4, 6), result.err
    result.refused(result.code, str(trained))
    if happens in ("moved", "deleted"):
        assert not trained.exists()
    else:
        assert [path.name for path in trained.iterdir()] == (["config.json"] if happens == "replaced" else [])
    if happens in ("moved", "replaced"):
        there = trained.with_name("there")
        assert contents(there) == {key.replace(str(trained), str(there)): value for key, value in before.items()}


@pytest.mark.usefixtures("quick")
def test_a_run_is_held_while_it_is_prepared(ddpm: Any, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ddpm_cli import library
    from ddpm_cli.errors import ResourceError
    from ddpm_cli.runs import Run

    prepare, refused = Run.prepare, []

    def and_then(run: Run) -> None:
        prepare(run)
        try:
            library.remove(trained)
        except ResourceError as error:
            refused.append(error.message)

    monkeypatch.setattr(Run, "prepare", and_then)
    ddpm("train", "--resume", trained, "--steps", 5).done()
    assert len(refused) == 1
    assert "another process" in refused[0]
    ddpm("train", "--resume", trained, "--steps", 6, "--dry-run").refused(4, str(trained))  # which holds nothing
    assert len(refused) == 1
    assert not trained.exists()


@pytest.mark.parametrize("name", paths.OF_RUN)
def test_a_new_run_is_not_begun_where_it_would_replace_something(
    ddpm: Any, quick: tuple[str, ...], cwd: Path, name: str
) -> None:
    (cwd / "mine").mkdir()
    if name in (paths.SAMPLES, paths.EARLIER):
        (cwd / "mine" / name).mkdir()
        (cwd / "mine" / name / "step-0000001.safetensors").write_bytes(b"mine")
    else:
        (cwd / "mine" / name).write_bytes(b"mine")
    before = contents(cwd)
    ddpm(*quick, "--steps", 1, "--save-steps", 1, "--keep", 1, "-o", "mine").refused(2, str(cwd / "mine"))
    assert contents(cwd) == before


def test_a_new_run_may_lie_next_to_other_things(ddpm: Any, quick: tuple[str, ...], cwd: Path) -> None:
    (cwd / "mine").mkdir()
    (cwd / "mine" / "notes.txt").write_bytes(b"mine")
    ddpm(*quick, "--steps", 1, "-o", "mine").done()
    assert (cwd / "mine" / "notes.txt").read_bytes() == b"mine"


def test_a_training_that_ends_before_its_first_file_can_be_begun_again(
    ddpm: Any, quick: tuple[str, ...], cwd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was logged before, for example while compiling, is in the log of the run all the same."""
    from ddpm_cli import machine

    monkeypatch.setattr(machine, "compilers", lambda _: [])
    with monkeypatch.context() as patch:
        patch.setattr("ddpm_cli.runs.saves.write_config", lambda *_: 1 / 0)
        assert ddpm(*quick, "--steps", 1, "--compile", "on", "-o", "run").code == 1
    assert list((cwd / "run").iterdir()) == []
    ddpm(*quick, "--steps", 1, "--compile", "on", "-o", "run").done()
    assert "no C++ compiler" in (cwd / "run" / "train.log").read_text()


# --- models that are still noise ---


def grey_photos(folder: Path, images: Sequence[np.ndarray]) -> str:
    from PIL import Image

    folder.mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image.astype(np.uint8)).save(folder / f"{number}.png")
    return str(folder)


def test_a_run_of_a_few_steps_is_announced_as_noise_and_is_not_the_default(ddpm: Any, photos: Path, cwd: Path) -> None:
    options = ("--preset", "tiny", "--batch-size", 8, "--device", "cpu", "--precision", "float32", "--seed", 0)
    result = ddpm("train", "--dataset", photos, *options, "--steps", 12, "--name", "twelve", "--json").done()
    assert "12 steps are too few" in result.err
    assert "Use a larger --steps" in result.err
    assert result.json["samples"]["passed"] is False
    assert result.json["samples"]["step"] == 12
    assert "brightness, contrast and roughness" in result.err
    assert "--resume" in result.err
    assert "Sample from it" not in result.err
    sampled = ddpm("sample", "-n", 1, "-o", cwd / "one.png").done()
    assert "model mnist (shipped, " in sampled.err
    assert "passed over run twelve" in sampled.err
    named = ddpm("sample", "--model", "twelve", "-n", 1, "-o", cwd / "one.png").done()
    assert "12 steps, " in named.err
    assert "Train the run longer: ddpm train --resume" in named.err


def test_the_default_run_is_named_with_its_steps_and_age_and_the_shipped_one_with_it(
    ddpm: Any, trained: Path, cwd: Path
) -> None:
    assert trained
    result = ddpm("sample", "-n", 1, "-o", cwd / "one.png").done()
    assert re.search(
        r"model trained \(run, [0-9a-f]{12}, 3 steps, [0-9].* old\); the shipped one: --model mnist", result.err
    )
    assert "the shipped one" not in ddpm("sample", "--model", "trained", "-n", 1, "-o", cwd / "one.png").done().err


def test_flat_images_are_no_fault_of_the_model(ddpm: Any, cwd: Path) -> None:
    """Of white images, and of images that are grey each in its own way, flat samples are right."""
    white = grey_photos(cwd / "white", [np.full((8, 8), 255)] * 6)
    options = ("--preset", "tiny", "--batch-size", 8, "--device", "cpu", "--precision", "float32", "--seed", 0)
    result = ddpm("train", "--dataset", white, *options, "--steps", 150, "--lr", 0.01, "--name", "white").done()
    assert "every training image is of one value" in result.err
    assert "too few" not in result.err
    assert "no samples" not in result.err
    ddpm("sample", "--model", "white", "-n", 2, "-o", cwd / "one.png").done()


# --- schedules with betas of one's own ---


def test_a_course_with_300_betas_from_1e_4_to_0_02_is_trained_as_such(ddpm: Any, quick: tuple[str, ...]) -> None:
    from ddpm_cli.checkpoint import read_info
    from ddpm_cli.schedule import Schedule

    linear = ("--schedule", "linear", "--timesteps", 300, "--beta-start", 1e-4, "--beta-end", 0.02)
    result = ddpm(*quick, *linear, "--steps", 2, "-o", "course").done()
    betas = Schedule(read_info(Path("course") / "model.safetensors").schedule).betas[1:]
    np.testing.assert_allclose(betas, [1e-4 + (0.02 - 1e-4) * k / 299 for k in range(300)], rtol=1e-12)
    assert "scaled by" not in result.err
    assert "--zero-terminal-snr" in result.err  # abar_T is 0.05
    ddpm("train", "--resume", "course", "--steps", 3).done()
    ddpm("sample", "--model", "course/", "-n", 1, "--sampler", "ddpm", "--steps", 3, "-o", "one.png").done()


@pytest.mark.parametrize("form", ["lines", "csv", "json"])
def test_betas_from_a_file_are_the_schedule_of_the_model(ddpm: Any, quick: tuple[str, ...], form: str) -> None:
    from ddpm_cli.checkpoint import read_info

    betas = [0.01, 0.2, 0.05, 0.4, 0.9]
    text = {
        "lines": "\n".join(map(str, betas)),
        "csv": "beta\n" + "\n".join(map(str, betas)),
        "json": json.dumps(betas),
    }
    Path("betas").write_text(text[form], encoding="utf-8")
    ddpm(*quick, "--betas", "betas", "--steps", 2, "-o", "own").done()
    schedule = read_info(Path("own") / "model.safetensors").schedule
    assert (schedule.kind, schedule.timesteps, list(schedule.betas)) == ("custom", 5, betas)
    assert ddpm(*quick, "--betas", "betas", "--steps", 2, "--dry-run", "--json").done().json["steps"] == 2
    ddpm("train", "--resume", "own", "--steps", 3).done()
    ddpm("sample", "--model", "own/", "-n", 1, "-o", "one.png").done()


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--betas", "betas", "--timesteps", 5], 2, ["--timesteps", "--betas"]),
        (["--betas", "betas", "--schedule", "linear"], 2, ["--schedule", "--betas"]),
        (["--betas", "betas", "--beta-end", 0.1], 2, ["--beta-end", "--betas"]),
        (["--betas", "nowhere"], 3, ["nowhere"]),
        (["--betas", "empty"], 3, ["empty", "beta"]),
        (["--betas", "wide"], 2, ["1.5"]),
        (["--betas", "many"], 2, ["100,001", "100,000"]),
        (["--schedule", "custom"], 2, ["custom"]),
        (["--beta-start", 0.1], 2, ["--beta-start", "cosine"]),
        (["--ema", 0.9999, "--steps", 20_000], 2, ["--ema", "6,931 steps", "--ema 0.35"]),
        (["--ema", 0.51], 2, ["--ema", "0.5"]),
        (["--data-dir", "."], 2, ["--data-dir", "known data sets"]),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_options_of_the_recipe_that_would_do_nothing_or_contradict(
    ddpm: Any, quick: tuple[str, ...], options: list[Any], code: int, words: list[str]
) -> None:
    Path("betas").write_text("0.1\n0.2\n0.3\n", encoding="utf-8")
    Path("empty").write_text("", encoding="utf-8")
    Path("wide").write_text("0.1\n1.5\n", encoding="utf-8")
    Path("many").write_text("0.1\n" * 100_001, encoding="utf-8")
    ddpm(*quick, *options).refused(code, *words)


def test_options_for_folders_are_refused_with_a_known_set(ddpm: Any) -> None:
    ddpm("train", "--dataset", "mnist", "--on-bad-image", "skip").refused(2, "--on-bad-image", "folders")


def test_betas_that_are_scaled_are_printed(ddpm: Any, quick: tuple[str, ...]) -> None:
    options = (*quick, "--steps", 2, "--schedule", "linear")
    said = ddpm(*options, "--timesteps", 300, "--dry-run").done().err
    assert "betas are 0.000333 to 0.0667" in said  # 1e-4 and 0.02 times 1000/300
    assert "scaled by 1000/300" in said
    assert "scaled by" not in ddpm(*options, "--dry-run").done().err
    assert (
        "betas are 0.0001 to 0.0667" in ddpm(*options, "--timesteps", 300, "--beta-start", 1e-4, "--dry-run").done().err
    )


def test_a_limit_above_the_number_of_images_is_noted(ddpm: Any, quick: tuple[str, ...]) -> None:
    assert (
        "--limit 25 leaves nothing out: there are 24 images"
        in ddpm(*quick, "--limit", 25, "--dry-run", "--steps", 1).done().err
    )
    assert "leaves nothing out" not in ddpm(*quick, "--limit", 24, "--dry-run", "--steps", 1).done().err


@pytest.mark.parametrize("command", ["train", "noise"])
def test_help_does_not_offer_a_custom_schedule_where_it_is_refused(ddpm: Any, command: str) -> None:
    assert "custom" not in ddpm(command, "--help").done().out


# --- names that are not valid UTF-8 ---


def test_a_run_whose_path_is_no_utf8_can_be_used_like_any_other(
    ddpm: Any, quick: tuple[str, ...], cwd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DDPM_HOME too. And what its log has of such a path can be read as UTF-8."""
    from ddpm_cli.runs import Run

    home, folder = cwd / "home\udcff", cwd / "run\udcfe"
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("no such names here")
    monkeypatch.setenv("DDPM_HOME", str(home))
    monkeypatch.setattr(Run, "_draw_loss", lambda run: run._log(f"no room in {run.folder}"))
    ddpm(*quick, "--steps", 2, "--save-steps", 1, "--keep", 1, "-o", folder, "--json").done()
    ddpm(*quick, "--steps", 2, "--name", "named", "--json").done()
    for name, steps in ((folder, 3), ("named", 4)):
        assert ddpm("train", "--resume", name, "--steps", steps, "--json").done().json["steps"] == steps
        ddpm("sample", "--model", name, "-n", 1, "--steps", 2, "--device", "cpu").done()
        ddpm("eval", name, "-n", 3, "--metrics", "ssim", "--device", "cpu").done()
        assert ddpm("models", "show", name, "--json").done().json["step"] == steps
    assert r"run\xfe" in (folder / "train.log").read_text(encoding="utf-8")
    ddpm("sample", "--model", folder / "checkpoints" / "step-0000003.safetensors", "-n", 1, "--steps", 2).done()
    assert "named" in ddpm("models", "list").done().out
    ddpm("models", "rm", "named", "--yes", "--json").done()
    assert list((home / "runs").iterdir()) == []
