"""What every operator of the add-on does the same way: mistakes become one sentence, defects go into the log."""

from typing import Any

import bpy

from dir_core.errors import HandCaptureError

from .. import log, takes


class HandsOperator(bpy.types.Operator):  # type: ignore[misc]
    """Runs `run` so that the user never meets a traceback and nothing stays half done without being told.

    A subclass writes `run(context)` instead of `execute`, and changes the file only after everything that can fail.
    """

    def run(self, context: Any) -> set[str]:
        """Do the work and return what `execute` would.

        Raises:
            HandCaptureError: a mistake that the user can put right; its sentence is reported.
        """
        raise NotImplementedError

    def execute(self, context: Any) -> set[str]:
        """Run, and turn whatever is raised into a report."""
        try:
            result = self.run(context)
        except HandCaptureError as error:
            return self.refuse(str(error))
        except Exception:
            log.LOGGER.exception("%s failed", self.bl_idname)
            return self.refuse(f'A defect of the add-on stopped "{self.bl_label}", the log says where.')
        if "FINISHED" in result:
            log.forget_mistake()
        return result

    def refuse(self, sentence: str) -> set[str]:
        """Report why nothing was done."""
        log.note_mistake(sentence)
        self.report({"ERROR"}, sentence)
        return {"CANCELLED"}

    def tell(self, sentence: str) -> None:
        """Report what was done, in numbers."""
        log.LOGGER.info("%s: %s", self.bl_label, sentence)
        self.report({"INFO"}, sentence)


def refuse_poll(cls: Any, reason: str) -> bool:
    """Grey an operator out and say why in its tooltip; use as `return refuse_poll(cls, "...")` in poll."""
    cls.poll_message_set(reason)
    return False


def has_take(cls: Any, context: Any) -> bool:
    """Whether a take is chosen; for `poll`."""
    return takes.active_take(context.scene) is not None or refuse_poll(cls, "Capture or add a take first")


def has_rig(cls: Any, context: Any) -> bool:
    """Whether a rig is chosen that gets the hands; for `poll`."""
    return context.scene.two_hands.retarget.target is not None or refuse_poll(cls, "Choose the rig first")


def shows_poses(cls: Any, context: Any) -> bool:
    """Whether armatures can be read in the current mode; for `poll`."""
    return context.mode in {"OBJECT", "POSE"} or refuse_poll(cls, "Leave for object or pose mode first")


class FootageFileOperator(HandsOperator):
    """Asks for a video, a picture of a sequence or its folder."""

    filepath: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Footage",
        description="Video, picture of a sequence, or its folder",
        subtype="FILE_PATH",
        options={"SKIP_SAVE"},
    )
    filter_folder: bpy.props.BoolProperty(default=True, options={"HIDDEN"})  # type: ignore[valid-type]
    filter_movie: bpy.props.BoolProperty(default=True, options={"HIDDEN"})  # type: ignore[valid-type]
    filter_image: bpy.props.BoolProperty(default=True, options={"HIDDEN"})  # type: ignore[valid-type]
