"""ddpm-cli: train, sample, visualise and evaluate denoising diffusion models."""

__version__ = "0.1.0"
