"""The captured hands on an animator's own rig: sampled from the hand armatures, keyed on a layer of their own.

The motion is what the hand armatures show, corrections included. It is keyed on the mapped bones, in the layer that
rig_layer keeps on the rig.
"""

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import bpy
import numpy as np
from mathutils import Matrix
from numpy.typing import NDArray

from dir_core import rotations
from dir_core.conventions import FINGERS, JOINTS, SIDES, Side
from dir_core.errors import SettingsError
from dir_core.retargeting import channels, rest, transfer
from dir_core.retargeting.detection import Detection, detect_hands
from dir_core.retargeting.rest import LONGEST_CHAIN, RestFinger, RestHand
from dir_core.retargeting.rig_map import HandMap, RigMap, known_rig_maps, load_rig_map
from dir_core.retargeting.skeleton import Bone

from . import hand_rig, keying, layers, log, rig_layer
from .properties import listen_to_target

Array = NDArray[Any]

_USERS: Final = 100  # preference of the user's own rig maps
_WRIST: Final = "wrist"
_SAMPLED: Final = "Two-Hand Sampling"  # name of the scene that exists while motion is read

_STRAIGHT: Final = np.cos(np.radians(45.0))
"""Cosine up to which the end of a finger's last bone is believed: rigs from game engines have tails that lie across."""


@dataclass(frozen=True)
class Wanted:
    """What to key.

    Attributes:
        sides: the hands.
        wrist: NONE, ROTATION or POSITION.
        fingers: see transfer.FingerMode.
        wrist_mode: see transfer.WristMode.
        span: first and last scene frame; None is all that the hand armatures have keys for.
        weight: of the hands over what lies below them, 0..1.
        fade: frames over which they come in and go out.
    """

    sides: tuple[Side, ...] = SIDES
    wrist: str = "NONE"
    fingers: transfer.FingerMode = "directions"
    wrist_mode: transfer.WristMode = "match"
    span: tuple[int, int] | None = None
    weight: float = 1.0
    fade: int = 0


@dataclass(frozen=True)
class Retargeted:
    """What was keyed, in numbers.

    Attributes:
        frames: keyed scene frames.
        bones: keyed bones.
        notes: sentences the user should read.
    """

    frames: int
    bones: int
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Source:
    """The captured hand on one side: its armature, and its key points [21, 3] at rest in the armature's axes."""

    armature: Any
    rest: Array
    keypoints: Array


@dataclass(frozen=True, eq=False)
class _Motion:
    """What was read on K frames.

    Attributes:
        poses: [K, 16, 4, 4] of the captured bones in their armature's axes, in the order of JOINTS.
        world: [K, 4, 4] of the captured armature.
        target: [K, 4, 4] of the rig.
        parent: [K, 4, 4] of the bone above the rig's wrist, in the rig's axes.
    """

    poses: Array
    world: Array
    target: Array
    parent: Array


# The map


def detect(target: Any) -> Detection:
    """Find the hands of an armature object, with the maps that the user saved before those of the project.

    Raises:
        SettingsError: a rig map of the installation is damaged.
    """
    return detect_hands(rig_bones(target), (*_user_maps(), *known_rig_maps()))


def rig_bones(target: Any) -> list[Bone]:
    """The bones of an armature object at rest, as detection reads them."""
    return [
        Bone(bone.name, bone.parent.name if bone.parent else "", np.array(bone.head_local))
        for bone in target.data.bones
    ]


def user_map_folder() -> Path:
    """Where rig maps of the user's own are looked for."""
    return log.user_folder("rig_maps")


def show_map(settings: Any, rig_map: RigMap) -> None:
    """Write a rig map into the list of the panel: every joint has a row, also where the rig has no bone for it."""
    settings.rig_name, settings.note = rig_map.name, rig_map.note
    settings.bones.clear()
    for side in SIDES:
        hand = rig_map.hands.get(side, HandMap("", {}))
        for joint in (_WRIST, *(f"{finger}{rank}" for finger in FINGERS for rank in range(1, LONGEST_CHAIN + 1))):
            row = settings.bones.add()
            row.side, row.joint = side, joint
            row.name = (
                f"{side.title()} {joint.title()}"
                if joint == _WRIST
                else f"{side.title()} {joint[:-1].title()} {joint[-1]}"
            )
            row.bone = _bone_of(hand, joint)


def read_map(settings: Any) -> RigMap:
    """The rig map that the list of the panel shows, with the user's corrections.

    Raises:
        SettingsError: a bone is named twice.
    """
    hands = {}
    for side in SIDES:
        rows = {row.joint: row.bone for row in settings.bones if row.side == side and row.bone}
        chains = {
            finger: tuple(rows[joint] for rank in range(1, LONGEST_CHAIN + 1) if (joint := f"{finger}{rank}") in rows)
            for finger in FINGERS
        }
        hand = HandMap(rows.get(_WRIST, ""), {finger: chain for finger, chain in chains.items() if chain})
        if hand.bones:
            hands[side] = hand
    names = [bone for hand in hands.values() for bone in hand.bones]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise SettingsError(f"The bone {twice} is in the list twice, give each joint its own bone.")
    return RigMap(settings.rig_name, hands, settings.note)


def rest_hand(target: Any, hand: HandMap) -> RestHand:
    """The mapped bones of an armature object at rest, in its axes.

    Raises:
        SettingsError: the wrist is not mapped, or the rig does not have a bone of the map.
    """
    if not hand.wrist:
        bone = hand.bones[0]
        raise SettingsError(f"The hand with the bone {bone} has no wrist in the list, choose the bone it hangs on.")
    missing = [name for name in hand.bones if name not in target.data.bones]
    if missing:
        raise SettingsError(f"{target.name} has no bone {missing[0]}, correct the list or detect the bones again.")
    fingers = {}
    for finger, names in hand.fingers.items():
        bones = [target.data.bones[name] for name in names]
        places = np.array([*(bone.head_local for bone in bones), _end(bones)], np.float64)
        fingers[finger] = RestFinger(names, places, _rotations_at_rest(bones))
    wrist = target.data.bones[hand.wrist]
    return RestHand(hand.wrist, np.array(wrist.head_local, np.float64), _rotations_at_rest([wrist])[0], fingers)


def _user_maps() -> list[RigMap]:
    maps = []
    for path in sorted(user_map_folder().glob("*.json")):
        try:
            maps.append(replace(load_rig_map(path), preference=_USERS))
        except SettingsError as error:
            log.LOGGER.warning("%s", error)
    return maps


def _bone_of(hand: HandMap, joint: str) -> str:
    if joint == _WRIST:
        return hand.wrist
    chain = hand.fingers.get(joint[:-1], ())
    rank = int(joint[-1])
    return chain[rank - 1] if rank <= len(chain) else ""


def _end(bones: Sequence[Any]) -> Any:
    """Where a finger ends: at the bone below the last one or its tail, as long as that lies ahead, else straight on."""
    last = bones[-1]
    head = np.array(last.head_local, np.float64)
    before = np.array(bones[-2].head_local if len(bones) > 1 else last.parent.head_local if last.parent else head)
    ahead = head - before
    ends = [np.array(bone.head_local, np.float64) for bone in last.children] + [np.array(last.tail_local, np.float64)]
    for end in ends:
        lengths = np.linalg.norm(end - head) * np.linalg.norm(ahead)
        if lengths > 0 and (end - head) @ ahead > _STRAIGHT * lengths:
            return end
    return head + ahead if ahead.any() else ends[-1]


def _rotations_at_rest(bones: Iterable[Any]) -> Array:
    return _turn_of(np.array([bone.matrix_local for bone in bones], np.float64))


# Keys


def key_onto_rig(
    target: Any, armatures: Mapping[Side, Any], rig_map: RigMap, wanted: Wanted
) -> Generator[float, None, Retargeted]:
    """Key captured hands onto a rig, in small steps; nothing is changed before the last one.

    Args:
        target: armature object of the rig.
        armatures: armature objects of the captured hands, as hand_rig builds them.
        rig_map: the rig's bones.
        wanted: what to key.

    Yields:
        The share of the work that is done, 0..1.

    Returns:
        What was keyed.

    Raises:
        SettingsError: something does not fit together; the message names what. Nothing was changed.
    """
    _check_target(target, armatures.values())
    hands = {side: rest_hand(target, rig_map.hands[side]) for side in wanted.sides if side in rig_map.hands}
    sources = {side: _read_source(armatures[side], side) for side in hands if armatures.get(side) is not None}
    if not sources:
        raise SettingsError("There is no hand to key: choose a hand that the take and the list of bones both have.")
    alignments = {side: rest.align(source.keypoints, hands[side]) for side, source in sources.items()}
    if wanted.wrist == "POSITION":
        _check_movable(target, [hands[side].wrist for side in sources])
    frames = _frames(sources.values(), wanted.span)

    notes: list[str] = []
    motions = yield from _sample(target, sources, hands, frames, with_target=wanted.wrist != "NONE")
    for side in set(sources) - set(motions):
        notes.append(f"The {side} hand is hidden on all these frames and was left out.")
    if not motions:
        raise SettingsError("The captured hands are hidden on all these frames, show them or choose another range.")

    values: dict[Side, dict[tuple[str, str, int], Array]] = {}
    locked = 0
    for side, motion in motions.items():
        source, hand = sources[side], hands[side]
        turns = rotations.multiply(_turn_of(motion.poses), rotations.inverse(source.rest))
        keys = transfer.finger_keys(turns, hand, alignments[side], wanted.fingers)
        values[side] = {}
        if wanted.wrist != "NONE":
            bone = target.data.bones[hand.wrist]
            posed = _wrist_rotation(hand, alignments[side], motion, turns[:, 0], wanted.wrist_mode)
            keys[hand.wrist] = _wrist_key(bone, hand, motion, posed)
            if wanted.wrist == "POSITION":
                place = _wrist_location(bone, motion, posed)
                locked += _add_location(values[side], target.pose.bones[hand.wrist], place)
        for name, rotation in keys.items():
            locked += _add_rotation(values[side], target.pose.bones[name], rotation)
        yield 1.0

    if not any(values.values()):
        raise SettingsError("Every channel of the mapped bones is locked, unlock them or map bones that can turn.")
    if locked:
        notes.append(f"{locked} locked channels were left alone.")
    bones = {side: sorted({bone for bone, _, _ in keyed}) for side, keyed in values.items()}
    held = [bone for names in bones.values() for bone in names if _is_constrained(target.pose.bones[bone])]
    if held:
        notes.append(
            f"Constraints act on {held[0]} and may hide its keys."
            if len(held) == 1
            else f"Constraints act on {len(held)} of the bones, such as {held[0]}, and may hide their keys."
        )
    notes += rig_layer.write_layer(target, frames, values, bones, weight=wanted.weight, fade=wanted.fade)
    return Retargeted(len(frames), sum(map(len, bones.values())), tuple(notes))


def remove_from_rig(target: Any) -> int:
    """Take the hands off a rig again; returns how many bones had keys of theirs.

    Raises:
        SettingsError: there are none, or the rig cannot be changed now.
    """
    if not has_hands(target):
        raise SettingsError(f"{target.name} has no keys of captured hands.")
    _check_target(target, ())
    return rig_layer.remove_layer(target)


def has_hands(target: Any) -> bool:
    """Whether a rig has keys of captured hands."""
    return rig_layer.place_of_layer(target) is not None


def _check_target(target: Any, armatures: Iterable[Any]) -> None:
    if target in list(armatures):
        raise SettingsError(f"{target.name} is one of the captured hands, choose the armature of your character.")
    if target.library is not None:
        raise SettingsError(f"{target.name} is linked and cannot be animated, make a library override of it first.")
    if target.matrix_world.determinant() < 0.0:
        raise SettingsError(f"{target.name} is mirrored by a negative scale, apply its scale first.")
    if target.animation_data and target.animation_data.use_tweak_mode:
        raise SettingsError(f"{target.name} is in tweak mode, leave it in the NLA editor and try again.")


def _check_movable(target: Any, wrists: Iterable[str]) -> None:
    for name in wrists:
        bone = target.data.bones[name]
        if bone.use_connect or all(target.pose.bones[name].lock_location):
            raise SettingsError(
                f"{name} cannot be moved: key the rotation only, or map a bone that can, such as an IK hand."
            )


def _read_source(armature: Any, side: Side) -> _Source:
    names = hand_rig.bone_names(side)
    if armature.data.pose_position == "REST":
        raise SettingsError(f"{armature.name} shows its rest position, switch it to its pose position.")
    missing = [name for name in names if name not in armature.data.bones]
    if missing:
        raise SettingsError(f"{armature.name} has no bone {missing[0]} and is no captured hand, key the hands again.")
    bones = {joint: armature.data.bones[name] for joint, name in zip(JOINTS, names, strict=True)}
    places = [bones[_WRIST].head_local]
    for finger in FINGERS:
        chain = [bones[f"{finger}{rank}"] for rank in (1, 2, 3)]
        places += [*(bone.head_local for bone in chain), chain[-1].tail_local]
    return _Source(armature, _rotations_at_rest(bones.values()), np.array(places, np.float64))


def _frames(sources: Iterable[_Source], span: tuple[int, int] | None) -> Array:
    """Whole scene frames [K]: those of the span, or those between the first and the last key of the hands."""
    if span is None:
        ranges = [curve.range() for source in sources for curve in _captured_curves(source.armature)]
        if not ranges:
            raise SettingsError("The captured hands have no keys, key the hands of the take first.")
        span = (int(np.floor(min(low for low, _ in ranges))), int(np.ceil(max(high for _, high in ranges))))
    if span[1] < span[0]:
        raise SettingsError(f"The range ends on frame {span[1]} before it begins on {span[0]}, exchange the two.")
    return np.arange(span[0], span[1] + 1)


def _captured_curves(armature: Any) -> list[Any]:
    place = layers.taken_place(armature) or keying.place_of(armature)
    return [curve for curve in place.curves if curve.data_path.startswith("pose.bones")] if place else []


def _sample(
    target: Any, sources: Mapping[Side, _Source], hands: Mapping[Side, RestHand], frames: Array, *, with_target: bool
) -> Generator[float, None, dict[Side, _Motion]]:
    """Read what the armatures do on scene frames [K], one frame a step; hands hidden on all of them are left out.

    A scene of their own has nothing to evaluate but the armatures and what they hang on, and the user's scene stays on
    its frame.
    """
    count = len(frames)
    moves = with_target and _can_move(target)
    motions = {
        side: _Motion(np.empty((count, 16, 4, 4)), *(np.empty((count, 4, 4)) for _ in range(3))) for side in sources
    }
    shown = {side: np.zeros(count, bool) for side in sources}
    order = {side: _pose_order(source.armature, hand_rig.bone_names(side)) for side, source in sources.items()}
    scene = bpy.data.scenes.new(_SAMPLED)
    try:
        for armature in (*(source.armature for source in sources.values()), *([target] if with_target else ())):
            scene.collection.objects.link(armature)
        for row, frame in enumerate(frames):
            scene.frame_set(int(frame))
            graph = scene.view_layers[0].depsgraph
            for side, source in sources.items():
                motion, captured = motions[side], source.armature.evaluated_get(graph)
                shown[side][row] = not captured.hide_viewport
                motion.poses[row] = _read_poses(captured)[order[side]]
                motion.world[row] = captured.matrix_world
                if with_target and (moves or row == 0):
                    rig = target.evaluated_get(graph)
                    above = rig.pose.bones[hands[side].wrist].parent
                    motion.target[row] = rig.matrix_world
                    motion.parent[row] = above.matrix if above else Matrix()
            if row == 0 and with_target and not moves:
                scene.collection.objects.unlink(target)  # it need not be evaluated again
            yield (row + 1) / count
    finally:
        bpy.data.scenes.remove(scene)
    for motion in motions.values() if with_target and not moves else ():
        motion.target[:], motion.parent[:] = motion.target[0], motion.parent[0]
    return {side: _hold_while_hidden(motions[side], shown[side]) for side in sources if shown[side].any()}


def _can_move(target: Any) -> bool:
    """Whether anything but this add-on could move a rig's bones or the rig itself over time."""
    if target.parent or target.constraints or target.data.animation_data:
        return True
    if target.animation_data and (target.animation_data.drivers or rig_layer.other_channels(target)):
        return True
    return any(_is_constrained(bone) for bone in target.pose.bones)


def _pose_order(armature: Any, names: Sequence[str]) -> list[int]:
    rows = {bone.name: row for row, bone in enumerate(armature.pose.bones)}
    return [rows[name] for name in names]


def _read_poses(armature: Any) -> Array:
    """Matrices [B, 4, 4] of an armature's bones in its axes."""
    bones = armature.pose.bones
    values = np.empty(16 * len(bones), np.float32)
    bones.foreach_get("matrix", values)
    return values.reshape(-1, 4, 4).transpose(0, 2, 1)


def _hold_while_hidden(motion: _Motion, shown: Array) -> _Motion:
    """Hidden armatures are not evaluated: where a hand is hidden it stays as it was shown last, or as it will be."""
    rows = np.maximum.accumulate(np.where(shown, np.arange(len(shown)), shown.argmax()))
    return _Motion(motion.poses[rows], motion.world[rows], motion.target, motion.parent)


def _wrist_rotation(hand: RestHand, alignment: rest.Alignment, motion: _Motion, turn: Array, mode: str) -> Array:
    """Rotations [K, 4] of the rig's wrist in the rig's axes, for captured turns [K, 4] since rest."""
    rig = _turn_of(motion.target)
    seen = rotations.multiply(rotations.multiply(rotations.inverse(rig), _turn_of(motion.world)), turn)
    if mode == "delta":
        return transfer.wrist_rotation(rotations.multiply(seen, rig), hand, alignment, "delta")
    return transfer.wrist_rotation(seen, hand, alignment, "match")


def _wrist_key(bone: Any, hand: RestHand, motion: _Motion, wanted: Array) -> Array:
    """Keys [K, 4] of the rig's wrist that give it rotations [K, 4] in the rig's axes."""
    if bone.parent is None or not bone.use_inherit_rotation:
        unmoved = np.array([1.0, 0.0, 0.0, 0.0])
        return transfer.key_below(wanted, hand.rotation, unmoved, unmoved)
    (above,) = _rotations_at_rest([bone.parent])
    return transfer.key_below(wanted, hand.rotation, _turn_of(motion.parent), above)


def _wrist_location(bone: Any, motion: _Motion, wanted: Array) -> Array:
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


def _turn_of(matrices: Array) -> Array:
    """Rotations [..., 4] of transforms [..., 4, 4], without their scale."""
    axes = matrices[..., :3, :3]
    return rotations.from_matrix(axes / np.linalg.norm(axes, axis=-2, keepdims=True))


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


def _is_constrained(bone: Any) -> bool:
    return any(not constraint.mute and constraint.influence > 0.0 for constraint in bone.constraints)


def _on_target(scene: Any) -> None:
    """Another rig was chosen: show its bones."""
    settings = scene.two_hands.retarget
    if settings.target is None:
        settings.bones.clear()
        settings.rig_name = settings.note = ""
    else:
        show_map(settings, detect(settings.target).rig_map)


def register() -> None:
    """Detect the bones of each rig that is chosen."""
    listen_to_target(_on_target)
