"""Rotations of bones, read from Blender's matrices. Knows nothing of hands."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dir_core import rotations

Array = NDArray[Any]


def rotations_at_rest(bones: Iterable[Any]) -> Array:
    """Rest rotations [B, 4] of bones in the axes of their armature."""
    return rotations_of(np.array([bone.matrix_local for bone in bones], np.float64))


def rotations_of(matrices: Array) -> Array:
    """Rotations [..., 4] of transforms [..., 4, 4], without their scale."""
    axes = matrices[..., :3, :3]
    return rotations.from_matrix(axes / np.linalg.norm(axes, axis=-2, keepdims=True))


def read_poses(armature: Any) -> Array:
    """Matrices [B, 4, 4] of an armature's posed bones in its axes."""
    bones = armature.pose.bones
    values = np.empty(16 * len(bones), np.float32)
    bones.foreach_get("matrix", values)
    return values.reshape(-1, 4, 4).transpose(0, 2, 1)


def pose_order(armature: Any, names: Iterable[str]) -> list[int]:
    """Where the poses of some bones stand in read_poses; edited armatures have another order than their bones."""
    rows = {bone.name: row for row, bone in enumerate(armature.pose.bones)}
    return [rows[name] for name in names]
