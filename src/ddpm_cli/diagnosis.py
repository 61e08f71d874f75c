"""What is wrong with an installation, and what to do about it.

Invariant: whatever is broken, :func:`examine` comes to an end, within :data:`LIMIT` seconds and a few more. So torch
and every other library that could crash or hang is imported in processes of their own, never here; a check that fails,
or takes its process with it, becomes a finding.
"""

import importlib
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches
from functools import partial
from importlib import metadata
from pathlib import Path
from shlex import quote
from typing import Literal, NamedTuple, get_args

from ddpm_cli import __version__, checkpoint, files, library, paths
from ddpm_cli.config import Device
from ddpm_cli.errors import DataError, DdpmError, ModelError, ResourceError
from ddpm_cli.library import file_size

State = Literal["ok", "warning", "problem"]
Settings = Callable[[], object]

LIMIT = 12.0  # seconds that the processes of their own have, from the beginning
REINSTALL = "pip install --force-reinstall --no-deps ddpm-cli"
REPORT = "Please report it, with what this says: ddpm doctor --json"
FEW_BYTES = 2e9  # of disk: what a run of the largest preset leaves behind
FULL_BYTES = 1e8  # of disk: below it not even a small run can be saved
TIGHT_MEMORY = 1e9  # bytes: below it torch and a small network do not fit well
WALK = 2.0  # seconds for the sizes of folders; a data directory may hold millions of files


class Finding(NamedTuple):
    """What one check found.

    Attributes:
        name: of what was looked at.
        state: "ok"; "warning", it works, but less well than it could; "problem", some of ddpm does not work.
        found: what there is, in a line.
        advice: what to type or do; may be empty.
    """

    name: str
    state: State
    found: str
    advice: str = ""


class Check(NamedTuple):
    """One thing to look at.

    Attributes:
        look: finds nothing, one thing, or several; may raise whatever it likes.
        place: "here"; "libraries", in a process that has no torch; "torch", in one that has.
    """

    look: Callable[[], Iterable[Finding]]
    place: Literal["here", "libraries", "torch"]


def examine(settings: Settings) -> list[Finding]:
    """Look at everything.

    Args:
        settings: reads the settings file as every command does, and raises what is wrong with it.

    Returns:
        The findings, in the order of :data:`CHECKS`.
    """
    deadline = time.monotonic() + LIMIT
    checks = {**CHECKS, "settings": Check(partial(_settings, settings), "here")}
    apart = [[name for name in checks if checks[name].place == place] for place in ("libraries", "torch")]
    apart[1].append(apart[1].pop(apart[1].index("torchvision")))  # what takes longest comes last
    found: dict[str, list[Finding]] = {}
    processes = [_guarded_start(names, found) for names in apart]
    for name, check in checks.items():
        if check.place == "here":
            found[name] = guarded(name, check.look)
    for names, process in zip(apart, processes, strict=True):
        if process is not None:
            found |= _collect(names, process, deadline)
    return [finding for name in checks for finding in found.get(name, [])]


def guarded(name: str, look: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """What a check finds; what it raises is a finding too."""
    findings: list[Finding] = []
    try:
        for finding in look():
            findings.append(finding)  # noqa: PERF402  # those before a failure count
    except DdpmError as error:
        findings.append(Finding(name, "problem", error.message, error.hint))
    except Exception as error:  # noqa: BLE001  # a doctor that falls ill helps nobody
        findings.append(Finding(name, "problem", f"could not be looked at: {_brief(error)}", REPORT))
    return findings


def _brief(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return (f"{type(error).__name__}: {text}" if text else type(error).__name__)[:300]


# --- processes of their own -----------------------------------------------------------------------------------------

MARK = "ddpm-finding "  # libraries print what they like; these lines are ours


def answer() -> None:
    """What such a process does: the checks whose names are its arguments, a line each on stdout."""
    names = sys.argv[1:]
    for number, name in enumerate(names):
        findings = guarded(name, CHECKS[name].look)
        _say(name, findings)
        if name == "torch" and any(finding.state == "problem" for finding in findings):
            for other in names[number + 1 :]:  # they would only say the same in other words
                _say(other, [])
            return


def _say(name: str, findings: list[Finding]) -> None:
    sys.stdout.write(f"\n{MARK}{json.dumps([name, findings])}\n")
    sys.stdout.flush()


def _start(names: list[str]) -> "subprocess.Popen[str]":
    # This very package, whatever else is installed; and nothing from the current folder, where a torch.py may lie.
    search = os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable or "python3", "-P", "-c", "from ddpm_cli.diagnosis import answer; answer()", *names],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        env={**os.environ, "PYTHONPATH": search, "PYTHONIOENCODING": "utf-8"},
    )


def _guarded_start(names: list[str], found: dict[str, list[Finding]]) -> "subprocess.Popen[str] | None":
    try:
        return _start(names)
    except OSError as error:
        why = f"could not be looked at: {sys.executable or 'python3'} does not start ({error.strerror or error})"
        found[names[0]] = [Finding(names[0], "problem", why, "Install Python anew, then ddpm-cli.")]
        return None


def _collect(names: list[str], process: "subprocess.Popen[str]", deadline: float) -> dict[str, list[Finding]]:
    """What a process found; where a check ended it, that is the finding, and another process goes on behind it."""
    found: dict[str, list[Finding]] = {}
    while True:
        output, errors, late = _heard(process, deadline)
        for line in output.splitlines():
            if line.startswith(MARK):
                name, findings = json.loads(line.removeprefix(MARK))
                found[name] = [Finding(*finding) for finding in findings]
        missing = [name for name in names if name not in found]
        if not missing:
            return found
        found[missing[0]] = [_late(missing) if late else _died(missing[0], process.returncode, errors)]
        if late or len(missing) == 1:
            return found
        process = _start(missing[1:])


def _heard(process: "subprocess.Popen[str]", deadline: float) -> tuple[str, str, bool]:
    """What a process wrote to stdout and stderr until its end or the deadline, and whether that was the deadline."""
    try:
        output, errors = process.communicate(timeout=max(0.1, deadline - time.monotonic()))
        return output, errors, False
    except subprocess.TimeoutExpired:
        process.kill()
        try:
            output, errors = process.communicate(timeout=2)
        except subprocess.TimeoutExpired:  # one that hangs inside a driver cannot be killed
            return "", "", True
        return output, errors, True
    except BaseException:
        process.kill()
        raise


def _late(missing: list[str]) -> Finding:
    """Checks that did not come back in time."""
    others = f", and not looked at: {', '.join(missing[1:])}" if missing[1:] else ""
    advice = "Try again: the first import after an installation is slow. If it stays so, a driver may hang."
    return Finding(missing[0], "warning", f"no answer within {LIMIT:.0f} seconds{others}", advice)


def _died(name: str, code: int, errors: str) -> Finding:
    """A check that ended its process."""
    last = next((line.strip() for line in reversed(errors.splitlines()) if line.strip()), "")
    how = f"signal {signal.Signals(-code).name}" if -code in set(signal.Signals) else f"exit code {code}"
    version = f"{_version(name)} " if _version(name) else ""
    found = f"{version}ends Python with {how}{': ' + last[:200] if last else ''}"
    return Finding(name, "problem", found, f"pip install --force-reinstall {_wanted(name)}")


# --- versions -------------------------------------------------------------------------------------------------------


def _ddpm() -> Iterator[Finding]:
    installed = _version("ddpm-cli")
    if installed not in (None, __version__):
        yield Finding("ddpm", "warning", f"{__version__}, but installed as {installed}", REINSTALL)
    else:
        yield Finding("ddpm", "ok", f"{__version__}, {paths.shipped()}")
    for name in _requirements():
        if name not in CHECKS:
            yield from _unsatisfied(name)


def _python() -> Iterator[Finding]:
    yield Finding("python", "ok", f"{platform.python_version()}, {platform.platform()}, {sys.executable}")


def _library(name: str, use: Callable[[], str]) -> Iterator[Finding]:
    """A library's version, and whether it does what ddpm uses it for; `use` may tell more of it."""
    if findings := list(_unsatisfied(name)):
        yield from findings
        return
    try:
        more = use()
    except Exception as error:  # noqa: BLE001  # a broken library raises anything
        found = f"{_version(name)} does not work: {_brief(error)}"
        yield Finding(name, "problem", found, f"pip install --force-reinstall {_wanted(name)}")
    else:
        yield Finding(name, "ok", f"{_version(name)}{', ' if more else ''}{more}")


def _import(module: str, attribute: str) -> str:
    getattr(importlib.import_module(module), attribute)
    return ""


def _use_torch() -> str:
    import torch

    if torch.version.cuda:
        return f"built for CUDA {torch.version.cuda}"
    hip = getattr(torch.version, "hip", None)
    return f"built for ROCm {hip}" if hip else "built without CUDA"


def _use_matplotlib() -> str:
    from ddpm_cli.render import plots

    with plots.styled((1, 1), "png"):
        return ""


def _torchvision() -> Iterator[Finding]:
    """Whether torchvision resizes a picture; each of its releases belongs to one of torch."""
    if findings := list(_unsatisfied("torchvision")):
        yield from findings
        return
    from ddpm_cli.data import resize

    mine, other = _version("torchvision"), f"torch {_version('torch')}"
    asks = _requirements("torchvision").get("torch", "")
    belongs = not asks or not list(_unsatisfied("torch", asks))
    pair = f"{mine} does not belong to {other}, it asks for {asks}" if not belongs else f"{mine} beside {other}"
    try:
        import numpy as np

        resize.to_square(np.zeros((1, 1, 4, 6), np.uint8), 2)
    except Exception as error:  # noqa: BLE001  # a broken library raises anything
        found = f"{pair}, does not work: {_brief(error.__cause__ or error)}"
        yield Finding("torchvision", "problem", found, _pairing())
    else:
        if belongs:
            yield Finding("torchvision", "ok", f"{mine}, resizes images")
        else:
            yield Finding("torchvision", "warning", f"{pair}; it works so far", _pairing())


def _pairing() -> str:
    """The command that installs the torchvision of the installed torch, from where that came."""
    version, _, build = (_version("torch") or "").partition("+")
    index = f" --index-url https://download.pytorch.org/whl/{build}" if build else ""
    return f"pip install --force-reinstall torch{f'=={version}' if version else ''} torchvision{index}"


def _version(name: str) -> str | None:
    """The version of an installed distribution, without importing it."""
    try:
        return metadata.version(name)
    except (metadata.PackageNotFoundError, ValueError):
        return None


def _requirements(name: str = "ddpm-cli") -> dict[str, str]:
    """What an installed distribution asks for: name -> requirement; without extras."""
    try:
        lines = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return {}
    plain = (line.partition(";") for line in lines)
    wanted = ("".join(text.replace("(", "").replace(")", "").split()) for text, _, only_if in plain if not only_if)
    return {re.split(r"[^\w.-]", line, maxsplit=1)[0].lower(): line for line in wanted}


def _wanted(name: str) -> str:
    """A distribution as pip is told about it."""
    return f"'{_requirements().get(name, 'ddpm-cli')}'"


def _unsatisfied(name: str, wanted: str | None = None) -> Iterator[Finding]:
    """A finding where a distribution is missing or has another version than wanted."""
    wanted = wanted or _requirements().get(name, name)
    version = _version(name)
    if version is None:
        yield Finding(name, "problem", "is not installed", f"pip install '{wanted}'")
        return
    try:
        from packaging.requirements import Requirement
    except ImportError:  # others bring it along; without it versions are not compared
        return
    if not Requirement(wanted).specifier.contains(version, prereleases=True):
        yield Finding(name, "problem", f"{version}, expected {wanted}", f"pip install --upgrade '{wanted}'")


# --- the machine; in the process that has torch ---------------------------------------------------------------------


def _device(root: Path = Path("/")) -> Iterator[Finding]:
    """The device that is taken, and why it is not a better one."""
    from ddpm_cli import machine

    with warnings.catch_warnings(record=True) as said:  # torch tells so of old drivers
        warnings.simplefilter("always")
        device = machine.choose_device("auto")
    if device.type == "cpu":
        found, advice = _why_no_gpu(root)
        told = f" ({' '.join(str(said[-1].message).split())[:200]})" if said and found else ""
        cpu = f"cpu, {machine.processor()}"
        yield Finding("device", "warning" if found else "ok", f"{cpu}; {found}{told}" if found else cpu, advice)
    else:
        yield _at_work(device.type)
    for known in get_args(Device):
        if known not in ("auto", device.type) and os.environ.get("DDPM_DEVICE") == known:
            try:
                machine.choose_device(known)
            except ResourceError as error:  # as every command would say
                yield Finding("device", "problem", f"DDPM_DEVICE={known}: {error.message}", "unset DDPM_DEVICE")


def _at_work(kind: str) -> Finding:
    """A GPU, put to work: it may be there and yet not compute."""
    import torch

    try:
        if kind == "cuda":
            free, total = torch.cuda.mem_get_info(0)
            about = f"{torch.cuda.get_device_name(0)}, {file_size(free)} free of {file_size(total)}"
            count = torch.cuda.device_count()
            about += f", the first of {count}" if count > 1 else ""
        else:
            free = torch.mps.recommended_max_memory()
            about = f"{platform.machine()}, {file_size(free)}"
        side = 64
        ones = torch.ones(side, side, device=kind)
        if float((ones @ ones).sum()) != side**3:
            raise ArithmeticError("it multiplies wrongly")
    except (RuntimeError, ArithmeticError) as error:
        advice = "Install the torch for it (https://pytorch.org/get-started/locally), or go without: DDPM_DEVICE=cpu"
        return Finding("device", "problem", f"{kind} is there and does not compute: {_brief(error)}", advice)
    if free < TIGHT_MEMORY:
        return Finding("device", "warning", f"{kind}, {about}", "See what else runs on it: nvidia-smi")
    return Finding("device", "ok", f"{kind}, {about}")


def _why_no_gpu(root: Path) -> tuple[str, str]:
    """Why a GPU that is in the machine is not used, and what to do; empty where there is none."""
    import torch

    driver = any((root / path).exists() for path in ("proc/driver/nvidia/version", "dev/nvidiactl", "dev/dxg"))
    if not driver and not _has_nvidia_card(root):
        return "", ""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and (not visible or visible.startswith("-")):
        return f"CUDA_VISIBLE_DEVICES={visible!r} hides the GPU", "unset CUDA_VISIBLE_DEVICES"
    if torch.version.cuda is None:
        advice = "Install a torch with CUDA: https://pytorch.org/get-started/locally tells the command."
        return "there is an NVIDIA GPU, and this torch is built without CUDA", advice
    if not driver:
        advice = "Install NVIDIA's driver; start a container with --gpus all."
        return "there is an NVIDIA GPU without a driver", advice
    advice = "nvidia-smi tells what the driver is; it must be new enough for torch, or torch older."
    return f"there is an NVIDIA driver, and torch for CUDA {torch.version.cuda} does not find a GPU", advice


def _has_nvidia_card(root: Path) -> bool:
    """Whether the PCI bus has a display controller (class 03) of NVIDIA (vendor 10de)."""
    for card in (root / "sys/bus/pci/devices").glob("*"):
        try:
            vendor, kind = ((card / name).read_text(encoding="ascii").strip() for name in ("vendor", "class"))
        except (OSError, ValueError):
            continue
        if vendor == "0x10de" and kind.startswith("0x03"):
            return True
    return False


def _precision() -> Iterator[Finding]:
    from ddpm_cli import machine

    device = machine.choose_device("auto")
    training, other = (
        machine.PRECISIONS[machine.choose_precision("auto", device, training)] for training in (True, False)
    )
    found = f"--precision auto is {training} for training, {other} for sampling and evaluation"
    yield Finding("precision", "ok", found)


def _threads() -> Iterator[Finding]:
    from ddpm_cli import machine

    count, available, share = machine.use_threads(), machine.available_processors(), machine.processor_share()
    found = f"{count} on {os.cpu_count()} processors"
    if hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) < (os.cpu_count() or 1):
        found += f", bound to {len(os.sched_getaffinity(0))} of them"
    if share is not None:
        found += f", of which a container grants the time of {share:.3g}"
    told = os.environ.get("OMP_NUM_THREADS", "")
    found += f", OMP_NUM_THREADS={told}" if told else ""
    fix = f"export OMP_NUM_THREADS={available}, or unset OMP_NUM_THREADS"
    if told and not re.fullmatch(r"[1-9]\d*(,[1-9]\d*)*", told.replace(" ", "")):
        yield Finding("threads", "warning", f"{found}: not a number", fix)
    elif count > available:
        yield Finding("threads", "warning", f"{found}: more threads than processors hinder each other", fix)
    else:
        yield Finding("threads", "ok", found)


def _load() -> Iterator[Finding]:
    """How busy the processors are, and what threads gain on them now."""
    from ddpm_cli import machine

    if not hasattr(os, "getloadavg"):
        return
    threads, processors, busy = machine.use_threads(), machine.available_processors(), os.getloadavg()[0]
    found = f"on average {busy:.1f} processes computed during the last minute, on {processors} processors"
    if threads > 1:
        found += f"; {threads} threads compute {machine.speed_up(threads):.1f} times as fast as one now"
    if busy > BUSY * processors:
        advice = "Close other programs, or expect training and sampling to take longer; ps aux --sort=-%cpu lists them."
        yield Finding("load", "warning", found, advice)
    else:
        yield Finding("load", "ok", found)


BUSY = 0.5  # processes per processor from which on other work is noticed


def _memory() -> Iterator[Finding]:
    from ddpm_cli import machine

    total, free = machine.memory()
    known = ["unknown" if count is None else file_size(count) for count in (free, total)]
    found = f"{known[0]} free of {known[1]}"
    if free is not None and free < TIGHT_MEMORY:
        yield Finding("memory", "warning", found, "Close other programs, give the container more, use --batch-size 16.")
    else:
        yield Finding("memory", "ok", found)


def _compiler() -> Iterator[Finding]:
    from ddpm_cli import machine

    found = machine.compilers(on_cpu=machine.choose_device("auto").type == "cpu")
    if found:
        yield Finding("compiler", "ok", f"{shutil.which(found[0])}, for --compile")
    else:
        install = "xcode-select --install" if sys.platform == "darwin" else "sudo apt install g++"
        yield Finding("compiler", "ok", "none, and only --compile would use one", f"If you want it: {install}")


def _weights() -> Iterator[Finding]:
    """The shipped models, every byte of them."""
    from ddpm_cli import features

    intact = []
    shipped = [found for found in library.known() if found.origin == "shipped"]
    if library.SHIPPED not in {found.name for found in shipped}:
        yield Finding("weights", "problem", f"the shipped model {library.SHIPPED} is missing", REINSTALL)
    for found in shipped:
        try:
            _, info = checkpoint.load(found.path)  # compares the id with the tensors
        except ModelError as error:
            yield Finding("weights", "problem", error.message, REINSTALL)
        else:
            intact.append(f"{found.name} {info.id[:12]}")
    for name in features.PINNED:
        try:
            intact.append(f"features of {name} {features.load(name).id[:12]}")
        except ModelError as error:
            yield Finding("weights", "problem", error.message, REINSTALL)
    if intact:
        yield Finding("weights", "ok", f"intact: {', '.join(intact)}")


# --- files ----------------------------------------------------------------------------------------------------------


def _data() -> Iterator[Finding]:
    """The data set that ships with the package and those that were fetched, every byte of them."""
    from ddpm_cli.data import KNOWN, find, inventory

    known = KNOWN["mnist"]
    try:
        for file in known.all_files:
            find.verify(find.shipped(known) / file.name, file, known)
    except DataError as error:
        yield Finding("data", "problem", error.message, REINSTALL)
    intact, left, stop = [], [], time.monotonic() + WALK
    damaged: dict[Path, DataError] = {}
    for name, known in KNOWN.items():
        if time.monotonic() > stop:
            left.append(name)
            continue
        stock = inventory.take(known)
        damaged |= {path: error for path, error in stock.damaged.items() if path.parent != find.shipped(known)}
        if stock.present in ("shipped", "cached", "system"):
            intact.append(name)
    for each in damaged.values():
        yield Finding("data", "problem", each.message, each.hint)
    found = f"intact: {', '.join(intact) or 'none'}"
    advice = "To verify the others: ddpm data list" if left else ""
    yield Finding("data", "ok", f"{found}; not verified in time: {', '.join(left)}" if left else found, advice)


def _home() -> Iterator[Finding]:
    """The data directory: whether it can be written, and what it holds."""
    home = paths.home()
    files.check_place(home / "runs" / "any", may_be_folder=True)
    if not library.is_folder(home):
        yield Finding("home", "ok", f"{home}, made as soon as it is needed")
        return
    stop, held = time.monotonic() + WALK, []
    for place in (paths.runs(), paths.models(), paths.datasets(), paths.cache()):
        if library.is_folder(place):
            with files.reported(place), tempfile.TemporaryFile(dir=place):
                pass
            held.append(f"{place.name} {_walked(place, stop)}")
    with files.reported(home), tempfile.TemporaryFile(dir=home):
        pass
    yield Finding("home", "ok", f"{home}{': ' if held else ''}{', '.join(held)}")


def _walked(place: Path, stop: float) -> str:
    """The size of a folder, or that it is more than what was seen in time."""
    total = 0
    for size in library.sizes(place):
        total += size
        if time.monotonic() > stop:
            return f"more than {file_size(total)}"
    return file_size(total)


def _disk() -> Iterator[Finding]:
    home = paths.home()
    there = next(folder for folder in (home, *home.parents) if library.is_folder(folder))
    free = shutil.disk_usage(there).free
    state: State = "problem" if free < FULL_BYTES else "warning" if free < FEW_BYTES else "ok"
    advice = "" if state == "ok" else "See what can go: ddpm models list; or take another disk: DDPM_HOME=DIR"
    yield Finding("disk", state, f"{file_size(free)} free for {home}", advice)


def _settings(read: Settings | None = None) -> Iterator[Finding]:
    if read is not None:
        read()
    path = paths.config_file()
    yield Finding("settings", "ok", f"{path}{', not there: defaults hold' if library.changed(path) is None else ''}")


def _models() -> Iterator[Finding]:
    """The models by name, and the one that is taken when none is named."""
    for found in library.known():
        try:
            checkpoint.read_info(found.path)
        except ModelError as error:
            if found.origin != "shipped":
                yield Finding("models", "warning", error.message, f"ddpm models rm {quote(found.name)}")
    told = os.environ.get("DDPM_MODEL") or None
    try:
        found = library.find(told)
        info = checkpoint.read_info(found.path)
    except ModelError as error:
        advice = "unset DDPM_MODEL, or name another: ddpm models list" if told else REINSTALL
        yield Finding("models", "problem", f"{'DDPM_MODEL: ' if told else ''}{error.message}", advice)
    else:
        yield Finding("models", "ok", f"ddpm sample takes {found.name} ({found.origin}, {info.id[:12]})")


# --- the environment ------------------------------------------------------------------------------------------------

DOCUMENTED = {"DDPM_HOME", "DDPM_MODEL", "DDPM_DEVICE", "DDPM_OFFLINE", "DDPM_DEBUG"}
OTHERS = (
    "CUDA_VISIBLE_DEVICES",
    "OMP_NUM_THREADS",
    "MPLCONFIGDIR",
    "TORCHINDUCTOR_CACHE_DIR",
    "NO_COLOR",
    "PYTHONPATH",
)
SWITCH = {"1", "on", "t", "true", "y", "yes", "0", "off", "f", "false", "n", "no"}


def _environment() -> Iterator[Finding]:
    """The variables that are set, of those that matter; DDPM_ and a word that means nothing is a slip."""
    ours = sorted(name for name in os.environ if name.startswith("DDPM_"))
    for name in ours:
        if name not in DOCUMENTED:
            near = get_close_matches(name, DOCUMENTED, n=1)
            advice = f"Did you mean {near[0]}?" if near else f"unset {name}; known: {', '.join(sorted(DOCUMENTED))}"
            yield Finding("environment", "warning", f"{name} is set, and nothing reads it", advice)
    for name, choices in (("DDPM_DEVICE", get_args(Device)), ("DDPM_OFFLINE", SWITCH)):
        value = os.environ.get(name, "")
        if value and (value if name == "DDPM_DEVICE" else value.lower()) not in choices:
            known = ", ".join(choices if name == "DDPM_DEVICE" else ("1", "0"))
            yield Finding("environment", "problem", f"{name} is {value!r}, expected one of: {known}", f"unset {name}")
    told = [f"{name}={os.environ[name]}" for name in (*ours, *OTHERS) if name in os.environ]
    yield Finding("environment", "ok", ", ".join(told) or "no variable is set that matters here")


CHECKS: dict[str, Check] = {
    "ddpm": Check(_ddpm, "here"),
    "python": Check(_python, "here"),
    "torch": Check(partial(_library, "torch", _use_torch), "torch"),
    "torchvision": Check(_torchvision, "torch"),
    "numpy": Check(partial(_library, "numpy", partial(_import, "numpy", "ndarray")), "libraries"),
    "pillow": Check(partial(_library, "pillow", partial(_import, "PIL.Image", "new")), "libraries"),
    "safetensors": Check(partial(_library, "safetensors", partial(_import, "safetensors", "safe_open")), "libraries"),
    "typer": Check(partial(_library, "typer", partial(_import, "typer", "Typer")), "libraries"),
    "matplotlib": Check(partial(_library, "matplotlib", _use_matplotlib), "libraries"),
    "scipy": Check(partial(_library, "scipy", partial(_import, "scipy.spatial.distance", "cdist")), "libraries"),
    "scikit-image": Check(
        partial(_library, "scikit-image", partial(_import, "skimage.metrics", "structural_similarity")), "libraries"
    ),
    "device": Check(_device, "torch"),
    "precision": Check(_precision, "torch"),
    "threads": Check(_threads, "torch"),
    "load": Check(_load, "torch"),
    "memory": Check(_memory, "torch"),
    "compiler": Check(_compiler, "torch"),
    "environment": Check(_environment, "here"),
    "settings": Check(_settings, "here"),
    "home": Check(_home, "here"),
    "disk": Check(_disk, "here"),
    "data": Check(_data, "libraries"),
    "weights": Check(_weights, "torch"),
    "models": Check(_models, "here"),
}
