"""Which levels a sampler visits.

Invariant: a plan falls strictly from its first level to level 0, where it lands on the clean image; every step is an
explicit pair of neighbours in it, so no sampler ever computes "the previous t" by itself.
"""

import math

import numpy as np

from ddpm_cli.config import Spacing
from ddpm_cli.schedule import Floats, Level, Schedule, one_by_one

# Noisier than this, x_t tells nothing that N(0, I) does not: signal 0.011. Few steps are better spent below.
NOISIEST = -9.0
RHO = 7.0  # Karras et al. 2022, table 1: how much denser levels lie at the clean end


def plan(schedule: Schedule, steps: int, spacing: Spacing, noisiest: float = NOISIEST) -> list[Level[Floats]]:
    """The levels of a walk from noise to image, each once, level 0 last.

    Whole levels, T of them at most, as equal ones are merged:

    `uniform`: round(T (1 - i/N)). `quadratic`: round(T (1 - i/N)^2), denser at the clean end. `trailing`: round(T - i
    T/N), at least 1. `leading`: 1 + (N - 1 - i) floor(T/N), which begins below T.

    Real levels from log-SNR `noisiest`, or level T, to level 1, for i = 0..N-1:

    `log-snr`: log-SNR evenly spaced. `karras`: (noise / signal)^(1/7) evenly spaced.

    Then level 0.

    Args:
        schedule: of the model.
        steps: number of steps N.
        spacing: how they are spread.
        noisiest: log-SNR at which real levels start; -inf: at level T.

    Returns:
        N + 1 levels or fewer, float64 scalars.

    References:
        Song et al. 2021, appendix D.2; leading and trailing: Lin et al. 2023, table 2; log-SNR: Lu et al. 2022, section
        3.4; Karras et al. 2022, equation 5, rho = 7.
    """
    if spacing in ("log-snr", "karras"):
        first, last = float(schedule.log_snr[1]), float(schedule.log_snr[-1])
        start = max(noisiest, last) if first > noisiest else last
        # One level needs no step to it but the last: N steps visit N noisy levels and the clean one.
        levels = schedule.level_of(_spread(start, first, steps, spacing))
        _, once = np.unique(levels.t, return_index=True)  # where rounding makes two of them one, they are merged
        return [*one_by_one(Level(*(field[once[::-1]] for field in levels))), schedule.level(0)]
    top, i = schedule.timesteps, np.arange(steps + 1)
    match spacing:
        case "uniform":
            times = np.round(np.linspace(top, 0, steps + 1))
        case "quadratic":
            times = np.round(top * (1 - i / steps) ** 2)
        case "trailing":
            times = np.append(np.maximum(np.round(top - i[:-1] * top / steps), 1), 0)
        case "leading":
            steps = min(steps, top)
            times = np.append(1 + np.arange(steps) * (top // steps), 0)
    return list(one_by_one(schedule.level(np.unique(times)[::-1])))


def _spread(start: float, end: float, count: int, spacing: Spacing) -> Floats:
    """Log-SNR from a start to an end, evenly spaced or as Karras et al. do."""
    even: Floats = np.linspace(0, 1, count)
    if spacing == "log-snr":
        return start + even * (end - start)
    noisy, clean = math.exp(-start / 2 / RHO), math.exp(-end / 2 / RHO)  # sigma^(1/rho), with sigma^2 = 1 / SNR
    # Rounding must not lead out of the schedule.
    return np.clip(-2 * RHO * np.log(noisy + even * (clean - noisy)), start, end)
