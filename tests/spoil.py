"""Takes of two hands that move about, spoilt in known ways: hands missing, on the wrong side, seen twice."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dir_core import rotations
from dir_core.camera import project
from dir_core.clean_up.edits import drop_hand, exchange_sides
from dir_core.conventions import KEYPOINTS, SIDES, Side
from dir_core.take import Take
from tests.takes import curl_rotation, make_take

PIXEL_NOISE = 6.0
LANDMARK_NOISE = 0.004  # metres


@dataclass(frozen=True)
class Spoilt:
    """A spoilt take and what is in its rows.

    Attributes:
        take: the spoilt one.
        owner: side -> [T] which hand the row of that side shows: -1 none, 0 the left one, 1 the right one.
        copied: side -> [T] bool, the row holds a noisy copy of what the other row shows.
    """

    take: Take
    owner: Mapping[Side, Any]
    copied: Mapping[Side, Any]


def moving_take(models: Mapping[Side, Any], count: int, rate: float, motion: str, seed: int) -> Take:
    """Truth: both hands roam, approach, cross or wave, turning and curling all the while.

    Args:
        models: a hand model per side.
        count: frames.
        rate: frames per second.
        motion: "roam", "approach", "cross" or "wave".
        seed: of the speeds, phases and poses.
    """
    rng = np.random.default_rng(seed)
    take = make_take(models, 1, rate)  # for all that does not move
    time = np.arange(count) / rate
    tracks = {}
    for side, sign in (("left", 1.0), ("right", -1.0)):
        speed, phase = rng.uniform(0.3, 0.9), rng.uniform(0, 1)
        rotation = curl_rotation(models[side], take.hand(side).shape, rng.uniform(0.3, 1.2) * time + phase)
        turn = 0.9 * _wander(time, rng, 3, rng.uniform(0.15, 0.5))
        rotation[:, 0] = rotations.multiply(rotations.from_rotation_vector(turn), rotation[:, 0])
        sway = _wander(time, rng, 3, speed)
        swing = 2 * np.pi * (rng.uniform(0.4, 1.0) if side == "left" else 0.5) * time
        middle = {
            "roam": 0.12 * sign + 0.05 * sway[:, 0],
            "approach": sign * (0.075 + 0.045 * np.cos(0.5 * np.pi * speed * time)) + 0.01 * sway[:, 0],
            "cross": 0.13 * sign * np.cos(2 * np.pi * 0.35 * time) + 0.02 * sway[:, 0],
            "wave": 0.11 * sign + 0.09 * np.sin(2.0 * swing),
        }[motion]
        place = np.stack([middle, 0.06 + 0.05 * sway[:, 1], 0.6 + 0.05 * sway[:, 2] + 0.03 * sign], axis=-1)
        shape = take.hand(side).shape
        keypoints = models[side].pose_keypoints(rotation, place, shape)
        tracks[side] = replace(
            take.hand(side),
            rotation=rotations.make_continuous(rotation).astype(np.float32),
            translation=place.astype(np.float32),
            keypoints_2d=project(keypoints, take.camera_matrix).astype(np.float32),
            keypoints_3d=keypoints.astype(np.float32),
            confidence=np.full((count, len(KEYPOINTS)), 0.9, np.float32),
            observed=np.ones(count, np.bool_),
        )
    return replace(take, time=time, frame=np.arange(count), **tracks)


def spoil(
    truth: Take, seed: int, *, missing: float = 0.2, swapped: float = 0.15, misplaced: float = 0.1, twice: float = 0.05
) -> Spoilt:
    """The take as a bad tracker gives it: noise, holes, copies of one hand in both rows, sides exchanged.

    Args:
        truth: a take that is right.
        seed: of all that is random.
        missing: share of each hand's frames that is taken away, in ranges.
        swapped: share of the frames whose sides are exchanged, in ranges.
        misplaced: share of the frames in which a hand that is alone is put on the other side, in ranges.
        twice: share of the frames in which one row is overwritten by a copy of the other, in ranges, for each side.
    """
    rng = np.random.default_rng(seed)
    count = len(truth)
    take = replace(truth, left=_noisy(truth.left, rng), right=_noisy(truth.right, rng))
    owner = {side: np.where(truth.hand(side).observed, index, -1) for index, side in enumerate(SIDES)}
    for side in SIDES:
        gone = _random_ranges(count, missing, rng)
        owner[side][gone] = -1
        take = drop_hand(take, side, gone)

    copied = {side: np.zeros(count, bool) for side in SIDES}
    for side, other in (SIDES, SIDES[::-1]):
        rows = _random_ranges(count, twice, rng) & (owner[other] >= 0) & ~copied[other]
        copy, own = _noisy(take.hand(other), rng), take.hand(side)
        fields = {
            name: np.where(
                rows.reshape(-1, *[1] * (getattr(own, name).ndim - 1)), getattr(copy, name), getattr(own, name)
            )
            for name in ("rotation", "translation", "keypoints_2d", "keypoints_3d", "confidence", "observed")
        }
        take = replace(take, **{side: replace(own, **fields)})
        owner[side][rows] = owner[other][rows]
        copied[side] |= rows

    alone = (owner["left"] < 0) != (owner["right"] < 0)
    moved = _random_ranges(count, swapped, rng) ^ (_random_ranges(count, misplaced, rng) & alone)
    take = exchange_sides(take, moved)
    return Spoilt(take, _exchanged(owner, moved), _exchanged(copied, moved))


def share_right(spoilt: Spoilt, repaired: Take) -> float:
    """Share of the hand-frames that are right: every hand that can be seen on its side, and nothing else kept."""
    wanted = right = wrong = 0
    for index, side in enumerate(SIDES):
        shown = [spoilt.owner[each] == index for each in SIDES]
        visible = shown[0] | shown[1]
        kept = repaired.hand(side)
        good = np.zeros(len(repaired), bool)
        for each, rows in zip(SIDES, shown, strict=True):
            good |= rows & (kept.keypoints_2d == spoilt.take.hand(each).keypoints_2d).all(axis=(1, 2)) & kept.observed
        wanted += visible.sum()
        right += (good & visible).sum()
        wrong += (kept.observed & ~visible).sum()
    return float((right - wrong) / wanted)


def _wander(time: Any, rng: np.random.Generator, axes: int, speed: float) -> Any:
    """Smooth paths [T, axes] of amplitude about one, `speed` in turns per second."""
    path = np.zeros((len(time), axes))
    for harmonic in (1.0, 1.7):
        path += np.sin(2 * np.pi * (harmonic * speed * time[:, None] + rng.uniform(0, 1, axes))) / harmonic
    return 0.6 * path


def _noisy(hand: Any, rng: np.random.Generator) -> Any:
    seen = hand.observed[:, None, None]
    noise_2d = rng.normal(0, PIXEL_NOISE, hand.keypoints_2d.shape).astype(np.float32)
    noise_3d = rng.normal(0, LANDMARK_NOISE, hand.keypoints_3d.shape).astype(np.float32)
    lower = rng.uniform(0.8, 1.0, (len(hand.observed), 1)).astype(np.float32)
    return replace(
        hand,
        keypoints_2d=hand.keypoints_2d + seen * noise_2d,
        keypoints_3d=hand.keypoints_3d + seen * noise_3d,
        confidence=hand.confidence * lower,
    )


def _random_ranges(count: int, share: float, rng: np.random.Generator) -> Any:
    """Bool [T], about `share` of it True in ranges of 1 to 40 frames, short ones as often as long ones."""
    chosen = np.zeros(count, bool)
    while chosen.mean() < share:
        first = rng.integers(count)
        chosen[first : first + round(np.exp(rng.uniform(0, np.log(40))))] = True
    return chosen


def _exchanged(rows: Mapping[Side, Any], moved: Any) -> dict[Side, Any]:
    left, right = rows["left"], rows["right"]
    return {"left": np.where(moved, right, left), "right": np.where(moved, left, right)}
