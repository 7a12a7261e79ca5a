"""Hands that do not pass through each other, nor fingers through their own hand. numpy and scipy only.

Both hands are capsules (capsules.py). Where capsules overlap by more than soft tissue gives way, the wrists
move a little and the fingers bend and spread a little, such that the key points hardly move in the picture:
along the line of sight a hand is free, across it is not. The correction begins and ends smoothly in time,
and a frame without contact near it is not touched.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from dir_core.camera import project
from dir_core.clean_up.capsules import HandCapsules, PlacedHand, fit_capsules, place_capsules
from dir_core.clean_up.contact_solver import BLOCK, VARIABLES, HingedHands, PoseArrays, hand_pixels, pose_problems
from dir_core.clean_up.touch import Pairs, deepest_touch, watch_pairs
from dir_core.conventions import Side
from dir_core.hand_model import HandModel

Array = NDArray[Any]

EASE: Final = 0.15
"""Seconds before the first and after the last frame of a contact over which a correction comes and goes."""

LARGEST_MOVE: Final = 0.028
"""Share of the hand length beyond which no confident key point moves in the picture, contact or not."""

_CAP_SHARPNESS = 6  # power with which a correction is held back before that; smooth, so that nothing pops
_ITERATIONS = (2, 1, 1)  # steps to solve; eased in time, one more for what the easing gave away, twice
_CONFIDENT = 0.5  # key points seen at least this well are reported when they move


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
    pairs = watch_pairs(capsules)
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
    pairs = watch_pairs(capsules)
    if not fingers:
        pairs = pairs.only(pairs.group == 0)
    poses = [(parted[side].rotation, parted[side].translation) for side in sides]
    trust = [_float(confidence[side]) for side in sides]
    before = _measure(capsules, pairs, poses)
    problems = pose_problems(before, capsules, pairs, poses=poses, confidence=trust, camera_matrix=camera_matrix)
    if not problems:
        depth = _as_penetration(sides, before)
        return Parted(parted, depth, depth, np.zeros(len(time)))
    correction = np.zeros((len(time), len(sides) * VARIABLES))
    for steps in _ITERATIONS:
        missing = np.zeros_like(correction)
        for problem in problems:
            rows = np.ix_(problem.frames, problem.columns)
            missing[rows] = problem.solve(correction[rows], steps) - correction[rows]
        correction += _ease(missing, time)

    changed = np.flatnonzero(correction.any(axis=1))
    hinged = HingedHands.at(changed, capsules, poses)
    seen = [t[changed] for t in trust]
    given = hinged.place(np.zeros_like(correction[changed]))
    wanted = _largest_move(capsules, given, hinged.place(correction[changed]), seen, camera_matrix)
    correction[changed] /= (1.0 + (wanted / LARGEST_MOVE) ** _CAP_SHARPNESS)[:, None] ** (1.0 / _CAP_SHARPNESS)
    after, moved = before.copy(), np.zeros(len(time))
    placed = hinged.place(correction[changed])
    after[:, changed] = deepest_touch(placed, pairs)
    moved[changed] = _largest_move(capsules, given, placed, seen, camera_matrix)
    for side, (rotation, translation) in zip(sides, hinged.correct(correction[changed]), strict=True):
        parted[side].rotation[changed] = rotation
        parted[side].translation[changed] = translation
    return Parted(parted, _as_penetration(sides, before), _as_penetration(sides, after), moved)


def _measure(capsules: list[HandCapsules], pairs: Pairs, poses: list[PoseArrays]) -> Array:
    """Deepest penetration [1 + S, T] metres: between the hands, then within each."""
    blocks = [slice(first, first + BLOCK) for first in range(0, max(len(poses[0][0]), 1), BLOCK)]
    placed = (
        [place_capsules(hand, r[block], t[block]) for hand, (r, t) in zip(capsules, poses, strict=True)]
        for block in blocks
    )
    return np.concatenate([deepest_touch(hands, pairs) for hands in placed], axis=1)


def _as_penetration(sides: tuple[Side, ...], depth: Array) -> Penetration:
    return Penetration(between=depth[0], within=dict(zip(sides, depth[1:], strict=True)))


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
        move = np.linalg.norm(pixels[1] - pixels[0], axis=-1) / hand_pixels(hand, old, camera_matrix)[:, None]
        largest = np.maximum(largest, np.where(trust >= _CONFIDENT, move, 0.0).max(axis=1))
    return largest


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
