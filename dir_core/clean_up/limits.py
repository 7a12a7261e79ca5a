"""Rotations of any estimator brought into what finger joints can do. numpy only.

The ranges are the table in degrees_of_freedom.py. The limits are soft: a pose inside stays as it is, one
beyond a limit is compressed smoothly and never gets further than `MARGIN` past it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dir_core import rotations
from dir_core.degrees_of_freedom import (
    HIGHEST,
    LOWEST,
    FingerGeometry,
    angles_from_rotations,
    rotations_from_angles,
)

Array = NDArray[Any]

MARGIN = float(np.radians(6.0))
"""Radians past a limit at which the compression saturates: about what people differ by in joint range."""

_NOTICED = float(np.radians(1.0))  # an angle counts as corrected when it lay this far outside its range
# Beyond these an angle can be read in two ways (a full turn, or bend and twist by half a turn with the spread
# past the pole), and the frame before decides. No joint gets anywhere near.
_WILD_TURN = float(np.radians(150.0))
_WILD_SPREAD = float(np.radians(60.0))


@dataclass(frozen=True, eq=False)
class Limited:
    """One hand of T frames within its limits.

    Attributes:
        rotation: [T, 16, 4] quaternions in MANO joint order, sign-continuous; the wrist as it was.
        excess: [T, 5, 5] radians by which each angle (FINGERS x ANGLES) lay above (+) or below (-) its range.
    """

    rotation: Array
    excess: Array

    @property
    def corrected_angles(self) -> float:
        """Share of all angles that lay more than a degree outside, 0..1."""
        return float(self._outside.mean()) if self.excess.size else 0.0

    @property
    def corrected_frames(self) -> float:
        """Share of the frames in which some angle lay more than a degree outside, 0..1."""
        return float(self._outside.any(axis=(1, 2)).mean()) if self.excess.size else 0.0

    @property
    def largest_excess(self) -> float:
        """Radians by which the worst angle lay outside."""
        return float(np.abs(self.excess).max(initial=0.0))

    @property
    def _outside(self) -> Array:
        return np.abs(self.excess) > _NOTICED


def limit_joints(geometry: FingerGeometry, rotation: Array) -> Limited:
    """Compress bend, spread and twist into their ranges; no twist and no spread is left on the outer joints.

    With the excess e beyond a limit and the margin m, the limited excess is m tanh(e / m): slope 1 and no
    curvature at the limit, so that a curve that crosses it shows no corner.

    Args:
        geometry: the hand's hinge axes.
        rotation: [T, 16, 4] quaternions of consecutive frames in MANO joint order.
    """
    rotation = np.asarray(rotation, np.float64)
    angles = _follow_turns(angles_from_rotations(geometry, rotation))
    allowed = np.clip(angles, LOWEST, HIGHEST)
    excess = angles - allowed
    limited = rotations_from_angles(geometry, rotation[:, 0], allowed + MARGIN * np.tanh(excess / MARGIN))
    limited[:, 1:] = rotations.make_continuous(limited[:, 1:])
    limited[:, 1:] *= np.where(np.sum(limited[:1, 1:] * rotation[:1, 1:], axis=-1, keepdims=True) < 0, -1.0, 1.0)
    return Limited(rotation=limited, excess=excess)


def _follow_turns(angles: Array) -> Array:
    """Read angles [T, 5, 5] far outside every range the way that continues the frame before.

    So a finger that an estimator bends backwards further and further stays at its lower limit even when it
    passes half a turn. Frames near the ranges are taken as they are and end any earlier confusion.
    """
    bend, spread = angles[..., [0, 3, 4]], angles[..., 1]
    wild = (np.abs(bend) > _WILD_TURN).any(axis=-1) | (np.abs(spread) > _WILD_SPREAD)
    angles = angles.copy()
    for frame in np.flatnonzero(wild.any(axis=1)):
        before = angles[frame - 1] if frame else np.zeros(angles.shape[1:])
        near = _nearest_turn(angles[frame], before)
        over = _nearest_turn(_past_the_pole(angles[frame]), before)
        first = slice(0, 3)
        nearer = np.sum((over - before)[:, first] ** 2, axis=-1) < np.sum((near - before)[:, first] ** 2, axis=-1)
        followed = np.where(nearer[:, None], over, near)
        angles[frame] = np.where(wild[frame, :, None], followed, angles[frame])
    return angles


def _past_the_pole(angles: Array) -> Array:
    """The other bend, spread and twist [5, 5] of the same rotations, with the spread beyond a right angle."""
    return np.concatenate(
        [angles[:, :1] + np.pi, np.pi - angles[:, 1:2], angles[:, 2:3] + np.pi, angles[:, 3:]], axis=1
    )


def _nearest_turn(angles: Array, before: Array) -> Array:
    """Angles shifted by whole turns to lie within half a turn of `before`."""
    return before + np.remainder(angles - before + np.pi, 2 * np.pi) - np.pi
