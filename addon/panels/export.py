"""The Export panel: what leaves Blender."""

from typing import Any, Final

from ..operators.exchange import HANDS_OT_export_parameters
from ..operators.export import HANDS_OT_export, HANDS_OT_save_clean_take
from .base import HandsPanel


class HANDS_PT_export(HandsPanel):
    """What leaves Blender"""

    bl_idname = "HANDS_PT_export"
    bl_label = "Export"
    bl_order = 60

    def draw_content(self, context: Any, layout: Any) -> None:
        """What is exported how, and the files."""
        settings = context.scene.two_hands.export
        layout.prop(settings, "content")
        layout.prop(settings, "format")
        layout.prop(settings, "range")
        layout.operator(HANDS_OT_export.bl_idname, icon="EXPORT")
        layout.operator(HANDS_OT_export_parameters.bl_idname, icon="SPREADSHEET")
        layout.operator(HANDS_OT_save_clean_take.bl_idname, icon="FILE_TICK")


CLASSES: Final = (HANDS_PT_export,)
