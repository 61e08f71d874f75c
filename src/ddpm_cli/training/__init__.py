"""Fitting a denoiser: a loop without IO, the engine under it, and the averaged weights beside it."""

from ddpm_cli.training.batches import Batches
from ddpm_cli.training.ema import Average
from ddpm_cli.training.engine import choose_device, choose_precision
from ddpm_cli.training.loop import StepReport, TrainState, learning_rate, train

__all__ = [
    "Average",
    "Batches",
    "StepReport",
    "TrainState",
    "choose_device",
    "choose_precision",
    "learning_rate",
    "train",
]
