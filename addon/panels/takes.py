"""The list of takes, at the top of the Review panel."""

from typing import Any, Final

import bpy

from .. import takes
from .base import draw_sentence


class HANDS_UL_takes(bpy.types.UIList):  # type: ignore[misc]
    """Name, how much of both hands was seen, and a warning where a file is missing."""

    bl_idname = "HANDS_UL_takes"

    def draw_item(
        self,
        _context: Any,
        layout: Any,
        _data: Any,
        item: Any,
        _icon: int,
        _active_data: Any,
        _active_property: str,
    ) -> None:
        """One row; looks at no file."""
        missing = takes.missing_files(item)
        row = layout.row(align=True)
        row.prop(item, "name", text="", emboss=False, icon="ERROR" if missing.take or missing.footage else "ACTION")
        facts = row.row()
        facts.alignment = "RIGHT"
        facts.label(text=f"L {item.seen_left:.0%}  R {item.seen_right:.0%}", translate=False)


def draw_takes(context: Any, layout: Any) -> None:
    """Draw the list, its buttons, and what there is to know about the chosen take."""
    hands = context.scene.two_hands
    row = layout.row()
    row.template_list(HANDS_UL_takes.bl_idname, "", hands, "takes", hands, "active_take", rows=4)
    buttons = row.column(align=True)
    buttons.operator("hands.add_take", text="", icon="ADD")
    buttons.operator("hands.remove_take", text="", icon="REMOVE")
    buttons.operator("hands.import_results", text="", icon="IMPORT")
    buttons.separator()
    buttons.operator("hands.refresh_takes", text="", icon="FILE_REFRESH")
    buttons.operator("hands.collect_takes", text="", icon="PACKAGE")
    item = takes.active_take(context.scene)
    if item is None:
        return
    layout.label(text=f"{item.estimator}, {item.captured}, {item.frames:,} frames", translate=False)
    missing = takes.missing_files(item)
    width = context.region.width
    if missing.take:
        draw_sentence(layout, "The file of the take is missing; its keys stay as they are.", width, icon="ERROR")
        layout.operator("hands.relink_take", icon="FILE_FOLDER")
    if missing.footage:
        draw_sentence(layout, "The footage of the take is missing; keying and cleaning go on.", width, icon="ERROR")
        layout.operator("hands.relink_footage", icon="FILE_FOLDER")


CLASSES: Final = (HANDS_UL_takes,)
