"""How far a rig lets its bones turn: ranges of Euler angles, and rotations kept inside them. numpy only."""

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dir_core import rotations
from dir_core.retargeting.calibration import bend_about
from dir_core.retargeting.channels import from_euler, to_both_eulers

Array = NDArray[Any]

_PROBES: Final = np.radians(np.arange(0.0, 171.0))
"""Bends at which a full bend is looked for; no finger goes further."""


_BEFORE_LOCK: Final = np.radians(89.9)
"""Middle angle up to which the outer two can be told from each other, in Blender's single precision."""


@dataclass(frozen=True)
class RotationLimit:
    """Ranges of a bone's angles in its own axes, as a Limit Rotation constraint has them.

    Attributes:
        order: of the angles, one of channels.EULER_ORDERS.
        lowest: about X, Y and Z in radians; -inf where nothing limits them.
        highest: the same; inf where nothing limits them.
    """

    order: str
    lowest: tuple[float, float, float]
    highest: tuple[float, float, float]


def keep_inside(quaternion: Array, limit: RotationLimit) -> Array:
    """The rotations [T, 4], those outside of a limit turned back to its border.

    Of the two triples of angles that every rotation has, the one nearer to the limit counts. A bend that goes over
    90 degrees about the middle axis so stays at its border and does not jump. Beyond 90 degrees about that axis
    Blender's constraint leaves nothing as it is while it limits another one, so no limit reaches further.
    """
    centre, half = _ranges(limit)
    angles = to_both_eulers(quaternion, limit.order)
    off = (angles - centre + np.pi) % (2.0 * np.pi) - np.pi
    kept = np.clip(off, -half, half)
    cut = np.abs(off - kept).sum(axis=-1)
    nearer = cut.argmin(axis=0)
    rows = np.arange(len(quaternion))
    limited = from_euler(centre + kept[nearer, rows], limit.order)
    return np.where((cut.min(axis=0) > 0.0)[:, None], limited, quaternion)


def full_bend(limits: Iterable[RotationLimit], axis: Array) -> float | None:
    """How far in radians limits let a bone bend about a unit axis [3] of its own; None if they do not end it."""
    turns = rotations.from_rotation_vector(_PROBES[:, None] * axis)
    for limit in limits:
        turns = keep_inside(turns, limit)
    furthest = float(bend_about(turns, axis).max())
    return None if furthest > _PROBES[-2] else furthest


@functools.lru_cache(maxsize=256)  # of a rig's bones, which are asked for on every frame that is shown
def _ranges(limit: RotationLimit) -> tuple[Array, Array]:
    """Middle and half width [3] of each angle's range."""
    lowest, highest = np.array(limit.lowest), np.array(limit.highest)
    first, middle, last = ("XYZ".index(axis) for axis in limit.order)
    if np.isfinite([*lowest[[first, last]], *highest[[first, last]]]).any():
        narrow = max(lowest[middle], -_BEFORE_LOCK), min(highest[middle], _BEFORE_LOCK)
        if narrow[0] <= narrow[1]:
            lowest[middle], highest[middle] = narrow
    free = np.isinf(lowest) | np.isinf(highest)
    centre = np.where(free, 0.0, (np.where(free, 0.0, lowest) + np.where(free, 0.0, highest)) / 2)
    half = np.where(free, np.pi, np.minimum((np.where(free, 0.0, highest) - np.where(free, 0.0, lowest)) / 2, np.pi))
    return centre, half
