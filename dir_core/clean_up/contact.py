"""Hands that do not pass through each other, nor fingers through their own hand. numpy and scipy only.

Both hands are capsules (capsules.py). Where capsules overlap by more than soft tissue gives way, the wrists
move a little and the fingers bend and spread a little, such that the key points hardly move in the picture:
along the line of sight a hand is free, across it is not. The correction begins and ends smoothly in time,
and a frame without contact near it is not touched.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from dir_core import rotations
from dir_core.camera import project
from dir_core.clean_up.capsules import (
    BONES,
    COUNT,
    FINGER,
    RANK,
    HandCapsules,
    PlacedHand,
    closest_points,
    fit_capsules,
    place_capsules,
)
from dir_core.conventions import FINGERS, JOINTS, KEYPOINTS, Side
from dir_core.degrees_of_freedom import ANGLE_JOINTS, HIGHEST, LOWEST, angles_from_rotations, rotations_from_angles
from dir_core.hand_model import HandModel

Array = NDArray[Any]

SOFT_TISSUE: Final = 0.002
"""Metres that skin gives way: an overlap up to this is contact, not penetration."""

EASE: Final = 0.15
"""Seconds before the first and after the last frame of a contact over which a correction comes and goes."""

LARGEST_MOVE: Final = 0.028
"""Share of the hand length beyond which no confident key point moves in the picture, contact or not."""

_CAP_SHARPNESS = 6  # power with which a correction is held back before that; smooth, so that nothing pops
_CONTACT_NOISE = 0.0002  # metres of penetration; small, because 42 key points pull the other way
_PIXEL_NOISE = 0.02  # of the hand length in the image, at confidence 1
_MOVE_PRIOR = 0.03  # metres
_FURTHEST = 0.03  # metres a wrist moves at most: deeper is no contact but a wrong pose
_BEND_PRIOR = 0.25  # radians
_SPREAD_PRIOR = 0.1
_ITERATIONS = (2, 1, 1)  # steps to solve; eased in time, one more for what the easing gave away, twice
_PIVOTS = 8  # at most; which contacts act is usually found in three
_CONFIDENT = 0.5  # key points seen at least this well are reported when they move
_STOPS = 2  # times per step that variables may stop at their bounds and the forces are found anew
_PASSED = 1e-4  # radians past a bound that stop a variable
_NEAR = 0.004  # metres apart at which capsules are watched during a round
_BLOCK = 512  # frames searched or solved together, so that memory does not grow with the clip

_ANGLES = (0, 1, 3, 4)  # bend and spread of a finger, as columns of ANGLES; twist moves nothing
_RANKS = np.array(ANGLE_JOINTS)[list(_ANGLES)]  # the joint of the finger that each of them turns
_VARIABLES = 3 + 5 * len(_ANGLES)  # per side: the wrist's position, then four angles per finger
_PRIOR = np.array([_MOVE_PRIOR] * 3 + 5 * [_BEND_PRIOR, _SPREAD_PRIOR, _BEND_PRIOR, _BEND_PRIOR])


class Hand(Protocol):
    """One hand of T frames in camera axes."""

    @property
    def rotation(self) -> Array:
        """[T, 16, 4] quaternions in MANO joint order."""

    @property
    def translation(self) -> Array:
        """[T, 3] wrist, metres."""

    @property
    def shape(self) -> Array:
        """[10] shape components."""

    @property
    def scale(self) -> float:
        """Size factor."""


@dataclass(frozen=True, eq=False)
class Penetration:
    """How deep capsules lie in each other beyond soft tissue, metres; 0 where they do not.

    Attributes:
        between: [T] the two hands.
        within: per side [T], the fingers and the palm of one hand.
    """

    between: Array
    within: dict[Side, Array]

    @property
    def deepest(self) -> Array:
        """[T] whichever is deeper."""
        return np.max([self.between, *self.within.values()], axis=0)


@dataclass(frozen=True, eq=False)
class PartedHand:
    """A corrected hand: rotation [T, 16, 4] and translation [T, 3]."""

    rotation: Array
    translation: Array


@dataclass(frozen=True, eq=False)
class Parted:
    """Both hands after the correction.

    Attributes:
        hands: the corrected hand of every side that was given.
        before, after: penetration.
        moved: [T] largest move of a key point in the picture whose confidence is at least 0.5, as a share of
            the hand length.
    """

    hands: dict[Side, PartedHand]
    before: Penetration
    after: Penetration
    moved: Array


def measure_penetration(hands: Mapping[Side, Hand], models: Mapping[Side, HandModel]) -> Penetration:
    """How deep hands lie in each other and in themselves, frame by frame, after allowing for soft tissue.

    Bones of one finger and what overlaps in the flat hand, such as neighbouring knuckles, do not count.

    Args:
        hands: one or both sides over T frames.
        models: the hand model of each side.
    """
    sides = tuple(hands)
    capsules = [fit_capsules(models[side], hands[side].shape, hands[side].scale) for side in sides]
    poses = [(_float(hands[side].rotation), _float(hands[side].translation)) for side in sides]
    pairs = _watch_pairs(capsules)
    return _as_penetration(sides, _measure(capsules, pairs, poses))


def separate_hands(
    hands: Mapping[Side, Hand],
    models: Mapping[Side, HandModel],
    camera_matrix: Array,
    confidence: Mapping[Side, Array],
    time: Array,
    *,
    fingers: bool = True,
) -> Parted:
    """Move hands and fingers out of each other.

    Squared penetration, squared moves of the key points in the picture and squared corrections are minimised
    together, frame by frame. The corrections are then eased in time, and what the easing gave away
    is solved for again. Angles never leave their range, or never further than they already have.

    Args:
        hands: one or both sides over T frames. A side without any confidence takes no part.
        models: the hand model of each side.
        camera_matrix: [3, 3] pixels.
        confidence: [T, 21] of the key points per side; a hand that is seen badly moves more.
        time: [T] seconds.
        fingers: also part the fingers of each hand from each other and from its palm.

    Returns:
        The hands, bit-identical in all frames without penetration within `EASE` seconds, and what was done.
    """
    parted = {
        side: PartedHand(_float(hand.rotation).copy(), _float(hand.translation).copy()) for side, hand in hands.items()
    }
    sides = tuple(side for side in hands if np.any(confidence[side]))
    if not sides:
        still = np.zeros(len(time))
        return Parted(parted, Penetration(still, {}), Penetration(still, {}), still)
    capsules = [fit_capsules(models[side], hands[side].shape, hands[side].scale) for side in sides]
    pairs = _watch_pairs(capsules)
    if not fingers:
        pairs = pairs.only(pairs.group == 0)
    poses = [(parted[side].rotation, parted[side].translation) for side in sides]
    trust = [_float(confidence[side]) for side in sides]
    before = _measure(capsules, pairs, poses)
    problems = _pose_problems(before, capsules, pairs, poses=poses, confidence=trust, camera_matrix=camera_matrix)
    if not problems:
        depth = _as_penetration(sides, before)
        return Parted(parted, depth, depth, np.zeros(len(time)))
    correction = np.zeros((len(time), len(sides) * _VARIABLES))
    for steps in _ITERATIONS:
        missing = np.zeros_like(correction)
        for problem in problems:
            rows = np.ix_(problem.frames, problem.columns)
            missing[rows] = problem.solve(correction[rows], steps) - correction[rows]
        correction += _ease(missing, time)

    changed = np.flatnonzero(correction.any(axis=1))
    hinged = _HingedHands.at(changed, capsules, poses)
    seen = [t[changed] for t in trust]
    given = hinged.place(np.zeros_like(correction[changed]))
    wanted = _largest_move(capsules, given, hinged.place(correction[changed]), seen, camera_matrix)
    correction[changed] /= (1.0 + (wanted / LARGEST_MOVE) ** _CAP_SHARPNESS)[:, None] ** (1.0 / _CAP_SHARPNESS)
    after, moved = before.copy(), np.zeros(len(time))
    placed = hinged.place(correction[changed])
    after[:, changed] = _deepest(placed, pairs)
    moved[changed] = _largest_move(capsules, given, placed, seen, camera_matrix)
    for side, (rotation, translation) in zip(sides, hinged.correct(correction[changed]), strict=True):
        parted[side].rotation[changed] = rotation
        parted[side].translation[changed] = translation
    return Parted(parted, _as_penetration(sides, before), _as_penetration(sides, after), moved)


_Pose = tuple[Array, Array]
"""Rotation [N, 16, 4] and translation [N, 3] of one side."""


@dataclass(frozen=True, eq=False)
class _Pairs:
    """The P pairs of capsules that are watched; capsule 19 s + c is capsule c of the s-th side.

    Attributes:
        first, second: [P] capsules.
        thickness: [P] metres between the axes below which a pair penetrates.
        reach: [P] metres between the middles beyond which it cannot.
        group: [P] 0 between the hands, 1 + s within the s-th.
    """

    first: Array
    second: Array
    thickness: Array
    reach: Array
    group: Array

    def only(self, kept: Array) -> "_Pairs":
        """Those pairs where `kept` [P] is True."""
        return _Pairs(**{field.name: getattr(self, field.name)[kept] for field in fields(self)})


def _watch_pairs(capsules: list[HandCapsules]) -> _Pairs:
    index, other = (side.ravel() for side in np.indices((len(capsules) * COUNT,) * 2))
    side, other_side = index // COUNT, other // COUNT
    finger, other_finger = FINGER[index % COUNT], FINGER[other % COUNT]
    # Within a hand: fingers against other fingers, and all but their first bones against the palm.
    palm = (other_finger < 0) & (RANK[index % COUNT] > 0)
    # The flesh of the thumb's second bone lies against the index finger's palm bone whenever it is held close.
    palm &= ~((finger == 0) & (RANK[index % COUNT] == 1) & (other % COUNT == BONES))
    own = (side == other_side) & (finger >= 0) & (palm | (finger < other_finger))
    kept = own | (side < other_side)
    first, second = index[kept], other[kept]
    group = np.where(own, side + 1, 0)[kept]

    radius = np.concatenate([hand.radius for hand in capsules])
    length = np.concatenate([np.linalg.norm(hand.ends[:, 1] - hand.ends[:, 0], axis=-1) for hand in capsules])
    flat = np.concatenate([_flat_ends(hand) for hand in capsules])
    start, end = closest_points(flat[first], flat[second])
    both = radius[first] + radius[second]
    grown = np.where(group > 0, np.maximum(both - np.linalg.norm(end - start, axis=-1), 0.0), 0.0)
    thickness = both - grown - SOFT_TISSUE
    reach = thickness + 0.5 * (length[first] + length[second])
    return _Pairs(first, second, thickness, reach, group)


def _flat_ends(hand: HandCapsules) -> Array:
    """Capsule ends [19, 2, 3] of the flat hand."""
    rotation = np.zeros((1, len(JOINTS), 4))
    rotation[..., 0] = 1.0
    return place_capsules(hand, rotation, np.zeros((1, 3))).ends[0]


def _measure(capsules: list[HandCapsules], pairs: _Pairs, poses: list[_Pose]) -> Array:
    """Deepest penetration [1 + S, T] metres: between the hands, then within each."""
    blocks = [slice(first, first + _BLOCK) for first in range(0, max(len(poses[0][0]), 1), _BLOCK)]
    placed = (
        [place_capsules(hand, r[block], t[block]) for hand, (r, t) in zip(capsules, poses, strict=True)]
        for block in blocks
    )
    return np.concatenate([_deepest(hands, pairs) for hands in placed], axis=1)


def _deepest(placed: list[PlacedHand], pairs: _Pairs) -> Array:
    """Deepest penetration [1 + S, N] of placed hands."""
    ends = np.concatenate([hand.ends for hand in placed], axis=1)
    touch = _find_touch(ends, pairs, *_find_near(ends, pairs, 0.0), 0.0)
    depth = np.zeros((1 + len(placed), len(ends)))
    np.maximum.at(depth, (pairs.group[touch.pair], touch.frame), touch.depth)
    return depth


def _as_penetration(sides: tuple[Side, ...], depth: Array) -> Penetration:
    return Penetration(between=depth[0], within=dict(zip(sides, depth[1:], strict=True)))


def _find_near(ends: Array, pairs: _Pairs, margin: float) -> tuple[Array, Array]:
    """Frames and pairs [M] whose bounding spheres are closer than `margin`; a cheap first test."""
    middle = 0.5 * (ends[:, :, 0] + ends[:, :, 1])
    found = [(np.zeros(0, np.intp), np.zeros(0, np.intp))]
    for group in range(pairs.group.max(initial=0) + 1):
        rows = np.flatnonzero(pairs.group == group)
        if len(rows) == 0:
            continue
        reach = pairs.reach[rows] + margin
        frames = np.arange(len(ends)) if group else _boxes_meet(middle, reach.max())
        near = middle if group else middle[frames]
        distance = np.zeros((len(frames), len(rows)))
        for axis in range(3):
            place = near[:, :, axis]
            distance += (place[:, pairs.first[rows]] - place[:, pairs.second[rows]]) ** 2
        frame, pair = np.nonzero(distance < reach**2)
        found.append((frames[frame], rows[pair]))
    frame, pair = (np.concatenate(part) for part in zip(*found, strict=True))
    return frame, pair


def _boxes_meet(middle: Array, reach: float) -> Array:
    """Frames in which the boxes around the capsules' middles of both hands are closer than `reach`."""
    one, other = middle[:, :COUNT], middle[:, COUNT:]
    low, high = np.maximum(one.min(axis=1), other.min(axis=1)), np.minimum(one.max(axis=1), other.max(axis=1))
    return np.flatnonzero((low - high < reach).all(axis=-1))


@dataclass(frozen=True, eq=False)
class _Touch:
    """M pairs that touch.

    Attributes:
        frame, pair: [M].
        depth: [M] metres, negative while there is room.
        start, end: [M, 3] closest points of the axes of the first and second capsule.
        normal: [M, 3] unit, from start to end.
    """

    frame: Array
    pair: Array
    depth: Array
    start: Array
    end: Array
    normal: Array


def _find_touch(ends: Array, pairs: _Pairs, frame: Array, pair: Array, margin: float) -> _Touch:
    """Those of the near pairs that penetrate or are closer than `margin`."""
    start, end = closest_points(ends[frame, pairs.first[pair]], ends[frame, pairs.second[pair]])
    apart = end - start
    distance = np.sqrt(np.einsum("md,md->m", apart, apart))
    depth = pairs.thickness[pair] - distance
    kept = depth > -margin
    # Axes that cross have no direction apart; such a pair waits for its neighbours to move it.
    normal = apart[kept] / np.maximum(distance[kept], 1e-9)[:, None]
    return _Touch(frame[kept], pair[kept], depth[kept], start[kept], end[kept], normal)


@dataclass(frozen=True, eq=False)
class _HingedHands:
    """The hands of N frames as hinge angles and what their rotations hold beyond them.

    Attributes:
        capsules: of every side.
        poses: uncorrected, of every side.
        angles: [N, 5, 5] of every side.
        remainder: [N, 16, 4] of every side: rotation = rotation of the angles, after this one.
    """

    capsules: list[HandCapsules]
    poses: list[_Pose]
    angles: list[Array]
    remainder: list[Array]

    @classmethod
    def at(cls, frames: Array, capsules: list[HandCapsules], poses: list[_Pose]) -> "_HingedHands":
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

    def correct(self, correction: Array) -> list[_Pose]:
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


def _pose_problems(
    depth: Array,
    capsules: list[HandCapsules],
    pairs: _Pairs,
    *,
    poses: list[_Pose],
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
        for block in np.array_split(np.flatnonzero(when), 1 + when.sum() // _BLOCK)
    ]


def _by_side(correction: Array) -> list[Array]:
    """[N, S V] -> per side [N, V]."""
    return np.split(correction, correction.shape[1] // _VARIABLES, axis=1)


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
    hands: _HingedHands
    pairs: _Pairs
    mobility: Array
    limits: tuple[Array, Array]

    @classmethod
    def at_rest(
        cls,
        sides: tuple[int, ...],
        frames: Array,
        *,
        capsules: list[HandCapsules],
        pairs: _Pairs,
        poses: list[_Pose],
        confidence: list[Array],
        camera_matrix: Array,
    ) -> "_Problem":
        """The problem around uncorrected hands: some frames and sides of the clip."""
        hands = _HingedHands.at(frames, [capsules[side] for side in sides], [poses[side] for side in sides])
        still = np.zeros((len(frames), len(sides) * _VARIABLES))
        placed = hands.place(still)
        axes = _hinge_axes(hands.capsules, placed, hands.angles)
        resistance = []
        for side, trust in enumerate(confidence[side][frames] for side in sides):
            moves = _pixel_moves(placed[side], axes[side], camera_matrix)
            weight = trust / (_PIXEL_NOISE * _hand_pixels(hands.capsules[side], placed[side], camera_matrix)[:, None])
            moves = (moves * weight[..., None, None]).reshape(len(moves), 2 * len(KEYPOINTS), _VARIABLES)
            resistance.append(moves.swapaxes(1, 2) @ moves + np.diag(_PRIOR**-2.0))
        free = slice(3 if len(sides) == 1 else 0, None)  # a wrist need not move for its own fingers
        mobility = np.zeros((len(frames), len(sides), _VARIABLES, _VARIABLES))
        mobility[..., free, free] = np.linalg.inv(np.stack(resistance, axis=1)[..., free, free])
        return cls(
            frames=frames,
            columns=np.concatenate([np.arange(side * _VARIABLES, (side + 1) * _VARIABLES) for side in sides]),
            hands=hands,
            pairs=pairs if len(sides) > 1 else _watch_pairs(hands.capsules),
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
            near = near or _find_near(ends, self.pairs, _NEAR)
            touch = _find_touch(ends, self.pairs, *near, _NEAR)
            rows = self._lever(touch, placed, correction)
            linear = touch.depth - np.einsum("mv,mv->m", rows, correction[touch.frame])
            lever, depth = _pack_by_frame(touch.frame, rows, linear, len(correction))
            correction = bounded.relax(lever, depth)
        return correction

    def _lever(self, touch: _Touch, placed: list[PlacedHand], correction: Array) -> Array:
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
            start = (side * _VARIABLES)[:, None]
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
        split = lever.reshape(count, contacts, -1, _VARIABLES).swapaxes(1, 2)  # [n, S, K, V]
        response = self.mobility[frames] @ split.swapaxes(-1, -2)  # [n, S, V, K]
        rest = self.rest[frames]
        force = _solve_forces((split @ response).sum(axis=1), depth + np.squeeze(lever @ rest[..., None], -1))
        moved: Array = rest - np.squeeze(response @ force[:, None, :, None], -1).reshape(count, -1)
        return moved

    def _stop(self, variable: int, frames: Array, bound: Array) -> None:
        """Hold a variable at its bound: the others are what they are when it is known (Gaussian conditioning)."""
        side, row = divmod(variable, _VARIABLES)
        own = slice(side * _VARIABLES, (side + 1) * _VARIABLES)
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
    moves = np.zeros((frames, 21, 2, _VARIABLES))
    moves[..., :3] = view
    arm = placed.places[:, :, :, None] - placed.places[:, :, None, _RANKS]  # [N, 5, point, angle, 3]
    arm *= (np.arange(4)[:, None] > _RANKS)[..., None]
    lever = np.cross(axes[:, :, None], arm)
    turned = view[:, 1:].reshape(frames, 5, 4, 2, 3) @ lever.swapaxes(-1, -2)
    for finger in range(5):
        columns = 3 + len(_ANGLES) * finger
        moves[:, 1 + 4 * finger : 5 + 4 * finger, :, columns : columns + len(_ANGLES)] = turned[:, finger]
    return moves


def _hand_pixels(capsules: HandCapsules, placed: PlacedHand, camera_matrix: Array) -> Array:
    """Length [N] of the hand in the image if it were held across the line of sight."""
    length = np.linalg.norm(capsules.geometry.offsets[FINGERS.index("middle")], axis=-1).sum()
    pixels: Array = abs(camera_matrix[0, 0]) * length / placed.translation[:, 2]
    return pixels


def _largest_move(
    capsules: list[HandCapsules],
    before: list[PlacedHand],
    after: list[PlacedHand],
    confidence: list[Array],
    camera_matrix: Array,
) -> Array:
    """Largest move [N] of a confident key point in the picture, as a share of the hand length."""
    largest = np.zeros(len(confidence[0]))
    for hand, old, new, trust in zip(capsules, before, after, confidence, strict=True):
        pixels = [
            project(np.concatenate([at.translation[:, None], at.places.reshape(-1, 20, 3)], axis=1), camera_matrix)
            for at in (old, new)
        ]
        move = np.linalg.norm(pixels[1] - pixels[0], axis=-1) / _hand_pixels(hand, old, camera_matrix)[:, None]
        largest = np.maximum(largest, np.where(trust >= _CONFIDENT, move, 0.0).max(axis=1))
    return largest


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


def _ease(correction: Array, time: Array) -> Array:
    """Running mean of corrections [T, C] under a raised cosine that reaches `EASE` seconds to both sides."""
    share = np.gradient(time)[:, None] if len(time) > 1 else np.ones((1, 1))
    total, weight = share * correction, share.copy()
    for offset in range(1, len(time)):
        gap = (time[offset:] - time[:-offset])[:, None]
        if gap.min() >= EASE:
            break
        window = 0.5 + 0.5 * np.cos(np.pi * np.minimum(gap / EASE, 1.0))
        total[:-offset] += window * share[offset:] * correction[offset:]
        total[offset:] += window * share[:-offset] * correction[:-offset]
        weight[:-offset] += window * share[offset:]
        weight[offset:] += window * share[:-offset]
    eased: Array = total / weight
    return eased


def _float(array: Array) -> Array:
    return np.asarray(array, np.float64)
