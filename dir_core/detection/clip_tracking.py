"""Follows the hands through a whole clip, in chunks that a stopped capture can go on from. No networks of its own."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import chain, count, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dir_core.detection.landmark_network import HandLandmarks
from dir_core.detection.sides import Piece, Sighting, give_sides, label_tracks
from dir_core.detection.tracker import HandTracker
from dir_core.detection.tracks import stack_points
from dir_core.errors import FootageError
from dir_core.footage import Frame
from dir_core.landmarks import HandLandmarkTrack, LandmarkClip
from dir_core.parts import Parts

Array = NDArray[Any]

_TRACK_NAMES = tuple(each.name for each in fields(HandLandmarkTrack))

_CHUNK = 32  # frames that are kept together: about a second of work is all that a stopped capture loses
_HELD_BYTES = 128 * 2**20  # of the last pictures, in which a hand that is found late is followed back


@dataclass(frozen=True, eq=False)
class _Tracked:
    """What the tracker saw in some frames of a clip, in order.

    Attributes:
        time, frame, touching, sightings: one entry a frame.
        earlier: what was seen afterwards in frames before the first one, with their rows: -1 is the last of them.
    """

    time: list[float] = field(default_factory=list)
    frame: list[int] = field(default_factory=list)
    touching: list[bool] = field(default_factory=list)
    sightings: list[list[Sighting]] = field(default_factory=list)
    earlier: list[tuple[int, Sighting]] = field(default_factory=list)

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
        frames: in order; pictures of `_HELD_BYTES` at most are held at a time.
        tracker: a fresh one.
        on_frame: called with the number of frames done so far, after each.
        parts: where chunks of frames are kept with the tracker's state after them. Chunks that are there already
            are passed by without asking the networks, and the result is the same to the last bit.

    Raises:
        FootageError: the frames are not those that the parts were made from; the parts are thrown away.
    """
    whole, evidence = _Tracked(), dict[Piece, float]()
    held: deque[Array] = deque()  # the last pictures
    coming = _hold(frames, held)
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
            chunk = _follow(islice(coming, _CHUNK), held, tracker, whole.sightings, on_frame)
        for row, sighting in chunk.earlier:
            _put(whole.sightings[row], sighting)
        whole.extend(chunk)
        for sighting in chain(*chunk.sightings, (each for _, each in chunk.earlier)):
            piece = (sighting.track, sighting.segment)
            evidence[piece] = evidence.get(piece, 0.0) + sighting.right_evidence
        if part is None and parts and chunk.time:
            hands = give_sides(chunk.sightings, evidence, tracker.mirrored)
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


def _hold(frames: Iterable[Frame], held: deque[Array]) -> Iterator[Frame]:
    """The frames; meanwhile the last pictures that have come before the present one are held."""
    for frame in frames:
        yield frame
        held.append(frame.image)
        if len(held) * frame.image.nbytes > _HELD_BYTES:
            held.popleft()


def _follow(
    frames: Iterator[Frame],
    held: Sequence[Array],
    tracker: HandTracker,
    before: Sequence[list[Sighting]],
    on_frame: Callable[[int], None] | None,
) -> _Tracked:
    """Ask the networks about the next frames.

    Args:
        held: the last pictures before the next frame, which change as frames come.
        before: what was seen before these frames.
    """
    chunk = _Tracked()
    for frame in frames:
        sightings, touching = tracker.follow(frame.image, frame.time)
        past = _Past(held, before, chunk)
        for new in [each for each in sightings if not each.predicted and each.track not in past.last_seen()]:
            past.add(list(tracker.follow_back(new, past.seen())))
        chunk.extend(_Tracked([frame.time], [frame.index], [touching], [sightings]))
        if on_frame:
            on_frame(len(before) + len(chunk.time))
    return chunk


@dataclass(frozen=True, eq=False)
class _Past:
    """The frames before the present one whose pictures are held: hands that are found late were there, too.

    Attributes:
        held: the pictures.
        before: what was seen before the chunk.
        chunk: the frames since then.
    """

    held: Sequence[Array]
    before: Sequence[list[Sighting]]
    chunk: _Tracked

    def seen(self) -> Iterator[tuple[Array, list[Sighting]]]:
        """Pictures and what was seen in them, the last one first."""
        return ((image, self._row(-back)) for back, image in enumerate(reversed(self.held), start=1))

    def last_seen(self) -> set[int]:
        """Tracks that were seen in the last frame."""
        return {each.track for each in self._row(-1) if not each.predicted} if self.held else set()

    def add(self, found: Sequence[Sighting]) -> None:
        """Note what was seen of a hand in the last frames, the last one first."""
        for back, sighting in enumerate(found, start=1):
            row = len(self.chunk.time) - back
            if row < 0:
                self.chunk.earlier.append((row, sighting))
            else:
                _put(self.chunk.sightings[row], sighting)

    def _row(self, row: int) -> list[Sighting]:
        row += len(self.chunk.time)
        if row >= 0:
            return self.chunk.sightings[row]
        sightings = [*self.before[row]]
        for place, sighting in self.chunk.earlier:
            if place == row:
                _put(sightings, sighting)
        return sightings


def _put(sightings: list[Sighting], seen: Sighting) -> None:
    """Add what was seen afterwards in a frame, in place of what was only predicted."""
    predicted = [each for each in sightings if each.predicted]
    if predicted:
        sightings.remove(next((each for each in predicted if each.track == seen.track), predicted[0]))
    sightings.append(seen)


def _pass_by(frames: Iterator[Frame], chunk: _Tracked, done: int, on_frame: Callable[[int], None] | None) -> bool:
    """Decode the frames of a finished chunk, only to get behind them; False if other frames come."""
    for row, known in enumerate(zip(chunk.frame, chunk.time, strict=True)):
        frame = next(frames, None)
        if frame is None or (frame.index, frame.time) != known:
            return False
        if on_frame:
            on_frame(done + row + 1)
    return True


def _pack(chunk: _Tracked) -> dict[str, Array]:
    """A chunk as arrays: [T] of its frames, and one row a sighting."""
    rows = [*chunk.earlier, *((row, each) for row, sightings in enumerate(chunk.sightings) for each in sightings)]
    found = [each for _, each in rows]
    values = [(each.landmarks.presence, each.landmarks.right_score, each.right_evidence) for each in found]
    return {
        "time": np.array(chunk.time, np.float64),
        "frame": np.array(chunk.frame, np.int64),
        "touching": np.array(chunk.touching, np.bool_),
        "sighting/row": np.array([row for row, _ in rows], np.int64),
        "sighting/track": np.array([(each.track, each.segment, each.predicted) for each in found], np.int64).reshape(
            -1, 3
        ),
        "sighting/values": np.array(values, np.float64),
        "sighting/keypoints_2d": stack_points([each.landmarks.keypoints_2d for each in found], 2),
        "sighting/world": stack_points([each.landmarks.world for each in found], 3),
        "sighting/confidence": np.array([each.confidence for each in found], np.float32),
    }


def _unpack(part: Mapping[str, Array]) -> _Tracked:
    chunk = _Tracked(
        part["time"].tolist(), part["frame"].tolist(), part["touching"].tolist(), [[] for _ in part["time"]]
    )
    for index, (row, (track, segment, predicted)) in enumerate(
        zip(part["sighting/row"].tolist(), part["sighting/track"].tolist(), strict=True)
    ):
        presence, right_score, evidence = part["sighting/values"][index].tolist()
        points, world = part["sighting/keypoints_2d"][index], part["sighting/world"][index]
        landmarks = HandLandmarks(points, world, presence, right_score)
        confidence = part["sighting/confidence"][index]
        sighting = Sighting(track, landmarks, confidence, evidence, segment, bool(predicted))
        if row < 0:
            chunk.earlier.append((row, sighting))
        else:
            chunk.sightings[row].append(sighting)
    return chunk


def _both(hands: tuple[HandLandmarkTrack, HandLandmarkTrack]) -> dict[str, Array]:
    """Left and right [T, 2, ...] as far as the sides are known by now: for those who look on, not to go on from."""
    return {name: np.stack([getattr(hand, name) for hand in hands], axis=1) for name in _TRACK_NAMES}


def read_part(part: Mapping[str, Array]) -> LandmarkClip:
    """Both hands of a part that `track_hands` kept, as far as their sides were known by then."""
    left, right = (HandLandmarkTrack(**{name: part[name][:, hand] for name in _TRACK_NAMES}) for hand in (0, 1))
    return LandmarkClip(part["time"], part["frame"], left, right, part["touching"])
