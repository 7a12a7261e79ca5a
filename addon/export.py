"""Hands or a rig as a file for other programs, through Blender's own exporters.

What is seen is what leaves: the motion is read frame by frame with every layer, constraint and driver in it, and keyed
plainly on copies in a scene of their own. Exporters may do to these copies what they like; what the user has is only
read, and its names are lent to the copies for the time of an export.
"""

import json
import os
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import addon_utils
import bpy
import numpy as np
from mathutils import Matrix
from numpy.typing import NDArray

from dir_core import rotations
from dir_core.errors import OutputError, SettingsError

from . import keying, layers, log
from .bone_poses import read_poses, rotations_of

Array = NDArray[Any]

_LENT: Final = "~ "  # before the name of what lends it to a copy
_ROOT_BONE: Final = "root"
_ROOT_LENGTH: Final = 0.1  # metres
_Y_UP: Final = Matrix(((1, 0, 0, 0), (0, 0, 1, 0), (0, -1, 0, 0), (0, 0, 0, 1)))
"""From Blender's axes to those in which every other program reads BVH; Blender's importer turns them back."""

_MOVES: Final = 1e-7  # metres; less is rounding of matrices
_STRETCHES: Final = 1e-5
_HAS_USD: Final = bool(bpy.app.build_options.usd)  # distributions build without
_FULL: Final = 1 << 20  # bytes free below which a failed export is put down to the disk
_TIME_TOLERANCE: Final = 1e-5  # of a duration; the rates that could be confused differ by a thousandth


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
        label: its name for the user.
        suffixes: endings of its files, the usual one first.
        module: the add-on of Blender that writes it; empty if it is built in.
    """

    label: str
    suffixes: tuple[str, ...]
    module: str = ""


FORMATS: Final[Mapping[str, Format]] = {
    "FBX": Format("FBX", (".fbx",), "io_scene_fbx"),
    "GLB": Format("GLB", (".glb",), "io_scene_gltf2"),
    "GLTF": Format("GLTF", (".gltf",), "io_scene_gltf2"),
    "BVH": Format("BVH", (".bvh",), "io_anim_bvh"),
    "USD": Format("USD", (".usd", ".usdc", ".usda")),
}


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: the file.
        frames: scene frames in it.
        armatures: how many armatures left.
        notes: sentences the user should read.
    """

    path: Path
    frames: int
    armatures: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class _Motion:
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
class _Stage:
    """Where an export happens.

    Attributes:
        scene: holds nothing but what leaves.
        copies: everything that was made for it, in the order in which it can be removed.
        lent: what has lent its name, and that name.
    """

    scene: Any
    copies: list[Any] = field(default_factory=list)
    lent: list[tuple[Any, str]] = field(default_factory=list)


def fitting_path(path: Path, kind: str) -> Path:
    """A path with an ending of the format: its own if that is one, else the usual one behind it."""
    suffixes = FORMATS[kind].suffixes
    return path if path.suffix.lower() in suffixes else path.with_name(path.name + suffixes[0])


def meshes_of(armature: Any, scene: Any) -> list[Any]:
    """The meshes of a scene that an armature deforms or carries."""
    return [
        item
        for item in scene.objects
        if item.type == "MESH"
        and (item.parent == armature or any(each.object == armature for each in _armature_modifiers(item)))
    ]


def keyed_frames(armatures: Sequence[Any]) -> tuple[int, int]:
    """First and last scene frame on which armatures have keys on bones, of their own or below a correction layer.

    Raises:
        SettingsError: there are none.
    """
    places = [layers.taken_place(each) or keying.place_of(each) for each in armatures]
    curves = [curve for place in places if place for curve in place.curves]
    ranges = [curve.range() for curve in curves if curve.data_path.startswith("pose.bones")]
    if not ranges:
        raise SettingsError("The captured hands have no keys, key them first or export the scene's range.")
    return int(np.floor(min(low for low, _ in ranges))), int(np.ceil(max(high for _, high in ranges)))


def export_armatures(
    context: Any,
    armatures: Mapping[Any, Sequence[Any]],
    path: Path,
    kind: str,
    *,
    span: tuple[int, int],
    name: str,
    progress: Callable[[float], None] = lambda _: None,
) -> Exported:
    """Write armatures with their motion and their meshes into one file, whole or not at all.

    Nothing of the file that is open is changed, whether it works or not.

    Args:
        context: the current context, in object or pose mode.
        armatures: armature objects of the context's scene, and the meshes that go with each.
        path: where to, with an ending of the format.
        kind: a key of FORMATS.
        span: first and last scene frame, both included.
        name: of the animation, where the format has one.
        progress: is told the share of the work that is done, 0..1.

    Raises:
        SettingsError: there is nothing to export on these frames, or this Blender cannot write the format.
        OutputError: the file cannot be written.
    """
    if span[1] < span[0]:
        raise SettingsError(f"The range ends on frame {span[1]} before it begins on {span[0]}, exchange the two.")
    frames = np.arange(span[0], span[1] + 1)
    with _exporter(kind), _staging_folder(path) as folder, _stage(context, name, span) as stage:
        motions, notes = _sample(stage.scene, list(armatures), frames, progress)
        if kind == "BVH":
            _add_joined(context, stage, motions, frames)
        else:
            for motion in motions:
                _add_copies(stage, motion, armatures[motion.armature], frames)
        with _told_frames(stage.scene, span, progress):
            _write(context, stage.scene, folder / path.name, kind)
        _move_whole(folder, path)
    return Exported(path, len(frames), len(motions), tuple(notes))


# Reading


def _sample(
    scene: Any, armatures: Sequence[Any], frames: Array, progress: Callable[[float], None]
) -> tuple[list[_Motion], list[str]]:
    """Read what armatures do on scene frames [K] in a scene with nothing else, and what the user should know of it."""
    resting = next((each for each in armatures if each.data.pose_position == "REST"), None)
    if resting is not None:
        raise SettingsError(f"{resting.name} shows its rest position, switch it to its pose position.")
    motions = [
        _Motion(each, np.empty((len(frames), len(each.data.bones), 4, 4)), np.empty((len(frames), 4, 4)))
        for each in armatures
    ]
    shown = np.zeros((len(armatures), len(frames)), bool)
    orders = [_pose_order(each) for each in armatures]
    for armature in armatures:
        scene.collection.objects.link(armature)
    try:
        for row, frame in enumerate(frames):
            scene.frame_set(int(frame))
            graph = scene.view_layers[0].depsgraph
            for number, motion in enumerate(motions):
                evaluated = motion.armature.evaluated_get(graph)
                shown[number, row] = not evaluated.hide_viewport
                motion.poses[row] = read_poses(evaluated)[orders[number]]
                motion.world[row] = evaluated.matrix_world
            progress(0.5 * (row + 1) / len(frames))
    finally:
        for armature in armatures:
            scene.collection.objects.unlink(armature)
    notes = []
    for motion, is_shown in zip(motions, shown, strict=True):
        if not is_shown.any():
            notes.append(f"{motion.armature.name} is hidden on all these frames and was left out.")
        elif not is_shown.all():
            notes.append(
                f"{motion.armature.name} is hidden on {(~is_shown).sum():,} frames, in the file it holds still there."
            )
    seen = [
        _hold_while_hidden(motion, is_shown) for motion, is_shown in zip(motions, shown, strict=True) if is_shown.any()
    ]
    if not seen:
        raise SettingsError("Everything to export is hidden on these frames, show it or choose another range.")
    return seen, notes


def _pose_order(armature: Any) -> list[int]:
    """Where the pose of each bone stands, in the order of the bones; edited armatures have another one."""
    rows = {bone.name: row for row, bone in enumerate(armature.pose.bones)}
    return [rows[bone.name] for bone in armature.data.bones]


def _hold_while_hidden(motion: _Motion, shown: Array) -> _Motion:
    """Hidden armatures are not evaluated: where one is hidden it stays as it was shown last, or as it will be."""
    rows = np.maximum.accumulate(np.where(shown, np.arange(len(shown)), shown.argmax()))
    return _Motion(motion.armature, motion.poses[rows], motion.world[rows])


# The copies


@contextmanager
def _stage(context: Any, name: str, span: tuple[int, int]) -> Iterator[_Stage]:
    """A scene of its own with the time of the user's; goes with everything in it, and names go back."""
    user = context.scene
    windows = [(window, window.scene, window.view_layer) for window in context.window_manager.windows]
    scene = bpy.data.scenes.new(name)
    stage = _Stage(scene)
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
        for block, own_name in stage.lent:
            block.name = own_name


def _lend_name(stage: _Stage, original: Any, copy: Any) -> None:
    """Let a copy be called as the original, because names are what is kept of it in a file."""
    name = original.name
    if original.library is None:  # names of linked data are free in this file
        stage.lent.append((original, name))
        original.name = _LENT + name
    copy.name = name


def _add_copies(stage: _Stage, motion: _Motion, meshes: Sequence[Any], frames: Array) -> None:
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


def _add_mesh(stage: _Stage, original: Any, rig: Any, armature: Any) -> None:
    """Put a mesh of a rig into the scene, on the rig's copy; it shares its data with the original."""
    copy = original.copy()
    stage.copies.insert(0, copy)
    _lend_name(stage, original, copy)
    copy.animation_data_clear()
    copy.constraints.clear()
    copy.hide_viewport = copy.hide_render = False
    for modifier in _armature_modifiers(copy):
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


def _add_joined(context: Any, stage: _Stage, motions: Sequence[_Motion], frames: Array) -> None:
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


def _add_edit_bones(data: Any, motion: _Motion, root: Any) -> dict[str, Array]:
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


def _key(stage: _Stage, armature: Any, poses: Array, frames: Array) -> None:
    """Key an armature so that its bones are at poses [K, B, 4, 4] in its axes on scene frames [K]."""
    stage.scene.view_layers[0].update()  # a new armature has no pose yet
    bones = list(armature.data.bones)
    rows = {bone.name: row for row, bone in enumerate(bones)}
    rest = np.array([bone.matrix_local for bone in bones], np.float64)
    # The one action of all armatures is the one clip in the file, where a file has clips for actions.
    action = next((each for each in stage.copies if isinstance(each, bpy.types.Action)), None)
    place = keying.open_place(armature, action, stage.scene.name)
    if place.action != action:
        stage.copies.append(place.action)
    channels: dict[tuple[str, str, int], Array] = {}
    for row, bone in enumerate(bones):
        basis = poses[:, row]
        offset = rest[row]
        if bone.parent:
            above = rows[bone.parent.name]
            basis = np.linalg.solve(poses[:, above], basis)
            offset = np.linalg.solve(rest[above], offset)
        basis = np.linalg.solve(offset, basis)
        scale = np.linalg.norm(basis[:, :3, :3], axis=1)
        turn = rotations.make_continuous(rotations_of(basis))
        channels |= {(bone.name, "rotation_quaternion", index): turn[:, index] for index in range(4)}
        if np.abs(basis[:, :3, 3]).max() > _MOVES:
            channels |= {(bone.name, "location", index): basis[:, index, 3] for index in range(3)}
        if np.abs(scale - 1.0).max() > _STRETCHES:
            channels |= {(bone.name, "scale", index): scale[:, index] for index in range(3)}
    keying.key_channels(place, frames, channels)


def _unscaled(matrices: Array) -> Array:
    """Transforms [..., 4, 4] without their scale."""
    result = np.array(matrices, np.float64)
    result[..., :3, :3] /= np.linalg.norm(result[..., :3, :3], axis=-2, keepdims=True)
    return result


def _armature_modifiers(item: Any) -> list[Any]:
    return [modifier for modifier in item.modifiers if modifier.type == "ARMATURE"]


# Writing


@contextmanager
def _exporter(kind: str) -> Iterator[None]:
    """See that Blender can write a format; an add-on that is switched off is on only for this time."""
    module, label = FORMATS[kind].module, FORMATS[kind].label
    if not module:
        if not _HAS_USD:
            raise SettingsError(f"This Blender was built without {label}, choose another format.")
        yield
        return
    was_on = addon_utils.check(module)[1]
    if not was_on and addon_utils.enable(module, default_set=False) is None:
        raise SettingsError(f"This Blender has no exporter for {label} ({module}), choose another format.")
    try:
        yield
    finally:
        if not was_on:
            addon_utils.disable(module, default_set=False)


@contextmanager
def _staging_folder(path: Path) -> Iterator[Path]:
    """A folder beside a file, on the same disk, that goes with everything left in it.

    Raises:
        OutputError: it cannot be made, or what is done with it fails for want of room.
    """
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{path.stem}-", dir=path.parent))
    except OSError as error:
        raise OutputError(f"Cannot write {path}: {error.strerror}; choose another folder.") from error
    try:
        yield folder
    except OSError as error:
        raise OutputError(f"Cannot write {path}: {error.strerror}; make room or choose another folder.") from error
    except RuntimeError as error:  # how operators of Blender fail
        if shutil.disk_usage(folder).free < _FULL:
            raise OutputError(f"Cannot write {path}: the disk is full; make room or choose another folder.") from error
        log.LOGGER.warning("Blender's exporter stopped: %s", error)
        raise OutputError(f"Blender's exporter could not write {path}, the log says why.") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _move_whole(folder: Path, path: Path) -> None:
    """Move the files of a folder beside a path, the one that names the others last."""
    files = [each for each in folder.rglob("*") if each.is_file()]
    for file in sorted(files, key=lambda each: each.name == path.name):
        target = path.parent / file.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        file.replace(target)


@contextmanager
def _told_frames(scene: Any, span: tuple[int, int], progress: Callable[[float], None]) -> Iterator[None]:
    """Tell the second half of the progress by the frames that an exporter goes through."""

    def tell(changed: Any, *_: Any) -> None:
        if changed == scene:
            progress(0.5 + 0.5 * (changed.frame_current - span[0]) / max(span[1] - span[0], 1))

    bpy.app.handlers.frame_change_post.append(tell)
    try:
        yield
    finally:
        bpy.app.handlers.frame_change_post.remove(tell)


def _write(context: Any, scene: Any, path: Path, kind: str) -> None:
    """Let Blender's exporter write a scene.

    Raises:
        RuntimeError: it failed.
    """
    layer = scene.view_layers[0]
    layer.update()
    active = layer.objects.active or scene.objects[0]
    override = {"scene": scene, "view_layer": layer, "active_object": active, "object": active, "mode": "OBJECT"}
    with context.temp_override(**override):
        result = _WRITERS[kind](scene, path)
    if "FINISHED" not in result or not path.is_file() or not path.stat().st_size:
        raise RuntimeError(f"{path.name} was not written: {result}")


def _write_fbx(_scene: Any, path: Path) -> set[str]:
    result: set[str] = bpy.ops.export_scene.fbx(
        filepath=os.fspath(path),
        object_types={"ARMATURE", "MESH"},
        add_leaf_bones=False,
        bake_anim_use_nla_strips=False,
        bake_anim_use_all_actions=False,
        bake_anim_simplify_factor=0.0,
        path_mode="COPY",
        embed_textures=True,
    )
    return result


def _write_gltf(scene: Any, path: Path) -> set[str]:
    """Blender multiplies by the base of a frame rate where it should divide (4.2 to 5.2): it is given the inverse."""
    base = scene.render.fps_base
    expected = scene.frame_end * base / scene.render.fps
    for given in dict.fromkeys((1.0 / base, base)):
        scene.render.fps_base = given
        result: set[str] = bpy.ops.export_scene.gltf(
            filepath=os.fspath(path),
            export_format="GLB" if path.suffix.lower() == ".glb" else "GLTF_SEPARATE",
            use_active_scene=True,
            export_animation_mode="SCENE",
            export_anim_scene_split_object=False,
        )
        if base == 1.0 or abs(_end_of_gltf(path) - expected) <= _TIME_TOLERANCE * abs(expected):
            break
    return result


def _end_of_gltf(path: Path) -> float:
    """The time in seconds of the last key in a file."""
    content = path.read_bytes()
    if path.suffix.lower() == ".glb":
        (length,) = struct.unpack_from("<I", content, 12)
        content = content[20 : 20 + length]
    found = json.loads(content)
    inputs = {sampler["input"] for each in found.get("animations", ()) for sampler in each["samplers"]}
    return max((found["accessors"][each]["max"][0] for each in inputs), default=0.0)


def _write_bvh(scene: Any, path: Path) -> set[str]:
    result: set[str] = bpy.ops.export_anim.bvh(
        filepath=os.fspath(path), frame_start=scene.frame_start, frame_end=scene.frame_end, rotate_mode="ZXY"
    )
    # Six digits of a frame's time are a millisecond off after a minute.
    head, mark, rest = path.read_text("utf-8").partition("Frame Time: ")
    _, newline, motion = rest.partition("\n")
    frame_time = scene.render.fps_base / scene.render.fps
    path.write_text(f"{head}{mark}{frame_time:.12f}{newline}{motion}", "utf-8", newline="\n")
    return result


def _write_usd(_scene: Any, path: Path) -> set[str]:
    known = bpy.ops.wm.usd_export.get_rna_type().properties
    textures = {"export_textures_mode": "NEW"} if "export_textures_mode" in known else {"export_textures": True}
    result: set[str] = bpy.ops.wm.usd_export(
        filepath=os.fspath(path),
        check_existing=False,
        export_animation=True,
        convert_orientation=True,
        export_global_forward_selection="NEGATIVE_Z",
        export_global_up_selection="Y",
        **textures,
    )
    return result


_WRITERS: Final[Mapping[str, Callable[[Any, Path], set[str]]]] = {
    "FBX": _write_fbx,
    "GLB": _write_gltf,
    "GLTF": _write_gltf,
    "BVH": _write_bvh,
    "USD": _write_usd,
}
