"""How images were drawn: as plain values, as the text that travels in their file, and read again from it.

Invariant: :func:`read` of :func:`as_text` of :func:`provenance` says all that drawing the same images again takes.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast, get_args

from ddpm_cli import __version__, ranges
from ddpm_cli.checkpoint import Weights
from ddpm_cli.config import Precision, SamplerConfig
from ddpm_cli.drawing import Ready
from ddpm_cli.errors import DataError, UsageError
from ddpm_cli.ranges import Range


def provenance(ready: Ready, seed: int, images: Sequence[int]) -> dict[str, Any]:
    """How to draw these images again, if there are any; what a method does not have is left out."""
    model, config = ready.model, ready.model.sampler
    last = float(model.schedule.timesteps)  # where an interval ends, whatever was typed
    # As asked for, not as many as are left once equal levels are merged: a plan of these would be merged once more.
    steps, spacing = config.steps_and_spacing(model.schedule.timesteps)
    about = {
        "software": f"ddpm-cli {__version__}",
        "model": ready.info.id,
        "weights": ready.weights,
        "sampler": config.name,
        "steps": steps,
        "spacing": spacing,
        "eta": config.eta or 0.0 if config.name == "ddim" else None,
        "variance": config.variance_of(model.denoiser.learned_variance) if config.name == "ddpm" else None,
        "clip": config.clip,
        "guidance": config.guidance,
        "guide": None if ready.guide is None else ready.guide.id,
        "rescale": config.rescale or None,
        "interval": None if config.interval is None else f"{config.interval[0]}-{min(config.interval[1], last)}",
        "threshold": config.threshold,
        "precision": ready.precision,
        "seed": seed,
        "index": _ends(images),
    }
    return {key: value for key, value in about.items() if value is not None}


def _ends(images: Sequence[int]) -> str | None:
    """The first and the last of some images; None: there are none."""
    if not images:
        return None
    return str(images[0]) if len(images) == 1 else f"{images[0]}-{images[-1]}"


def as_text(about: Mapping[str, Any]) -> dict[str, str]:
    """Provenance as the text chunks of a picture: numbers in short, truth as true or false."""
    return {key: _in_short(value) for key, value in about.items()}


def _in_short(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value).removesuffix(".0") if isinstance(value, float) else str(value)


class Origin(NamedTuple):
    """What a file says of how its images were drawn.

    Attributes:
        model: id of the model.
        weights: which of its weights.
        sampler: how.
        precision: what the network computed in.
        seed: the seed.
        images: which images of it.
        labels: the class of each; None where the model has none.
        guide: id of the model that guidance led away from; None: there was none.
        columns: of the grid; None: near-square.
        per_class: images of each class, one class per row; None: in no such rows.
    """

    model: str
    weights: Weights
    sampler: SamplerConfig
    precision: Precision
    seed: int
    images: range
    labels: list[int] | None
    guide: str | None
    columns: int | None = None
    per_class: int | None = None


MOST = 10_000  # images that are sampled again for one file


def read(text: Mapping[str, str], name: str) -> Origin:
    """The origin of the images in a file, from the text in it.

    Args:
        text: its text chunks.
        name: of the file, for messages.

    Raises:
        DataError: it does not say how its images were drawn, or not in a way that can be understood.
    """
    hint = "Pictures that ddpm sample wrote as .png say how they were drawn."
    if "edit" in text:
        raise DataError(f"{name} was made from other images (ddpm edit {text['edit']}), which it does not hold", hint)
    if not text.get("software", "").startswith("ddpm-cli"):
        raise DataError(f"{name} does not say how it was drawn", hint)
    try:
        first, _, last = text["index"].partition("-")
        begin, end = (_whole("index", number, ranges.SEED) for number in (first, last or first))
        if not begin <= end < begin + MOST:
            raise ValueError(f"index is {text['index']}, expected at most {MOST:,} images")
        images = range(begin, end + 1)
        labels = (
            [_whole("label", each, ranges.CLASSES) for each in text["label"].split(",")] if "label" in text else None
        )
        if labels is not None and len(labels) != len(images):
            raise ValueError(f"it has {len(labels)} labels for {len(images)} images")
        return Origin(
            text["model"],
            _one_of(get_args(Weights), text["weights"]),
            SamplerConfig(
                name=cast("Any", text["sampler"]),
                steps=_whole("steps", text["steps"], ranges.STEPS),
                spacing=cast("Any", text["spacing"]),
                eta=float(text["eta"]) if "eta" in text else None,
                variance=cast("Any", text.get("variance")),
                guidance=float(text["guidance"]),
                clip=_one_of(("true", "false"), text["clip"]) == "true",
                rescale=float(text.get("rescale", 0)),
                interval=_interval(text["interval"]) if "interval" in text else None,
                threshold=float(text["threshold"]) if "threshold" in text else None,
            ),
            _one_of(get_args(Precision), text["precision"]),
            _whole("seed", text["seed"], ranges.SEED),
            images,
            labels,
            text.get("guide"),
            *(_whole(key, text[key], ranges.IMAGES) if key in text else None for key in ("columns", "per_class")),
        )
    except (LookupError, ValueError, UsageError) as error:
        raise DataError(f"what {name} says of how it was drawn is damaged: {error}", hint) from error


def _whole(name: str, text: str, allowed: Range) -> int:
    try:
        return int(allowed.read(text))
    except ValueError as error:
        raise ValueError(f"{name} {error}") from None


def _interval(text: str) -> tuple[float, float]:
    low, _, high = text.partition("-")
    return float(low), float(high)


def _one_of(known: Sequence[Any], word: str) -> Any:
    if word not in known:
        raise ValueError(f"{word!r} is none of {', '.join(known)}")
    return word
