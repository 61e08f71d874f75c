"""Options that several commands share, and the examples that end each help page."""

import contextlib
import inspect
import itertools
import os
import secrets
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from shlex import quote
from typing import Annotated, Any, Literal, cast

import typer

from ddpm_cli import files, paths, ranges
from ddpm_cli.cli import _completion as complete
from ddpm_cli.cli._settings import label_of, read_config
from ddpm_cli.config import SAMPLERS, PlotFormat, SamplerConfig
from ddpm_cli.config import Device as DeviceName
from ddpm_cli.config import Formula as FormulaName
from ddpm_cli.config import Kind as KindName
from ddpm_cli.config import OnBadImage as OnBadImageName
from ddpm_cli.config import Precision as PrecisionName
from ddpm_cli.config import Sampler as SamplerName
from ddpm_cli.errors import DataError, UsageError


def _examples(*lines: str) -> str:
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


EXAMPLES = {
    "ddpm": _examples(
        "ddpm sample -n 64 -o grid.png",
        "ddpm train --dataset mnist --minutes 10",
        "ddpm schedule plot --kind cosine",
    ),
    "train": _examples(
        "ddpm train --dataset mnist --epochs 50 --dry-run",
        "ddpm train --dataset ./photos --image-size 32 --minutes 30",
        "ddpm train --resume latest --epochs 60",
        'run=$(ddpm train --dataset mnist --minutes 3 --seed 0) && ddpm sample --model "$run"',
    ),
    "sample": _examples(
        "ddpm sample -n 64 -o grid.png",
        "ddpm sample --label 7 -n 16 --guidance 2 -o sevens.png",
        "ddpm sample --sampler ddpm --trajectory walk.png --animate walk.gif",
        "ddpm sample -n 1000 --seed 0 -o samples.npz",
        "ddpm sample --like grid.png -o again.png",
    ),
    "edit": _examples(
        "ddpm edit vary --dataset mnist --index 0,1,2 --strength 0.5",
        "ddpm edit inpaint digit.png --mask mask.png -n 1 -o repaired.png",
        "ddpm edit interpolate --between 0,1,2 -o ways.gif",
        "ddpm edit morph --label 3,8",
    ),
    "edit vary": _examples(
        "ddpm edit vary --dataset mnist --index 0,1,2 --strength 0.5",
        "ddpm edit vary sketch.png --label 7 --guidance 2 -o sevens.png",
        "ddpm sample -n 4 -o - --format npz | ddpm edit vary - -n 2 -o varied.npz",
    ),
    "edit inpaint": _examples(
        "ddpm edit inpaint --dataset mnist --index 0,1,2 --mask bottom",
        "ddpm edit inpaint digit.png --mask mask.png -n 1 -o repaired.png",
    ),
    "edit interpolate": _examples(
        "ddpm edit interpolate --seed 3 --between 0,5,9",
        "ddpm edit interpolate one.png two.png --frames 12 -o between.gif",
        "ddpm edit interpolate --dataset mnist --index 0,1 --strength 0.7",
    ),
    "edit morph": _examples(
        "ddpm edit morph --label 3,8",
        "ddpm edit morph --label 1,7,9 -n 6 -o morph.gif",
        "ddpm edit morph --dataset mnist --index 7 --label 8",
    ),
    "eval": _examples(
        "ddpm eval",
        "ddpm eval mnist --metrics labels -n 1000 --guidance 1.5",
        "ddpm eval samples.npz --reference mnist --plot scores.png",
        "ddpm eval --metrics ssim -n 64 --json | python -m json.tool",
    ),
    "noise": _examples(
        "ddpm noise photo.jpg",
        "cat photo.jpg | ddpm noise - --at 0,5%,25%,50%,75%,100% -o strip.png",
        "ddpm noise --dataset mnist --index 7 --at 500 -o one.png",
        "ddpm noise --dataset mnist --process naive --schedule linear -o naive.gif",
        "ddpm noise --view density -o density.png",
        "ddpm noise --view posterior --pixel 14,10 -o pixel.png",
    ),
    "models": _examples("ddpm models list", "ddpm models show mnist", "ddpm models rm OLD-RUN --yes"),
    "models list": _examples("ddpm models list", "ddpm models list --json | python -m json.tool"),
    "models show": _examples("ddpm models show", "ddpm models show mnist --json"),
    "models path": _examples("ddpm models path mnist", 'cp "$(ddpm models path mnist)" mine.safetensors'),
    "models rm": _examples("ddpm models rm OLD-RUN", "ddpm models rm OLD-RUN OLDER-RUN --yes"),
    "doctor": _examples("ddpm doctor", "ddpm doctor --json | python -m json.tool", "ddpm doctor --verify-resume"),
    "schedule": _examples(
        "ddpm schedule list", "ddpm schedule plot --kind cosine", "ddpm schedule compare linear cosine --timesteps 200"
    ),
    "schedule list": _examples("ddpm schedule list"),
    "schedule show": _examples(
        "ddpm schedule show --kind linear --timesteps 100",
        "ddpm schedule show --kind cosine --json",
        "ddpm schedule show --from-file betas.csv -o table.csv",
    ),
    "schedule plot": _examples(
        "ddpm schedule plot --kind cosine",
        "ddpm schedule plot --kind linear --beta-end 0.03 -o linear.svg",
    ),
    "schedule compare": _examples(
        "ddpm schedule compare",
        "ddpm schedule compare linear cosine --timesteps 200 -o compare.png",
        "ddpm schedule compare --kind linear,sigmoid --from-file betas.csv -o table.csv",
    ),
    "data": _examples("ddpm data list", "ddpm data fetch fashion-mnist"),
    "data list": _examples("ddpm data list", "ddpm data list --json | python -m json.tool"),
    "data fetch": _examples(
        "ddpm data fetch fashion-mnist",
        "ddpm data fetch kmnist cifar10",
        'folder=$(ddpm data fetch --quiet svhn) && ls "$folder"',
    ),
    "data path": _examples("ddpm data path mnist", 'ls "$(ddpm data path mnist)"'),
    "data rm": _examples("ddpm data rm cifar10", "ddpm data rm --yes emnist svhn"),
}


Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        is_eager=True,
        callback=read_config,
        metavar="FILE",
        help="Settings in TOML, a table a command.  [default: none]",
    ),
]

# --- shared options -------------------------------------------------------------------------------------------------


def path_of(text: str) -> Path:
    """A path as an option takes it; an empty one would mean the current folder."""
    if not text:
        raise UsageError("the name of a file is empty", "Name one, such as: -o picture.png")
    return Path(text)


def output(text: str, metavar: str = "PATH") -> Any:
    """The option -o of a command, with its help."""
    return typer.Option("--output", "-o", metavar=metavar, parser=path_of, help=text)


def file_option(text: str) -> Any:
    """An option that names a file to write, with its help."""
    return typer.Option(metavar="FILE", parser=path_of, help=text)


class OutOfRange(typer.BadParameter):
    """A value that an option does not accept, with a message that continues after the name of the option."""

    def format_message(self) -> str:
        return f"{given_as(self.ctx, self.param)} {self.message}"


def given_as(context: Any, parameter: Any) -> str:
    """The name under which a value was given: "--seed", or "seed in settings.toml"."""
    return label_of(context, parameter) or str(max(parameter.opts, key=len))


def number(
    allowed: ranges.Range,
    *names: str,
    help: str,  # noqa: A002  # as Typer calls it
    metavar: str = "N",
    auto: bool = False,
) -> Any:
    """An option that takes a number inside a range; `auto`: or the word auto, which is None."""

    def parse(value: object) -> float | None:
        if auto and value == "auto":
            return None
        try:
            return allowed.read(value)
        except ValueError as error:
            raise OutOfRange(str(error)) from None

    return typer.Option(*names, parser=parse, metavar=metavar, help=help)


def _default_steps() -> str:
    """The steps of every sampler: "T for ddpm, 50 for ddim, 10 for heun, else 20"."""
    usual = Counter(steps for steps, *_ in SAMPLERS.values()).most_common(1)[0][0]
    own = [f"{steps or 'T'} for {name}" for name, (steps, *_) in SAMPLERS.items() if steps != usual]
    return f"{', '.join(own)}, else {usual}"


UNNAMED = "newest finished run, else the shipped mnist"  # the model where nobody names one
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, notes or hints; errors remain.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Tell more.")]
Device = Annotated[
    DeviceName,
    typer.Option(envvar="DDPM_DEVICE", help="Where to compute; auto: the first CUDA device, then MPS, then the CPU."),
]
Precision = Annotated[
    PrecisionName,
    typer.Option(
        help="Numeric precision of the network. auto: bf16 on a GPU that supports it; on a CPU float32, but bf16 for "
        "training if the processor supports it."
    ),
]
Seed = Annotated[int | None, number(ranges.SEED, help="Of everything drawn.  [default: random, printed]")]
Kind = Annotated[KindName, typer.Option(help="Noise schedule.")]
Schedule = Annotated[FormulaName, typer.Option(help="Noise schedule.")]
Timesteps = Annotated[int, number(ranges.TIMESTEPS, metavar="T", help="Number of noising steps.")]
BetaStart = Annotated[
    float | None,
    number(
        ranges.BETA,
        metavar="X",
        help="First beta, inside (0, 1); of constant, every beta.  [default: the kind's own, times 1000/T]",
    ),
]
BetaEnd = Annotated[
    float | None,
    number(ranges.BETA, metavar="X", help="Last beta, inside (0, 1).  [default: the kind's own, times 1000/T]"),
]
ZeroTerminal = Annotated[
    bool,
    typer.Option(
        "--zero-terminal-snr", help="Rescale so that nothing of the image is left at level T (Lin et al. 2023)."
    ),
]
Dataset = Annotated[
    str,
    typer.Option(
        metavar="NAME|FOLDER|NPZ",
        autocompletion=complete.data_sets,
        help="Known set, folder of images, or .npz archive.",
    ),
]
DataDir = Annotated[Path | None, typer.Option(metavar="DIR", help="Where to look for the set first.  [default: none]")]
Offline = Annotated[bool, typer.Option("--offline", envvar="DDPM_OFFLINE", help="Never use the network.")]
BAD_IMAGE = "If an image of a folder cannot be read: stop with an error, or skip it."
OnBadImage = Annotated[OnBadImageName, typer.Option(help=BAD_IMAGE)]
CLASSES = "Class names or numbers, with commas: 7, 0-9, all; @3: always the class of index 3."
Force = Annotated[
    bool,
    typer.Option("--force", help="Write into a folder that contains other files, and replace those of equal names."),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Model = Annotated[
    str | None,
    typer.Option(
        envvar="DDPM_MODEL",
        metavar="MODEL",
        autocompletion=complete.models,
        help=f"Name, path, or id (12 digits or more).  [default: {UNNAMED}]",
    ),
]
Weights = Annotated[
    Literal["ema", "raw"] | None, typer.Option(help="Averaged or raw weights.  [default: ema where there]")
]
Sampler = Annotated[SamplerName | None, typer.Option(help=f"Method.  [default: the model's, {SamplerConfig.name}]")]
Steps = Annotated[int | None, number(ranges.STEPS, help=f"Steps.  [default: {_default_steps()}]")]
Guidance = Annotated[
    float | None,
    number(
        ranges.GUIDANCE,
        metavar="X",
        help=f"Classifier-free guidance, 1: off.  [default: the model's, {SamplerConfig.guidance:g}]",
    ),
]
Guide = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL",
        autocompletion=complete.models,
        help="With --guidance: lead away from what this worse model says, an earlier save of the run say, and not from "
        "what the same one says without class.  [default: none]",
    ),
]
BatchSize = Annotated[
    int | None,
    number(
        ranges.BATCH,
        help="Images that walk together; changes memory, not images.  [default: 64, on a GPU 1024]",
    ),
]
Format = Annotated[
    Literal["png", "gif", "apng", "npz"] | None,
    typer.Option("--format", help="Of the output.  [default: by its suffix]"),
]


def with_options(
    shared: Callable[..., None], own_first: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command the options of a signature that several share; it finds their values in its context.

    One that it declares by itself stays as it is. Its own are told of behind the others, or first.
    """

    def give(command: Callable[..., None]) -> Callable[..., None]:
        own, theirs = (dict(inspect.signature(each).parameters) for each in (command, shared))
        both = {**own, **{name: own.get(name, each) for name, each in theirs.items()}}
        merged = both if own_first else {"context": own["context"], **theirs, **own}
        signature = inspect.Signature([each for each in merged.values() if each.kind is not each.VAR_KEYWORD])
        command.__signature__ = signature  # type: ignore[attr-defined]  # where inspect, and so Typer, looks first
        return command

    return give


def group(name: str, text: str) -> typer.Typer:
    """Commands below one name, which alone prints its help.

    Args:
        name: of the group.
        text: what its help begins with.
    """
    commands = typer.Typer(help=text, rich_markup_mode=None, invoke_without_command=True, epilog=EXAMPLES[name])

    @commands.callback()
    def _help(context: typer.Context) -> None:
        if context.invoked_subcommand is None:
            typer.echo(context.get_help())

    return commands


def chosen_seed(seed: int | None) -> int:
    """The seed asked for, or a random one, short enough to type again."""
    return secrets.randbelow(2**32) if seed is None else seed


def one_of(context: typer.Context, **values: object) -> dict[str, Any]:
    """Of options that exclude each other, those given nearest to the user: flags before settings.

    Raises:
        UsageError: two of them at once.
    """
    given = {name: value for name, value in values.items() if value is not None}
    typed = {name: value for name, value in given.items() if is_typed(context, name)}
    chosen = typed or given
    if len(chosen) > 1:
        names = " and ".join(f"--{name}" for name in chosen)
        raise UsageError(f"{names} contradict each other", "Give one of them.")
    return chosen


def is_typed(context: typer.Context, name: str) -> bool:
    """Whether an option stands on the command line itself."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


Written = Literal["png", "gif", "apng", "npz", "folder"]
SUFFIXES = ("png", "gif", "apng", "npz")


def check_output(output: str, asked: str | None, command: str, force: bool) -> Written:
    """The format to write, after refusing, before long work, what cannot or must not be written.

    Args:
        output: a file, a folder, or - for stdout.
        asked: the format asked for; None: by the suffix.
        command: that writes: "sample", "noise", "edit vary" and so on.
        force: whether a folder that contains other files is accepted.

    Raises:
        UsageError: a format that does not fit, a folder with other files in it, or a file of a run.
        ResourceError: it cannot be written.
    """
    kind = _output_format(output, asked)
    if output != "-":
        path = Path(output)
        files.check_place(path, may_be_folder=kind == "folder")
        if kind != "folder":
            _check_replaced(path)
        elif not force:
            _check_folder(path, command)
    return kind


def _check_replaced(path: Path) -> None:
    """Refuse a file that belongs to a run.

    Raises:
        UsageError: it does.
    """
    from ddpm_cli import library

    if path.name in paths.OF_RUN and library.is_run(path.parent):
        raise UsageError(f"{path} belongs to the run in {path.parent}", "Choose another name.")


def _check_folder(folder: Path, command: str) -> None:
    """Refuse a folder with anything but images of the same command in it: some of it could be replaced, and all of it
    would be taken for results. Hidden files do not count.

    Raises:
        UsageError: there is something else.
        ResourceError: it cannot be looked into.
    """
    from ddpm_cli.data.imagefile import UnreadableImage, read_text

    with files.reported(folder), contextlib.suppress(FileNotFoundError):
        for path in sorted(folder.iterdir()):
            if path.name.startswith("."):
                continue
            text: dict[str, str] = {}
            if path.suffix == ".png" and files.is_own(path):
                with contextlib.suppress(UnreadableImage):
                    text = read_text(path)
            if _writer(text) != command:
                own = "samples" if command == "sample" else "results"
                names = itertools.chain([own], (f"{own}-{number}" for number in itertools.count(2)))
                name = next(name for name in names if not os.path.lexists(folder / name))
                raise UsageError(
                    f"{folder} contains {path.name}, which is not from ddpm {command}",
                    f"Write into a folder of its own, -o {quote(str(folder / name))}/, or use --force.",
                )


def _writer(text: Mapping[str, str]) -> str | None:
    """The command that wrote an image with these text chunks; None: not ddpm."""
    if not text.get("software", "").startswith("ddpm-cli"):
        return None
    return f"edit {text['edit']}" if "edit" in text else "noise" if "process" in text else "sample"


def _output_format(output: str, asked: str | None) -> Written:
    """What to write: as asked, else by the suffix; a folder is one that exists or ends in a slash."""
    if output == "-":
        return cast(Written, asked or "png")
    path_of(output)
    suffix = Path(output).suffix.lower().removeprefix(".")
    if asked is not None and suffix != asked and suffix in SUFFIXES:
        raise UsageError(f"{output} is no .{asked}, which --format asks for", f"Name it so: -o NAME.{asked}")
    if Path(output).is_dir() or output.endswith(("/", os.sep)):
        if asked not in (None, "png"):
            raise UsageError(f"{output} is a folder, which takes a PNG an image", f"Name a file: -o NAME.{asked}")
        return "folder"
    if asked is None and suffix not in SUFFIXES:
        found = f"ends in .{suffix}" if suffix else "has no suffix"
        raise UsageError(f"{output} {found}, expected .png, .gif, .apng, .npz, or a folder with a slash")
    return cast(Written, asked or suffix)


PLOTS = (".png", ".svg", ".pdf")  # suffixes of plots


def plot_format(path: Path) -> PlotFormat:
    """The format of a plot by the suffix of its file, one of PLOTS."""
    return cast(PlotFormat, path.suffix.lower().removeprefix("."))


def check_file(path: Path | None, option: str, *suffixes: str) -> None:
    """Refuse, before long work, a file of a kind that an option does not write, or that could not be written.

    Raises:
        UsageError, ResourceError: it is one.
    """
    if path is None:
        return
    _check_replaced(path)
    if path.suffix.lower() not in suffixes:
        *others, last = suffixes
        kinds = f"{', '.join(others)} or {last}" if others else last
        raise UsageError(f"{option} writes a {kinds} file, found {path}", f"Name it so: {option} NAME{suffixes[0]}")
    files.check_place(path)


LARGEST_INPUT = 2**29  # bytes, as of an image file


def from_stdin(what: str, hint: str) -> bytes:
    """What is on stdin.

    Args:
        what: is expected there.
        hint: how to put it there.

    Raises:
        UsageError: it is a terminal.
        DataError: it is empty, or cannot be read.
    """
    if sys.stdin.isatty():
        raise UsageError(f"- reads {what} from stdin, which is a terminal", hint)
    try:
        content = sys.stdin.buffer.read(LARGEST_INPUT + 1)
    except (OSError, ValueError) as error:  # a folder, not open for reading
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise DataError(f"cannot read stdin: {reason.lower()}", hint) from error
    if not content:
        raise DataError(f"there is nothing on stdin, expected {what}", hint)
    if len(content) > LARGEST_INPUT:
        raise DataError(f"stdin holds more than {LARGEST_INPUT // 2**20} MiB, expected {what}", hint)
    return content
