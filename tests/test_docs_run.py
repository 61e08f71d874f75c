"""Every command line in the pages works: each is run, shortened, in an empty folder with a data directory of its own.

What a line presupposes is made for it, and nothing else. What makes it cheap stands in the tables below. That the line
parses as it is written is a test in ``test_docs.py``.
"""

import contextlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddpm_cli import config, runs
from ddpm_cli.cli import main
from ddpm_cli.data import KNOWN
from ddpm_cli.data.known import KnownSet
from pages import PAGES, ROOT, VARIABLES, code, commands_in, read, script

# --- what is changed before a line is run ---------------------------------------------------------------------------

# Costs are cut to these: an option gets its value here whether it stands in the line or not.
SHORT = {
    "train": {
        "--steps": "2",
        "--preset": "tiny",
        "--limit": "16",
        "--batch-size": "4",
        "--device": "cpu",
        "--compile": "off",  # which takes minutes on an old processor; tests/test_machine.py has it
    },
    "sample": {"--number": "2", "--steps": "2", "--device": "cpu"},
    "eval": {"--number": "4", "--steps": "2", "--device": "cpu"},
    "noise --view density": {"--timesteps": "20"},
    "edit": {"--steps": "3", "--device": "cpu"},
}
# Of a run that goes on, only the budget can change; the one that is made below has done two steps.
SHORT_RESUMED = {"--steps": "3", "--device": "cpu"}
# Images from files are not drawn, so nothing can be said of how.
SHORT_FILES = {"--number": "4"}
# A picture says all that costs anything; a sweep chooses the steps itself.
SHORT_LIKE = {"--device": "cpu"}
SHORT_PER_CLASS = {"--per-class": "1", "--steps": "2", "--device": "cpu"}
SHORT_SWEEP = {"--number": "2", "--sampler": "ddpm", "--device": "cpu"}
ALIASES = {"-n": "--number", "--epochs": "--steps", "--minutes": "--steps"}
# What is replaced must be right itself where the parser does not look at it: a typo must not vanish with it.
CHECKED = {"--preset": config.PRESETS}

# What would be asked for on a terminal is said beforehand.
ASKS = {"models rm", "data rm"}

# Sets that would come over the network. Their lines get --offline, must get as far as missing the set, and exit with 6.
FETCHED = set(KNOWN) - {"mnist"}
# Lines that a page shows because they fail, by a part of them: the exit code, which the page has to tell.
FAILS = {"train --dataset fashion-mnist --offline": 6, "data path fashion-mnist": 3}
# What finds nothing wrong on one machine may find too little memory on another, and then exits with this.
MAY_FAIL = {"doctor": 6}
# Lines that are not run, by a part of them, and why not.
LEFT_OUT = {
    "-completion": "it would write into the settings of the shell",
    "doctor --verify-resume": "it trains for most of a minute; tests/test_rehearsal.py has it shorter",
    "doctor --json": "it looks at everything once more, for seconds, and says the same",
}

# --- what lines presuppose ------------------------------------------------------------------------------------------

BETAS = (0.001, 0.01, 0.1, 0.5, 0.9)


@dataclass(frozen=True)
class Place:
    """The folder in which a line is run, its data directory, and a finished run of two steps to copy."""

    here: Path
    home: Path
    run: Path


def photo(number: int, side: int = 12) -> Image.Image:
    """A colour image, a little different for each number."""
    y, x = np.mgrid[:side, :side] * 240 // side
    return Image.fromarray(np.stack([x, y, 0 * x + 9 * number], -1).astype(np.uint8))


def make_photos(place: Place) -> None:
    for number in range(16):
        folder = place.here / "photos" / ("cats" if number % 2 else "dogs")
        folder.mkdir(parents=True, exist_ok=True)
        photo(number).save(folder / f"{number:02}.png")


def make_archive(place: Place) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 28, 28), np.uint8)
    np.savez(place.here / "samples.npz", images=images, labels=np.arange(4))


def a_model(name: str, data: str, learned_variance: bool = False) -> Callable[[Place], object]:
    """Makes a saved model of random weights, such as a line before on the page has trained."""
    return lambda place: make_model(place.home / "models" / f"{name}.safetensors", KNOWN[data], learned_variance)


def make_model(path: Path, known: KnownSet, learned_variance: bool) -> None:
    import torch

    from ddpm_cli import checkpoint, networks

    network = config.network_for("tiny", known.shape, len(known.classes), learned_variance)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weights = networks.build(network).state_dict()
    info = checkpoint.Info(
        network=network,
        schedule=config.ScheduleConfig(),
        target="v",
        classes=known.classes,
        data={"name": known.name, "images": 2, "mean": 0.0, "std": 1.0},
        training={"step": 1, "steps": 1},
        parameters=networks.count_parameters(network),
        flops=networks.count_flops(network),
    )
    path.parent.mkdir(parents=True)
    checkpoint.save(path, {f"raw.{name}": tensor for name, tensor in weights.items()}, info)


def a_run(name: str) -> Callable[[Place], object]:
    """Makes a finished run of that name, or at that place."""
    return lambda place: shutil.copytree(place.run, place.here / name if "/" in name else place.home / "runs" / name)


def a_text(name: str, text: str) -> Callable[[Place], object]:
    return lambda place: (place.here / name).write_text(text, encoding="utf-8")


def a_picture(name: str) -> Callable[[Place], object]:
    """Samples that say how they were drawn."""
    return lambda place: run(["sample", "-n", "2", "--steps", "2", "--device", "cpu", "-o", str(place.here / name)])


# A part of a line, and what is made for it. A line gets what it names and nothing else.
NEEDS: dict[str, Callable[[Place], object]] = {
    "./photos": make_photos,
    "photo.jpg": lambda place: photo(7, 64).save(place.here / "photo.jpg"),
    "--from-file betas.csv": a_text("betas.csv", "\n".join(["beta", *map(str, BETAS)])),
    "--betas betas.csv": a_text("betas.csv", "\n".join(["beta", *map(str, BETAS)])),
    "--from-file betas.json": a_text("betas.json", json.dumps(BETAS)),
    "--config experiment.toml": a_text("experiment.toml", '[train]\npreset = "tiny"\n'),
    "eval samples.npz": make_archive,
    "digit.png": lambda place: photo(1, 28).convert("L").save(place.here / "digit.png"),
    "mask.png": lambda place: Image.linear_gradient("L").save(place.here / "mask.png"),
    "sketch.png": lambda place: photo(2, 28).save(place.here / "sketch.png"),
    "one.png": lambda place: photo(3, 28).save(place.here / "one.png"),
    "two.png": lambda place: photo(4, 28).save(place.here / "two.png"),
    "--model fashion": a_model("fashion", "fashion-mnist"),
    "--resume latest": a_run("newest"),
    "--model learned": a_model("learned", "mnist", learned_variance=True),
    "--like grid.png": a_picture("grid.png"),
    "--like four.png": a_picture("four.png"),
    "rm OLD-RUN": a_run("OLD-RUN"),
    "OLDER-RUN": a_run("OLDER-RUN"),
    "--resume mnist-small-20260101-120000": a_run("mnist-small-20260101-120000"),
    "--resume ./my-run": a_run("./my-run"),
    f"--model {VARIABLES['$run']}": a_run(VARIABLES["$run"]),
}


def stdin_for(words: tuple[str, ...]) -> bytes:
    """What stands before the pipe, where a line reads stdin."""
    stream = io.BytesIO()
    if "--from-file" in words:
        return "\n".join(map(str, BETAS)).encode()
    if words[0] == "eval":
        np.savez(stream, images=np.zeros((4, 28, 28), np.uint8))
    elif words[0] == "edit":
        np.savez(stream, images=np.zeros((2, 28, 28), np.uint8))
    elif words[0] == "noise":
        photo(3).save(stream, "png")
    return stream.getvalue()


# --- running --------------------------------------------------------------------------------------------------------


def is_usage(words: tuple[str, ...]) -> bool:
    """Whether a line shows how to write a command: it holds a placeholder such as RUN or FOLDER."""
    return any(re.fullmatch(r"\[?[A-Z][A-Z|.\[\]]*", word) or word == "..." for word in words)


def all_lines() -> dict[tuple[str, ...], list[str]]:
    """The command lines of all pages, each once, and the pages they are in."""
    lines: dict[tuple[str, ...], list[str]] = {}
    for name, page in PAGES.items():
        for words in (tuple(words) for line in code(read(page)) for words in commands_in(line)):
            if not is_usage(words) and not any(part in " ".join(words) for part in LEFT_OUT):
                lines.setdefault(words, []).append(name)
    return lines


LINES = all_lines()
# The line of docs/gallery.md that makes a picture, and the name of the picture.
PICTURES = {
    tuple(words): picture.name
    for picture in script("make_gallery").pictures(read(PAGES["docs/gallery.md"]))
    for line in picture.commands.splitlines()[-1:]
    for words in commands_in(line)
}


def shortened(words: tuple[str, ...]) -> list[str]:
    """A line with its costs cut.

    Raises:
        ValueError: what was cut was wrong.
    """
    line = " ".join(words) + " "
    cut = next((dict(options) for command, options in SHORT.items() if line.startswith(f"{command} ")), {})
    cut = SHORT_RESUMED if "--resume" in words else cut
    if words[0] == "eval" and words[1:] and (words[1] == "-" or words[1].endswith(".npz")):
        cut = SHORT_FILES
    cut = SHORT_LIKE if "--like" in words else SHORT_SWEEP if "--sweep" in words else cut
    cut = SHORT_PER_CLASS if "--per-class" in words else cut
    kept, rest = [], list(words)
    while rest:
        word = rest.pop(0)
        option = ALIASES.get(word, word)
        if option not in cut:
            kept.append(word)
            continue
        value = rest.pop(0)
        if value not in CHECKED.get(option, (value,)):
            raise ValueError(f"{word} {value}: there is none")
    cut = {} if {"--help", "-h"} & set(words) else cut
    return [*kept, *(part for option in cut.items() for part in option)]


def run(words: list[str], stdin: bytes = b"") -> tuple[int, str, str]:
    """Run ``ddpm`` in this process: its exit code, stdout and stderr."""
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin), "utf-8"))
        ended = main(words)
    out.flush()
    return ended, out.buffer.getvalue().decode("utf-8", "replace"), err.getvalue()


def expected(words: tuple[str, ...]) -> set[int]:
    """The exit codes that a line may have."""
    for part, number in FAILS.items():
        if part in " ".join(words):
            return {number}
    if needs_the_network(words):
        return {6}
    return {0, MAY_FAIL.get(words[0], 0)} if words else {0}


def needs_the_network(words: tuple[str, ...]) -> bool:
    asks = words[0:1] in (("train",), ("noise",), ("eval",)) or words[0:2] == ("data", "fetch")
    return asks and bool(FETCHED & set(words))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What all lines share: a finished run, and a cache, in which MNIST is unpacked once."""
    root = tmp_path_factory.mktemp("shared")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
        patch.setenv("DDPM_HOME", str(root))
        short = [part for option in SHORT["train"].items() for part in option]
        ended, _, err = run(["train", *short, "--seed", "5", "--name", "done", "--quiet"])
        assert ended == 0, err
        assert (root / "runs" / "done" / "loss.png").exists()
        yield root


@pytest.fixture
def place(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """An empty folder and an empty data directory, and a machine without sets from elsewhere or a network."""
    place = Place(tmp_path / "here", tmp_path / "home", shared / "runs" / "done")
    place.here.mkdir()
    place.home.mkdir()
    (place.home / "cache").symlink_to(shared / "cache")
    monkeypatch.chdir(place.here)
    monkeypatch.setenv("DDPM_HOME", str(place.home))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)  # quicker, where all is tiny
    # The pictures of a training; the shared run has drawn them, once for all.
    monkeypatch.setattr(runs.Run, "_draw_samples", lambda *_: None)
    monkeypatch.setattr(runs.Run, "_draw_loss", lambda run: (run.folder / "loss.png").touch())
    for name in FETCHED:
        monkeypatch.setitem(KNOWN, name, replace(KNOWN[name], system=None))
    return place


def problem(words: tuple[str, ...], place: Place) -> str:
    """What is wrong with a line: run it, and look at its exit code."""
    line = " ".join(words)
    for part, make in NEEDS.items():
        if re.search(rf"(^|\s){re.escape(part)}(?![\w-])", line):
            make(place)
    try:
        arguments = shortened(words)
    except ValueError as error:
        return str(error)
    if needs_the_network(words) and "--offline" not in words:
        arguments.append("--offline")
    if " ".join(words[:2]) in ASKS and "--yes" not in words:
        arguments.append("--yes")
    ended, _, said = run(arguments, stdin_for(words) if "-" in words else b"")
    return "" if ended in expected(words) and "Traceback" not in said else f"exit code {ended}\n{said}"


@pytest.mark.parametrize("words", LINES, ids=" ".join)
def test_a_command_line_of_the_pages_works(words: tuple[str, ...], place: Place) -> None:
    found = problem(words, place)
    assert not found, f"{', '.join(LINES[words])}: {found}"
    wanted = PICTURES.get(words)
    assert not wanted or list(place.here.rglob(wanted)), f"docs/gallery.md: {wanted} was not written"


@pytest.mark.parametrize(
    "line",
    [
        "ddpm train --preset smal --minutes 3",
        "ddpm train --dataset ./nowhere --minutes 3",
        "ddpm train --dataset minst",
        "ddpm train --recipe reprot --steps 3",
        "ddpm train --resume latest --lr 0.001",
        "ddpm train --resume other",
        "ddpm sample --model nobody -n 4",
        "ddpm sample --label eleven",
        "ddpm sample -o grid.jpg",
        "ddpm schedule show --from-file gammas.csv",
        "ddpm schedule plot -o linear.gif",
        "ddpm eval --metrics fidelity",
        "ddpm noise --at 2000",
    ],
)
def test_a_line_that_does_not_work_is_noticed(line: str, place: Place) -> None:
    (words,) = commands_in(line)
    assert problem(tuple(words), place)


def test_a_failure_that_is_shown_is_told() -> None:
    for part, number in FAILS.items():
        pages = {name for words, names in LINES.items() if part in " ".join(words) for name in names}
        assert pages, f"no page shows {part}"
        assert all(f"exit code {number}" in read(PAGES[name]) for name in pages)


def test_the_tables_are_needed() -> None:
    """What no line needs any more is taken out of the tables."""
    text = "\n".join(" ".join(words) for words in LINES)
    unused = [part for part in NEEDS if part not in text]
    assert not unused


# --- the script -----------------------------------------------------------------------------------------------------

PIPELINE = ROOT / "docs" / "pipeline.sh"
STUB = """#!/bin/sh
echo "$*" >> calls
case "$*" in
  *--lr*) exit {again} ;;
  train*) exit {first} ;;
  eval*) echo '{{"metrics": {{"ssim": {{"mean": 0.25}}}}}}' ;;
esac
"""


def pipeline(place: Path, home: Path, commands: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the script as a user does, with ``ddpm`` from a folder."""
    path = os.pathsep.join([str(commands), str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    environment = {**os.environ, "PATH": path, "DDPM_HOME": str(home), "DDPM_DEVICE": "cpu", **settings}
    return subprocess.run(
        ["sh", str(PIPELINE)], cwd=place, env=environment, capture_output=True, text=True, timeout=100, check=False
    )


@pytest.fixture
def commands(tmp_path: Path) -> Path:
    """A folder with a command ``ddpm`` that is this very package."""
    folder = tmp_path / "commands"
    folder.mkdir()
    (folder / "ddpm").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m ddpm_cli "$@"\n', encoding="utf-8")
    (folder / "ddpm").chmod(0o755)
    return folder


def test_the_script_is_shown_in_the_guide() -> None:
    assert f"```sh\n{read(PIPELINE)}```" in read(PAGES["docs/guide.md"])


def test_the_script_trains_draws_and_judges(place: Place, commands: Path) -> None:
    make_photos(place)
    done = pipeline(place.here, place.home, commands, DATA="./photos", PRESET="tiny", STEPS="2")
    assert done.returncode == 0, done.stderr
    scores = json.loads((place.here / "scores.json").read_text(encoding="utf-8"))
    assert scores["protocol"]["number"] == 64
    assert float(done.stdout) == scores["metrics"]["ssim"]["mean"]
    (trained,) = (place.home / "runs").iterdir()
    steps = [json.loads(line)["step"] for line in (trained / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert max(steps) == 2


def test_the_script_stops_where_there_are_no_images(place: Place, commands: Path) -> None:
    done = pipeline(place.here, place.home, commands, DATA="./nowhere", PRESET="tiny", STEPS="2")
    assert (done.returncode, done.stdout) == (3, "")
    assert "look at the images in ./nowhere" in done.stderr


@pytest.mark.parametrize(
    ("first", "again", "ended", "calls", "said"),
    [
        (0, 0, 0, ["train", "sample", "eval"], ""),
        (3, 0, 3, ["train"], "look at the images in mnist"),
        (5, 0, 0, ["train", "train", "sample", "eval"], ""),
        (5, 5, 5, ["train", "train"], ""),
        (6, 0, 6, ["train"], "ask ddpm doctor"),
        (143, 0, 143, ["train"], ""),
    ],
)
def test_the_script_does_what_the_exit_code_asks_for(
    first: int, again: int, ended: int, calls: list[str], said: str, tmp_path: Path
) -> None:
    (tmp_path / "ddpm").write_text(STUB.format(first=first, again=again), encoding="utf-8")
    (tmp_path / "ddpm").chmod(0o755)
    done = pipeline(tmp_path, tmp_path, tmp_path)
    assert done.returncode == ended
    assert said in done.stderr
    made = (tmp_path / "calls").read_text(encoding="utf-8").splitlines()
    assert [line.split()[0] for line in made] == calls
    assert done.stdout == ("0.25\n" if ended == 0 else "")
