"""Bones that nothing but plain F-curves moves: their poses over many frames, without evaluating a scene.

Whoever asks is told None where constraints, drivers, the NLA or anything else could have a say; then the scene has
to be evaluated frame by frame.
"""

from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dir_core import rotations
from dir_core.retargeting import channels

from .. import keying
from .animated import Channel, channels_in, place_of_strip, strips_of

Array = NDArray[Any]

SOLVERS: Final = ("IK", "SPLINE_IK")
"""Constraints that move bones above the one that has them."""

_TIMED: Final = ("CAMERA_SOLVER", "OBJECT_SOLVER", "FOLLOW_TRACK", "TRANSFORM_CACHE")  # constraints that read files
_SAME_FRAME: Final = 1e-6  # a key that is nearer lies on the frame
_TRANSFORMS: Final = ("location", "rotation_quaternion", "rotation_euler", "rotation_axis_angle", "scale")


def plain_poses(armature: Any, names: Sequence[str], frames: Array) -> Generator[float, None, Array | None]:
    """Poses [K, B, 4, 4] of B bones in their armature's axes on scene frames [K]; None where not only curves move them.

    Yields:
        The share of the work that is done, 0..1; a step takes some milliseconds.
    """
    chain = _with_parents(armature, names)
    curves = _plain_curves(
        armature, [keying.bone_path(bone.name, channel) for bone in chain for channel in _TRANSFORMS]
    )
    if curves is None or not _are_plain(armature, chain):
        return None
    poses: dict[str, Array] = {}
    for row, bone in enumerate(chain):
        share = (row + 1) / len(chain)
        basis = np.tile(np.eye(4), (len(frames), 1, 1))
        place = yield from _numbers(bone, "location", curves, frames, share)
        size = yield from _numbers(bone, "scale", curves, frames, share)
        turn = yield from _turns(bone, curves, frames, share)
        if bone.bone.use_connect and place.any():
            return None
        basis[:, :3, :3] = rotations.to_matrix(turn) * size[:, None]
        basis[:, :3, 3] = place
        rest = np.array(bone.bone.matrix_local, np.float64)
        if bone.parent:
            rest = np.linalg.solve(np.array(bone.parent.bone.matrix_local, np.float64), rest)
            poses[bone.name] = poses[bone.parent.name] @ rest @ basis
        else:
            poses[bone.name] = rest @ basis
    return np.stack([poses[name] for name in names], axis=1)


def stands_still(item: Any) -> bool:
    """Whether nothing moves an object as a whole over time, nor what it hangs on."""
    while item is not None:
        data = item.animation_data
        if item.constraints or (data and data.drivers):
            return False
        if any(not path.startswith(("pose.", "hide_", "[")) for path, _ in channels_in(item)):
            return False
        if item.parent and item.parent_type not in ("OBJECT", "ARMATURE"):
            return False
        item = item.parent
    return True


def moves_over_time(armature: Any, animated: Collection[Channel]) -> bool:
    """Whether anything could move an armature object or its bones over time.

    Rigs such as Rigify's are full of constraints and drivers, but these only pass on what moves otherwise.

    Args:
        armature: the armature object.
        animated: those of its channels that count as animated.
    """
    blocks = (armature, armature.data)
    if animated or channels_in(armature.data):
        return True
    if armature.parent and (armature.parent_type != "OBJECT" or not stands_still(armature.parent)):
        return True
    constraints = [each for owner in (armature, *armature.pose.bones) for each in owner.constraints]
    drivers = [curve.driver for block in blocks if block.animation_data for curve in block.animation_data.drivers]
    return any(_looks_elsewhere(each, armature) for each in constraints) or any(
        _reads_elsewhere(each, blocks) for each in drivers
    )


def _looks_elsewhere(constraint: Any, armature: Any) -> bool:
    """Whether a constraint depends on more than its armature."""
    goals = [
        getattr(owner, name, None)
        for owner in (constraint, *getattr(constraint, "targets", ()))
        for name in ("target", "pole_target", "space_object")
    ]
    return constraint.type in _TIMED or any(goal not in (None, armature) for goal in goals)


def _reads_elsewhere(driver: Any, blocks: Collection[Any]) -> bool:
    """Whether a driver depends on more than some data-blocks."""
    if driver.type == "SCRIPTED" and "frame" in driver.expression:
        return True
    return any(
        variable.type == "CONTEXT_PROP" or any(goal.id not in (None, *blocks) for goal in variable.targets)
        for variable in driver.variables
    )


def plain_switch(item: Any, name: str, frames: Array) -> Array | None:
    """A switch of an object, such as hide_viewport, on scene frames [K]; None where more than a curve decides."""
    curves = _plain_curves(item, [name])
    if curves is None:
        return None
    if (name, 0) not in curves:
        return np.full(len(frames), getattr(item, name))
    return _curve_values(curves[name, 0], frames) > 0.5


def _with_parents(armature: Any, names: Sequence[str]) -> list[Any]:
    """Pose bones and all above them, parents first."""
    found: dict[str, Any] = {}
    for name in names:
        bone, line = armature.pose.bones[name], []
        while bone is not None and bone.name not in found:
            line.append(bone)
            bone = bone.parent
        found.update({bone.name: bone for bone in reversed(line)})
    return list(found.values())


def _are_plain(armature: Any, chain: Sequence[Any]) -> bool:
    """Whether bones inherit everything as usual, and nothing but their own channels moves them."""
    if armature.data.animation_data or armature.data.pose_position == "REST":
        return False
    if any(each.type in SOLVERS for bone in armature.pose.bones for each in bone.constraints):
        return False
    for bone in chain:
        rest = bone.bone
        usual = rest.use_inherit_rotation and rest.use_local_location and rest.inherit_scale == "FULL"
        if bone.constraints or not usual:
            return False
    return True


def _plain_curves(owner: Any, paths: Iterable[str]) -> Mapping[Channel, Any] | None:
    """The curves that alone animate some paths of a data-block; None where something else does so, too."""
    data, wanted = owner.animation_data, frozenset(paths)
    if data is None:
        return {}
    if data.use_tweak_mode or any(_concerns(driver.data_path, wanted) for driver in data.drivers):
        return None
    place = keying.place_of(owner)
    if len(data.nla_tracks):
        others = [place_of_strip(strip) for strip in strips_of(owner)]
        if any(curve.data_path in wanted for each in others for curve in each.curves):
            return None
        mixed = data.action_blend_type != "REPLACE" or data.action_extrapolation != "HOLD" or data.action_influence < 1
        if place and (mixed or any(track.is_solo for track in data.nla_tracks)):
            return None
    curves = [curve for curve in place.curves if curve.data_path in wanted] if place else []
    if any(curve.group and curve.group.mute for curve in curves):
        return None  # some versions mute the curves of such groups, others do not
    return {(curve.data_path, curve.array_index): curve for curve in curves if not curve.mute}


def _concerns(path: str, wanted: Collection[str]) -> bool:
    """Whether a driver's path is one of these, or belongs to one of the same bones."""
    return path in wanted or any(path.startswith(each.rpartition(".")[0] + ".") for each in wanted if "." in each)


def _turns(bone: Any, curves: Mapping[Channel, Any], frames: Array, share: float) -> Generator[float, None, Array]:
    """Rotations [K, 4] of a bone from the channels of its rotation mode."""
    mode = bone.rotation_mode
    if mode in channels.EULER_ORDERS:
        angles = yield from _numbers(bone, "rotation_euler", curves, frames, share)
        return channels.from_euler(angles, mode)
    if mode == "AXIS_ANGLE":
        numbers = yield from _numbers(bone, "rotation_axis_angle", curves, frames, share)
        length = np.linalg.norm(numbers[:, 1:], axis=1, keepdims=True)
        axis = np.where(length > 0.0, numbers[:, 1:] / np.where(length > 0.0, length, 1.0), 0.0)
        return rotations.from_rotation_vector(axis * numbers[:, :1])
    turn = yield from _numbers(bone, "rotation_quaternion", curves, frames, share)
    length = np.linalg.norm(turn, axis=1, keepdims=True)
    return np.where(length > 0.0, turn / np.where(length > 0.0, length, 1.0), (0.0, 1.0, 0.0, 0.0))  # as Blender does


def _numbers(
    bone: Any, channel: str, curves: Mapping[Channel, Any], frames: Array, share: float
) -> Generator[float, None, Array]:
    """A channel [K, D] of a pose bone: from its curves, else as it stands."""
    values = np.tile(np.array(getattr(bone, channel), np.float64), (len(frames), 1))
    path = keying.bone_path(bone.name, channel)
    for index in range(values.shape[1]):
        if (path, index) in curves:
            values[:, index] = _curve_values(curves[path, index], frames)
            yield share
    return values


def _curve_values(curve: Any, frames: Array) -> Array:
    """What a curve is on scene frames [K]: read where it has keys, and evaluated between them."""
    keys, values = keying.read_points(curve)
    if curve.modifiers or not len(keys) or not np.all(np.diff(keys) > _SAME_FRAME):
        return np.array([curve.evaluate(frame) for frame in frames.tolist()])
    rows = np.clip(np.searchsorted(keys, frames - _SAME_FRAME), 0, len(keys) - 1)
    result: Array = values[rows].astype(np.float64)
    between = np.abs(keys[rows] - frames) > _SAME_FRAME
    result[between] = [curve.evaluate(frame) for frame in frames[between].tolist()]
    return result
