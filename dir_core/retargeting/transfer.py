"""What turns the bones of a rig as a captured hand turns (column vectors, rotations from rest to pose).

A captured bone has turned by D since its rest pose, and A takes its rest pose onto the rig's. Then the rig's bone turns
by D A^-1 where it shall point as the captured one does, and by D where it shall keep the style of its own rest pose.
A bone's key is that turn relative to the turn of the mapped bone above it, in the bone's own rest axes: bones between
that are not mapped stay at rest, and those that are mapped take over what they would have done.

A calibrated finger turns from the pose that the user gave it as far, and about the same axes, as it would have turned
from the pose that geometry gives it: the difference comes before the joint's turn, as another rest pose would.
"""

from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from dir_core import rotations
from dir_core.conventions import JOINT_PARENTS, JOINTS
from dir_core.retargeting.calibration import bend_about, stretch_bends, unit_quaternions
from dir_core.retargeting.rest import Alignment, RestFinger, RestHand, joint_spans

Array = NDArray[Any]

FingerMode = Literal["directions", "angles"]
"""Fingers point where the captured ones point, or every joint bends by the captured angle."""

WristMode = Literal["match", "delta"]
"""The hand points where the captured one points, or turns as it has turned since its rest pose."""

FINGER_MODES: Final[tuple[FingerMode, ...]] = get_args(FingerMode)
WRIST_MODES: Final[tuple[WristMode, ...]] = get_args(WristMode)

CUPPING: Final = ("ring", "pinky")
"""The fingers whose metacarpals bend in a hand that closes; the others are all but fixed."""

NO_HINGES: Final = np.zeros((len(JOINTS), 3))
"""Axes of a hand of which nobody knows how it bends."""


def chain_turns(rotation: Array) -> Array:
    """Turns [T, 16, 4] of all joints since rest for rotations [T, 16, 4] relative to their parents (a Take's)."""
    turns = np.array(rotation, np.float64)
    for joint, parent in enumerate(JOINT_PARENTS):
        if parent >= 0:
            turns[:, joint] = rotations.multiply(turns[:, parent], turns[:, joint])
    return turns


@dataclass(frozen=True, eq=False)
class FingerLink:
    """A rig's finger and the captured one that it follows.

    Attributes:
        name: of FINGERS.
        finger: the rig's, with n bones.
        hand: [4] alignment of the palm.
        aligned: [n, 4] alignment of the bones.
        hinges: [n, 3] axes about which the captured joints bend, positive towards the palm, in the captured rest axes.
        mode: see FingerMode.
    """

    name: str
    finger: RestFinger
    hand: Array
    aligned: Array
    hinges: Array
    mode: FingerMode

    @property
    def starts(self) -> Array:
        """Rotations [n, 4] that take the axes in which the captured joints turn onto the rig's."""
        return self.aligned if self.mode == "angles" else self.above

    @property
    def above(self) -> Array:
        """Alignments [n, 4] of what lies above each bone."""
        return np.concatenate([self.hand[None], self.aligned[:-1]])


def link_finger(name: str, target: RestHand, alignment: Alignment, mode: FingerMode, hinges: Array) -> FingerLink:
    """A finger of a rig's hand with what it needs of the captured hand's hinges [16, 3]."""
    finger, base = target.fingers[name], JOINTS.index(f"{name}1")
    rows = [base + first for first, _ in joint_spans(len(finger.bones))]
    return FingerLink(name, finger, alignment.hand, alignment.fingers[name], hinges[rows], mode)


def finger_keys(
    turns: Array,
    target: RestHand,
    alignment: Alignment,
    mode: FingerMode,
    *,
    hinges: Array = NO_HINGES,
    palm_share: float = 0.0,
) -> dict[str, Array]:
    """Rotations from rest of the rig's finger bones, in the bones' own axes.

    They depend on nothing above the hand: a hand that is not turned itself gets the same.

    Args:
        turns: [T, 16, 4] of the captured joints since rest, in any axes that are the same for all.
        target: the rig's hand.
        alignment: of the captured rest pose, in the same axes as the turns act on.
        mode: see FingerMode.
        hinges: [16, 3] axes about which the captured joints bend, positive towards the palm, in the axes of the
            turns. Without them nothing counts as a bend, for calibrated ranges and the share of the palm.
        palm_share: how much of the bend of ring and little finger their metacarpals take, 0..1. The fingers' own bones
            give it up, so that they are turned as without it.

    Returns:
        Bone name -> [T, 4] unit quaternions, continuous over time.
    """
    keys: dict[str, Array] = {}
    for name, finger in target.fingers.items():
        link = link_finger(name, target, alignment, mode, hinges)
        joints = joint_turns(turns, name, finger)
        moves = finger_moves(link, joints)
        if palm_share > 0.0 and finger.metacarpal is not None and name in CUPPING:
            cup = _cup(link, joints[:, 0], palm_share)
            keys[finger.metacarpal.name] = rotations.make_continuous(_in_own_axes(cup, finger.metacarpal.rotation))
            moves[:, 0] = rotations.multiply(rotations.inverse(cup), moves[:, 0])
        own = rotations.make_continuous(_in_own_axes(moves, finger.rotations))
        keys |= {bone: own[:, row] for row, bone in enumerate(finger.bones)}
    return keys


def joint_turns(turns: Array, name: str, finger: RestFinger) -> Array:
    """Turns [T, n, 4] of the captured joints that a rig's n bones follow, each relative to the one above.

    Args:
        turns: [T, 16, 4] of all captured joints since rest.
        name: of the finger.
        finger: the rig's.
    """
    turned = _finger_turns(turns, name, finger)
    above = np.concatenate([turns[:, :1], turned[:, :-1]], axis=1)
    return rotations.multiply(rotations.inverse(above), turned)


def finger_moves(link: FingerLink, joints: Array) -> Array:
    """Turns [T, n, 4] of a rig's finger bones for `joints` [T, n, 4], each relative to the one above, in rig axes."""
    finger, calibration = link.finger, link.finger.calibration
    if calibration is None:
        return _carried(link.starts, joints, link.aligned)
    moves = _carried(link.starts, stretch_bends(joints, link.hinges, calibration), link.aligned)
    if not calibration.has_pose:
        return moves
    there = _carried(link.starts, unit_quaternions(calibration.captured), link.aligned)
    posed = _carried(finger.rotations, unit_quaternions(calibration.posed), finger.rotations)
    return rotations.multiply(moves, rotations.multiply(rotations.inverse(there), posed))


def wrist_rotation(turns: Array, target: RestHand, alignment: Alignment, mode: WristMode) -> Array:
    """Rotations [T, 4] of the rig's hand bone in the axes in which the captured hand moves.

    Args:
        turns: [T, 4] of the captured wrist since rest, [T, 16, 4] works as well. With "delta" they have to be
            between equal axes: from a rest pose that lies in the axes of the motion.
        target: the rig's hand, its rest pose in the axes of the motion.
        alignment: of the captured rest pose.
        mode: see WristMode.
    """
    turn = turns[:, 0] if turns.ndim == 3 else turns
    if mode == "match":
        turn = rotations.multiply(turn, rotations.inverse(alignment.hand))
    return rotations.multiply(turn, target.rotation)


def key_below(wanted: Array, rest: Array, parent: Array, parent_rest: Array) -> Array:
    """Keys [T, 4] of a bone that shall have the rotations `wanted` [T, 4] while its parent has `parent` [T, 4].

    `rest` and `parent_rest` [4] are their rest rotations; all are in the armature's axes.
    """
    carried = rotations.multiply(rotations.multiply(parent, rotations.inverse(parent_rest)), rest)
    key = rotations.multiply(rotations.inverse(carried), wanted)
    return rotations.make_continuous(key / np.linalg.norm(key, axis=-1, keepdims=True))


def _finger_turns(turns: Array, name: str, finger: RestFinger) -> Array:
    """Turns [T, n, 4] since rest that the n bones of a rig's finger stand for."""
    base = JOINTS.index(f"{name}1")
    parts = []
    for first, last in joint_spans(len(finger.bones)):
        start, end = turns[:, base + first], turns[:, base + last]
        # One bone instead of two or three lies between the first and the last of them.
        parts.append(start if first == last else rotations.slerp(start, end, np.array(0.5)))
    return np.stack(parts, axis=1)


def _cup(link: FingerLink, knuckle: Array, share: float) -> Array:
    """Turns [T, 4] of a metacarpal, in rig axes, that takes a share of a knuckle's bend [T, 4]."""
    bend = np.maximum(bend_about(knuckle, link.hinges[0]), 0.0)
    return rotations.from_rotation_vector(share * bend[:, None] * rotations.rotate(link.hand, link.hinges[0]))


def _in_own_axes(turn: Array, rest: Array) -> Array:
    key = rotations.multiply(rotations.multiply(rotations.inverse(rest), turn), rest)
    return key / np.linalg.norm(key, axis=-1, keepdims=True)


def _carried(start: Array, turn: Array, end: Array) -> Array:
    """The turn between axes that `start` and `end` take the turn's own axes onto."""
    return rotations.multiply(rotations.multiply(start, turn), rotations.inverse(end))
