"""How far a rig lets its bones turn: constraints, limits for IK and locks, and rotations brought inside them."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dir_core import rotations
from dir_core.retargeting import channels
from dir_core.retargeting.limits import RotationLimit, keep_inside

Array = NDArray[Any]

_AXES: Final = ("x", "y", "z")


def limits_of(bone: Any, *, with_ik: bool) -> tuple[RotationLimit, ...]:
    """What limits a pose bone's rotation, in the order in which it does.

    Args:
        bone: the pose bone.
        with_ik: whether the limits that its rig has for IK count.
    """
    order = bone.rotation_mode if bone.rotation_mode in channels.EULER_ORDERS else "XYZ"
    found = []
    if with_ik and (bone.use_ik_limit_x or bone.use_ik_limit_y or bone.use_ik_limit_z):
        found.append(_limit(bone, order, "use_ik_limit_{}", "ik_min_{}", "ik_max_{}"))
    for constraint in filter(is_followed, bone.constraints):
        own = order if constraint.euler_order == "AUTO" else constraint.euler_order
        found.append(_limit(constraint, own, "use_limit_{}", "min_{}", "max_{}"))
    return tuple(found)


def is_followed(constraint: Any) -> bool:
    """Whether a constraint leaves rotations alone that were brought inside its limits."""
    return (
        constraint.type == "LIMIT_ROTATION"
        and not constraint.mute
        and constraint.influence == 1.0
        and constraint.owner_space == "LOCAL"
    )


def hides_keys(bone: Any) -> bool:
    """Whether anything beside its keys moves a pose bone, limits that are followed left out."""
    return any(
        not constraint.mute and constraint.influence > 0.0 and not is_followed(constraint)
        for constraint in bone.constraints
    )


def fit_rotation(bone: Any, rotation: Array, *, with_ik: bool) -> tuple[Array, Array]:
    """Bring rotations [K, 4] of a pose bone inside of what its locks and limits let it do.

    Returns:
        The rotations [K, 4], and by how many degrees [K] limits have held them.
    """
    has_angles = bone.rotation_mode in channels.EULER_ORDERS
    limits = limits_of(bone, with_ik=with_ik)
    # Without limits the channels of angles are all that is needed of them.
    if any(bone.lock_rotation) and (limits or not has_angles) and (has_angles or not bone.lock_rotations_4d):
        rotation = channels.from_euler(unlocked_angles(bone, rotation), bone.rotation_mode if has_angles else "XYZ")
    if not limits:
        return rotation, np.zeros(len(rotation))
    kept = rotation
    for limit in limits:
        kept = keep_inside(kept, limit)
    return kept, np.degrees(rotations.angle_between(rotation, kept))


def unlocked_angles(bone: Any, rotation: Array) -> Array:
    """Euler angles [K, 3] that come nearest to rotations [K, 4] while a pose bone's locked angles stay as they are.

    Bones with quaternions have no angles that could stay: theirs are zero.
    """
    locked, mode = tuple(bone.lock_rotation), bone.rotation_mode
    if mode in channels.EULER_ORDERS:
        return channels.to_unlocked_euler(rotation, locked, mode, tuple(bone.rotation_euler))
    return channels.to_unlocked_euler(rotation, locked)


def _limit(source: Any, order: str, used: str, lowest: str, highest: str) -> RotationLimit:
    def ends(name: str, free: float) -> tuple[float, float, float]:
        x, y, z = (getattr(source, name.format(axis)) if getattr(source, used.format(axis)) else free for axis in _AXES)
        return x, y, z

    return RotationLimit(order, ends(lowest, -np.inf), ends(highest, np.inf))
