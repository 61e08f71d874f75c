"""The model that a command means, found by its name or path."""

from typing import TYPE_CHECKING

from ddpm_cli.cli._output import Output

if TYPE_CHECKING:
    from ddpm_cli.checkpoint import Info
    from ddpm_cli.library import Found


def named(name: str | None, out: Output) -> "tuple[Found, Info]":
    """A model and what its header says, without torch; which one it is, is told on stderr.

    Raises:
        ModelError: there is none of that name or at that path, or it is damaged.
    """
    from ddpm_cli import checkpoint, library

    found = library.find(name)
    info = checkpoint.read_info(found.path)
    out.note(f"model {found.name} ({found.origin}, {info.id[:12]})")
    out.detail(f"file {found.path}, {info.parameters:,} parameters, {info.flops / 1e9:.3g} GFLOP an image")
    return found, info
