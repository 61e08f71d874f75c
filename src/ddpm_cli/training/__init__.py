"""Fitting a denoiser: a loop without IO, the batches it sees, the state it changes, and the averaged weights."""

from ddpm_cli.training.batches import Batches
from ddpm_cli.training.compiling import Length, pays, seconds_a_step
from ddpm_cli.training.ema import Average
from ddpm_cli.training.loop import StepReport, train
from ddpm_cli.training.rate import Revision, extended, learning_rate, revised
from ddpm_cli.training.state import TrainState

__all__ = [
    "Average",
    "Batches",
    "Length",
    "Revision",
    "StepReport",
    "TrainState",
    "extended",
    "learning_rate",
    "pays",
    "revised",
    "seconds_a_step",
    "train",
]
