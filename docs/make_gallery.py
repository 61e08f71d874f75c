"""Make the pictures of docs/gallery.md, with the very commands that stand there.

``python docs/make_gallery.py`` makes all of them, ``python docs/make_gallery.py walk.gif naive.png`` those two. A
picture belongs to the block of commands above it. The commands run in an empty folder, with a data directory of their
own, and what they write under the name of the picture goes to docs/images.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

DOCS = Path(__file__).parent
PAGE = DOCS / "gallery.md"
# A block of commands; then, with no other block between them, a picture.
PICTURE = re.compile(r"^```sh\n((?:(?!^```).*\n)+)```\n+!\[[^\]]+\]\(images/([\w.-]+)\)$", re.MULTILINE)


class Picture(NamedTuple):
    """A picture of the page: its file name, and the lines of the shell that make it."""

    name: str
    commands: str


def pictures(page: str) -> Iterator[Picture]:
    """The pictures of a page, in its order."""
    for found in PICTURE.finditer(page):
        yield Picture(found[2], found[1])


def make(picture: Picture) -> bytes:
    """Run the commands of a picture, and return what they wrote under its name, here or in a run's folder.

    Raises:
        subprocess.CalledProcessError: a command failed.
        ValueError: no such file was written, or two.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        clean = {name: value for name, value in os.environ.items() if not name.startswith("DDPM_")}
        environment = {**clean, "PATH": path, "DDPM_HOME": str(Path(folder, "home"))}
        here = Path(folder, "here")
        here.mkdir()
        subprocess.run(["sh", "-euc", picture.commands], cwd=here, env=environment, check=True)
        (written,) = here.rglob(picture.name)
        return written.read_bytes()


if __name__ == "__main__":
    for picture in pictures(PAGE.read_text(encoding="utf-8")):
        if picture.name in (sys.argv[1:] or [picture.name]):
            (DOCS / "images" / picture.name).write_bytes(make(picture))
