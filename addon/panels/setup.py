"""The Setup panel, and the same in the preferences: what the DIR network runs on, its weights and hands."""

from typing import Any, ClassVar, Final

from dir_core.errors import GpuRuntimeError
from dir_core.worker.runtime import BUILDS, LICENCES, SetupProgress

from .. import gpu_runtime
from ..operators.setup import (
    HANDS_OT_cancel_runtime,
    HANDS_OT_check_weights,
    HANDS_OT_remove_runtime,
    HANDS_OT_set_up_runtime,
    HANDS_OT_test_runtime,
)
from ..preferences import AUTO, chosen_build, draw_with, preferences, stop_drawing_with
from .base import HandsPanel, draw_sentence

_ICONS: Final = {"none": "INFO", "running": "SORTTIME", "unfinished": "INFO", "ready": "CHECKMARK", "broken": "ERROR"}
_STAGES: Final = {
    "making": "Making the environment",
    "downloading": "Downloading",
    "installing": "Unpacking",
    "testing": "Testing the network",
    "removing": "Removing",
    "ended": "Finishing",
}
_TASKS: Final = {
    "setup": "Setting up",
    "remove": "Removing",
    "test": "Testing the network",
    "weights": "Looking into the weights",
}
_WEIGHTS_SITE: Final = "https://github.com/PengfeiRen96/DIR"
_MANO_SITE: Final = "https://mano.is.tue.mpg.de"


def progress_words(progress: SetupProgress) -> str:
    """How far a setup is, in one line."""
    words = _STAGES[progress.stage]
    if progress.total:
        words += f" {progress.done / 1e9:.2f} of {progress.total / 1e9:.2f} GB"
    if progress.bytes_per_second:
        words += f", {progress.bytes_per_second / 1e6:.0f} MB/s"
    if progress.seconds_left is not None:
        minutes, seconds = divmod(round(progress.seconds_left), 60)
        words += f", {minutes}:{seconds:02d} left"
    return words


class HANDS_PT_setup(HandsPanel):
    """What the DIR network needs, which sees both hands at once"""

    bl_idname = "HANDS_PT_setup"
    bl_label = "Setup"
    bl_order = 70
    bl_options: ClassVar = {"DEFAULT_CLOSED"}

    def draw_content(self, context: Any, layout: Any) -> None:
        """The state in short, and the way to the preferences."""
        width = context.region.width
        chosen = preferences(context)
        if gpu_runtime.task():
            _draw_task(layout)
        elif not gpu_runtime.missing_for_dir(chosen):
            draw_sentence(layout, "The DIR network is ready.", width, icon="CHECKMARK")
        else:
            draw_sentence(layout, f"{gpu_runtime.missing_for_dir(chosen)}.", width, icon="INFO")
            draw_sentence(layout, "The landmark estimator needs no setup.", width)
        if chosen is not None:
            opener = layout.operator("preferences.addon_show", text="Open Preferences", icon="PREFERENCES")
            opener.module = chosen.bl_idname
        layout.operator("hands.show_log", icon="TEXT")


def draw_preferences(context: Any, layout: Any) -> None:
    """Everything about the DIR network, below the other preferences."""
    chosen = preferences(context)
    width = context.region.width if context.region else 600
    column = layout.column(heading="DIR Network")
    column.prop(chosen, "runtime_source", expand=True)
    box = layout.box()
    if chosen.runtime_source == gpu_runtime.OWN:
        _draw_own(box, chosen, width)
    else:
        _draw_runtime(box, context, width)
    box = layout.box()
    row = box.row(align=True)
    row.prop(chosen, "checkpoint")
    row.operator(HANDS_OT_check_weights.bl_idname, text="", icon="VIEWZOOM")
    draw_sentence(box, _weights_words(chosen), width)
    box.prop(chosen, "hands_folder")
    draw_sentence(box, chosen.hands_found or "The open hand is used (Apache-2.0); MANO is optional.", width)
    row = box.row()
    row.operator("wm.url_open", text="Get DIR Weights", icon="URL").url = _WEIGHTS_SITE
    row.operator("wm.url_open", text="Get MANO", icon="URL").url = _MANO_SITE


def _draw_runtime(layout: Any, context: Any, width: int) -> None:
    """The runtime that is set up here."""
    status = gpu_runtime.status()
    if gpu_runtime.task():
        _draw_task(layout)
        return
    sentence = status.sentence or "Another Blender is setting the runtime up"
    draw_sentence(layout, sentence, width, icon=_ICONS[status.state])
    if status.build:
        installed = f"Installed: {BUILDS[status.build]}, {status.size / 1e9:.1f} GB. {LICENCES[status.build]}."
        draw_sentence(layout, installed, width)
    chosen = preferences(context)
    layout.prop(chosen, "runtime_build")
    build = chosen_build(context)
    if chosen.runtime_build == AUTO and build:
        draw_sentence(layout, f"{BUILDS[build]}: {gpu_runtime.detected_build()[1]}.", width)
    try:
        download, disk = gpu_runtime.sizes(build)
        draw_sentence(layout, f"Downloads {download:.1f} GB, needs up to {disk:.1f} GB. {LICENCES[build]}.", width)
    except GpuRuntimeError as error:
        draw_sentence(layout, str(error), width, icon="ERROR")
    row = layout.row()
    words = "Set Up GPU Runtime" if status.state in ("none", "unfinished") else "Repair or Change"
    row.operator(HANDS_OT_set_up_runtime.bl_idname, text=words, icon="IMPORT")
    row.operator(HANDS_OT_test_runtime.bl_idname, icon="PLAY")
    row.operator(HANDS_OT_remove_runtime.bl_idname, icon="TRASH")
    if status.state == "broken":
        layout.operator("hands.show_log", icon="TEXT").filepath = str(gpu_runtime.log_file())


def _draw_own(layout: Any, chosen: Any, width: int) -> None:
    """A Python of the user's."""
    row = layout.row(align=True)
    row.prop(chosen, "runtime_python")
    if gpu_runtime.task():
        _draw_task(layout)
        return
    row.operator(HANDS_OT_test_runtime.bl_idname, icon="PLAY")
    path = gpu_runtime.own_path(chosen)
    test = gpu_runtime.own_test(path)
    if test is not None:
        draw_sentence(layout, test.sentence, width, icon="ERROR" if test.error else "CHECKMARK")
    elif path:
        draw_sentence(layout, "Not tested yet.", width, icon="INFO")


def _draw_task(layout: Any) -> None:
    """What is being done, how far it is, and the way out."""
    progress, task = gpu_runtime.progress(), gpu_runtime.task()
    row = layout.row(align=True)
    if progress is not None and progress.total:
        row.progress(factor=min(progress.done / progress.total, 1.0), text=progress_words(progress))
    else:
        words = progress_words(progress) if progress is not None else _TASKS[task or "setup"]
        row.label(text=f"{words} ...", icon="SORTTIME")
    row.operator(HANDS_OT_cancel_runtime.bl_idname, text="", icon="X")


def _weights_words(chosen: Any) -> str:
    path = gpu_runtime.weights_path(chosen)
    if not path:
        return "No weights are chosen; the official ones are for research only and are never downloaded for you."
    if gpu_runtime.weights_sentence(path):
        return gpu_runtime.weights_sentence(path)
    return gpu_runtime.missing_runtime(chosen) or "Not looked into yet, press Check."


CLASSES: Final = (HANDS_PT_setup,)


def register() -> None:
    """Draw in the preferences too."""
    draw_with(draw_preferences)


def unregister() -> None:
    """Draw there no more."""
    stop_drawing_with(draw_preferences)
