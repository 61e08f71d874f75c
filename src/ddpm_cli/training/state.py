"""Everything that changes while training, as one object, and as tensors with names that can be kept and taken up again.

Invariant: a state that took up another's tensors, step and counters goes on exactly as that one would have.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ddpm_cli import torch_environment
from ddpm_cli.config import TrainConfig
from ddpm_cli.denoiser import Denoiser
from ddpm_cli.training.ema import Average
from ddpm_cli.training.rate import Revision

MOMENTS = ("exp_avg", "exp_avg_sq")  # of Adam and AdamW


@dataclass
class TrainState:
    """What resuming needs.

    Attributes:
        denoiser: what is trained, on its device.
        optimizer: over its parameters.
        average: the averaged weights, or None.
        steps: the budget; None while it is unknown.
        revisions: estimates of `steps` in a budget of minutes, in order.
        step: steps done.
        broken: steps in a row that were skipped, () on the device.
        skipped: steps that were skipped in all, () on the device.
        scale: in fp16, what the loss is multiplied by so that small gradients survive, and for how many steps it has
            done no harm, (2,) on the device; None in other precisions.
    """

    denoiser: Denoiser
    optimizer: torch.optim.Optimizer
    average: Average | None
    steps: int | None
    step: int = 0
    broken: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.int32))
    skipped: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.int32))
    scale: Tensor | None = None
    revisions: tuple[Revision, ...] = ()

    @classmethod
    def fresh(cls, denoiser: Denoiser, config: TrainConfig, steps: int | None) -> "TrainState":
        parameters = list(denoiser.parameters())
        broken = torch.zeros((), dtype=torch.int32, device=parameters[0].device)
        torch_environment.make_cache()
        make = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
        optimizer = make(parameters, lr=config.lr, weight_decay=config.weight_decay, fused=True)
        average = Average(denoiser.network) if config.ema else None
        scale = torch.tensor([2.0**16, 0.0], device=broken.device) if denoiser.autocast == torch.float16 else None
        return cls(denoiser, optimizer, average, steps, broken=broken, skipped=broken.clone(), scale=scale)

    def weights(self) -> dict[str, Tensor]:
        """What a model is made of: ``raw.NAME``, and ``ema.NAME`` where there is an average; not copied."""
        raw = {f"raw.{name}": value for name, value in self.denoiser.network.state_dict().items()}
        return raw | {f"ema.{name}": value for name, value in self.best_weights.items() if self.average is not None}

    @property
    def best_weights(self) -> dict[str, Tensor]:
        """The network's state to draw with: the averaged one where there is one; not copied."""
        return self.denoiser.network.state_dict() if self.average is None else self.average.state

    def tensors(self) -> dict[str, Tensor]:
        """:meth:`weights`, and what only training needs: the optimizer's two moments and step of every parameter,
        before the first step zeros; and the scale of the loss."""
        tensors = {**self.weights(), **({"scale": self.scale} if self.scale is not None else {})}
        for name, parameter in self.denoiser.network.named_parameters():
            state = self.optimizer.state.get(parameter, {})
            for key in MOMENTS:
                tensors[f"optimizer.{key}.{name}"] = state.get(key, torch.zeros_like(parameter))
            tensors[f"optimizer.step.{name}"] = state.get("step", torch.zeros(()))
        return tensors

    def take(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from :meth:`tensors` of a state of the same network and recipe, in names and shapes."""
        self.denoiser.network.load_state_dict(_below("raw.", tensors))
        if self.average is not None:
            for name, value in _below("ema.", tensors).items():
                self.average.state[name].copy_(value)
        if self.scale is not None:
            self.scale = tensors["scale"].to(self.scale.device)
        saved = {}
        for number, (name, parameter) in enumerate(self.denoiser.network.named_parameters()):
            # In the parameter's own memory format: fused kernels take both to be laid out alike.
            moments = {key: torch.empty_like(parameter).copy_(tensors[f"optimizer.{key}.{name}"]) for key in MOMENTS}
            saved[number] = {**moments, "step": tensors[f"optimizer.step.{name}"]}
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": saved})


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
