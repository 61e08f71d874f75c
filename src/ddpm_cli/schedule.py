"""How much signal and how much noise there is at level t.

A schedule is chosen through its betas, the variances of the single noising steps, or through its abars, what is
left of the clean image's power. Invariant: ``betas`` and ``abars`` both have T + 1 float64 entries, level 0 is
clean (``betas[0] = 0``, ``abars[0] = 1``), and every other beta lies inside (0, 1); only the last may be 1, if that was
asked for.

No torch here, so that ``ddpm schedule`` starts at once; :func:`ddpm_cli.forward.as_tensors` crosses over.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ddpm_cli.config import ScheduleConfig
from ddpm_cli.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

Floats = NDArray[np.float64]
Array = TypeVar("Array", "Floats", "Tensor")

# An x_T with more than this share of the clean image's power left is not N(0, I), where sampling starts.
CLEAN_ENOUGH_TO_WARN = 1e-3
WORKING = 5.0  # beyond this log-SNR either way, an image is nearly clean, or nearly noise


class Level(NamedTuple, Generic[Array]):
    """Where on the way from image to noise: ``x_t = signal * x_0 + noise * eps``.

    All four have one shape, ``()`` for a whole batch or ``(B,)`` for a level an image, and are either numpy float64
    or torch tensors.

    Attributes:
        t: the level, real, 0 (clean) to T (noise).
        signal: sqrt(abar_t), 1 to 0.
        noise: sqrt(1 - abar_t), 0 to 1.
        log_snr: log(abar_t / (1 - abar_t)), natural logarithm; +inf at level 0.
    """

    t: Array
    signal: Array
    noise: Array
    log_snr: Array


def one_by_one(levels: "Level[Floats]") -> "Iterator[Level[Floats]]":
    """A vector of levels as scalars."""
    return (Level(*map(np.asarray, fields)) for fields in zip(*levels, strict=True))


class Schedule:
    """The noise levels 0..T of a forward process.

    Args:
        config: which schedule, checked by its own type.

    Raises:
        UsageError: extreme options that leave some beta at 0 or 1.

    Attributes:
        timesteps: T.
        betas: (T + 1,) float64, variance of the Markov step into each level; ``betas[0] = 0``.
        abars: (T + 1,) float64, ``abar_t = prod_{s <= t} (1 - beta_s)``; ``abars[0] = 1``.
        log_snr: (T + 1,) float64, ``log(abar / (1 - abar))``, +inf at level 0, strictly falling; -inf at level T if
            nothing is left there.
    """

    def __init__(self, config: ScheduleConfig) -> None:
        self.config = config
        self.timesteps = config.timesteps
        self.betas = np.concatenate([[0.0], BETAS[config.kind](config)])
        if not np.all((self.betas[1:] > 0) & (self.betas[1:] < 1)):
            raise UsageError(f"this {config.kind} schedule has betas outside (0, 1)", "Choose less extreme options.")
        # Sums of logarithms keep what a running product loses: 1 - abar at the clean end, abar far out in the noise.
        log_abars = np.cumsum(np.log1p(-self.betas))
        if config.zero_terminal_snr:
            self.betas, log_abars = _to_zero(self.betas, log_abars)
            if not np.all((self.betas[1:-1] > 0) & (self.betas[1:-1] < 1)):  # NaN is neither
                raise UsageError(
                    f"this {config.kind} schedule has lost all signal before level T, so that it cannot be rescaled",
                    "Choose less extreme options, or leave out --zero-terminal-snr.",
                )
        self.abars = np.exp(log_abars)
        with np.errstate(divide="ignore"):
            self.log_snr = log_abars - np.log(-np.expm1(log_abars))

    @property
    def ends_as_noise(self) -> bool:
        """Whether x_T is N(0, I) for practical purposes: abar_T of at most 1e-3."""
        return bool(self.abars[-1] <= CLEAN_ENOUGH_TO_WARN * (1 + 1e-9))  # 1 - 0.999 is a little more than 1e-3

    @property
    def warning(self) -> str:
        """What is wrong with a schedule that does not end as noise; empty for one that does."""
        if self.ends_as_noise:
            return ""
        return (
            f"warning: abar_T is {self.abars[-1]:.2g}, more than {CLEAN_ENOUGH_TO_WARN:g}: x_T is not N(0, I), "
            "where sampling starts; use a larger --timesteps, larger betas or --zero-terminal-snr"
        )

    @property
    def bound_weights(self) -> Floats:
        """How much the variational bound makes of an error in the predicted noise, level by level.

        The term L_{t-1} of the bound is w_t ||eps - eps_theta(x_t, t)||^2, summed over the elements, in nats, with

        w_t = beta_t^2 / (2 sigma_t^2 alpha_t (1 - abar_t)) = (SNR_{t-1} / SNR_t - 1) / 2 for sigma_t^2 = btilde_t.

        Returns:
            (T + 1,) float64, above 0; NaN at level 0, which is clean, and at level 1, whose term is a likelihood (L_0)
            and no divergence.

        References:
            Ho et al. 2020, equation 12, with the posterior's variance of equation 7; Kingma et al. 2021, equations 13
            and 14.
        """
        # The ratio of neighbouring levels through log-SNR, where the small step between them does not cancel.
        with np.errstate(over="ignore"):  # a first beta of 1e-308 has no finite weight after it
            between = np.expm1(self.log_snr[1:-1] - self.log_snr[2:]) / 2
        return np.concatenate([[np.nan, np.nan], between])

    def summary(self) -> dict[str, float | None]:
        """It in four numbers.

        Returns:
            ``abar_T``: the clean image's power that is left in x_T; ``max_beta``; ``half_noise``: the level, real,
            where signal and noise are equally strong, None if there is none; ``working_share``: of the levels 1 to T,
            those that are neither nearly clean nor nearly noise: log-SNR within :data:`WORKING` of 0.
        """
        with np.errstate(divide="ignore"):  # a first beta below 1e-16 leaves abar_1 at 1
            half = float(self.level_of(0.0).t) if self.log_snr[-1] <= 0 else None
        return {
            "abar_T": float(self.abars[-1]),
            "max_beta": float(self.betas.max()),
            "half_noise": half,
            "working_share": float(np.mean(np.abs(self.log_snr[1:]) <= WORKING)),
        }

    def level(self, t: ArrayLike) -> "Level[Floats]":
        """The level at time t, which may be real.

        From 1 to T, log-SNR is interpolated linearly between the whole levels. Below 1, where log-SNR runs to
        infinity, it is the variance of the noise that is interpolated, so the level stays continuous and monotone; and
        likewise the signal's scale above T - 1, if nothing of it is left at T.

        Args:
            t: level or levels, any shape, 0..T.

        Returns:
            The level, float64, every field of t's shape.

        Raises:
            ValueError: t lies outside [0, T].
        """
        t = np.asarray(t, dtype=np.float64)
        if not np.all((t >= 0) & (t <= self.timesteps)):
            raise ValueError(f"level {t} lies outside 0..{self.timesteps}")
        whole = np.arange(1, self.timesteps + 1)
        variance = np.minimum(t, 1) * self.betas[1]
        with np.errstate(divide="ignore"):
            first = np.log1p(-variance) - np.log(variance)
        return _level(t, np.where(t < 1, first, self._between(t, whole)))

    def _between(self, t: Floats, whole: NDArray[np.int64]) -> Floats:
        """log-SNR from level 1 on."""
        if self.log_snr[-1] > -np.inf:
            straight: Floats = np.interp(t, whole, self.log_snr[1:])
            return straight
        last = self.abars[-2] * np.clip(self.timesteps - t, 0, 1) ** 2  # abar of the last step
        with np.errstate(divide="ignore"):
            fading = np.log(last) - np.log1p(-last)
        found: Floats = np.where(t > self.timesteps - 1, fading, np.interp(t, whole[:-1], self.log_snr[1:-1]))
        return found

    def level_of(self, log_snr: ArrayLike) -> "Level[Floats]":
        """The level with a given log-SNR: the inverse of :meth:`level`.

        Args:
            log_snr: natural logarithm of the signal-to-noise ratio, any shape, no less than at level T.

        Raises:
            ValueError: noisier than level T.
        """
        log_snr = np.asarray(log_snr, dtype=np.float64)
        if not np.all(log_snr >= self.log_snr[-1]):
            raise ValueError(f"log-SNR {log_snr} lies below level T, {self.log_snr[-1]}")
        below_one = 1 / ((1 + np.exp(np.minimum(log_snr, 700.0))) * self.betas[1])
        finite = np.flatnonzero(np.isfinite(self.log_snr))[::-1]
        between = np.interp(log_snr, self.log_snr[finite], finite)
        if self.log_snr[-1] == -np.inf:
            fading = self.timesteps - np.exp(-np.logaddexp(0, -log_snr) / 2) / np.sqrt(self.abars[-2])
            between = np.where(log_snr < self.log_snr[-2], fading, between)
        return _level(np.where(log_snr > self.log_snr[1], np.where(np.isinf(log_snr), 0, below_one), between), log_snr)


def _level(t: Floats, log_snr: Floats) -> "Level[Floats]":
    # abar = sigmoid(log_snr), written so that neither end loses its digits.
    log_abar = -np.logaddexp(0, -log_snr)
    log_rest = -np.logaddexp(0, log_snr)
    return Level(t, np.exp(log_abar / 2), np.exp(log_rest / 2), log_snr)


def _to_zero(betas: Floats, log_abars: Floats) -> tuple[Floats, Floats]:
    """Betas and log abars shifted and scaled in sqrt(abar): level 1 stays, level T loses all signal, its beta is 1.

    References:
        Lin et al. 2023, algorithm 1.
    """
    signal = np.exp(log_abars / 2)
    signal[1:] = (signal[1:] - signal[-1]) * signal[1] / (signal[1] - signal[-1])
    with np.errstate(invalid="ignore"):  # where two neighbours have no signal left; refused by the caller
        fall = -np.diff(signal) / signal[:-1]  # and 1 - ratio^2 = fall (2 - fall), where nothing cancels
    rescaled = np.concatenate([betas[:2], (fall * (2 - fall))[1:]])
    with np.errstate(divide="ignore"):
        return rescaled, np.concatenate([log_abars[:2], 2 * np.log(signal[2:])])


def _constant(config: ScheduleConfig) -> Floats:
    """One beta for every step, so abar_t = (1 - beta)^t."""
    start, _ = config.beta_range()
    return np.full(config.timesteps, start)


def _linear(config: ScheduleConfig) -> Floats:
    """Evenly spaced betas: Ho et al. 2020, section 4 (1e-4 to 0.02 at T = 1000)."""
    return np.linspace(*config.beta_range(), config.timesteps)


def _quadratic(config: ScheduleConfig) -> Floats:
    """Evenly spaced square roots of beta. Latent diffusion calls it scaled-linear (0.00085 to 0.012 at T = 1000)."""
    start, end = config.beta_range()
    betas: Floats = np.linspace(start**0.5, end**0.5, config.timesteps) ** 2
    return np.minimum(betas, max(start, end))


def _cosine(config: ScheduleConfig) -> Floats:
    """abar(u) = f(u) / f(0), f(u) = cos^2((u + s)/(1 + s) pi/2): Nichol and Dhariwal 2021, equation 17."""
    s = config.offset
    return _from_abar(lambda u: np.cos((u + s) / (1 + s) * np.pi / 2) ** 2, config)


def _sigmoid(config: ScheduleConfig) -> Floats:
    """abar(u) falls as a sigmoid from u = 0 to 1: Jabri et al. 2022, algorithm 4 (start -3, end 3, tau 1)."""
    x = np.linspace(config.start, config.end, config.timesteps + 1) / config.tau
    # abar is sigmoid(end / tau) - sigmoid(x) up to a factor, that is (1 - exp(x - end / tau)) / (1 + exp(x)). The ratio
    # of one level to the last is taken factor by factor: far down the tail either factor alone underflows.
    rest = -np.expm1(x - x[-1])
    ratios: Floats = np.exp(-np.diff(np.logaddexp(0, x))) * (rest[1:] / rest[:-1])
    return np.minimum(1 - ratios, config.max_beta)


def _custom(config: ScheduleConfig) -> Floats:
    """The betas the user wrote down."""
    return np.asarray(config.betas, dtype=np.float64)


def _from_abar(f: Callable[[Floats], Floats], config: ScheduleConfig) -> Floats:
    """beta_t = min(1 - f(t/T) / f((t-1)/T), max_beta) for an f proportional to abar."""
    values = f(np.arange(config.timesteps + 1) / config.timesteps)
    return np.minimum(1 - values[1:] / values[:-1], config.max_beta)


# kind -> betas of levels 1..T; kinds and their defaults are told in config.py.
BETAS: dict[str, Callable[[ScheduleConfig], Floats]] = {
    "constant": _constant,
    "linear": _linear,
    "quadratic": _quadratic,
    "scaled-linear": _quadratic,
    "cosine": _cosine,
    "sigmoid": _sigmoid,
    "custom": _custom,
}
