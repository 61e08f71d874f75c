"""From noise to image: one loop, a step rule a method, a plan of levels, and draws keyed by image."""

from ddpm_cli.sampling.draws import SeededDraw
from ddpm_cli.sampling.loop import Step, invert, sample
from ddpm_cli.sampling.model import DiffusionModel, ImageModel
from ddpm_cli.sampling.plans import plan
from ddpm_cli.sampling.rules import Rule, rule

__all__ = ["DiffusionModel", "ImageModel", "Rule", "SeededDraw", "Step", "invert", "plan", "rule", "sample"]
