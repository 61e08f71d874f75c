"""An image on its way to noise: in one jump, step by step, or naively; and one dimension, where all is known exactly.

Invariant: everything is numpy float64 and waits for no torch, and a draw is keyed by (seed, image, step). So an image
looks the same whichever others stand beside it, and two processes can be compared under the same noise.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ddpm_cli.config import NoiseKind, Process
from ddpm_cli.errors import UsageError
from ddpm_cli.forward import posterior, q_sample, transition
from ddpm_cli.pixels import Pixels, from_uint8
from ddpm_cli.ranges import Range, shown
from ddpm_cli.schedule import Floats, Level, Schedule, one_by_one
from ddpm_cli.seeds import generator

Draw = Callable[[int], Floats]
"""Noise of mean 0 and variance 1 for a step: 0 for the jump of the closed form, t for the Markov step into level t."""

# --- kinds of noise -------------------------------------------------------------------------------------------------

# Skewness 2 / sqrt(k) = 1: lopsided enough to see, and finite at its left end, -2. Nachmani et al. 2021 let the shape
# vary with t instead, so that sums of gamma noise stay gamma; one shape for all steps is the simpler picture.
GAMMA_SHAPE = 4.0

NOISES: dict[NoiseKind, Callable[[np.random.Generator, tuple[int, ...]], Floats]] = {
    "gaussian": lambda random, shape: random.standard_normal(shape),
    "uniform": lambda random, shape: random.uniform(-math.sqrt(3), math.sqrt(3), shape),
    "laplace": lambda random, shape: random.laplace(0, 1 / math.sqrt(2), shape),
    "gamma": lambda random, shape: (random.standard_gamma(GAMMA_SHAPE, shape) - GAMMA_SHAPE) / math.sqrt(GAMMA_SHAPE),
}
"""Each of mean 0 and variance 1: N(0, 1); U(-sqrt 3, sqrt 3); Laplace of scale 1 / sqrt 2; Gamma(4, 1), centred and
halved."""


def noise_of(kind: NoiseKind, seed: int, image: int, shape: tuple[int, ...]) -> Draw:
    """The noise of one image of a seed, step by step.

    Args:
        kind: of :data:`NOISES`.
        seed: the seed, at least 0.
        image: which image of it.
        shape: of a draw.
    """

    def draw(step: int) -> Floats:
        return NOISES[kind](generator("noise", seed, image, step), shape)

    return draw


# --- levels as people write them ------------------------------------------------------------------------------------


class Mark(NamedTuple):
    """A level somebody asked for.

    Attributes:
        t: the level, real, 0..T.
        caption: as it was written: ``25 %`` or ``t = 500``.
    """

    t: float
    caption: str


def marks(text: str, timesteps: int) -> list[Mark]:
    """Levels from text such as ``0,25%,500``, in that order; p percent is t = round(p T / 100), at least 1 for p > 0.

    A bare 0 among percentages is captioned as one of them, for it is 0 either way.

    Raises:
        UsageError: a word that is no number, or lies outside 0..T or 0%..100%.
    """
    found = []
    for word in (word.strip() for word in text.split(",")):
        percent = word.endswith("%")
        try:
            value = Range(0, 100 if percent else timesteps, whole=False).read(word.removesuffix("%"))
        except ValueError:
            hint = "Levels or percentages with commas between them: --at 0,25%,500"
            message = f"--at contains {shown(word)}, expected levels of 0 to {timesteps}, or 0% to 100%"
            raise UsageError(message, hint) from None
        t = value
        if percent:
            t = float(max(math.floor(value * timesteps / 100 + 0.5), 1 if value > 0 else 0))
        as_percent = percent or (value == 0 and "%" in text)
        found.append(Mark(t, f"{value:.10g} %" if as_percent else f"t = {value:.10g}"))
    return found


def evenly(timesteps: int, count: int) -> list[float]:
    """At most ``count`` + 1 whole levels from 0 to T, as evenly spread as whole levels can be, each once."""
    return [float(t) for t in np.unique(np.rint(np.linspace(0, timesteps, count + 1)))]


# --- the processes --------------------------------------------------------------------------------------------------


def closed_form(x_0: Floats, schedule: Schedule, times: Sequence[float], draw: Draw) -> Iterator[Floats]:
    """x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps at each time, with one eps: one image that drowns in one noise.

    References:
        Ho et al. 2020, equation 4.
    """
    eps = draw(0)
    for t in times:
        yield q_sample(x_0, schedule.level(t), eps)


def chain(x_0: Floats, schedule: Schedule, draw: Draw) -> Iterator[Floats]:
    """x_0, x_1, ... x_T of the Markov chain x_t = sqrt(1 - beta_t) x_{t-1} + sqrt(beta_t) eps_t, eps fresh each step.

    References:
        Ho et al. 2020, equation 2.
    """
    return forth(x_0, one_by_one(schedule.level(np.arange(schedule.timesteps + 1))), draw)


def forth(x_0: Floats, levels: Iterable[Level[Floats]], draw: Draw) -> Iterator[Floats]:
    """Step by step through rising levels, x_t ~ q(x_t | x_s), from x_0 at the first; step k = 1, 2, ... uses draw k."""
    x = x_0
    yield x
    for step, (before, now) in enumerate(pairwise(levels), 1):
        mean, variance = transition(x, before, now)
        x = mean + np.sqrt(variance) * draw(step)
        yield x


def naive(x_0: Floats, schedule: Schedule, draw: Draw) -> Iterator[Floats]:
    """x_0, x_1, ... x_T of x_t = x_{t-1} + sqrt(beta_t) eps_t, which forgets to shrink the image.

    Its mean stays at x_0 and its variance grows by beta_t a step, without bound: it never becomes N(0, 1).
    """
    x = x_0
    yield x
    for t in range(1, schedule.timesteps + 1):
        x = x + math.sqrt(schedule.betas[t]) * draw(t)
        yield x


@dataclasses.dataclass(frozen=True)
class Noised:
    """Images at some levels, in model units, where [-1, 1] is black to white.

    Attributes:
        levels: float64 (L,).
        x: float32 (L, N, C, H, W), not clipped.
        mean: (L,) over all pixels of all images.
        variance: (L,) likewise.
        expected_mean: (L,) what the process gives on average: sqrt(abar_t) m; naive: m, the mean of the clean images.
        expected_variance: (L,) likewise: abar_t v + 1 - abar_t; naive: v + beta_1 + ... + beta_t.
    """

    levels: Level[Floats]
    x: NDArray[np.float32]
    mean: Floats
    variance: Floats
    expected_mean: Floats
    expected_variance: Floats

    def moments(self, k: int) -> dict[str, float]:
        """Mean and variance at level k of them, as found and as expected."""
        names = ("mean", "variance", "expected_mean", "expected_variance")
        return {name: float(getattr(self, name)[k]) for name in names}

    def only(self, k: int) -> "Noised":
        """Level k of them alone."""
        levels, *rest = (getattr(self, field.name) for field in dataclasses.fields(self))
        return Noised(Level(*(field[k : k + 1] for field in levels)), *(values[k : k + 1] for values in rest))


def told(results: Sequence[Noised], timesteps: int) -> list[dict[str, Any]]:
    """The last of some processes as numbers, a row a level; where there is another, the first, its moments beside.

    Args:
        results: of the same levels.
        timesteps: T, of which percentages are taken.
    """
    last, rows = results[-1], []
    for k, (t, signal, noise, log_snr) in enumerate(zip(*(field.tolist() for field in last.levels), strict=True)):
        row = {"t": t, "percent": 100 * t / timesteps, "abar": signal**2, "signal": signal, "noise": noise}
        row |= {"snr": float(np.exp(log_snr)), "log_snr": log_snr, **last.moments(k)}
        rows.append(row | {"right": results[0].moments(k)} if len(results) > 1 else row)
    return rows


def noised(
    images: Pixels,
    numbers: Sequence[int],
    schedule: Schedule,
    times: Sequence[float],
    *,
    process: Process,
    noise: NoiseKind,
    seed: int,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Noised:
    """Send images to some levels.

    Args:
        images: uint8 (N, C, H, W).
        numbers: which images of the seed they are, (N,); the noise of each depends on its number alone.
        schedule: how much noise.
        times: levels, 0..T, in any order; of the chain and the naive process, whole ones.
        process: `closed-form`, `markov` or `naive`.
        noise: kind of noise.
        seed: the seed.
        progress: takes steps done and in all.

    Raises:
        UsageError: a level between two steps of a process that goes step by step.
    """
    between = [t for t in times if t != round(t)]
    if between and process != "closed-form":
        raise UsageError(
            f"the {process} process goes step by step and never is at level {between[0]:g}",
            "Give whole levels, or --process closed-form.",
        )
    x = np.empty((len(times), *images.shape), np.float32)
    sums = np.zeros((2, len(times)))
    steps = len(times) if process == "closed-form" else int(max(times))
    x_0 = from_uint8(images)
    for number, (clean, name) in enumerate(zip(x_0, numbers, strict=True)):
        draw = noise_of(noise, seed, name, clean.shape)
        for done, places, x_t in _way(clean, schedule, times, process, draw):
            progress(number * steps + done, len(images) * steps)
            x[places, number] = x_t
            sums[:, places] += np.array([[x_t.mean()], [np.square(x_t).mean()]])
    mean, square = sums / len(images)
    levels = schedule.level(np.array(times, np.float64))
    start, spread = float(x_0.mean()), float(x_0.var())
    if process == "naive":
        added = np.cumsum(schedule.betas)[np.array(times, int)]
        expected = np.full(len(times), start), spread + added
    else:
        expected = levels.signal * start, levels.signal**2 * spread + levels.noise**2
    return Noised(levels, x, mean, square - mean**2, *expected)


def _way(
    x_0: Floats, schedule: Schedule, times: Sequence[float], process: Process, draw: Draw
) -> Iterator[tuple[int, list[int], Floats]]:
    """Along a process: steps done, which of the wanted times have come, and the image there."""
    if process == "closed-form":
        for place, x in enumerate(closed_form(x_0, schedule, times, draw)):
            yield place, [place], x
        return
    walk = chain if process == "markov" else naive
    last = max(times)
    for t, x in enumerate(walk(x_0, schedule, draw)):
        yield t, [place for place, wanted in enumerate(times) if wanted == t], x
        if t == last:
            return


# --- one dimension, exactly -----------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Mixture:
    """A mixture of Gaussians on the line, p(x) = sum_k w_k N(x; m_k, s_k^2): data whose whole diffusion is known.

    Args:
        weights: w_k, positive, of sum 1.
        means: m_k.
        stds: s_k, above 0.
    """

    weights: tuple[float, ...]
    means: tuple[float, ...]
    stds: tuple[float, ...]

    @property
    def mean(self) -> float:
        return float(np.dot(self.weights, self.means))

    @property
    def variance(self) -> float:
        return float(np.dot(self.weights, np.square(self.stds) + np.square(self.means))) - self.mean**2

    def at(self, level: Level[Floats]) -> "Mixture":
        """p_t, a mixture again: means a m_k, variances a^2 s_k^2 + b^2, with a and b the level's signal and noise."""
        a, b = float(level.signal), float(level.noise)
        stds = (math.hypot(a * s, b) for s in self.stds)
        return Mixture(self.weights, tuple(a * m for m in self.means), tuple(stds))

    def density(self, x: Floats) -> Floats:
        """p(x), of x's shape."""
        density: Floats = np.exp(self._joint(x)).sum(0)
        return density

    def score(self, x: Floats) -> Floats:
        """d/dx log p(x) = sum_k r_k (m_k - x) / s_k^2, with r_k the share of component k in p(x); of x's shape."""
        score: Floats = (self._shares(x) * (_first(self.means, x) - x) / _first(self.stds, x) ** 2).sum(0)
        return score

    def clean(self, x_t: Floats, level: Level[Floats]) -> Floats:
        """E[x_0 | x_t], the ideal denoiser: each component's own posterior mean, weighted by its share in p_t(x_t).

        m_k + a s_k^2 (x_t - a m_k) / (a^2 s_k^2 + b^2)

        Args:
            x_t: places at the level, any shape.
            level: a scalar one.

        References:
            Tweedie's formula, (x_t + b^2 score) / a, is the same where a > 0: Efron 2011.
        """
        there, m, s = self.at(level), _first(self.means, x_t), _first(self.stds, x_t)
        a = float(level.signal)
        each = m + a * s**2 / _first(there.stds, x_t) ** 2 * (x_t - a * m)
        clean: Floats = (there._shares(x_t) * each).sum(0)
        return clean

    def sample(self, random: np.random.Generator, count: int) -> Floats:
        """Independent draws, (count,)."""
        which = random.choice(len(self.weights), count, p=self.weights)
        return np.array(self.means)[which] + np.array(self.stds)[which] * random.standard_normal(count)

    def _joint(self, x: Floats) -> Floats:
        """log w_k N(x; m_k, s_k^2), an axis of components and x's shape."""
        s = _first(self.stds, x)
        log: Floats = np.log(_first(self.weights, x) / s) - (x - _first(self.means, x)) ** 2 / (2 * s**2)
        return log - math.log(2 * math.pi) / 2

    def _shares(self, x: Floats) -> Floats:
        """The share of each component in p(x); far out, where all densities underflow, still of sum 1."""
        log = self._joint(x)
        shares = np.exp(log - log.max(0))
        share: Floats = shares / shares.sum(0)
        return share


def _first(values: Sequence[float], x: Floats) -> Floats:
    """A number a component, along an axis before those of x: sums over a short last axis are slow."""
    return np.array(values).reshape(-1, *[1] * x.ndim)


def back(x_T: Floats, levels: Sequence[Level[Floats]], data: Mixture, draw: Draw) -> Iterator[Floats]:
    """Ancestral sampling with the exact score: through falling levels, x_s ~ q(x_s | x_t, x_0 = E[x_0 | x_t]).

    Args:
        x_T: (n,), at the first level; there N(0, 1), or nearly so.
        levels: strictly falling; no noise is added on landing at level 0.
        data: what p_0 is.
        draw: standard normal noise (n,) for step 1, 2, ...

    References:
        Ho et al. 2020, algorithm 2, with the ideal denoiser in place of a network.
    """
    x = x_T
    yield x
    for step, (now, after) in enumerate(pairwise(levels), 1):
        mean, variance = posterior(x, data.clean(x, now), now, after)
        x = mean + np.sqrt(variance) * draw(step)
        yield x


# What the picture shows: two bumps of unlike height, width and distance from 0, so that nothing agrees by symmetry.
EXAMPLE = Mixture(weights=(0.35, 0.65), means=(-1.3, 0.8), stds=(0.15, 0.3))
WALKERS = 10_000
PATHS = 7  # of them drawn
VISITED = 1000  # levels at most: finer than the picture's pixels
BINS, REACH = 180, 3.6  # bins of 0.04 from -3.6 to 3.6: fine enough for bumps of 0.15


class Flow(NamedTuple):
    """A density on its way to N(0, 1), and samples on the way back; all arrays float64.

    Attributes:
        x: (X,) evenly spaced places.
        times: (L,) levels, rising from 0 to T.
        exact: (L, X) p_t(x).
        there: (K, L) paths of the chain, from data to noise.
        found: (L, X) density of the samples that walk back, counted in bins around x.
        back: (K, L) some of their paths.
        start: (n,) where they start, at level T.
        ends: (n,) where they end, at level 0.
    """

    x: Floats
    times: Floats
    exact: Floats
    there: Floats
    found: Floats
    back: Floats
    start: Floats
    ends: Floats


def flow(schedule: Schedule, seed: int, data: Mixture = EXAMPLE) -> Flow:
    """A density on its way to N(0, 1), and samples on the way back.

    Args:
        schedule: how much noise.
        seed: of the walks.
        data: p_0.
    """
    times = np.array(evenly(schedule.timesteps, VISITED))
    levels = list(one_by_one(schedule.level(times)))
    width = 2 * REACH / BINS
    x = np.linspace(-REACH + width / 2, REACH - width / 2, BINS)

    def draw(way: str, count: int, step: int) -> Floats:
        return generator("density", seed, way, step).standard_normal(count)

    start = data.sample(generator("density", seed, "data"), PATHS)
    there = np.stack(list(forth(start, levels, partial(draw, "there", PATHS))), axis=1)
    counts, paths = [], []
    for x_t in back(draw("back", WALKERS, 0), levels[::-1], data, partial(draw, "back", WALKERS)):
        counts.append(np.histogram(x_t, BINS, (-REACH, REACH))[0] / (WALKERS * width))
        paths.append(x_t[:PATHS])
    return Flow(
        x=x,
        times=times,
        exact=np.stack([data.at(level).density(x) for level in levels]),
        there=there,
        found=np.stack(counts[::-1]),
        back=np.stack(paths[::-1], axis=1),
        start=draw("back", WALKERS, 0),
        ends=x_t,
    )


# --- the true posterior beside the model's ---------------------------------------------------------------------------


class Jump(NamedTuple):
    """One pixel's step from level t down to s: two Gaussians of one variance.

    Attributes:
        s: the level it goes to.
        true: mean of q(x_s | x_t, x_0).
        model: mean of p_theta(x_s | x_t).
        variance: btilde, of both.
    """

    s: float
    true: float
    model: float
    variance: float

    @property
    def kl(self) -> float:
        """KL(q || p_theta) in nats: (difference of the means)^2 / (2 btilde), this pixel's share of L_{t-1}."""
        return (self.true - self.model) ** 2 / (2 * self.variance)


class Moment(NamedTuple):
    """A level on the way: the noisy image, what the model takes it for, and the steps from there.

    Attributes:
        t: the level.
        x_t: (C, H, W).
        clean: (C, H, W), the model's estimate of x_0.
        jumps: of the pixel looked at, the short step first.
    """

    t: float
    x_t: Floats
    clean: Floats
    jumps: tuple[Jump, ...]

    def told(self, pixel: tuple[int, int]) -> dict[str, Any]:
        """As numbers, the images at one pixel."""
        place = (0, *pixel)
        jumps = [{**jump._asdict(), "kl": jump.kl} for jump in self.jumps]
        return {"t": self.t, "x_t": float(self.x_t[place]), "clean": float(self.clean[place]), "jumps": jumps}


def moments(
    x_0: Floats,
    schedule: Schedule,
    times: Sequence[float],
    eps: Floats,
    ask: Callable[[Floats, Level[Floats]], Floats],
    pixel: tuple[int, int],
) -> list[Moment]:
    """q(x_s | x_t, x_0) beside p_theta(x_s | x_t) in one pixel, for one step and for a long one, s = t / 2.

    Both are Gaussians of the same variance, btilde; p_theta has the model's estimate of x_0 in the place of x_0.

    Args:
        x_0: one clean image, (C, H, W), in [-1, 1]; of a pixel, the first channel is looked at.
        schedule: the model's.
        times: levels t, 2..T.
        eps: standard normal noise of x_0's shape, the same at every level.
        ask: the model's estimate of the clean image under x_t.
        pixel: row and column.

    References:
        Ho et al. 2020, equations 6 to 8.
    """
    place = (0, *pixel)
    found = []
    for t in times:
        now = schedule.level(t)
        x_t = q_sample(x_0, now, eps)
        clean = ask(x_t, now)
        steps = []
        for s in (t - 1, float(math.floor(t / 2))):
            true, variance = posterior(x_t, x_0, now, schedule.level(s))
            model, _ = posterior(x_t, clean, now, schedule.level(s))
            steps.append(Jump(s, float(true[place]), float(model[place]), float(variance)))
        found.append(Moment(t, x_t, clean, tuple(steps)))
    return found
