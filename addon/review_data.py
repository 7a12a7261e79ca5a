"""What is known of the active take, kept ready for drawing: what was seen, what the clean-up says, where to look.

Drawing only ever asks `review_of`, which reads nothing. A slow tick looks whether the take, its corrections or the
clean-up's answer changed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import bpy
import numpy as np
from numpy.typing import NDArray

from dir_core.clean_up.gaps import gap_length, inner_gaps
from dir_core.clean_up.problems import Problem, ReviewRows, review_rows, sort_problems
from dir_core.conventions import SIDES, Side
from dir_core.errors import HandCaptureError, SettingsError
from dir_core.take import Take

from . import clean_job, footage_view, takes, ticker

Array = NDArray[Any]

_PAUSE: Final = 0.25  # seconds between two looks; a look that finds nothing new takes a fraction of a millisecond
_SHORTEST_GAP: Final = 0.2  # seconds, as the clean-up counts
_EARLY: Final = 0.02  # of a picture: time stamps are rounded to milliseconds


@dataclass(frozen=True, eq=False)
class Review:
    """What can be shown of a take.

    Attributes:
        raw: what was seen.
        clean: what the clean-up made of it; None until it has answered.
        rows: confidence, gaps and exchanges per side, of the clean take if there is one.
        problems: where to look, by time.
        error: why the clean-up has no answer; "" while it is well.
    """

    raw: Take
    clean: Take | None
    rows: Mapping[Side, ReviewRows]
    problems: tuple[Problem, ...]
    error: str = ""


_known: Final[dict[str, tuple[Any, Review | None]]] = {}  # uid of a take -> what it was made of, and what is known
_told: Final[dict[str, Any]] = {}  # scene -> what the listeners know
_asked: Final[set[Any]] = set()  # what the clean-up was asked about for review alone
_listeners: Final[list[Callable[[Any], None]]] = []


def listen_to_review(listener: Callable[[Any], None]) -> None:
    """Call `listener` with the scene whenever something else is known of its active take."""
    if listener not in _listeners:
        _listeners.append(listener)


def review_of(scene: Any) -> Review | None:
    """What is known of the scene's active take by now; None without a take or before anybody looked. Reads nothing."""
    item = takes.active_take(scene)
    return _known.get(item.uid, (None, None))[1] if item is not None else None


def look(scene: Any) -> Review | None:
    """Bring what is known of the scene's active take up to date; for timers and operators, not for drawing."""
    item = takes.active_take(scene)
    if item is None:
        return _tell(scene, (), None)
    state: Any = (item.uid, item.filepath, item.edits, takes.missing_files(item))
    try:
        answer = clean_job.answer_of(item)
        if answer is None and not bpy.app.background and state not in _asked and not clean_job.is_busy(item):
            _asked.add(state)
            clean_job.ask_for(item)
        key = (*state, answer, item.start, footage_view.scene_frame_rate(scene))
        if item.uid in _known and _known[item.uid][0] == key:
            return _tell(scene, key, _known[item.uid][1])
        review = _review(takes.load_raw(item), answer, _before(item))
    except HandCaptureError:  # the list of takes says what is missing
        key, review = state, None
    _known[item.uid] = (key, review)
    return _tell(scene, key, review)


def scene_frames(take: Take, item: Any) -> Array:
    """Scene frames [T], with decimals, on which the rows of a take lie."""
    frames: Array = item.start + take.time * footage_view.scene_frame_rate(item.id_data).value
    return frames


def row_at(take: Take, item: Any, frame: float) -> int | None:
    """The row whose picture the footage shows on a scene frame; None where the take has none."""
    seconds = (frame - item.start) / footage_view.scene_frame_rate(item.id_data).value
    pause = _picture_time(take)
    row = int(np.searchsorted(take.time, seconds + _EARLY * pause, "right")) - 1
    if row < 0:
        return None
    goes_on = row + 1 < len(take) and take.frame[row + 1] == take.frame[row] + 1
    return row if goes_on or seconds < take.time[row] + (1 - _EARLY) * pause else None


def source_range(take: Take, item: Any, first: int, last: int) -> tuple[int, int]:
    """First and last source frame of a take on the scene frames `first` to `last`, both included.

    Raises:
        SettingsError: the take has no frame there.
    """
    frames = scene_frames(take, item)
    rows = np.flatnonzero((frames >= first - 0.5) & (frames < last + 0.5))
    if not len(rows):
        there = f"runs from {frames[0]:.0f} to {frames[-1]:.0f}" if len(frames) else "has no frames"
        raise SettingsError(f"There is nothing of the take on frames {first} to {last}, it {there}: change the range.")
    return int(take.frame[rows[0]]), int(take.frame[rows[-1]])


def scene_range(take: Take, item: Any, first: int, last: int) -> tuple[int, int]:
    """First and last whole scene frame of the source frames `first` to `last` of a take."""
    rows = np.searchsorted(take.frame, [first, last])
    begin, end = np.round(scene_frames(take, item)[np.clip(rows, 0, len(take) - 1)]).astype(int)
    return int(begin), int(end)


def _picture_time(take: Take) -> float:
    """Seconds that a picture of the source is seen on the average."""
    return float((take.time[-1] - take.time[0]) / (take.frame[-1] - take.frame[0])) if len(take) > 1 else np.inf


def _before(item: Any) -> Review | None:
    return _known.get(item.uid, (None, None))[1]


def _review(raw: Take, answer: Any, before: Review | None) -> Review:
    if answer is not None and answer.take is not None:
        return Review(raw, answer.take, answer.rows, answer.problems)
    error = answer.error if answer is not None else ""
    if before is not None and before.raw is raw and before.clean is not None and not error:
        return before  # until the clean-up has answered again, what it said last is nearest
    return Review(raw, None, review_rows(raw, np.zeros(len(raw), bool)), _gaps(raw), error)


def _gaps(raw: Take) -> tuple[Problem, ...]:
    """What can be told without the clean-up: where a hand was lost."""
    found = []
    for side in SIDES:
        for first, last in inner_gaps(raw.hand(side).observed):
            unseen = gap_length(raw.time, first, last)
            if unseen >= _SHORTEST_GAP:
                frames = (int(raw.frame[first]), int(raw.frame[last]))
                found.append(Problem("lost", *frames, side, f"The {side} hand was not seen for {unseen:.1f} s."))
    return sort_problems(found)


def _tell(scene: Any, key: Any, review: Review | None) -> Review | None:
    """Let everybody who shows it know, if it is not what they know already."""
    if _told.get(scene.name) != key:
        _told[scene.name] = key
        for listener in _listeners:
            listener(scene)
        ticker.redraw(("VIEW_3D", "DOPESHEET_EDITOR", "GRAPH_EDITOR"))
    return review


def _forget() -> None:
    for store in (_known, _told, _asked):
        store.clear()


def _step() -> float:
    for scene in {window.scene for window in bpy.context.window_manager.windows}:
        look(scene)
    return _PAUSE


@bpy.app.handlers.persistent  # type: ignore[untyped-decorator]
def _on_load(*_: Any) -> None:
    _forget()


def register() -> None:
    """Begin to look; without a window nothing is drawn and operators look for themselves."""
    bpy.app.handlers.load_post.append(_on_load)
    if not bpy.app.background:
        ticker.follow(_step, first=_PAUSE)


def unregister() -> None:
    """Stop looking and forget everything."""
    bpy.app.handlers.load_post.remove(_on_load)
    _forget()
    _listeners.clear()
