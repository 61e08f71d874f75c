"""Write into the pages what the code says of itself: help texts, presets, recipes, samplers, schedules.

``python docs/generate_cli_reference.py`` fills the blocks between ``<!-- generated: NAME -->`` and ``<!-- end -->`` in
README.md and docs/*.md; what stands outside them is written by hand. ``tests/test_docs.py`` fails while a page differs
from what this would write.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer

from ddpm_cli import config, networks
from ddpm_cli.cli import app
from ddpm_cli.schedule import Schedule

ROOT = Path(__file__).parent.parent
WIDTH = 100  # columns of a help text, whatever the terminal
BLOCK = re.compile(r"(?<=<!-- generated: )([a-z-]+)( -->\n)(.*?)(?=<!-- end -->)", re.DOTALL)


def pages() -> list[Path]:
    """Every page for readers: the README and what is in docs."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def filled(text: str) -> str:
    """A page with its generated blocks as they should be."""
    return BLOCK.sub(lambda found: f"{found[1]}{found[2]}\n{BLOCKS[found[1]]()}\n\n", text)


# --- the commands ---------------------------------------------------------------------------------------------------


def commands() -> Iterator[tuple[str, Any]]:
    """Every command as typed, and its context, groups before what they hold."""
    todo: list[tuple[str, Any, Any]] = [("ddpm", typer.main.get_command(app), None)]
    while todo:
        name, command, parent = todo.pop(0)
        context = command.context_class(
            command, parent=parent, info_name=name.split()[-1], terminal_width=WIDTH, **command.context_settings
        )
        yield name, context
        inside = getattr(command, "commands", {})
        todo[:0] = [(f"{name} {key}", inside[key], context) for key in inside]


def reference() -> str:
    """A section a command with its whole help text."""
    return "\n\n".join(
        f"### {name}\n\n```text\n{context.command.get_help(context).rstrip()}\n```" for name, context in commands()
    )


# --- tables ---------------------------------------------------------------------------------------------------------


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def presets() -> str:
    """Presets with their size on MNIST, and on small colour images."""

    def size(name: str, shape: config.Shape, classes: int) -> list[str]:
        network = config.network_for(name, shape, classes)
        return [f"{networks.count_parameters(network):,}", f"{networks.count_flops(network) / 1e9:.3g}"]

    rows = [
        [f"`{name}`", what, *size(name, (1, 28, 28), 0), *size(name, (3, 32, 32), 0)]
        for name, (_, what) in config.PRESETS.items()
    ]
    head = ["preset", "what it is", "parameters, 1x28x28", "GFLOP an image", "parameters, 3x32x32", "GFLOP an image"]
    return table(head, rows)


def recipes() -> str:
    """Every value of every recipe, a column each."""
    known = {name: config.to_dict(recipe) for name, (recipe, *_) in config.RECIPES.items()}
    settings = [key for key in config.to_dict(config.TrainConfig()) if key != "seed"]
    rows = [[key.replace("_", " "), *(f"`{values[key]}`" for values in known.values())] for key in settings]
    return table(["setting", *(f"`{name}`" for name in known)], rows)


def samplers() -> str:
    rows = [
        [f"`{name}`", what, "all T" if steps is None else str(steps), f"`{spacing}`"]
        for name, (steps, spacing, what) in config.SAMPLERS.items()
    ]
    return table(["sampler", "what it is", "steps", "spacing"], rows)


def schedules() -> str:
    """Kinds with their beta range, and what is left of the image at the end of long and short chains."""

    def end(kind: config.Kind, timesteps: int) -> str:
        return f"{Schedule(config.ScheduleConfig(kind, timesteps)).abars[-1]:.2g}"

    rows = []
    for kind, what in config.SCHEDULES.items():
        betas = config.BETA_RANGES.get(kind)
        ends = ["", ""] if kind == "custom" else [end(kind, 1000), end(kind, 100)]
        rows.append([f"`{kind}`", what, "{:g} to {:g}".format(*betas) if betas else "", *ends])
    return table(["kind", "what it is", "betas at T = 1000", "abar_T, T = 1000", "abar_T, T = 100"], rows)


BLOCKS: dict[str, Callable[[], str]] = {
    "commands": reference,
    "presets": presets,
    "recipes": recipes,
    "samplers": samplers,
    "schedules": schedules,
}


if __name__ == "__main__":
    for page in pages():
        text = page.read_text(encoding="utf-8")
        if filled(text) != text:
            page.write_text(filled(text), encoding="utf-8")
