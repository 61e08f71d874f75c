"""The pages tell the truth: about commands, options, exit codes, names in the code, files and each other."""

import inspect
import pkgutil
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import ddpm_cli
from ddpm_cli import errors
from pages import PAGES, ROOT, code, commands_in, read, script

REFERENCE = ROOT / "docs" / "cli-reference.md"

each_page = pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    return script("generate_cli_reference")


@pytest.fixture(scope="module")
def contexts(generator: ModuleType) -> dict[str, Any]:
    """Every command as typed, and its context."""
    return dict(generator.commands())


# --- what is generated ----------------------------------------------------------------------------------------------


@each_page
def test_what_is_generated_is_up_to_date(page: Path, generator: ModuleType) -> None:
    text = read(page)
    assert text == generator.filled(text), "run: python docs/generate_cli_reference.py"


def test_every_command_is_documented(contexts: dict[str, Any]) -> None:
    sections = set(re.findall(r"^### (ddpm.*)$", read(REFERENCE), re.MULTILINE))
    assert sections == set(contexts)
    for name, context in contexts.items():
        assert context.command.help, f"{name} has no help"
        assert "Examples:" in (context.command.epilog or ""), f"the help of {name} ends without examples"


def test_help_does_not_depend_on_the_terminal(generator: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    assert generator.reference() in read(REFERENCE)


# --- command lines --------------------------------------------------------------------------------------------------


@pytest.fixture
def parse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str]], str]:
    """Parses a command line as ``ddpm`` does, with commands that do nothing; returns what is wrong with it."""
    import typer

    from ddpm_cli.cli import app

    monkeypatch.setenv("DDPM_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    root = typer.main.get_command(app)

    def disarm(command: Any) -> None:
        for inside in getattr(command, "commands", {}).values():
            disarm(inside)
        if not hasattr(command, "commands"):
            command.callback = lambda **_: None

    def check(arguments: list[str]) -> str:
        if "--config" in arguments:  # is read while parsing
            (tmp_path / arguments[arguments.index("--config") + 1]).touch()
        try:
            root.main(arguments, prog_name="ddpm", standalone_mode=False)
        except typer.TyperException as error:
            return error.format_message() if hasattr(error, "format_message") else str(error)
        return ""

    disarm(root)
    return check


@each_page
def test_every_command_line_parses(page: Path, parse: Callable[[list[str]], str]) -> None:
    wrong = [
        f"{line.strip()}: {problem}"
        for line in code(read(page))
        for arguments in commands_in(line)
        if (problem := parse(arguments))
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "line",
    [
        "ddpm paint",
        "ddpm schedule shew",
        "ddpm sample --colour red",
        "ddpm sample extra",
        "ddpm sample -n many",
        "ddpm sample -n 0",
        "ddpm train --target y",
        'run=$(ddpm train --epoch 3 ) && ddpm sample --model "$run"',
        "ddpm schedule plot -o - | ddpm schedule show --from-fil -",
    ],
)
def test_a_wrong_command_line_is_noticed(line: str, parse: Callable[[list[str]], str]) -> None:
    assert any(parse(arguments) for arguments in commands_in(line))


def test_the_pages_hold_command_lines() -> None:
    found = [arguments for page in PAGES.values() for line in code(read(page)) for arguments in commands_in(line)]
    assert len(found) > 50
    assert {"train", "sample", "schedule"} <= {arguments[0] for arguments in found if arguments}


# --- tables written by hand -----------------------------------------------------------------------------------------


def section(title: str) -> str:
    """A section of the command-line page, by its heading."""
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", read(REFERENCE), re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def test_exit_codes_are_those_of_the_errors() -> None:
    rows = re.findall(r"^\| (\d+) \| (?:`(\w+)`)? *\|", section("Exit codes"), re.MULTILINE)
    documented = {name: int(number) for number, name in rows if name}
    tree = {
        name: kind.exit_code
        for name, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, errors.DdpmError) and kind is not errors.DdpmError
    }
    assert documented == tree
    assert {int(number) for number, name in rows if not name} == {0, errors.DdpmError.exit_code, 129, 130, 141, 143}


def test_environment_variables_are_those_of_the_code(contexts: dict[str, Any]) -> None:
    documented = set(re.findall(r"^\| `(DDPM_\w+)` \|", section("Settings"), re.MULTILINE))
    used = {parameter.envvar for context in contexts.values() for parameter in context.command.params}
    for file in Path(ddpm_cli.__file__).parent.rglob("*.py"):
        used |= set(re.findall(r'environ(?:\.get\(|\[)"(DDPM_\w+)"', read(file)))
    assert documented == used - {None}


# --- links and names ------------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """The anchors GitHub makes of a page's headings."""
    text = re.sub(r"^```.*?^```", "", read(page), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@each_page
def test_every_link_leads_somewhere(page: Path) -> None:
    prose = re.sub(r"^```.*?^```", "", read(page), flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)", prose) + re.findall(r'(?:src|href)="([^"]+)"', prose)
    for target in targets:
        if re.match(r"\w+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.is_relative_to(ROOT), f"{target} leaves the project"
        assert there.exists(), f"{target} does not exist"
        assert not anchor or anchor in anchors(there), f"{target}: no such heading"


@each_page
def test_every_name_in_the_code_exists(page: Path) -> None:
    """A name such as `forward.q_sample` in the prose is one of the package."""
    modules = {module.name for module in pkgutil.iter_modules(ddpm_cli.__path__)}
    files = r"\.(py|md|json|jsonl|toml|csv|png|gif|svg|npz|log|safetensors)$"
    for name in re.findall(r"`([a-z_]+(?:\.\w+)+)(?:\([^`]*\))?`", read(page)):
        if name.split(".")[0] in modules and not re.search(files, name):
            assert pkgutil.resolve_name(f"ddpm_cli.{name}"), name


@each_page
def test_every_file_of_the_package_that_is_named_exists(page: Path) -> None:
    for name in re.findall(r"`((?:src/ddpm_cli/|tests/|docs/)?[\w/]+\.py)`", read(page)):
        places = [ROOT / name, ROOT / "src" / "ddpm_cli" / name]
        assert any(place.exists() for place in places), f"{name} does not exist"


@each_page
def test_no_page_waits_for_a_number(page: Path) -> None:
    assert "TODO" not in read(page)


# --- pictures -------------------------------------------------------------------------------------------------------


def test_every_picture_is_in_the_gallery_below_the_commands_that_made_it() -> None:
    made = [picture.name for picture in script("make_gallery").pictures(read(PAGES["docs/gallery.md"]))]
    shown = re.findall(r"\(images/([^)]+)\)", read(PAGES["docs/gallery.md"]))
    assert made == shown
    assert sorted(made) == sorted(path.name for path in (ROOT / "docs" / "images").iterdir())


@each_page
def test_every_picture_is_described(page: Path) -> None:
    assert all(len(words) > 15 for words in re.findall(r"!\[([^\]]*)\]", read(page)))
