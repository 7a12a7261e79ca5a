"""Smoothing of hands that an estimator posed itself: their joint rotations and their place in the camera."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dir_core import rotations
from dir_core.clean_up.gaps import cross_long_gaps, straight
from dir_core.clean_up.settings import Cutoffs
from dir_core.clean_up.smoothing import smooth_rotations, smooth_vectors

Array = NDArray[Any]

PLACE_NOISE = 0.03
"""Of the hand's extent: nominal noise of where the hand is seen, for the smoother."""
DEPTH_NOISE = 0.02
"""Of the depth."""

_NEAREST = 0.02  # metres; what lies nearer has no direction


def steady_rotations(rotation: Array, confidence: Array, observed: Array, time: Array, *, cutoffs: Cutoffs) -> Array:
    """Smoothed rotations [T, 16, 4] of one hand, gaps bridged.

    Args: rotation [T, 16, 4] quaternions, confidence [T, 21], observed [T], time [T] seconds.
    """
    if not observed.any():
        return rotation
    cutoff = np.full(rotation.shape[1], cutoffs.fingers)
    cutoff[0] = cutoffs.wrist_rotation
    sure = np.broadcast_to(confidence.mean(axis=1, keepdims=True), rotation.shape[:2])
    smooth = smooth_rotations(rotation, sure, observed, None, time=time, cutoff=cutoff)
    return rotations.make_continuous(smooth)


def steady_position(
    translation: Array, confidence: Array, observed: Array, time: Array, *, cutoffs: Cutoffs, hand_length: float
) -> Array:
    """Smoothed wrist [T, 3] of one hand: its viewing ray like any key point, its depth twice as hard; gaps bridged.

    Args: translation [T, 3] metres in camera axes, confidence [T, 21], observed [T], time [T] seconds, hand_length m.
    """
    if not observed.any():
        return translation
    sure = (confidence.mean(axis=1) * observed)[:, None]
    depth = np.maximum(translation[:, 2], _NEAREST)
    ray = (translation[:, :2] / depth[:, None])[:, None]
    extent = hand_length / float(np.median(depth[observed]))
    ray = smooth_vectors(ray, sure, time, nominal_noise=PLACE_NOISE * extent, cutoff=cutoffs.wrist_position)[:, 0]
    log_depth = np.log(depth)[:, None, None]
    depth = np.exp(smooth_vectors(log_depth, sure, time, nominal_noise=DEPTH_NOISE, cutoff=cutoffs.depth)[:, 0, 0])
    position = np.concatenate([ray * depth[:, None], depth[:, None]], axis=1)
    return cross_long_gaps(position, observed, time, straight)
