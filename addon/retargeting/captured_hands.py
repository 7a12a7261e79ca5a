"""What the captured hands do: their armatures read at rest and over time, corrections included."""

from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import bpy
import numpy as np
from mathutils import Matrix
from numpy.typing import NDArray

from dir_core.conventions import FINGERS, JOINTS, Side
from dir_core.errors import SettingsError
from dir_core.retargeting.channels import last_valid
from dir_core.retargeting.mirror import mirror_points, mirror_rotations, mirror_transforms

from .. import hand_rig, layers
from . import rig_layer
from .bone_poses import pose_order, read_poses, rotations_at_rest
from .plain_bones import moves_over_time, plain_poses, plain_switch, stands_still

Array = NDArray[Any]

_SAMPLED: Final = "Two-Hand Sampling"  # name of the scene that exists while motion is read
_QUICK: Final = 0.1  # share of the time that reading curves gets at most; evaluating takes ten times as long


@dataclass(frozen=True, eq=False)
class CapturedHand:
    """A captured hand as a rig's hand follows it.

    Attributes:
        armature: its armature object, as hand_rig builds it.
        side: which hand was captured.
        mirrored: whether a mirror shows it, as a hand of the other side; then the rest pose is mirrored, too.
        rest: [16, 4] rest rotations in the armature's axes, in the order of JOINTS.
        keypoints: [21, 3] at rest in the armature's axes.
    """

    armature: Any
    side: Side
    mirrored: bool
    rest: Array
    keypoints: Array


@dataclass(frozen=True, eq=False)
class Motion:
    """What was read on K frames.

    Of a hand that a mirror shows, `poses` and both armatures are those behind the mirror, the plane x = 0 of each of
    their axes: what is seen from the rig's armature then is reflected in its own middle plane.

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


def read_hand(armature: Any, side: Side, *, mirrored: bool = False) -> CapturedHand:
    """Read a captured hand at rest, or the hand of the other side that a mirror shows of it.

    Raises:
        SettingsError: the armature shows its rest position, or is no captured hand.
    """
    names = hand_rig.bone_names(side)
    if armature.data.pose_position == "REST":
        raise SettingsError(f"{armature.name} shows its rest position, switch it to its pose position.")
    missing = [name for name in names if name not in armature.data.bones]
    if missing:
        raise SettingsError(f"{armature.name} has no bone {missing[0]} and is no captured hand, key the hands again.")
    bones = {joint: armature.data.bones[name] for joint, name in zip(JOINTS, names, strict=True)}
    places = [bones["wrist"].head_local]
    for finger in FINGERS:
        chain = [bones[f"{finger}{rank}"] for rank in (1, 2, 3)]
        places += [*(bone.head_local for bone in chain), chain[-1].tail_local]
    turned, keypoints = rotations_at_rest(bones.values()), np.array(places, np.float64)
    if mirrored:
        turned, keypoints = mirror_rotations(turned), mirror_points(keypoints)
    return CapturedHand(armature, side, mirrored, turned, keypoints)


def choose_frames(sources: Iterable[CapturedHand], span: tuple[int, int] | None) -> Array:
    """Whole scene frames [K]: those of the span, or those between the first and the last key of the hands."""
    span = span or layers.keyed_frames(source.armature for source in sources)
    if span is None:
        raise SettingsError("The captured hands have no keys, key the hands of the take first.")
    if span[1] < span[0]:
        raise SettingsError(f"The range ends on frame {span[1]} before it begins on {span[0]}, exchange the two.")
    return np.arange(span[0], span[1] + 1)


def sample_motion(
    target: Any, captured: Mapping[Side, CapturedHand], wrists: Mapping[Side, str], frames: Array, *, with_target: bool
) -> Generator[float, None, dict[Side, Motion]]:
    """Read what the armatures do on scene frames [K], in small steps; hands hidden on all of them are left out.

    What nothing but curves moves is read from these. For the rest a scene of its own has nothing to evaluate but the
    armatures and what they hang on, and the user's scene stays on its frame.

    Args:
        target: armature object of the rig.
        captured: the hands to read, by the side of the rig's hand that follows.
        wrists: names of the rig's bones that follow the captured wrists.
        frames: [K] whole scene frames.
        with_target: also read what the rig does; else `target` and `parent` of the motion mean nothing.

    Yields:
        The share of the work that is done, 0..1.
    """
    motions = {side: _empty_motion(len(frames)) for side in captured}
    shown = {side: np.zeros(len(frames), bool) for side in captured}
    order = {side: pose_order(hand.armature, hand_rig.bone_names(hand.side)) for side, hand in captured.items()}
    scene = bpy.data.scenes.new(_SAMPLED)
    try:
        for armature in (*(hand.armature for hand in captured.values()), *([target] if with_target else ())):
            scene.collection.objects.link(armature)
        # What only curves move is read from them; then it need not be evaluated again.
        slow = dict(captured)
        parts = len(captured) + with_target
        for part, (side, hand) in enumerate(captured.items()):
            steps = _read_plain_hand(motions[side], shown[side], hand, frames, scene)
            if (yield from _as_part(steps, part, parts)):
                scene.collection.objects.unlink(slow.pop(side).armature)
        moves = with_target
        steps = _read_plain_target(motions, target, wrists, frames, scene)
        if with_target and (yield from _as_part(steps, parts - 1, parts)):
            scene.collection.objects.unlink(target)
            moves = False
        for row, frame in enumerate(frames) if slow or moves else ():
            graph = _evaluate(scene, frame)
            for side, hand in slow.items():
                shown[side][row] = _read_captured(motions[side], row, hand, order[side], graph)
            for side, motion in motions.items() if moves else ():
                _read_target(motion, row, target, wrists[side], graph)
            yield _QUICK + (1.0 - _QUICK) * (row + 1) / len(frames)
    finally:
        bpy.data.scenes.remove(scene)
    return {
        side: _as_shown(hand, _hold_while_hidden(motions[side], shown[side]))
        for side, hand in captured.items()
        if shown[side].any()
    }


def motion_now(target: Any, hand: CapturedHand, wrist: str, graph: Any) -> Motion | None:
    """What a captured hand and the rig do in an evaluated scene, as one frame; None while the hand is hidden.

    Args:
        target: armature object of the rig.
        hand: the hand to read.
        wrist: name of the rig's bone that follows the captured wrist.
        graph: evaluated dependency graph that has both.
    """
    motion = _empty_motion(1)
    if not _read_captured(motion, 0, hand, pose_order(hand.armature, hand_rig.bone_names(hand.side)), graph):
        return None
    _read_target(motion, 0, target, wrist, graph)
    return _as_shown(hand, motion)


def _as_part(steps: Generator[float, None, bool], part: int, parts: int) -> Generator[float, None, bool]:
    """Do a part of the quick work; its share becomes that of all work."""
    while True:
        try:
            share = next(steps)
        except StopIteration as end:
            return bool(end.value)
        yield _QUICK * (part + share) / parts


def _read_plain_hand(
    motion: Motion, shown: Array, hand: CapturedHand, frames: Array, scene: Any
) -> Generator[float, None, bool]:
    """Fill in what a hand does, without its scene on every frame; returns whether that is possible."""
    if not stands_still(hand.armature):
        return False
    hidden = plain_switch(hand.armature, "hide_viewport", frames)
    poses = yield from plain_poses(hand.armature, hand_rig.bone_names(hand.side), frames)
    if hidden is None or poses is None:
        return False
    shown[:], motion.poses[:] = ~hidden, poses
    graph = _evaluate(scene, frames[shown.argmax()])  # hidden, it would not be evaluated
    motion.world[:] = hand.armature.evaluated_get(graph).matrix_world
    return True


def _read_plain_target(
    motions: Mapping[Side, Motion], target: Any, wrists: Mapping[Side, str], frames: Array, scene: Any
) -> Generator[float, None, bool]:
    """Fill in what a rig does, without its scene on every frame; returns whether that is possible."""
    above = {side: bone.parent.name for side in motions if (bone := target.data.bones[wrists[side]]).parent}
    moving: dict[Side, Array] = {}
    if moves_over_time(target, rig_layer.other_channels(target)):
        poses = (yield from plain_poses(target, list(above.values()), frames)) if stands_still(target) else None
        if poses is None:
            return False
        moving = {side: poses[:, row] for row, side in enumerate(above)}
    graph = _evaluate(scene, frames[0])
    for side, motion in motions.items():
        _read_target(motion, slice(None), target, wrists[side], graph)
        motion.parent[:] = moving.get(side, motion.parent)
    return True


def _evaluate(scene: Any, frame: int) -> Any:
    """The dependency graph of a scene on a frame."""
    scene.frame_set(int(frame))
    return scene.view_layers[0].depsgraph


def _empty_motion(count: int) -> Motion:
    return Motion(np.empty((count, 16, 4, 4)), *(np.empty((count, 4, 4)) for _ in range(3)))


def _read_captured(motion: Motion, row: int, hand: CapturedHand, order: list[int], graph: Any) -> bool:
    """Write one row of a motion; returns whether the hand is shown there."""
    armature = hand.armature.evaluated_get(graph)
    motion.poses[row] = read_poses(armature)[order]
    motion.world[row] = armature.matrix_world
    return not armature.hide_viewport


def _read_target(motion: Motion, row: int | slice, target: Any, wrist: str, graph: Any) -> None:
    rig = target.evaluated_get(graph)
    above = rig.pose.bones[wrist].parent
    motion.target[row] = rig.matrix_world
    motion.parent[row] = above.matrix if above else Matrix()


def _as_shown(hand: CapturedHand, motion: Motion) -> Motion:
    """The motion that a rig's hand follows: that of the hand, or what a mirror shows of it."""
    if not hand.mirrored:
        return motion
    return replace(motion, **{name: mirror_transforms(getattr(motion, name)) for name in ("poses", "world", "target")})


def _hold_while_hidden(motion: Motion, shown: Array) -> Motion:
    """Hidden armatures are not evaluated: where a hand is hidden it stays as it was shown last, or as it will be."""
    rows = last_valid(shown)
    return Motion(motion.poses[rows], motion.world[rows], motion.target, motion.parent)
