"""Degrees of freedom of the fingers, and limits that bring any estimator's rotations into them."""

from typing import Any

import numpy as np
import pytest

from dir_core import rotations
from dir_core.conventions import SHAPE_COUNT, SIDES, Side
from dir_core.degrees_of_freedom import (
    FINGER_JOINTS,
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
