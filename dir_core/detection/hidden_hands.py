"""What is believed of two hands that touch or hide each other: predicting them, and which of them was really seen.

A network that looks for a hidden hand likes to answer with the hand that hides it. So each answer is compared with
where the hand should be by its motion, and a hand that cannot be believed is predicted until it is seen again. No
networks and no pictures here.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dir_core.detection.crop import Crop
from dir_core.detection.hand_distances import apart, gap, hand_scale, is_over, is_same_place, next_crop, outline
from dir_core.detection.landmark_network import HandLandmarks
from dir_core.detection.locator import LocatedHands
from dir_core.detection.palm_detector import Palm

Array = NDArray[Any]
Velocity = tuple[float, float]
"""Of a palm, pixels per second."""

_PALM = np.array([0, 5, 9, 13, 17])
_LOCATED = np.array([0, 5, 9, 13, 17, 1, 2])  # which key points the seven of a located palm are

# Gaps between two skeletons in hand scales: up to the first the networks for two hands alone are believed, from the
# second on those for free hands; in between both are mixed, so that the hands do not jump.
_NEAR, _FREE = 0.5, 0.9
_TRUSTED_FREE = 0.1, 0.3  # trust in the network for two hands about a free hand: from not at all to fully
_POINT_SHARE = 0.2  # of it then in the picture: more moves real hands' key points by over a percent of the hand

_HALF_LIFE = 0.3  # seconds in which a prediction loses half of its confidence
_PASSING_HALF_LIFE = 0.2  # seconds in which a hidden hand loses half of its motion in the picture,
_RIDING_HALF_LIFE = 0.1  # or of its motion on the hand that it rides on
_RIDING_SPEED = 1.5  # hand scales a second; a hand that moves slower against the other one rides on it
_BEHIND = 0.1  # hand scales between the skeletons of a hidden hand and of the one that hides it
_LONGEST_STEP = 0.1  # seconds over which a motion is extrapolated at most
_SMOOTHING = 0.4  # share of the last frame in the velocity

_MIN_PRESENCE = 0.5
_MIN_TRUST = 0.2  # below it nothing was seen
_TRUST_KEPT = 0.4  # an answer must be trusted at least by this share of what the prediction is
_SIZE_RANGE = 0.6, 1.6  # share of its usual size that a hand may seem to have from one frame to the next
_SIZE_SMOOTHING = 0.05  # share of the last frame in the usual size, if it is trusted fully
_JUMP = 0.3  # hand scales from the prediction; what is farther off and over the other hand has snapped onto it,
_JUMP_TRUST = 2.0  # unless it is trusted this many times more than the prediction
# Trust with which the less trusted of two hands is believed though it lies on the other, or over it as clasped ones do.
_SURE_ON, _SURE_OVER = 0.8, 0.5

_LOCATED_SCORE = 0.5
_ELSEWHERE = 0.3  # hand scales between a located palm and a skeleton; what is nearer is the same palm
_VOTE_MARGIN = 0.5  # hand scales by which one way to share out two palms must fit better than the other


def closeness(a: HandLandmarks, b: HandLandmarks) -> float:
    """0 for hands that have nothing to do with each other .. 1 for hands that touch or nearly do."""
    return float(np.clip((_FREE - gap(a, b)) / (_FREE - _NEAR), 0, 1))


@dataclass(frozen=True, eq=False)
class Correction:
    """What to add to the untouched network's answer about a free hand.

    Attributes:
        points: [21, 2] pixels.
        world: [21, 3] metres.
    """

    points: Array = field(default_factory=lambda: np.zeros((21, 2), np.float32))
    world: Array = field(default_factory=lambda: np.zeros((21, 3), np.float32))

    def applied_to(self, free: HandLandmarks) -> HandLandmarks:
        """The corrected answer."""
        return replace(free, keypoints_2d=free.keypoints_2d + self.points, world=free.world + self.world)


def correction(free: HandLandmarks, near: HandLandmarks, right: bool) -> Correction:
    """How the network for two hands sees a free hand otherwise, as far as it is trusted.

    Where a hand points to it sees twice as exactly, so in space it is followed. In the picture both err by as much but
    not in the same way, and between them lies less error than in either. The difference lasts for some frames, so not
    every one has to be asked about.
    """
    low, high = _TRUSTED_FREE
    share = float(np.clip((trust(near, right) - low) / (high - low), 0, 1))
    return Correction(
        (_POINT_SHARE * share * (near.keypoints_2d - free.keypoints_2d)).astype(np.float32),
        (share * (near.world - free.world)).astype(np.float32),
    )


def mix(free: HandLandmarks, near: HandLandmarks, share: float) -> HandLandmarks:
    """Two networks' answers about one hand, the second one with `share` 0..1."""

    def between(first: Any, second: Any) -> Any:
        return (1 - share) * first + share * second

    return HandLandmarks(
        between(free.keypoints_2d, near.keypoints_2d).astype(np.float32),
        between(free.world, near.world).astype(np.float32),
        between(free.presence, near.presence),
        between(free.right_score, near.right_score),
        between(free.confidence, near.confidence).astype(np.float32),
    )


# --- size ----------------------------------------------------------------------------------------------------


def apparent_size(seen: HandLandmarks) -> float:
    """Pixels a metre: how large a hand is in the picture, however its fingers lie and wherever it points."""
    picture = np.linalg.norm(seen.keypoints_2d - seen.keypoints_2d.mean(axis=0))
    world = np.linalg.norm(seen.world[:, :2] - seen.world[:, :2].mean(axis=0))
    return float(picture) / max(float(world), 1e-6)


def size_after(usual: float, seen: HandLandmarks, right: bool) -> float:
    """The usual size of a hand after one more frame in which it was seen; it follows slowly."""
    share = _SIZE_SMOOTHING * trust(seen, right)
    return (1 - share) * usual + share * apparent_size(seen)


def next_crop_of_size(seen: HandLandmarks, usual: float) -> Crop:
    """Where to look for a hand of that usual size next.

    Key points of a half hidden hand are drawn together, and in a smaller crop still more: without its size the crop
    would shrink to nothing.
    """
    crop = next_crop(seen)
    low, high = _SIZE_RANGE
    return replace(crop, size=crop.size * min(max(usual / apparent_size(seen), low), high))


# --- prediction ----------------------------------------------------------------------------------------------


def velocity_after(velocity: Velocity, before: HandLandmarks, after: HandLandmarks, step: float) -> Velocity:
    """The smoothed velocity of a palm that was seen in two frames, `step` seconds apart."""
    move = (_middle(after) - _middle(before)) / step
    x, y = ((1 - _SMOOTHING) * np.array(velocity) + _SMOOTHING * move).tolist()
    return x, y


def predict(seen: HandLandmarks, velocity: Velocity, step: float) -> HandLandmarks:
    """Where a hand is after `step` seconds if it moves on as it is; its fingers are held."""
    return _moved(seen, np.array(velocity) * min(step, _LONGEST_STEP))


def rides(seen: HandLandmarks, velocity: Velocity, partner_velocity: Velocity) -> bool:
    """Whether a hand that disappears moves with the other one, and not past it or behind it."""
    relative = np.hypot(velocity[0] - partner_velocity[0], velocity[1] - partner_velocity[1])
    return bool(relative < _RIDING_SPEED * hand_scale(seen.keypoints_2d))


def hide(
    seen: HandLandmarks, velocity: Velocity, partner: tuple[HandLandmarks, HandLandmarks] | None, step: float
) -> tuple[HandLandmarks, Velocity]:
    """A hand that cannot be seen, `step` seconds later, and its velocity then; motion and confidence die down.

    Args:
        seen: the hand now.
        velocity: relative to that of the hand it rides on, if it rides on one.
        partner: that hand now and then.
        step: seconds.
    """
    hidden = predict(seen, velocity, step)
    if partner:
        hidden = _carried(hidden, *partner)
    confidence = (seen.confidence * 0.5 ** (step / _HALF_LIFE)).astype(np.float32)
    left = 0.5 ** (step / (_RIDING_HALF_LIFE if partner else _PASSING_HALF_LIFE))
    return replace(hidden, confidence=confidence), (left * velocity[0], left * velocity[1])


def keep_behind(hidden: HandLandmarks, partner: HandLandmarks) -> HandLandmarks:
    """A hidden hand moved back to the hand that hides it: anywhere else it would be seen."""
    own, other = outline(hidden.keypoints_2d), outline(partner.keypoints_2d)
    ways = other[None] - own[:, None]
    lengths = np.linalg.norm(ways, axis=-1)
    nearest = np.unravel_index(lengths.argmin(), lengths.shape)
    length, reach = float(lengths[nearest]), _BEHIND * hand_scale(partner.keypoints_2d)
    return hidden if length <= reach else _moved(hidden, ways[nearest] * (1 - reach / length))


def _middle(seen: HandLandmarks) -> Array:
    middle: Array = seen.keypoints_2d[_PALM].mean(axis=0, dtype=np.float64)
    return middle


def _moved(seen: HandLandmarks, by: Array) -> HandLandmarks:
    return replace(seen, keypoints_2d=(seen.keypoints_2d + by).astype(np.float32))


def _carried(seen: HandLandmarks, before: HandLandmarks, now: HandLandmarks) -> HandLandmarks:
    """A hand turned and moved as the palm of the other one was (the best rotation in the picture, no scale)."""
    old, new = _middle(before), _middle(now)
    source = (before.keypoints_2d[_PALM] - old) @ [1, 1j]
    target = (now.keypoints_2d[_PALM] - new) @ [1, 1j]
    turn = np.vdot(source, target)
    cosine, sine = (turn.real / abs(turn), turn.imag / abs(turn)) if abs(turn) > 0 else (1.0, 0.0)
    rotation = np.array([[cosine, -sine], [sine, cosine]])
    world = seen.world.copy()
    world[:, :2] = world[:, :2] @ rotation.T
    points = (seen.keypoints_2d - old) @ rotation.T + new
    return replace(seen, keypoints_2d=points.astype(np.float32), world=world)


# --- judgement -----------------------------------------------------------------------------------------------


def trust(seen: HandLandmarks, right: bool) -> float:
    """0..1, how far an answer about a hand that looks like a right one (or a left one) is to be believed."""
    return float(seen.confidence.mean()) * min(seen.presence, 1.0) * min(2.0 * seen.agreement(right), 1.0)


def believe(
    seen: tuple[HandLandmarks, HandLandmarks],
    expected: tuple[HandLandmarks, HandLandmarks],
    right: tuple[bool, bool],
    usual: tuple[float, float],
) -> tuple[bool, bool]:
    """Which of two hands were really seen.

    Not believed is who is hardly there, who shrank or grew at once, who jumped onto the place of the other hand, who
    is far less sure than the prediction, and of two that lie on each other the one that is trusted less.

    Args:
        seen: the networks' answers.
        expected: the predictions, with faded confidence where a hand was hidden before.
        right: which looks like a right hand.
        usual: their usual sizes.
    """
    low, high = _SIZE_RANGE
    trusts = [trust(each, side) for each, side in zip(seen, right, strict=True)]
    believed = [
        seen[hand].presence >= _MIN_PRESENCE
        and low <= apparent_size(seen[hand]) / usual[hand] <= high
        and trusts[hand] >= max(_MIN_TRUST, _TRUST_KEPT * trust(expected[hand], right[hand]))
        and not (
            apart(seen[hand], expected[hand]) > _JUMP
            and is_over(seen[hand], expected[1 - hand])
            and trusts[hand] < _JUMP_TRUST * trust(expected[hand], right[hand])
        )
        for hand in (0, 1)
    ]
    on = is_same_place(*seen)
    if all(believed) and (on or is_over(*seen)):
        off = [apart(seen[hand], expected[hand]) for hand in (0, 1)]
        fit = [trusts[hand] / (1.0 + off[hand]) for hand in (0, 1)]
        worse = 0 if fit[0] < fit[1] else 1
        believed[worse] = trusts[worse] >= (_SURE_ON if on else _SURE_OVER)
    return believed[0], believed[1]


# --- what the locator says --------------------------------------------------------------------------------------


def side_vote(hands: tuple[HandLandmarks, HandLandmarks], located: LocatedHands) -> int:
    """1 where the locator shares out its palms as (left-looking, right-looking) `hands`, -1 the other way, else 0."""
    left, right = located.left, located.right
    if left is None or right is None or min(left.score, right.score) < _LOCATED_SCORE:
        return 0
    kept = palm_distance(left, hands[0]) + palm_distance(right, hands[1])
    exchanged = palm_distance(right, hands[0]) + palm_distance(left, hands[1])
    return 0 if abs(kept - exchanged) < _VOTE_MARGIN else 1 if kept < exchanged else -1


def is_elsewhere(palm: Palm, *hands: HandLandmarks) -> bool:
    """Whether the locator surely sees a palm where none of these hands is."""
    return palm.score >= _LOCATED_SCORE and all(palm_distance(palm, hand) > _ELSEWHERE for hand in hands)


def palm_distance(palm: Palm, hand: HandLandmarks) -> float:
    """Mean distance between a located palm and a hand, in hand scales."""
    off = np.linalg.norm(palm.keypoints - hand.keypoints_2d[_LOCATED], axis=-1).mean()
    return float(off) / hand_scale(hand.keypoints_2d)
