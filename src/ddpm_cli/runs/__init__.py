"""A training run from start to end: the loop, its saves, its metrics, its pictures, and going on with it."""

from ddpm_cli.runs.run import EVERY, Progress, Run, describe
from ddpm_cli.runs.saves import load_config

__all__ = ["EVERY", "Progress", "Run", "describe", "load_config"]
