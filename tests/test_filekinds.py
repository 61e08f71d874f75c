"""What a file is, by its first bytes; as other programs write them."""

import gzip
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddpm_cli.filekinds import HEAD, kind_of


def picture(kind: str) -> bytes:
    written = io.BytesIO()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(written, kind)
    return written.getvalue()


def archive(**files: bytes) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as file:
        for name, content in files.items():
            file.writestr(name, content)
    return written.getvalue()


def numpy_archive() -> bytes:
    written = io.BytesIO()
    np.savez(written, images=np.zeros(3, np.uint8))
    return written.getvalue()


def array() -> bytes:
    written = io.BytesIO()
    np.save(written, np.zeros(3))
    return written.getvalue()


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb\nsize 12345\n"
KINDS: list[tuple[str, Callable[[], bytes]]] = [
    ("empty", bytes),
    ("a Git LFS pointer", lambda: LFS),
    *((f"a {kind} image", lambda kind=kind: picture(kind)) for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WebP")),
    ("a PyTorch file, which holds a pickle", lambda: archive(**{"archive/data.pkl": b"\x80\x02}q\0."})),
    ("a pickle", lambda: b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."),
    ("an .npz archive of NumPy", numpy_archive),
    ("a NumPy array", array),
    ("a zip archive", lambda: archive(readme=b"hello")),
    ("a gzip file", lambda: gzip.compress(b"hello" * 99)),
    ("a web page", lambda: b"\n<!DOCTYPE html>\n<html><body>404</body></html>"),
    ("a web page", lambda: b"<HTML><HEAD></HEAD></HTML>"),
    ("a JSON file", lambda: json.dumps({"error": "not found"}, indent=1).encode()),
    ("a JSON file", lambda: b"[1, 2, 3]\n"),
    ("a text file", lambda: b"Dear model,\n"),
    ("a text file", lambda: "über-long text\n".encode() * 100),
    ("a text file", lambda: b"x" * (HEAD - 1) + "ä".encode() * 9),
    ("a safetensors file", lambda: (2000).to_bytes(8, "little") + b'{"__metadata__": {}}'),
    ("", lambda: bytes(range(256))),
    ("", lambda: b"\x98\x0f\0\0\0"),
]


@pytest.mark.parametrize(("kind", "content"), KINDS)
def test_a_file_is_known_by_its_first_bytes(kind: str, content: Callable[[], bytes]) -> None:
    assert kind_of(content()[:HEAD]) == kind


def test_the_models_that_ship_are_safetensors() -> None:
    import ddpm_cli

    for path in (Path(ddpm_cli.__file__).parent / "weights").glob("*.safetensors"):
        assert kind_of(path.read_bytes()[:HEAD]) == "a safetensors file"
