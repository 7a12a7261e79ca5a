"""Where in a take an animator should look, and what a review strip shows of it. numpy only: Blender imports this file.

Ranges that the user has judged already, by an edit, are no problems any more.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from dir_core.clean_up.edits import Edit, trust_of_rows
from dir_core.clean_up.gaps import find_gaps, gap_length, inner_gaps
from dir_core.clean_up.identity import IdentityRepair
from dir_core.clean_up.limits import limit_joints
from dir_core.conventions import FINGERS, SIDES, Side
from dir_core.degrees_of_freedom import finger_geometry
from dir_core.hand_model import HandModel
from dir_core.landmarks import length_in_image
from dir_core.take import HandTrack, Take

Array = NDArray[Any]

ProblemKind = Literal["lost", "unsure", "exchanged", "jump", "joints", "touch"]

UNSURE: Final = 0.6
"""Mean confidence of a frame below which a hand is worth a look: hands seen well have 0.9, wrong ones 0.3 to 0.5."""

_JOINED = 0.5  # seconds; what lies nearer together is one place to look at
_SHORTEST_GAP = 0.2  # seconds; shorter ones are filled better than anybody could by hand
_SHORTEST_DOUBT = 0.1
_FAR_OUTSIDE = float(np.radians(15.0))  # people differ by some degrees, and estimators err by five
_SHORTEST_BEND = 0.1
_SHORTEST_TOUCH = 0.1
# Accelerations of hands and finger tips in sport reach 100 m/s^2; half a hand's length is 9 cm.
_WILD = 600.0  # hand lengths per second squared
_LEAST_JUMP = 0.2  # hand lengths beside the way between the neighbours; at high frame rates noise alone is wild
_PALM = [0, 5, 9, 13, 17]


@dataclass(frozen=True)
class Problem:
    """A stretch of footage worth a look.

    Attributes:
        kind: "lost" (unseen between frames in which it was seen), "unsure" (low confidence), "exchanged" (the repair
            exchanged left and right), "jump" (faster than a hand can), "joints" (far outside their ranges), "touch"
            (the hands lie in each other).
        first, last: source frames as in `Take.frame`, both included.
        side: the hand that is meant, None for both.
        sentence: for the user, without frame numbers: those of the scene are other ones.
    """

    kind: ProblemKind
    first: int
    last: int
    side: Side | None
    sentence: str


@dataclass(frozen=True, eq=False)
class ReviewRows:
    """What a review strip shows of one hand over T frames.

    Attributes:
        confidence: [T] float32 mean over the key points, 0 where the hand was not seen.
        observed: [T] bool.
        exchanged: [T] bool, the repair exchanged left and right.
        hidden: [T] bool, unseen for so long that the hand is hidden.
    """

    confidence: Array
    observed: Array
    exchanged: Array
    hidden: Array


def review_rows(clean: Take, exchanged: Array) -> dict[Side, ReviewRows]:
    """What the strip shows of a clean take whose sides were exchanged in the rows `exchanged` [T]."""
    return {
        side: ReviewRows(
            confidence=_sureness(clean.hand(side)),
            observed=clean.hand(side).observed,
            exchanged=exchanged,
            hidden=clean.hidden(side),
        )
        for side in SIDES
    }


def find_problems(
    corrected: Take, models: Mapping[Side, HandModel], repair: IdentityRepair, edits: Sequence[Edit] = ()
) -> tuple[Problem, ...]:
    """Everything that what was seen itself shows, by time; see `find_touches` for the rest.

    Args:
        corrected: the raw take with sides repaired and edits made.
        models: the hand model of each side.
        repair: what the repair changed.
        edits: the user's, in order.
    """
    weights = trust_of_rows([_as_doubt(edit) for edit in edits], corrected)
    found = list(_find_exchanges(corrected, repair, edits))
    for side in SIDES:
        hand, judged = corrected.hand(side), weights[side] < 1
        if not hand.observed.any():
            continue
        found += _find_gaps(corrected, side, judged)
        found += _find_doubts(corrected, side, judged)
        found += _find_jumps(corrected, side, judged)
        found += _find_bends(corrected, side, judged, models[side])
    return sort_problems(found)


def find_touches(corrected: Take, depth: Array | None) -> tuple[Problem, ...]:
    """Where the hands lie in each other by `depth` [T] metres; nothing where that is not known."""
    if depth is None:
        return ()
    return tuple(
        _problem(
            "touch",
            corrected,
            rows,
            None,
            f"The hands lie up to {1e3 * depth[rows].max():.0f} mm in each other, check which one is in front.",
        )
        for rows in _stretches(depth > 0, corrected.time, _SHORTEST_TOUCH)
    )


def sort_problems(problems: Sequence[Problem]) -> tuple[Problem, ...]:
    """By time; what begins together, the longest first."""
    return tuple(sorted(problems, key=lambda problem: (problem.first, -problem.last)))


def _as_doubt(edit: Edit) -> Edit:
    """A dropped range as one that is not trusted at all, so that both say the same of their rows."""
    return replace(edit, kind="trust", weight=0.0) if edit.kind == "drop" else edit


def _find_exchanges(take: Take, repair: IdentityRepair, edits: Sequence[Edit]) -> Iterator[Problem]:
    judged = np.zeros(len(take), bool)
    for edit in edits:
        if edit.kind == "swap":
            judged |= edit.rows_of(take)
    for rows in _stretches(repair.swapped & ~judged, take.time, 0.0):
        yield _problem("exchanged", take, rows, None, "Left and right were exchanged automatically, check the sides.")


def _find_gaps(take: Take, side: Side, judged: Array) -> Iterator[Problem]:
    observed = take.hand(side).observed
    lost = np.zeros(len(take), bool)
    for first, last in inner_gaps(observed):
        if gap_length(take.time, first, last) >= _SHORTEST_GAP and not judged[first : last + 1].all():
            lost[first : last + 1] = True
    for rows in _stretches(lost, take.time, 0.0):
        unseen = gap_length(take.time, rows.start, rows.stop - 1)
        yield _problem("lost", take, rows, side, f"The {side} hand was not seen for {unseen:.1f} s.")


def _find_doubts(take: Take, side: Side, judged: Array) -> Iterator[Problem]:
    hand = take.hand(side)
    sureness = _sureness(hand)
    for rows in _stretches(hand.observed & (sureness < UNSURE) & ~judged, take.time, _SHORTEST_DOUBT):
        sure = sureness[rows][hand.observed[rows]].min()
        yield _problem("unsure", take, rows, side, f"The {side} hand is seen badly, with a confidence of {sure:.0%}.")


def _find_jumps(take: Take, side: Side, judged: Array) -> Iterator[Problem]:
    hand = take.hand(side)
    pixels, points = hand.keypoints_2d.astype(np.float64), hand.keypoints_3d.astype(np.float64)
    place = pixels[:, _PALM].mean(axis=1, keepdims=True) / _typical(length_in_image(pixels), hand.observed)
    shape = (points - points[:, _PALM].mean(axis=1, keepdims=True)) / _typical(_length(points), hand.observed)
    for what, tracks in (("hand jumps", place), ("hand's fingers jump", shape)):
        for rows in _stretches(_jumps(tracks, hand.observed, take.time) & ~judged, take.time, 0.0):
            yield _problem("jump", take, rows, side, f"The {side} {what} faster than a hand can.")


def _find_bends(take: Take, side: Side, judged: Array, model: HandModel) -> Iterator[Problem]:
    hand = take.hand(side)
    geometry = finger_geometry(model, hand.shape, float(hand.scale[0]))
    excess = np.abs(limit_joints(geometry, hand.rotation).excess).max(axis=2)
    outside = (excess.max(axis=1) > _FAR_OUTSIDE) & hand.observed & ~judged
    for rows in _stretches(outside, take.time, _SHORTEST_BEND):
        worst = excess[rows].max(axis=0)
        finger, beyond = FINGERS[int(worst.argmax())], np.degrees(worst.max())
        yield _problem(
            "joints", take, rows, side, f"The {side} {finger} finger is bent {beyond:.0f} degrees beyond its range."
        )


def _jumps(tracks: Array, observed: Array, time: Array) -> Array:
    """Rows [T] at which some point of tracks [T, K, D] in hand lengths leaves its way as no hand can."""
    wild = np.zeros(len(time), bool)
    if len(time) < 3:
        return wild
    before, after = (np.diff(time)[rows, None, None] for rows in (slice(None, -1), slice(1, None)))
    share = before / (before + after)
    aside = np.linalg.norm(tracks[1:-1] - (1 - share) * tracks[:-2] - share * tracks[2:], axis=-1).max(axis=1)
    acceleration = 2 * aside / (before * after)[:, 0, 0]
    whole = observed[:-2] & observed[1:-1] & observed[2:]
    wild[1:-1] = whole & (aside > _LEAST_JUMP) & (acceleration > _WILD)
    return wild


def _stretches(rows: Array, time: Array, shortest: float) -> Iterator[slice]:
    """Runs of `rows` [T], near ones joined, those that last less than `shortest` seconds left out."""
    runs: list[tuple[int, int]] = []
    for first, last in find_gaps(~rows):
        if runs and time[first] - time[runs[-1][1]] <= _JOINED:
            runs[-1] = runs[-1][0], last
        else:
            runs.append((first, last))
    for first, last in runs:
        if gap_length(time, first, last) > shortest:
            yield slice(first, last + 1)


def _problem(kind: ProblemKind, take: Take, rows: slice, side: Side | None, sentence: str) -> Problem:
    return Problem(kind, int(take.frame[rows.start]), int(take.frame[rows.stop - 1]), side, sentence)


def _sureness(hand: HandTrack) -> Array:
    """Mean confidence [T] of the key points."""
    return np.where(hand.observed, hand.confidence.mean(axis=1), 0.0).astype(np.float32)


def _length(points: Array) -> Array:
    """Wrist to middle finger tip along the bones, [T], of key points [T, 21, 3]."""
    return np.linalg.norm(np.diff(points[:, [0, 9, 10, 11, 12]], axis=1), axis=-1).sum(axis=-1)


def _typical(length: Array, observed: Array) -> float:
    return max(float(np.median(length[observed])), 1e-6)
