"""Export: hands or a rig for other programs, and the clean take as a file for the command line."""

from pathlib import Path
from typing import Any, ClassVar, Final

import bpy

from dir_core.errors import OutputError
from dir_core.take import save_take

from .. import clean_job, export, exporters, hand_rig, take_keys, takes
from ..retargeting import rig_preview
from .base import HandsOperator, has_take, refuse_poll, shows_poses


class HANDS_OT_export(HandsOperator):
    """Write the hands or the rig as they move now, with all layers, into a file for other programs"""

    bl_idname = "hands.export"
    bl_label = "Export Animation"
    bl_options: ClassVar = {"REGISTER"}

    filepath: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="File",
        description="Where the animation is written",
        subtype="FILE_PATH",
        options={"SKIP_SAVE"},
    )
    filter_glob: bpy.props.StringProperty(options={"HIDDEN", "SKIP_SAVE"})  # type: ignore[valid-type]
    check_existing: bpy.props.BoolProperty(default=True, options={"HIDDEN"})  # type: ignore[valid-type]

    @classmethod
    def poll(cls, context: Any) -> bool:
        """There has to be something to export, in a mode in which it can be read."""
        if not shows_poses(cls, context):
            return False
        if context.scene.two_hands.export.content == "RIG":
            return context.scene.two_hands.retarget.target is not None or refuse_poll(
                cls, "Choose the rig in the Retarget panel first"
            )
        return bool(_captured_hands(context)) or refuse_poll(cls, "Key the hands of a take first")

    def invoke(self, context: Any, _event: Any) -> set[str]:
        """Ask for the file, beside the .blend file or else the take."""
        kind = context.scene.two_hands.export.format
        item: Any = takes.active_take(context.scene)
        beside = Path(bpy.data.filepath or (takes.raw_path(item) if item else Path.home() / "hands"))
        name = bpy.path.clean_name(_clip_name(context))
        self.filepath = str(exporters.fitting_path(beside.with_name(name), kind))
        self.filter_glob = ";".join(f"*{suffix}" for suffix in exporters.FORMATS[kind].suffixes)
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def check(self, context: Any) -> bool:
        """Put the format's ending behind the name, so that Blender warns of a file that is there."""
        fitting = str(exporters.fitting_path(Path(self.filepath), context.scene.two_hands.export.format))
        changed = fitting != self.filepath
        self.filepath = fitting
        return changed

    def run(self, context: Any) -> set[str]:
        """Write the file, whole or not at all.

        Raises:
            HandCaptureError: nothing can be exported, or the file cannot be written.
        """
        scene = context.scene
        settings = scene.two_hands.export
        if settings.content == "RIG":
            rig = scene.two_hands.retarget.target
            armatures = {rig: [each for each in export.meshes_of(rig, scene) if each.visible_get()]}
        else:
            armatures = {each: hand_rig.skins_of(each) for each in _captured_hands(context)}
        if settings.range == "TAKE":
            span = export.keyed_frames(_captured_hands(context))
        else:
            span = (scene.frame_start, scene.frame_end)
        manager = context.window_manager
        manager.progress_begin(0, 100)
        try:
            with rig_preview.put_away():
                done = export.export_armatures(
                    context,
                    armatures,
                    exporters.fitting_path(Path(bpy.path.abspath(self.filepath)), settings.format),
                    settings.format,
                    span=span,
                    name=_clip_name(context),
                    progress=lambda share: manager.progress_update(100 * share),
                )
        finally:
            manager.progress_end()
        notes = list(done.notes)
        if settings.content == "RIG" and scene.two_hands.retarget.preview:
            notes.append("What the preview shows is not in the file, key the hands onto the rig to export them.")
        for note in notes:
            self.report({"WARNING"}, note)
        what = settings.bl_rna.properties["content"].enum_items[settings.content].name.lower()
        self.tell(f"Exported {done.frames:,} frames of the {what} to {done.path}.")
        return {"FINISHED"}


def _captured_hands(context: Any) -> list[Any]:
    """The armatures of the active take."""
    item = takes.active_take(context.scene)
    return list(take_keys.hands_of(item).values()) if item else []


def _clip_name(context: Any) -> str:
    """What the animation is called in the file."""
    if context.scene.two_hands.export.content == "RIG":
        return str(context.scene.two_hands.retarget.target.name)
    item: Any = takes.active_take(context.scene)
    return str(item.name)


class HANDS_OT_save_clean_take(HandsOperator):
    """Write the cleaned take with its settings and corrections into a file; the raw take stays as it is"""

    bl_idname = "hands.save_clean_take"
    bl_label = "Save Clean Take"
    bl_options: ClassVar = {"REGISTER"}

    filepath: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="File",
        description="Where the cleaned take is written",
        subtype="FILE_PATH",
        options={"SKIP_SAVE"},
    )
    filter_glob: bpy.props.StringProperty(default="*.npz", options={"HIDDEN"})  # type: ignore[valid-type]
    check_existing: bpy.props.BoolProperty(default=True, options={"HIDDEN"})  # type: ignore[valid-type]

    @classmethod
    def poll(cls, context: Any) -> bool:
        """There has to be a take."""
        return has_take(cls, context)

    def invoke(self, context: Any, _event: Any) -> set[str]:
        """Ask for the file; meanwhile the clean-up runs if it has to."""
        item: Any = takes.active_take(context.scene)
        raw = takes.raw_path(item)
        self.filepath = str(raw.with_name(f"{raw.stem}.clean.npz"))
        clean_job.ask_for(item)
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def run(self, context: Any) -> set[str]:
        """Write the file, whole or not at all.

        Raises:
            OutputError: the file cannot be written, or it is the raw take itself.
            HandCaptureError: the take cannot be cleaned.
        """
        item: Any = takes.active_take(context.scene)
        path = Path(bpy.path.abspath(self.filepath)).with_suffix(".npz")
        if path.resolve() == takes.raw_path(item).resolve():
            raise OutputError(f"{path} is the raw take, which is never changed: choose another name.")
        take = clean_job.clean_take_of(item)
        save_take(take, path)
        self.tell(f"Saved {len(take)} frames to {path}.")
        return {"FINISHED"}


CLASSES: Final = (HANDS_OT_export, HANDS_OT_save_clean_take)
