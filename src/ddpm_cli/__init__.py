"""ddpm-cli: train denoising diffusion models, draw from them, and see how they work."""

__version__ = "0.1.0"
