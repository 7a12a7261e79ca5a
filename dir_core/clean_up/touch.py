"""Which capsules of two hands touch, and how deep. numpy only."""

from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dir_core.clean_up.capsules import (
    BONES,
    COUNT,
    FINGER,
    RANK,
    HandCapsules,
    PlacedHand,
    closest_points,
    place_capsules,
)
from dir_core.conventions import JOINTS

Array = NDArray[Any]

SOFT_TISSUE: Final = 0.002
"""Metres that skin gives way: an overlap up to this is contact, not penetration."""


@dataclass(frozen=True, eq=False)
class Pairs:
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

    def only(self, kept: Array) -> "Pairs":
        """Those pairs where `kept` [P] is True."""
        return Pairs(**{field.name: getattr(self, field.name)[kept] for field in fields(self)})


def watch_pairs(capsules: list[HandCapsules]) -> Pairs:
    """The pairs that may not lie in each other: all between two hands, and those within a hand that do not adjoin."""
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
    return Pairs(first, second, thickness, reach, group)


def _flat_ends(hand: HandCapsules) -> Array:
    """Capsule ends [19, 2, 3] of the flat hand."""
    rotation = np.zeros((1, len(JOINTS), 4))
    rotation[..., 0] = 1.0
    return place_capsules(hand, rotation, np.zeros((1, 3))).ends[0]


def find_near(ends: Array, pairs: Pairs, margin: float) -> tuple[Array, Array]:
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
class Touch:
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


def find_touch(ends: Array, pairs: Pairs, frame: Array, pair: Array, margin: float) -> Touch:
    """Those of the near pairs that penetrate or are closer than `margin`."""
    start, end = closest_points(ends[frame, pairs.first[pair]], ends[frame, pairs.second[pair]])
    apart = end - start
    distance = np.sqrt(np.einsum("md,md->m", apart, apart))
    depth = pairs.thickness[pair] - distance
    kept = depth > -margin
    # Axes that cross have no direction apart; such a pair waits for its neighbours to move it.
    normal = apart[kept] / np.maximum(distance[kept], 1e-9)[:, None]
    return Touch(frame[kept], pair[kept], depth[kept], start[kept], end[kept], normal)


def deepest_touch(placed: list[PlacedHand], pairs: Pairs) -> Array:
    """Deepest penetration [1 + S, N] of placed hands."""
    ends = np.concatenate([hand.ends for hand in placed], axis=1)
    touch = find_touch(ends, pairs, *find_near(ends, pairs, 0.0), 0.0)
    depth = np.zeros((1 + len(placed), len(ends)))
    np.maximum.at(depth, (pairs.group[touch.pair], touch.frame), touch.depth)
    return depth
