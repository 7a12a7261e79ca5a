"""The pictures of the documentation: every panel with something to show, on a screen tall enough for all of them."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bpy

sys.path.insert(0, str(Path(__file__).parent))
from scenario_whole_way import ADD_ON, hands, keys_are_as_wanted, room

if TYPE_CHECKING:
    from tests.gui.inside import Gui, Steps


def open_all_panels() -> None:
    """Register the closed panels again as open ones, under names that Blender has not yet kept as closed."""
    for cls in room("registration").classes():
        if issubclass(cls, bpy.types.Panel) and "DEFAULT_CLOSED" in getattr(cls, "bl_options", ()):
            bpy.utils.unregister_class(cls)
            cls.bl_options = cls.bl_options - {"DEFAULT_CLOSED"}
            if getattr(cls, "bl_parent_id", ""):
                cls.bl_idname = f"{cls.__name__}_open"
            bpy.utils.register_class(cls)


@contextlib.contextmanager
def taken_away(*names: str) -> Iterator[None]:
    """Without these top panels, so that those below them come into the picture."""
    panels = [
        cls
        for cls in room("registration").classes()
        if issubclass(cls, bpy.types.Panel) and {cls.__name__, getattr(cls, "bl_parent_id", "")} & set(names)
    ]
    for cls in reversed(panels):
        bpy.utils.unregister_class(cls)
    yield
    for cls in panels:
        bpy.utils.register_class(cls)


def steps(gui: Gui) -> Steps:
    """Install, load, capture, correct; with open panels if they are what the pictures are about."""
    yield from gui.install_extension(gui.values["extension"])
    bpy.context.preferences.system.use_region_overlap = False
    is_about_panels = gui.values["about"] == "panels"
    if is_about_panels:
        open_all_panels()
    yield from gui.open_sidebar("Hands")
    yield from gui.key("DEL")
    yield from gui.picture("installed")
    with gui.within():
        bpy.ops.hands.load_footage("EXEC_DEFAULT", True, filepath=gui.values["footage"])
        bpy.ops.hands.use_footage_rate("EXEC_DEFAULT", True)
        bpy.ops.hands.use_footage_length("EXEC_DEFAULT", True)
    yield from gui.pass_by(1.0)
    yield from gui.picture("footage")
    with gui.within():
        bpy.ops.hands.capture("INVOKE_DEFAULT", True)
    jobs: Any = room("capture_job").jobs
    yield lambda: jobs() and jobs()[0].factor > 0.5, 120
    gui.take_picture("capturing")
    yield lambda: len(hands().takes) == 1, 200
    yield keys_are_as_wanted, 60
    bpy.context.scene.frame_set(75)
    yield from gui.pass_by(1.0)
    yield from gui.picture("hands")
    hands().review.first, hands().review.last = 110, 125
    with gui.within():
        bpy.ops.hands.edit_take("EXEC_DEFAULT", True, kind="trust")
        bpy.ops.hands.add_layer("EXEC_DEFAULT", True)
    yield keys_are_as_wanted, 20
    yield from gui.picture("corrected")
    if is_about_panels:
        with taken_away("HANDS_PT_footage", "HANDS_PT_capture", "HANDS_PT_review"):
            yield from gui.picture("lower_panels")
        return
    bpy.ops.screen.userpref_show("INVOKE_DEFAULT")
    bpy.context.preferences.active_section = "ADDONS"
    bpy.context.window_manager.addon_search = "Two-Hand"
    bpy.ops.preferences.addon_expand(module=ADD_ON)
    yield from gui.pass_by(1.0)
    gui.take_picture("preferences")
