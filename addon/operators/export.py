"""Export: the clean take as a file, for other programs and for the command line."""

from pathlib import Path
from typing import Any, ClassVar, Final

import bpy

from dir_core.errors import OutputError
from dir_core.take import save_take

from .. import clean_job, takes
from .base import HandsOperator, has_take


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


CLASSES: Final = (HANDS_OT_save_clean_take,)
