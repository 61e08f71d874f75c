"""Averaged weights."""

import torch
from torch import Tensor, nn


class Average:
    """An exponential moving average of a network's state, biased towards the present while it is young.

    avg <- avg + (1 - decay_k) (now - avg), decay_k = min(decay, (1 + k)/(10 + k)) after k updates, so that the first
    weights, which know nothing, are forgotten soon. Buffers are averaged like weights; whole numbers are copied.

    Args:
        network: what to follow; the average starts as its copy.

    References:
        the warm-up is the one of TensorFlow's ExponentialMovingAverage; half-lives as in Karras et al. 2022.
    """

    def __init__(self, network: nn.Module) -> None:
        self.state: dict[str, Tensor] = {name: value.clone() for name, value in network.state_dict().items()}
        live = network.state_dict()  # shares memory with the network: read at every update
        floats = [name for name, value in live.items() if value.is_floating_point()]
        self._pairs = [self.state[name] for name in floats], [live[name] for name in floats]
        self._whole = [(self.state[name], live[name]) for name in live if name not in set(floats)]

    @torch.no_grad()
    def update(self, updates: int, half_life: float) -> None:
        """Move towards the network's present state.

        Args:
            updates: how many have gone before.
            half_life: in steps, after which half of the average is newer; inf while the length of a run is unknown.
        """
        decay = min(0.5 ** (1 / half_life) if half_life > 0 else 0.0, (1 + updates) / (10 + updates))
        averages, present = self._pairs
        torch._foreach_lerp_(averages, present, 1 - decay)
        for average, now in self._whole:
            average.copy_(now)
