"""Hands whose bones do not carry each other, such as WebXR's: every joint lies beside the others and is moved itself.

Whether a bone is carried is seen from its parent alone: it is loose if it has none, or the same as the joint above it
in the hand. Whatever else carries a joint, such as the mechanism of a control rig, is left to do so.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dir_core import rotations
from dir_core.retargeting.rest import RestHand

from .bone_poses import rotations_of

Array = NDArray[Any]

_REACH: Final = 1.5  # a finger's end is no farther away than this many times its last bone but one is long
_AHEAD: Final = np.cos(np.radians(45.0))  # and within this angle of straight on
_PALM: Final = 0.5  # loose bones that go with the hand begin within this share of the palm's length from a mapped one


def is_loose(bone: Any, above: Any) -> bool:
    """Whether a bone of an armature's data does not follow the joint above it in its hand."""
    return bone.parent is None or bone.parent == above.parent


def loose_end(bone: Any, above: Any) -> Any:
    """The bone that a finger's last bone would carry if it carried any, or None.

    Args:
        bone: the last one, of an armature's data.
        above: the one before.
    """
    if not is_loose(bone, above):
        return None
    ahead = bone.head_local - above.head_local
    reach = _REACH * ahead.length

    def lies_ahead(other: Any) -> bool:
        way = other.head_local - bone.head_local
        return 0.0 < way.length < reach and way.dot(ahead) > _AHEAD * way.length * ahead.length

    beside = [other for other in bone.id_data.bones if other.parent == bone.parent and lies_ahead(other)]
    return min(beside, key=lambda other: (other.head_local - bone.head_local).length, default=None)


def carry_loose_bones(
    target: Any, hand: RestHand, keys: Mapping[str, Array], place: Array | None
) -> dict[str, tuple[Array, Array]]:
    """What a hand's loose bones are keyed with so that they move as if the hand carried them.

    Args:
        target: armature object of the rig.
        hand: its hand at rest.
        keys: bone -> [K, 4] rotations from rest, each relative to the joint above it in the hand.
        place: [K, 3] location of the wrist's bone in its own axes, or None where it is not moved.

    Returns:
        Bone -> rotations [K, 4] and locations [K, 3] in its own axes, of the loose bones only.
    """
    bones = target.data.bones
    tree = dict(_joints_above(hand))
    free = [name for name in tree if not target.pose.bones[name].constraints]
    loose = [name for name in free if is_loose(bones[name], bones[tree[name]])]
    if not loose:
        return {}
    if any(bones[name].parent == bones[hand.wrist].parent for name in loose):
        followers = dict(_followers(target, hand))
        tree |= followers
        loose += followers
    rests = {name: np.array(bones[name].matrix_local, np.float64) for name in (hand.wrist, *tree)}
    count = max(len(key) for key in keys.values())
    basis = _basis(keys[hand.wrist] if hand.wrist in keys else np.tile([1.0, 0.0, 0.0, 0.0], (count, 1)), place)
    poses = {hand.wrist: _after(rests[hand.wrist], basis)}
    for name, above in tree.items():
        poses[name] = _before(poses[above], np.linalg.solve(rests[above], rests[name]))
        if name in keys:
            poses[name] = poses[name] @ _basis(keys[name], None)

    found = {}
    for name in loose:
        carrier = next((bone.name for bone in bones[name].parent_recursive if bone.name in poses), None)
        if carrier is None:
            basis = _after(np.linalg.inv(rests[name]), poses[name])
        else:
            relative = np.linalg.solve(poses[carrier], poses[name])
            basis = _after(np.linalg.solve(rests[name], rests[carrier]), relative)
        found[name] = (rotations.make_continuous(rotations_of(basis)), basis[:, :3, 3])
    return found


def _joints_above(hand: RestHand) -> Iterator[tuple[str, str]]:
    """The mapped bones of the fingers, each with the joint above it, from the palm on."""
    for finger in hand.fingers.values():
        above = hand.wrist
        if finger.metacarpal is not None:
            yield finger.metacarpal.name, above
            above = finger.metacarpal.name
        for name in finger.bones:
            yield name, above
            above = name


def _followers(target: Any, hand: RestHand) -> Iterator[tuple[str, str]]:
    """Loose bones that are not mapped and go with the hand: the ends of fingers, and what lies in the palm."""
    bones = target.data.bones
    mapped = [hand.wrist, *(name for name, _ in _joints_above(hand))]
    ends = {}
    for finger in hand.fingers.values():
        above, last = (hand.wrist, *finger.bones)[-2:]
        end = loose_end(bones[last], bones[above])
        if end is not None and end.name not in mapped:
            ends[end.name] = last
    yield from ends.items()
    knuckles = [np.array(finger.places[0]) for finger in hand.fingers.values()]
    near = _PALM * max(np.linalg.norm(knuckle - hand.place) for knuckle in knuckles)
    heads = np.array([bones[name].head_local for name in mapped])
    beside = (bone for bone in bones if bone.parent == bones[hand.wrist].parent)
    for bone in beside:
        distance = np.linalg.norm(heads - np.array(bone.head_local), axis=1).min()
        if bone.name not in mapped and bone.name not in ends and distance < near:
            yield bone.name, hand.wrist


def _basis(rotation: Array, place: Array | None) -> Array:
    """Transforms [K, 4, 4] of keys in a bone's own axes."""
    basis = np.tile(np.eye(4), (len(rotation), 1, 1))
    basis[:, :3, :3] = rotations.to_matrix(rotation)
    if place is not None:
        basis[:, :3, 3] = place
    return basis


def _before(transforms: Array, last: Array) -> Array:
    """Transforms [K, 4, 4] times one [4, 4], as one product of two large matrices: many small ones are slow."""
    return (transforms.reshape(-1, 4) @ last).reshape(-1, 4, 4)


def _after(first: Array, transforms: Array) -> Array:
    """One transform [4, 4] times [K, 4, 4]."""
    return _before(transforms.transpose(0, 2, 1), first.T).transpose(0, 2, 1)
