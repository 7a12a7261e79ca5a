"""Channels that turn a rig's hand as the captured one turns: numbers per bone and channel, nothing is keyed here."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dir_core import rotations
from dir_core.retargeting import channels, transfer
from dir_core.retargeting.mirror import mirror_transforms
from dir_core.retargeting.rest import Alignment, RestHand, align

from .bone_limits import fit_rotation, unlocked_angles
from .bone_poses import rotations_of
from .captured_hands import CapturedHand, Motion
from .loose_bones import carry_loose_bones
from .stand_in import OBJECT, RigMotion
from .wrist_targets import PLAIN, Into, WristGoal, wrist_channels

Array = NDArray[Any]

_MIDDLE: Final = 9  # key point of the middle finger's knuckle


@dataclass(frozen=True)
class Transfer:
    """What of a captured hand a rig takes over.

    Attributes:
        wrist: NONE, ROTATION or POSITION.
        into: what is moved so that the wrist gets its position.
        place: SCENE for the wrist's place in the scene; FIRST for the way from where the rig has it on the first frame.
        fit: with FIRST, whether that way grows with the rig's hand.
        fingers: see transfer.FingerMode.
        wrist_mode: see transfer.WristMode.
        palm_share: how much of the bend of ring and little finger their metacarpals take, 0..1.
        ik_limits: whether limits that the rig has for IK hold its fingers, too.
    """

    wrist: str = "NONE"
    fingers: transfer.FingerMode = "directions"
    wrist_mode: transfer.WristMode = "match"
    palm_share: float = 0.0
    ik_limits: bool = True
    into: Into = "AUTO"
    place: str = "SCENE"
    fit: bool = True


@dataclass(frozen=True, eq=False)
class Anchor:
    """Where both wrists are on the first frame, in the rig's axes.

    Attributes:
        world: [4, 4] of the rig then.
        rig: [3] the rig's wrist.
        captured: [3] the captured wrist.
        growth: the rig's way for one of the captured hand's.
    """

    world: Array
    rig: Array
    captured: Array
    growth: float


@dataclass(frozen=True, eq=False)
class HandPair:
    """A rig's hand and the captured hand that it follows.

    Attributes:
        rig: the rig's hand at rest.
        captured: the captured hand.
        alignment: of the captured hand's rest pose with the rig's.
        goal: where the motion of the wrist is written.
        anchor: from where the wrist moves; None where its place in the scene counts.
    """

    rig: RestHand
    captured: CapturedHand
    alignment: Alignment
    goal: WristGoal = PLAIN
    anchor: Anchor | None = None


@dataclass(frozen=True)
class HandChannels:
    """A rig's hand over K frames.

    Attributes:
        values: (bone, channel, index) -> [K] values.
        locked: how many channels are locked and left alone.
        held: bone -> [K] degrees by which limits of the rig held it, of the bones that they held at all.
    """

    values: dict[tuple[str, str, int], Array]
    locked: int
    held: dict[str, Array]


def pair_hands(rig: RestHand, captured: CapturedHand) -> HandPair:
    """Lay a captured hand onto a rig's.

    Raises:
        SettingsError: the rig's hand has too few fingers or bones without length.
    """
    return HandPair(rig, captured, align(captured.keypoints, rig))


def hand_channels(
    target: Any, pair: HandPair, motion: Motion, wanted: Transfer, rig: RigMotion | None = None
) -> HandChannels:
    """What the bones of a rig's hand are keyed with.

    Args:
        target: armature object of the rig.
        pair: its hand and the one that it follows.
        motion: of the captured hand, on K frames.
        wanted: what is taken over.
        rig: what the rig does; needed where the goal of the wrist is not plain.
    """
    hand, alignment = pair.rig, pair.alignment
    turns = rotations.multiply(rotations_of(motion.poses), rotations.inverse(pair.captured.rest))
    hinges = bend_axes(pair.captured)
    keys = transfer.finger_keys(turns, hand, alignment, wanted.fingers, hinges=hinges, palm_share=wanted.palm_share)
    fingers = set(keys)
    values: dict[tuple[str, str, int], Array] = {}
    locked = 0
    place = None
    if wanted.wrist != "NONE":
        poses = wrist_poses(pair, motion, turns[:, 0], wanted)
        wrist = wrist_channels(target, hand.wrist, pair.goal, poses, rig or _plain_motion(target, hand.wrist, motion))
        keys |= wrist.rotations
        values |= wrist.constants
        place = wrist.places.get(hand.wrist)
        for name, location in wrist.places.items():
            locked += _add_location(values, target.pose.bones[name] if name else target, location)
    for name, (rotation, location) in carry_loose_bones(target, hand, keys, place).items():
        keys[name] = rotation
        locked += _add_location(values, target.pose.bones[name], location)
    held = {}
    for name, rotation in keys.items():
        bone = target.pose.bones[name]
        fitted, cut = fit_rotation(bone, rotation, with_ik=wanted.ik_limits and name in fingers)
        locked += _add_rotation(values, bone, fitted)
        if cut.any():
            held[name] = cut
    return HandChannels(values, locked, held)


def bend_axes(captured: CapturedHand) -> Array:
    """Axes [16, 3] about which the joints of a captured hand bend, in its rest axes."""
    return rotations.rotate(captured.rest, np.array([1.0, 0.0, 0.0]))


def wrist_poses(pair: HandPair, motion: Motion, turn: Array, wanted: Transfer) -> Array:
    """Poses [K, 4, 4] of the rig's wrist in the rig's axes, for captured turns [K, 4] since rest."""
    poses = np.tile(np.eye(4), (len(turn), 1, 1))
    poses[:, :3, :3] = rotations.to_matrix(_wrist_rotation(pair.rig, pair.alignment, motion, turn, wanted.wrist_mode))
    if wanted.wrist == "POSITION":
        poses[:, :3, 3] = wrist_places(pair, motion)
    return poses


def wrist_places(pair: HandPair, motion: Motion) -> Array:
    """Places [K, 3] of the rig's wrist in the rig's axes."""
    seen = np.einsum("kij,kj->ki", motion.world, motion.poses[:, 0, :, 3])[:, :3]
    anchor = pair.anchor
    if anchor is None:
        return _in_axes(motion.target, seen)
    return anchor.rig + anchor.growth * (_in_axes(anchor.world, seen) - anchor.captured)


def on_rig(motion: Motion, hand: CapturedHand, rig: RigMotion) -> Motion:
    """A captured motion as seen from a rig that was read by itself."""
    world = mirror_transforms(rig.world) if hand.mirrored else rig.world
    return replace(motion, target=world)


def find_anchor(pair: HandPair, motion: Motion, place: Array, *, fit: bool) -> Anchor:
    """Where both wrists are on the first frame of a motion.

    Args:
        pair: both hands.
        motion: of the captured hand.
        place: [3] of the rig's own wrist then, in the rig's axes.
        fit: whether the way grows with the rig's hand.
    """
    world = motion.target[0]
    captured = _in_axes(world, (motion.world[0] @ motion.poses[0, 0, :, 3])[:3])
    growth = 1.0
    if fit:
        keypoints = pair.captured.keypoints
        captured_size = float(np.linalg.norm(keypoints[_MIDDLE] - keypoints[0])) * _scale(motion.world[0])
        growth = _palm_length(pair.rig) * _scale(world) / captured_size
    return Anchor(world, place, captured, growth)


def _palm_length(hand: RestHand) -> float:
    finger = hand.fingers.get("middle", next(iter(hand.fingers.values())))
    return float(np.linalg.norm(finger.places[0] - hand.place))


def _scale(world: Array) -> float:
    return float(np.cbrt(np.abs(np.linalg.det(world[:3, :3]))))


def _wrist_rotation(hand: RestHand, alignment: Alignment, motion: Motion, turn: Array, mode: str) -> Array:
    """Rotations [K, 4] of the rig's wrist in the rig's axes, for captured turns [K, 4] since rest."""
    rig = rotations_of(motion.target)
    seen = rotations.multiply(rotations.multiply(rotations.inverse(rig), rotations_of(motion.world)), turn)
    if mode == "delta":
        return transfer.wrist_rotation(rotations.multiply(seen, rig), hand, alignment, "delta")
    return transfer.wrist_rotation(seen, hand, alignment, "match")


def _in_axes(world: Array, places: Array) -> Array:
    """Places [K, 3] of the scene in the axes of an object with the matrix [4, 4] or [K, 4, 4]."""
    turned = np.linalg.inv(world)
    return np.asarray(np.einsum("...ij,...j->...i", turned[..., :3, :3], places) + turned[..., :3, 3])


def _plain_motion(target: Any, wrist: str, motion: Motion) -> RigMotion:
    """What the motion says of the rig: enough for a hand that is keyed itself."""
    above = target.pose.bones[wrist].parent
    return RigMotion(motion.target, {above.name: motion.parent} if above else {}, {})


def _add_rotation(values: dict[tuple[str, str, int], Array], bone: Any, rotation: Array) -> int:
    """Add a bone's rotations [K, 4] as the channels that it has; returns how many are locked and left alone."""
    axes, mode = tuple(bone.lock_rotation), bone.rotation_mode
    if mode in channels.EULER_ORDERS:
        return _add_channels(values, bone, "rotation_euler", unlocked_angles(bone, rotation), axes)
    path = "rotation_quaternion" if mode == "QUATERNION" else "rotation_axis_angle"
    # On the side of the rest pose: the NLA mixes quaternions number by number.
    rotation = rotations.make_continuous(rotation) * (-1.0 if rotation[0, 0] < 0.0 else 1.0)
    numbers = rotation if mode == "QUATERNION" else channels.to_axis_angle(rotation)
    if not bone.lock_rotations_4d:
        return _add_channels(values, bone, path, numbers, (False,) * 4) + sum(axes)
    return _add_channels(values, bone, path, numbers, (bone.lock_rotation_w, *axes))


def _add_location(values: dict[tuple[str, str, int], Array], owner: Any, place: Array) -> int:
    """Add the places [K, 3] of a bone or of the armature object."""
    return _add_channels(values, owner, "location", place, tuple(owner.lock_location))


def _add_channels(
    values: dict[tuple[str, str, int], Array], owner: Any, path: str, numbers: Array, locked: Sequence[bool]
) -> int:
    bone = owner.name if hasattr(owner, "bone") else OBJECT
    values |= {(bone, path, index): numbers[:, index] for index, lock in enumerate(locked) if not lock}
    return sum(locked)
