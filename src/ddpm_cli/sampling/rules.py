"""The step rules: how each method gets from one level to a cleaner one.

Invariant: a rule sees clean-image estimates and levels, never a network, and all of them speak through one pair
formula, :func:`towards`. A rule works for eps, x0 and v models alike.
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from ddpm_cli.config import SamplerConfig, Variance
from ddpm_cli.denoiser import Prediction, reverse
from ddpm_cli.forward import eps_from_clean, posterior
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
        variance_fraction: beside `clean`, where the model learns the variance; None: it does not.
    """

    x: Tensor
    clean: Tensor
    now: Level[Tensor]
    next: Level[Tensor]
    noise: Callable[[], Tensor]
    before: tuple[Level[Tensor], Tensor] | None
    ask: Callable[[Tensor, Level[Tensor]], Tensor]
    variance_fraction: Tensor | None = None


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


def ancestral(move: Move, variance: Variance) -> Tensor:
    """A draw from p_theta(x_s | x_t) for any pair of levels; on landing its mean, the clean estimate.

    With the small variance it is :func:`towards` with eta = 1.

    References:
        Ho et al. 2020, algorithm 2; the choices of sigma_t^2 at :func:`ddpm_cli.denoiser.reverse`.
    """
    if float(move.next.t) == 0:
        return move.clean
    prediction = Prediction(move.clean, move.variance_fraction)
    step = reverse(move.x, prediction, move.now, move.next, variance)
    return step.mean + step.variance.sqrt() * move.noise()


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


def rule(config: SamplerConfig, learned: bool = False) -> Rule:
    """The step rule that a sampler's config names, for a model that has learned its variance or has not.

    Raises:
        UsageError: the learned variance of a model that has none.
    """
    match config.name:
        case "ddpm":
            variance = config.variance_of(learned)
            return lambda move: ancestral(move, variance)
        case "ddim":
            eta = config.eta or 0.0
            return lambda move: towards(move, move.clean, eta)
        case "dpm++2m":
            return lambda move: towards(move, extrapolated(move), 0)
        case "dpm++2m-sde":
            return lambda move: towards(move, extrapolated(move), 1)
