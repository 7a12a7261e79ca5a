"""The upright square around both hands that the DIR network looks at: where it lies, cutting it out, mapping back.

No networks here. Points are in the project's pixels (centre of the first pixel at (0.5, 0.5)). The network was
trained on pictures warped by OpenCV, where the centre of a pixel is a whole number, and learned its uv from those
numbers. That half pixel is kept inside the affine map, so that uv means here what it meant in training.
"""

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

CROP_SIZE = 256
"""Width and height of the network's picture in pixels."""

HANDS_SHARE = 0.8
"""Share of the square's side that the longer side of both hands' bounding box fills (SPEC 1)."""

IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_DEVIATION = (0.229, 0.224, 0.225)
"""Colour statistics of ImageNet, RGB in 0..1; the backbone starts from weights that were trained with them."""

_PIXEL_CENTRE = 0.5  # of the first pixel; OpenCV counts from there


def both_hands_crop(points: Array) -> Array:
    """The crop in which both hands fill 80 % of the square.

    L = max(Max - Min) / 2 / 0.8 is half the side, m = 256 / 2 / L, M = m [[1, 0, L - mid_x], [0, 1, L - mid_y]]
    with Min, Max and their middle over the points of both hands (SPEC 1).

    Args:
        points: [N, 2] vertices (as in training) or key points of both hands together, pixels of the picture.

    Returns:
        [2, 3] affine map from pixels of the picture to pixels of the crop, see `crop_around`.

    Raises:
        ValueError: the points have no extent or are not finite.
    """
    points = np.asarray(points, np.float64).reshape(-1, 2)
    if not len(points) or not np.isfinite(points).all():
        raise ValueError(f"A crop needs finite points, got {points.shape} with {np.isfinite(points).sum()} finite.")
    low, high = points.min(axis=0), points.max(axis=0)
    return crop_around(0.5 * (low + high), float((high - low).max()) / HANDS_SHARE)


def crop_around(centre: Array, side: float) -> Array:
    """The affine map [2, 3] of an upright square around `centre` [2] with `side` pixels, in pixels of the picture.

    It leads from pixels of the picture to pixels of the crop as the network counts them: uv = pixel / 128 - 1.

    Raises:
        ValueError: the side is not a positive number.
    """
    if not (math.isfinite(side) and side > 0):
        raise ValueError(f"The side of a crop is {side} px, it has to be positive.")
    scale = CROP_SIZE / side
    shift = scale * (0.5 * side - np.asarray(centre, np.float64))
    return np.concatenate([scale * np.eye(2), shift[:, None]], axis=1)


def crop_camera_matrix(camera_matrix: Array, affine: Array) -> Array:
    """The camera matrix [3, 3] that projects to pixels of the crop, from one that projects to the picture's."""
    lift = np.concatenate([affine, [[0.0, 0.0, 1.0]]])
    return lift @ np.asarray(camera_matrix, np.float64)


def cut_crop(image: Array, affine: Array) -> Array:
    """Sample a crop bilinearly, black outside the picture.

    A square that shrinks by two or more is averaged down first: the network never met the aliasing of a plain
    bilinear step, because its training pictures (512 x 334) hardly shrink at all.

    Args:
        image: [H, W, 3] uint8.
        affine: [2, 3] of `both_hands_crop` or `crop_around`.

    Returns:
        [256, 256, 3] uint8, colours in the order of the image.
    """
    scale = float(affine[0, 0])
    shift = affine[:, 2] + _PIXEL_CENTRE * scale  # both sides counted from the first pixel's centre, for OpenCV
    factor = int(1.0 / scale)
    if factor >= 2:
        height, width = image.shape[:2]
        low = np.floor(-shift / scale).astype(int) - factor
        high = np.ceil((CROP_SIZE - shift) / scale).astype(int) + factor
        low, high = (np.clip(edge // factor * factor, 0, [width, height]) for edge in (low, high + factor))
        blocks = (high - low) // factor
        if (blocks < 1).any():
            return np.zeros((CROP_SIZE, CROP_SIZE, 3), np.uint8)
        region = image[low[1] : low[1] + blocks[1] * factor, low[0] : low[0] + blocks[0] * factor]
        image = cv2.resize(region, (int(blocks[0]), int(blocks[1])), interpolation=cv2.INTER_AREA)
        # Positions of the first pixel's centre in both pictures: p = factor * (q + 0.5) - 0.5 + low.
        shift = shift + scale * (low + 0.5 * factor - 0.5)
        scale = scale * factor
    matrix = np.array([[scale, 0.0, shift[0]], [0.0, scale, shift[1]]])
    return cv2.warpAffine(
        np.ascontiguousarray(image),
        matrix,
        (CROP_SIZE, CROP_SIZE),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=0,
    )


def network_input(crops: Array) -> Array:
    """Crops [B, 256, 256, 3] uint8 RGB to the network's input [B, 3, 256, 256] float32, ImageNet statistics."""
    scale = (1.0 / (255.0 * np.array(IMAGE_DEVIATION))).astype(np.float32)
    offset = (np.array(IMAGE_MEAN) / np.array(IMAGE_DEVIATION)).astype(np.float32)
    pixels = np.asarray(crops, np.float32) * scale - offset
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))


def uv_to_pixels(uv: Array, affine: Array) -> Array:
    """Network uv [..., 2] in [-1, 1] to pixels of the picture [..., 2]."""
    inside = (np.asarray(uv, np.float64) + 1.0) * (0.5 * CROP_SIZE)
    return (inside - affine[:, 2]) @ np.linalg.inv(affine[:, :2]).T


def pixels_to_uv(pixels: Array, affine: Array) -> Array:
    """Pixels of the picture [..., 2] to network uv [..., 2] in [-1, 1]."""
    inside = np.asarray(pixels, np.float64) @ affine[:, :2].T + affine[:, 2]
    return inside / (0.5 * CROP_SIZE) - 1.0
