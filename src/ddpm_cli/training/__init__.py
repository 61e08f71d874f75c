"""Fitting a denoiser: a loop without IO, the batches it sees, the state it changes, and the averaged weights."""

from ddpm_cli.training.batches import Batches
from ddpm_cli.training.compiling import Length, pays, seconds_a_step
from ddpm_cli.training.ema import Average
from ddpm_cli.training.loop import StepReport, learning_rate, train
from ddpm_cli.training.state import TrainState

__all__ = [
    "Average",
    "Batches",
    "Length",
    "StepReport",
    "TrainState",
    "learning_rate",
    "pays",
    "seconds_a_step",
    "train",
]
