"""The preview on the rig in a window: scrubbed, played, posed meanwhile, undone, saved, and gone without a trace."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import bpy

if TYPE_CHECKING:
    from tests.gui.inside import Gui, Steps

INDEX = "mixamorig:LeftHandIndex2"
THUMB = "mixamorig:RightHandThumb2"
WRIST = "mixamorig:LeftHand"
PLAYED = 2.0  # seconds


def rig() -> Any:
    """The character; undo makes old references useless."""
    return bpy.data.objects["Rig"]


def settings() -> Any:
    """How the rig gets the hands."""
    return bpy.context.scene.two_hands.retarget


def pose() -> dict[str, Any]:
    """The rotations of all bones, and the rig's custom properties."""
    rotations = {bone.name: tuple(bone.rotation_quaternion) for bone in rig().pose.bones}
    return rotations | {"properties": sorted(rig().keys())}


def build_rig(bones: list[tuple[str, list[float], list[float], str]]) -> None:
    """An armature of (name, head, tail, parent)."""
    data = bpy.data.armatures.new("Rig")
    item = bpy.data.objects.new("Rig", data)
    bpy.context.scene.collection.objects.link(item)
    bpy.context.view_layer.objects.active = item
    bpy.ops.object.mode_set(mode="EDIT")
    for name, head, tail, parent in bones:
        bone = data.edit_bones.new(name)
        bone.head, bone.tail = head, tail
        bone.parent = data.edit_bones[parent] if parent else None
    bpy.ops.object.mode_set(mode="OBJECT")
    item.show_in_front = True


def steps(gui: Gui) -> Steps:
    """From the dropped take to a file that was opened again."""
    yield from gui.install_extension(gui.values["extension"])
    yield from gui.open_sidebar("Hands")
    yield from gui.key("DEL")
    yield from gui.drop_file(gui.values["take"])
    yield lambda: "Hand Left" in bpy.data.objects, 20
    with gui.within():
        prepare_rig(gui.values["bones"])
    yield from gui.pass_by()
    own = pose()
    yield from gui.picture("1_own_pose")
    with gui.within():
        settings().preview = True
        bpy.ops.ed.undo_push(message="Preview")
    yield from gui.pass_by()
    first = pose()
    bpy.context.scene.frame_set(60)
    yield from gui.picture("2_preview_at_60")
    shown = pose()
    assert own[INDEX] != first[INDEX] != shown[INDEX]

    yield from play(gui)
    bpy.context.scene.frame_set(60)
    assert pose() == shown
    yield from change_what_it_follows(shown)
    yield from undo_and_redo(gui, own, shown)
    yield from pose_and_save(gui, own, shown)


def prepare_rig(bones: list[tuple[str, list[float], list[float], str]]) -> None:
    """A rig that has a pose without keys, chosen to get the hands."""
    build_rig(bones)
    settings().target = rig()
    settings().wrist = "ROTATION"
    assert len([row for row in settings().bones if row.bone]) == 32
    rig().pose.bones[THUMB].rotation_quaternion = (0.9, 0.3, 0.2, 0.1)
    rig().pose.bones["LeftForeArm"].rotation_quaternion = (0.98, 0.0, 0.2, 0.0)
    for item in bpy.context.scene.objects:
        item.select_set(item == rig())
    bpy.ops.view3d.view_axis(type="FRONT")
    bpy.ops.view3d.view_selected()
    bpy.ops.ed.undo_push(message="A pose")


def play(gui: Gui) -> Steps:
    """Play without and with the preview: how many frames are shown."""
    seen: list[float] = []

    def count(*_: Any) -> None:
        seen.append(time.perf_counter())

    bpy.context.scene.sync_mode = "NONE"
    bpy.app.handlers.frame_change_post.append(count)
    for name in ("without", "with"):
        settings().preview = name == "with"
        seen.clear()
        with gui.within():
            bpy.ops.screen.animation_play()
        with gui.stalls(f"played {name}"):
            yield PLAYED
        with gui.within():
            bpy.ops.screen.animation_cancel(restore_frame=False)
        gui.note(f"frames a second {name}", (len(seen) - 1) / (seen[-1] - seen[0]))
        yield from gui.pass_by()
    bpy.app.handlers.frame_change_post.remove(count)


def change_what_it_follows(shown: dict[str, Any]) -> Steps:
    """A clean-up slider, whose keys come later, and the arm that a hand hangs on."""
    clean_up = bpy.context.scene.two_hands.takes[0].clean_up
    fingers, clean_up.fingers = clean_up.fingers, 4.0
    yield lambda: pose()[INDEX] != shown[INDEX], 60
    clean_up.fingers = fingers
    yield lambda: pose()[INDEX] == shown[INDEX], 60
    rig().pose.bones["LeftForeArm"].rotation_quaternion = (1.0, 0.0, 0.0, 0.0)
    yield lambda: pose()[WRIST] != shown[WRIST], 5
    rig().pose.bones["LeftForeArm"].rotation_quaternion = (0.98, 0.0, 0.2, 0.0)
    yield lambda: pose()[WRIST] == shown[WRIST], 5


def undo_and_redo(gui: Gui, own: dict[str, Any], shown: dict[str, Any]) -> Steps:
    """Undo goes through the user's steps only, and the preview with it."""
    with gui.within():
        bpy.context.scene["marker"] = 1
        bpy.ops.ed.undo_push(message="Something")
        bpy.context.scene.frame_set(30)
        bpy.context.scene["marker"] = 2
        bpy.ops.ed.undo_push(message="Something else")
    yield 0.5
    yield from gui.undo()
    assert (bpy.context.scene["marker"], bpy.context.scene.frame_current) == (1, 60)
    yield lambda: pose() == shown, 5
    yield from gui.undo()
    yield from gui.undo()
    assert not settings().preview
    yield lambda: pose() == own, 5
    yield from gui.picture("3_undone")
    for _ in range(2):
        yield from gui.redo()
    yield lambda: settings().preview and pose() == shown, 5
    yield from gui.picture("4_redone")


def pose_and_save(gui: Gui, own: dict[str, Any], shown: dict[str, Any]) -> Steps:
    """What the user poses stays, and is what is saved and what is there in the end."""
    posed = (0.5, 0.5, 0.5, 0.5)
    rig().pose.bones[THUMB].rotation_quaternion = posed
    yield 0.5
    assert pose()[THUMB] == posed
    bpy.context.scene.frame_set(61)
    assert pose()[THUMB] != posed
    settings().mirrored = True
    yield 0.5
    yield from gui.picture("5_mirrored")
    settings().mirrored = False
    bpy.context.scene.frame_set(60)
    with gui.within():
        bpy.ops.wm.save_as_mainfile(filepath=str(gui.folder / "shot.blend"))
    yield lambda: pose()[INDEX] == shown[INDEX], 5
    settings().preview = False
    assert pose() == own | {THUMB: posed}
    yield from gui.picture("6_off")
    with gui.within():
        bpy.ops.wm.open_mainfile(filepath=str(gui.folder / "shot.blend"))
    yield 1.0
    assert not settings().preview
    assert pose() == own | {THUMB: posed}
