"""For every test: a data directory of its own, none of the user's settings, and threads as they were."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """DDPM_HOME and HOME below ``tmp_path``, no other DDPM_* variable, no proxy, no colour asked for or forbidden."""
    for name in list(os.environ):
        if name.startswith(("DDPM_", "XDG_")) or name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "MPLCONFIGDIR"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("DDPM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "home" / "cache" / "inductor"))
    torch = sys.modules.get("torch")  # most tests need no torch: it is not imported for their sake
    threads = torch.get_num_threads() if torch else None
    yield
    if torch and threads:
        torch.set_num_threads(threads)
