"""Where the panels live and how they look alike."""

import textwrap
from typing import Any, Final

import bpy

CATEGORY: Final = "Hands"
"""Tab of the 3D view's sidebar."""


class HandsPanel(bpy.types.Panel):  # type: ignore[misc]
    """A panel of the sidebar tab, compact and property-split; `bl_order` is its place in the work."""

    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = CATEGORY

    def draw(self, context: Any) -> None:
        """Set the layout up alike everywhere and leave the content to `draw_content`."""
        self.layout.use_property_split = True
        self.layout.use_property_decorate = False
        self.draw_content(context, self.layout)

    def draw_content(self, context: Any, layout: Any) -> None:
        """What the panel shows."""
        raise NotImplementedError


def draw_sentence(layout: Any, sentence: str, width: int, *, icon: str = "NONE") -> None:
    """Draw a sentence over as many lines as a region of `width` pixels needs; labels do not wrap by themselves."""
    factor = bpy.context.preferences.system.ui_scale
    characters = max(16, int((width / factor - (40 if icon == "NONE" else 80)) / 6.2))
    column = layout.column(align=True)
    column.scale_y = 0.8
    for number, line in enumerate(textwrap.wrap(sentence, characters)):
        column.label(text=line, icon=icon if number == 0 else ("BLANK1" if icon != "NONE" else "NONE"), translate=False)
