"""Export a take's hands from a window in which somebody is posing them, through the file browser and by script."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import bpy

if TYPE_CHECKING:
    from pathlib import Path

    from tests.gui.inside import Gui, Steps


def what_is_shown() -> dict[str, Any]:
    """What the user works on."""
    window = bpy.context.window_manager.windows[0]
    layer = window.view_layer
    return {
        "scene": window.scene.name,
        "layer": layer.name,
        "frame": window.scene.frame_current,
        "active": layer.objects.active.name,
        "mode": layer.objects.active.mode,
        "selected": sorted(item.name for item in layer.objects if item.select_get(view_layer=layer)),
        "scenes": [scene.name for scene in bpy.data.scenes],
        "objects": [item.name for item in bpy.data.objects],
        "actions": [(action.name, action.users) for action in bpy.data.actions],
        "armatures": [data.name for data in bpy.data.armatures],
    }


def steps(gui: Gui) -> Steps:
    """Pose a hand, export, undo the pose."""
    yield from gui.install_extension(gui.values["extension"])
    yield from gui.open_sidebar("Hands")
    yield from gui.key("DEL")
    yield from gui.drop_file(gui.values["take"])
    yield lambda: "Hand Left" in bpy.data.objects, 10
    scene = gui.window().scene
    layer = scene.view_layers.new("Other")
    gui.window().view_layer = layer
    scene.frame_set(7)
    with gui.within():
        layer.objects.active = bpy.data.objects["Hand Left"]
        bpy.ops.object.mode_set("EXEC_DEFAULT", True, mode="POSE")
    bone = bpy.data.objects["Hand Left"].pose.bones["wrist.L"]
    bone.scale = (1.5, 1.5, 1.5)
    bpy.ops.ed.undo_push(message="Scale the Wrist")
    yield from gui.pass_by()
    before = what_is_shown()

    folder = gui.folder / "out"
    folder.mkdir()
    yield from export_from_browser(gui, folder)
    assert what_is_shown() == before

    told = {}
    for kind in ("FBX", "GLTF", "BVH", "USD"):
        scene.two_hands.export.format = kind
        try:
            with gui.within():
                bpy.ops.hands.export("EXEC_DEFAULT", True, filepath=str(folder / "hands"))
        except RuntimeError as error:
            told[kind] = str(error)
        yield from gui.pass_by()
        assert what_is_shown() == before, kind
    gui.note("told", told)
    gui.note("files", {file.name: file.stat().st_size for file in folder.iterdir()})
    yield from gui.picture("exported")

    yield from gui.undo()
    assert tuple(bpy.data.objects["Hand Left"].pose.bones["wrist.L"].scale) == (1.0, 1.0, 1.0)
    assert what_is_shown()["mode"] == "POSE"
    yield from gui.redo()
    assert what_is_shown() == before
    gui.window().scene.frame_set(20)
    yield from gui.pass_by()


def export_from_browser(gui: Gui, folder: Path) -> Steps:
    """Press the button, name the file in Blender's own dialog and confirm."""
    gui.window().scene.two_hands.export.format = "GLB"
    with gui.within():
        bpy.ops.hands.export("INVOKE_DEFAULT")
    yield lambda: any(find_browsers()), 10
    yield from gui.pass_by(0.5)
    (window, area) = find_browsers()[0]
    gui.note("offered", area.spaces.active.params.filename)
    area.spaces.active.params.directory = str(folder).encode()
    area.spaces.active.params.filename = "from_browser"
    with bpy.context.temp_override(window=window, area=area, region=area.regions[-1]):
        bpy.ops.file.execute("INVOKE_DEFAULT")
    yield lambda: any(folder.iterdir()), 60
    yield from gui.pass_by(0.5)


def find_browsers() -> list[tuple[Any, Any]]:
    """Every file browser, with its window."""
    return [
        (window, area)
        for window in bpy.context.window_manager.windows
        for area in window.screen.areas
        if area.type == "FILE_BROWSER"
    ]
