"""How near hands and crops are to each other in the picture: what counts as one hand, as near, as touching."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dir_core.conventions import KEYPOINT_BONES
from dir_core.detection.crop import Crop, crop_around_keypoints
from dir_core.detection.landmark_network import HandLandmarks

Array = NDArray[Any]

# Distances between two skeletons, in hand scales (the longer of wrist to middle base and index to pinky base).
_SAME_POINTS = 0.3
_SAME_SHAPE = 0.25

_SMALLEST_CROP = 12.0  # pixels; below that a crop holds nothing to see

_BONES = np.array(KEYPOINT_BONES)


def hand_scale(points: Array) -> float:
    """Length of the palm in pixels; the width counts when the hand points at the camera."""
    length, width = np.linalg.norm(points[[9, 17]] - points[[0, 5]], axis=-1)
    return max(float(length), float(width), 1.0)


def outline(points: Array) -> Array:
    """Key points and the middles of the bones, [41, 2]."""
    return np.concatenate([points, 0.5 * (points[_BONES[:, 0]] + points[_BONES[:, 1]])])


def distances(a: Array, b: Array) -> Array:
    """Distances between two outlines in mean hand scales, [41, 41]."""
    between = np.linalg.norm(outline(a)[:, None] - outline(b)[None], axis=-1)
    return between / (0.5 * (hand_scale(a) + hand_scale(b)))


def gap(a: HandLandmarks, b: HandLandmarks) -> float:
    """The smallest distance between two skeletons, in hand scales."""
    return float(distances(a.keypoints_2d, b.keypoints_2d).min())


def is_over(a: HandLandmarks, b: HandLandmarks) -> bool:
    """Whether two skeletons cover the same part of the picture."""
    between = distances(a.keypoints_2d, b.keypoints_2d)
    return bool(0.5 * (between.min(axis=0).mean() + between.min(axis=1).mean()) < _SAME_SHAPE)


def apart(a: HandLandmarks, b: HandLandmarks) -> float:
    """Mean distance between the same key points of two hands, in hand scales."""
    scale = 0.5 * (hand_scale(a.keypoints_2d) + hand_scale(b.keypoints_2d))
    return float(np.linalg.norm(a.keypoints_2d - b.keypoints_2d, axis=-1).mean()) / scale


def is_same_place(a: HandLandmarks, b: HandLandmarks) -> bool:
    """Whether two skeletons lie point on point."""
    return apart(a, b) < _SAME_POINTS


def is_on(seen: HandLandmarks, *others: HandLandmarks) -> bool:
    """Whether a skeleton lies on or over one of others."""
    return any(is_same_place(seen, other) or is_over(seen, other) for other in others)


def is_same_hand(a: HandLandmarks, b: HandLandmarks) -> bool:
    """Whether two skeletons lie on one hand: point on point, or one over the other with the same handedness."""
    if is_same_place(a, b):
        return True
    return (a.right_score > 0.5) == (b.right_score > 0.5) and is_over(a, b)


def is_covered(candidate: Crop, tracked: Crop) -> bool:
    """Whether a palm is the one that a track already follows, so that the landmark network need not be asked."""
    close = np.hypot(candidate.x - tracked.x, candidate.y - tracked.y) < 0.2 * tracked.size
    return bool(close) and 0.5 < candidate.size / tracked.size < 2.0


def is_near(crop: Crop, lost: Crop) -> bool:
    """Whether a crop may show the hand that was lost in another one."""
    return bool(np.hypot(crop.x - lost.x, crop.y - lost.y) < 0.75 * lost.size) and 0.4 < crop.size / lost.size < 2.5


def is_usable(crop: Crop, image: Array) -> bool:
    """Whether a crop is large enough and its centre not far outside the picture."""
    height, width = image.shape[:2]
    margin = 0.25 * crop.size
    return crop.size >= _SMALLEST_CROP and -margin <= crop.x <= width + margin and -margin <= crop.y <= height + margin


def next_crop(seen: HandLandmarks) -> Crop:
    """Where to look for the hand in the next frame."""
    return crop_around_keypoints(seen.keypoints_2d.astype(np.float64))
