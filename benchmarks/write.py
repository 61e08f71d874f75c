"""Run benchmarks and put what they print into the pages of docs/ that have a place for it.

The place of a script lies between two lines, <!-- benchmarks/NAME.py --> and <!-- end -->. On a quiet machine:

    python benchmarks/write.py [NAME.py ...]
"""

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
SCRIPTS = {
    "training.py": [],
    "sampling.py": [],
    "start_up.py": [],
    "scaling.py": ["9", str(DOCS / "performance.png")],
    "saving.py": [],
    "metrics.py": [],
    "agreement.py": [],
}


def write(name: str, found: str) -> None:
    place = re.compile(rf"(?s)(<!-- benchmarks/{re.escape(name)} -->\n).*?(<!-- end -->)")
    for page in sorted(DOCS.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        page.write_text(place.sub(lambda match: f"{match[1]}\n{found.strip()}\n\n{match[2]}", text), encoding="utf-8")


def main(names: Sequence[str]) -> None:
    for name in names or SCRIPTS:
        print(f"{name} ...", file=sys.stderr)
        words = [sys.executable, str(HERE / name), *SCRIPTS[name]]
        ended = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
        print(ended.stdout)
        write(name, ended.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
