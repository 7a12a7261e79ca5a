"""The add-on's one way to do something later: small steps on Blender's timer that end with the add-on.

A step does a few milliseconds of work at most and says when it wants to be called again.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

import bpy

from .log import LOGGER, note_mistake

Step = Callable[[], float | None]
"""Does a little and returns the seconds until the next call, or None when there is nothing left to do."""

_running: Final[dict[Step, Callable[[], float | None]]] = {}


def follow(step: Step, first: float = 0.0) -> None:
    """Call `step` from now on, beginning in `first` seconds; nothing changes if it is being called already.

    Whatever it raises is told as a defect and ends it. Without a window Blender's timers stand still: there the caller
    has to drain the same work itself.
    """
    if step in _running:
        return

    def call() -> float | None:
        try:
            pause = step()
        except Exception:
            LOGGER.exception("A step on the timer failed")
            note_mistake("A defect of the add-on stopped its work in the background, the log says where.")
            redraw()
            pause = None
        if pause is None:
            _running.pop(step, None)
        return pause

    _running[step] = call
    bpy.app.timers.register(call, first_interval=first, persistent=True)


def is_followed(step: Step) -> bool:
    """Whether `step` will be called again."""
    return step in _running


def is_user_busy(window: Any) -> bool:
    """Whether the user is in the middle of something in a window that ends with what he does right now."""
    return any(map(_is_of_blender, window.modal_operators))


def _is_of_blender(operator: Any) -> bool:
    """Modal operators of add-ons may run for ever."""
    return bpy.types.Operator.bl_rna_get_subclass_py(operator.bl_idname) is None


def redraw(areas: Iterable[str] = ("VIEW_3D",)) -> None:
    """Draw all areas of these types again soon, in every window."""
    wanted = frozenset(areas)
    manager: Any = bpy.context.window_manager
    for window in manager.windows if manager else ():
        for area in window.screen.areas:
            if area.type in wanted:
                area.tag_redraw()


def unregister() -> None:
    """Stop everything: a timer that is left behind makes Blender crash or hang when it quits."""
    for call in _running.values():
        if bpy.app.timers.is_registered(call):
            bpy.app.timers.unregister(call)
    _running.clear()
