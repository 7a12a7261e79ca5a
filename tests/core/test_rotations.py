"""Rotations against SciPy, an independent implementation, and by their own laws."""

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from dir_core import rotations

Array = NDArray[Any]

AWKWARD_ANGLES = (0.0, 1e-12, 1e-8, 1e-4, 1.0, math.pi / 2, math.pi - 1e-6, math.pi)


def random_quaternions(count: int, seed: int = 0) -> Array:
    quaternions = np.random.default_rng(seed).normal(size=(count, 4))
    return quaternions / np.linalg.norm(quaternions, axis=-1, keepdims=True)


def to_scipy(quaternions: Array) -> Rotation:
    """SciPy writes (x, y, z, w)."""
    return Rotation.from_quat(np.roll(quaternions, -1, axis=-1))


def assert_same_rotation(a: Array, b: Array, tolerance: float = 1e-7) -> None:
    """q and -q are the same rotation."""
    assert np.allclose(np.abs(np.sum(a * b, axis=-1)), 1.0, atol=tolerance)


def test_multiply_is_the_second_rotation_followed_by_the_first() -> None:
    a, b = random_quaternions(50, 1), random_quaternions(50, 2)
    assert np.allclose(rotations.to_matrix(rotations.multiply(a, b)), (to_scipy(a) * to_scipy(b)).as_matrix())


@pytest.mark.parametrize("kind", [np.float64, np.float32])
def test_few_products_equal_those_among_many_to_the_last_bit(kind: type) -> None:
    a, b = random_quaternions(500, 1).astype(kind), random_quaternions(500, 2).astype(kind)
    many = rotations.multiply(a, b)
    few = np.concatenate([rotations.multiply(a[row : row + 20], b[row : row + 20]) for row in range(0, 500, 20)])
    assert many.dtype == few.dtype == kind
    assert np.array_equal(many, few)
    assert np.array_equal(rotations.multiply(a[0], b[:20]), rotations.multiply(np.tile(a[:1], (20, 1)), b[:20]))
    assert np.array_equal(rotations.multiply(a[0], b[0]), many[0])


def test_a_quarter_turn_about_z_takes_x_to_y() -> None:
    quarter = rotations.from_rotation_vector(np.array([0.0, 0.0, math.pi / 2]))
    assert np.allclose(rotations.rotate(quarter, np.array([1.0, 0.0, 0.0])), [0.0, 1.0, 0.0])
    assert np.allclose(rotations.to_matrix(quarter) @ [1.0, 0.0, 0.0], [0.0, 1.0, 0.0])


def test_rotate_agrees_with_the_matrix() -> None:
    quaternions, vectors = random_quaternions(50), np.random.default_rng(3).normal(size=(50, 3))
    assert np.allclose(rotations.rotate(quaternions, vectors), to_scipy(quaternions).apply(vectors))


def test_inverse_undoes() -> None:
    quaternions = random_quaternions(50)
    identity = rotations.multiply(rotations.inverse(quaternions), quaternions)
    assert np.allclose(identity, [1.0, 0.0, 0.0, 0.0])


@pytest.mark.parametrize("angle", AWKWARD_ANGLES)
def test_rotation_vectors_survive_at_awkward_angles(angle: float) -> None:
    axes = random_quaternions(30)[:, 1:]
    vectors = angle * axes / np.linalg.norm(axes, axis=-1, keepdims=True)
    quaternions = rotations.from_rotation_vector(vectors)
    assert np.allclose(np.linalg.norm(quaternions, axis=-1), 1.0, atol=1e-12)
    assert_same_rotation(quaternions, np.roll(Rotation.from_rotvec(vectors).as_quat(), 1, axis=-1))
    again = rotations.to_rotation_vector(quaternions)
    if angle < math.pi:  # at pi both directions of the axis mean the same rotation
        assert np.allclose(again, vectors, atol=1e-9)
    assert_same_rotation(rotations.from_rotation_vector(again), quaternions)


def test_rotation_vectors_are_the_shortest() -> None:
    quaternions = random_quaternions(200)
    vectors = rotations.to_rotation_vector(quaternions)
    assert np.linalg.norm(vectors, axis=-1).max() <= math.pi + 1e-12
    assert np.allclose(vectors, rotations.to_rotation_vector(-quaternions))


@pytest.mark.parametrize("angle", AWKWARD_ANGLES)
@pytest.mark.parametrize("axis", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (-1, 2, -3)])
def test_matrices_survive_at_awkward_angles_and_axes(axis: tuple[int, int, int], angle: float) -> None:
    vector = angle * np.array(axis) / np.linalg.norm(axis)
    matrix = Rotation.from_rotvec(vector).as_matrix()
    quaternion = rotations.from_matrix(matrix)
    assert quaternion[0] >= 0
    assert np.allclose(rotations.to_matrix(quaternion), matrix, atol=1e-9)


def test_any_number_of_leading_axes() -> None:
    quaternions = random_quaternions(24)
    many = quaternions.reshape(2, 3, 4, 4)
    for function in (rotations.to_matrix, rotations.to_rotation_vector, rotations.inverse):
        assert np.allclose(function(many).reshape(24, -1), function(quaternions).reshape(24, -1))
    assert rotations.from_matrix(rotations.to_matrix(many)).shape == many.shape


def test_angle_between_is_what_was_turned() -> None:
    start = random_quaternions(20)
    for angle in (0.0, 1e-7, 0.3, 3.0):
        turn = rotations.from_rotation_vector(np.array([0.0, angle, 0.0]))
        turned = rotations.multiply(start, turn)
        assert np.allclose(rotations.angle_between(start, turned), angle, atol=1e-7)
        assert np.allclose(rotations.angle_between(start, -turned), angle, atol=1e-7)


def test_make_continuous_changes_signs_only_and_leaves_no_jump() -> None:
    angles = np.linspace(0, 20, 300)
    smooth = rotations.from_rotation_vector(angles[:, None] * np.array([0.6, 0.0, 0.8]))
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(300, 1))
    result = rotations.make_continuous(smooth * signs)
    assert (np.sum(result[1:] * result[:-1], axis=-1) > 0).all()
    assert_same_rotation(result, smooth)
    assert np.array_equal(np.abs(result), np.abs(smooth))


def test_make_continuous_treats_every_joint_by_itself_and_keeps_the_type() -> None:
    quaternions = random_quaternions(40).reshape(10, 4, 4).astype(np.float32)
    result = rotations.make_continuous(quaternions)
    assert result.dtype == np.float32
    for joint in range(4):
        assert np.array_equal(result[:, joint], rotations.make_continuous(quaternions[:, joint]))
    assert rotations.make_continuous(quaternions[:0]).shape == (0, 4, 4)


def test_nearest_rotation_finds_the_rotation_under_noise_and_is_never_a_mirror() -> None:
    rng = np.random.default_rng(0)
    matrices = to_scipy(random_quaternions(50)).as_matrix()
    assert np.allclose(rotations.nearest_rotation(matrices), matrices)
    noisy = rotations.nearest_rotation(matrices + 1e-3 * rng.normal(size=matrices.shape))
    assert np.abs(noisy - matrices).max() < 1e-2
    mirrored = matrices @ np.diag([1.0, 1.0, -1.0])
    result = rotations.nearest_rotation(mirrored)
    assert np.allclose(np.linalg.det(result), 1.0)
    assert np.allclose(result @ np.swapaxes(result, -1, -2), np.eye(3), atol=1e-12)
