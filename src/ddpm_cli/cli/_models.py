"""The model that a command means, found by its name or path."""

from pathlib import Path
from typing import TYPE_CHECKING

from ddpm_cli.cli._output import Output, age

if TYPE_CHECKING:
    from ddpm_cli.checkpoint import Info
    from ddpm_cli.library import Found
    from ddpm_cli.sampling import DiffusionModel


def guide(name: str | None, out: Output, model: str | None = None) -> "Path | None":
    """The file of the model that guidance leads away from; None: there is none.

    Args:
        name: as somebody named it.
        out: where to tell which it is.
        model: the id that it must have; None: any.

    Raises:
        ModelError: it is not here, or the one named is another.
    """
    from ddpm_cli import checkpoint, library

    if model is not None:
        found = library.find_id(model, name, "away from", "--guide")
    elif name is not None:
        found = library.find(name)
    else:
        return None
    out.note(f"guide {found.name} ({found.origin}, {checkpoint.read_info(found.path).id[:12]})")
    return found.path


def note_merged(model: "DiffusionModel", steps: int | None, out: Output) -> None:
    """Say so where fewer steps are made than were typed."""
    if steps is not None and model.steps < steps:
        _, spacing = model.sampler.steps_and_spacing(model.schedule.timesteps)
        out.note(
            f"--steps {steps:,}: {model.steps:,} steps are made; the model has {model.schedule.timesteps:,} timesteps, "
            f"and --spacing {spacing} visits each at most once"
        )


def with_id(model: str, name: str | None, out: Output) -> "Found":
    """The model with an id, of a name or path where one is given; which one it is, is told on stderr.

    Raises:
        ModelError: it is not here, or the one named is another.
    """
    from ddpm_cli import library

    found = library.find_id(model, name)
    out.note(f"model {found.name} ({found.origin}, {model[:12]})")
    return found


def named(name: str | None, out: Output, needs_classes: bool = False) -> "tuple[Found, Info]":
    """A model and what its header says, without torch; which one it is, is told on stderr.

    Args:
        name: as typed; None: none was.
        out: where to print which it is.
        needs_classes: whether a run can be used where none is named only if it is conditional on classes.

    Raises:
        ModelError: there is none of that name or at that path, or it is damaged.
    """
    from ddpm_cli import checkpoint, library

    found = library.find(name, lambda info: bool(info.classes) or not needs_classes, out.note)
    info = checkpoint.read_info(found.path)
    steps, since = info.training.get("step"), "" if found.origin == "shipped" else age(library.changed(found.path))
    trained = (f", {steps:,} step{'s' * (steps != 1)}" if isinstance(steps, int) else "") + (since and f", {since} old")
    other = "; the shipped one: --model mnist" if name is None and found.origin == "run" else ""
    out.note(f"model {found.name} ({found.origin}, {info.id[:12]}{trained}){other}")
    check = library.sample_check(found, info)
    if check is not None and not check.passed:
        out.note(f"warning: {check}. Train the run longer: {library.longer(found.path.parent, info)}")
    out.detail(f"file {found.path}, {info.parameters:,} parameters, {info.flops / 1e9:.3g} GFLOP an image")
    return found, info
