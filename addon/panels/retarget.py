"""The Retarget panel: whose bones get the captured hands, and what of them."""

import math
from typing import Any, ClassVar, Final

import bpy

from dir_core.conventions import SIDES
from dir_core.retargeting.transfer import CUPPING

from ..operators import bake, calibrate
from ..operators import retarget as operators
from ..retargeting import rig_preview
from ..retargeting.calibration_rows import UNKNOWN_OFFSET, is_calibrated
from .base import HandsPanel, draw_sentence


class HANDS_UL_mapped_bones(bpy.types.UIList):  # type: ignore[misc]
    """Joints of both hands and the rig's bones for them"""

    bl_idname = "HANDS_UL_mapped_bones"

    def draw_item(
        self, context: Any, layout: Any, _data: Any, item: Any, _icon: int, _active: Any, _property: str
    ) -> None:
        """One joint: its name, and its bone with a search."""
        rig = context.scene.two_hands.retarget.target
        layout.use_property_split = False
        split = layout.split(factor=0.38)
        split.label(text=_short_name(item), translate=False)
        cell = split.row()
        cell.alert = bool(item.bone) and item.bone not in rig.data.bones
        cell.prop_search(item, "bone", rig.data, "bones", text="", icon="BONE_DATA")


def _short_name(row: Any, what: str = "") -> str:
    """The joint of a row as bones are called in Blender; the row's own name is too long for a sidebar."""
    return f"{row.joint.title()}{what}.{row.side[0].upper()}"


class HANDS_PT_retarget(HandsPanel):
    """The hands of the active take on the rig of a character"""

    bl_idname = "HANDS_PT_retarget"
    bl_label = "Retarget"
    bl_order = 50
    bl_options: ClassVar = {"DEFAULT_CLOSED"}

    def draw_content(self, context: Any, layout: Any) -> None:
        """The rig, what was found on it, what is keyed."""
        settings = context.scene.two_hands.retarget
        layout.prop(settings, "target")
        if settings.target is None:
            draw_sentence(layout, "Choose the armature of your character.", context.region.width, icon="INFO")
            return
        found = sum(bool(row.bone) for row in settings.bones)
        row = layout.row()
        text = f"{settings.rig_name}: {found} of {len(settings.bones)} bones"
        row.label(text=text, icon="CHECKMARK" if found else "ERROR", translate=False)
        row.operator(operators.HANDS_OT_detect_rig.bl_idname, text="", icon="FILE_REFRESH")
        if settings.note:
            draw_sentence(layout, settings.note, context.region.width, icon="INFO")
        column = layout.column(heading="Hands")
        column.prop(settings, "use_left", text="Left")
        column.prop(settings, "use_right", text="Right")
        column.prop(settings, "mirrored")
        layout.prop(settings, "wrist")
        layout.prop(settings, "preview", toggle=True, icon="HIDE_OFF" if settings.preview else "HIDE_ON")
        if settings.preview and rig_preview.problem():
            draw_sentence(layout, rig_preview.problem(), context.region.width, icon="ERROR")
        row = layout.row(align=True)
        row.operator(operators.HANDS_OT_key_onto_rig.bl_idname, icon="KEY_HLT")
        row.operator(operators.HANDS_OT_remove_from_rig.bl_idname, text="", icon="X")
        layout.operator(bake.HANDS_OT_bake_to_keys.bl_idname, icon="ACTION")


class _SubPanel(HandsPanel):
    bl_parent_id = "HANDS_PT_retarget"
    bl_options: ClassVar = {"DEFAULT_CLOSED"}

    @classmethod
    def poll(cls, context: Any) -> bool:
        return context.scene.two_hands.retarget.target is not None


class HANDS_PT_retarget_bones(_SubPanel):
    """Which bone of the rig turns with which joint"""

    bl_idname = "HANDS_PT_retarget_bones"
    bl_label = "Bones"

    def draw_content(self, context: Any, layout: Any) -> None:
        """The list, each bone to be corrected, and its files."""
        settings = context.scene.two_hands.retarget
        layout.template_list(HANDS_UL_mapped_bones.bl_idname, "", settings, "bones", settings, "active_bone", rows=8)
        row = layout.row(align=True)
        row.operator(operators.HANDS_OT_load_rig_map.bl_idname, text="Load", icon="FILE_FOLDER")
        row.operator(operators.HANDS_OT_save_rig_map.bl_idname, text="Save", icon="FILE_TICK")


class HANDS_PT_retarget_wrist(_SubPanel):
    """Where the captured wrists go"""

    bl_idname = "HANDS_PT_retarget_wrist"
    bl_label = "Wrist"

    @classmethod
    def poll(cls, context: Any) -> bool:
        """Only where wrists are keyed at all."""
        return bool(super().poll(context)) and context.scene.two_hands.retarget.wrist != "NONE"

    def draw_content(self, context: Any, layout: Any) -> None:
        """How the wrist turns, what is moved and from where, and the arms' IK."""
        settings = context.scene.two_hands.retarget
        layout.prop(settings, "wrist_mode")
        if settings.wrist == "POSITION":
            layout.prop(settings, "into")
            layout.prop(settings, "place")
            row = layout.row()
            row.active = settings.place == "FIRST"
            row.prop(settings, "fit")
        if settings.wrist == "POSITION" and settings.into in {"HAND", "ROOT"}:
            return
        for side in SIDES:
            if getattr(settings, f"use_{side}"):
                _draw_arm(layout, settings.target, getattr(settings, f"arm_{side}"), side)


def _draw_arm(layout: Any, rig: Any, arm: Any, side: str) -> None:
    """One arm: its IK target, and the switch between FK and IK with its two values."""
    column = layout.column()
    column.alert = bool(arm.ik) and arm.ik not in rig.data.bones
    column.prop_search(arm, "ik", rig.data, "bones", text=f"{side.title()} IK Target", icon="BONE_DATA")
    if not arm.ik:
        return
    owner = rig.pose.bones.get(arm.switch_bone) if arm.switch_bone else rig
    column = layout.column(align=True)
    column.prop_search(arm, "switch_bone", rig.data, "bones", icon="BONE_DATA")
    row = column.row(align=True)
    row.alert = bool(arm.switch) and (owner is None or arm.switch not in owner)
    row.prop(arm, "switch")
    if arm.switch:
        row = column.row(align=True)
        row.prop(arm, "switch_fk")
        row.prop(arm, "switch_ik")


class HANDS_UL_calibrated_fingers(bpy.types.UIList):  # type: ignore[misc]
    """Fingers of both hands: how far the calibrated pose is from the plain one, and how far they bend"""

    bl_idname = "HANDS_UL_calibrated_fingers"

    def draw_item(
        self, _context: Any, layout: Any, _data: Any, item: Any, _icon: int, _active: Any, _property: str, index: int
    ) -> None:
        """One finger: its name, offset and range, and a button that forgets them."""
        layout.use_property_split = False
        split = layout.split(factor=0.4)
        split.label(text=item.name)
        row = split.row()
        row.label(text=_offset_text(item), translate=False)
        row.label(text=f"{sum(item.ranges) / len(item.ranges):.0%}", translate=False)
        if is_calibrated(item):
            reset = row.operator(
                calibrate.HANDS_OT_reset_calibration.bl_idname, text="", icon="LOOP_BACK", emboss=False
            )
            reset.index = index
        else:
            row.label(text="", icon="BLANK1")


def _offset_text(item: Any) -> str:
    if not item.bones:
        return "-"
    return "Posed" if item.offset == UNKNOWN_OFFSET else f"{math.degrees(item.offset):.0f}\u00b0"


class HANDS_PT_retarget_calibrate(_SubPanel):
    """How the rig's fingers correspond to the performer's"""

    bl_idname = "HANDS_PT_retarget_calibrate"
    bl_label = "Calibrate"

    def draw_content(self, context: Any, layout: Any) -> None:
        """The ways to calibrate, what was found, and the ranges of one finger."""
        settings = context.scene.two_hands.retarget
        layout.prop(settings, "calibrated_hand")
        row = layout.row(align=True)
        for operator in (calibrate.HANDS_OT_match_pose, calibrate.HANDS_OT_open_palm, calibrate.HANDS_OT_fist):
            row.operator(operator.bl_idname)
        layout.template_list(
            HANDS_UL_calibrated_fingers.bl_idname, "", settings, "calibration", settings, "active_finger", rows=5
        )
        if settings.active_finger < len(settings.calibration):
            layout.prop(settings.calibration[settings.active_finger], "ranges")
        layout.operator(calibrate.HANDS_OT_reset_calibration.bl_idname, icon="LOOP_BACK")


class HANDS_PT_retarget_transfer(_SubPanel):
    """How the motion is taken over, when, and how much of it"""

    bl_idname = "HANDS_PT_retarget_transfer"
    bl_label = "Transfer"

    def draw_content(self, context: Any, layout: Any) -> None:
        """Fingers, range, weight."""
        settings = context.scene.two_hands.retarget
        layout.prop(settings, "fingers")
        layout.prop(settings, "palm_share", slider=True)
        if settings.palm_share > 0.0:
            column = layout.column(align=True)
            for bone in (row for row in settings.metacarpals if row.joint in CUPPING):
                text = _short_name(bone, " Palm")
                column.prop_search(bone, "bone", settings.target.data, "bones", text=text, translate=False)
        layout.prop(settings, "ik_limits")
        layout.prop(settings, "use_range")
        column = layout.column(align=True)
        column.active = settings.use_range
        column.prop(settings, "first")
        column.prop(settings, "last")
        layout.prop(settings, "weight", slider=True)
        layout.prop(settings, "fade")
        layout.prop(settings, "use_reduction")
        if settings.use_reduction:
            layout.prop(settings, "reduction_angle")


CLASSES: Final = (
    HANDS_UL_mapped_bones,
    HANDS_PT_retarget,
    HANDS_PT_retarget_bones,
    HANDS_PT_retarget_wrist,
    HANDS_UL_calibrated_fingers,
    HANDS_PT_retarget_calibrate,
    HANDS_PT_retarget_transfer,
)
