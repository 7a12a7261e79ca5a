"""A thin band per hand at the lower edge of the Dope Sheet and the Timeline: how surely it was seen, and where to look.

Bands keep to the frames of the scene, so one batch per take serves every zoom; what has a width of its own in pixels
(the marks of problems) is made per view, and there are only tens of them.
"""

from typing import Any, Final

import blf
import bpy
import gpu
import numpy as np
from gpu_extras.batch import batch_for_shader
from mathutils import Matrix, Vector
from numpy.typing import NDArray

from dir_core.clean_up.problems import UNSURE, ReviewRows
from dir_core.conventions import SIDES, Side

from . import overlay, review_data, takes

Array = NDArray[Any]

_BAND, _GAP, _BOTTOM = 5.0, 1.0, 12.0  # pixels at a UI scale of 1; the scroll bar lies below
_MARK: Final = 3.0  # pixels, height of the line of problems above the bands
_RULER: Final = 24.0  # pixels at the top that show frame numbers and stay free, also where a Timeline is very low
_LETTERS: Final = 9.0  # points
_LEVELS: Final = 8  # of confidence; runs of one level are one rectangle
_SURE: Final = 0.9  # confidence that has the full colour of the hand
_DOUBT: Final = (1.0, 0.72, 0.1)  # amber: the colour of a hand that is seen badly, and of problems
_EXCHANGED: Final = (1.0, 1.0, 1.0)
_BACK: Final = (0.0, 0.0, 0.0, 0.55)
_LOWER: Final[dict[Side, float]] = {"left": _MARK + 2 * _GAP + _BAND, "right": _GAP}
"""Bottom of each band above that of the strip: the left hand above the right one."""

_HEIGHT: Final = _LOWER["left"] + _BAND + 2 * _GAP + _MARK


def band_rectangles(frames: Array, rows: ReviewRows, side: Side) -> tuple[Array, Array]:
    """What the band of a hand consists of: rectangles [N, 4] and their colours [N, 4].

    A rectangle is first frame, bottom, last frame, top, with frames of the scene and heights in pixels. Where the hand
    was not seen there is none.

    Args:
        frames: [T] scene frames of the rows.
        rows: what is known of the hand.
        side: its side.
    """
    starts, ends = _row_edges(frames)
    level = np.round(_LEVELS * np.clip(rows.confidence / _SURE, 0.0, 1.0)).astype(int)
    state = np.where(rows.observed & ~rows.hidden, level, -1)
    bottom, top = _LOWER[side], _LOWER[side] + _BAND
    rectangles, colours = [], []
    for first, last in _runs(state, starts, ends):
        if state[first] >= 0:
            rectangles.append((starts[first], bottom, ends[last], top))
            colours.append((*_colour(state[first] / _LEVELS, side), 1.0))
    for first, last in _runs(rows.exchanged.astype(int), starts, ends):
        if rows.exchanged[first]:
            rectangles.append((starts[first], top - 1.5, ends[last], top))
            colours.append((*_EXCHANGED, 1.0))
    return np.array(rectangles).reshape(-1, 4), np.array(colours).reshape(-1, 4)


def strip_rectangles(review: review_data.Review, item: Any) -> tuple[Array, Array]:
    """Rectangles [N, 4] and colours [N, 4] of both bands on their dark ground, as in `band_rectangles`."""
    frames = review_data.scene_frames(review.raw, item)
    if not len(frames):
        return np.empty((0, 4)), np.empty((0, 4))
    starts, ends = _row_edges(frames)
    grounds = np.array([[starts[0], _LOWER[side] - _GAP, ends[-1], _LOWER[side] + _BAND + _GAP] for side in SIDES])
    bands = [band_rectangles(frames, review.rows[side], side) for side in SIDES]
    return (
        np.concatenate([grounds, *(rectangles for rectangles, _ in bands)]),
        np.concatenate([np.tile(_BACK, (len(grounds), 1)), *(colours for _, colours in bands)]),
    )


def mark_rectangles(review: review_data.Review, item: Any, first: float, pixels: float, scale: float) -> Array:
    """Rectangles [P, 4] of the problems as in `band_rectangles`, but from left to right in pixels of the region.

    Args:
        review: what is known.
        item: the take's row.
        first: scene frame at the left edge.
        pixels: of one frame.
        scale: of the user interface; each is wide enough to be seen.
    """
    ranges = [review_data.scene_range(review.raw, item, problem.first, problem.last) for problem in review.problems]
    edges = (np.array(ranges, float).reshape(-1, 2) + [-0.5, 0.5] - first) * pixels
    middle, half = edges.mean(axis=1), np.maximum((edges[:, 1] - edges[:, 0]) / 2, 1.5 * scale)
    bottom = np.full(len(edges), _HEIGHT - _MARK)
    return np.stack([middle - half, bottom, middle + half, bottom + _MARK], axis=1)


def _colour(sureness: float, side: Side) -> tuple[float, ...]:
    """From amber, up to where a hand counts as doubtful, to the colour of the hand."""
    doubt = UNSURE / _SURE
    share = min(1.0, max(0.0, (sureness - doubt * 0.7) / (1.0 - doubt * 0.7)))
    return tuple(share * own + (1 - share) * low for own, low in zip(overlay.HAND_COLOURS[side], _DOUBT, strict=True))


def _row_edges(frames: Array) -> tuple[Array, Array]:
    """Where each row [T] begins and ends: at the middle between neighbours, but not across frames without a row."""
    if len(frames) < 2:
        return frames - 0.5, frames + 0.5
    steps = np.diff(frames)
    half = np.minimum(steps, 1.5 * np.median(steps)) / 2
    return frames - np.concatenate([half[:1], half]), frames + np.concatenate([half, half[-1:]])


def _runs(state: Array, starts: Array, ends: Array) -> list[tuple[int, int]]:
    """First and last row of every stretch of one state without a pause."""
    if not len(state):
        return []
    breaks = np.flatnonzero((state[1:] != state[:-1]) | (starts[1:] > ends[:-1] + 1e-3)) + 1
    return list(zip([0, *breaks.tolist()], [*(breaks - 1).tolist(), len(state) - 1], strict=True))


def _rectangle_batch(rectangles: Array, colours: Array, shader: Any) -> Any:
    left, bottom, right, top = rectangles.T
    zero = np.zeros_like(left)
    positions = np.stack(
        [
            np.stack(corner, 1)
            for corner in ((left, bottom, zero), (right, bottom, zero), (right, top, zero), (left, top, zero))
        ],
        axis=1,
    )
    corners = np.arange(len(left))[:, None, None] * 4 + np.array([(0, 1, 2), (0, 2, 3)])
    return batch_for_shader(
        shader,
        "TRIS",
        {
            "pos": positions.reshape(-1, 3).astype(np.float32),
            "color": np.repeat(colours, 4, axis=0).astype(np.float32),
        },
        indices=corners.reshape(-1, 3).astype(np.int32),
    )


class _Cache:
    """The batch of the take that was drawn last, and what it was made from."""

    key: Any = None
    batch: Any = None


def _draw() -> None:
    context = bpy.context
    scene, region = context.scene, context.region
    item, review = takes.active_take(scene), review_data.review_of(scene)
    if item is None or review is None or not scene.two_hands.review.show_strip or not len(review.raw):
        return
    shader = gpu.shader.from_builtin("SMOOTH_COLOR")
    key = (review, item.start, scene.render.fps, scene.render.fps_base)
    if key != _Cache.key:
        _Cache.key, _Cache.batch = key, _rectangle_batch(*strip_rectangles(review, item), shader)
    first, pixels = _view_of(region)
    scale = context.preferences.system.ui_scale
    bottom, height = _place_of(region, scale)
    marks = mark_rectangles(review, item, first, pixels, scale)
    gpu.state.blend_set("ALPHA")
    with gpu.matrix.push_pop():
        gpu.matrix.multiply_matrix(_stretch(-first * pixels, bottom, pixels, height))
        _Cache.batch.draw(shader)
    if len(marks):
        with gpu.matrix.push_pop():
            gpu.matrix.multiply_matrix(_stretch(0.0, bottom, 1.0, height))
            _rectangle_batch(marks, np.tile((*_DOUBT, 1.0), (len(marks), 1)), shader).draw(shader)
    gpu.state.blend_set("NONE")
    if height >= scale:
        _write_letters(review, item, first, pixels, scale)


def _stretch(x: float, y: float, width: float, height: float) -> Matrix:
    return Matrix.LocRotScale(Vector((x, y, 0.0)), None, Vector((width, height, 1.0)))


def _place_of(region: Any, scale: float) -> tuple[float, float]:
    """Bottom of the strip in pixels, and pixels per pixel of its height; a low region gets a low strip."""
    room = region.height - _RULER * scale
    bottom = min(_BOTTOM * scale, max(0.0, room - _HEIGHT * scale))
    return bottom, min(scale, max(1.0, room - bottom) / _HEIGHT)


def _view_of(region: Any) -> tuple[float, float]:
    """Scene frame at the left edge of a region, and pixels of one frame."""
    left, _ = region.view2d.region_to_view(0, 0)
    right, _ = region.view2d.region_to_view(region.width, 0)
    return left, region.width / max(right - left, 1e-6)


def _write_letters(review: review_data.Review, item: Any, first: float, pixels: float, scale: float) -> None:
    """L and R before the bands, or at the left edge where they begin outside."""
    begin = (review_data.scene_frames(review.raw, item)[0] - 0.5 - first) * pixels
    blf.size(0, _LETTERS * scale)
    for side in SIDES:
        letter = side[0].upper()
        width, _ = blf.dimensions(0, letter)
        blf.color(0, *overlay.HAND_COLOURS[side], 1.0)
        blf.position(0, max(2 * scale, begin - width - 3 * scale), scale * (_BOTTOM + _LOWER[side] - 1), 0)
        blf.draw(0, letter)


_handle: Any = None


def register() -> None:
    """Draw in the Dope Sheet, of which the Timeline is a mode."""
    global _handle  # noqa: PLW0603 - removed again by unregister
    _handle = bpy.types.SpaceDopeSheetEditor.draw_handler_add(_draw, (), "WINDOW", "POST_PIXEL")


def unregister() -> None:
    """Stop drawing."""
    bpy.types.SpaceDopeSheetEditor.draw_handler_remove(_handle, "WINDOW")
    _Cache.key = _Cache.batch = None
