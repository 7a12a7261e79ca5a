"""Install the zip, open the tab, import a take: the hands stand in front of the footage camera with keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

import bpy

if TYPE_CHECKING:
    from tests.gui.inside import Gui, Steps


def steps(gui: Gui) -> Steps:
    """From an empty Blender to keyed hands, and back and forth by undo."""
    yield from gui.install_extension(gui.values["extension"])
    yield from gui.open_sidebar("Hands")
    yield from gui.picture("installed")
    yield from gui.key("DEL")  # the factory's cube, around the place where the footage camera will stand
    assert "Cube" not in bpy.context.view_layer.objects

    with gui.stalls("idle"):
        yield 2.0
    with gui.stalls("import"):
        yield from gui.drop_file(gui.values["take"])
        yield lambda: "Hand Left" in bpy.data.objects, 10
    hands = {name: bpy.data.objects[name].animation_data.action for name in ("Hand Left", "Hand Right")}
    gui.note("frames", {name: list(action.frame_range) for name, action in hands.items()})
    with gui.within():
        bpy.ops.view3d.view_camera()
    yield from gui.picture("imported")

    yield from gui.undo()
    assert "Hand Left" not in bpy.data.objects
    yield from gui.picture("undone")
    yield from gui.redo()
    assert "Hand Left" in bpy.data.objects
