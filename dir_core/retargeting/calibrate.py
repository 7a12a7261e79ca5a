"""How calibrations are made: from a posed finger, an open palm and a fist of the performer. numpy only.

Everything is about one finger of n bones on one frame; its joints [n, 4] are those of transfer.joint_turns.
"""

from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dir_core import rotations
from dir_core.retargeting.calibration import (
    LARGEST_RANGE,
    SMALLEST_RANGE,
    FingerCalibration,
    bend_about,
    unit_quaternions,
)
from dir_core.retargeting.rest import joint_spans
from dir_core.retargeting.transfer import FingerLink, finger_moves

Array = NDArray[Any]

FULL_BEND: Final = {"thumb": (25.0, 45.0, 55.0), "finger": (90.0, 100.0, 70.0)}
"""Degrees that the joints of a fist bend. Fingers after the ranges of motion in Norkin & White, "Measurement of Joint
Motion", the end joint stopped by the palm; a thumb that lies across them has its joints half way."""

SMALLEST_FIST: Final = np.radians(60.0)
"""Bend of a whole finger below which it makes no fist and may be open; a thumb lies across with half of it."""

_BENT_JOINT: Final = np.radians(20.0)
"""Bend of a joint from which its share of a fist is no noise."""

_STRAIGHT: Final = np.radians(15.0)
"""Bend of a rig's finger at rest up to which it counts as a straight one."""

_AT_REST: Final = np.radians(0.1)


def calibrate_pose(link: FingerLink, joints: Array, posed: Array) -> FingerCalibration:
    """While captured joints have these turns, the rig's bones have rotations `posed` [n, 4] from rest (own axes)."""
    return FingerCalibration(_rows(joints), _rows(posed), _old(link).ranges)


def is_posed(posed: Array) -> bool:
    """Whether a finger with these rotations [n, 4] from rest was posed at all."""
    return bool(rotations.angle_between(posed, np.array([1.0, 0.0, 0.0, 0.0])).max() > _AT_REST)


def is_straight(link: FingerLink) -> bool:
    """Whether a rig's finger is straight at rest.

    How the thumb lies to the palm differs among rigs that are all made with open hands: only its own joints count.
    """
    bends = bend_about(_flat(link), rotations.rotate(link.above, link.hinges))[1 if link.name == "thumb" else 0 :]
    return bool(np.abs(np.cumsum(bends)).max(initial=0.0) < _STRAIGHT)


def straight_pose(link: FingerLink, *, at_rest: bool) -> Array:
    """Rotations [n, 4] from rest, in the bones' own axes, of a rig's straight finger.

    Args:
        link: the finger.
        at_rest: whether its rest pose is that; else the bends are taken out of it, and only they.
    """
    if at_rest:
        return np.tile([1.0, 0.0, 0.0, 0.0], (len(link.finger.bones), 1))
    axes = rotations.rotate(link.above, link.hinges)
    turn = rotations.from_rotation_vector(bend_about(_flat(link), axes)[:, None] * axes)
    rest = link.finger.rotations
    return rotations.multiply(rotations.multiply(rotations.inverse(rest), turn), rest)


def offset_angle(link: FingerLink) -> float:
    """Largest angle in radians by which a finger's calibrated pose differs from what geometry says."""
    old = _old(link)
    if not old.has_pose:
        return 0.0
    captured = unit_quaternions(old.captured)[None]
    plain = replace(link, finger=replace(link.finger, calibration=None))
    return float(rotations.angle_between(finger_moves(plain, captured), finger_moves(link, captured)).max())


def makes_fist(link: FingerLink, joints: Array) -> bool:
    """Whether captured joints are bent far enough to tell a range."""
    return bool(bend_about(joints, link.hinges).sum() > SMALLEST_FIST * (0.5 if link.name == "thumb" else 1.0))


def is_open(link: FingerLink, joints: Array) -> bool:
    """Whether captured joints are straight enough to be those of an open hand."""
    return bool(bend_about(joints, link.hinges).sum() < SMALLEST_FIST)


def calibrate_fist(link: FingerLink, joints: Array, full: Array) -> FingerCalibration:
    """Choose ranges so that these joints bend the rig's bones as far as `full` [n] says, radians from rest.

    Joints that are hardly bent keep the range they have, because a factor on next to nothing is noise.
    """
    old = _old(link)
    start = bend_about(unit_quaternions(old.captured), link.hinges) if old.has_pose else 0.0
    beyond = bend_about(joints, link.hinges) - start
    missing = full - unscaled_bend(link, joints)
    telling = beyond > _BENT_JOINT
    ranges = np.where(telling, 1.0 + missing / np.where(telling, beyond, 1.0), old.ranges)
    return replace(old, ranges=tuple(float(each) for each in np.clip(ranges, SMALLEST_RANGE, LARGEST_RANGE)))


def unscaled_bend(link: FingerLink, joints: Array) -> Array:
    """Radians [n] from rest by which captured joints bend a rig's bones without ranges."""
    unscaled = replace(_old(link), ranges=(1.0,) * len(link.finger.bones))
    moves = finger_moves(replace(link, finger=replace(link.finger, calibration=unscaled)), joints[None])[0]
    return bend_about(moves, bend_axes(link))


def bend_axes(link: FingerLink) -> Array:
    """Unit axes [n, 3] about which a rig's bones bend towards the palm, in the armature's axes."""
    return rotations.rotate(link.starts, link.hinges)


def bend_of_pose(link: FingerLink, posed: Array) -> Array:
    """Radians [n] from rest by which rotations [n, 4] of a rig's bones (own axes) bend them."""
    rest = link.finger.rotations
    return bend_about(rotations.multiply(rotations.multiply(rest, posed), rotations.inverse(rest)), bend_axes(link))


def anatomical_bend(link: FingerLink) -> Array:
    """Radians [n] from rest by which a rig's bones bend where its hand closes as a human one does."""
    degrees = FULL_BEND["thumb" if link.name == "thumb" else "finger"]
    spans = joint_spans(len(link.finger.bones))
    # The last bone of fewer lies in the middle between the joints it stands for.
    joints = [degrees[first] + sum(degrees[first + 1 : last + 1]) / 2 for first, last in spans]
    return np.radians(joints) + bend_about(_flat(link), bend_axes(link))


def _flat(link: FingerLink) -> Array:
    """Turns [n, 4] in rig axes that bring a rig's finger along that of a flat hand."""
    return rotations.multiply(link.above, rotations.inverse(link.aligned))


def _old(link: FingerLink) -> FingerCalibration:
    return link.finger.calibration or FingerCalibration((), (), (1.0,) * len(link.finger.bones))


def _rows(quaternions: Array) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(float(number) for number in row) for row in quaternions)
