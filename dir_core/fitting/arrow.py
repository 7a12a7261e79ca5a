"""Damped Gauss-Newton steps of a hinged hand towards its landmarks, many frames at once. numpy only.

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
_FLOOR = 1e-9  # on the diagonal, for frames in which too little was measured

# The unknowns of the wrist.
POSITION, TURN, SHIFT, TILT = slice(0, 3), slice(3, 6), slice(6, 9), slice(9, 12)
_WRIST = 12

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

    def step(self, seen: Measurements, pose: Pose, sight: Sight, damping: Array) -> tuple[Array, Array]:
        """Step of the wrist's unknowns [12, N] and of the angles [5, 5, N], damped by a share [N] of the diagonal."""
        # How firmly a landmark holds on to where it was seen: in space alike in all directions, [21, N], in the image
        # only across its ray, [3, 3, 21, N]. The forces [3, 21, N] pull it there now.
        space_hold = _left_trust(sight.space, seen.trust) / self._landmark_noise**2
        glance = _ray_change(sight.landmarks + pose.position[:, None]) / seen.ray_noise
        pull = _left_trust(sight.image, seen.trust) * glance
        image_hold = np.einsum("rckn,rdkn->cdkn", pull, glance)
        space_force = self._landmark_noise * space_hold * sight.space
        force = space_force + np.einsum("rckn,rkn->ckn", pull, sight.image)

        # Normal equations: whatever moves a landmark meets a force there, and the wrist feels it through the arm.
        finger = np.empty((5, 5 + _WRIST + 1, 5, len(damping)))  # Hessian, coupling with the wrist and gradient
        move = _finger_change(sight)
        in_space = by_finger(space_hold) * move
        met = np.einsum("cdfkn,dafkn->cafkn", by_finger(image_hold), move)
        met += in_space
        finger[:, :5] = np.einsum("cafkn,cbfkn->abfn", move, met)
        arms, tilted_arms = by_finger(sight.landmarks)[:, None], by_finger(sight.tilted)[:, None]
        finger[:, 5:-1] = _feel_at_wrist(met, in_space, arms, tilted_arms).swapaxes(0, 1)
        finger[:, -1] = np.einsum("cafkn,cfkn->afn", move, by_finger(force))

        wrist = np.zeros((_WRIST, _WRIST + 1, len(damping)))  # Hessian and gradient
        arms, tilted_arms = sight.landmarks[:, None], sight.tilted[:, None]
        turn = -_skew(sight.landmarks)
        in_space = space_hold * turn
        met = np.einsum("cdkn,dakn->cakn", image_hold, turn) + in_space
        wrist[:, TURN] = _feel_at_wrist(met, in_space, arms, tilted_arms)
        wrist[TURN, :-1] = wrist[:, TURN].swapaxes(0, 1)
        wrist[POSITION, POSITION] = image_hold.sum(axis=-2)
        _on_diagonal(wrist)[SHIFT] = space_hold.sum(axis=-2)
        against_tilt: Array = space_hold * _skew(sight.tilted)
        wrist[SHIFT, TILT] = against_tilt.sum(axis=-2)
        wrist[TILT, SHIFT] = wrist[SHIFT, TILT].swapaxes(0, 1)
        wrist[TILT, TILT] = -_torque(tilted_arms, against_tilt)
        wrist[:, -1] = _feel_at_wrist(force, space_force, sight.landmarks, sight.tilted)

        beyond = _beyond_limits(pose.angles)
        stiffness = self._usual_pull**2 + _LIMIT_STIFFNESS**2 * (beyond != 0) + _per_angle(np.where(FREE, _FLOOR, 1.0))
        finger[:, -1] += self._usual_pull**2 * (pose.angles - _per_angle(USUAL)) + _LIMIT_STIFFNESS**2 * beyond
        _on_diagonal(finger)[:] = (_on_diagonal(finger) + stiffness) * (1 + damping)
        wrist[TILT, -1] += self._tilt_pull**2 * _vector(pose.tilt)
        _on_diagonal(wrist)[TILT] += self._tilt_pull**2
        _on_diagonal(wrist)[:] = _on_diagonal(wrist) * (1 + damping) + _FLOOR
        return _solve_arrow(wrist, finger)


def _feel_at_wrist(force: Array, space_force: Array, arms: Array, tilted_arms: Array) -> Array:
    """What forces [3, ..., K, N] on K landmarks, and their part in space, do to the wrist's unknowns: [12, ..., N]."""
    felt = np.empty((_WRIST, *force.shape[1:-2], force.shape[-1]))
    felt[SHIFT] = space_force.sum(axis=-2)
    felt[POSITION] = force.sum(axis=-2) - felt[SHIFT]
    felt[TURN] = _torque(arms, force)
    felt[TILT] = -_torque(tilted_arms, space_force)
    return felt


def _torque(arms: Array, force: Array) -> Array:
    """Sum of arm x force [3, ..., N] over landmarks [3, ..., K, N], without the array of the products."""
    moment = np.einsum("a...kn,b...kn->ab...n", arms, force)
    return np.stack([moment[1, 2] - moment[2, 1], moment[2, 0] - moment[0, 2], moment[0, 1] - moment[1, 0]])


def _solve_arrow(wrist: Array, finger: Array) -> tuple[Array, Array]:
    """Eliminate the fingers [5, 5 + 12 + 1, 5 fingers, N], solve the wrist [12, 12 + 1, N], go back to the fingers."""
    _eliminate(finger)
    coupling = finger[:, 5:-1]
    wrist = wrist - np.einsum("awfn,avfn->wvn", _on_diagonal(finger)[:, None] * coupling, finger[:, 5:])
    step_wrist = -solve(wrist)[:, 0]
    finger[:, -1] += np.einsum("awfn,wn->afn", coupling, step_wrist)
    step_angles = -_substitute(finger[:, :5], finger[:, -1:])[:, 0]
    return step_wrist, np.clip(step_angles, -_LARGEST_STEP, _LARGEST_STEP)


def solve(system: Array) -> Array:
    """Solutions [n, m, ..., N] of systems [n, n + m, ..., N], matrix and right sides side by side; overwrites them.

    The matrices are symmetric; positive definite ones need no pivoting (Golub & Van Loan 2013, section 4.2).
    """
    _eliminate(system)
    size = len(system)
    return _substitute(system[:, :size], system[:, size:])


def _eliminate(system: Array) -> None:
    """L D L' of the matrices, in place: D on the diagonal, L' to its right, inv(L D) times the right sides beside."""
    for i in range(len(system)):
        below = slice(i + 1, None)
        system[i, below] /= system[i, i]
        system[below, below] -= system[below, i, None] * system[i, below]


def _substitute(upper: Array, right: Array) -> Array:
    """Solve for right sides [n, m, ..., N], in place, with matrices [n, n, ..., N] that are 1 on the diagonal."""
    for i in range(len(upper) - 2, -1, -1):
        right[i] -= np.einsum("j...n,jm...n->m...n", upper[i, i + 1 :], right[i + 1 :])
    return right


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


def _left_trust(residual: Array, trust: Array) -> Array:
    """Trust [21, N] after the Cauchy weight of residuals [D, 21, N] in sigmas."""
    return trust / (1 + _square(residual) / _CAUCHY**2)


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
