"""Renders both hands in the poses that show bad axes at once; for an animator's eye, not for a machine.

    python -m tests.blender.curl_sheet OUT.png

Flat, fist, point, pinch and spread, each from the palm, the back and the thumb's side. Every pose is made as an
animator makes it: bones turned about their own axes, on the right hand as Blender pastes a flipped pose.
"""

import math
import os
import sys
from pathlib import Path

import bpy
import numpy as np
from mathutils import Euler, Matrix, Vector

from addon import hand_rig
from addon.footage_view import light_scene
from dir_core.conventions import FINGERS, SIDES
from dir_core.hand_model import open_hand_models

Degrees = tuple[float, float, float]

FOUR = FINGERS[1:]


def curl(fingers, *degrees: float) -> dict[str, Degrees]:
    """Only local X of the joints of `fingers`."""
    return {f"{finger}{rank}": (turn, 0.0, 0.0) for finger in fingers for rank, turn in enumerate(degrees, 1)}


POSES: dict[str, dict[str, Degrees]] = {
    "flat": {},
    "fist, only X": {**curl(FOUR, 85, 105, 70), **curl(["thumb"], 25, 35, 45)},
    "point": {**curl(FOUR[1:], 85, 105, 70), **curl(["thumb"], 25, 35, 45)},
    "pinch": {**curl(["index"], 33, 55, 34), **curl(FOUR[1:], 12, 18, 12), **curl(["thumb"], 14, 8, 13)},
    "spread": {
        "index1": (0, 0, 14), "middle1": (0, 0, 3), "ring1": (0, 0, -9), "pinky1": (0, 0, -20), "thumb1": (0, 0, 20),
    },
}  # fmt: skip
"""Joint -> degrees about local X, Y, Z."""

VIEWS = {"palm": (90, 0), "back": (-90, 0), "thumb side": (90, 80)}
"""Degrees about the fingers' axis, then about the vertical."""

_CELL = (0.30, 0.26)


def pose(armature, side: str, joints: dict[str, Degrees]) -> None:
    """Turn bones about their own axes; degrees are those of the left hand."""
    for joint, degrees in joints.items():
        bone = armature.pose.bones[hand_rig.bone_name(joint, side)]
        turned = Euler([math.radians(turn) for turn in degrees]).to_quaternion()
        if side == "right":  # as Blender pastes a flipped pose
            turned.y, turned.z = -turned.y, -turned.z
        bone.rotation_quaternion = turned


def stand(armature, side: str, view: tuple[float, float], place: Vector) -> None:
    """Stand the hand at `place`, fingers up, turned to show `view`; the camera looks along +y."""
    sign = 1 if side == "left" else -1
    upright = Matrix.Rotation(math.radians(-90 * sign), 4, "Y")  # fingers along z
    palm_to_camera = Matrix.Rotation(math.radians(-sign * view[0]), 4, "Z")
    turn = Matrix.Rotation(math.radians(-sign * view[1]), 4, "Z")
    armature.matrix_world = Matrix.Translation(place) @ turn @ palm_to_camera @ upright


def render(path: Path, engine: str) -> None:
    """Build the sheet and render it."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    models = open_hand_models()
    columns, rows = 2 * len(VIEWS), len(POSES)
    for row, joints in enumerate(POSES.values()):
        for column, view in enumerate(VIEWS.values()):
            for half, side in enumerate(("right", "left")):
                hand = hand_rig.build_hand(models[side], np.zeros(10), 1.0, scene.collection)
                pose(hand.armature, side, joints)
                x, z = _CELL[0] * (2 * column + half), -_CELL[1] * row
                stand(hand.armature, side, view, Vector((x, 0, z)))
    light_scene(scene)
    data = bpy.data.cameras.new("Sheet")
    data.type, data.ortho_scale = "ORTHO", columns * _CELL[0]
    camera = bpy.data.objects.new("Sheet", data)
    camera.location = ((columns - 1) * _CELL[0] / 2, -2, -(rows - 1) * _CELL[1] / 2 + 0.09)
    camera.rotation_euler = (math.radians(90), 0, 0)
    scene.collection.objects.link(camera)
    scene.camera = camera
    scene.render.engine = engine
    if engine == "CYCLES":
        scene.cycles.samples = 16
        scene.cycles.use_denoising = False
    scene.render.resolution_x = 1800
    scene.render.resolution_y = round(1800 * rows * _CELL[1] / (columns * _CELL[0]))
    scene.display.shading.color_type = "MATERIAL"
    scene.display.shading.show_cavity = True
    scene.display.shading.show_shadows = True
    scene.render.filepath = str(path.resolve())
    bpy.ops.render.render(write_still=True)


if __name__ == "__main__":
    assert set(SIDES) == {"left", "right"}
    render(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "BLENDER_WORKBENCH")
    sys.stdout.flush()
    os._exit(0)
