"""The whole way in a window: drop a video, capture, hands with keys, clean up, correct, undo, save, open again."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import bpy

if TYPE_CHECKING:
    from tests.gui.inside import Gui, Steps

ADD_ON = "bl_ext.user_default.two_hand_capture"


def room(name: str) -> Any:
    """A module of the installed add-on."""
    return sys.modules[f"{ADD_ON}.{name}"]


def hands() -> Any:
    """Everything of the add-on in the scene."""
    return bpy.context.scene.two_hands


def take() -> Any:
    """The row of the only take."""
    return hands().takes[0]


def keys_are_as_wanted() -> bool:
    """Whether the keys say that they are made from what the scene asks for."""
    clean_job, take_keys = room("clean_job"), room("take_keys")
    return take_keys.keyed_digest(take()) == clean_job.wanted_digest(bpy.context.scene, take())


def finger_keys() -> list[float]:
    """The values of one finger's curve."""
    keying = room("keying")
    curves = keying.curves_of(take().keying.right)
    curve = next(curve for curve in curves if "index2" in curve.data_path and curve.array_index == 1)
    return [point.co[1] for point in curve.keyframe_points]


def undo_and_redo(gui: Gui, before: list[float], after: list[float]) -> Steps:
    """One step back and one forth: settings and keys come and go together."""
    yield from gui.undo()
    yield keys_are_as_wanted, 20
    assert finger_keys() == before
    yield from gui.redo()
    yield keys_are_as_wanted, 20
    assert finger_keys() == after


def install(gui: Gui) -> Steps:
    """The zip; the words of another language; nothing in the way."""
    yield from gui.install_extension(gui.values["extension"])
    yield from gui.open_sidebar("Hands")
    yield from gui.key("DEL")
    yield from gui.picture("1_installed")
    view = bpy.context.preferences.view
    view.language, view.use_translate_interface = "de_DE", True
    gui.note("german", bpy.app.translations.pgettext_iface("Key Hands", "Operator"))
    view.language = "en_US"


def drop(gui: Gui) -> Steps:
    """A video dropped on the viewport becomes the camera's background."""
    yield from gui.drop_file(gui.values["footage"])
    yield from gui.picture("2_dropped")
    yield from gui.key("L", "l")  # Blender itself can take a video, too, and asks
    yield lambda: hands().footage.clip is not None, 20
    yield from gui.open_sidebar("Hands")
    yield 1.0
    yield from gui.picture("3_footage")


def capture(gui: Gui) -> Steps:
    """A capture at whose end two hands have clean keys."""
    with gui.stalls("idle"):
        yield 3.0
    with gui.within():
        assert bpy.ops.hands.capture("INVOKE_DEFAULT", True) == {"FINISHED"}
    capture_job = room("capture_job")
    with gui.stalls("capture"):
        yield lambda: capture_job.jobs() and capture_job.jobs()[0].factor > 0.45, 120
        gui.take_picture("4_capturing")
        yield lambda: capture_job.jobs()[0].factor > 0.95, 300
    with gui.stalls("build"):
        yield lambda: len(hands().takes) == 1, 60
        yield keys_are_as_wanted, 60
    gui.note("report", capture_job.last_report())
    assert {each.type for each in (take().keying.left, take().keying.right)} == {"ARMATURE"}
    bpy.context.scene.frame_set(int(gui.values["look_at"]))
    yield from gui.picture("5_hands")


def slide(gui: Gui) -> Steps:
    """A slider of the clean-up, and what undo makes of it."""
    before = finger_keys()
    with gui.within():
        bpy.ops.ed.undo_push(message="Before the slider")
        take().clean_up.fingers = 4.0
        bpy.ops.ed.undo_push(message="Fingers")
    with gui.stalls("slider"):
        began = time.monotonic()
        yield keys_are_as_wanted, 20
        gui.note("slider_seconds", time.monotonic() - began)
    strong = finger_keys()
    assert strong != before
    yield from gui.picture("6_clean_up")
    yield from undo_and_redo(gui, before, strong)
    assert take().clean_up.fingers == 4.0


def swap(gui: Gui) -> Steps:
    """A range in which left and right are exchanged by hand."""
    before = finger_keys()
    hands().review.first, hands().review.last = 20, 40
    with gui.within():
        assert bpy.ops.hands.edit_take("EXEC_DEFAULT", True, kind="swap") == {"FINISHED"}
    yield keys_are_as_wanted, 20
    swapped = finger_keys()
    assert swapped != before
    yield from gui.picture("7_swapped")
    yield from undo_and_redo(gui, before, swapped)


def reopen(gui: Gui) -> Steps:
    """The file says everything when it is opened again."""
    before, path = finger_keys(), str(gui.folder / "whole_way.blend")
    with gui.within():
        bpy.ops.wm.save_as_mainfile(filepath=path)
        bpy.ops.wm.open_mainfile(filepath=path)
    yield from gui.pass_by(1.0)
    assert keys_are_as_wanted()
    assert finger_keys() == before
    assert len(room("takes").edits_of(take())) == 1
    yield from gui.open_sidebar("Hands")
    yield from gui.picture("8_reopened")


def steps(gui: Gui) -> Steps:
    """As an animator would go it."""
    for stretch in (install, drop, capture, slide, swap, reopen):
        yield from stretch(gui)
