"""Errors of two hands that touch or hide each other: found, on the right side, and how far off. numpy only, no files.

PA-MPJPE alone is a weak yardstick here: a hand that is read from the other one has the other one's pose. So the
error without a rotation and the rate of snapping onto the other hand stand beside it.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dir_core.camera import rays, turn_to_ray
from dir_core.evaluation.metrics import procrustes_aligned_error
from dir_core.landmarks import length_in_image
from dir_core.rotations import inverse, rotate

Array = NDArray[Any]

MOSTLY_VISIBLE = 0.6
"""Share of key points from which on a hand counts as visible."""

_MILLIMETRES = 1e3


@dataclass(frozen=True, eq=False)
class SeenHands:
    """Both hands in T frames as one stage of a capture gives them; the axis of two is left, right.

    Attributes:
        keypoints_2d: [T, 2, 21, 2] pixels.
        keypoints_3d: [T, 2, 21, 3] metres, camera axes, any origin.
        observed: [T, 2] bool.
    """

    keypoints_2d: Array
    keypoints_3d: Array
    observed: Array


@dataclass(frozen=True, eq=False)
class TrueHands:
    """Both hands in T frames as they are; the axis of two is left, right.

    Attributes:
        keypoints_2d: [T, 2, 21, 2] pixels.
        keypoints_3d: [T, 2, 21, 3] metres, camera axes, any origin.
        visible: [T, 2, 21] bool.
        present: [T, 2] bool, the hand is in the picture.
    """

    keypoints_2d: Array
    keypoints_3d: Array
    visible: Array
    present: Array


@dataclass(frozen=True, eq=False)
class HandErrors:
    """What was measured of T frames, [T, 2] each, left and right; NaN where a hand is not observed or not there.

    Attributes:
        present, observed: bool.
        visible: share of key points.
        error_2d: mean distance to the true key points in percent of the hand's length in the picture.
        to_other: the same to the true key points of the other hand; infinite where it is not there.
        wrist_mm: mean joint error with the wrist laid on the wrist and the best size, no rotation.
        pa_mm: mean joint error after the best similarity transform (PA-MPJPE).
    """

    present: Array
    observed: Array
    visible: Array
    error_2d: Array
    to_other: Array
    wrist_mm: Array
    pa_mm: Array


@dataclass(frozen=True)
class TouchingFigures:
    """The figures of some frames; shares in percent, None where nothing can be measured.

    Attributes:
        frames: how many.
        both_found: frames with both hands observed, of those with both in the picture.
        right_side: observed hands whose side is the true one. A hand has the wrong side where it lies on the other
            one and that one is not seen, or both have changed places.
        wrist_mm: mean joint error in millimetres, wrist on wrist and of the true size, of hands that are mostly
            visible; `wrist_all_mm` of all that are observed.
        pa_mm, pa_all_mm: mean joint error after the best similarity transform, likewise.
        error_2d: mean distance in the picture in percent of the hand's length there, all that are observed.
        snapped: observed hands whose key points lie nearer to those of the other hand than to their own.
    """

    frames: int
    both_found: float | None
    right_side: float | None
    wrist_mm: float | None
    wrist_all_mm: float | None
    pa_mm: float | None
    pa_all_mm: float | None
    error_2d: float | None
    snapped: float | None

    def as_dict(self) -> dict[str, Any]:
        """The figures as JSON types."""
        return asdict(self)


def wrist_aligned_error(predicted: Array, truth: Array) -> Array:
    """Distances [N, 20] of all but the wrist of key points [N, 21, 3], wrist on wrist, with the best size."""
    a, b = predicted[:, 1:] - predicted[:, :1], truth[:, 1:] - truth[:, :1]
    scale = (a * b).sum(axis=(1, 2)) / np.maximum((a**2).sum(axis=(1, 2)), 1e-12)
    # A hand the wrong way round fits best with a negative size, which is none: it shrinks to its wrist.
    distances: Array = np.linalg.norm(np.maximum(scale, 0.0)[:, None, None] * a - b, axis=-1)
    return distances


def straight_ahead(joints: Array, points: Array, camera_matrix: Array) -> Array:
    """Key points [T, 2, 21, 3] of hands seen at pixels [T, 2, 21, 2], in the axes of a camera turned at each hand.

    A network that is shown a crop cannot know where it was cut out, see `fitting.posed_clip.turn_into_camera`.
    """
    middle = rays(points.mean(axis=2), camera_matrix)  # [T, 2, 2]
    back = inverse(turn_to_ray(middle.reshape(-1, 2))).reshape(*middle.shape[:2], 1, 4)
    turned: Array = rotate(back, joints)
    return turned


def measure_hands(seen: SeenHands, truth: TrueHands) -> HandErrors:
    """Compare both hands with the truth, frame by frame."""
    rows = seen.observed & truth.present
    length = np.maximum(length_in_image(truth.keypoints_2d), 1.0)  # [T, 2] pixels

    def percent(expected: Array) -> Array:
        distance = np.linalg.norm(seen.keypoints_2d - expected, axis=-1).mean(axis=-1)
        return np.where(rows, 100 * distance / length, np.nan)

    def joints(measure: Any) -> Array:
        errors = np.full(rows.shape, np.nan)
        errors[rows] = _MILLIMETRES * measure(seen.keypoints_3d[rows], truth.keypoints_3d[rows]).mean(axis=-1)
        return errors

    return HandErrors(
        present=truth.present,
        observed=seen.observed,
        visible=truth.visible.mean(axis=-1),
        error_2d=percent(truth.keypoints_2d),
        to_other=np.where(rows & ~truth.present[:, ::-1], np.inf, percent(truth.keypoints_2d[:, ::-1])),
        wrist_mm=joints(wrist_aligned_error),
        pa_mm=joints(procrustes_aligned_error),
    )


def join_errors(parts: Sequence[HandErrors]) -> HandErrors:
    """The frames of several clips as one."""
    return HandErrors(*(np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(HandErrors)))


def summarise(errors: HandErrors) -> TouchingFigures:
    """The figures of all frames together; every observed hand counts the same."""
    rows = errors.observed & errors.present
    clear = rows & (errors.visible >= MOSTLY_VISIBLE)
    snapped = rows & (errors.to_other < errors.error_2d)
    alone = rows & ~rows[:, ::-1]
    wrong_side = snapped & (alone | snapped[:, ::-1])

    def mean(values: Array, which: Array) -> float | None:
        return float(values[which].mean()) if which.any() else None

    both = errors.present.all(axis=1)
    return TouchingFigures(
        frames=len(rows),
        both_found=mean(100.0 * rows.all(axis=1), both),
        right_side=mean(100.0 * ~wrong_side, rows),
        wrist_mm=mean(errors.wrist_mm, clear),
        wrist_all_mm=mean(errors.wrist_mm, rows),
        pa_mm=mean(errors.pa_mm, clear),
        pa_all_mm=mean(errors.pa_mm, rows),
        error_2d=mean(errors.error_2d, rows),
        snapped=mean(100.0 * snapped, rows),
    )


COLUMNS = (
    ("both", "both_found"),
    ("side", "right_side"),
    ("wrist mm", "wrist_mm"),
    ("(all)", "wrist_all_mm"),
    ("PA mm", "pa_mm"),
    ("(all)", "pa_all_mm"),
    ("2D %", "error_2d"),
    ("snapped", "snapped"),
)
"""Heading and field of each column of `table`."""


def table(rows: dict[str, TouchingFigures], columns: Sequence[tuple[str, str]] = COLUMNS) -> str:
    """The figures as lines to read, one row a name."""
    width = max(len(name) for name in rows)
    lines = [" ".join([" " * width, *(f"{heading:>8}" for heading, _ in columns)])]
    for name, figures in rows.items():
        values = [getattr(figures, field) for _, field in columns]
        cells = [f"{value:8.1f}" if value is not None else f"{'-':>8}" for value in values]
        lines.append(" ".join([f"{name:{width}}", *cells]))
    return "\n".join(lines)
