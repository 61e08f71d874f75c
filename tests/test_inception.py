"""Features of colour images come from a library that may be missing, and say so."""

import sys
from types import ModuleType

import numpy as np
import pytest
import torch

from ddpm_cli import data, inception
from ddpm_cli.errors import ResourceError, UsageError
from ddpm_cli.evaluation import Reference, choose

COLOUR = data.ImageSet("pets", np.random.default_rng(0).integers(0, 256, (40, 3, 8, 8), dtype=np.uint8))


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inception.importlib.util, "find_spec", lambda _: None)


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> type:
    """A stand-in: its features are means of colours."""

    class Extractor:
        wanted: tuple[str, list[str]]

        def __init__(self, name: str, layers: list[str]) -> None:
            Extractor.wanted = name, layers

        def __call__(self, x: torch.Tensor) -> tuple[torch.Tensor]:
            assert x.dtype == torch.uint8
            return (x.float().mean((2, 3)),)

    package, module = ModuleType("torch_fidelity"), ModuleType("torch_fidelity.feature_extractor_inceptionv3")
    package.__version__ = "9.9"  # type: ignore[attr-defined]
    module.FeatureExtractorInceptionV3 = Extractor  # type: ignore[attr-defined]
    for each in (package, module):
        monkeypatch.setitem(sys.modules, each.__name__, each)
    monkeypatch.setattr(inception.importlib.util, "find_spec", lambda _: object())
    return Extractor


@pytest.mark.usefixtures("missing")
def test_without_the_library_it_says_how_to_install_it() -> None:
    with pytest.raises(ResourceError, match="torch-fidelity is not installed") as caught:
        inception.load()
    assert "pip install 'ddpm-cli[inception]'" in caught.value.hint
    said: list[str] = []
    reference = Reference(COLOUR, "all", 0)
    assert choose([], reference, 3000, said.append) == ["ssim", "background", "neighbours"]
    assert any(each.startswith("no frechet, kernel, overlap: features of colour") for each in said)
    with pytest.raises(UsageError, match=r"ddpm-cli\[inception\]"):
        choose(["frechet"], reference, 3000, said.append)


def test_its_features_are_those_of_the_library_in_batches(library: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inception, "BATCH", 7)
    network = inception.load()
    assert library.wanted == ("inception-v3-compat", ["2048"])
    assert network.id == "torch-fidelity 9.9 inception-v3-compat 2048"
    seen = network.see(COLOUR.images)
    np.testing.assert_allclose(seen.features, COLOUR.images.mean((2, 3)), rtol=1e-5)
    assert seen.probabilities.shape == (40, 0)


def test_weights_that_cannot_be_fetched_are_a_missing_resource(library: type, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(library, "__init__", offline)
    with pytest.raises(ResourceError, match="no route to host") as caught:
        inception.load()
    assert caught.value.exit_code == 6
