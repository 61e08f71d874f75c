"""What a pinned classifier sees in images: features to compare sets with, and classes.

Two small networks ship with the package, for MNIST and Fashion-MNIST. Invariant: a figure names the network it was
made with by its id, and a network under a known name always has the id written here.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddpm_cli import checkpoint, machine, paths
from ddpm_cli.data import KNOWN, ImageSet
from ddpm_cli.errors import DdpmError, ModelError, UsageError
from ddpm_cli.networks.classifier import SIDE, Classifier
from ddpm_cli.pixels import Pixels, from_uint8

KIND = "features"
BATCH = 100  # images at once; on a CPU larger ones gain nothing
# Data set -> id of its network. A new one is another yardstick: figures of the two cannot be compared.
PINNED = {
    "mnist": "9ac7b8cecca48be7e4c813aa20ef996e15f9c90986aeb316b1cf525f423117c4",
    "fashion-mnist": "cf4ec973cc76459f38c72d48f23fed8d3ed97a3e0f64e765df41ad7e5db22df6",
}


class Seen(NamedTuple):
    """What a network sees in N images: features (N, 64) and the probability of each class (N, K), both float32."""

    features: NDArray[np.float32]
    probabilities: NDArray[np.float32]


@dataclass(frozen=True)
class FeatureNetwork:
    """A pinned classifier, ready to be asked.

    Attributes:
        data: the set it knows.
        classes: names of its classes.
        id: sha256 over its description and its tensors.
        network: in evaluation mode.
    """

    data: str
    classes: tuple[str, ...]
    id: str
    network: Classifier

    @torch.no_grad()
    def see(self, images: Pixels) -> Seen:
        """Features and class probabilities of images, uint8 (N, 1, 28, 28).

        Raises:
            UsageError: images of another shape.
        """
        if images.shape[1:] != (1, SIDE, SIDE):
            raise UsageError(
                f"the images are {'x'.join(map(str, images.shape[1:]))}, and the feature network of {self.data} "
                f"sees 1x{SIDE}x{SIDE}",
                "Ask for other metrics: --metrics ssim.",
            )
        features, probabilities = [], []
        for _, x in batches(whole_batches(images, BATCH)):
            features.append(self.network.features(x))
            probabilities.append(self.network.scores(features[-1]).softmax(1))
        count = len(images)
        return Seen(torch.cat(features)[:count].numpy(), torch.cat(probabilities)[:count].numpy())


class Sees(Protocol):
    """Whatever sees features in images."""

    @property
    def id(self) -> str: ...

    def see(self, images: Pixels) -> Seen: ...


def see_whole(network: Sees, images: ImageSet) -> Seen:
    """What a network sees in a whole set of real images; kept in the cache by the hash of the set."""
    data = images.fingerprint()
    path = paths.cache() / "features" / f"{network.id[:16]}-{data[:16]}.safetensors"
    about = {"format": 1, "kind": "seen", "network": network.id, "data": data}
    with contextlib.suppress(DdpmError, KeyError):  # missing, damaged, or of another set: it is made anew
        with checkpoint.opened(path) as kept:
            tensors = kept.tensors() if {key: kept.about.get(key) for key in about} == about else {}
        if tensors:
            return Seen(tensors["features"].numpy(), tensors["probabilities"].numpy())
    seen = network.see(images.images)
    tensors = {"features": torch.from_numpy(seen.features), "probabilities": torch.from_numpy(seen.probabilities)}
    with contextlib.suppress(DdpmError):  # a cache that cannot be written is no reason to stop
        checkpoint.write_tensors(path, tensors, about)
    return seen


def whole_batches(images: Pixels, size: int) -> Pixels:
    """Return images with the first one repeated at the end, until their number is a multiple of a batch size.

    Kernels round differently in a smaller batch, and copies of an image are to have the same features.
    """
    return np.concatenate([images, np.repeat(images[:1], -len(images) % size, axis=0)])


def batches(images: Pixels) -> Iterator[tuple[slice, Tensor]]:
    """Images as a network takes them, (b, C, H, W) float32 in [-1, 1], a batch at a time, with the rows they are."""
    for start in range(0, len(images), BATCH):
        rows = slice(start, start + BATCH)
        x = from_uint8(torch.from_numpy(np.ascontiguousarray(images[rows])))
        yield rows, x.contiguous(memory_format=torch.channels_last)


def lacking(images: ImageSet) -> str:
    """Why no pinned network sees the images of a known set; empty where one does."""
    if images.name not in PINNED:
        return f"there is no feature network for {images.name}, only for {', '.join(PINNED)}"
    _, height, width = images.shape
    other = images.shape != KNOWN[images.name].shape
    return f"the feature network of {images.name} does not see images of {height}x{width}" if other else ""


def load(data: str) -> FeatureNetwork:
    """The pinned feature network of a data set, verified.

    Raises:
        UsageError: there is none for that set.
        ModelError: the file is damaged or another than the pinned one.
    """
    if data not in PINNED:
        raise UsageError(f"there is no feature network for {data}", f"There is one for each of: {', '.join(PINNED)}.")
    machine.use_threads()
    path = paths.shipped() / "weights" / "features" / f"{data}.safetensors"
    return read(path, PINNED[data])


def read(path: Path, expected: str) -> FeatureNetwork:
    """A feature network from a file, which must have the id expected.

    Raises:
        ModelError: missing, damaged, or another network.
    """
    if not path.exists():
        raise ModelError(f"the feature network {path} is missing", "Install ddpm-cli again.")
    about, found = checkpoint.read_header(path)
    description = {key: about.get(key) for key in ("kind", "data", "classes")}
    classes = about.get("classes")
    if about.get("kind") != KIND or not isinstance(classes, list):
        raise ModelError(f"{path} holds no feature network", "Install ddpm-cli again.")
    with torch.device("meta"):
        network = Classifier(len(classes))
    checkpoint.check_tensors(path, found, network.state_dict())
    tensors = checkpoint.read_tensors(path)
    if checkpoint.model_id(description, tensors) != expected:
        raise ModelError(f"{path} is not the feature network it should be (its id differs)", "Install ddpm-cli again.")
    network.load_state_dict(tensors, assign=True)
    network.to(memory_format=torch.channels_last)
    return FeatureNetwork(str(about["data"]), tuple(map(str, classes)), expected, network.eval().requires_grad_(False))
