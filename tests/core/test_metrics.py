"""Known displacements give known errors."""

import numpy as np
import pytest

from dir_core import rotations
from dir_core.evaluation.metrics import procrustes_aligned_error, root_aligned_error


@pytest.fixture
def hands() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.05, (10, 21, 3))


def test_a_moved_hand_has_no_root_aligned_error(hands: np.ndarray) -> None:
    assert root_aligned_error(hands + [1.0, 2.0, 3.0], hands) == pytest.approx(0, abs=1e-12)


def test_a_moved_finger_tip_is_measured_in_metres(hands: np.ndarray) -> None:
    wrong = hands.copy()
    wrong[:, 8, 0] += 0.01
    error = root_aligned_error(wrong, hands)
    assert error[:, 8] == pytest.approx(0.01)
    assert np.delete(error, 8, axis=1) == pytest.approx(0, abs=1e-12)


def test_procrustes_removes_rotation_size_and_place(hands: np.ndarray) -> None:
    turn = rotations.from_rotation_vector(np.array([0.3, -1.2, 0.8]))
    moved = 1.3 * rotations.rotate(turn, hands) + [0.1, 0.2, 0.5]
    assert procrustes_aligned_error(moved, hands) == pytest.approx(0, abs=1e-9)


def test_procrustes_does_not_mirror(hands: np.ndarray) -> None:
    assert procrustes_aligned_error(hands * [-1, 1, 1], hands).mean() > 0.01
