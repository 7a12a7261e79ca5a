"""Calibrate: three ways to say how a rig's fingers correspond to the performer's. What they do is in calibration.py."""

from dataclasses import replace
from typing import Any, ClassVar, Final

import bpy

from dir_core.conventions import SIDES

from ..retargeting import calibration, calibration_rows, retarget, target_rig
from .base import HandsOperator, has_rig, refuse_poll, shows_poses


class _CalibrateOperator(HandsOperator):
    """Calibrates the chosen hands on the current frame."""

    bl_options: ClassVar = {"REGISTER", "UNDO"}

    _way: ClassVar[calibration.Way]

    @classmethod
    def poll(cls, context: Any) -> bool:
        """There have to be a rig and keyed hands to compare it with."""
        if not (has_rig(cls, context) and shows_poses(cls, context)):
            return False
        if not any(retarget.captured_armatures(context.scene).values()):
            return refuse_poll(cls, "Key the hands of a take first")
        return True

    def run(self, context: Any) -> set[str]:
        """Write what is found into the list."""
        scene = context.scene
        settings = scene.two_hands.retarget
        target, hand = settings.target, settings.calibrated_hand
        wanted = replace(retarget.wanted_of(settings), sides=SIDES if hand == "both" else (hand,), wrist="NONE")
        armatures, rig_map = retarget.captured_armatures(scene), target_rig.read_map(settings)
        retarget.check_target(target, armatures.values())
        pairs = retarget.follow_hands(target, armatures, rig_map, wanted)
        found = calibration.calibrate_fingers(target, pairs, wanted, self._way, context.evaluated_depsgraph_get())
        for (side, finger), made in found.items():
            row = calibration_rows.find_row(settings, side, finger)
            calibration_rows.write_row(row, made.bones, made.calibration, made.offset)
        rows = [(row.side, row.finger) for row in settings.calibration]
        settings.active_finger = rows.index(next(iter(found)))
        rest = sum(len(pair.rig.fingers) for pair in pairs.values()) - len(found)
        left = f", {rest} stay as they were" if rest else ""
        fingers = "1 finger" if len(found) == 1 else f"{len(found)} fingers"
        again = " Key onto Rig again to use it." if retarget.has_hands(target) else ""
        self.tell(f"Calibrated {fingers} on frame {scene.frame_current}{left}.{again}")
        return {"FINISHED"}


class HANDS_OT_match_pose(_CalibrateOperator):
    """Pose the rig's fingers like the captured ones on this frame, then press: from now on they go together. \
Fingers that are not posed stay as they are"""

    bl_idname = "hands.match_pose"
    bl_label = "Match Pose"
    _way = "pose"


class HANDS_OT_open_palm(_CalibrateOperator):
    """The performer holds a flat hand on this frame, its fingers as close together as those of the rig at rest: \
from now on it is the straight hand of the rig"""

    bl_idname = "hands.open_palm"
    bl_label = "Open Palm"
    _way = "palm"


class HANDS_OT_fist(_CalibrateOperator):
    """The performer makes a fist on this frame: from now on it closes the hand of the rig, \
up to its limits, the pose that you gave it, or as a human hand"""

    bl_idname = "hands.fist"
    bl_label = "Fist"
    _way = "fist"


class HANDS_OT_reset_calibration(HandsOperator):
    """Forget the calibration"""

    bl_idname = "hands.reset_calibration"
    bl_label = "Reset Calibration"
    bl_options: ClassVar = {"REGISTER", "UNDO"}

    index: bpy.props.IntProperty(  # type: ignore[valid-type]
        name="Finger",
        description="Row of the finger in the list, -1 for all of them",
        default=-1,
        min=-1,
        options={"SKIP_SAVE"},
    )

    @classmethod
    def poll(cls, context: Any) -> bool:
        """There has to be something to forget."""
        rows = context.scene.two_hands.retarget.calibration
        return any(map(calibration_rows.is_calibrated, rows)) or refuse_poll(cls, "No finger is calibrated")

    def run(self, context: Any) -> set[str]:
        """Reset a row, or all of them."""
        rows = context.scene.two_hands.retarget.calibration
        chosen = list(rows) if self.index < 0 else list(rows)[self.index : self.index + 1]
        forgotten = [row for row in chosen if calibration_rows.is_calibrated(row)]
        for row in forgotten:
            calibration_rows.reset_row(row)
        self.tell("Reset 1 finger." if len(forgotten) == 1 else f"Reset {len(forgotten)} fingers.")
        return {"FINISHED"}


CLASSES: Final = (
    HANDS_OT_match_pose,
    HANDS_OT_open_palm,
    HANDS_OT_fist,
    HANDS_OT_reset_calibration,
)
