"""The training loop: a generator of step reports that touches no file and no clock."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ddpm_cli import machine
from ddpm_cli.config import TrainConfig
from ddpm_cli.training.batches import Batch, Batches
from ddpm_cli.training.rate import learning_rate
from ddpm_cli.training.state import TrainState


class StepReport(NamedTuple):
    """What happened in a step.

    Attributes:
        step: steps done, this one included.
        loss: mean over the batch, () on the device; reading it waits for the device.
        gradient: norm before clipping, () on the device.
        lr: learning rate of the step.
        broken: steps in a row, up to this one, that were skipped because a number was not finite, () on the device.
        skipped: steps of the whole run that were, () on the device.
    """

    step: int
    loss: Tensor
    gradient: Tensor
    lr: float
    broken: Tensor
    skipped: Tensor


def _rescaled(scale: Tensor, finite: Tensor) -> Tensor:
    """Halve the scale of the loss where the step overflowed, double it after 2000 steps that did not."""
    factor, good = scale
    grown = torch.where(good + 1 < 2000, torch.stack([factor, good + 1]), torch.stack([2 * factor, 0 * good]))
    return torch.where(finite, grown, torch.stack([factor / 2, 0 * good]))


def _backward(state: TrainState, batch: Batch, config: TrainConfig) -> Tensor:
    """Add the gradient of a batch's mean loss to the parameters', part by part; returns that loss, () on the device."""
    total = torch.zeros((), device=batch.x_0.device)
    for part in batch.parts(config.accumulate):
        loss = state.denoiser.loss(
            part.x_0, part.level, part.eps, part.condition, config.loss, config.gamma, part.chain
        ).sum() / len(batch.x_0)
        (loss if state.scale is None else loss * state.scale[0]).backward()
        total += loss.detach()
    return total


class Statistics:
    """The running statistics of a network's batch norms, to be put back where a step is skipped.

    All of a dtype are copied as one vector: there are dozens of them, and a call for each would cost a GPU's host more
    than the step's arithmetic costs the GPU.
    """

    def __init__(self, network: nn.Module) -> None:
        by_dtype: dict[torch.dtype, list[Tensor]] = {}
        for buffer in network.buffers():
            by_dtype.setdefault(buffer.dtype, []).append(buffer)
        self._groups = list(by_dtype.values())

    def copies(self) -> list[Tensor]:
        """What they are now, a vector for each dtype."""
        return [torch.cat([buffer.flatten() for buffer in group]) for group in self._groups]

    def restore(self, before: list[Tensor], undo: Tensor) -> None:
        """Put back :meth:`copies` where `undo`, () on the device, is true."""
        for group, now, old in zip(self._groups, self.copies(), before, strict=True):
            kept = torch.where(undo, old, now).split([buffer.numel() for buffer in group])
            torch._foreach_copy_(group, [part.view_as(buffer) for part, buffer in zip(kept, group, strict=True)])


def train(state: TrainState, batches: Batches, config: TrainConfig) -> Iterator[StepReport]:
    """Train to the end of the budget, yielding after every step.

    A step whose loss or gradient is not finite changes no weight, moment, statistic or average: it is skipped on the
    device, without waiting for it, and counted in the report.

    Args:
        state: is changed in place; begin anywhere.
        batches: the work of a step, by its number.
        config: the recipe.
    """
    parameters = [p for p in state.denoiser.parameters() if p.requires_grad]
    statistics = Statistics(state.denoiser)
    state.denoiser.train()
    device = parameters[0].device
    on_graphs = device.type == "cuda" and state.denoiser.network._compiled_call_impl is not None
    while state.steps is None or state.step < state.steps:
        lr = learning_rate(state.step, state.steps, config, state.revisions)
        for group in state.optimizer.param_groups:
            group["lr"] = lr
        batch = batches(state.step)
        machine.seed(device, batch.seed)
        if on_graphs:
            torch.compiler.cudagraph_mark_step_begin()  # what the last step computed may be overwritten
        before = statistics.copies()
        loss = _backward(state, batch, config)
        gradients = [p.grad for p in parameters if p.grad is not None]
        if state.scale is not None:
            torch._foreach_div_(gradients, state.scale[0])
        norm = torch.nn.utils.get_total_norm(gradients)
        if config.clip:
            torch.nn.utils.clip_grads_with_norm_(parameters, config.clip, norm)
        finite = torch.isfinite(loss) & torch.isfinite(norm)
        # Fused optimizers read this themselves: with it set they leave weights and moments as they are. The one for
        # MPS does not look at it, so there the host waits and decides.
        state.optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]
        if loss.device.type != "mps" or bool(finite):
            state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        statistics.restore(before, ~finite)
        state.broken = torch.where(finite, 0, state.broken + 1)
        state.skipped = state.skipped + ~finite
        if state.scale is not None:
            state.scale = _rescaled(state.scale, finite)
        if state.average is not None:
            state.average.update(state.step, config.ema, finite)
        state.step += 1
        yield StepReport(state.step, loss, norm, lr, state.broken, state.skipped)
