"""Clean Up: presets and the way back to the defaults. The sliders themselves act through clean_job."""

from dataclasses import fields
from typing import Any, ClassVar, Final

import bpy
from bl_operators.presets import AddPresetBase

from dir_core.clean_up.settings import CleanUpSettings

from .. import clean_job, takes
from .base import HandsOperator, has_take

PRESET_FOLDER: Final = "two_hand_capture/clean_up"
SETTING_NAMES: Final = tuple(field.name for field in fields(CleanUpSettings))
"""The properties of a clean-up are named as the settings of dir_core."""

_SETTINGS: Final = "bpy.context.scene.two_hands.takes[bpy.context.scene.two_hands.active_take].clean_up"


class HANDS_OT_reset_clean_up(HandsOperator):
    """Give every setting of the clean-up its default; corrections of ranges stay"""

    bl_idname = "hands.reset_clean_up"
    bl_label = "Reset to Defaults"
    bl_options: ClassVar = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: Any) -> bool:
        """There has to be a take."""
        return has_take(cls, context)

    def run(self, context: Any) -> set[str]:
        """Unset every property, then let the keys follow."""
        item: Any = takes.active_take(context.scene)
        for name in SETTING_NAMES:
            item.clean_up.property_unset(name)
        clean_job.follow_take(context, item)
        return {"FINISHED"}


class HANDS_OT_clean_up_preset_add(AddPresetBase, bpy.types.Operator):  # type: ignore[misc]
    """Keep the settings of the clean-up under a name, or remove the chosen preset"""

    bl_idname = "hands.clean_up_preset_add"
    bl_label = "Add Clean-Up Preset"
    preset_menu = "HANDS_PT_clean_up_presets"
    preset_subdir = PRESET_FOLDER
    # Whole paths: names from `preset_defines` are not found by the Blender of distributions with Python 3.13.
    preset_defines: ClassVar[list[str]] = []
    preset_values: ClassVar = [f"{_SETTINGS}.{name}" for name in SETTING_NAMES]

    @classmethod
    def poll(cls, context: Any) -> bool:
        """There has to be a take."""
        return has_take(cls, context)


CLASSES: Final = (HANDS_OT_reset_clean_up, HANDS_OT_clean_up_preset_add)
