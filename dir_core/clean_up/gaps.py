"""Frames in which a hand was not seen: short gaps keep moving, long ones are crossed evenly, longer ones held."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

Between = Callable[[Array, Array, Array], Array]
"""Values a share [N, 1] of the way from start to end: `straight` for vectors, `rotations.slerp` for quaternions."""

# Up to the first length (seconds) a gap keeps the motion that the smoother carries across it; from the second on it
# is crossed evenly, because what a third-order process guesses there swings out. Edges ease between the two.
BLEND_FROM, BLEND_FULLY = 0.4, 0.8
EDGE = 0.15
_WAKE = 0.25  # seconds before the hand is seen again in which a held one moves to where it appears


def straight(start: Array, end: Array, share: Array) -> Array:
    """Vectors [..., D] a share [..., 1] of the way from start to end."""
    return start + share * (end - start)


def find_gaps(observed: Array) -> list[tuple[int, int]]:
    """First and last row (inclusive) of every run of False in `observed` [T], in order."""
    steps = np.diff(np.concatenate([[True], np.asarray(observed, bool), [True]]).astype(np.int8))
    return list(zip(np.flatnonzero(steps == -1).tolist(), (np.flatnonzero(steps == 1) - 1).tolist(), strict=True))


def inner_gaps(observed: Array) -> list[tuple[int, int]]:
    """The gaps that have a seen frame on both sides."""
    return [(first, last) for first, last in find_gaps(observed) if first > 0 and last < len(observed) - 1]


def gap_length(time: Array, first: int, last: int) -> float:
    """Seconds between the seen frames around a gap; at an end of the clip to the clip's end."""
    return float(time[min(last + 1, len(time) - 1)] - time[max(first - 1, 0)])


def rows_to_fit(observed: Array, time: Array) -> Array:
    """Rows [T] bool that are seen or lie in a gap short enough that its carried motion is used."""
    rows = np.array(observed, bool)
    for first, last in inner_gaps(observed):
        if gap_length(time, first, last) < BLEND_FULLY:
            rows[first : last + 1] = True
    return rows


def cross_long_gaps(values: Array, observed: Array, time: Array, between: Between) -> Array:
    """Blend what was carried across long gaps into an even passage between their rims; hold the ends.

    Args:
        values: [T, K, 4] unit quaternions, or [T, D] vectors; rows in gaps hold what was carried across, in gaps
            longer than `BLEND_FULLY` anything.
        observed: [T] bool.
        time: [T] seconds, increasing.
        between: how to go from one value to another.

    Returns:
        A new array; seen rows are unchanged. Without any seen row the input.
    """
    seen = np.flatnonzero(observed)
    if len(seen) == 0:
        return values
    result = values.copy()
    result[: seen[0]], result[seen[-1] + 1 :] = values[seen[0]], values[seen[-1]]
    for first, last in inner_gaps(observed):
        length = gap_length(time, first, last)
        if length <= BLEND_FROM:
            continue
        before, after = first - 1, last + 1
        inside = time[first:after]
        even = between(values[before], values[after], ((inside - time[before]) / length)[:, None])
        edge = np.minimum(inside - time[before], time[after] - inside) / EDGE
        full = min((length - BLEND_FROM) / (BLEND_FULLY - BLEND_FROM), 1.0)
        # Rows that nothing was carried to have no motion of their own to ease out of.
        share = np.ones_like(edge) if full == 1.0 else full * _ease(edge)
        result[first:after] = between(values[first:after], even, share[:, None])
    return result


def hold_longest_gaps(values: Array, observed: Array, time: Array, longest: float, between: Between) -> Array:
    """In gaps longer than `longest` seconds stay as last seen, and move on just before the hand appears again.

    Args: values [T, K, 4] unit quaternions or [T, D] vectors, observed [T] bool, time [T] seconds.
    """
    result = values.copy()
    for first, last in inner_gaps(observed):
        length = gap_length(time, first, last)
        if length <= longest:
            continue
        before, after = first - 1, last + 1
        wake = min(_WAKE, length)
        share = _ease((time[first:after] - (time[after] - wake)) / wake)
        result[first:after] = between(values[before], values[after], share[:, None])
    return result


def too_long_gaps(observed: Array, time: Array, longest: float) -> list[tuple[int, int]]:
    """Gaps (first and last row, inclusive) longer than `longest` seconds, also at the ends of the clip."""
    return [(first, last) for first, last in find_gaps(observed) if gap_length(time, first, last) > longest]


def _ease(share: Array) -> Array:
    """Smooth step from 0 to 1."""
    share = np.clip(share, 0.0, 1.0)
    return share * share * (3.0 - 2.0 * share)
