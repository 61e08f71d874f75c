"""Features of colour images: Inception v3 as its authors of 2015 trained it, through torch-fidelity.

The library is the extra ``ddpm-cli[inception]``, and its weights are a download of 95 MB from its own site. Neither is
needed for grey images of known sets, which have pinned networks of their own.
Invariants: nothing here is imported before it is asked for; the weights are kept below DDPM_HOME, checked by the hash
that their name carries, and read as tensors alone, while the library by itself would run what their pickle says.
"""

import contextlib
import hashlib
import importlib
import importlib.util
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from ddpm_cli import paths
from ddpm_cli.errors import ResourceError
from ddpm_cli.features import Seen, whole_batches
from ddpm_cli.pixels import Pixels

LIBRARY = "torch_fidelity"
LAYER = "2048"  # the last pooling, as in Heusel et al. 2017
BATCH = 64
INSTALL = "Install it: pip install 'ddpm-cli[inception]'"
WEIGHTS = "weights-inception-2015-12-05-6726825d.pth"  # as the library names its file: with the beginning of its sha256


def lacking(offline: bool = False) -> str:
    """Why features of colour images cannot be had; empty where they can, or can be fetched.

    Args:
        offline: whether the network may not be asked.
    """
    if importlib.util.find_spec(LIBRARY) is None:
        return f"features of colour images need the extra ddpm-cli[inception]. {INSTALL}"
    if offline and not _is_whole(_stored()):
        return "features of colour images need the weights of Inception, and --offline forbids to fetch them"
    return ""


def _stored() -> Path:
    return paths.cache() / "inception" / WEIGHTS


def _is_whole(path: Path) -> bool:
    """Whether a file is there, and is what the hash in its name says."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest().startswith(path.stem.rpartition("-")[2])
    return False


@dataclass(frozen=True)
class Inception:
    """The network, ready to be asked.

    Attributes:
        id: library, version and layer: what its features depend on.
        extractor: of the library.
        data: what it was trained on.
    """

    id: str
    extractor: Any
    data: str = "ImageNet"

    @torch.no_grad()
    def see(self, images: Pixels) -> Seen:
        """Features of colour images, uint8 (N, 3, H, W); of no classes."""
        whole = whole_batches(images, BATCH)
        parts = [
            self.extractor(torch.from_numpy(whole[start : start + BATCH]))[0] for start in range(0, len(whole), BATCH)
        ]
        features = torch.cat(parts)[: len(images)].float().cpu().numpy()
        return Seen(features, np.empty((len(features), 0), np.float32))


def load(offline: bool = False, say: Callable[[str], None] = lambda _: None) -> Inception:
    """The network and its weights.

    Args:
        offline: never ask the network.
        say: takes sentences for the user.

    Raises:
        ResourceError: the library is not installed, or its weights are not here and cannot be fetched.
    """
    if importlib.util.find_spec(LIBRARY) is None:
        raise ResourceError("torch-fidelity is not installed", f"{INSTALL}.")
    if reason := lacking(offline):
        raise ResourceError(reason, "Leave out --offline once.")
    library = importlib.import_module(LIBRARY)
    module = importlib.import_module(f"{LIBRARY}.feature_extractor_inceptionv3")
    try:
        with _reading(module, say):
            extractor = module.FeatureExtractorInceptionV3("inception-v3-compat", [LAYER])
    except Exception as error:  # no network, a full disk, another file than expected
        raise ResourceError(
            f"the weights of Inception cannot be had: {error}",
            "They are fetched once, from the site of torch-fidelity: try again with a network.",
        ) from error
    return Inception(f"torch-fidelity {library.__version__} inception-v3-compat {LAYER}", extractor)


@contextlib.contextmanager
def _reading(module: Any, say: Callable[[str], None]) -> Iterator[None]:
    """Let the library take its weights from here."""

    def weights(url: str, **_: object) -> dict[str, torch.Tensor]:
        path = _stored()
        if not _is_whole(path):
            path.unlink(missing_ok=True)  # it is there and damaged
            say("fetching the weights of Inception, 95 MB, once")
        with contextlib.redirect_stdout(io.StringIO()):  # where it would tell the address
            found: dict[str, torch.Tensor] = torch.hub.load_state_dict_from_url(
                url, str(path.parent), map_location="cpu", progress=False, check_hash=True, weights_only=True
            )
        return found

    with mock.patch.object(module, "load_state_dict_from_url", weights):
        yield
