"""Where two hands touch: hands as spheres, sliding one hand onto the other, closing fingers on it. numpy only.

Everything works on N candidates at once. Body axes: x to the person's right, y up, z towards the person's back;
metres. The axis of two is left, right (`conventions.SIDES`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dir_core.clean_up.capsules import BONES, FINGER, RANK, HandCapsules, PlacedHand, fit_capsules, place_turned
from dir_core.conventions import SIDES, Side
from dir_core.degrees_of_freedom import HIGHEST, LOWEST, FingerGeometry, finger_geometry
from dir_core.hand_model import HandModel

Array = NDArray[Any]

_A_FINGER_BONE = 4  # spheres along it, about 10 mm apart
_A_PALM_BONE = 5
_SHARES: Final = [np.linspace(0, 1, _A_FINGER_BONE if bone < BONES else _A_PALM_BONE) for bone in range(len(FINGER))]
_CAPSULE: Final = np.repeat(range(len(FINGER)), [len(shares) for shares in _SHARES])
_SHARE: Final = np.concatenate(_SHARES)
SPHERES: Final = len(_CAPSULE)
SPHERE_FINGER: Final = FINGER[_CAPSULE]
"""[80] finger of every sphere in FINGERS order, -1 for the palm."""
SPHERE_RANK: Final = RANK[_CAPSULE]
"""[80] bone within its finger, -1 for the palm."""

ARM_LENGTH: Final = 1.35
"""Forearm, wrist to elbow, in hand lengths: 25 cm for a hand of 18.5 cm."""

_ARM_SHARES = np.linspace(0.12, 0.95, 8)  # nearer to the wrist the palm's spheres are
_ARM_RADII = np.linspace(0.15, 0.22, 8)  # hand lengths

_CLOSING_STEPS = 9  # poses between open and closed that are tried for the first contact


@dataclass(frozen=True, eq=False)
class Body:
    """The hands of one person: the right one's model, capsules (left, right), shape [10 or more] and size."""

    model: HandModel
    capsules: tuple[HandCapsules, HandCapsules]
    shape: Array
    scale: float
    hand_length: float


@dataclass(frozen=True, eq=False)
class Pair:
    """N candidates of two hands in body axes.

    Attributes:
        angles: [N, 2, 5, 5] hinge angles, radians.
        turn: [N, 2, 3, 3] rotation matrices of the wrists.
        place: [N, 2, 3] wrists, metres.
        away: [N, 3] unit direction in which the right hand leaves the left one.
        opened: [N, 2, 5, 5] hinge angles with which the hands come together and part.
    """

    angles: Array
    turn: Array
    place: Array
    away: Array
    opened: Array

    def __len__(self) -> int:
        return len(self.place)

    def take(self, rows: Array) -> "Pair":
        """Some of the candidates."""
        return Pair(self.angles[rows], self.turn[rows], self.place[rows], self.away[rows], self.opened[rows])

    def moved(self, side: int, step: Array) -> "Pair":
        """With one hand moved by [N, 3]."""
        place = self.place.copy()
        place[:, side] += step
        return replace(self, place=place)

    def turned(self, turn: Array) -> "Pair":
        """With both hands turned about the origin by rotation matrices [N, 3, 3]."""
        return replace(
            self,
            turn=turn[:, None] @ self.turn,
            place=self.place @ turn.swapaxes(-1, -2),
            away=np.einsum("nij,nj->ni", turn, self.away),
        )


def make_body(models: Mapping[Side, HandModel], shape: Array, hand_length: float) -> Body:
    """Hands of a shape [10] and a length in metres.

    The capsules are those of the mean shape stretched to the bones of this one: fitting them anew for every
    picture would cost more than drawing it.
    """
    right = models["right"]
    scale = hand_length / right.length(shape)
    left_hand, right_hand = (_stretched(models[side], shape, scale) for side in SIDES)
    return Body(right, (left_hand, right_hand), np.asarray(shape, np.float64), scale, hand_length)


def _stretched(model: HandModel, shape: Array, scale: float) -> HandCapsules:
    mean = fit_capsules(model, np.zeros(model.shape_count), 1.0)
    geometry = finger_geometry(model, shape, scale)
    mean_bones, bones = (np.linalg.norm(g.offsets, axis=-1) for g in (mean.geometry, geometry))
    stretch = bones / mean_bones  # [5, 4]: wrist to first joint, then the three bones
    ratio = np.concatenate([stretch[:, 1:].reshape(-1), stretch[1:, 0]])
    return HandCapsules(geometry, mean.ends * ratio[:, None, None], mean.radius * scale)


def place_hand(body: Body, side: int, angles: Array, turn: Array, place: Array) -> PlacedHand:
    """One hand with hinge angles [N, 5, 5], wrist rotations [N, 3, 3] and wrists [N, 3]."""
    hand = body.capsules[side]
    hinges = _hinges(body, side, angles)
    turns = np.empty((len(angles), 5, 3, 3, 3))
    turns[:, :, 0] = turn[:, None] @ (hinges[:, :, 0] @ hinges[:, :, 1] @ hinges[:, :, 2])
    turns[:, :, 1] = turns[:, :, 0] @ hinges[:, :, 3]
    turns[:, :, 2] = turns[:, :, 1] @ hinges[:, :, 4]
    return place_turned(hand, turn, turns, place)


def _hinges(body: Body, side: int, angles: Array) -> Array:
    """Rotations [N, 5, 5, 3, 3] about the hinge axes (Rodrigues 1840): quaternions take three times as long."""
    across = _axis_matrices(body.capsules[side].geometry)
    sine, cosine = np.sin(angles)[..., None, None], np.cos(angles)[..., None, None]
    hinges: Array = np.eye(3) + sine * across + (1.0 - cosine) * (across @ across)
    return hinges


@lru_cache(4)
def _axis_matrices(geometry: FingerGeometry) -> Array:
    """[5, 5, 3, 3] matrices that take a vector to the cross product of a hinge axis with it."""
    x, y, z = np.moveaxis(geometry.axes, -1, 0)
    none = np.zeros_like(x)
    return np.stack([none, -z, y, z, none, -x, -y, x, none], axis=-1).reshape(5, 5, 3, 3)


def spheres(body: Body, side: int, angles: Array, turn: Array, place: Array) -> Array:
    """Centres [N, 80, 3] of the spheres of one hand."""
    return _centres(place_hand(body, side, angles, turn, place))


def _centres(hand: PlacedHand) -> Array:
    ends = hand.ends[:, _CAPSULE]
    centres: Array = ends[:, :, 0] + _SHARE[:, None] * (ends[:, :, 1] - ends[:, :, 0])
    return centres


def pair_spheres(body: Body, pair: Pair) -> tuple[Array, Array]:
    """Centres [N, 80, 3] of the spheres of both hands."""
    left, right = (
        spheres(body, side, pair.angles[:, side], pair.turn[:, side], pair.place[:, side]) for side in (0, 1)
    )
    return left, right


def radii(body: Body, side: int) -> Array:
    """[80] metres."""
    return body.capsules[side].radius[_CAPSULE]


def arm_spheres(body: Body, wrist: Array, elbow: Array) -> tuple[Array, Array]:
    """Centres [N, 8, 3] and radii [8] of the spheres of a forearm with ends [N, 3]."""
    centres = wrist[:, None] + _ARM_SHARES[:, None] * (elbow - wrist)[:, None]
    return centres, _ARM_RADII * body.hand_length


def overlap(first: Array, first_radii: Array, second: Array, second_radii: Array) -> Array:
    """How far [N, a, b] the spheres reach into each other, metres; negative where they are apart.

    Centres [N, a, 3] and [N, b, 3].
    """
    # Squares from one matrix product: several times faster than differences.
    squares = np.sum(first**2, axis=-1)[:, :, None] + np.sum(second**2, axis=-1)[:, None]
    squares -= 2.0 * first @ second.swapaxes(-1, -2)
    distances = np.sqrt(np.maximum(squares, 0.0, out=squares), out=squares)
    deep: Array = np.subtract(first_radii[:, None] + second_radii, distances, out=distances)
    return deep


def depth(body: Body, pair: Pair) -> Array:
    """How deep [N] the hands are in each other at most, metres; negative is their distance."""
    left, right = pair_spheres(body, pair)
    deepest: Array = overlap(left, radii(body, 0), right, radii(body, 1)).max(axis=(1, 2))
    return deepest


def slide_to_contact(  # noqa: PLR0917 - what slides, where to and how far
    body: Body, pair: Pair, side: int, direction: Array, allowed: Array, part: Array | slice = slice(None)
) -> Pair:
    """Move one hand along `direction` [N, 3] to where it first touches when it comes from far along it.

    `allowed` [N] is how far the spheres may reach into each other there, metres; negative leaves a gap. A
    candidate that never meets the other hand stays where it is. The contact of two spheres along a line is a
    root of a quadratic. Only the spheres of `part` ([80] bool) are looked at.
    """
    hands = pair_spheres(body, pair)
    moving, still = hands[side][:, part], hands[1 - side][:, part]
    reach = radii(body, side)[part, None] + radii(body, 1 - side)[part] - allowed[:, None, None]
    apart = moving[:, :, None] - still[:, None]
    along = np.einsum("nabi,ni->nab", apart, direction)
    under_root = along**2 - np.sum(apart**2, axis=-1) + np.maximum(reach, 0.0) ** 2
    root = np.where(under_root > 0, np.sqrt(np.maximum(under_root, 0.0)) - along, -np.inf).max(axis=(1, 2))
    pair = pair.moved(side, np.where(np.isfinite(root), root, 0.0)[:, None] * direction)
    return replace(pair, away=direction if side == 1 else -direction)


def close_fingers(body: Body, pair: Pair, side: int, closed: Array, allowed: float) -> Pair:
    """Bend every finger of one hand on its own from where it is towards `closed` [N, 5, 5] until it touches.

    A finger stops before it is more than `allowed` metres deep in the other hand, or deeper than where it started.
    """
    count = len(pair)
    shares = np.linspace(0.0, 1.0, _CLOSING_STEPS)
    start = pair.angles[:, side]
    tried = start[:, None] + shares[:, None, None] * (closed - start)[:, None]  # [N, steps, 5, 5]
    turn = np.repeat(pair.turn[:, side], _CLOSING_STEPS, axis=0)
    place = np.repeat(pair.place[:, side], _CLOSING_STEPS, axis=0)
    moving = spheres(body, side, tried.reshape(-1, 5, 5), turn, place).reshape(count, -1, 3)
    other = 1 - side
    still = spheres(body, other, pair.angles[:, other], pair.turn[:, other], pair.place[:, other])
    deep = overlap(moving, np.tile(radii(body, side), _CLOSING_STEPS), still, radii(body, other)).max(axis=-1)
    deep = deep.reshape(count, _CLOSING_STEPS, SPHERES)
    fingers = np.stack([deep[:, :, finger == SPHERE_FINGER].max(axis=-1) for finger in range(5)], axis=-1)
    free = fingers <= np.maximum(fingers[:, :1], allowed)
    last = np.cumprod(free, axis=1).sum(axis=1) - 1  # [N, 5] the last step before the first contact
    angles = pair.angles.copy()
    angles[:, side] = start + shares[np.maximum(last, 0)][..., None] * (closed - start)
    return replace(pair, angles=angles)


def push_apart(body: Body, pair: Pair, allowed: float, rounds: int) -> Pair:
    """Hands that reach into each other by more than `allowed` metres, pushed and bent apart little by little.

    Wrists move and first and second finger joints bend and spread, each as it would to clear its own contacts
    alone in the least-squares sense, within the ranges of the joints.
    """
    for _ in range(rounds):
        hands = [
            place_hand(body, side, pair.angles[:, side], pair.turn[:, side], pair.place[:, side]) for side in (0, 1)
        ]
        centres = [_centres(hand) for hand in hands]
        deep = overlap(centres[0], radii(body, 0), centres[1], radii(body, 1)) - allowed
        acting = np.nonzero(deep > 0)
        excess = deep[acting]
        apart = centres[0][acting[:2]] - centres[1][acting[::2]]
        push = apart * (excess / np.maximum(np.linalg.norm(apart, axis=-1), 1e-6))[:, None]
        angles, place = pair.angles.copy(), pair.place.copy()
        for side, sign in ((0, 1.0), (1, -1.0)):
            force, weight = _gathered(acting[0] * SPHERES + acting[1 + side], sign * push, len(pair))
            place[:, side] += 0.5 * force.sum(axis=1) / np.maximum(weight.sum(axis=1), 1.0)[:, None]
            angles[:, side] += _finger_steps(body, side, hands[side], centres[side], force, weight)
        pair = replace(pair, angles=np.clip(angles, LOWEST, HIGHEST), place=place)
    return pair


def _gathered(sphere: Array, push: Array, count: int) -> tuple[Array, Array]:
    """Sums [count, 80, 3] of pushes [P, 3] on numbered spheres [P], and how many each has [count, 80]."""
    length = count * SPHERES
    force = np.stack([np.bincount(sphere, push[:, axis], length) for axis in range(3)], axis=-1)
    return force.reshape(count, SPHERES, 3), np.bincount(sphere, minlength=length).reshape(count, SPHERES)


def _finger_steps(  # noqa: PLR0917 - one hand's contacts
    body: Body, side: int, hand: PlacedHand, centres: Array, force: Array, weight: Array
) -> Array:
    """Steps [N, 5, 5] of the hinge angles under forces [N, 80, 3] on the spheres; weights [N, 80] count contacts."""
    across = _axis_matrices(body.capsules[side].geometry)
    steps = np.zeros((len(centres), 5, 5))
    in_fingers = (len(centres), 5, 3 * _A_FINGER_BONE)
    force, weight = force[:, : 15 * _A_FINGER_BONE], weight[:, : 15 * _A_FINGER_BONE].reshape(in_fingers)
    force, centres = (values[:, : 15 * _A_FINGER_BONE].reshape(*in_fingers, 3) for values in (force, centres))
    for angle, joint in ((0, 0), (1, 0), (3, 1)):
        # The spread's axis leans along with the bend; as a direction of least effort the straight one will do.
        carrier = hand.wrist[:, None] if joint == 0 else hand.turns[:, :, joint - 1]
        turning = carrier @ across[:, angle] @ carrier.swapaxes(-1, -2)
        moved = slice(joint * _A_FINGER_BONE, None)
        speed = (centres[:, :, moved] - hand.places[:, :, joint, None]) @ turning.swapaxes(-1, -2)
        effect = np.sum(speed * force[:, :, moved], axis=(2, 3))
        effort = np.sum(weight[:, :, moved] * np.sum(speed**2, axis=-1), axis=2)
        steps[:, :, angle] = effect / np.maximum(effort, 1e-4)
    return steps
