"""``--json``: one document, strict, with absolute paths, also when something fails."""

import math
import signal
from pathlib import Path
from typing import Any

import pytest


def test_train_tells_what_is_documented(ddpm: Any, quick: tuple[str, ...], cwd: Path) -> None:
    from ddpm_cli.checkpoint import read_info

    result = ddpm(*quick, "--steps", 6, "--json", "-o", "a/run").done()
    document = result.json
    assert result.out.count("\n") == 1
    assert (document["schema"], document["status"]) == (1, "done")
    assert document["run"] == str(cwd / "a" / "run")
    assert document["model"] == read_info(cwd / "a" / "run" / "model.safetensors").id
    assert document["steps"] == 6
    assert document["epochs"] == 2  # of 24 images, 8 a step
    assert 0 < document["loss"] < 10
    assert document["seconds"] > 0
    assert document["images_per_second"] > 0


def test_a_number_that_is_not_finite_is_null(ddpm: Any, trained: Path, quick: tuple[str, ...]) -> None:
    assert quick
    document = ddpm("train", "--resume", trained, "--json").done().json  # no step is left, so there is no speed
    assert document["steps"] == 3
    assert document["images_per_second"] is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_skipped_steps_are_counted(
    ddpm: Any, quick: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    from ddpm_cli.denoiser import Denoiser

    right, calls = Denoiser.loss, iter(range(1000))
    monkeypatch.setattr(
        Denoiser, "loss", lambda *args: right(*args) * 0 + value if next(calls) in (1, 2) else right(*args)
    )
    result = ddpm(*quick, "--steps", 4, "--json", "-o", "run").done()
    assert result.json["skipped"] == 2
    assert result.json["loss"] > 0  # of the other two
    assert "2 of 4 steps were skipped" in result.err


def test_a_run_that_skips_no_step_says_nothing_of_it(ddpm: Any, quick: tuple[str, ...]) -> None:
    result = ddpm(*quick, "--steps", 2, "--json", "-o", "run").done()
    assert result.json["skipped"] == 0
    assert "skipped" not in result.err


def test_an_interrupted_run_says_so(ddpm: Any, quick: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    from ddpm_cli.denoiser import Denoiser

    right = Denoiser.loss

    def interrupted(*args: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return right(*args)

    monkeypatch.setattr(Denoiser, "loss", interrupted)
    result = ddpm(*quick, "--steps", 50, "--json")
    assert result.code == 130
    document = result.json
    assert document["status"] == "interrupted"
    assert document["steps"] == 1
    assert Path(document["run"], "state.safetensors").is_file()


def test_an_interrupted_run_without_json_has_no_result(
    ddpm: Any, quick: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ddpm_cli.denoiser import Denoiser

    right = Denoiser.loss

    def interrupted(*args: Any) -> Any:
        signal.raise_signal(signal.SIGTERM)
        return right(*args)

    monkeypatch.setattr(Denoiser, "loss", interrupted)
    result = ddpm(*quick, "--steps", 50)
    assert (result.code, result.out) == (143, "")


@pytest.mark.usefixtures("model")
def test_sample_tells_what_it_drew(ddpm: Any, cwd: Path, model: Path) -> None:
    from ddpm_cli.checkpoint import read_info

    options = ["--first", 4, "--seed", 7, "--label", 1, "--steps", 2, "--trajectory", "walk.png", "--animate", "w.gif"]
    result = ddpm("sample", "-n", 3, *options, "-o", "a/grid.png", "--json").done()
    document = result.json
    assert result.out.count("\n") == 1
    assert (document["schema"], document["status"]) == (1, "done")
    assert document["output"] == str(cwd / "a" / "grid.png")
    assert document["trajectory"] == str(cwd / "walk.png")
    assert document["animation"] == str(cwd / "w.gif")
    assert document["model"] == read_info(model).id
    assert (document["seed"], document["first"], document["number"]) == (7, 4, 3)
    assert document["labels"] == [1, 1, 1]
    assert (document["sampler"], document["steps"], document["guidance"]) == ("dpm++2m-sde", 2, 1)
    assert document["evaluations"] == 2
    assert document["precision"] in ("float32", "bf16")
    assert document["weights"] == "ema"


@pytest.mark.usefixtures("model")
def test_a_model_without_classes_has_null_for_labels(ddpm: Any, home: Path, save_model: Any) -> None:
    save_model(home / "models" / "plain.safetensors", classes=())
    assert ddpm("sample", "--model", "plain", "-n", 2, "--steps", 1, "--json").done().json["labels"] is None


def test_a_dry_run_tells_what_would_be(ddpm: Any, quick: tuple[str, ...], home: Path) -> None:
    document = ddpm(*quick, "--epochs", 4, "--name", "later", "--dry-run", "--json").done().json
    assert document["run"] == str(home / "runs" / "later")
    assert (document["steps"], document["epochs"]) == (12, 4)
    assert document["parameters"] > 0
    assert document["seconds"] > 0


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["train", "--dataset", "nothing"], 2),
        (["train", "--dataset", "./nowhere"], 3),
        (["sample", "--model", "nobody"], 4),
        (["schedule", "show", "--max-beta", "2"], 2),
        (["schedule", "show", "--nonsense"], 2),
        (["schedule", "show", "--quiet", "--verbose"], 2),
        (["smaple"], 2),
        ([], 2),
    ],
    ids=str,
)
@pytest.mark.parametrize("first", [False, True])
def test_a_failure_is_a_document_with_json_and_leaves_stdout_empty_without(
    ddpm: Any, arguments: list[str], code: int, first: bool
) -> None:
    words = [*arguments[:1], "--json", *arguments[1:]] if first else [*arguments, "--json"]
    ddpm(*words).refused(code)  # compares the document with the lines on stderr
    if arguments:
        ddpm(*arguments).refused(code)


def test_a_failure_after_json_in_the_settings_is_a_document(ddpm: Any, home: Path) -> None:
    home.mkdir()
    (home / "config.toml").write_text("[sample]\njson = true\n")
    result = ddpm("sample", "--model", "nobody")
    assert (result.json["status"], result.json["code"], result.code) == ("failed", 4, 4)


def test_a_failure_document_does_not_outlive_its_command(ddpm: Any) -> None:
    ddpm("sample", "--model", "nobody", "--json").refused(4)
    ddpm("sample", "--model", "nobody").refused(4)


def test_a_bug_is_a_document_too(ddpm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def planted(*_: object) -> None:
        raise ZeroDivisionError("planted \x1b[31m")

    monkeypatch.setattr("ddpm_cli.schedule.Schedule.__init__", planted)
    result = ddpm("schedule", "show", "--json")
    assert (result.code, result.json["status"], result.json["code"]) == (1, "failed", 1)
    assert "ZeroDivisionError" in result.json["error"]
    assert "in planted" in result.err
    assert "\x1b" not in result.err


@pytest.mark.usefixtures("model")
def test_an_interrupt_is_a_document_that_says_interrupted(ddpm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ddpm_cli.drawing.draw", interrupt)
    result = ddpm("sample", "--json")
    assert (result.code, result.json["status"], result.json["code"]) == (130, "interrupted", 130)


def test_a_document_that_was_printed_is_not_followed_by_a_second(ddpm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from ddpm_cli.cli._output import Output

    def fail(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Output, "table", fail)
    result = ddpm("schedule", "list", "--json")
    assert result.code == 6
    assert result.json["status"] == "done"
