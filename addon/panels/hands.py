"""Panel "Hands": which armatures get the keys, where the keys go, and corrections that survive each re-run."""

from typing import Any, ClassVar, Final

from .. import take_keys, takes
from .base import HandsPanel


class HANDS_PT_hands(HandsPanel):
    """Hands and keys of the chosen take"""

    bl_idname = "HANDS_PT_hands"
    bl_label = "Hands"
    bl_order = 40

    def draw_content(self, context: Any, layout: Any) -> None:
        """Armatures, the button and what is keyed."""
        item = takes.active_take(context.scene)
        if item is None:
            layout.label(text="Capture or add a take first", icon="INFO")
            return
        options = item.keying
        has_rigs = take_keys.has_rigs(item)
        if not has_rigs:
            layout.prop(options, "rigs")
        if has_rigs or options.rigs == "EXISTING":
            column = layout.column(align=True)
            column.prop(options, "left")
            column.prop(options, "right")
        button = layout.row()
        button.scale_y = 1.4
        button.operator("hands.key_hands", icon="ACTION")
        span = take_keys.keyed_span(item)
        if span is not None:
            layout.label(text=f"Keyed on frames {span[0]:.0f} to {span[1]:.0f}", icon="CHECKMARK", translate=False)


class _HandsSubPanel(HandsPanel):
    bl_parent_id = HANDS_PT_hands.bl_idname
    bl_options: ClassVar = {"DEFAULT_CLOSED"}

    @classmethod
    def poll(cls, context: Any) -> bool:
        """There is nothing to choose without a take."""
        return takes.active_take(context.scene) is not None


class HANDS_PT_keys(_HandsSubPanel):
    """Where the keys go, on which frames and how many"""

    bl_idname = "HANDS_PT_keys"
    bl_label = "Keys"

    def draw_content(self, context: Any, layout: Any) -> None:
        """The options of keying."""
        item = takes.active_take(context.scene)
        options = item.keying
        layout.prop(item, "start")
        layout.prop(options, "action")
        layout.prop(options, "use_range")
        if options.use_range:
            column = layout.column(align=True)
            column.prop(options, "first")
            column.prop(options, "last")
        layout.prop(options, "use_reduction")
        if options.use_reduction:
            layout.prop(options, "reduction_angle")


class HANDS_PT_corrections(_HandsSubPanel):
    """The layer of the animator's own keys, and where the hands stand"""

    bl_idname = "HANDS_PT_corrections"
    bl_label = "Corrections"

    def draw_content(self, _context: Any, layout: Any) -> None:
        """Buttons only."""
        column = layout.column(align=True)
        column.operator("hands.add_layer", icon="NLA")
        column.operator("hands.remove_layer", icon="X")
        layout.operator("hands.place_hands", icon="CON_CAMERASOLVER")
        layout.operator("hands.add_asset_library", icon="ASSET_MANAGER")


CLASSES: Final = (HANDS_PT_hands, HANDS_PT_keys, HANDS_PT_corrections)
