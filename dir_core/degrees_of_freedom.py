"""What a finger can do: its 25 hinge angles, their ranges and their usual values. Data and its geometry only.

Every finger has five angles in this order: bend, spread and twist of its first joint, bend of the
second, bend of the third. Zero is the model's flat template; positive bend curls towards the palm and
positive spread leans towards the thumb's side, on both hands.
Twist cannot be observed from joint positions, so only the thumb's saddle joint has a little of it.
"""

from dataclasses import dataclass
from typing import Any, Final

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

# Degrees: lowest, highest, usual, spread of the usual. Ranges after Hume et al. 1990 (thumb) and
# Norkin & White, "Measurement of Joint Motion"; a width of 0 locks the angle at 0.
_THUMB = {
    "bend1": (-35, 60, 5, 22),
    "spread": (-45, 45, 0, 20),
    "twist": (-35, 35, 0, 10),
    "bend2": (-25, 70, 10, 22),
    "bend3": (-30, 85, 15, 25),
}
_FINGER = {
    "bend1": (-30, 95, 20, 35),
    "spread": (-25, 25, 0, 10),
    "twist": (0, 0, 0, 0),
    "bend2": (-8, 115, 25, 35),
    "bend3": (-15, 90, 15, 22),
}
_TABLE: Final = np.radians([[(_THUMB if f == "thumb" else _FINGER)[a] for a in ANGLES] for f in FINGERS])

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
        axes: [5, 5, 3] unit axis of each angle.
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
