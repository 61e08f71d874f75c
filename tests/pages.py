"""What the tests of the documentation share: the pages, and the command lines in them."""

import importlib.util
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import typer

from ddpm_cli.cli import app

ROOT = Path(__file__).parent.parent
PAGES = {str(page.relative_to(ROOT)): page for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]}
OPERATORS = set("();<>|&")
KEYWORDS = {"do", "then", "if", "while", "until", "else", "!", "time", "exec"}

# What the variables of the shell in the pages stand for; docs/pipeline.sh sets all but the first.
VARIABLES = {"$run": "earlier", "$images": "samples.npz", "$DATA": "mnist", "$PRESET": "small", "$STEPS": "1000"}


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def script(name: str) -> ModuleType:
    """A script in docs, as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def command_names() -> set[str]:
    """Every command as typed, with nothing behind it."""
    names, todo = set(), [("ddpm", typer.main.get_command(app))]
    while todo:
        name, command = todo.pop()
        names.add(name)
        todo += [(f"{name} {key}", inside) for key, inside in getattr(command, "commands", {}).items()]
    return names


def code(text: str) -> Iterator[str]:
    """What a page shows as code: the lines of fenced blocks for a shell, and inline code that begins like a command.

    Inline code that is just the name of a command speaks of it, with its help.
    """
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        if language in ("sh", "bash", "console"):
            yield from block.replace("\\\n", " ").splitlines()
        elif language == "text":
            # In a help text, what follows "Examples:" is for a shell.
            yield from block.partition("Examples:")[2].splitlines()
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    for span in re.findall(r"`([^`\n]+)`", prose):
        if re.match(r"ddpm\s", span):
            yield f"{span} --help" if span in command_names() else span


def commands_in(line: str) -> Iterator[list[str]]:
    """The arguments of every call of ddpm in a line for a shell."""
    line = line.strip().removeprefix("$ ")
    line = re.sub(r'"\$\(([^"()]*)\)"', r" ( \1 ) ", line)  # ls "$(ddpm data path mnist)"
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
        while words and (re.fullmatch(r"\w+=.*", words[0]) or words[0] in KEYWORDS):
            words.pop(0)
        if words and words[0] == "ddpm":
            yield [VARIABLES.get(word, word) for word in words[1:]]
