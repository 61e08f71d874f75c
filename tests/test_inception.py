"""Features of colour images come from a library that may be missing, and say so."""

import hashlib
import io
import sys
import zipfile
from collections.abc import Callable
from email.message import Message
from pathlib import Path
from types import ModuleType
from typing import Any

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
        found: Any

        def __init__(self, name: str, layers: list[str]) -> None:
            Extractor.wanted = name, layers
            found = sys.modules["torch_fidelity.feature_extractor_inceptionv3"].load_state_dict_from_url
            Extractor.found = found(f"https://nowhere.invalid/{inception.WEIGHTS}", progress=True)

        def __call__(self, x: torch.Tensor) -> tuple[torch.Tensor]:
            assert x.dtype == torch.uint8
            return (x.float().mean((2, 3)),)

    package, module = ModuleType("torch_fidelity"), ModuleType("torch_fidelity.feature_extractor_inceptionv3")
    package.__version__ = "9.9"  # type: ignore[attr-defined]
    module.FeatureExtractorInceptionV3 = Extractor  # type: ignore[attr-defined]
    module.load_state_dict_from_url = None  # type: ignore[attr-defined]  # must never be asked
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


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """DDPM_HOME."""
    return tmp_path / "home"


def state(pickled: bytes) -> bytes:
    """A file as torch writes them, around what a pickle says."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in (("data.pkl", pickled), ("byteorder", b"little"), ("version", b"3\n")):
            archive.writestr(f"weights/{name}", content)
    return buffer.getvalue()


Offer = Callable[[bytes], list[str]]


@pytest.fixture
def offer(home: Path, monkeypatch: pytest.MonkeyPatch) -> Offer:
    """Lets the site have a file, which is named by its hash; gives the addresses that are asked for."""
    monkeypatch.setenv("TORCH_HOME", str(home / "torch"))  # where torch would keep it

    def offered(content: bytes, named_after: bytes | None = None) -> list[str]:
        digest = hashlib.sha256(content if named_after is None else named_after).hexdigest()
        monkeypatch.setattr(inception, "WEIGHTS", f"weights-{digest[:8]}.pth")
        asked: list[str] = []

        def answer(request: Any, *_: object, **__: object) -> Any:
            asked.append(request.full_url)
            response = io.BytesIO(content)
            response.info = Message  # type: ignore[attr-defined]
            return response

        monkeypatch.setattr("torch.hub.urlopen", answer)
        return asked

    return offered


EMPTY = state(b"\x80\x02}.")  # an empty dict


@pytest.fixture
def site(offer: Offer) -> list[str]:
    return offer(EMPTY)


@pytest.mark.usefixtures("site")
def test_its_features_are_those_of_the_library_in_batches(library: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inception, "BATCH", 7)
    network = inception.load()
    assert library.wanted == ("inception-v3-compat", ["2048"])
    assert network.id == "torch-fidelity 9.9 inception-v3-compat 2048"
    seen = network.see(COLOUR.images)
    np.testing.assert_allclose(seen.features, COLOUR.images.mean((2, 3)), rtol=1e-5)
    assert seen.probabilities.shape == (40, 0)


@pytest.mark.usefixtures("library", "site")
def test_weights_that_cannot_be_fetched_are_a_missing_resource(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("torch.hub.urlopen", unreachable)
    with pytest.raises(ResourceError, match="no route to host") as caught:
        inception.load()
    assert caught.value.exit_code == 6


def test_weights_are_fetched_once_and_kept_below_the_home(library: Any, site: list[str], home: Path) -> None:
    said: list[str] = []
    inception.load(say=said.append)
    inception.load(say=said.append)
    inception.load(offline=True)
    assert len(site) == len(said) == 1
    assert library.found == {}
    assert [path.name for path in (home / "cache" / "inception").iterdir()] == [inception.WEIGHTS]
    assert not (home / "torch").exists()


@pytest.mark.usefixtures("library")
def test_damaged_weights_are_fetched_anew(site: list[str], home: Path) -> None:
    mine = home / "cache" / "inception" / inception.WEIGHTS
    mine.parent.mkdir(parents=True)
    mine.write_bytes(EMPTY[:-5])
    inception.load()
    assert mine.read_bytes() == EMPTY
    assert len(site) == 1


@pytest.mark.usefixtures("library")
def test_what_the_site_sends_must_be_the_weights(offer: Any, home: Path) -> None:
    offer(b"something else", named_after=EMPTY)
    with pytest.raises(ResourceError, match="hash"):
        inception.load()
    assert not list((home / "cache" / "inception").iterdir())


@pytest.mark.usefixtures("library")
def test_weights_that_would_run_code_are_refused(offer: Offer, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    offer(state(b"cos\nmkdir\n(S'" + str(ran).encode() + b"'\ntR."))
    with pytest.raises(ResourceError, match="weights of Inception"):
        inception.load()
    assert not ran.exists()


@pytest.mark.usefixtures("library")
def test_offline_nothing_is_fetched_and_it_is_said_before_anything_is_drawn(site: list[str]) -> None:
    with pytest.raises(ResourceError, match="weights of Inception"):
        inception.load(offline=True)
    said: list[str] = []
    assert "frechet" not in choose([], Reference(COLOUR, "all", 0, offline=True), 3000, said.append)
    assert any("--offline forbids to fetch them" in each for each in said)
    choose([], Reference(COLOUR, "all", 0), 10, said.append)  # so few need no features
    assert not site
    choose([], Reference(COLOUR, "all", 0), 3000, said.append)
    assert len(site) == 1
