"""How the golden files were made, once, for each format: `python tests/golden/make.py`.

They stand for every file that users already have, so they are never made again: a test that fails on one of them says
that the code forgot how to read it. A new format adds a file of its own beside them.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ddpm_cli import checkpoint
from ddpm_cli.config import ReportUNetConfig, SamplerConfig, ScheduleConfig, UNetConfig

HERE = Path(__file__).parent

MODERN = checkpoint.Info(
    network=UNetConfig((1, 8, 8), classes=2, patch=2, widths=(8,), blocks=1, attention=(), heads=1),
    schedule=ScheduleConfig(kind="cosine", timesteps=100),
    target="v",
    classes=("zero", "one"),
    data={"name": "golden", "images": 2, "mean": -0.5, "std": 0.25},
    sampler=SamplerConfig(name="ddim", steps=5, eta=0.5),
    training={"step": 3, "steps": 3, "loss": 0.125, "recipe": {"lr": 0.002}},
    parameters=12444,
    flops=271872,
)
REPORT = replace(
    MODERN,
    network=ReportUNetConfig((1, 8, 8), widths=(2, 2, 4), embedding=2, heads=1),
    schedule=ScheduleConfig(kind="linear", timesteps=100, beta_start=0.001, beta_end=0.2),
    target="eps",
    classes=(),
    parameters=1203,
    flops=0,
)
LEARNED = replace(
    MODERN,
    network=replace(MODERN.network, learned_variance=True),
    sampler=SamplerConfig("ddpm"),
    parameters=12736,
    flops=281088,
)
ZERO = replace(
    MODERN,
    schedule=replace(MODERN.schedule, zero_terminal_snr=True),
    sampler=SamplerConfig("ddim", guidance=2.0, rescale=0.5, interval=(10.0, 70.0), threshold=0.75),
)


def weights(info: checkpoint.Info, prefix: str, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Numbers that belong to the place in the file alone, and leave no layer without effect."""
    noise, tensors = np.random.default_rng(1), {}
    for name, value in sorted(checkpoint.build_denoiser(info).network.state_dict().items()):
        numbers = torch.tensor(noise.uniform(0.1, 0.7, value.shape) * noise.choice((-1, 1), value.shape))
        if not value.is_floating_point():
            numbers = torch.tensor(3)
        elif name.endswith("running_var"):
            numbers = numbers.abs()
        tensors[prefix + name] = numbers.to(dtype if value.is_floating_point() else value.dtype)
    return tensors


if __name__ == "__main__":
    checkpoint.save(HERE / "model-1.safetensors", weights(MODERN, "ema.", torch.float16), MODERN)
    checkpoint.save(HERE / "report-1.safetensors", weights(REPORT, "raw.", torch.float32), REPORT)
    checkpoint.save(HERE / "model-2.safetensors", weights(LEARNED, "ema.", torch.float16), LEARNED)
    checkpoint.save(HERE / "model-3.safetensors", weights(ZERO, "ema.", torch.float16), ZERO)
