"""Real footage in, keyed hands out: do the bones lie on the filmed hands, in sync, through the scene camera?"""

import subprocess
import sys
from pathlib import Path

import bpy
import numpy as np
import pytest

from dir_core.conventions import KEYPOINT_SOURCES, SIDES
from dir_core.take import load_take
from tests.blender.test_command_line import bone_heads
from tests.blender.test_footage_view import pixels_of

ROOT = Path(__file__).resolve().parents[2]
JOINT_OF_KEYPOINT = {k: joint for k, joint in enumerate(KEYPOINT_SOURCES) if joint < 16}


def call(*arguments: object) -> None:
    command = [sys.executable, "-m", *map(str, arguments)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=300, capture_output=True)


def misses(take, scene, side, row) -> np.ndarray:
    """Distances between bone heads and seen key points in percent of the hand's length in the image."""
    size = tuple(int(n) for n in take.image_size)
    heads = pixels_of(scene, scene.camera, bone_heads(scene, side, scene.frame_start + row), size)
    seen = take.hand(side).keypoints_2d[row]
    length = np.linalg.norm(np.diff(seen[[0, 9, 10, 11, 12]], axis=0), axis=-1).sum()
    length = max(length, np.ptp(seen, axis=0).max())
    return np.array([100 * np.linalg.norm(heads[j] - seen[k]) / length for k, j in JOINT_OF_KEYPOINT.items()])


@pytest.mark.parametrize("name", ["demo", "composite"])
def test_bones_lie_on_the_filmed_hands(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if name == "demo":
        video = ROOT / "blender_assets" / "demo" / "two_hands.mp4"
    else:
        video = request.getfixturevalue("shared") / "footage" / "two_hands_composite.mp4"
    call("dir_core", "capture", video, "-o", tmp_path / "take.npz")
    call("dir_core", "clean", tmp_path / "take.npz", "-o", tmp_path / "clean.npz")
    call("addon", tmp_path / "clean.npz", "-o", tmp_path / "hands.blend")
    take = load_take(tmp_path / "take.npz")
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "hands.blend"))
    scene = bpy.context.scene
    assert scene.render.fps / scene.render.fps_base == pytest.approx(30)
    assert scene.frame_end - scene.frame_start == len(take) - 1
    (background,) = scene.camera.data.background_images
    assert background.clip.frame_start == scene.frame_start
    assert background.clip.frame_duration == len(take)

    last = len(take) - 1
    for side in SIDES:
        for row in (0, last // 2, last):
            assert np.median(misses(take, scene, side, row)) < 6, (side, row)
    sample = range(0, len(take), max(len(take) // 30, 1))
    every = np.concatenate([misses(take, scene, side, row) for side in SIDES for row in sample])
    assert np.median(every) <= 4  # measured: see docs/PERFORMANCE.md
