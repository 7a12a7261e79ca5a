"""What tests of whole operators set up alike: a user folder of the test's own, and a file with everything in it."""

import os
from pathlib import Path
from typing import Any

import bpy
import numpy as np
import pytest

from addon import footage_view, takes
from dir_core.hand_model import open_hand_models
from dir_core.take import save_take
from tests.takes import make_raw_take

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "blender_assets" / "demo" / "two_hands.mp4"
"""150 frames of both hands at 30 fps, 640 x 480 pixels."""

FRAMES = 12
"""Of a take that is made and not captured."""


def use_own_user_folder(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let everything that would go into the user's own folders go into `folder`."""

    def user_resource(kind: str, *, path: str = "", create: bool = False) -> str:
        wanted = folder / kind.lower() / path
        if create:
            wanted.mkdir(parents=True, exist_ok=True)
        return os.fspath(wanted)

    monkeypatch.setattr(bpy.utils, "user_resource", user_resource)


def load_footage(path: Path = DEMO) -> Any:
    """The scene with footage, its camera and the footage's size and rate."""
    scene = bpy.context.scene
    scene.render.fps = 30
    clip = footage_view.load_footage(path)
    footage_view.set_render_size(scene, tuple(clip.size))
    footage_view.use_footage(scene, clip)
    return scene


def write_take(path: Path) -> Path:
    """A raw take of moving hands in a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_take(make_raw_take(open_hand_models(), times=np.arange(FRAMES) / 30)[0], path)
    return path


def add_hands(path: Path, *, clean: bool = False) -> Any:
    """Add the take in a file with its rigs and keys, raw unless told otherwise: the clean-up process takes seconds."""
    assert bpy.ops.hands.add_take(filepath=str(path), build=False) == {"FINISHED"}
    item = takes.active_take(bpy.context.scene)
    item.clean_up.enabled = clean
    assert bpy.ops.hands.key_hands() == {"FINISHED"}
    return takes.active_take(bpy.context.scene)
