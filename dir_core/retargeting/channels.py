"""Quaternions as the channels of other rotation modes, without jumps between neighbours in time. numpy only.

Orders are written as Blender writes them: "XYZ" turns about X first, then about Y, then about Z.
"""

import itertools
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dir_core import rotations

Array = NDArray[Any]

EULER_ORDERS: Final = ("XYZ", "XZY", "YXZ", "YZX", "ZXY", "ZYX")

_LOCKED: Final = 1e-6
"""Cosine of the middle angle below which the outer two turn about the same axis."""

_STILL: Final = 1e-9
"""Length of a quaternion's vector below which its axis means nothing."""

_DEFAULT_AXIS: Final = (0.0, 1.0, 0.0)  # what Blender's bones have at rest


def to_euler(quaternion: Array, order: str) -> Array:
    """Angles [T, 3] about X, Y and Z in radians for unit quaternions [T, 4], compatible from frame to frame."""
    angles, other = to_both_eulers(quaternion, order)
    if len(angles) == 1:  # what is shown live are many single frames
        return angles
    # They are as far from each other's neighbours whichever was taken before, so that where to change over can be
    # seen for all frames at once.
    stay, change = (np.abs(_wrapped(each[1:] - angles[:-1])).sum(axis=1) for each in (angles, other))
    changed = np.concatenate([[0], np.cumsum(change < stay) % 2]).astype(bool)[: len(angles)]
    return np.unwrap(np.where(changed[:, None], other, angles), axis=0)


def to_both_eulers(quaternion: Array, order: str) -> Array:
    """The two triples of angles [2, T, 3] of rotations [T, 4]; the middle angle of the first is a right one at most."""
    i, j, k = ("XYZ".index(axis) for axis in order)
    sign = 1.0 if (j - i) % 3 == 1 else -1.0
    # Of the rotation's matrix only the elements that count: what is shown live are many single frames.
    w, *vector = np.asarray(quaternion, np.float64).T
    x, y, z, turn = vector[i], vector[j], vector[k], sign * w
    sine = -sign * 2.0 * (z * x - turn * y)
    cosine_first, sine_first = 1.0 - 2.0 * (x * x + y * y), sign * 2.0 * (z * y + turn * x)  # times the cosine
    cosine = np.hypot(sine_first, cosine_first)
    middle = np.arctan2(sine, cosine)
    first = np.arctan2(sine_first, cosine_first)[last_valid(cosine > _LOCKED)]
    # The last angle is what the first one leaves over of axis j, also where both turn about one axis.
    kept, lost = np.cos(first), sign * np.sin(first)
    across = kept * 2.0 * (x * y - turn * z) - lost * 2.0 * (x * z + turn * y)
    along = kept * (1.0 - 2.0 * (x * x + z * z)) - lost * 2.0 * (y * z - turn * x)
    angles = np.empty((len(w), 3))
    angles[:, i], angles[:, j], angles[:, k] = first, middle, np.arctan2(-sign * across, along)
    other = angles + np.pi
    other[:, j] = np.pi - angles[:, j]
    return np.stack([angles, other])


def from_euler(angles: Array, order: str) -> Array:
    """Unit quaternions [..., 4] for angles [..., 3] about X, Y and Z in radians."""
    half = 0.5 * np.asarray(angles, np.float64)
    cosine, sine = np.cos(half), np.sin(half)
    first, middle, last = (_about("XYZ".index(axis), cosine, sine) for axis in order)
    return rotations.multiply(rotations.multiply(last, middle), first)


def to_axis_angle(quaternion: Array) -> Array:
    """Angle in radians and unit axis [T, 4] for unit quaternions [T, 4]; the axis never flips between frames."""
    quaternion = rotations.make_continuous(np.asarray(quaternion, np.float64))
    length = np.linalg.norm(quaternion[:, 1:], axis=1)
    turning = length > _STILL
    axis = np.where(turning[:, None], quaternion[:, 1:] / np.maximum(length, _STILL)[:, None], _DEFAULT_AXIS)
    axis = rotations.make_continuous(axis[last_valid(turning)])
    sine = np.sum(axis * quaternion[:, 1:], axis=1)
    return np.column_stack([np.unwrap(2.0 * np.arctan2(sine, quaternion[:, 0])), axis])


def to_unlocked_euler(
    quaternion: Array, locked: tuple[bool, bool, bool], order: str = "XYZ", held: Sequence[float] = (0.0, 0.0, 0.0)
) -> Array:
    """Angles [T, 3] whose rotation is nearest to unit quaternions [T, 4] while locked ones (X, Y, Z) stay at `held`.

    A hinge so takes all of a bend that it can, which leaving out Euler angles does not: they are not independent.
    They are compatible from frame to frame.
    """
    free = [axis for axis in map("XYZ".index, reversed(order)) if not locked[axis]]
    if len(free) == 3:
        return to_euler(quaternion, order)
    angles = np.where(locked, np.asarray(held, np.float64), 0.0) * np.ones((len(quaternion), 1))
    if not free:
        return angles
    # A rotation is linear in the cosine and the sine of each half angle. How alike it is to the wanted one for each of
    # those alone: with half turns, or none, about the free axes.
    ends = list(itertools.product((0, 1), repeat=len(free)))
    corners = np.tile(angles[:1], (len(ends), 1))
    corners[:, free] = np.pi * np.array(ends)
    alike = dict(zip(ends, from_euler(corners, order) @ quaternion.T, strict=True))
    if len(free) == 1:
        angles[:, free[0]] = 2.0 * np.arctan2(alike[1,], alike[0,])
    else:
        difference = np.arctan2(alike[1, 0] - alike[0, 1], alike[0, 0] + alike[1, 1])
        total = np.arctan2(alike[1, 0] + alike[0, 1], alike[0, 0] - alike[1, 1])
        angles[:, free[0]], angles[:, free[1]] = total + difference, total - difference
    angles[:, free] = np.unwrap(_nearest_turn(angles[:, free]), axis=0)
    return angles


def _nearest_turn(angles: Array) -> Array:
    """Angles of a first frame between -180 and 180 degrees, the others with it."""
    return angles - 2.0 * np.pi * np.round(angles[:1] / (2.0 * np.pi))


def _about(axis: int, cosine: Array, sine: Array) -> Array:
    """Turns [..., 4] about one axis, of the cosines and sines [..., 3] of half angles."""
    turn = np.zeros((*cosine.shape[:-1], 4))
    turn[..., 0], turn[..., 1 + axis] = cosine[..., axis], sine[..., axis]
    return turn


def _wrapped(angles: Array) -> Array:
    return (angles + np.pi) % (2.0 * np.pi) - np.pi


def last_valid(valid: Array) -> Array:
    """[T] row of the last valid frame up to each frame; the first valid row where there is none yet."""
    first = valid.argmax() if valid.any() else 0
    return np.maximum.accumulate(np.where(valid, np.arange(len(valid)), first))
