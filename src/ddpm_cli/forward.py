"""The forward process q and its exact posterior, for any pair of levels.

Invariant: every formula takes a :class:`~ddpm_cli.schedule.Level` and images, draws nothing, and keeps the dtype of
the image. A level is a scalar for the whole batch or has one entry an image. Both are tensors, or both numpy float64,
for pictures that need not wait for torch. Throughout, abar = signal^2 and 1 - abar = noise^2; ratios are taken through
log-SNR, where nothing cancels.
"""

from typing import TYPE_CHECKING, Any, Generic, NamedTuple

import numpy as np

from ddpm_cli.schedule import Array, Floats, Level

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Gaussian(NamedTuple, Generic[Array]):
    """N(mean, variance I); the variance broadcasts over the mean."""

    mean: Array
    variance: Array


def as_tensors(level: Level[Floats], device: "torch.device | None" = None) -> "Level[Tensor]":
    """A level computed in numpy as float64 scalars, or as float32 vectors on a device.

    A scalar stays float64 on the CPU: multiplied with an image on any device it costs no transfer, changes no dtype,
    and loses no digit. A vector becomes float32, ready to be multiplied with a batch in training.
    """
    import torch

    if level.t.ndim == 0:
        return Level(*(torch.tensor(float(field), dtype=torch.float64) for field in level))
    # In one piece: a transfer to a GPU costs more than what it carries here.
    return Level(*torch.from_numpy(np.stack(level)).float().to(device, non_blocking=True).unbind())


def _per_image(field: Array, x: Array) -> Array:
    return field.reshape(field.shape + (1,) * (x.ndim - field.ndim)) if field.ndim else field


def _expm1(x: Any) -> Any:
    return np.expm1(x) if isinstance(x, np.ndarray | np.generic) else x.expm1()


def q_sample(x_0: Array, level: Level[Array], eps: Array) -> Array:
    """Jump from the clean image to any level: x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps.

    Args:
        x_0: clean images, (B, C, H, W), usually in [-1, 1].
        level: where to, () or (B,).
        eps: standard normal noise of x_0's shape.

    References:
        Ho et al. 2020, equation 4.
    """
    return _per_image(level.signal, x_0) * x_0 + _per_image(level.noise, x_0) * eps


def transition(x_s: Array, now: Level[Array], later: Level[Array]) -> Gaussian[Array]:
    """q(x_t | x_s) for s = now and any noisier t = later; with t = s + 1 the Markov step itself.

    alpha_{t|s} = abar_t / abar_s, beta_{t|s} = 1 - alpha_{t|s}; N(sqrt(alpha_{t|s}) x_s, beta_{t|s} I).

    References:
        Ho et al. 2020, equation 2; Kingma et al. 2021, equation 20.
    """
    return Gaussian(_per_image(later.signal / now.signal, x_s) * x_s, _per_image(beta_between(later, now), x_s))


def beta_between(now: Level[Array], earlier: Level[Array]) -> Array:
    """beta_{t|s} = 1 - abar_t / abar_s for t = now and a cleaner s = earlier; in (0, 1), of the levels' shape."""
    # = (1 - abar_t)(1 - SNR_t / SNR_s): in logarithms neither factor cancels, even for neighbouring levels.
    change: Array = -_expm1(now.log_snr - earlier.log_snr)
    return now.noise**2 * change


def posterior(x_t: Array, x_0: Array, now: Level[Array], earlier: Level[Array]) -> Gaussian[Array]:
    """q(x_s | x_t, x_0) for t = now and any cleaner s = earlier.

    mean = sqrt(abar_s) beta_{t|s} / (1 - abar_t) x_0 + sqrt(alpha_{t|s}) (1 - abar_s) / (1 - abar_t) x_t
    variance = beta_{t|s} (1 - abar_s) / (1 - abar_t)

    At s = 0 this is exactly x_0 with variance 0.

    Args:
        x_t: noisy images (B, C, H, W).
        x_0: clean images, true or estimated, of the same shape.
        now: level of x_t, not 0.
        earlier: level s, below t.

    References:
        Ho et al. 2020, equations 6 and 7; for pairs Kingma et al. 2021, equation 25.
    """
    change: Array = -_expm1(now.log_snr - earlier.log_snr)
    kept = earlier.noise**2 / now.noise**2 * now.signal / earlier.signal
    mean = _per_image(earlier.signal * change, x_t) * x_0 + _per_image(kept, x_t) * x_t
    return Gaussian(mean, _per_image(earlier.noise**2 * change, x_t))


def eps_from_clean(x_t: Array, clean: Array, level: Level[Array]) -> Array:
    """The noise that makes x_t out of a clean image: (x_t - signal x_0) / noise. No answer at level 0."""
    return (x_t - _per_image(level.signal, x_t) * clean) / _per_image(level.noise, x_t)


def clean_from_eps(x_t: Array, eps: Array, level: Level[Array]) -> Array:
    """The clean image under a noise: (x_t - noise eps) / signal. Magnifies errors of eps by noise / signal."""
    return (x_t - _per_image(level.noise, x_t) * eps) / _per_image(level.signal, x_t)


def v_from_clean(x_0: Array, eps: Array, level: Level[Array]) -> Array:
    """v = signal eps - noise x_0. Salimans and Ho 2022, section 4."""
    return _per_image(level.signal, x_0) * eps - _per_image(level.noise, x_0) * x_0


def clean_from_v(x_t: Array, v: Array, level: Level[Array]) -> Array:
    """x_0 = signal x_t - noise v. Salimans and Ho 2022, appendix D."""
    return _per_image(level.signal, x_t) * x_t - _per_image(level.noise, x_t) * v
