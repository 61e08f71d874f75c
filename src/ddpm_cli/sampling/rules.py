"""The step rules: how each method gets from one level to a cleaner one.

Invariant: a rule sees clean-image estimates and levels, never a network, and all of them speak through one pair
formula, :func:`towards`. A rule works for eps, x0 and v models alike.
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from ddpm_cli.config import SamplerConfig
from ddpm_cli.forward import beta_between, eps_from_clean, posterior
from ddpm_cli.schedule import Level


class Move(NamedTuple):
    """What a rule knows when it makes a step.

    Attributes:
        x: where the walk stands, (B, C, H, W).
        clean: the denoiser's estimate there.
        now: level of x.
        next: level to go to, cleaner.
        noise: draws this step's standard normal noise, of x's shape; not called by deterministic rules.
        before: level and clean estimate of the step before, for multistep rules; None at the first.
        ask: the denoiser's clean estimate anywhere else, for rules of several stages.
    """

    x: Tensor
    clean: Tensor
    now: Level[Tensor]
    next: Level[Tensor]
    noise: Callable[[], Tensor]
    before: tuple[Level[Tensor], Tensor] | None
    ask: Callable[[Tensor, Level[Tensor]], Tensor]


Rule = Callable[[Move], Tensor]


def towards(move: Move, clean: Tensor, eta: float) -> Tensor:
    """From x_t towards an estimate of the clean image, for any pair of levels s < t.

    x_s = sqrt(abar_s) clean + sqrt(1 - abar_s - eta^2 btilde) eps + eta sqrt(btilde) z, with eps the noise that x_t
    holds if `clean` is right, and btilde the posterior variance of the pair. eta = 0 is deterministic, eta = 1 the
    posterior itself.

    References:
        Song et al. 2021, equations 12 and 16.
    """
    if eta == 1:
        mean, variance = posterior(move.x, clean, move.now, move.next)
    else:
        variance = eta**2 * posterior(move.x, clean, move.now, move.next).variance
        rest = (move.next.noise**2 - variance).clamp(min=0).sqrt()
        mean = move.next.signal * clean + rest * eps_from_clean(move.x, clean, move.now)
    return mean if float(variance) == 0 else mean + variance.sqrt() * move.noise()


def ddpm_large(move: Move) -> Tensor:
    """The posterior's mean with variance beta_{t|s} instead of btilde; no noise on landing.

    References:
        Ho et al. 2020, section 3.2, the first choice of sigma_t^2.
    """
    mean = posterior(move.x, move.clean, move.now, move.next).mean
    if float(move.next.t) == 0:
        return mean
    return mean + beta_between(move.now, move.next).sqrt() * move.noise()


def extrapolated(move: Move) -> Tensor:
    """The clean image half a step ahead, along the line through this estimate and the last, in half-log-SNR.

    D = clean + h / (2 h_before) (clean - clean_before). With it, :func:`towards` becomes DPM-Solver++(2M) for eta = 0
    and SDE-DPM-Solver++(2M) for eta = 1. The first step and the last, whose h is infinite, stay first order.

    References:
        Lu et al. 2022 (DPM-Solver++), algorithm 2 and appendix A.
    """
    if move.before is None or float(move.next.t) == 0:
        return move.clean
    level, clean = move.before
    ratio = (move.next.log_snr - move.now.log_snr) / (move.now.log_snr - level.log_snr)
    return move.clean + ratio / 2 * (move.clean - clean)


def rule(config: SamplerConfig) -> Rule:
    """The step rule that a sampler's config names."""
    match config.name:
        case "ddpm":
            return ddpm_large if config.variance == "large" else lambda move: towards(move, move.clean, 1)
        case "ddim":
            eta = config.eta or 0.0
            return lambda move: towards(move, move.clean, eta)
        case "dpm++2m":
            return lambda move: towards(move, extrapolated(move), 0)
        case "dpm++2m-sde":
            return lambda move: towards(move, extrapolated(move), 1)
