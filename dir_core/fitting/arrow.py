"""Damped Gauss-Newton and Newton steps of a hinged hand towards its landmarks, many frames at once. numpy only.

The fingers share only the twelve numbers of the wrist, so the normal equations have arrow form: five 5x5 blocks are
eliminated and one 12x12 Schur complement per frame is left (Triggs et al. 2000, section 6).

In this file the frames are the last axis of every array, [..., N]: a step is some thousand small products, and so
each of them runs along memory through all frames instead of paying a call per frame. Vectors and matrices come first.
"""

from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from dir_core import rotations
from dir_core.degrees_of_freedom import ANGLE_JOINTS, FREE, HIGHEST, LOWEST, USUAL, USUAL_SPREAD, FingerGeometry
from dir_core.fitting.landmark_places import landmark_places

Array = NDArray[Any]

NEAREST = 0.02  # metres; nothing is seen closer to the camera
_LIMIT_STIFFNESS = 50.0  # per radian beyond a limit
_CAUCHY = 6.0  # residuals beyond this many sigmas lose their pull
_LARGEST_STEP = 0.8  # radians an angle may change in one step
_TOUCH = 1e-6  # radians beyond a limit at which an angle feels it
_FLOOR = 1e-9  # on the diagonal, for frames in which too little was measured

# The unknowns of the wrist. Pixels do not feel shift and tilt, 3D landmarks do not feel the position.
POSITION, TURN, SHIFT, TILT = slice(0, 3), slice(3, 6), slice(6, 9), slice(9, 12)
_IMAGE_PART, _SPACE_PART, _WRIST = slice(0, 6), slice(3, 12), 12

# Whether an angle moves a landmark of its finger: [angle, finger, landmark]. A finger's first one is its first
# joint itself, only the thumb's is seen further along.
_REACH = np.array([[[rank < point for point in range(4)]] for rank in ANGLE_JOINTS]) & FREE.T[..., None]
_REACH[:, 0, 0] = np.array(ANGLE_JOINTS) == 0

_PLACES = landmark_places(np.eye(21)[..., None])[..., 0].T  # [21 landmarks, 21 key points]

_Frames = TypeVar("_Frames", "Measurements", "Pose", "Sight")


class Measurements(NamedTuple):
    """What was seen: landmarks [3, 21, N] m, rays [2, 21, N] with their sigma [N], trust in both [21, N]."""

    landmarks: Array
    ray: Array
    ray_noise: Array
    trust: Array


class Pose(NamedTuple):
    """The unknowns: quaternion [4, N] and position [3, N] m of the wrist, angles [5 angles, 5 fingers, N] rad, and
    shift [3, N] m and tilt (a quaternion [4, N]) of a frame's 3D landmarks as a whole."""

    wrist: Array
    position: Array
    angles: Array
    shift: Array
    tilt: Array


class Sight(NamedTuple):
    """A pose against the measurements: its key points and landmarks [3, 21, N] about the wrist, its hinge axes
    [3, 5 angles, 5 fingers, N], the measured landmarks after their tilt [3, 21, N], residuals in sigmas in space
    [3, 21, N] and in the image [2, 21, N], and the robust cost [N]."""

    keypoints: Array
    landmarks: Array
    axes: Array
    tilted: Array
    space: Array
    image: Array
    cost: Array


def take_frames(arrays: _Frames, frames: Array) -> _Frames:
    """Some of the frames."""
    return type(arrays)(*(array[..., frames] for array in arrays))


def choose_frames(which: Array, new: _Frames, old: _Frames) -> _Frames:
    """The frames of `new` where `which` [N] is true, those of `old` elsewhere."""
    if which.all():
        return new
    return type(new)(*(np.where(which, a, b) for a, b in zip(new, old, strict=True)))


def forward(geometry: FingerGeometry, wrist: Array, angles: Array) -> tuple[Array, Array]:
    """Key points [3, 21, N] about the wrist and hinge axes [3, 5 angles, 5 fingers, N], both in camera axes.

    Args: wrist quaternions [4, N], angles [5 angles, 5 fingers, N].
    """
    frames = angles.shape[-1]
    offsets, axes = geometry.offsets.T, geometry.axes.T  # [3, 4 bones, 5 fingers], [3, 5 angles, 5 fingers]
    sine, versine = np.sin(angles), 1.0 - np.cos(angles)
    keypoints = np.zeros((3, 21, frames))
    chain = by_finger(keypoints)  # a view
    turned_axes = np.empty((3, 5, 5, frames))
    frame = np.broadcast_to(_matrix(wrist)[:, :, None], (3, 3, 5, frames))
    place = np.zeros((3, 5, frames))
    for bone in range(4):
        place = place + np.einsum("ijfn,jf->ifn", frame, offsets[:, bone])
        chain[:, :, bone] = place
        for angle in np.flatnonzero(np.array(ANGLE_JOINTS) == bone):
            turned_axes[:, angle] = np.einsum("ijfn,jf->ifn", frame, axes[:, angle])
            skew = _skew(axes[:, angle])
            square = np.einsum("ijf,jkf->ikf", skew, skew)
            turn = skew[..., None] * sine[angle] + square[..., None] * versine[angle]  # Rodrigues, less the identity
            frame = frame + np.einsum("ijfn,jkfn->ikfn", frame, turn)
    return keypoints, turned_axes


class ArrowProblem:
    """The least-squares problem of one hand; every method takes the frames that it is to work on."""

    def __init__(self, geometry: FingerGeometry, landmark_noise: float, landmark_tilt: float, prior: float):
        """Sigmas of the landmarks in metres and of their common tilt in radians; weight of the usual angles."""
        self.geometry = geometry
        self._landmark_noise = landmark_noise
        self._tilt_pull = 1.0 / landmark_tilt
        self._usual_pull = np.where(FREE, prior / np.where(FREE, USUAL_SPREAD, 1.0), 0.0).T[..., None]

    def look(self, seen: Measurements, pose: Pose) -> Sight:
        """Residuals and robust cost of a pose."""
        keypoints, axes = forward(self.geometry, pose.wrist, pose.angles)
        landmarks = _PLACES @ keypoints
        tilted = np.einsum("ijn,jkn->ikn", _matrix(pose.tilt), seen.landmarks)
        space = (landmarks + pose.shift[:, None] - tilted) / self._landmark_noise
        placed = landmarks + pose.position[:, None]
        image = (placed[:2] / np.maximum(placed[2], NEAREST) - seen.ray) / seen.ray_noise

        surprise = np.log1p(_square(space) / _CAUCHY**2) + np.log1p(_square(image) / _CAUCHY**2)
        cost = _CAUCHY**2 * np.einsum("kn,kn->n", seen.trust, surprise)
        unusual = self._usual_pull * (pose.angles - _per_angle(USUAL))
        beyond = _LIMIT_STIFFNESS * _beyond_limits(pose.angles)
        cost += np.einsum("afn,afn->n", unusual, unusual) + np.einsum("afn,afn->n", beyond, beyond)
        cost += _square(self._tilt_pull * _vector(pose.tilt))
        return Sight(keypoints, landmarks, axes, tilted, space, image, cost)

    def step(
        self, seen: Measurements, pose: Pose, sight: Sight, damping: Array, curved: Array | None = None
    ) -> tuple[Array, Array]:
        """Step of the wrist's unknowns [12, N] and of the angles [5, 5, N], damped by a share [N] of the diagonal.

        Gauss-Newton takes the landmarks to move along straight lines. Frames where `curved` [N] is true also know
        their circles: near the minimum such a step lands, where the straight one overshoots and comes back.
        """
        space_pull, image_pull = _pull(sight.space, seen.trust), _pull(sight.image, seen.trust)
        space, image = space_pull * sight.space, image_pull * sight.image
        scale = space_pull / self._landmark_noise
        glance = _ray_change(sight.landmarks + pose.position[:, None]) * (image_pull / seen.ray_noise)

        # Rows of the Jacobian: d(residual)/d(unknowns of the wrist) of all landmarks, then of the fingers' angles.
        frames = len(damping)
        space_rows = np.zeros((3, 9, 21, frames))  # turn, shift, tilt
        space_rows[:, 0:3] = -_skew(scale * sight.landmarks)
        space_rows[[0, 1, 2], [3, 4, 5]] = scale
        space_rows[:, 6:9] = _skew(scale * sight.tilted)
        image_rows = np.empty((2, 6, 21, frames))  # position, turn
        image_rows[:, 0:3] = glance
        for row in range(2):
            image_rows[row, 3:6] = _cross(sight.landmarks, glance[row])
        move = _finger_change(sight)
        finger_rows = np.empty((5, *move.shape[1:]))
        np.multiply(move, by_finger(scale), out=finger_rows[:3])
        np.einsum("rcfkn,cafkn->rafkn", by_finger(glance), move, out=finger_rows[3:])

        wrist = np.zeros((_WRIST, _WRIST + 1, frames))  # Hessian and gradient
        finger = np.zeros((5, 5 + _WRIST + 1, 5, frames))  # Hessian, coupling with the wrist and gradient
        coupling = finger[:, 5:-1]
        finger[:, :5] = np.einsum("rafkn,rbfkn->abfn", finger_rows, finger_rows)
        for rows, residual, part, fingers in (
            (image_rows, image, _IMAGE_PART, finger_rows[3:]),
            (space_rows, space, _SPACE_PART, finger_rows[:3]),
        ):
            wrist[part, part] += np.einsum("rakn,rbkn->abn", rows, rows)
            wrist[part, -1] += np.einsum("rakn,rkn->an", rows, residual)
            coupling[:, part] += np.einsum("rafkn,rbfkn->abfn", fingers, by_finger(rows))
            finger[:, -1] += np.einsum("rafkn,rfkn->afn", fingers, by_finger(residual))

        beyond = _beyond_limits(pose.angles)
        stiffness = self._usual_pull**2 + _LIMIT_STIFFNESS**2 * (beyond != 0) + _per_angle(np.where(FREE, _FLOOR, 1.0))
        finger[:, -1] += self._usual_pull**2 * (pose.angles - _per_angle(USUAL)) + _LIMIT_STIFFNESS**2 * beyond
        _on_diagonal(finger)[:] = (_on_diagonal(finger) + stiffness) * (1 + damping)
        wrist[TILT, -1] += self._tilt_pull**2 * _vector(pose.tilt)
        _on_diagonal(wrist)[TILT] += self._tilt_pull**2
        _on_diagonal(wrist)[:] = _on_diagonal(wrist) * (1 + damping) + _FLOOR
        if curved is not None:
            space_force = curved * scale * space
            force = space_force + curved * np.einsum("rckn,rkn->ckn", glance, image)
            _add_curvature(wrist, finger, sight, move=move, force=force, space_force=space_force)
        return _solve_arrow(wrist, finger)


def _add_curvature(wrist: Array, finger: Array, sight: Sight, *, move: Array, force: Array, space_force: Array) -> None:
    """Second derivatives of the landmarks, weighed by the forces [3, 21, N] that pull at them.

    Turning joint i turns the circle on which joint j beyond it moves a landmark: d2(landmark) = axis_i x move_j
    (Featherstone 2008, chapter 2). The wrist is a joint before all others.
    """
    torque = _cross(move, by_finger(force)[:, None]).sum(axis=-2)
    circles = np.einsum("cafn,cbfn->abfn", sight.axes, torque)
    for angle in range(5):
        finger[angle, angle:5] += circles[angle, angle:]
        finger[angle + 1 : 5, angle] += circles[angle, angle + 1 :]
    finger[:, 5:-1][:, TURN] += torque.swapaxes(0, 1)
    for part, arm, pull in ((TURN, sight.landmarks, force), (TILT, sight.tilted, -space_force)):
        moment = np.einsum("akn,bkn->abn", arm, pull)
        wrist[part, part] += 0.5 * (moment + moment.swapaxes(0, 1))
        _on_diagonal(wrist)[part] -= np.trace(moment)


def stop_at_limits(angles: Array, step: Array) -> Array:
    """Shorten steps [5, 5, N] that would leave the range of an angle: the next step has to feel the limit first."""
    aim = angles + step
    lowest, highest = _per_angle(LOWEST) - _TOUCH, _per_angle(HIGHEST) + _TOUCH
    aim = np.where((angles < highest) & (aim > highest), highest, aim)
    aim = np.where((angles > lowest) & (aim < lowest), lowest, aim)
    return aim - angles


def _solve_arrow(wrist: Array, finger: Array) -> tuple[Array, Array]:
    """Eliminate the fingers [5, 5 + 12 + 1, 5 fingers, N], solve the wrist [12, 12 + 1, N], go back to the fingers."""
    solved = solve(finger.copy())  # [5, 13, 5, N]
    wrist = wrist - np.einsum("awfn,avfn->wvn", finger[:, 5:-1], solved)
    step_wrist = -solve(wrist)[:, 0]
    step_angles = -solved[:, -1] - np.einsum("awfn,wn->afn", solved[:, :-1], step_wrist)
    return step_wrist, np.clip(step_angles, -_LARGEST_STEP, _LARGEST_STEP)


def solve(system: Array) -> Array:
    """Solutions [n, m, ..., N] of systems [n, n + m, ..., N], matrix and right sides side by side; overwrites them.

    Gauss-Jordan; a positive definite matrix needs no pivots.
    """
    size = len(system)
    for i in range(size):
        system[i, i + 1 :] /= system[i, i]
        for others in (slice(0, i), slice(i + 1, size)):
            system[others, i + 1 :] -= system[others, i, None] * system[i, i + 1 :]
    return system[:, size:]


def by_finger(rows: Array) -> Array:
    """Rows [..., 21, N] of all but the wrist as [..., 5 fingers, 4, N]; a view."""
    return rows[..., 1:, :].reshape(*rows.shape[:-2], 5, 4, rows.shape[-1])


def _finger_change(sight: Sight) -> Array:
    """d(landmark)/d(angle) [3, 5 angles, 5 fingers, 4, N] = axis x (landmark - joint) beyond the joint."""
    joints = by_finger(sight.keypoints)[:, :, list(ANGLE_JOINTS)].swapaxes(1, 2)
    lever = by_finger(sight.landmarks)[:, None] - joints[:, :, :, None]
    lever *= _REACH[..., None]
    return _cross(sight.axes[:, :, :, None], lever)


def _ray_change(placed: Array) -> Array:
    """d(x/z, y/z)/d(x, y, z) [2, 3, 21, N] of points [3, 21, N]."""
    inverse_depth = 1.0 / np.maximum(placed[2], NEAREST)
    change = np.zeros((2, *placed.shape))
    change[0, 0] = change[1, 1] = inverse_depth
    change[:, 2] = -placed[:2] * inverse_depth**2
    return change


def _pull(residual: Array, trust: Array) -> Array:
    """Square root of trust and Cauchy weight [21, N] of residuals [D, 21, N]."""
    return np.sqrt(trust / (1 + _square(residual) / _CAUCHY**2))


def _beyond_limits(angles: Array) -> Array:
    return np.maximum(angles - _per_angle(HIGHEST), 0) + np.minimum(angles - _per_angle(LOWEST), 0)


def _on_diagonal(system: Array) -> Array:
    """The diagonal [n, ..., N] of systems [n, n + m, ..., N]; a view."""
    return np.einsum("ii...->i...", system[:, : len(system)])


def _per_angle(table: Array) -> Array:
    """A [5 fingers, 5 angles] table beside angles [5, 5, N]."""
    return table.T[..., None]


def _square(vectors: Array) -> Array:
    return np.einsum("i...,i...->...", vectors, vectors)


def _cross(a: Array, b: Array) -> Array:
    product = np.empty((3, *np.broadcast_shapes(a.shape[1:], b.shape[1:])))
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        product[i] = a[j] * b[k]
        product[i] -= a[k] * b[j]
    return product


def _skew(vector: Array) -> Array:
    x, y, z = vector
    zero = np.zeros_like(x)
    return np.stack([np.stack([zero, -z, y]), np.stack([z, zero, -x]), np.stack([-y, x, zero])])


def _matrix(quaternion: Array) -> Array:
    return np.ascontiguousarray(np.moveaxis(rotations.to_matrix(quaternion.T), 0, -1))


def _vector(quaternion: Array) -> Array:
    return rotations.to_rotation_vector(quaternion.T).T


def turned(quaternion: Array, step: Array) -> Array:
    """Quaternions [4, N] after turns by rotation vectors [3, N] in camera axes."""
    return rotations.multiply(rotations.from_rotation_vector(step.T), quaternion.T).T
