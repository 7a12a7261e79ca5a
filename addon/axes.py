"""How camera and hand-model axes lie in Blender. The only place that turns one into the other; no bpy here.

Camera axes: x right, y down, z forward. Hand model (MANO) axes: palm along -y, fingers of the right hand along -x.
Blender axes: z up; a camera that looks along +y sees x to the right.
"""

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dir_core import rotations

Array = NDArray[Any]

CAMERA_TO_BLENDER: Final[Array] = rotations.from_rotation_vector(np.array([-math.pi / 2, 0.0, 0.0]))
"""(x, y, z) -> (x, z, -y) as a quaternion."""

MODEL_TO_REST: Final[Array] = rotations.from_rotation_vector(np.array([math.pi / 2, 0.0, 0.0]))
"""(x, y, z) -> (x, -z, y) as a quaternion: the flat template becomes a T pose's hand, palm down, thumb in front."""


def camera_to_blender(points: Array) -> Array:
    """Turn points or directions [..., 3] from camera into Blender axes; no rounding."""
    x, y, z = np.moveaxis(np.asarray(points), -1, 0)
    return np.stack([x, z, -y], axis=-1)


def model_to_rest(points: Array) -> Array:
    """Turn points or directions [..., 3] from model axes into those of the armature's rest pose; no rounding."""
    x, y, z = np.moveaxis(np.asarray(points), -1, 0)
    return np.stack([x, -z, y], axis=-1)
