"""Started again after a Blender that quit while it captured: the capture is listed and can be resumed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import bpy

if TYPE_CHECKING:
    from tests.gui.inside import Gui, Steps

ADD_ON = "bl_ext.user_default.two_hand_capture"


def room(name: str) -> Any:
    """A module of the installed add-on."""
    return sys.modules[f"{ADD_ON}.{name}"]


def steps(gui: Gui) -> Steps:
    """Find it, resume it, add its take to a file that never asked for it."""
    capture_job = room("capture_job")
    yield from gui.open_sidebar("Hands")
    (job,) = capture_job.jobs()
    assert job.phase == "stopped", job.phase
    assert not job.is_active
    gui.note("kept", job.factor)
    yield from gui.picture("1_resume_is_offered")
    with gui.within():
        assert bpy.ops.hands.resume_capture("EXEC_DEFAULT", True, job=job.name) == {"FINISHED"}
    yield lambda: job.phase == "running", 20
    yield lambda: not job.is_active, 300
    assert job.phase == "finished", job.error
    yield 3.0
    takes = bpy.context.scene.two_hands.takes
    assert not len(takes), "the file that asked was never saved and is not this one"
    with gui.within():
        assert bpy.ops.hands.add_captured("EXEC_DEFAULT", True, job=job.name) == {"FINISHED"}
    yield lambda: len(takes) == 1, 20
    gui.note("digest", takes[0].content)
    assert not capture_job.jobs()
    yield from gui.picture("2_resumed")
