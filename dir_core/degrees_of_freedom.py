"""What a finger can do: its 25 hinge angles, their ranges and their usual values. Data and its geometry only.

Every finger has five angles in this order: bend, spread and twist of its first joint, bend of the
second, bend of the third. Zero is the model's flat template; positive bend curls towards the palm and
positive spread leans towards the thumb's side, on both hands.
Twist cannot be observed from joint positions, so only the thumb's saddle joint has a little of it.
"""

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dir_core import rotations
from dir_core.conventions import FINGERS, JOINTS
from dir_core.hand_model import HandModel

Array = NDArray[Any]

ANGLES: Final = ("bend1", "spread", "twist", "bend2", "bend3")
ANGLE_JOINTS: Final = (0, 0, 0, 1, 2)
"""Rank of the joint within its finger that each angle turns."""

FINGER_JOINTS: Final = ((13, 14, 15), (1, 2, 3), (4, 5, 6), (10, 11, 12), (7, 8, 9))
"""MANO joint rows of each finger, in FINGERS order."""


class Range(NamedTuple):
    """Degrees. `width` is the usual spread around `usual`; a range without extent locks the angle at 0."""

    lowest: float
    highest: float
    usual: float
    width: float


_LOCKED: Final = Range(0, 0, 0, 0)

RANGES: Final = {
    # joint:    bend                     spread                  twist
    "thumb1":  (Range(-35, 60, 5, 22),   Range(-45, 45, 0, 20),  Range(-35, 35, 0, 10)),
    "thumb2":  (Range(-25, 70, 10, 22),  _LOCKED,                _LOCKED),
    "thumb3":  (Range(-30, 85, 15, 25),  _LOCKED,                _LOCKED),
    "finger1": (Range(-30, 95, 20, 35),  Range(-25, 25, 0, 10),  _LOCKED),
    "finger2": (Range(-8, 115, 25, 35),  _LOCKED,                _LOCKED),
    "finger3": (Range(-15, 90, 15, 22),  _LOCKED,                _LOCKED),
}  # fmt: skip
"""What each joint can do, the same for the four fingers. Ranges after Hume et al. 1990 (thumb) and
Norkin & White, "Measurement of Joint Motion"; the outer two joints of a finger are pure hinges."""


def _finger_ranges(finger: str) -> list[Range]:
    """The ranges of one finger in ANGLES order."""
    first, second, third = (RANGES[f"{'thumb' if finger == 'thumb' else 'finger'}{rank}"] for rank in (1, 2, 3))
    return [*first, second[0], third[0]]


_TABLE: Final = np.radians([_finger_ranges(finger) for finger in FINGERS])

LOWEST: Final = _TABLE[..., 0]
HIGHEST: Final = _TABLE[..., 1]
USUAL: Final = _TABLE[..., 2]
USUAL_SPREAD: Final = _TABLE[..., 3]
FREE: Final = HIGHEST > LOWEST
"""[5, 5] finger x angle tables in radians; `FREE` is False for locked angles."""


@dataclass(frozen=True, eq=False)
class FingerGeometry:
    """A shaped hand as five chains, in template axes relative to the wrist joint.

    Attributes:
        offsets: [5, 4, 3] metres: wrist to first joint, then along the three bones to the tip.
        axes: [5, 5, 3] unit axis of each angle; those of a first joint stand on each other (b x s = t).
        keypoints: [21, 3] the flat hand.
    """

    offsets: Array
    axes: Array
    keypoints: Array


def finger_geometry(model: HandModel, shape: Array, scale: float) -> FingerGeometry:
    """Chains and hinge axes of a hand of the given shape [10] and size."""
    keypoints = scale * model.rest_keypoints(shape).astype(np.float64)
    keypoints = keypoints - keypoints[0]
    chains = keypoints[1:].reshape(5, 4, 3)
    offsets = np.diff(chains, axis=1, prepend=0.0)
    bend = model.flexion_axes(shape)[np.array(FINGER_JOINTS) - 1].astype(np.float64)
    first_bone = offsets[:, 1] / np.linalg.norm(offsets[:, 1], axis=-1, keepdims=True)
    # A mirrored turn is the opposite turn about the mirrored axis; the bend axes are mirrored already.
    mirror = 1.0 if model.side == "right" else -1.0
    twist = first_bone - np.sum(first_bone * bend[:, 0], axis=-1, keepdims=True) * bend[:, 0]
    twist *= mirror / np.linalg.norm(twist, axis=-1, keepdims=True)
    spread = np.cross(twist, bend[:, 0])
    axes = np.stack([bend[:, 0], spread, twist, bend[:, 1], bend[:, 2]], axis=1)
    return FingerGeometry(offsets=offsets, axes=axes, keypoints=keypoints)


def rotations_from_angles(geometry: FingerGeometry, wrist: Array, angles: Array) -> Array:
    """Quaternions [N, 16, 4] in MANO joint order of wrist rotations [N, 4] and hinge angles [N, 5, 5] in radians."""
    turns = rotations.from_rotation_vector(angles[..., None] * geometry.axes)
    quaternions = np.empty((len(angles), len(JOINTS), 4))
    quaternions[:, 0] = wrist
    bend, spread, twist = (turns[:, :, angle] for angle in range(3))
    fingers = np.array(FINGER_JOINTS)
    quaternions[:, fingers[:, 0]] = rotations.multiply(rotations.multiply(bend, spread), twist)
    quaternions[:, fingers[:, 1]] = turns[:, :, 3]
    quaternions[:, fingers[:, 2]] = turns[:, :, 4]
    return quaternions


def angles_from_rotations(geometry: FingerGeometry, rotation: Array) -> Array:
    """Hinge angles [N, 5, 5] in radians, in -pi..pi, of quaternions [N, 16, 4]: the inverse of `rotations_from_angles`.

    A first joint is read as bend, then spread, then twist (Euler angles about its own axes) and comes back
    exactly; its spread lies in -pi/2..pi/2. Of a second or third joint only the turn about its hinge is kept:
    the hinge angle whose rotation is nearest to the joint's.
    """
    fingers = np.array(FINGER_JOINTS)
    joints = np.asarray(rotation, np.float64)[:, fingers]
    angles = np.empty((len(joints), 5, len(ANGLES)))
    for angle, rank in ((3, 1), (4, 2)):
        w, xyz = joints[:, :, rank, 0], joints[:, :, rank, 1:]
        sine = np.sum(xyz * geometry.axes[:, angle], axis=-1)
        angles[..., angle] = 2.0 * np.arctan2(np.where(w < 0, -sine, sine), np.abs(w))

    w = joints[:, :, 0, 0]
    x, y, z = np.einsum("fai,nfi->anf", geometry.axes[:, :3], joints[:, :, 0, 1:])
    bend_sine, bend_cosine = 2 * (w * x - y * z), 1 - 2 * (x * x + y * y)  # both times the cosine of the spread
    bend = np.arctan2(bend_sine, bend_cosine)
    angles[..., 0] = bend
    angles[..., 1] = np.arctan2(2 * (x * z + w * y), np.hypot(bend_sine, bend_cosine))
    # Read after undoing the bend, the twist stays exact where a finger points along its own hinge.
    cosine, sine = np.cos(bend), np.sin(bend)
    angles[..., 2] = np.arctan2(
        cosine * 2 * (x * y + w * z) + sine * 2 * (x * z - w * y),
        cosine * (1 - 2 * (x * x + z * z)) + sine * 2 * (y * z + w * x),
    )
    return angles
