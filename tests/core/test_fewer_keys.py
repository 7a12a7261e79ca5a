"""Fewer keys in every rotation mode: the rotation itself stays within the bound, at ten samples a frame."""

import numpy as np
import pytest

from dir_core import rotations
from dir_core.clean_up.key_reduction import KeyReduction, sample_curve
from dir_core.retargeting import channels
from dir_core.retargeting.fewer_keys import Numbers, group_channels, reduce_numbers

COUNT = 120
BOUNDS = KeyReduction(angle=np.radians(0.5), distance=0.001)
PLACES = np.arange(10 * (COUNT - 1) + 1) / 10.0


def motion(size=1.0, seed=1):
    """[T, 4] a bone that bends and turns, with some noise."""
    rng = np.random.default_rng(seed)
    time = np.arange(COUNT) / 30.0
    vector = np.stack([np.sin(time * rate + phase) for rate, phase in ((2.0, 0.1), (3.1, 1.0), (1.3, 2.0))], axis=1)
    vector *= (1.0, 0.4, 0.3)
    return rotations.from_rotation_vector(size * vector + rng.normal(0, 0.002, (COUNT, 3)))


def between(values):
    """The frames joined by straight lines."""
    return np.stack(
        [np.interp(PLACES, np.arange(COUNT), values[:, column]) for column in range(values.shape[1])], axis=1
    )


def off(one, other):
    """Largest angle between rotations [N, 4]."""
    return np.max(
        np.linalg.norm(rotations.to_rotation_vector(rotations.multiply(rotations.inverse(one), other)), axis=1)
    )


def turned(kind, values):
    """[N, 4] unit quaternions of numbers [N, 3] or [N, 4], as Blender reads them."""
    if kind in channels.EULER_ORDERS:
        return channels.from_euler(values, kind)
    if kind == "AXIS_ANGLE":
        axis = values[:, 1:] / np.linalg.norm(values[:, 1:], axis=1, keepdims=True)
        return rotations.from_rotation_vector(axis * values[:, :1])
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def as_numbers(kind, size=1.0):
    turns = rotations.make_continuous(motion(size))
    if kind in channels.EULER_ORDERS:
        return channels.to_euler(turns, kind)
    return channels.to_axis_angle(turns) if kind == "AXIS_ANGLE" else turns


@pytest.mark.parametrize("size", [0.3, 2.2])
@pytest.mark.parametrize("kind", [*channels.EULER_ORDERS, "AXIS_ANGLE", "QUATERNION"])
def test_rotations_stay_within_the_bound(kind, size):
    values = as_numbers(kind, size)
    (curve,) = reduce_numbers([Numbers(kind, tuple(range(values.shape[1])), values)], BOUNDS)
    drawn = turned(kind, sample_curve(curve, np.arange(COUNT), PLACES))
    if kind == "QUATERNION":
        steps = np.minimum(PLACES.astype(int), COUNT - 2)
        dense = rotations.slerp(values[steps], values[steps + 1], PLACES - steps)
    else:
        dense = turned(kind, between(values))
    assert off(drawn, dense) < BOUNDS.angle * 1.001
    assert len(curve.rows) < COUNT / (1.3 if kind == "AXIS_ANGLE" else 2)


@pytest.mark.parametrize("kind", [*channels.EULER_ORDERS, "AXIS_ANGLE", "QUATERNION"])
@pytest.mark.parametrize("locked", [0, 1, 2])
def test_with_locked_channels_they_do_as_well(kind, locked):
    values = as_numbers(kind)
    values[:, locked] = 1.0 if kind == "QUATERNION" and locked == 0 else 0.0
    kept = tuple(index for index in range(values.shape[1]) if index != locked)
    if kind == "AXIS_ANGLE":
        values[:, locked] = values[0, locked] + 0.7
    (curve,) = reduce_numbers([Numbers(kind, kept, values[:, kept])], BOUNDS)
    drawn, dense = np.zeros((len(PLACES), values.shape[1])), between(values)
    drawn[:, locked] = values[0, locked]
    drawn[:, kept] = sample_curve(curve, np.arange(COUNT), PLACES)
    assert off(turned(kind, drawn), turned(kind, dense)) < BOUNDS.angle * 1.001


def test_places_stay_within_the_bound_and_everything_comes_back_in_order():
    place = np.cumsum(np.random.default_rng(3).normal(0, 0.002, (COUNT, 3)), axis=0)
    numbers = [
        Numbers("PLACE", (0, 1, 2), place),
        Numbers("QUATERNION", (0, 1, 2, 3), as_numbers("QUATERNION")),
        Numbers("XYZ", (0, 1, 2), as_numbers("XYZ")),
    ]
    curves = reduce_numbers(numbers, BOUNDS)
    for each, curve in zip(numbers, curves, strict=True):
        np.testing.assert_allclose(curve.values, each.values[curve.rows], atol=1e-12)
    drawn = sample_curve(curves[0], np.arange(COUNT), PLACES)
    assert np.linalg.norm(drawn - between(place), axis=1).max() < BOUNDS.distance * 1.001


def test_channels_are_grouped_by_bone():
    values = np.arange(5.0)
    grouped = group_channels(
        {
            ("a", "rotation_euler", 0): values,
            ("a", "rotation_euler", 2): values,
            ("a", "location", 1): values,
            ("b", "rotation_quaternion", 3): values,
            ("b", '["IK_FK"]', 0): values,
        },
        {"a": "ZXY", "b": "QUATERNION"},
    )
    assert {key: (each.kind, each.indices) for key, each in grouped.items()} == {
        ("a", "rotation_euler"): ("ZXY", (0, 2)),
        ("a", "location"): ("PLACE", (1,)),
        ("b", "rotation_quaternion"): ("QUATERNION", (3,)),
    }
