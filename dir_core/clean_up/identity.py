"""Which hand is left and which is right, decided for a whole clip at once from what a raw take holds.

In every frame the sides of a take are either right or exchanged: two states. A frame speaks for one of them by the
chirality of its 3D key points and by what the take says already; two frames in a row speak for the same or for the
other state, because a hand moves little and keeps its shape from one to the next. The sequence of states that agrees
best with all of that together is found exactly (Viterbi 1967). Where both rows show one hand, one of them goes first.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dir_core.clean_up.edits import drop_hand, exchange_sides
from dir_core.conventions import SIDES, Side
from dir_core.take import Take

Array = NDArray[Any]

# Two skeletons of one hand: mean distances of the key points in palm lengths, in the picture and, with the middles
# laid on each other, in space. Copies of one hand lie within 0.2; left and right hands are 0.35 apart in shape, except
# flat ones, folded and seen from the side (0.23), which differ in chirality.
_SAME_PLACE: Final = 0.3
_SAME_SHAPE: Final = 0.3
_FOLDED_HANDS: Final = 0.3
_SURER: Final = 0.2  # by so much confidence must a skeleton on the wrong side be ahead to be kept instead

_FULL_CHIRALITY: Final = 0.5  # palm lengths; real and posed hands have 0.25 to 1, their noise is a tenth of it
_PRIOR: Final = 0.4  # of a full chirality: the estimator has already summed up what its networks thought

# How one hand changes from frame to frame in place, shape and chirality, all in palm lengths: scales of Student-t
# densities, first the noise of key points, then what a second of ordinary motion adds.
_SCALES: Final = ((0.1, 4.0), (0.15, 1.5), (0.2, 3.0))
_LINK_WEIGHT: Final = 3.0  # (4 degrees of freedom + 2 dimensions) / 2: a snap must stay possible
# That one hand vanishes in the very moment in which the other appears is as unlikely as one hand changing by this much:
# 90 mm between two frames.
_REPLACED: Final = (1.0, 0.5, 0.5)

_KNUCKLES: Final = [5, 9, 13, 17]
_TIPS: Final = [8, 12, 16, 20]
_THUMB: Final = [2, 3, 4]


@dataclass(frozen=True, eq=False)
class IdentityRepair:
    """What was changed.

    Attributes:
        swapped: [T] bool, frames whose sides were exchanged or whose only hand was moved to the other side, and frames
            without hands between them.
        duplicates: side -> [T] bool, frames in which this row of the raw take was a second skeleton of one hand.
    """

    swapped: Array
    duplicates: Mapping[Side, Array]

    @property
    def swaps(self) -> int:
        """Number of runs of swapped frames."""
        return int(np.count_nonzero(np.diff(self.swapped.astype(np.int8), prepend=0) == 1))

    @property
    def removed(self) -> int:
        """Number of skeletons removed."""
        return int(sum(np.count_nonzero(rows) for rows in self.duplicates.values()))


@dataclass(frozen=True, eq=False)
class _Sightings:
    """Both rows of a take side by side; axis 1 is left, right.

    Attributes:
        seen: [T, 2] bool.
        sureness: [T, 2] mean confidence.
        pixels: [T, 2, 21, 2] key points.
        palm: [T, 2] size of the palm in pixels.
        shape: [T, 2, 21, 3] 3D key points about their middle, in palm lengths.
        chirality: [T, 2] palm lengths, positive for a right hand.
    """

    seen: Array
    sureness: Array
    pixels: Array
    palm: Array
    shape: Array
    chirality: Array


def repair_identity(take: Take) -> tuple[Take, IdentityRepair]:
    """Put every hand of a raw take on its side and remove second skeletons of one hand.

    Everything that a frame holds of a hand moves with it. A row that is removed counts as not observed; its pose and
    that of other unobserved rows stay for gap filling to replace. A take that is right comes back as it is.

    Args:
        take: raw take of any estimator; 2D and 3D key points, confidence and time decide.
    """
    sightings = _read_sightings(take)
    twice = _find_duplicates(sightings)
    surer = sightings.sureness.argmax(axis=1)
    seen = sightings.seen.copy()
    seen[twice, 1 - surer[twice]] = False
    swapped = _find_swaps(replace(sightings, seen=seen), twice, take.time)

    # A skeleton that stands on its side already is rather kept than one that would have to move there.
    ahead = np.abs(sightings.sureness[:, 1] - sightings.sureness[:, 0])
    settled = twice & swapped & (ahead < _SURER)
    swapped &= ~settled
    removed = np.where(settled, surer, 1 - surer)
    repair = IdentityRepair(swapped, {side: twice & (removed == row) for row, side in enumerate(SIDES)})

    for side, rows in repair.duplicates.items():
        if rows.any():
            take = drop_hand(take, side, rows)
    return (exchange_sides(take, swapped) if swapped.any() else take), repair


def _read_sightings(take: Take) -> _Sightings:
    def both(name: str) -> Array:
        return np.stack([np.asarray(getattr(take.hand(side), name)) for side in SIDES], axis=1)

    pixels, points = both("keypoints_2d").astype(np.float32), both("keypoints_3d").astype(np.float32)
    # A hand that points at the camera has a short palm, but still a wide one.
    sides_of_palm = pixels[:, :, [9, 17]] - pixels[:, :, [0, 5]]
    palm = np.maximum(np.linalg.norm(sides_of_palm, axis=-1).max(axis=-1), 1.0)
    length = np.maximum(np.linalg.norm(points[:, :, 9] - points[:, :, 0], axis=-1), 1e-3)
    shape = (points - points.mean(axis=2, keepdims=True)) / length[..., None, None]
    return _Sightings(
        seen=both("observed"),
        sureness=both("confidence").mean(axis=-1),
        pixels=pixels,
        palm=palm,
        shape=shape,
        chirality=_chirality(shape),
    )


def _chirality(shape: Array) -> Array:
    """How far fingers and thumb stand out of the palm's plane on the side that is the palm of a right hand, [...].

    Fingers bend and thumbs oppose towards the palm, never towards the back. On a left hand both are negative.

    Args:
        shape: [..., 21, 3] key points in palm lengths.
    """
    wrist = shape[..., 0, :]
    across = np.cross(shape[..., 5, :] - wrist, shape[..., 17, :] - wrist)
    palm = across / np.maximum(np.linalg.norm(across, axis=-1, keepdims=True), 1e-6)
    fingers = shape[..., _TIPS, :].mean(axis=-2) - shape[..., _KNUCKLES, :].mean(axis=-2)
    thumb = shape[..., _THUMB, :].mean(axis=-2) - wrist
    return np.sum((fingers + thumb) * palm, axis=-1)


def _find_duplicates(sightings: _Sightings) -> Array:
    """Frames [T] whose two rows show one hand."""
    apart = _mean_distance(sightings.pixels[:, 0], sightings.pixels[:, 1]) / sightings.palm.mean(axis=1)
    unlike = _mean_distance(sightings.shape[:, 0], sightings.shape[:, 1])
    left, right = sightings.chirality.T
    folded = (left * right < 0) & (np.abs(left - right) > _FOLDED_HANDS)
    same = (apart < _SAME_PLACE) & (unlike < _SAME_SHAPE) & ~folded
    return same & sightings.seen.all(axis=1)


def _find_swaps(sightings: _Sightings, twice: Array, time: Array) -> Array:
    """Frames [T] whose sides are exchanged; a frame without hands goes with those around it, for its filled pose."""
    frames = np.flatnonzero(sightings.seen.any(axis=1))
    if len(frames) == 0:
        return np.zeros(len(time), bool)
    evidence = _weigh_evidence(sightings, twice)[frames]
    swapped = ~_best_states(evidence, _link_frames(sightings, frames, time))
    everywhere = np.arange(len(time))
    before = np.maximum(np.searchsorted(frames, everywhere, "right") - 1, 0)
    after = np.minimum(np.searchsorted(frames, everywhere), len(frames) - 1)
    return swapped[before] & swapped[after]


def _weigh_evidence(sightings: _Sightings, twice: Array) -> Array:
    """How much every frame [T] by itself says that its sides are right."""
    own = np.array([-1.0, 1.0]) * np.clip(sightings.chirality / _FULL_CHIRALITY, -1.0, 1.0)
    said = np.where(twice, 0.0, _PRIOR)  # with one hand in both rows the take says nothing
    return np.sum(np.where(sightings.seen, sightings.sureness, 0.0) * (own + said[:, None]), axis=1)


def _link_frames(sightings: _Sightings, frames: Array, time: Array) -> Array:
    """How much every two neighbours of `frames` [N] say that both are right or both exchanged, [N-1]."""
    before, after = frames[:-1], frames[1:]
    step = np.diff(time[frames])

    def surprise(*changes: Any) -> Array:
        scales = (at_once + per_second * step for at_once, per_second in _SCALES)
        return _LINK_WEIGHT * sum(
            np.log1p((change / scale) ** 2) for change, scale in zip(changes, scales, strict=True)
        )

    replaced = surprise(*_REPLACED)

    def link(row: int, other: int) -> Array:
        a, b = (before, row), (after, other)
        motion = surprise(
            _mean_distance(sightings.pixels[a], sightings.pixels[b]) / (0.5 * (sightings.palm[a] + sightings.palm[b])),
            _mean_distance(sightings.shape[a], sightings.shape[b]),
            sightings.chirality[a] - sightings.chirality[b],
        )
        sureness = np.minimum(sightings.sureness[a], sightings.sureness[b])
        count = sightings.seen[a].astype(int) + sightings.seen[b]
        return np.select([count == 2, count == 1], [sureness * motion, 0.5 * replaced], 0.0)

    return link(0, 1) + link(1, 0) - link(0, 0) - link(1, 1)


def _best_states(evidence: Array, coupling: Array) -> Array:
    """The signs s [N] as bool that maximise sum evidence s + sum coupling s s' over neighbours, exactly.

    Viterbi's recursion for two states: what the past says about a frame is one number, and handing it on over a
    coupling c limits it to -|c|..|c|.
    """
    total, past = [], 0.0
    couplings = coupling.tolist()
    for own, link in zip(evidence.tolist(), [*couplings, 0.0], strict=False):
        total.append(own + past)
        past = min(max(total[-1], -abs(link)), abs(link)) * (1.0 if link >= 0 else -1.0)
    states = np.ones(len(total), bool)
    future = 0.0
    for index in range(len(total) - 1, -1, -1):
        states[index] = total[index] + future >= 0
        if index:
            future = couplings[index - 1] if states[index] else -couplings[index - 1]
    return states


def _mean_distance(a: Array, b: Array) -> Array:
    """Mean over the key points of the distance between skeletons [..., 21, D], [...]."""
    return np.linalg.norm(a - b, axis=-1).mean(axis=-1)
