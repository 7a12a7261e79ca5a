"""What turns the bones of a rig as a captured hand turns (column vectors, rotations from rest to pose).

A captured bone has turned by D since its rest pose, and A takes its rest pose onto the rig's. Then the rig's bone turns
by D A^-1 where it shall point as the captured one does, and by D where it shall keep the style of its own rest pose.
A bone's key is that turn relative to the turn of the mapped bone above it, in the bone's own rest axes: bones between
that are not mapped stay at rest, and those that are mapped take over what they would have done.
"""

from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from dir_core import rotations
from dir_core.conventions import FINGERS, JOINT_PARENTS, JOINTS
from dir_core.retargeting.rest import Alignment, RestFinger, RestHand, joint_spans

Array = NDArray[Any]

FingerMode = Literal["directions", "angles"]
"""Fingers point where the captured ones point, or every joint bends by the captured angle."""

WristMode = Literal["match", "delta"]
"""The hand points where the captured one points, or turns as it has turned since its rest pose."""

FINGER_MODES: Final[tuple[FingerMode, ...]] = get_args(FingerMode)
WRIST_MODES: Final[tuple[WristMode, ...]] = get_args(WristMode)


def chain_turns(rotation: Array) -> Array:
    """Turns [T, 16, 4] of all joints since rest for rotations [T, 16, 4] relative to their parents (a Take's)."""
    turns = np.array(rotation, np.float64)
    for joint, parent in enumerate(JOINT_PARENTS):
        if parent >= 0:
            turns[:, joint] = rotations.multiply(turns[:, parent], turns[:, joint])
    return turns


def finger_keys(turns: Array, target: RestHand, alignment: Alignment, mode: FingerMode) -> dict[str, Array]:
    """Rotations from rest of the rig's finger bones, in the bones' own axes.

    They depend on nothing above the hand: a hand that is not turned itself gets the same.

    Args:
        turns: [T, 16, 4] of the captured joints since rest, in any axes that are the same for all.
        target: the rig's hand.
        alignment: of the captured rest pose, in the same axes as the turns act on.
        mode: see FingerMode.

    Returns:
        Bone name -> [T, 4] unit quaternions, continuous over time.
    """
    wrist = turns[:, 0]
    keys = {}
    for name in FINGERS:
        if name not in target.fingers:
            continue
        finger, aligned = target.fingers[name], alignment.fingers[name]
        turned = _finger_turns(turns, name, finger)
        above, above_aligned = wrist, alignment.hand
        for row, bone in enumerate(finger.bones):
            local = rotations.multiply(rotations.inverse(above), turned[:, row])
            start = aligned[row] if mode == "angles" else above_aligned
            turn = rotations.multiply(rotations.multiply(start, local), rotations.inverse(aligned[row]))
            keys[bone] = rotations.make_continuous(_in_own_axes(turn, finger.rotations[row]))
            above, above_aligned = turned[:, row], aligned[row]
    return keys


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


def _in_own_axes(turn: Array, rest: Array) -> Array:
    key = rotations.multiply(rotations.multiply(rotations.inverse(rest), turn), rest)
    return key / np.linalg.norm(key, axis=-1, keepdims=True)
