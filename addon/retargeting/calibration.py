"""Calibrates a rig's fingers on the current frame: by a pose of the rig, an open palm or a fist of the performer.

What is found is returned, nothing is changed here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from dir_core import rotations
from dir_core.conventions import Side
from dir_core.errors import SettingsError
from dir_core.retargeting import calibrate, transfer
from dir_core.retargeting.calibration import FingerCalibration
from dir_core.retargeting.limits import full_bend

from .bone_channels import HandPair, bend_axes
from .bone_limits import fit_rotation, limits_of
from .bone_poses import rotations_of
from .captured_hands import motion_now
from .loose_bones import is_loose
from .retarget import Wanted

Array = NDArray[Any]
Way = Literal["pose", "palm", "fist"]

_MOVED: Final = np.radians(0.2)
"""Angle from which on a finger counts as posed otherwise than the captured hand poses it."""


@dataclass(frozen=True)
class Finger:
    """A finger of a rig on one frame.

    Attributes:
        link: the finger and the captured one.
        turns: [1, 16, 4] of the captured joints since rest.
        joints: [n, 4] of those that its bones follow.
        pair: both hands.
    """

    link: transfer.FingerLink
    turns: Array
    joints: Array
    pair: HandPair


@dataclass(frozen=True)
class Calibrated:
    """What was found for a finger: its bones, its calibration, the angle of its pose's offset in radians."""

    bones: tuple[str, ...]
    calibration: FingerCalibration
    offset: float


def calibrate_fingers(
    target: Any, pairs: Mapping[Side, HandPair], wanted: Wanted, way: Way, graph: Any
) -> dict[tuple[Side, str], Calibrated]:
    """Calibrate the fingers that say something on the frame that is evaluated; the others are left out.

    Args:
        target: armature object of the rig.
        pairs: its hands and the captured ones.
        wanted: what is taken over.
        way: a pose that the user has given the rig's fingers, an open palm of the performer, or a fist.
        graph: evaluated dependency graph of the scene.

    Raises:
        SettingsError: no finger says anything; the message says what to do.
    """
    fingers = {
        (side, name): finger
        for side, pair in pairs.items()
        for name, finger in _read_fingers(target, pair, wanted, graph).items()
    }
    if not fingers:
        raise SettingsError("The captured hands are hidden on this frame, go to one on which they are seen.")
    found = {}
    for key, finger in fingers.items():
        made = _WAYS[way](target, finger, wanted)
        if made is not None:
            offset = calibrate.offset_angle(_with(finger.link, made))
            found[key] = Calibrated(finger.link.finger.bones, made, offset)
    if not found:
        raise SettingsError(_NOTHING[way].format(rig=target.name))
    return found


def _read_fingers(target: Any, pair: HandPair, wanted: Wanted, graph: Any) -> dict[str, Finger]:
    motion = motion_now(target, pair.captured, pair.rig.wrist, graph)
    if motion is None:
        return {}
    turns = rotations.multiply(rotations_of(motion.poses), rotations.inverse(pair.captured.rest))
    return {
        name: Finger(_link(pair, name, wanted.fingers), turns, transfer.joint_turns(turns, name, rest)[0], pair)
        for name, rest in pair.rig.fingers.items()
    }


def _link(pair: HandPair, name: str, mode: transfer.FingerMode) -> transfer.FingerLink:
    return transfer.link_finger(name, pair.rig, pair.alignment, mode, bend_axes(pair.captured))


def _match_pose(target: Any, finger: Finger, wanted: Wanted) -> FingerCalibration | None:
    posed = _posed(target, finger, wanted)
    if not _is_by_user(target, finger, posed, wanted):
        return None
    return calibrate.calibrate_pose(finger.link, finger.joints, posed)


def _open_palm(_target: Any, finger: Finger, _wanted: Wanted) -> FingerCalibration | None:
    if not calibrate.is_open(finger.link, finger.joints):
        return None
    # Fingers that are straight at rest are bent a little in a hand that is relaxed: together they were modelled.
    names = {"thumb"} if finger.link.name == "thumb" else finger.pair.rig.fingers.keys() - {"thumb"}
    at_rest = all(map(calibrate.is_straight, (_link(finger.pair, name, finger.link.mode) for name in names)))
    return calibrate.calibrate_pose(finger.link, finger.joints, calibrate.straight_pose(finger.link, at_rest=at_rest))


def _fist(target: Any, finger: Finger, wanted: Wanted) -> FingerCalibration | None:
    link = finger.link
    if not calibrate.makes_fist(link, finger.joints):
        return None
    return calibrate.calibrate_fist(link, finger.joints, _full_bends(target, finger, wanted))


_WAYS: Final[dict[Way, Callable[[Any, Finger, Wanted], FingerCalibration | None]]] = {
    "pose": _match_pose,
    "palm": _open_palm,
    "fist": _fist,
}
_NOTHING: Final[dict[Way, str]] = {
    "pose": "No finger of {rig} is posed, pose them like the captured ones on this frame first.",
    "palm": "No captured hand is open on this frame, go to one on which the performer holds it flat.",
    "fist": "No captured finger is bent on this frame, go to one on which the performer makes a fist.",
}


def _full_bends(target: Any, finger: Finger, wanted: Wanted) -> Array:
    """Radians [n] from rest to which a fist bends each bone: to its limit, else as posed, else as a human hand does."""
    link = finger.link
    posed = _posed(target, finger, wanted)
    if _is_by_user(target, finger, posed, wanted):
        full = calibrate.bend_of_pose(link, posed)
    else:  # a hand that closes farther than most is believed
        full = np.maximum(calibrate.anatomical_bend(link), calibrate.unscaled_bend(link, finger.joints))
    axes = rotations.rotate(rotations.inverse(link.finger.rotations), calibrate.bend_axes(link))
    for row, name in enumerate(link.finger.bones):
        limit = full_bend(limits_of(target.pose.bones[name], with_ik=wanted.ik_limits), axes[row])
        if limit is not None:
            full[row] = limit
    return full


def _posed(target: Any, finger: Finger, wanted: Wanted) -> Array:
    """Rotations [n, 4] of a rig's finger bones from rest, each relative to the joint above it, in their own axes."""
    rest, pair = finger.link.finger, finger.pair
    bones = [target.pose.bones[name] for name in rest.bones]
    above = [target.pose.bones[name] for name in (pair.rig.wrist, *rest.bones[:-1])]
    loose = [is_loose(bone.bone, upper.bone) for bone, upper in zip(bones, above, strict=True)]
    own = [
        _seen_from(bone, upper) if lies_beside else bone.matrix_basis
        for bone, upper, lies_beside in zip(bones, above, loose, strict=True)
    ]
    posed = rotations_of(np.array(own, np.float64))
    palm = rest.metacarpal
    if palm is not None and wanted.palm_share > 0.0 and not loose[0]:
        basis = np.array(target.pose.bones[palm.name].matrix_basis, np.float64)
        posed[0] = _seen_from_hand(posed[0], rotations_of(basis), rest.rotations[0], palm.rotation)
    return posed


def _seen_from_hand(first: Array, palm: Array, first_rest: Array, palm_rest: Array) -> Array:
    """Rotation [4] of a finger's first bone with that of the bone in the palm, which takes a share of its bend."""
    change = rotations.multiply(rotations.inverse(first_rest), palm_rest)
    carried = rotations.multiply(rotations.multiply(change, palm), rotations.inverse(change))
    return rotations.multiply(carried, first)


def _is_by_user(target: Any, finger: Finger, posed: Array, wanted: Wanted) -> bool:
    """Whether a finger is posed neither as at rest nor as the captured hand poses it."""
    shown = _shown(target, finger, wanted)
    return calibrate.is_posed(posed) and bool(rotations.angle_between(posed, shown).max() > _MOVED)


def _seen_from(bone: Any, above: Any) -> Any:
    """What a bone has been turned by since rest, as if `above` carried it; a matrix in its own axes."""
    carried = above.matrix @ above.bone.matrix_local.inverted() @ bone.bone.matrix_local
    return carried.inverted() @ bone.matrix


def _shown(target: Any, finger: Finger, wanted: Wanted) -> Array:
    """The same rotations [n, 4] as the captured hand gives them now, inside of the rig's limits."""
    pair, rest = finger.pair, finger.link.finger
    hinges, share = bend_axes(pair.captured), wanted.palm_share
    keys = transfer.finger_keys(finger.turns, pair.rig, pair.alignment, wanted.fingers, hinges=hinges, palm_share=share)
    shown = np.array(
        [fit_rotation(target.pose.bones[name], keys[name], with_ik=wanted.ik_limits)[0][0] for name in rest.bones]
    )
    palm = rest.metacarpal
    if palm is not None and palm.name in keys:
        shown[0] = _seen_from_hand(shown[0], keys[palm.name][0], rest.rotations[0], palm.rotation)
    return shown


def _with(link: transfer.FingerLink, calibration: FingerCalibration) -> transfer.FingerLink:
    return replace(link, finger=replace(link.finger, calibration=calibration))
