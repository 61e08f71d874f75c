"""The machine under a network: its device, the precision it is fast in, its threads, its memory, its compiler.

Invariant: what a container may use counts, not what the machine around it has.
"""

import contextlib
import functools
import json
import logging
import math
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import ParamSpec, TypeVar, cast

import torch

from ddpm_cli import documents, files, networks, paths, torch_environment
from ddpm_cli.config import Device, Precision
from ddpm_cli.errors import ResourceError, UsageError
from ddpm_cli.networks.winograd import convolve

P = ParamSpec("P")
T = TypeVar("T")

PRECISIONS: dict[torch.dtype, Precision] = {
    torch.float32: "float32",
    torch.bfloat16: "bf16",
    torch.float16: "fp16",
}


def choose_device(wanted: Device) -> torch.device:
    """The device to compute on: for `auto` the first CUDA device, then MPS, then the CPU.

    Raises:
        ResourceError: the device asked for is absent.
    """
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if (wanted == "cuda" and not cuda) or (wanted == "mps" and not mps):
        raise ResourceError(f"there is no {wanted} device here", "Use --device auto, or --device cpu.")
    if wanted == "cuda" or (wanted == "auto" and cuda):
        return torch.device("cuda", 0)
    return torch.device("mps" if wanted == "mps" or (wanted == "auto" and mps) else "cpu")


def choose_precision(wanted: Precision, device: torch.device, training: bool = False) -> torch.dtype:
    """The dtype the network computes in.

    `auto` follows a written rule and no clock: on a GPU bf16 if the GPU supports it. On a CPU float32, so that a seed
    gives the same image on every call and under any load; only training uses bf16, if the processor has instructions
    for it.

    Raises:
        UsageError: fp16 on a CPU, where it is neither fast nor safe.
    """
    match wanted:
        case "float32":
            return torch.float32
        case "bf16":
            return torch.bfloat16
        case "fp16":
            if device.type == "cpu":
                raise UsageError("fp16 is for GPUs, and this is a CPU", "Use --precision bf16 or float32.")
            return torch.float16
        case "auto":
            if device.type == "cuda":
                fast = torch.cuda.is_bf16_supported(including_emulation=False)
            else:
                fast = device.type == "cpu" and training and has_bf16()
            return torch.bfloat16 if fast else torch.float32


BF16 = {"avx512_bf16", "amx_bf16"}  # processor flags
CPUINFO = Path("/proc/cpuinfo")


def has_bf16(cpuinfo: Path = CPUINFO) -> bool:
    """Whether this processor reports instructions for products of bf16 numbers."""
    flags = next((line.partition(":")[2] for line in _lines(cpuinfo) if line.startswith("flags")), "")
    return not BF16.isdisjoint(flags.split())


def winograd_pays(flops: int, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a network is trained faster here if it multiplies less, see :mod:`ddpm_cli.networks.winograd`.

    Measured, and kept in the cache. Never but in float32 on a CPU, nor in small networks, which lose in their narrow
    layers what they gain in the wide ones.

    Args:
        flops: of the network for one image.
        device: to train on.
        dtype: to train in.
    """
    if device.type != "cpu" or dtype != torch.float32 or flops < LARGE:
        return False
    key = f"convolution {circumstances()}"
    if isinstance(known := remembered("winograd", key), bool):
        return known
    # The best of a few rounds, in turn, so that a busy moment meets both.
    times = [(_training_seconds(True), _training_seconds(False)) for _ in range(5)]
    faster = min(new for new, _ in times) * CLEARLY_FASTER < min(usual for _, usual in times)
    remember("winograd", key, faster)
    return faster


CLEARLY_FASTER = 1.3  # the layers between the convolutions use up a part of the gain
LARGE = 1e9  # FLOP of a network


def _training_seconds(winograd: bool) -> float:
    """How long a wide 3x3 convolution takes forth and back, in float32; 5.5 GFLOP if nothing is saved."""
    x = torch.ones(8, 128, 28, 28).to(memory_format=torch.channels_last).requires_grad_()
    kernel = torch.ones(128, 128, 3, 3).to(memory_format=torch.channels_last).requires_grad_()
    bias = torch.ones(128)
    start = time.perf_counter()
    y = convolve(x, kernel, bias) if winograd else torch.nn.functional.conv2d(x, kernel, bias, padding=1)
    y.sum().backward()
    return time.perf_counter() - start


def processor(cpuinfo: Path = CPUINFO) -> str:
    """The name of the processor, or else its kind: `x86_64`, `arm64`."""
    names = (line.partition(":")[2].strip() for line in _lines(cpuinfo) if line.startswith("model name"))
    return next(filter(None, names), "") or platform.processor() or platform.machine()


# --- what was measured once -----------------------------------------------------------------------------------------


def circumstances(device: torch.device | None = None) -> str:
    """What a measurement of speed depends on beside what is measured: processor or GPU, torch, threads."""
    if device is not None and device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} torch {torch.__version__}"
    return f"{processor()} torch {torch.__version__} threads {torch.get_num_threads()}"


def remembered(what: str, key: str) -> object:
    """What :func:`remember` kept; None where it is not known."""
    return _remembered(what).get(key)


def remember(what: str, key: str, value: object) -> None:
    """Keep a measured value, plain JSON, in the cache, so that it is the same on every call and paid for once.

    Args:
        what: was measured, the name of its file.
        key: the circumstances.
        value: what was found.
    """
    with contextlib.suppress(ResourceError):
        files.write_bytes(_measured(what), json.dumps({**_remembered(what), key: value}).encode())


def _remembered(what: str) -> dict[str, object]:
    with contextlib.suppress(OSError, ValueError, TypeError):
        return dict(documents.read(_measured(what)))
    return {}


def _measured(what: str) -> Path:
    return paths.cache() / f"{what}.json"


# --- threads and memory ---------------------------------------------------------------------------------------------

ROOT = Path("/")


def use_threads(wanted: int | None = None) -> int:
    """Set the number of threads that compute, and return it.

    Args:
        wanted: the number; None: as many as there are processors that this process may use, or as OMP_NUM_THREADS says.
    """
    if wanted is not None:
        torch.set_num_threads(wanted)
    elif not os.environ.get("OMP_NUM_THREADS"):
        # Only ever fewer: torch knows about hyperthreads and efficiency cores.
        torch.set_num_threads(max(1, min(available_processors(), torch.get_num_threads())))
    return torch.get_num_threads()


def speed_up(threads: int) -> float:
    """How many times as fast as one thread a number of threads multiply two matrices now, at the best of a few
    tries."""
    matrix = torch.ones(1024, 1024)

    def seconds(count: int) -> float:
        before = torch.get_num_threads()
        torch.set_num_threads(count)
        begun = time.perf_counter()
        matrix @ matrix
        torch.set_num_threads(before)
        return time.perf_counter() - begun

    tries = [(seconds(1), seconds(threads)) for _ in range(SPEED_UP_TRIES)]
    return min(one for one, _ in tries) / min(several for _, several in tries)


SPEED_UP_TRIES = 5  # a few hundredths of a second each


@contextlib.contextmanager
def single_thread() -> Iterator[None]:
    """Compute on one thread while the block runs: the sums of several threads are rounded otherwise than those of
    one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def on_one_thread(generate: Callable[P, Iterator[T]]) -> Callable[P, Iterator[T]]:
    """A generator function whose items are computed under :func:`single_thread`; its caller runs as before."""

    @functools.wraps(generate)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        items, end = generate(*args, **kwargs), object()
        while True:
            with single_thread():
                item = next(items, end)
            if item is end:
                return
            yield cast("T", item)

    return wrapped


def available_processors(root: Path = ROOT) -> int:
    """How many processors this process may use: those it is bound to, and no more than its container's share, rounded
    up.

    Args:
        root: of the file system that tells about containers.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = processor_share(root)
    return max(1, bound if share is None else min(bound, math.ceil(share)))


def processor_share(root: Path = ROOT) -> float | None:
    """How many processors' time a container grants, 1.5 say; None: no limit, or no container.

    A group inside others has the least of their shares.

    References:
        Linux, Documentation/admin-guide/cgroup-v2.rst (cpu.max), scheduler/sched-bwc.rst (cpu.cfs_quota_us).
    """
    shares = []
    for folder in _groups("cpu", root):
        # v2 has both numbers in one file, and "max" for no limit; v1 in two, and -1.
        words = _words(folder / "cpu.max") or _words(folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us")
        if len(words) == 2 and all(word.isdecimal() and int(word) for word in words):
            shares.append(int(words[0]) / int(words[1]))
    return min(shares, default=None)


def memory(root: Path = ROOT) -> tuple[int | None, int | None]:
    """Bytes of memory this process may use in all, and those that are still free; None: not known here.

    Within a container its limit counts; what it holds of files that are not in use can be had back, so it counts as
    free.

    References:
        Linux, Documentation/admin-guide/cgroup-v2.rst (memory.max), cgroup-v1/memory.rst; filesystems/proc.rst.
    """
    lines = map(str.split, _lines(root / "proc/meminfo"))
    machine = {words[0]: int(words[1]) * 1024 for words in lines if len(words) > 1 and words[1].isdecimal()}
    total, free = machine.get("MemTotal:"), machine.get("MemAvailable:")
    if total is None and "SC_PHYS_PAGES" in getattr(os, "sysconf_names", ()):  # not on Linux
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    totals, frees = [total], [free]
    for folder in _groups("memory", root):
        limit = _number(folder / "memory.max", folder / "memory.limit_in_bytes")
        used = _number(folder / "memory.current", folder / "memory.usage_in_bytes")
        if limit is not None and limit < 2**60:  # v1 writes "no limit" as a huge number
            totals.append(limit)
            frees.append(None if used is None else max(0, limit - used + _idle_files(folder)))
    known = [[number for number in numbers if number is not None] for numbers in (totals, frees)]
    return min(known[0], default=None), min(known[1], default=None)


def seed(device: torch.device, number: int) -> None:
    """Seed what is drawn on a device without a generator, dropout say, and on no other device.

    `torch.manual_seed` asks every kind of device there could be, which takes as long as a small step.
    """
    match device.type:
        case "cuda":
            torch.cuda.manual_seed(number)
        case "mps":
            torch.mps.manual_seed(number)
        case _:
            torch.default_generator.manual_seed(number)


def free_memory(device: torch.device) -> int | None:
    """Bytes that are free where a device keeps its tensors; None: not known."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return memory()[1]  # MPS shares the machine's


def _groups(controller: str, root: Path) -> Iterator[Path]:
    """The folders that tell the limits of this process's control groups, from its own to the outermost one visible.

    Inside a container the path of the own group may be one of the host's that is not visible here; then the folders
    above it are, down to the mount point, which is the container's own group.
    """
    mounts = root / "sys/fs/cgroup"
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = f"{line}::".split(":", 2)
        if not controllers:
            places = {mounts, mounts / "unified"}  # v2 alone, or beside v1
        elif controller in controllers.split(","):
            places = {mounts / controller, mounts / controllers}
        else:
            continue
        own = PurePosixPath(path.removesuffix("::")).parts[1:]
        depths = range(len(own), 0, -1) if ".." not in own else ()  # "..": outside of what is visible here
        for place in places:
            yield from (place.joinpath(*own[:depth]) for depth in depths)
            yield place


def _idle_files(group: Path) -> int:
    """Bytes of files that a group keeps in memory and has not used lately."""
    fields = dict(line.split()[:2] for line in _lines(group / "memory.stat") if len(line.split()) > 1)
    idle = fields.get("total_inactive_file", fields.get("inactive_file", ""))  # v1 counts the groups below apart
    return int(idle) if idle.isdecimal() else 0


def _number(*paths: Path) -> int | None:
    """The number in the first of some files that has one."""
    return next((int(word) for word in _words(*paths) if word.isdecimal()), None)


def _words(*paths: Path) -> list[str]:
    return [word for path in paths for line in _lines(path) for word in line.split()]


def _lines(path: Path) -> list[str]:
    """The lines of one of the system's files; none where it has none or does not show it."""
    with contextlib.suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    return []


# --- the compiler ---------------------------------------------------------------------------------------------------


def compilers(on_cpu: bool) -> list[str]:
    """The compilers that can build kernels here, the one taken first; empty: none is installed."""
    wanted = [os.environ.get("CXX", "g++"), "clang++"] if on_cpu else [os.environ.get("CC", "gcc"), "clang"]
    return list(filter(shutil.which, wanted))


def compiling_obstacle(device: torch.device) -> str:
    """Why a network on a device cannot be compiled; empty if it can."""
    on_cpu = device.type == "cpu"
    if not compilers(on_cpu):
        return f"no {'C++' if on_cpu else 'C'} compiler was found"
    torch_environment.make_cache()
    folder = torch_environment.compiled_code()
    if not torch_environment.compilers_accept(folder):
        return f"compilers do not accept the path {folder}"
    try:
        open_to_others = torch_environment.writable_by_others(folder)
    except OSError as error:
        return f"{folder} cannot be used ({error.strerror})"
    return f"other users can write to {open_to_others}, where code would be loaded from" if open_to_others else ""


def compile_network(network: torch.nn.Module) -> None:
    """Compile a network in place, when it is first called; on a GPU its kernels are launched as one graph.

    To be called where there is no :func:`compiling_obstacle`.
    """
    torch_environment.keep_temporary_files_private()
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it warns that a CPU is no GPU
    on_gpu = next(network.parameters()).device.type == "cuda"
    networks.use_winograd(network, False)  # the compiler knows plain convolutions
    network.compile(mode="reduce-overhead" if on_gpu else "default")
