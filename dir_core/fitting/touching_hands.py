"""How far apart in depth two hands are that overlap in the picture. numpy and scipy.

A hand's depth follows from its size in the picture and errs by centimetres, so two hands that touch come out apart or
inside each other. Where their outlines overlap, more is known: hands do not pass through each other, hands that are
close to touching mostly touch, and the one whose key points are seen where they cross is in front.
Per frame one unknown is left, the step in depth between the hands. Every step of a range is tried, and the best path
through the clip is found by dynamic programming: a search that is not caught on the wrong side of a hand.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dir_core.camera import rays
from dir_core.clean_up.capsules import COUNT, FINGER, RANK, HandCapsules, closest_points, fit_capsules, place_capsules
from dir_core.clean_up.contact import Hand
from dir_core.clean_up.contact_solver import BLOCK
from dir_core.clean_up.gaps import rows_to_fit
from dir_core.clean_up.touch import Pairs, Touch, find_near, find_touch, watch_pairs
from dir_core.conventions import KEYPOINT_BONES, SIDES, Side
from dir_core.fitting.hand_pose import place_on_rays
from dir_core.hand_model import HandModel
from dir_core.landmarks import HandLandmarkTrack, length_in_image

Array = NDArray[Any]

BLEND: Final = 0.15
"""Seconds before the first and after the last frame of an overlap over which the correction comes and goes."""

_THICKNESS = 0.12  # of a finger, in lengths of the hand
_STEPS: Final = np.arange(-0.1, 0.1001, 0.005)  # metres that the right hand goes back against the left one
_LATERAL = 0.010  # metres between outlines in the picture up to which capsules are watched
_FLATTEN = 0.01  # of depth is left where capsules are compared in the picture: enough to choose the nearer of two

_NEAREST = 0.1  # metres
_PLACE_ITERATIONS = 4
_FAR_OFF = 0.05  # of the hand's extent in the picture

# Costs are squares of sigmas: a cost of 1 weighs as much as a depth that errs by its usual error.
_DEPTH_NOISE = 0.025  # of the depth, for a hand that is seen well
_LEAST_TRUST = 0.1  # of a hand that is not seen at all
# Metres of penetration: poses of hidden fingers err by as much, and must not drive interlaced hands out of each other.
_INTO = 0.01
_DEEPEST = 0.015  # metres beyond which a pair counts no more: no pose error is that deep, and all steps stay comparable
_TOUCH_PULL, _TOUCH_REACH = 0.8, 0.015  # cost of a gap, metres from which on it is none of a touch
_ORDER_PULL = 0.5  # cost of a capsule that is seen though it lies behind another
_ORDER_SLACK = 0.02  # metres
_SURE = 0.3  # difference in confidence below which nothing is said about who is in front
_PACE = 0.04  # metres per square root of a second by which the step changes
_KEYPOINT: Final = np.where(FINGER < 0, 0, 1 + 4 * FINGER + RANK)  # a capsule's start
_KEYPOINT_END: Final = np.where(FINGER < 0, 1 + 4 * (np.arange(COUNT) - COUNT + 5), _KEYPOINT + 1)


def overlap_share(tracks: Mapping[Side, HandLandmarkTrack], time: Array) -> Array:
    """How far each of T frames belongs to an overlap of two hands in the picture: 1 in it, 0 beyond `BLEND` seconds.

    Where a hand is not observed for a short while the frames around say whether it overlaps.
    """
    share = np.zeros(len(time))
    if len(tracks) < len(SIDES):
        return share
    both = np.flatnonzero(np.all([track.observed for track in tracks.values()], axis=0))
    if len(both) == 0:
        return share
    near = np.zeros(len(both), bool)
    for rows in (slice(first, first + BLOCK) for first in range(0, len(both), BLOCK)):
        near[rows] = _overlap(*(tracks[side].keypoints_2d[both[rows]].astype(np.float64) for side in SIDES))
    fitted = np.all([rows_to_fit(track.observed, time) for track in tracks.values()], axis=0)
    inside = fitted & (np.interp(time, time[both], near) > 0)
    if inside.any():
        distance = _time_to(time, time[inside])
        share = np.clip(1.0 - distance / BLEND, 0.0, 1.0)
    eased: Array = share * share * (3.0 - 2.0 * share)
    return eased


def near_times(time: Array, chosen: Array, reach: float) -> Array:
    """Which of the times [T] are at most `reach` seconds away from one of those chosen [n]."""
    near: Array = _time_to(time, chosen) <= reach
    return near


def _time_to(time: Array, chosen: Array) -> Array:
    """Seconds [T] to the nearest of the times chosen [n >= 1]."""
    after = np.searchsorted(chosen, time).clip(0, len(chosen) - 1)
    return np.minimum(np.abs(time - chosen[after]), np.abs(time - chosen[np.maximum(after - 1, 0)]))


def _overlap(left: Array, right: Array) -> Array:
    """Frames [N] bool in which bones of hands seen at pixels [N, 21, 2] are closer than a finger is thick."""
    reach = _THICKNESS * 0.5 * (length_in_image(left) + length_in_image(right))
    low, high = np.maximum(left.min(axis=1), right.min(axis=1)), np.minimum(left.max(axis=1), right.max(axis=1))
    overlap = (low - high < reach[:, None]).all(axis=1)
    one, other = (_along_bones(hand[overlap]) for hand in (left, right))
    apart = np.square(one[:, :, None, 0] - other[:, None, :, 0]) + np.square(one[:, :, None, 1] - other[:, None, :, 1])
    overlap[overlap] = apart.min(axis=(1, 2)) < reach[overlap] ** 2
    return overlap


def _along_bones(pixels: Array) -> Array:
    """Points [N, 60, 2] along the bones of hands at pixels [N, 21, 2]."""
    start, end = (pixels[:, list(ends)] for ends in zip(*KEYPOINT_BONES, strict=True))
    return np.concatenate([start + share * (end - start) for share in (1 / 3, 2 / 3, 1)], axis=1)


def place_in_picture(relative: Array, ray: Array, weight: Array) -> Array:
    """Position [N, 3] at which points [N, 21, 3] are seen nearest to their viewing rays [N, 21, 2].

    `place_on_rays` takes the rays for exact: where many points are hidden their errors spread them, and the hand comes
    out too near. Here their errors are in the picture, and those of a few points far off do not count.
    """
    position = place_on_rays(relative, ray, weight)
    extent = np.maximum(np.ptp(ray, axis=1).max(axis=-1), 1e-6)[:, None]
    change = np.zeros((*ray.shape, 3))
    for _ in range(_PLACE_ITERATIONS):
        position[:, 2] = np.maximum(position[:, 2], _NEAREST)
        placed = relative + position[:, None]
        depth = np.maximum(placed[..., 2:], 0.5 * _NEAREST)
        seen = placed[..., :2] / depth
        miss = seen - ray
        sure = weight / (1.0 + np.sum(miss**2, axis=-1) / (_FAR_OFF * extent) ** 2)
        change[..., 0, 0] = change[..., 1, 1] = 1.0 / depth[..., 0]
        change[..., 2] = -seen / depth
        pull = sure[..., None, None] * change
        normal = np.einsum("nkri,nkrj->nij", pull, change) + 1e-9 * np.eye(3)
        gradient = np.einsum("nkri,nkr->ni", pull, miss)
        position = position - np.linalg.solve(normal, gradient[..., None])[..., 0]
    position[:, 2] = np.maximum(position[:, 2], _NEAREST)
    return position


def settle_depth(
    hands: Mapping[Side, Hand],
    pixels: Mapping[Side, Array],
    trust: Mapping[Side, Array],
    time: Array,
    *,
    models: Mapping[Side, HandModel],
    camera_matrix: Array,
) -> dict[Side, Array]:
    """Wrists [T, 3] of both hands at depths that agree with each other where the hands overlap in the picture.

    Each hand moves along its line of sight, the less sure one further.

    Args:
        hands: the left and the right hand over T frames, each fitted for itself.
        pixels: [T, 21, 2] key points that each side's pose explains, also where it was not observed.
        trust: [T, 21] in 0..1 of each key point, 0 where the hand was not observed.
        time: [T] seconds, increasing.
        models: the hand model of each side.
        camera_matrix: [3, 3] pixels.

    Source: min-sum (Viterbi) on a chain; the best step between those tried by a parabola through its neighbours.
    """
    places = {side: hands[side].translation for side in SIDES}
    seen = np.all([rows_to_fit(trust[side].any(axis=1), time) for side in SIDES], axis=0)
    if not seen.any():
        return places
    capsules = [fit_capsules(models[side], hands[side].shape, hands[side].scale) for side in SIDES]
    directions = {side: _line_of_sight(pixels[side], trust[side], camera_matrix) for side in SIDES}
    noise = np.stack([_depth_noise(places[side], trust[side]) for side in SIDES])
    part = noise**2 / (noise**2).sum(axis=0)  # that each hand takes of the way
    way = part[0, :, None] * directions["left"] + part[1, :, None] * directions["right"]
    pairs = watch_pairs(capsules)
    pairs = pairs.only(pairs.group == 0)

    rows, cost = [np.zeros(0, np.intp)], [np.zeros((0, len(_STEPS)))]
    candidates = np.flatnonzero(seen)
    for block in (candidates[first : first + BLOCK] for first in range(0, len(candidates), BLOCK)):
        overlapping, costs = _cost_of_steps(
            _place_ends(hands, capsules, block),
            pairs,
            np.concatenate([_capsule_trust(trust[side][block]) for side in SIDES], axis=1),
            way[block],
        )
        rows.append(block[overlapping])
        cost.append(costs)
    overlap, costs = np.concatenate(rows), np.concatenate(cost)
    if len(overlap) == 0:
        return places
    costs += _STEPS**2 / (noise[:, overlap] ** 2).sum(axis=0)[:, None]
    step = np.interp(time, time[overlap], _best_path(costs, time[overlap]))
    return {
        "left": places["left"] - (part[0] * step)[:, None] * directions["left"],
        "right": places["right"] + (part[1] * step)[:, None] * directions["right"],
    }


def _line_of_sight(pixels: Array, trust: Array, camera_matrix: Array) -> Array:
    """Directions [T, 3] per metre of depth in which a hand moves without leaving where it is seen."""
    share = trust + 1e-6
    share /= share.sum(axis=1, keepdims=True)
    ray = np.einsum("tk,tkd->td", share, rays(pixels.astype(np.float64), camera_matrix))
    return np.concatenate([ray, np.ones_like(ray[:, :1])], axis=1)


def _depth_noise(place: Array, trust: Array) -> Array:
    """Sigma [T] of the depth of a hand, metres."""
    sigma: Array = _DEPTH_NOISE * np.abs(place[:, 2]) / np.sqrt(np.maximum(trust.mean(axis=1), _LEAST_TRUST))
    return np.maximum(sigma, 1e-6)


def _place_ends(hands: Mapping[Side, Hand], capsules: list[HandCapsules], rows: Array) -> Array:
    """Capsule ends [N, 2 x 19, 2, 3] of both hands in some frames."""
    placed = [
        place_capsules(hand, hands[side].rotation[rows], hands[side].translation[rows]).ends
        for side, hand in zip(SIDES, capsules, strict=True)
    ]
    return np.concatenate(placed, axis=1)


def _capsule_trust(trust: Array) -> Array:
    """Trust [N, 19, 2] at both ends of every capsule from that in key points [N, 21]."""
    return np.stack([trust[:, _KEYPOINT], trust[:, _KEYPOINT_END]], axis=-1)


def _cost_of_steps(ends: Array, pairs: Pairs, trust: Array, way: Array) -> tuple[Array, Array]:
    """Frames [n] of N in which the hands overlap in the picture, and what they say against every step [n, K].

    Args: capsule ends [N, 38, 2, 3], trust in them [N, 38, 2], way [N, 3] of the right hand per metre of its step.
    """
    depth = np.maximum(ends[..., 2:], 1e-3)
    scale = depth.mean(axis=(1, 2), keepdims=True)
    flat = np.concatenate([ends[..., :2] / depth * scale, _FLATTEN * ends[..., 2:]], axis=-1)
    crossing = find_touch(flat, pairs, *find_near(flat, pairs, _LATERAL), _LATERAL)
    frames, row = np.unique(crossing.frame, return_inverse=True)
    cost = _order_cost(crossing, pairs, flat, trust)[frames]
    first, second = ends[crossing.frame, pairs.first[crossing.pair]], ends[crossing.frame, pairs.second[crossing.pair]]
    thickness, forward = pairs.thickness[crossing.pair], way[crossing.frame][:, None]
    for k, step in enumerate(_STEPS):
        start, end = closest_points(first, second + step * forward)
        into = thickness - np.sqrt(np.einsum("md,md->m", end - start, end - start))
        pressed = (np.clip(into, 0.0, _DEEPEST) / _INTO) ** 2
        cost[:, k] += np.bincount(row, pressed, len(frames))
        gap = np.full(len(frames), _TOUCH_REACH)
        np.minimum.at(gap, row, -into)
        cost[:, k] += _TOUCH_PULL * np.maximum(gap / _TOUCH_REACH, 0.0) ** 2
    return frames, cost


def _order_cost(crossing: Touch, pairs: Pairs, flat: Array, trust: Array) -> Array:
    """Cost [N, K] of steps that put capsules in front of others which are seen better where both cross."""
    sure, depth = [], []
    for capsule, point in ((pairs.first, crossing.start), (pairs.second, crossing.end)):
        ends, known = (array[crossing.frame, capsule[crossing.pair]] for array in (flat, trust))
        along = ends[:, 1] - ends[:, 0]
        share = np.einsum("md,md->m", point - ends[:, 0], along) / np.maximum(
            np.einsum("md,md->m", along, along), 1e-12
        )
        sure.append(known[:, 0] + share * (known[:, 1] - known[:, 0]))
        depth.append(point[:, 2] / _FLATTEN)
    difference = sure[0] - sure[1]
    covered = np.clip(2.0 * crossing.depth / pairs.thickness[crossing.pair], 0.0, 1.0)
    weight = covered * np.maximum(np.abs(difference) - _SURE, 0.0) / (1.0 - _SURE)
    told = weight > 0
    frame, weight, ahead = crossing.frame[told], weight[told], np.sign(difference[told])
    behind = ahead * (depth[1] - depth[0])[told]  # metres that the hidden one is behind now
    cost = np.zeros((len(flat), len(_STEPS)))
    for k, step in enumerate(_STEPS):
        wrong = np.clip(-(behind + ahead * step) / _ORDER_SLACK, 0.0, 1.0)
        cost[:, k] = _ORDER_PULL * np.bincount(frame, weight * wrong, len(flat))
    return cost


def _best_path(cost: Array, time: Array) -> Array:
    """Steps [n] with the least cost [n, K] together, which change little from one time [n] to the next."""
    change = (_STEPS[:, None] - _STEPS) ** 2 / _PACE**2
    pace = 1.0 / np.diff(time)
    before, after = np.zeros_like(cost), np.zeros_like(cost)
    for i in range(1, len(cost)):
        before[i] = (before[i - 1] + cost[i - 1] + change * pace[i - 1]).min(axis=1)
    for i in range(len(cost) - 2, -1, -1):
        after[i] = (after[i + 1] + cost[i + 1] + change * pace[i]).min(axis=1)
    total = before + cost + after
    best = np.clip(total.argmin(axis=1), 1, len(_STEPS) - 2)
    left, middle, right = (total[np.arange(len(total)), best + offset] for offset in (-1, 0, 1))
    bend = np.maximum(left - 2 * middle + right, 1e-9)
    return _STEPS[best] + (_STEPS[1] - _STEPS[0]) * np.clip(0.5 * (left - right) / bend, -1.0, 1.0)
