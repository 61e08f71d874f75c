"""The pinned networks are the ones they say, know their digits, and do not see what people do not see."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from ddpm_cli import checkpoint, data, features, paths
from ddpm_cli.errors import ModelError, UsageError
from ddpm_cli.networks.classifier import FEATURES, Classifier

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> data.ImageSet:
    """A thousand test images of MNIST, which ships with the package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DDPM_HOME", str(tmp_path_factory.mktemp("home")))
        return data.load("mnist", split="test", limit=1000)


@pytest.fixture(scope="module")
def network() -> features.FeatureNetwork:
    return features.load("mnist")


@pytest.mark.parametrize("name", features.PINNED)
def test_each_pinned_network_is_small_and_says_how_good_it_is(name: str) -> None:
    path = paths.shipped() / "weights" / "features" / f"{name}.safetensors"
    assert path.stat().st_size < 1_000_000
    loaded = features.load(name)
    assert loaded.classes == data.KNOWN[name].classes
    record = json.loads(path.with_suffix(".json").read_text())
    assert record["id"] == loaded.id == features.PINNED[name]
    assert record["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert record["test"]["accuracy"] >= {"mnist": 0.993, "fashion-mnist": 0.915}[name]


def test_it_knows_its_digits(network: features.FeatureNetwork, digits: data.ImageSet) -> None:
    seen = network.see(digits.images)
    assert seen.features.shape == (1000, FEATURES)
    assert seen.probabilities.shape == (1000, 10)
    assert seen.probabilities.sum(1) == pytest.approx(np.ones(1000), abs=1e-5)
    # 99.3 % of all 10,000 at least; of a thousand of them, three standard errors less.
    assert (seen.probabilities.argmax(1) == digits.labels).mean() >= 0.985


def test_features_are_in_standard_deviations(network: features.FeatureNetwork, digits: data.ImageSet) -> None:
    """Of the training images; those of the test images are nearly so."""
    seen = network.see(digits.images).features
    assert np.abs(seen.mean(0)).max() < 0.3
    assert seen.std(0).min() > 0.7
    assert seen.std(0).max() < 1.3


def test_a_shape_that_is_broken_weighs_more_than_noise_nobody_sees(
    network: features.FeatureNetwork, digits: data.ImageSet
) -> None:
    images = digits.images

    def distance(changed: np.ndarray) -> float:
        """Mean distance that the features of an image travel."""
        return float(np.linalg.norm(network.see(changed).features - plain, axis=1).mean())

    def noisy(strength: float) -> np.ndarray:  # in grey levels
        return np.clip(np.rint(images + RNG.normal(0, strength, images.shape)), 0, 255).astype(np.uint8)

    plain = network.see(images).features
    faint, visible, strong = (distance(noisy(strength)) for strength in (3, 25, 80))
    cut = images.copy()
    cut[:, :, 13:15] = 0  # a gap of two rows in the middle of every stroke
    blurred = gaussian_filter(images, (0, 0, 1.5, 1.5))
    overlaid = np.maximum(images, np.roll(images, 1, axis=0))
    assert faint < visible < strong
    for broken in (cut, blurred, overlaid):
        assert distance(broken) > 5 * faint
    assert distance(overlaid) > 2 * visible
    another = float(np.linalg.norm(plain - np.roll(plain, 1, axis=0), axis=1).mean())
    assert faint < another / 20


def test_the_batch_does_not_matter(network: features.FeatureNetwork, digits: data.ImageSet) -> None:
    """To the last bit, so that an image and its copy are at distance 0."""
    images = digits.images[: features.BATCH]
    seen = network.see(images)
    for count in (1, 2, 3, 5, 7):
        again = network.see(np.concatenate([images, images[:count]]))
        assert (again.features == np.concatenate([seen.features, seen.features[:count]])).all()
        assert (network.see(images[:count]).probabilities == seen.probabilities[:count]).all()


def test_other_images_are_refused(network: features.FeatureNetwork) -> None:
    with pytest.raises(UsageError, match="3x32x32"):
        network.see(np.zeros((2, 3, 32, 32), np.uint8))


def test_a_set_without_a_network_is_refused() -> None:
    with pytest.raises(UsageError, match="svhn"):
        features.load("svhn")


def test_another_network_is_refused(tmp_path: Path) -> None:
    """A file of the right form with other weights, one that was cut, one of another kind."""
    source = paths.shipped() / "weights" / "features" / "mnist.safetensors"
    about, _ = checkpoint.read_header(source)
    tensors = checkpoint.read_tensors(source)
    other = tmp_path / "other.safetensors"
    checkpoint.write_tensors(other, {**tensors, "head.bias": tensors["head.bias"] + 1}, about)
    with pytest.raises(ModelError, match="id differs"):
        features.read(other, features.PINNED["mnist"])
    other.write_bytes(source.read_bytes()[:-100])
    with pytest.raises(ModelError):
        features.read(other, features.PINNED["mnist"])
    with pytest.raises(ModelError, match="no feature network"):
        features.read(paths.shipped() / "weights" / "mnist.safetensors", features.PINNED["mnist"])


def test_scores_are_those_of_the_features() -> None:
    """Standardising the features changes nothing in what the network answers."""
    torch.manual_seed(0)
    network = Classifier(10).eval()
    x = torch.randn(4, 1, 28, 28)
    before = network(x)
    network.center.normal_()
    network.spread.uniform_(0.5, 2)
    assert torch.allclose(network(x), before, atol=1e-5)
    assert not torch.allclose(network.features(x), network.body(x))
