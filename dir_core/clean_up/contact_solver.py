"""The small pose corrections that push touching hands apart, while the key points hardly move in the picture.

A linear complementarity problem per frame: contacts push and never pull, hinges stop at their bounds. numpy and scipy.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from dir_core import rotations
from dir_core.clean_up.capsules import COUNT, FINGER, RANK, HandCapsules, PlacedHand, place_capsules
from dir_core.clean_up.touch import Pairs, Touch, find_near, find_touch, watch_pairs
from dir_core.conventions import FINGERS, KEYPOINTS
from dir_core.degrees_of_freedom import ANGLE_JOINTS, HIGHEST, LOWEST, angles_from_rotations, rotations_from_angles

Array = NDArray[Any]

_CONTACT_NOISE = 0.0002  # metres of penetration; small, because 42 key points pull the other way
_PIXEL_NOISE = 0.02  # of the hand length in the image, at confidence 1
_MOVE_PRIOR = 0.03  # metres
_FURTHEST = 0.03  # metres a wrist moves at most: deeper is no contact but a wrong pose
_BEND_PRIOR = 0.25  # radians
_SPREAD_PRIOR = 0.1
_PIVOTS = 8  # at most; which contacts act is usually found in three
_STOPS = 2  # times per step that variables may stop at their bounds and the forces are found anew
_PASSED = 1e-4  # radians past a bound that stop a variable
_NEAR = 0.004  # metres apart at which capsules are watched during a round
BLOCK = 512  # frames searched or solved together, so that memory does not grow with the clip

_ANGLES = (0, 1, 3, 4)  # bend and spread of a finger, as columns of ANGLES; twist moves nothing
_RANKS = np.array(ANGLE_JOINTS)[list(_ANGLES)]  # the joint of the finger that each of them turns
VARIABLES = 3 + 5 * len(_ANGLES)  # per side: the wrist's position, then four angles per finger
_PRIOR = np.array([_MOVE_PRIOR] * 3 + 5 * [_BEND_PRIOR, _SPREAD_PRIOR, _BEND_PRIOR, _BEND_PRIOR])

PoseArrays = tuple[Array, Array]
"""Rotation [N, 16, 4] and translation [N, 3] of one side."""


@dataclass(frozen=True, eq=False)
class HingedHands:
    """The hands of N frames as hinge angles and what their rotations hold beyond them.

    Attributes:
        capsules: of every side.
        poses: uncorrected, of every side.
        angles: [N, 5, 5] of every side.
        remainder: [N, 16, 4] of every side: rotation = rotation of the angles, after this one.
    """

    capsules: list[HandCapsules]
    poses: list[PoseArrays]
    angles: list[Array]
    remainder: list[Array]

    @classmethod
    def at(cls, frames: Array, capsules: list[HandCapsules], poses: list[PoseArrays]) -> "HingedHands":
        """The hands of the clip in some of its frames."""
        chosen = [(rotation[frames], translation[frames]) for rotation, translation in poses]
        angles = [angles_from_rotations(hand.geometry, r) for hand, (r, _) in zip(capsules, chosen, strict=True)]
        remainder = [
            rotations.multiply(rotations.inverse(rotations_from_angles(hand.geometry, r[:, 0], a)), r)
            for hand, (r, _), a in zip(capsules, chosen, angles, strict=True)
        ]
        return cls(capsules, chosen, angles, remainder)

    def turned(self, correction: Array) -> list[Array]:
        """Hinge angles [N, 5, 5] of every side after a correction [N, S V]."""
        turned = [angles.copy() for angles in self.angles]
        for angles, part in zip(turned, _by_side(correction), strict=True):
            angles[..., _ANGLES] += part[:, 3:].reshape(-1, 5, len(_ANGLES))
        return turned

    def correct(self, correction: Array) -> list[PoseArrays]:
        """Poses of every side after a correction [N, S V]."""
        corrected = []
        for hand, pose, angles, remainder, part in zip(
            self.capsules, self.poses, self.turned(correction), self.remainder, _by_side(correction), strict=True
        ):
            rotation = rotations.multiply(rotations_from_angles(hand.geometry, pose[0][:, 0], angles), remainder)
            rotation[:, 0] = pose[0][:, 0]
            corrected.append((rotation, pose[1] + part[:, :3]))
        return corrected

    def place(self, correction: Array) -> list[PlacedHand]:
        """Both hands in space after a correction [N, S V]."""
        return [place_capsules(hand, *pose) for hand, pose in zip(self.capsules, self.correct(correction), strict=True)]

    def bounds(self) -> tuple[Array, Array]:
        """Lowest and highest correction [N, S V]; every angle stays in its range or where it is."""
        low, high = [], []
        for angles in self.angles:
            now = angles[..., _ANGLES]
            free = np.full((len(now), 3), _FURTHEST)
            room = np.minimum(LOWEST[:, _ANGLES] - now, 0.0), np.maximum(HIGHEST[:, _ANGLES] - now, 0.0)
            low.append(np.concatenate([-free, room[0].reshape(len(now), -1)], axis=1))
            high.append(np.concatenate([free, room[1].reshape(len(now), -1)], axis=1))
        return np.concatenate(low, axis=1), np.concatenate(high, axis=1)


def pose_problems(
    depth: Array,
    capsules: list[HandCapsules],
    pairs: Pairs,
    *,
    poses: list[PoseArrays],
    confidence: list[Array],
    camera_matrix: Array,
) -> list["_Problem"]:
    """What to solve for penetrations [1 + S, T]: each hand alone where only its fingers touch, else both together."""
    together = depth[0] > 0
    wanted: list[tuple[tuple[int, ...], Array]] = [(tuple(range(len(capsules))), together)]
    wanted += [((side,), (depth[1 + side] > 0) & ~together) for side in range(len(capsules))]
    return [
        _Problem.at_rest(
            who,
            block,
            capsules=capsules,
            pairs=pairs,
            poses=poses,
            confidence=confidence,
            camera_matrix=camera_matrix,
        )
        for who, when in wanted
        if when.any()
        for block in np.array_split(np.flatnonzero(when), 1 + when.sum() // BLOCK)
    ]


def _by_side(correction: Array) -> list[Array]:
    """[N, S V] -> per side [N, V]."""
    return np.split(correction, correction.shape[1] // VARIABLES, axis=1)


@dataclass(frozen=True, eq=False)
class _Problem:
    """The least-squares problem of one hand or of both in N frames.

    Attributes:
        frames: [N] of the clip.
        columns: [S V] of the clip's correction that these hands have.
        hands: before the correction.
        pairs: the capsules to keep apart.
        mobility: [N, S, V, V] inverse of the normal matrix of picture and prior, per side.
        limits: [N, S V] lowest and highest correction.
    """

    frames: Array
    columns: Array
    hands: HingedHands
    pairs: Pairs
    mobility: Array
    limits: tuple[Array, Array]

    @classmethod
    def at_rest(
        cls,
        sides: tuple[int, ...],
        frames: Array,
        *,
        capsules: list[HandCapsules],
        pairs: Pairs,
        poses: list[PoseArrays],
        confidence: list[Array],
        camera_matrix: Array,
    ) -> "_Problem":
        """The problem around uncorrected hands: some frames and sides of the clip."""
        hands = HingedHands.at(frames, [capsules[side] for side in sides], [poses[side] for side in sides])
        still = np.zeros((len(frames), len(sides) * VARIABLES))
        placed = hands.place(still)
        axes = _hinge_axes(hands.capsules, placed, hands.angles)
        resistance = []
        for side, trust in enumerate(confidence[side][frames] for side in sides):
            moves = _pixel_moves(placed[side], axes[side], camera_matrix)
            weight = trust / (_PIXEL_NOISE * hand_pixels(hands.capsules[side], placed[side], camera_matrix)[:, None])
            moves = (moves * weight[..., None, None]).reshape(len(moves), 2 * len(KEYPOINTS), VARIABLES)
            resistance.append(moves.swapaxes(1, 2) @ moves + np.diag(_PRIOR**-2.0))
        free = slice(3 if len(sides) == 1 else 0, None)  # a wrist need not move for its own fingers
        mobility = np.zeros((len(frames), len(sides), VARIABLES, VARIABLES))
        mobility[..., free, free] = np.linalg.inv(np.stack(resistance, axis=1)[..., free, free])
        return cls(
            frames=frames,
            columns=np.concatenate([np.arange(side * VARIABLES, (side + 1) * VARIABLES) for side in sides]),
            hands=hands,
            pairs=pairs if len(sides) > 1 else watch_pairs(hands.capsules),
            mobility=mobility,
            limits=hands.bounds(),
        )

    def solve(self, correction: Array, steps: int) -> Array:
        """A better correction [N, S V], after some steps.

        Around the present one the depth of a pair is d + J (x - x0). The minimum of x' R x + sum max(depth, 0)^2 / s^2
        is x = -R^-1 J' f with contact forces f >= 0 that solve (J R^-1 J' + s^2) f = d - J x0 where they act.
        """
        near = None
        bounded = _Bounded(self.mobility.copy(), np.zeros_like(correction), *self.limits)
        for _ in range(steps):
            placed = self.hands.place(correction)
            ends = np.concatenate([hand.ends for hand in placed], axis=1)
            near = near or find_near(ends, self.pairs, _NEAR)
            touch = find_touch(ends, self.pairs, *near, _NEAR)
            rows = self._lever(touch, placed, correction)
            linear = touch.depth - np.einsum("mv,mv->m", rows, correction[touch.frame])
            lever, depth = _pack_by_frame(touch.frame, rows, linear, len(correction))
            correction = bounded.relax(lever, depth)
        return correction

    def _lever(self, touch: Touch, placed: list[PlacedHand], correction: Array) -> Array:
        """Change [M, S V] of every depth with the correction."""
        axes = _hinge_axes(self.hands.capsules, placed, self.hands.turned(correction))
        hinge = np.stack(axes, axis=1)  # [N, S, 5, 4, 3]
        origin = np.stack([hand.places[:, :, _RANKS] for hand in placed], axis=1)
        rows = np.zeros((len(touch.frame), correction.shape[1]))
        row = np.arange(len(rows))[:, None]
        for capsule, point, force in (
            (self.pairs.first[touch.pair], touch.start, touch.normal),
            (self.pairs.second[touch.pair], touch.end, -touch.normal),
        ):
            side, finger, rank = capsule // COUNT, FINGER[capsule % COUNT], RANK[capsule % COUNT]
            start = (side * VARIABLES)[:, None]
            rows[row, start + np.arange(3)] += force
            arm = point[:, None] - origin[touch.frame, side, finger]
            gain = np.einsum("mad,mad->ma", hinge[touch.frame, side, finger], np.cross(arm, force[:, None]))
            # The palm (rank -1) is moved by no hinge; its finger -1 only fills the place.
            gain *= rank[:, None] >= _RANKS
            rows[row, start + 3 + (finger % 5 * len(_ANGLES))[:, None] + np.arange(len(_ANGLES))] += gain
        return rows


@dataclass(frozen=True, eq=False)
class _Bounded:
    """The easiest correction under contact forces, with variables that stop at their bounds.

    Attributes:
        mobility: [N, S, V, V] answer of the free variables to a force; zero for the stopped ones.
        rest: [N, S V] the correction without forces, which is not 0 once a variable has stopped elsewhere.
        lowest, highest: [N, S V] bounds.
    """

    mobility: Array
    rest: Array
    lowest: Array
    highest: Array

    def relax(self, lever: Array, depth: Array) -> Array:
        """The correction [N, S V] for levers [N, K, S V] of depths [N, K]; what passes its bound stops for good."""
        correction = np.empty_like(self.rest)
        frames = np.arange(len(depth))
        for _ in range(_STOPS):
            moved = self._press(frames, lever[frames], depth[frames])
            bound = np.clip(moved, self.lowest[frames], self.highest[frames])
            correction[frames] = bound
            passed = np.abs(moved - bound) > _PASSED
            for variable in np.flatnonzero(passed.any(axis=0)):
                stopped = passed[:, variable]
                self._stop(variable, frames[stopped], bound[stopped, variable])
            frames = frames[passed.any(axis=1)]
            if len(frames) == 0:
                break
        return correction

    def _press(self, frames: Array, lever: Array, depth: Array) -> Array:
        """The correction [n, S V] of some frames without regard to bounds."""
        count, contacts = depth.shape
        split = lever.reshape(count, contacts, self.mobility.shape[1], VARIABLES).swapaxes(1, 2)  # [n, S, K, V]
        response = self.mobility[frames] @ split.swapaxes(-1, -2)  # [n, S, V, K]
        rest = self.rest[frames]
        force = _solve_forces((split @ response).sum(axis=1), depth + np.squeeze(lever @ rest[..., None], -1))
        moved: Array = rest - np.squeeze(response @ force[:, None, :, None], -1).reshape(count, -1)
        return moved

    def _stop(self, variable: int, frames: Array, bound: Array) -> None:
        """Hold a variable at its bound: the others are what they are when it is known (Gaussian conditioning)."""
        side, row = divmod(variable, VARIABLES)
        own = slice(side * VARIABLES, (side + 1) * VARIABLES)
        column = self.mobility[frames, side, :, row]
        answer = column / np.maximum(column[:, row : row + 1], 1e-12)
        missing = bound - self.rest[frames, variable]
        self.rest[frames, own] += answer * missing[:, None]
        self.mobility[frames, side] -= answer[:, :, None] * column[:, None, :]


def _hinge_axes(capsules: list[HandCapsules], placed: list[PlacedHand], angles: list[Array]) -> list[Array]:
    """Axes [N, 5, 4, 3] in camera axes about which the four angles of every finger turn, per side."""
    axes = []
    for hand, at, turned in zip(capsules, placed, angles, strict=True):
        local = hand.geometry.axes
        bend = rotations.from_rotation_vector(turned[..., :1] * local[:, 0])
        spread = rotations.rotate(bend, np.broadcast_to(local[:, 1], (*turned.shape[:2], 3)))
        first = np.stack([np.broadcast_to(local[:, 0], spread.shape), spread], axis=2) @ at.wrist[:, None].swapaxes(
            -1, -2
        )
        outer = np.squeeze(at.turns[:, :, :2] @ local[:, 3:, :, None], -1)
        axes.append(np.concatenate([first, outer], axis=2))
    return axes


def _pixel_moves(placed: PlacedHand, axes: Array, camera_matrix: Array) -> Array:
    """Change [N, 21, 2, V] of the key points' pixels with the correction of one side."""
    frames = len(axes)
    fingers = placed.places.reshape(frames, 20, 3)
    points = np.concatenate([placed.translation[:, None], fingers], axis=1)
    depth = points[..., 2]
    view = np.zeros((frames, 21, 2, 3))
    for axis in range(2):
        view[..., axis, axis] = camera_matrix[axis, axis] / depth
        view[..., axis, 2] = -camera_matrix[axis, axis] * points[..., axis] / depth**2
    moves = np.zeros((frames, 21, 2, VARIABLES))
    moves[..., :3] = view
    arm = placed.places[:, :, :, None] - placed.places[:, :, None, _RANKS]  # [N, 5, point, angle, 3]
    arm *= (np.arange(4)[:, None] > _RANKS)[..., None]
    lever = np.cross(axes[:, :, None], arm)
    turned = view[:, 1:].reshape(frames, 5, 4, 2, 3) @ lever.swapaxes(-1, -2)
    for finger in range(5):
        columns = 3 + len(_ANGLES) * finger
        moves[:, 1 + 4 * finger : 5 + 4 * finger, :, columns : columns + len(_ANGLES)] = turned[:, finger]
    return moves


def hand_pixels(capsules: HandCapsules, placed: PlacedHand, camera_matrix: Array) -> Array:
    """Length [N] of the hand in the image if it were held across the line of sight."""
    length = np.linalg.norm(capsules.geometry.offsets[FINGERS.index("middle")], axis=-1).sum()
    pixels: Array = abs(camera_matrix[0, 0]) * length / placed.translation[:, 2]
    return pixels


def _solve_forces(coupling: Array, depth: Array) -> Array:
    """Contact forces [N, K] >= 0 for couplings [N, K, K] and depths [N, K], zero where a pair comes apart.

    Source: block principal pivoting for linear complementarity problems, Judice & Pires 1994.
    """
    give = coupling + _CONTACT_NOISE**2 * np.eye(depth.shape[1])
    active = depth > 0
    force = np.zeros_like(depth)
    open_frames = np.arange(len(depth))
    for _ in range(_PIVOTS):
        chosen = active[open_frames]
        force[open_frames] = _solve_active(give[open_frames], depth[open_frames], chosen)
        left = depth[open_frames] - np.squeeze(give[open_frames] @ force[open_frames, :, None], -1)
        wrong = np.where(chosen, force[open_frames] <= 0, left > 0)
        active[open_frames] = chosen ^ wrong
        open_frames = open_frames[wrong.any(axis=1)]
        if len(open_frames) == 0:
            break
    # Exchanging many contacts at once is fast and seldom runs in circles; there the slow way is safe.
    for frame in open_frames:
        root = np.linalg.cholesky(give[frame])
        force[frame] = nnls(root.T, np.linalg.solve(root, depth[frame]))[0]
    return force


def _solve_active(give: Array, depth: Array, active: Array) -> Array:
    """Forces [N, K] of the active contacts alone."""
    count = int(active.sum(axis=1).max(initial=0))
    order = np.argsort(~active, axis=1, kind="stable")[:, :count]
    used = np.take_along_axis(active, order, axis=1)
    rows = np.arange(len(give))[:, None]
    small = np.where(
        used[:, :, None] & used[:, None, :], give[rows[..., None], order[:, :, None], order[:, None, :]], np.eye(count)
    )
    force = np.zeros_like(depth)
    force[rows, order] = np.linalg.solve(small, np.where(used, depth[rows, order], 0.0)[..., None])[..., 0]
    return force


def _pack_by_frame(frame: Array, rows: Array, values: Array, frames: int) -> tuple[Array, Array]:
    """Rows [M, C] and values [M] as [frames, K, C] and [frames, K], filled up with zeros."""
    order = np.argsort(frame, kind="stable")
    count = np.bincount(frame, minlength=frames)
    first = np.cumsum(count) - count
    place = np.arange(len(frame)) - first[frame[order]]
    packed = np.zeros((frames, int(count.max(initial=0)), rows.shape[1]))
    packed[frame[order], place] = rows[order]
    packed_values = np.zeros(packed.shape[:2])
    packed_values[frame[order], place] = values[order]
    return packed, packed_values
