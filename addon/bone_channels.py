"""Channels that turn a rig's hand as the captured one turns: numbers per bone and channel, nothing is keyed here."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from mathutils import Matrix
from numpy.typing import NDArray

from dir_core import rotations
from dir_core.retargeting import channels, transfer
from dir_core.retargeting.rest import Alignment, RestHand, align

from .bone_poses import rotations_at_rest, rotations_of
from .captured_hands import CapturedHand, Motion
from .loose_bones import carry_loose_bones

Array = NDArray[Any]


@dataclass(frozen=True)
class Transfer:
    """What of a captured hand a rig takes over.

    Attributes:
        wrist: NONE, ROTATION or POSITION.
        fingers: see transfer.FingerMode.
        wrist_mode: see transfer.WristMode.
    """

    wrist: str = "NONE"
    fingers: transfer.FingerMode = "directions"
    wrist_mode: transfer.WristMode = "match"


@dataclass(frozen=True, eq=False)
class HandPair:
    """A rig's hand and the captured hand that it follows.

    Attributes:
        rig: the rig's hand at rest.
        captured: the captured hand.
        alignment: of the captured hand's rest pose with the rig's.
    """

    rig: RestHand
    captured: CapturedHand
    alignment: Alignment


@dataclass(frozen=True)
class HandChannels:
    """A rig's hand over K frames.

    Attributes:
        values: (bone, channel, index) -> [K] values.
        locked: how many channels are locked and left alone.
    """

    values: dict[tuple[str, str, int], Array]
    locked: int


def pair_hands(rig: RestHand, captured: CapturedHand) -> HandPair:
    """Lay a captured hand onto a rig's.

    Raises:
        SettingsError: the rig's hand has too few fingers or bones without length.
    """
    return HandPair(rig, captured, align(captured.keypoints, rig))


def hand_channels(target: Any, pair: HandPair, motion: Motion, wanted: Transfer) -> HandChannels:
    """What the bones of a rig's hand are keyed with.

    Args:
        target: armature object of the rig.
        pair: its hand and the one that it follows.
        motion: of the captured hand, on K frames.
        wanted: what is taken over.
    """
    hand, alignment = pair.rig, pair.alignment
    turns = rotations.multiply(rotations_of(motion.poses), rotations.inverse(pair.captured.rest))
    keys = transfer.finger_keys(turns, hand, alignment, wanted.fingers)
    values: dict[tuple[str, str, int], Array] = {}
    locked = 0
    place = None
    if wanted.wrist != "NONE":
        bone = target.data.bones[hand.wrist]
        posed = _wrist_rotation(hand, alignment, motion, turns[:, 0], wanted.wrist_mode)
        keys[hand.wrist] = _wrist_key(bone, hand, motion, posed)
        if wanted.wrist == "POSITION":
            place = _wrist_location(bone, motion, posed)
            locked += _add_location(values, target.pose.bones[hand.wrist], place)
    for name, (rotation, location) in carry_loose_bones(target, hand, keys, place).items():
        keys[name] = rotation
        locked += _add_location(values, target.pose.bones[name], location)
    for name, rotation in keys.items():
        locked += _add_rotation(values, target.pose.bones[name], rotation)
    return HandChannels(values, locked)


def _wrist_rotation(hand: RestHand, alignment: Alignment, motion: Motion, turn: Array, mode: str) -> Array:
    """Rotations [K, 4] of the rig's wrist in the rig's axes, for captured turns [K, 4] since rest."""
    rig = rotations_of(motion.target)
    seen = rotations.multiply(rotations.multiply(rotations.inverse(rig), rotations_of(motion.world)), turn)
    if mode == "delta":
        return transfer.wrist_rotation(rotations.multiply(seen, rig), hand, alignment, "delta")
    return transfer.wrist_rotation(seen, hand, alignment, "match")


def _wrist_key(bone: Any, hand: RestHand, motion: Motion, wanted: Array) -> Array:
    """Keys [K, 4] of the rig's wrist that give it rotations [K, 4] in the rig's axes."""
    if bone.parent is None or not bone.use_inherit_rotation:
        unmoved = np.array([1.0, 0.0, 0.0, 0.0])
        return transfer.key_below(wanted, hand.rotation, unmoved, unmoved)
    (above,) = rotations_at_rest([bone.parent])
    return transfer.key_below(wanted, hand.rotation, rotations_of(motion.parent), above)


def _wrist_location(bone: Any, motion: Motion, wanted: Array) -> Array:
    """Locations [K, 3] of the rig's wrist that bring it, turned by `wanted` [K, 4], to the captured wrist."""
    place = np.einsum("kij,kj->ki", motion.world, motion.poses[:, 0, :, 3])
    poses = np.tile(np.eye(4), (len(place), 1, 1))
    poses[:, :3, :3] = rotations.to_matrix(wanted)
    poses[:, :3, 3] = np.linalg.solve(motion.target, place[..., None])[:, :3, 0]
    # Blender knows what a bone inherits, and in which axes it is moved.
    location = np.empty((len(poses), 3))
    for row, (pose, parent) in enumerate(zip(poses.tolist(), motion.parent.tolist(), strict=True)):
        above = (
            {"parent_matrix": Matrix(parent), "parent_matrix_local": bone.parent.matrix_local} if bone.parent else {}
        )
        location[row] = bone.convert_local_to_pose(Matrix(pose), bone.matrix_local, invert=True, **above).translation
    return location


def _add_rotation(values: dict[tuple[str, str, int], Array], bone: Any, rotation: Array) -> int:
    """Add a bone's rotations [K, 4] as the channels that it has; returns how many are locked and left alone."""
    axes, mode = tuple(bone.lock_rotation), bone.rotation_mode
    if mode in channels.EULER_ORDERS:
        return _add_channels(values, bone, "rotation_euler", channels.to_euler(rotation, mode), axes)
    path = "rotation_quaternion" if mode == "QUATERNION" else "rotation_axis_angle"
    if not bone.lock_rotations_4d:  # the locks are those of angles
        rotation = channels.without_locked(rotation, axes)
    # On the side of the rest pose: the NLA mixes quaternions number by number.
    rotation = rotations.make_continuous(rotation) * (-1.0 if rotation[0, 0] < 0.0 else 1.0)
    numbers = rotation if mode == "QUATERNION" else channels.to_axis_angle(rotation)
    if not bone.lock_rotations_4d:
        return _add_channels(values, bone, path, numbers, (False,) * 4) + sum(axes)
    return _add_channels(values, bone, path, numbers, (bone.lock_rotation_w, *axes))


def _add_location(values: dict[tuple[str, str, int], Array], bone: Any, place: Array) -> int:
    return _add_channels(values, bone, "location", place, tuple(bone.lock_location))


def _add_channels(
    values: dict[tuple[str, str, int], Array], bone: Any, path: str, numbers: Array, locked: Sequence[bool]
) -> int:
    values |= {(bone.name, path, index): numbers[:, index] for index, lock in enumerate(locked) if not lock}
    return sum(locked)
