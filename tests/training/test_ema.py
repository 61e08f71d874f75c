"""The average is the weighted sum it claims to be."""

import math

import pytest
import torch
from torch import nn

from ddpm_cli.training import Average


class One(nn.Module):
    """One weight, one real and one whole buffer."""

    whole: torch.Tensor
    real: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros((), dtype=torch.float64))
        self.register_buffer("real", torch.zeros((), dtype=torch.float64))
        self.register_buffer("whole", torch.zeros((), dtype=torch.int64))

    def become(self, value: int) -> None:
        with torch.no_grad():
            for tensor in (self.weight, self.real, self.whole):
                tensor.fill_(value)


@pytest.mark.parametrize("share", [0.02, 0.08, 0.5])
def test_the_average_is_its_recursion_written_as_a_sum(share: float) -> None:
    network = One()
    network.become(5)
    average = Average(network)
    values = [round(10 * math.sin(k)) for k in range(40)]
    decays = [2 ** (-1 / (share * (k + 1))) for k in range(40)]
    for k, value in enumerate(values):
        network.become(value)
        average.update(k, share)
    expected = 5 * math.prod(decays)
    for k, value in enumerate(values):
        expected += (1 - decays[k]) * value * math.prod(decays[k + 1 :])
    assert float(average.state["weight"]) == pytest.approx(expected, rel=1e-9)
    assert float(average.state["real"]) == pytest.approx(expected, rel=1e-9)
    assert int(average.state["whole"]) == values[-1]


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_half_of_the_average_is_younger_than_the_share_says(share: float) -> None:
    # What was there at step s of K weighs (s / K)^(ln 2 / share): a half at s = K exp(-share), about K (1 - share).
    steps = 20_000
    network = One()
    average = Average(network)
    for k in range(steps):
        network.become(0 if k < steps * math.exp(-share) else 1)
        average.update(k, share)
    assert float(average.state["weight"]) == pytest.approx(0.5, abs=1e-3)


def test_the_first_weights_are_forgotten_soon() -> None:
    network = One()
    network.become(1)
    average = Average(network)
    network.become(0)
    for k in range(20):
        average.update(k, 0.1)
    harmonic = sum(1 / k for k in range(1, 21))  # 2^(-1 / (0.1 k)) multiplied over k = 1..20
    assert float(average.state["weight"]) == pytest.approx(2 ** (-harmonic / 0.1), rel=1e-6)


def test_it_starts_as_a_copy_and_leaves_the_network_alone() -> None:
    network = One()
    network.become(3)
    average = Average(network)
    network.become(4)
    assert float(average.state["weight"]) == 3
    average.update(0, 0.5)
    assert float(network.weight.detach()) == 4
    assert average.state.keys() == network.state_dict().keys()


def test_a_step_that_changed_nothing_does_not_move_the_average() -> None:
    network = One()
    average = Average(network)
    network.become(8)
    average.update(0, 0.5, torch.tensor(False))
    assert float(average.state["weight"]) == 0
    average.update(0, 0.5, torch.tensor(True))  # the decay is 2^(-1 / 0.5) = 1/4
    assert float(average.state["weight"]) == pytest.approx(6)
