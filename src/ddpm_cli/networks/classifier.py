"""A small convolutional classifier, whose last hidden layer serves evaluation as features.

It judges images as people would: by their shapes. So it is kept small, and trained not to mind what nobody sees.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE = 28  # pixels; the sets it is made for are 28 x 28, grey
FEATURES = 64
WIDTHS = (24, 48, 32)


def _convolution(width_in: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(width_in, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())


class Classifier(nn.Module):
    """Grey images of 28 x 28 to features, and features to class scores.

    Features are what the last linear layer but one gives, before its activation, standardised: over the training
    images each has mean 0 and standard deviation 1 (`center` and `spread`, set after training).

    Args:
        classes: how many.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        fine, coarse, last = WIDTHS
        self.body = nn.Sequential(
            _convolution(1, fine),
            _convolution(fine, fine),
            nn.MaxPool2d(2),  # 14 x 14
            _convolution(fine, coarse),
            _convolution(coarse, coarse),
            nn.MaxPool2d(2),  # 7 x 7
            _convolution(coarse, last),
            nn.Flatten(),
            nn.Linear(last * (SIDE // 4) ** 2, FEATURES),
        )
        self.head = nn.Linear(FEATURES, classes)
        self.center: Tensor
        self.spread: Tensor
        self.register_buffer("center", torch.zeros(FEATURES))
        self.register_buffer("spread", torch.ones(FEATURES))

    def features(self, x: Tensor) -> Tensor:
        """(B, 1, 28, 28) in [-1, 1] -> (B, 64), in standard deviations of the training images."""
        features: Tensor = (self.body(x) - self.center) / self.spread
        return features

    def scores(self, features: Tensor) -> Tensor:
        """Features -> (B, classes): logits."""
        logits: Tensor = self.head(F.relu(features * self.spread + self.center))
        return logits

    def forward(self, x: Tensor) -> Tensor:
        return self.scores(self.features(x))
