"""The step rules: how each method gets from one level to a cleaner one.

Invariant: a rule sees clean-image estimates and levels, never a network, and all of them speak through one pair
formula, :func:`towards`. A rule works for eps, x0 and v models alike.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from ddpm_cli.config import SamplerConfig, Variance
from ddpm_cli.denoiser import Prediction, reverse
from ddpm_cli.forward import eps_from_clean, posterior
from ddpm_cli.schedule import Array, Floats, Level


class Move(NamedTuple):
    """What a rule knows when it makes a step.

    Attributes:
        x: where the walk stands, (B, C, H, W).
        clean: the denoiser's estimate there.
        now: level of x.
        next: level to go to, cleaner.
        noise: draws this step's standard normal noise, of x's shape; not called by deterministic rules.
        before: level and clean estimate of the steps before, the newest first and at most two, for multistep rules.
        ask: the denoiser's clean estimate anywhere else, for rules of several stages.
        variance_fraction: beside `clean`, where the model learns the variance; None: it does not.
    """

    x: Tensor
    clean: Tensor
    now: Level[Tensor]
    next: Level[Tensor]
    noise: Callable[[], Tensor]
    before: "tuple[Place, ...]"
    ask: Callable[[Tensor, Level[Tensor]], Tensor]
    variance_fraction: Tensor | None = None

    @property
    def places(self) -> "tuple[Place, ...]":
        """Here and before."""
        return (Place(self.now, self.clean), *self.before)

    @property
    def lands(self) -> bool:
        """Whether it goes to the clean image, which is then the estimate itself."""
        return float(self.next.t) == 0


class Place(NamedTuple):
    """A level that the walk has visited, and the clean estimate there."""

    level: Level[Tensor]
    clean: Tensor


Rule = Callable[[Move], Tensor]


def towards(move: Move, clean: Tensor, eta: float) -> Tensor:
    """From x_t towards an estimate of the clean image, for any pair of levels s < t.

    x_s = sqrt(abar_s) clean + sqrt(1 - abar_s - eta^2 btilde) eps + eta sqrt(btilde) z, with eps the noise that x_t
    holds if `clean` is right, and btilde the posterior variance of the pair. eta = 0 is deterministic, eta = 1 the
    posterior itself.

    eta = 0 is Euler's step along the probability flow of x / signal over noise / signal, and eta = 1 the ancestral one
    with noise down and up again: other papers, the same formulas. It leads to noisier levels too, with eta = 0.

    References:
        Song et al. 2021, equations 12 and 16; Karras et al. 2022, equation 4; Song et al. 2021 (SDE), appendix F.
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
    if move.lands:
        return move.clean
    prediction = Prediction(move.clean, move.variance_fraction)
    step = reverse(move.x, prediction, move.now, move.next, variance)
    return step.mean + step.variance.sqrt() * move.noise()


def heun(move: Move) -> Tensor:
    """The probability flow dy = eps dsigma of y = x / signal and sigma = noise / signal, by the trapezium rule.

    x_s = x_s' + signal_s (sigma_s - sigma_t) (eps' - eps) / 2, with x_s' where :func:`towards` leads and eps' the noise
    there. The last step, at whose end there is no question to ask, stays first order, and so does one from a level
    without any signal, where sigma is infinite.

    References:
        Karras et al. 2022, algorithm 1.
    """
    now, after = move.now, move.next
    straight = towards(move, move.clean, 0)
    if not two_stages(now, after):
        return straight
    bend = eps_from_clean(straight, move.ask(straight, after), after) - eps_from_clean(move.x, move.clean, now)
    return straight + after.signal * (after.noise / after.signal - now.noise / now.signal) / 2 * bend


def two_stages(now: Level[Array], after: Level[Array]) -> bool:
    """Whether :func:`heun` asks twice on the way from a level to the next."""
    return float(after.t) > 0 and float(now.signal) > 0


# --- multistep rules: the estimates of several levels make one -------------------------------------------------------


def extrapolated(places: Sequence[Place], target: Level[Tensor]) -> Tensor:
    """The clean image half a step ahead, along the line through the last two estimates, in half-log-SNR.

    D = clean + h / (2 h_before) (clean - clean_before). With it, :func:`towards` becomes DPM-Solver++(2M) for eta = 0
    and SDE-DPM-Solver++(2M) for eta = 1. The first step and the last, whose h is infinite, stay first order.

    Args:
        places: here, and before.
        target: where to.

    References:
        Lu et al. 2022 (DPM-Solver++), algorithm 2 and appendix A.
    """
    (now, clean), *before = places
    if not before or float(target.t) == 0:
        return clean
    level, last = before[0]
    return clean + (target.log_snr - now.log_snr) / (now.log_snr - level.log_snr) / 2 * (clean - last)


def averaged(places: Sequence[Place], now: Level[Tensor], target: Level[Tensor]) -> Tensor:
    """The clean image that stands for a whole step: the mean of the parabola through three estimates.

    The flow is x_s = noise_s / noise_t x_t + noise_s int e^lambda D(lambda) dlambda with lambda half the log-SNR, from
    t to s. With u = (lambda - lambda_t) / h, from 0 to 1, the mean of u^k under that weight is mu_k = 1 / (1 - e^-h) -
    k mu_(k-1) / h, mu_0 = 1. So a polynomial D is integrated exactly.

    Args:
        places: three, at levels of which no two are equal.
        now: t.
        target: s, cleaner.

    References:
        Lu et al. 2022 (DPM-Solver++), equation 4.2 and appendix B; Zhao et al. 2023, section 3.
    """
    h = (target.log_snr - now.log_snr) / 2
    (u0, D0), (u1, D1), (u2, D2) = (((place.log_snr - now.log_snr) / 2 / h, clean) for place, clean in places)
    whole = -1 / torch.expm1(-h)
    mean_1 = whole - 1 / h
    mean_2 = whole - 2 * mean_1 / h
    # Newton's form: D0 + first (u - u0) + second (u - u0) (u - u1)
    first = (D1 - D0) / (u1 - u0)
    second = ((D2 - D1) / (u2 - u1) - first) / (u2 - u0)
    return D0 + (mean_1 - u0) * first + (mean_2 - (u0 + u1) * mean_1 + u0 * u1) * second


def third_order(move: Move) -> Tensor:
    """What DPM-Solver++(3M) goes towards: three estimates averaged, two extrapolated at the second step, one before."""
    if len(move.places) < 3 or move.lands:
        return extrapolated(move.places, move.next)
    return averaged(move.places, move.now, move.next)


def unipc(move: Move) -> Tensor:
    """UniPC of order 2 with B(h) = e^h - 1 (bh2): corrects the step that led here, then makes one as DPM-Solver++(2M).

    The step that led here went towards :func:`extrapolated`. Now that the estimate at its end is known, it should have
    gone towards the parabola through that and the two before: x moves by signal (1 - e^-h) times the difference. The
    estimate is not asked for again, so correcting costs nothing.

    References:
        Zhao et al. 2023 (UniPC), algorithms 1 and 2 and appendix E.
    """
    return towards(move._replace(x=_corrected(move)), extrapolated(move.places, move.next), 0)


def _corrected(move: Move) -> Tensor:
    if not move.before:
        return move.x
    last, *earlier = move.before
    went = extrapolated(move.before, move.now)
    ought = averaged(move.places, last.level, move.now) if earlier else (last.clean + move.clean) / 2
    share = -torch.expm1((last.level.log_snr - move.now.log_snr) / 2)
    return move.x + move.now.signal * share * (ought - went)


def questions(config: SamplerConfig, plan: Sequence[Level[Floats]]) -> list[Level[Floats]]:
    """The levels of the clean-image questions that a method asks on its way along a plan."""
    asked = []
    for now, after in pairwise(plan):
        asked.append(now)
        if config.name == "heun" and two_stages(now, after):
            asked.append(after)
    return asked


def rule(config: SamplerConfig, learned: bool = False) -> Rule:
    """The step rule that a sampler's config names, for a model that has learned its variance or has not.

    Raises:
        UsageError: the learned variance of a model that has none.
    """
    match config.name:
        case "ddpm":
            variance = config.variance_of(learned)
            return lambda move: ancestral(move, variance)
        case "ddim" | "euler":
            eta = config.eta or 0.0
            return lambda move: towards(move, move.clean, eta)
        case "euler-a":
            return lambda move: towards(move, move.clean, 1)
        case "heun":
            return heun
        case "dpm++2m":
            return lambda move: towards(move, extrapolated(move.places, move.next), 0)
        case "dpm++2m-sde":
            return lambda move: towards(move, extrapolated(move.places, move.next), 1)
        case "dpm++3m":
            return lambda move: towards(move, third_order(move), 0)
        case "unipc":
            return unipc
