"""Degrees of freedom of the fingers, and limits that bring any estimator's rotations into them."""

from typing import Any

import numpy as np
import pytest

from dir_core import rotations
from dir_core.clean_up.limits import MARGIN, limit_joints
from dir_core.conventions import SHAPE_COUNT, SIDES, Side
from dir_core.degrees_of_freedom import (
    FINGER_JOINTS,
    HIGHEST,
    LOWEST,
    FingerGeometry,
    angles_from_rotations,
    finger_geometry,
    rotations_from_angles,
)
from dir_core.hand_model import open_hand_models

WRIST = np.array([1.0, 0.0, 0.0, 0.0])


def geometry_of(side: Side) -> FingerGeometry:
    return finger_geometry(open_hand_models()[side], np.random.default_rng(3).normal(size=SHAPE_COUNT), 1.03)


def pose(geometry: FingerGeometry, angles: Any) -> Any:
    return rotations_from_angles(geometry, np.tile(WRIST, (len(angles), 1)), angles)


@pytest.mark.parametrize("side", SIDES)
def test_angles_come_back_from_their_rotations(side: Side) -> None:
    geometry, rng = geometry_of(side), np.random.default_rng(0)
    angles = np.pi * rng.uniform(-1, 1, (300, 5, 5)) * [1, 0.5, 1, 1, 1]
    rotation = pose(geometry, angles) * rng.choice([-1.0, 1.0], (300, 16, 1))
    assert np.abs(angles_from_rotations(geometry, rotation) - angles).max() < 1e-12


@pytest.mark.parametrize("side", SIDES)
def test_a_first_joint_keeps_every_rotation_even_along_its_own_hinge(side: Side) -> None:
    geometry = geometry_of(side)
    angles = np.array([0.7, np.pi / 2, -0.4, 0.2, 0.1]) * np.ones((1, 5, 5))
    rotation = pose(geometry, angles)
    again = pose(geometry, angles_from_rotations(geometry, rotation))
    assert rotations.angle_between(rotation, again).max() < 1e-7


def test_an_outer_joint_is_read_as_its_nearest_hinge_angle() -> None:
    geometry, rng = geometry_of("right"), np.random.default_rng(1)
    rotation = rotations.from_rotation_vector(rng.normal(0, 0.6, (40, 16, 3)))
    best = pose(geometry, angles_from_rotations(geometry, rotation))
    for tried in np.linspace(-np.pi, np.pi, 90):
        other = pose(geometry, np.full((40, 5, 5), tried))
        for finger in FINGER_JOINTS:
            rows = list(finger[1:])
            error = rotations.angle_between(rotation[:, rows], best[:, rows])
            assert (error <= rotations.angle_between(rotation[:, rows], other[:, rows]) + 1e-9).all()


def inside(count: int, seed: int = 0) -> Any:
    """Random angles [count, 5, 5] within the ranges."""
    return np.random.default_rng(seed).uniform(LOWEST, HIGHEST, (count, 5, 5))


def limited_angles(geometry: FingerGeometry, angles: Any) -> Any:
    return angles_from_rotations(geometry, limit_joints(geometry, pose(geometry, angles)).rotation)


@pytest.mark.parametrize("side", SIDES)
def test_a_possible_pose_stays_as_it_is(side: Side) -> None:
    geometry = geometry_of(side)
    rotation = rotations.make_continuous(pose(geometry, inside(200)))
    rotation[:, 0] = np.random.default_rng(1).normal(size=(200, 4))
    limited = limit_joints(geometry, rotation)
    assert np.abs(limited.rotation - rotation).max() < 1e-9
    assert np.array_equal(limited.rotation[:, 0], rotation[:, 0])
    assert limited.largest_excess < 1e-9
    assert limited.corrected_frames == limited.corrected_angles == 0


def test_an_angle_beyond_its_limit_is_compressed_without_a_corner() -> None:
    geometry = geometry_of("right")
    past = np.radians(np.linspace(-5, 60, 261))
    angles = np.zeros((261, 5, 5))
    angles[..., 3] = HIGHEST[:, 3] + past[:, None]
    result = limited_angles(geometry, angles)[..., 3] - HIGHEST[:, 3]
    assert np.abs(result[past <= 0] - past[past <= 0, None]).max() < 1e-9
    assert (np.diff(result, axis=0) >= 0).all()
    assert result.max() <= MARGIN + 1e-9
    assert result.max() > 0.99 * MARGIN
    slope = np.diff(result[:, 1]) / np.diff(past)
    assert np.abs(np.diff(slope)).max() < 0.06


@pytest.mark.parametrize("side", SIDES)
def test_any_rotation_comes_out_within_the_margin(side: Side) -> None:
    geometry = geometry_of(side)
    rotation = np.random.default_rng(4).normal(size=(200, 16, 4))
    rotation /= np.linalg.norm(rotation, axis=-1, keepdims=True)
    limited = limit_joints(geometry, rotation)
    angles = angles_from_rotations(geometry, limited.rotation)
    assert (angles > LOWEST - MARGIN - 1e-9).all()
    assert (angles < HIGHEST + MARGIN + 1e-9).all()
    # What the angles cannot say is gone: the rotation is that of its angles.
    again = pose(geometry, angles)[:, 1:]
    assert rotations.angle_between(limited.rotation[:, 1:], again).max() < 1e-7
    assert np.abs(np.linalg.norm(limited.rotation[:, 1:], axis=-1) - 1).max() < 1e-9
    assert limited.corrected_frames > 0.99


def test_a_finger_bent_far_backwards_stays_at_its_lower_limit() -> None:
    geometry = geometry_of("left")
    angles = np.zeros((400, 5, 5))
    angles[..., [0, 3]] = np.radians(np.concatenate([np.linspace(0, -200, 200), np.linspace(-200, 0, 200)]))[
        :, None, None
    ]
    limited = limit_joints(geometry, pose(geometry, angles))
    result = angles_from_rotations(geometry, limited.rotation)
    assert np.abs(result[150:250, :, [0, 3]] - (LOWEST - MARGIN)[:, [0, 3]]).max() < np.radians(0.01)
    assert np.degrees(limited.largest_excess) > 190
    steps = rotations.angle_between(limited.rotation[1:], limited.rotation[:-1])
    assert np.degrees(steps).max() < 1.05  # the input moves a degree per frame in every joint
    # A clip that begins so, without any frame before, comes back at the same limit.
    alone = limited_angles(geometry, np.full((3, 5, 5), np.radians(-170)) * [1, 0, 0, 1, 1])
    assert np.abs(alone[:, :, [0, 3, 4]] - (LOWEST - MARGIN)[:, [0, 3, 4]]).max() < np.radians(0.01)


def test_spreading_past_the_side_and_back_is_smooth() -> None:
    geometry = geometry_of("right")
    angles = np.zeros((238, 5, 5))
    angles[..., 0] = 0.3
    angles[..., 1] = np.radians(np.concatenate([np.arange(0.5, 119), np.arange(118.5, 0, -1)]))[:, None]
    limited = limit_joints(geometry, pose(geometry, angles))
    steps = rotations.angle_between(limited.rotation[1:], limited.rotation[:-1])
    assert np.degrees(steps).max() < 1.05


def test_twist_is_taken_off_the_fingers() -> None:
    geometry = geometry_of("right")
    angles = inside(50)
    angles[:, 1:, 2] = np.radians(30)
    result = limited_angles(geometry, angles)
    assert np.abs(result[:, 1:, 2]).max() < MARGIN
    assert np.abs(np.delete(result, 2, axis=2) - np.delete(angles, 2, axis=2)).max() < 1e-9


def test_the_other_hand_is_limited_like_a_mirror_image() -> None:
    left, right = (finger_geometry(open_hand_models()[side], np.zeros(SHAPE_COUNT), 1.0) for side in SIDES)
    rotation = np.random.default_rng(5).normal(size=(60, 16, 4))
    rotation /= np.linalg.norm(rotation, axis=-1, keepdims=True)
    mirror = np.array([1.0, 1.0, -1.0, -1.0])  # x -> -x
    one, other = limit_joints(right, rotation), limit_joints(left, rotation * mirror)
    assert rotations.angle_between(one.rotation[:, 1:] * mirror, other.rotation[:, 1:]).max() < 1e-7
    assert np.abs(one.excess - other.excess).max() < 1e-9


def test_a_clip_without_frames_is_no_error() -> None:
    limited = limit_joints(geometry_of("left"), np.zeros((0, 16, 4)))
    assert limited.rotation.shape == (0, 16, 4)
    assert limited.corrected_angles == limited.corrected_frames == limited.largest_excess == 0


def test_what_was_corrected_is_counted() -> None:
    geometry = geometry_of("right")
    angles = np.zeros((20, 5, 5))
    angles[:2, :, 3] = HIGHEST[:, 3] + np.radians(20)
    limited = limit_joints(geometry, pose(geometry, angles))
    assert limited.corrected_frames == pytest.approx(2 / 20)
    assert limited.corrected_angles == pytest.approx(2 / 20 / 5)
    assert np.degrees(limited.largest_excess) == pytest.approx(20)
