"""Decides which track is the left and which the right hand, from the evidence of all of their frames."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dir_core.conventions import KEYPOINTS
from dir_core.detection.landmark_network import HandLandmarks
from dir_core.landmarks import HandLandmarkTrack

Array = NDArray[Any]

Piece = tuple[int, int]
"""A track's number and one of its segments."""

_CARRIED = 8.0  # frames of sure handedness: how much evidence from all other segments counts in one

_WRONG_SIDE_CONFIDENCE = 0.5  # where the handedness of a frame speaks against the side of the track

SHORTEST_RUN = 3  # frames in a row; shorter runs are kept only if the network was sure
_SURE_PRESENCE = 0.9


@dataclass(frozen=True, eq=False)
class Sighting:
    """One tracked hand in one frame, before it has a side.

    Attributes:
        track: number of the track, the same from frame to frame.
        landmarks: what the network saw.
        confidence: [21] float32 in 0..1.
        right_evidence: how much this frame speaks for the anatomical right hand: -1..1 for its handedness, more where
            the sides of both hands were checked.
        segment: part of the clip, the next one wherever hands begin or end to touch. Behind or in each other two
            hands can be exchanged, so that a track can be one hand in one segment and the other in the next.
        predicted: nothing was seen; what is seen afterwards takes its place.
    """

    track: int
    landmarks: HandLandmarks
    confidence: Array
    right_evidence: float
    segment: int = 0
    predicted: bool = False


def label_tracks(seen: list[list[Sighting]], mirrored: bool = False) -> tuple[HandLandmarkTrack, HandLandmarkTrack]:
    """Give every track of a clip one side, by all of its evidence; at most one left and one right hand a frame.

    A track that goes through several segments has one side in each: what speaks for it there, and a limited part of
    what speaks for it before and after. So hands that were exchanged while they hid each other are put right from
    where they part, and a short segment of doubt changes nothing.

    The piece of a track with the most evidence chooses first. One whose side is taken for some of its frames either
    loses those frames or takes the other side, whichever contradicts less. In frames whose handedness speaks
    against the side, the confidence is lowered by up to half.

    Args:
        seen: the sightings of every frame, as `HandTracker.follow` gives them.
        mirrored: as the tracker was told.

    Returns:
        The left and the right hand.
    """
    evidence: dict[Piece, float] = {}
    for sighting in (each for sightings in seen for each in sightings):
        piece = (sighting.track, sighting.segment)
        evidence[piece] = evidence.get(piece, 0.0) + sighting.right_evidence
    return give_sides(seen, evidence, mirrored)


def give_sides(
    seen: list[list[Sighting]], evidence: Mapping[Piece, float], mirrored: bool
) -> tuple[HandLandmarkTrack, HandLandmarkTrack]:
    """`label_tracks` with the evidence for the right hand in each piece of a track, which may come from more frames."""
    rows: dict[int, list[tuple[int, Sighting]]] = {}
    for index, sightings in enumerate(seen):
        for sighting in sightings:
            rows.setdefault(sighting.track, []).append((index, sighting))
    kept: dict[Piece, list[tuple[int, Sighting]]] = {}
    for row in (each for track in rows.values() for each in _drop_flashes(track, min(SHORTEST_RUN, len(seen)))):
        kept.setdefault((row[1].track, row[1].segment), []).append(row)
    evidence = _share_evidence(evidence)
    hands = {"left": _empty_track(len(seen)), "right": _empty_track(len(seen))}
    for piece in sorted(kept, key=lambda each: (-abs(evidence[each]), each)):
        frames, found = np.array([frame for frame, _ in kept[piece]]), [sighting for _, sighting in kept[piece]]
        own, other = ("right", "left") if evidence[piece] > 0 else ("left", "right")
        taken_own, taken_other = hands[own].observed[frames], hands[other].observed[frames]
        stays = taken_own.sum() <= abs(evidence[piece]) + taken_other.sum()
        side, taken = (own, taken_own) if stays else (other, taken_other)
        trust = np.array([_side_trust(each.landmarks, side == "right", mirrored) for each in found], np.float32)
        _write(
            hands[side],
            frames[~taken],
            [each for each, gone in zip(found, taken, strict=True) if not gone],
            trust[~taken],
            mirrored,
        )
    return hands["left"], hands["right"]


def carry(evidence: float) -> float:
    """What evidence from one segment counts in the next."""
    return min(max(evidence, -_CARRIED), _CARRIED)


def _share_evidence(own: Mapping[Piece, float]) -> dict[Piece, float]:
    """The evidence in each piece of a track with what its earlier and later pieces add to it."""
    shared = dict(own)
    for pieces in (sorted(own), sorted(own, reverse=True)):
        passed, track = 0.0, None
        for piece in pieces:
            passed = passed if piece[0] == track else 0.0
            shared[piece] += passed
            passed, track = carry(own[piece] + passed), piece[0]
    return shared


def _drop_flashes(rows: list[tuple[int, Sighting]], shortest: int) -> list[tuple[int, Sighting]]:
    """Leave out runs of consecutive frames that are short and never sure: most of them show no hand."""
    kept: list[tuple[int, Sighting]] = []
    run: list[tuple[int, Sighting]] = []
    for place, (frame, sighting) in enumerate(rows):
        run.append((frame, sighting))
        if place + 1 == len(rows) or rows[place + 1][0] != frame + 1:
            sure = max(each.landmarks.presence for _, each in run) >= _SURE_PRESENCE
            kept += run if sure or len(run) >= shortest else []
            run = []
    return kept


def _empty_track(count: int) -> HandLandmarkTrack:
    points = len(KEYPOINTS)
    return HandLandmarkTrack(
        keypoints_2d=np.zeros((count, points, 2), np.float32),
        keypoints_3d=np.zeros((count, points, 3), np.float32),
        confidence=np.zeros((count, points), np.float32),
        observed=np.zeros(count, np.bool_),
    )


def _write(hand: HandLandmarkTrack, frames: Array, found: list[Sighting], trust: Array, mirrored: bool) -> None:
    unmirror = np.array([-1.0, 1.0, 1.0], np.float32) if mirrored else np.float32(1.0)
    for frame, sighting, factor in zip(frames, found, trust, strict=True):
        hand.keypoints_2d[frame] = sighting.landmarks.keypoints_2d
        hand.keypoints_3d[frame] = sighting.landmarks.world * unmirror
        hand.confidence[frame] = sighting.confidence * factor
        hand.observed[frame] = True


def _side_trust(seen: HandLandmarks, right: bool, mirrored: bool) -> float:
    """Factor on the confidence: 1 where the handedness agrees with the side, less where it speaks against it."""
    agreement = min(max(seen.agreement(right != mirrored), 0.0), 1.0)
    return _WRONG_SIDE_CONFIDENCE + (1.0 - _WRONG_SIDE_CONFIDENCE) * agreement
