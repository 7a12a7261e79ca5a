"""Copies of armatures and their meshes in a scene of their own, plainly keyed: what an exporter gets to see.

Exporters may do to the copies what they like. What the user has is only read, and lends its names for that time.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import bpy
import numpy as np
from mathutils import Matrix
from numpy.typing import NDArray

from dir_core import rotations

from . import keying

Array = NDArray[Any]

_LENT: Final = "~ "  # before the name of what lends it to a copy
_ROOT_BONE: Final = "root"
_ROOT_LENGTH: Final = 0.1  # metres
_Y_UP: Final = Matrix(((1, 0, 0, 0), (0, 0, 1, 0), (0, -1, 0, 0), (0, 0, 0, 1)))
"""From Blender's axes to those in which every other program reads BVH; Blender's importer turns them back."""

_MOVES: Final = 1e-7  # metres; less is rounding of matrices
_STRETCHES: Final = 1e-5


@dataclass(frozen=True, eq=False)
class Motion:
    """What an armature does on K frames.

    Attributes:
        armature: the armature object.
        poses: [K, B, 4, 4] of its bones in its axes.
        world: [K, 4, 4] of the armature.
    """

    armature: Any
    poses: Array
    world: Array


@dataclass(frozen=True, eq=False)
class Stage:
    """Where an export happens.

    Attributes:
        scene: holds nothing but what leaves.
        copies: everything that was made for it, in the order in which it can be removed.
        lent: what has lent its name, and that name.
    """

    scene: Any
    copies: list[Any] = field(default_factory=list)
    lent: list[tuple[Any, str]] = field(default_factory=list)


@contextmanager
def open_stage(context: Any, name: str, span: tuple[int, int]) -> Iterator[Stage]:
    """A scene of its own with the time of the user's; goes with everything in it, and names go back."""
    user = context.scene
    windows = [(window, window.scene, window.view_layer) for window in context.window_manager.windows]
    scene = bpy.data.scenes.new(name)
    stage = Stage(scene)
    scene.render.fps, scene.render.fps_base = user.render.fps, user.render.fps_base
    scene.unit_settings.scale_length = user.unit_settings.scale_length
    scene.frame_start, scene.frame_end = span
    scene.frame_current = user.frame_current
    try:
        yield stage
    finally:
        # The exporter of glTF shows the scene that it exports.
        for window, own, layer in windows:
            if window.scene != own:
                window.scene = own
                window.view_layer = layer
        bpy.data.batch_remove([*stage.copies, scene])
        for block, own_name in reversed(stage.lent):  # what two objects share has lent twice
            block.name = own_name


def _lend_name(stage: Stage, original: Any, copy: Any) -> None:
    """Let a copy be called as the original, because names are what is kept of it in a file."""
    name = original.name
    if original.library is None:  # names of linked data are free in this file
        stage.lent.append((original, name))
        original.name = _LENT + name
    copy.name = name


def add_copies(stage: Stage, motion: Motion, meshes: Sequence[Any], frames: Array) -> None:
    """Put an armature with plain keys and its meshes into the scene."""
    original = motion.armature
    data = original.data.copy()
    stage.copies.append(data)
    data.animation_data_clear()
    data.pose_position = "POSE"
    for bone in data.bones:
        bone.use_inherit_rotation = bone.use_local_location = True
        bone.inherit_scale = "FULL"
    armature = bpy.data.objects.new(original.name, data)
    stage.copies.insert(0, armature)
    _lend_name(stage, original.data, data)
    _lend_name(stage, original, armature)
    stage.scene.collection.objects.link(armature)
    location, turn, scale = Matrix(motion.world[0].tolist()).decompose()
    armature.rotation_mode = "QUATERNION"
    armature.location, armature.rotation_quaternion, armature.scale = location, turn, scale
    # All motion goes into the bones: game engines know no other.
    stands = np.array(Matrix.LocRotScale(location, turn, scale), np.float64)
    poses = np.linalg.solve(stands, motion.world)[:, None] @ motion.poses
    _key(stage, armature, poses, frames)
    for mesh in meshes:
        _add_mesh(stage, mesh, original, armature)


def _add_mesh(stage: Stage, original: Any, rig: Any, armature: Any) -> None:
    """Put a mesh of a rig into the scene, on the rig's copy; it shares its data with the original."""
    copy = original.copy()
    stage.copies.insert(0, copy)
    _lend_name(stage, original, copy)
    copy.animation_data_clear()
    copy.constraints.clear()
    copy.hide_viewport = copy.hide_render = False
    for modifier in armature_modifiers(copy):
        if modifier.object == rig:
            modifier.object = armature
    copy.parent = armature
    if original.parent == rig:
        copy.matrix_parent_inverse = original.matrix_parent_inverse
    else:
        copy.parent_type = "OBJECT"
        place = rig.matrix_world.inverted_safe() @ original.matrix_world
        copy.matrix_parent_inverse = place @ original.matrix_basis.inverted_safe()
    stage.scene.collection.objects.link(copy)


def add_joined(context: Any, stage: Stage, motions: Sequence[Motion], frames: Array) -> None:
    """Put one armature with all bones into the scene, in the axes of BVH, which knows no objects.

    Bones lie as they do in the world on the first frame, at rest. Several without a parent get a common one.
    """
    data = bpy.data.armatures.new(stage.scene.name)
    joined = bpy.data.objects.new(stage.scene.name, data)
    stage.copies.extend((joined, data))
    stage.scene.collection.objects.link(joined)
    layer = stage.scene.view_layers[0]
    layer.objects.active = joined
    roots = sum(bone.parent is None for motion in motions for bone in motion.armature.data.bones)
    poses: dict[str, Array] = {}
    with context.temp_override(scene=stage.scene, view_layer=layer, active_object=joined, object=joined):
        bpy.ops.object.mode_set(mode="EDIT")
        try:
            root = None
            if roots > 1:
                root = data.edit_bones.new(_ROOT_BONE)
                root.tail = (0.0, _ROOT_LENGTH, 0.0)
                poses[root.name] = np.tile(np.array(root.matrix), (len(frames), 1, 1))
            for motion in motions:
                poses |= _add_edit_bones(data, motion, root)
        finally:
            bpy.ops.object.mode_set(mode="OBJECT")
    joined.rotation_mode = "QUATERNION"
    _key(stage, joined, np.stack([poses[bone.name] for bone in data.bones], axis=1), frames)


def _add_edit_bones(data: Any, motion: Motion, root: Any) -> dict[str, Array]:
    """Add the bones of an armature to one in edit mode; returns the poses [K, 4, 4] of each, in its axes."""
    world = np.array(_Y_UP) @ motion.world
    scale = float(np.linalg.norm(world[0, :3, 0]))
    poses = world[:, None] @ motion.poses
    made: dict[str, Any] = {}
    found = {}
    for row, bone in enumerate(motion.armature.data.bones):
        own = made[bone.name] = data.edit_bones.new("_".join(bone.name.split()))
        own.tail = (0.0, bone.length * scale, 0.0)
        own.matrix = Matrix(_unscaled(world[0] @ np.array(bone.matrix_local)).tolist())
        own.parent = made[bone.parent.name] if bone.parent else root
        own.use_connect = bone.use_connect and bone.parent is not None
        found[own.name] = _unscaled(poses[:, row])
    return found


def _key(stage: Stage, armature: Any, poses: Array, frames: Array) -> None:
    """Key an armature so that its bones are at poses [K, B, 4, 4] in its axes on scene frames [K], and rest before.

    Where nothing is skinned, FBX has no rest pose: programs take the pose that is current while the file is written.
    """
    stage.scene.view_layers[0].update()  # a new armature has no pose yet
    bones = list(armature.data.bones)
    rows = {bone.name: row for row, bone in enumerate(bones)}
    rest = np.array([bone.matrix_local for bone in bones], np.float64)
    frames, poses = np.concatenate([frames[:1] - 1, frames]), np.concatenate([rest[None], poses])
    # The one action of all armatures is the one clip in the file, where a file has clips for actions.
    action = next((each for each in stage.copies if isinstance(each, bpy.types.Action)), None)
    place = keying.open_place(armature, action, stage.scene.name)
    if place.action != action:
        stage.copies.append(place.action)
    reached = np.empty_like(poses)  # plain keys cannot shear, as bones below unevenly stretched ones may be
    channels: dict[tuple[str, str, int], Array] = {}
    for row, bone in enumerate(bones):
        base = np.tile(rest[row], (len(frames), 1, 1))
        if bone.parent:
            above = rows[bone.parent.name]
            base = reached[:, above] @ np.linalg.solve(rest[above], rest[row])
        basis = np.linalg.solve(base, poses[:, row])
        scale = np.linalg.norm(basis[:, :3, :3], axis=1)
        axes = _upright(basis[:, :3, :3])
        turn = rotations.make_continuous(rotations.from_matrix(axes))
        basis[:, :3, :3] = axes * scale[:, None]
        reached[:, row] = base @ basis
        channels |= {(bone.name, "rotation_quaternion", index): turn[:, index] for index in range(4)}
        if np.abs(basis[:, :3, 3]).max() > _MOVES:
            channels |= {(bone.name, "location", index): basis[:, index, 3] for index in range(3)}
        if np.abs(scale - 1.0).max() > _STRETCHES:
            channels |= {(bone.name, "scale", index): scale[:, index] for index in range(3)}
    keying.key_channels(place, frames, channels)


def _upright(axes: Array) -> Array:
    """Axes [..., 3, 3] at right angles to each other, of length 1; the second, along the bone, keeps its direction."""
    x, along = axes[..., 0], axes[..., 1] / np.linalg.norm(axes[..., 1], axis=-1, keepdims=True)
    across = x - along * np.sum(x * along, axis=-1, keepdims=True)
    across = across / np.linalg.norm(across, axis=-1, keepdims=True)
    return np.stack([across, along, np.cross(across, along)], axis=-1)


def _unscaled(matrices: Array) -> Array:
    """Transforms [..., 4, 4] without their scale."""
    result = np.array(matrices, np.float64)
    result[..., :3, :3] /= np.linalg.norm(result[..., :3, :3], axis=-2, keepdims=True)
    return result


def armature_modifiers(item: Any) -> list[Any]:
    """The modifiers with which armatures deform an object."""
    return [modifier for modifier in item.modifiers if modifier.type == "ARMATURE"]
