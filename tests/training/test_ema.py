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


@pytest.mark.parametrize("half_life", [3.0, 50.0, math.inf])
def test_the_average_is_its_recursion_written_as_a_sum(half_life: float) -> None:
    network = One()
    network.become(5)
    average = Average(network)
    values = [round(10 * math.sin(k)) for k in range(40)]
    decays = [min(0.5 ** (1 / half_life), (1 + k) / (10 + k)) for k in range(40)]
    for k, value in enumerate(values):
        network.become(value)
        average.update(k, half_life)
    expected = 5 * math.prod(decays)
    for k, value in enumerate(values):
        expected += (1 - decays[k]) * value * math.prod(decays[k + 1 :])
    assert float(average.state["weight"]) == pytest.approx(expected, rel=1e-9)
    assert float(average.state["real"]) == pytest.approx(expected, rel=1e-9)
    assert int(average.state["whole"]) == values[-1]


def test_half_of_an_old_average_is_newer_than_its_half_life() -> None:
    network = One()
    network.become(1)
    average = Average(network)
    network.become(0)
    for k in range(100):
        average.update(10_000 + k, 100)  # long after the warm-up
    assert float(average.state["weight"]) == pytest.approx(0.5, rel=1e-9)


def test_the_first_weights_are_forgotten_soon() -> None:
    network = One()
    network.become(1)
    average = Average(network)
    network.become(0)
    for k in range(20):
        average.update(k, math.inf)
    # product of (1 + k)/(10 + k) for k < 20 = 20! 9! / 29!
    expected = math.factorial(20) * math.factorial(9) / math.factorial(29)
    assert float(average.state["weight"]) == pytest.approx(expected, rel=1e-6)


def test_it_starts_as_a_copy_and_leaves_the_network_alone() -> None:
    network = One()
    network.become(3)
    average = Average(network)
    network.become(4)
    assert float(average.state["weight"]) == 3
    average.update(0, math.inf)
    assert float(network.weight.detach()) == 4
    assert average.state.keys() == network.state_dict().keys()


def test_a_half_life_of_0_is_the_present() -> None:
    network = One()
    average = Average(network)
    network.become(7)
    average.update(0, 0)
    assert float(average.state["weight"]) == 7
