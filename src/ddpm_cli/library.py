"""Models by name: saved ones, runs, and those that ship with the package.

Invariant: a name is looked up in one order everywhere, nothing here imports torch, and nothing outside of the data
directory's ``models`` and ``runs`` is ever removed.
"""

import contextlib
import difflib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote
from typing import Any, Literal, NamedTuple, cast

from ddpm_cli import config, documents, files, paths
from ddpm_cli.checkpoint import Info, read_info
from ddpm_cli.config import OnBadImage, RunConfig
from ddpm_cli.errors import DataError, ModelError, ResourceError, UsageError
from ddpm_cli.measures import headline

Origin = Literal["saved", "run", "shipped", "file"]
LONGEST = 200  # bytes of a name; file systems take 255, and some of them go into what is put behind it
SHIPPED = "mnist"  # what samples come from when nothing else is there
SHORT_ID = 12  # digits of an id that tables print and that name a model


NEW_RUN = "Start a new run with ddpm train."
# Steps of batch 128 on MNIST: at 50 samples are noise, at 200 strokes. The second number is a modest first budget.
FEW_STEPS, ENOUGH_STEPS = 200, 2000
LATEST = "latest"  # what stands for the newest run, where a run is asked for


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


class Entry(NamedTuple):
    """A model as lists show it.

    Attributes:
        found: its name, file and origin.
        info: what its file says; None: it cannot be read.
        problem: why not; empty: it can.
        size: bytes on disk: of its file, or of the whole folder of a run.
        changed: when it was made or its file last written, in seconds since 1970; None: not known.
        scores: what is known of its quality: name -> number.
    """

    found: Found
    info: Info | None
    problem: str
    size: int
    changed: float | None
    scores: Mapping[str, float]


class TrainingData(NamedTuple):
    """The images that a model was trained on.

    Attributes:
        name: as the metadata of the model records it; empty if unknown.
        source: a known set, or the absolute path of a folder or an .npz archive; empty if unknown.
        on_bad_image: what training did with images of the folder that cannot be read.
    """

    name: str = ""
    source: str = ""
    on_bad_image: OnBadImage = "stop"

    def located(self, option: str) -> str:
        """The known set, the folder or the archive to read these images from.

        Args:
            option: the one that names other images, for hints.

        Raises:
            UsageError: neither is known.
            DataError: the folder is missing.
        """
        from ddpm_cli.data import KNOWN  # numpy, which lists of models go without

        if not self.source:
            what = f"a folder ({self.name}) whose path is not recorded" if self.name else "images that are not recorded"
            raise UsageError(f"the model was trained on {what}", f"Pass {option} FOLDER.")
        if self.source not in KNOWN and not os.path.exists(self.source):  # noqa: PTH110  # never an error
            raise DataError(
                f"the images that the model was trained on, {self.source}, do not exist",
                f"If it was moved, pass {option} FOLDER.",
            )
        return self.source

    def is_at(self, folder: Path) -> bool:
        """Whether a folder is the one that the model was trained on."""
        from ddpm_cli.data import KNOWN

        return self.source not in KNOWN and os.path.realpath(self.source) == os.path.realpath(folder)


def known() -> Iterator[Found]:
    """Every model that has a name, in the order in which names are looked up: saved, runs (newest first), shipped."""
    for path in sorted(paths.models().glob("*.safetensors")):
        yield Found(path.stem, path, "saved")
    for path in sorted(_of_runs(paths.MODEL), key=lambda p: changed(p) or 0, reverse=True):
        yield Found(path.parent.name, path, "run")
    for path in sorted((paths.shipped() / "weights").glob("*.safetensors")):
        yield Found(path.stem, path, "shipped")


def _of_runs(name: str) -> Iterator[Path]:
    """The files of a name in the runs, without those that are being removed."""
    return (path for path in paths.runs().glob(f"*/{name}") if not path.parent.match(files.REMOVED))


class SampleCheck(NamedTuple):
    """How many of the last samples of a run resemble its training images at first sight.

    Attributes:
        step: of the run.
        alike: samples whose brightness, contrast and roughness lie in the range of the training images.
        number: samples in all.
    """

    step: int
    alike: int
    number: int

    @property
    def passed(self) -> bool:
        """Whether at least half of the samples resemble the training images."""
        return 2 * self.alike >= self.number

    def __str__(self) -> str:
        which = f"{self.alike} of {self.number} samples have" if self.alike else f"none of {self.number} samples has"
        return f"{which} the brightness, contrast and roughness of the training images"


def sample_check(found: Found, info: Info) -> SampleCheck | None:
    """What a run recorded of its last samples; None: nothing, or of another step than its model."""
    if found.origin != "run":
        return None
    values = _read(found.path.parent / paths.SAMPLES / paths.CHECK)
    numbers = [values.get(name) for name in SampleCheck._fields]
    if not all(type(number) is int for number in numbers) or numbers[0] != info.training.get("step"):
        return None
    return SampleCheck(*cast("list[int]", numbers))


def write_sample_check(folder: Path, check: SampleCheck) -> None:
    """Record what a run found of its samples."""
    values = {**check._asdict(), "passed": check.passed}
    files.write_bytes(folder / paths.SAMPLES / paths.CHECK, (json.dumps(values) + "\n").encode())


def longer(folder: Path, info: Info) -> str:
    """The command that trains a run further: to twice its steps, and to enough for a first result."""
    step = info.training.get("step")
    steps = max(2 * step, ENOUGH_STEPS) if isinstance(step, int) else ENOUGH_STEPS
    return f"ddpm train --resume {quote(str(folder))} --steps {steps}"


def _newest(accepts: Callable[[Info], bool], say: Callable[[str], None]) -> Found | None:
    """The newest finished run whose samples did not fail their check; a newer one that did is mentioned."""
    newest, passed_over = None, ""
    for found in known():
        if found.origin != "run":
            continue
        try:
            info = read_info(found.path)
        except ModelError:
            continue
        if not is_finished(info):
            continue
        check = sample_check(found, info)
        if check is not None and not check.passed:
            passed_over = passed_over or f"{found.name}: {check}; to use it: --model {quote(found.name)}"
        elif accepts(info):
            newest = found
            break
    if passed_over:
        say(f"passed over run {passed_over}")
    return newest


def find(
    model: str | None,
    accepts: Callable[[Info], bool] = lambda _: True,
    say: Callable[[str], None] = lambda _: None,
) -> Found:
    """The model that somebody means.

    Args:
        model: a path (something with a separator, a .safetensors suffix, or an existing run folder), a name, or an id
            or its first digits, 12 or more; None: the newest finished run whose samples did not fail their check, else
            the shipped `mnist`.
        accepts: whether a run can be used where none is named.
        say: takes a sentence for each newer run that is passed over because of its samples.

    Raises:
        ModelError: there is none of that name, or nothing at that path; the digits begin several ids.
    """
    if model is None:
        shipped = Found(SHIPPED, paths.shipped() / "weights" / f"{SHIPPED}.safetensors", "shipped")
        return _newest(accepts, say) or shipped
    path = paths.absolute(model)
    if not model:
        raise ModelError("the name of the model is empty", "What there is: ddpm models list")
    if is_run(path):
        return Found(path.name, path / paths.MODEL, "run")
    if "/" in model or "\\" in model or path.suffix == ".safetensors":
        if is_folder(path):
            raise ModelError(f"{model} is a folder without a run in it", "Name a run folder or a .safetensors file.")
        return Found(path.stem, path, "file")
    names = []
    for found in known():
        if found.name == model:
            return found
        names.append(found.name)
    if same := _with_id(model):
        return same[0]
    near = difflib.get_close_matches(model, names, n=1)
    guess = f"Did you mean {near[0]}? " if near else ""
    raise ModelError(f"there is no model called {model!r}", f"{guess}Known: {', '.join(names) or 'none'}.")


def _with_id(digits: str) -> list[Found]:
    """The places of the model whose id begins with these digits, in the order of :func:`known`; none: no id does.

    Raises:
        ModelError: they begin several ids.
    """
    if not re.fullmatch(f"[0-9a-f]{{{SHORT_ID},64}}", digits):
        return []
    same: dict[str, list[Found]] = {}
    for found in known():
        with contextlib.suppress(ModelError):  # a damaged one among many
            if (there := read_info(found.path).id).startswith(digits):
                same.setdefault(there, []).append(found)
    if len(same) > 1:
        raise ModelError(f"{digits} begins the ids of {len(same)} models", f"Type more digits: {', '.join(same)}.")
    return next(iter(same.values()), [])


def find_id(model: str, name: str | None, role: str = "from", option: str = "--model") -> Found:
    """The model with an id, of a name or path where one is given.

    Args:
        model: the id.
        name: which model somebody says it is; None: any that is here.
        role: what an image has to do with it, for messages: it was drawn "from" it, say.
        option: that names it.

    Raises:
        ModelError: there is none here, or the one named has another id.
    """
    for found in known() if name is None else [find(name)]:
        try:
            there = read_info(found.path).id
        except ModelError:
            if name is not None:
                raise
            continue  # a damaged one among many
        if there == model:
            return found
        if name is not None:
            raise ModelError(
                f"{found.name} is another model: its id is {there[:12]}, and the image was drawn {role} {model[:12]}",
                f"Name the model it was drawn {role}: {option}",
            )
    raise ModelError(
        f"the model that the image was drawn {role}, {model[:12]}, is not here",
        f"Name its file, if it lies somewhere else: {option} FILE.safetensors",
    )


def find_run(run: str, say: Callable[[str], None] = lambda _: None) -> Path:
    """The folder of a run, by path or name, or for "latest" of the newest one whose config can be read.

    Args:
        run: what somebody typed.
        say: takes a sentence for each run that was passed over.

    Raises:
        ModelError: there is no such run.
    """
    if run == LATEST:
        return _latest(say)
    if not run:
        raise ModelError("the name of the run is empty", "The newest one is called latest: --resume latest")
    named = paths.runs() / run if "/" not in run and not run.startswith(".") else paths.absolute(run)
    for folder in (paths.absolute(run), named):
        if is_run(folder):
            return folder
    raise ModelError(f"there is no run {run!r}", f"Runs live in {paths.runs()}; the newest one is called latest.")


def _latest(say: Callable[[str], None]) -> Path:
    """The newest run that can be gone on with, as far as its config tells."""
    found = sorted(_of_runs(paths.CONFIG), key=lambda p: changed(p) or 0, reverse=True)
    for path in found:
        try:
            run_config(path.parent)
        except ModelError as error:
            say(f"passed over {path.parent.name}: {error.message}")
            continue
        return path.parent
    what = "that can be read" if found else "yet"
    raise ModelError(f"there is no run in {paths.runs()} {what}", "Start one: ddpm train --dataset mnist")


def run_config(folder: Path) -> RunConfig:
    """The config of a run.

    Raises:
        ModelError: there is none, or it cannot be read.
    """
    path = folder / paths.CONFIG
    try:
        values = documents.read(path)
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder} holds no run that could be resumed ({error})", NEW_RUN) from error
    return checked_run_config(values, path)


def checked_run_config(values: object, path: Path) -> RunConfig:
    """The config of a run from what a file of it holds.

    Raises:
        ModelError: it is none.
    """
    try:
        return config.from_dict(RunConfig, values, "the run")
    except UsageError as error:
        raise ModelError(f"{path} is damaged: {error.message}", NEW_RUN) from error


def training_data(found: Found, info: Info) -> TrainingData:
    """The images that a model was trained on.

    The path of a folder is in the config of the run, which the folder of the model or the one above it holds; the
    metadata of a model contains no path.
    """
    from ddpm_cli.data import KNOWN

    name = str(info.data.get("name", ""))
    for folder in found.path.absolute().parents[:2]:
        if (folder / "config.json").is_file():
            with contextlib.suppress(ModelError):
                run = run_config(folder)
                return TrainingData(name, run.dataset, run.on_bad_image)
    return TrainingData(name, name if name in KNOWN else "")


def is_folder(path: Path) -> bool:
    """Whether a path is a folder; one that the system refuses, too long say, is none."""
    try:
        return path.is_dir()
    except OSError:
        return False


def is_run(folder: Path) -> bool:
    """Whether a folder holds a run, finished or not."""
    return is_folder(folder) and ((folder / paths.CONFIG).is_file() or (folder / paths.MODEL).is_file())


def run_of(model: Path) -> Path | None:
    """The folder of the run that a model file belongs to; None: it belongs to none."""
    folder = model.parent.parent if model.parent.name == paths.EARLIER else model.parent
    return folder if is_run(folder) else None


def check_links(folder: Path) -> None:
    """Refuse a run folder in which a link, a pipe or a device stands for something that a run writes or deletes.

    Raises:
        ModelError: there is one.
    """
    folders = [folder / name for name in (paths.SAMPLES, paths.EARLIER) if files.is_own(folder / name)]
    inside = (path for each in folders for path in each.glob("*"))
    for path in (*(folder / name for name in paths.OF_RUN), *inside):
        if not files.is_own(path):
            raise ModelError(
                f"{path} is a link, a pipe or a device; a run folder holds regular files and folders only",
                "Replace it with the file or folder itself, or start a new run.",
            )


def check_name(name: str) -> str:
    """A name that stays inside its folder.

    Raises:
        UsageError: empty, hidden, or with a path separator.
    """
    fits = name.isprintable() and 0 < len(name.encode()) <= LONGEST
    if not fits or name.startswith(".") or "/" in name or "\\" in name:
        raise UsageError(f"{name!r} is no name", "Use letters, digits, dashes; for a place of your own use -o DIR.")
    return name


def is_finished(info: Info) -> bool:
    """Whether a model's training went to its end, with numbers that are finite."""
    training = info.training
    return training.get("step") is not None and training.get("step") == training.get("steps") and not failed(info)


def failed(info: Info) -> bool:
    """Whether a model is what a run left whose loss was no longer finite."""
    return bool(info.training.get("failed"))


# --- what is known of a model ---------------------------------------------------------------------------------------


def entry(found: Found) -> Entry:
    """What a list shows of a model; a file that cannot be read is part of the answer."""
    size = size_on_disk(found.path.parent if found.origin == "run" else found.path)
    made = changed(found.path)
    with contextlib.suppress(TypeError, ValueError, KeyError):  # a shipped file is as old as its installation
        made = datetime.fromisoformat(record(found)["date"]).replace(tzinfo=UTC).timestamp()
    try:
        info = read_info(found.path)
    except ModelError as error:
        return Entry(found, None, error.message, size, made, {})
    return Entry(found, info, "", size, made, scores(found, info))


def record(found: Found) -> dict[str, Any]:
    """How a shipped model came about: the JSON beside its file. Of any other model, and where there is none, empty."""
    return _read(found.path.with_suffix(".json")) if found.origin == "shipped" else {}


def evaluation(model: str) -> dict[str, dict[str, Any]]:
    """What is known of the quality of a model on this machine.

    Args:
        model: its id.

    Returns:
        `metrics`, name -> figures, and `protocol`, name -> how they were found, with a `number` of images.
    """
    kept: dict[str, dict[str, Any]] = {"metrics": {}, "protocol": {}}
    if not re.fullmatch("[0-9a-f]{64}", model):  # an id comes from a file that may lie
        return kept
    values = _read(evaluation_file(model))
    metrics, protocol = (part if isinstance(part := values.get(name), dict) else {} for name in kept)
    kept["metrics"] = {name: part for name, part in metrics.items() if isinstance(part, dict)}
    kept["protocol"] = {
        name: part for name, part in protocol.items() if isinstance(part, dict) and type(part.get("number")) is int
    }
    return kept


def evaluation_file(model: str) -> Path:
    """Where the evaluation of a model is kept, by its id."""
    return paths.cache() / "evaluations" / f"{model}.json"


def forget_evaluation(model: str) -> None:
    """Keep nothing of how a model was judged, for it is drawn from otherwise now."""
    with contextlib.suppress(OSError):
        evaluation_file(model).unlink()


def scores(found: Found, info: Info) -> dict[str, float]:
    """What is known of a model's quality: from its record or its evaluation here, whichever judged more images."""
    known, images = {}, dict[str, float]()  # name -> value, and of how many images
    shipped, here = record(found), evaluation(info.id)
    for figures, protocol in ((shipped.get("scores"), shipped.get("protocol")), (here.get("metrics"), None)):
        for name, figure in figures.items() if isinstance(figures, Mapping) else ():
            value = figure.get(headline(name)) if isinstance(figure, Mapping) else figure
            number = _number(protocol or here.get("protocol"), name if protocol is None else None)
            if isinstance(value, int | float) and not isinstance(value, bool) and number >= images.get(name, 0):
                known[name], images[name] = float(value), number
    return known


def _number(protocol: object, name: str | None) -> float:
    """Of how many images a protocol tells, its part for a metric where it has such parts; 0: it does not."""
    part = protocol.get(name) if name is not None and isinstance(protocol, Mapping) else protocol
    number = part.get("number") if isinstance(part, Mapping) else 0
    return number if isinstance(number, int | float) else 0


def _read(path: Path) -> dict[str, Any]:
    """An object from a JSON file; empty where there is none that can be read."""
    with contextlib.suppress(OSError, ValueError):
        if isinstance(values := documents.read(path), dict):
            return values
    return {}


def changed(path: Path) -> float | None:
    """When a file was last written, in seconds since 1970; None: the system does not tell."""
    with contextlib.suppress(OSError):
        return path.stat().st_mtime
    return None


def size_on_disk(path: Path) -> int:
    """Bytes of a file, or of all files below a folder; what links inside it point to counts nothing."""
    return sum(sizes(path))


def sizes(path: Path) -> Iterator[int]:
    """The bytes of each file below a folder, or of the file."""
    for parent, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):
                yield os.lstat(os.path.join(parent, name)).st_size  # noqa: PTH118  # there may be many
    with contextlib.suppress(OSError):
        if not path.is_dir():
            yield path.stat().st_size


def file_size(count: float) -> str:
    """Bytes for people: "812 B", "34 kB", "6.8 MB", "120 MB", "1.4 GB"."""
    for size, unit in ((1e9, "GB"), (1e6, "MB")):
        if count >= size:
            return f"{count / size:.1f} {unit}" if count < 10 * size else f"{count / size:,.0f} {unit}"
    return f"{count / 1000:.0f} kB" if count >= 1000 else f"{count:.0f} B"


# --- removing -------------------------------------------------------------------------------------------------------


def removable(model: str) -> Path:
    """The file of a saved model or the folder of a run, directly inside ``DDPM_HOME/models`` or ``DDPM_HOME/runs``.

    Args:
        model: as for :func:`find`; a run that holds no model yet counts too, and what is left of one.

    Raises:
        UsageError: it ships with the package, is somewhere else, or is no name.
        ModelError: there is none.
    """
    path = paths.absolute(model)
    if not model or not (is_run(path) or "/" in model or "\\" in model or path.suffix == ".safetensors"):
        check_name(model)
        saved, run = paths.models() / f"{model}.safetensors", paths.runs() / model
        path = saved if os.path.lexists(saved) else run
        if not os.path.lexists(path):
            same = _with_id(model)
            if len(same) > 1:
                places = ", ".join(str(found.path) for found in same)
                raise UsageError(f"model {model} is in {len(same)} places", f"Name one: {places}")
            found = same[0] if same else find(model)  # a shipped one, or none
            path = found.path.parent if found.origin == "run" else found.path
    if not os.path.lexists(path):
        raise ModelError(f"there is no {path}", "What there is: ddpm models list")
    folder = os.path.realpath(path.parent)
    if folder == os.path.realpath(paths.models()) and path.suffix == ".safetensors":
        return paths.models() / path.name
    # A link may lead nowhere, and what is left of a run need not be one.
    known = path.is_symlink() or any(os.path.lexists(path / name) for name in paths.OF_RUN)
    if folder == os.path.realpath(paths.runs()) and known and path.name != "..":
        return paths.runs() / path.name
    if folder == os.path.realpath(paths.shipped() / "weights"):
        raise UsageError(f"{path.stem} ships with ddpm and stays", "Those that can go: ddpm models list")
    raise UsageError(
        f"{path} is neither in {paths.models()} nor a run in {paths.runs()}, and nothing else is removed",
        "Delete it with the means of your system.",
    )


def remove(path: Path) -> int:
    """Remove what :func:`removable` named; of a link the link alone, never what it points to.

    Returns:
        Bytes freed.

    Raises:
        ResourceError: the system refuses, or a process is training the run; then all of it is still there.
    """
    freed = 0 if path.is_symlink() else size_on_disk(path)
    try:
        if path.is_symlink() or not path.is_dir():
            path.unlink()
        else:
            files.remove_folder(path)
    except OSError as error:
        raise ResourceError(
            f"cannot remove {path}: {(error.strerror or str(error)).lower()}",
            "Check who owns it: ls -ld, and whether the disk is read-only.",
        ) from error
    return freed
