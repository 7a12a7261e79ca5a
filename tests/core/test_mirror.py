"""Mirroring: undone by itself, and a symmetric rig does exactly what the mirror shows."""

import numpy as np
import pytest

from dir_core import rotations
from dir_core.conventions import FINGERS, SIDES
from dir_core.hand_model import open_hand_models
from dir_core.retargeting import mirror, rest, transfer

RNG = np.random.default_rng(11)
REFLECTION = np.diag([-1.0, 1.0, 1.0])


def random_rotations(*shape):
    return rotations.from_rotation_vector(RNG.normal(0.0, 1.5, (*shape, 3)))


def test_mirroring_twice_is_nothing():
    quaternion, points, matrix = random_rotations(500), RNG.normal(size=(500, 3)), RNG.normal(size=(500, 4, 4))
    for values, mirrored in (
        (quaternion, mirror.mirror_rotations),
        (points, mirror.mirror_points),
        (matrix, mirror.mirror_transforms),
    ):
        assert np.abs(mirrored(mirrored(values)) - values).max() <= 1e-12
        assert np.abs(mirrored(values) - values).max() > 0.1
    assert [mirror.other_side(side) for side in SIDES] == [*SIDES[::-1]]


def test_rotations_and_transforms_are_reflections():
    quaternion = random_rotations(500)
    np.testing.assert_allclose(
        rotations.to_matrix(mirror.mirror_rotations(quaternion)),
        REFLECTION @ rotations.to_matrix(quaternion) @ REFLECTION,
        atol=1e-12,
    )
    matrix, points = RNG.normal(size=(500, 4, 4)), RNG.normal(size=(500, 3))
    moved = np.einsum("kij,kj->ki", matrix[:, :3, :3], points) + matrix[:, :3, 3]
    mirrored = mirror.mirror_transforms(matrix)
    again = np.einsum("kij,kj->ki", mirrored[:, :3, :3], mirror.mirror_points(points)) + mirrored[:, :3, 3]
    np.testing.assert_allclose(again, mirror.mirror_points(moved), atol=1e-12)


def rest_hand(points, rolls):
    """A rig's hand whose bones lie along key points [21, 3], with rest rotations [15, 4] in the order of FINGERS."""
    fingers = {
        name: rest.RestFinger(
            tuple(f"{name}{rank}" for rank in (1, 2, 3)),
            np.array(points[4 * row + 1 : 4 * row + 5]),
            rolls[3 * row : 3 * row + 3],
        )
        for row, name in enumerate(FINGERS)
    }
    return rest.RestHand("hand", points[0], np.array([1.0, 0, 0, 0]), fingers)


@pytest.mark.parametrize("mode", transfer.FINGER_MODES)
def test_a_mirrored_performance_on_the_mirrored_hand_is_the_mirrored_performance(mode):
    models = open_hand_models()
    captured = models["left"].pose_keypoints(np.tile([1.0, 0, 0, 0], (1, 16, 1)), None, np.zeros(10))[0]
    pose = rotations.from_rotation_vector(RNG.normal(0.0, 0.15, (1, 16, 3)))
    rig_points = models["left"].pose_keypoints(pose, None, RNG.normal(0.0, 1.0, 10))[0]
    rolls = random_rotations(15)
    left = rest_hand(rig_points, rolls)
    right = rest_hand(mirror.mirror_points(rig_points), mirror.mirror_rotations(rolls))
    turns = transfer.chain_turns(rotations.from_rotation_vector(RNG.normal(0.0, 0.6, (50, 16, 3))))
    plain = transfer.finger_keys(turns, left, rest.align(captured, left), mode)
    mirrored = transfer.finger_keys(
        mirror.mirror_rotations(turns), right, rest.align(mirror.mirror_points(captured), right), mode
    )
    for bone, keys in plain.items():
        assert rotations.angle_between(mirror.mirror_rotations(keys), mirrored[bone]).max() < 1e-6
