"""Where the DIR network looks in every frame, and how far what it says is believed. numpy only, no pictures kept.

The network sees a square around both hands and always answers with two hands, also where there is none. Squares come
from the hand tracker where it sees the hands, and from the network's own key points where the tracker is blind (hands
clasped, blurred, or close to the lens). A hand is believed where the tracker agrees or the segmentation shows it, and
where the last refinement of the network hardly moved it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dir_core.conventions import SIDES, Side
from dir_core.detection.sides import Sighting
from dir_core.detection.tracker import HandTracker
from dir_core.footage import Frame
from dir_core.network.crop import HANDS_SHARE, crop_around

Array = NDArray[Any]

_STRETCH_BYTES = 100e6  # of pictures: 16 frames of full HD, 4 of 4K
_STRETCH_FRAMES = (4, 16)

# How far the mesh, by which the squares of the training were cut, reaches beyond the tracker's key points. On the
# demonstration clip, whose meshes are known, the squares agree to 1.5 % of their side in size and place.
_SKIN_MARGIN = 0.02  # of a hand's extent, at every edge
_WRIST_STUB = 0.3  # of wrist to middle knuckle, beyond the wrist
_LONE_SHARE = 0.55  # of the square for one hand alone: as large as it is when two share a square
_FAR_SHARE = 0.25  # hands smaller than this share of their common square get one each: 64 of 256 pixels
_SMALLEST_SQUARE = 24.0  # pixels
# Squares as close as this (shares of the side) need no second look: DIR was trained with shifts of 10 of 256 pixels
# and scales of 10 %, and hands that fill 80 % stay just inside (0.8 * 1.12 + 2 * 0.05 < 1).
_SAME_CENTRE, _SAME_SIZE = 0.05, 1.12
_HELD_TIME = 0.5  # seconds an expected hand is kept in the square without being confirmed
_NEAR = 1.0  # extents: a sighting this near to an expected hand is that hand
_WANTED = 1.5  # extents around the followed hands in which sightings count, where the user gave a box

_AGREEMENT = 0.25  # extents between the tracker's and the network's hand that cost most of the belief
_WRONG_SIDE = 0.1  # extents that a disagreement about the side is worth
_STEADINESS = 0.2  # extents between the last two stages that cost most of the belief
_PRESENT = 0.4  # belief from which on a hand counts as observed
_OUTSIDE_CONFIDENCE = 0.3  # of key points outside of the picture
_LEAST_CONFIDENCE = 0.02  # of a key point of an observed hand


@dataclass(frozen=True)
class Square:
    """An upright square of the picture: middle and side in pixels."""

    x: float
    y: float
    side: float

    @property
    def affine(self) -> Array:
        """The map [2, 3] from pixels of the picture to those of the crop."""
        return crop_around(np.array([self.x, self.y]), self.side)

    def is_close(self, other: "Square") -> bool:
        """Whether the network would see nearly the same in the other square."""
        shift = max(abs(self.x - other.x), abs(self.y - other.y))
        ratio = max(self.side / other.side, other.side / self.side)
        return shift < _SAME_CENTRE * max(self.side, other.side) and ratio < _SAME_SIZE


@dataclass(frozen=True)
class Look:
    """One square of one frame, the hands it is asked about, and whether the segmentation has to show them."""

    square: Square
    sides: tuple[Side, ...]
    check: bool


@dataclass(frozen=True, eq=False)
class Reply:
    """What the network says about one square; first axis left, right.

    Attributes:
        points: [2, 21, 2] pixels of the upright source frame.
        change: [2, 21] how far the last refinement moved each key point, in extents of the hand.
        shown: [2] share 0..1 of the hand that the segmentation shows; 0 where it was not asked.
        keypoints_3d: [2, 21, 3] metres about the root joint, axes of a camera that looks at the square.
        mano: [2, 64] parameters.
        offset: [3] metres from the left to the right root joint, same axes.
        view: [2] pixels, the middle of the square.
    """

    points: Array
    change: Array
    shown: Array
    keypoints_3d: Array
    mano: Array
    offset: Array
    view: Array


@dataclass(frozen=True, eq=False)
class Verdict:
    """What is believed in one frame; first axis left, right.

    Attributes:
        observed: [2] bool.
        confidence: [2, 21] in 0..1; 0 where not observed.
        look: number of the look that each hand comes from.
    """

    observed: Array
    confidence: Array
    look: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Stretch:
    """Frames that are looked at together, and what the tracker saw in each."""

    frames: list[Frame]
    sightings: list[list[Sighting]]
    touching: list[bool]


@dataclass(frozen=True, eq=False)
class _Expected:
    points: Array  # [21, 2] pixels
    side: Side | None
    time: float  # when it was last confirmed


def stretches(frames: Iterator[Frame], tracker: HandTracker) -> Iterator[Stretch]:
    """Cut footage into stretches of a few frames; their number depends on the size of the pictures alone."""
    for first in frames:
        fewest, most = _STRETCH_FRAMES
        count = int(np.clip(_STRETCH_BYTES // first.image.nbytes, fewest, most))
        together = [first, *islice(frames, count - 1)]
        seen = [tracker.follow(frame.image, frame.time) for frame in together]
        yield Stretch(together, [sightings for sightings, _ in seen], [touching for _, touching in seen])


class HandFollower:
    """Decides where to look. Depends only on what `observe` and `update` were told, so it can be caught up."""

    def __init__(self, box: tuple[float, float, float, float] | None = None):
        """Begin a clip, with a box (x, y, width, height in pixels) in which the hands are when it starts."""
        self._box = box
        self._found = box is None  # whether the hands in the user's box were ever seen
        self._held: list[_Expected] = []
        self._evidence: dict[int, float] = {}

    def observe(self, stretch: Stretch) -> None:
        """Take note of what the tracker saw in the next stretch, before it is planned."""
        for sighting in (each for sightings in stretch.sightings for each in sightings):
            before = self._evidence.get(sighting.track, 0.0)
            self._evidence[sighting.track] = before + sighting.right_evidence

    def side_of(self, sighting: Sighting) -> Side | None:
        """The side that the evidence of a track speaks for so far."""
        evidence = self._evidence.get(sighting.track, 0.0)
        return None if evidence == 0 else "right" if evidence > 0 else "left"

    def plan(self, stretch: Stretch, own: Sequence[Mapping[Side, Array]] | None = None) -> list[list[Look]]:
        """Where to look in every frame of a stretch.

        Args:
            stretch: the frames.
            own: key points [21, 2] of the hands that the network was believed about in each frame when it looked
                before, None if it did not yet.
        """
        if own is None and not self._found:
            return [[Look(self._last_resort(frame), SIDES, check=True)] for frame in stretch.frames]
        plans = []
        for row, hands in enumerate(self._walk(stretch, own)):
            blind = len(stretch.sightings[row]) < 2 or stretch.touching[row]
            if hands:
                plans.append(_looks(hands, check=blind))
            elif row == 0 or not self._found:
                plans.append([Look(self._last_resort(stretch.frames[row]), SIDES, check=True)])
            else:
                plans.append([])
        return plans

    def update(self, stretch: Stretch, own: Sequence[Mapping[Side, Array]]) -> None:
        """Finish a stretch with the hands that were believed in the end."""
        for hands in self._walk(stretch, own):
            self._held = hands
        self._found = self._found or any(own)

    def _walk(self, stretch: Stretch, own: Sequence[Mapping[Side, Array]] | None) -> Iterator[list[_Expected]]:
        """The hands to expect in every frame: sighted ones first, then the network's own, then those before."""
        held = self._held
        for row, frame in enumerate(stretch.frames):
            sighted = [
                _Expected(each.landmarks.keypoints_2d.astype(np.float64), self.side_of(each), frame.time)
                for each in stretch.sightings[row]
                if self._is_wanted(each, held)
            ]
            mine = [_Expected(points, side, frame.time) for side, points in own[row].items()] if own else []
            kept = [each for each in held if frame.time - each.time < _HELD_TIME]
            # Where hands touch the network knows better than the tracker.
            first, second = (mine, sighted) if stretch.touching[row] else (sighted, mine)
            held = _join(first, _join(second, kept))
            yield held

    def _is_wanted(self, sighting: Sighting, held: list[_Expected]) -> bool:
        if self._box is None:
            return True
        points = sighting.landmarks.keypoints_2d
        x, y = points.mean(axis=0) - self._box[:2]
        inside = bool(0 <= x <= self._box[2] and 0 <= y <= self._box[3])
        return inside or any(_distance(each.points, points) < _WANTED for each in held)

    def _last_resort(self, frame: Frame) -> Square:
        """The user's box, else the whole picture."""
        if self._box is not None:
            x, y, width, height = self._box
            return Square(x + 0.5 * width, y + 0.5 * height, max(width, height) / HANDS_SHARE)
        height, width = frame.image.shape[:2]
        return Square(0.5 * width, 0.5 * height, float(max(width, height)))


def has_moved(before: list[Look], after: list[Look]) -> bool:
    """Whether the looks of a frame changed so much that the network has to be asked again."""
    if len(before) != len(after):
        return True
    return any(
        old.sides != new.sides or (new.check and not old.check) or not old.square.is_close(new.square)
        for old, new in zip(before, after, strict=True)
    )


def judge(
    looks: list[Look],
    replies: list[Reply],
    sightings: list[Sighting],
    sides: list[Side | None],
    image_size: tuple[int, int],
) -> Verdict:
    """How far the replies to the looks of one frame are believed.

    Args:
        looks, replies: the squares of the frame and what the network says about them.
        sightings, sides: what the tracker saw there, and the side of each.
        image_size: width and height of the picture.
    """
    source = [next((n for n, look in enumerate(looks) if side in look.sides), -1) for side in SIDES]
    if min(source, default=-1) < 0:
        return Verdict(np.zeros(2, np.bool_), np.zeros((2, 21), np.float32), (0, 0))
    points = np.stack([replies[source[hand]].points[hand] for hand in (0, 1)])
    change = np.stack([replies[source[hand]].change[hand] for hand in (0, 1)])
    shown = np.array([replies[source[hand]].shown[hand] for hand in (0, 1)])

    steady = np.exp(-((change / _STEADINESS) ** 2))
    belief = np.maximum(_agreement(points, sightings, sides), shown) * np.exp(
        -((change.mean(axis=1) / _STEADINESS) ** 2)
    )
    observed = belief >= _PRESENT
    inside = ((points >= 0) & (points <= np.array(image_size))).all(axis=-1)
    confidence = belief[:, None] * steady * np.where(inside, 1.0, _OUTSIDE_CONFIDENCE)
    confidence = np.where(observed[:, None], np.maximum(confidence, _LEAST_CONFIDENCE), 0.0)
    return Verdict(observed, confidence.astype(np.float32), (source[0], source[1]))


def _agreement(points: Array, sightings: list[Sighting], sides: list[Side | None]) -> Array:
    """How well each hand [2] lies on a sighting, 0..1; a sighting stands for one hand only."""
    cost = np.full((2, 2), np.inf)  # hand, sighting
    for column, (sighting, side) in enumerate(zip(sightings, sides, strict=True)):
        for row in (0, 1):
            wrong = _WRONG_SIDE if side is not None and side != SIDES[row] else 0.0
            cost[row, column] = _distance(sighting.landmarks.keypoints_2d, points[row]) + wrong
    belief = np.zeros(2)
    if not sightings:
        return belief
    straight, crossed = np.diagonal(cost), np.array([cost[0, 1], cost[1, 0]])
    if len(sightings) == 2:
        chosen = (0, 1) if straight.sum() <= crossed.sum() else (1, 0)
    else:
        chosen = (0, 1) if cost[0, 0] <= cost[1, 0] else (1, 0)
    for row in (0, 1):
        if chosen[row] < len(sightings):
            presence = min(sightings[chosen[row]].landmarks.presence, 1.0)
            belief[row] = presence * np.exp(-((cost[row, chosen[row]] / _AGREEMENT) ** 2))
    return belief


def _looks(hands: list[_Expected], *, check: bool) -> list[Look]:
    """One square for both hands, or one each where a common one would show them too small."""
    if len(hands) == 1:
        return [Look(_square(hands, _LONE_SHARE), SIDES, check)]
    common = _square(hands, HANDS_SHARE)
    first, second = (hand.side for hand in hands)
    if first and second and first != second and max(_extent(h.points) for h in hands) < _FAR_SHARE * common.side:
        return [Look(_square([hand], _LONE_SHARE), (hand.side,), check) for hand in hands if hand.side]
    return [Look(common, SIDES, check)]


def _square(hands: list[_Expected], share: float) -> Square:
    outlines = [np.vstack([p, p[0] + _WRIST_STUB * (p[0] - p[9])]) for p in (hand.points for hand in hands)]
    low = np.min([outline.min(axis=0) - _SKIN_MARGIN * _extent(outline) for outline in outlines], axis=0)
    high = np.max([outline.max(axis=0) + _SKIN_MARGIN * _extent(outline) for outline in outlines], axis=0)
    x, y = 0.5 * (low + high)
    return Square(float(x), float(y), max(float((high - low).max()) / share, _SMALLEST_SQUARE))


def _join(first: list[_Expected], second: list[_Expected]) -> list[_Expected]:
    """At most two hands: the first ones, and those of the second that are not the same hands."""
    others = list(second)
    for hand in first:
        if others:
            nearest = min(others, key=lambda other: _distance(hand.points, other.points))
            if len(first) + len(others) > 2 or _distance(hand.points, nearest.points) < _NEAR:
                others.remove(nearest)
    return (first + others)[:2]


def _extent(points: Array) -> float:
    """Larger side of the box around key points, pixels."""
    return max(float(np.ptp(points, axis=0).max()), 1.0)


def _distance(points: Array, others: Array) -> float:
    """Mean distance of two sets of key points in extents of the first."""
    return float(np.linalg.norm(points - others, axis=-1).mean()) / _extent(points)
