"""Still scenes of one person's two hands before a camera. numpy only.

A scene is built in body axes (x to the person's right, y up, z towards the person's back, origin between the
shoulders) as many candidates at once; the first one that a body can do and a camera sees is taken.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from dir_core import rotations
from dir_core.conventions import DEFAULT_HAND_LENGTH, SIDES, Side
from dir_core.degrees_of_freedom import HIGHEST, LOWEST, rotations_from_angles
from dir_core.hand_model import HandModel
from dir_core.training import contacts
from dir_core.training.contacts import ARM_LENGTH, SPHERE_FINGER, Body, Pair, make_body
from dir_core.training.poses import HELD_BACK, MODE_SHARES, MODES, Mode, bend_fingers, sample_fingers
from dir_core.training.two_hands import Kind, TwoHands, View

Array = NDArray[Any]

Framing = Literal["close", "wide"]

KINDS: Final = get_args(Kind)
KIND_SHARES: Final = (0.22, 0.06, 0.15, 0.14, 0.13, 0.1, 0.13, 0.07)
"""How often each kind is drawn where none is asked for: hands in trouble most, but free ones must not suffer."""
VIEW_SHARES: Final = {"webcam": 0.55, "egocentric": 0.45}
TOUCHING: Final = ("touch", "prayer", "interlaced", "wrapped")

HAND_LENGTHS: Final = (0.160, 0.205)
SHAPE_WIDTH, SHAPE_LIMIT = 0.7, 2.0

LARGEST_FLEXION, LARGEST_DEVIATION = np.radians([70.0, 30.0])
"""How far a wrist bends towards palm or back, and towards thumb or little finger."""

_CANDIDATES = 10
_SETTLED = 4  # of the candidates, the best for a body, are brought to rest on each other
_CAMERAS = 4  # candidates for another picture of the same hands
_PASSING_TURN = 0.2  # radians
_SKIN = 0.004  # metres that fingers press into each other
_PUSHES = 12
_ROUNDS = 12  # batches of candidates before the least bad one is taken
_POOL = 256  # finger poses of every mode that do not run into themselves
_SELF_CONTACT = 0.0125  # metres between the bone axes of two fingers of a hand of usual size

_SHOULDER = np.array([0.18, 0.0, 0.0])  # of the right side
_UPPER_ARM = 0.29
_ARM_TRIES = 28  # wrist bends tried for every hand
_WORST_ARM = 5.0  # cost of an arm that is still taken, see `_arm_cost`
_OVERLAP_COST = 500.0  # a metre
_ARM_OVERLAP, _HAND_OVERLAP = 0.008, 0.007  # metres that arms and hands may reach into others: skin gives way

_FAR = 2.2  # hand sizes that both hands together fill when they are far from each other in the picture
_ONE_OF_TWO = 0.3  # share of close pictures of hands near each other that are framed around one of them
_SMALL = 0.65  # of the other hand's size
_CUT = 0.12  # of a wide picture by which hands may reach over its border

_HELD: Final = (
    SPHERE_FINGER != 0,
    SPHERE_FINGER > 0,
    (SPHERE_FINGER > 0) & (contacts.SPHERE_RANK == 0),
    SPHERE_FINGER < 0,
    SPHERE_FINGER == 0,
)
"""Spheres around whose middle a hand closes."""

_PALM: Final = (0, 5, 9, 13, 17)
_KNUCKLES: Final = (5, 9, 13, 17)
"""Key points whose middle is the middle of a palm or of a row of knuckles."""

UP, RIGHT, BACK = np.eye(3)[[1, 0, 2]]


@dataclass(frozen=True, eq=False)
class Camera:
    """N cameras: rotation [N, 3, 3] from body to camera axes, place [N, 3] in body axes, field of view [N] radians."""

    turn: Array
    place: Array
    field_of_view: Array

    def see(self, points: Array) -> Array:
        """Points [N, ..., 3] of body axes in camera axes."""
        shape = points.shape
        flat = points.reshape(shape[0], -1, 3) - self.place[:, None]
        return (flat @ self.turn.swapaxes(-1, -2)).reshape(shape)

    def take(self, rows: Array) -> "Camera":
        """Some of the cameras."""
        return Camera(self.turn[rows], self.place[rows], self.field_of_view[rows])


@dataclass(frozen=True, eq=False)
class Scene:
    """N scenes of two hands, their elbows [N, 2, 3] in body axes, wrist bends [N, 2, 2] and their cameras."""

    pair: Pair
    elbow: Array
    bend: Array
    camera: Camera
    present: Array
    keypoints: Array

    def take(self, rows: Array) -> "Scene":
        """Some of the scenes."""
        pair, camera = self.pair.take(rows), self.camera.take(rows)
        return replace(
            self, pair=pair, camera=camera, elbow=self.elbow[rows], bend=self.bend[rows], keypoints=self.keypoints[rows]
        )

    def rotation(self, body: Body) -> Array:
        """Quaternions [2, 16, 4] of the first scene in camera axes."""
        wrist = rotations.from_matrix(self.camera.turn[:1] @ self.pair.turn[0])
        hands = [
            rotations_from_angles(body.capsules[side].geometry, wrist[side : side + 1], self.pair.angles[:1, side])
            for side in (0, 1)
        ]
        return np.concatenate(hands)

    def seen_wrists(self) -> Array:
        """Wrists [2, 3] of the first scene in camera axes."""
        return self.camera.see(self.pair.place)[0]


@dataclass(frozen=True, eq=False)
class PosedHands:
    """Hands at rest before a camera: the scene of a body, N = 1."""

    kind: Kind
    view: View
    body: Body
    scene: Scene


def sample_hands(
    rng: np.random.Generator, models: Mapping[Side, HandModel], kind: Kind | None = None, view: View | None = None
) -> PosedHands:
    """Hands of any kind and view, unless one is asked for."""
    kind = kind or KINDS[rng.choice(len(KINDS), p=KIND_SHARES)]
    view = view or _any_view(rng)
    body = sample_body(rng, models)
    return PosedHands(kind, view, body, sample_scene(rng, body, kind, view))


def see_again(rng: np.random.Generator, hands: PosedHands) -> PosedHands:
    """The same hands before another camera: another place, distance, roll and lens, of either view.

    Hands that pass are that only as their camera sees them: its direction changes little, its view not at all.
    """
    scene = hands.scene
    view = hands.view if hands.kind == "passing" else _any_view(rng)
    direction, up, distance = _sample_view(rng, view, _CAMERAS)
    if hands.kind == "passing":
        direction = _unit(-scene.camera.turn[:, 2] + rng.normal(size=(_CAMERAS, 3)) * _PASSING_TURN)
    rows = np.zeros(_CAMERAS, np.intp)
    scene = replace(scene.take(rows), camera=_aim(rng, scene.keypoints[rows], direction, up, distance))
    return replace(hands, view=view, scene=scene.take(np.argmin(_unseen(scene), keepdims=True)))


def photograph(rng: np.random.Generator, hands: PosedHands, framing: Framing, size: int) -> TwoHands:
    """The hands as their camera sees them in a square picture of `size` pixels.

    "close": hands fill most of the picture, as in a crop; "wide": the whole scene, hands anywhere in it.
    """
    body, scene = hands.body, hands.scene
    return TwoHands(
        kind=hands.kind,
        view=hands.view,
        rotation=scene.rotation(body)[None],
        translation=scene.seen_wrists()[None],
        elbow=scene.camera.see(scene.elbow)[0][None],
        present=scene.present,
        shape=body.shape,
        scale=body.scale,
        camera_matrix=_frame(rng, scene, framing, size),
        image_size=(size, size),
    )


def _any_view(rng: np.random.Generator) -> View:
    return "webcam" if rng.random() < VIEW_SHARES["webcam"] else "egocentric"


def sample_body(rng: np.random.Generator, models: Mapping[Side, HandModel]) -> Body:
    """Hands of a random shape and length."""
    shape = np.clip(rng.normal(size=models["right"].shape_count) * SHAPE_WIDTH, -SHAPE_LIMIT, SHAPE_LIMIT)
    return make_body(models, shape, rng.uniform(*HAND_LENGTHS))


def sample_scene(rng: np.random.Generator, body: Body, kind: Kind, view: View) -> Scene:
    """The first scene of many candidates that a body can do and a camera sees; of one kind and view, N = 1."""
    present = np.ones(2, bool)
    if kind == "single":
        present[rng.integers(2)] = False
    best, least = None, np.inf
    for _ in range(_ROUNDS):
        direction, up, distance = _sample_view(rng, view, _CANDIDATES)
        pair = _BUILDERS[kind](rng, body, direction)
        pair = _set_before_body(rng, pair, view)
        elbow, bend, arm_cost = fit_arms(rng, body, pair)
        if kind in _SETTLERS:  # what costs most, of the best few only
            rows = np.argsort(arm_cost.max(axis=1))[:_SETTLED]
            pair = _SETTLERS[kind](rng, body, pair.take(rows))
            bend, arm_cost, direction, up, distance = (v[rows] for v in (bend, arm_cost, direction, up, distance))
            elbow = elbows(body, pair.turn, pair.place, bend)
        keypoints = pair_keypoints(body, pair)
        camera = _aim(rng, keypoints, direction, up, distance)
        scene = Scene(pair, elbow, bend, camera, present, keypoints)
        cost = arm_cost[:, present].max(axis=1) + _OVERLAP_COST * _overlap(body, scene) + _unseen(scene)
        row = int(np.argmax(cost < _WORST_ARM)) if (cost < _WORST_ARM).any() else int(np.argmin(cost))
        if cost[row] < least:
            best, least = scene.take(np.array([row])), cost[row]
        if least < _WORST_ARM:
            break
    assert best is not None
    return best


def pair_keypoints(body: Body, pair: Pair) -> Array:
    """Wrist, finger joints and tips [N, 2, 21, 3] in body axes."""
    hands = []
    for side in (0, 1):
        placed = contacts.place_hand(body, side, pair.angles[:, side], pair.turn[:, side], pair.place[:, side])
        hands.append(np.concatenate([placed.translation[:, None], placed.places.reshape(len(pair), 20, 3)], axis=1))
    return np.stack(hands, axis=1)


# --- the kinds: each builds N candidates around the origin; `toward` [N, 3] points to the camera


def _single(rng: np.random.Generator, body: Body, toward: Array) -> Pair:
    return _apart(rng, body, toward)


def _apart(rng: np.random.Generator, body: Body, toward: Array) -> Pair:
    """Each hand on its own side, a hand's breadth or more between them."""
    pair = _free_hands(rng, body, len(toward))
    middle = 0.5 * rng.uniform(0.2, 0.5, len(toward))
    place = rng.normal(size=(len(toward), 2, 3)) * [0.02, 0.06, 0.05]
    place[:, 0, 0] -= middle
    place[:, 1, 0] += middle
    return _centred(body, replace(pair, place=np.zeros_like(place)), place)


def _near(rng: np.random.Generator, body: Body, toward: Array) -> Pair:
    """Side by side or one before the other, up to a few centimetres apart."""
    pair = _aimed(rng, body, _free_hands(rng, body, len(toward)))
    return contacts.slide_to_contact(
        body, pair, 1, _to_the_right(rng, len(toward)), -rng.uniform(0.004, 0.05, len(toward))
    )


def _touch(rng: np.random.Generator, body: Body, toward: Array) -> Pair:
    """Any part of one hand on any part of the other."""
    count = len(toward)
    pair = _aimed(rng, body, _free_hands(rng, body, count))
    direction = _to_the_right(rng, count)
    facing = rng.random(count) < 0.6  # one hand lies over the other as the camera sees it
    direction[facing] = _unit(toward[facing] + 0.6 * rng.normal(size=(facing.sum(), 3)))
    return contacts.slide_to_contact(body, pair, int(rng.integers(2)), direction, rng.uniform(0.001, 0.004, count))


def _passing(rng: np.random.Generator, body: Body, toward: Array) -> Pair:
    """One hand before the other, as the camera sees it, without touching."""
    count = len(toward)
    front = int(rng.integers(2))
    pair = _centred(body, _free_hands(rng, body, count), np.zeros((count, 2, 3)))
    across = rng.normal(size=(count, 3)) * 0.035
    pair = pair.moved(front, across - np.sum(across * toward, axis=-1, keepdims=True) * toward)
    return contacts.slide_to_contact(body, pair, front, toward, -rng.uniform(0.006, 0.12, count))


def _prayer(rng: np.random.Generator, body: Body, toward: Array) -> Pair:
    """Palm to palm, fingers up; also finger tips only, and one palm turned on the other."""
    count = len(toward)
    steeple = np.where(rng.random(count) < 0.25, rng.uniform(0.1, 0.5, count), 0.0)  # the heels of the hands apart
    twist = np.where(rng.random(count) < 0.15, rng.uniform(-1.3, 1.3, count), rng.normal(size=count) * 0.12)
    turn = _facing_palms(rng, steeple, twist, 0.06)
    angles = np.stack([_straight_fingers(rng, count, steeple) for _ in SIDES], axis=1)
    shared = (rng.random(count) < 0.7)[:, None, None]
    angles[:, 1] = np.where(shared, angles[:, 0] + 0.3 * (angles[:, 1] - angles[:, 0]), angles[:, 1])
    place = np.zeros((count, 2, 3))
    place[:, 1, 1:] += rng.normal(size=(count, 2)) * 0.007
    pair = _centred(body, _at_origin(angles, turn), place)
    # The thumbs lie down on the hands afterwards: in between they would hold the palms apart.
    thumbs = pair.angles[:, :, 0].copy()
    pair.angles[:, :, 0] = HELD_BACK
    pair = contacts.slide_to_contact(
        body, pair, 1, np.tile(RIGHT, (count, 1)), rng.uniform(0.002, 0.006, count), SPHERE_FINGER != 0
    )
    pair = replace(pair, opened=pair.angles.copy())
    pair.opened[:, :, 0] = thumbs
    return _balanced(pair).turned(_tilts(rng, count, (40, 30, 25)))


def _press(rng: np.random.Generator, body: Body, pair: Pair) -> Pair:
    """Praying hands brought to rest on each other, the thumbs laid down."""
    pair = contacts.push_apart(body, pair, _SKIN, _PUSHES // 2)
    for side in (0, 1):
        closed = pair.angles[:, side].copy()
        closed[:, 0] = pair.opened[:, side, 0]
        pair = contacts.close_fingers(body, pair, side, closed, _SKIN)
    return replace(pair, opened=pair.angles)


def _interlaced(rng: np.random.Generator, body: Body, toward: Array) -> Pair:
    """Fingers of both hands between each other, closed over the backs of the hands."""
    count = len(toward)
    lean = rng.normal(size=count) * 0.2  # heels or knuckles nearer to each other
    turn = _facing_palms(rng, lean, rng.normal(size=count) * 0.15, 0.05)
    across = rng.uniform(np.radians(35), np.radians(80), count)  # how far the fingers bend over to the other side
    angles = np.zeros((count, 2, 5, 5))
    for side in (0, 1):
        angles[:, side] = bend_fingers(np.zeros((count, 4)), rng.uniform(0.6, 1.3, count))
        angles[:, side, 1:, 0] = across[:, None] + rng.normal(size=(count, 4)) * 0.05
        angles[:, side, 1:, 3] = rng.uniform(0.0, 0.35, (count, 1))
    angles[:, :, 0] = HELD_BACK
    place = np.zeros((count, 2, 3))
    half_pitch = 0.0105 * body.hand_length / 0.185
    on_top = rng.integers(2, size=count) * 2 - 1  # whose index finger comes first
    place[:, 1, 2] = on_top * half_pitch + rng.normal(size=count) * 0.001
    place[:, 1, 1] = rng.normal(size=count) * 0.005
    place[:, 1, 0] = rng.uniform(0.02, 0.05, count)
    pair = _centred(body, _at_origin(angles, turn), place, _KNUCKLES)
    return _balanced(pair).turned(_tilts(rng, count, (55, 40, 35)))


def _clasp(rng: np.random.Generator, body: Body, pair: Pair) -> Pair:
    """Interlaced hands brought to rest on each other, the fingers closed over the backs of the hands."""
    count = len(pair)
    pair = contacts.push_apart(body, pair, _SKIN, _PUSHES)
    pair = replace(pair, opened=pair.angles.copy())
    loose = rng.random(count) < 0.2  # fingers stay straight, as in a roof of fingers
    for side in (0, 1):
        closed = pair.angles[:, side].copy()
        closed[:, 1:, 3] += np.where(loose, 0.2, rng.uniform(1.0, 1.6, count))[:, None]
        closed[:, 1:, 4] += np.where(loose, 0.1, rng.uniform(0.3, 0.9, count))[:, None]
        closed[:, 0] = sample_fingers(rng, count, ("open", "relaxed", "point"))[:, 0]
        pair = contacts.close_fingers(body, pair, side, np.clip(closed, LOWEST, HIGHEST), _SKIN)
    return pair


def _wrapped(rng: np.random.Generator, body: Body, toward: Array) -> Pair:
    """One hand closed around the other's fist, fingers, hand or wrist."""
    count = len(toward)
    inner = int(rng.integers(2))
    outer = 1 - inner
    free = _free_hands(rng, body, count)
    modes: tuple[Mode, ...] = ("fist", "fist", "relaxed", "point", "open")
    free.angles[:, inner] = free_fingers(rng, body, count, modes)
    angles = bend_fingers(rng.uniform(0.0, 0.3, (count, 1)) + np.zeros((count, 4)), rng.uniform(-0.2, 0.7, count))
    angles[:, 0] = free_fingers(rng, body, count, ("open", "spread"))[:, 0]
    free.angles[:, outer] = angles
    free = replace(free, opened=free.angles.copy())
    # The outer palm comes from anywhere around the inner hand, its fingers point anywhere along it.
    away = _unit(rng.normal(size=(count, 3)) + [0.5 if outer else -0.5, 0.0, 0.0])
    fingers = _unit(np.cross(away, rng.normal(size=(count, 3))))
    free.turn[:, outer] = hand_turn(SIDES[outer], fingers, -away)
    hands = contacts.pair_spheres(body, free)
    # What is held: the middle of the hand, of its fingers or of its knuckles, seldom the thumb.
    held = rng.choice(5, count, p=(0.35, 0.2, 0.2, 0.15, 0.1))
    aims = np.stack([hands[inner][:, spheres].mean(axis=1) for spheres in _HELD], axis=1)
    aim = aims[np.arange(count), held]
    palm = hands[outer][:, SPHERE_FINGER < 0].mean(axis=1) + 0.03 * fingers
    pair = free.moved(outer, aim - palm)
    pair = contacts.slide_to_contact(body, pair, outer, away, rng.uniform(0.002, 0.005, count))
    closed = bend_fingers(np.full((count, 4), 0.95), np.zeros(count))
    closed[:, 0] = pair.angles[:, outer, 0] + [0.6, -0.3, 0.1, 0.6, 0.7]
    return contacts.close_fingers(body, pair, outer, closed, _SKIN)


_BUILDERS: Final = {
    "single": _single,
    "apart": _apart,
    "near": _near,
    "touch": _touch,
    "passing": _passing,
    "prayer": _prayer,
    "interlaced": _interlaced,
    "wrapped": _wrapped,
}


_SETTLERS: Final = {"prayer": _press, "interlaced": _clasp}


def hand_turn(side: Side, fingers: Array, palm: Array) -> Array:
    """Wrist rotations [N, 3, 3] of hands whose fingers and palms point along unit vectors [N, 3] at right angles."""
    sign = 1.0 if side == "right" else -1.0
    return np.stack([-sign * fingers, -palm, sign * np.cross(fingers, palm)], axis=-1)


def _facing_palms(rng: np.random.Generator, lean: Array, twist: Array, noise: float) -> Array:
    """Wrist rotations [N, 2, 3, 3] of hands with the fingers up and the palms to each other.

    `lean` [N] tips both towards each other at the finger tips, `twist` [N] turns the right one on the left palm.
    """
    count = len(lean)
    hands = []
    for side, sign in zip(SIDES, (1.0, -1.0), strict=True):
        base = hand_turn(side, np.tile(UP, (count, 1)), np.tile(sign * RIGHT, (count, 1)))
        vector = rng.normal(size=(count, 3)) * noise
        vector[:, 2] -= sign * lean
        if side == "right":
            base = turns(twist[:, None] * RIGHT) @ base
        hands.append(turns(vector) @ base)
    return np.stack(hands, axis=1)


def _straight_fingers(rng: np.random.Generator, count: int, steeple: Array) -> Array:
    """Hinge angles [count, 5, 5] of fingers that lie against the other hand's."""
    curls = rng.normal(size=(count, 1)) * 0.04 + rng.normal(size=(count, 4)) * 0.02
    angles = bend_fingers(curls, rng.uniform(-0.3, 1.0, count))
    angles[:, 1:, 0] += 0.6 * steeple[:, None]
    angles[:, 0] = sample_fingers(rng, count, ("open",))[:, 0]
    return angles


def _free_hands(rng: np.random.Generator, body: Body, count: int) -> Pair:
    """Two hands at the origin in any finger pose, turned as forearms before a body turn them."""
    angles = np.stack([free_fingers(rng, body, count) for _ in SIDES], axis=1)
    hands = []
    for side, sign in zip(SIDES, (-1.0, 1.0), strict=True):
        # A forearm points up, forward and inwards; the hand follows it within what a wrist can do.
        forearm = _unit(np.array([-0.35 * sign, 0.45, -0.75]) + 0.55 * rng.normal(size=(count, 3)))
        palm = _across(forearm, rng.normal(size=(count, 3)) + [-0.4 * sign, -0.3, 0.0])
        thumb = np.cross(forearm, palm)
        bend, lean = rng.normal(size=(2, count, 1)) * np.radians([[[22.0]], [[9.0]]])
        fingers = _unit(np.cos(bend) * forearm + np.sin(bend) * palm + np.sin(lean) * thumb)
        hands.append(hand_turn(side, fingers, _across(fingers, palm)))
    return _at_origin(angles, np.stack(hands, axis=1))


def _at_origin(angles: Array, turn: Array) -> Pair:
    """Hands [N, 2, ...] with both wrists at the origin."""
    count = len(angles)
    return Pair(angles, turn, np.zeros((count, 2, 3)), np.tile(RIGHT, (count, 1)), angles)


@lru_cache(32)
def _pool(model: HandModel, mode: Mode) -> Array:
    """Finger poses [P, 5, 5] of a mode whose fingers keep off each other, the same ones in every process."""
    rng = np.random.default_rng(MODES.index(mode))
    angles = sample_fingers(rng, 4 * _POOL, (mode,))
    body = make_body(dict.fromkeys(SIDES, model), np.zeros(model.shape_count), model.length())
    count = len(angles)
    centres = contacts.spheres(body, 0, angles, np.tile(np.eye(3), (count, 1, 1)), np.zeros((count, 3)))
    # Neighbouring fingers start from the same palm: their first bones lie closer than the others may.
    outer = [(finger == SPHERE_FINGER) & (contacts.SPHERE_RANK > 0) for finger in range(5)]
    least = _SELF_CONTACT * model.length() / DEFAULT_HAND_LENGTH
    free = np.ones(count, bool)
    for first in range(5):
        for second in range(first + 1, 5):
            none = np.zeros(1)
            free &= (
                contacts.overlap(centres[:, outer[first]], none, centres[:, outer[second]], none).max((1, 2)) < -least
            )
    return angles[free][:_POOL]


def free_fingers(rng: np.random.Generator, body: Body, count: int, modes: tuple[Mode, ...] | None = None) -> Array:
    """Finger poses [count, 5, 5] that do not run into themselves."""
    chosen = rng.choice(MODES, count, p=MODE_SHARES) if modes is None else rng.choice(modes, count)
    angles = np.empty((count, 5, 5))
    for mode in np.unique(chosen):
        rows = chosen == mode
        pool = _pool(body.model, mode)
        angles[rows] = pool[rng.integers(len(pool), size=rows.sum())]
    return angles


def _centred(body: Body, pair: Pair, place: Array, points: tuple[int, ...] = _PALM) -> Pair:
    """With the middle of some key points of each hand at `place` [N, 2, 3]."""
    middle = pair_keypoints(body, pair)[:, :, list(points)].mean(axis=2)
    return replace(pair, place=pair.place + place - middle)


def _aimed(rng: np.random.Generator, body: Body, pair: Pair) -> Pair:
    """With a random spot of each hand at the origin."""
    hands = contacts.pair_spheres(body, pair)
    rows = np.arange(len(pair))
    spots = [hand[rows, rng.integers(contacts.SPHERES, size=len(pair))] for hand in hands]
    return replace(pair, place=pair.place - np.stack(spots, axis=1))


def _balanced(pair: Pair) -> Pair:
    """With the middle between the wrists at the origin."""
    return replace(pair, place=pair.place - pair.place.mean(axis=1, keepdims=True))


def _to_the_right(rng: np.random.Generator, count: int) -> Array:
    """Directions [count, 3] in which the right hand leaves the left one."""
    return _unit(RIGHT + 0.5 * rng.normal(size=(count, 3)))


def _tilts(rng: np.random.Generator, count: int, degrees: tuple[float, float, float]) -> Array:
    """Rotations [count, 3, 3] of both hands together: nodding forward more than back, turning, leaning."""
    vector = rng.normal(size=(count, 3)) * np.radians(degrees)
    vector[:, 0] -= np.radians(25.0)
    return turns(vector)


def _set_before_body(rng: np.random.Generator, pair: Pair, view: View) -> Pair:
    """Both hands moved to a place before the chest; a head camera's user holds them lower or further out."""
    count = len(pair)
    middle = np.array([0.0, -0.12, -0.32]) if view == "webcam" else np.array([0.0, -0.2, -0.36])
    where = middle + rng.normal(size=(count, 3)) * [0.08, 0.1, 0.06]
    return replace(pair, place=pair.place - pair.place.mean(axis=1, keepdims=True) + where[:, None])


def fit_arms(
    rng: np.random.Generator, body: Body, pair: Pair, before: Array | None = None
) -> tuple[Array, Array, Array]:
    """Elbows [N, 2, 3], wrist bends [N, 2, 2] (flexion, deviation; radians) and their costs [N, 2].

    Of many wrist bends the one is taken whose elbow suits the body best: an upper arm away from the shoulder, on
    its own side, below the shoulder and not behind the back, with a wrist that is bent no more than needed.
    Wrist bends `before` [N, 2, 2] are changed no more than needed.
    """
    count = len(pair)
    limits = np.array([LARGEST_FLEXION, LARGEST_DEVIATION])
    usual = np.zeros((count, 2, 2)) if before is None else before
    bend = usual[:, :, None] + rng.normal(size=(count, 2, _ARM_TRIES, 2)) * 0.5 * limits
    bend = np.clip(bend, -limits, limits)
    elbow = elbows(body, pair.turn[:, :, None], pair.place[:, :, None], bend)
    own_side = np.array([-1.0, 1.0])[:, None]
    outwards = elbow[..., 0] * own_side
    shoulder = _SHOULDER * own_side[..., None]
    upper_arm = np.linalg.norm(elbow - shoulder, axis=-1)
    cost = ((upper_arm - _UPPER_ARM) / 0.05) ** 2
    cost += (np.maximum(0.10 - outwards, 0.0) / 0.04) ** 2
    cost += (np.maximum(elbow[..., 1] + 0.12, 0.0) / 0.06) ** 2
    cost += (np.maximum(elbow[..., 2] - 0.10, 0.0) / 0.05) ** 2
    # From one moment to the next a wrist bends little; at first it only had better not be bent far.
    firmness = 1.0 if before is None else 6.0
    cost += firmness * np.sum(((bend - usual[:, :, None]) / limits) ** 2, axis=-1)
    best = cost.argmin(axis=-1)[..., None]
    chosen = [np.take_along_axis(values, best[..., None], axis=2)[:, :, 0] for values in (elbow, bend)]
    return chosen[0], chosen[1], np.take_along_axis(cost, best, axis=2)[..., 0]


def elbows(body: Body, turn: Array, place: Array, bend: Array) -> Array:
    """Elbows [..., 3] of hands with wrist rotations [N, 2, ..., 3, 3], wrists and wrist bends [N, 2, ..., 2].

    Flexion turns the hand towards its palm, deviation towards its thumb. The second axis is left, right.
    """
    sign = np.array([-1.0, 1.0]).reshape(1, 2, *[1] * (turn.ndim - 4), 1)
    fingers, palm, thumb = -sign * turn[..., 0], -turn[..., 1], turn[..., 2]
    flexion, deviation = bend[..., :1], bend[..., 1:]
    forearm = np.cos(deviation) * (np.cos(flexion) * fingers - np.sin(flexion) * palm) - np.sin(deviation) * thumb
    return place - ARM_LENGTH * body.hand_length * forearm


def _overlap(body: Body, scene: Scene) -> Array:
    """How far [N] a hand or forearm reaches into another beyond what skin allows, metres."""
    if not scene.present.all():
        return np.zeros(len(scene.elbow))
    hands = contacts.pair_spheres(body, scene.pair)
    arms = [contacts.arm_spheres(body, scene.pair.place[:, side], scene.elbow[:, side]) for side in (0, 1)]
    deepest = contacts.overlap(*arms[0], *arms[1]).max(axis=(1, 2)) - _ARM_OVERLAP
    for side in (0, 1):
        other = contacts.overlap(*arms[side], hands[1 - side], contacts.radii(body, 1 - side)).max(axis=(1, 2))
        deepest = np.maximum(deepest, other - _ARM_OVERLAP)
    between = contacts.overlap(hands[0], contacts.radii(body, 0), hands[1], contacts.radii(body, 1)).max(axis=(1, 2))
    return np.maximum(np.maximum(deepest, between - _HAND_OVERLAP), 0.0)


# --- the camera


def _sample_view(rng: np.random.Generator, view: View, count: int) -> tuple[Array, Array, Array]:
    """Directions [count, 3] from the hands to the camera, what is up for it [count, 3] and distances [count]."""
    noise = rng.normal(size=(count, 3))
    if view == "webcam":
        direction = _unit(-BACK + noise * [0.3, 0.22, 0.0] + [0.0, 0.08, 0.0])
        return direction, np.tile(UP, (count, 1)), 0.35 * (1.1 / 0.35) ** rng.random(count)
    # From the eyes, or from above a desk as a camera on a stand looks at it; rarely from its other side.
    above = rng.random(count) < 0.3
    direction = np.where(
        above[:, None],
        UP + noise * [0.15, 0.0, 0.25],
        np.array([0.0, 0.62, 0.6]) + noise * [0.12, 0.14, 0.12],
    )
    up = np.where(above[:, None], -BACK, UP - 0.3 * BACK)
    across = above & (rng.random(count) < 0.15)
    return (
        _unit(direction),
        np.where(across[:, None], -up, up),
        np.where(above, rng.uniform(0.4, 0.95, count), rng.uniform(0.33, 0.65, count)),
    )


def _aim(rng: np.random.Generator, keypoints: Array, direction: Array, up: Array, distance: Array) -> Camera:
    """Cameras that look at the hands, somewhat past them, and a little rolled."""
    count = len(keypoints)
    middle = keypoints.mean(axis=(1, 2))
    roll = np.clip(rng.normal(size=count) * np.radians(10.0), *np.radians([-25.0, 25.0]))
    roll = np.where(rng.random(count) < 0.04, rng.uniform(-np.pi, np.pi, count), roll)
    field_of_view = np.radians(rng.uniform(40.0, 85.0, count))
    forward = -direction
    right = _unit(np.cross(forward, up))
    turn = np.stack([right, np.cross(forward, right), forward], axis=1)
    turn = turns(roll[:, None] * BACK) @ turn
    return Camera(turn, middle + distance[:, None] * direction, field_of_view)


def _unseen(scene: Scene) -> Array:
    """A cost [N] of hands that are too near to the camera or behind it."""
    nearest = scene.camera.see(scene.keypoints[:, scene.present])[..., 2].min(axis=(1, 2))
    return np.where(nearest < 0.22, 50.0, 0.0)


def _frame(rng: np.random.Generator, scene: Scene, framing: Framing, size: int) -> Array:
    """The camera matrix [3, 3] of a square picture of the first scene."""
    field_of_view = scene.camera.field_of_view[0]
    focal = 0.5 / np.tan(0.5 * field_of_view)  # picture widths
    seen = scene.camera.see(scene.keypoints)[0]
    points = focal * seen[..., :2] / seen[..., 2:]
    if framing == "close":
        shown = points[scene.present]
        if len(shown) == 2:
            sizes = np.ptp(shown, axis=1).max(axis=-1)
            # Of hands far from each other one is looked at, or else both would be small; sometimes one of near
            # ones. A hand that is small behind the other is not: the picture would show a piece of the other.
            union = np.ptp(shown.reshape(-1, 2), axis=0).max()
            row = rng.integers(2)
            if union > _FAR * sizes.max() or (rng.random() < _ONE_OF_TWO and sizes[row] > _SMALL * sizes.max()):
                shown = shown[row]
        low, high = shown.reshape(-1, 2).min(axis=0), shown.reshape(-1, 2).max(axis=0)
        width = (high - low).max() / rng.uniform(0.45, 0.8)
        middle = 0.5 * (low + high) + rng.uniform(-0.12, 0.12, 2) * width
    else:
        width = 1.0
        # As if turned a little away, the camera has the hands anywhere in its picture, at times cut by its border.
        shown = points[scene.present].reshape(-1, 2)
        low, high = shown.min(axis=0), shown.max(axis=0)
        room = np.maximum(1.0 - (high - low), 0.0) + _CUT
        middle = 0.5 * (low + high) + (rng.uniform(-0.25, 0.25, (2, 2)).sum(axis=0)) * room
    scale = size / width
    return np.array(
        [
            [focal * scale, 0.0, 0.5 * size - middle[0] * scale],
            [0.0, focal * scale, 0.5 * size - middle[1] * scale],
            [0.0, 0.0, 1.0],
        ]
    )


def turns(vector: Array) -> Array:
    """Rotation vectors [N, 3] as matrices [N, 3, 3]."""
    return rotations.to_matrix(rotations.from_rotation_vector(vector))


def _unit(vector: Array) -> Array:
    return vector / np.linalg.norm(vector, axis=-1, keepdims=True)


def _across(direction: Array, vector: Array) -> Array:
    """The unit part of vectors [N, 3] at right angles to unit directions [N, 3]."""
    return _unit(vector - np.sum(vector * direction, axis=-1, keepdims=True) * direction)
