"""Render the demo clip: two moving hands with known truth. Run it with the Python that has bpy.

    python blender_assets/build_demo_clip.py [--samples N] [--frames FIRST LAST]

Writes `demo/two_hands.mp4` and its truth `demo/two_hands.truth.npz`, a Take. The motion is a table of
poses below; rig, keys and camera are the add-on's own, so the clip also shows what they do.
"""

import argparse
import math
import os
import sys
from pathlib import Path
from typing import Any, Final

import bpy
import numpy as np
from mathutils import Vector
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from addon import footage_view
from addon.axes import camera_to_blender
from addon.scene import build_scene
from dir_core import __version__, rotations
from dir_core.camera import make_camera_matrix, project
from dir_core.conventions import DEFAULT_HAND_LENGTH, SIDES, Side
from dir_core.degrees_of_freedom import finger_geometry, rotations_from_angles
from dir_core.hand_model import HandModel, open_hand_models
from dir_core.take import SCHEMA, HandTrack, Take, save_take

Array = NDArray[Any]

FOLDER: Final = Path(__file__).resolve().parent / "demo"
SIZE: Final = (640, 480)
RATE: Final = 30
SECONDS: Final = 5.0

# A little off the average person, so that shape and proportions have to be found.
SHAPE: Final = np.array([0.0, 0.6, -0.4, 0.3, 0.5, -0.4, 0.3, -0.3, -0.5, 0.2])

# Degrees: bend1, spread, twist, bend2, bend3 of thumb, index, middle, ring, pinky.
POSES: Final[dict[str, tuple[tuple[float, ...], ...]]] = {
    "open": ((0, 0, 0, 0, 0), (5, 4, 0, 5, 3), (5, 0, 0, 5, 3), (5, -4, 0, 6, 4), (6, -8, 0, 8, 5)),
    "spread": ((-8, 12, 0, -5, -5), (-4, 14, 0, 4, 2), (-2, 1, 0, 3, 2), (-2, -11, 0, 4, 2), (-3, -20, 0, 5, 3)),
    "relaxed": ((8, 0, 0, 12, 15), (22, 2, 0, 28, 15), (26, 0, 0, 32, 18), (30, -2, 0, 34, 20), (32, -5, 0, 34, 20)),
    "fist": ((26, -8, 8, 38, 42), (78, 1, 0, 92, 55), (80, 0, 0, 96, 58), (80, -1, 0, 95, 56), (78, -3, 0, 90, 52)),
    "point": ((26, -8, 8, 38, 42), (6, 3, 0, 8, 5), (78, 0, 0, 95, 58), (80, -1, 0, 95, 56), (78, -3, 0, 90, 52)),
    "pinch": ((32, -4, 4, 22, 24), (46, 2, 0, 52, 30), (24, 0, 0, 24, 14), (18, -4, 0, 20, 12), (14, -9, 0, 18, 10)),
}

# Seconds, pose; then wrist (x, y, z) in metres, camera axes; then pitch, yaw, roll in degrees.
Key = tuple[float, str, tuple[float, float, float], tuple[float, float, float]]
MOTION: Final[dict[Side, tuple[Key, ...]]] = {
    "right": (
        (0.0, "open", (-0.135, 0.075, 0.56), (0, 5, 0)),
        (0.7, "spread", (-0.145, 0.055, 0.54), (5, -5, -8)),
        (1.4, "fist", (-0.120, 0.060, 0.50), (0, 10, 5)),
        (2.1, "point", (-0.125, 0.050, 0.52), (-8, 18, 8)),
        (2.9, "pinch", (-0.150, 0.060, 0.58), (-10, 28, -5)),
        (3.6, "relaxed", (-0.150, 0.080, 0.60), (10, 40, -10)),
        (4.3, "open", (-0.130, 0.070, 0.55), (0, -15, 4)),
        (5.0, "open", (-0.135, 0.075, 0.56), (0, 5, 0)),
    ),
    "left": (
        (0.0, "relaxed", (0.140, 0.080, 0.58), (5, -10, 0)),
        (0.8, "open", (0.130, 0.065, 0.55), (0, 5, 6)),
        (1.5, "pinch", (0.145, 0.055, 0.52), (-6, -22, 6)),
        (2.2, "spread", (0.150, 0.065, 0.55), (6, 4, 10)),
        (3.0, "point", (0.125, 0.055, 0.50), (-5, -14, -8)),
        (3.7, "fist", (0.130, 0.065, 0.53), (4, -12, -4)),
        (4.4, "spread", (0.145, 0.070, 0.57), (0, 12, 5)),
        (5.0, "relaxed", (0.140, 0.080, 0.58), (5, -10, 0)),
    ),
}

# Model axes -> camera axes of an upright hand that shows its palm to the camera.
_UPRIGHT: Final[dict[Side, Array]] = {
    "right": np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]),
    "left": np.array([[0.0, 0.0, -1.0], [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]),
}


def make_truth() -> Take:
    """The motion table as a Take."""
    models = open_hand_models()
    time = np.arange(round(SECONDS * RATE)) / RATE
    camera_matrix = make_camera_matrix(SIZE)
    return Take(
        meta={
            "schema": SCHEMA,
            "program": f"two-hand-capture {__version__}",
            "source": {"name": "two_hands.mp4", "size": list(SIZE), "frame_rate": RATE, "frame_count": len(time)},
            "estimator": {"name": "truth", "licence": "CC0-1.0", "weights": ""},
            "hand_model": {"name": models["right"].name, "licence": models["right"].licence},
            "settings": {},
            "history": [],
        },
        time=time,
        frame=np.arange(len(time)),
        camera_matrix=camera_matrix.astype(np.float32),
        image_size=np.array(SIZE),
        left=_truth_track("left", models["left"], time, camera_matrix),
        right=_truth_track("right", models["right"], time, camera_matrix),
    )


def _truth_track(side: Side, model: HandModel, time: Array, camera_matrix: Array) -> HandTrack:
    keys = MOTION[side]
    key_time = np.array([key[0] for key in keys])
    angles = _ease(time, key_time, np.radians([POSES[key[1]] for key in keys]))
    position = _ease(time, key_time, np.array([key[2] for key in keys]))
    pitch, yaw, roll = np.radians(_ease(time, key_time, np.array([key[3] for key in keys], float))).T
    turn = _about((1, 0, 0), pitch) @ _about((0, 1, 0), yaw) @ _about((0, 0, 1), roll)
    scale = DEFAULT_HAND_LENGTH / model.length(SHAPE)
    wrist = rotations.from_matrix(turn @ _UPRIGHT[side])
    rotation = rotations_from_angles(finger_geometry(model, SHAPE, scale), wrist, angles)
    rotation = rotations.make_continuous(rotation)
    keypoints = model.pose_keypoints(rotation, position, SHAPE, scale)
    return HandTrack(
        rotation=rotation.astype(np.float32),
        translation=position.astype(np.float32),
        shape=SHAPE.astype(np.float32),
        scale=np.array([scale], np.float32),
        keypoints_2d=project(keypoints, camera_matrix).astype(np.float32),
        keypoints_3d=keypoints.astype(np.float32),
        confidence=np.ones((len(time), 21), np.float32),
        observed=np.ones(len(time), bool),
    )


def _ease(time: Array, key_time: Array, values: Array) -> Array:
    """Minimum-jerk moves from key to key, with a short hold on each (Flash & Hogan 1985)."""
    index = np.clip(np.searchsorted(key_time, time, side="right") - 1, 0, len(key_time) - 2)
    share = (time - key_time[index]) / (key_time[index + 1] - key_time[index])
    u = np.clip((share - 0.1) / 0.8, 0, 1)
    blend = (10 * u**3 - 15 * u**4 + 6 * u**5).reshape(-1, *([1] * (values.ndim - 1)))
    return (1 - blend) * values[index] + blend * values[index + 1]


def _about(axis: tuple[int, int, int], angle: Array) -> Array:
    return rotations.to_matrix(rotations.from_rotation_vector(angle[:, None] * np.array(axis, float)))


def build_set(take: Take) -> None:
    """A room for the take: hands, sleeves, backdrop and three soft lights."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.render.fps = RATE
    built = build_scene(take, open_hand_models(), scene, start=1)
    scene.camera = built.camera
    footage_view.match_render_size(scene, take)
    scene.frame_start, scene.frame_end = 1, len(take)
    scene.view_settings.view_transform = "Standard"
    for side in SIDES:
        _add_sleeve(built.hands[side].armature, side)
    _add_backdrop()
    # Place and target in camera axes; watts; metres.
    for name, place, power, size in (
        ("Key", (-0.7, -0.8, -0.3), 20.0, 0.7),
        ("Fill", (0.9, -0.1, -0.2), 8.0, 0.9),
        ("Rim", (0.3, -0.9, 1.1), 8.0, 0.5),
    ):
        data = bpy.data.lights.new(name, "AREA")
        data.energy, data.size = power, size
        light = bpy.data.objects.new(name, data)
        light.location = camera_to_blender(np.array(place))
        target = camera_to_blender(np.array([0.0, 0.05, 0.55]))
        light.rotation_euler = _look_at(np.array(light.location), target)
        scene.collection.objects.link(light)


def _add_sleeve(armature: Any, side: Side) -> None:
    """A cuff and forearm that follow the wrist bone, so that the hand does not float."""
    wrist = armature.data.bones[0]
    direction = -np.array(wrist.tail_local - wrist.head_local)
    direction /= np.linalg.norm(direction)
    rings, sides = 14, 40
    vertices, faces = [], []
    normal = np.array(wrist.z_axis)
    across = np.cross(direction, normal)
    for ring in range(rings):
        along = ring / (rings - 1)
        fold = 1.0 + 0.025 * math.sin(9.0 * along + (1.0 if side == "left" else 0.0))
        width, thickness = (0.037 + 0.016 * along) * fold, (0.031 + 0.017 * along) * fold
        for spoke in range(sides):
            angle = 2 * math.pi * spoke / sides
            centre = np.array(wrist.head_local) + direction * (0.014 + 0.26 * along)
            vertices.append(centre + width * math.cos(angle) * across + thickness * math.sin(angle) * normal)
        if ring:
            base = (ring - 1) * sides
            faces += [
                (base + a, base + (a + 1) % sides, base + sides + (a + 1) % sides, base + sides + a)
                for a in range(sides)
            ]
    mesh = bpy.data.meshes.new(f"Sleeve {side.title()}")
    mesh.from_pydata([tuple(vertex) for vertex in vertices], [], faces)
    mesh.polygons.foreach_set("use_smooth", [True] * len(faces))
    mesh.materials.append(_plain_material("Cloth", (0.05, 0.09, 0.16), 0.9))
    sleeve = bpy.data.objects.new(mesh.name, mesh)
    bpy.context.scene.collection.objects.link(sleeve)
    sleeve.vertex_groups.new(name=wrist.name).add(range(len(vertices)), 1.0, "REPLACE")
    sleeve.modifiers.new("Armature", "ARMATURE").object = armature
    sleeve.modifiers.new("Cloth", "SOLIDIFY").thickness = 0.003


def _add_backdrop() -> None:
    mesh = bpy.data.meshes.new("Backdrop")
    corners = np.array([[-2.0, -1.5, 1.3], [2.0, -1.5, 1.3], [2.0, 1.5, 1.3], [-2.0, 1.5, 1.3]])
    mesh.from_pydata([tuple(corner) for corner in camera_to_blender(corners)], [], [(0, 3, 2, 1)])
    mesh.materials.append(_plain_material("Wall", (0.42, 0.45, 0.46), 1.0))
    bpy.context.scene.collection.objects.link(bpy.data.objects.new("Backdrop", mesh))


def _plain_material(name: str, colour: tuple[float, float, float], roughness: float) -> Any:
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    shader = next(node for node in material.node_tree.nodes if node.type == "BSDF_PRINCIPLED")
    shader.inputs["Base Color"].default_value = (*colour, 1.0)
    shader.inputs["Roughness"].default_value = roughness
    return material


def _look_at(place: Array, target: Array) -> Any:
    return Vector(tuple(target - place)).to_track_quat("-Z", "Y").to_euler()


def main() -> None:
    """Render the clip, or a still of a few frames to look at."""
    parser = argparse.ArgumentParser(description="Render the demo clip and write its truth.")
    parser.add_argument("--samples", type=int, default=5)
    parser.add_argument("--stills", type=int, nargs="+", metavar="FRAME", help="only these frames, as PNG")
    parser.add_argument("-o", "--output", type=Path, default=FOLDER)
    options = parser.parse_args()

    truth = make_truth()
    options.output.mkdir(parents=True, exist_ok=True)
    build_set(truth)
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.cycles.samples = options.samples
    scene.cycles.use_denoising = True
    scene.cycles.denoising_prefilter = "NONE"
    scene.cycles.denoising_quality = "BALANCED"
    scene.cycles.max_bounces = 4
    if options.stills:
        scene.render.image_settings.file_format = "PNG"
        for frame in options.stills:
            scene.frame_set(frame)
            scene.render.filepath = str(options.output / f"still_{frame:04d}.png")
            bpy.ops.render.render(write_still=True)
        return
    save_take(truth, options.output / "two_hands.truth.npz")
    scene.render.image_settings.file_format = "FFMPEG"
    scene.render.ffmpeg.format = "MPEG4"
    scene.render.ffmpeg.codec = "H264"
    scene.render.ffmpeg.constant_rate_factor = "HIGH"
    scene.render.use_file_extension = False
    scene.render.filepath = str(options.output / "two_hands.mp4")
    bpy.ops.render.render(animation=True)


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)  # leaving Python the usual way, bpy can crash or hang
