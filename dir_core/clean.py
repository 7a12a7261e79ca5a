"""Clean-up: raw Take in, clean Take out, one function per step.

The raw take is never changed, so every setting and every correction can be tuned at any time.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from dir_core import __version__, rotations
from dir_core.camera import project
from dir_core.clean_up import edits as user_edits
from dir_core.clean_up.contact import Parted, separate_hands
from dir_core.clean_up.edits import Edit, apply_edits, drop_hand, trust_of_rows
from dir_core.clean_up.gaps import hold_longest_gaps, straight, too_long_gaps
from dir_core.clean_up.identity import IdentityRepair, repair_identity
from dir_core.clean_up.limits import Limited, limit_joints
from dir_core.clean_up.pose import PLACE_NOISE, steady_position, steady_rotations
from dir_core.clean_up.report import (
    FAR_MOVE,
    CleanUpReport,
    HandFigures,
    count_gaps,
    count_outliers,
    measure_acceleration_error,
    measure_jitter,
)
from dir_core.clean_up.settings import CleanUpSettings, Cutoffs, settings_from_json
from dir_core.clean_up.smoothing import measure_noise
from dir_core.conventions import SIDES, Side
from dir_core.degrees_of_freedom import finger_geometry
from dir_core.errors import TakeError
from dir_core.fitting.clip import FittedHand, Sighting, fit_sighting, pose_hands
from dir_core.hand_model import HandModel
from dir_core.landmarks import HandLandmarkTrack, length_in_image
from dir_core.take import HandTrack, Take, load_take, take_digest

Array = NDArray[Any]
T = TypeVar("T")

STEP: Final = "clean_up"
"""Name of this step in `meta["history"]`."""

CONFIDENT: Final = 0.8
"""Mean confidence of a frame in which the key points are believed: the report's largest move counts these only."""

_KEPT = 4  # results of each step that are remembered, the last ones: 4 MB each for a minute


@dataclass(frozen=True)
class Recipe:
    """How a clean take was made, so that it can be made again.

    Attributes:
        raw_path: where the raw take was; "" if nobody said.
        raw_digest: of the raw take's content.
        settings, edits: what the user chose and corrected.
    """

    raw_path: str
    raw_digest: str
    settings: CleanUpSettings
    edits: tuple[Edit, ...]


@dataclass(frozen=True, eq=False)
class Corrected:
    """What was seen, with left and right repaired and the user's edits made on top.

    Attributes:
        take: the raw take so corrected.
        repair: what the automatic repair changed before the edits.
        doubted: `take` without the ranges that the user does not trust; `take` itself if there are none.
        trust: weight [T] in 0..1 that the edits leave to the rows of each hand.
    """

    take: Take
    repair: IdentityRepair
    doubted: Take
    trust: dict[Side, Array]


@dataclass(frozen=True, eq=False)
class Cleaned:
    """A clean take and what was done to get it.

    Attributes:
        take: the clean take.
        report: what was done, in numbers.
        corrected: what the poses were made from.
        contact: how deep the hands lay in each other; None if nobody asked.
    """

    take: Take
    report: CleanUpReport
    corrected: Corrected
    contact: Parted | None


def clean_take(
    raw: Take,
    models: Mapping[Side, HandModel],
    settings: CleanUpSettings | None = None,
    edits: Sequence[Edit] = (),
    raw_path: Path | None = None,
) -> Cleaned:
    """Make a raw take of any estimator into one that an animator keeps.

    Args:
        raw: the take as captured.
        models: the hand model of each side that the take was captured with.
        settings: what the user chose.
        edits: the user's corrections, in order, made on the take as automatic repair leaves it.
        raw_path: where the raw take is, for the history.

    Raises:
        TakeError: the take is clean already.
        SettingsError: an edit touches no frame of the take.
    """
    return CleanUp(raw, models).clean(settings, edits, raw_path)


class CleanUp:
    """A raw take that is cleaned again and again, as when a slider moves: what has not changed is not done again.

    The results are those of `clean_take` to the last bit, because that is this with one run.
    """

    def __init__(self, raw: Take, models: Mapping[Side, HandModel]):
        """Take a raw take and the hand model of each side that it was captured with.

        Raises:
            TakeError: the take is clean already, or empty.
        """
        if read_recipe(raw) is not None:
            raise TakeError("The take is clean already, clean the raw take it was made from.")
        if not len(raw):
            raise TakeError("The take has no frames, capture the clip again.")
        self._raw, self._models = raw, models
        # Keys are settings and edits, which compare by value, and takes, which compare by identity.
        self._correct = lru_cache(_KEPT)(self._correct_anew)
        self._sight = lru_cache(_KEPT)(partial(see_hands, models=models))
        self._pose = lru_cache(_KEPT)(pose_hands)
        self._steady = lru_cache(_KEPT)(self._steady_anew)

    def clean(
        self,
        settings: CleanUpSettings | None = None,
        edits: Sequence[Edit] = (),
        raw_path: Path | None = None,
    ) -> Cleaned:
        """Clean the take; see `clean_take`.

        Raises:
            SettingsError: an edit touches no frame of the take.
        """
        settings = settings or CleanUpSettings()
        raw, models = self._raw, self._models
        corrected = self._correct(settings.identity, tuple(edits))
        edited = corrected.take
        steady = self._steady(edited, settings.cutoffs)
        if corrected.doubted is not edited:
            steady = doubt_poses(steady, self._steady(corrected.doubted, settings.cutoffs), corrected.trust)
        limited, bent = limit_hands(steady, models, settings)
        apart, contact = part_hands(limited, edited, models, settings)
        hands = {side: hold_gaps(apart[side], edited.hand(side).observed, raw.time, settings) for side in SIDES}
        recipe = Recipe(str(raw_path.absolute()) if raw_path else "", self._digest, settings, tuple(edits))
        take = assemble_take(edited, hands, models, recipe)
        report = report_on(edited, take, steady=steady, repair=corrected.repair, limited=bent, contact=contact)
        return Cleaned(take, report, corrected, contact)

    @cached_property
    def _digest(self) -> str:
        return take_digest(self._raw)

    def _correct_anew(self, identity: bool, edits: tuple[Edit, ...]) -> Corrected:
        edited, repair = correct_sides(self._raw, CleanUpSettings(identity=identity), edits)
        trust = trust_of_rows(edits, edited)
        return Corrected(edited, repair, drop_doubted(edited, trust), trust)

    def _steady_anew(self, take: Take, cutoffs: Cutoffs) -> dict[Side, FittedHand]:
        """Smooth both hands and carry them across gaps, the way that fits the take's estimator."""
        if not sees_landmarks(take):
            return steady_again(take, self._models, cutoffs)
        # Landmarks are smoothed as they were seen, and the hand model is fitted to them again.
        sighting = self._sight(take)
        return fit_sighting(sighting, cutoffs, lambda cutoff: self._pose(sighting, cutoff))


def read_recipe(take: Take) -> Recipe | None:
    """How a take was cleaned; None for a raw take.

    Raises:
        SettingsError: the history names settings or edits that this version does not know.
    """
    entry = next((step for step in reversed(take.meta["history"]) if step.get("step") == STEP), None)
    if entry is None:
        return None
    raw = entry.get("raw") if isinstance(entry.get("raw"), dict) else {}
    return Recipe(
        raw_path=str(raw.get("path", "")),
        raw_digest=str(raw.get("digest", "")),
        settings=settings_from_json(entry.get("settings")),
        edits=user_edits.from_json(entry.get("edits")),
    )


def find_raw(clean_path: Path, recipe: Recipe) -> tuple[Take, Path]:
    """The raw take that a clean one was made from: beside it, else where it was.

    Raises:
        TakeError: it is in neither place, or another take is there now.
    """
    if not recipe.raw_path:
        raise TakeError(f"{clean_path} does not say which raw take it was made from, give the raw take.")
    places = [clean_path.parent / Path(recipe.raw_path).name, Path(recipe.raw_path)]
    for place in places:
        if place.is_file():
            raw = load_take(place)
            if take_digest(raw) == recipe.raw_digest:
                return raw, place
    raise TakeError(f"{clean_path} was made from {recipe.raw_path}, which is gone or has changed: give the raw take.")


def correct_sides(raw: Take, settings: CleanUpSettings, edits: Sequence[Edit]) -> tuple[Take, IdentityRepair]:
    """What was seen, with left and right repaired and the user's corrections made on top."""
    if settings.identity:
        repaired, repair = repair_identity(raw)
    else:
        nothing = np.zeros(len(raw), bool)
        repaired, repair = raw, IdentityRepair(nothing, dict.fromkeys(SIDES, nothing))
    return apply_edits(repaired, edits), repair


def drop_doubted(take: Take, trust: Mapping[Side, Array]) -> Take:
    """The take without the rows that the user trusts less, unless nothing would be left to fill them from."""
    for side in SIDES:
        rows, seen = trust[side] < 1, take.hand(side).observed
        if (seen & rows).any() and (seen & ~rows).any():
            take = drop_hand(take, side, rows)
    return take


def doubt_poses(
    steady: Mapping[Side, FittedHand], filled: Mapping[Side, FittedHand], trust: Mapping[Side, Array]
) -> dict[Side, FittedHand]:
    """Draw the ranges that the user does not trust towards what they would be without having been seen.

    A smoother alone cannot do that: a wrong pose that stays for a while looks to it like a fast, sure motion.
    """
    return {
        side: replace(
            hand,
            rotation=rotations.slerp(filled[side].rotation, hand.rotation, trust[side][:, None]),
            translation=straight(filled[side].translation, hand.translation, trust[side][:, None]),
        )
        for side, hand in steady.items()
    }


def sees_landmarks(raw: Take) -> bool:
    """Whether the take's estimator saw landmarks only, so that its rotations are a fit which can be done again."""
    estimator = raw.meta["estimator"]
    return isinstance(estimator, dict) and estimator.get("name") == "landmarks"


def see_hands(take: Take, models: Mapping[Side, HandModel]) -> Sighting:
    """What a landmark estimator saw, for a fit."""
    # The shape stays that of the raw take: one rig serves every clean-up, and an edit of one hand leaves the other be.
    shape = take.hand(_seen_side(take)).shape
    tracks = {side: _landmarks(take.hand(side)) for side in SIDES}
    return Sighting(tracks, take.time, models, take.camera_matrix, _hand_length(take, models), shape)


def steady_again(take: Take, models: Mapping[Side, HandModel], cutoffs: Cutoffs) -> dict[Side, FittedHand]:
    """Smooth the rotations and positions of an estimator that poses hands itself."""
    length = _hand_length(take, models)

    def steady(side: Side) -> FittedHand:
        hand = take.hand(side)
        seen = (hand.confidence, hand.observed, take.time)
        rotation = steady_rotations(hand.rotation.astype(np.float64), *seen, cutoffs=cutoffs)
        place = hand.translation.astype(np.float64)
        translation = steady_position(place, *seen, cutoffs=cutoffs, hand_length=length)
        pixels = _project(models[side], rotation, translation, hand, take.camera_matrix)
        return FittedHand(rotation, translation, hand.shape, float(hand.scale[0]), pixels)

    return _of_both(steady)


def limit_hands(
    hands: Mapping[Side, FittedHand], models: Mapping[Side, HandModel], settings: CleanUpSettings
) -> tuple[dict[Side, FittedHand], dict[Side, float]]:
    """Bring joints into their anatomical ranges, and the share of frames of each hand that needed it."""
    if not settings.limits:
        return dict(hands), dict.fromkeys(SIDES, 0.0)

    def limit(side: Side) -> Limited:
        hand = hands[side]
        return limit_joints(finger_geometry(models[side], hand.shape, hand.scale), hand.rotation)

    limited = _of_both(limit)
    inside = {side: replace(hands[side], rotation=limited[side].rotation) for side in SIDES}
    return inside, {side: limited[side].corrected_frames for side in SIDES}


def part_hands(
    hands: Mapping[Side, FittedHand], edited: Take, models: Mapping[Side, HandModel], settings: CleanUpSettings
) -> tuple[dict[Side, FittedHand], Parted | None]:
    """Push hands and fingers apart that sink into each other, and how deep they did; None if the user said no."""
    if settings.contact == "off":
        return dict(hands), None
    confidence = {side: edited.hand(side).confidence for side in SIDES}
    fingers = settings.contact == "fingers"
    parted = separate_hands(hands, models, edited.camera_matrix, confidence, edited.time, fingers=fingers)
    apart = {
        side: replace(hands[side], rotation=hand.rotation, translation=hand.translation)
        for side, hand in parted.hands.items()
    }
    return apart, parted


def hold_gaps(hand: FittedHand, observed: Array, time: Array, settings: CleanUpSettings) -> FittedHand:
    """Keep the hand still in gaps that are too long to be filled with motion."""
    return replace(
        hand,
        rotation=hold_longest_gaps(hand.rotation, observed, time, settings.fill, rotations.slerp),
        translation=hold_longest_gaps(hand.translation, observed, time, settings.fill, straight),
    )


def assemble_take(
    edited: Take, hands: Mapping[Side, FittedHand], models: Mapping[Side, HandModel], recipe: Recipe
) -> Take:
    """Join poses and what was seen into a clean take, with the recipe in its history."""
    hidden: dict[str, list[tuple[int, int]]] = {}

    def track(side: Side) -> HandTrack:
        seen, hand = edited.hand(side), hands[side]
        if recipe.settings.beyond == "hide" and seen.observed.any():
            hidden[side] = too_long_gaps(seen.observed, edited.time, recipe.settings.fill)
        keypoints_3d = np.zeros_like(seen.keypoints_3d)
        keypoints_2d = np.zeros_like(seen.keypoints_2d)
        if seen.observed.any():
            keypoints_3d = models[side].pose_keypoints(hand.rotation, hand.translation, hand.shape, hand.scale)
            keypoints_2d = project(keypoints_3d, edited.camera_matrix)
        return HandTrack(
            rotation=rotations.make_continuous(hand.rotation).astype(np.float32),
            translation=hand.translation.astype(np.float32),
            shape=np.asarray(hand.shape, np.float32),
            scale=np.array([hand.scale], np.float32),
            keypoints_2d=keypoints_2d.astype(np.float32),
            keypoints_3d=keypoints_3d.astype(np.float32),
            confidence=seen.confidence,
            observed=seen.observed,
        )

    tracks = _of_both(track)
    entry = {
        "step": STEP,
        "program": f"two-hand-capture {__version__}",
        "raw": {"path": recipe.raw_path, "digest": recipe.raw_digest},
        "settings": recipe.settings.as_json(),
        "edits": user_edits.as_json(recipe.edits),
        "hidden": {side: [list(rows) for rows in ranges] for side, ranges in hidden.items()},
    }
    meta = {**edited.meta, "history": [*edited.meta["history"], entry]}
    return replace(edited, meta=meta, left=tracks["left"], right=tracks["right"])


def report_on(
    edited: Take,
    take: Take,
    *,
    steady: Mapping[Side, FittedHand],
    repair: IdentityRepair,
    limited: Mapping[Side, float],
    contact: Parted | None,
) -> CleanUpReport:
    """What the steps did, in numbers: key points as seen against the smoothed ones and those of the posed hands."""

    def figures(side: Side) -> HandFigures:
        seen, hand, time = edited.hand(side), take.hand(side), take.time
        observed = seen.observed
        gaps, longest = count_gaps(observed, time)
        counts = HandFigures(
            seen=int(observed.sum()),
            filled=int((~observed).sum()) if observed.any() else 0,
            hidden=int(take.hidden(side).sum()),
            gaps=gaps,
            longest_gap=longest,
            duplicates=int(repair.duplicates[side].sum()),
            limited=limited[side],
        )
        if not observed.any():
            return counts
        lengths = length_in_image(seen.keypoints_2d[observed])
        length = float(np.median(lengths))
        before, after = seen.keypoints_2d.astype(np.float64) / length, hand.keypoints_2d.astype(np.float64) / length
        trusted = seen.confidence.mean(axis=1)[observed] >= CONFIDENT
        move = np.linalg.norm(steady[side].pixels - seen.keypoints_2d, axis=-1)[observed] / lengths[:, None]
        noise = measure_noise(seen.keypoints_2d, seen.confidence, PLACE_NOISE * length)
        return replace(
            counts,
            outliers=count_outliers(seen.keypoints_2d, steady[side].pixels, noise, length, observed),
            jitter_before=_percent(measure_jitter(before, observed, time)),
            jitter_after=_percent(measure_jitter(after, observed, time)),
            acceleration_before=measure_acceleration_error(before, observed, time),
            acceleration_after=measure_acceleration_error(after, observed, time),
            largest_move=_percent(float(move[trusted].max())) if trusted.any() else None,
            moved=float((move[trusted] > FAR_MOVE).mean()) if trusted.any() else None,
        )

    before = after = np.zeros(0)
    if contact is not None:
        sunk = contact.before.deepest > 0
        before, after = contact.before.deepest[sunk], contact.after.deepest[sunk]
    return CleanUpReport(
        frames=len(take),
        seconds=take.duration,
        swaps=repair.swaps,
        touching=len(before),
        penetration_before=1e3 * float(before.mean()) if len(before) else 0.0,
        penetration_after=1e3 * float(after.mean()) if len(before) else 0.0,
        **_of_both(figures),
    )


def _of_both(work: Callable[[Side], T]) -> dict[Side, T]:
    """What `work` makes of each side; both at once, because numpy and LAPACK let each other run."""
    with ThreadPoolExecutor(len(SIDES)) as pool:
        return dict(zip(SIDES, pool.map(work, SIDES), strict=True))


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _landmarks(hand: HandTrack) -> HandLandmarkTrack:
    return HandLandmarkTrack(hand.keypoints_2d, hand.keypoints_3d, hand.confidence, hand.observed)


def _hand_length(take: Take, models: Mapping[Side, HandModel]) -> float:
    """Metres from wrist crease to middle finger tip, as the take was captured with; both sides share it."""
    side = _seen_side(take)
    hand = take.hand(side)
    return float(hand.scale[0]) * models[side].length(hand.shape)


def _seen_side(take: Take) -> Side:
    return "right" if take.right.observed.any() else "left"


def _project(model: HandModel, rotation: Array, translation: Array, hand: HandTrack, camera_matrix: Array) -> Array:
    """Key points [T, 21, 2] of the posed hand in the picture; zeros for a hand that was never seen."""
    if not hand.observed.any():
        return np.zeros_like(hand.keypoints_2d)
    return project(model.pose_keypoints(rotation, translation, hand.shape, float(hand.scale[0])), camera_matrix)
