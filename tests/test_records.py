"""A record ends where it stops making sense, and is cut back without loss."""

import json
import math
from pathlib import Path

import pytest

from ddpm_cli.errors import ResourceError
from ddpm_cli.runs import records


def test_lines_come_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    written = [{"step": 10, "loss": 0.1 + 0.2, "lr": 1e-3}, {"step": 20, "loss": math.nan, "skipped": 3}]
    for line in written:
        records.append(path, line)
    assert records.read(path) == [written[0], {"step": 20, "loss": None, "skipped": 3}]


@pytest.mark.parametrize(
    "garbage",
    [
        *(b'{"step": 9, "lo', b"[]", b"3", b'{"loss": 1}', b'{"step": "30", "loss": 1}', b'{"step": true, "loss": 1}'),
        *(b'{"step": 10, "loss": 1}', b'{"step": 30, "loss": "low"}', b'{"step": 30, "loss": NaN}', b"\xff\xfe"),
        *(b'{"step": 30}', b'{"step": 30, "loss": 1' + b"0" * 400 + b"}"),
        b"[" * 100_000,
    ],
    ids=lambda garbage: garbage[:20],
)
def test_what_follows_a_line_that_is_none_is_not_read(tmp_path: Path, garbage: bytes) -> None:
    path = tmp_path / "metrics.jsonl"
    records.append(path, {"step": 10, "loss": 1.0})
    with path.open("ab") as file:
        file.write(garbage + b'\n{"step": 40, "loss": 1.0}\n')
    assert [line["step"] for line in records.read(path)] == [10]
    records.cut(path, 40)
    assert path.read_text() == '{"step": 10, "loss": 1.0}\n'


def test_a_cut_keeps_the_lines_up_to_its_step(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    for step in (3, 10, 12, 20):
        records.append(path, {"step": step, "loss": step / 7})
    kept = records.cut(path, 12)
    assert [line["step"] for line in kept] == [3, 10, 12]
    assert [json.loads(row) for row in path.read_text().splitlines()] == kept


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    assert records.read(tmp_path / "nothing") == []
    (tmp_path / "folder").mkdir()
    with pytest.raises(ResourceError, match="cannot read"):
        records.read(tmp_path / "folder")
