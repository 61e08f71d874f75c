"""The machine under a network: its device, the precision it is fast in, its threads, its compiler."""

import contextlib
import json
import os
import platform
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import torch

from ddpm_cli import files, paths
from ddpm_cli.config import Device, Precision
from ddpm_cli.errors import ResourceError, UsageError

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


def choose_precision(wanted: Precision, device: torch.device) -> torch.dtype:
    """The dtype the network computes in: for `auto` bf16 where the hardware is fast in it, else float32.

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
                fast = device.type == "cpu" and bf16_is_fast()
            return torch.bfloat16 if fast else torch.float32


def bf16_is_fast() -> bool:
    """Whether this CPU multiplies bf16 matrices clearly faster than float32 ones.

    Measured, not looked up: some processors have the instructions and are slower with them. The answer is kept in the
    cache, so that it is the same on every call and paid for once.
    """
    key = f"{processor()} torch {torch.__version__} threads {torch.get_num_threads()}"
    path = paths.cache() / "bf16.json"
    known: dict[str, object] = {}
    with contextlib.suppress(OSError, ValueError, TypeError):
        known = dict(json.loads(path.read_text(encoding="utf-8")))
    if isinstance(answer := known.get(key), bool):
        return answer
    fast = _matrix_seconds(torch.bfloat16) * CLEARLY_FASTER < _matrix_seconds(torch.float32)
    with contextlib.suppress(ResourceError):
        files.write_bytes(path, json.dumps({**known, key: fast}).encode())
    return fast


CLEARLY_FASTER = 1.3  # what the casts around each product eat up


def _matrix_seconds(dtype: torch.dtype) -> float:
    a = torch.ones(768, 768, dtype=dtype)
    times = []
    for _ in range(8):
        start = time.perf_counter()
        a @ a
        times.append(time.perf_counter() - start)
    return min(times)


def processor() -> str:
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="ignore").splitlines()
        return next(line.partition(":")[2].strip() for line in [*lines, "model name:"] if line.startswith("model name"))
    return platform.processor()


def use_available_threads() -> int:
    """Compute on the processors this process may use, not on those the machine has; returns their number.

    The user's OMP_NUM_THREADS goes before.
    """
    if os.environ.get("OMP_NUM_THREADS"):
        return torch.get_num_threads()
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # Only ever fewer: torch knows about hyperthreads and efficiency cores.
    torch.set_num_threads(max(1, min(count, torch.get_num_threads())))
    return torch.get_num_threads()


def compile_network(network: torch.nn.Module, say: Callable[[str], None]) -> None:
    """Compile a network in place; where there is no compiler, say so and go on without.

    Compiled kernels are kept in the cache below DDPM_HOME.
    """
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(paths.cache() / "inductor"))
    on_cpu = next(network.parameters()).device.type == "cpu"
    compilers = [os.environ.get("CXX", "g++"), "clang++"] if on_cpu else [os.environ.get("CC", "gcc"), "clang"]
    if not any(map(shutil.which, compilers)):
        say(f"not compiling: no {' or '.join(compilers)} was found")
        return
    say("compiling the network; the first steps take long")
    network.compile()
