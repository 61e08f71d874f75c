"""Single steps and whole walks agree with diffusers, where it is installed and right.

Where it is not, docs/samplers.md says so: DDIM with levels that are not `leading`, the third order of DPM-Solver++.
"""

import warnings

import numpy as np
import pytest
import torch
from torch import Tensor

from ddpm_cli.config import Sampler, SamplerConfig, ScheduleConfig
from ddpm_cli.denoiser import Condition, Prediction
from ddpm_cli.forward import as_tensors, clean_from_eps, eps_from_clean
from ddpm_cli.sampling import rule, sample
from ddpm_cli.schedule import Level, Schedule

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # those of its own imports
    schedulers = pytest.importorskip("diffusers.schedulers")

# Of numpy 2, about how theirs makes arrays of tensors.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

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


# --- whole walks: the same noise, the same levels, the same network, in float64 --------------------------------------

WALKERS: dict[str, tuple[str, dict[str, object]]] = {
    "ddim": ("DDIMScheduler", {"clip_sample": False, "set_alpha_to_one": True}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler-a": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {"beta_start": 1e-4, "beta_end": 0.02}),
    "ddpm": ("DDPMScheduler", {"clip_sample": False}),
    "dpm++2m": ("DPMSolverMultistepScheduler", {"lower_order_final": False}),
    "dpm++2m-sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++", "lower_order_final": False}),
    "unipc": ("UniPCMultistepScheduler", {}),
}
# Theirs walk in x / signal.
SCALED = {"euler", "euler-a", "heun"}
# Of N steps whose previous level theirs takes for T // N below: right with `leading` levels alone. And theirs has the
# levels of Heun in float32, which is too coarse for the noise at level 1, where `leading` ends.
SPACINGS = {"ddim": ("leading",), "heun": ("trailing",)}


def bent(x_t: Tensor, level: Level[Tensor], condition: Condition) -> Prediction:
    """No data's denoiser, and as good as any to compare with."""
    del condition
    return Prediction(torch.tanh(x_t - level.signal**2) + 0.2 * level.signal**2)


@pytest.mark.parametrize(
    ("name", "spacing"),
    [(name, spacing) for name in WALKERS for spacing in SPACINGS.get(name, ("leading", "trailing", "linspace"))],
)
@pytest.mark.parametrize("count", [20, 7])
def test_whole_walks(name: Sampler, spacing: str, count: int) -> None:
    x_T, kept = X.double(), []
    kind, options = WALKERS[name]
    theirs = getattr(schedulers, kind)(timestep_spacing=spacing, **options)
    theirs.set_timesteps(count)
    draw = torch.Generator().manual_seed(0)
    given = {"generator": draw} if name in ("euler-a", "ddpm", "dpm++2m-sde") else {}
    at = [as_tensors(SCHEDULE.level(float(t) + 1)) for t in theirs.timesteps]
    x = x_T / at[0].signal if name in SCALED else x_T
    for t, level in zip(theirs.timesteps, at, strict=True):
        asked = theirs.scale_model_input(x, t)
        x = theirs.step(eps_from_clean(asked, bent(asked, level, {}).clean, level), t, x, **given).prev_sample

    times = list(dict.fromkeys(float(level.t) for level in at))  # Heun has most of them twice
    draw.manual_seed(0)

    def noise(_: str, step: int) -> Tensor:
        kept.append(step)
        return torch.randn(X.shape, dtype=x_T.dtype, generator=draw)

    levels = [*(SCHEDULE.level(t) for t in times), SCHEDULE.level(0)]
    *_, end = sample(bent, x_T, levels, noise, rule(SamplerConfig(name)))
    torch.testing.assert_close(end.x, x, rtol=0, atol=1e-4)
    assert kept == (list(range(count - 1)) if given else [])
