"""What the tests compare with: closed forms, and slow obvious versions written from the papers.

Nothing here calls the code under test, except for the types it hands over.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

M, S = 0.7, 0.4  # pixels drawn from N(M, S^2): every quantity of the diffusion of such data is known exactly


# --- schedules, level by level ---------------------------------------------------------------------------------------


def evenly(first: float, last: float, timesteps: int) -> list[float]:
    """first + (t - 1)/(T - 1) (last - first) for t = 1..T; T at least 2."""
    return [first + (t - 1) / (timesteps - 1) * (last - first) for t in range(1, timesteps + 1)]


def products(betas: Sequence[float]) -> list[float]:
    """abar_0 = 1, then abar_t = (1 - beta_1) ... (1 - beta_t)."""
    abars = [1.0]
    for beta in betas:
        abars.append(abars[-1] * (1 - beta))
    return abars


LINEAR = products(evenly(1e-4, 0.02, 1000))  # abars 0..1000 of Ho et al. 2020


def cosine_betas(timesteps: int, offset: float = 0.008, cap: float = 0.999) -> list[float]:
    """Nichol and Dhariwal 2021, equation 17."""

    def f(u: float) -> float:
        return math.cos((u + offset) / (1 + offset) * math.pi / 2) ** 2

    return [min(1 - f(t / timesteps) / f((t - 1) / timesteps), cap) for t in range(1, timesteps + 1)]


def sigmoid_abar(u: float, start: float = -3, end: float = 3, tau: float = 1) -> float:
    """Jabri et al. 2022, algorithm 4, without its final clipping."""

    def sigmoid(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    first, last = sigmoid(start / tau), sigmoid(end / tau)
    return (last - sigmoid((u * (end - start) + start) / tau)) / (last - first)


# --- Gaussian data ---------------------------------------------------------------------------------------------------


def ideal_clean(x: Tensor, signal: Tensor | float, noise: Tensor | float) -> Tensor:
    """E[x_0 | x_t] for x_0 ~ N(M, S^2)."""
    return M + signal * S**2 * (x - signal * M) / (signal**2 * S**2 + noise**2)


def gaussian_flow(x: float, abar_t: float, abar_s: float) -> float:
    """Where the probability flow carries x from level t to level s: quantiles are kept."""
    deviation_t, deviation_s = (math.sqrt(abar * S**2 + 1 - abar) for abar in (abar_t, abar_s))
    return math.sqrt(abar_s) * M + deviation_s / deviation_t * (x - math.sqrt(abar_t) * M)


class IdealNetwork(nn.Module):
    """The network that has learned such data perfectly; it is told t - 1 and knows the linear schedule of T = 1000."""

    def __init__(self, target: str) -> None:
        super().__init__()
        self.target = target
        self.dtype = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, x: Tensor, time: Tensor, condition: Mapping[str, Tensor]) -> Tensor:
        del condition
        assert time.shape == (len(x),)
        abar = torch.tensor(LINEAR, dtype=torch.float64)[time.long() + 1].reshape(-1, 1, 1, 1)
        a, b = abar.sqrt(), (1 - abar).sqrt()
        clean = ideal_clean(x, a, b)
        eps = (x - a * clean) / b
        return {"x0": clean, "eps": eps, "v": a * eps - b * clean}[self.target]


def ancestral_moments(times: Sequence[int]) -> tuple[float, float]:
    """Mean and standard deviation of ancestral samples of such data, from N(0, 1) at the first level, exactly.

    Every step is linear in x, so the two moments follow a recursion; Ho et al. 2020, equations 6 and 7, for pairs.
    """
    mean, variance = 0.0, 1.0
    for t, s in pairwise(times):
        abar_t, abar_s = LINEAR[t], LINEAR[s]
        alpha = abar_t / abar_s
        of_clean = math.sqrt(abar_s) * (1 - alpha) / (1 - abar_t)
        of_x = math.sqrt(alpha) * (1 - abar_s) / (1 - abar_t)
        gain = math.sqrt(abar_t) * S**2 / (abar_t * S**2 + 1 - abar_t)  # clean = M + gain (x - sqrt(abar) M)
        slope = of_clean * gain + of_x
        mean = of_clean * (M - gain * math.sqrt(abar_t) * M) + slope * mean
        variance = slope**2 * variance + (1 - alpha) * (1 - abar_s) / (1 - abar_t)
    return mean, math.sqrt(variance)


# --- a mixture of two Gaussians --------------------------------------------------------------------------------------

MIXTURE = ((0.3, -0.6, 0.2), (0.7, 0.5, 0.3))  # weight, mean and deviation of each


def mixture_clean(x: Tensor, signal: Tensor | float, noise: Tensor | float) -> Tensor:
    """E[x_0 | x_t] for such pixels: what each Gaussian would say, by its share in x_t."""
    signal, noise = (torch.as_tensor(scale, dtype=torch.float64) for scale in (signal, noise))
    says, shares = [], []
    for weight, m, s in MIXTURE:
        variance = signal**2 * s**2 + noise**2
        shares.append(math.log(weight) - variance.log() / 2 - (x - signal * m) ** 2 / (2 * variance))
        says.append(m + signal * s**2 * (x - signal * m) / variance)
    return (torch.stack(shares).softmax(0) * torch.stack(says)).sum(0)


def mixture_below(x: float, abar: float) -> float:
    """P(x_t < x)."""
    spread = ((weight, math.sqrt(abar) * m, abar * s**2 + 1 - abar) for weight, m, s in MIXTURE)
    return sum(weight * math.erfc((mean - x) / math.sqrt(2 * variance)) / 2 for weight, mean, variance in spread)


def mixture_flow(x: float, abar_t: float, abar_s: float) -> float:
    """Where the probability flow carries x from level t to level s: quantiles are kept; found by bisection."""
    below, low, high = mixture_below(x, abar_t), -9.0, 9.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if mixture_below(middle, abar_s) < below else (low, middle)
    return low


# --- DPM-Solver++ as printed -----------------------------------------------------------------------------------------

Clean = Callable[[float, float], float]
"""The clean estimate at (x, abar)."""


def _half_log_snr(abar: float) -> float:
    return math.log(math.sqrt(abar) / math.sqrt(1 - abar))


def dpm_2m(x: float, abars: Sequence[float], model: Clean, noise: Sequence[float] | None = None) -> list[float]:
    """x after every step of DPM-Solver++(2M): Lu et al. 2022, algorithm 2. With noise, of SDE-DPM-Solver++(2M).

    lambda is log(alpha/sigma), half the log-SNR. The levels exclude the clean one.
    """
    places = []
    last: tuple[float, float] | None = None  # h and estimate of the step before
    for i, (abar_t, abar_s) in enumerate(pairwise(abars)):
        alpha, sigma = math.sqrt(abar_s), math.sqrt(1 - abar_s)
        h = _half_log_snr(abar_s) - _half_log_snr(abar_t)
        estimate = model(x, abar_t)
        if last is None:
            D = estimate
        else:
            r = last[0] / h
            D = (1 + 1 / (2 * r)) * estimate - 1 / (2 * r) * last[1]
        if noise is None:
            x = sigma / math.sqrt(1 - abar_t) * x - alpha * (math.exp(-h) - 1) * D
        else:
            kept = sigma / math.sqrt(1 - abar_t) * math.exp(-h)
            fresh = 1 - math.exp(-2 * h)
            x = kept * x + alpha * fresh * D + sigma * math.sqrt(fresh) * noise[i]
        last = h, estimate
        places.append(x)
    return places


# --- other methods as printed, or slow and obvious -------------------------------------------------------------------


def heun(x: float, abars: Sequence[float], model: Clean) -> list[float]:
    """x after every step of Karras et al. 2022, algorithm 1, in y = x / signal over sigma = noise / signal."""
    places = []
    for abar_t, abar_s in pairwise(abars):
        sigma_t, sigma_s = (math.sqrt((1 - abar) / abar) for abar in (abar_t, abar_s))
        y = x / math.sqrt(abar_t)
        d = (y - model(x, abar_t)) / sigma_t
        y_s = y + (sigma_s - sigma_t) * d
        if sigma_s > 0:
            d_s = (y_s - model(math.sqrt(abar_s) * y_s, abar_s)) / sigma_s
            y_s = y + (sigma_s - sigma_t) * (d + d_s) / 2
        x = math.sqrt(abar_s) * y_s
        places.append(x)
    return places


def _carried(x: float, abar_t: float, abar_s: float, D: Callable[[float], float]) -> float:
    """x_s = sigma_s/sigma_t x_t + sigma_s int e^lambda D dlambda, finely summed: Lu et al. 2022, equation 4.2."""
    (start, end), pieces = (_half_log_snr(abar) for abar in (abar_t, abar_s)), 4000
    middles = [start + (k + 0.5) / pieces * (end - start) for k in range(pieces)]
    integral = sum(math.exp(at) * D(at) for at in middles) * (end - start) / pieces
    return math.sqrt((1 - abar_s) / (1 - abar_t)) * x + math.sqrt(1 - abar_s) * integral


def _through(points: Sequence[tuple[float, float]]) -> Callable[[float], float]:
    """The polynomial through points, after Lagrange."""

    def at(x: float) -> float:
        total = 0.0
        for i, (x_i, y_i) in enumerate(points):
            total += y_i * math.prod((x - x_j) / (x_i - x_j) for j, (x_j, _) in enumerate(points) if j != i)
        return total

    return at


def dpm_3m(x: float, abars: Sequence[float], model: Clean) -> list[float]:
    """x after every step where the flow is carried on through the last three estimates; the first two steps of 2M."""
    places, known = dpm_2m(x, abars[:3], model), []
    for abar, at in zip(abars, [x, *places], strict=False):
        known.append((_half_log_snr(abar), model(at, abar)))
    for abar_t, abar_s in pairwise(abars[2:]):
        places.append(_carried(places[-1], abar_t, abar_s, _through(known[-3:])))
        known.append((_half_log_snr(abar_s), model(places[-1], abar_s)))
    return places


def unipc(x: float, abars: Sequence[float], model: Clean) -> list[float]:
    """x after every step, not yet corrected, of Zhao et al. 2023, algorithms 1 and 2: order 2, B(h) = e^h - 1, data.

    Predicting is dpm_2m's step from the corrected place; correcting carries the place before along the parabola through
    the new estimate too, and, where there is but one before, along the mean of the two.
    """
    places, known = [], [(_half_log_snr(abars[0]), model(x, abars[0]))]
    for abar_t, abar_s in pairwise(abars):
        (start, D), end = known[-1], _half_log_snr(abar_s)
        slope = (D - known[-2][1]) / (start - known[-2][0]) if len(known) > 1 else 0.0
        ahead = D + slope * (end - start) / 2
        places.append(_carried(x, abar_t, abar_s, lambda _, ahead=ahead: ahead))
        known.append((end, model(places[-1], abar_s)))
        mean = (D + known[-1][1]) / 2
        x = _carried(x, abar_t, abar_s, _through(known[-3:]) if len(known) > 2 else lambda _, mean=mean: mean)
    return places


# --- the variational bound of such data ------------------------------------------------------------------------------


def pair(t: int, s: int) -> tuple[float, float, float]:
    """alpha_{t|s}, beta_{t|s} and the posterior variance btilde of a pair of levels of the linear schedule."""
    alpha = LINEAR[t] / LINEAR[s]
    return alpha, 1 - alpha, (1 - alpha) * (1 - LINEAR[s]) / (1 - LINEAR[t])


def clean_variance(t: int) -> float:
    """Var(x_0 | x_t), so the mean squared error of :func:`ideal_clean`."""
    return S**2 * (1 - LINEAR[t]) / (LINEAR[t] * S**2 + 1 - LINEAR[t])


def reverse_variance(t: int, s: int) -> float:
    """Var(x_s | x_t), the best variance a reverse step can have: precisions of q(x_s) and q(x_t | x_s) add up."""
    alpha, beta, _ = pair(t, s)
    return 1 / (1 / (LINEAR[s] * S**2 + 1 - LINEAR[s]) + alpha / beta)


def best_fraction(t: int, s: int) -> float:
    """Where that lies between btilde (0) and beta (1), in logarithms."""
    _, beta, btilde = pair(t, s)
    return math.log(reverse_variance(t, s) / btilde) / math.log(beta / btilde)
