"""The Footage panel: what was filmed, where it lies in the scene and which lens saw it."""

from pathlib import Path
from typing import Any, ClassVar, Final

import bpy

from dir_core.errors import FootageError

from .. import footage_view
from ..operators import footage as operators
from .base import HandsPanel, draw_sentence


class HANDS_PT_footage(HandsPanel):
    """What was filmed, and where it lies in the scene"""

    bl_idname = "HANDS_PT_footage"
    bl_label = "Footage"
    bl_order = 0

    def draw_content(self, context: Any, layout: Any) -> None:
        """The clip, how it lies in the scene, and what would make both the same."""
        scene, width = context.scene, context.region.width
        footage = scene.two_hands.footage
        clip = footage.clip
        row = layout.row(align=True)
        row.use_property_split = False
        row.prop(footage, "clip", text="")
        row.operator(operators.HANDS_OT_load_footage.bl_idname, text="", icon="FILEBROWSER")
        if clip is None:
            layout.operator(operators.HANDS_OT_load_footage.bl_idname, icon="FILE_MOVIE")
            draw_sentence(layout, "Load a video of the hands, or drop it on this view.", width)
            return
        if not footage_view.can_be_read(clip):
            name = Path(clip.filepath).name
            draw_sentence(layout, f"{name} is not where it was: find it again to see and capture it.", width,
                          icon="ERROR")  # fmt: skip
            layout.operator(operators.HANDS_OT_relink_clip.bl_idname, icon="FILEBROWSER")
            return
        draw_sentence(layout, footage_view.facts_sentence(scene, clip), width)
        around = footage_view.hidden_by(scene)
        if around:
            sentence = f'"{around}" stands around the footage\'s camera and hides the footage, hide or delete it.'
            draw_sentence(layout, sentence, width, icon="ERROR")
        column = layout.column(align=True)
        column.prop(footage, "start")
        if clip.source == "SEQUENCE":
            column.prop(footage, "picture_rate")
        _draw_step(context, layout)
        space = context.space_data
        looks = footage_view.looks_through(space, scene)
        layout.operator(operators.HANDS_OT_look_through.bl_idname, icon="OUTLINER_OB_CAMERA", depress=looks)


class HANDS_PT_footage_lens(HandsPanel):
    """Which lens filmed; it decides how far away the hands are"""

    bl_label = "Lens"
    bl_parent_id = HANDS_PT_footage.bl_idname
    bl_options: ClassVar = {"DEFAULT_CLOSED"}

    @classmethod
    def poll(cls, context: Any) -> bool:
        """A lens belongs to footage."""
        return footage_view.can_be_read(context.scene.two_hands.footage.clip)

    def draw_content(self, context: Any, layout: Any) -> None:
        """Where it comes from and what it is."""
        footage = context.scene.two_hands.footage
        layout.prop(footage, "camera")
        layout.prop(footage, "focal_source")
        row = layout.row()
        row.active = footage.focal_source in {"FIELD_OF_VIEW", "METADATA"}
        row.prop(footage, "field_of_view")
        try:
            _, sentence = footage_view.camera_matrix_of(context.scene)
            draw_sentence(layout, sentence, context.region.width)
        except FootageError as error:
            draw_sentence(layout, str(error), context.region.width, icon="ERROR")


def _draw_step(context: Any, layout: Any) -> None:
    """Which frames lie where; a button only where there is something to change."""
    scene = context.scene
    clip = scene.two_hands.footage.clip
    draw_sentence(layout, footage_view.mapping_sentence(scene, clip), context.region.width)
    column = layout.column(align=True)
    if not footage_view.plays_at_footage_rate(scene):
        column.operator(operators.HANDS_OT_use_footage_rate.bl_idname)
    if (scene.frame_start, scene.frame_end) != footage_view.footage_range(scene):
        column.operator(operators.HANDS_OT_use_footage_length.bl_idname)
    if not footage_view.has_footage_shape(scene, tuple(clip.size)):
        column.operator(operators.HANDS_OT_use_footage_size.bl_idname)
    if footage_view.camera_of(scene) is None or not footage_view.shows_in_step(scene):
        column.operator(operators.HANDS_OT_sync_footage.bl_idname, icon="FILE_REFRESH")


CLASSES: Final[tuple[type[bpy.types.Panel], ...]] = (HANDS_PT_footage, HANDS_PT_footage_lens)
