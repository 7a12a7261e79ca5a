"""The operators that only a 3D view can have: looking through the footage's camera and drawing the start box."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import bpy

if TYPE_CHECKING:
    from tests.gui.inside import Gui, Steps


def capture() -> Any:
    """How the scene is captured."""
    return bpy.context.scene.two_hands.capture


def box() -> list[float]:
    """The start box, empty where it is not used."""
    return list(capture().box) if capture().use_box else []


def steps(gui: Gui) -> Steps:
    """Each of them, undone and redone."""
    yield from gui.install_extension(gui.values["extension"])
    with gui.within():
        bpy.ops.hands.load_footage("EXEC_DEFAULT", True, filepath=gui.values["footage"], use_camera=False)
        bpy.context.scene.camera = bpy.data.objects["Camera"]
        bpy.ops.ed.undo_push(message="Another camera")
    footage_camera = bpy.context.scene.two_hands.footage.camera.name
    yield from gui.pass_by()

    with gui.within():
        assert not bpy.ops.hands.draw_box.poll()
        assert bpy.ops.hands.look_through("INVOKE_DEFAULT", True) == {"FINISHED"}
    yield from gui.pass_by()
    assert gui.area().spaces.active.region_3d.view_perspective == "CAMERA"
    assert bpy.context.scene.camera.name == footage_camera
    yield from gui.picture("1_looks_through")
    yield from gui.undo()
    assert bpy.context.scene.camera.name == "Camera"
    yield from gui.redo()
    assert bpy.context.scene.camera.name == footage_camera

    x, y = gui.middle()
    with gui.within():
        assert bpy.ops.hands.draw_box("INVOKE_DEFAULT", True) == {"RUNNING_MODAL"}
    yield from gui.key("ESC")
    assert box() == []
    with gui.within():
        bpy.ops.hands.draw_box("INVOKE_DEFAULT", True)
    yield from gui.drag((x - 80, y + 60), (x + 80, y - 60))
    drawn = box()
    gui.note("box", drawn)
    assert min(drawn[2:]) > 8
    yield from gui.picture("2_box")
    yield from gui.undo()
    assert box() == []
    assert bpy.context.scene.camera.name == footage_camera
    yield from gui.redo()
    assert box() == drawn
