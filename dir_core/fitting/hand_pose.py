"""Pose and position of a hand of known shape from its 21 landmarks, many frames at once.

An analytic start (palm by Kabsch, then each hinge in closed form) is refined by Levenberg-Marquardt on
the 3D landmarks, their pixels, the usual angles and the limits. The fingers share only the six numbers
of the wrist, so the normal equations have arrow form and every step solves five 5x5 blocks and one
12x12 Schur complement per frame (Triggs et al. 2000, section 6).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dir_core import rotations
from dir_core.camera import rays
from dir_core.degrees_of_freedom import (
    ANGLE_JOINTS,
    FREE,
    HIGHEST,
    LOWEST,
    USUAL,
    USUAL_SPREAD,
    FingerGeometry,
    rotations_from_angles,
)
from dir_core.fitting.landmark_places import landmark_places

Array = NDArray[Any]

_PALM = (0, 1, 5, 9, 13, 17)  # wrist, thumb base and the four knuckles move as one
_ITERATIONS = 8
_PLACE_ITERATIONS = 4
_DAMPING = 1e-3
_ACCEPTED, _REJECTED = 0.2, 8.0  # factors on the damping
_LIMIT_STIFFNESS = 50.0  # per radian beyond a limit
_CAUCHY = 6.0  # residuals beyond this many sigmas lose their pull
_BLOCK = 512  # frames solved together, so that memory does not grow with the clip
_LARGEST_STEP = 0.8  # radians an angle may change in one iteration
_WRIST = 12  # unknowns shared by the fingers: rotation, position, shift and tilt of the 3D landmarks

# Whether an angle moves the key points of its finger: [finger, key point, angle]. A finger's first one is its first
# joint itself, only the thumb's is seen further along.
_REACH = np.array([[rank < point for rank in ANGLE_JOINTS] for point in range(4)]) & FREE[:, None]
_REACH[0, 0] = np.array(ANGLE_JOINTS) == 0


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
) -> HandPose:
    """Fit the pose of one hand to N frames of landmarks.

    Args:
        geometry: the hand's chains, already scaled.
        landmarks: [N, 21, 3] metres, camera axes, any origin, of the same size as `geometry`.
        pixels: [N, 21, 2] of the upright source frame.
        weight: [N, 21] trust in each landmark, 0..1.
        camera_matrix: [3, 3] pixels.
        landmark_noise: sigma of `landmarks` in metres.
        landmark_tilt: sigma in radians of a turn that all landmarks of a frame share: networks know the pose of the
            fingers better than which way the hand faces, while the pixels know that.
        pixel_noise: sigma of `pixels` as a share of the hand's extent in the image.
        prior: weight of the usual angles; 0 leaves them out.

    Source: fitting of a hinge hand by damped least squares with limits; Cauchy weights (Huber 1981).
    """
    parts = [
        _fit_block(
            geometry,
            landmarks[i : i + _BLOCK].astype(np.float64),
            rays(pixels[i : i + _BLOCK].astype(np.float64), camera_matrix),
            weight[i : i + _BLOCK].astype(np.float64),
            landmark_noise=landmark_noise,
            landmark_tilt=landmark_tilt,
            pixel_noise=pixel_noise,
            prior=prior,
        )
        for i in range(0, max(len(landmarks), 1), _BLOCK)
    ]
    return HandPose(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def pose_keypoints(geometry: FingerGeometry, rotation: Array, angles: Array) -> Array:
    """Key points [N, 21, 3] relative to the wrist of hands turned by matrices [N, 3, 3], angles [N, 5, 5]."""
    return _forward(geometry, rotation, angles)[0]


def place_on_rays(relative: Array, ray: Array, weight: Array) -> Array:
    """Position [N, 3] at which points [N, 21, 3] best meet their viewing rays [N, 21, 2].

    Closed form: the rows t_x - r_x t_z = r_x Z - X and t_y - r_y t_z = r_y Z - Y in least squares.
    """
    w = weight / np.maximum(weight.sum(axis=1, keepdims=True), 1e-9)
    right = ray * relative[..., 2:] - relative[..., :2]
    mean_ray = np.einsum("nk,nkd->nd", w, ray)
    mean_right = np.einsum("nk,nkd->nd", w, right)
    centred_ray = ray - mean_ray[:, None]
    numerator = -np.einsum("nk,nkd,nkd->n", w, centred_ray, right - mean_right[:, None])
    depth = numerator / np.maximum(np.einsum("nk,nkd->n", w, centred_ray**2), 1e-12)
    return np.concatenate([mean_right + mean_ray * depth[:, None], depth[:, None]], axis=1)


def _fit_block(
    geometry: FingerGeometry,
    landmarks: Array,
    ray: Array,
    weight: Array,
    *,
    landmark_noise: float,
    landmark_tilt: float,
    pixel_noise: float,
    prior: float,
) -> tuple[Array, Array, Array, Array]:
    frames = len(landmarks)
    landmarks = landmarks - landmarks.mean(axis=1, keepdims=True)  # so that a tilt turns them about their middle
    rotation, angles = _analytic_start(geometry, landmarks, weight)
    relative = landmark_places(pose_keypoints(geometry, rotation, angles))
    position = _robust_place(relative, ray, weight)
    shift = np.mean(landmarks - relative, axis=1)
    ray_noise = pixel_noise * np.maximum(np.ptp(ray, axis=1).max(axis=-1), 1e-6)

    problem = _Problem(
        geometry=geometry,
        landmarks=landmarks,
        ray=ray,
        root_weight=np.sqrt(weight),
        landmark_noise=landmark_noise,
        landmark_tilt=landmark_tilt,
        ray_noise=ray_noise[:, None, None],
        prior=np.where(FREE, prior / np.where(FREE, USUAL_SPREAD, 1.0), 0.0),
    )
    damping = np.full(frames, _DAMPING)
    tilt = np.broadcast_to(np.eye(3), rotation.shape)
    state = (rotation, position, shift, tilt, angles)
    for _ in range(_ITERATIONS):
        cost, step_wrist, step_angles = problem.solve(state, damping)
        trial = (
            _turn(step_wrist[:, :3]) @ state[0],
            state[1] + step_wrist[:, 3:6],
            state[2] + step_wrist[:, 6:9],
            _turn(step_wrist[:, 9:]) @ state[3],
            state[4] + step_angles,
        )
        better = (problem.cost(trial) < cost) & (trial[1][:, 2] > 0.02)
        state = tuple(  # type: ignore[assignment]
            np.where(better.reshape(-1, *([1] * (new.ndim - 1))), new, old)
            for new, old in zip(trial, state, strict=True)
        )
        damping = np.where(better, damping * _ACCEPTED, damping * _REJECTED)
    rotation, position, _, _, angles = state
    keypoints = pose_keypoints(geometry, rotation, angles)
    return (
        rotations_from_angles(geometry, rotations.from_matrix(rotation), angles),
        position,
        angles,
        keypoints + position[:, None],
    )


_State = tuple[Array, Array, Array, Array, Array]
"""Wrist rotation [N, 3, 3], position [N, 3], shift [N, 3] and tilt [N, 3, 3] of the 3D landmarks, angles [N, 5, 5]."""


@dataclass(frozen=True, eq=False)
class _Problem:
    """The least-squares problem of one block of N frames.

    Attributes:
        landmarks [N, 21, 3] m, ray [N, 21, 2], root_weight [N, 21]: the measurements.
        landmark_noise m, landmark_tilt rad, ray_noise [N, 1, 1]: their sigmas.
        prior: [5, 5] inverse sigma of the usual angles, 0 for locked ones.
    """

    geometry: FingerGeometry
    landmarks: Array
    ray: Array
    root_weight: Array
    landmark_noise: float
    landmark_tilt: float
    ray_noise: Array
    prior: Array

    def cost(self, state: _State) -> Array:
        """Robust cost [N] of a state."""
        relative = landmark_places(pose_keypoints(self.geometry, state[0], state[4]))
        return self._cost(*self._residuals(relative, state), state)

    def _residuals(self, relative: Array, state: _State) -> tuple[Array, Array]:
        space = (relative + state[2][:, None] - self._tilted(state)) / self.landmark_noise
        placed = relative + state[1][:, None]
        depth = np.maximum(placed[..., 2:], 0.02)
        return space, (placed[..., :2] / depth - self.ray) / self.ray_noise

    def _tilted(self, state: _State) -> Array:
        return np.einsum("nij,nkj->nki", state[3], self.landmarks)

    def _cost(self, space: Array, image: Array, state: _State) -> Array:
        data = 0.0
        for residual in (space, image):
            square = np.sum(residual**2, axis=-1)
            data = data + np.sum(self.root_weight**2 * _CAUCHY**2 * np.log1p(square / _CAUCHY**2), axis=-1)
        beyond = _LIMIT_STIFFNESS * _beyond_limits(state[4])
        usual = self.prior * (state[4] - USUAL)
        tilt = _turn_vector(state[3]) / self.landmark_tilt
        return data + np.sum(usual**2 + beyond**2, axis=(1, 2)) + np.sum(tilt**2, axis=1)

    def solve(self, state: _State, damping: Array) -> tuple[Array, Array, Array]:
        """Cost [N] and the damped Gauss-Newton step: wrist [N, 12] and angles [N, 5, 5]."""
        rotation, position, _, tilt, angles = state
        keypoints, _, axes, centres = _forward(self.geometry, rotation, angles)
        relative = landmark_places(keypoints)
        space, image = self._residuals(relative, state)
        space_pull, image_pull = self._pull(space), self._pull(image)
        look = _ray_change(relative + position[:, None]) * (image_pull / self.ray_noise)[..., None]
        space_scale = (space_pull / self.landmark_noise)[..., None]

        turn = -_skew(relative)
        wrist = np.zeros((*relative.shape[:2], 5, _WRIST))
        wrist[:, :, :3, :3] = space_scale * turn
        wrist[:, :, :3, 6:9] = space_scale * np.eye(3)
        wrist[:, :, :3, 9:] = space_scale * _skew(self._tilted(state))
        wrist[:, :, 3:, :3] = look @ turn
        wrist[:, :, 3:, 3:6] = look
        residual = np.concatenate([space * space_pull, image * image_pull], axis=-1)

        move = _finger_change(relative, axes, centres)
        finger_look = look[:, 1:].reshape(*move.shape[:3], 2, 3)
        finger_scale = space_scale[:, 1:].reshape(*move.shape[:3], 1, 1)
        finger = np.concatenate([finger_scale * move, finger_look @ move], axis=3)

        beyond = _beyond_limits(angles)
        step = _solve_arrow(
            wrist,
            finger,
            residual,
            pull=self.prior**2 * (angles - USUAL) + _LIMIT_STIFFNESS**2 * beyond,
            stiffness=self.prior**2 + _LIMIT_STIFFNESS**2 * (beyond != 0) + np.where(FREE, 1e-9, 1.0),
            tilt=_turn_vector(tilt),
            tilt_stiffness=self.landmark_tilt**-2,
            damping=damping,
        )
        return self._cost(space, image, state), *step

    def _pull(self, residual: Array) -> Array:
        """Square root of weight and Cauchy factor [N, 21, 1] of residuals [N, 21, D]."""
        square = np.sum(residual**2, axis=-1, keepdims=True)
        return self.root_weight[..., None] / np.sqrt(1 + square / _CAUCHY**2)


def _ray_change(placed: Array) -> Array:
    """d(x/z, y/z)/d(x, y, z) [N, 21, 2, 3] of points [N, 21, 3]."""
    inverse_depth = 1.0 / np.maximum(placed[..., 2], 0.02)
    change = np.zeros((*placed.shape[:2], 2, 3))
    change[..., 0, 0] = change[..., 1, 1] = inverse_depth
    change[..., 2] = -placed[..., :2] * inverse_depth[..., None] ** 2
    return change


def _finger_change(relative: Array, axes: Array, centres: Array) -> Array:
    """d(key point)/d(angle) [N, finger, 4 key points, 3, 5 angles] = axis x (key point - joint) beyond the joint."""
    chain = relative[:, 1:].reshape(len(relative), 5, 4, 3)
    lever = chain[:, :, :, None] - centres[:, :, None]
    return (np.cross(axes[:, :, None], lever) * _REACH[..., None]).swapaxes(-1, -2)


def _solve_arrow(
    wrist: Array,
    finger: Array,
    residual: Array,
    *,
    pull: Array,
    stiffness: Array,
    tilt: Array,
    tilt_stiffness: float,
    damping: Array,
) -> tuple[Array, Array]:
    """Damped normal equations of arrow form: fingers are eliminated, then the wrist is solved.

    Args: wrist [N, 21, 5, 12], finger [N, 5, 4, 5, 5], residual [N, 21, 5], pull and stiffness [N, 5, 5]
        (gradient and diagonal of priors and limits), tilt [N, 3] with its inverse variance, damping [N].

    Returns: steps of the wrist [N, 12] and of the angles [N, 5, 5].
    """
    frames = len(wrist)
    finger = finger.reshape(frames, 5, 20, 5)
    finger_wrist = wrist[:, 1:].reshape(frames, 5, 20, _WRIST)
    finger_residual = residual[:, 1:].reshape(frames, 5, 20, 1)
    wrist = wrist.reshape(frames, 105, _WRIST)

    wrist_hessian: Array = wrist.swapaxes(1, 2) @ wrist
    wrist_gradient = (wrist.swapaxes(1, 2) @ residual.reshape(frames, 105, 1))[..., 0]
    wrist_gradient[:, 9:] += tilt_stiffness * tilt
    wrist_hessian[:, range(9, 12), range(9, 12)] += tilt_stiffness
    transposed = finger.swapaxes(-1, -2)
    finger_hessian: Array = transposed @ finger
    coupling = transposed @ finger_wrist
    finger_gradient = (transposed @ finger_residual)[..., 0] + pull

    diagonal = np.arange(5)
    finger_hessian[..., diagonal, diagonal] += stiffness
    finger_hessian[..., diagonal, diagonal] *= 1 + damping[:, None, None]
    diagonal = np.arange(_WRIST)
    wrist_hessian[:, diagonal, diagonal] *= 1 + damping[:, None]
    wrist_hessian[:, diagonal, diagonal] += 1e-9

    solved = np.linalg.solve(finger_hessian, np.concatenate([coupling, finger_gradient[..., None]], axis=-1))
    reduced = coupling.swapaxes(-1, -2) @ solved  # [N, 5, 12, 13]
    schur = wrist_hessian - reduced[..., :_WRIST].sum(axis=1)
    gradient = wrist_gradient - reduced[..., _WRIST].sum(axis=1)
    step_wrist = -np.linalg.solve(schur, gradient[..., None])[..., 0]
    step_angles = -solved[..., _WRIST] - (solved[..., :_WRIST] @ step_wrist[:, None, :, None])[..., 0]
    return step_wrist, np.clip(step_angles, -_LARGEST_STEP, _LARGEST_STEP)


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
    """Palm rotation [N, 3, 3] by Kabsch, then each hinge angle [N, 5, 5] in closed form within its limits."""
    palm = np.array(_PALM)
    w = weight[:, palm] + 1e-6
    w = w / w.sum(axis=1, keepdims=True)
    flat = landmark_places(geometry.keypoints)[palm]
    model = flat - np.einsum("nk,kd->nd", w, flat)[:, None]
    seen = landmarks[:, palm] - np.einsum("nk,nkd->nd", w, landmarks[:, palm])[:, None]
    rotation = rotations.nearest_rotation(np.einsum("nk,nki,nkj->nij", w, seen, model))

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
    return rotation, angles


def _forward(geometry: FingerGeometry, rotation: Array, angles: Array) -> tuple[Array, Array, Array, Array]:
    """Forward kinematics.

    Returns: key points [N, 21, 3] relative to the wrist, local rotations [N, 5, 3, 3, 3], and for each
    angle its axis [N, 5, 5, 3] and joint position [N, 5, 5, 3], all in camera axes.
    """
    frames = len(rotation)
    turns = _axis_turn(geometry.axes, angles)  # [N, 5, 5, 3, 3]
    bend_spread = turns[:, :, 0] @ turns[:, :, 1]
    local = np.stack([bend_spread @ turns[:, :, 2], turns[:, :, 3], turns[:, :, 4]], axis=2)

    keypoints = np.zeros((frames, 21, 3))
    chain = keypoints[:, 1:].reshape(frames, 5, 4, 3)  # a view
    frame = np.broadcast_to(rotation[:, None], (frames, 5, 3, 3))
    place = np.einsum("nij,fj->nfi", rotation, geometry.offsets[:, 0])
    chain[:, :, 0] = place
    axes = np.empty((frames, 5, 5, 3))
    centres = np.empty((frames, 5, 5, 3))
    for rank in range(3):
        if rank == 0:
            axes[:, :, 0] = np.einsum("nij,fj->nfi", rotation, geometry.axes[:, 0])
            axes[:, :, 1] = np.einsum(
                "nij,nfj->nfi", rotation, np.einsum("nfij,fj->nfi", turns[:, :, 0], geometry.axes[:, 1])
            )
            axes[:, :, 2] = np.einsum(
                "nij,nfj->nfi", rotation, np.einsum("nfij,fj->nfi", bend_spread, geometry.axes[:, 2])
            )
            centres[:, :, :3] = place[:, :, None]
        else:
            axes[:, :, 2 + rank] = np.einsum("nfij,fj->nfi", frame, geometry.axes[:, 2 + rank])
            centres[:, :, 2 + rank] = place
        frame = frame @ local[:, :, rank]
        place = place + np.einsum("nfij,fj->nfi", frame, geometry.offsets[:, rank + 1])
        chain[:, :, rank + 1] = place
    return keypoints, local, axes, centres


def _beyond_limits(angles: Array) -> Array:
    return np.maximum(angles - HIGHEST, 0) + np.minimum(angles - LOWEST, 0)


def _axis_turn(axis: Array, angle: Array) -> Array:
    """Rotation matrices [..., 3, 3] about unit axes by angles (Rodrigues)."""
    cross = _skew(axis)
    square = cross @ cross
    return np.eye(3) + np.sin(angle)[..., None, None] * cross + (1 - np.cos(angle))[..., None, None] * square


def _turn(vector: Array) -> Array:
    return rotations.to_matrix(rotations.from_rotation_vector(vector))


def _turn_vector(matrix: Array) -> Array:
    return rotations.to_rotation_vector(rotations.from_matrix(matrix))


def _skew(vector: Array) -> Array:
    x, y, z = np.moveaxis(vector, -1, 0)
    zero = np.zeros_like(x)
    return np.stack([np.stack([zero, -z, y], -1), np.stack([z, zero, -x], -1), np.stack([-y, x, zero], -1)], -2)
