"""Real rigs for Blender tests, as tests/data/rigs keeps them."""

import json
from pathlib import Path
from typing import Any

import addon_utils
import bpy
import numpy as np

from dir_core.conventions import Side

FOLDER = Path(__file__).parents[1] / "data" / "rigs"

MAKEHUMAN = ("default", "game_engine", "mixamo")
"""Rigs that MakeHuman and MPFB give their characters."""


def build_makehuman(rig: str) -> Any:
    """The armature object of a MakeHuman character, with the skin of its forearms and hands as a child."""
    data = bpy.data.armatures.new(rig)
    armature = bpy.data.objects.new(rig, data)
    bpy.context.scene.collection.objects.link(armature)
    bpy.context.view_layer.objects.active = armature
    bpy.ops.object.mode_set(mode="EDIT")
    entries = json.loads((FOLDER / "makehuman" / f"{rig}.json").read_text("utf-8"))
    for entry in entries:
        bone = data.edit_bones.new(entry["name"])
        bone.head, bone.tail, bone.roll = entry["head"], entry["tail"], entry["roll"]
    for entry in entries:  # a bone may come before its parent
        data.edit_bones[entry["name"]].parent = data.edit_bones.get(entry["parent"])
    bpy.ops.object.mode_set(mode="OBJECT")

    with np.load(FOLDER / "makehuman" / "skin.npz") as skin:
        mesh = bpy.data.meshes.new(f"{rig} skin")
        mesh.from_pydata(skin["vertices"].tolist(), [], skin["faces"].tolist())
        mesh.shade_smooth()
        body = bpy.data.objects.new(mesh.name, mesh)
        bpy.context.scene.collection.objects.link(body)
        groups = [body.vertex_groups.new(name=name) for name in skin[f"{rig}_bones"].tolist()]
        pairs = zip(skin[f"{rig}_indices"].tolist(), skin[f"{rig}_weights"].tolist(), strict=True)
        for (group, vertex), weight in pairs:
            groups[group].add([vertex], weight, "REPLACE")
    body.parent = armature
    body.modifiers.new("Armature", "ARMATURE").object = armature
    return armature


def import_webxr(side: Side) -> Any:
    """The armature object of a WebXR hand, as Blender's importer makes it of the file."""
    addon_utils.enable("io_scene_gltf2")
    before = set(bpy.data.objects)
    bpy.ops.import_scene.gltf(filepath=str(FOLDER / "webxr" / f"{side}.glb"))
    return next(item for item in bpy.data.objects if item not in before and item.type == "ARMATURE")
