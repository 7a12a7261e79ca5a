"""A rig as it is without the captured hands, or as it will be with them: read on a copy that nobody sees."""

import re
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import bpy
import numpy as np
from mathutils import Matrix
from numpy.typing import NDArray

from dir_core.conventions import Side

from . import rig_layer
from .plain_bones import SOLVERS, moves_over_time

Array = NDArray[Any]

Channels = Mapping[tuple[str, str, int], Array]
"""(bone, channel, index) -> [K] values, as the layer gets them."""

OBJECT: Final = ""
"""Name under which the armature object itself is read."""

_BONE: Final = re.compile(r'(?:pose\.)?bones\["((?:[^"\\]|\\.)*)"\]')
_FOLLOWED: Final = (("target", "subtarget"), ("pole_target", "pole_subtarget"), ("space_object", "space_subtarget"))
_SCENE: Final = "Two-Hand Stand-In"  # name of the scene that exists while a copy is read


@dataclass(frozen=True, eq=False)
class RigMotion:
    """What a rig does on K frames.

    Attributes:
        world: [K, 4, 4] of the armature object.
        poses: bone -> [K, 4, 4] in the rig's axes, as it is in the end.
        bases: bone -> [K, 4, 4] what its own channels say; OBJECT for those of the armature object.
    """

    world: Array
    poses: Mapping[str, Array]
    bases: Mapping[str, Array]


def sample_rig(
    target: Any, bones: Iterable[str], frames: Array, hands: Mapping[Side, Channels] | None = None
) -> Generator[float, None, RigMotion]:
    """Read what a rig does on scene frames [K] without its captured hands, one frame a step.

    Args:
        target: armature object of the rig.
        bones: names of the bones to read.
        frames: [K] whole scene frames.
        hands: channels of captured hands that it shall have meanwhile.

    Yields:
        The share of the work that is done, 0..1.
    """
    names = list(dict.fromkeys(bones))
    motion = _empty_motion(names, len(frames))
    moves = bool(hands) or moves_over_time(target, rig_layer.other_channels(target))
    with _stand_in(target) as (scene, copy):
        if moves:
            _lighten(copy, names)
        if hands:
            keyed = {side: sorted({bone for bone, _, _ in values}) for side, values in hands.items()}
            rig_layer.write_layer(copy, frames, hands, keyed, weight=1.0, fade=0)
        try:
            for row, frame in enumerate(frames if moves else frames[:1]):
                scene.frame_set(int(frame))
                _read(motion, row, copy.evaluated_get(scene.view_layers[0].depsgraph))
                yield (row + 1) / len(frames)
        finally:
            if rig_layer.place_of_layer(copy) is not None:
                rig_layer.remove_layer(copy)
    if not moves:
        for each in (motion.world, *motion.poses.values(), *motion.bases.values()):
            each[1:] = each[0]
    return motion


def rig_now(target: Any, bones: Iterable[str], graph: Any) -> RigMotion:
    """What a rig does in an evaluated scene, as one frame. For the bones see sample_rig."""
    motion = _empty_motion(list(dict.fromkeys(bones)), 1)
    _read(motion, 0, target.evaluated_get(graph))
    return motion


def _empty_motion(names: Iterable[str], count: int) -> RigMotion:
    poses, bases = ({name: np.empty((count, 4, 4)) for name in (*names, OBJECT)} for _ in range(2))
    return RigMotion(np.empty((count, 4, 4)), poses, bases)


def _read(motion: RigMotion, row: int, rig: Any) -> None:
    motion.world[row] = rig.matrix_world
    motion.poses[OBJECT][row], motion.bases[OBJECT][row] = Matrix(), rig.matrix_basis
    for name, poses in motion.poses.items():
        if name != OBJECT:
            bone = rig.pose.bones[name]
            poses[row], motion.bases[name][row] = bone.matrix, bone.matrix_basis


@contextmanager
def _stand_in(target: Any) -> Iterator[tuple[Any, Any]]:
    """A copy of a rig without its captured hands, alone in a scene of its own; both go afterwards."""
    copy = target.copy()
    copy.data = data = copy.data.copy()
    scene = bpy.data.scenes.new(_SCENE)
    try:
        _point_to_itself(copy, target)
        rig_layer.drop_layer(copy)
        scene.collection.objects.link(copy)
        yield scene, copy
    finally:
        bpy.data.scenes.remove(scene)
        bpy.data.objects.remove(copy)
        bpy.data.armatures.remove(data)


def _lighten(copy: Any, names: Iterable[str]) -> None:
    """Take from a copied rig what has no say in where some of its bones are: most of what a character costs."""
    needed = _decisive(copy, names)
    for bone in copy.pose.bones:
        if bone.name not in needed:
            bone.bone.bbone_segments = 1
            for constraint in list(bone.constraints):
                bone.constraints.remove(constraint)
    # What is driven on the armature as a whole is only which bones are seen; it would be evaluated anew on every frame.
    for block, owners in ((copy, needed), (copy.data, needed - {OBJECT})):
        for curve in _drivers(block):
            if _owner(curve.data_path) not in owners:
                block.animation_data.drivers.remove(curve)


def _decisive(rig: Any, names: Iterable[str]) -> set[str]:
    """Bones on which the poses of some bones depend, by parents, constraints and drivers, and those bones."""
    above: dict[str, set[str]] = {bone.name: {bone.parent.name} if bone.parent else set() for bone in rig.pose.bones}
    above[OBJECT] = set()
    for bone in rig.pose.bones:
        for constraint in bone.constraints:
            above[bone.name] |= _looked_at(constraint, rig)
            if constraint.type in SOLVERS:
                chain = [bone, *bone.parent_recursive]
                for link in chain[: constraint.chain_count + 1] if constraint.chain_count else chain:
                    above[link.name].add(bone.name)
    for constraint in rig.constraints:
        above[OBJECT] |= _looked_at(constraint, rig)
    for curve in (*_drivers(rig), *_drivers(rig.data)):
        goals = [goal for variable in curve.driver.variables for goal in variable.targets if goal.id == rig]
        above.setdefault(_owner(curve.data_path), set()).update(
            name for goal in goals for name in (goal.bone_target, _owner(goal.data_path)) if name
        )
    needed, waiting = set[str](), [OBJECT, *names]
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting += above.get(name, ())
    return needed


def _owner(path: str) -> str:
    """The bone to which a data path belongs; OBJECT for the armature object itself."""
    found = _BONE.match(path)
    return bpy.utils.unescape_identifier(found[1]) if found else OBJECT


def _drivers(block: Any) -> list[Any]:
    return list(block.animation_data.drivers) if block.animation_data else []


def _looked_at(constraint: Any, rig: Any) -> set[str]:
    """Bones of a rig that a constraint follows."""
    found = {
        getattr(owner, bone, "")
        for owner in (constraint, *getattr(constraint, "targets", ()))
        for item, bone in _FOLLOWED
        if getattr(owner, item, None) == rig
    }
    return found - {""}


def _point_to_itself(copy: Any, target: Any) -> None:
    """Let constraints and drivers of a copied rig that look at the rig look at the copy."""
    for owner in (copy, *copy.pose.bones):
        for constraint in owner.constraints:
            for goal in (constraint, *getattr(constraint, "targets", ())):
                for name in ("target", "pole_target", "space_object"):
                    if getattr(goal, name, None) == target:
                        setattr(goal, name, copy)
    for curve in (*_drivers(copy), *_drivers(copy.data)):
        for variable in curve.driver.variables:
            for goal in variable.targets:
                if goal.id == target:
                    goal.id = copy
