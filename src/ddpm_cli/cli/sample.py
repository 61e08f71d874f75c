"""``ddpm sample``: from a model to images, with their provenance written into them."""

import dataclasses
import json as json_module
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ddpm_cli import __version__
from ddpm_cli.cli import _options as o
from ddpm_cli.cli._output import Output, duration
from ddpm_cli.config import Sampler, SamplerConfig, Spacing, Variance
from ddpm_cli.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    from ddpm_cli.checkpoint import Info
    from ddpm_cli.render.images import Pixels
    from ddpm_cli.sampling import DiffusionModel, Step

Format = Literal["png", "gif", "npz", "folder"]
COLUMN_EVERY = 100  # levels between two columns of a trajectory
ROWS = 8  # images in a trajectory
FRAMES = 60  # at most, in an animation
ANIMATED = 64  # images at most, in an animation


def sample(
    model: Annotated[
        str | None,
        typer.Option(envvar="DDPM_MODEL", help="Name or path.  [default: newest finished run, else the shipped mnist]"),
    ] = None,
    number: Annotated[int, typer.Option("--number", "-n", min=1, help="How many images.")] = 64,
    first: Annotated[int, typer.Option(min=0, metavar="K", help="Start at image K of the seed.")] = 0,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A .png grid, .gif, .npz, a folder with trailing /, or - for stdout.")
    ] = Path("samples.png"),
    file_format: Annotated[
        Literal["png", "gif", "npz"] | None, typer.Option("--format", help="Of the output.  [default: by its suffix]")
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="Class or classes, by number or name: 7, or 0,1,2 in turn.  [default: by seed]")
    ] = None,
    guidance: Annotated[
        float | None, typer.Option(help="Classifier-free guidance, 1: off.  [default: the model's, 1]")
    ] = None,
    sampler: Annotated[Sampler | None, typer.Option(help="Method.  [default: the model's, dpm++2m-sde]")] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Steps.  [default: T for ddpm, 50 for ddim, 20 for dpm++2m and -sde]")
    ] = None,
    eta: Annotated[float | None, typer.Option(help="Of ddim: 0 deterministic to 1 ancestral.  [default: 0]")] = None,
    variance: Annotated[
        Variance | None, typer.Option(help="Of ddpm: small (btilde) or large (beta).  [default: small]")
    ] = None,
    spacing: Annotated[
        Spacing | None, typer.Option(help="How steps are spread over the levels.  [default: the method's]")
    ] = None,
    clip: Annotated[bool, typer.Option("--clip/--no-clip", help="Keep clean-image estimates in [-1, 1].")] = True,
    seed: o.Seed = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images that walk together; changes memory, not images.")] = 64,
    device: o.Device = "auto",
    precision: o.Precision = "auto",
    trajectory: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also a picture of 8 samples on their way, a column every 100 levels."),
    ] = None,
    animate: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also an animated GIF from noise to images.")
    ] = None,
    weights: Annotated[
        Literal["ema", "raw"] | None, typer.Option(help="Averaged or raw weights.  [default: ema where there]")
    ] = None,
    config: o.Config = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Draw images from a model.

    Prints the path of what it wrote. With no option at all: 64 images of the newest model, as samples.png.
    """
    out = Output(json, quiet, verbose)
    out.check_dash(output)
    kind = _format(output, file_format)
    changes = {"steps": steps, "eta": eta, "variance": variance, "spacing": spacing, "guidance": guidance}
    chosen = Drawing(chosen_seed := o.chosen_seed(seed), range(first, first + number), kind)
    begun = time.perf_counter()
    loaded, info = _load(model, weights, sampler, {**changes, "clip": clip}, batch_size, device, precision, out)
    if seed is None:
        out.note(f"seed {chosen_seed}")
    chosen.draw(loaded, _labels(label, loaded.classes, number), animate is not None, trajectory is not None, out)
    about = provenance(info, loaded, chosen, precision_of(loaded), weights or info.weights[0])
    chosen.write(output, about, trajectory, animate, out)
    seconds = time.perf_counter() - begun
    out.result(str(output)) if str(output) != "-" else None
    out.detail(f"{number} images in {duration(seconds)}, {loaded.evaluations} network evaluations each")
