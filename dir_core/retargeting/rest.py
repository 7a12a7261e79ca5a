"""Rest poses of hands, and the rotations that take one onto the other. Geometry only: bone rolls play no part."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dir_core import rotations
from dir_core.conventions import FINGERS
from dir_core.errors import SettingsError
from dir_core.retargeting.calibration import FingerCalibration

Array = NDArray[Any]

KNUCKLED: Final = FINGERS[1:]
"""The fingers whose knuckles lie in the palm's plane."""

LONGEST_CHAIN: Final = 3
"""Bones of a finger that are turned; a metacarpal is none of them."""

_SHORTEST_NORMAL: Final = 1e-3
"""Sine of the angle under which wrist and outer knuckles count as one line."""

_OPPOSITE: Final = 1e-9
"""How near to -1 a cosine is for two directions to count as opposite."""


@dataclass(frozen=True, eq=False)
class RestBone:
    """A bone that no finger is made of: its name and its rest rotation [4]."""

    name: str
    rotation: Array


@dataclass(frozen=True, eq=False)
class RestFinger:
    """A finger of n bones (1 to 3) at rest.

    Attributes:
        bones: their names, knuckle first.
        places: [n + 1, 3] heads of the bones and the end of the last one.
        rotations: [n, 4] rest rotations of the bones.
        metacarpal: the bone in the palm that carries them, where the rig has one that can be turned.
        calibration: what the user has set for this finger.
    """

    bones: tuple[str, ...]
    places: Array
    rotations: Array
    metacarpal: RestBone | None = None
    calibration: FingerCalibration | None = None

    @property
    def directions(self) -> Array:
        """Unit vectors [n, 3] from each head to the next one."""
        return _unit(np.diff(self.places, axis=0))


@dataclass(frozen=True, eq=False)
class RestHand:
    """The mapped bones of a rig's hand at rest, all in the axes of its armature.

    Attributes:
        wrist: name of the hand's bone.
        place: [3] its head.
        rotation: [4] its rest rotation.
        fingers: by the names of FINGERS; those the rig does not have are missing.
    """

    wrist: str
    place: Array
    rotation: Array
    fingers: Mapping[str, RestFinger]


@dataclass(frozen=True, eq=False)
class Alignment:
    """Rotations that take the captured hand's rest pose onto the rig's.

    Attributes:
        hand: [4] of the palm.
        fingers: [n, 4] of each bone of the rig's fingers.
    """

    hand: Array
    fingers: Mapping[str, Array]


def joint_spans(count: int) -> tuple[tuple[int, int], ...]:
    """First and last of the three joints of a captured finger that each of `count` bones of a rig stands for.

    Where a rig has fewer bones, its last one stands for all that is left.

    Raises:
        SettingsError: fingers have one to three bones.
    """
    if not 1 <= count <= LONGEST_CHAIN:
        raise SettingsError(f"A finger has {count} bones in the map, give it one to {LONGEST_CHAIN}.")
    return (*((joint, joint) for joint in range(count - 1)), (count - 1, LONGEST_CHAIN - 1))


def align(keypoints: Array, target: RestHand) -> Alignment:
    """Take the flat captured hand onto the rig's hand, palm on palm and then each finger along its own.

    Args:
        keypoints: [21, 3] of the captured hand at rest.
        target: the rig's hand.

    Raises:
        SettingsError: the rig's hand has too few fingers or bones without length.
    """
    keypoints = np.asarray(keypoints, np.float64)
    chains = {name: keypoints[4 * row + 1 : 4 * row + 5] for row, name in enumerate(FINGERS)}
    knuckles = {name: finger.places[0] for name, finger in target.fingers.items()}
    own = palm_rotation(keypoints[0], {name: chains[name][0] for name in knuckles}, target.wrist)
    hand = rotations.multiply(palm_rotation(target.place, knuckles, target.wrist), rotations.inverse(own))
    fingers = {}
    for name, finger in target.fingers.items():
        if np.linalg.norm(np.diff(finger.places, axis=0), axis=1).min() == 0.0:
            raise SettingsError(f"Bones of the {name} at {finger.bones[0]} lie on each other, correct the map.")
        spans = joint_spans(len(finger.bones))
        lines = _unit(np.array([chains[name][last + 1] - chains[name][first] for first, last in spans]))
        turn = smallest_rotation(rotations.rotate(hand, lines), finger.directions)
        fingers[name] = rotations.multiply(turn, hand)
    return Alignment(hand, fingers)


def palm_rotation(wrist: Array, knuckles: Mapping[str, Array], name: str = "the wrist") -> Array:
    """Axes of a palm as a quaternion [4]: x from the wrist to the middle knuckle, y out of the palm's plane.

    Hands without a middle finger take the middle of the knuckles they have, hands with one finger beside the thumb
    the plane through both. Two hands are only comparable by the same fingers.

    Args:
        wrist: [3] place of the wrist.
        knuckles: finger -> [3] place of its first joint.
        name: of the hand's bone, for the error.

    Raises:
        SettingsError: there are fewer than two fingers, or wrist and knuckles lie on a line.
    """
    present = [finger for finger in KNUCKLED if finger in knuckles]
    outer = present if len(present) > 1 else [finger for finger in FINGERS if finger in knuckles]
    if not present or len(outer) < 2:
        raise SettingsError(f"The hand at {name} needs at least two mapped fingers, correct the map.")
    rays = {finger: np.asarray(knuckles[finger], np.float64) - wrist for finger in outer}
    ahead = rays["middle"] if "middle" in rays else np.mean([rays[finger] for finger in present], axis=0)
    normal = np.cross(rays[outer[-1]], rays[outer[0]])
    longest = np.prod([np.linalg.norm(rays[outer[row]]) for row in (0, -1)])
    if not np.linalg.norm(normal) > _SHORTEST_NORMAL * longest or not np.linalg.norm(ahead) > 0:
        raise SettingsError(f"The wrist and the knuckles of {name} lie on a line, correct the map.")
    x = _unit(ahead)
    y = _unit(normal - (normal @ x) * x)
    return rotations.from_matrix(np.column_stack([x, y, np.cross(x, y)]))


def smallest_rotation(start: Array, end: Array) -> Array:
    """The smallest rotations [..., 4] that take unit vectors `start` onto `end` [..., 3]."""
    cosine = np.sum(start * end, axis=-1, keepdims=True)
    # Opposite directions: any axis across will do, and that of the smallest component is never along.
    across = _unit(np.cross(start, np.eye(3)[np.abs(start).argmin(axis=-1)]))
    quaternion = np.concatenate([1.0 + cosine, np.cross(start, end)], axis=-1)
    half_turn = np.concatenate([np.zeros_like(cosine), across], axis=-1)
    return _unit(np.where(1.0 + cosine < _OPPOSITE, half_turn, quaternion))


def _unit(vectors: Array) -> Array:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
