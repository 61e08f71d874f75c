"""A disk that is full, forbidden or gone: code 6, one sentence, and what was saved before is as good as ever.

Whatever a training could not write, the last state and model are byte for byte those of before, or newer and whole; no
temporary file stays; and with room again the run goes on to the bytes of one that never failed.
"""

import contextlib
import errno
import hashlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ddpm_cli import checkpoint, runs
from ddpm_cli.cli import main
from ddpm_cli.files import TEMPORARY
from ddpm_cli.runs import records

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
slow = pytest.mark.slow
WEIGHTS = ("state.safetensors", "model.safetensors")


def digest(run: Path) -> str:
    return hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest()


def held_by(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in run.glob("*.safetensors")}


def whole(run: Path) -> int:
    """The step of the state; state and model are sound, and nothing lies around half-written."""
    assert list(run.rglob(TEMPORARY)) == []
    checkpoint.load(run / "model.safetensors")
    runs.load_config(run)
    about, found = checkpoint.read_header(run / "state.safetensors")
    assert found
    assert len(checkpoint.read_tensors(run / "state.safetensors")) == len(found)
    return int(about["step"])


@pytest.fixture
def run(nursery: Any, quick: list[str], tmp_path: Path) -> Path:
    """A run of six steps, finished, that others can extend."""
    assert nursery(tmp_path / "first", *quick, "--steps", 6, "-o", tmp_path / "run").end().code == 0
    return tmp_path / "run"


@pytest.fixture
def goes_on(nursery: Any, run: Path, tmp_path: Path) -> Callable[[], None]:
    """That a run, once there is room again, ends as one that never failed."""

    def check() -> None:
        again = nursery(tmp_path / "again", "train", "--resume", run, "--steps", 14, "--quiet").end()
        assert again.code == 0, again.err
        assert whole(run) == 14
        steps = [line["step"] for line in records.read(run / "metrics.jsonl")]
        assert steps == sorted(set(steps))
        assert steps[-1] == 14
        assert b"\0" not in (run / "train.log").read_bytes()

    return check


def sizes(run: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in run.iterdir() if path.is_file()}


@pytest.mark.parametrize(
    "what",
    [
        "state.safetensors",
        *(
            pytest.param(each, marks=slow)
            for each in ("model.safetensors", "metrics.jsonl", "train.log", "config.json")
        ),
    ],
)
def test_a_disk_that_is_full_leaves_what_was_saved(
    nursery: Any, run: Path, tmp_path: Path, goes_on: Callable[[], None], what: str
) -> None:
    """A limit on the size of files stands for the disk: one file, and those that are larger, no longer fit."""
    room = sizes(run)[what] - 1 if what in WEIGHTS else sizes(run)[what] + 7
    before = held_by(run)
    words = ["train", "--resume", run, "--steps", 14, "--quiet"]
    nursery(tmp_path / "full", *words, limit=room).end().refused(6, "cannot write")
    assert whole(run) == 6
    assert {name: content for name, content in held_by(run).items() if name in WEIGHTS} == {
        name: before[name] for name in WEIGHTS
    }
    goes_on()


@slow
def test_a_model_that_no_longer_fits_beside_its_state_comes_when_there_is_room(
    nursery: Any, run: Path, tmp_path: Path, goes_on: Callable[[], None]
) -> None:
    """The state of a later step is on the disk, and its model is not: the state is the truth."""
    words = ["train", "--resume", run, "--steps", 14, "--quiet"]
    child = nursery(tmp_path / "a", *words, waits=["saving", 1, "model.safetensors"])
    child.here()
    child.kill(signal.SIGKILL)
    child.end()
    assert whole(run) == 14
    assert checkpoint.read_info(run / "model.safetensors").training["step"] == 6
    goes_on()
    assert checkpoint.read_info(run / "model.safetensors").training["step"] == 14


@slow
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS], ids=errno.errorcode.get)
@pytest.mark.parametrize("call", range(1, 8))
def test_whichever_flush_fails_the_last_save_stays(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int, call: int
) -> None:
    """A quota, say, or a network, that says no only when what was written is to be kept."""
    calls, right, before = [], os.fsync, held_by(run)

    def fsync(handle: int) -> None:
        calls.append(handle)
        if len(calls) == call:
            raise OSError(number, os.strerror(number))
        right(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(runs.Run, "_draw_samples", lambda *_: None)
    monkeypatch.setattr(runs.Run, "_draw_loss", lambda *_: None)
    code = main(["train", "--resume", str(run), "--steps", "9", "--quiet"])
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert len(calls) >= call
    assert code in (0, 6), err  # a folder that cannot be flushed is no failure: its names come in their own time
    step = whole(run)
    assert step in ((9,) if code == 0 else (6, 9))
    after = held_by(run)
    assert all(after[name] == before[name] for name in before) or step == 9


# --- pictures are no reason to lose a run ----------------------------------------------------------------------------


@slow
@pytest.mark.parametrize("name", ["samples", "loss.png"])
def test_a_picture_that_cannot_be_written_is_told_and_no_more(
    nursery: Any, run: Path, tmp_path: Path, name: str
) -> None:
    if name == "samples":
        (run / "samples").write_text("a file, not a folder")
    else:
        (run / "loss.png").mkdir()
    ended = nursery(tmp_path / "a", "train", "--resume", run, "--steps", 9, pictures=True).end()
    assert ended.code == 0, ended.err
    assert "cannot write" in ended.err
    assert str(run / name) in ended.err
    assert whole(run) == 9


# --- folders that move, vanish, or are forbidden ---------------------------------------------------------------------


def move(run: Path) -> Path:
    return run.rename(run.with_name("moved"))


def delete(run: Path) -> None:
    shutil.rmtree(run)


def into_a_file(run: Path) -> Path:
    moved = move(run)
    run.write_text("not a folder")
    return moved


def by_another(run: Path) -> Path:
    moved = move(run)
    shutil.copytree(moved, run)
    return moved


@pytest.mark.parametrize(
    "happens", [by_another, *(pytest.param(each, marks=slow) for each in (move, delete, into_a_file))]
)
def test_a_run_folder_that_is_taken_away_is_not_made_anew(
    nursery: Any, run: Path, tmp_path: Path, happens: Callable[[Path], Path | None]
) -> None:
    """Nor is what has taken its place written to; the run goes on wherever it was put."""
    waits = ["noting", 1, "metrics.jsonl"]
    child = nursery(tmp_path / "a", "train", "--resume", run, "--steps", 1_000_000, "--quiet", waits=waits)
    child.here()
    moved = happens(run)
    now = held_by(run) if run.is_dir() else run.read_text() if run.exists() else None
    child.go()
    child.end().refused(6, "cannot write")
    assert now == (held_by(run) if run.is_dir() else run.read_text() if run.exists() else None)
    if moved is not None:
        assert whole(moved) == 6
        again = nursery(tmp_path / "b", "train", "--resume", moved, "--steps", 9, "--quiet").end()
        assert again.code == 0, again.err


@contextlib.contextmanager
def mounted(place: Path, size: str) -> Iterator[None]:
    """A small file system of its own, where that is allowed."""
    place.mkdir()
    if os.name == "nt" or os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("nobody may mount here")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", place], check=False).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def fill(disk: Path) -> None:
    """Take all the room there is."""
    with (disk / "other").open("wb", buffering=0) as other, contextlib.suppress(OSError):
        while other.write(bytes(4096)):
            pass


@slow
def test_a_small_disk_fills_up_and_is_freed(nursery: Any, quick: list[str], tmp_path: Path) -> None:
    """A real file system this time: state and model fit beside each other, and then something else takes the rest."""
    disk = tmp_path / "disk"
    reference = nursery(tmp_path / "whole", *quick, "--steps", 40, "-o", tmp_path / "whole" / "run").end()
    assert reference.code == 0
    used = sum(sizes(tmp_path / "whole" / "run").values())
    with mounted(disk, str(4 * used)):
        run = disk / "run"
        child = nursery(
            tmp_path / "a",
            *quick,
            "--steps",
            40,
            "--save-steps",
            4,
            "-o",
            run,
            waits=["renaming", 3, "state.safetensors"],
        )
        child.here()
        fill(disk)
        child.go()
        child.end().refused(6, "cannot write", "the disk is full")
        assert whole(run) >= 8
        again = nursery(tmp_path / "b", "train", "--resume", run, "--quiet").end()
        again.refused(6, "cannot write", "the disk is full")
        assert whole(run) >= 8
        (disk / "other").unlink()
        again = nursery(tmp_path / "c", "train", "--resume", run, "--quiet").end()
        assert again.code == 0, again.err
        assert digest(run) == digest(tmp_path / "whole" / "run")


@slow
def test_a_disk_that_turns_read_only_while_training(nursery: Any, quick: list[str], tmp_path: Path) -> None:
    """As Linux does with one that begins to fail."""
    disk = tmp_path / "disk"
    with mounted(disk, "64m"):
        run = disk / "run"
        waits = ["noting", 6, "metrics.jsonl"]
        child = nursery(tmp_path / "a", *quick, "--steps", 60, "--save-steps", 4, "-o", run, waits=waits)
        child.here()
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        before = held_by(run)
        child.go()
        child.end().refused(6, "cannot write", "read-only")
        assert held_by(run) == before
        again = nursery(tmp_path / "b", "train", "--resume", run, "--quiet").end()
        again.refused(6, "cannot write", "read-only")
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        again = nursery(tmp_path / "b", "train", "--resume", run, "--quiet").end()
        assert again.code == 0, again.err
        assert whole(run) == 60


@slow
def test_a_state_that_nobody_may_replace(nursery: Any, run: Path, tmp_path: Path, goes_on: Callable[[], None]) -> None:
    """An immutable file stops even root."""
    state = run / "state.safetensors"
    if shutil.which("chattr") is None or subprocess.run(["chattr", "+i", state], check=False).returncode:
        pytest.skip("no immutable files here")
    try:
        before = held_by(run)
        words = ["train", "--resume", run, "--steps", 9, "--quiet"]
        nursery(tmp_path / "a", *words).end().refused(6, "cannot write", "no permission")
        assert {name: held_by(run)[name] for name in WEIGHTS} == {name: before[name] for name in WEIGHTS}
        assert whole(run) == 6
    finally:
        subprocess.run(["chattr", "-i", state], check=True)
    goes_on()


@slow
def test_a_data_directory_that_is_read_only(nursery: Any, quick: list[str], tmp_path: Path) -> None:
    """Training elsewhere works, with a note that the images are read anew each time; without -o it is 6 at once."""
    disk = tmp_path / "disk"
    with mounted(disk, "8m"):
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        home = {"DDPM_HOME": str(disk / "home")}
        loud = [word for word in quick if word != "--quiet"]
        ended = nursery(tmp_path / "a", *loud, "--steps", 2, "-o", tmp_path / "run", environment=home).end()
        assert ended.code == 0, ended.err
        assert "read-only" in ended.err
        assert whole(tmp_path / "run") == 2
        nursery(tmp_path / "b", *quick, "--steps", 2, environment=home).end().refused(6, "cannot write", "read-only")


@slow
@pytest.mark.parametrize("waits", [None, ["keeping", 1, ""]], ids=["before", "meanwhile"])
def test_a_cache_that_does_not_fit_is_no_reason_not_to_train(
    nursery: Any, quick: list[str], tmp_path: Path, waits: list[Any] | None
) -> None:
    """The store of the images is larger than the rest of the disk: told, and trained all the same."""
    disk = tmp_path / "disk"
    with mounted(disk, "1m"):
        loud = [word for word in quick if word != "--quiet"]
        words = [*loud, "--steps", 2, "-o", tmp_path / "run"]
        if waits is None:
            fill(disk)
        child = nursery(tmp_path / "a", *words, environment={"DDPM_HOME": str(disk)}, waits=waits)
        if waits is not None:
            child.here()
            fill(disk)
            child.go()
        ended = child.end()
        assert ended.code == 0, ended.err
        assert str(disk) in ended.err
        assert "disk" in ended.err.replace(str(tmp_path), "")
        assert list(disk.rglob(TEMPORARY)) == []
        assert whole(tmp_path / "run") == 2


# --- half a line ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "half",
    [
        b'{"step": 7, "lo',
        *(pytest.param(other, marks=slow) for other in (b"\0" * 300, b'{"step": 1000000}\n', b"\xff\xfe\n")),
    ],
    ids=len,
)
def test_whatever_ends_the_metrics_is_cut_where_the_run_goes_on(
    run: Path, half: bytes, goes_on: Callable[[], None]
) -> None:
    """And so is half a line of the log: the next begins on its own."""
    before = (run / "metrics.jsonl").read_bytes()
    for name in ("metrics.jsonl", "train.log"):
        with (run / name).open("ab") as file:
            file.write(half)
    goes_on()
    assert (run / "metrics.jsonl").read_bytes().startswith(before)


# --- two processes ---------------------------------------------------------------------------------------------------


def test_a_second_process_on_a_run_is_refused_at_once(nursery: Any, run: Path, tmp_path: Path) -> None:
    """Nothing changes, whoever asks: to go on with it, or to remove it."""
    waits = ["noting", 1, "metrics.jsonl"]
    home = Path(os.environ["DDPM_HOME"]) / "runs"
    home.mkdir(parents=True)
    run = run.rename(home / "mine")
    first = nursery(tmp_path / "a", "train", "--resume", "mine", "--steps", 20, "--quiet", waits=waits)
    first.here()
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    second = nursery(tmp_path / "b", "train", "--resume", "mine", "--steps", 20, "--quiet").end()
    second.refused(6, "another process is at work")
    removed = nursery(tmp_path / "c", "models", "rm", "mine", "--yes").end()
    removed.refused(6, "another process is at work")
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    first.go()
    assert first.end().code == 0
    assert whole(run) == 20


@slow
def test_a_run_that_saves_at_every_step_can_always_be_loaded(
    nursery: Any, quick: list[str], tmp_path: Path, figure: Callable[[str], None]
) -> None:
    """And its state, the models of earlier saves and the best one can be read."""
    run = tmp_path / "a" / "run"
    child = nursery(tmp_path / "a", *quick, "--steps", 1_000_000, "--save-steps", 1, "--keep", 2, "-o", "run")
    child.until((run / "best.safetensors").exists)
    steps = set()
    for number in range(1000):
        steps.add(checkpoint.load(run / "model.safetensors")[1].training["step"])
        if number % 10 == 0:
            checkpoint.read_tensors(run / "state.safetensors")
            checkpoint.load(run / "best.safetensors")
    child.kill(signal.SIGKILL)
    child.end()
    figure(f"loads of a run that saves at every step: 1,000, of {len(steps)} steps, none damaged")
    assert len(steps) > 20


@slow
def test_a_process_that_is_killed_leaves_no_lock(nursery: Any, run: Path, tmp_path: Path) -> None:
    first = nursery(tmp_path / "a", "train", "--resume", run, "--steps", 20, waits=["noting", 1, "metrics.jsonl"])
    first.here()
    first.kill(signal.SIGKILL)
    first.end()
    again = nursery(tmp_path / "b", "train", "--resume", run, "--steps", 20, "--quiet").end()
    assert again.code == 0, again.err


@slow
def test_of_two_runs_of_one_name_begun_together_one_is_made(nursery: Any, quick: list[str], tmp_path: Path) -> None:
    """Both have found that there is none of that name yet."""
    words = [*quick, "--steps", 6, "--name", "mine"]
    both = [nursery(tmp_path / name, *words, waits=["preparing", 1, ""]) for name in "ab"]
    for child in both:
        child.here()
    for child in both:
        child.go()
    ends = [child.end() for child in both]
    assert {0} < {ended.code for ended in ends} <= {0, 2, 6}
    assert whole(Path(os.environ["DDPM_HOME"]) / "runs" / "mine") == 6


@slow
def test_two_processes_that_write_one_cache_at_once_both_train(nursery: Any, quick: list[str], tmp_path: Path) -> None:
    both = [nursery(tmp_path / name, *quick, "--steps", 6, "-o", "run", waits=["keeping", 1, ""]) for name in "ab"]
    for child in both:
        child.here()
    for child in both:
        child.go()
    assert [child.end().code for child in both] == [0, 0]
    assert digest(tmp_path / "a" / "run") == digest(tmp_path / "b" / "run")
    assert list(Path(os.environ["DDPM_HOME"]).rglob(TEMPORARY)) == []
    third = nursery(tmp_path / "c", *quick, "--steps", 6, "-o", "run").end()
    assert third.code == 0
    assert digest(tmp_path / "c" / "run") == digest(tmp_path / "a" / "run")
