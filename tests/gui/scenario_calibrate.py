"""The Calibrate panel in a window: a thumb is posed over the preview, matched, a fist follows, undo takes one back."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bpy

sys.path.insert(0, str(Path(__file__).parent))
from scenario_pictures import open_all_panels, taken_away
from scenario_rig_preview import THUMB, prepare_rig, rig, settings

if TYPE_CHECKING:
    from tests.gui.inside import Gui, Steps


def posed() -> dict[str, bool]:
    """Which fingers have a calibrated pose, as the list has them."""
    return {row.name: bool(row.bones) for row in settings().calibration}


def thumb() -> Any:
    """The rig's thumb as it is shown."""
    return rig().pose.bones[THUMB].matrix_basis.to_quaternion()


def steps(gui: Gui) -> Steps:
    """From the dropped take to a calibrated preview."""
    yield from gui.install_extension(gui.values["extension"])
    open_all_panels()
    yield from gui.open_sidebar("Hands")
    yield from gui.key("DEL")
    yield from gui.drop_file(gui.values["take"])
    yield lambda: "Hand Left" in bpy.data.objects, 20
    with gui.within():
        prepare_rig(gui.values["bones"])
        settings().preview = True
    settings().palm_share = 0.15
    bpy.context.scene.frame_set(53)
    yield from gui.pass_by()
    rig().pose.bones[THUMB].rotation_quaternion = (0.8, 0.6, 0.0, 0.0)
    wanted = thumb()
    yield from gui.pass_by()
    settings().calibrated_hand = "right"
    with gui.within():
        bpy.ops.hands.match_pose("INVOKE_DEFAULT", True)
    assert [name for name, there in posed().items() if there] == ["Right Thumb"]
    bpy.context.scene.frame_set(54)
    yield from gui.pass_by()
    bpy.context.scene.frame_set(53)
    yield lambda: thumb().rotation_difference(wanted).angle < 1e-3, 5
    with gui.within():
        bpy.ops.hands.fist("INVOKE_DEFAULT", True)
    ranges = [tuple(row.ranges) for row in settings().calibration if row.side == "right"]
    assert any(factor > 1.05 for row in ranges for factor in row)
    hidden = ("HANDS_PT_footage", "HANDS_PT_capture", "HANDS_PT_review", "HANDS_PT_clean_up", "HANDS_PT_hands")
    with taken_away(*hidden):
        yield from gui.picture("calibrated")
    yield from gui.undo()
    assert all(tuple(row.ranges) == (1.0, 1.0, 1.0) for row in settings().calibration)
    assert posed()["Right Thumb"]
    yield from gui.undo()
    assert not any(posed().values())
    bpy.context.scene.frame_set(54)
    bpy.context.scene.frame_set(53)
    yield lambda: thumb().rotation_difference(wanted).angle > 0.1, 5
