"""Files as they should never be: damage to bytes, and JSON that is well formed but says something absurd.

Everything is drawn from a ``random.Random``, so that a seed names a mutant.
"""

import json
import struct
from collections.abc import Iterator
from random import Random
from typing import Any

# What a value is replaced by, as JSON text, or as what only calls itself so.
ODDITIES = [
    *(b"null", b"true", b"false", b"-1", b"0", b"1", b"2", b"-0.0", b"0.5", b"1e-400", b"1e308", b"1e999", b"-1e999"),
    *(b"9223372036854775807", b"9223372036854775808", b"-9223372036854775809", b"1" + b"0" * 400, b"9" * 5000),
    *(b"NaN", b"Infinity", b"-Infinity", b"[]", b"{}", b"[[]]", b"[null]", b"[0, 1, 2]", b'{"a": 1, "a": 2}'),
    *(b'""', b'"x"', b'"1"', b'"\\ud800"', b'"\\u0000"', b'"\\n\\u001b[31m"', b'"../../secret"', b'"/dev/zero"'),
    *(b'"' + b"x" * 300_000 + b'"', b"[" * 100_000, b'{"a":' * 100_000, b"[" * 900 + b"]" * 900, b"", b"'"),
    *(b'"\xff\xfe"', b"[" + b"0," * 50_000 + b"0]"),
]
MARK = "\x01mutant\x01"  # stands for the oddity until the rest is text


def damaged(content: bytes, random: Random) -> bytes:
    """Bytes flipped, lost, added, repeated or moved."""
    kind = random.choice(["flip", "flip", "bits", "cut", "grow", "zero", "repeat", "lose", "swap"])
    place = random.randrange(max(1, len(content)))
    length = random.choice([1, 2, 8, 64, 4096])
    before, part, after = content[:place], content[place : place + length], content[place + length :]
    match kind:
        case "flip":
            return before + bytes(byte ^ random.randrange(1, 256) for byte in part[:1]) + part[1:] + after
        case "bits":
            return before + bytes(byte ^ (1 << random.randrange(8)) for byte in part) + after
        case "cut":
            return before
        case "grow":
            return content + random.choice([b"\0", b"\n", random.randbytes(length), content])
        case "zero":
            return before + bytes(len(part)) + after
        case "repeat":
            return before + part + part + after
        case "lose":
            return before + after
        case _:
            return before + after[: len(part)] + part + after[len(part) :]


def document(values: Any, random: Random) -> bytes:
    """A JSON document with an oddity in one place: as a value, as a key, twice, or in the place of another."""
    values = json.loads(json.dumps(values))
    places = list(_places({"": values}, random))
    parent, key = random.choice(places)
    oddity = random.choice(ODDITIES)
    kind = random.choice(["value", "value", "value", "lost", "renamed", "twice", "moved"])
    if not isinstance(parent, dict) or key == "":
        kind = "value"
    if kind == "value" and key == "":
        return oddity
    old = parent[key]
    if kind == "lost":
        del parent[key]
    elif kind == "renamed":
        del parent[key]
        parent[random.choice(["", key + "s", key.upper(), "__metadata__", "\x00", "x" * 10_000])] = old
    elif kind == "moved":
        other, place = random.choice([found for found in places if found[1] != ""])
        parent[key] = json.loads(json.dumps(other[place]))  # a copy: it may hold the place itself
    else:
        parent[key] = MARK
    text = json.dumps(values).encode()
    mark = json.dumps(MARK).encode()
    if kind == "twice":
        return text.replace(mark, json.dumps(old).encode() + b", " + json.dumps(key).encode() + b": " + oddity)
    return text.replace(mark, oddity)


def _places(node: Any, random: Random) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) inside a JSON value; of a long list, three."""
    keys = list(node) if isinstance(node, dict) else random.sample(range(len(node)), min(3, len(node)))
    for key in keys:
        yield node, key
        if isinstance(node[key], dict | list):
            yield from _places(node[key], random)


# --- safetensors, by the definition of the format ---


def take_apart(content: bytes) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """The tensors' header, the description, the body."""
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    return header, json.loads(header.pop("__metadata__")["ddpm"]), content[8 + length :]


def put_together(header: bytes, about: bytes, body: bytes) -> bytes:
    """A file of two documents and a body; the header is that of the tensors alone."""
    description = json.dumps({"ddpm": about.decode("utf-8", "replace")}).encode()
    whole = b'{"__metadata__": ' + description + b", " + header.lstrip()[1:]
    return struct.pack("<Q", len(whole)) + whole + body


def entry(header: dict[str, Any], body: bytes, random: Random) -> dict[str, Any]:
    """One tensor's entry changed as a liar would: its place, shape, dtype or name."""
    header = json.loads(json.dumps(header))
    name, other = random.sample(sorted(header), 2)
    mine, end = header[name], len(body)
    first, last = mine["data_offsets"]
    match random.randrange(12):
        case 0:
            mine["data_offsets"] = header[other]["data_offsets"]
        case 1:
            mine["data_offsets"] = [first, random.choice([last + 4, last - 4, 2**40, 2**63, -1, first, end, end + 4])]
        case 2:
            mine["data_offsets"] = [random.choice([first + 4, -4, -(2**63), 2**64, 0, last, end]), last]
        case 3:
            mine["shape"] = [*mine["shape"], random.choice([1, 0, -1, 2, 2**31, 2**62, 10**30])]
        case 4:
            mine["shape"] = random.choice([[], [0], [2**32, 2**32], [2**63], [-1, -1], mine["shape"][::-1], [1] * 5000])
        case 5:
            mine["dtype"] = random.choice(["F64", "F16", "BF16", "I64", "U8", "BOOL", "F8_E4M3", "C64", "f32", "", "X"])
        case 6:
            header[random.choice(["", "x", name + " ", name.upper(), "ema." * 5000, "\x00"])] = header.pop(name)
        case 7:
            header[name], header[other] = header[other], header[name]
        case 8:
            del header[name]
        case 9:
            header["ema.more"] = {"dtype": "F32", "shape": [0], "data_offsets": [end, end]}
        case 10:
            for number in range(20_000):
                header[f"t{number}"] = {"dtype": "F32", "shape": [0], "data_offsets": [end, end]}
        case _:
            mine["data_offsets"] = [first, last, last]
    return header
