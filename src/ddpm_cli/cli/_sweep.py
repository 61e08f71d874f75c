"""``ddpm eval --sweep``: which method draws best with how many network evaluations."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from ddpm_cli import __version__, files, paths
from ddpm_cli.cli import _options as o
from ddpm_cli.cli._models import named
from ddpm_cli.cli._output import Output
from ddpm_cli.config import OnBadImage, Sampler
from ddpm_cli.errors import UsageError

if TYPE_CHECKING:
    from ddpm_cli.checkpoint import Info
    from ddpm_cli.evaluation.sweep import Trial
    from ddpm_cli.library import Found

NUMBER = 2000  # images of the last round: from so many on, distances tell more than luck
HEAD = ("method", "steps", "spacing", "evaluations", "images", "Fréchet distance", "interval")
EXACT_HEAD = (*HEAD[:-1], "low", "high")


class Wanted(NamedTuple):
    """What somebody asked for, as ``ddpm eval`` has it."""

    name: str | None
    reference: str | None
    sampler: Sampler | None
    guidance: float | None
    number: int | None
    seed: int
    data_dir: Path | None
    offline: bool
    on_bad_image: OnBadImage | None
    how: dict[str, Any]
    store: bool
    plot: Path | None
    output: Path | None


def kept(name: str | None) -> AbstractContextManager[None]:
    """Keep the run that a model belongs to for this process, so that nothing saves or removes it until its new default
    is stored; nothing for other models.

    Raises:
        ModelError: there is no such model, or its run contains a link.
        ResourceError: another process is using the run.
    """
    from ddpm_cli import library

    run = library.run_of(library.find(name).path)
    if run is None:
        return nullcontext()
    library.check_links(run)
    return files.held(run, make=False)


def sweep(wanted: Wanted, out: Output) -> None:
    """Try methods, tell what was found, and store the best where that is wanted."""
    found, info = named(wanted.name, out)
    if wanted.store:
        _check_storable(found, info, wanted.how)
    from ddpm_cli import drawing, evaluation, library
    from ddpm_cli.evaluation import sweep as core

    channels, height, width = info.shape
    with out.progress("reading", "MB", scale=1e-6) as live:
        against = evaluation.reference(
            wanted.reference,
            (channels, height, width),
            library.training_data(found, info),
            wanted.seed,
            data_dir=wanted.data_dir,
            offline=wanted.offline,
            on_bad_image=wanted.on_bad_image,
            say=out.note,
            progress=live,
        )
    number = wanted.number or NUMBER
    evaluation.choose(["frechet"], against, number, out.note)  # refuses where it cannot be had; warns of few
    config = info.sampler.changed(None, {"guidance": wanted.guidance})
    ready = drawing.ready(found.path, config, **wanted.how)
    methods = get_args(Sampler) if wanted.sampler is None else [wanted.sampler]
    contenders = core.contenders(ready.model, methods)
    out.note(
        f"{len(contenders)} ways to draw, with up to {max(core.EVALUATIONS)} network evaluations; "
        f"the better half goes on, until {number:,} images are judged"
    )
    trials: list[Trial] = []
    with out.progress("sweeping", "network evaluations") as live:
        for trial in core.sweep(ready, against, contenders, number, wanted.seed, live):
            trials.append(trial)
            out.detail(f"{_method(trial)}: {trial.distance.value:.4g} with {trial.images} images")
    best = core.best(trials)
    stored = wanted.store and best is not None
    if stored and best is not None:
        from ddpm_cli import checkpoint

        checkpoint.set_sampler(found.path, best.contender.sampler)
        library.forget_evaluation(info.id)  # which was of images drawn otherwise
    about = {"number": number, "reference": against.about, **core.about(against), "stored": stored}
    _tell(wanted, trials, found.name, info, core.floor(against, number), about, ready, out)
    if best is None:
        return
    out.note(f"best within {core.AFFORDABLE} evaluations: {_method(best)}, {best.distance.value:.4g}")
    if stored:
        out.note(f"{found.name} is drawn like this from now on; its id is still {info.id[:12]}")


def _check_storable(found: "Found", info: "Info", how: dict[str, Any]) -> None:
    from ddpm_cli import library

    if how["guide"] is not None:
        raise UsageError("a model's default has no guide, expected --store without --guide", "Leave out --store.")

    if found.origin == "shipped":
        raise UsageError(f"{found.name} ships with ddpm and is not changed", "Leave out --store.")
    if found.path.name == paths.MODEL and library.run_of(found.path) and not library.is_finished(info):
        raise UsageError(f"run {found.name} is not finished, and its next save would undo it", "Leave out --store.")


def _method(trial: "Trial") -> str:
    sampler = trial.contender.sampler
    return f"{sampler.name} with {trial.contender.evaluations} evaluations"


def _tell(
    wanted: Wanted,
    trials: "list[Trial]",
    name: str,
    info: "Info",
    floor: float | None,
    about: dict[str, Any],
    ready: Any,
    out: Output,
) -> None:
    from ddpm_cli.evaluation import sweep as core

    ordered = sorted(trials, key=lambda each: (each.contender.budget, not each.finished, each.distance.value))
    each = [core.document(trial, info.schedule.timesteps) for trial in ordered]
    best = core.best(trials)
    document = {
        "trials": each,
        "best": None if best is None else core.document(best, info.schedule.timesteps),
        "real": floor,
        "protocol": {
            "software": f"ddpm-cli {__version__}",
            "model": info.id,
            "weights": ready.weights,
            "precision": ready.precision,
            "guidance": ready.model.sampler.guidance,
            "guide": None if ready.guide is None else ready.guide.id,
            "clip": ready.model.sampler.clip,
            "seed": wanted.seed,
            **about,
        },
    }
    if wanted.plot is not None:
        from ddpm_cli.render.scores import sweep_figure

        front = [core.document(trial, info.schedule.timesteps) for trial in core.front(trials)]
        files.write_bytes(
            wanted.plot, sweep_figure(each, front, floor, f"model {name} ({info.id[:12]})", o.plot_format(wanted.plot))
        )
    short = (HEAD, [_row(trial, exact=False) for trial in each])
    exact = (EXACT_HEAD, [_row(trial, exact=True) for trial in each])
    out.report(document, short, exact, wanted.output, {} if wanted.plot is None else {"plot": wanted.plot})
    if floor is not None:
        out.note(f"real images get {floor:.4g}")
    if wanted.plot is not None:
        out.note(f"picture {wanted.plot}")


def _row(trial: dict[str, Any], exact: bool) -> list[str]:
    value, (low, high) = trial["frechet"]["value"], trial["frechet"]["interval"]
    about = [trial["sampler"], str(trial["steps"]), trial["spacing"], str(trial["evaluations"]), str(trial["images"])]
    return [*about, *([str(value), str(low), str(high)] if exact else [f"{value:.3f}", f"{low:.3f} to {high:.3f}"])]
