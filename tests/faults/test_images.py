"""Whatever the bytes of an image or of a data set's file are, they are read or refused: quickly, and in little memory.

Mutants run in forks under a limit on memory that the system enforces. The fast part is a sample of the whole.
"""

import contextlib
import gzip
import io
import os
import resource
import signal
import struct
import sys
import tarfile
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from PIL import Image

import archives
import mutation
from ddpm_cli import data
from ddpm_cli.data import cifar, emnist, idx, imagefile, npz, store, svhn
from ddpm_cli.data.resize import to_square
from ddpm_cli.errors import DataError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, and limits on memory as Linux has them")

MEMORY = 2**30  # bytes above the base that a mutant may take
SECONDS = 10.0  # that it may take, on a machine with other work to do
EACH = 40  # mutants of a fork
Mutant = tuple[str, bytes]  # what it is of, and its bytes
Work = Callable[[bytes], str]  # reads a mutant and tells what became of it, in a word
Figure = Callable[[str], None]
NOISE = np.random.default_rng(7)


class Hang(BaseException):
    """Beyond every ``except Exception``."""


def survive(work: Work, mutants: Iterable[Mutant], tmp_path: Path) -> tuple[Counter[str], float, int]:
    """Lets forks read mutants, some each.

    Returns:
        How often each word was the outcome, the longest time in seconds, and the largest growth of memory in bytes.
    """
    outcomes: Counter[str] = Counter()
    slowest, largest = 0.0, 0
    waiting = list(mutants)
    for start in range(0, len(waiting), EACH):
        told = tmp_path / "told"
        child = os.fork()
        if child == 0:
            try:
                with told.open("w") as file:
                    _live(work, waiting[start : start + EACH], file)
                os._exit(0)
            except BaseException as error:  # noqa: BLE001  # whatever it is, the parent tells it
                with told.open("a") as file:
                    file.write(f"\nescaped\t{type(error).__name__}: {error!r}")
                os._exit(1)
        _, status = os.waitpid(child, 0)
        lines = [line.split("\t") for line in told.read_text().splitlines() if line]
        if status:
            number = start + sum(len(line) == 3 for line in lines)
            what, content = waiting[number]
            (tmp_path / "culprit").write_bytes(content)
            pytest.fail(f"mutant {number}, of {what}: status {status}, {lines[-1:]}; it is {tmp_path / 'culprit'}")
        outcomes.update(word for word, _, _ in lines)
        slowest = max(slowest, *(float(seconds) for _, seconds, _ in lines))
        largest = max(largest, *(int(memory) for _, _, memory in lines))
    assert outcomes.total() == len(waiting)
    return outcomes, slowest, largest


def _live(work: Work, mutants: list[Mutant], file: Any) -> None:
    """What a fork does: reads its mutants under limits, and tells a line of each."""
    status = Path("/proc/self/status").read_text()
    size, base = (int(status.split(f"{name}:")[1].split()[0]) * 1024 for name in ("VmSize", "VmRSS"))
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, resource.RLIM_INFINITY))

    def alarm(*_: object) -> None:
        raise Hang

    signal.signal(signal.SIGALRM, alarm)
    for _, content in mutants:
        begun = time.perf_counter()
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        word = work(content)
        signal.setitimer(signal.ITIMER_REAL, 0)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - base
        file.write(f"{word}\t{time.perf_counter() - begun}\t{grown}\n")
        file.flush()


def told(what: str, outcomes: Counter[str], slowest: float, largest: int) -> str:
    how = ", ".join(f"{count} {word}" for word, count in sorted(outcomes.items()))
    return f"{outcomes.total()} mutants of {what}: {how}; at most {slowest:.1f} s and {max(0, largest) / 1e6:.0f} MB"


# --- images -------------------------------------------------------------------------------------------------------


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    target = io.BytesIO()
    image.save(target, kind, **options)
    return target.getvalue()


def seeds() -> dict[str, bytes]:
    """A sound file of each kind, small enough that a mutation seldom misses what matters."""
    y, x = np.mgrid[:20, :23]
    colour = Image.fromarray(np.stack([x * 11, y * 12, x * y], 2).astype(np.uint8))
    grey = colour.convert("L")
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    return {
        "png": encoded(colour, "PNG", exif=exif),
        "palette png": encoded(colour.quantize(9), "PNG", transparency=3, bits=4),
        "16-bit png": encoded(Image.fromarray(np.asarray(grey).astype(np.uint16) * 257), "PNG"),
        "animated png": encoded(colour, "PNG", save_all=True, append_images=[colour.rotate(90)]),
        "jpeg": encoded(colour, "JPEG", exif=exif),
        "progressive jpeg": encoded(colour.convert("CMYK"), "JPEG", progressive=True),
        "mpo": encoded(colour, "MPO", save_all=True, append_images=[grey]),
        "gif": encoded(colour, "GIF", save_all=True, append_images=[grey], comment=b"a comment", transparency=0),
        "bmp": encoded(colour.quantize(16), "BMP"),
        "webp": encoded(colour, "WEBP", exif=exif),
        "animated webp": encoded(colour, "WEBP", lossless=True, save_all=True, append_images=[colour.rotate(90)]),
        "tiff": encoded(colour, "TIFF", exif=exif),
        "lzw tiff": encoded(colour, "TIFF", compression="tiff_lzw"),
        "fax tiff": encoded(grey.convert("1"), "TIFF", compression="group4"),
        "jpeg tiff": encoded(colour, "TIFF", compression="jpeg"),
        "ppm": encoded(colour, "PPM"),
    }


def of_images(count: int, seed: int) -> Iterator[Mutant]:
    """Mutants of the seeds in turn."""
    random, sound = Random(seed), seeds()
    for number in range(count):
        what = list(sound)[number % len(sound)]
        yield what, mutated(sound[what], random)


LENGTHS = (0, 1, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def mutated(content: bytes, random: Random) -> bytes:
    """Damaged somewhere; or a length or an offset somewhere that lies; in a PNG, now and then with good checksums."""
    if random.random() < 0.6:
        content = mutation.damaged(content, random)
    else:
        value, order = random.choice([*LENGTHS, random.randrange(2**32), len(content)]), random.choice("<>")
        lie = struct.pack(f"{order}I", value) if random.random() < 0.7 else struct.pack(f"{order}H", value & 0xFFFF)
        place = random.randrange(min(len(content), random.choice([64, 10**6])))
        content = content[:place] + lie + content[place + len(lie) :]
    return mended(content) if content.startswith(b"\x89PNG") and random.random() < 0.7 else content


def mended(content: bytes) -> bytes:
    """A PNG with its checksums made good as far as its chunks can be followed, so that what is behind them is met."""
    out, place = content[:8], 8
    while place + 12 <= len(content):
        (length,) = struct.unpack(">I", content[place : place + 4])
        body = content[place + 4 : place + 8 + length]
        if len(body) < 4 + length:
            break
        out += content[place : place + 4] + body + struct.pack(">I", zlib.crc32(body))
        place += 12 + length
    return out + content[place:]


def read_image(content: bytes) -> str:
    """Reads an image, and brings it to a size as a folder would."""
    with contextlib.suppress(imagefile.UnreadableImage):
        return _image(imagefile.read_image(content))
    with pytest.raises(imagefile.UnreadableImage) as caught:
        imagefile.read_image(content)
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 400
    assert "memory" not in caught.value.reason
    return "refused"


def _image(pixels: np.ndarray) -> str:
    """Claims that it is one."""
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[0] in (1, 3)
    assert min(pixels.shape) >= 1
    if pixels.size < 1_000_000:
        assert to_square(pixels[None], 8).shape == (1, pixels.shape[0], 8, 8)
    return "read"


COUNTS = pytest.mark.parametrize("count", [160, pytest.param(2000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])


@COUNTS
def test_mutants_of_images_are_images_or_refused(count: int, tmp_path: Path, figure: Figure) -> None:
    to_square(np.zeros((1, 1, 9, 9), np.uint8), 8)  # torch comes before the limits
    found = survive(read_image, of_images(count, count), tmp_path)
    assert found[0]["read"] > count // 20, "the mutants are too broken to meet what is behind the first check"
    assert found[0]["refused"] > count // 20
    figure(told("images", *found))


@pytest.mark.parametrize("count", [60, pytest.param(400, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
def test_a_folder_of_mutants_is_what_is_left_of_it(count: int, tmp_path: Path, figure: Figure) -> None:
    root = tmp_path / "photos"
    root.mkdir()
    names = {what: f"{what.split()[-1]}" for what in seeds()}
    for number, (what, content) in enumerate(of_images(count, 1)):
        (root / f"{number:04}.{names[what].replace('mpo', 'jpg')}").write_bytes(content)
    (root / "good.png").write_bytes(seeds()["png"])
    to_square(np.zeros((1, 1, 9, 9), np.uint8), 8)
    said: list[str] = []

    def work(_: bytes) -> str:
        for _ in range(2):
            found = data.load(str(root), image_size=8, on_bad_image="skip", say=said.append)
            assert len(found.images) + len(found.left_out) == count + 1
            assert found.images.shape[1:] == (3, 8, 8)
            assert all(bad.path.isprintable() and bad.reason.isprintable() for bad in found.left_out)
        try:
            data.load(str(root), image_size=8)
        except DataError:
            return f"{len(found.images)} images of {count + 1} files"
        return "no error"

    found, slowest, largest = survive(work, [("a folder", b"")], tmp_path)
    assert "no error" not in found
    figure(told("a folder of mutants", found, slowest, largest))


# --- files of known sets --------------------------------------------------------------------------------------------

DIGITS = NOISE.integers(0, 256, (6, 28, 28), dtype=np.uint8)
COLOURS = NOISE.integers(0, 256, (10, 3, 32, 32), dtype=np.uint8)


def _npz() -> bytes:
    out = io.BytesIO()
    np.savez_compressed(out, images=DIGITS, labels=np.arange(6))
    return out.getvalue()


def _cifar() -> bytes:
    return archives.tar_gz(
        {
            f"cifar-10-batches-bin/data_batch_{number}.bin": archives.cifar_rows(
                COLOURS[2 * number - 2 : 2 * number], [number, 1]
            )
            for number in range(1, 6)
        }
    )


def _zipped(content: bytes, random: Random) -> bytes:
    """A zip with one member damaged, and its checksum that of the damage; now and then with a name that climbs."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        victim = random.choice(old.namelist())
        for name in old.namelist():
            body = old.read(name)
            if name == victim:
                packed = body.startswith(b"\x1f\x8b")
                body = mutated(gzip.decompress(body) if packed and random.random() < 0.7 else body, random)
                body = gzip.compress(body) if packed and not body.startswith(b"\x1f\x8b") else body
            new.writestr(name, body)
        new.writestr(random.choice(["../../escaped", "/tmp/escaped", "..\\escaped", "x" * 60_000]), b"escaped")
    return out.getvalue()


def _tarred(content: bytes, random: Random) -> bytes:
    """The tar inside damaged; or with members that would climb, link or be devices."""
    plain = gzip.decompress(content)
    if random.random() < 0.6:
        place = 512 * random.randrange(len(plain) // 512) if random.random() < 0.5 else 0
        head = mutated(plain[place : place + 512], random)  # a header, often
        return gzip.compress(plain[:place] + head + plain[place + 512 :], 1)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name in ("../../escaped", "/tmp/escaped", "cifar-10-batches-bin/data_batch_1.bin"):
            member = tarfile.TarInfo(name)
            member.type = random.choice([tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.REGTYPE])
            member.linkname = random.choice(["/etc/passwd", "../../../escaped", name])
            archive.addfile(member)
    return out.getvalue()[: random.choice([None, -20])]


READERS: dict[str, tuple[Callable[[], bytes], Callable[[bytes, Random], bytes], Callable[[Path], Any]]] = {
    "npz": (_npz, _zipped, lambda path: npz.read(path, "a.npz").images),
    "npz in a pipe": (_npz, _zipped, lambda path: npz.read(path.read_bytes(), "stdin").images),
    "idx": (
        lambda: gzip.compress(archives.idx(DIGITS)),
        lambda content, random: gzip.compress(mutated(gzip.decompress(content), random)),
        lambda path: idx.read(path, DIGITS.shape),
    ),
    "plain idx": (
        lambda: archives.idx(DIGITS),
        lambda content, random: mutated(content[:16], random) + content[16:],
        lambda path: idx.read(path, DIGITS.shape),
    ),
    "cifar": (_cifar, _tarred, lambda path: cifar.read(cifar.CIFAR10, 1, (path,), "train", COLOURS.shape)[0]),
    "mat": (
        lambda: archives.svhn_mat(COLOURS, [1] * 10, compressed=False),
        lambda content, random: mutated(content[:256], random) + content[256:],
        lambda path: svhn.read((path,), "train", COLOURS.shape)[0],
    ),
    "deflated mat": (
        lambda: archives.svhn_mat(COLOURS, [1] * 10),
        mutated,
        lambda path: svhn.read((path,), "train", COLOURS.shape)[0],
    ),
    "emnist": (
        lambda: archives.emnist_zip({"digits-train": (DIGITS, [1, 2, 3, 4, 5, 6])}),
        _zipped,
        lambda path: emnist.read("digits", 0, (path,), "train", (6, 1, 28, 28))[0],
    ),
}


def _store(path: Path) -> bytes:
    def build(sink: store.Sink) -> store.About:
        sink.start((6, 1, 28, 28), ("a", "b"))
        sink.add(DIGITS[:, None])
        bad = (data.LeftOut("x.png", "empty"),)
        return store.About("set", np.array([0, 1] * 3), ("a", "b"), bad, "/photos")

    store.write(path, "key", build)
    return path.read_bytes()


@pytest.mark.parametrize("count", [25, pytest.param(250, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
@pytest.mark.parametrize("kind", READERS)
def test_mutants_of_archives_are_read_or_refused_and_write_nothing(
    kind: str, count: int, tmp_path: Path, figure: Figure
) -> None:
    make, inside, read = READERS[kind]
    sound, random = make(), Random(count)
    place = tmp_path / "data" / "sets" / "archive"
    place.parent.mkdir(parents=True)
    place.write_bytes(sound)
    assert read(place).size
    escaped = Path("/tmp/escaped")  # where the climbing names lead to
    before = escaped.exists()

    def work(content: bytes) -> str:
        place.write_bytes(content)
        with contextlib.suppress(DataError):
            assert read(place).dtype == np.uint8
            return "read"
        return "refused"

    mutants = [(kind, (inside if number % 2 else mutated)(sound, random)) for number in range(count)]
    found = survive(work, mutants, tmp_path)
    assert found[0]["refused"]
    assert sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()) == [
        Path("data/sets/archive"),
        Path("told"),
    ]
    assert escaped.exists() == before
    figure(told(kind, *found))


@pytest.mark.parametrize("count", [60, pytest.param(500, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
def test_mutants_of_a_store_are_the_set_or_made_anew(count: int, tmp_path: Path, figure: Figure) -> None:
    path = tmp_path / "set.safetensors"
    sound, random = _store(path), Random(count)
    end = 8 + len(sound[8:66_000].rstrip(b" "))

    def work(content: bytes) -> str:
        path.write_bytes(content)
        found = store.read(path, "key")
        store.describe(path)
        if found is None:
            return "refused"
        assert found.images.shape[1:] == (1, 28, 28)
        assert found.images.sum() >= 0
        return "read"

    def mutants() -> Iterator[Mutant]:
        for number in range(count):
            if number % 3:
                head = mutated(sound[:end], random)
                yield "the header", head + sound[end:]
            else:
                yield "the whole", mutated(sound, random)

    found = survive(work, mutants(), tmp_path)
    assert found[0]["refused"]
    figure(told("a store", *found))
