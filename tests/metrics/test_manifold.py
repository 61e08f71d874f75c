"""Precision, recall and coverage are counted in balls."""

import numpy as np
import pytest

from ddpm_cli.metrics import nearest
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
    monkeypatch.setattr(nearest, "ROWS", 7)
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


def test_copies_of_one_image_are_their_own_neighbours() -> None:
    """Each ball has radius 0; rounding must not put a copy outside of it, nor the feature itself inside."""
    same = np.repeat(DRAW.standard_normal((1, 5)) * 1e3, 20, 0)
    assert overlap(same, DRAW.standard_normal((20, 5))).recall == 0
