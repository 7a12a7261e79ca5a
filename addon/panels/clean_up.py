"""The Clean Up panel: how the raw take becomes what is keyed."""

from pathlib import Path
from typing import Any, ClassVar, Final

import bpy
from bl_ui.utils import PresetPanel

from .. import clean_job, takes
from ..operators.clean_up import PRESET_FOLDER, HANDS_OT_clean_up_preset_add, HANDS_OT_reset_clean_up
from .base import HandsPanel, draw_sentence

_SHIPPED_PRESETS: Final = str(Path(__file__).resolve().parents[1])


class HANDS_PT_clean_up(HandsPanel):
    """How the raw take becomes what is keyed"""

    bl_idname = "HANDS_PT_clean_up"
    bl_label = "Clean Up"
    bl_order = 30

    def draw_header(self, context: Any) -> None:
        """The switch between raw and clean."""
        item: Any = takes.active_take(context.scene)
        if item is not None:
            self.layout.prop(item.clean_up, "enabled", text="")

    def draw_header_preset(self, context: Any) -> None:
        """The presets."""
        if takes.active_take(context.scene) is not None:
            HANDS_PT_clean_up_presets.draw_panel_header(self.layout)

    def draw_content(self, context: Any, layout: Any) -> None:
        """Strengths, and what the clean-up did."""
        item: Any = takes.active_take(context.scene)
        if item is None:
            draw_sentence(layout, "Capture a clip or add a take first.", context.region.width, icon="INFO")
            return
        settings = item.clean_up
        column = layout.column(align=True)
        column.active = settings.enabled
        column.prop(settings, "fingers", slider=True)
        column.prop(settings, "wrist_rotation", slider=True)
        column.prop(settings, "wrist_position", slider=True)
        if clean_job.is_busy(item):
            layout.label(text="Updating the keys ...", icon="SORTTIME")
        elif clean_job.is_behind(item):
            sentence = "The keys were made from other settings, press Key Hands to make them again."
            draw_sentence(layout, sentence, context.region.width, icon="INFO")
        elif clean_job.report_of(item):
            draw_sentence(layout, clean_job.report_of(item), context.region.width, icon="CHECKMARK")


def _settings(context: Any) -> Any:
    item: Any = takes.active_take(context.scene)
    return item.clean_up


class _SubPanel(HandsPanel):
    bl_parent_id = "HANDS_PT_clean_up"
    bl_options: ClassVar = {"DEFAULT_CLOSED"}

    @classmethod
    def poll(cls, context: Any) -> bool:
        return takes.active_take(context.scene) is not None


class HANDS_PT_clean_up_gaps(_SubPanel):
    """What a hand does while it is not seen"""

    bl_label = "Gaps"

    def draw_content(self, context: Any, layout: Any) -> None:
        """Lengths and what happens beyond them."""
        settings = _settings(context)
        layout.active = settings.enabled
        layout.prop(settings, "fill")
        layout.prop(settings, "beyond")


class HANDS_PT_clean_up_repairs(_SubPanel):
    """What is put right by itself"""

    bl_label = "Repairs"

    def draw_content(self, context: Any, layout: Any) -> None:
        """Sides, limits, contact."""
        settings = _settings(context)
        layout.active = settings.enabled
        layout.prop(settings, "identity")
        layout.prop(settings, "limits")
        layout.prop(settings, "contact")
        layout.operator(HANDS_OT_reset_clean_up.bl_idname, icon="LOOP_BACK")


class HANDS_PT_clean_up_report(_SubPanel):
    """What the clean-up did, in numbers"""

    bl_label = "Report"

    def draw_content(self, context: Any, layout: Any) -> None:
        """One sentence each."""
        item: Any = takes.active_take(context.scene)
        answer = clean_job.answer_of(item)
        if not item.clean_up.enabled:
            sentences: tuple[str, ...] = ("The clean-up is off: the keys are what the capture saw.",)
        elif answer is None:
            sentences = ("The clean-up has not run yet: key the hands, or change a setting.",)
        else:
            sentences = answer.sentences or ("There was nothing to put right.",)
        for sentence in sentences:
            draw_sentence(layout, sentence, context.region.width)


class HANDS_PT_clean_up_presets(PresetPanel, bpy.types.Panel):  # type: ignore[misc]
    """Presets of the clean-up"""

    bl_label = "Clean-Up Presets"
    preset_subdir = PRESET_FOLDER
    preset_operator = "script.execute_preset"
    preset_add_operator = HANDS_OT_clean_up_preset_add.bl_idname


CLASSES: Final = (
    HANDS_PT_clean_up_presets,
    HANDS_PT_clean_up,
    HANDS_PT_clean_up_gaps,
    HANDS_PT_clean_up_repairs,
    HANDS_PT_clean_up_report,
)


def register() -> None:
    """Show the presets that come with the add-on among the user's own."""
    bpy.utils.register_preset_path(_SHIPPED_PRESETS)


def unregister() -> None:
    """Take them out again."""
    bpy.utils.unregister_preset_path(_SHIPPED_PRESETS)
