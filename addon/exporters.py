"""Blender's own exporters, called so that axes, frame rate and names come out right; one file a scene.

Knows nothing of hands. What they write is the scene's objects with the frames of its range, in metres with Y up.
"""

import json
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import addon_utils
import bpy

from dir_core.errors import SettingsError

_HAS_USD: Final = bool(bpy.app.build_options.usd)  # distributions build without
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


def fitting_path(path: Path, kind: str) -> Path:
    """A path with an ending of the format: its own if that is one, else the usual one behind it."""
    suffixes = FORMATS[kind].suffixes
    return path if path.suffix.lower() in suffixes else path.with_name(path.name + suffixes[0])


@contextmanager
def enabled_exporter(kind: str) -> Iterator[None]:
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
def told_frames(scene: Any, span: tuple[int, int], progress: Callable[[float], None]) -> Iterator[None]:
    """Tell the second half of the progress by the frames that an exporter goes through."""

    def tell(changed: Any, *_: Any) -> None:
        if changed == scene:
            progress(0.5 + 0.5 * (changed.frame_current - span[0]) / max(span[1] - span[0], 1))

    bpy.app.handlers.frame_change_post.append(tell)
    try:
        yield
    finally:
        bpy.app.handlers.frame_change_post.remove(tell)


def write_scene(context: Any, scene: Any, path: Path, kind: str) -> None:
    """Let Blender's exporter write a scene; what is in it rests on the frame before its range.

    Raises:
        RuntimeError: it failed.
    """
    layer = scene.view_layers[0]
    scene.frame_set(scene.frame_start - 1)
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
