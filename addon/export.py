"""Hands or a rig as a file for other programs, through Blender's own exporters.

What is seen is what leaves: the motion is read frame by frame with every layer, constraint and driver in it, and keyed
plainly on copies. The files are written aside and moved to their place when they are whole.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dir_core.errors import OutputError, SettingsError
from dir_core.retargeting.channels import last_valid

from . import layers, log
from .export_copies import Motion, add_copies, add_joined, armature_modifiers, open_stage
from .exporters import enabled_exporter, told_frames, write_scene
from .retargeting.bone_poses import pose_order, read_poses

Array = NDArray[Any]

_TINY: Final = 1e-5  # scale of a bone; what is smaller has no direction left
_FULL: Final = 1 << 20  # bytes free below which a failed export is put down to the disk


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


def meshes_of(armature: Any, scene: Any) -> list[Any]:
    """The meshes of a scene that an armature deforms or carries."""
    return [
        item
        for item in scene.objects
        if item.type == "MESH"
        and (item.parent == armature or any(each.object == armature for each in armature_modifiers(item)))
    ]


def keyed_frames(armatures: Sequence[Any]) -> tuple[int, int]:
    """First and last scene frame on which armatures have keys on bones, of their own or below a correction layer.

    Raises:
        SettingsError: there are none.
    """
    span = layers.keyed_frames(armatures)
    if span is None:
        raise SettingsError("The captured hands have no keys, key them first or export the scene's range.")
    return span


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
    _check(list(armatures))
    frames = np.arange(span[0], span[1] + 1)
    with enabled_exporter(kind), _staging_folder(path) as folder, open_stage(context, name, span) as stage:
        motions, notes = _sample(stage.scene, list(armatures), frames, progress)
        if kind == "BVH":
            add_joined(context, stage, motions, frames)
        else:
            for motion in motions:
                add_copies(stage, motion, armatures[motion.armature], frames)
        with told_frames(stage.scene, span, progress):
            write_scene(context, stage.scene, folder / path.name, kind)
        _move_whole(folder, path)
    return Exported(path, len(frames), len(motions), tuple(notes))


# Reading


def _check(armatures: Sequence[Any]) -> None:
    for armature in armatures:
        if armature.data.pose_position == "REST":
            raise SettingsError(f"{armature.name} shows its rest position, switch it to its pose position.")
        if armature.matrix_world.determinant() < 0.0:
            raise SettingsError(f"{armature.name} is mirrored by a negative scale, apply its scale first.")


def _sample(
    scene: Any, armatures: Sequence[Any], frames: Array, progress: Callable[[float], None]
) -> tuple[list[Motion], list[str]]:
    """Read what armatures do on scene frames [K] in a scene with nothing else, and what the user should know of it."""
    motions = [
        Motion(each, np.empty((len(frames), len(each.data.bones), 4, 4)), np.empty((len(frames), 4, 4)))
        for each in armatures
    ]
    shown = np.zeros((len(armatures), len(frames)), bool)
    orders = [pose_order(each, each.data.bones.keys()) for each in armatures]
    for armature in armatures:
        scene.collection.objects.link(armature)
    try:
        for row, frame in enumerate(frames):
            scene.frame_set(int(frame))
            graph = scene.view_layers[0].depsgraph
            for number, motion in enumerate(motions):
                evaluated = motion.armature.evaluated_get(graph)
                shown[number, row] = not evaluated.hide_viewport
                motion.poses[row] = _with_axes(read_poses(evaluated)[orders[number]])
                motion.world[row] = evaluated.matrix_world
            progress(0.5 * (row + 1) / len(frames))
    finally:
        for armature in armatures:
            scene.collection.objects.unlink(armature)
    return _without_hidden(motions, shown)


def _without_hidden(motions: Sequence[Motion], shown: Array) -> tuple[list[Motion], list[str]]:
    """The armatures that are `shown` [A, K] on any frame, and a sentence for each that is hidden on some."""
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


def _with_axes(poses: Array) -> Array:
    """Poses [B, 4, 4] in which bones that are scaled away, as props are hidden, are tiny instead and have axes."""
    gone = (np.linalg.norm(poses[:, :3, :3], axis=1) < _TINY).any(axis=1)
    if gone.any():
        poses = poses.copy()
        poses[gone, :3, :3] = _TINY * np.eye(3)
    return poses


def _hold_while_hidden(motion: Motion, shown: Array) -> Motion:
    """Hidden armatures are not evaluated: where one is hidden it stays as it was shown last, or as it will be."""
    rows = last_valid(shown)
    return Motion(motion.armature, motion.poses[rows], motion.world[rows])


# Writing


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
