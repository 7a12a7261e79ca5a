"""The Review panel: the takes, what is drawn of them, where to look, and corrections of a range."""

from typing import Any, ClassVar, Final

import bpy

from dir_core.errors import HandCaptureError

from .. import clean_job, review_data, takes
from ..operators import review as operators
from .base import HandsPanel, draw_sentence
from .takes import draw_takes

_KINDS: Final = {
    "lost": ("Lost", "HIDE_ON"),
    "unsure": ("Seen Badly", "QUESTION"),
    "exchanged": ("Sides Exchanged", "UV_SYNC_SELECT"),
    "jump": ("Jump", "FORCE_TURBULENCE"),
    "joints": ("Joints", "BONE_DATA"),
    "touch": ("Touch", "MOD_PHYSICS"),
}
"""What a line of the list says of each kind of problem."""


class HANDS_UL_problems(bpy.types.UIList):  # type: ignore[misc]
    """One place a line; a click goes there."""

    bl_idname = "HANDS_UL_problems"

    def draw_item(
        self, _context: Any, layout: Any, _data: Any, item: Any, _icon: Any, _active: Any, _property: Any, index: int
    ) -> None:
        """Frame, kind and hand, as one button; its tooltip is the sentence."""
        row = layout.row(align=True)
        row.alignment = "LEFT"
        kind, icon = _KINDS.get(item.kind, (item.kind, "ERROR"))
        side = f", {item.side} hand" if item.side else ""
        name = operators.HANDS_OT_jump_problem.bl_idname
        jump = row.operator(name, text=f"{item.first}  {kind}{side}", icon=icon, emboss=False, translate=False)
        jump.direction, jump.index = "INDEX", index


class HANDS_PT_review(HandsPanel):
    """What was captured, and where it is worth a look"""

    bl_idname = "HANDS_PT_review"
    bl_label = "Review"
    bl_order = 20

    def draw_content(self, context: Any, layout: Any) -> None:
        """The takes, what is drawn, and the problems."""
        draw_takes(context, layout)
        if takes.active_take(context.scene) is None:
            return
        choice = context.scene.two_hands.review
        column = layout.column(heading="Show")
        row = column.row(align=True)
        row.prop(choice, "show_keypoints", text="")
        shown = row.row(align=True)
        shown.active = choice.show_keypoints
        shown.prop(choice, "source", text="")
        column.prop(choice, "show_strip")
        column.prop(choice, "show_curves")
        _draw_problems(context, layout)


class _SubPanel(HandsPanel):
    bl_parent_id = HANDS_PT_review.bl_idname
    bl_options: ClassVar = {"DEFAULT_CLOSED"}

    @classmethod
    def poll(cls, context: Any) -> bool:
        return takes.active_take(context.scene) is not None


class HANDS_PT_review_range(_SubPanel):
    """Put right by hand what the capture saw wrongly on a range of frames"""

    bl_label = "Correct a Range"

    def draw_content(self, context: Any, layout: Any) -> None:
        """The range and what can be done on it."""
        choice = context.scene.two_hands.review
        column = layout.column(align=True)
        column.prop(choice, "first")
        column.prop(choice, "last", text="Last")
        row = layout.row(align=True)
        for source, text in (("PROBLEM", "Problem"), ("PREVIEW", "Preview"), ("KEYS", "Keys")):
            row.operator(operators.HANDS_OT_set_range.bl_idname, text=text).source = source
        layout.prop(choice, "side")
        name = operators.HANDS_OT_edit_take.bl_idname
        row = layout.row(align=True)
        row.operator(name, text="Swap", icon="UV_SYNC_SELECT").kind = "swap"
        row.operator(name, text="Drop", icon="HIDE_ON").kind = "drop"
        row = layout.row(align=True)
        row.use_property_split = False
        row.prop(choice, "weight", slider=True)
        row.operator(name, text="Trust Less", icon="QUESTION").kind = "trust"


class HANDS_PT_review_edits(_SubPanel):
    """What was put right by hand, in order"""

    bl_label = "Corrections"

    def draw_content(self, context: Any, layout: Any) -> None:
        """One line each, to be taken back."""
        item, review = takes.active_take(context.scene), review_data.review_of(context.scene)
        width = context.region.width
        try:
            edits = takes.edits_of(item)
        except HandCaptureError as error:
            draw_sentence(layout, str(error), width, icon="ERROR")
            return
        if review is None or not edits:
            draw_sentence(layout, "Nothing has been corrected by hand.", width)
            return
        column = layout.column(align=True)
        for index, edit in enumerate(edits):
            row = column.row()
            row.label(text=operators.edit_label(edit, review.raw, item), translate=False)
            row.operator(operators.HANDS_OT_remove_edit.bl_idname, text="", icon="X", emboss=False).index = index


def _draw_problems(context: Any, layout: Any) -> None:
    review, item = review_data.review_of(context.scene), takes.active_take(context.scene)
    if review is None:
        return
    manager = context.window_manager
    count = len(review.problems)
    row = layout.row()
    row.label(text=f"{count} problem{'' if count == 1 else 's'}" if count else "No problems", translate=False)
    operators.draw_jumps(row)
    if count:
        layout.template_list(
            HANDS_UL_problems.bl_idname,
            "",
            manager,
            operators.LIST_PROPERTY,
            manager,
            operators.ACTIVE_PROPERTY,
            rows=min(5, max(3, count)),
        )
        _draw_visited(context, layout)
    if review.error:
        draw_sentence(layout, review.error, context.region.width, icon="ERROR")
    elif review.clean is None or clean_job.is_busy(item):
        layout.label(text="The clean-up is looking ...", icon="SORTTIME")


def _draw_visited(context: Any, layout: Any) -> None:
    """What there is to see at the problem that was visited last."""
    lines = getattr(context.window_manager, operators.LIST_PROPERTY)
    index = getattr(context.window_manager, operators.ACTIVE_PROPERTY)
    if index < len(lines):
        line = lines[index]
        draw_sentence(layout, f"Frames {line.first} to {line.last}: {line.name}", context.region.width)


CLASSES: Final = (HANDS_UL_problems, HANDS_PT_review, HANDS_PT_review_range, HANDS_PT_review_edits)
