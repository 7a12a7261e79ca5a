"""Follows up to two hands through a clip and decides which is left and which is right. Runs no fitting.

Sides belong to tracks, never to single frames: every frame adds to a track's evidence, and the sum decides.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dir_core.detection.crop import Crop, whole_picture
from dir_core.detection.hand_distances import (
    apart,
    gap,
    is_covered,
    is_near,
    is_on,
    is_over,
    is_same_hand,
    is_same_place,
    is_usable,
    next_crop,
)
from dir_core.detection.hidden_hands import (
    apparent_size,
    believe,
    closeness,
    correction,
    hide,
    is_elsewhere,
    keep_behind,
    mix,
    next_crop_of_size,
    predict,
    rides,
    side_vote,
    size_after,
    trust,
    velocity_after,
)
from dir_core.detection.interpreter import allowed_threads
from dir_core.detection.landmark_network import HandLandmarks
from dir_core.detection.looking import FOUND_TRUST, SURE_PRESENCE, HandLooker, is_sure
from dir_core.detection.palm_detector import Palm
from dir_core.detection.sides import SHORTEST_RUN, Sighting, carry
from dir_core.detection.tracks import Loss, Track, pack_tracks, unpack_tracks

Array = NDArray[Any]

_MIN_PRESENCE = 0.5  # MediaPipe's threshold for keeping a track
_DOUBTED_PRESENCE = 0.8  # below it another crop may see the hand better
_BETTER_PRESENCE = 0.1  # how much surer another crop must be to be taken

# Search for missing hands: the palm network on the whole picture and on at most one tile a frame.
_EAGER_TIME = 0.5  # seconds after a loss (or the start) during which every frame is searched
_CALM_PERIOD = 0.1  # seconds between searches after that
_IDLE_AFTER = 3.0  # seconds without the hand
_IDLE_PERIOD = 0.17
_RESCUE_TIME = 2.0  # seconds after a loss during which tiles and rotations are tried
_BOX_ANGLES = (0.0, np.pi, 0.5 * np.pi, -0.5 * np.pi)  # of the user's box; palms are found best with fingers up
_RESUME_TIME = 0.4  # seconds after a loss during which a hand near the same place is the same track

# Distances between two skeletons, in hand scales (the longer of wrist to middle base and index to pinky base).
_TOUCH = 0.25
_PART = 0.35  # hands that touch count as touching until they are this far apart
_VANISH = 0.6  # a hand that was lost this near to the other one vanished behind or in it
_MEETING = 3.0  # a free hand that is lost this near to the other one is looked for as if they touched
_MERGED_TIME = 5.0  # seconds for which it then counts as touching it

# Hands that are near each other, with the networks made for them.
_LONGEST_HIDDEN = 2.0  # seconds for which a hidden hand is predicted
_LONGEST_BLIND = 0.3  # seconds for which both are, or one that no hand hides
_TOUCH_PERIOD = 0.25  # seconds between questions to the locator while hands touch
_DOUBT_PERIOD = 0.1  # the same while a hand is not seen, or when they have just parted
_PARTED_TIME = 0.35  # seconds after parting in which the sides are checked
_SURE_EVIDENCE = 10.0  # frames of sure handedness: what two hands must differ by to be told apart without the locator
_LOCATOR_EVIDENCE = 0.3  # what one answer about both sides counts, in frames of sure handedness
_AROUND = 1.3  # square that the locator searches, in widths of both crops
_DOUBTED_TRUST = 0.4  # of a hand, while the other one is not surely right: they may have been exchanged
_EXCHANGE_GAIN = 0.3  # how much more both hands must be trusted with each other's sides
_EXCHANGE_EVIDENCE = 6.0  # frames of sure handedness, where both sides exchanged are trusted fully and as they are not
_SURE_TRUST = 0.65  # below it other crops may show the hand better
_TOGETHER = 0.5  # how much two velocities may differ, as a share of their mean
_CONTRADICTS = 0.3  # agreement of the untouched network, below which it does not see the hand that is followed
_NEW_SCORE = 0.7  # of the locator, where a hand begins that nobody followed

_BACK_STEP = 0.7  # hand scales from frame to frame, of a hand that is followed back
_TOUCH_CONFIDENCE = 0.5
_OUTSIDE_CONFIDENCE = 0.3
_CORRECT_PERIOD = 0.05  # seconds between questions to the network for two hands about free hands
_ASK_PERIOD = 0.1  # seconds between questions to the untouched network about handedness
_ASKED_EVIDENCE = 3.0  # what each of them counts, in frames: as many as lie between two
_TOLD_EVIDENCE = 0.02
_TOUCH_EVIDENCE = 0.2  # handedness is not to be believed where hands touch


_TIMES = ("_last_search", "_now", "_parted", "_last_located", "_last_asked", "_last_corrected", "_last_exchanged")
"""Attributes of the tracker that are times in seconds."""


class HandTracker:
    """Finds and follows up to two hands, frame by frame.

    A hand is followed in the crop that its own last key points give; the palm network runs only while a hand is
    missing. Use one tracker for one clip, in order; it holds no pictures.
    """

    def __init__(
        self,
        mirrored: bool = False,
        threads: int | None = None,
        box: tuple[float, float, float, float] | None = None,
        two_hands: bool = True,
    ):
        """Load the networks.

        Args:
            mirrored: the footage is a mirror image (selfie): what looks like a right hand is a left one, and x of
                the 3D key points is turned back. Pictures and 2D key points stay those of the footage as it is.
            threads: with two or more, the landmark networks of both hands run side by side; the result is the same to
                the last bit. None for two, or one where OMP_NUM_THREADS allows no more.
            box: x, y, width and height in pixels around both hands where the clip starts, for hands that are too small
                or too odd to be found in the whole picture. For the first half second hands are looked for in it
                alone; later, whenever a hand is missing, also in it, where it was drawn and where hands were last.
            two_hands: ask the networks made for hands that touch or hide each other wherever two hands are near.
        """
        self.mirrored = mirrored
        threads = allowed_threads(2) if threads is None else threads
        self._two_hands = two_hands
        self._look = HandLooker(threads, two_hands=two_hands)
        self._tracks: list[Track] = []
        self._losses: list[Loss] = []
        self._next_number = 0
        self._touching = False
        self._merged_since: float | None = None  # since when one hand hides in the other
        self._short_since: float | None = None  # since when fewer than two hands are seen
        self._last_search = -np.inf
        self._rescue_step = 0
        self._rescue_turn = 0
        self._box = None if box is None else _square_around(box)
        self._begun: float | None = None  # time of the first frame
        self._place = (0.0, 0.0) if self._box is None else (self._box.x, self._box.y)  # where hands were seen last
        self._box_turn = 0
        self._now = -np.inf  # time of the last frame
        self._segment = 0  # grows whenever hands begin or end to touch: they may be exchanged there
        self._share = 0.0  # of the networks for two hands in the last frame
        self._parted = -np.inf  # when they last ended to
        self._last_located = -np.inf
        self._last_asked = -np.inf
        self._last_corrected = -np.inf
        self._last_exchanged = -np.inf

    def __enter__(self) -> "HandTracker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the thread of the second network."""
        self._look.close()

    def follow(self, image: Array, time: float) -> tuple[list[Sighting], bool]:
        """The sightings in the next frame, still without sides, and whether the hands touch.

        Args:
            image: [H, W, 3] uint8 RGB, upright.
            time: seconds, larger than at the last call.
        """
        size = (image.shape[1], image.shape[0])
        self._look.forget()
        self._begun = time if self._begun is None else self._begun
        self._continue_tracks(image, time)
        if len(self._tracks) < 2:
            if self._short_since is None:
                self._short_since = time
            self._search(image, size, time)
        if self._tracks:
            x, y = np.mean([(track.crop.x, track.crop.y) for track in self._tracks], axis=0).tolist()
            self._place = (x, y)
        if len(self._tracks) == 2:
            self._short_since = None
        if len(self._tracks) != 1:
            self._merged_since = None
        touching = self._are_touching(time)
        if self._two_hands:
            self._watch_touch(touching, time)
            self._ask_handedness(image, time)
            self._check_sides(image, time)
        self._touching = touching
        self._now = time
        return self._add_evidence(size, self._touching), self._touching

    def follow_back(self, new: Sighting, earlier: Iterable[tuple[Array, list[Sighting]]]) -> Iterator[Sighting]:
        """A hand that has just been found in the frames before, the last one first; ends where it is not sure.

        Hands are often found late: where they touch already, part, or show the camera their edge. Nothing that the
        next frame depends on changes.

        Args:
            new: its first sighting.
            earlier: pictures and what was seen in them, the last one first.
        """
        if not self._two_hands:
            return
        right = next(
            side for track, side in zip(self._tracks, self._looks_right(), strict=True) if track.number == new.track
        )
        sides = [right, not right]  # of a newcomer that is not known yet
        seen, usual = new.landmarks, apparent_size(new.landmarks)
        for image, sightings in earlier:
            others = [each for each in sightings if not each.predicted]
            crop = next_crop_of_size(seen, usual)
            known = len(others) > 1 or any(each.track == new.track for each in others)
            if known or not is_usable(crop, image):
                return
            answers = ((side, self._look.told(image, crop, side)) for side in sides)
            right, found = next((each for each in answers if is_sure(each[1], each[0])), (right, None))
            if found is None:
                return
            sides = [right]
            if is_on(found, *(each.landmarks for each in others)) or apart(found, seen) > _BACK_STEP:
                return
            share = max((closeness(found, each.landmarks) for each in others), default=0.0)
            if share < 1:
                free = self._look.at(image, crop)
                free = correction(free, found, right).applied_to(free)
                found = mix(free, found, share) if free.presence >= _MIN_PRESENCE else found
            evidence = self._right_evidence(found) * _TOLD_EVIDENCE
            segment = others[0].segment if others else new.segment
            size = (image.shape[1], image.shape[0])
            yield Sighting(new.track, found, self._confidence(found, size, touching=False), evidence, segment)
            seen = found

    def state(self) -> dict[str, Array]:
        """Everything that the next frame depends on, as arrays for a file; `restore` takes it back bit for bit."""
        clocks = (self._merged_since, self._short_since, self._begun)
        times = tuple(getattr(self, name) for name in _TIMES)
        return {
            **pack_tracks(self._tracks, self._losses),
            "tracker/clocks": np.array([np.nan if clock is None else clock for clock in clocks], np.float64),
            "tracker/times": np.array(times, np.float64),
            "tracker/place": np.array(self._place, np.float64),
            "tracker/steps": np.array(
                [self._next_number, self._rescue_step, self._rescue_turn, self._box_turn, self._segment], np.int64
            ),
            "tracker/touching": np.array(self._touching),
        }

    def restore(self, state: Mapping[str, Array]) -> None:
        """Go on where the tracker that gave this `state` was."""
        self._tracks, self._losses = unpack_tracks(state)
        clocks = state["tracker/clocks"].tolist()
        self._merged_since, self._short_since, self._begun = (None if np.isnan(each) else each for each in clocks)
        times = state["tracker/times"].tolist()
        for name, time in zip(_TIMES, times, strict=True):
            setattr(self, name, time)
        x, y = state["tracker/place"].tolist()
        self._place = (x, y)
        self._next_number, self._rescue_step, self._rescue_turn, self._box_turn, self._segment = state[
            "tracker/steps"
        ].tolist()
        self._touching = bool(state["tracker/touching"])

    # --- following ---

    def _continue_tracks(self, image: Array, time: float) -> None:
        expected = self._expect(time) if self._two_hands else []
        self._share = self._near_share(expected) if self._two_hands else 0.0
        kept = self._follow_near(image, time, expected) if self._share > 0 else self._follow_free(image, time)
        one_lost = self._two_hands and self._share == 0 and len(kept) == 1 < len(self._tracks)
        if one_lost and gap(self._tracks[0].seen, self._tracks[1].seen) < _MEETING:
            self._share = 1.0
            self._losses = [loss for loss in self._losses if loss.time < time]
            kept = self._follow_near(image, time, expected)
        if len(self._tracks) == 2 and len(kept) == 1:
            vanished = gap(self._tracks[0].seen, self._tracks[1].seen) < _VANISH
            self._merged_since = time if vanished else None
        self._tracks = kept

    def _follow_free(self, image: Array, time: float) -> list[Track]:
        """Look for every hand by itself; those that are still there."""
        crops, sides = [track.crop for track in self._tracks], self._looks_right()
        seen = self._look.at_both(image, crops)
        if self._two_hands and time - self._last_corrected >= _CORRECT_PERIOD:
            self._last_corrected = time
            self._correct(seen, self._look.told_both(image, crops, sides), sides)
        seen = [track.correction.applied_to(one) for one, track in zip(seen, self._tracks, strict=True)]
        kept = []
        for track, first, right in zip(self._tracks, seen, sides, strict=True):
            doubted = track.doubted + 1 if first.presence < _DOUBTED_PRESENCE else 0
            # A hand may stay half hidden for long: after a few frames look only now and then.
            landmarks = self._look_again(image, track, first) if doubted in (1, 2, 3) or doubted % 4 == 1 else first
            unseen = landmarks.presence < _MIN_PRESENCE
            if self._two_hands and (unseen or landmarks.agreement(right) < _CONTRADICTS):
                crop = next_crop_of_size(track.seen, track.size or apparent_size(track.seen))
                near = (self._look.told_twice if unseen else self._look.told)(image, crop, right)
                # It was told the side: what it says about that is no evidence, what the other one says stays some.
                score = 0.5 if unseen else landmarks.right_score
                landmarks = replace(near, right_score=score) if is_sure(near, right) else landmarks
            if landmarks.presence < _MIN_PRESENCE or not is_usable(next_crop(landmarks), image):
                self._losses.append(Loss(track, time))
            else:
                kept.append(self._continued(track, landmarks, time, doubted))
        if len(kept) == 2 and is_same_hand(kept[0].seen, kept[1].seen):
            stays, goes = self._settle_duplicate(kept[0], kept[1])
            before = next(track for track in self._tracks if track.number == goes.number)
            self._losses.append(Loss(before, time))
            kept = [stays]
        return kept

    def _continued(self, track: Track, seen: HandLandmarks, time: float, doubted: int = 0) -> Track:
        """The track of a hand that was seen."""
        crop = next_crop(seen)
        return replace(
            track,
            crop=crop,
            seen=seen,
            motion=(crop.x - track.crop.x, crop.y - track.crop.y),
            frames=track.frames + 1,
            doubted=doubted,
            velocity=velocity_after(track.velocity, track.seen, seen, time - self._now),
            hidden_since=None,
            rides=False,
            size=size_after(track.size or apparent_size(seen), seen, seen.right_score > 0.5),
        )

    def _look_again(self, image: Array, track: Track, first: HandLandmarks) -> HandLandmarks:
        """Fast hands leave the crop of the last frame: try the crop moved on, then palms nearby; the surest wins."""
        others = [each.crop for each in self._tracks if each is not track]
        crops = [replace(track.crop, x=track.crop.x + track.motion[0], y=track.crop.y + track.motion[1])]
        crops += [palm.crop for palm in self._look.all_palms(image) if is_near(palm.crop, track.crop)]
        best = first
        for crop in crops:
            if is_usable(crop, image) and not any(is_covered(crop, other) for other in others):
                seen = self._look.at(image, crop)
                if seen.presence > best.presence + _BETTER_PRESENCE:
                    best = track.correction.applied_to(seen)
        return best

    def _correct(self, free: list[HandLandmarks], near: list[HandLandmarks], right: list[bool]) -> None:
        """Note by how much the network for two hands sees each hand otherwise."""
        for track, one, other, side in zip(self._tracks, free, near, right, strict=True):
            track.correction = correction(one, other, side)

    def _settle_duplicate(self, a: Track, b: Track) -> tuple[Track, Track]:
        """Which of two tracks on one hand stays: the one whose past fits what is seen, else the older one."""
        fit_a = a.evidence * self._right_evidence(a.seen) / max(a.frames, 1)
        fit_b = b.evidence * self._right_evidence(b.seen) / max(b.frames, 1)
        if (fit_a > 0) != (fit_b > 0):
            return (a, b) if fit_a > 0 else (b, a)
        return (a, b) if a.number < b.number else (b, a)

    # --- following hands that are near each other ---

    def _near_share(self, expected: list[HandLandmarks]) -> float:
        """How far the networks for two hands are to be believed, 0..1."""
        if len(self._tracks) < 2:
            return 1.0 if self._tracks and self._merged_since is not None else 0.0
        if any(track.hidden_since is not None for track in self._tracks):
            return 1.0
        a, b = self._tracks
        return max(closeness(a.seen, b.seen), closeness(expected[0], expected[1]))

    def _expect(self, time: float) -> list[HandLandmarks]:
        """Where the hands should be by their motion."""
        step = time - self._now
        expected = [
            track.seen if track.hidden_since is not None else predict(track.seen, track.velocity, step)
            for track in self._tracks
        ]
        if len(self._tracks) == 2:
            for hand, track in enumerate(self._tracks):
                partner = self._tracks[1 - hand]
                if track.hidden_since is not None and partner.hidden_since is None:
                    moved = (partner.seen, expected[1 - hand]) if track.rides else None
                    expected[hand] = hide(track.seen, track.velocity, moved, step)[0]
        return expected

    def _move_together(self) -> bool:
        """Whether both hands are seen and keep their distance while they move."""
        if len(self._tracks) < 2 or any(track.hidden_since is not None for track in self._tracks):
            return False
        first, second = (np.array(track.velocity) for track in self._tracks)
        return bool(np.linalg.norm(first - second) < _TOGETHER * np.linalg.norm(first + second) / 2)

    def _looks_right(self) -> list[bool]:
        """Which tracks look like a right hand, by their evidence; of two hands one is the right one."""
        evidence = [track.evidence + track.untold or self._right_evidence(track.seen) for track in self._tracks]
        if len(evidence) == 2:
            right = (evidence[0] > evidence[1]) != self.mirrored
            return [right, not right]
        return [(each > 0) != self.mirrored for each in evidence]

    def _follow_near(self, image: Array, time: float, expected: list[HandLandmarks]) -> list[Track]:
        """Look for hands that touch or hide each other; those that are still there, seen or predicted."""
        right = self._looks_right()
        usual = [track.size or apparent_size(track.seen) for track in self._tracks]
        seen = self._look_near(image, expected, right, usual)
        if len(seen) == 2 and self._are_exchanged(image, seen, right, time):
            right = [not each for each in right]
            seen = self._look_near(image, expected, right, usual)
        if self._share < 1:
            free = self._look.at_both(image, [track.crop for track in self._tracks])
            self._correct(free, seen, right)
            free = [track.correction.applied_to(one) for one, track in zip(free, self._tracks, strict=True)]
            share = [self._share if each.presence >= _MIN_PRESENCE else 1.0 for each in free]
            seen = [mix(*each) for each in zip(free, seen, share, strict=True)]
        if len(seen) < 2:
            track = self._tracks[0]
            if seen[0].presence >= _MIN_PRESENCE and is_usable(next_crop(seen[0]), image):
                return [self._continued(track, seen[0], time)]
            self._losses.append(Loss(track, time))
            return []
        predicted, sizes = (expected[0], expected[1]), (usual[0], usual[1])
        believed = self._believe(image, (seen[0], seen[1]), predicted, (right[0], right[1]), sizes)
        doubted = [not each for each in believed] if not all(believed) else [is_over(seen[0], seen[1])] * 2
        if any(doubted) and time - self._last_located >= _DOUBT_PERIOD:
            self._last_located = time
            seen = self._look_elsewhere(image, seen, expected=expected, right=right, doubted=doubted)
            right = self._looks_right()
            believed = self._believe(image, (seen[0], seen[1]), predicted, (right[0], right[1]), sizes)
        kept = []
        for hand, track in enumerate(self._tracks):
            partner = self._tracks[1 - hand]
            if not believed[hand]:
                moved = seen[1 - hand] if believed[1 - hand] else expected[1 - hand]
                after = self._hidden(track, partner, moved, time)
            elif track.hidden_since is not None:
                # What it moved since it was predicted last is no velocity.
                after = replace(self._continued(track, seen[hand], time), velocity=partner.velocity)
            else:
                after = self._continued(track, seen[hand], time)
            if after is not None and is_usable(after.crop, image):
                kept.append(after)
            else:
                self._losses.append(Loss(track, time))
        return kept

    def _hidden(self, track: Track, partner: Track, partner_now: HandLandmarks, time: float) -> Track | None:
        """The track of a hand that was not seen; None when it was not seen for too long."""
        since = time if track.hidden_since is None else track.hidden_since
        blind_since = time if partner.hidden_since is None else max(since, partner.hidden_since)
        behind = closeness(track.seen, partner.seen) > 0  # else nothing hides it
        longest = _LONGEST_HIDDEN if behind else _LONGEST_BLIND
        if time - since > longest or time - blind_since > _LONGEST_BLIND:
            return None
        velocity, riding, hid = track.velocity, track.rides, track.hid
        if track.hidden_since is None:
            hid = (track.crop.x, track.crop.y, partner.crop.x, partner.crop.y)
            riding = partner.hidden_since is None and rides(track.seen, velocity, partner.velocity)
            if riding:
                velocity = (velocity[0] - partner.velocity[0], velocity[1] - partner.velocity[1])
        moved = (partner.seen, partner_now) if riding else None
        seen, velocity = hide(track.seen, velocity, moved, time - self._now)
        if behind and partner.hidden_since is None:
            seen = keep_behind(seen, partner_now)
        crop = next_crop(seen)
        return replace(
            track, crop=crop, seen=seen, velocity=velocity, hidden_since=since, rides=riding, hid=hid, doubted=0
        )

    def _look_near(
        self, image: Array, expected: list[HandLandmarks], right: list[bool], usual: list[float]
    ) -> list[HandLandmarks]:
        """The hands as the networks for two hands see them best: where they were, and in doubt where they should be."""
        # Hands stop at once where they meet: a hand that is seen is looked for where it was, not where it was going.
        # But of hands that move together one is soon where the other was.
        together = self._move_together()
        starts = [
            track.seen if track.hidden_since is None and not together else each
            for track, each in zip(self._tracks, expected, strict=True)
        ]
        crops = [next_crop_of_size(each, size) for each, size in zip(starts, usual, strict=True)]
        seen = self._look.told_both(image, crops, right)
        for hand, size in enumerate(usual):
            if trust(seen[hand], right[hand]) < _SURE_TRUST:
                again = [next_crop_of_size(each, size) for each in (expected[hand], seen[hand])]
                seen[hand] = self._look.better(image, again, seen[hand], right[hand])
        return seen

    def _are_exchanged(self, image: Array, seen: list[HandLandmarks], right: list[bool], time: float) -> bool:
        """Whether both hands look like those of the other side, to a network that was told so; it is remembered."""
        trusts = [trust(each, side) for each, side in zip(seen, right, strict=True)]
        if max(trusts) >= _SURE_TRUST or min(trusts) >= _DOUBTED_TRUST or time - self._last_exchanged < _DOUBT_PERIOD:
            return False
        self._last_exchanged = time
        others = self._look.told_both(image, [track.crop for track in self._tracks], [not side for side in right])
        gain = sum(trust(each, not side) for each, side in zip(others, right, strict=True)) - sum(trusts)
        self._suspect_exchange(gain)
        return self._looks_right() != right

    def _look_elsewhere(
        self,
        image: Array,
        seen: list[HandLandmarks],
        *,
        expected: list[HandLandmarks],
        right: list[bool],
        doubted: list[bool],
    ) -> list[HandLandmarks]:
        """Look for doubted hands at palms that neither hand explains; for one of them where both are doubted."""
        located = self._look.sides(image, _around([track.crop for track in self._tracks]))
        found = list(seen)
        for hand in (0, 1):
            if doubted[hand] and found[1 - hand] is seen[1 - hand]:
                palms = [
                    *located.candidates[right[hand]],
                    *located.candidates[not right[hand]],
                    *self._look.all_palms(image),
                    *self._look.palms(image, self._next_tile(self._tracks[hand].crop, image)),
                ]
                other = seen[1 - hand] if all(doubted) else expected[1 - hand]
                other_sure = not doubted[1 - hand] and trust(seen[1 - hand], right[1 - hand]) >= _SURE_TRUST
                found[hand] = self._look.at_palms(image, palms, seen[hand], other, right[hand], other_sure=other_sure)
                if found[hand] is seen[hand] and self._tracks[hand].hidden_since is not None:
                    found[hand] = self._look_where_it_hid(image, hand, seen[hand], other, right[hand])
                if found[hand] is seen[hand]:
                    exchanged = self._look_exchanged(image, hand, palms, seen, right)
                    if exchanged:
                        return exchanged
        for hand in (0, 1):
            if found[1 - hand] is not seen[1 - hand] and doubted[hand]:
                found[hand] = self._look_where_other_was(image, hand, seen, found[1 - hand], right[hand])
        return found

    def _look_where_other_was(
        self, image: Array, hand: int, seen: list[HandLandmarks], other: HandLandmarks, right: bool
    ) -> HandLandmarks:
        """What is seen of a doubted hand where the other one was looked for, which has just been found elsewhere."""
        again = self._look.told(image, next_crop(seen[1 - hand]), right)
        better = trust(again, right) > max(FOUND_TRUST, trust(seen[hand], right))
        return again if better and not is_over(again, other) else seen[hand]

    def _look_exchanged(
        self, image: Array, hand: int, palms: list[Palm], seen: list[HandLandmarks], right: list[bool]
    ) -> list[HandLandmarks] | None:
        """Both hands with each other's sides, where a palm of the other side explains what is not seen better."""
        partner = seen[1 - hand]
        found = self._look.at_palms(image, palms, seen[hand], partner, not right[hand])
        if found is seen[hand] or is_same_place(found, partner):
            return None
        turned = self._look.told(image, next_crop(partner), right[hand])
        told = trust(partner, right[1 - hand])
        gain = trust(found, not right[hand]) + trust(turned, right[hand]) - told
        if trust(turned, right[hand]) < FOUND_TRUST or gain < _EXCHANGE_GAIN:
            return None
        self._suspect_exchange(gain)
        if self._looks_right() == right:
            return None
        return [found, turned] if hand == 0 else [turned, found]

    def _suspect_exchange(self, gain: float) -> None:
        """Note how much more both hands are trusted with each other's sides; if that decides, a new segment begins."""
        before = self._looks_right()
        for track, side in zip(self._tracks, before, strict=True):
            track.untold += _EXCHANGE_EVIDENCE * gain * (-1.0 if side != self.mirrored else 1.0)
        if self._looks_right() != before:
            self._segment += 1
            for track in self._tracks:
                track.untold = carry(np.inf if track.evidence + track.untold > 0 else -np.inf) - track.evidence

    def _look_where_it_hid(
        self, image: Array, hand: int, seen: HandLandmarks, other: HandLandmarks, right: bool
    ) -> HandLandmarks:
        """What is seen of a hidden hand where it hid, and as far from there as the other one has come the other way."""
        track, partner = self._tracks[hand], self._tracks[1 - hand]
        x, y, other_x, other_y = track.hid
        best, least = seen, FOUND_TRUST
        for share in (0.0, 1.0):
            crop = replace(
                track.crop, x=x - share * (partner.crop.x - other_x), y=y - share * (partner.crop.y - other_y)
            )
            if is_usable(crop, image):
                again = self._look.told_twice(image, crop, right)
                if (
                    trust(again, right) > least
                    and not is_over(again, other)
                    and self._look.is_hand(image, again, right)
                ):
                    best, least = again, trust(again, right)
        return best

    def _believe(
        self,
        image: Array,
        seen: tuple[HandLandmarks, HandLandmarks],
        expected: tuple[HandLandmarks, HandLandmarks],
        right: tuple[bool, bool],
        usual: tuple[float, float],
    ) -> tuple[bool, bool]:
        """Which of two hands were really seen; where both answers are one hand, the untouched network says whose."""
        believed = believe(seen, expected, right, usual)
        if all(believed) and is_same_place(*seen):
            first = (self._look.at(image, next_crop(seen[0])).right_score > 0.5) == right[0]
            return first, not first
        return believed

    # --- sides of hands that touched ---

    def _watch_touch(self, touching: bool, time: float) -> None:
        """Begin a new segment where hands begin or end to touch; most of the evidence stays behind."""
        if touching != self._touching:
            self._segment += 1
            self._parted = -np.inf if touching else time
            for track in self._tracks:
                track.evidence = carry(track.evidence)

    def _ask_handedness(self, image: Array, time: float) -> None:
        """Ask the untouched network now and then which hand is which, where the networks for two hands took over."""
        seen = all(track.hidden_since is None for track in self._tracks)
        if self._share == 0 or len(self._tracks) < 2 or not seen or time - self._last_asked < _ASK_PERIOD:
            return
        self._last_asked = time
        one, other = (
            self._right_evidence(seen) for seen in self._look.at_both(image, [track.crop for track in self._tracks])
        )
        difference = _ASKED_EVIDENCE * 0.5 * (one - other) * (_TOUCH_EVIDENCE if self._touching else 1.0)
        for track, evidence in zip(self._tracks, (difference, -difference), strict=True):
            track.untold += evidence

    def _check_sides(self, image: Array, time: float) -> None:
        """Ask the locator now and then which hand is which, while hands touch and where that is not known for sure."""
        if len(self._tracks) < 2:
            return
        first, second = self._tracks
        doubted = time - self._parted <= _PARTED_TIME or abs(first.evidence - second.evidence) < _SURE_EVIDENCE
        period = _DOUBT_PERIOD if doubted else _TOUCH_PERIOD if self._touching else np.inf
        if time - self._last_located < period:
            return
        self._last_located = time
        located = self._look.sides(image, _around([track.crop for track in self._tracks]))
        right = self._looks_right()
        hands = (second.seen, first.seen) if right[0] else (first.seen, second.seen)
        vote = _LOCATOR_EVIDENCE * side_vote(hands, located)
        for track, looks_right in zip(self._tracks, right, strict=True):
            track.untold += vote if looks_right != self.mirrored else -vote

    # --- searching ---

    def _search(self, image: Array, size: tuple[int, int], time: float) -> None:
        self._losses = [loss for loss in self._losses if time - loss.time < _RESCUE_TIME]
        since = self._short_since if self._short_since is not None else time
        newest = max((loss.time for loss in self._losses), default=since)
        absent = time - max(since, newest)
        period = 0.0 if absent <= _EAGER_TIME else _CALM_PERIOD if absent <= _IDLE_AFTER else _IDLE_PERIOD
        rescue_wanted = any(time > loss.time and loss.track.frames >= SHORTEST_RUN for loss in self._losses)
        self._rescue_step = self._rescue_step + 1 if rescue_wanted else 0
        eager = period == 0.0
        rescue_turn = rescue_wanted and (eager or self._rescue_step % 2 == 1)
        if eager or (not rescue_turn and time - self._last_search >= period - 1e-6):
            self._last_search = time
            beginning = self._begun is not None and time - self._begun <= _EAGER_TIME
            if self._box is not None:
                palms = self._look.palms(image, self._next_box(self._box))
                self._accept(image, time, palms, _MIN_PRESENCE if beginning else SURE_PRESENCE)
            if (self._box is None or not beginning) and len(self._tracks) < 2:
                self._accept(image, time, self._look.all_palms(image), _MIN_PRESENCE)
                for outer in self._squares_of_both(size) if self._two_hands else ():
                    if len(self._tracks) < 2:
                        self._find_sides(image, outer, time)
        if rescue_turn and self._losses and len(self._tracks) < 2:  # the last loss may just have been found
            self._rescue(image, time)

    def _next_box(self, box: Crop) -> Crop:
        """The user's box where it was drawn, then around where hands were seen last, upright and turned."""
        turn = self._box_turn
        self._box_turn += 1
        x, y = self._place if turn % 2 else (box.x, box.y)
        return Crop(x, y, box.size, _BOX_ANGLES[turn // 2 % len(_BOX_ANGLES)])

    def _rescue(self, image: Array, time: float) -> None:
        """Look once more where a hand was lost: closer, turned, or in one half of the picture."""
        lost = max(self._losses, key=lambda loss: (loss.track.frames >= SHORTEST_RUN, loss.time)).track.crop
        self._accept(image, time, self._look.palms(image, self._next_tile(lost, image)), SURE_PRESENCE)

    def _next_tile(self, lost: Crop, image: Array) -> Crop:
        """A part of the picture in which a hand that was lost may be found, another one each time."""
        tiles = [
            replace(lost, size=2.0 * lost.size),
            Crop(lost.x, lost.y, 2.0 * lost.size),
            *_halves((image.shape[1], image.shape[0])),
            replace(lost, size=2.0 * lost.size, angle=lost.angle + 0.5 * np.pi),
            replace(lost, size=3.0 * lost.size, angle=lost.angle + np.pi),
            replace(lost, size=2.0 * lost.size, angle=lost.angle - 0.5 * np.pi),
        ]
        self._rescue_turn += 1
        return tiles[(self._rescue_turn - 1) % len(tiles)]

    def _accept(self, image: Array, time: float, palms: list[Palm], min_presence: float) -> None:
        """Begin tracks on palms that no track covers yet."""
        for palm in palms:
            if len(self._tracks) == 2:
                return
            if any(is_covered(palm.crop, track.crop) for track in self._tracks) or not is_usable(palm.crop, image):
                continue
            seen = self._look.at(image, palm.crop)
            crop = next_crop(seen)
            if seen.presence < min_presence or not is_usable(crop, image):
                continue
            # A newcomer on top of a followed hand is refused whatever its handedness says.
            if any(is_over(seen, track.seen) for track in self._tracks):
                continue
            self._begin(crop, seen, time)

    def _squares_of_both(self, size: tuple[int, int]) -> list[Crop]:
        """Where a hand that is missing may be: anywhere, or on the other one, to be looked at more closely."""
        return [whole_picture(size), *(_around([track.crop]) for track in self._tracks)]

    def _find_sides(self, image: Array, outer: Crop, time: float) -> None:
        """Begin tracks of the sides that are missing, where the locator sees them: also on or behind another hand."""
        located = self._look.sides(image, outer)
        for right in (False, True):
            # Small or odd hands are located with the wrong side as well: the landmark network knows better.
            for located_right in (right, not right):
                for palm in located.candidates[located_right]:
                    if right not in self._looks_right() and len(self._tracks) < 2:
                        surely = located_right == right and palm.score >= _NEW_SCORE
                        self._begin_at(image, palm, right, time, surely=surely)

    def _begin_at(self, image: Array, palm: Palm, right: bool, time: float, *, surely: bool) -> None:
        """Begin a track at a located palm that shows a hand which nobody follows; where not `surely`, of that side."""
        others = [track.seen for track in self._tracks]
        if not is_usable(palm.crop, image) or not is_elsewhere(palm, *others):
            return
        seen = self._look.told(image, palm.crop, right)
        crop = next_crop(seen)
        if is_on(seen, *others) or not is_sure(seen, right) or not is_usable(crop, image):
            return
        if self._look.is_hand(image, seen, None if surely else right):
            self._begin(crop, seen, time, _LOCATOR_EVIDENCE * (1.0 if right != self.mirrored else -1.0))

    def _begin(self, crop: Crop, seen: HandLandmarks, time: float, evidence: float = 0.0) -> None:
        near = [loss for loss in self._losses if time - loss.time < _RESUME_TIME and is_near(crop, loss.track.crop)]
        if len(near) == 1 and near[0].track.evidence * self._right_evidence(seen) >= 0:
            loss = near[0]
            self._losses.remove(loss)
            self._tracks.append(
                replace(
                    loss.track,
                    crop=crop,
                    seen=seen,
                    frames=loss.track.frames + 1,
                    hidden_since=None,
                    velocity=(0.0, 0.0),
                )
            )
            return
        if near:
            self._losses.remove(near[-1])
        self._last_corrected = -np.inf
        self._tracks.append(Track(self._next_number, crop, seen, frames=1, untold=evidence))
        self._next_number += 1

    # --- judging ---

    def _right_evidence(self, seen: HandLandmarks) -> float:
        evidence = (2.0 * seen.right_score - 1.0) * seen.presence
        return -evidence if self.mirrored else evidence

    def _are_touching(self, time: float) -> bool:
        if len(self._tracks) == 2:
            return gap(self._tracks[0].seen, self._tracks[1].seen) < (_PART if self._touching else _TOUCH)
        if not self._tracks or self._merged_since is None:
            return False
        return time - self._merged_since < _MERGED_TIME

    def _add_evidence(self, size: tuple[int, int], touching: bool) -> list[Sighting]:
        # The networks for two hands are told the side: what they say about it counts next to nothing.
        weight = min(_TOUCH_EVIDENCE if touching else 1.0, 1.0 - (1.0 - _TOLD_EVIDENCE) * self._share)
        own = [
            0.0 if track.hidden_since is not None else self._right_evidence(track.seen) * weight
            for track in self._tracks
        ]
        if len(own) == 2:
            # Two hands have opposite sides: what speaks for the one speaks against the other.
            difference = 0.5 * (own[0] - own[1])
            shared = [difference, -difference]
        else:
            shared = own
        sightings = []
        for track, handedness in zip(self._tracks, shared, strict=True):
            evidence = handedness + track.untold
            track.evidence += evidence
            track.untold = 0.0
            confidence = self._confidence(track.seen, size, touching=touching)
            predicted = track.hidden_since is not None
            sightings.append(Sighting(track.number, track.seen, confidence, evidence, self._segment, predicted))
        return sightings

    def _confidence(self, seen: HandLandmarks, size: tuple[int, int], *, touching: bool) -> Array:
        """Of the key points, [21]."""
        points = seen.keypoints_2d
        inside = np.all((points >= 0) & (points <= np.array(size)), axis=-1)
        confidence = np.where(inside, 1.0, _OUTSIDE_CONFIDENCE) * min(seen.presence, 1.0)
        # The network for two hands says itself how sure it is.
        confidence *= seen.confidence if self._two_hands else _TOUCH_CONFIDENCE if touching else 1.0
        return confidence.astype(np.float32)


def _square_around(box: tuple[float, float, float, float]) -> Crop:
    x, y, width, height = box
    return Crop(x + 0.5 * width, y + 0.5 * height, max(width, height))


def _halves(size: tuple[int, int]) -> list[Crop]:
    """Squares over both ends and the middle of the longer side of a picture."""
    width, height = size
    side = float(min(size)) if max(size) > 1.2 * min(size) else 0.6 * max(size)
    if width >= height:
        return [Crop(x, 0.5 * height, side) for x in (0.5 * side, width - 0.5 * side, 0.5 * width)]
    return [Crop(0.5 * width, y, side) for y in (0.5 * side, height - 0.5 * side, 0.5 * height)]


def _around(crops: list[Crop]) -> Crop:
    """The upright square around hands in which the locator finds them best, also where one moved on."""
    low = np.min([(crop.x - 0.5 * crop.size, crop.y - 0.5 * crop.size) for crop in crops], axis=0)
    high = np.max([(crop.x + 0.5 * crop.size, crop.y + 0.5 * crop.size) for crop in crops], axis=0)
    x, y = (0.5 * (low + high)).tolist()
    return Crop(x, y, _AROUND * float((high - low).max()))
