"""One hand shape and size for a clip, from the lengths of its bones."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dir_core.conventions import KEYPOINT_BONES, SHAPE_COUNT
from dir_core.fitting.landmark_places import landmark_places
from dir_core.hand_model import HandModel

Array = NDArray[Any]

# Fingers and palm rays, and the widths across the knuckles: distances that no pose changes. The thumb's base is
# seen on the bone that it turns, so its distance to the wrist is none of them.
_RIGID_BONES: Final = tuple(bone for bone in KEYPOINT_BONES if bone != (0, 1))
_RIGID_PAIRS: Final = np.array([*_RIGID_BONES, (5, 9), (9, 13), (13, 17), (5, 17)])
_LENGTH_NOISE = 0.003  # metres; how far a landmark network's bone lengths can be trusted
_LARGEST_SHAPE = 3.0  # standard deviations; hands beyond are rarer than networks that err
_ITERATIONS = 10


@dataclass(frozen=True, eq=False)
class HandShape:
    """Shape of one person's hands.

    Attributes:
        shape: [10] shape components (betas), zero mean and unit variance over people.
        scale: size factor on the shaped model.
        landmark_scale: factor that brings the measured landmarks to the size of the scaled model.
    """

    shape: Array
    scale: float
    landmark_scale: float


def bone_lengths(landmarks: Array, weight: Array) -> Array:
    """Median lengths [23] of the distances that no pose changes, from landmarks [N, 21, 3] with weight [N, 21]."""
    distance = np.linalg.norm(landmarks[:, _RIGID_PAIRS[:, 1]] - landmarks[:, _RIGID_PAIRS[:, 0]], axis=-1)
    trust = np.minimum(weight[:, _RIGID_PAIRS[:, 0]], weight[:, _RIGID_PAIRS[:, 1]])
    return weighted_median(distance, trust)


def weighted_median(values: Array, weight: Array) -> Array:
    """Lower weighted median over the first axis: values and weight [N, K] -> [K]."""
    order = np.argsort(values, axis=0, kind="stable")
    passed = np.cumsum(np.take_along_axis(weight, order, axis=0), axis=0)
    middle = np.argmax(passed >= 0.5 * passed[-1:], axis=0)
    return np.take_along_axis(np.take_along_axis(values, order, axis=0), middle[None], axis=0)[0]


def fit_shape(
    model: HandModel, lengths: Array, hand_length: float, known: Array | None = None, noise: float = _LENGTH_NOISE
) -> HandShape:
    """Shape components that explain measured bone lengths, and the scale that gives the hand its length.

    Landmark networks know proportions but not size, so the size comes from `hand_length` alone.

    Args:
        model: either side; both share the shape space.
        lengths: [23] metres, see `bone_lengths`, in any common scale.
        hand_length: wrist crease to middle finger tip, metres.
        known: [10] shape components that are known already; then only sizes are compared.
        noise: metres, how far the lengths can be trusted.

    Source: Gauss-Newton on log |K_b(beta)| - log k m_b with beta ~ N(0, 1); K is linear in beta.
    """
    flat = landmark_places(model.rest_keypoints(np.zeros(SHAPE_COUNT)))
    change = np.stack([landmark_places(model.rest_keypoints(unit)) - flat for unit in np.eye(SHAPE_COUNT)], axis=-1)
    bones = flat[_RIGID_PAIRS[:, 1]] - flat[_RIGID_PAIRS[:, 0]]
    bone_change = change[_RIGID_PAIRS[:, 1]] - change[_RIGID_PAIRS[:, 0]]
    shape = _find_shape(bones, bone_change, lengths, noise) if known is None else np.asarray(known, np.float64)

    size = np.linalg.norm(bones + bone_change @ shape, axis=-1)
    log_factor = np.average(np.log(size / lengths), weights=np.linalg.norm(bones, axis=-1) ** 2)
    scale = hand_length / model.length(shape)
    return HandShape(shape=shape, scale=scale, landmark_scale=float(np.exp(log_factor)) * scale)


def _find_shape(bones: Array, bone_change: Array, lengths: Array, length_noise: float) -> Array:
    """Shape components [10] of bones [23, 3] that change with them by [23, 3, 10], for measured lengths [23]."""
    # In logarithms the size drops out: else a smaller hand would always explain the lengths better.
    shape, log_factor = np.zeros(SHAPE_COUNT), 0.0
    noise = length_noise / np.linalg.norm(bones, axis=-1)
    prior = np.diag([1.0] * SHAPE_COUNT + [0.0])
    for _ in range(_ITERATIONS):
        shaped = bones + bone_change @ shape
        size = np.linalg.norm(shaped, axis=-1)
        residual = (np.log(size / lengths) - log_factor) / noise
        jacobian = np.einsum("bi,bij->bj", shaped / size[:, None] ** 2, bone_change) / noise[:, None]
        jacobian = np.concatenate([jacobian, -1.0 / noise[:, None]], axis=1)
        gradient = jacobian.T @ residual + prior @ np.append(shape, log_factor)
        step = np.linalg.solve(jacobian.T @ jacobian + prior, gradient)
        shape = shape - step[:-1]
        log_factor -= step[-1]
    return np.clip(shape, -_LARGEST_SHAPE, _LARGEST_SHAPE)
