"""Fewest keys for the channels of bones in any rotation mode: what is within the bound is the rotation itself.

A bone's angles, or axis and angle, share their keys. How much a rotation turns when these numbers change is bounded, so
that a bound for the numbers follows from the one for the rotation.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dir_core.clean_up.key_reduction import KeyReduction, ReducedCurve, reduce_position_keys, reduce_rotation_keys
from dir_core.retargeting.channels import EULER_ORDERS

Array = NDArray[Any]
Check = Callable[[], None]

QUATERNION: Final = "QUATERNION"
AXIS_ANGLE: Final = "AXIS_ANGLE"
PLACE: Final = "PLACE"

_LEAST_NORM: Final = 1e-3  # of numbers that are normalised; below, a rotation is not told by them any more


@dataclass(frozen=True, eq=False)
class Numbers:
    """The keyed numbers of one bone that belong together.

    Attributes:
        kind: QUATERNION, AXIS_ANGLE, an order of Euler angles, or PLACE.
        indices: which of its numbers they are, such as (0, 2) for the first and third angle.
        values: [K, D] on K frames.
    """

    kind: str
    indices: tuple[int, ...]
    values: Array


def reduce_numbers(numbers: Sequence[Numbers], bounds: KeyReduction, check: Check = lambda: None) -> list[ReducedCurve]:
    """The fewest keys within bounds, on times that are the rows of the frames.

    The reference are the frames joined by straight lines, whole quaternions by slerp.

    Args:
        numbers: of any number of bones, all on the same K frames.
        bounds: how far rotations and places may be off.
        check: called many times a second; what it raises ends the work.
    """
    whole = [each for each in numbers if _is_whole(each)]
    found: dict[int, ReducedCurve] = {}
    if whole:
        time = np.arange(len(whole[0].values), dtype=float)
        turns = np.stack([each.values / np.linalg.norm(each.values, axis=1, keepdims=True) for each in whole], axis=1)
        found |= zip(map(id, whole), reduce_rotation_keys(turns, time, bounds.angle, check), strict=True)
    rest = [each for each in numbers if id(each) not in found]
    for width in sorted({len(each.indices) for each in rest}):  # together, which is several times as fast
        alike = [each for each in rest if len(each.indices) == width]
        found |= zip(map(id, alike), _reduce_scaled(alike, bounds, check), strict=True)
    return [found[id(each)] for each in numbers]


def group_channels(
    channels: Mapping[tuple[str, str, int], Array], modes: Mapping[str, str]
) -> dict[tuple[str, str], Numbers]:
    """(bone, channel) -> the numbers of it that are keyed, for channels (bone, channel, index) -> [K].

    Args:
        channels: of bones; what is neither a rotation nor a location is left out.
        modes: bone -> its order of Euler angles, where it has one.
    """
    grouped: dict[tuple[str, str], dict[int, Array]] = {}
    for (bone, channel, index), values in channels.items():
        grouped.setdefault((bone, channel), {})[index] = values
    return {
        (bone, channel): Numbers(kind, tuple(rows), np.stack(list(rows.values()), axis=1))
        for (bone, channel), rows in grouped.items()
        if (kind := _kind(channel, modes.get(bone, "")))
    }


def _kind(channel: str, mode: str) -> str:
    kinds = {
        "location": PLACE,
        "rotation_quaternion": QUATERNION,
        "rotation_axis_angle": AXIS_ANGLE,
        "rotation_euler": mode if mode in EULER_ORDERS else "XYZ",
    }
    return kinds.get(channel, "")


def _is_whole(numbers: Numbers) -> bool:
    return numbers.kind == QUATERNION and len(numbers.indices) == numbers.values.shape[1] == len("wxyz")


def _reduce_scaled(numbers: Sequence[Numbers], bounds: KeyReduction, check: Check) -> list[ReducedCurve]:
    """Straight lines, the numbers scaled so that a change by one is what the bounds allow."""
    scales = [_scale(each, bounds) for each in numbers]
    values = np.stack([each.values * scale for each, scale in zip(numbers, scales, strict=True)], axis=1)
    curves = reduce_position_keys(values, np.arange(len(values), dtype=float), 1.0, check)
    return [
        ReducedCurve(
            curve.rows,
            each.values[curve.rows],
            left_slope=curve.left_slope / scale,
            right_slope=curve.right_slope / scale,
            left_reach=curve.left_reach,
            right_reach=curve.right_reach,
        )
        for each, curve, scale in zip(numbers, curves, scales, strict=True)
    ]


def _scale(numbers: Numbers, bounds: KeyReduction) -> Array:
    """What numbers [D] are multiplied by so that changing them by one (as a vector) is what the bounds allow."""
    values = numbers.values
    if numbers.kind in EULER_ORDERS:
        return np.full(values.shape[1], _euler_gain(numbers, bounds.angle) / bounds.angle)
    if numbers.kind == AXIS_ANGLE:
        weights, bound = _axis_weights(numbers, bounds.angle)
        return weights / bound
    if numbers.kind == QUATERNION:
        # Beside locked numbers of at least this length; a shorter one would turn more.
        length = min(1.0, max(_LEAST_NORM, float(np.linalg.norm(values, axis=1).min())))
        return np.full(values.shape[1], 1.0 / (2.0 * np.sin(bounds.angle / 4.0) * length))
    return np.full(values.shape[1], 1.0 / bounds.distance)


def _euler_gain(numbers: Numbers, angle: float) -> float:
    """The most that a rotation turns when its angles change by one (as a vector).

    The first and the last axis stand at an angle given by the middle one; where they fall together, two numbers turn
    alike, and the gain is the root of two.
    """
    middle = "XYZ".index(numbers.kind[1])
    if len(numbers.indices) == 1:
        return 1.0
    if middle not in numbers.indices:
        return float(np.sqrt(2.0))
    sine = np.abs(np.sin(numbers.values[:, numbers.indices.index(middle)])).max()
    return float(np.sqrt(1.0 + min(1.0, sine + angle)))


def _axis_weights(numbers: Numbers, angle: float) -> tuple[Array, float]:
    """Weights [D] of angle and axis, and the bound for the weighed numbers.

    An axis that leans over by an angle turns the bone by twice the sine of half the bone's angle as much, at most.
    """
    values, axes = numbers.values, [row for row, index in enumerate(numbers.indices) if index > 0]
    weights, bound = np.ones(values.shape[1]), angle
    if axes:
        lean = 2.0
        if 0 in numbers.indices:
            half = np.minimum(np.abs(values[:, numbers.indices.index(0)]) / 2.0 + angle, np.pi / 2.0)
            lean = 2.0 * float(np.sin(half).max())
        weights[axes] = lean
        # Between two frames the straight line passes nearer to zero, where an axis leans over more easily.
        chords = (values[1:, axes] + values[:-1, axes]) / 2.0 if len(values) > 1 else values[:, axes]
        bound = angle / np.sqrt(2.0) * min(1.0, max(_LEAST_NORM, float(np.linalg.norm(chords, axis=1).min())))
    return weights, bound
