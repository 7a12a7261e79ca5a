"""What could not be done last, above every other panel, with the log that says more."""

from typing import Any, ClassVar, Final

from .. import capture_job, log
from ..operators.capture import HANDS_OT_close_mistake, HANDS_OT_show_log
from .base import HandsPanel, draw_sentence


class HANDS_PT_mistake(HandsPanel):
    """What could not be done last"""

    bl_label = "Not Done"
    bl_order = -10
    bl_options: ClassVar = {"HIDE_HEADER"}

    @classmethod
    def poll(cls, _context: Any) -> bool:
        """Only while there is something to tell; a capture's own mistake is shown with the capture."""
        mistake = log.last_mistake()
        return mistake is not None and not any(job.error and job.log == mistake.log for job in capture_job.jobs())

    def draw_content(self, context: Any, layout: Any) -> None:
        """The sentence, the log, and a way to close both."""
        mistake = log.last_mistake()
        if mistake is None:
            return
        box = layout.box()
        draw_sentence(box, mistake.sentence, context.region.width, icon="ERROR")
        row = box.row()
        row.operator(HANDS_OT_show_log.bl_idname, icon="TEXT").filepath = str(mistake.log)
        row.operator(HANDS_OT_close_mistake.bl_idname, text="", icon="X")


CLASSES: Final = (HANDS_PT_mistake,)
