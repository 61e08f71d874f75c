"""Judge a shipped model and write its scores into its record: ``python scripts/score.py NAME [NUMBER]``.

Adds ``scores`` and their protocol to src/ddpm_cli/weights/NAME.json, which ``ddpm models`` shows.
"""

import json
import sys
from pathlib import Path

from ddpm_cli import checkpoint, drawing, evaluation, files

WEIGHTS = Path(__file__).parents[1] / "src/ddpm_cli/weights"
NUMBER = 5000  # images: the share of right labels is then known to a fifth of a percent
SEED = 0


def main(name: str, number: int = NUMBER) -> None:
    """Draw, judge, write."""
    path = WEIGHTS / f"{name}.safetensors"
    info = checkpoint.read_info(path)
    against = evaluation.reference(
        None, info.shape, str(info.data["name"]), SEED, data_dir=None, offline=True, say=print, progress=lambda *_: None
    )
    subject = evaluation.drawn(drawing.ready(path), number, SEED, lambda *_: None)
    found = evaluation.evaluate(subject, against, evaluation.choose([], against, print), print)
    record = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    record |= {"scores": evaluation.summary(found.metrics), "protocol": found.protocol}
    files.write_bytes(path.with_suffix(".json"), (json.dumps(record, indent=2) + "\n").encode())
    print(record["scores"])  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
