"""Random numbers by name: every draw has a key, and the key alone decides it.

Invariant: the key is a hash, so that seeds s and s + 1 share nothing, and no draw depends on what was drawn before.
"""

import hashlib

import numpy as np


def generator(*key: int | str) -> np.random.Generator:
    """A counter-based generator for a key of numbers and names; different keys give independent streams."""
    digest = hashlib.blake2b("\x1f".join(map(str, key)).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))
