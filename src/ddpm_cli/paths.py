"""Where things live. Invariant: nothing here creates a file or a folder.

Everything that ``ddpm`` writes without being asked for a place stays below :func:`home`.
"""

import contextlib
import os
from pathlib import Path

import platformdirs

from ddpm_cli.errors import ResourceError


def home() -> Path:
    """The user data directory: ``DDPM_HOME``, else the platform's own (on Linux ``~/.local/share/ddpm``).

    Raises:
        ResourceError: the user has no home directory, as in a container that runs as any user.
    """
    chosen = os.environ.get("DDPM_HOME")
    if chosen:
        return absolute(chosen)
    with contextlib.suppress(RuntimeError):  # newer versions raise it, older ones return a path that begins with ~
        folder = platformdirs.user_data_path("ddpm", appauthor=False)
        if folder.is_absolute():
            return folder
    raise ResourceError("this user has no home directory", "Name a folder to keep data in: export DDPM_HOME=DIR")


def absolute(path: str | Path) -> Path:
    """A path as a user types it, made absolute: ``~`` is their home, unless it names somebody who does not exist."""
    with contextlib.suppress(RuntimeError, ValueError):  # a name that nobody can have
        return Path(path).expanduser().absolute()
    return Path(path).absolute()


def runs() -> Path:
    """Training runs, a folder each."""
    return home() / "runs"


def models() -> Path:
    """Saved models, ``NAME.safetensors`` each."""
    return home() / "models"


def datasets() -> Path:
    """Files of data sets as they were fetched, a folder a set."""
    return home() / "datasets"


def cache() -> Path:
    """What can be made again: data sets as uint8 stores, matplotlib's fonts, compiled kernels."""
    return home() / "cache"


def config_file() -> Path:
    """The user's settings, read when they exist."""
    return home() / "config.toml"


def shipped() -> Path:
    """The folder of the installed package, which holds MNIST and the shipped weights."""
    return Path(__file__).parent


# --- a run folder ---

CONFIG, STATE, MODEL, BEST = "config.json", "state.safetensors", "model.safetensors", "best.safetensors"
METRICS, LOG, LEFT_OUT, LOSS = "metrics.jsonl", "train.log", "left-out.jsonl", "loss.png"
SAMPLES, EARLIER = "samples", "checkpoints"  # folders
CHECK = "check.json"  # in the folder of samples
OF_RUN = (CONFIG, STATE, MODEL, BEST, METRICS, LOG, LEFT_OUT, LOSS, SAMPLES, EARLIER)
"""Every name that a run writes in its folder."""
