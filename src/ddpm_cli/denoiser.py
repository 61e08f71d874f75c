"""The denoiser: what was the clean image?

A network predicts eps, x0 or v; everybody else asks a :class:`Denoiser` and sees only clean images, in float32 or
better. Guidance and clipping are denoisers around denoisers: ``Clip(Guide(denoiser, 2.0))``. The reverse step that an
estimate of the clean image amounts to, and the training losses, stand here too: they are the same formulas read
backwards.
"""

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ddpm_cli.config import Loss, Target, Time, Variance
from ddpm_cli.forward import Gaussian, clean_from_eps, clean_from_v, posterior, q_sample, transition, v_from_clean
from ddpm_cli.gaussians import discretised_log_likelihood, kl
from ddpm_cli.schedule import Level, Schedule

Condition = Mapping[str, Tensor]
"""Name -> tensor with a batch axis; sliced, concatenated and dropped per key. Today: "label", (B,) int64."""


class Prediction(NamedTuple):
    """What a denoiser knows about x_0.

    Attributes:
        clean: its estimate E[x_0 | x_t], (B, C, H, W), dtype of x_t and at least float32.
        variance_fraction: for networks that learn it, where the reverse variance lies between btilde (0) and beta (1)
            in logarithms, in shape and dtype as `clean` and possibly outside [0, 1] (Nichol and Dhariwal 2021,
            equation 15); None: not learned.
    """

    clean: Tensor
    variance_fraction: Tensor | None = None


class Denoises(Protocol):
    """Anything that answers the clean-image question at a level above 0."""

    def __call__(self, x_t: Tensor, level: Level[Tensor], condition: Condition) -> Prediction: ...


class Chain(NamedTuple):
    """The reverse chain around the levels of a batch: what the bound needs to know beside them.

    Attributes:
        earlier: level t - 1 of each image, (B,).
        last: sigma_1^2, :func:`last_variance`.
        steps: T, the number of its steps.
    """

    earlier: Level[Tensor]
    last: float
    steps: int


class Denoiser(nn.Module):
    """A network, what it predicts, and how it is told the time.

    Args:
        network: ``(x, time, condition) -> image``, with twice the channels of x where it learns the variance.
        target: what that image is, its first half where it has two.
        time: what the network is told: `level`, t - 1 in 0..T-1, or `log-snr`.
        learned_variance: whether the network learns the variance of the reverse step.

    Attributes:
        autocast: dtype the network computes in; None: the dtype of its weights. Nobody outside notices.
    """

    def __init__(self, network: nn.Module, target: Target, time: Time, learned_variance: bool = False) -> None:
        super().__init__()
        self.network = network
        self.target = target
        self.time = time
        self.learned_variance = learned_variance
        self.autocast: torch.dtype | None = None

    def output(self, x_t: Tensor, level: Level[Tensor], condition: Condition) -> tuple[Tensor, Tensor | None]:
        """The bare network's answer, in the dtype of x_t and at least float32.

        Returns:
            eps, x0 or v, (B, C, H, W); and where the variance is learned its fraction (v + 1) / 2, of the same shape,
            with v the second half of the channels (Nichol and Dhariwal 2021, equation 15).
        """
        time = level.t - 1 if self.time == "level" else LOG_SNR_SCALE * level.log_snr.clamp(min=LEAST_LOG_SNR)
        time = time.float().to(x_t.device).expand(x_t.shape[0])
        weights = next(self.network.parameters()).dtype
        with self._precision(x_t.device):
            out: Tensor = self.network(x_t.to(weights), time, condition)
        out = out.to(torch.promote_types(x_t.dtype, torch.float32))
        if not self.learned_variance:
            return out, None
        answer, v = out.chunk(2, dim=1)
        return answer, (v + 1) / 2

    def forward(self, x_t: Tensor, level: Level[Tensor], condition: Condition) -> Prediction:
        """The clean image under x_t, and where it is learned the fraction of the variance.

        Args:
            x_t: noisy images, (B, C, H, W).
            level: their level, () or (B,), above 0.
            condition: what is known about them.
        """
        answer, fraction = self.output(x_t, level, condition)
        return Prediction(self._clean(x_t, answer, level), fraction)

    def _clean(self, x_t: Tensor, answer: Tensor, level: Level[Tensor]) -> Tensor:
        match self.target:
            case "eps":
                return clean_from_eps(x_t, answer, level)
            case "x0":
                return answer
            case "v":
                return clean_from_v(x_t, answer, level)

    def loss(
        self,
        x_0: Tensor,
        level: Level[Tensor],
        eps: Tensor,
        condition: Condition,
        kind: Loss = "simple",
        gamma: float = 5.0,
        chain: Chain | None = None,
    ) -> Tensor:
        """What training makes small, an entry an image.

        `simple`: ||eps - eps_theta(x_t, t)||^2 for eps, and the same of x0 or v, mean over the elements: Ho et al.
        2020, equation 14.
        `min-snr`: the squared error of the clean image weighted by min(SNR, gamma): Hang et al. 2023, equation 4.
        `vlb`: T times the term of the bound that belongs to t, :func:`bound_term`, in bits per dimension. Its mean
        over uniform t estimates the variational bound without L_T, which nothing learned can change. The variance is
        the learned one, else btilde.
        `hybrid`: `simple` + 0.001 `vlb`, in whose bound the clean image is taken as given. So the mean learns from the
        first alone and the variance from the second: Nichol and Dhariwal 2021, equation 16 and section 3.1.

        Clean images are not clipped here, as clipping would stop their gradient.

        Args:
            x_0: clean images, (B, C, H, W), in [-1, 1].
            level: (B,), each above 0; drawn uniformly for `vlb` and `hybrid`.
            eps: standard normal noise of x_0's shape.
            condition: what is known about the images.
            kind: which loss.
            gamma: of `min-snr`.
            chain: for `vlb` and `hybrid`.

        Returns:
            (B,) float32; `simple` and `min-snr` have no unit.
        """
        x_t = q_sample(x_0, level, eps)
        answer, fraction = self.output(x_t, level, condition)
        if kind == "vlb":
            return self._vlb(x_0, x_t, Prediction(self._clean(x_t, answer, level), fraction), level, chain)
        wanted = {"eps": eps, "x0": x_0, "v": v_from_clean(x_0, eps, level)}[self.target]
        error = (answer - wanted).square().flatten(1).mean(1)
        match kind:
            case "simple":
                return error
            case "min-snr":
                return error * torch.exp(level.log_snr).clamp(max=gamma) / target_weight(self.target, level)
            case "hybrid":
                given = self._clean(x_t, answer.detach(), level)
                return error + VLB_SHARE * self._vlb(x_0, x_t, Prediction(given, fraction), level, chain)

    def _vlb(
        self, x_0: Tensor, x_t: Tensor, prediction: Prediction, level: Level[Tensor], chain: Chain | None
    ) -> Tensor:
        if chain is None:
            raise ValueError("the bound needs to know the chain that its levels belong to")
        variance: Variance = "learned" if self.learned_variance else "small"
        return chain.steps * bound_term(x_0, x_t, prediction, level, chain.earlier, variance, chain.last)

    def _precision(self, device: torch.device) -> AbstractContextManager[object]:
        return torch.autocast(device.type, self.autocast) if self.autocast else nullcontext()


# Spreads the useful range of log-SNR, about -10 to 10, over the range of t - 1 that the sinusoids were made for.
LOG_SNR_SCALE = 25.0
LEAST_LOG_SNR = -100.0  # a finite number for a level without any signal; no other is so noisy
# lambda of the hybrid loss: so little that the bound does not disturb the mean (Nichol and Dhariwal 2021, section 3.1).
VLB_SHARE = 0.001


def target_weight(target: Target, level: Level[Tensor]) -> Tensor:
    """The weight on the clean image's squared error that an unweighted error of this target amounts to.

    eps: SNR, x0: 1, v: SNR + 1 (Salimans and Ho 2022, section 4).
    """
    snr = torch.exp(level.log_snr)
    match target:
        case "eps":
            return snr
        case "x0":
            return torch.ones_like(snr)
        case "v":
            return snr + 1


# --- the reverse step and the bound ---------------------------------------------------------------------------------


def reverse(
    x_t: Tensor,
    prediction: Prediction,
    now: Level[Tensor],
    earlier: Level[Tensor],
    variance: Variance,
    last: float | None = None,
) -> Gaussian[Tensor]:
    """p_theta(x_s | x_t) for t = now and any cleaner s = earlier.

    The mean is the posterior's, with the estimated clean image in the place of x_0. The variance is

    `small`: btilde, the posterior's; `large`: beta_{t|s}; `learned`: exp(f ln beta_{t|s} + (1 - f) ln btilde) with f
    the predicted fraction.

    Args:
        x_t: noisy images (B, C, H, W).
        prediction: of the denoiser at x_t; for `learned` with a fraction.
        now: level of x_t, not 0.
        earlier: level s, below t.
        variance: which one.
        last: what stands for btilde, and for any fixed variance, where s = 0, :func:`last_variance`; None: nothing
            does, for sampling, which adds no noise on landing.

    References:
        Ho et al. 2020, section 3.2; Nichol and Dhariwal 2021, equation 15; for pairs Kingma et al. 2021, section 3.
    """
    mean, btilde = posterior(x_t, prediction.clean, now, earlier)
    landing = btilde == 0
    if last is not None:
        btilde = torch.where(landing, last, btilde)
    if variance == "small":
        return Gaussian(mean, btilde)
    beta = transition(x_t, earlier, now).variance
    if variance == "large":
        return Gaussian(mean, beta if last is None else torch.where(landing, last, beta))
    if prediction.variance_fraction is None:
        raise ValueError("this denoiser has learned no variance")
    return Gaussian(mean, (btilde.log() + prediction.variance_fraction * (beta.log() - btilde.log())).exp())


def last_variance(schedule: Schedule) -> float:
    """sigma_1^2: what a likelihood takes for btilde_1, which is 0. It is btilde_2, and with T = 1 it is beta_1.

    References:
        Ho et al. 2020 and Nichol and Dhariwal 2021, in the code of both: the papers leave it open.
    """
    if schedule.timesteps == 1:
        return float(schedule.betas[1])
    nothing = np.zeros(())
    return float(posterior(nothing, nothing, schedule.level(2), schedule.level(1)).variance)


def bound_term(
    x_0: Tensor,
    x_t: Tensor,
    prediction: Prediction,
    now: Level[Tensor],
    earlier: Level[Tensor],
    variance: Variance,
    last: float,
) -> Tensor:
    """The term of the variational bound that belongs to a step from t = now to s = earlier, in bits per dimension.

    s > 0: D(q(x_s | x_t, x_0) || p_theta(x_s | x_t)), with `small` variance (SNR_s - SNR_t) / 2 ||x_0 - clean||^2.
    s = 0: L_0 = -ln p_theta(x_0 | x_t), each pixel's Gaussian integrated over its bin.
    Both summed over the elements, divided by their number and by ln 2.

    Args:
        x_0: clean images (B, C, H, W), made of the 256 pixel values in [-1, 1].
        x_t: drawn from q(x_t | x_0), of the same shape.
        prediction: of the denoiser at x_t.
        now: () or (B,), not 0.
        earlier: likewise, below it.
        variance: of p_theta.
        last: :func:`last_variance`.

    Returns:
        (B,), at least 0.

    References:
        Ho et al. 2020, equations 5 and 13; Kingma et al. 2021, equation 13.
    """
    q = posterior(x_t, x_0, now, earlier)
    p = reverse(x_t, prediction, now, earlier, variance, last)
    landing = q.variance == 0
    if landing.ndim == 0:  # one level for all: on the CPU, whatever the images are on
        nats = -discretised_log_likelihood(x_0, p) if landing else kl(q, p)
    else:
        # `where` drops the divergence on landing, but its gradient must be finite all the same.
        q = q._replace(variance=torch.where(landing, last, q.variance))
        nats = torch.where(landing, -discretised_log_likelihood(x_0, p), kl(q, p))
    return nats.flatten(1).mean(1) / math.log(2)


# --- denoisers around denoisers -------------------------------------------------------------------------------------


class Guide:
    """Guidance: clean = other + scale (cond - other); 1 is off, 0 asks for the other alone.

    Classifier-free, the other is the same denoiser's answer without the condition, asked for in the same batch. In
    autoguidance it is what a worse model, less trained say, answers to the same question. A guided question is two
    evaluations in both. A learned variance is the conditional one's.

    Strong guidance raises the contrast of images. Rescaled, they are multiplied with 1 + rescale (std(cond) /
    std(clean) - 1), with the standard deviation over all elements of an image.

    Args:
        denoiser: for classifier-free guidance trained with labels dropped at random.
        scale: guidance.
        away: what to lead away from: what "no condition" looks like, name -> value, {"label": classes} say; or another
            denoiser.
        rescale: 0: not at all, 1: to the contrast of the conditional image.
        interval: levels t between which there is guidance, both included; outside, one question is asked; None:
            everywhere.

    References:
        Ho and Salimans 2022, equation 6, with w = scale - 1; Karras et al. 2024 (autoguidance), equation 3; Lin et al.
        2023, equations 15 and 16, of clean images; Kynkäänniemi et al. 2024, equation 6.
    """

    def __init__(
        self,
        denoiser: Denoises,
        scale: float,
        away: "Mapping[str, int] | Denoises",
        rescale: float = 0.0,
        interval: tuple[float, float] | None = None,
    ) -> None:
        self.denoiser, self.scale, self.away = denoiser, scale, away
        self.rescale, self.interval = rescale, interval

    def __call__(self, x_t: Tensor, level: Level[Tensor], condition: Condition) -> Prediction:
        if self.interval is None:
            return self._guided(x_t, level, condition)
        low, high = self.interval
        inside = (low <= level.t) & (level.t <= high)
        if not bool(inside.any()):
            return self.denoiser(x_t, level, condition)
        guided = self._guided(x_t, level, condition)
        if bool(inside.all()):
            return guided
        alone = self.denoiser(x_t, level, condition)
        return guided._replace(clean=torch.where(inside.to(x_t.device)[:, None, None, None], guided.clean, alone.clean))

    def _guided(self, x_t: Tensor, level: Level[Tensor], condition: Condition) -> Prediction:
        cond, other = self._asked(x_t, level, condition)
        clean = torch.lerp(other, cond.clean, self.scale)
        if self.rescale:
            contrast, usual = (each.std((1, 2, 3), keepdim=True) for each in (clean, cond.clean))
            clean = clean * (1 + self.rescale * (usual / contrast.clamp(min=1e-6) - 1))
        return cond._replace(clean=clean)

    def _asked(self, x_t: Tensor, level: Level[Tensor], condition: Condition) -> tuple[Prediction, Tensor]:
        if not isinstance(self.away, Mapping):
            return self.denoiser(x_t, level, condition), self.away(x_t, level, condition).clean
        both = {k: torch.cat([v, torch.full_like(v, self.away[k])]) for k, v in condition.items()}
        if level.t.ndim:
            level = Level(*(torch.cat([field, field]) for field in level))
        answer = self.denoiser(torch.cat([x_t, x_t]), level, both)
        (cond, other), fraction = answer.clean.chunk(2), answer.variance_fraction
        return Prediction(cond, None if fraction is None else fraction.chunk(2)[0]), other


class Blend:
    """Between what two conditions say: clean = (1 - share) D(first) + share D(second), for each image.

    In logarithms of densities it is the same mixture of the two scores: what is likely under both, the more under the
    second the larger its share. A question is two evaluations.

    Args:
        denoiser: asked with both.
        second: the other condition; the first is the one it is asked with.
        share: of the second, (B,), 0 to 1, at whose ends it is exactly the one or the other.
    """

    def __init__(self, denoiser: Denoises, second: Condition, share: Tensor) -> None:
        self.denoiser, self.second, self.share = denoiser, second, share[:, None, None, None]

    def __call__(self, x_t: Tensor, level: Level[Tensor], condition: Condition) -> Prediction:
        a, b = self.denoiser(x_t, level, condition), self.denoiser(x_t, level, self.second)
        share = self.share.to(a.clean.dtype)
        clean, (first, second) = a.clean.lerp(b.clean, share), (a.variance_fraction, b.variance_fraction)
        return Prediction(clean, None if first is None or second is None else first.lerp(second, share))


class Clip:
    """Keeps clean images in [-1, 1], where images live; the noise is then re-derived from the clipped estimate.

    Args:
        denoiser: whose answers are clipped.
        threshold: None: at 1. Else dynamically: at s, the absolute value that this share of an image's elements does
            not exceed, if it is above 1, and divided by s.

    References:
        Saharia et al. 2022 (Imagen), section 2.3.
    """

    def __init__(self, denoiser: Denoises, threshold: float | None = None) -> None:
        self.denoiser, self.threshold = denoiser, threshold

    def __call__(self, x_t: Tensor, level: Level[Tensor], condition: Condition) -> Prediction:
        answer = self.denoiser(x_t, level, condition)
        if self.threshold is None:
            return answer._replace(clean=answer.clean.clamp(-1, 1))
        size = answer.clean.abs().flatten(1)
        rank = max(1, math.ceil(self.threshold * size.shape[1]))
        s = size.kthvalue(rank, dim=1).values.clamp(min=1)[:, None, None, None]
        return answer._replace(clean=answer.clean.clamp(-s, s) / s)
