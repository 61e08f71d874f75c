"""Fitting a denoiser: a loop without IO, the batches it sees, and the averaged weights beside it."""

from ddpm_cli.training.batches import Batches
from ddpm_cli.training.ema import Average
from ddpm_cli.training.loop import StepReport, TrainState, learning_rate, train

__all__ = ["Average", "Batches", "StepReport", "TrainState", "learning_rate", "train"]
