"""A training run from start to end: the loop, its saves, its metrics, its pictures, and going on with it."""

from ddpm_cli.library import run_config as load_config
from ddpm_cli.runs.run import EVERY, Progress, Run

__all__ = ["EVERY", "Progress", "Run", "load_config"]
