"""The machine under the training: device, precision, threads."""

import os

import torch

from ddpm_cli.config import Device, Precision
from ddpm_cli.errors import ResourceError, UsageError


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
                fast = device.type == "cpu" and has_fast_bf16()
            return torch.bfloat16 if fast else torch.float32


def has_fast_bf16() -> bool:
    """Whether this CPU multiplies bf16 matrices in hardware (AVX-512 BF16 or AMX)."""
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    if capabilities:
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("amx"))
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="ignore") as file:
            flags = next((line for line in file if line.startswith("flags")), "").split()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def use_available_threads() -> int:
    """Compute on the processors this process may use, not on those the machine has; returns their number."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(max(1, count))
    return count
