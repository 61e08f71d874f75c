"""The layout of docs/architecture.md, enforced: who may import whom, what may be imported when, and what never."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import ddpm_cli

ROOT = Path(ddpm_cli.__file__).parent
RANKS = {
    "": 0,  # the package itself: its version
    "errors": 0,
    "config": 1,
    "paths": 1,
    "files": 1,
    "seeds": 2,
    "schedule": 2,
    "networks": 2,
    "data": 2,
    "render": 2,
    "metrics": 2,
    "forward": 3,
    "gaussians": 3,
    "noising": 4,
    "denoiser": 4,
    "sampling": 5,
    "likelihood": 5,
    "machine": 5,
    "training": 6,
    "checkpoint": 6,
    "library": 7,
    "drawing": 7,
    "features": 7,
    "evaluation": 8,
    "diagnosis": 8,
    "runs": 8,
    "cli": 9,
    "__main__": 10,
}
SLOW = {"torch", "torchvision", "matplotlib"}
QUICK = {"seeds", "schedule", "forward", "noising", "cli", "data", "render"} | {
    part for part, rank in RANKS.items() if rank <= 1
}
UNPICKLERS = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "shelve", "joblib", "marshal"}


class Import(NamedTuple):
    """A module imported somewhere."""

    module: str
    line: int
    at_once: bool  # when the importing module is, rather than inside a function
    for_types: bool  # only below `if TYPE_CHECKING:`


def imports(tree: ast.AST, at_once: bool = True, for_types: bool = False) -> Iterator[Import]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (Import(name.name, node.lineno, at_once, for_types) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"relative import in line {node.lineno}"
            for name in node.names:  # `from package import x`: x may be a module
                yield Import(f"{node.module}.{name.name}", node.lineno, at_once, for_types)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            assert ast.unparse(node.test) == "TYPE_CHECKING"
            assert not node.orelse
            yield from imports(node, at_once, True)
        else:
            inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from imports(node, at_once and not inside, for_types)


def part_of(path: Path) -> str:
    """The name of the part that a file belongs to: `sampling` for sampling/loop.py, `config` for config.py."""
    first = path.relative_to(ROOT).parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


def imported_part(module: str) -> str | None:
    """The part of this package that an import reaches; None: of another package."""
    package, *rest = module.split(".")
    if package != ROOT.name:
        return None
    return rest[0] if rest and not rest[0].startswith("__version") else ""


SOURCES = sorted(ROOT.rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES}
each_file = pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))


@each_file
def test_a_module_imports_only_from_lower_ranks_or_its_own_package(path: Path) -> None:
    part = part_of(path)
    assert part in RANKS, f"{part} has no rank: give it one in docs/architecture.md and here"
    for found in imports(TREES[path]):
        other = imported_part(found.module)
        if other is None or (other == part and path.parent != ROOT):
            continue
        assert other in RANKS, f"line {found.line}: {found.module} has no rank"
        assert RANKS[other] < RANKS[part] or (other, part) == ("", "errors"), f"line {found.line}: {found.module}"


@each_file
def test_what_is_slow_to_import_waits_until_it_is_needed(path: Path) -> None:
    at_once = {found.module.split(".")[0] for found in imports(TREES[path]) if found.at_once and not found.for_types}
    forbidden = SLOW if part_of(path) in QUICK else SLOW - {"torch"}
    assert not at_once & forbidden


@each_file
def test_torchvision_is_for_data_and_matplotlib_for_render_alone(path: Path) -> None:
    for found in imports(TREES[path]):
        package = found.module.split(".")[0]
        home = {"torchvision": "data", "matplotlib": "render"}.get(package)
        assert home in (None, part_of(path)), f"line {found.line}: {found.module}"
        assert not found.module.startswith("matplotlib.pyplot")
        assert package != "click", "Typer carries its own copy of Click"


@each_file
def test_nothing_is_read_that_could_run_code(path: Path) -> None:
    for found in imports(TREES[path]):
        assert found.module.split(".")[0] not in UNPICKLERS, f"line {found.line}: {found.module}"
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Attribute):
            assert ast.unparse(node) not in ("torch.load", "torch.save", "torch.jit.load", "torch.jit.save")
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) not in ("eval", "exec", "builtins.eval", "builtins.exec", "__import__")
            assert all(ast.unparse(word.value) == "False" for word in node.keywords if word.arg == "allow_pickle"), (
                f"line {node.lineno}"
            )


def test_every_folder_with_sources_is_a_part_with_a_rank() -> None:
    assert {part_of(path) for path in SOURCES} <= RANKS.keys()


@pytest.mark.parametrize(
    "module", ["errors", "config", "paths", "files", "schedule", "library", "checkpoint", "data", "render.plots", "cli"]
)
def test_importing_it_leaves_torch_and_matplotlib_alone(module: str) -> None:
    code = f"import sys, ddpm_cli.{module}; print(*{SLOW!r} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
