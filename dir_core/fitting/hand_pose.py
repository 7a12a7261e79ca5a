"""Pose and position of a hand of known shape from its 21 landmarks, many frames at once.

An analytic start (palm by Kabsch, then each hinge in closed form) is refined by
Levenberg-Marquardt on the 3D landmarks, their pixels, the usual angles and the limits; `arrow.py` takes the steps.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dir_core import rotations
from dir_core.camera import rays
from dir_core.degrees_of_freedom import HIGHEST, LOWEST, FingerGeometry, rotations_from_angles
from dir_core.fitting.arrow import (
    NEAREST,
    POSITION,
    SHIFT,
    TILT,
    TURN,
    ArrowProblem,
    Measurements,
    Pose,
    choose_frames,
    forward,
    take_frames,
    turned,
)
from dir_core.fitting.hand_shape import weighted_median
from dir_core.fitting.landmark_places import landmark_places

Array = NDArray[Any]

_PALM = (0, 1, 5, 9, 13, 17)  # wrist, thumb base and the four knuckles move as one
# How much each key point says. Where a thumb starts differs most from one build of hands to another: believed, it turns
# the palm. All others hang on the wrist.
_SAYS: Final = np.array([3.0, 0.25, *[1.0] * 19])
_FIRST_STEPS = 2  # after which the noise of the pixels is known
_NOISE_OF_MISS = 2.0  # sigma of the pixels, in their usual distance to the posed hand
_PLACE_ITERATIONS = 4
_WORST_FIT = 0.8  # correlation of points and rays that is believed to tell a depth
_DAMPING = 1e-3
_ACCEPTED, _REJECTED = 0.2, 8.0  # factors on the damping
_SMALL_TURN, _SMALL_MOVE = np.radians(0.03), 3e-5  # radians and metres; smaller steps do not matter
_BLOCK = 2048  # frames solved together: calls are shared, and memory does not grow with the clip


@dataclass(frozen=True, eq=False)
class HandPose:
    """Pose of N frames.

    Attributes:
        rotation: [N, 16, 4] quaternions in MANO joint order, row 0 from model to camera axes.
        translation: [N, 3] wrist in camera axes, metres.
        angles: [N, 5, 5] hinge angles in radians, FINGERS x ANGLES.
        keypoints: [N, 21, 3] of the posed hand, camera axes, metres.
    """

    rotation: Array
    translation: Array
    angles: Array
    keypoints: Array


def fit_pose(
    geometry: FingerGeometry,
    landmarks: Array,
    pixels: Array,
    weight: Array,
    camera_matrix: Array,
    *,
    landmark_noise: float = 0.005,
    landmark_tilt: float = 0.2,
    pixel_noise: float = 0.008,
    prior: float = 0.8,
    steps: int = 8,
) -> HandPose:
    """Fit the pose of one hand to N frames of landmarks.

    Args:
        geometry: the hand's chains, already scaled.
        landmarks: [N, 21, 3] metres, camera axes, any origin, of the same size as `geometry`.
        pixels: [N, 21, 2] of the upright source frame.
        weight: [N, 21] trust in each landmark, 0..1; the wrist counts for more, the base of the thumb for less.
        camera_matrix: [3, 3] pixels.
        landmark_noise: sigma of `landmarks` in metres.
        landmark_tilt: sigma in radians of a turn that all landmarks of a frame share: networks know the pose of the
            fingers better than which way the hand faces, while the pixels know that.
        pixel_noise: sigma of `pixels` as a share of the hand's extent in the image, at least: where the hand meets them
            badly after the first steps, it is twice the median distance.
        prior: weight of the usual angles; 0 leaves them out.
        steps: at most so many; a frame needs fewer where they no longer matter.

    Source: fitting of a hinge hand by damped least squares with limits; Cauchy weights (Huber 1981).
    """
    problem = ArrowProblem(geometry, landmark_noise, landmark_tilt, prior)
    parts = [
        _fit_block(
            problem,
            landmarks[rows].astype(np.float64),
            rays(pixels[rows].astype(np.float64), camera_matrix),
            _SAYS * weight[rows].astype(np.float64),
            pixel_noise=pixel_noise,
            steps=steps,
        )
        for rows in (slice(i, i + _BLOCK) for i in range(0, max(len(landmarks), 1), _BLOCK))
    ]
    wrist, position, angles, relative = (
        np.ascontiguousarray(np.concatenate(arrays)) for arrays in zip(*parts, strict=True)
    )
    return HandPose(
        rotation=rotations_from_angles(geometry, wrist, angles),
        translation=position,
        angles=angles,
        keypoints=relative + position[:, None],
    )


def pose_keypoints(geometry: FingerGeometry, rotation: Array, angles: Array) -> Array:
    """Key points [N, 21, 3] relative to the wrist of hands turned by matrices [N, 3, 3], angles [N, 5, 5]."""
    return forward(geometry, rotations.from_matrix(rotation).T, angles.T)[0].T


def place_on_rays(relative: Array, ray: Array, weight: Array) -> Array:
    """Position [N, 3] at which points [N, 21, 3] best meet their viewing rays [N, 21, 2].

    Closed form: the rows t_x - r_x t_z = r_x Z - X and t_y - r_y t_z = r_y Z - Y in least squares. Where points and
    rays do not fit each other, that depth tends to 0: it is not let far below the one of a hand as large as it is seen.
    """
    w = weight / np.maximum(weight.sum(axis=1, keepdims=True), 1e-9)
    right = ray * relative[..., 2:] - relative[..., :2]
    mean_ray = np.einsum("nk,nkd->nd", w, ray)
    mean_right = np.einsum("nk,nkd->nd", w, right)
    centred_ray = ray - mean_ray[:, None]
    numerator = -np.einsum("nk,nkd,nkd->n", w, centred_ray, right - mean_right[:, None])
    seen = np.maximum(np.einsum("nk,nkd->n", w, centred_ray**2), 1e-12)
    as_large = np.sqrt(np.einsum("nk,nkd->n", w, (right - mean_right[:, None]) ** 2) / seen)
    depth = np.maximum(numerator / seen, _WORST_FIT * as_large)
    return np.concatenate([mean_right + mean_ray * depth[:, None], depth[:, None]], axis=1)


def _fit_block(
    problem: ArrowProblem,
    landmarks: Array,
    ray: Array,
    weight: Array,
    *,
    pixel_noise: float,
    steps: int,
) -> tuple[Array, Array, Array, Array]:
    """Wrist [N, 4], position [N, 3], angles [N, 5, 5] and key points [N, 21, 3] about the wrist."""
    landmarks = landmarks - landmarks.mean(axis=1, keepdims=True)  # so that a tilt turns them about their middle
    wrist, angles = _analytic_start(problem.geometry, landmarks, weight)
    keypoints, _ = forward(problem.geometry, wrist.T, angles.T)
    relative = landmark_places(keypoints.T)
    pose = Pose(
        wrist=_frames_last(wrist),
        position=_frames_last(_robust_place(relative, ray, weight)),
        angles=_frames_last(angles),
        shift=_frames_last(np.mean(landmarks - relative, axis=1)),
        tilt=_frames_last(np.tile([1.0, 0.0, 0.0, 0.0], (len(ray), 1))),
    )
    extent = np.maximum(np.ptp(ray, axis=1).max(axis=-1), 1e-6)
    seen = Measurements(
        landmarks=_frames_last(landmarks),
        ray=_frames_last(ray),
        ray_noise=pixel_noise * extent,
        trust=_frames_last(weight),
    )
    first = min(_FIRST_STEPS, steps)
    pose, keypoints = _descend(problem, seen, pose, first)
    if steps > first:
        noise = np.maximum(pixel_noise, _NOISE_OF_MISS * _usual_miss(pose, keypoints, ray, weight, extent))
        pose, keypoints = _descend(problem, seen._replace(ray_noise=noise * extent), pose, steps - first)
    return pose.wrist.T, pose.position.T, pose.angles.T, keypoints.T


def _usual_miss(pose: Pose, keypoints: Array, ray: Array, weight: Array, extent: Array) -> Array:
    """How far [N] the landmarks of posed hands lie from where they were seen, in hands: the weighted median of each."""
    placed = landmark_places(keypoints.T) + pose.position.T[:, None]
    miss = np.linalg.norm(placed[..., :2] / np.maximum(placed[..., 2:], NEAREST) - ray, axis=-1) / extent[:, None]
    return weighted_median(miss.T, weight.T)


def _descend(problem: ArrowProblem, seen: Measurements, pose: Pose, steps: int) -> tuple[Pose, Array]:
    """Take damped steps until the next one will not matter; frames that have arrived leave the batch.

    Returns: the poses and their key points [3, 21, N] about the wrist.
    """
    arrived, keypoints = Pose(*map(np.empty_like, pose)), np.empty_like(seen.landmarks)
    left = np.arange(seen.trust.shape[-1])
    damping = np.full(len(left), _DAMPING)
    last_size = np.full(len(left), 1e-9)
    sight = problem.look(seen, pose)
    for iteration in range(steps):
        wrist, angles = problem.step(seen, pose, sight, damping)
        turn = np.maximum(np.abs(angles).max(axis=(0, 1)), np.abs(wrist[TURN]).max(axis=0))
        trial = Pose(
            wrist=turned(pose.wrist, wrist[TURN]),
            position=pose.position + wrist[POSITION],
            angles=pose.angles + angles,
            shift=pose.shift + wrist[SHIFT],
            tilt=turned(pose.tilt, wrist[TILT]),
        )
        trial_sight = problem.look(seen, trial)
        better = (trial_sight.cost < sight.cost) & (trial.position[2] > NEAREST)
        pose, sight = choose_frames(better, trial, pose), choose_frames(better, trial_sight, sight)
        damping = np.where(better, damping * _ACCEPTED, damping * _REJECTED)

        size = np.maximum(turn / _SMALL_TURN, np.abs(wrist[POSITION]).max(axis=0) / _SMALL_MOVE)
        pace = np.where(better, np.minimum(size / last_size, 1.0), 1.0)  # steps shrink at the pace of the last two
        last_size = np.where(better, size, last_size)
        going = ~(size * pace <= 1)  # NaN goes on
        going &= iteration < steps - 1
        if going.all():
            continue
        for result, now in zip((*arrived, keypoints), (*pose, sight.keypoints), strict=True):
            result[..., left[~going]] = now[..., ~going]
        if not going.any():
            break
        last_size = last_size[going]
        left, damping = left[going], damping[going]
        seen, pose, sight = take_frames(seen, going), take_frames(pose, going), take_frames(sight, going)
    return arrived, keypoints


def _robust_place(relative: Array, ray: Array, weight: Array) -> Array:
    """`place_on_rays` that a wild landmark cannot pull away, at least 5 cm in front of the camera."""
    trust = weight
    for _ in range(_PLACE_ITERATIONS):
        position = place_on_rays(relative, ray, trust)
        position[:, 2] = np.maximum(position[:, 2], 0.05)
        placed = relative + position[:, None]
        miss = np.linalg.norm(placed[..., :2] / np.maximum(placed[..., 2:], 0.02) - ray, axis=-1)
        typical = np.maximum(np.median(miss, axis=1, keepdims=True), 1e-6)
        trust = weight / (1 + (miss / (3 * typical)) ** 2)
    return position


def _analytic_start(geometry: FingerGeometry, landmarks: Array, weight: Array) -> tuple[Array, Array]:
    """Wrist [N, 4] by Kabsch on the palm, then each hinge angle [N, 5, 5] in closed form within its limits."""
    palm = list(_PALM)
    flat = landmark_places(geometry.keypoints)[palm]
    rotation = _kabsch(flat, landmarks[:, palm], weight[:, palm])

    chains = landmarks[:, 1:].reshape(len(landmarks), 5, 4, 3)
    directions = np.diff(chains, axis=2)
    directions /= np.maximum(np.linalg.norm(directions, axis=-1, keepdims=True), 1e-9)
    bones = geometry.offsets[:, 1:] / np.linalg.norm(geometry.offsets[:, 1:], axis=-1, keepdims=True)
    angles = np.zeros((len(landmarks), 5, 5))
    frame = np.broadcast_to(rotation[:, None], (len(landmarks), 5, 3, 3))
    for rank, bend_index in enumerate((0, 3, 4)):
        local = np.einsum("nfji,nfj->nfi", frame, directions[:, :, rank])
        bend_axis = geometry.axes[:, bend_index]
        side_axis = np.cross(bones[:, rank], bend_axis)
        bend = np.arctan2(-np.sum(local * side_axis, -1), np.sum(local * bones[:, rank], -1))
        angles[..., bend_index] = np.clip(bend, LOWEST[:, bend_index], HIGHEST[:, bend_index])
        turn = _axis_turn(bend_axis, angles[..., bend_index])
        if rank == 0:
            lean = np.cross(geometry.axes[:, 1], bones[:, 0])
            spread = np.arcsin(np.clip(np.sum(local * lean, -1), -1, 1))
            angles[..., 1] = np.clip(spread, LOWEST[:, 1], HIGHEST[:, 1])
            turn = turn @ _axis_turn(geometry.axes[:, 1], angles[..., 1])
        frame = frame @ turn
    return rotations.from_matrix(rotation), angles


def _kabsch(points: Array, onto: Array, weight: Array) -> Array:
    """Rotations [N, 3, 3] that turn points [N or 1, K, 3] about their middle onto others [N, K, 3] (Kabsch 1976)."""
    share = (weight + 1e-6) / (weight + 1e-6).sum(axis=1, keepdims=True)
    centred = onto - np.einsum("nk,nkd->nd", share, onto)[:, None]
    return rotations.nearest_rotation(np.einsum("nk,nki,nkj->nij", share, centred, np.broadcast_to(points, onto.shape)))


def _axis_turn(axis: Array, angle: Array) -> Array:
    """Rotation matrices [..., 3, 3] about unit axes by angles (Rodrigues)."""
    cross = _skew(axis)
    square = cross @ cross
    return np.eye(3) + np.sin(angle)[..., None, None] * cross + (1 - np.cos(angle))[..., None, None] * square


def _skew(vector: Array) -> Array:
    x, y, z = np.moveaxis(vector, -1, 0)
    zero = np.zeros_like(x)
    return np.stack([np.stack([zero, -z, y], -1), np.stack([z, zero, -x], -1), np.stack([-y, x, zero], -1)], -2)


def _frames_last(rows: Array) -> Array:
    """Rows [N, ...] as [..., N] with the other axes reversed, as `arrow.py` wants them."""
    return np.ascontiguousarray(rows.T)
