"""The denoiser: what was the clean image?

A network predicts eps, x0 or v; everybody else asks a :class:`Denoiser` and sees only clean images, in float32 or
better. Guidance and clipping are denoisers around denoisers: ``Clip(Guide(denoiser, 2.0))``. The training loss stands
here too, because it is the same formula read backwards.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from ddpm_cli.config import Loss, Target, Time
from ddpm_cli.forward import clean_from_eps, clean_from_v, q_sample, v_from_clean
from ddpm_cli.schedule import Level

Condition = Mapping[str, Tensor]
"""Name -> tensor with a batch axis; sliced, concatenated and dropped per key. Today: "label", (B,) int64."""


class Prediction(NamedTuple):
    """What a denoiser knows about x_0.

    Attributes:
        clean: its estimate E[x_0 | x_t], (B, C, H, W), dtype of x_t and at least float32.
        variance_fraction: for networks that learn it, where the reverse variance lies between btilde (0) and beta (1)
            in logarithms (Nichol and Dhariwal 2021, equation 15); None: fixed.
    """

    clean: Tensor
    variance_fraction: Tensor | None = None


class Denoises(Protocol):
    """Anything that answers the clean-image question at a level above 0."""

    def __call__(self, x_t: Tensor, level: Level[Tensor], condition: Condition) -> Prediction: ...


class Denoiser(nn.Module):
    """A network, what it predicts, and how it is told the time.

    Args:
        network: ``(x, time, condition) -> image``.
        target: what that image is.
        time: what the network is told: `level`, t - 1 in 0..T-1, or `log-snr`.

    Attributes:
        autocast: dtype the network computes in; None: the dtype of its weights. Nobody outside notices.
    """

    def __init__(self, network: nn.Module, target: Target, time: Time) -> None:
        super().__init__()
        self.network = network
        self.target = target
        self.time = time
        self.autocast: torch.dtype | None = None

    def output(self, x_t: Tensor, level: Level[Tensor], condition: Condition) -> Tensor:
        """The bare network's answer, eps, x0 or v, in the dtype of x_t and at least float32."""
        time = level.t - 1 if self.time == "level" else LOG_SNR_SCALE * level.log_snr
        time = time.float().to(x_t.device).expand(x_t.shape[0])
        weights = next(self.network.parameters()).dtype
        with self._precision(x_t.device):
            out: Tensor = self.network(x_t.to(weights), time, condition)
        return out.to(torch.promote_types(x_t.dtype, torch.float32))

    def forward(self, x_t: Tensor, level: Level[Tensor], condition: Condition) -> Prediction:
        """The clean image under x_t.

        Args:
            x_t: noisy images, (B, C, H, W).
            level: their level, () or (B,), above 0.
            condition: what is known about them.
        """
        out = self.output(x_t, level, condition)
        match self.target:
            case "eps":
                return Prediction(clean_from_eps(x_t, out, level))
            case "x0":
                return Prediction(out)
            case "v":
                return Prediction(clean_from_v(x_t, out, level))

    def loss(
        self,
        x_0: Tensor,
        level: Level[Tensor],
        eps: Tensor,
        condition: Condition,
        kind: Loss = "simple",
        gamma: float = 5.0,
    ) -> Tensor:
        """Squared error of the target, averaged over each image's elements and weighted by level.

        `simple` is ||eps - eps_theta(x_t, t)||^2 for eps, and the same of x0 or v: Ho et al. 2020, equation 14.
        `min-snr` weighs the error of the clean image by min(SNR, gamma): Hang et al. 2023, equation 4.

        Args:
            x_0: clean images, (B, C, H, W).
            level: (B,), each above 0.
            eps: standard normal noise of x_0's shape.
            condition: what is known about the images.
            kind: which weight.
            gamma: of `min-snr`.

        Returns:
            (B,) float32.
        """
        out = self.output(q_sample(x_0, level, eps), level, condition)
        wanted = {"eps": eps, "x0": x_0, "v": v_from_clean(x_0, eps, level)}[self.target]
        error = (out - wanted).square().flatten(1).mean(1)
        if kind == "simple":
            return error
        return error * torch.exp(level.log_snr).clamp(max=gamma) / target_weight(self.target, level)

    def _precision(self, device: torch.device) -> AbstractContextManager[object]:
        return torch.autocast(device.type, self.autocast) if self.autocast else nullcontext()


# Spreads the useful range of log-SNR, about -10 to 10, over the range of t - 1 that the sinusoids were made for.
LOG_SNR_SCALE = 25.0


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


class Guide:
    """Classifier-free guidance: clean = uncond + scale (cond - uncond); 1 is off, 0 ignores the label.

    A guided question is two questions of the network, put in one batch.

    Args:
        denoiser: trained with labels dropped at random.
        scale: guidance.
        nothing: what "no condition" looks like, name -> value, {"label": classes} say.

    References:
        Ho and Salimans 2022, equation 6, with w = scale - 1.
    """

    def __init__(self, denoiser: Denoises, scale: float, nothing: Mapping[str, int]) -> None:
        self.denoiser, self.scale, self.nothing = denoiser, scale, nothing

    def __call__(self, x_t: Tensor, level: Level[Tensor], condition: Condition) -> Prediction:
        both = {k: torch.cat([v, torch.full_like(v, self.nothing[k])]) for k, v in condition.items()}
        if level.t.ndim:
            level = Level(*(torch.cat([field, field]) for field in level))
        answer = self.denoiser(torch.cat([x_t, x_t]), level, both)
        cond, uncond = answer.clean.chunk(2)
        fraction = answer.variance_fraction
        return Prediction(torch.lerp(uncond, cond, self.scale), None if fraction is None else fraction.chunk(2)[0])


class Clip:
    """Keeps clean images in [-1, 1], where images live; the noise is then re-derived from the clipped estimate."""

    def __init__(self, denoiser: Denoises) -> None:
        self.denoiser = denoiser

    def __call__(self, x_t: Tensor, level: Level[Tensor], condition: Condition) -> Prediction:
        answer = self.denoiser(x_t, level, condition)
        return answer._replace(clean=answer.clean.clamp(-1, 1))
