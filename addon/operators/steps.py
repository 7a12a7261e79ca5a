"""Operators whose work takes seconds: in slices, so that Blender's window stays alive and Escape ends them."""

import time
from collections.abc import Generator
from typing import Any, Final

import bpy

from .base import HandsOperator

_SLICE: Final = 0.04  # seconds of work between two looks at the user; a redraw follows each
_TICK: Final = 0.001


class SteppedOperator(HandsOperator):
    """Drains the steps of a generator that changes nothing before its last one: ended early, all is as it was.

    A subclass writes `steps` and `finish`. Its label says in the status bar what is going on.
    """

    _steps: Any = None
    _timer: Any = None

    def steps(self, context: Any) -> Generator[float, None, Any]:
        """The work; it yields the share that is done, 0..1, and returns what `finish` needs.

        Raises:
            HandCaptureError: a mistake that the user can put right; its sentence is reported.
        """
        raise NotImplementedError

    def finish(self, context: Any, done: Any) -> None:
        """Tell the user what the steps have done."""
        raise NotImplementedError

    def invoke(self, context: Any, _event: Any) -> set[str]:
        """Begin; without a window do everything at once."""
        if bpy.app.background:
            return self.execute(context)
        manager = context.window_manager
        self._timer = manager.event_timer_add(_TICK, window=context.window)
        manager.modal_handler_add(self)
        manager.progress_begin(0, 100)
        context.workspace.status_text_set(f"{self.bl_label}    Esc: Cancel")
        return self._leave_if_done(context, self.execute(context))

    def modal(self, context: Any, event: Any) -> set[str]:
        """Do the next slice."""
        if event.type == "ESC":
            self.cancel(context)
            return {"CANCELLED"}
        if event.type != "TIMER":
            return {"RUNNING_MODAL"}
        return self._leave_if_done(context, self.execute(context))

    def cancel(self, context: Any) -> None:
        """Leave everything as it was; Blender calls this too, for example when the window closes."""
        if self._steps is not None:
            self._steps.close()
        self._leave_if_done(context, {"CANCELLED"})

    def run(self, context: Any) -> set[str]:
        """Work for a slice, or to the end where nobody waits."""
        if self._steps is None:
            self._steps = self.steps(context)
        end = time.perf_counter() + _SLICE
        try:
            while self._timer is None or time.perf_counter() < end:
                share = next(self._steps)
        except StopIteration as finished:
            self.finish(context, finished.value)
            return {"FINISHED"}
        context.window_manager.progress_update(100 * share)
        return {"RUNNING_MODAL"}

    def _leave_if_done(self, context: Any, result: set[str]) -> set[str]:
        if "RUNNING_MODAL" not in result and self._timer is not None:
            context.window_manager.event_timer_remove(self._timer)
            context.window_manager.progress_end()
            context.workspace.status_text_set(None)
            self._timer = None
        return result
