"""A name means one model, everywhere the same, and a path means itself."""

import errno
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ddpm_cli import checkpoint, files, library, paths
from ddpm_cli.checkpoint import Info
from ddpm_cli.config import Budget, RunConfig, ScheduleConfig, UNetConfig, to_dict
from ddpm_cli.errors import ModelError, ResourceError, UsageError

CONFIG = to_dict(RunConfig("mnist", Budget(steps=9)))
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
    (path.parent / "config.json").write_text(json.dumps(CONFIG))
    os.utime(path.parent / "config.json", (1e9 - age, 1e9 - age))
    return path


# --- models ---


def with_id(path: Path, id_: str) -> Path:
    about = Info.to_dict(INFO) | {"weights": ["ema"], "training": {"step": 9, "steps": 9}, "id": id_}
    checkpoint.write_tensors(path, {}, about)
    return path


ID = "20aa93dce1f2" + 52 * "0"


@pytest.mark.parametrize("digits", [12, 13, 40, 64])
def test_a_model_is_named_by_the_first_12_digits_of_its_id_or_more(home: Path, digits: int) -> None:
    path = with_id(home / "models" / "one.safetensors", ID)
    with_id(home / "models" / "other.safetensors", "20aa93dce1f1" + 52 * "0")
    (home / "models" / "damaged.safetensors").write_bytes(b"no model")
    assert library.find(ID[:digits]) == ("one", path, "saved")
    assert library.removable(ID[:digits]) == path


@pytest.mark.parametrize("name", [ID[:11], ID[1:13], ID[:12] + "1", ID.upper(), ID + "0", "g" + ID[:12]])
def test_fewer_digits_or_others_name_no_model(home: Path, name: str) -> None:
    with_id(home / "models" / "one.safetensors", ID)
    with pytest.raises(ModelError, match="there is no model called"):
        library.find(name)


def test_a_name_is_looked_up_before_an_id(home: Path) -> None:
    with_id(home / "models" / "one.safetensors", ID)
    named = place(home / "models" / f"{ID[:12]}.safetensors")
    assert library.find(ID[:12]).path == named
    assert library.find(ID[:13]).name == "one"


def test_one_model_in_two_places_is_found_and_not_removed(home: Path) -> None:
    folder = with_id(run("mine"), ID).parent
    assert library.removable(ID[:12]) == folder
    saved = with_id(home / "models" / "kept.safetensors", ID)
    assert library.find(ID[:12]) == ("kept", saved, "saved")
    with pytest.raises(UsageError, match="in 2 places"):
        library.removable(ID[:12])


def test_digits_that_begin_two_ids_are_refused(home: Path) -> None:
    with_id(home / "models" / "one.safetensors", ID)
    with_id(home / "models" / "other.safetensors", ID[:-1] + "1")
    assert library.find(ID).name == "one"
    for find in (library.find, library.removable):
        with pytest.raises(ModelError, match="ids of 2 models") as caught:
            find(ID[:12])
        assert ID in caught.value.hint


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


def checked(model: Path, alike: int, step: int = 9) -> Path:
    """Record of a run whose last 64 samples were compared with its images."""
    library.write_sample_check(model.parent, library.SampleCheck(step, alike, 64))
    return model


def test_a_run_whose_samples_failed_is_passed_over_and_mentioned() -> None:
    wanted = checked(run("good", age=200), 32)
    checked(run("noise", age=100), 31)
    said: list[str] = []
    assert library.find(None, say=said.append) == ("good", wanted, "run")
    assert len(said) == 1
    assert "noise: 31 of 64 samples have" in said[0]
    assert "--model noise" in said[0]
    assert library.find("noise").name == "noise"


def test_a_check_of_other_steps_says_nothing_of_a_model() -> None:
    run("good", age=200)
    extended = checked(run("extended", age=100), 0, step=5)
    assert library.find(None).path == extended


@pytest.mark.parametrize("content", [b"", b"[]", b'{"step": "9"}', b'{"step": 9, "alike": 1e3, "number": 64}'])
def test_a_damaged_check_says_nothing_of_a_model(content: bytes) -> None:
    model = run("one")
    (model.parent / "samples").mkdir()
    (model.parent / "samples" / "check.json").write_bytes(content)
    assert library.find(None).path == model


def test_without_a_name_a_run_that_accepts_the_conditions() -> None:
    run("newer")
    assert library.find(None, lambda info: bool(info.classes)).origin == "shipped"


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


@pytest.mark.parametrize(
    "model", ["nmist", "", "..", "x" * 300, "x/" * 3000, "a\0b", "~nobody-of-this-name/x", "~a\0b", "~\ud800"]
)
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


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"dataset": 3}', "[" * 5000, "pipe", "nowhere", "folder"])
def test_latest_passes_over_what_cannot_be_read_and_says_so(content: str) -> None:
    run("good", age=100)
    damaged = run("damaged", age=50).parent / "config.json"
    kinds = {"pipe": os.mkfifo, "nowhere": lambda path: path.symlink_to("nothing"), "folder": Path.mkdir}
    damaged.unlink()
    kinds.get(content, lambda path: path.write_text(content))(damaged)
    if content != "nowhere":
        os.utime(damaged, (1e9, 1e9))
    said: list[str] = []
    assert library.find_run("latest", said.append) == paths.runs() / "good"
    assert content == "nowhere" or (len(said) == 1 and "damaged" in said[0])


def test_latest_of_none_that_can_be_read_is_a_model_error() -> None:
    (run("damaged").parent / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"no run .* that can be read"):
        library.find_run("latest")


def test_the_config_of_a_run_without_torch() -> None:
    assert to_dict(library.run_config(run("mine").parent)) == CONFIG
    with pytest.raises(ModelError, match="holds no run"):
        library.run_config(paths.runs() / "nothing")


@pytest.mark.parametrize("find", [library.find, library.find_run])
def test_an_empty_name_is_no_name_even_inside_a_run(find: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run("mine").parent)
    with pytest.raises(ModelError, match="empty"):
        find("")


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
        "ä" * 150,  # 300 bytes
        "\udcff",
        "\u202e",
    ],
)
def test_a_name_that_would_leave_its_folder_hide_or_break_a_line(name: str) -> None:
    with pytest.raises(UsageError):
        library.check_name(name)


# --- what is known of a model ---

ID = "ab" * 32


def known_model(path: Path, model_id: str = ID) -> library.Found:
    """A model with an id, under its name."""
    place(path)
    about = Info.to_dict(INFO) | {"weights": ["ema"], "training": {"step": 3, "steps": 9}, "id": model_id}
    checkpoint.write_tensors(path, {}, about)
    return next(found for found in library.known() if found.path == path)


def evaluated(model_id: str, values: Any) -> None:
    path = paths.cache() / "evaluations" / f"{model_id}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(values if isinstance(values, str) else json.dumps(values))


def test_an_entry_tells_size_age_and_what_the_file_says(home: Path) -> None:
    found = known_model(home / "models" / "a.safetensors")
    os.utime(found.path, (5e8, 5e8))
    entry = library.entry(found)
    assert entry.info is not None
    assert (entry.info.id, entry.problem, entry.changed) == (ID, "", 5e8)
    assert entry.size == len(found.path.read_bytes())
    assert not library.is_finished(entry.info)
    assert entry.scores == {}


def test_the_size_of_a_run_is_that_of_its_folder() -> None:
    path = run("mine")
    (path.parent / "samples").mkdir()
    (path.parent / "samples" / "a.png").write_bytes(b"x" * 1000)
    (path.parent / "state.safetensors").write_bytes(b"x" * 234)
    found = library.find("mine")
    assert library.entry(found).size == len(path.read_bytes()) + len(json.dumps(CONFIG)) + 1000 + 234


def test_what_links_point_to_is_not_counted(tmp_path: Path) -> None:
    (tmp_path / "big").mkdir()
    (tmp_path / "big" / "file").write_bytes(b"x" * 10_000)
    folder = run("mine").parent
    before = library.size_on_disk(folder)
    (folder / "link").symlink_to(tmp_path / "big")
    (folder / "other").symlink_to(tmp_path / "big" / "file")
    assert library.size_on_disk(folder) < before + 1000
    assert library.size_on_disk(folder / "nowhere") == 0


def test_a_file_that_cannot_be_read_is_an_entry_with_a_problem(home: Path) -> None:
    place(home / "models" / "good.safetensors")
    (home / "models" / "bad.safetensors").write_bytes(b"no model")
    (home / "runs" / "worse").mkdir(parents=True)
    (home / "runs" / "worse" / "model.safetensors").mkdir()
    (home / "models" / "dangling.safetensors").symlink_to(home / "nowhere")
    entries = {entry.found.name: entry for entry in map(library.entry, library.known())}
    assert entries["good"].problem == ""
    assert "not a whole model file" in entries["bad"].problem
    assert entries["bad"].info is None
    assert entries["bad"].size == len(b"no model")
    assert "folder" in entries["worse"].problem


def test_scores_come_from_the_record_and_from_the_evaluation_here_which_goes_before(tmp_path: Path) -> None:
    found = known_model(tmp_path / "package" / "weights" / "mnist.safetensors")
    entry = library.entry(found)
    assert entry.info is not None
    record = {"date": "2026-02-03", "scores": {"labels": 0.9, "frechet": 5, "broken": "x", "yes": True}}
    found.path.with_suffix(".json").write_text(json.dumps(record))
    assert library.record(found) == record
    assert library.scores(found, entry.info) == {"labels": 0.9, "frechet": 5}
    evaluated(ID, {"metrics": {"labels": {"accuracy": 0.95, "confidence": 1}, "ssim": {"mean": 0.2, "std": 0.1}}})
    assert library.scores(found, entry.info) == {"labels": 0.95, "ssim": 0.2, "frechet": 5}
    assert library.entry(found).scores == {"labels": 0.95, "ssim": 0.2, "frechet": 5}
    assert library.entry(found).changed == datetime(2026, 2, 3, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    "values",
    [
        "",
        "{",
        "[]",
        "3",
        '{"metrics": 3}',
        '{"metrics": {"ssim": null, "labels": []}}',
        '{"metrics": {"ssim": {}}}',
        "\0",
    ],
)
def test_an_evaluation_or_a_record_that_says_nothing_is_none(tmp_path: Path, values: str) -> None:
    found = known_model(tmp_path / "package" / "weights" / "mnist.safetensors")
    evaluated(ID, values)
    found.path.with_suffix(".json").write_text(values)
    assert library.entry(found).scores == {}


def test_only_shipped_models_have_a_record(home: Path) -> None:
    found = known_model(home / "models" / "a.safetensors")
    found.path.with_suffix(".json").write_text('{"scores": {"ssim": 1}}')
    assert library.record(found) == {}


def test_an_id_that_is_no_hash_names_no_file(home: Path) -> None:
    secret = home / "cache" / "secret.json"
    secret.parent.mkdir(parents=True)
    secret.write_text('{"metrics": {"ssim": {"mean": 1}}}')
    (home / "cache" / "evaluations").mkdir()
    found = known_model(home / "models" / "a.safetensors", "../secret")
    assert library.entry(found).info is not None
    assert library.entry(found).scores == {}


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (34_400, "34 kB"),
        (6_849_999, "6.8 MB"),
        (1.2e8, "120 MB"),
        (1.4e9, "1.4 GB"),
        (1.234e13, "12,340 GB"),
    ],
)
def test_sizes_for_people(count: float, text: str) -> None:
    assert library.file_size(count) == text


# --- removing ---


def test_what_can_be_removed_is_the_file_of_a_saved_model_or_the_folder_of_a_run(home: Path) -> None:
    saved, folder = place(home / "models" / "a.safetensors"), run("b").parent
    assert library.removable("a") == saved
    assert library.removable("b") == folder
    assert library.removable(str(saved)) == saved
    assert library.removable(str(folder)) == library.removable(f"{folder}/") == folder
    run("a")
    assert library.removable("a") == saved  # as in looking up
    assert library.removable(str(home / "runs" / "a")) == home / "runs" / "a"


def test_a_run_that_holds_no_model_yet_can_be_removed() -> None:
    (paths.runs() / "begun").mkdir(parents=True)
    (paths.runs() / "begun" / "config.json").write_text("{}")
    assert library.remove(library.removable("begun")) == 2
    assert not (paths.runs() / "begun").exists()


def test_removing_takes_the_file_or_the_folder_and_nothing_else(home: Path) -> None:
    saved, folder = place(home / "models" / "a.safetensors"), run("b").parent
    other, another = place(home / "models" / "aa.safetensors"), run("bb")
    size = len(saved.read_bytes())
    assert library.remove(library.removable("a")) == size
    assert library.remove(library.removable("b")) == size + len(json.dumps(CONFIG))
    assert not saved.exists()
    assert not folder.exists()
    assert other.exists()
    assert another.exists()


def test_shipped_models_stay(tmp_path: Path) -> None:
    path = tmp_path / "package" / "weights" / "mnist.safetensors"
    for name in ("mnist", str(path)):
        with pytest.raises(UsageError, match="ships with ddpm"):
            library.removable(name)
    folder = run("mnist").parent
    assert library.removable("mnist") == folder


@pytest.mark.parametrize(
    "model",
    ["here/run", "here/file.safetensors", "home", "home/runs", "home/models", "home/runs/mine/model.safetensors",
     "home/runs/mine/samples", "home/runs/mine/..", "home/runs/..", "home/models/../cache/x.safetensors",
     "home/runs/notes.txt", "home/models/notes.txt", "home/models/sub/y.safetensors", "/"],
)  # fmt: skip
def test_nothing_outside_of_models_and_runs_can_be_removed(tmp_path: Path, model: str) -> None:
    run("mine")
    for path in ("here/run/model", "here/file", "home/cache/x", "home/models/sub/y"):
        place(tmp_path / f"{path}.safetensors")
    (tmp_path / "home/runs/mine/samples").mkdir()
    for path in ("home/runs/notes.txt", "home/models/notes.txt"):
        (tmp_path / path).write_text("mine")
    with pytest.raises(UsageError, match="nothing else is removed"):
        library.removable(str(tmp_path / model))


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a\n", "a\0b", "x" * 300])
def test_a_name_that_would_leave_its_folder_removes_nothing(name: str) -> None:
    run("mine")
    with pytest.raises(UsageError):
        library.removable(name)


@pytest.mark.parametrize("name", ["nobody", "./nobody", "nobody.safetensors", "/nowhere/x"])
def test_what_is_not_there_cannot_be_removed(name: str) -> None:
    with pytest.raises(ModelError, match="there is no"):
        library.removable(name)


def test_of_a_link_the_link_alone_is_removed(tmp_path: Path, home: Path) -> None:
    outside = place(tmp_path / "elsewhere" / "model.safetensors")
    for link, target in ((home / "runs" / "far", outside.parent), (home / "models" / "near.safetensors", outside)):
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)
        assert library.removable(link.stem) == link
        assert library.remove(link) == 0
        assert not link.is_symlink()
        assert outside.exists()


def test_links_inside_a_run_are_not_followed(tmp_path: Path) -> None:
    outside = place(tmp_path / "here" / "far" / "model.safetensors")
    folder = run("mine").parent
    (folder / "samples").symlink_to(outside.parent)
    library.remove(library.removable("mine"))
    assert not folder.exists()
    assert outside.exists()


def test_a_link_that_leads_nowhere_can_be_removed(home: Path) -> None:
    for link in (home / "models" / "gone.safetensors", home / "runs" / "lost"):
        link.parent.mkdir(parents=True)
        link.symlink_to(home / "nowhere")
        library.remove(library.removable(link.stem))
        assert not link.is_symlink()


def test_a_data_directory_behind_a_link_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = run("mine").parent
    (tmp_path / "link").symlink_to(tmp_path / "home")
    assert library.removable(str(tmp_path / "link" / "runs" / "mine")) == folder
    monkeypatch.setenv("DDPM_HOME", str(tmp_path / "link"))
    library.remove(library.removable(str(folder)))
    assert not folder.exists()


def whole_run(name: str) -> Path:
    folder = run(name).parent
    for path in (folder / "metrics.jsonl", folder / "samples" / "step-1.png", folder / "checkpoints" / "step-1"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"mine")
    return folder


def names() -> set[str]:
    return {found.name for found in library.known() if found.origin == "run"}


@pytest.mark.parametrize("ends", ["killed", "refused"])
@pytest.mark.parametrize("after", range(6))
def test_wherever_a_removal_ends_the_run_is_there_as_a_whole_or_gone(
    home: Path, monkeypatch: pytest.MonkeyPatch, after: int, ends: str
) -> None:
    """After N calls of the system that change something; what is left is deleted later, and adopted by no other run."""
    folder, other = whole_run("mine"), run("other")
    before = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert len(before) == 5
    calls = 0

    def counted(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls > after:
                raise KeyboardInterrupt if ends == "killed" else OSError(errno.EIO, os.strerror(errno.EIO))
            return original(*arguments, **options)

        return call

    with monkeypatch.context() as patch:
        for name in ("rename", "unlink", "rmdir"):
            patch.setattr(os, name, counted(getattr(os, name)))
        with pytest.raises(KeyboardInterrupt if ends == "killed" else ResourceError) as caught:
            library.remove(library.removable("mine"))
    if after == 0:
        assert {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
        assert names() == {"mine", "other"}
        return
    assert not folder.exists()
    assert names() == {"other"}
    assert library.find(None).path == other
    assert library.find_run("latest") == other.parent
    if ends == "refused":
        (left,) = (home / "runs").glob(".*")
        assert str(left) in f"{caught.value.hint}"  # type: ignore[union-attr]  # a ResourceError
    again = run("mine").parent
    files.clear_removed(home / "runs")
    assert {path.name for path in (home / "runs").iterdir()} == {"mine", "other"}
    assert {path.name for path in again.iterdir()} == {"model.safetensors", "config.json"}


@pytest.mark.skipif(os.name == "nt", reason="no such locks there")
def test_what_another_process_is_removing_is_left_to_it(home: Path) -> None:
    folder = whole_run("mine")
    aside = folder.rename(folder.with_name(".0123456789abcdef.removed"))
    with files.held(aside):
        files.clear_removed(home / "runs")
        assert len(list(aside.iterdir())) == 5
    files.clear_removed(home / "runs")
    assert not aside.exists()


def test_no_other_hidden_folder_is_cleared(home: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "file").write_bytes(b"")
    for name in (".mine.removed", ".0123456789abcdef.tmp", "0123456789abcdef.removed"):
        (home / "runs" / name).mkdir(parents=True)
    (home / "runs" / ".0123456789abcdef.removed").symlink_to(tmp_path / "theirs")
    files.clear_removed(home / "runs")
    assert len(list((home / "runs").iterdir())) == 4
    assert (tmp_path / "theirs" / "file").exists()


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="permissions do not stop root")
def test_a_run_of_which_a_part_may_not_be_removed_stays_as_a_whole() -> None:
    folder = whole_run("mine")
    (folder / "samples").chmod(0o500)
    with pytest.raises(ResourceError, match="permission denied"):
        library.remove(library.removable("mine"))
    (folder / "samples").chmod(0o700)
    assert len([path for path in folder.rglob("*") if path.is_file()]) == 5


def test_so_does_one_of_which_the_system_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the one before, for those who test as root."""
    folder = whole_run("mine")
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: "samples" not in str(path) and access(path, mode))
    with pytest.raises(ResourceError, match="permission denied"):
        library.remove(library.removable("mine"))
    assert len([path for path in folder.rglob("*") if path.is_file()]) == 5


def test_what_an_earlier_version_left_of_a_run_can_be_removed(home: Path) -> None:
    """It has neither config nor model, so that no list shows it."""
    folder = whole_run("mine")
    for name in ("config.json", "model.safetensors"):
        (folder / name).unlink()
    assert library.remove(library.removable("mine")) == 12
    assert not folder.exists()
    (home / "runs" / "other").mkdir()
    (home / "runs" / "other" / "notes.txt").write_bytes(b"mine")
    with pytest.raises(UsageError):
        library.removable("other")


def test_what_the_system_refuses_to_remove_is_a_missing_resource(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = place(home / "models" / "a.safetensors")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(ResourceError, match="permission denied") as caught:
        library.remove(path)
    assert str(path) in caught.value.message
