"""The pictures of a run: a grid of samples, and how the loss fell.

Invariant: PNG bytes or nothing; where they go is the run's business.
"""

from collections.abc import Callable, Sequence

from ddpm_cli import __version__
from ddpm_cli.pixels import Pixels, to_uint8
from ddpm_cli.render import grid, images
from ddpm_cli.runs.records import Line
from ddpm_cli.sampling import DiffusionModel
from ddpm_cli.sampling.model import check_images

SEED = 0  # of the grids of samples
COLUMNS = 8  # of a grid with one row per class, at most


def samples(model: DiffusionModel, count: int, step: int, stopped: Callable[[], bool]) -> tuple[Pixels, bytes] | None:
    """The first images of a fixed seed; one row per class if the classes are few enough, else the classes in turn.

    Args:
        model: to draw from.
        count: about how many, at least 1.
        step: of the run, for the caption.
        stopped: asked after every step whether to give up.

    Returns:
        The images, uint8 (N, C, H, W), and the PNG of their grid; None where it was given up.

    Raises:
        NumericsError: what came out is no image.
    """
    layout, labels = grid.Layout(), None
    if model.classes:
        each = min(max(2, count // len(model.classes)), COLUMNS)
        labels = [k % len(model.classes) for k in range(count)]
        if 2 * each * len(model.classes) <= 3 * count:
            layout = grid.Layout(each, tuple(enumerate(model.classes)))
            labels = [k for k, _ in layout.rows for _ in range(each)]
            count = len(labels)
    for at in model.walk(SEED, range(count), labels):
        if stopped():
            return None
        x = at.x
    check_images(x, model.flat)
    pixels = to_uint8(x.cpu().numpy())
    picture = grid.arranged(pixels, layout)
    text = {"software": f"ddpm-cli {__version__}", "step": str(step), "seed": str(SEED)}
    return pixels, images.png(grid.captioned(picture, f"step {step:,}, seed {SEED}"), text)


def loss(lines: Sequence[Line], steps_per_epoch: int, title: str, name: str) -> bytes | None:
    """The loss of training over the steps, with that of validation and the learning rate.

    Args:
        lines: of the metrics.
        steps_per_epoch: for the scale of epochs.
        title: which run it is and what is trained, in lines.
        name: of the loss.

    Returns:
        None where no line has a loss.
    """
    from ddpm_cli.render import plots

    known = [line for line in lines if line["loss"] is not None]
    if not known:
        return None
    held = [(line["step"], line["validation"]) for line in known if line.get("validation") is not None]
    return plots.loss_curve(
        [line["step"] for line in known],
        [line["loss"] for line in known],
        learning_rate=[line["lr"] for line in known],
        validation=([step for step, _ in held], [value for _, value in held]) if held else None,
        steps_per_epoch=steps_per_epoch,
        title=title,
        name=name,
    )
