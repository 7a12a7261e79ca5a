"""The Capture panel: what sees the hands, what of the footage, and how the captures stand. Also in the status bar."""

from typing import Any, ClassVar, Final

import bpy
from bl_ui.space_statusbar import STATUSBAR_HT_header
from bl_ui.utils import PresetPanel

from .. import capture_job, painter, ticker
from ..operators.capture import (
    PRESET_FOLDER,
    HANDS_OT_add_captured,
    HANDS_OT_cancel_capture,
    HANDS_OT_capture,
    HANDS_OT_capture_preset_add,
    HANDS_OT_discard_capture,
    HANDS_OT_draw_box,
    HANDS_OT_pause_capture,
    HANDS_OT_resume_capture,
    HANDS_OT_show_log,
    weights_in_use,
    why_not,
)
from ..properties import SCENE_PROPERTY
from .base import HandsPanel, draw_sentence

_STATUS_TICK: Final = 0.5  # seconds between two looks at the status bar
_NAME_LENGTH: Final = 24  # characters of a clip's name in the status bar


def _capture(context: Any) -> Any:
    return getattr(context.scene, SCENE_PROPERTY).capture


class HANDS_PT_capture(HandsPanel):
    """Capture both hands of the footage"""

    bl_idname = "HANDS_PT_capture"
    bl_label = "Capture"
    bl_order = 10

    def draw_header_preset(self, _context: Any) -> None:
        """The presets."""
        HANDS_PT_capture_presets.draw_panel_header(self.layout)

    def draw_content(self, context: Any, layout: Any) -> None:
        """The choices, the button, and every capture that is not done with."""
        capture, width = _capture(context), context.region.width
        column = layout.column()
        column.prop(capture, "estimator")
        if capture.estimator == "dir":
            column.prop(capture, "device")
        column.prop(capture, "hand_length")
        column.prop(capture, "mirrored")
        column.prop(capture, "use_hands", text="Build Hands")
        reason = why_not(context)
        if reason:
            draw_sentence(layout, f"{reason}.", width, icon="INFO")
        row = layout.row()
        row.scale_y = 1.4
        text = "Add to Queue" if capture_job.active_job() else "Capture"
        row.operator(HANDS_OT_capture.bl_idname, text=text, icon="REC")
        for job in capture_job.jobs():
            draw_job(layout.box(), job, width)
        if capture_job.last_report():
            draw_sentence(layout, capture_job.last_report(), width, icon="CHECKMARK")


def draw_job(layout: Any, job: capture_job.Job, width: int) -> None:
    """One capture: how far it is, what can be done with it, what its worker had to say."""
    row = layout.row()
    row.label(text=job.order.clip, icon=_ICONS.get(job.phase, "TIME"), translate=False)
    buttons = row.row(align=True)
    for operator, icon in _SMALL_BUTTONS.get(job.phase, ()):
        buttons.operator(operator.bl_idname, text="", icon=icon).job = job.name
    if job.phase in ("running", "paused"):
        layout.progress(factor=job.factor, text=job.sentence(), type="BAR")
    elif job.phase == "finished":
        layout.operator(HANDS_OT_add_captured.bl_idname, icon="ADD").job = job.name
    else:
        layout.label(text=job.sentence(), translate=False)
    silent = capture_job.seconds_silent(job)
    if silent:
        draw_sentence(layout, f"The worker gives no sign of life since {silent:.0f} s.", width, icon="ERROR")
    for warning in job.warnings:
        draw_sentence(layout, warning, width, icon="ERROR")
    if job.error:
        draw_sentence(layout, job.error.sentence, width, icon="ERROR")
        if job.error.hint:
            draw_sentence(layout, job.error.hint, width, icon="BLANK1")
        layout.operator(HANDS_OT_show_log.bl_idname, icon="TEXT").filepath = str(job.log)
    if job.phase in ("stopped", "cancelled", "failed"):
        row = layout.row(align=True)
        row.operator(HANDS_OT_resume_capture.bl_idname, icon="PLAY").job = job.name
        row.operator(HANDS_OT_discard_capture.bl_idname, text="Discard", icon="TRASH").job = job.name


_ICONS: Final = {
    "running": "REC",
    "paused": "PAUSE",
    "finished": "CHECKMARK",
    "failed": "ERROR",
    "stopped": "ERROR",
    "cancelled": "CANCEL",
    "foreign": "WINDOW",
}


_SMALL_BUTTONS: Final = {
    "running": ((HANDS_OT_pause_capture, "PAUSE"), (HANDS_OT_cancel_capture, "X")),
    "paused": ((HANDS_OT_resume_capture, "PLAY"), (HANDS_OT_cancel_capture, "X")),
    "waiting": ((HANDS_OT_cancel_capture, "X"),),
    "finished": ((HANDS_OT_discard_capture, "TRASH"),),
}


class _SubPanel(HandsPanel):
    bl_parent_id = "HANDS_PT_capture"
    bl_options: ClassVar = {"DEFAULT_CLOSED"}


class HANDS_PT_capture_range(_SubPanel):
    """Which part of the footage is captured"""

    bl_label = "Range"

    def draw_header(self, context: Any) -> None:
        """Its switch."""
        self.layout.prop(_capture(context), "use_range", text="")

    def draw_content(self, context: Any, layout: Any) -> None:
        """First, last, step."""
        capture = _capture(context)
        column = layout.column(align=True)
        column.active = capture.use_range
        column.prop(capture, "first")
        column.prop(capture, "last")
        layout.prop(capture, "step")


class HANDS_PT_capture_box(_SubPanel):
    """Where the hands are at the start, if they are not found by themselves"""

    bl_label = "Start Box"

    def draw_header(self, context: Any) -> None:
        """Its switch."""
        self.layout.prop(_capture(context), "use_box", text="")

    def draw_content(self, context: Any, layout: Any) -> None:
        """Drawn in the view, or as numbers."""
        capture = _capture(context)
        layout.operator(HANDS_OT_draw_box.bl_idname, icon="SELECT_SET")
        column = layout.column(align=True)
        column.active = capture.use_box
        for index, name in enumerate(("Left", "Top", "Width", "Height")):
            column.prop(capture, "box", index=index, text=name)


class HANDS_PT_capture_weights(_SubPanel):
    """Which networks the choice means, and what may be done with their results"""

    bl_label = "Weights and Licence"

    def draw_content(self, context: Any, layout: Any) -> None:
        """One sentence each."""
        for sentence in weights_in_use(context):
            draw_sentence(layout, sentence, context.region.width)


class HANDS_PT_capture_preview(_SubPanel):
    """What is shown while a capture runs"""

    bl_label = "Live Preview"

    def draw_header(self, context: Any) -> None:
        """Its switch."""
        self.layout.prop(_capture(context), "use_preview", text="")

    def draw_content(self, context: Any, layout: Any) -> None:
        """What it means."""
        draw_sentence(
            layout,
            "The hands move in front of the footage's camera as they are captured, before any clean-up.",
            context.region.width,
        )


class HANDS_PT_capture_presets(PresetPanel, bpy.types.Panel):  # type: ignore[misc]
    """Presets of the capture"""

    bl_label = "Capture Presets"
    preset_subdir = PRESET_FOLDER
    preset_operator = "script.execute_preset"
    preset_add_operator = HANDS_OT_capture_preset_add.bl_idname


# --- the status bar ------------------------------------------------------------------------------------------


def draw_status(header: Any, _context: Any) -> None:
    """The running capture, at the right of the status bar."""
    job = capture_job.active_job()
    if job is None:
        return
    name = job.order.clip if len(job.order.clip) <= _NAME_LENGTH else f"{job.order.clip[: _NAME_LENGTH - 1]}…"
    row = header.layout.row()
    row.ui_units_x = 20
    row.progress(factor=job.factor, text=f"{name}: {job.sentence()}", type="BAR")


def _follow_status(_job: capture_job.Job) -> None:
    if not bpy.app.background:
        ticker.follow(_show_status)


def _show_status() -> float | None:
    """Keep our part in the status bar as long as a capture runs: other add-ons exchange its draw function."""
    is_running = capture_job.active_job() is not None
    shown = draw_status in getattr(STATUSBAR_HT_header.draw, "_draw_funcs", ())
    if is_running != shown:
        (STATUSBAR_HT_header.append if is_running else STATUSBAR_HT_header.remove)(draw_status)
        painter.repaint("STATUS")
    return _STATUS_TICK if is_running else None


CLASSES: Final = (
    HANDS_PT_capture_presets,
    HANDS_PT_capture,
    HANDS_PT_capture_range,
    HANDS_PT_capture_box,
    HANDS_PT_capture_weights,
    HANDS_PT_capture_preview,
)


def register() -> None:
    """Say in the status bar how captures go."""
    capture_job.listen_to_starts(_follow_status)


def unregister() -> None:
    """Leave the status bar as it was."""
    if draw_status in getattr(STATUSBAR_HT_header.draw, "_draw_funcs", ()):
        STATUSBAR_HT_header.remove(draw_status)
