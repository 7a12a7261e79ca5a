"""Import landmarks through the file browser while Blender stays free, undo it, cancel one, export parameters."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import bpy

if TYPE_CHECKING:
    from tests.gui.inside import Gui, Steps


def steps(gui: Gui) -> Steps:
    """Footage, its landmarks, hands in front of it."""
    yield from gui.install_extension(gui.values["extension"])
    yield from gui.open_sidebar("Hands")
    yield from gui.key("DEL")
    with gui.within():
        bpy.ops.hands.load_footage("EXEC_DEFAULT", True, filepath=gui.values["footage"])
    folder = gui.folder / "takes"
    addon = bpy.context.preferences.addons["bl_ext.user_default.two_hand_capture"]
    addon.preferences.takes_folder = str(folder)

    yield from choose_in_browser(gui, Path(gui.values["results"]), "browser")
    yield lambda: "Hand Left" in bpy.data.objects, 60
    gui.note("names", [item.name for item in gui.window().scene.two_hands.takes])
    gui.window().scene.frame_set(40)
    yield from gui.picture("imported")

    yield from gui.undo()
    assert "Hand Left" not in bpy.data.objects
    assert not len(gui.window().scene.two_hands.takes)
    yield from gui.redo()
    assert "Hand Left" in bpy.data.objects

    before = sorted(path.name for path in folder.iterdir())
    yield from choose_in_browser(gui, Path(gui.values["long"]), "browser again")
    with gui.stalls("import"):
        yield 1.0
    yield from gui.picture("importing")
    yield from gui.key("ESC")
    yield from gui.pass_by(3.0)
    assert sorted(path.name for path in folder.iterdir()) == before
    assert len(gui.window().scene.two_hands.takes) == 1

    with gui.within():
        bpy.ops.hands.export_parameters("EXEC_DEFAULT", True, filepath=str(gui.folder / "hands.csv"), kind="CSV")
    gui.note("lines", len((gui.folder / "hands.csv").read_text().splitlines()))


def choose_in_browser(gui: Gui, path: Path, picture: str) -> Steps:
    """Press the button, choose the file in Blender's own dialog and confirm."""
    with gui.within():
        bpy.ops.hands.import_results("INVOKE_DEFAULT")
    yield lambda: any(find_browsers()), 10
    yield from gui.pass_by(0.5)
    (window, area) = find_browsers()[0]
    gui.take_picture(picture)
    area.spaces.active.params.directory = str(path.parent).encode()
    area.spaces.active.params.filename = path.name
    with bpy.context.temp_override(window=window, area=area, region=area.regions[-1]):
        bpy.ops.file.execute("INVOKE_DEFAULT")
    yield lambda: not find_browsers(), 10


def find_browsers() -> list[tuple[Any, Any]]:
    """Every file browser, with its window."""
    return [
        (window, area)
        for window in bpy.context.window_manager.windows
        for area in window.screen.areas
        if area.type == "FILE_BROWSER"
    ]
