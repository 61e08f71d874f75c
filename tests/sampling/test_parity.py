"""Single steps agree with diffusers, where it is installed."""

import warnings

import numpy as np
import pytest
import torch
from torch import Tensor

from ddpm_cli.config import SamplerConfig, ScheduleConfig
from ddpm_cli.denoiser import Condition, Prediction
from ddpm_cli.forward import clean_from_eps
from ddpm_cli.sampling import rule, sample
from ddpm_cli.schedule import Level, Schedule

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # those of its own imports
    schedulers = pytest.importorskip("diffusers.schedulers")

SCHEDULE = Schedule(ScheduleConfig("linear"))
X, EPS = torch.linspace(-2, 2, 8).reshape(1, 1, 2, 4), torch.linspace(1, -1.5, 8).reshape(1, 1, 2, 4)


def denoiser(x_t: Tensor, level: Level[Tensor], condition: Condition) -> Prediction:
    del condition
    return Prediction(clean_from_eps(x_t, EPS, level))


def step(config: SamplerConfig, t: int, s: int, noise: Tensor) -> Tensor:
    levels = [SCHEDULE.level(t), SCHEDULE.level(s)]
    return next(sample(denoiser, X, levels, lambda *_: noise, rule(config))).x


# diffusers counts levels from 0: its timestep t - 1 is our level t, and its step -1 our level 0.


@pytest.mark.parametrize("variance", ["small", "large"])
@pytest.mark.parametrize(("steps", "t", "s"), [(1000, 700, 699), (1000, 1, 0), (50, 501, 481), (50, 981, 961)])
def test_ancestral_steps(variance: str, steps: int, t: int, s: int) -> None:
    theirs = schedulers.DDPMScheduler(clip_sample=False, variance_type=f"fixed_{variance}")
    theirs.set_timesteps(steps)
    draw = torch.Generator().manual_seed(0)
    noise = torch.randn(X.shape, generator=torch.Generator().manual_seed(0))
    expected = theirs.step(EPS, t - 1, X, generator=draw).prev_sample
    ours = step(SamplerConfig("ddpm", variance=variance), t, s, noise)  # type: ignore[arg-type]
    torch.testing.assert_close(ours, expected, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("t", "s"), [(981, 961), (501, 481), (21, 1)])
def test_ddim_steps(eta: float, t: int, s: int) -> None:
    theirs = schedulers.DDIMScheduler(clip_sample=False, set_alpha_to_one=True)
    theirs.set_timesteps(50)
    noise = torch.from_numpy(np.random.default_rng(0).standard_normal(X.shape)).float()
    expected = theirs.step(EPS, t - 1, X, eta=eta, variance_noise=noise).prev_sample
    torch.testing.assert_close(step(SamplerConfig("ddim", eta=eta), t, s, noise), expected, rtol=2e-3, atol=2e-4)
