"""Averaged weights."""

import torch
from torch import Tensor, nn


class Average:
    """An exponential moving average of a network's state whose memory grows with the run.

    avg <- avg + (1 - decay_k) (now - avg), decay_k = 2^(-1 / (share (k + 1))) after k updates: at step k the half-life
    is `share` of the k steps so far, and about half of the average is younger than that. So the first weights, which
    know nothing, are soon forgotten, and at the end the half-life is that share of the whole run, however long it was.
    Buffers are averaged like weights; whole numbers are copied.

    Args:
        network: what to follow; the average starts as its copy.

    References:
        Karras et al. 2024 (EDM2), section 3.1, for a memory proportional to the length of the run.
    """

    def __init__(self, network: nn.Module) -> None:
        self.state: dict[str, Tensor] = {name: value.clone() for name, value in network.state_dict().items()}
        live = network.state_dict()  # shares memory with the network: read at every update
        floats = [name for name, value in live.items() if value.is_floating_point()]
        self._pairs = [self.state[name] for name in floats], [live[name] for name in floats]
        self._whole = [(self.state[name], live[name]) for name in live if name not in set(floats)]

    @torch.no_grad()
    def update(self, updates: int, share: float, learned: Tensor | None = None) -> None:
        """Move towards the network's present state.

        Args:
            updates: how many have gone before.
            share: half-life as a share of the run so far, above 0.
            learned: whether the step changed the network, () bool on its device; the average stays where it did not.
                None: it did.
        """
        moved = 1 - 0.5 ** (1 / (share * (updates + 1)))
        averages, present = self._pairs
        towards = torch._foreach_sub(present, averages)
        # A weight on the device, so that the host does not wait for it.
        torch._foreach_mul_(towards, moved if learned is None else torch.where(learned, moved, 0.0))
        torch._foreach_add_(averages, towards)
        for average, now in self._whole:
            average.copy_(now)
