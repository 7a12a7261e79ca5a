"""A captured hand as a mirror shows it: left becomes right. The mirror is the plane x = 0 of whatever axes it is."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dir_core.conventions import SIDES, Side

Array = NDArray[Any]

_MIRROR: Final = np.array([-1.0, 1.0, 1.0])
_MIRROR_4: Final = np.array([-1.0, 1.0, 1.0, 1.0])

_TURN: Final = np.array([1.0, 1.0, -1.0, -1.0])
"""A turn about the mirror's normal stays as it is, all others change their sense."""


def other_side(side: Side) -> Side:
    """Left for right and right for left."""
    return SIDES[1 - SIDES.index(side)]


def mirror_points(points: Array) -> Array:
    """Points [..., 3] behind the mirror."""
    return points * _MIRROR


def mirror_rotations(quaternion: Array) -> Array:
    """Rotations [..., 4] of bodies that the mirror shows, in axes that are mirrored with them."""
    return quaternion * _TURN


def mirror_transforms(matrix: Array) -> Array:
    """Transforms [..., 4, 4] between axes that are both mirrored."""
    return _MIRROR_4[:, None] * matrix * _MIRROR_4
