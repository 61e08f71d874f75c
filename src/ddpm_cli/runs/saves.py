"""What a run keeps: its config, its state, the models made of it; and whether a state can be taken up.

Invariant: ``state.safetensors`` is the truth, and ``model.safetensors`` derived from it; a state is taken up whole or
not at all. ``checkpoints/`` holds models of earlier saves, ``best.safetensors`` the one with the least validation loss.
"""

import contextlib
import dataclasses
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ddpm_cli import checkpoint, config, files, library, ranges
from ddpm_cli.checkpoint import Info
from ddpm_cli.config import RunConfig
from ddpm_cli.errors import DdpmError, ModelError, NumericsError, UsageError
from ddpm_cli.paths import BEST, CONFIG, EARLIER, MODEL, STATE
from ddpm_cli.training import Revision

# What a config may say otherwise than the state: how long and how often, and what the fingerprint of the data covers.
FREE = {"budget", "dataset", "limit", "image_size", "on_bad_image"}
FREE |= {"save_every", "save_steps", "keep", "sample_every", "eval_every"}


@dataclasses.dataclass(frozen=True)
class Position:
    """Where a run is: everything of a state that is not a tensor.

    Args:
        step: steps done.
        steps: of the whole run; None while unknown.
        skipped: steps skipped because a number was not finite.
        broken: those in a row up to now.
        waiting: losses of the steps since the last line of the metrics; None: not finite.
        seconds: trained so far, 0 where an early version did not say.
        images_per_second: median; None: not known.
        data: :meth:`~ddpm_cli.data.ImageSet.fingerprint` of the images; empty where an early version did not say.
        validated_on: what the validation loss is of.
        minutes_from: seconds trained when the present budget of minutes began.
        revisions: estimates of `steps` in a budget of minutes, see :class:`~ddpm_cli.training.Revision`.
        threads: (step, threads) of each change of the number of threads, which changes how sums are rounded.
        compiled: whether the network was compiled, which rounds otherwise.
        winograd: whether it convolves by Winograd's method, which does too.
    """

    step: int
    steps: int | None
    skipped: int = 0
    broken: int = 0
    waiting: tuple[float | None, ...] = ()
    seconds: float = 0.0
    images_per_second: float | None = None
    data: str = ""
    validated_on: str = ""
    minutes_from: float = 0.0
    revisions: tuple[tuple[float, ...], ...] = ()
    threads: tuple[tuple[int, ...], ...] = ()
    compiled: bool = False
    winograd: bool = False

    def __post_init__(self) -> None:
        fine = 0 <= self.step <= (self.step if self.steps is None else self.steps)
        counted = 0 <= min(self.skipped, self.broken) <= max(self.skipped, self.broken) <= min(self.step, 2**31 - 1)
        threads = all(len(each) == 2 and 1 <= each[1] <= ranges.THREADS.most for each in self.threads)
        revised = all(len(each) == len(Revision._fields) and min(each) >= 0 for each in self.revisions)
        if not fine or not counted or self.seconds < 0 or not threads or not revised:
            raise UsageError(f"step {self.step} of {self.steps} is no place in a run")


# --- the config ------------------------------------------------------------------------------------------------------


def write_config(folder: Path, chosen: RunConfig) -> None:
    files.write_bytes(folder / CONFIG, (json.dumps(config.to_dict(chosen), indent=2) + "\n").encode())


# --- the state -------------------------------------------------------------------------------------------------------


def write(folder: Path, tensors: Mapping[str, Tensor], position: Position, chosen: RunConfig, info: Info) -> Info:
    """Write a state and then the model made of it; returns the model's description."""
    weights = {name: value for name, value in tensors.items() if name.startswith(("raw.", "ema."))}
    info = checkpoint.described(info, weights)
    about = {
        "format": checkpoint.FORMAT,
        "kind": "state",
        "run": config.to_dict(chosen),
        "model": info.to_dict(),
        **config.to_dict(position),
    }
    checkpoint.write_tensors(folder / STATE, tensors, about)
    return checkpoint.save(folder / MODEL, weights, info)


def read(
    folder: Path, expected: Mapping[str, Tensor], chosen: RunConfig, info: Info, images: str
) -> tuple[Position, RunConfig]:
    """Where the saved state of a run is, once everything but its numbers was found to fit.

    Args:
        folder: of the run.
        expected: tensors of the names and shapes that it must have.
        chosen: the config that is to go on.
        info: the model that is to be trained.
        images: fingerprint of those it is to be trained on.

    Returns:
        Its position, and the config it was saved with.

    Raises:
        ModelError: the state is corrupt, or belongs to another run, other images or another network.
        NumericsError: the run ended with numbers that are not finite.
    """
    path = folder / STATE
    about, found = checkpoint.read_header(path)
    if about.get("kind") != "state":
        raise ModelError(f"{path} holds no state of a run", checkpoint.DAMAGED)
    names = {field.name for field in dataclasses.fields(Position)}
    try:
        position = config.from_dict(Position, {name: about[name] for name in names & about.keys()}, "the state")
    except UsageError as error:
        raise ModelError(f"{path} holds no state of a run: {error.message}", checkpoint.DAMAGED) from error
    saved = library.checked_run_config(about.get("run"), path)
    for name, value in config.to_dict(chosen).items():
        was = config.to_dict(saved)[name]
        if name not in FREE and value != was:
            differing = _difference(was, value)
            raise ModelError(
                f"{folder / CONFIG} contradicts the saved state: {name} was {differing[0]} and is {differing[1]}",
                "Put it back as it was, or start a new run.",
            )
    if position.data not in ("", images):  # before the tensors, whose shapes other images may have changed
        raise ModelError(
            f"the images of {chosen.dataset} are not those that the run was trained on",
            "Put them back as they were, or start a new run.",
        )
    described = _described(about, path)
    if library.failed(described):
        raise NumericsError(
            f"the run ended at step {position.step:,}, where its loss was no longer finite, and cannot be resumed",
            "Start a new run with a lower --lr.",
        )
    checkpoint.check_tensors(path, found, expected)
    if described.architecture() != info.architecture():
        raise ModelError(
            f"{path} was trained with another network than preset {chosen.preset} now builds", library.NEW_RUN
        )
    return position, saved


def _difference(was: object, now: object) -> tuple[object, object]:
    """What differs between two values of a config, down to the settings in them."""
    if isinstance(was, dict) and isinstance(now, dict):
        name = next(name for name in was if was[name] != now[name])
        return f"{name} {was[name]}", f"{name} {now[name]}"
    return was, now


def _described(about: Mapping[str, Any], path: Path) -> Info:
    try:
        return Info.from_dict(about["model"])
    except (DdpmError, LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ModelError(f"{path} does not say which model it holds", checkpoint.DAMAGED) from error


def derive_model(folder: Path, weights: Mapping[str, Tensor]) -> tuple[Info, bool]:
    """Write the model anew if it is not the one of the saved state: a run may be killed between the two.

    Args:
        folder: of the run.
        weights: those of the state.

    Returns:
        Its description, and whether it was written.

    Raises:
        ModelError: the state does not describe its model.
    """
    path, model = folder / STATE, folder / MODEL
    info = _described(checkpoint.read_header(path)[0], path)
    with contextlib.suppress(ModelError):
        said = checkpoint.read_info(model).id
        if said == info.id == checkpoint.model_id(info.architecture(), checkpoint.read_tensors(model)):
            return info, False
    return checkpoint.save(model, weights, info), True


# --- models beside the last one ---------------------------------------------------------------------------------------


def keep_model(folder: Path, step: int, count: int) -> None:
    """Keep the model of this save under its step, and of those before it so many that there are ``count``."""
    if not count:
        return
    path = folder / EARLIER / f"step-{step:07}.safetensors"
    with files.reported(path):
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        try:
            os.link(folder / MODEL, path)  # no second copy on the disk until the model is replaced
        except OSError:
            with files.replacing(path) as file, (folder / MODEL).open("rb") as model:
                shutil.copyfileobj(model, file)
        for _, old in sorted(_earlier(folder))[:-count]:
            old.unlink(missing_ok=True)


def drop_later(folder: Path, step: int) -> None:
    """Remove the kept models of steps after one that a run goes on from: it will come to them again."""
    for at, path in _earlier(folder):
        if at > step:
            with files.reported(path):
                path.unlink(missing_ok=True)


def _earlier(folder: Path) -> Iterator[tuple[int, Path]]:
    for path in (folder / EARLIER).glob("step-*.safetensors"):
        number = path.stem.removeprefix("step-")
        if number.isdecimal():
            yield int(number), path


def best(folder: Path, score: str) -> tuple[int, float] | None:
    """Step and score, by its name, of the best model so far; None where none has it that can be read."""
    with contextlib.suppress(ModelError, LookupError, TypeError, ValueError):
        training = checkpoint.read_info(folder / BEST).training
        return int(training["step"]), float(training[score])
    return None
