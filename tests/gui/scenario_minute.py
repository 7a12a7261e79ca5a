"""A minute of video: how long after a change its keys are there, and how long Blender stays away meanwhile."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import bpy

sys.path.insert(0, str(Path(__file__).parent))
from scenario_whole_way import hands, keys_are_as_wanted, take

if TYPE_CHECKING:
    from tests.gui.inside import Gui, Steps

CHANGES = ("fingers", "wrist_rotation", "wrist_position", "fill")


def steps(gui: Gui) -> Steps:
    """Add a take, then change one setting after the other."""
    yield from gui.install_extension(gui.values["extension"])
    yield from gui.open_sidebar("Hands")
    with gui.stalls("build"), gui.within():
        bpy.ops.hands.add_take("EXEC_DEFAULT", True, filepath=gui.values["take"], use_footage=False)
        yield lambda: len(hands().takes) == 1, 20
        yield keys_are_as_wanted, 60
    seconds = {}
    for name in CHANGES:
        with gui.stalls(name):
            setattr(take().clean_up, name, 2.0)
            began = time.monotonic()
            yield keys_are_as_wanted, 60
            seconds[name] = round(time.monotonic() - began, 2)
    gui.note("seconds", seconds)
