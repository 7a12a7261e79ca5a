"""The asset library: both hands in rest pose as assets with pictures, and the catalogue that they are found under."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import bpy
import numpy as np
from mathutils import Vector
from numpy.typing import NDArray

from dir_core.conventions import SHAPE_COUNT, SIDES, Side
from dir_core.hand_model import HandModel
from dir_core.take import write_whole

from . import hand_rig

BOTH_HANDS: Final = "Two Hands"
"""Name of the collection that holds the collections of both hands."""

SPACING: Final = 0.16
"""Metres between the wrists of the hands."""

CATALOGUE: Final = "b0f1a3c2-6d58-4c37-9a7e-3f5d1e8c2b64"
"""Identifier of the catalogue; it must never change, because files of users name it."""

_CATALOGUE_FILE: Final = "blender_assets.cats.txt"
_CATALOGUE_HEAD: Final = "# This is an Asset Catalog Definition file for Blender.\n\nVERSION 1\n\n"
_CATALOGUE_LINE: Final = f"{CATALOGUE}:Hands:Hands\n"

_PICTURE_SIZE: Final = 256  # pixels, as Blender's own previews
_PICTURE_SAMPLES: Final = 24
_PICTURE_MARGIN: Final = 1.1
_VIEW: Final = Vector((0.0, -0.8, 1.0))  # from where the hands are seen: in front of the person and above


def build_library(models: Mapping[Side, HandModel], scene: Any) -> Any:
    """Build both hands of the mean shape in rest pose as collection assets, and return the collection of both.

    Args:
        models: a hand model per side.
        scene: an empty scene, the current one; its render settings are for the assets' pictures afterwards.
    """
    both = bpy.data.collections.new(BOTH_HANDS)
    scene.collection.children.link(both)
    for side in SIDES:
        single = bpy.data.collections.new(f"Hand {side.title()}")
        both.children.link(single)
        hand = hand_rig.build_hand(models[side], np.zeros(SHAPE_COUNT), 1.0, single)
        hand.armature.location.x = SPACING / 2 * (1 if side == "left" else -1)
        _mark(single, f"A {side} hand, rigged; MANO's joints, X curls every finger", models[side].licence)
    _mark(both, "A left and a right hand, rigged; MANO's joints, X curls every finger", models["right"].licence)
    for collection in (both, *both.children):
        _set_picture(collection, _render_picture(scene, collection))
    return both


def write_catalogue(folder: Path) -> None:
    """Name the catalogue of the hands in the file that Blender reads beside a library; other catalogues stay.

    Raises:
        OutputError: the file cannot be written.
    """
    path = folder / _CATALOGUE_FILE
    text = path.read_text(encoding="utf-8") if path.is_file() else _CATALOGUE_HEAD
    if CATALOGUE not in text:
        write_whole(path, (text.rstrip("\n") + "\n" + _CATALOGUE_LINE).encode())


def _mark(collection: Any, description: str, licence: str) -> None:
    collection.asset_mark()
    data = collection.asset_data
    data.catalog_id = CATALOGUE
    data.description, data.license = description, licence
    data.author = "Two-Hand Capture"
    for tag in ("hand", "rig", "MANO"):
        data.tags.new(tag)


def _set_picture(collection: Any, pixels: NDArray[Any]) -> None:
    preview = collection.preview_ensure()
    preview.image_size = (_PICTURE_SIZE, _PICTURE_SIZE)
    preview.image_pixels_float.foreach_set(pixels)


def _render_picture(scene: Any, collection: Any) -> NDArray[Any]:
    """RGBA [N * N * 4] of the meshes of a collection, rows from below, on nothing.

    By Cycles on the CPU: it needs no graphics driver, where this runs there often is none.
    """
    meshes = [item for item in collection.all_objects if item.type == "MESH"]
    others = [item for item in scene.objects if item.type == "MESH" and item not in meshes]
    camera = bpy.data.objects.new("Picture", bpy.data.cameras.new("Picture"))
    light = bpy.data.objects.new("Light", bpy.data.lights.new("Light", "SUN"))
    light.data.energy, light.data.angle = 3.0, 0.5
    light.rotation_euler = (0.6, 0.5, 0.0)
    for item in (camera, light):
        scene.collection.objects.link(item)
    camera.rotation_euler = _VIEW.to_track_quat("Z", "Y").to_euler()
    bpy.context.view_layer.update()
    corners = np.array([item.matrix_world @ Vector(corner) for item in meshes for corner in item.bound_box])
    turn = np.array(camera.matrix_world.to_3x3())
    seen = corners @ turn
    camera.location = turn @ (seen.min(axis=0) + seen.max(axis=0)) / 2 + np.array(_VIEW)
    camera.data.type = "ORTHO"
    camera.data.ortho_scale = _PICTURE_MARGIN * float(np.ptp(seen[:, :2], axis=0).max())
    for item in others:
        item.hide_render = True
    with tempfile.TemporaryDirectory() as folder:
        pixels = _render(scene, camera, Path(folder) / "picture.png")
    for item in others:
        item.hide_render = False
    for item in (camera, light):
        data = item.data
        bpy.data.objects.remove(item)
        getattr(bpy.data, "cameras" if data.id_type == "CAMERA" else "lights").remove(data)
    return pixels


def _render(scene: Any, camera: Any, path: Path) -> NDArray[Any]:
    render = scene.render
    scene.camera = camera
    render.engine = "CYCLES"
    scene.cycles.samples = _PICTURE_SAMPLES
    scene.cycles.use_denoising = False  # takes three times as long as the picture itself
    scene.cycles.device = "CPU"
    render.film_transparent = True
    render.resolution_x = render.resolution_y = _PICTURE_SIZE
    render.filepath = str(path)
    scene.view_settings.view_transform = "Standard"
    bpy.ops.render.render(write_still=True)
    image = bpy.data.images.load(str(path))
    pixels: NDArray[Any] = np.empty(4 * _PICTURE_SIZE**2, np.float32)
    image.pixels.foreach_get(pixels)
    bpy.data.images.remove(image)
    return pixels
