"""Features of colour images: Inception v3 as its authors of 2015 trained it, through torch-fidelity.

The library is the extra ``ddpm-cli[inception]``, and its weights are a download of 95 MB from its own site, which it
keeps in torch's cache. Neither is needed for grey images of known sets, which have pinned networks of their own.
Invariant: nothing here is imported before it is asked for.
"""

import importlib
import importlib.util
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ddpm_cli.errors import ResourceError
from ddpm_cli.features import Seen
from ddpm_cli.pixels import Pixels

LIBRARY = "torch_fidelity"
LAYER = "2048"  # the last pooling, as in Heusel et al. 2017
BATCH = 64
INSTALL = "Install it: pip install 'ddpm-cli[inception]'"


def lacking() -> str:
    """Why features of colour images cannot be had; empty where they can."""
    if importlib.util.find_spec(LIBRARY) is None:
        return f"features of colour images need the extra ddpm-cli[inception]. {INSTALL}"
    return ""


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
        parts = [
            self.extractor(torch.from_numpy(np.ascontiguousarray(images[start : start + BATCH])))[0]
            for start in range(0, len(images), BATCH)
        ]
        features = torch.cat(parts).float().cpu().numpy()
        return Seen(features, np.empty((len(features), 0), np.float32))


def load() -> Inception:
    """The network and its weights.

    Raises:
        ResourceError: the library is not installed, or its weights are not here and cannot be fetched.
    """
    if lacking():
        raise ResourceError("torch-fidelity is not installed", f"{INSTALL}.")
    library = importlib.import_module(LIBRARY)
    kind = importlib.import_module(f"{LIBRARY}.feature_extractor_inceptionv3").FeatureExtractorInceptionV3
    try:
        extractor = kind("inception-v3-compat", [LAYER])
    except (OSError, RuntimeError) as error:  # URLError is an OSError
        raise ResourceError(
            f"the weights of Inception cannot be had: {error}",
            "They are fetched once, by torch-fidelity from its site: try again with a network.",
        ) from error
    return Inception(f"torch-fidelity {library.__version__} inception-v3-compat {LAYER}", extractor)
