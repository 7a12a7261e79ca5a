"""Calibrated fingers as rows of the panel's list, one for each finger of both hands."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from dir_core.conventions import FINGERS, SIDES, Side
from dir_core.retargeting.calibration import FingerCalibration
from dir_core.retargeting.rest import LONGEST_CHAIN
from dir_core.retargeting.rig_map import RigMap

UNKNOWN_OFFSET: Final = -1.0
"""Of a pose that was read from a file: what it differs from depends on the hand that will be captured."""

_NUMBERS: Final = 4 * LONGEST_CHAIN


def show_calibration(settings: Any, rig_map: RigMap) -> None:
    """Write what a rig map has calibrated into the list."""
    settings.calibration.clear()
    for side in SIDES:
        for finger in FINGERS:
            row = settings.calibration.add()
            row.side, row.finger = side, finger
            row.name = f"{side.title()} {finger.title()}"
            hand = rig_map.hands.get(side)
            if hand is not None and finger in hand.calibration:
                write_row(row, hand.fingers[finger], hand.calibration[finger], UNKNOWN_OFFSET)


def find_row(settings: Any, side: Side, finger: str) -> Any:
    """The row of a finger."""
    if not settings.calibration:  # of a file that was made before there was one
        show_calibration(settings, RigMap("", {}))
    return next(row for row in settings.calibration if (row.side, row.finger) == (side, finger))


def write_row(row: Any, bones: Sequence[str], calibration: FingerCalibration, offset: float) -> None:
    """Write a finger's calibration; `offset` in radians is shown for its pose."""
    row.bones = "\n".join(bones) if calibration.has_pose else ""
    row.captured, row.posed = _padded(calibration.captured), _padded(calibration.posed)
    row.ranges = [*calibration.ranges, *(1.0,) * (LONGEST_CHAIN - len(calibration.ranges))]
    row.offset = offset if calibration.has_pose else 0.0


def reset_row(row: Any) -> None:
    """Take a finger's calibration away."""
    write_row(row, (), FingerCalibration((), (), (1.0,) * LONGEST_CHAIN), 0.0)


def is_calibrated(row: Any) -> bool:
    """Whether a row says anything."""
    return bool(row.bones) or any(factor != 1.0 for factor in row.ranges)


def read_row(row: Any, bones: Sequence[str]) -> FingerCalibration | None:
    """The calibration of a finger with these bones, or None where there is none; a pose of other bones is none."""
    count = len(bones)
    has_pose = row.bones == "\n".join(bones)
    captured, posed = (
        tuple(tuple(quaternion) for quaternion in np.reshape(numbers, (-1, 4))[:count].tolist()) if has_pose else ()
        for numbers in (row.captured, row.posed)
    )
    calibration = FingerCalibration(captured, posed, tuple(float(factor) for factor in row.ranges[:count]))
    return None if calibration.does_nothing else calibration


def _padded(rows: Sequence[Sequence[float]]) -> list[float]:
    numbers = [number for row in rows for number in row]
    return numbers + [0.0] * (_NUMBERS - len(numbers))
