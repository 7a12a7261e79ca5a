"""Clips of one person's two hands: they come together, move while they touch and part. numpy only."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dir_core import rotations
from dir_core.conventions import Side
from dir_core.degrees_of_freedom import HIGHEST, LOWEST, rotations_from_angles
from dir_core.hand_model import HandModel
from dir_core.training.contacts import Body, Pair, depth, push_apart, slide_to_contact
from dir_core.training.scenes import (
    TOUCHING,
    Camera,
    Scene,
    elbows,
    fit_arms,
    free_fingers,
    pair_keypoints,
    sample_body,
    sample_scene,
    turns,
)
from dir_core.training.two_hands import Kind, TwoHands, View

Array = NDArray[Any]

_OPEN_AT = 0.07  # metres from contact at which the fingers have opened for it
_STRAIGHTER = 0.3  # of a clasp's bend fingers have when they go between each other
_GAPS: Final = (0.16, 0.2, 0.24, 0.28, 0.32)  # metres beyond contact that are tried to part the hands by
_LEAST_GAP = 0.006  # metres between hands that gesture near each other
_CLEAR = 0.04  # metres between hands that are apart
_SKIN = 0.005  # metres that hands may press into each other while they move
_PUSHES = 8
_DEEP, _TRIES = 0.007, 3  # metres; hands that get deeper into each other move anew, some times at most
_SMOOTH_SECONDS = 0.05  # over which what keeps the hands apart is smoothed, or fingers would twitch
_BORDER = 0.06  # of the picture that stays free around the hands
_DISTANCES: Final = np.linspace(0.35, 1.5, 24)  # metres of the camera that are tried

# When the hands of a touching clip are apart, open before contact, touching, closed; moved; and the way back.
_TOUCH_TIMES: Final = np.array([0.0, 0.18, 0.32, 0.4, 0.46, 0.54, 0.62, 0.68, 0.82, 1.0])
_CROSS_TIMES: Final = np.array([0.0, 0.15, 0.45, 0.6, 0.88, 1.0])
_GESTURE_SECONDS = 0.7


def sample_clip(  # noqa: PLR0917 - what may be asked of a clip
    rng: np.random.Generator,
    models: Mapping[Side, HandModel],
    kind: Kind,
    view: View,
    seconds: float,
    frame_rate: float,
    image_size: tuple[int, int] = (640, 480),
) -> TwoHands:
    """Both hands moving for some seconds; they stay in the picture.

    Hands that touch start apart, come together, move while they touch and part again; passing hands cross
    and cross back; others gesture.
    """
    body = sample_body(rng, models)
    scene = sample_scene(rng, body, kind, view)
    count = max(round(seconds * frame_rate), 1)
    least = np.inf
    for _ in range(_TRIES):
        times, keys = _key_poses(rng, body, scene, kind, seconds)
        moves = _moves(times, keys, np.linspace(0.0, 1.0, count))
        if not scene.present.all():
            pair, bend = moves.pair, moves.bend
            break
        clear = _kept_apart(body, moves.pair, _SMOOTH_SECONDS * frame_rate)
        deepest = depth(body, clear).max()
        if deepest < least:
            pair, bend, least = clear, moves.bend, deepest
        if least < _DEEP:
            break
    elbow = elbows(body, pair.turn, pair.place, bend)
    camera, camera_matrix = _frame_all(rng, body, scene, pair, image_size)
    wrist = rotations.from_matrix(camera.turn[0] @ pair.turn)
    rotation = [
        rotations_from_angles(body.capsules[side].geometry, wrist[:, side], pair.angles[:, side]) for side in (0, 1)
    ]
    return TwoHands(
        kind=kind,
        view=view,
        rotation=rotations.make_continuous(np.stack(rotation, axis=1)),
        translation=_see(camera, pair.place),
        elbow=_see(camera, elbow),
        present=scene.present,
        shape=body.shape,
        scale=body.scale,
        camera_matrix=camera_matrix,
        image_size=image_size,
        frame_rate=frame_rate,
    )


@dataclass(frozen=True, eq=False)
class _Keys:
    """Poses at N times: the hands and their wrist bends [N, 2, 2]."""

    pair: Pair
    bend: Array


def _key_poses(rng: np.random.Generator, body: Body, scene: Scene, kind: Kind, seconds: float) -> tuple[Array, _Keys]:
    """Times [N], as shares of the clip, and poses between which the hands move."""
    if kind in TOUCHING:
        times, pairs = _TOUCH_TIMES, _touching_keys(rng, body, scene.pair)
    elif kind == "passing":
        times, pairs = _CROSS_TIMES, _passing_keys(rng, body, scene)
    else:
        times = np.linspace(0.0, 1.0, max(round(seconds / _GESTURE_SECONDS), 2) + 1)
        pairs = _gesture_keys(rng, body, scene.pair, len(times), 0.008 if kind == "near" else 0.03)
    bend, bends = scene.bend, []
    for pair in pairs:
        bend = fit_arms(rng, body, pair, bend)[1]
        bends.append(bend)
    return times, _Keys(_joined(pairs), np.concatenate(bends))


def _touching_keys(rng: np.random.Generator, body: Body, contact: Pair) -> list[Pair]:
    """Apart (twice: a gesture), open, touching, closed, moved twice, opened, open and apart."""
    moved, later = (_all_moved(contact, *_small_move(rng, 25.0, 0.05)) for _ in range(2))
    start, end = (_parted(rng, body, pair) for pair in (contact, later))
    return [
        _gestured(rng, start, 0.02, 12.0),
        start,
        _opened(contact, _OPEN_AT),
        _opened(contact, 0.0),
        contact,
        moved,
        later,
        _opened(later, 0.0),
        end,
        _gestured(rng, end, 0.02, 12.0),
    ]


def _opened(contact: Pair, gap: float) -> Pair:
    """Hands a gap before they touch, fingers open for it."""
    angles = contact.opened.copy()
    if gap > 0:
        angles[:, :, 1:, 0] *= _STRAIGHTER
    return replace(contact, angles=angles, place=_spread(contact, gap))


def _parted(rng: np.random.Generator, body: Body, contact: Pair) -> Pair:
    """Hands clearly apart, each towards its own side, with free fingers."""
    own_side = rng.uniform(0.02, 0.08, (1, 2, 1)) * np.array([-1.0, 1.0])[:, None] * np.array([1.0, 0.0, 0.0])
    loose = _gestured(rng, replace(contact, angles=free_fingers(rng, body, 2)[None]), 0.02, 20.0)
    loose = replace(loose, place=loose.place + own_side)
    tried = [replace(loose, place=_spread(loose, gap)) for gap in _GAPS]
    clear = depth(body, _joined(tried)) < -_CLEAR
    return tried[int(np.argmax(clear)) if clear.any() else -1]


def _spread(pair: Pair, gap: float) -> Array:
    """Wrists [1, 2, 3] moved apart by a gap along the direction in which the hands leave each other."""
    moved: Array = pair.place + 0.5 * gap * np.array([-1.0, 1.0])[:, None] * pair.away[:, None]
    return moved


def _passing_keys(rng: np.random.Generator, body: Body, scene: Scene) -> list[Pair]:
    """Hands on their own sides, crossing one before the other, on the other's side, and back."""
    across = scene.camera.turn[0, 0]  # to the right in the picture
    if across[0] < 0:
        across = -across  # to the person's right
    keys = []
    for offset, fingers in (
        (0.24, None),
        (0.2, None),
        (0.0, scene.pair.angles),
        (-0.16, None),
        (0.0, None),
        (0.22, None),
    ):
        step = 0.5 * offset * np.array([-1.0, 1.0])[:, None] * across
        pair = replace(scene.pair, place=scene.pair.place + step)
        if fingers is None and abs(offset) > 0:
            pair = _gestured(rng, pair, 0.01, 8.0)
        keys.append(pair)
    return keys


def _gesture_keys(rng: np.random.Generator, body: Body, pair: Pair, count: int, reach: float) -> list[Pair]:
    """Hands that stay about where they are and change fingers."""
    keys = [pair]
    for _ in range(count - 1):
        angles = np.where(rng.random((1, 2, 1, 1)) < 0.7, free_fingers(rng, body, 2)[None], keys[-1].angles)
        key = _gestured(rng, replace(pair, angles=angles), reach, 15.0)
        if depth(body, key)[0] > -_LEAST_GAP:
            key = slide_to_contact(body, key, 1, pair.away, np.array([-2.0 * _LEAST_GAP]))
        keys.append(key)
    return keys


def _gestured(rng: np.random.Generator, pair: Pair, reach: float, degrees: float) -> Pair:
    """Every hand moved by about `reach` metres and turned by some degrees."""
    turn = np.stack([turns(rng.normal(size=(1, 3)) * np.radians(degrees) * 0.6) for _ in range(2)], axis=1)
    return replace(pair, place=pair.place + rng.normal(size=(1, 2, 3)) * reach, turn=turn @ pair.turn)


def _small_move(rng: np.random.Generator, degrees: float, reach: float) -> tuple[Array, Array]:
    return turns(rng.normal(size=(1, 3)) * np.radians(degrees) * 0.6), rng.normal(size=(1, 1, 3)) * reach * 0.6


def _all_moved(pair: Pair, turn: Array, step: Array) -> Pair:
    """Both hands together turned about the middle between them and moved."""
    middle = pair.place.mean(axis=1, keepdims=True)
    turned = replace(pair, place=pair.place - middle).turned(turn)
    return replace(turned, place=turned.place + middle + step)


def _joined(pairs: list[Pair]) -> Pair:
    """N pairs of one as one of N."""
    fields = ("angles", "turn", "place", "away", "opened")
    return Pair(**{name: np.concatenate([getattr(pair, name) for pair in pairs]) for name in fields})


def _moves(times: Array, keys: _Keys, at: Array) -> _Keys:
    """The poses at times [T] on minimum-jerk moves from each key pose to the next (Flash and Hogan 1985)."""
    row = np.clip(np.searchsorted(times, at, side="right") - 1, 0, len(times) - 2)
    share = (at - times[row]) / (times[row + 1] - times[row])
    smooth = share**3 * (10.0 - 15.0 * share + 6.0 * share**2)

    def between(values: Array) -> Array:
        weight = smooth.reshape(-1, *[1] * (values.ndim - 1))
        return values[row] + weight * (values[row + 1] - values[row])

    turn = rotations.from_matrix(keys.pair.turn)
    turn = rotations.slerp(turn[row], turn[row + 1], np.repeat(smooth[:, None], 2, axis=1))
    pair = Pair(
        angles=np.clip(between(keys.pair.angles), LOWEST, HIGHEST),
        turn=rotations.to_matrix(turn),
        place=between(keys.pair.place),
        away=keys.pair.away[row],
        opened=keys.pair.opened[row],
    )
    return _Keys(pair, between(keys.bend))


def _kept_apart(body: Body, pair: Pair, smooth_frames: float) -> Pair:
    """The hands without running through each other on their way; T frames, changed smoothly over time."""
    pushed = push_apart(body, pair, _SKIN, _PUSHES)
    reach = max(round(3 * smooth_frames), 1)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(smooth_frames, 1e-3)) ** 2)
    rows = np.clip(np.arange(len(pair))[:, None] + np.arange(-reach, reach + 1), 0, len(pair) - 1)

    def smooth(change: Array) -> Array:
        return np.einsum("tk...,k->t...", change[rows], weights / weights.sum())

    angles = np.clip(pair.angles + smooth(pushed.angles - pair.angles), LOWEST, HIGHEST)
    return replace(pair, angles=angles, place=pair.place + smooth(pushed.place - pair.place))


def _frame_all(
    rng: np.random.Generator, body: Body, scene: Scene, pair: Pair, image_size: tuple[int, int]
) -> tuple[Camera, Array]:
    """The scene's camera moved so that it sees the hands in every frame, and its matrix [3, 3]."""
    size = np.array(image_size, np.float64)
    keypoints = pair_keypoints(body, pair)[:, scene.present].reshape(-1, 3)
    turn = scene.camera.turn[0]
    seen = keypoints @ turn.T
    middle = 0.5 * (seen.min(axis=0) + seen.max(axis=0))
    focal = 0.5 * size[0] / np.tan(0.5 * scene.camera.field_of_view[0])
    # The nearest distance at which all hands are inside, and up to a quarter more.
    tried = _DISTANCES[:, None, None]
    away = seen[:, 2:] - middle[2] + tried
    places = focal * (seen[:, :2] - middle[:2]) / np.maximum(away, 0.05)
    inside = (np.abs(places) < (0.5 - _BORDER) * size).all(axis=(1, 2)) & (away.min(axis=(1, 2)) > 0.25)
    chosen = _DISTANCES[int(np.argmax(inside)) if inside.any() else -1] * rng.uniform(1.0, 1.25)
    place = (middle - [0.0, 0.0, chosen]) @ turn
    camera_matrix = np.array([[focal, 0.0, 0.5 * size[0]], [0.0, focal, 0.5 * size[1]], [0.0, 0.0, 1.0]])
    return Camera(turn[None], place[None], scene.camera.field_of_view), camera_matrix


def _see(camera: Camera, points: Array) -> Array:
    """Points [T, 2, 3] of body axes as the one camera sees them."""
    return camera.see(points[None])[0]
