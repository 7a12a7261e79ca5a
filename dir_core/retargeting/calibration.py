"""What a user has found out about one rig's finger: which of its poses the performer's is, and how far it bends.

numpy only, and plain numbers: a calibration is kept in scenes and in files of rig maps.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dir_core import rotations

Array = NDArray[Any]
Quaternion = tuple[float, ...]

SMALLEST_RANGE: Final = 0.25
LARGEST_RANGE: Final = 4.0
"""Outside of these a range enlarges nothing but noise, or hides the motion."""

_UNIT: Final = 1e-3  # how far from 1 the length of a quaternion may be that was written as a few digits


@dataclass(frozen=True)
class FingerCalibration:
    """Of a rig's finger with n bones.

    While the captured joints have the turns `captured`, the rig's bones have the rotations `posed`; both empty where no
    pose was calibrated. Bends beyond that pose, or beyond straight without one, are `ranges` times as far.

    Attributes:
        captured: n unit quaternions, each joint relative to the one above, in the captured hand's rest axes.
        posed: n unit quaternions, rotations of the rig's bones from rest, in their own axes.
        ranges: n factors, knuckle first.

    Raises:
        ValueError: the numbers do not fit together, or a factor or quaternion is none.
    """

    captured: tuple[Quaternion, ...]
    posed: tuple[Quaternion, ...]
    ranges: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.captured) != len(self.posed) or len(self.captured) not in (0, len(self.ranges)):
            raise ValueError("a calibration whose lists differ in length")
        if not all(SMALLEST_RANGE <= factor <= LARGEST_RANGE for factor in self.ranges):
            raise ValueError(f"a range outside of {SMALLEST_RANGE} to {LARGEST_RANGE}")
        for each in (*self.captured, *self.posed):
            if len(each) != 4 or not abs(np.linalg.norm(each) - 1.0) < _UNIT:
                raise ValueError(f"the rotation {each!r}")

    @property
    def has_pose(self) -> bool:
        """Whether a pose was calibrated."""
        return bool(self.captured)

    @property
    def does_nothing(self) -> bool:
        """Whether it is the same as none."""
        return not self.captured and all(factor == 1.0 for factor in self.ranges)


def bend_about(turn: Array, axis: Array) -> Array:
    """Angles [...] in -pi..pi by which turns [..., 4] bend about unit axes [..., 3].

    A turn that is a bend about the axis after a spread about any axis across it is read exactly.
    """
    sine = np.sum(turn[..., 1:] * axis, axis=-1)
    return 2.0 * np.arctan2(np.where(turn[..., 0] < 0, -sine, sine), np.abs(turn[..., 0]))


def stretch_bends(joints: Array, hinges: Array, calibration: FingerCalibration) -> Array:
    """The joints [T, n, 4] of a finger with their bends about `hinges` [n, 3] made `ranges` times as large.

    Only what bends beyond the calibrated pose is changed, and nothing but the bend: spread and twist stay.
    """
    if all(factor == 1.0 for factor in calibration.ranges):
        return joints
    start = bend_about(unit_quaternions(calibration.captured), hinges) if calibration.has_pose else 0.0
    beyond = np.maximum(bend_about(joints, hinges) - start, 0.0)
    further = (np.array(calibration.ranges) - 1.0) * beyond
    return rotations.multiply(rotations.from_rotation_vector(further[..., None] * hinges), joints)


def unit_quaternions(rows: tuple[Quaternion, ...]) -> Array:
    """Rows of a calibration as unit quaternions [n, 4]."""
    quaternions = np.array(rows, np.float64).reshape(-1, 4)
    return quaternions / np.linalg.norm(quaternions, axis=-1, keepdims=True)
