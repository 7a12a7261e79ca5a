"""Follows up to two hands through a clip and decides which is left and which is right. Runs no fitting.

Sides belong to tracks, never to single frames: every frame adds to a track's evidence, and the sum decides.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields, replace
from itertools import count, islice
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dir_core.conventions import KEYPOINT_BONES, KEYPOINTS
from dir_core.detection.crop import Crop, crop_around_keypoints, whole_picture
from dir_core.detection.interpreter import allowed_threads
from dir_core.detection.landmark_network import HandLandmarks, LandmarkNetwork
from dir_core.detection.palm_detector import Palm, PalmDetector
from dir_core.errors import FootageError
from dir_core.footage import Frame
from dir_core.landmarks import HandLandmarkTrack, LandmarkClip
from dir_core.parts import Parts

Array = NDArray[Any]

_MIN_PRESENCE = 0.5  # MediaPipe's threshold for keeping a track
_DOUBTED_PRESENCE = 0.8  # below it another crop may see the hand better
_BETTER_PRESENCE = 0.1  # how much surer another crop must be to be taken
_MIN_PRESENCE_RESCUE = 0.7  # tiles and rotations find more, also more that is no hand
_SMALLEST_CROP = 12.0  # pixels; below that a crop holds nothing to see

# Search for missing hands: the palm network on the whole picture and on at most one tile a frame.
_EAGER_TIME = 0.5  # seconds after a loss (or the start) during which every frame is searched
_CALM_PERIOD = 0.1  # seconds between searches after that
_IDLE_AFTER = 3.0  # seconds without the hand
_IDLE_PERIOD = 0.17
_RESCUE_TIME = 2.0  # seconds after a loss during which tiles and rotations are tried
_BOX_ANGLES = (0.0, np.pi, 0.5 * np.pi, -0.5 * np.pi)  # of the user's box; palms are found best with fingers up
_RESUME_TIME = 0.4  # seconds after a loss during which a hand near the same place is the same track

# Distances between two skeletons, in hand scales (the longer of wrist to middle base and index to pinky base).
_SAME_POINTS = 0.3
_SAME_SHAPE = 0.25
_TOUCH = 0.25
_PART = 0.35  # hands that touch count as touching until they are this far apart
_VANISH = 0.6  # a hand that was lost this near to the other one vanished behind or in it
_MERGED_TIME = 5.0  # seconds for which it then counts as touching it

_TOUCH_CONFIDENCE = 0.5
_OUTSIDE_CONFIDENCE = 0.3
_WRONG_SIDE_CONFIDENCE = 0.5  # where the handedness of a frame speaks against the side of the track
_TOUCH_EVIDENCE = 0.2  # handedness is not to be believed where hands touch

_SHORTEST_RUN = 3  # frames in a row; shorter runs are kept only if the network was sure
_SURE_PRESENCE = 0.9

_TRACK_NAMES = tuple(each.name for each in fields(HandLandmarkTrack))

_CHUNK = 32  # frames that are kept together: about a second of work is all that a stopped capture loses


@dataclass(frozen=True, eq=False)
class Sighting:
    """One tracked hand in one frame, before it has a side.

    Attributes:
        track: number of the track, the same from frame to frame.
        landmarks: what the network saw.
        confidence: [21] float32 in 0..1.
        right_evidence: -1..1, how much this frame speaks for the anatomical right hand.
    """

    track: int
    landmarks: HandLandmarks
    confidence: Array
    right_evidence: float


@dataclass(eq=False)
class _Track:
    number: int
    crop: Crop  # where to look in the next frame
    seen: HandLandmarks
    motion: tuple[float, float] = (0.0, 0.0)  # of the crop over the last frame, pixels
    evidence: float = 0.0  # positive speaks for the right hand
    frames: int = 0
    doubted: int = 0  # frames in a row


@dataclass(eq=False)
class _Loss:
    track: _Track
    time: float


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
        """
        self.mirrored = mirrored
        threads = allowed_threads(2) if threads is None else threads
        self._palms = PalmDetector(threads=threads)
        # Two single-threaded networks side by side beat one network with two threads, twice.
        self._networks = [LandmarkNetwork(threads=1) for _ in range(2 if threads > 1 else 1)]
        self._beside = ThreadPoolExecutor(1, "second hand") if threads > 1 else None
        self._tracks: list[_Track] = []
        self._losses: list[_Loss] = []
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
        self._palms_seen: list[Palm] | None = None  # in the whole of the current picture

    def __enter__(self) -> "HandTracker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the thread of the second network."""
        if self._beside:
            self._beside.shutdown()

    def follow(self, image: Array, time: float) -> tuple[list[Sighting], bool]:
        """The sightings in the next frame, still without sides, and whether the hands touch.

        Args:
            image: [H, W, 3] uint8 RGB, upright.
            time: seconds, larger than at the last call.
        """
        size = (image.shape[1], image.shape[0])
        self._palms_seen = None
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
        self._touching = self._are_touching(time)
        return self._add_evidence(size, self._touching), self._touching

    def state(self) -> dict[str, Array]:
        """Everything that the next frame depends on, as arrays for a file; `restore` takes it back bit for bit.

        Tracks that were lost a moment ago come after those that are followed, with the times of their loss.
        """
        tracks = [*self._tracks, *(loss.track for loss in self._losses)]
        clocks = (self._merged_since, self._short_since, self._begun, self._last_search)
        return {
            "tracker/counts": np.array([(each.number, each.frames, each.doubted) for each in tracks], np.int64),
            "tracker/values": np.array([_values(each) for each in tracks], np.float64),
            "tracker/keypoints_2d": _stack([each.seen.keypoints_2d for each in tracks], 2),
            "tracker/world": _stack([each.seen.world for each in tracks], 3),
            "tracker/losses": np.array([loss.time for loss in self._losses], np.float64),
            "tracker/clocks": np.array([np.nan if clock is None else clock for clock in clocks], np.float64),
            "tracker/place": np.array(self._place, np.float64),
            "tracker/steps": np.array(
                [self._next_number, self._rescue_step, self._rescue_turn, self._box_turn], np.int64
            ),
            "tracker/touching": np.array(self._touching),
        }

    def restore(self, state: Mapping[str, Array]) -> None:
        """Go on where the tracker that gave this `state` was."""
        tracks = []
        for row, (number, frames, doubted) in enumerate(state["tracker/counts"].tolist()):
            x, y, size, angle, *motion, evidence, presence, right_score = state["tracker/values"][row].tolist()
            points, world = state["tracker/keypoints_2d"][row], state["tracker/world"][row]
            seen = HandLandmarks(points, world, presence, right_score)
            tracks.append(
                _Track(number, Crop(x, y, size, angle), seen, (motion[0], motion[1]), evidence, frames, doubted)
            )
        lost = state["tracker/losses"].tolist()
        followed = len(tracks) - len(lost)
        self._tracks = tracks[:followed]
        self._losses = [_Loss(track, time) for track, time in zip(tracks[followed:], lost, strict=True)]
        *clocks, self._last_search = state["tracker/clocks"].tolist()
        self._merged_since, self._short_since, self._begun = (None if np.isnan(each) else each for each in clocks)
        x, y = state["tracker/place"].tolist()
        self._place = (x, y)
        self._next_number, self._rescue_step, self._rescue_turn, self._box_turn = state["tracker/steps"].tolist()
        self._touching = bool(state["tracker/touching"])

    # --- following ---

    def _continue_tracks(self, image: Array, time: float) -> None:
        seen = self._locate(image, [track.crop for track in self._tracks])
        kept = []
        for track, first in zip(self._tracks, seen, strict=True):
            doubted = track.doubted + 1 if first.presence < _DOUBTED_PRESENCE else 0
            # A hand may stay half hidden for long: after a few frames look only now and then.
            landmarks = self._look_again(image, track, first) if doubted in (1, 2, 3) or doubted % 4 == 1 else first
            crop = _next_crop(landmarks)
            if landmarks.presence < _MIN_PRESENCE or not _is_usable(crop, image):
                self._losses.append(_Loss(track, time))
            else:
                motion = (crop.x - track.crop.x, crop.y - track.crop.y)
                frames = track.frames + 1
                kept.append(replace(track, crop=crop, seen=landmarks, motion=motion, frames=frames, doubted=doubted))
        if len(kept) == 2 and _is_same_hand(kept[0].seen, kept[1].seen):
            stays, goes = self._settle_duplicate(kept[0], kept[1])
            before = next(track for track in self._tracks if track.number == goes.number)
            self._losses.append(_Loss(before, time))
            kept = [stays]
        if len(self._tracks) == 2 and len(kept) == 1:
            vanished = _gap(self._tracks[0].seen, self._tracks[1].seen) < _VANISH
            self._merged_since = time if vanished else None
        self._tracks = kept

    def _look_again(self, image: Array, track: _Track, first: HandLandmarks) -> HandLandmarks:
        """Fast hands leave the crop of the last frame: try the crop moved on, then palms nearby; the surest wins."""
        others = [each.crop for each in self._tracks if each is not track]
        crops = [replace(track.crop, x=track.crop.x + track.motion[0], y=track.crop.y + track.motion[1])]
        crops += [palm.crop for palm in self._find_palms(image) if _is_near(palm.crop, track.crop)]
        best = first
        for crop in crops:
            if _is_usable(crop, image) and not any(_is_covered(crop, other) for other in others):
                seen = self._networks[0].locate(image, crop)
                if seen.presence > best.presence + _BETTER_PRESENCE:
                    best = seen
        return best

    def _settle_duplicate(self, a: _Track, b: _Track) -> tuple[_Track, _Track]:
        """Which of two tracks on one hand stays: the one whose past fits what is seen, else the older one."""
        fit_a = a.evidence * self._right_evidence(a.seen) / max(a.frames, 1)
        fit_b = b.evidence * self._right_evidence(b.seen) / max(b.frames, 1)
        if (fit_a > 0) != (fit_b > 0):
            return (a, b) if fit_a > 0 else (b, a)
        return (a, b) if a.number < b.number else (b, a)

    def _locate(self, image: Array, crops: list[Crop]) -> list[HandLandmarks]:
        if len(crops) == 2 and self._beside:
            other = self._beside.submit(self._networks[1].locate, image, crops[1])
            return [self._networks[0].locate(image, crops[0]), other.result()]
        return [self._networks[0].locate(image, crop) for crop in crops]

    # --- searching ---

    def _search(self, image: Array, size: tuple[int, int], time: float) -> None:
        self._losses = [loss for loss in self._losses if time - loss.time < _RESCUE_TIME]
        since = self._short_since if self._short_since is not None else time
        newest = max((loss.time for loss in self._losses), default=since)
        absent = time - max(since, newest)
        period = 0.0 if absent <= _EAGER_TIME else _CALM_PERIOD if absent <= _IDLE_AFTER else _IDLE_PERIOD
        rescue_wanted = any(time > loss.time and loss.track.frames >= _SHORTEST_RUN for loss in self._losses)
        self._rescue_step = self._rescue_step + 1 if rescue_wanted else 0
        eager = period == 0.0
        rescue_turn = rescue_wanted and (eager or self._rescue_step % 2 == 1)
        if eager or (not rescue_turn and time - self._last_search >= period - 1e-6):
            self._last_search = time
            beginning = self._begun is not None and time - self._begun <= _EAGER_TIME
            if self._box is not None:
                palms = self._palms.detect(image, self._next_box(self._box))
                self._accept(image, time, palms, _MIN_PRESENCE if beginning else _MIN_PRESENCE_RESCUE)
            if (self._box is None or not beginning) and len(self._tracks) < 2:
                self._accept(image, time, self._find_palms(image), _MIN_PRESENCE)
        if rescue_turn and self._losses and len(self._tracks) < 2:  # the last loss may just have been found
            self._rescue(image, size, time)

    def _next_box(self, box: Crop) -> Crop:
        """The user's box where it was drawn, then around where hands were seen last, upright and turned."""
        turn = self._box_turn
        self._box_turn += 1
        x, y = self._place if turn % 2 else (box.x, box.y)
        return Crop(x, y, box.size, _BOX_ANGLES[turn // 2 % len(_BOX_ANGLES)])

    def _find_palms(self, image: Array) -> list[Palm]:
        """Palms in the whole picture, asked once a frame."""
        if self._palms_seen is None:
            self._palms_seen = self._palms.detect(image, whole_picture((image.shape[1], image.shape[0])))
        return self._palms_seen

    def _rescue(self, image: Array, size: tuple[int, int], time: float) -> None:
        """Look once more where a hand was lost: closer, turned, or in one half of the picture."""
        lost = max(self._losses, key=lambda loss: (loss.track.frames >= _SHORTEST_RUN, loss.time)).track.crop
        tiles = [
            replace(lost, size=2.0 * lost.size),
            Crop(lost.x, lost.y, 2.0 * lost.size),
            *_halves(size),
            replace(lost, size=2.0 * lost.size, angle=lost.angle + 0.5 * np.pi),
            replace(lost, size=3.0 * lost.size, angle=lost.angle + np.pi),
            replace(lost, size=2.0 * lost.size, angle=lost.angle - 0.5 * np.pi),
        ]
        tile = tiles[self._rescue_turn % len(tiles)]
        self._rescue_turn += 1
        self._accept(image, time, self._palms.detect(image, tile), _MIN_PRESENCE_RESCUE)

    def _accept(self, image: Array, time: float, palms: list[Palm], min_presence: float) -> None:
        """Begin tracks on palms that no track covers yet."""
        for palm in palms:
            if len(self._tracks) == 2:
                return
            if any(_is_covered(palm.crop, track.crop) for track in self._tracks) or not _is_usable(palm.crop, image):
                continue
            seen = self._networks[0].locate(image, palm.crop)
            crop = _next_crop(seen)
            if seen.presence < min_presence or not _is_usable(crop, image):
                continue
            # A newcomer on top of a followed hand is refused whatever its handedness says.
            if any(_is_over(seen, track.seen) for track in self._tracks):
                continue
            self._begin(crop, seen, time)

    def _begin(self, crop: Crop, seen: HandLandmarks, time: float) -> None:
        near = [loss for loss in self._losses if time - loss.time < _RESUME_TIME and _is_near(crop, loss.track.crop)]
        if len(near) == 1 and near[0].track.evidence * self._right_evidence(seen) >= 0:
            loss = near[0]
            self._losses.remove(loss)
            self._tracks.append(replace(loss.track, crop=crop, seen=seen, frames=loss.track.frames + 1))
            return
        if near:
            self._losses.remove(near[-1])
        self._tracks.append(_Track(self._next_number, crop, seen, frames=1))
        self._next_number += 1

    # --- judging ---

    def _right_evidence(self, seen: HandLandmarks) -> float:
        evidence = (2.0 * seen.right_score - 1.0) * seen.presence
        return -evidence if self.mirrored else evidence

    def _are_touching(self, time: float) -> bool:
        if len(self._tracks) == 2:
            return _gap(self._tracks[0].seen, self._tracks[1].seen) < (_PART if self._touching else _TOUCH)
        if not self._tracks or self._merged_since is None:
            return False
        return time - self._merged_since < _MERGED_TIME

    def _add_evidence(self, size: tuple[int, int], touching: bool) -> list[Sighting]:
        own = [self._right_evidence(track.seen) * (_TOUCH_EVIDENCE if touching else 1.0) for track in self._tracks]
        if len(own) == 2:
            # Two hands have opposite sides: what speaks for the one speaks against the other.
            difference = 0.5 * (own[0] - own[1])
            shared = [difference, -difference]
        else:
            shared = own
        sightings = []
        for track, evidence in zip(self._tracks, shared, strict=True):
            track.evidence += evidence
            points = track.seen.keypoints_2d
            inside = np.all((points >= 0) & (points <= np.array(size)), axis=-1)
            confidence = np.where(inside, 1.0, _OUTSIDE_CONFIDENCE) * min(track.seen.presence, 1.0)
            confidence *= _TOUCH_CONFIDENCE if touching else 1.0
            sightings.append(Sighting(track.number, track.seen, confidence.astype(np.float32), evidence))
        return sightings


@dataclass(frozen=True, eq=False)
class _Tracked:
    """What the tracker saw in some frames of a clip, in order."""

    time: list[float] = field(default_factory=list)
    frame: list[int] = field(default_factory=list)
    touching: list[bool] = field(default_factory=list)
    sightings: list[list[Sighting]] = field(default_factory=list)

    def extend(self, other: "_Tracked") -> None:
        self.time.extend(other.time)
        self.frame.extend(other.frame)
        self.touching.extend(other.touching)
        self.sightings.extend(other.sightings)


def track_hands(
    frames: Iterable[Frame],
    tracker: HandTracker,
    on_frame: Callable[[int], None] | None = None,
    parts: Parts | None = None,
) -> LandmarkClip:
    """Follow the hands through a clip, then decide the sides of all tracks at once.

    Args:
        frames: in order; only one picture is held at a time.
        tracker: a fresh one.
        on_frame: called with the number of frames done so far, after each.
        parts: where chunks of frames are kept with the tracker's state after them. Chunks that are there already
            are passed by without asking the networks, and the result is the same to the last bit.

    Raises:
        FootageError: the frames are not those that the parts were made from; the parts are thrown away.
    """
    whole, evidence = _Tracked(), dict[int, float]()
    coming = iter(frames)
    for number in count():
        part = parts.load(number) if parts else None
        done = len(whole.time)
        if parts and part is not None:
            chunk = _unpack(part)
            if not _pass_by(coming, chunk, done, on_frame):
                parts.remove()
                raise FootageError(
                    "The footage is decoded into other frames than before, "
                    "so what was finished was thrown away: capture again."
                )
            tracker.restore(part)
        else:
            chunk = _follow(islice(coming, _CHUNK), tracker, done, on_frame)
        whole.extend(chunk)
        for sighting in (each for sightings in chunk.sightings for each in sightings):
            evidence[sighting.track] = evidence.get(sighting.track, 0.0) + sighting.right_evidence
        if part is None and parts and chunk.time:
            hands = _give_sides(chunk.sightings, evidence, tracker.mirrored)
            parts.save(number, {**_pack(chunk), **_both(hands), **tracker.state()})
        if len(chunk.time) < _CHUNK:
            break
    left, right = label_tracks(whole.sightings, tracker.mirrored)
    return LandmarkClip(
        np.array(whole.time, np.float64),
        np.array(whole.frame, np.int64),
        left,
        right,
        np.array(whole.touching, np.bool_),
    )


def _follow(
    frames: Iterator[Frame], tracker: HandTracker, done: int, on_frame: Callable[[int], None] | None
) -> _Tracked:
    """Ask the networks about the next frames."""
    chunk = _Tracked()
    for frame in frames:
        sightings, touching = tracker.follow(frame.image, frame.time)
        chunk.extend(_Tracked([frame.time], [frame.index], [touching], [sightings]))
        if on_frame:
            on_frame(done + len(chunk.time))
    return chunk


def _pass_by(frames: Iterator[Frame], chunk: _Tracked, done: int, on_frame: Callable[[int], None] | None) -> bool:
    """Decode the frames of a finished chunk, only to get behind them; False if other frames come."""
    for row, known in enumerate(zip(chunk.frame, chunk.time, strict=True)):
        frame = next(frames, None)
        if frame is None or (frame.index, frame.time) != known:
            return False
        if on_frame:
            on_frame(done + row + 1)
    return True


def _values(track: _Track) -> tuple[float, ...]:
    crop, seen = track.crop, track.seen
    place = (crop.x, crop.y, crop.size, crop.angle)
    return (*place, *track.motion, track.evidence, seen.presence, seen.right_score)


def _stack(points: list[Array], axes: int) -> Array:
    return np.array(points, np.float32).reshape(-1, len(KEYPOINTS), axes)


def _pack(chunk: _Tracked) -> dict[str, Array]:
    """A chunk as arrays: [T] of its frames, and one row a sighting."""
    rows = [(row, each) for row, sightings in enumerate(chunk.sightings) for each in sightings]
    found = [each for _, each in rows]
    values = [(each.landmarks.presence, each.landmarks.right_score, each.right_evidence) for each in found]
    return {
        "time": np.array(chunk.time, np.float64),
        "frame": np.array(chunk.frame, np.int64),
        "touching": np.array(chunk.touching, np.bool_),
        "sighting/row": np.array([row for row, _ in rows], np.int64),
        "sighting/track": np.array([each.track for each in found], np.int64),
        "sighting/values": np.array(values, np.float64),
        "sighting/keypoints_2d": _stack([each.landmarks.keypoints_2d for each in found], 2),
        "sighting/world": _stack([each.landmarks.world for each in found], 3),
        "sighting/confidence": np.array([each.confidence for each in found], np.float32),
    }


def _unpack(part: Mapping[str, Array]) -> _Tracked:
    sightings: list[list[Sighting]] = [[] for _ in part["time"]]
    for index, (row, track) in enumerate(
        zip(part["sighting/row"].tolist(), part["sighting/track"].tolist(), strict=True)
    ):
        presence, right_score, evidence = part["sighting/values"][index].tolist()
        points, world = part["sighting/keypoints_2d"][index], part["sighting/world"][index]
        landmarks = HandLandmarks(points, world, presence, right_score)
        sightings[row].append(Sighting(track, landmarks, part["sighting/confidence"][index], evidence))
    return _Tracked(part["time"].tolist(), part["frame"].tolist(), part["touching"].tolist(), sightings)


def _both(hands: tuple[HandLandmarkTrack, HandLandmarkTrack]) -> dict[str, Array]:
    """Left and right [T, 2, ...] as far as the sides are known by now: for those who look on, not to go on from."""
    return {name: np.stack([getattr(hand, name) for hand in hands], axis=1) for name in _TRACK_NAMES}


def read_part(part: Mapping[str, Array]) -> LandmarkClip:
    """Both hands of a part that `track_hands` kept, as far as their sides were known by then."""
    left, right = (HandLandmarkTrack(**{name: part[name][:, hand] for name in _TRACK_NAMES}) for hand in (0, 1))
    return LandmarkClip(part["time"], part["frame"], left, right, part["touching"])


def label_tracks(seen: list[list[Sighting]], mirrored: bool = False) -> tuple[HandLandmarkTrack, HandLandmarkTrack]:
    """Give every track of a clip one side, by all of its evidence; at most one left and one right hand a frame.

    The track with the most evidence chooses first. A track whose side is taken for some of its frames either
    loses those frames or takes the other side, whichever contradicts less. In frames whose handedness speaks
    against the side, the confidence is lowered by up to half.

    Args:
        seen: the sightings of every frame, as `HandTracker.follow` gives them.
        mirrored: as the tracker was told.

    Returns:
        The left and the right hand.
    """
    own: dict[int, list[float]] = {}
    for sighting in (each for sightings in seen for each in sightings):
        own.setdefault(sighting.track, []).append(sighting.right_evidence)
    return _give_sides(seen, {track: sum(evidence) for track, evidence in own.items()}, mirrored)


def _give_sides(
    seen: list[list[Sighting]], evidence: Mapping[int, float], mirrored: bool
) -> tuple[HandLandmarkTrack, HandLandmarkTrack]:
    """`label_tracks` with the evidence for the right hand of each track, which may come from more frames."""
    frames_of: dict[int, list[int]] = {}
    sighting_of: dict[int, list[Sighting]] = {}
    for index, sightings in enumerate(seen):
        for sighting in sightings:
            frames_of.setdefault(sighting.track, []).append(index)
            sighting_of.setdefault(sighting.track, []).append(sighting)
    hands = {"left": _empty_track(len(seen)), "right": _empty_track(len(seen))}
    for track in sorted(frames_of, key=lambda number: (-abs(evidence[number]), number)):
        kept = _drop_flashes(frames_of[track], sighting_of[track], min(_SHORTEST_RUN, len(seen)))
        if not kept:
            continue
        frames, found = np.array([frame for frame, _ in kept]), [sighting for _, sighting in kept]
        own, other = ("right", "left") if evidence[track] > 0 else ("left", "right")
        taken_own, taken_other = hands[own].observed[frames], hands[other].observed[frames]
        stays = taken_own.sum() <= abs(evidence[track]) + taken_other.sum()
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


def _drop_flashes(frames: list[int], found: list[Sighting], shortest: int) -> list[tuple[int, Sighting]]:
    """Leave out runs of consecutive frames that are short and never sure: most of them show no hand."""
    kept: list[tuple[int, Sighting]] = []
    run: list[tuple[int, Sighting]] = []
    for place, (frame, sighting) in enumerate(zip(frames, found, strict=True)):
        run.append((frame, sighting))
        if place + 1 == len(frames) or frames[place + 1] != frame + 1:
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
    agreement = seen.right_score if right != mirrored else 1.0 - seen.right_score
    return _WRONG_SIDE_CONFIDENCE + (1.0 - _WRONG_SIDE_CONFIDENCE) * min(max(agreement, 0.0), 1.0)


# --- distances between hands and crops -----------------------------------------------------------------------

_BONES = np.array(KEYPOINT_BONES)


def _scale(points: Array) -> float:
    """Length of the palm in pixels; the width counts when the hand points at the camera."""
    length, width = np.linalg.norm(points[[9, 17]] - points[[0, 5]], axis=-1)
    return max(float(length), float(width), 1.0)


def _outline(points: Array) -> Array:
    """Key points and the middles of the bones, [41, 2]."""
    return np.concatenate([points, 0.5 * (points[_BONES[:, 0]] + points[_BONES[:, 1]])])


def _distances(a: Array, b: Array) -> Array:
    """Distances between two outlines in mean hand scales, [41, 41]."""
    between = np.linalg.norm(_outline(a)[:, None] - _outline(b)[None], axis=-1)
    return between / (0.5 * (_scale(a) + _scale(b)))


def _gap(a: HandLandmarks, b: HandLandmarks) -> float:
    """The smallest distance between two skeletons, in hand scales."""
    return float(_distances(a.keypoints_2d, b.keypoints_2d).min())


def _is_over(a: HandLandmarks, b: HandLandmarks) -> bool:
    """Whether two skeletons cover the same part of the picture."""
    distances = _distances(a.keypoints_2d, b.keypoints_2d)
    return bool(0.5 * (distances.min(axis=0).mean() + distances.min(axis=1).mean()) < _SAME_SHAPE)


def _is_same_hand(a: HandLandmarks, b: HandLandmarks) -> bool:
    """Whether two skeletons lie on one hand: point on point, or one over the other with the same handedness."""
    pointwise = np.linalg.norm(a.keypoints_2d - b.keypoints_2d, axis=-1).mean()
    if pointwise < _SAME_POINTS * 0.5 * (_scale(a.keypoints_2d) + _scale(b.keypoints_2d)):
        return True
    return (a.right_score > 0.5) == (b.right_score > 0.5) and _is_over(a, b)


def _is_covered(candidate: Crop, tracked: Crop) -> bool:
    """Whether a palm is the one that a track already follows, so that the landmark network need not be asked."""
    close = np.hypot(candidate.x - tracked.x, candidate.y - tracked.y) < 0.2 * tracked.size
    return bool(close) and 0.5 < candidate.size / tracked.size < 2.0


def _is_near(crop: Crop, lost: Crop) -> bool:
    return bool(np.hypot(crop.x - lost.x, crop.y - lost.y) < 0.75 * lost.size) and 0.4 < crop.size / lost.size < 2.5


def _is_usable(crop: Crop, image: Array) -> bool:
    """Whether a crop is large enough and its centre not far outside the picture."""
    height, width = image.shape[:2]
    margin = 0.25 * crop.size
    return crop.size >= _SMALLEST_CROP and -margin <= crop.x <= width + margin and -margin <= crop.y <= height + margin


def _next_crop(seen: HandLandmarks) -> Crop:
    return crop_around_keypoints(seen.keypoints_2d.astype(np.float64))


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
