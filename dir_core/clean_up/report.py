"""What a clean-up did, in numbers, per hand. numpy only."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dir_core.clean_up.gaps import gap_length, inner_gaps

Array = NDArray[Any]

_MEDIAN_TO_SIGMA = 0.6745  # median of |x| of a normal distribution with deviation 1
_OUTLIER = 5.0  # standard deviations of a key point's noise
FAR_MOVE = 0.03
"""Of the hand's length: what a viewer begins to notice as a hand that is not where it was seen."""
_SMALLEST_OUTLIER = 0.02  # of the hand's length: what no animator sees is no outlier


@dataclass(frozen=True)
class HandFigures:
    """One hand before and after. None where there is nothing to measure.

    Attributes:
        seen: frames in which the hand was seen, after repairs and edits.
        filled: frames in gaps and at the ends that hold a pose all the same.
        hidden: frames of those in which the hand is hidden.
        gaps: runs of frames without the hand between frames with it; `longest_gap` in seconds.
        duplicates: frames that showed the other hand a second time.
        limited: share of frames in which a joint was brought back into its range.
        outliers: key points that lay far beside the smoothed ones.
        jitter_before, jitter_after: percent of the hand's length that a key point lies, on average, beside the middle
            of where it is a frame before and a frame after, in the picture.
        acceleration_before, acceleration_after: acceleration in the picture that is noise and not motion, hand lengths
            per second squared.
        largest_move: percent of the hand's length between a seen key point and the smoothed one, in confident frames.
        moved: share of the key points in confident frames that were moved by more than 3 % of the hand's length.
    """

    seen: int
    filled: int
    hidden: int
    gaps: int
    longest_gap: float
    duplicates: int
    limited: float
    outliers: int = 0
    jitter_before: float | None = None
    jitter_after: float | None = None
    acceleration_before: float | None = None
    acceleration_after: float | None = None
    largest_move: float | None = None
    moved: float | None = None


@dataclass(frozen=True)
class CleanUpReport:
    """Both hands.

    Attributes:
        frames, seconds: length of the clip.
        swaps: runs of frames whose sides were exchanged.
        touching: frames in which hands or fingers sank into each other.
        penetration_before, penetration_after: deepest overlap in millimetres, mean over those frames.
        left, right: the hands.
    """

    frames: int
    seconds: float
    swaps: int
    touching: int
    penetration_before: float
    penetration_after: float
    left: HandFigures
    right: HandFigures

    def as_dict(self) -> dict[str, Any]:
        """The figures as JSON types."""
        return asdict(self)

    def sentences(self) -> list[str]:
        """What was done, one sentence each; what did not happen is left out."""
        lines = []
        if self.swaps:
            lines.append(f"Left and right exchanged in {_count(self.swaps, 'range')}.")
        for side, hand in (("left", self.left), ("right", self.right)):
            if not hand.seen:
                continue
            parts = [f"seen in {hand.seen} of {self.frames} frames"]
            if hand.filled:
                parts.append(f"{hand.filled} filled")
            if hand.hidden:
                parts.append(f"{hand.hidden} hidden")
            if hand.duplicates:
                parts.append(f"{_count(hand.duplicates, 'duplicate')} removed")
            if hand.outliers:
                parts.append(f"{_count(hand.outliers, 'outlier')} smoothed away")
            if hand.limited:
                parts.append(f"joint limits kept in {hand.limited:.0%}")
            if hand.acceleration_before and hand.acceleration_after is not None:
                ratio = hand.acceleration_before / max(hand.acceleration_after, 1e-9)
                parts.append(f"jitter {hand.jitter_before:.2g} to {hand.jitter_after:.2g} % of its length")
                parts.append(f"acceleration error down {ratio:.1f} times")
            lines.append(f"{side.capitalize()} hand: {', '.join(parts)}.")
        if self.touching:
            lines.append(
                f"Contact in {_count(self.touching, 'frame')}: hands and fingers sank {self.penetration_before:.1f} mm "
                f"into each other, now {self.penetration_after:.1f} mm."
            )
        return lines


def measure_jitter(points: Array, observed: Array, time: Array) -> float | None:
    """Mean distance of a point from the middle of its neighbours in time, unit of `points` [T, K, D]; None if unseen.

    The middle is the straight line between the frame before and the frame after, at the frame's own time.
    """
    whole = _runs_of(observed, 3)
    if not whole.any():
        return None
    share = ((time[1:-1] - time[:-2]) / (time[2:] - time[:-2]))[:, None, None]
    middle = (1 - share) * points[:-2] + share * points[2:]
    return float(np.linalg.norm(points[1:-1] - middle, axis=-1)[whole].mean())


def measure_acceleration_error(points: Array, observed: Array, time: Array) -> float | None:
    """Mean acceleration that frame-to-frame noise alone gives a track, unit of `points` [T, K, D] per s^2; or None.

    Without a truth the error cannot be known, and acceleration itself is also motion. The fourth difference hardly
    sees motion below a sixth of the frame rate, and its median does not see snaps: it gives the deviation of the noise,
    and white noise of deviation s has second differences of sqrt(6) s per axis.
    """
    whole = _runs_of(observed, 5)
    if not whole.any():
        return None
    noise = np.median(np.abs(np.diff(points, n=4, axis=0))[whole], axis=0) / (_MEDIAN_TO_SIGMA * np.sqrt(70.0))
    pace = float(np.median(np.diff(time)))
    return float(np.sqrt(6.0) * np.linalg.norm(noise, axis=-1).mean() / pace**2)


def count_outliers(raw: Array, smooth: Array, noise: Array, length: float, observed: Array) -> int:
    """Key points whose raw place lies far from the smoothed one.

    Args: raw and smooth [T, K, 2] px, noise [K] px (standard deviation per axis), length of the hand px, observed [T].
    """
    far = np.linalg.norm(raw - smooth, axis=-1) > np.maximum(_OUTLIER * noise, _SMALLEST_OUTLIER * length)
    return int(far[observed].sum())


def count_gaps(observed: Array, time: Array) -> tuple[int, float]:
    """Number of gaps between seen frames, and the longest in seconds."""
    lengths = [gap_length(time, *gap) for gap in inner_gaps(observed)]
    return len(lengths), max(lengths, default=0.0)


def _runs_of(observed: Array, count: int) -> Array:
    """Where `count` frames in a row were seen, [T - count + 1]."""
    if len(observed) < count:
        return np.zeros(0, bool)
    return np.lib.stride_tricks.sliding_window_view(np.asarray(observed, bool), count).all(axis=-1)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
