"""A name means one model, everywhere the same, and a path means itself."""

import os
from pathlib import Path

import pytest

from ddpm_cli import checkpoint, library, paths
from ddpm_cli.checkpoint import Info
from ddpm_cli.config import ScheduleConfig, UNetConfig
from ddpm_cli.errors import ModelError, UsageError

INFO = Info(UNetConfig((1, 4, 4), widths=(8,), blocks=1, attention=(), heads=1), ScheduleConfig(), "v")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """DDPM_HOME and a package that ships a model called mnist; the current folder is an empty one."""
    monkeypatch.setenv("DDPM_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(paths, "shipped", lambda: tmp_path / "package")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    place(tmp_path / "package" / "weights" / "mnist.safetensors")
    return tmp_path / "home"


def place(path: Path, step: int = 9, steps: int | None = 9, age: float = 0) -> Path:
    """A model file: the description alone, which is all that the library reads. `age` in seconds."""
    about = Info.to_dict(INFO) | {"weights": ["ema"], "training": {"step": step, "steps": steps}}
    checkpoint.write_tensors(path, {}, about)
    os.utime(path, (1e9 - age, 1e9 - age))
    return path


def run(name: str, step: int = 9, steps: int | None = 9, age: float = 0) -> Path:
    path = place(paths.runs() / name / "model.safetensors", step, steps, age)
    (path.parent / "config.json").write_text("{}")
    os.utime(path.parent / "config.json", (1e9 - age, 1e9 - age))
    return path


# --- models ---


def test_a_name_is_saved_before_run_before_shipped(home: Path) -> None:
    assert library.find("mnist").origin == "shipped"
    path = run("mnist")
    assert library.find("mnist") == ("mnist", path, "run")
    path = place(home / "models" / "mnist.safetensors")
    assert library.find("mnist") == ("mnist", path, "saved")


@pytest.mark.parametrize("name", ["mnist", "./mnist", "mnist/"])
def test_a_run_folder_that_exists_is_a_path_before_it_is_a_name(home: Path, name: str) -> None:
    place(home / "models" / "mnist.safetensors")
    path = place(Path("mnist") / "model.safetensors")
    assert library.find(name) == ("mnist", path.absolute(), "run")


@pytest.mark.parametrize("name", [".", "../mnist", "~/mnist"])
def test_a_run_is_called_by_its_folder_however_it_is_reached(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    folder = run("mnist").parent
    (folder / "inside").mkdir()
    monkeypatch.setenv("HOME", str(folder.parent))
    monkeypatch.chdir(folder if name == "." else folder / "inside")
    if name == "../mnist":
        monkeypatch.chdir(folder)
    found = library.find(name)
    assert (found.name, found.origin) == ("mnist", "run")
    assert found.path.samefile(folder / "model.safetensors")


def test_a_folder_without_a_run_does_not_hide_a_name() -> None:
    Path("mnist").mkdir()
    assert library.find("mnist").origin == "shipped"
    with pytest.raises(ModelError, match="without a run"):
        library.find("./mnist")


@pytest.mark.parametrize("model", ["mnist.safetensors", "sub/model", "/nowhere/x", r"sub\model", "~/x.safetensors"])
def test_a_separator_or_the_suffix_makes_a_path(home: Path, model: str) -> None:
    place(home / "models" / "mnist.safetensors")
    found = library.find(model)
    assert found.origin == "file"
    assert found.path == Path(model).expanduser().absolute()
    with pytest.raises(ModelError, match="there is no model file"):
        checkpoint.read_info(found.path)


def test_without_a_name_the_newest_finished_run() -> None:
    run("old", age=300)
    wanted = run("newer", age=200)
    run("stopped", step=5, age=100)
    run("minutes-unknown", step=5, steps=None, age=50)
    run("broken", age=10).write_bytes(b"no model")
    (paths.runs() / "begun").mkdir()
    (paths.runs() / "begun" / "config.json").write_text("{}")
    assert library.find(None) == ("newer", wanted, "run")


@pytest.mark.usefixtures("home")
def test_a_folder_called_mnist_does_not_stand_before_the_shipped_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "config.json").write_text("{}", encoding="utf-8")
    assert library.find(None).origin == "shipped"


def test_without_a_name_and_without_a_finished_run_the_shipped_mnist(home: Path) -> None:
    assert library.find(None).origin == "shipped"
    run("stopped", step=5)
    place(home / "models" / "saved.safetensors")
    assert library.find(None) == library.find("mnist")


def test_what_is_known_comes_in_the_order_of_looking_up(home: Path) -> None:
    run("old", age=20)
    run("new", step=1)
    for name in ("b", "a"):
        place(home / "models" / f"{name}.safetensors")
    assert [found.name for found in library.known()] == ["a", "b", "new", "old", "mnist"]


@pytest.mark.parametrize("model", ["nmist", "", "..", "x" * 300, "x/" * 3000, "a\0b", "~nobody-of-this-name/x"])
def test_a_model_that_is_not_there_is_a_model_error(model: str) -> None:
    with pytest.raises(ModelError):
        checkpoint.read_info(library.find(model).path)


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    run("mine")
    with pytest.raises(ModelError, match="no model called 'nmist'") as caught:
        library.find("nmist")
    assert "mine" in caught.value.hint
    assert "mnist" in caught.value.hint
    assert caught.value.exit_code == 4


# --- runs ---


def test_latest_is_the_run_begun_last_finished_or_not() -> None:
    run("finished", age=100)
    run("stopped", step=5, age=50)
    run("older", age=200)
    assert library.find_run("latest") == paths.runs() / "stopped"


def test_latest_of_none_says_how_to_start_one() -> None:
    with pytest.raises(ModelError, match="no run") as caught:
        library.find_run("latest")
    assert "ddpm train" in caught.value.hint


def test_a_run_by_its_name_and_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = run("mine").parent
    assert library.find_run("mine") == folder
    assert library.find_run(str(folder)) == folder
    monkeypatch.chdir(folder.parent)
    assert library.find_run("./mine") == folder
    elsewhere = place(tmp_path / "here" / "other" / "model.safetensors").parent
    monkeypatch.chdir(tmp_path / "here")
    assert library.find_run("other") == elsewhere


@pytest.mark.parametrize("name", [".", ".hidden"])
def test_a_run_folder_that_exists_may_be_called_anything(name: str) -> None:
    folder = place(Path(name) / "model.safetensors").parent.absolute()
    assert library.find_run(name).samefile(folder)


@pytest.mark.parametrize("name", ["nothing", "./nothing", "/nowhere", "x" * 300, "./" + "x" * 300, "~nobody-here/x"])
def test_a_run_that_is_not_there(name: str) -> None:
    with pytest.raises((ModelError, UsageError)):
        library.find_run(name)


# --- names ---


@pytest.mark.parametrize("name", ["mnist-small-20250101-120000", "a", "räder", "two words", "v1.2", "x" * 100])
def test_a_good_name_is_itself(name: str) -> None:
    assert library.check_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        ".hidden",
        "a/b",
        "../a",
        "/a",
        "a/",
        r"a\b",
        "a\0b",
        "a\n",
        "\x1b[31m",
        "a\x7fb",
        "x" * 300,
    ],
)
def test_a_name_that_would_leave_its_folder_hide_or_break_a_line(name: str) -> None:
    with pytest.raises(UsageError):
        library.check_name(name)
