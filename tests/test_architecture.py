"""The layout of docs/architecture.md, enforced: who may import whom, what may be imported when, and what never."""

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

import ddpm_cli

ROOT = Path(ddpm_cli.__file__).parent
RANKS = {
    "": 0,  # the package itself: its version
    "errors": 0,
    "signals": 0,
    "ranges": 0,
    "filekinds": 1,
    "torch_environment": 2,
    "printable": 0,
    "config": 1,
    "documents": 1,
    "paths": 1,
    "files": 1,
    "labels": 1,
    "measures": 1,
    "pixels": 1,
    "seeds": 2,
    "betas": 2,
    "schedule": 2,
    "networks": 2,
    "data": 2,
    "metrics": 2,
    "forward": 3,
    "gaussians": 3,
    "noising": 4,
    "denoiser": 4,
    "render": 5,
    "sampling": 5,
    "likelihood": 5,
    "machine": 4,
    "training": 6,
    "checkpoint": 6,
    "library": 7,
    "drawing": 7,
    "features": 7,
    "inception": 8,
    "provenance": 8,
    "editing": 8,
    "evaluation": 9,
    "diagnosis": 8,
    "runs": 8,
    "rehearsal": 9,
    "cli": 10,
    "__main__": 11,
}
SLOW = {"torch", "torchvision", "matplotlib"}
QUICK = {"seeds", "betas", "schedule", "forward", "noising", "cli", "data", "render"} | {
    part for part, rank in RANKS.items() if rank <= 1
}
# Modules that make objects of any kind out of bytes, so that the bytes run code.
UNPICKLERS = {
    "pickle",
    "cPickle",
    "_pickle",
    "pickle5",
    "cloudpickle",
    "dill",
    "jsonpickle",
    "shelve",
    "joblib",
    "marshal",
}
UNPICKLERS |= {"multiprocessing", "runpy", "code", "codeop"}
# What runs code, or makes a shell run it, by full name.
RUNNERS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen"}
RUNNERS |= {"builtins.eval", "builtins.exec", "builtins.compile", "builtins.__import__"}
RUNNERS |= {"subprocess.getoutput", "subprocess.getstatusoutput", "numpy.load"}
RUNNERS |= {f"torch.{name}" for name in ("load", "save", "jit.load", "jit.save", "export.load", "serialization.load")}
RUNNERS |= {f"torch.{name}" for name in ("hub", "package", "multiprocessing", "hub.load", "utils.model_zoo")}
RUNNERS |= {f"yaml.{name}" for name in ("load", "load_all", "unsafe_load", "unsafe_load_all", "full_load", "Loader")}
RUNNERS |= {"concurrent.futures.ProcessPoolExecutor", "shutil.unpack_archive"}
METHODS = {"read_pickle", "to_pickle", "extractall", "unpack_archive"}  # of whatever


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
        # The package sets what torch reads when it is loaded, whichever of its modules is imported first.
        exceptions = {("", "errors"), ("torch_environment", ""), ("signals", "")}
        assert RANKS[other] < RANKS[part] or (other, part) in exceptions, f"line {found.line}: {found.module}"


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


# --- nothing that is read can run code ------------------------------------------------------------------------------


def meanings(tree: ast.AST) -> dict[str, str]:
    """What the names that a file imports stand for: np -> numpy, load -> torch.load."""
    known = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            known |= {name.asname or name.name.split(".")[0]: name.name for name in node.names if name.asname}
        elif isinstance(node, ast.ImportFrom):
            known |= {name.asname or name.name: f"{node.module}.{name.name}" for name in node.names}
    return known


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and full name of everything that a file imports, wherever it does."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, f"{node.module}.{name.name}") for name in node.names)


def meaning(node: ast.AST, known: Mapping[str, str]) -> str:
    """The full name of what an expression names, `torch.jit.load` say; empty: it is no name."""
    match node:
        case ast.Name():
            return known.get(node.id, node.id)
        case ast.Attribute():
            return f"{meaning(node.value, known)}.{node.attr}"
        case ast.Call(func=ast.Name(id="getattr"), args=[of, ast.Constant(value=str(name)), *_]):
            return f"{meaning(of, known)}.{name}"
    return ""


def dangers(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Lines, and what is there, where code could come from what is read, or be run by a shell."""
    for line, module in imported(tree):
        if module.split(".")[0] in UNPICKLERS or module in RUNNERS - {"numpy.load"} or module.split(".")[-1] in METHODS:
            yield line, module
    known = meanings(tree)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and safely_loaded(node, known)]
    sound = {id(part) for call in calls for part in ast.walk(call.func)}
    for node in ast.walk(tree):
        name = meaning(node, known).removeprefix("builtins.")
        if name and id(node) not in sound and (name in RUNNERS or name.rpartition(".")[2] in METHODS):
            yield node.lineno, name
        if not isinstance(node, ast.Call):
            continue
        for word in node.keywords:
            never = {"allow_pickle": False, "shell": False, "weights_only": True}.get(word.arg or "")
            if never is not None and not (isinstance(word.value, ast.Constant) and word.value.value is never):
                yield node.lineno, ast.unparse(word)
        called, first = meaning(node.func, known), node.args[0] if node.args else None
        module = first.value if isinstance(first, ast.Constant) else None
        if called.endswith("import_module") and isinstance(module, str) and module.split(".")[0] in UNPICKLERS:
            yield node.lineno, module


def safely_loaded(call: ast.Call, known: Mapping[str, str]) -> bool:
    """Whether a call forbids pickles that run code in so many words: numpy's load, torch's of somebody's weights."""
    words = {word.arg: ast.unparse(word.value) for word in call.keywords}
    if meaning(call.func, known) == "torch.hub.load_state_dict_from_url":
        return words.get("weights_only") == words.get("check_hash") == "True"
    return meaning(call.func, known) == "numpy.load" and words.get("allow_pickle") == "False" and len(call.args) < 3


HERE = Path(__file__).parents[1]
WRITTEN = sorted(path for folder in ("src", "tests", "scripts", "docs") for path in (HERE / folder).rglob("*.py"))


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: str(path.relative_to(HERE)))
def test_nothing_is_read_that_could_run_code(path: Path) -> None:
    assert list(dangers(ast.parse(path.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize(
    "snippet",
    [
        *(f"import {module}" for module in sorted(UNPICKLERS)),
        *("import pickle as json", "from pickle import load", "from pickle import *", "import torch, _pickle"),
        *("def f():\n    import pickle", "try:\n    import dill\nexcept ImportError:\n    pass"),
        *("import joblib.externals.cloudpickle", "import multiprocessing.pool", "from multiprocessing import Pool"),
        *(
            "import torch.multiprocessing",
            "from torch import multiprocessing",
            "import torch\ntorch.multiprocessing.Pool()",
        ),
        "from concurrent.futures import ProcessPoolExecutor",
        "import concurrent.futures\nconcurrent.futures.ProcessPoolExecutor()",
        *(f"import torch\ntorch.{name}(path)" for name in ("load", "save", "jit.load", "jit.save", "hub.load")),
        *("import torch as t\nt.load(path)", "from torch import load", "from torch import load as read\nread(path)"),
        *("import torch\nread = torch.load", "import torch\nmap(torch.load, paths)", "from torch.jit import load"),
        *("from torch import jit\njit.load(path)", "from torch import hub\nhub.load_state_dict_from_url(url)"),
        "import torch\ntorch.hub.load_state_dict_from_url(url, weights_only=True)",
        *("import torch\ngetattr(torch, 'load')(path)", "import torch\ntorch.serialization.load(path)"),
        *("import torch\ntorch.load(path, weights_only=False)", "read(path, weights_only=sure)"),
        *("import torch\ntorch.package.PackageImporter(path)", "import torch\ntorch.export.load(path)"),
        *("import numpy as np\nnp.load(path)", "import numpy\nnumpy.load(path)", "from numpy import load\nload(path)"),
        *("import numpy as np\nnp.load(path, allow_pickle=True)", "import numpy as np\nnp.load(path, None, True)"),
        *("import numpy as np\nnp.load(path, allow_pickle=sure)", "import numpy as np\nread = np.load"),
        *("read_array(file, allow_pickle=True)", "import numpy as np\nnp.load(path, allow_pickle=not False)"),
        *("import pandas as pd\npd.read_pickle(path)", "frame.to_pickle(path)", "from pandas import read_pickle"),
        *(
            "eval(text)",
            "exec(text)",
            "compile(text, '', 'exec')",
            "__import__(name)",
            "run = eval",
            "map(eval, texts)",
        ),
        *("import builtins\nbuiltins.eval(text)", "from builtins import exec as run\nrun(text)"),
        *("import builtins\ngetattr(builtins, 'eval')(text)", "import importlib\nimportlib.import_module('pickle')"),
        *("import yaml\nyaml.load(text)", "import yaml\nyaml.unsafe_load(text)", "from yaml import full_load"),
        *("import subprocess\nsubprocess.run(text, shell=True)", "run(text, shell=sure)", "import os\nos.system(text)"),
        *("import os\nos.popen(text)", "from os import system", "import subprocess\nsubprocess.getoutput(text)"),
        *("import runpy\nrunpy.run_path(path)", "import code", "from code import interact", "import codeop"),
        *(
            "archive.extractall(folder)",
            "import shutil\nshutil.unpack_archive(path)",
            "from shutil import unpack_archive",
        ),
    ],
)
def test_what_could_run_code_is_found(snippet: str) -> None:
    assert list(dangers(ast.parse(snippet))), snippet


@pytest.mark.parametrize(
    "snippet",
    [
        *("import re\nre.compile(text)", "network.eval()", "network.compile()", "import json\njson.load(file)"),
        *(
            "import numpy as np\nnp.load(path, allow_pickle=False)",
            "from numpy import load\nload(path, allow_pickle=False)",
        ),
        *("from safetensors.torch import load, save", "import torch\ntorch.compile(network)", "def eval_(): pass"),
        *(
            "import subprocess\nsubprocess.run(words)",
            "run(words, shell=False)",
            "from package.cli import eval as judge",
        ),
        "import torch\ntorch.hub.load_state_dict_from_url(url, weights_only=True, check_hash=True)",
        *("import importlib\nimportlib.import_module(name)", "archive.open(name)", "import code_of_ours"),
    ],
)
def test_what_is_harmless_is_not(snippet: str) -> None:
    assert list(dangers(ast.parse(snippet))) == []


def test_every_folder_with_sources_is_a_part_with_a_rank() -> None:
    assert {part_of(path) for path in SOURCES} <= RANKS.keys()


@pytest.mark.parametrize(
    "module", ["errors", "config", "paths", "files", "schedule", "library", "checkpoint", "data", "render.plots", "cli"]
)
def test_importing_it_leaves_torch_and_matplotlib_alone(module: str) -> None:
    code = f"import sys, ddpm_cli.{module}; print(*{SLOW!r} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
