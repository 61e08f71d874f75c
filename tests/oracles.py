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
