"""The pinhole camera that both hands of a clip share. numpy only.

Camera axes: x right, y down, z forward; image: pixels, x right, y down.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dir_core.conventions import DEFAULT_FIELD_OF_VIEW
from dir_core.errors import SettingsError

Array = NDArray[Any]


def focal_length_from_field_of_view(field_of_view: float, width: float) -> float:
    """Focal length in pixels of a camera with a horizontal `field_of_view` in radians on `width` pixels."""
    return 0.5 * width / math.tan(0.5 * field_of_view)


def field_of_view_from_focal_length(focal_length: float, width: float) -> float:
    """Horizontal field of view in radians of `focal_length` pixels on `width` pixels."""
    return 2.0 * math.atan(0.5 * width / focal_length)


def make_camera_matrix(image_size: tuple[int, int], focal_length: float | None = None) -> Array:
    """Camera matrix [3, 3] in pixels for `image_size` (width, height); principal point in the middle.

    Without a focal length the horizontal field of view is taken as 60 degrees.

    Raises:
        SettingsError: the focal length is not a positive number.
    """
    width, height = image_size
    if focal_length is None:
        focal_length = focal_length_from_field_of_view(DEFAULT_FIELD_OF_VIEW, width)
    if not (math.isfinite(focal_length) and focal_length > 0):
        raise SettingsError(f"The focal length is {focal_length} px, give a positive number of pixels.")
    return np.array([[focal_length, 0.0, width / 2], [0.0, focal_length, height / 2], [0.0, 0.0, 1.0]])


def project(points: Array, camera_matrix: Array) -> Array:
    """Project points [..., 3] (metres, camera axes) to pixels [..., 2]."""
    focal = np.array([camera_matrix[0, 0], camera_matrix[1, 1]])
    centre = camera_matrix[:2, 2]
    return points[..., :2] / points[..., 2:] * focal + centre


def rays(pixels: Array, camera_matrix: Array) -> Array:
    """Viewing rays [..., 2] = (x/z, y/z) of pixels [..., 2]."""
    focal = np.array([camera_matrix[0, 0], camera_matrix[1, 1]])
    return (pixels - camera_matrix[:2, 2]) / focal


def turn_to_ray(ray: Array) -> Array:
    """Quaternions [T, 4] of the short turn from the optical axis to rays [T, 2] = (x/z, y/z)."""
    direction = np.concatenate([ray, np.ones_like(ray[:, :1])], axis=1)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    x, y, z = direction.T
    turn = np.stack([1.0 + z, -y, x, np.zeros_like(x)], axis=-1)
    return turn / np.linalg.norm(turn, axis=1, keepdims=True)
