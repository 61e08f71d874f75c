"""The pages tell the truth: about commands, options, exit codes, names in the code, files and each other."""

import importlib.util
import inspect
import pkgutil
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import ddpm_cli
from ddpm_cli import errors

ROOT = Path(__file__).parent.parent
PAGES = {str(page.relative_to(ROOT)): page for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]}
REFERENCE = ROOT / "docs" / "cli-reference.md"
OPERATORS = set("();<>|&")

each_page = pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    path = ROOT / "docs" / "generate_cli_reference.py"
    spec = importlib.util.spec_from_file_location("generate_cli_reference", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def contexts(generator: ModuleType) -> dict[str, Any]:
    """Every command as typed, and its context."""
    return dict(generator.commands())


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


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


def code(text: str) -> Iterator[str]:
    """What a page shows as code: the lines of fenced blocks for a shell, and inline code that begins like a command."""
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        if language in ("sh", "bash", "console"):
            yield from block.replace("\\\n", " ").splitlines()
        elif language == "text":
            # In a help text, what follows "Examples:" is for a shell.
            yield from block.partition("Examples:")[2].splitlines()
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    yield from (span for span in re.findall(r"`([^`\n]+)`", prose) if re.match(r"ddpm\s", span))


def commands_in(line: str) -> Iterator[list[str]]:
    """The arguments of every call of ddpm in a line for a shell."""
    line = line.strip().removeprefix("$ ")
    lexer = shlex.shlex(line.replace("$(", " ( "), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    ended: list[list[str]] = [words]
    for word in lexer:
        if set(word) <= OPERATORS:
            words = []
            ended.append(words)
        else:
            words.append(word)
    for words in ended:
        while words and (re.fullmatch(r"\w+=.*", words[0]) or words[0] in ("do", "then", "if", "while", "time")):
            words.pop(0)
        if words and words[0] == "ddpm":
            yield words[1:]


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
