"""Settings: flag, environment, --config FILE, DDPM_HOME/config.toml, preset and recipe, default, in this order."""

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def settings(home: Path) -> Any:
    """Writes DDPM_HOME/config.toml."""

    def write(text: str) -> Path:
        home.mkdir(exist_ok=True)
        path = home / "config.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


# --- values ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("model")
def test_a_flag_beats_a_config_file_beats_the_home_beats_the_default(ddpm: Any, settings: Any, cwd: Path) -> None:
    def number(*options: object) -> int:
        return int(ddpm("sample", "--steps", 1, *options, "--json").done().json["number"])

    (cwd / "mine.toml").write_text("[sample]\nnumber = 3\n")
    assert number() == 64
    settings("[sample]\nnumber = 4\n")
    assert number() == 4
    assert number("--config", "mine.toml") == 3
    assert number("--config", "mine.toml", "-n", 2) == 2
    assert number("-n", 2, "--config", "mine.toml") == 2


@pytest.mark.usefixtures("model")
def test_a_config_file_leaves_what_it_does_not_name_to_the_home(ddpm: Any, settings: Any, cwd: Path) -> None:
    settings("[sample]\nnumber = 4\nseed = 11\n")
    (cwd / "mine.toml").write_text("[sample]\nnumber = 3\n")
    document = ddpm("sample", "--config", "mine.toml", "--json").done().json
    assert (document["number"], document["seed"]) == (3, 11)


@pytest.mark.usefixtures("no_gpu")
def test_the_device_of_a_flag_beats_that_of_the_environment_beats_that_of_a_file(
    ddpm: Any, settings: Any, model: Path, monkeypatch: pytest.MonkeyPatch, cwd: Path
) -> None:
    assert model
    few = ["sample", "-n", 1, "--steps", 1]
    settings('[sample]\ndevice = "cuda"\n')
    (cwd / "mine.toml").write_text('[sample]\ndevice = "cuda"\n')
    monkeypatch.delenv("DDPM_DEVICE")
    ddpm(*few).refused(6, "cuda")
    monkeypatch.setenv("DDPM_DEVICE", "cpu")
    ddpm(*few).done()
    ddpm(*few, "--config", "mine.toml").done()
    ddpm(*few, "--device", "cuda").refused(6, "cuda")
    monkeypatch.setenv("DDPM_DEVICE", "cuda")
    settings('[sample]\ndevice = "cpu"\n')
    ddpm(*few).refused(6, "cuda")
    ddpm(*few, "--device", "cpu").done()


def test_the_model_of_a_flag_beats_that_of_the_environment_beats_that_of_a_file(
    ddpm: Any, settings: Any, model: Path, home: Path, save_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert model
    for name in ("filed", "flagged"):
        save_model(home / "models" / f"{name}.safetensors")
    settings('[sample]\nmodel = "filed"\n')
    few = ["sample", "-n", 1, "--steps", 1]
    assert "model flagged" in ddpm(*few, "--model", "flagged").done().err
    assert "model tiny" in ddpm(*few).done().err
    monkeypatch.delenv("DDPM_MODEL")
    assert "model filed" in ddpm(*few).done().err


@pytest.mark.usefixtures("no_mirror")
def test_the_network_is_forbidden_by_flag_environment_or_file_in_this_order(
    ddpm: Any, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch = ["train", "--dataset", "fashion-mnist"]
    settings("[train]\noffline = true\n")
    ddpm(*fetch).refused(6, "forbidden")
    monkeypatch.setenv("DDPM_OFFLINE", "0")
    ddpm(*fetch).refused(6, "cannot fetch")
    ddpm(*fetch, "--offline").refused(6, "forbidden")
    monkeypatch.setenv("DDPM_OFFLINE", "1")
    settings("[train]\noffline = false\n")
    ddpm(*fetch).refused(6, "forbidden")


@pytest.mark.parametrize("value", ["nonsense", "cuda:9"])
def test_a_device_in_the_environment_that_is_none_is_2(
    ddpm: Any, model: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    assert model
    monkeypatch.setenv("DDPM_DEVICE", value)
    ddpm("sample", "-n", 1).refused(2, value)


@pytest.mark.usefixtures("model")
def test_a_variable_that_is_empty_is_one_that_is_not_set(ddpm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DDPM_DEVICE", "")
    monkeypatch.setenv("DDPM_OFFLINE", "")
    ddpm("sample", "-n", 1, "--steps", 1).done()


def test_only_the_documented_variables_are_read(ddpm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DDPM_KIND", "DDPM_SCHEDULE_SHOW_KIND", "DDPM_TIMESTEPS"):
        monkeypatch.setenv(name, "7")
    assert ddpm("schedule", "show", "--json").done().json["timesteps"] == 1000


def test_a_setting_beats_the_recipe_and_a_flag_the_setting(ddpm: Any, photos: Path, settings: Any) -> None:
    dry = ["train", "--dataset", photos, "--preset", "tiny", "--epochs", 1, "--device", "cpu", "--dry-run", "--json"]
    assert ddpm(*dry).done().json["steps"] == 1  # 24 images, the recipe's batch of 128
    settings("[train]\nbatch-size = 8\n")
    assert ddpm(*dry).done().json["steps"] == 3
    assert ddpm(*dry, "--recipe", "report").done().json["steps"] == 3
    assert ddpm(*dry, "--batch-size", 12).done().json["steps"] == 2


def test_commands_in_a_group_have_tables_in_a_table(ddpm: Any, settings: Any) -> None:
    settings('[schedule.show]\nkind = "linear"\ntimesteps = 20\n')
    document = ddpm("schedule", "show", "--json").done().json
    assert (document["kind"], document["timesteps"]) == ("linear", 20)
    assert ddpm("schedule", "show", "--kind", "sigmoid", "--json").done().json["kind"] == "sigmoid"


# --- budgets --------------------------------------------------------------------------------------------------------


@pytest.fixture
def dry(quick: tuple[str, ...]) -> tuple[str, ...]:
    return (*quick, "--dry-run", "--json")


def test_a_budget_of_a_flag_overrides_one_of_another_kind_in_the_home(
    ddpm: Any, settings: Any, dry: tuple[str, ...]
) -> None:
    settings("[train]\nepochs = 5\n")
    assert ddpm(*dry).done().json["steps"] == 15
    assert ddpm(*dry, "--steps", 2).done().json["steps"] == 2
    assert ddpm(*dry, "--minutes", 1).done().json["seconds"] == pytest.approx(60, rel=0.1)


def test_a_budget_of_a_config_file_overrides_one_of_another_kind_in_the_home(
    ddpm: Any, settings: Any, cwd: Path, dry: tuple[str, ...]
) -> None:
    settings("[train]\nepochs = 5\n")
    (cwd / "mine.toml").write_text("[train]\nsteps = 2\n")
    assert ddpm(*dry, "--config", "mine.toml").done().json["steps"] == 2


def test_two_budgets_in_one_file_contradict_each_other(ddpm: Any, settings: Any, dry: tuple[str, ...]) -> None:
    settings("[train]\nepochs = 5\nsteps = 2\n")
    ddpm(*dry).refused(2, "epochs", "steps")
    assert ddpm(*dry, "--steps", 4).done().json["steps"] == 4


def test_a_budget_in_the_home_leaves_that_of_a_resumed_run_alone(ddpm: Any, settings: Any, trained: Path) -> None:
    settings("[train]\nepochs = 5\n")
    assert ddpm("train", "--resume", trained, "--json").done().json["steps"] == 3


def test_settings_for_new_runs_do_not_stand_in_the_way_of_resuming(ddpm: Any, settings: Any, trained: Path) -> None:
    settings('[train]\npreset = "small"\nbatch-size = 4\n')
    assert ddpm("train", "--resume", trained, "--json").done().json["steps"] == 3


# --- mistakes in a file ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("[sample]\nnumbr = 3\n", "numbr"),
        ("[smaple]\nnumber = 3\n", "smaple"),
        ("number = 3\n", "number"),
        ("[schedule.shwo]\nkind = 'linear'\n", "shwo"),
        ("[train]\nnumber = 3\n", "number"),
        ("sample = 3\n", "sample"),
    ],
)
def test_a_setting_that_is_unknown_is_2_and_the_file_is_named(
    ddpm: Any, settings: Any, cwd: Path, text: str, wrong: str
) -> None:
    path = settings(text)
    ddpm("schedule", "list").refused(2, wrong, str(path))
    path.unlink()
    (cwd / "mine.toml").write_text(text)
    ddpm("schedule", "list", "--config", "mine.toml").refused(2, wrong, "mine.toml")


@pytest.mark.parametrize("value", ["[1]", "'many'", "1.5", "true", "{ a = 1 }", "-1", "2024-01-01"])
@pytest.mark.usefixtures("model")
def test_a_setting_of_a_wrong_type_or_range_is_2(ddpm: Any, settings: Any, value: str, cwd: Path) -> None:
    settings(f"[sample]\nnumber = {value}\n")
    ddpm("sample", "--steps", 1).refused(2)
    assert list(cwd.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "text", "message"),
    [
        ("sample", "[sample]\nseed = -1\n", "seed in FILE is -1, expected 0 or more."),
        ("sample", "[sample]\nbatch_size = 0\n", "batch_size in FILE is 0, expected at least 1."),
        ("sample", "[sample]\nseed = [1]\n", "seed in FILE is [1], expected a number or text."),
        ("sample", "[sample]\nseed = {a = 1}\n", "seed in FILE is a table, expected a number or text."),
        ("sample", "[sample]\nseed = true\n", "seed in FILE is true, expected a number or text."),
        ("sample", "[sample]\nseed = 2024-01-01\n", "seed in FILE is 2024-01-01, expected a number or text."),
        ("sample", "[sample]\noutput = ''\n", "output in FILE is '', expected a number or text."),
        ("sample", "[sample]\nquiet = 'yes'\n", "quiet in FILE is 'yes', expected true or false."),
        ("sample", "[sample]\nquiet = 1\n", "quiet in FILE is 1, expected true or false."),
        ("sample", "[sample]\nsampler = 'ddjm'\n", "sampler in FILE is 'ddjm', expected one of: ddpm, ddim, "),
        ("sample", "[sample]\nsampler = 3\n", "sampler in FILE is 3, expected one of: ddpm, "),
        ("sample", "[sample]\noutput = 'a.tex'\n", "a folder with a slash (output in FILE)."),
        ("sample", "[sample]\nmodel = 'nope'\n", "'nope' (model in FILE)."),
        ("sample", "[sample]\nsmapler = 'ddim'\n", "smapler in FILE is not an option of ddpm sample."),
        ("sample", "[sample.more]\nseed = 1\n", "more in FILE is not an option of ddpm sample."),
        ("sample", "seed = 1\n", "seed in FILE is not a command of ddpm."),
        ("sample", "sample = 3\n", "sample in FILE is 3, expected a table."),
        ("sample", "[sample]\nbatch-size = 1\nbatch_size = 1\n", "batch_size in FILE is given twice"),
        ("sample", "[train]\nlr = [1]\n", "lr in FILE is [1], "),
        ("train", "[train]\nlr = 0\n", "lr in FILE is 0, expected more than 0 and less than 1."),
        ("train", "[train]\npreset = 'tny'\n", "'tny' (preset in FILE)."),
        ("train", "[train]\ndataset = 'nope'\n", "'nope' (dataset in FILE)."),
        ("train", "[train]\nepochs = 1\nsteps = 2\n", "epochs in FILE and steps in FILE contradict each other."),
        ("train", "[train]\naccumulate = 500\n", "accumulate in FILE (500) is larger than --batch-size 128."),
        ("schedule show", "[schedule.show]\nkind = 'lin'\n", "kind in FILE is 'lin', expected one of: constant, "),
        ("schedule show", "[schedule]\nkind = 'lin'\n", "kind in FILE is not a command of ddpm schedule."),
        ("schedule compare", "[schedule.compare]\nkind = ['linear', 3]\n", "'3' (kind in FILE)."),
        ("schedule compare", "[schedule.compare]\nkind = ['linear', ['x']]\n", "expected text."),
    ],
)
@pytest.mark.parametrize("home_file", [True, False], ids=["config.toml", "--config"])
def test_an_error_in_a_file_names_the_file_and_the_key(
    ddpm: Any, settings: Any, cwd: Path, command: str, text: str, message: str, home_file: bool
) -> None:
    path = settings(text) if home_file else Path("settings.toml")
    if not home_file:
        path.write_text(text, encoding="utf-8")
    result = ddpm(*command.split(), *(() if home_file else ("--config", path)))
    assert message.replace("FILE", str(path)) in result.err
    assert result.code in (2, 4)
    assert result.err.count("\n") == 2
    assert {each.name for each in cwd.iterdir()} <= {"settings.toml"}


def test_a_flag_is_called_by_its_own_name_where_a_file_has_the_option_too(ddpm: Any, settings: Any) -> None:
    settings("[sample]\nseed = 3\nsampler = 'ddim'\nmodel = 'nope'\n")
    assert "--seed is -1, " in ddpm("sample", "--seed", -1).err
    assert "config.toml" not in ddpm("sample", "--model", "./nope").err


@pytest.mark.parametrize("content", [b"[sample\n", b"\xff\xfe", b"a = 1\na = 2\n"])
def test_a_file_that_is_no_toml_is_refused_and_named(ddpm: Any, home: Path, content: bytes) -> None:
    home.mkdir()
    (home / "config.toml").write_bytes(content)
    ddpm("schedule", "list").refused(3, str(home / "config.toml"))


def test_a_config_file_that_is_not_there_is_refused(ddpm: Any) -> None:
    ddpm("schedule", "list", "--config", "nowhere.toml").refused(3, "nowhere.toml")


@pytest.mark.parametrize(
    "text",
    [
        '[train]\ncompile = "off"\n',
        '[sample]\nformat = "png"\n',
        '[sample]\noutput = "grid.png"\nbatch-size = 8\n',
        "[schedule.show]\nbeta-start = 0.01\nbeta_end = 0.02\n",
    ],
)
def test_a_setting_has_the_name_of_its_option(ddpm: Any, settings: Any, text: str) -> None:
    settings(text)
    ddpm("schedule", "list").done()


def test_a_data_directory_that_cannot_be_looked_into_is_6(ddpm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DDPM_HOME", "/tmp/" + 300 * "a")
    ddpm("schedule", "list").refused(6, "cannot look into /tmp/aaa", "DDPM_HOME")


def test_help_can_be_read_while_the_settings_are_wrong(ddpm: Any, settings: Any) -> None:
    settings("[sample]\nnumbr = 3\n")
    assert "Usage" in ddpm("sample", "--help").done().out
    assert "Usage" in ddpm("--help").done().out
