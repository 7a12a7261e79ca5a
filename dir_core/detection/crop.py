"""The rotated square that a network looks at: where it lies, cutting it out, mapping points back. No networks here.

Angles: radians, positive turns the square clockwise in the picture (x right, y down); 0 = upright.
"""

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# Which key points bound the next crop: the wrist, the thumb and two joints of every finger. Finger tips are
# left out, they move most and would make the crop pump. (MediaPipe, hand_landmark_landmarks_to_roi.)
_STABLE_KEYPOINTS = np.array([0, 1, 2, 3, 5, 6, 9, 10, 13, 14, 17, 18])


@dataclass(frozen=True)
class Crop:
    """A rotated square of the picture.

    Attributes:
        x, y: its centre in pixels, centre of the first pixel at (0.5, 0.5).
        size: length of its sides in pixels.
        angle: radians; the picture direction (sin angle, -cos angle) points up inside the crop.
    """

    x: float
    y: float
    size: float
    angle: float = 0.0


def whole_picture(image_size: tuple[int, int]) -> Crop:
    """The upright square around a picture of (width, height), with bars on the short sides."""
    width, height = image_size
    return Crop(0.5 * width, 0.5 * height, float(max(width, height)))


def cut_out(image: Array, crop: Crop, side: int, *, replicate_border: bool) -> Array:
    """Sample a crop bilinearly.

    Args:
        image: [H, W, 3] uint8.
        crop: where to look; it may leave the picture.
        side: width and height of the result.
        replicate_border: repeat the picture's edge outside of it; otherwise fill with black.

    Returns:
        [side, side, 3] uint8. Result pixel i lies at i / side of the crop, not at (i + 0.5) / side: the
        networks were made with this sampling, and their key points are right only with it.
    """
    border = cv2.BORDER_REPLICATE if replicate_border else cv2.BORDER_CONSTANT
    to_index = _crop_to_image(crop, side)
    to_index[:, 2] -= 0.5  # OpenCV counts from the centre of the first pixel
    return cv2.warpAffine(
        image, to_index, (side, side), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=border
    )


def as_network_input(picture: Array) -> Array:
    """A picture [S, S, 3] uint8 as MediaPipe's networks take it: [1, S, S, 3] float32 in 0..1."""
    return np.multiply(picture, np.float32(1 / 255), dtype=np.float32)[None]


def to_image(points: Array, crop: Crop, side: int) -> Array:
    """Map points [..., 2] from pixels of a cut-out of `side` pixels to pixels of the picture."""
    matrix = _crop_to_image(crop, side)
    return points @ matrix[:, :2].T + matrix[:, 2]


def to_crop(points: Array, crop: Crop, side: int) -> Array:
    """Map points [..., 2] from pixels of the picture to pixels of a cut-out of `side` pixels."""
    matrix = _crop_to_image(crop, side)
    return (points - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T


def turn_directions(vectors: Array, crop: Crop) -> Array:
    """Turn 3D vectors [..., 3] from the axes of a crop into those of the picture (about z)."""
    cosine, sine = math.cos(crop.angle), math.sin(crop.angle)
    rotation = np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]], np.float32)
    return vectors @ rotation.T


def crop_around_palm(box: Array, keypoints: Array, outer: Crop) -> Crop:
    """The crop for the landmark network, from a palm detection.

    Args:
        box: [4] x, y (centre), width, height of the palm in pixels, along the axes of `outer`.
        keypoints: [7, 2] px; 0 is the wrist, 2 the base of the middle finger.
        outer: the crop in which the palm was found.

    Source: MediaPipe, palm_detection_detection_to_roi: fingers up, 2.6 times the palm, half a palm upwards.
    """
    angle = _upward_angle(keypoints[0], keypoints[2])
    # The shift is taken along the axes of the new crop, the box was measured along those of the outer one.
    width, height = float(box[2]), float(box[3])
    x = float(box[0]) + 0.5 * height * math.sin(angle)
    y = float(box[1]) - 0.5 * height * math.cos(angle)
    return Crop(x, y, 2.6 * max(width, height), angle)


def crop_around_keypoints(keypoints: Array) -> Crop:
    """The crop for the next frame, from key points [21, 2] in pixels of this one.

    Source: MediaPipe, hand_landmark_landmarks_to_roi and HandLandmarksToRectCalculator: the wrist and the
    knuckles of index, middle and ring finger give the rotation; twice the bounding square, a tenth upwards.
    """
    knuckles = 0.25 * (keypoints[5] + keypoints[13]) + 0.5 * keypoints[9]
    angle = _upward_angle(keypoints[0], knuckles)
    cosine, sine = math.cos(angle), math.sin(angle)
    points = keypoints[_STABLE_KEYPOINTS]
    across = points @ np.array([cosine, sine])
    along = points @ np.array([-sine, cosine])
    low, high = float(across.min()), float(across.max())
    top, bottom = float(along.min()), float(along.max())
    width, height = high - low, bottom - top
    u, v = 0.5 * (low + high), 0.5 * (top + bottom) - 0.1 * height
    return Crop(u * cosine - v * sine, u * sine + v * cosine, 2.0 * max(width, height), angle)


def _upward_angle(wrist: Array, knuckle: Array) -> float:
    return math.atan2(float(knuckle[0] - wrist[0]), float(wrist[1] - knuckle[1]))


def _crop_to_image(crop: Crop, side: int) -> Array:
    scale = crop.size / side
    cosine, sine = scale * math.cos(crop.angle), scale * math.sin(crop.angle)
    half = 0.5 * side
    return np.array(
        [
            [cosine, -sine, crop.x - half * (cosine - sine)],
            [sine, cosine, crop.y - half * (sine + cosine)],
        ]
    )
