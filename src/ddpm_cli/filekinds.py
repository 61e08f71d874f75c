"""What a file is, by its first bytes: for messages about files of another kind than the expected one.

Invariant: only the first :data:`HEAD` bytes are used, and none of them is executed or decompressed.
"""

import re

HEAD = 512  # bytes
GIT_LFS = "a Git LFS pointer"
PICKLE = "a pickle"
SAFETENSORS = "a safetensors file"
TEXT = "a text file"

NPZ = "an .npz archive of NumPy"
ZIP = "a zip archive"

BEGINNINGS: tuple[tuple[bytes, str], ...] = (
    (rb"version https://git-lfs\.github\.com/", GIT_LFS),
    (rb"\x89PNG\r\n\x1a\n", "a PNG image"),
    (rb"\xff\xd8\xff", "a JPEG image"),
    (rb"GIF8[79]a", "a GIF image"),
    (rb"RIFF....WEBP", "a WebP image"),
    (rb"BM....\0\0\0\0", "a BMP image"),
    (rb"II\*\0|MM\0\*", "a TIFF image"),
    (rb"....ftypavi[fs]", "an AVIF image"),
    (rb"PK\x03\x04.{26}[^\0]*data\.pkl", "a PyTorch file, which holds a pickle"),
    (rb"PK\x03\x04.{26}[^\0]*\.npy", NPZ),
    (rb"PK(\x03\x04|\x05\x06)", ZIP),
    (rb"\x93NUMPY", "a NumPy array"),
    (rb"\x80[\x02-\x05]", PICKLE),
    (rb"\x1f\x8b", "a gzip file"),
    (rb"BZh[1-9]", "a bzip2 file"),
    (rb"\xfd7zXZ\0", "an xz file"),
    (rb"\x28\xb5\x2f\xfd", "a Zstandard file"),
    (rb".{257}ustar", "a tar archive"),
    (rb"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (rb"GGUF", "a GGUF file"),
    (rb"%PDF-", "a PDF file"),
    (rb"\x7fELF|MZ.{58}", "a program"),
    (rb"(\xef\xbb\xbf)?\s*<(!doctype html|html|head|body|\?xml)", "a web page"),
    (rb"(\xef\xbb\xbf)?\s*[{\[]\s*[\"{\[\]}0-9-]", "a JSON file"),
)
PATTERNS = tuple((re.compile(pattern, re.DOTALL | re.IGNORECASE), kind) for pattern, kind in BEGINNINGS)
# The length of the header in eight bytes, and then the header, which is JSON.
IS_SAFETENSORS = re.compile(rb".{3,4}\0{4,5}\{", re.DOTALL)


def kind_of(head: bytes) -> str:
    """The kind of a file, with its article, such as "a PNG image" or "empty"; "": not known.

    Args:
        head: its first :data:`HEAD` bytes, or all if it has fewer.
    """
    if not head:
        return "empty"
    for pattern, kind in PATTERNS:
        if pattern.match(head):
            return kind
    if IS_SAFETENSORS.match(head):
        return SAFETENSORS
    return TEXT if len(head) > 8 and _is_text(head) else ""  # fewer bytes may be the beginning of anything


def _is_text(head: bytes) -> bool:
    """Whether bytes are printable characters and white space; the last character may be cut."""
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3 or len(head) < HEAD:
            return False
        text = head[: error.start].decode()
    return all(character.isprintable() or character.isspace() for character in text)
