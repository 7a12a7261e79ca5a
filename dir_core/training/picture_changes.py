"""Changes to training pictures that keep their truth: other cameras' colours and noise, things before the hand."""

import math
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_LARGEST_COVER: Final = 0.28  # of the picture's side, half the longer axis


def change_camera(random: np.random.Generator, image: Array) -> Array:
    """A picture [H, W, 3] uint8 as another camera would have taken it: tones, white balance, sharpness, noise, JPEG."""
    tones = np.linspace(0, 1, 256)[:, None] ** math.exp(random.normal(0, 0.25))
    tones = tones * random.normal(1.0, 0.06, 3) * random.uniform(0.75, 1.2) + random.normal(0, 0.03)
    image = cv2.LUT(image, np.clip(255 * tones, 0, 255).astype(np.uint8)[None])
    if random.random() < 0.08:
        image = np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    if random.random() < 0.35:
        soft = cv2.GaussianBlur(image, (0, 0), random.uniform(0.6, 2.2))
        amount = random.uniform(-0.8, 1.0)  # below 0: over-sharp, as phones are
        image = cv2.addWeighted(image, 1 - amount, soft, amount, 0)
    if random.random() < 0.15:
        image = _move_camera(random, image)
    if random.random() < 0.3:
        noise = random.standard_normal(image.shape, np.float32) * random.uniform(2.0, 12.0)
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
    if random.random() < 0.2:
        _, packed = cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, int(random.integers(25, 85))))
        image = cv2.imdecode(packed, cv2.IMREAD_COLOR)
    return image


def cover(random: np.random.Generator, image: Array, points: Array) -> tuple[Array, Array]:
    """Put a thing of one colour with a little shading before a picture.

    Args:
        random: chooses it.
        image: [H, W, 3] uint8.
        points: [K, 2] px.

    Returns:
        The picture, and which points [K] are behind the thing.
    """
    side = max(image.shape[:2])
    centre = random.uniform(0.1, 0.9, 2) * side
    axes = random.uniform(0.05, _LARGEST_COVER, 2) * side
    angle = random.uniform(0, 180)
    mask = np.zeros(image.shape[:2], np.uint8)
    if random.random() < 0.5:
        cv2.ellipse(mask, (tuple(centre), tuple(2 * axes), angle), 255, -1, cv2.LINE_AA)
    else:
        corners = cv2.boxPoints((tuple(centre), tuple(2 * axes), angle))
        cv2.fillConvexPoly(mask, np.round(corners).astype(np.int32), 255, cv2.LINE_AA)
    shade = np.linspace(random.uniform(0.7, 1.0), random.uniform(0.7, 1.0), image.shape[1])[None, :, None]
    thing = random.uniform(20, 235, 3) * shade
    share = mask[..., None].astype(np.float32) / 255
    inside = np.clip(np.round(points).astype(int), 0, np.array(mask.shape)[::-1] - 1)
    return (image * (1 - share) + thing * share).astype(np.uint8), mask[inside[:, 1], inside[:, 0]] > 127


def _move_camera(random: np.random.Generator, image: Array) -> Array:
    """Blur along a short line, about the picture's own place."""
    reach, angle = random.uniform(1.5, 6.0), random.uniform(0, math.pi)
    kernel = np.zeros((13, 13), np.float32)
    step = (reach * math.cos(angle), reach * math.sin(angle))
    ends = [(round(16 * (6 + sign * step[0])), round(16 * (6 + sign * step[1]))) for sign in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 1.0, 1, cv2.LINE_AA, shift=4)
    return cv2.filter2D(image, -1, kernel / kernel.sum())
