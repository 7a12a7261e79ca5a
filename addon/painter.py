"""Draws again what changed while work runs in the background, so rarely that Blender stays free on any computer.

How long a drawing takes differs a hundredfold between computers and scenes. It is measured: the timer is called again
as soon as Blender has drawn. Then nothing is drawn for twice as long.
"""

import time
from typing import Any, Final, Literal

import bpy

from . import ticker

Part = Literal["VIEW", "SIDEBAR", "STATUS"]
"""The 3D views, their sidebars, the status bar."""

_REST: Final = 2.0  # times what the last drawing took: drawing gets a third of the time
_LONGEST_REST: Final = 2.0  # seconds; once a stall that was not ours has been measured, too
_REGIONS: Final = {"VIEW": "WINDOW", "SIDEBAR": "UI"}


class _State:
    wanted: dict[Part, None] = {}  # noqa: RUF012 - one painter; a dictionary keeps the order
    painted: float = 0.0  # monotonic, when something was tagged that is being drawn now
    free: float = 0.0  # monotonic, before which nothing is drawn


def repaint(*parts: Part) -> None:
    """Have parts of every window drawn again soon; one after the other, for each takes its time."""
    if not bpy.app.background:
        _State.wanted.update(dict.fromkeys(parts))
        ticker.follow(_paint)


def _paint() -> float | None:
    now = time.monotonic()
    if _State.painted:
        _State.free = now + min(_REST * (now - _State.painted), _LONGEST_REST)
        _State.painted = 0.0
    if not _State.wanted:
        return None
    if now < _State.free:
        return _State.free - now
    part = next(iter(_State.wanted))
    del _State.wanted[part]
    for window in _windows():
        _tag(window, part)
    _State.painted = now
    return 0.0


def _windows() -> Any:
    return bpy.context.window_manager.windows


def _tag(window: Any, part: Part) -> None:
    if part == "STATUS":
        # The status bar is no area of a screen and cannot be tagged. Setting its text draws it; setting it to nothing
        # takes away what a modal operator may say there, so not while there is one.
        if not window.modal_operators:
            with bpy.context.temp_override(window=window):
                window.workspace.status_text_set_internal(None)
        return
    for area in window.screen.areas:
        if area.type == "VIEW_3D":
            for region in area.regions:
                if region.type == _REGIONS[part]:
                    region.tag_redraw()


def unregister() -> None:
    """Forget what was to be drawn."""
    _State.wanted.clear()
    _State.painted = _State.free = 0.0
