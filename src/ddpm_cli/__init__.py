"""ddpm-cli: train denoising diffusion models, draw from them, and see how they work."""

__version__ = "0.1.0"

from ddpm_cli import signals as _signals

_signals.prepare()  # before everything else is imported

from ddpm_cli.torch_environment import prepare as _prepare  # noqa: E402

_prepare()  # before any part of the package imports torch
