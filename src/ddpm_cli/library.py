"""Models by name: saved ones, runs, and those that ship with the package.

Invariant: a name is looked up in one order everywhere, and nothing here imports torch.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from ddpm_cli import paths
from ddpm_cli.checkpoint import read_info
from ddpm_cli.errors import ModelError, UsageError

Origin = Literal["saved", "run", "shipped", "file"]
SHIPPED = "mnist"  # what samples come from when nothing else is there


class Found(NamedTuple):
    """A model that exists.

    Attributes:
        name: what to call it.
        path: its file.
        origin: where it was found.
    """

    name: str
    path: Path
    origin: Origin


def known() -> Iterator[Found]:
    """Every model that has a name, in the order in which names are looked up: saved, runs (newest first), shipped."""
    for path in sorted(paths.models().glob("*.safetensors")):
        yield Found(path.stem, path, "saved")
    for path in sorted(paths.runs().glob("*/model.safetensors"), key=lambda p: p.stat().st_mtime, reverse=True):
        yield Found(path.parent.name, path, "run")
    for path in sorted((paths.shipped() / "weights").glob("*.safetensors")):
        yield Found(path.stem, path, "shipped")


def find(model: str | None) -> Found:
    """The model that somebody means.

    Args:
        model: a path (something with a separator, a .safetensors suffix, or an existing run folder), or a name; None:
            the newest finished run, else the shipped `mnist`.

    Raises:
        ModelError: there is none of that name, or nothing at that path.
    """
    if model is None:
        runs = (found for found in known() if found.origin == "run" and _is_finished(found.path))
        return next(runs, None) or Found(SHIPPED, paths.shipped() / "weights" / f"{SHIPPED}.safetensors", "shipped")
    path = paths.absolute(model)
    if is_run(path):
        return Found(path.name, path / "model.safetensors", "run")
    if "/" in model or "\\" in model or path.suffix == ".safetensors":
        if is_folder(path):
            raise ModelError(f"{model} is a folder without a run in it", "Name a run folder or a .safetensors file.")
        return Found(path.stem, path, "file")
    names = []
    for found in known():
        if found.name == model:
            return found
        names.append(found.name)
    raise ModelError(f"there is no model called {model!r}", f"Known: {', '.join(names) or 'none'}.")


def find_run(run: str) -> Path:
    """The folder of a run, by path or name, or of the newest one for "latest".

    Raises:
        ModelError: there is no such run.
    """
    if run == "latest":
        newest = max(paths.runs().glob("*/config.json"), key=lambda p: p.stat().st_mtime, default=None)
        if newest is None:
            raise ModelError(f"there is no run in {paths.runs()} yet", "Start one: ddpm train --dataset mnist")
        return newest.parent
    named = paths.runs() / run if "/" not in run and not run.startswith(".") else paths.absolute(run)
    for folder in (paths.absolute(run), named):
        if is_run(folder):
            return folder
    raise ModelError(f"there is no run {run!r}", f"Runs live in {paths.runs()}; the newest one is called latest.")


def is_folder(path: Path) -> bool:
    """Whether a path is a folder; one that the system refuses, too long say, is none."""
    try:
        return path.is_dir()
    except OSError:
        return False


def is_run(folder: Path) -> bool:
    """Whether a folder holds a run, finished or not."""
    return is_folder(folder) and ((folder / "config.json").is_file() or (folder / "model.safetensors").is_file())


def check_name(name: str) -> str:
    """A name that stays inside its folder.

    Raises:
        UsageError: empty, hidden, or with a path separator.
    """
    if not name or name.startswith(".") or any(c in "/\\" or not c.isprintable() for c in name) or len(name) > 200:
        raise UsageError(f"{name!r} is no name", "Use letters, digits, dashes; for a place of your own use -o DIR.")
    return name


def _is_finished(path: Path) -> bool:
    try:
        training = read_info(path).training
    except ModelError:
        return False
    return training.get("step") is not None and training.get("step") == training.get("steps")
