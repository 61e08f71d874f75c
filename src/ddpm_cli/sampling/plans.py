"""Which levels a sampler visits.

Invariant: a plan falls strictly from its first level to level 0, where it lands on the clean image; every step is an
explicit pair of neighbours in it, so no sampler ever computes "the previous t" by itself.
"""

import numpy as np

from ddpm_cli.config import Spacing
from ddpm_cli.schedule import Floats, Level, Schedule, one_by_one

# Noisier than this, x_t tells nothing that N(0, I) does not: signal 0.011. Few steps are better spent below.
NOISIEST = -9.0


def plan(schedule: Schedule, steps: int, spacing: Spacing, noisiest: float = NOISIEST) -> list[Level[Floats]]:
    """The levels of a walk from noise to image, each once, level 0 last.

    Args:
        schedule: of the model.
        steps: number of steps N; equal levels are merged, so a plan of whole levels has at most T.
        spacing: `uniform`, round(linspace(T, 0, N + 1)); `trailing`, round(T - i T/N) down to 1, then 0; `log-snr`,
            real levels with log-SNR evenly spaced from `noisiest` (or T) to level 1, then 0.
        noisiest: log-SNR at which `log-snr` starts; -inf: at level T.

    Returns:
        N + 1 levels or fewer, float64 scalars.

    References:
        Song et al. 2021, appendix D.2; trailing: Lin et al. 2023, table 2; log-SNR: Lu et al. 2022, section 3.4.
    """
    if spacing == "log-snr":
        first, last = float(schedule.log_snr[1]), float(schedule.log_snr[-1])
        start = max(noisiest, last) if first > noisiest else last
        # One level needs no step to it but the last: N steps visit N noisy levels and the clean one.
        noisy = schedule.level_of(np.unique(np.linspace(start, first, steps)))
        return [*one_by_one(noisy), schedule.level(0)]
    top = schedule.timesteps
    if spacing == "uniform":
        times = np.round(np.linspace(top, 0, steps + 1))
    else:
        times = np.append(np.maximum(np.round(top - np.arange(steps) * top / steps), 1), 0)
    return list(one_by_one(schedule.level(np.unique(times)[::-1])))
