"""Precision, recall and coverage are counted in balls."""

import numpy as np
import pytest

from ddpm_cli.metrics import manifold
from ddpm_cli.metrics.manifold import NEAREST, WIDER, overlap

DRAW = np.random.default_rng(0)


def slowly(judged: np.ndarray, real: np.ndarray) -> tuple[float, float, float]:
    def radius(each: np.ndarray, cloud: np.ndarray, own: int, k: int) -> float:
        return sorted(np.linalg.norm(each - other) for i, other in enumerate(cloud) if i != own)[k - 1]

    def inside(points: np.ndarray, cloud: np.ndarray, k: int) -> list[list[bool]]:
        reach = [radius(each, cloud, i, k) for i, each in enumerate(cloud)]
        return [[bool(np.linalg.norm(p - each) <= r) for each, r in zip(cloud, reach, strict=True)] for p in points]

    precise, recalled = inside(judged, real, NEAREST), inside(real, judged, NEAREST)
    covered = np.array(inside(judged, real, WIDER)).any(0)
    return float(np.mean(list(map(any, precise)))), float(np.mean(list(map(any, recalled)))), float(covered.mean())


@pytest.mark.parametrize(("n", "m", "shift"), [(30, 30, 0.0), (30, 20, 1.0), (12, 40, 3.0), (6, 6, 0.5)])
def test_they_are_counted_ball_by_ball(n: int, m: int, shift: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifold, "ROWS", 7)
    judged, real = shift + DRAW.standard_normal((n, 3)), DRAW.standard_normal((m, 3))
    assert overlap(judged, real) == pytest.approx(slowly(judged, real))


def test_a_cloud_covers_itself_and_nothing_far_away() -> None:
    real = DRAW.standard_normal((40, 4))
    assert overlap(real, real) == (1, 1, 1)
    assert overlap(real + 100, real) == (0, 0, 0)


def test_one_mode_of_two_is_precise_and_recalls_half() -> None:
    left, right = DRAW.standard_normal((400, 2)), 50 + DRAW.standard_normal((400, 2))
    real = np.concatenate([left[:200], right[:200]])
    found = overlap(np.concatenate([left[200:], DRAW.standard_normal((200, 2))]), real)
    assert found.precision > 0.9
    assert found.recall == pytest.approx(0.5, abs=0.05)
    assert found.coverage == pytest.approx(0.5, abs=0.05)


def at_once(judged: np.ndarray, real: np.ndarray) -> tuple[float, float, float]:
    """Every difference is squared and summed, so that equal rows have distance 0."""
    x, y = judged.astype(np.float64), real.astype(np.float64)

    def apart(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.sqrt(sum((u[:, None] - v) ** 2 for u, v in zip(a.T, b.T, strict=True)))

    def radii(each: np.ndarray, k: int) -> np.ndarray:
        own = apart(each, each)
        return np.array([sorted(np.delete(row, i))[k - 1] for i, row in enumerate(own)])

    between = apart(x, y)
    precise, covered = (between <= radii(y, NEAREST)).any(1), (between <= radii(y, WIDER)).any(0)
    recalled = (between <= radii(x, NEAREST)[:, None]).any(0)
    return float(precise.mean()), float(recalled.mean()), float(covered.mean())


def with_duplicates(draw: np.random.Generator, count: int, pool: np.ndarray) -> np.ndarray:
    """Copies and near copies of a few rows, and rows that are like no other."""
    copies = pool[draw.integers(0, len(pool), count)]
    near = copies * (1 + draw.choice([1e-9, 1e-14]) * draw.standard_normal(copies.shape))
    other = pool[:1] + draw.standard_normal(copies.shape)
    return np.choose(draw.integers(0, 4, (count, 1)), [copies, copies, near, other])


@pytest.mark.parametrize("offset", [0, 1e5])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8", "int64"])
def test_duplicates_are_at_distance_0(dtype: str, offset: float) -> None:
    for seed in range(20):
        draw = np.random.default_rng(seed)
        width = int(draw.choice([1, 3, 64, 100]))
        pool = 100 + 30 * draw.standard_normal((int(draw.integers(1, 30)), width))
        if dtype in ("float32", "float64", "int64"):
            pool = pool + offset
        judged, real = (with_duplicates(draw, int(draw.integers(6, 80)), pool).clip(0).astype(dtype) for _ in range(2))
        both = np.concatenate([judged, real[: len(real) // 2]])
        assert overlap(both, real) == at_once(both, real), f"case {seed}"


@pytest.mark.parametrize("copies", [6, 20, 21, 58])
def test_copies_of_one_image_cover_this_image_alone(copies: int) -> None:
    """The balls of copies have radius 0; rounding must neither move a copy out of them nor another image into them."""
    for seed in range(10):
        real = np.random.default_rng(seed).standard_normal((40, 64)).astype(np.float32)
        same, others = np.repeat(real[:1], copies, 0), real[1:]
        assert overlap(same, np.concatenate([same, others])).recall == copies / (copies + 39)
        assert overlap(np.concatenate([same, others]), same).precision == copies / (copies + 39)
        assert overlap(same, others).recall == 0
        assert overlap(same, same) == (1, 1, 1)
